//! The Internet checksum: of bytes as they come, and whether a frame's are right.
//!
//! Sources: RFC 1071 (the sum), RFC 791 section 3.1, RFC 792, RFC 768, RFC 9293
//! section 3.1 (what is covered), RFC 8200 section 8.1 (IPv6's pseudo-header),
//! RFC 6275 sections 6.3 and 6.4, RFC 8754 section 2 (addresses that a header
//! of the chain stands in for).

use core::net::Ipv6Addr;

use super::{Dissected, Network, Protocol, Transport, ipv6, udp};

/// A one's complement sum of 16-bit words, over bytes that come in runs of any
/// length, odd ones too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Not folded; as if the first byte ever added were a word's first.
    words: u64,
    odd: bool,
}

impl Sum {
    /// Of nothing.
    #[must_use]
    pub const fn new() -> Self {
        Sum {
            words: 0,
            odd: false,
        }
    }

    /// Adds the bytes that follow those added before.
    pub fn add(&mut self, bytes: &[u8]) {
        // In the machine's byte order, four bytes at a time: the sum comes out
        // with its bytes swapped or not, and adding up carries never hurts
        // (RFC 1071 section 2, B and C). Sixty-four bits can't overflow before
        // 2^32 such words.
        let (fours, tail) = bytes.as_chunks::<4>();
        let mut sum = 0u64;
        for &four in fours {
            sum = sum.wrapping_add(u64::from(u32::from_ne_bytes(four)));
        }
        let mut last = [0u8; 4];
        for (to, from) in last.iter_mut().zip(tail) {
            *to = *from;
        }
        sum = sum.wrapping_add(u64::from(u32::from_ne_bytes(last)));
        let folded = u16::from_be(fold(sum));
        // At an odd place each byte is the other half of its word.
        let folded = if self.odd {
            folded.swap_bytes()
        } else {
            folded
        };
        self.words = self.words.wrapping_add(u64::from(folded));
        self.odd ^= bytes.len() & 1 != 0;
    }

    /// The sum of all that was added, the last odd byte filled up with a zero.
    /// It is `0xffff` over bytes that include their own right checksum.
    #[must_use]
    pub fn value(&self) -> u16 {
        fold(self.words)
    }

    /// What a checksum field over these bytes holds, itself zero or not among them.
    #[must_use]
    pub fn checksum(&self) -> u16 {
        !self.value()
    }
}

/// Adds the carries back in until none is left.
fn fold(sum: u64) -> u16 {
    let halves = (sum >> 32).wrapping_add(sum & 0xffff_ffff);
    let quarters = (halves >> 16).wrapping_add(halves & 0xffff);
    let carried = (quarters >> 16).wrapping_add(quarters & 0xffff);
    let carried = (carried >> 16).wrapping_add(carried & 0xffff);
    u16::try_from(carried & 0xffff).unwrap_or_default()
}

/// What a layer's checksum is found to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Check {
    /// The layer has none: not IP, IPv6's fixed header, UDP over IPv4 with a
    /// checksum of zero, nothing behind the network layer.
    #[default]
    None,
    /// Right.
    Good,
    /// Wrong.
    Bad,
    /// Can't be told: the packet isn't here as a whole (snapped, truncated, a
    /// fragment), its length is left to the adapter, or the protocol is not
    /// looked into.
    Unknown,
}

impl Check {
    fn of(sum: &Sum) -> Self {
        if sum.value() == 0xffff {
            Self::Good
        } else {
            Self::Bad
        }
    }
}

/// What a frame's checksums are found to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Checksums {
    /// IPv4's header checksum.
    pub network: Check,
    /// TCP's, UDP's, ICMP's or ICMPv6's.
    pub transport: Check,
}

/// Verifies a frame's checksums. `bytes`: what `frame` was dissected from.
///
/// On the way out a checksum may be left to the adapter, and on the way in the
/// adapter may have verified it already: whoever calls this knows which.
#[must_use]
pub fn verify(frame: &Dissected<'_>, bytes: &[u8]) -> Checksums {
    verify_runs(frame, bytes, |start, len, sum| {
        let packet = bytes.get(start..).and_then(|rest| rest.get(..len));
        packet.map(|packet| sum.add(packet)).is_some()
    })
}

/// As [`verify`], of a frame that lies in several places. `bytes`: what `frame`
/// was dissected from, its first bytes at least. `add`: adds the frame's bytes
/// from an offset on, as many as asked for, in as many runs as it takes, and
/// says whether they were all there. It is called once at most, and not for
/// frames of which it can be told without.
#[must_use]
pub fn verify_runs(
    frame: &Dissected<'_>,
    bytes: &[u8],
    add: impl FnOnce(usize, usize, &mut Sum) -> bool,
) -> Checksums {
    Checksums {
        network: match &frame.network {
            Network::Ipv4(ip) => {
                let mut sum = Sum::new();
                sum.add(ip.fixed());
                sum.add(ip.options());
                Check::of(&sum)
            }
            _ => Check::None,
        },
        transport: transport(frame, bytes, add),
    }
}

