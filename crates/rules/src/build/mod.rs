//! From the words of an expression to the tests they stand for: what libpcap
//! 1.10.3 tests for Ethernet (DLT_EN10MB), in the order it does.
//!
//! Where the headers start depends on the `vlan` words read so far, so tests
//! are made in the order of the text.

mod arith;
mod host;
mod link;
mod port;
mod proto;

use crate::lex::Proto;
use crate::node::{Compare, Node, Size};

pub(crate) use arith::{Value, relation};
pub(crate) use port::Transports;

/// Which address or port is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dir {
    Either,
    Src,
    Dst,
    Both,
}

/// What kind of thing a name or number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// Not said: a host.
    Default,
    Host,
    Net,
    Port,
    PortRange,
    Proto,
}

/// The words before a name or number, which hold for what is joined to it too:
/// `tcp dst port 80 or 443`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Qualifiers {
    pub(crate) proto: Option<Proto>,
    pub(crate) dir: Dir,
    pub(crate) what: What,
}

/// Why something has no meaning, and what could stand there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) message: String,
    pub(crate) expected: Vec<String>,
}

impl Refusal {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            expected: Vec::new(),
        }
    }
}

pub(crate) type Result<T> = std::result::Result<T, Refusal>;

/// Where the headers are.
#[derive(Clone, Debug)]
pub(crate) struct Builder {
    /// Offset of the EtherType, or of the length in its place.
    linktype: u32,
    /// Offset of what is behind it.
    payload: u32,
}

/// VLAN tags an expression can look behind.
const MAX_TAGS: u32 = 8;

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            linktype: 12,
            payload: 14,
        }
    }

    /// Whether the EtherType is a number.
    fn ethertype(&self, value: u32) -> Node {
        Node::field(Size::Half, self.linktype, Compare::Equal, value)
    }

    /// A test of a field in the header behind the EtherType.
    fn payload(&self, size: Size, at: u32, compare: Compare, k: u32) -> Node {
        Node::field(size, self.payload + at, compare, k)
    }

    /// `vlan`, `vlan 5`: what is read after it, is behind the tag.
    pub(crate) fn vlan(&mut self, id: Option<u32>) -> Result<Node> {
        if self.linktype >= 12 + 4 * MAX_TAGS {
            return Err(Refusal::new(format!(
                "vlan stands here more than {MAX_TAGS} times"
            )));
        }
        let tag = self
            .ethertype(0x8100)
            .or(self.ethertype(0x88a8))
            .or(self.ethertype(0x9100));
        let node = match id {
            None => tag,
            Some(id) if id > 0xfff => {
                return Err(Refusal::new(format!(
                    "{id} is no VLAN: they go from 0 to 4095"
                )));
            }
            Some(id) => tag.and(Node::masked(Size::Half, self.payload, 0xfff, id)),
        };
        self.linktype += 4;
        self.payload += 4;
        Ok(node)
    }

    /// `less 64`: at most that long.
    pub(crate) fn less(length: u32) -> Node {
        arith::length(Compare::Greater, length).negate()
    }

    /// `greater 64`: at least that long.
    pub(crate) fn greater(length: u32) -> Node {
        arith::length(Compare::GreaterEqual, length)
    }
}

/// How a protocol is written.
pub(crate) fn proto_name(proto: Proto) -> &'static str {
    match proto {
        Proto::Link => "ether",
        Proto::Ip => "ip",
        Proto::Ip6 => "ip6",
        Proto::Arp => "arp",
        Proto::Rarp => "rarp",
        Proto::Tcp => "tcp",
        Proto::Udp => "udp",
        Proto::Sctp => "sctp",
        Proto::Icmp => "icmp",
        Proto::Icmp6 => "icmp6",
        Proto::Igmp => "igmp",
        Proto::Igrp => "igrp",
        Proto::Pim => "pim",
        Proto::Vrrp => "vrrp",
        Proto::Carp => "carp",
        Proto::Ah => "ah",
        Proto::Esp => "esp",
        Proto::Atalk => "atalk",
        Proto::Aarp => "aarp",
        Proto::Decnet => "decnet",
        Proto::Lat => "lat",
        Proto::Sca => "sca",
        Proto::Moprc => "moprc",
        Proto::Mopdl => "mopdl",
        Proto::Iso => "iso",
        Proto::Esis => "esis",
        Proto::Isis => "isis",
        Proto::Clnp => "clnp",
        Proto::IsisL1 => "l1",
        Proto::IsisL2 => "l2",
        Proto::IsisIih => "iih",
        Proto::IsisLsp => "lsp",
        Proto::IsisSnp => "snp",
        Proto::IsisCsnp => "csnp",
        Proto::IsisPsnp => "psnp",
        Proto::Stp => "stp",
        Proto::Ipx => "ipx",
        Proto::Netbeui => "netbeui",
    }
}
