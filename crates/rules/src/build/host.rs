//! Hosts, networks, broadcast and multicast.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Builder, Dir, Qualifiers, Refusal, Result, What, link, proto_name};
use crate::lex::Proto;
use crate::node::{Compare, Node, Size};

const IPV4: u32 = 0x0800;
const IPV6: u32 = 0x86dd;
const ARP: u32 = 0x0806;
const RARP: u32 = 0x8035;

impl Builder {
    /// An IPv4 address under a mask.
    pub(crate) fn host4(&self, address: u32, mask: u32, q: Qualifiers) -> Result<Node> {
        let of = |ethertype: u32, src: u32, dst: u32| {
            by_dir(q.dir, |is_src| {
                let at = self.payload + if is_src { src } else { dst };
                self.ethertype(ethertype)
                    .and(Node::masked(Size::Word, at, mask, address))
            })
        };
        match q.proto {
            None => Ok(of(IPV4, 12, 16).or(of(ARP, 14, 24)).or(of(RARP, 14, 24))),
            Some(Proto::Ip) => Ok(of(IPV4, 12, 16)),
            Some(Proto::Arp) => Ok(of(ARP, 14, 24)),
            Some(Proto::Rarp) => Ok(of(RARP, 14, 24)),
            Some(proto) => Err(misplaced(
                proto,
                q.what,
                &Ipv4Addr::from(address).to_string(),
            )),
        }
    }

    /// An IPv6 address under a mask.
    pub(crate) fn host6(&self, address: Ipv6Addr, mask: u128, q: Qualifiers) -> Result<Node> {
        match q.proto {
            None | Some(Proto::Ip6) => {}
            Some(proto) => return Err(misplaced(proto, q.what, &address.to_string())),
        }
        let word = |bits: u128, index: u32| (bits >> (96 - 32 * index) & 0xffff_ffff) as u32;
        Ok(by_dir(q.dir, |is_src| {
            let at = self.payload + if is_src { 8 } else { 24 };
            (0..4).fold(self.ethertype(IPV6), |node, index| {
                let (mask, value) = (word(mask, index), word(address.to_bits(), index));
                node.and(Node::masked(Size::Word, at + 4 * index, mask, value))
            })
        }))
    }

    /// `net 10.0.0.0/8`.
    pub(crate) fn net4(&self, address: u32, mask: u32, q: Qualifiers) -> Result<Node> {
        if address & !mask != 0 {
            let network = Ipv4Addr::from(address & mask);
            return Err(Refusal::new(format!(
                "bits of {} are set that the mask leaves out; the network is {network}",
                Ipv4Addr::from(address)
            )));
        }
        if q.what != What::Net {
            return Err(Refusal::new("only a net has a mask: write net before it"));
        }
        self.host4(address, mask, q)
    }

    /// `net 2001:db8::/32`, or a single address.
    pub(crate) fn net6(&self, address: Ipv6Addr, len: u32, q: Qualifiers) -> Result<Node> {
        let mask = match len {
            0 => 0,
            1..=128 => u128::MAX << (128 - len),
            _ => {
                return Err(Refusal::new(
                    "an IPv6 address has 128 bits: the length is too large",
                ));
            }
        };
        if address.to_bits() & !mask != 0 {
            let network = Ipv6Addr::from_bits(address.to_bits() & mask);
            return Err(Refusal::new(format!(
                "bits of {address} are set behind the first {len}; the network is {network}/{len}"
            )));
        }
        match q.what {
            What::Net => {}
            What::Default | What::Host if len == 128 => {}
            What::Default | What::Host => {
                return Err(Refusal::new("only a net has a length: write net before it"));
            }
            What::Port | What::PortRange | What::Proto => {
                return Err(Refusal::new(format!(
                    "{address} is an address, and no number"
                )));
            }
        }
        self.host6(address, mask, q)
    }

    /// `ether host 00:11:22:33:44:55`.
    pub(crate) fn mac(mac: [u8; 6], q: Qualifiers) -> Result<Node> {
        if q.proto == Some(Proto::Link) && matches!(q.what, What::Default | What::Host) {
            return Ok(link::mac_host(mac, q.dir));
        }
        Err(Refusal::new(
            "a MAC address stands behind ether host, ether src or ether dst",
        ))
    }

    /// `broadcast`, `ether broadcast`, `ip broadcast`.
    pub(crate) fn broadcast(&self, proto: Option<Proto>) -> Result<Node> {
        match proto {
            None | Some(Proto::Link) => Ok(link::mac_host([0xff; 6], Dir::Dst)),
            // The networks' masks are not known: what tcpdump does with files.
            Some(Proto::Ip) => {
                let dst = |address| Node::masked(Size::Word, self.payload + 16, u32::MAX, address);
                Ok(self.ethertype(IPV4).and(dst(0).or(dst(u32::MAX))))
            }
            Some(proto) => Err(cast("broadcast", proto, "")),
        }
    }

    /// `multicast`, `ether multicast`, `ip multicast`, `ip6 multicast`.
    pub(crate) fn multicast(&self, proto: Option<Proto>) -> Result<Node> {
        match proto {
            None | Some(Proto::Link) => Ok(link::mac_multicast()),
            Some(Proto::Ip) => {
                let group = self.payload(Size::Byte, 16, Compare::GreaterEqual, 224);
                Ok(self.ethertype(IPV4).and(group))
            }
            Some(Proto::Ip6) => {
                let group = self.payload(Size::Byte, 24, Compare::Equal, 255);
                Ok(self.ethertype(IPV6).and(group))
            }
            Some(proto) => Err(cast("multicast", proto, ", ip6")),
        }
    }
}

/// Source and destination, joined as the words before say.
pub(super) fn by_dir(dir: Dir, test: impl Fn(bool) -> Node) -> Node {
    match dir {
        Dir::Src => test(true),
        Dir::Dst => test(false),
        Dir::Both => test(true).and(test(false)),
        Dir::Either => test(true).or(test(false)),
    }
}

fn misplaced(proto: Proto, what: What, address: &str) -> Refusal {
    let name = proto_name(proto);
    let kind = if what == What::Net { "net" } else { "host" };
    let message = match proto {
        Proto::Link => format!("{address} is no MAC address, which is what ether {kind} takes"),
        Proto::Ip => format!("{address} is no IPv4 address, which is what ip {kind} takes"),
        Proto::Ip6 => format!("{address} is no IPv6 address, which is what ip6 {kind} takes"),
        Proto::Arp | Proto::Rarp => format!("{name} carries IPv4 addresses only"),
        Proto::Decnet => "addresses of DECnet are left out".to_owned(),
        _ => format!("{name} has no {kind}; write {name} and {kind} {address}"),
    };
    Refusal::new(message)
}

fn cast(what: &str, proto: Proto, more: &str) -> Refusal {
    let name = proto_name(proto);
    Refusal::new(format!(
        "{name} has no {what}: only ether, ip{more} have one"
    ))
}
