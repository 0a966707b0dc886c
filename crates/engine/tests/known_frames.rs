//! Frames built by hand, and what the engine must see in them.

mod common;

use common::{arp, ethernet, ipv4, ipv6, sound_frames, tcp_syn, udp};
use weir_engine::stats::Counters;
use weir_engine::wire::ethernet::Snap;
use weir_engine::wire::icmp::{Echo, Inner};
use weir_engine::wire::{
    Carries, Defect, Dissected, EtherType, Fault, Layer, MacAddr, Network, Protocol, Transport,
    arp as arp_wire, dissect, tcp,
};

fn whole(frame: &[u8]) -> Dissected<'_> {
    dissect(frame, u32::try_from(frame.len()).unwrap())
}

fn fault(frame: &[u8]) -> Option<(Layer, Defect)> {
    whole(frame)
        .fault
        .map(|Fault { layer, defect }| (layer, defect))
}

fn named(name: &str) -> Vec<u8> {
    let found = sound_frames().into_iter().find(|(n, _)| *n == name);
    found.unwrap_or_else(|| panic!("no frame {name}")).1
}

#[test]
fn sound_frames_have_no_fault() {
    for (name, frame) in sound_frames() {
        assert_eq!(fault(&frame), None, "{name}");
    }
}

#[test]
fn a_tcp_segment_is_read_to_its_options() {
    let frame = named("ipv4 tcp");
    let d = whole(&frame);
    let link = d.link.unwrap();
    assert_eq!(link.header.source(), MacAddr([2, 0, 0, 0, 0, 1]));
    assert_eq!(link.header.destination(), MacAddr([2, 0, 0, 0, 0, 2]));
    assert_eq!(link.carries, Some(Carries::Type(EtherType::IPV4)));
    let Network::Ipv4(ip) = d.network else {
        panic!("{:?}", d.network)
    };
    assert_eq!(ip.source().octets(), [10, 0, 0, 1]);
    assert_eq!(ip.destination().octets(), [10, 0, 0, 2]);
    assert_eq!((ip.ttl(), ip.id()), (64, 0x1234));
    assert!(ip.dont_fragment() && !ip.is_fragment());
    let Transport::Tcp(segment) = d.transport else {
        panic!("{:?}", d.transport)
    };
    assert_eq!(d.ports(), Some((49152, 80)));
    assert_eq!(segment.seq(), 0x1122_3344);
    assert_eq!(segment.flags(), tcp::Flags(tcp::Flags::SYN));
    assert_eq!(segment.window(), 0xfaf0);
    assert_eq!(segment.options(), [2, 4, 5, 0xb4]);
    assert_eq!(d.payload.on_wire(), 0);
}

#[test]
fn tags_are_kept_outermost_first() {
    let frame = named("two tags");
    let d = whole(&frame);
    let tags: Vec<_> = d.link.unwrap().tags.iter().map(|t| t.id()).collect();
    assert_eq!(tags, [1, 2]);
    assert_eq!(d.link.unwrap().tags.iter().last().unwrap().priority(), 7);
    assert!(matches!(d.transport, Transport::Tcp(_)));
}

#[test]
fn five_tags_are_too_many() {
    let mut rest = Vec::new();
    for _ in 0..4 {
        rest.extend([0, 1, 0x81, 0x00]);
    }
    rest.extend([0, 1, 0x08, 0x00]);
    assert_eq!(
        fault(&ethernet(0x8100, &rest)),
        Some((Layer::Link, Defect::TooManyTags))
    );
}

#[test]
fn arp_addresses_are_read_whether_in_ethernet_or_snap() {
    for name in ["arp", "802.3 snap arp"] {
        let frame = named(name);
        let Network::Arp(packet) = whole(&frame).network else {
            panic!("{name}")
        };
        assert_eq!(packet.operation(), arp_wire::Packet::REQUEST);
        let a = packet.ethernet_ipv4().unwrap();
        assert_eq!(a.sender_ip.octets(), [10, 0, 0, 1]);
        assert_eq!(a.target_ip.octets(), [10, 0, 0, 2]);
        assert_eq!(a.sender_mac, MacAddr([2, 0, 0, 0, 0, 1]));
    }
}

