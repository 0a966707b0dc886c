//! What makes two frames one flow, and where it is looked for.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Endpoint, Ports, tcp};
use crate::wire::{Dissected, Network, Protocol, Transport};

/// Addresses, ports, VLAN, protocol and adapter, the same for both directions:
/// two words for each address (IPv4 in the second), the smaller address and port
/// first, then the rest in one word.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key(pub(super) [u64; 5]);

// The last word, from its low end: port of the first, port of the second,
// VLAN id, then these, protocol, adapter.
const VLAN_AT: u32 = 32;
const TAGGED: u64 = 1 << 44;
const IPV6: u64 = 1 << 45;
const NO_PORTS: u64 = 1 << 46;
const PROTOCOL_AT: u32 = 48;
const ADAPTER_AT: u32 = 56;

impl PartialEq for Key {
    /// Word by word: a call to compare memory takes longer than this.
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        let [a, b, c, d, rest] = self.0;
        let [e, f, g, h, other] = other.0;
        (a ^ e) | (b ^ f) | (c ^ g) | (d ^ h) | (rest ^ other) == 0
    }
}

impl Eq for Key {}

impl Key {
    /// The key of a frame with an IP header, and whether its sender is the
    /// second in it. `adapter`: its number in the table.
    #[inline]
    pub(super) fn of(frame: &Dissected<'_>, adapter: u8) -> Option<(Self, bool)> {
        let (protocol, ports) = Self::transport(frame);
        let (from_port, to_port, no_ports) = match ports {
            Some((from, to)) => (u64::from(from), u64::from(to), 0),
            None => (0, 0, NO_PORTS),
        };
        let (addresses, ports, swapped) = match &frame.network {
            Network::Ipv4(ip) => {
                // Address and port in one word: compared at once.
                let from = u64::from(ip.source().to_bits()) << 16 | from_port;
                let to = u64::from(ip.destination().to_bits()) << 16 | to_port;
                let (first, second) = (from.min(to), from.max(to));
                let ports = (second & 0xffff) << 16 | first & 0xffff;
                ([0, first >> 16, 0, second >> 16], ports, from > to)
            }
            Network::Ipv6(ip, _) => {
                let (from, to) = (ip.source().to_bits(), ip.destination().to_bits());
                let swapped = (from, from_port) > (to, to_port);
                let (a, b, first, second) = if swapped {
                    (to, from, to_port, from_port)
                } else {
                    (from, to, from_port, to_port)
                };
                let ([a, b], [c, d]) = (halves(a), halves(b));
                ([a, b, c, d], second << 16 | first | IPV6, swapped)
            }
            Network::None | Network::Arp(_) => return None,
        };
        let tag = frame
            .link
            .as_ref()
            .and_then(|link| link.tags.iter().next())
            .map_or(0, |tag| TAGGED | u64::from(tag.id()) << VLAN_AT);
        let rest = tag
            | no_ports
            | ports
            | u64::from(protocol.0) << PROTOCOL_AT
            | u64::from(adapter) << ADAPTER_AT;
        let [a, b, c, d] = addresses;
        Some((Self([a, b, c, d, rest]), swapped))
    }

    #[inline]
    fn transport(frame: &Dissected<'_>) -> (Protocol, Option<(u16, u16)>) {
        match &frame.transport {
            Transport::Tcp(tcp) => (
                Protocol::TCP,
                Some((tcp.source_port(), tcp.destination_port())),
            ),
            Transport::Udp(udp) => (
                Protocol::UDP,
                Some((udp.source_port(), udp.destination_port())),
            ),
            Transport::Icmp(_) => (Protocol::ICMP, Self::echo(frame)),
            Transport::Icmpv6(_) => (Protocol::ICMPV6, Self::echo(frame)),
            Transport::Other(protocol) | Transport::LaterFragment(protocol) => (*protocol, None),
            Transport::None => Self::cut(frame),
        }
    }

    /// Of a frame that ends, or whose bytes at hand end, before its transport
    /// header does.
    #[cold]
    fn cut(frame: &Dissected<'_>) -> (Protocol, Option<(u16, u16)>) {
        if let Some(&[a, b, c, d, ..]) = tcp::cut_header(frame) {
            let ports = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            return (Protocol::TCP, Some(ports));
        }
        match &frame.network {
            Network::Ipv4(ip) => (ip.protocol(), None),
            Network::Ipv6(_, chain) => (chain.upper, None),
            Network::None | Network::Arp(_) => (Protocol::NO_NEXT, None),
        }
    }

