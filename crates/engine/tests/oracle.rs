//! The same frames read by this crate and by `etherparse`, which nobody here
//! wrote.

mod common;

use common::built::built;
use etherparse::{LinkSlice, NetSlice, SlicedPacket, TransportSlice};
use proptest::prelude::*;
use weir_engine::wire::{Network, Transport, dissect, tcp};

/// What both have to say about a frame.
#[derive(Debug, PartialEq, Eq)]
struct View {
    macs: ([u8; 6], [u8; 6]),
    tags: Vec<u16>,
    ips: Option<(std::net::IpAddr, std::net::IpAddr)>,
    hops: u8,
    transport: Seen,
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    None,
    Tcp {
        ports: (u16, u16),
        seq: u32,
        ack: u32,
        syn: bool,
        window: u16,
        options: Vec<u8>,
    },
    Udp {
        ports: (u16, u16),
    },
    Icmp {
        v6: bool,
        kind: u8,
        code: u8,
    },
}

fn ours(frame: &[u8]) -> View {
    let d = dissect(frame, u32::try_from(frame.len()).unwrap());
    assert_eq!(d.fault, None);
    let link = d.link.unwrap();
    let hops = match d.network {
        Network::Ipv4(ip) => ip.ttl(),
        Network::Ipv6(ip, _) => ip.hop_limit(),
        _ => 0,
    };
    let transport = match d.transport {
        Transport::Tcp(t) => Seen::Tcp {
            ports: (t.source_port(), t.destination_port()),
            seq: t.seq(),
            ack: t.ack(),
            syn: t.flags().has(tcp::Flags::SYN),
            window: t.window(),
            options: t.options().to_vec(),
        },
        Transport::Udp(_) => Seen::Udp {
            ports: d.ports().unwrap(),
        },
        Transport::Icmp(m) => Seen::Icmp {
            v6: false,
            kind: m.kind(),
            code: m.code(),
        },
        Transport::Icmpv6(m) => Seen::Icmp {
            v6: true,
            kind: m.kind(),
            code: m.code(),
        },
        _ => Seen::None,
    };
    View {
        macs: (link.header.source().0, link.header.destination().0),
        tags: link.tags.iter().map(|t| t.id()).collect(),
        ips: d.ip_addresses(),
        hops,
        transport,
    }
}

fn theirs(frame: &[u8]) -> View {
    let s = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(LinkSlice::Ethernet2(eth)) = &s.link else {
        panic!("{:?}", s.link)
    };
    let (ips, hops) = match &s.net {
        Some(NetSlice::Ipv4(ip)) => {
            let h = ip.header();
            (
                Some((h.source_addr().into(), h.destination_addr().into())),
                h.ttl(),
            )
        }
        Some(NetSlice::Ipv6(ip)) => {
            let h = ip.header();
            (
                Some((h.source_addr().into(), h.destination_addr().into())),
                h.hop_limit(),
            )
        }
        _ => (None, 0),
    };
    let transport = match &s.transport {
        Some(TransportSlice::Tcp(t)) => Seen::Tcp {
            ports: (t.source_port(), t.destination_port()),
            seq: t.sequence_number(),
            ack: t.acknowledgment_number(),
            syn: t.syn(),
            window: t.window_size(),
            options: t.options().to_vec(),
        },
        Some(TransportSlice::Udp(u)) => Seen::Udp {
            ports: (u.source_port(), u.destination_port()),
        },
        Some(TransportSlice::Icmpv4(m)) => Seen::Icmp {
            v6: false,
            kind: m.type_u8(),
            code: m.code_u8(),
        },
        Some(TransportSlice::Icmpv6(m)) => Seen::Icmp {
            v6: true,
            kind: m.type_u8(),
            code: m.code_u8(),
        },
        None => Seen::None,
    };
    View {
        macs: (eth.source(), eth.destination()),
        tags: s.vlan_ids().iter().map(|v| v.value()).collect(),
        ips,
        hops,
        transport,
    }
}

proptest! {
    #[test]
    fn both_see_the_same(frame in built()) {
        prop_assert_eq!(ours(&frame), theirs(&frame));
    }
}
