//! The link layer: EtherTypes, LLC and MAC addresses.

use super::{Builder, Dir, Refusal, Result};
use crate::node::{Compare, Node, Size};

/// The largest length in the place of an EtherType.
const MAX_LENGTH: u32 = 1500;
const SAP_IP: u32 = 0x06;
const SAP_IPX: u32 = 0xe0;
const SAP_NETBEUI: u32 = 0xf0;
/// OSI's protocols.
pub(super) const SAP_ISO: u32 = 0xfe;
const TYPE_ATALK: u32 = 0x809b;
const TYPE_AARP: u32 = 0x80f3;
const TYPE_IPX: u32 = 0x8137;

impl Builder {
    /// Whether a frame carries a protocol: an EtherType above 1500, else an LLC
    /// service access point.
    pub(super) fn linktype(&self, value: u32) -> Node {
        match value {
            SAP_ISO | SAP_IP | SAP_NETBEUI => {
                self.is_llc()
                    .and(self.payload(Size::Half, 0, Compare::Equal, value << 8 | value))
            }
            SAP_IPX => {
                // As EtherType, over SNAP, over LLC, and over 802.3 without LLC.
                let llc = self
                    .snap(0, TYPE_IPX)
                    .or(self.payload(Size::Byte, 0, Compare::Equal, SAP_IPX))
                    .or(self.payload(Size::Half, 0, Compare::Equal, 0xffff));
                self.ethertype(TYPE_IPX).or(self.is_llc().and(llc))
            }
            TYPE_ATALK => self
                .ethertype(value)
                .or(self.is_llc().and(self.snap(0x08_0007, TYPE_ATALK))),
            TYPE_AARP => self
                .ethertype(value)
                .or(self.is_llc().and(self.snap(0, TYPE_AARP))),
            _ if value <= MAX_LENGTH => {
                self.is_llc()
                    .and(self.payload(Size::Byte, 0, Compare::Equal, value))
            }
            _ => self.ethertype(value),
        }
    }

    /// Whether there is a length where the EtherType would be.
    fn is_llc(&self) -> Node {
        Node::field(Size::Half, self.linktype, Compare::Greater, MAX_LENGTH).negate()
    }

    fn snap(&self, organisation: u32, ethertype: u32) -> Node {
        let high = 0xaaaa_0300 | organisation >> 16;
        let low = organisation << 16 | ethertype;
        self.payload(Size::Word, 4, Compare::Equal, low)
            .and(self.payload(Size::Word, 0, Compare::Equal, high))
    }

    /// `llc`, `llc s`, `llc ui`.
    pub(crate) fn llc(&self, kind: Option<&str>) -> Result<Node> {
        let any = self
            .is_llc()
            .and(self.payload(Size::Half, 0, Compare::Equal, 0xffff).negate());
        let Some(kind) = kind else { return Ok(any) };
        let control =
            |mask: u32, value: u32| Node::masked(Size::Byte, self.payload + 2, mask, value);
        let lower = kind.to_ascii_lowercase();
        let test = match lower.as_str() {
            "i" => self.payload(Size::Byte, 2, Compare::AnyBit, 1).negate(),
            "s" => control(0x03, 0x01),
            "u" => control(0x03, 0x03),
            "rr" => control(0x0f, 0x01),
            "rnr" => control(0x0f, 0x05),
            "rej" => control(0x0f, 0x09),
            "ui" => control(0xef, 0x03),
            "ua" => control(0xef, 0x63),
            "disc" => control(0xef, 0x43),
            "dm" => control(0xef, 0x0f),
            "sabme" => control(0xef, 0x6f),
            "test" => control(0xef, 0xe3),
            "xid" => control(0xef, 0xaf),
            "frmr" => control(0xef, 0x87),
            _ => {
                let known = "i s u rr rnr rej ui ua disc dm sabme test xid frmr";
                return Err(Refusal {
                    message: format!("{kind} is no type of LLC frames"),
                    expected: known.split(' ').map(str::to_owned).collect(),
                });
            }
        };
        Ok(any.and(test))
    }

    /// `pppoed`.
    pub(crate) fn pppoed(&self) -> Node {
        self.ethertype(0x8863)
    }

    /// `byte 5 = 6`.
    pub(crate) fn byte(at: u32, compare: crate::lex::Compare, value: u32) -> Result<Node> {
        use crate::lex::Compare as Written;
        Ok(match compare {
            Written::Equal => Node::field(Size::Byte, at, Compare::Equal, value),
            Written::Greater => Node::field(Size::Byte, at, Compare::Greater, value),
            Written::Less => Node::field(Size::Byte, at, Compare::GreaterEqual, value).negate(),
            _ => return Err(Refusal::new("byte takes =, < or >")),
        })
    }
}

/// Whether a MAC address is a frame's source, destination or either.
pub(super) fn mac_host(mac: [u8; 6], dir: Dir) -> Node {
    match dir {
        Dir::Src => mac_at(mac, 6),
        Dir::Dst => mac_at(mac, 0),
        Dir::Both => mac_at(mac, 6).and(mac_at(mac, 0)),
        Dir::Either => mac_at(mac, 6).or(mac_at(mac, 0)),
    }
}

/// The last four bytes first, as libpcap does.
fn mac_at(mac: [u8; 6], at: u32) -> Node {
    let [a, b, c, d, e, f] = mac;
    Node::field(
        Size::Word,
        at + 2,
        Compare::Equal,
        u32::from_be_bytes([c, d, e, f]),
    )
    .and(Node::field(
        Size::Half,
        at,
        Compare::Equal,
        u32::from(u16::from_be_bytes([a, b])),
    ))
}

/// Whether the destination is a group's.
pub(super) fn mac_multicast() -> Node {
    Node::field(Size::Byte, 0, Compare::AnyBit, 1)
}
