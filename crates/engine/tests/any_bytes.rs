//! Any bytes, and every truncation of real frames: no panic, and what a
//! shorter piece shows, a longer one shows too.

mod common;

use common::{frames_of, sound_frames};
use proptest::prelude::*;
use weir_engine::stats::{Balance, Counters, Loss, Verdict};
use weir_engine::wire::checksum::{Check, verify};
use weir_engine::wire::{
    Defect, Dissected, HEADER_WINDOW, Network, Transport, dissect, dissect_by_layers,
};

/// Everything an accessor can give, so that none is left untried.
fn touch(d: &Dissected<'_>) -> u64 {
    let mut sum = 0u64;
    if let Some(link) = d.link {
        sum += u64::from(link.header.source().is_multicast());
        sum += u64::from(link.header.destination().is_broadcast());
        sum += u64::from(link.header.length_or_type());
        sum += link.tags.iter().map(|t| u64::from(t.id())).sum::<u64>();
    }
    match d.network {
        Network::None => {}
        Network::Arp(p) => {
            sum += u64::from(p.operation()) + u64::from(p.ethernet_ipv4().is_some());
        }
        Network::Ipv4(p) => {
            sum += u64::from(p.checksum()) + u64::from(p.dscp()) + u64::from(p.ecn());
            sum += p.options().len() as u64 + p.header_len() as u64;
            sum += u64::from(p.fragment_offset()) + u64::from(p.id());
        }
        Network::Ipv6(p, chain) => {
            sum += u64::from(p.flow_label()) + u64::from(p.traffic_class());
            sum += u64::from(p.hop_limit()) + u64::from(chain.count);
        }
    }
    match d.transport {
        Transport::Tcp(t) => {
            sum += u64::from(t.seq()) + u64::from(t.ack()) + u64::from(t.urgent());
            sum += t.options().len() as u64 + u64::from(t.checksum());
            sum += u64::from(t.parsed_options().malformed);
        }
        Transport::Udp(u) => sum += u64::from(u.checksum()),
        Transport::Icmp(m) | Transport::Icmpv6(m) => {
            sum += u64::from(m.kind()) + u64::from(m.code()) + u64::from(m.checksum());
        }
        Transport::None | Transport::LaterFragment(_) | Transport::Other(_) => {}
    }
    sum += u64::from(d.icmp_echo().is_some()) + u64::from(d.icmp_inner().is_some());
    sum + d.ip_addresses().is_some() as u64 + d.ports().is_some() as u64
}

/// Headers start where they are said to: in order, within the bytes.
fn check_offsets(d: &Dissected<'_>, bytes: &[u8]) {
    let network = d.network_offset();
    let transport = d.transport_offset();
    assert!(network.is_none_or(|at| at <= bytes.len()));
    assert!(transport.is_none_or(|at| network.unwrap() < at && at <= bytes.len()));
    assert!(d.payload.position() + d.payload.bytes().len() <= bytes.len());
    let has_sum = matches!(d.network, Network::Ipv4(_));
    assert_eq!(verify(d, bytes).network != Check::None, has_sum);
}

/// How much of a frame was recognised, for comparing pieces of one frame.
fn depth(d: &Dissected<'_>) -> (usize, u8, u8) {
    let link = d.link.map_or(0, |l| 1 + l.tags.len());
    let network = match d.network {
        Network::None => 0,
        Network::Arp(_) => 1,
        Network::Ipv4(_) => 2,
        Network::Ipv6(_, chain) => 3 + chain.count,
    };
    let transport = match d.transport {
        Transport::None => 0,
        Transport::LaterFragment(_) => 1,
        Transport::Tcp(_) => 2,
        Transport::Udp(_) => 3,
        Transport::Icmp(_) => 4,
        Transport::Icmpv6(_) => 5,
        Transport::Other(_) => 6,
    };
    (link, network, transport)
}

/// Pieces of `frame` from nothing to all of it: each layer, once seen, stays.
/// Once nothing is snapped, nothing changes any more.
fn check_pieces(frame: &[u8], name: &str) {
    let len = u32::try_from(frame.len()).unwrap();
    let all = depth(&dissect(frame, len));
    let mut before = (depth(&dissect(&[], len)), depth(&dissect(&[], 0)));
    let mut settled: Option<Dissected<'_>> = None;
    for end in 0..=frame.len() {
        let piece = &frame[..end];
        let snapped = dissect(piece, len);
        let cut = dissect(piece, u32::try_from(end).unwrap());
        for d in [&snapped, &cut] {
            touch(d);
            check_offsets(d, piece);
        }
        let now = (depth(&snapped), depth(&cut));
        for (was, is) in [(before.0, now.0), (before.1, now.1)] {
            assert!(was.0 <= is.0, "{name} at {end}: link went back");
            assert!(was.1 <= is.1, "{name} at {end}: network went back");
            assert!(
                was.2 == 0 || was.2 == is.2,
                "{name} at {end}: transport changed"
            );
            assert!(is.2 == 0 || is.2 == all.2, "{name} at {end}: transport");
        }
        if let Some(earlier) = settled {
            assert_eq!(depth(&earlier), depth(&snapped), "{name} at {end}");
            assert_eq!(earlier.fault, snapped.fault, "{name} at {end}");
        }
        // A packet that claims more than its frame holds is read on, so the
        // slice may still end before its headers do.
        let reads_on = snapped
            .fault
            .is_some_and(|f| matches!(f.defect, Defect::Snapped | Defect::Truncated));
        if !reads_on && settled.is_none() {
            settled = Some(snapped);
        }
        before = now;
    }
    let whole = dissect(frame, len).fault;
    assert_ne!(whole.map(|f| f.defect), Some(Defect::Snapped), "{name}");
}

