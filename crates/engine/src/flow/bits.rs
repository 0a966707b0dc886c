//! A set of slots, in which the next member is found in a few steps: a bit for
//! each slot, above that a bit for each word that isn't zero, and so on.

/// Levels; 32^5 is more than the most slots.
const LEVELS: usize = 5;

/// Words of the level above `len` members or words.
const fn above(len: usize) -> usize {
    len.div_ceil(32)
}

/// Words that a set of so many needs.
pub(super) fn words(slots: usize) -> usize {
    let mut len = slots;
    let mut sum = 0usize;
    for _ in 0..LEVELS {
        len = above(len);
        sum = sum.saturating_add(len);
    }
    sum
}

/// The set.
pub(super) struct Bits<'a> {
    words: &'a mut [u32],
    slots: usize,
}

impl<'a> Bits<'a> {
    /// `words`: as many as [`words`] says, all zero at first.
    pub(super) fn new(words: &'a mut [u32], slots: usize) -> Self {
        Self { words, slots }
    }

    pub(super) fn set(&mut self, slot: u32, member: bool) {
        let mut start = 0usize;
        let mut len = self.slots;
        let mut bit = slot as usize;
        let mut member = member;
        for _ in 0..LEVELS {
            let Some(word) = self.words.get_mut(start.saturating_add(bit >> 5)) else {
                return;
            };
            let before = *word != 0;
            let mask = 1u32 << (bit & 31);
            if member {
                *word |= mask;
            } else {
                *word &= !mask;
            }
            let after = *word != 0;
            if before == after {
                return;
            }
            member = after;
            len = above(len);
            start = start.saturating_add(len);
            bit >>= 5;
        }
    }

    /// The first member at `from` or behind, or else the first of all.
    pub(super) fn next(&self, from: u32) -> Option<u32> {
        self.at_or_behind(from as usize)
            .or_else(|| self.at_or_behind(0))
            .and_then(|slot| u32::try_from(slot).ok())
    }

    fn at_or_behind(&self, from: usize) -> Option<usize> {
        // Up, until a word has a bit at or behind the place.
        let mut starts = [0usize; LEVELS];
        let mut start = 0usize;
        let mut len = self.slots;
        let mut bit = from;
        let mut level = 0usize;
        loop {
            *starts.get_mut(level)? = start;
            let word = self.words.get(start.saturating_add(bit >> 5));
            let rest = word.copied().unwrap_or(0) & u32::MAX.wrapping_shl((bit & 31) as u32);
            if rest != 0 && bit < len {
                bit = bit & !31 | rest.trailing_zeros() as usize;
                break;
            }
            len = above(len);
            start = start.saturating_add(len);
            bit = (bit >> 5).saturating_add(1);
            level = level.saturating_add(1);
        }
        // And down again, to the first bit of each.
        for start in starts.into_iter().take(level).rev() {
            let word = self.words.get(start.saturating_add(bit))?;
            if *word == 0 {
                return None;
            }
            bit = bit << 5 | word.trailing_zeros() as usize;
        }
        (bit < self.slots).then_some(bit)
    }
}

#[cfg(test)]
mod tests {
    use super::{Bits, words};
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    extern crate std;

    proptest! {
        #[test]
        fn a_set_is_a_set(
            slots in prop_oneof![1usize..70, 1000usize..40_000],
            steps in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), any::<prop::sample::Index>()), 1..200),
        ) {
            let mut memory = std::vec![0u32; words(slots)];
            let mut model = BTreeSet::new();
            for (slot, member, from) in steps {
                let slot = slot.index(slots) as u32;
                let from = from.index(slots) as u32;
                let mut bits = Bits::new(&mut memory, slots);
                bits.set(slot, member);
                if member {
                    model.insert(slot);
                } else {
                    model.remove(&slot);
                }
                let expected = model.range(from..).next().or(model.first()).copied();
                prop_assert_eq!(bits.next(from), expected);
            }
        }
    }
}
