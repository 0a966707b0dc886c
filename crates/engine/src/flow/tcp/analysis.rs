//! What a segment is, by the state of both directions: Wireshark's conditions
//! (docs/tcp-analysis.md), one by one and in its order.

use super::{Segment, after, bits};
use crate::flow::TcpTags;
use crate::flow::slot::{OTHER_SHIFT, Side, Slot};
use crate::flow::tcp::fold;
use crate::flow::time::{Age, Short};
use crate::wire::tcp::Flags;

/// A fast retransmission comes so soon after the last duplicate ACK: 20 ms.
const FAST: u64 = 200_000;
/// A segment out of order comes so soon after the one it should have come
/// before, while the initial round trip isn't known: 3 ms.
const DISORDER: u64 = 30_000;
/// What a sender may have sent that was not seen here: 1 GiB.
const UNSEEN: u64 = 1 << 30;
/// Bits of a time below which ages of [`Side::next_seq_age`] don't go, while the
/// initial round trip isn't known: units of 1.6 µs, 105 ms at most.
const UNKNOWN_SHIFT: u32 = 4;

/// Units of `next_seq_age`, by the initial round trip: it is 2^14 to 2^15 of
/// them at least, so it is told from others to its four thousandth part.
#[inline]
fn age_shift(initial_rtt: Short) -> u32 {
    match initial_rtt.known() {
        None => UNKNOWN_SHIFT,
        Some(span) => u64::BITS
            .saturating_sub(span.leading_zeros())
            .saturating_sub(15),
    }
}

/// What [`analyse`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::flow) struct Verdict {
    pub(in crate::flow) tags: TcpTags,
    /// It carries something that was not sent before.
    pub(in crate::flow) is_new_data: bool,
}

/// Whether a SYN begins another connection than this one, in which its sender's
/// sequence numbers began elsewhere.
///
/// Eight bits of the first sequence number are kept. Those of a retransmitted
/// SYN agree, and it lies not much further behind than what was seen to be sent
/// since. Two connections are taken for one once in a thousand
/// times.
pub(in crate::flow) fn is_other_connection(slot: &Slot, second: bool, seq: u32, sent: u64) -> bool {
    let side = slot.side(second);
    let [a, b] = slot.base;
    let base = if second { b } else { a };
    if !side.has(bits::BASE_KNOWN) {
        return false;
    }
    if fold(seq) != base {
        return true;
    }
    let behind = u64::from(side.next_seq.wrapping_sub(seq));
    side.next_seq != 0 && behind > sent.saturating_add(UNSEEN)
}

/// Notes the sequence numbers that the ends begin with, where this segment is
/// the first that tells. (A segment without SYN tells the number after it.)
fn note_base(slot: &mut Slot, second: bool, segment: &Segment, is_other: bool) {
    let [a, b] = &mut slot.sides;
    let [base_a, base_b] = &mut slot.base;
    let (fwd, rev, fwd_base, rev_base) = if second {
        (b, a, base_b, base_a)
    } else {
        (a, b, base_a, base_b)
    };
    if is_other || !fwd.has(bits::BASE_KNOWN) {
        let is_syn = segment.any(Flags::SYN);
        *fwd_base = fold(segment.seq.wrapping_sub(u32::from(!is_syn)));
        fwd.put(bits::BASE_KNOWN, true);
    }
    if segment.any(Flags::ACK) && !rev.has(bits::BASE_KNOWN) {
        *rev_base = fold(segment.ack.wrapping_sub(1));
        rev.put(bits::BASE_KNOWN, true);
    }
}