#[test]
fn every_truncation_of_sound_frames() {
    for (name, frame) in sound_frames() {
        check_pieces(&frame, name);
    }
}

/// Random bytes that get past the first checks: a sound frame with some bytes
/// overwritten.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let frames: Vec<Vec<u8>> = sound_frames().into_iter().map(|(_, f)| f).collect();
    let wounds = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    (prop::sample::select(frames), wounds).prop_map(|(mut frame, wounds)| {
        for (at, byte) in wounds {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        frame
    })
}

/// The shortcut for the usual frames says what the way layer by layer says.
fn check_shortcut(bytes: &[u8], len: u32) {
    assert_eq!(dissect(bytes, len), dissect_by_layers(bytes, len));
}

#[test]
fn the_shortcut_says_the_same_of_captured_frames() {
    for name in ["mixed.pcap", "odd.pcap"] {
        for frame in &frames_of(name) {
            let len = u32::try_from(frame.len()).unwrap();
            let step = if cfg!(miri) { 7 } else { 1 };
            for end in (0..frame.len().min(96)).step_by(step).chain([frame.len()]) {
                let piece = &frame[..end];
                check_shortcut(piece, len);
                check_shortcut(piece, u32::try_from(end).unwrap());
            }
        }
    }
}

proptest! {
    #[test]
    fn the_shortcut_says_the_same_of_damaged_frames(
        frame in damaged(),
        piece in any::<prop::sample::Index>(),
        more in prop_oneof![Just(0u32), 0u32..64, any::<u32>()],
    ) {
        let len = u32::try_from(frame.len()).unwrap();
        for len in [len, len.wrapping_add(more), len.saturating_sub(more)] {
            check_shortcut(&frame, len);
            check_shortcut(&frame[..piece.index(frame.len())], len);
        }
    }

    #[test]
    fn any_bytes_and_any_length(bytes in prop::collection::vec(any::<u8>(), 0..=HEADER_WINDOW), len in any::<u32>()) {
        let d = dissect(&bytes, len);
        touch(&d);
        check_offsets(&d, &bytes);
    }

    #[test]
    fn pieces_of_random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        check_pieces(&bytes, "random");
    }

    #[test]
    fn pieces_of_damaged_frames(frame in damaged()) {
        check_pieces(&frame, "damaged");
    }

    #[test]
    fn each_frame_is_counted_once_and_explained(frame in damaged(), len in 0u32..70_000) {
        let mut counters = Counters::ZERO;
        let d = dissect(&frame, len);
        counters.protocols.count(&d, false);
        let p = counters.protocols;
        prop_assert_eq!(p.frames, 1);
        prop_assert!(p.arp + p.ipv4 + p.ipv6 <= 1);
        prop_assert!(p.tcp + p.udp + p.icmp + p.icmpv6 <= 1);
        // A frame with no counter of its own says why.
        let faults = p.truncated + p.malformed + p.other;
        prop_assert!(faults <= 1);
        prop_assert_eq!(d.fault.is_some() && faults == 0, false);
        prop_assert!(p.arp + p.ipv4 + p.ipv6 + faults >= 1);
    }

    #[test]
    fn the_balance_is_closed_when_each_frame_has_one_verdict(
        frames in prop::collection::vec((0usize..6, 0u32..65_536), 0..64),
        forgotten in any::<bool>(),
    ) {
        let verdicts = [
            Verdict::Pass,
            Verdict::Drop,
            Verdict::Divert,
            Verdict::Lost(Loss::Paused),
            Verdict::Lost(Loss::Resources),
            Verdict::Lost(Loss::Other),
        ];
        let mut balance = Balance::default();
        for &(verdict, len) in &frames {
            balance.see(len);
            balance.enter(verdicts[verdict], len);
        }
        prop_assert!(balance.is_closed());
        prop_assert_eq!(balance.seen, frames.len() as u64);
        let passed: u64 = frames.iter().filter(|f| f.0 == 0).map(|f| u64::from(f.1)).sum();
        prop_assert_eq!(balance.passed_bytes, passed);
        if forgotten {
            balance.see(60);
            prop_assert!(!balance.is_closed());
        } else {
            balance.enter(Verdict::Drop, 60);
            prop_assert!(!balance.is_closed());
        }
    }
}

#[test]
fn merging_cells_adds_them_up() {
    let frame = &sound_frames()[1].1;
    let len = u32::try_from(frame.len()).unwrap();
    let mut total = Counters::ZERO;
    for verdict in [Verdict::Pass, Verdict::Lost(Loss::Paused)] {
        let mut cell = Counters::ZERO;
        cell.balance.see(len);
        cell.balance.enter(verdict, len);
        cell.protocols.count(&dissect(frame, len), false);
        total.merge(&cell);
    }
    assert!(total.balance.is_closed());
    assert_eq!(
        (
            total.balance.seen,
            total.balance.passed,
            total.balance.lost()
        ),
        (2, 1, 1)
    );
    assert_eq!(total.balance.seen_bytes, 2 * u64::from(len));
    assert_eq!((total.protocols.tcp, total.protocols.frames), (2, 2));
}
