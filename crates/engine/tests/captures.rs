//! The committed captures, frame by frame: real traffic of two stacks, and odd
//! frames made one by one.
//!
//! Of the real traffic `tshark` 4.0 is the judge. The numbers are those of
//! ```text
//! tshark -o ip.defragment:FALSE -o ipv6.defragment:FALSE -r FILE -T fields -e frame.protocols
//! ```
//! counting for each frame the first network layer and the first transport
//! after it, and of the display filters `ip.flags.mf==1||ip.frag_offset>0` and
//! `ipv6.fraghdr`. A capture that is made anew needs new numbers.
//!
//! Of the odd frames, whose headers lie or are cut, `tshark` names layers whose
//! header isn't there; their numbers follow from the script that makes them,
//! one by one as the comment lists them.

mod common;

use common::{UNDER_MIRI, frames_of as frames};
use weir_engine::stats::Protocols;
use weir_engine::wire::{HEADER_WINDOW, dissect};

/// Counts as the driver does: a window of each frame's first bytes, its length.
fn count(frames: &[Vec<u8>]) -> Protocols {
    let mut counted = Protocols::default();
    for frame in frames {
        let window = &frame[..frame.len().min(HEADER_WINDOW)];
        let len = u32::try_from(frame.len()).unwrap();
        counted.count(&dissect(window, len), false);
    }
    counted
}

#[test]
fn real_traffic_is_counted_as_tshark_counts_it() {
    let expected = Protocols {
        frames: 5429,
        vlan: 0,
        arp: 5,
        ipv4: 3329,
        ipv6: 2095,
        icmp: 226,
        icmpv6: 164,
        udp: 2148,
        tcp: 2806,
        ipv4_fragments: 60,
        ipv6_fragments: 60,
        truncated: 0,
        malformed: 0,
        other: 0,
        bad_network_checksum: 0,
        bad_transport_checksum: 0,
    };
    let counted = count(&frames("mixed.pcap"));
    if cfg!(miri) {
        assert_eq!(counted.frames, UNDER_MIRI as u64);
        assert_eq!(counted.malformed + counted.truncated, 0);
        return;
    }
    assert_eq!(counted, expected);
}

#[test]
fn odd_frames_are_counted_as_what_they_are() {
    let expected = Protocols {
        frames: 36,
        vlan: 3,
        arp: 2,
        ipv4: 16,
        ipv6: 9,
        icmp: 1,
        icmpv6: 3,
        udp: 10,
        tcp: 5,
        ipv4_fragments: 2,
        ipv6_fragments: 2,
        // A tag with nothing behind it, half an ARP, a total length of 9000,
        // half an IPv6 header, half a TCP header, a UDP length of 60000, a runt.
        truncated: 7,
        // IHL 4, version 6 in IPv4's type, data offset 3.
        malformed: 3,
        // Spanning tree, IPv4 with protocol 0, IPv6 with next header 253, LLDP,
        // Ethernet loopback.
        other: 5,
        bad_network_checksum: 0,
        bad_transport_checksum: 0,
    };
    assert_eq!(count(&frames("odd.pcap")), expected);
}

/// Cutting a frame short never adds a layer, whatever is cut.
#[test]
fn every_prefix_of_every_odd_frame_shows_no_more_than_the_frame() {
    for frame in frames("odd.pcap") {
        let whole = count(std::slice::from_ref(&frame));
        for end in 0..frame.len().min(HEADER_WINDOW) {
            let cut = count(&[frame[..end].to_vec()]);
            for (short, long, what) in [
                (cut.arp, whole.arp, "arp"),
                (cut.ipv4, whole.ipv4, "ipv4"),
                (cut.ipv6, whole.ipv6, "ipv6"),
                (cut.icmp, whole.icmp, "icmp"),
                (cut.icmpv6, whole.icmpv6, "icmpv6"),
                (cut.udp, whole.udp, "udp"),
                (cut.tcp, whole.tcp, "tcp"),
                (cut.vlan, whole.vlan, "vlan"),
            ] {
                assert!(short <= long, "{what} at {end} of {frame:02x?}");
            }
        }
    }
}
