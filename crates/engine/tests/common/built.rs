//! Frames that `etherparse` builds, checksums and all.

use etherparse::{PacketBuilder, VlanId};
use proptest::prelude::*;

/// A frame out of `etherparse`'s builder.
pub(crate) fn built() -> impl Strategy<Value = Vec<u8>> {
    let link = (
        any::<[u8; 6]>(),
        any::<[u8; 6]>(),
        0u8..3,
        0u16..4096,
        0u16..4096,
    );
    let net = (
        any::<bool>(),
        any::<[u8; 16]>(),
        any::<[u8; 16]>(),
        any::<u8>(),
    );
    let transport = (
        0u8..3,
        any::<u16>(),
        any::<u16>(),
        any::<u32>(),
        any::<u32>(),
        any::<bool>(),
        any::<u16>(),
    );
    let payload = prop::collection::vec(any::<u8>(), 0..64);
    (link, net, transport, payload).prop_map(
        |((src, dst, tags, outer, inner), (v4, a, b, hops), t, payload)| {
            let builder = PacketBuilder::ethernet2(src, dst);
            let id = |n| VlanId::try_new(n).unwrap();
            macro_rules! finish {
                ($link:expr) => {{
                    let ip = if v4 {
                        $link.ipv4([a[0], a[1], a[2], a[3]], [b[0], b[1], b[2], b[3]], hops)
                    } else {
                        $link.ipv6(a, b, hops)
                    };
                    let mut out = Vec::new();
                    let (kind, source, destination, seq, ack, syn, window) = t;
                    match kind {
                        0 => {
                            let mut step = ip.tcp(source, destination, seq, window).ack(ack);
                            if syn {
                                step = step.syn();
                            }
                            step.options_raw(&[2, 4, 5, 180])
                                .unwrap()
                                .write(&mut out, &payload)
                        }
                        1 => ip.udp(source, destination).write(&mut out, &payload),
                        _ if v4 => ip
                            .icmpv4_echo_request(source, destination)
                            .write(&mut out, &payload),
                        _ => ip
                            .icmpv6_echo_request(source, destination)
                            .write(&mut out, &payload),
                    }
                    .unwrap();
                    out
                }};
            }
            match tags {
                0 => finish!(builder),
                1 => finish!(builder.single_vlan(id(outer))),
                _ => finish!(builder.double_vlan(id(outer), id(inner))),
            }
        },
    )
}
