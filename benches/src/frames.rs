//! The frames: those of `tests/captures/mixed.pcap`, in their order, over and
//! over; each time with other addresses, so that there are many flows.

use std::fs::File;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use pcap_file::pcap::PcapReader;
use weir_engine::wire::{self, Network, Transport};

/// How often the capture is repeated.
const COPIES: u8 = 40;

/// 100 ns units between the capture and its next copy.
const COPY_100NS: u64 = 30 * 10_000_000;

/// Many frames, one behind the other in memory.
#[derive(Clone, Debug)]
pub(crate) struct Frames {
    bytes: Vec<u8>,
    places: Vec<Place>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    start: usize,
    len: usize,
    time_100ns: u64,
}

/// One frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    /// All of it.
    pub(crate) bytes: &'a [u8],
    /// Bytes of it.
    pub(crate) len: u32,
    /// When it was seen.
    pub(crate) time_100ns: u64,
}

impl Frames {
    /// Reads the capture of the repository that this crate is part of.
    ///
    /// # Panics
    /// If the capture can't be read: nothing can be measured then.
    pub(crate) fn mixed() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/captures/mixed.pcap");
        let file = File::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut reader = PcapReader::new(file).expect("a capture");
        let mut captured = Vec::new();
        while let Some(packet) = reader.next_packet() {
            let packet = packet.expect("a frame");
            let time = u64::try_from(packet.timestamp.as_nanos() / 100).expect("a time");
            captured.push((time, packet.data.into_owned()));
        }
        let mut frames = Frames {
            bytes: Vec::new(),
            places: Vec::new(),
        };
        for copy in 0..COPIES {
            for (time, bytes) in &captured {
                let start = frames.bytes.len();
                frames.bytes.extend(bytes);
                readdress(&mut frames.bytes[start..], copy);
                frames.places.push(Place {
                    start,
                    len: bytes.len(),
                    time_100ns: time + u64::from(copy) * COPY_100NS,
                });
            }
        }
        frames
    }

    /// How many frames there are.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// When the first was seen.
    pub(crate) fn start_100ns(&self) -> u64 {
        self.places.first().map_or(0, |place| place.time_100ns)
    }

    /// The frames, in order.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = Frame<'_>> + Clone {
        self.places.iter().map(|place| Frame {
            bytes: &self.bytes[place.start..place.start + place.len],
            len: u32::try_from(place.len).expect("an Ethernet frame"),
            time_100ns: place.time_100ns,
        })
    }

    /// The five-tuples of TCP and UDP in these frames, each once and one of its
    /// two directions, in the order in which they are first seen.
    pub(crate) fn five_tuples(&self) -> Vec<FiveTuple> {
        let mut seen = std::collections::HashSet::new();
        let all = self.iter().filter_map(|frame| FiveTuple::of(&frame));
        all.filter(|tuple| !seen.contains(&tuple.reversed()) && seen.insert(*tuple))
            .collect()
    }
}

/// Other addresses for the same frame: both in another network.
fn readdress(bytes: &mut [u8], copy: u8) {
    let (places, by): (&[usize], _) = match bytes.get(12..14) {
        Some([0x08, 0x00]) => (&[27, 31], copy),
        Some([0x86, 0xdd]) => (&[25, 41], copy),
        _ => return,
    };
    for at in places {
        if let Some(byte) = bytes.get_mut(*at) {
            *byte = byte.wrapping_add(by);
        }
    }
}

/// Addresses, protocol and ports, from source to destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FiveTuple {
    /// Source and destination.
    pub(crate) addresses: Addresses,
    /// TCP rather than UDP.
    pub(crate) is_tcp: bool,
    /// Source and destination port.
    pub(crate) ports: (u16, u16),
}

/// Source and destination, of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Addresses {
    /// IPv4.
    V4(Ipv4Addr, Ipv4Addr),
    /// IPv6.
    V6(Ipv6Addr, Ipv6Addr),
}

impl FiveTuple {
    /// Of TCP and UDP, neither tagged nor in fragments.
    pub(crate) fn of(frame: &Frame<'_>) -> Option<Self> {
        let dissected = wire::dissect(frame.bytes, frame.len);
        let is_tcp = match dissected.transport {
            Transport::Tcp(_) => true,
            Transport::Udp(_) => false,
            _ => return None,
        };
        let addresses = match &dissected.network {
            Network::Ipv4(ip) if !ip.is_fragment() => Addresses::V4(ip.source(), ip.destination()),
            Network::Ipv6(ip, _) if matches!(ip.next_header().0, 6 | 17) => {
                Addresses::V6(ip.source(), ip.destination())
            }
            _ => return None,
        };
        Some(FiveTuple {
            addresses,
            is_tcp,
            ports: dissected.ports()?,
        })
    }

    /// That of the answer.
    pub(crate) fn reversed(self) -> Self {
        let (source, destination) = self.ports;
        FiveTuple {
            addresses: match self.addresses {
                Addresses::V4(a, b) => Addresses::V4(b, a),
                Addresses::V6(a, b) => Addresses::V6(b, a),
            },
            ports: (destination, source),
            ..self
        }
    }

    /// As a pcap-filter expression.
    pub(crate) fn expression(&self) -> String {
        let protocol = if self.is_tcp { "tcp" } else { "udp" };
        let (from, to) = self.ports;
        let (ip, source, destination) = match self.addresses {
            Addresses::V4(a, b) => ("ip", a.to_string(), b.to_string()),
            Addresses::V6(a, b) => ("ip6", a.to_string(), b.to_string()),
        };
        format!(
            "{ip} and src host {source} and dst host {destination} \
             and {protocol} src port {from} and {protocol} dst port {to}"
        )
    }
}