/// Analyses a segment from one end and remembers it. `last`, `now`: times of the
/// flow's frame before, and of this or, if it is older (`backwards`), the same. `other_age`: age of the other end's last
/// frame. `reused`: what the flow's first segment has, when it follows another
/// connection with the same key.
pub(in crate::flow) fn analyse(
    slot: &mut Slot,
    second: bool,
    segment: &Segment,
    (last, now, backwards): (u64, u64, bool),
    other_age: Age,
    reused: TcpTags,
) -> Verdict {
    let mut tags = reused;
    let opening = segment.is_opening();
    let mut is_other = false;
    if segment.any(Flags::SYN) {
        let side = slot.side(second);
        // What it sent since cannot be less than its sequence numbers went.
        let sent = u64::from(side.bytes).max(if slot.is_spilled() { u64::MAX } else { 0 });
        is_other = is_other_connection(slot, second, segment.seq, sent);
        let known = side.has(bits::BASE_KNOWN);
        let (fwd, _) = slot.split(second);
        if opening && known && !is_other {
            // A RST between may have moved it to the ACK it answered.
            fwd.next_seq = fwd.contiguous;
        }
        if segment.is_syn_ack() && is_other {
            tags |= TcpTags::REUSED_PORTS;
        }
    }
    note_base(slot, second, segment, is_other);

    let initial_rtt = Short(slot.initial_rtt);
    let shift = age_shift(initial_rtt);
    let (fwd, rev) = slot.split(second);
    let span = Age::between(last, now, shift);
    fwd.next_seq_age = Age(fwd.next_seq_age).plus(span).0;
    rev.next_seq_age = Age(rev.next_seq_age).plus(span).0;

    tags |= of_windows_and_acks(fwd, rev, segment);
    tags |= of_lost_acks(rev, segment);
    let disorder = initial_rtt.known().unwrap_or(DISORDER);
    // Of a frame older than the one before nobody can say how soon it came.
    let in_disorder = !backwards && Age(fwd.next_seq_age).is_less_than(disorder, shift);
    let soon = !backwards && other_age.is_less_than(FAST, OTHER_SHIFT);
    tags |= of_retransmissions(fwd, rev, segment, tags, in_disorder, soon);

    let is_new_data = remember(fwd, segment, tags);
    if segment.any(Flags::SYN) {
        note_scale(slot, second, segment);
    }
    note_handshake(slot, second, segment, now, shift);
    Verdict { tags, is_new_data }
}

/// Zero windows and their probes, gaps, keep-alives, window updates, full
/// windows, duplicate ACKs.
#[inline]
fn of_windows_and_acks(fwd: &mut Side, rev: &Side, segment: &Segment) -> TcpTags {
    let Segment { seq, ack, len, .. } = *segment;
    let window = segment.window;
    let control = segment.any(Flags::SYN | Flags::FIN | Flags::RST);
    let mut tags = TcpTags::empty();

    if len == 1 && seq == fwd.next_seq && rev.has(bits::WINDOW_KNOWN) && rev.window == 0 {
        return forget_duplicates(fwd, ack, TcpTags::ZERO_WINDOW_PROBE);
    }
    if window == 0 && !control {
        tags |= TcpTags::ZERO_WINDOW;
    }
    if fwd.next_seq != 0 && after(seq, fwd.next_seq) && !segment.any(Flags::RST) {
        tags |= TcpTags::LOST_SEGMENT;
    }
    if len <= 1 && seq == fwd.next_seq.wrapping_sub(1) && !control {
        tags |= TcpTags::KEEP_ALIVE;
    }
    if len > 0
        && !control
        && let Some(shift) = rev.window_shift()
        // Before its first segment, a window of 2^32 - 1.
        && rev.has(bits::WINDOW_KNOWN)
        && seq.wrapping_add(len) == rev.last_ack.wrapping_add(u32::from(rev.window) << shift)
    {
        tags |= TcpTags::WINDOW_FULL;
    }

    let repeats = len == 0 && seq == fwd.next_seq && ack == fwd.last_ack && !control;
    if repeats {
        let same_window = fwd.has(bits::WINDOW_KNOWN) && window == fwd.window;
        if window != 0 && !same_window {
            tags |= TcpTags::WINDOW_UPDATE;
        } else if window != 0 && rev.has(bits::KEPT_ALIVE) {
            tags |= TcpTags::KEEP_ALIVE_ACK;
        } else if window == 0 && same_window && rev.has(bits::PROBED) {
            tags |= TcpTags::ZERO_WINDOW_PROBE_ACK;
        } else if window != 0 {
            tags |= TcpTags::DUPLICATE_ACK;
            let so_far = fwd.duplicates();
            fwd.set_duplicates(match so_far {
                0 | bits::ACKED_UNSEEN => bits::ONE_DUPLICATE,
                _ => bits::MANY_DUPLICATES,
            });
        }
    }
    forget_duplicates(fwd, ack, tags)
}

#[inline]
fn forget_duplicates(fwd: &mut Side, ack: u32, tags: TcpTags) -> TcpTags {
    if ack != fwd.last_ack {
        fwd.set_duplicates(0);
    }
    tags
}

/// Acknowledgments of what was not seen: one tag for each gap.
#[inline]
fn of_lost_acks(rev: &mut Side, segment: &Segment) -> TcpTags {
    if rev.contiguous == 0 || !after(segment.ack, rev.contiguous) || !segment.any(Flags::ACK) {
        return TcpTags::empty();
    }
    if after(rev.next_seq, rev.contiguous) {
        rev.contiguous = rev.next_seq;
        return TcpTags::ACK_LOST_SEGMENT;
    }
    let first = rev.duplicates() == 0;
    rev.set_duplicates(bits::ACKED_UNSEEN);
    if first {
        TcpTags::ACK_LOST_SEGMENT
    } else {
        TcpTags::empty()
    }
}