fn transport(
    frame: &Dissected<'_>,
    bytes: &[u8],
    add: impl FnOnce(usize, usize, &mut Sum) -> bool,
) -> Check {
    let protocol = match &frame.transport {
        Transport::None if frame.fault.is_none() => return Check::None,
        Transport::Udp(udp) if udp.checksum() == 0 => {
            // Required over IPv6: RFC 8200 section 8.1.
            return match frame.network {
                Network::Ipv6(..) => Check::Bad,
                _ => Check::None,
            };
        }
        Transport::Tcp(_) => Protocol::TCP,
        Transport::Udp(_) => Protocol::UDP,
        Transport::Icmp(_) => Protocol::ICMP,
        Transport::Icmpv6(_) => Protocol::ICMPV6,
        _ => return Check::Unknown,
    };
    let Some((start, len)) = covered(frame) else {
        return Check::Unknown;
    };
    let Some(mut sum) = pseudo_header(frame, bytes, protocol, len) else {
        return Check::Unknown;
    };
    if add(start, len, &mut sum) {
        Check::of(&sum)
    } else {
        Check::Unknown
    }
}

/// Where the transport's header and payload start and how long they are, if
/// they are all in this frame and their length is told.
fn covered(frame: &Dissected<'_>) -> Option<(usize, usize)> {
    if frame.is_fragment() {
        return None;
    }
    let start = frame.transport_offset()?;
    let end_of_network = frame.network_offset()?.checked_add(match &frame.network {
        Network::Ipv4(ip) => ip.header_len().checked_add(ip.payload_len()?)?,
        Network::Ipv6(ip, _) => ipv6::HEADER_LEN.checked_add(ip.payload_len()?)?,
        Network::None | Network::Arp(_) => return None,
    })?;
    let end = match &frame.transport {
        Transport::Udp(udp) => start
            .checked_add(udp::HEADER_LEN)?
            .checked_add(udp.payload_len()?)?,
        _ => end_of_network,
    };
    // A packet that ends elsewhere than it says is cut.
    let ends_at = frame
        .payload
        .position()
        .checked_add(frame.payload.on_wire());
    (ends_at == Some(end)).then_some((start, end.checked_sub(start)?))
}

/// The sum over the pseudo-header; none when it can't be told what stands in it.
fn pseudo_header(
    frame: &Dissected<'_>,
    bytes: &[u8],
    protocol: Protocol,
    len: usize,
) -> Option<Sum> {
    let mut sum = Sum::new();
    match &frame.network {
        _ if protocol == Protocol::ICMP => {}
        Network::Ipv4(ip) => {
            sum.add(&ip.source().octets());
            sum.add(&ip.destination().octets());
            sum.add(&[0, protocol.0]);
            sum.add(&u16::try_from(len).ok()?.to_be_bytes());
        }
        Network::Ipv6(ip, chain) => {
            let mut ends = Ends {
                source: ip.source(),
                destination: ip.destination(),
            };
            if chain.count != 0 {
                let start = frame.network_offset()?.checked_add(ipv6::HEADER_LEN)?;
                let headers = bytes.get(start..frame.transport_offset()?)?;
                ends.look_into(ip.next_header(), headers)?;
            }
            sum.add(&ends.source.octets());
            sum.add(&ends.destination.octets());
            sum.add(&u32::try_from(len).ok()?.to_be_bytes());
            sum.add(&[0, 0, 0, protocol.0]);
        }
        Network::None | Network::Arp(_) => return None,
    }
    Some(sum)
}

/// The addresses of the pseudo-header: where the packet comes from and ends up,
/// which need not be where it is going now.
struct Ends {
    source: Ipv6Addr,
    destination: Ipv6Addr,
}

impl Ends {
    /// Routing headers on the way still to go, and home addresses. None at a
    /// routing header of a kind whose last address isn't known.
    fn look_into(&mut self, first: Protocol, headers: &[u8]) -> Option<()> {
        let mut kind = first;
        let mut rest = headers;
        while let Some((header, after)) = ipv6::split_extension(kind, rest) {
            let &[next, _, routing, segments_left, ..] = header else {
                return None;
            };
            if kind == Protocol::ROUTING && segments_left != 0 {
                self.destination = last_of_route(routing, header)?;
            } else if kind == Protocol::DESTINATION_OPTIONS
                && let Some(home) = home_address(header.get(2..)?)
            {
                self.source = home;
            }
            kind = Protocol(next);
            rest = after;
        }
        Some(())
    }
}

/// RFC 5095 (type 0, deprecated), RFC 6275 section 6.4 (type 2), RFC 8754
/// section 2 (type 4, the list is backwards).
fn last_of_route(routing: u8, header: &[u8]) -> Option<Ipv6Addr> {
    let addresses = header.get(8..)?;
    match routing {
        0 => address(addresses.last_chunk()),
        2 | 4 => address(addresses.first_chunk()),
        _ => None,
    }
}

/// The home address option: RFC 6275 section 6.3.
fn home_address(options: &[u8]) -> Option<Ipv6Addr> {
    const PAD1: u8 = 0;
    const HOME_ADDRESS: u8 = 201;
    let mut rest = options;
    loop {
        match rest {
            [PAD1, after @ ..] => rest = after,
            [kind, len, after @ ..] => {
                let (body, after) = after.split_at_checked(usize::from(*len))?;
                if *kind == HOME_ADDRESS {
                    return address(body.try_into().ok());
                }
                rest = after;
            }
            _ => return None,
        }
    }
}

fn address(bytes: Option<&[u8; 16]>) -> Option<Ipv6Addr> {
    bytes.copied().map(Ipv6Addr::from)
}
