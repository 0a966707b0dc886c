//! Protocols by number, and words that stand for one.

use super::{Builder, Refusal, Result, link::SAP_ISO, port, proto_name};
use crate::lex::Proto;
use crate::node::{Compare, Node, Size};

/// IS-IS in OSI's network layer protocol identifiers.
const NLPID_ISIS: u32 = 0x83;
/// IPv6's fragment header.
const FRAGMENT: u32 = 44;

impl Builder {
    /// `ip proto 6`: a number in the header of a protocol.
    pub(crate) fn proto(&self, number: u32, within: Option<Proto>) -> Result<Node> {
        Ok(match within {
            None => self.ip_proto(number).or(self.ip6_proto(number)),
            Some(Proto::Link) => self.linktype(number),
            Some(Proto::Ip) => self.ip_proto(number),
            Some(Proto::Ip6) => self.ip6_proto(number),
            Some(Proto::Iso) => self.iso(number),
            Some(Proto::Isis) => self.isis(number),
            Some(proto) => {
                return Err(Refusal {
                    message: format!("{} has no field for a protocol", proto_name(proto)),
                    expected: ["ether", "ip", "ip6", "iso", "isis"]
                        .map(Into::into)
                        .to_vec(),
                });
            }
        })
    }

    fn ip_proto(&self, number: u32) -> Node {
        self.ethertype(0x0800)
            .and(self.payload(Size::Byte, 9, Compare::Equal, number))
    }

    /// In the fixed header, or in a fragment header right behind it.
    fn ip6_proto(&self, number: u32) -> Node {
        let field = |at, value| self.payload(Size::Byte, at, Compare::Equal, value);
        let fragment = field(6, FRAGMENT).and(field(40, number));
        self.ethertype(0x86dd).and(field(6, number).or(fragment))
    }

    fn iso(&self, nlpid: u32) -> Node {
        self.linktype(SAP_ISO)
            .and(self.payload(Size::Byte, 3, Compare::Equal, nlpid))
    }

    fn isis(&self, pdu: u32) -> Node {
        self.iso(NLPID_ISIS)
            .and(self.payload(Size::Byte, 7, Compare::Equal, pdu))
    }

    /// Any of these PDUs of IS-IS, tried in this order.
    fn isis_any(&self, pdus: &[u32]) -> Node {
        Node::Or(pdus.iter().map(|pdu| self.isis(*pdu)).collect())
    }

    /// A protocol's name alone: `tcp`.
    pub(crate) fn word(&self, proto: Proto) -> Result<Node> {
        let both = |number| self.ip_proto(number).or(self.ip6_proto(number));
        Ok(match proto {
            Proto::Link => {
                return Err(Refusal {
                    message: "ether alone says nothing: every frame is one of Ethernet".into(),
                    expected: ["host", "src", "dst", "proto", "broadcast", "multicast", "["]
                        .map(Into::into)
                        .to_vec(),
                });
            }
            Proto::Ip => self.ethertype(0x0800),
            Proto::Ip6 => self.ethertype(0x86dd),
            Proto::Arp => self.ethertype(0x0806),
            Proto::Rarp => self.ethertype(0x8035),
            Proto::Tcp => both(port::TCP),
            Proto::Udp => both(port::UDP),
            Proto::Sctp => both(port::SCTP),
            Proto::Icmp => self.ip_proto(1),
            Proto::Icmp6 => self.ip6_proto(58),
            Proto::Igmp => self.ip_proto(2),
            Proto::Igrp => self.ip_proto(9),
            Proto::Pim => both(103),
            Proto::Vrrp | Proto::Carp => self.ip_proto(112),
            Proto::Ah => both(51),
            Proto::Esp => both(50),
            Proto::Atalk => self.linktype(0x809b),
            Proto::Aarp => self.linktype(0x80f3),
            Proto::Mopdl => self.linktype(0x6001),
            Proto::Moprc => self.linktype(0x6002),
            Proto::Decnet => self.linktype(0x6003),
            Proto::Lat => self.linktype(0x6004),
            Proto::Sca => self.linktype(0x6007),
            Proto::Iso => self.linktype(SAP_ISO),
            Proto::Clnp => self.iso(0x81),
            Proto::Esis => self.iso(0x82),
            Proto::Isis => self.iso(NLPID_ISIS),
            // PDU types of ISO/IEC 10589: hellos 15 to 17, link states 18 and
            // 20, sequence numbers 24 to 27; odd or even ones are of a level.
            Proto::IsisL1 => self.isis_any(&[26, 24, 18, 15, 17]),
            Proto::IsisL2 => self.isis_any(&[27, 25, 20, 16, 17]),
            Proto::IsisIih => self.isis_any(&[17, 15, 16]),
            Proto::IsisLsp => self.isis_any(&[18, 20]),
            Proto::IsisSnp => self.isis_any(&[27, 26, 24, 25]),
            Proto::IsisCsnp => self.isis_any(&[24, 25]),
            Proto::IsisPsnp => self.isis_any(&[26, 27]),
            Proto::Stp => self.linktype(0x42),
            Proto::Ipx => self.linktype(0xe0),
            Proto::Netbeui => self.linktype(0xf0),
        })
    }
}