/// Retransmissions of the three kinds, and segments out of order.
#[inline]
fn of_retransmissions(
    fwd: &Side,
    rev: &Side,
    segment: &Segment,
    tags: TcpTags,
    in_disorder: bool,
    soon: bool,
) -> TcpTags {
    let Segment { seq, len, .. } = *segment;
    if len == 0 && !segment.any(Flags::SYN | Flags::FIN) || tags.contains(TcpTags::KEEP_ALIVE) {
        return TcpTags::empty();
    }
    let behind = fwd.next_seq != 0
        && after(fwd.next_seq, seq)
        // More than a byte that begins at the last one: the zero window probe's
        // byte again, with more.
        && !(len > 1 && seq == fwd.next_seq.wrapping_sub(1));
    if len > 0 && rev.last_ack != 0 && !after(seq.wrapping_add(len), rev.last_ack) {
        return TcpTags::SPURIOUS_RETRANSMISSION | TcpTags::RETRANSMISSION;
    }
    if !behind {
        return TcpTags::empty();
    }
    // More than two are as good as two; so is an ACK of what was not seen.
    let asked = rev.duplicates() >= bits::MANY_DUPLICATES && rev.last_ack == seq;
    if asked && soon {
        return TcpTags::FAST_RETRANSMISSION | TcpTags::RETRANSMISSION;
    }
    if in_disorder && fwd.next_seq != segment.end() {
        return TcpTags::OUT_OF_ORDER;
    }
    TcpTags::RETRANSMISSION
}

/// Moves the direction's state on by the segment. Whether it reached further
/// than all before.
#[inline]
fn remember(fwd: &mut Side, segment: &Segment, tags: TcpTags) -> bool {
    let end = segment.end();
    // A zero window probe's byte was not accepted: the next data repeats it.
    let probe = tags.contains(TcpTags::ZERO_WINDOW_PROBE);
    let known = fwd.next_seq != 0;
    let advances = !probe && (!known || after(end, fwd.next_seq));
    if advances {
        fwd.next_seq = end;
        fwd.next_seq_age = 0;
    }
    if !probe && (segment.seq == fwd.contiguous || fwd.contiguous == 0) {
        fwd.contiguous = fwd.next_seq;
    }
    fwd.window = segment.window;
    fwd.last_ack = segment.ack;
    fwd.put(bits::WINDOW_KNOWN, true);
    fwd.put(bits::KEPT_ALIVE, tags.contains(TcpTags::KEEP_ALIVE));
    fwd.put(bits::PROBED, probe);
    advances && segment.len > 0
}

/// Window scaling: both ends' SYN must have the option.
fn note_scale(slot: &mut Slot, second: bool, segment: &Segment) {
    let (fwd, rev) = slot.split(second);
    fwd.put(bits::UNSCALED_YET, true);
    let Some(scale) = segment.window_scale else {
        return;
    };
    if scale.is_some() {
        fwd.set_scale(scale);
    }
    if !fwd.has(bits::SCALE_KNOWN) {
        fwd.set_scale(None);
        rev.set_scale(None);
    } else if segment.is_syn_ack() && rev.is_unscaled() {
        fwd.set_scale(None);
    }
}

/// The initial round trip: from the last SYN to the first segment with ACK and
/// without SYN.
fn note_handshake(slot: &mut Slot, second: bool, segment: &Segment, now: u64, shift: u32) {
    if segment.is_opening() && slot.initial_rtt == 0 {
        slot.set_syn_time(Some(now as u32));
    }
    if !segment.any(Flags::ACK) || segment.any(Flags::SYN) {
        return;
    }
    let (fwd, _) = slot.split(second);
    fwd.put(bits::UNSCALED_YET, false);
    let Some(then) = slot.syn_time() else { return };
    // Rounded down: what is asked for after one round trip, and comes a moment
    // later than another, is a retransmission and not out of order.
    let span = Short::floor(u64::from((now as u32).wrapping_sub(then)));
    if span.known().is_none() {
        return;
    }
    slot.set_syn_time(None);
    slot.initial_rtt = span.0;
    for side in &mut slot.sides {
        let age = Age(side.next_seq_age);
        side.next_seq_age = age.rescaled(shift, age_shift(span)).0;
    }
}
