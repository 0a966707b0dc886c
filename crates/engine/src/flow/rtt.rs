//! Segments whose acknowledgment is waited for, to see how long it takes.
//!
//! One segment of a direction is timed at once, as in RFC 6298 section 3, and
//! none that was sent again (Karn's algorithm, the same section). There are
//! fewer timers than flows: a flow that finds its timer taken goes without a
//! measurement until it is free, or has been waited for too long.

use super::TcpTags;
use super::slot::Slot;
use super::tcp::analysis::Verdict;
use super::tcp::{Segment, bits};
use super::time::{SECOND, Short};
use crate::wire::tcp::Flags;

/// Words of a timer: slot and end that it is for, + 1 (0 is free); the sequence
/// number whose acknowledgment is waited for; when it was sent.
const WORDS: usize = 3;

/// A timer that was not stopped for so long may be taken by another flow.
const TAKEN: u64 = 4 * SECOND;

/// What takes longer is no round trip.
const LONGEST: u64 = 120 * SECOND;

/// Stops the timer that a segment acknowledges, and begins to time the segment
/// if it is fit for it. It was analysed just before.
#[inline]
pub(super) fn note<'a>(
    entry: &mut Slot,
    words: impl FnOnce() -> &'a mut [u32],
    slot: u32,
    second: bool,
    segment: &Segment,
    verdict: &Verdict,
    now: u64,
) {
    // Until the handshake is done, its time is where the results would go.
    if entry.syn_time().is_some() {
        return;
    }
    let (fwd, rev) = entry.split(second);
    let acks = rev.has(bits::TIMED) && segment.any(Flags::ACK);
    let again = TcpTags::RETRANSMISSION.union(TcpTags::OUT_OF_ORDER);
    let again = verdict.tags.intersects(again);
    let cancels = again && fwd.has(bits::TIMED);
    let starts =
        !again && verdict.is_new_data && !fwd.has(bits::TIMED) && fwd.contiguous == fwd.next_seq;
    if !(acks || cancels || starts) {
        return;
    }
    let words = words();
    if acks {
        let timed = stop(words, slot, !second, segment.ack, now);
        if let Timed::Took(took) = timed
            && took <= LONGEST
        {
            rev.rtt = smooth(Short(rev.rtt), took).0;
        }
        rev.put(bits::TIMED, timed == Timed::NotYet);
    }
    if cancels {
        cancel(words, slot, second);
        fwd.put(bits::TIMED, false);
    }
    if starts {
        let started = start(words, slot, second, fwd.next_seq, now);
        fwd.put(bits::TIMED, started);
    }
}

fn timers(slots: usize) -> usize {
    slots.clamp(16, 4096).next_power_of_two()
}

pub(super) fn words(slots: usize) -> usize {
    timers(slots).saturating_mul(WORDS)
}

fn owner(slot: u32, second: bool) -> u32 {
    (slot << 1 | u32::from(second)).wrapping_add(1)
}

fn timer(words: &mut [u32], slot: u32, second: bool) -> Option<&mut [u32; WORDS]> {
    let (timers, _) = words.as_chunks_mut::<WORDS>();
    let mask = timers.len().wrapping_sub(1);
    timers.get_mut((slot << 1 | u32::from(second)) as usize & mask)
}

/// Times are kept in 32 bits: seven minutes.
fn since(then: u32, now: u64) -> u64 {
    u64::from((now as u32).wrapping_sub(then))
}

/// Begins to time the segment that ends at `end`. False: no timer is free.
fn start(words: &mut [u32], slot: u32, second: bool, end: u32, now: u64) -> bool {
    let Some(timer) = timer(words, slot, second) else {
        return false;
    };
    let [held_by, _, at] = *timer;
    if held_by != 0 && held_by != owner(slot, second) && since(at, now) < TAKEN {
        return false;
    }
    *timer = [owner(slot, second), end, now as u32];
    true
}

/// What a timer says when an acknowledgment came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timed {
    /// Not this segment's.
    NotYet,
    /// So long it took.
    Took(u64),
    /// Somebody else took the timer.
    Gone,
}

/// Stops the timer if `ack` acknowledges what is timed.
fn stop(words: &mut [u32], slot: u32, second: bool, ack: u32, now: u64) -> Timed {
    let Some(timer) = timer(words, slot, second) else {
        return Timed::Gone;
    };
    let [held_by, end, at] = *timer;
    if held_by != owner(slot, second) {
        return Timed::Gone;
    }
    if (ack.wrapping_sub(end) as i32) < 0 {
        return Timed::NotYet;
    }
    *timer = [0; WORDS];
    Timed::Took(since(at, now))
}

/// Gives the timer back.
pub(super) fn cancel(words: &mut [u32], slot: u32, second: bool) {
    if let Some(timer) = timer(words, slot, second)
        && *timer.first_chunk::<1>().unwrap_or(&[0]) == [owner(slot, second)]
    {
        *timer = [0; WORDS];
    }
}

/// The first measurement as it is, then an eighth of the difference for each:
/// RFC 6298 section 2.
fn smooth(so_far: Short, took: u64) -> Short {
    match so_far.known() {
        // Less than 100 ns cannot be told from unknown.
        None => Short::new(took.max(1)),
        Some(srtt) => {
            let seven = srtt.saturating_mul(7).saturating_add(4);
            Short::new((seven.saturating_add(took) >> 3).max(1))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{SECOND, Short, TAKEN, Timed, cancel, smooth, start, stop, words};
    extern crate std;
    use std::vec;

    #[test]
    fn a_segment_is_timed_until_it_is_acknowledged() {
        let mut memory = vec![0; words(100)];
        assert!(start(&mut memory, 5, true, 0xffff_fff0, 1000));
        assert_eq!(stop(&mut memory, 5, false, 0, 1500), Timed::Gone);
        assert_eq!(stop(&mut memory, 5, true, 0xffff_ff00, 1500), Timed::NotYet);
        assert_eq!(stop(&mut memory, 5, true, 0x10, 1500), Timed::Took(500));
        assert_eq!(stop(&mut memory, 5, true, 0x10, 1600), Timed::Gone);
    }

    #[test]
    fn a_timer_is_shared_but_not_torn_away() {
        let mut memory = vec![0; words(1)];
        let (mine, other) = (1, 1 + 8);
        assert!(start(&mut memory, mine, false, 100, 0));
        assert!(!start(&mut memory, other, false, 7, SECOND));
        cancel(&mut memory, other, false);
        assert_eq!(stop(&mut memory, mine, false, 99, SECOND), Timed::NotYet);
        assert!(start(&mut memory, other, false, 7, TAKEN));
        assert_eq!(stop(&mut memory, mine, false, 100, TAKEN), Timed::Gone);
        cancel(&mut memory, other, false);
        assert!(start(&mut memory, mine, false, 100, TAKEN));
    }

    #[test]
    fn smoothing_converges_to_what_is_measured() {
        let mut srtt = smooth(Short(0), 8000);
        assert_eq!(srtt.span(), 8000);
        srtt = smooth(srtt, 16_000);
        assert_eq!(srtt.span(), 9000);
        for _ in 0..100 {
            srtt = smooth(srtt, 16_000);
        }
        assert!(srtt.span().abs_diff(16_000) < 50, "{srtt:?}");
        assert_eq!(smooth(Short(0), 0), Short(1));
    }
}
