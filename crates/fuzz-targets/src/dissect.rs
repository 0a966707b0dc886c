use weir_engine::stats::Protocols;
use weir_engine::wire::checksum::{Check, Sum, verify, verify_runs};
use weir_engine::wire::{
    Defect, Dissected, Network, Transport, dissect as read, dissect_by_layers,
};

use crate::bytes::Bytes;

/// A frame: its length beside the bytes first, in 32 bits that say by how many
/// bytes it differs, then where to cut it, then the bytes.
pub fn dissect(input: &[u8]) {
    let mut from = Bytes::new(input);
    let more = from.u32();
    let cut = usize::from(from.u8());
    let bytes = from.rest();
    let have = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    for len in [
        have,
        have.wrapping_add(more),
        have.saturating_sub(more & 0xff),
    ] {
        let whole = read(bytes, len);
        check(&whole, bytes, len);
        let short = bytes.get(..cut).unwrap_or(bytes);
        let snapped = read(short, len);
        check(&snapped, short, len);
        shows_no_other(&snapped, &whole);
    }
}

/// A piece of a frame shows what the frame shows, or less.
pub(crate) fn shows_no_other(piece: &Dissected<'_>, whole: &Dissected<'_>) {
    if let Some(link) = piece.link {
        let other = whole.link.expect("a longer piece has a link layer too");
        assert_eq!(link.header, other.header);
        assert!(link.tags.len() <= other.tags.len());
        assert!(link.tags.iter().zip(other.tags.iter()).all(|(a, b)| a == b));
    }
    match (&piece.network, &whole.network) {
        (Network::None, _) => {}
        (Network::Ipv6(a, chain), Network::Ipv6(b, longer)) => {
            assert_eq!(a, b);
            assert!(chain.count <= longer.count);
        }
        (a, b) => assert_eq!(a, b),
    }
    if piece.transport != Transport::None {
        assert_eq!(piece.transport, whole.transport);
        assert_eq!(piece.transport_offset(), whole.transport_offset());
        assert!(piece.icmp_inner().is_none() || whole.icmp_inner().is_some());
    }
    // Only what is missing makes a difference.
    if piece.fault.is_none() {
        assert_eq!(whole.fault, None);
    }
}

fn check(frame: &Dissected<'_>, bytes: &[u8], len: u32) {
    assert_eq!(*frame, dissect_by_layers(bytes, len));
    let len = usize::try_from(len).expect("a length");
    let network = frame.network_offset();
    let transport = frame.transport_offset();
    assert!(network.is_none_or(|at| at <= bytes.len().min(len)));
    assert!(transport.is_none_or(|at| network.is_some_and(|n| n < at) && at <= bytes.len()));
    assert!(frame.payload.position() + frame.payload.bytes().len() <= bytes.len());
    assert!(frame.payload.position() + frame.payload.on_wire() <= len);
    assert!(frame.payload.bytes().len() <= frame.payload.on_wire());
    if bytes.len() >= len {
        assert_ne!(frame.fault.map(|f| f.defect), Some(Defect::Snapped));
    }
    if let Transport::Tcp(tcp) = &frame.transport {
        let options = tcp.parsed_options();
        assert!(options.window_scale.is_none_or(|shift| shift <= 14));
        assert!(options.sack.iter().count() == options.sack.len());
    }
    let _ = (frame.icmp_echo(), frame.icmp_inner());
    let mut counted = Protocols::default();
    counted.count(frame, false);
    checksums(frame, bytes, &mut counted);
    assert_eq!(counted.frames, 1);
    assert!(counted.arp + counted.ipv4 + counted.ipv6 <= 1);
    assert!(counted.tcp + counted.udp + counted.icmp + counted.icmpv6 <= 1);
    assert!(counted.truncated + counted.malformed + counted.other <= 1);
}

/// However the frame is split, its checksums are the same.
fn checksums(frame: &Dissected<'_>, bytes: &[u8], counted: &mut Protocols) {
    let checks = verify(frame, bytes);
    counted.count_checksums(checks);
    assert_eq!(checks.network != Check::None, counted.ipv4 == 1);
    let in_threes = verify_runs(frame, bytes, |start, len, sum| {
        let Some(packet) = bytes.get(start..start.saturating_add(len)) else {
            return false;
        };
        packet.chunks(3).for_each(|run| sum.add(run));
        let mut at_once = Sum::new();
        at_once.add(packet);
        let plain = packet.chunks(2).fold(0u64, |sum, word| {
            sum + (u64::from(word[0]) << 8) + u64::from(*word.get(1).unwrap_or(&0))
        });
        // Sums that differ by a multiple of 0xffff are one sum.
        assert_eq!(u64::from(at_once.value()) % 0xffff, plain % 0xffff);
        true
    });
    assert_eq!(in_threes, checks);
}
