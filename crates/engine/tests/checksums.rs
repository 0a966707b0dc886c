//! Checksums: the sum against a plain one, frames that are right, each bit of
//! them turned over, and the committed captures, of which `tshark` is the judge.

mod common;

use std::collections::HashMap;

use common::built::built;
use common::{ethernet, frames_of, ipv4, ipv6, tcp_syn, udp};
use proptest::prelude::*;
use weir_engine::stats::Protocols;
use weir_engine::wire::checksum::{Check, Checksums, Sum, verify, verify_runs};
use weir_engine::wire::{Dissected, HEADER_WINDOW, Network, dissect};

fn whole(frame: &[u8]) -> Dissected<'_> {
    dissect(frame, u32::try_from(frame.len()).unwrap())
}

fn check(frame: &[u8]) -> Checksums {
    verify(&whole(frame), frame)
}

fn checks(network: Check, transport: Check) -> Checksums {
    Checksums { network, transport }
}

/// The sum as RFC 1071 section 4.1 has it: word by word, the last byte padded.
fn plain(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u32::from(u16::from_be_bytes([pair[0], low]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

#[test]
fn the_example_of_rfc_1071() {
    let mut sum = Sum::new();
    sum.add(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
    assert_eq!(sum.value(), 0xddf2);
    assert_eq!(sum.checksum(), 0x220d);
}

#[test]
fn all_ones_for_longer_than_a_frame_can_be() {
    let mut sum = Sum::new();
    for _ in 0..if cfg!(miri) { 3 } else { 4096 } {
        sum.add(&[0xff; 65_535]);
    }
    assert_eq!(sum.value(), if cfg!(miri) { 0xff00 } else { 0xffff });
    assert_eq!(Sum::new().value(), 0);
}

/// An IPv4 packet, its header's checksum put in.
fn right_ipv4(protocol: u8, fragment: u16, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut packet = ipv4(protocol, fragment, options, payload);
    let sum = !plain(&packet[..20 + options.len()]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// `segment` with its checksum at `at`, between `source` and `destination`.
fn right_transport(
    protocol: u8,
    source: &[u8],
    destination: &[u8],
    mut segment: Vec<u8>,
    at: usize,
) -> Vec<u8> {
    let len = u32::try_from(segment.len()).unwrap();
    let pseudo = [
        source,
        destination,
        &len.to_be_bytes(),
        &[0, 0, 0, protocol],
        &segment,
    ]
    .concat();
    let sum = !plain(&pseudo);
    segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    segment
}

const V4: [[u8; 4]; 2] = [[10, 0, 0, 1], [10, 0, 0, 2]];
const V6: [[u8; 16]; 2] = [
    [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
];
const ELSEWHERE: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];

#[test]
fn padding_is_not_covered_but_an_odd_last_byte_is() {
    let segment = right_transport(6, &V4[0], &V4[1], [&tcp_syn()[..], b"odd"].concat(), 16);
    let mut frame = ethernet(0x0800, &right_ipv4(6, 0, &[1, 1, 1, 0], &segment));
    let end = frame.len();
    frame.resize(end + 7, 0xaa);
    assert_eq!(check(&frame), checks(Check::Good, Check::Good));
    frame[end - 1] ^= 1;
    assert_eq!(check(&frame), checks(Check::Good, Check::Bad));
    frame[14 + 8] ^= 1;
    assert_eq!(check(&frame), checks(Check::Bad, Check::Bad));
}

#[test]
fn udp_covers_its_own_length_and_needs_no_checksum_over_ipv4() {
    let datagram = right_transport(17, &V4[0], &V4[1], udp(b"abc"), 6);
    // The packet goes on for four bytes behind the datagram.
    let long = [&datagram[..], &[0x55; 4]].concat();
    let frame = ethernet(0x0800, &right_ipv4(17, 0, &[], &long));
    assert_eq!(check(&frame), checks(Check::Good, Check::Good));

    let frame = ethernet(0x0800, &right_ipv4(17, 0, &[], &udp(b"abc")));
    assert_eq!(check(&frame), checks(Check::Good, Check::None));
    let frame = ethernet(0x86dd, &ipv6(17, &udp(b"abc")));
    assert_eq!(check(&frame), checks(Check::None, Check::Bad));
}

#[test]
fn a_sum_of_zero_is_sent_as_all_ones() {
    // Choose two bytes of payload so that the checksum comes out as zero.
    let mut datagram = udp(&[0, 0]);
    let pseudo = [&V4[0][..], &V4[1], &[0, 0, 0, 10, 0, 17], &datagram].concat();
    let rest = !plain(&pseudo);
    datagram[8..10].copy_from_slice(&rest.to_be_bytes());
    datagram[6..8].copy_from_slice(&[0xff, 0xff]);
    let frame = ethernet(0x0800, &right_ipv4(17, 0, &[], &datagram));
    assert_eq!(check(&frame).transport, Check::Good);
}

#[test]
fn what_is_not_all_here_can_not_be_told() {
    let segment = right_transport(6, &V4[0], &V4[1], tcp_syn(), 16);
    let sound = right_ipv4(6, 0, &[], &segment);
    let unknown = checks(Check::Good, Check::Unknown);
    let frame = ethernet(0x0800, &sound);
    let len = u32::try_from(frame.len()).unwrap();
    let snapped = &frame[..frame.len() - 1];
    assert_eq!(verify(&dissect(snapped, len), snapped), unknown, "snapped");
    assert_eq!(check(snapped), unknown, "truncated");

    let payload = [&segment[..], &[0; 40]].concat();
    let frame = ethernet(0x0800, &right_ipv4(6, 0x2000, &[], &payload));
    assert_eq!(check(&frame), unknown, "first fragment");
    let frame = ethernet(0x0800, &right_ipv4(6, 0x0010, &[], &payload));
    assert_eq!(check(&frame), unknown, "later fragment");
    let frame = ethernet(0x0800, &right_ipv4(47, 0, &[], &payload));
    assert_eq!(check(&frame), unknown, "gre");

    let mut packet = sound;
    packet[2..4].copy_from_slice(&[0, 0]);
    let network = check(&ethernet(0x0800, &packet)).network;
    assert_eq!(network, Check::Bad, "the length is covered");
    let transport = check(&ethernet(0x0800, &packet)).transport;
    assert_eq!(transport, Check::Unknown, "a length left to the adapter");

    for other in [
        ethernet(0x0806, &common::arp()),
        ethernet(0x88cc, &[2, 7, 4]),
        ethernet(0x86dd, &ipv6(59, &[])),
    ] {
        assert_eq!(check(&other), Checksums::default());
    }
}

#[test]
fn ipv6_sums_the_addresses_where_the_packet_starts_and_ends() {
    let [source, destination] = V6;
    let segment = |source, destination| right_transport(6, source, destination, tcp_syn(), 16);
    let direct = segment(&source, &destination);
    let through = segment(&source, &ELSEWHERE);
    let from = segment(&ELSEWHERE, &destination);
    let routing = |kind: u8, left: u8, addresses: &[[u8; 16]]| {
        let len = u8::try_from(2 * addresses.len()).unwrap();
        [&[6, len, kind, left, 0, 0, 0, 0], &addresses.concat()[..]].concat()
    };
    let home = [&[6u8, 2, 0, 1, 0, 201, 16][..], &ELSEWHERE, &[0]].concat();
    /// Name, kind and bytes of the header, segment, what is found.
    type Case<'a> = (&'a str, u8, Vec<u8>, &'a [u8], Check);
    let cases: [Case<'_>; 9] = [
        (
            "atomic fragment",
            44,
            vec![6, 0xff, 0, 0, 0, 0, 0, 1],
            &direct,
            Check::Good,
        ),
        (
            "authentication",
            51,
            [&[6u8, 4][..], &[0; 22]].concat(),
            &direct,
            Check::Good,
        ),
        (
            "a route that is done",
            43,
            routing(0, 0, &[ELSEWHERE]),
            &direct,
            Check::Good,
        ),
        (
            "type 0",
            43,
            routing(0, 1, &[source, ELSEWHERE]),
            &through,
            Check::Good,
        ),
        (
            "type 2",
            43,
            routing(2, 1, &[ELSEWHERE]),
            &through,
            Check::Good,
        ),
        (
            "segments",
            43,
            routing(4, 1, &[ELSEWHERE, source]),
            &through,
            Check::Good,
        ),
        (
            "segments, wrong end",
            43,
            routing(4, 1, &[source, ELSEWHERE]),
            &through,
            Check::Bad,
        ),
        (
            "a kind nobody knows",
            43,
            routing(253, 1, &[ELSEWHERE]),
            &through,
            Check::Unknown,
        ),
        ("home address", 60, home, &from, Check::Good),
    ];
    for (name, first, header, segment, expected) in cases {
        let frame = ethernet(0x86dd, &ipv6(first, &[&header[..], segment].concat()));
        assert_eq!(whole(&frame).fault, None, "{name}");
        assert_eq!(check(&frame), checks(Check::None, expected), "{name}");
    }
}

/// Verifies as the driver does: the headers out of a window, the rest in runs.
fn in_runs(frame: &[u8], run: usize) -> Checksums {
    let window = &frame[..frame.len().min(HEADER_WINDOW)];
    let dissected = dissect(window, u32::try_from(frame.len()).unwrap());
    verify_runs(&dissected, window, |start, len, sum| {
        for piece in frame[start..start + len].chunks(run) {
            sum.add(piece);
        }
        true
    })
}

proptest! {
    #[test]
    fn runs_of_any_length_add_up_to_the_same(
        runs in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
    ) {
        let mut sum = Sum::new();
        for run in &runs {
            sum.add(run);
        }
        prop_assert_eq!(sum.value(), plain(&runs.concat()));
    }

    #[test]
    fn what_etherparse_builds_is_right_and_one_bit_makes_it_wrong(
        frame in built(),
        bit in any::<prop::sample::Index>(),
        run in 1usize..50,
    ) {
        let right = check(&frame);
        prop_assert_ne!(right.network, Check::Bad);
        prop_assert_eq!(right.transport, Check::Good);
        prop_assert_eq!(in_runs(&frame, run), right);

        let d = whole(&frame);
        let start = d.transport_offset().unwrap();
        let v6 = matches!(d.network, Network::Ipv6(..));
        // In the addresses or behind, where no bit is a length or a kind.
        let addresses = start - if v6 { 32 } else { 8 };
        let payload = d.payload.position();
        let places: Vec<usize> = (addresses..start).chain(payload..frame.len()).collect();
        let bit = bit.index(places.len() * 8);
        let mut wrong = frame.clone();
        wrong[places[bit / 8]] ^= 1 << (bit % 8);
        let wrong = check(&wrong);
        prop_assert_eq!(wrong.transport, match d.transport {
            // Without a pseudo-header.
            weir_engine::wire::Transport::Icmp(_) if places[bit / 8] < start => Check::Good,
            _ => Check::Bad,
        });
        let expected = match right.network {
            Check::Good if places[bit / 8] < start => Check::Bad,
            other => other,
        };
        prop_assert_eq!(wrong.network, expected);
    }
}

/// How many frames of a capture have which checksums.
fn census(name: &str) -> HashMap<Checksums, usize> {
    let mut census = HashMap::new();
    for frame in frames_of(name) {
        *census.entry(check(&frame)).or_default() += 1;
    }
    census
}

/// The numbers are those of
/// ```text
/// tshark -o ip.defragment:FALSE -o ipv6.defragment:FALSE -o ip.check_checksum:TRUE \
///   -o tcp.check_checksum:TRUE -o udp.check_checksum:TRUE -r mixed.pcap -T fields \
///   -E occurrence=f -e ip.checksum.status -e tcp.checksum.status -e udp.checksum.status \
///   -e icmp.checksum.status -e icmpv6.checksum.status | sort | uniq -c
/// ```
/// where 1 is good, 2 unverified, and nothing none, or a later fragment. Of the
/// 60 IPv4 fragments it lists 20 as ICMP unverified and 40 by the header alone;
/// of the 60 of IPv6 20 as ICMPv6 unverified, the others with ARP's 5.
#[test]
fn real_traffic_has_the_checksums_that_tshark_finds() {
    if cfg!(miri) {
        // Not all frames are read there.
        let wrong =
            |found: &Checksums| found.network == Check::Bad || found.transport == Check::Bad;
        assert!(!census("mixed.pcap").keys().any(wrong));
        return;
    }
    assert_eq!(
        census("mixed.pcap"),
        HashMap::from([
            (checks(Check::None, Check::None), 5),
            (checks(Check::None, Check::Unknown), 20 + 40),
            (checks(Check::Good, Check::Unknown), 20 + 40),
            (checks(Check::None, Check::Good), 138 + 1064 + 6 + 827),
            (checks(Check::Good, Check::Good), 200 + 1084 + 6 + 1979),
        ])
    );
}

/// Frame by frame as `tshark` has it with the same options.
#[test]
fn odd_frames_have_the_checksums_that_tshark_finds() {
    use Check::{Bad, Good, None, Unknown};
    let expected = [
        (1, Good, Good),
        (2, Good, Good),
        (3, None, Good),
        (10, Good, Unknown),
        (11, Good, Unknown),
        // The packet is cut, but behind the end of its datagram.
        (13, Good, Bad),
        (15, None, Good),
        (16, None, Unknown),
        (18, None, Bad),
        (21, Good, Good),
        (22, None, Good),
        (23, None, Good),
        (24, None, Good),
        (25, Good, Good),
        (26, Good, Good),
        (27, Good, Good),
        (31, Good, Unknown),
        (32, Good, None),
        (36, Good, Good),
    ];
    let frames = frames_of("odd.pcap");
    let mut counted = Protocols::default();
    for (number, network, transport) in expected {
        let found = check(&frames[number - 1]);
        assert_eq!(found, checks(network, transport), "frame {number}");
        counted.count_checksums(found);
    }
    assert_eq!(
        (counted.bad_network_checksum, counted.bad_transport_checksum),
        (0, 2)
    );
}