#[test]
fn snap_is_told_from_ethernet_and_from_other_llc() {
    let snap = |oui: [u8; 3], rest: &[u8]| {
        let body = [&[0xaa, 0xaa, 0x03], &oui[..], rest].concat();
        ethernet(u16::try_from(body.len()).unwrap(), &body)
    };
    let carries = |frame: &[u8]| whole(frame).link.unwrap().carries.unwrap();
    let packet = ipv4(17, 0, &[], &udp(b"x"));
    let inside = [&[0x08, 0x00], &packet[..]].concat();
    let frame = snap([0, 0, 0], &inside);
    assert_eq!(carries(&frame).ether_type(), Some(EtherType::IPV4));
    assert!(matches!(carries(&frame), Carries::Snap(_)));
    assert_eq!(whole(&frame).ports(), Some((5353, 53)));
    assert_eq!(whole(&frame).network_offset(), Some(22));

    // Cisco's numbers are no EtherTypes, whatever they look like.
    let frame = snap([0, 0, 0x0c], &inside);
    let expected = Snap {
        oui: [0, 0, 0x0c],
        protocol: 0x0800,
    };
    assert_eq!(carries(&frame), Carries::Snap(expected));
    assert_eq!(carries(&frame).ether_type(), None);
    assert_eq!(whole(&frame).network, Network::None);
    assert_eq!(fault(&frame), None);

    let frame = named("802.3 spanning tree");
    assert!(matches!(carries(&frame), Carries::Llc(llc) if llc.dsap == 0x42));
    // Longer than it is, shorter than its LLC, a length that is none.
    let cut = |frame: &[u8]| (whole(frame).link.is_some(), fault(frame));
    let truncated = (true, Some((Layer::Link, Defect::Truncated)));
    assert_eq!(cut(&ethernet(100, &[0x42, 0x42, 3])), truncated);
    assert_eq!(
        cut(&ethernet(2, &[0xaa, 0xaa, 3, 0, 0, 0, 8, 0])),
        truncated
    );
    assert_eq!(
        cut(&ethernet(5, &[0xaa, 0xaa, 3, 0, 0, 0, 8, 0])),
        truncated
    );
    assert_eq!(carries(&ethernet(1501, &[0; 46])), Carries::Undefined(1501));
    assert_eq!(carries(&ethernet(1535, &[0; 46])), Carries::Undefined(1535));
    assert_eq!(
        carries(&ethernet(1536, &[0; 46])),
        Carries::Type(EtherType(1536))
    );
}

#[test]
fn offsets_are_where_the_headers_are() {
    for (name, frame) in sound_frames() {
        let d = whole(&frame);
        let network = d.network_offset();
        match d.network {
            Network::Ipv4(ip) => assert_eq!(&frame[network.unwrap()..][..20], ip.fixed()),
            Network::Ipv6(..) => assert_eq!(frame[network.unwrap()] >> 4, 6, "{name}"),
            Network::Arp(_) => assert_eq!(frame[network.unwrap()..][..4], [0, 1, 8, 0]),
            Network::None => assert_eq!(network, None),
        }
        let transport = d.transport_offset();
        match d.transport {
            Transport::Tcp(_) => assert_eq!(frame[transport.unwrap()..], tcp_syn(), "{name}"),
            Transport::Udp(_) => assert_eq!(frame[transport.unwrap()..][..2], [0x14, 0xe9]),
            Transport::None | Transport::LaterFragment(_) => assert_eq!(transport, None),
            _ => assert_eq!(
                transport,
                network.map(|at| at + if name.contains("v6") { 40 } else { 20 })
            ),
        }
    }
}

#[test]
fn an_echo_has_an_id_and_a_number() {
    for (kind, v6, is_reply) in [
        (8, false, false),
        (0, false, true),
        (128, true, false),
        (129, true, true),
    ] {
        let message = [kind, 0, 0, 0, 0x12, 0x34, 0, 9, 1, 2, 3];
        let echo = |message: &[u8]| {
            let frame = if v6 {
                ethernet(0x86dd, &ipv6(58, message))
            } else {
                ethernet(0x0800, &ipv4(1, 0, &[], message))
            };
            whole(&frame).icmp_echo()
        };
        let expected = Echo {
            is_reply,
            id: 0x1234,
            seq: 9,
        };
        assert_eq!(echo(&message), Some(expected));
        assert_eq!(echo(&message[..7]), None, "cut before the number");
        // The other family's echo, which is no echo in this one.
        let mut other = message;
        other[0] ^= 128;
        assert_eq!(echo(&other), None);
    }
    assert_eq!(whole(&named("ipv4 tcp")).icmp_echo(), None);
}

