//! Frames that lie, are cut, or are put together as no stack would: each by
//! name, with what the engine makes of it. None of them may fail.

mod common;

use common::{ethernet, ipv4, ipv6, tcp_syn, udp};
use weir_engine::wire::{Defect, Dissected, Layer, Network, Protocol, Transport, dissect};

type Fault = Option<(Layer, Defect)>;

/// The layers as letters: `4` `6` `a` `-`, then `t` `u` `i` `f` `o` `-`.
fn layers(d: &Dissected<'_>) -> String {
    let network = match d.network {
        Network::None => '-',
        Network::Arp(_) => 'a',
        Network::Ipv4(_) => '4',
        Network::Ipv6(..) => '6',
    };
    let transport = match d.transport {
        Transport::None => '-',
        Transport::LaterFragment(_) => 'f',
        Transport::Tcp(_) => 't',
        Transport::Udp(_) => 'u',
        Transport::Icmp(_) | Transport::Icmpv6(_) => 'i',
        Transport::Other(_) => 'o',
    };
    format!("{network}{transport}")
}

fn see(frame: &[u8], len: usize) -> (String, Fault) {
    let d = dissect(frame, u32::try_from(len).unwrap());
    (layers(&d), d.fault.map(|f| (f.layer, f.defect)))
}

fn network(defect: Defect) -> Fault {
    Some((Layer::Network, defect))
}

fn transport(defect: Defect) -> Fault {
    Some((Layer::Transport, defect))
}

fn check(cases: &[(&str, Vec<u8>, &str, Fault)]) {
    for (name, frame, layers, fault) in cases {
        let seen = see(frame, frame.len());
        assert_eq!(seen, ((*layers).to_owned(), *fault), "{name}");
    }
}

fn v4(bytes: &[u8]) -> Vec<u8> {
    ethernet(0x0800, bytes)
}

fn v6(bytes: &[u8]) -> Vec<u8> {
    ethernet(0x86dd, bytes)
}

fn with(mut bytes: Vec<u8>, at: usize, patch: &[u8]) -> Vec<u8> {
    bytes[at..at + patch.len()].copy_from_slice(patch);
    bytes
}

#[test]
fn ipv4_that_lies() {
    let tcp = tcp_syn();
    let plain = ipv4(6, 0, &[], &tcp);
    let options = ipv4(6, 0, &[1; 40], &tcp);
    check(&[
        ("sixty bytes of header", v4(&options), "4t", None),
        (
            "header longer than the frame",
            v4(&options[..40]),
            "--",
            network(Defect::Truncated),
        ),
        (
            "header longer than its total length",
            v4(&with(options.clone(), 2, &[0, 59])),
            "--",
            network(Defect::Length),
        ),
        (
            "total length of the header alone",
            v4(&with(plain.clone(), 2, &[0, 20])),
            "4-",
            transport(Defect::Truncated),
        ),
        (
            "total length of more than the frame",
            v4(&with(plain.clone(), 2, &[0xff, 0xff])),
            "4t",
            network(Defect::Truncated),
        ),
        (
            "version 0",
            v4(&with(plain.clone(), 0, &[0x05])),
            "--",
            network(Defect::Version),
        ),
        (
            "the last possible offset",
            v4(&ipv4(6, 0x1fff, &[], &tcp)),
            "4f",
            None,
        ),
        (
            "the reserved flag",
            v4(&ipv4(6, 0x8000, &[], &tcp)),
            "4t",
            None,
        ),
        (
            "a first fragment too short for its TCP header",
            v4(&ipv4(6, 0x2000, &[], &tcp[..8])),
            "4-",
            transport(Defect::Truncated),
        ),
        (
            "ICMPv6 in IPv4",
            v4(&ipv4(58, 0, &[], &[128, 0, 0, 0, 0, 1, 0, 1])),
            "4o",
            None,
        ),
        (
            "no next header, which is IPv6's",
            v4(&ipv4(59, 0, &[], &[])),
            "4o",
            None,
        ),
        (
            "hop-by-hop options, likewise",
            v4(&ipv4(0, 0, &[], &[0; 8])),
            "4o",
            None,
        ),
        (
            "IPv6 in IPv4",
            v4(&ipv4(41, 0, &[], &ipv6(6, &tcp))),
            "4o",
            None,
        ),
        (
            "IPv6 called IPv4",
            v4(&ipv6(6, &tcp)),
            "--",
            network(Defect::Version),
        ),
        (
            "IPv4 called IPv6",
            v6(&plain),
            "--",
            network(Defect::Version),
        ),
        (
            "half an ICMP header",
            v4(&ipv4(1, 0, &[], &[3, 0, 0])),
            "4-",
            transport(Defect::Truncated),
        ),
    ]);
}

