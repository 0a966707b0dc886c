//! Counters that outgrew their 32 bits. Few flows get so far: there is room for
//! one in sixty-four. Where there is none, the count stays at 2^32 - 1.

use super::Sent;
use super::slot::Slot;

/// Words of an entry: slot + 1 (0 is free), then for each end what goes on top
/// of its packets (low half) and of its bytes (high half).
const WORDS: usize = 3;
/// Places that a flow may have.
const TRIES: usize = 8;

fn places(slots: usize) -> usize {
    (slots >> 6).max(TRIES).next_power_of_two()
}

pub(super) fn words(slots: usize) -> usize {
    places(slots).saturating_mul(WORDS)
}

/// Which of an end's counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Count {
    Packets,
    Bytes,
}

/// Place of `slot`'s entry, or of a free one if there is none.
fn place(entries: &[[u32; WORDS]], slot: u32) -> Option<usize> {
    let mask = entries.len().wrapping_sub(1);
    let tries = || (0..TRIES).map(|n| (slot as usize).wrapping_add(n) & mask);
    let owner = |at: usize| entries.get(at).map(|[owner, ..]| *owner);
    tries()
        .find(|at| owner(*at) == Some(slot.wrapping_add(1)))
        .or_else(|| tries().find(|at| owner(*at) == Some(0)))
}

/// Counts a frame of `len` bytes whose count, or whose bytes, don't fit.
#[cold]
pub(super) fn count(entry: &mut Slot, words: &mut [u32], slot: u32, second: bool, len: u32) {
    let (side, _) = entry.split(second);
    let mut spilled = false;
    for (low, add, count) in [
        (&mut side.packets, 1, Count::Packets),
        (&mut side.bytes, len, Count::Bytes),
    ] {
        let (sum, over) = low.overflowing_add(add);
        if !over {
            *low = sum;
        } else if carry(words, slot, second, count) {
            *low = sum;
            spilled = true;
        } else {
            *low = u32::MAX;
        }
    }
    if spilled {
        entry.set_spilled();
    }
}

/// What an end sent.
pub(super) fn sent(entry: &Slot, words: &[u32], slot: u32, second: bool) -> Sent {
    let (packets, bytes) = if entry.is_spilled() {
        high(words, slot, second)
    } else {
        (0, 0)
    };
    let side = entry.side(second);
    Sent {
        packets: packets << 32 | u64::from(side.packets),
        bytes: bytes << 32 | u64::from(side.bytes),
    }
}

/// Adds one on top of a count. False: there is no room, or no end of it.
fn carry(words: &mut [u32], slot: u32, second: bool, count: Count) -> bool {
    let (entries, _) = words.as_chunks_mut::<WORDS>();
    let Some(entry) = place(entries, slot).and_then(|at| entries.get_mut(at)) else {
        return false;
    };
    let [owner, a, b] = entry;
    *owner = slot.wrapping_add(1);
    let high = if second { b } else { a };
    let (mask, one) = match count {
        Count::Packets => (0xffff, 1),
        Count::Bytes => (0xffff_0000, 0x1_0000),
    };
    if *high & mask == mask {
        return false;
    }
    *high = high.wrapping_add(one);
    true
}

/// What goes on top of an end's packets and bytes, in units of 2^32.
fn high(words: &[u32], slot: u32, second: bool) -> (u64, u64) {
    let (entries, _) = words.as_chunks::<WORDS>();
    match place(entries, slot).and_then(|at| entries.get(at)) {
        Some([owner, a, b]) if *owner != 0 => {
            let high = if second { *b } else { *a };
            (u64::from(high & 0xffff), u64::from(high >> 16))
        }
        _ => (0, 0),
    }
}

/// Frees what a slot has.
pub(super) fn release(words: &mut [u32], slot: u32) {
    let (entries, _) = words.as_chunks_mut::<WORDS>();
    if let Some(entry) = place(entries, slot).and_then(|at| entries.get_mut(at)) {
        *entry = [0; WORDS];
    }
}

#[cfg(test)]
mod tests {
    use super::{Count, carry, high, release, words};
    extern crate std;
    use std::vec;

    #[test]
    fn each_count_has_its_own() {
        let mut memory = vec![0; words(1000)];
        assert!(carry(&mut memory, 7, false, Count::Packets));
        assert!(carry(&mut memory, 7, true, Count::Bytes));
        assert!(carry(&mut memory, 7, true, Count::Bytes));
        // The same first place.
        assert!(carry(&mut memory, 7 + 16, true, Count::Packets));
        assert_eq!(high(&memory, 7, false), (1, 0));
        assert_eq!(high(&memory, 7, true), (0, 2));
        assert_eq!(high(&memory, 23, true), (1, 0));
        release(&mut memory, 7);
        assert_eq!(high(&memory, 7, true), (0, 0));
        assert_eq!(high(&memory, 23, true), (1, 0));
    }

    #[test]
    fn when_all_places_are_taken_it_says_so() {
        let mut memory = vec![0; words(1)];
        for slot in 0..8 {
            assert!(carry(&mut memory, slot, false, Count::Packets));
        }
        assert!(!carry(&mut memory, 8, false, Count::Packets));
        assert_eq!(high(&memory, 8, false), (0, 0));
        release(&mut memory, 3);
        assert!(carry(&mut memory, 8, false, Count::Packets));
    }

    #[test]
    fn a_count_stops_at_its_end() {
        let mut memory = vec![0; words(1)];
        // Miri takes minutes for all of them.
        let begun = if cfg!(miri) { 0xfff0 } else { 0 };
        memory[..2].copy_from_slice(&[1, begun]);
        for _ in begun..0xffff {
            assert!(carry(&mut memory, 0, false, Count::Packets));
        }
        assert!(!carry(&mut memory, 0, false, Count::Packets));
        assert_eq!(high(&memory, 0, false), (0xffff, 0));
    }
}