#[test]
fn an_error_quotes_the_packet_it_is_about() {
    let error = |kind: u8, quoted: &[u8]| {
        let message = [&[kind, 0, 0, 0, 0, 0, 0, 0], quoted].concat();
        ethernet(0x0800, &ipv4(1, 0, &[], &message))
    };
    let inner = |frame: &[u8]| whole(frame).icmp_inner();
    // Eight bytes behind the header are all that RFC 792 asks for.
    let quoted = &ipv4(6, 0, &[0x94, 4, 0, 0], &tcp_syn())[..32];
    let expected = Inner {
        source: [10, 0, 0, 1].into(),
        destination: [10, 0, 0, 2].into(),
        protocol: Protocol::TCP,
        ports: Some((49152, 80)),
    };
    for kind in [3, 4, 5, 11, 12] {
        assert_eq!(inner(&error(kind, quoted)), Some(expected), "{kind}");
    }
    for kind in [0, 8, 9, 10, 13, 30] {
        assert_eq!(inner(&error(kind, quoted)), None, "{kind}");
    }
    let without_ports = Some(Inner {
        ports: None,
        ..expected
    });
    assert_eq!(inner(&error(3, &quoted[..27])), without_ports);
    let later = ipv4(6, 0x10, &[], &tcp_syn());
    assert_eq!(inner(&error(3, &later)), without_ports, "later fragment");
    assert_eq!(inner(&error(3, &quoted[..23])), None, "half a header");
    assert_eq!(inner(&error(3, &[])), None);
    assert_eq!(
        inner(&error(3, &ipv6(6, &tcp_syn()))),
        None,
        "the wrong family"
    );
}

#[test]
fn an_error_of_icmpv6_quotes_extension_headers_too() {
    let error = |kind: u8, quoted: &[u8]| {
        let message = [&[kind, 0, 0, 0, 0, 0, 0, 0], quoted].concat();
        ethernet(0x86dd, &ipv6(58, &message))
    };
    let inner = |frame: &[u8]| whole(frame).icmp_inner();
    let options = [17, 0, 1, 4, 0, 0, 0, 0];
    let quoted = ipv6(60, &[&options[..], &udp(b"question")].concat());
    let found = inner(&error(1, &quoted)).unwrap();
    assert_eq!(found.protocol, Protocol::UDP);
    assert_eq!(found.ports, Some((5353, 53)));
    assert_eq!(found.source.to_string(), "fe80::1");
    for kind in 2..=4 {
        assert_eq!(inner(&error(kind, &quoted)), Some(found));
    }
    for kind in [5, 127, 128, 135, 137] {
        assert_eq!(inner(&error(kind, &quoted)), None, "{kind}");
    }
    // Cut within the chain: what is named is what isn't there.
    let found = inner(&error(1, &quoted[..44])).unwrap();
    assert_eq!(
        (found.protocol, found.ports),
        (Protocol::DESTINATION_OPTIONS, None)
    );
}

#[test]
fn extension_headers_are_walked_to_the_transport() {
    for (name, count) in [
        ("ipv6 hop-by-hop, destination options, tcp", 2),
        ("ipv6 authentication, udp", 1),
        ("ipv6 first fragment of tcp", 1),
    ] {
        let frame = named(name);
        let d = whole(&frame);
        let Network::Ipv6(_, chain) = d.network else {
            panic!("{name}")
        };
        assert_eq!(chain.count, count, "{name}");
        assert!(d.ports().is_some(), "{name}");
    }
}

#[test]
fn a_later_fragment_has_no_ports() {
    for (name, protocol) in [
        ("ipv4 later fragment", Protocol::UDP),
        ("ipv6 later fragment", Protocol::TCP),
    ] {
        let frame = named(name);
        let d = whole(&frame);
        assert_eq!(d.transport, Transport::LaterFragment(protocol), "{name}");
        assert!(d.is_fragment(), "{name}");
    }
}

#[test]
fn an_extension_chain_without_end_is_cut_off() {
    let mut chain = Vec::new();
    for _ in 0..9 {
        chain.extend([60, 0, 1, 4, 0, 0, 0, 0]);
    }
    let frame = ethernet(0x86dd, &ipv6(60, &chain));
    assert_eq!(
        fault(&frame),
        Some((Layer::Network, Defect::TooManyExtensions))
    );
}