#[test]
fn transports_that_lie() {
    let tcp = tcp_syn();
    check(&[
        (
            "TCP with sixty bytes of header",
            v4(&ipv4(
                6,
                0,
                &[],
                &[&with(tcp.clone(), 12, &[0xf0])[..20], &[1; 40]].concat(),
            )),
            "4t",
            None,
        ),
        (
            "TCP with a header longer than the packet",
            v4(&ipv4(6, 0, &[], &with(tcp.clone(), 12, &[0xf0]))),
            "4-",
            transport(Defect::Truncated),
        ),
        (
            "TCP with no header at all",
            v4(&ipv4(6, 0, &[], &with(tcp.clone(), 12, &[0x0f]))),
            "4-",
            transport(Defect::HeaderLength),
        ),
        (
            "an empty datagram",
            v4(&ipv4(17, 0, &[], &udp(&[]))),
            "4u",
            None,
        ),
        (
            "a datagram of seven bytes",
            v4(&ipv4(17, 0, &[], &with(udp(&[]), 4, &[0, 7]))),
            "4-",
            transport(Defect::Length),
        ),
        (
            "a datagram of no length",
            v4(&ipv4(17, 0, &[], &with(udp(b"abc"), 4, &[0, 0]))),
            "4u",
            None,
        ),
        (
            "a datagram longer than its packet",
            v4(&ipv4(17, 0, &[], &with(udp(b"abc"), 4, &[0xff, 0xff]))),
            "4u",
            transport(Defect::Truncated),
        ),
        (
            "a datagram that goes on in the next fragment",
            v4(&ipv4(17, 0x2000, &[], &with(udp(b"abc"), 4, &[0xff, 0xff]))),
            "4u",
            None,
        ),
    ]);
}

#[test]
fn extension_headers_that_lie() {
    let tcp = tcp_syn();
    let chain = |first: u8, header: &[u8], rest: &[u8]| v6(&ipv6(first, &[header, rest].concat()));
    let hop = [6, 0, 1, 4, 0, 0, 0, 0];
    let fragment = |next: u8, word: u16| {
        let [high, low] = word.to_be_bytes();
        [next, 0xff, high, low, 0, 0, 0, 1]
    };
    check(&[
        // RFC 4302's shortest, and one whose length is no multiple of eight.
        (
            "AH of eight bytes",
            chain(51, &[6, 0, 0, 0, 0, 0, 0, 1], &tcp),
            "6t",
            None,
        ),
        (
            "AH of twelve bytes",
            chain(51, &[6, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1], &tcp),
            "6t",
            None,
        ),
        (
            "AH of 1,028 bytes",
            chain(51, &[6, 255, 0, 0, 0, 0, 0, 1], &tcp),
            "6-",
            network(Defect::Truncated),
        ),
        (
            "routing of 2,048 bytes",
            chain(43, &[6, 255, 0, 0, 0, 0, 0, 0], &tcp),
            "6-",
            network(Defect::Truncated),
        ),
        (
            "the fragment header's reserved byte is no length",
            chain(44, &fragment(6, 0), &tcp),
            "6t",
            None,
        ),
        (
            "a first fragment that goes on with options",
            chain(44, &fragment(60, 1), &[&hop[..], &tcp].concat()),
            "6t",
            None,
        ),
        (
            "a later fragment is not walked on, whatever it says",
            chain(44, &fragment(60, 8), &[0xff; 40]),
            "6f",
            None,
        ),
        (
            "a fragment of a fragment",
            chain(44, &fragment(44, 1), &[&fragment(6, 0)[..], &tcp].concat()),
            "6t",
            None,
        ),
        (
            "hop-by-hop where it may not be",
            chain(60, &[0, 0, 1, 4, 0, 0, 0, 0], &[&hop[..], &tcp].concat()),
            "6t",
            None,
        ),
        (
            "half a header",
            chain(0, &hop[..7], &[]),
            "6-",
            network(Defect::Truncated),
        ),
        (
            "a chain to nowhere",
            v6(&ipv6(0, &[])),
            "6-",
            network(Defect::Truncated),
        ),
        (
            "ICMP in IPv6",
            v6(&ipv6(1, &[8, 0, 0, 0, 0, 1, 0, 1])),
            "6o",
            None,
        ),
        ("ESP ends the walk", v6(&ipv6(50, &[0xff; 16])), "6o", None),
        (
            "bytes behind nothing",
            v6(&ipv6(59, &[0xff; 16])),
            "6-",
            None,
        ),
    ]);
    let d = v6(&ipv6(
        44,
        &[&fragment(44, 1)[..], &fragment(6, 0), &tcp].concat(),
    ));
    let d = dissect(&d, u32::try_from(d.len()).unwrap());
    assert!(matches!(d.network, Network::Ipv6(_, chain) if chain.count == 2));
}

#[test]
fn eight_headers_are_walked_and_no_ninth() {
    for (count, layers, fault) in [
        (8, "6t", None),
        (9, "6-", network(Defect::TooManyExtensions)),
    ] {
        let mut payload = Vec::new();
        for left in (0..count).rev() {
            payload.extend([if left == 0 { 6 } else { 60 }, 0, 1, 4, 0, 0, 0, 0]);
        }
        payload.extend(tcp_syn());
        let frame = v6(&ipv6(60, &payload));
        assert_eq!(see(&frame, frame.len()), (layers.to_owned(), fault));
    }
}