    fn echo(frame: &Dissected<'_>) -> Option<(u16, u16)> {
        frame.icmp_echo().map(|echo| (echo.id, echo.id))
    }

    fn rest(&self) -> u64 {
        let [.., rest] = self.0;
        rest
    }

    pub(super) fn is_ipv6(&self) -> bool {
        self.rest() & IPV6 != 0
    }

    pub(super) fn protocol(&self) -> Protocol {
        Protocol((self.rest() >> PROTOCOL_AT) as u8)
    }

    pub(super) fn adapter(&self) -> u8 {
        (self.rest() >> ADAPTER_AT) as u8
    }

    pub(super) fn vlan(&self) -> Option<u16> {
        (self.rest() & TAGGED != 0).then_some((self.rest() >> VLAN_AT) as u16 & 0x0fff)
    }

    pub(super) fn ports(&self) -> Ports {
        if self.rest() & NO_PORTS != 0 {
            return Ports::None;
        }
        match self.protocol() {
            Protocol::ICMP | Protocol::ICMPV6 => Ports::EchoId,
            _ => Ports::Ports,
        }
    }

    /// One of its ends.
    pub(super) fn end(&self, second: bool) -> Endpoint {
        let [a, b, c, d, rest] = self.0;
        let (high, low, port) = if second {
            (c, d, (rest >> 16) as u16)
        } else {
            (a, b, rest as u16)
        };
        let address = if self.is_ipv6() {
            let bits = u128::from(high) << 64 | u128::from(low);
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        } else {
            IpAddr::V4(Ipv4Addr::from_bits(low as u32))
        };
        Endpoint { address, port }
    }
}

const fn halves(bits: u128) -> [u64; 2] {
    [(bits >> 64) as u64, bits as u64]
}

/// A keyed hash of a few words: the sum of their products with secret odd
/// multipliers. Without the secret, two keys that differ fall together once in
/// 2^32 times, however they were chosen (multilinear hashing: Carter and Wegman,
/// "Universal classes of hash functions", 1979; with the high half of 64-bit
/// sums, Dietzfelbinger, 1996).
#[derive(Clone, Copy, Debug)]
pub(super) struct Hasher {
    start: u64,
    multipliers: [u64; 10],
}

impl Hasher {
    /// With multipliers drawn from the seed by SplitMix64 (Steele, Lea, Flood,
    /// "Fast splittable pseudorandom number generators", 2014).
    pub(super) fn new(seed: u64) -> Self {
        let mut state = seed;
        let mut draw = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ z >> 31
        };
        Self {
            start: draw(),
            multipliers: core::array::from_fn(|_| draw()),
        }
    }

    #[inline]
    pub(super) fn key(&self, key: &Key) -> u32 {
        let [a, b, c, d, rest] = key.0;
        let [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9] = self.multipliers;
        let high = |word: u64, by: u64| (word >> 32).wrapping_mul(by);
        let low = |word: u64, by: u64| (word & 0xffff_ffff).wrapping_mul(by);
        let mut sum = self
            .start
            .wrapping_add(high(rest, m0))
            .wrapping_add(low(rest, m1))
            .wrapping_add(low(b, m3))
            .wrapping_add(low(d, m5));
        // What is zero in IPv4 would add nothing.
        if key.is_ipv6() {
            sum = sum
                .wrapping_add(high(b, m2))
                .wrapping_add(high(d, m4))
                .wrapping_add(high(a, m6))
                .wrapping_add(low(a, m7))
                .wrapping_add(high(c, m8))
                .wrapping_add(low(c, m9));
        }
        (sum >> 32) as u32
    }

    /// Of up to ten words of 32 bits.
    pub(super) fn words(&self, words: &[u32]) -> u32 {
        let sum = words
            .iter()
            .zip(self.multipliers)
            .fold(self.start, |sum, (word, by)| {
                sum.wrapping_add(u64::from(*word).wrapping_mul(by))
            });
        (sum >> 32) as u32
    }
}