#[test]
fn headers_that_contradict_themselves_are_malformed() {
    let network = |defect| Some((Layer::Network, defect));
    let transport = |defect| Some((Layer::Transport, defect));
    let good = ipv4(6, 0, &[], &tcp_syn());

    let mut bad = good.clone();
    bad[0] = 0x65;
    assert_eq!(fault(&ethernet(0x0800, &bad)), network(Defect::Version));
    bad[0] = 0x44;
    assert_eq!(
        fault(&ethernet(0x0800, &bad)),
        network(Defect::HeaderLength)
    );
    let mut bad = good.clone();
    bad[2..4].copy_from_slice(&[0, 19]);
    assert_eq!(fault(&ethernet(0x0800, &bad)), network(Defect::Length));
    let mut bad = good.clone();
    bad[20 + 12] = 0x40;
    assert_eq!(
        fault(&ethernet(0x0800, &bad)),
        transport(Defect::HeaderLength)
    );
    let mut bad = udp(&[]);
    bad[5] = 7;
    assert_eq!(
        fault(&ethernet(0x0800, &ipv4(17, 0, &[], &bad))),
        transport(Defect::Length)
    );
    let mut bad = ipv6(6, &tcp_syn());
    bad[0] = 0x40;
    assert_eq!(fault(&ethernet(0x86dd, &bad)), network(Defect::Version));
    // An authentication header of less than its own fixed part can't be
    // expressed (RFC 4302 counts from 8 bytes); one that goes past the packet can.
    let bad = ipv6(51, &[6, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(fault(&ethernet(0x86dd, &bad)), network(Defect::Truncated));
}

#[test]
fn padding_behind_the_packet_is_not_read_as_payload() {
    // An empty IPv4 packet of protocol TCP, padded to 60 bytes as Ethernet does.
    let mut frame = ethernet(0x0800, &ipv4(6, 0, &[], &[]));
    frame.resize(60, 0x55);
    assert_eq!(fault(&frame), Some((Layer::Transport, Defect::Truncated)));
    let mut frame = ethernet(0x0800, &ipv4(17, 0, &[], &udp(b"x")));
    frame.resize(60, 0x55);
    assert_eq!(whole(&frame).payload.bytes(), b"x");
    assert_eq!(fault(&frame), None);
}

#[test]
fn a_packet_longer_than_its_frame_is_truncated_but_read() {
    let frame = named("ipv4 with options, udp");
    let cut = &frame[..frame.len() - 3];
    assert_eq!(fault(cut), Some((Layer::Network, Defect::Truncated)));
    assert_eq!(whole(cut).ports(), Some((5353, 53)));
}

#[test]
fn large_send_offload_leaves_lengths_to_the_adapter() {
    let mut packet = ipv4(6, 0, &[], &[&tcp_syn()[..], &[1; 60_000]].concat());
    packet[2..4].copy_from_slice(&[0, 0]);
    let frame = ethernet(0x0800, &packet);
    let d = whole(&frame);
    assert_eq!(d.fault, None);
    assert_eq!(d.payload.on_wire(), 60_000);

    let mut packet = ipv6(6, &[&tcp_syn()[..], &[1; 60_000]].concat());
    packet[4..6].copy_from_slice(&[0, 0]);
    let frame = ethernet(0x86dd, &packet);
    assert_eq!(whole(&frame).fault, None);
    assert_eq!(whole(&frame).payload.on_wire(), 60_000);
}

#[test]
fn a_snapped_frame_is_not_a_truncated_one() {
    let frame = named("ipv4 tcp");
    let len = u32::try_from(frame.len()).unwrap();
    for (slice, layer) in [
        (10, Layer::Link),
        (20, Layer::Network),
        (40, Layer::Transport),
    ] {
        let snapped = dissect(&frame[..slice], len).fault.unwrap();
        assert_eq!((snapped.layer, snapped.defect), (layer, Defect::Snapped));
        let cut = fault(&frame[..slice]).unwrap();
        assert_eq!(cut.1, Defect::Truncated);
    }
}

#[test]
fn protocols_are_counted_by_layer() {
    let mut counters = Counters::ZERO;
    for (_, frame) in sound_frames() {
        counters.protocols.count(&whole(&frame), false);
    }
    let p = counters.protocols;
    assert_eq!(p.frames, 20);
    assert_eq!((p.arp, p.ipv4, p.ipv6), (2, 8, 8));
    assert_eq!((p.tcp, p.udp, p.icmp, p.icmpv6), (6, 4, 1, 1));
    assert_eq!((p.vlan, p.ipv4_fragments, p.ipv6_fragments), (2, 2, 2));
    assert_eq!((p.truncated, p.malformed), (0, 0));
    // GRE, spanning tree, LLDP.
    assert_eq!(p.other, 3);
    let before = p.vlan;
    counters
        .protocols
        .count(&whole(&ethernet(0x0806, &arp())), true);
    assert_eq!(counters.protocols.vlan, before + 1);
}