#[test]
fn a_jumbogram_ends_where_the_frame_does() {
    // RFC 2675: no payload length, and an option which says it.
    let option = [6, 0, 0xc2, 4, 0, 1, 0, 32];
    let payload = [&option[..], &tcp_syn(), &[7; 66_000]].concat();
    let mut packet = ipv6(0, &[&option[..], &tcp_syn()].concat());
    packet.truncate(40);
    packet[4..6].copy_from_slice(&[0, 0]);
    packet.extend(payload);
    let frame = v6(&packet);
    assert_eq!(see(&frame, frame.len()), ("6t".to_owned(), None));
    let d = dissect(&frame, u32::try_from(frame.len()).unwrap());
    assert_eq!(d.payload.on_wire(), 66_000);
}

#[test]
fn tags_that_lie() {
    let packet = ipv4(6, 0, &[], &tcp_syn());
    let tag = |id: u16, next: u16, rest: &[u8]| {
        [&id.to_be_bytes()[..], &next.to_be_bytes(), rest].concat()
    };
    let four = |rest: &[u8]| {
        let inner = tag(3, 0x9100, &tag(4, 0x0800, rest));
        ethernet(0x88a8, &tag(1, 0x8100, &tag(2, 0x8100, &inner)))
    };
    let llc = [&[0x42, 0x42, 3][..], &[0; 35]].concat();
    let link = |defect| Some((Layer::Link, defect));
    check(&[
        ("four tags of three kinds", four(&packet), "4t", None),
        (
            "four tags and nothing",
            four(&[]),
            "--",
            network(Defect::Truncated),
        ),
        (
            "a tag on an 802.3 frame",
            ethernet(0x8100, &tag(5, 38, &llc)),
            "--",
            None,
        ),
        (
            "a tag cut in two",
            ethernet(0x8100, &[0, 1, 8]),
            "--",
            link(Defect::Truncated),
        ),
        (
            "no type",
            ethernet(0x8100, &tag(1, 0x8100, &[])),
            "--",
            link(Defect::Truncated),
        ),
        (
            "MACs alone",
            ethernet(0, &[])[..12].to_vec(),
            "--",
            link(Defect::Truncated),
        ),
        (
            "a length of zero",
            ethernet(0, &[0xaa; 46]),
            "--",
            link(Defect::Truncated),
        ),
        ("nothing", vec![], "--", link(Defect::Truncated)),
    ]);
}

#[test]
fn arp_that_lies() {
    let packet = common::arp();
    check(&[
        (
            "addresses of 255 bytes",
            ethernet(0x0806, &with(packet.clone(), 4, &[255, 255])),
            "--",
            network(Defect::Truncated),
        ),
        (
            "addresses of no bytes",
            ethernet(0x0806, &with(packet.clone(), 4, &[0, 0])),
            "a-",
            None,
        ),
        (
            "another hardware",
            ethernet(0x0806, &with(packet.clone(), 0, &[0, 6])),
            "a-",
            None,
        ),
        (
            "half",
            ethernet(0x0806, &packet[..20]),
            "--",
            network(Defect::Truncated),
        ),
    ]);
    for (at, patch) in [(0, [0, 6]), (2, [0x86, 0xdd]), (4, [4, 6])] {
        let frame = ethernet(0x0806, &with(packet.clone(), at, &patch));
        let d = dissect(&frame, u32::try_from(frame.len()).unwrap());
        assert!(matches!(d.network, Network::Arp(p) if p.ethernet_ipv4().is_none()));
    }
}

#[test]
fn lengths_beside_the_bytes_that_lie() {
    let frame = v4(&ipv4(17, 0, &[], &udp(b"abc")));
    // Fewer bytes on the wire than in the slice: those behind are nobody's.
    assert_eq!(
        see(&frame, 0),
        ("--".to_owned(), Some((Layer::Link, Defect::Truncated)))
    );
    assert_eq!(
        see(&frame, 20),
        ("--".to_owned(), network(Defect::Truncated))
    );
    assert_eq!(
        see(&frame, 35),
        ("4-".to_owned(), network(Defect::Truncated))
    );
    // More: the packet's own length decides.
    assert_eq!(see(&frame, 0xffff_ffff), ("4u".to_owned(), None));
    let d = dissect(&frame, u32::MAX);
    assert_eq!(d.payload.bytes(), b"abc");
    assert_eq!(d.payload.on_wire(), 3);
}

#[test]
fn what_an_upper_protocol_is_called_survives() {
    let frame = v4(&ipv4(132, 0, &[], &[0; 12]));
    let d = dissect(&frame, u32::try_from(frame.len()).unwrap());
    assert_eq!(d.transport, Transport::Other(Protocol(132)));
    assert_eq!(
        (d.ports(), d.icmp_inner(), d.icmp_echo()),
        (None, None, None)
    );
}
