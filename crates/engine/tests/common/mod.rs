//! Frames for the tests: written out by hand, byte for byte from the RFCs, built
//! by `etherparse`, and those of the committed captures.
#![allow(dead_code, reason = "each test program uses some of it")]

pub(crate) mod built;
pub(crate) mod program;

use std::fs::File;
use std::path::Path;

use pcap_file::pcap::PcapReader;

/// A frame and its name, for messages.
pub(crate) type Named = (&'static str, Vec<u8>);

const MACS: [u8; 12] = [0x02, 0, 0, 0, 0, 0x02, 0x02, 0, 0, 0, 0, 0x01];

/// MAC header with the given Length/Type, then `rest`.
pub(crate) fn ethernet(length_or_type: u16, rest: &[u8]) -> Vec<u8> {
    [&MACS[..], &length_or_type.to_be_bytes(), rest].concat()
}

/// IPv4 from 10.0.0.1 to 10.0.0.2 with the given flags and offset word.
pub(crate) fn ipv4(protocol: u8, fragment: u16, options: &[u8], payload: &[u8]) -> Vec<u8> {
    assert_eq!(options.len() % 4, 0);
    let header_len = 20 + options.len();
    let total = u16::try_from(header_len + payload.len()).unwrap();
    let mut packet = vec![0x40 | u8::try_from(header_len / 4).unwrap(), 0];
    packet.extend(total.to_be_bytes());
    packet.extend([0x12, 0x34]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    packet.extend(options);
    packet.extend(payload);
    packet
}

/// IPv6 from fe80::1 to fe80::2.
pub(crate) fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    packet.extend([next, 255]);
    for last in [1, 2] {
        packet.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    packet.extend(payload);
    packet
}

/// TCP SYN from 49152 to 80, window 0xfaf0, with one option (MSS 1460).
pub(crate) fn tcp_syn() -> Vec<u8> {
    vec![
        0xc0, 0x00, 0x00, 0x50, 0x11, 0x22, 0x33, 0x44, 0x00, 0x00, 0x00, 0x00, 0x60, 0x02, 0xfa,
        0xf0, 0x00, 0x00, 0x00, 0x00, 0x02, 0x04, 0x05, 0xb4,
    ]
}

/// UDP from 5353 to 53.
pub(crate) fn udp(payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(8 + payload.len()).unwrap();
    let mut datagram = vec![0x14, 0xe9, 0x00, 0x35];
    datagram.extend(len.to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    datagram
}

/// An ARP request, who has 10.0.0.2, tell 10.0.0.1.
pub(crate) fn arp() -> Vec<u8> {
    vec![
        0, 1, 8, 0, 6, 4, 0, 1, 0x02, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2,
    ]
}

/// One frame of each kind the engine tells apart, all of them sound.
pub(crate) fn sound_frames() -> Vec<Named> {
    let syn = tcp_syn();
    let dns = udp(b"question");
    let hop_by_hop = |next: u8, rest: &[u8]| [&[next, 0, 1, 4, 0, 0, 0, 0], rest].concat();
    let fragment = |next: u8, word: u16, rest: &[u8]| {
        [
            &[next, 0],
            &word.to_be_bytes()[..],
            &[0xde, 0xad, 0xbe, 0xef],
            rest,
        ]
        .concat()
    };
    let authentication = |next: u8, rest: &[u8]| {
        let mut header = vec![next, 4];
        header.extend([0; 22]);
        [&header, rest].concat()
    };
    let tag =
        |tci: u16, next: u16, rest: &[u8]| [&tci.to_be_bytes(), &next.to_be_bytes(), rest].concat();
    let v4_tcp = ipv4(6, 0x4000, &[], &syn);
    vec![
        ("arp", ethernet(0x0806, &arp())),
        ("ipv4 tcp", ethernet(0x0800, &v4_tcp)),
        (
            "ipv4 with options, udp",
            ethernet(0x0800, &ipv4(17, 0, &[0x94, 4, 0, 0], &dns)),
        ),
        (
            "ipv4 icmp",
            ethernet(0x0800, &ipv4(1, 0, &[], &[8, 0, 0, 0, 0, 1, 0, 1])),
        ),
        (
            "ipv4 first fragment of udp",
            ethernet(0x0800, &ipv4(17, 0x2000, &[], &udp(&[7; 40])[..32])),
        ),
        (
            "ipv4 later fragment",
            ethernet(0x0800, &ipv4(17, 0x0004, &[], &[7; 16])),
        ),
        ("ipv4 gre", ethernet(0x0800, &ipv4(47, 0, &[], &[0; 4]))),
        ("ipv6 tcp", ethernet(0x86dd, &ipv6(6, &syn))),
        ("ipv6 udp", ethernet(0x86dd, &ipv6(17, &dns))),
        (
            "ipv6 icmpv6",
            ethernet(0x86dd, &ipv6(58, &[128, 0, 0, 0, 0, 1, 0, 1])),
        ),
        (
            "ipv6 hop-by-hop, destination options, tcp",
            ethernet(0x86dd, &ipv6(0, &hop_by_hop(60, &hop_by_hop(6, &syn)))),
        ),
        (
            "ipv6 authentication, udp",
            ethernet(0x86dd, &ipv6(51, &authentication(17, &dns))),
        ),
        (
            "ipv6 first fragment of tcp",
            ethernet(0x86dd, &ipv6(44, &fragment(6, 0x0001, &syn))),
        ),
        (
            "ipv6 later fragment",
            ethernet(0x86dd, &ipv6(44, &fragment(6, 0x0018, &syn))),
        ),
        ("ipv6 nothing follows", ethernet(0x86dd, &ipv6(59, &[]))),
        ("one tag", ethernet(0x8100, &tag(0x2064, 0x0800, &v4_tcp))),
        (
            "two tags",
            ethernet(0x88a8, &tag(0x0001, 0x8100, &tag(0xf002, 0x0800, &v4_tcp))),
        ),
        (
            "802.3 spanning tree",
            ethernet(38, &[&[0x42, 0x42, 0x03][..], &[0; 35]].concat()),
        ),
        (
            "802.3 snap arp",
            ethernet(
                36,
                &[&[0xaa, 0xaa, 0x03, 0, 0, 0, 0x08, 0x06][..], &arp()].concat(),
            ),
        ),
        (
            "lldp",
            ethernet(0x88cc, &[0x02, 0x07, 0x04, 0x02, 0, 0, 0, 0, 1, 0, 0]),
        ),
    ]
}

/// The frames of a capture in `tests/captures`, all of them whole; under Miri
/// the first [`UNDER_MIRI`] of them.
pub(crate) fn frames_of(name: &str) -> Vec<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/captures")
        .join(name);
    let mut reader = PcapReader::new(File::open(path).unwrap()).unwrap();
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet() {
        frames.push(packet.unwrap().data.into_owned());
        if cfg!(miri) && frames.len() == UNDER_MIRI {
            break;
        }
    }
    frames
}

/// More frames than `odd.pcap` has; all of `mixed.pcap` would take hours.
#[allow(dead_code, reason = "not every test reads captures")]
pub(crate) const UNDER_MIRI: usize = 60;
