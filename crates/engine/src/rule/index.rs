//! The index over a program's tuples: what it is, and how a frame finds in it.
//!
//! Tuples of one shape look at the same bits of a frame, so that one hash look-up
//! finds all of them that match: a *run* of entries, in the order of their
//! rules. A frame costs one look-up for each shape of its class, however many
//! rules there are.
//!
//! The index lies in words of the owner's memory, one part behind the other:
//!
//! | part | words | what |
//! |---|---|---|
//! | slots | 2^n ≥ 4 × tuples | open addressing; 0, or a tag and where a run starts, plus 1 |
//! | order | tuples | indices of tuples, sorted by shape, fields, rule |
//! | entries | tuples | an [`Entry`] for each of them |
//! | shapes | 16 × shapes | a [`Record`] each: by class, those with the earliest rules first |
//! | linear | rules | an [`Entry`] for each rule without tuples |

use core::ops::Range;

use super::Action;
use super::format::{MAX_SHAPES, MAX_TUPLES};
use super::key::{CLASSES, Class, Fields, Key, Words, of_tuple};
use super::program::{Program, Shape};

/// Slots a look-up tries at most. The index is built so that it suffices.
pub(super) const PROBES: usize = 64;

/// Words of a [`Record`].
pub(super) const RECORD: usize = 16;

/// Bits of a slot that say where a run starts, plus 1.
const START_BITS: u32 = 18;
const _: () = assert!(MAX_TUPLES < 1 << START_BITS);

/// How long the parts of a program's index are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) slots: usize,
    pub(super) tuples: usize,
    pub(super) shapes: usize,
    pub(super) linear: usize,
}

impl Sizes {
    pub(super) fn of(program: &Program<'_>) -> Self {
        let tuples = program.tuples.len();
        let slots = match tuples {
            0 => 0,
            some => some
                .saturating_mul(4)
                .checked_next_power_of_two()
                .unwrap_or(usize::MAX),
        };
        let shapes = tuples.min(usize::try_from(MAX_SHAPES).unwrap_or(0));
        Sizes {
            slots,
            tuples,
            shapes: shapes.saturating_mul(RECORD),
            linear: program.rules.len(),
        }
    }

    pub(super) fn total(&self) -> usize {
        self.slots
            .saturating_add(self.tuples.saturating_mul(2))
            .saturating_add(self.shapes)
            .saturating_add(self.linear)
    }

    /// Where the parts lie.
    pub(super) fn places(&self) -> Places {
        let mut at = 0usize;
        let mut next = |len: usize| {
            let start = at;
            at = at.saturating_add(len);
            start..at
        };
        Places {
            slots: next(self.slots),
            order: next(self.tuples),
            entries: next(self.tuples),
            shapes: next(self.shapes),
            linear: next(self.linear),
        }
    }
}

/// Where the parts of an index lie, in words from its start.
#[derive(Clone, Debug)]
pub(super) struct Places {
    pub(super) slots: Range<usize>,
    pub(super) order: Range<usize>,
    pub(super) entries: Range<usize>,
    pub(super) shapes: Range<usize>,
    pub(super) linear: Range<usize>,
}

/// A part of an index; none of it, should the memory have shrunk.
#[inline(always)]
pub(super) fn part<'a>(words: &'a [u32], place: &Range<usize>) -> &'a [u32] {
    words.get(place.clone()).unwrap_or_default()
}

/// A rule as the search sees it, in one word, with what decides most often
/// whether its code has to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry(u32);

impl Entry {
    const ACTION_AT: u32 = 16;
    const DIRECTIONS_AT: u32 = 20;
    const CONFIRM: u32 = 1 << 24;
    const LAST: u32 = 1 << 25;

    /// `rule`: below 2^16, as all are.
    pub(super) const fn new(rule: u32, action: Action, directions: u32, confirm: bool) -> Self {
        let action = action.to_format().wrapping_shl(Self::ACTION_AT);
        let directions = directions.wrapping_shl(Self::DIRECTIONS_AT);
        let confirm = if confirm { Self::CONFIRM } else { 0 };
        Entry(rule & 0xffff | action | directions | confirm)
    }

    pub(super) const fn from_bits(bits: u32) -> Self {
        Entry(bits)
    }

    pub(super) const fn to_bits(self) -> u32 {
        self.0
    }

    pub(super) const fn as_last(self) -> Self {
        Entry(self.0 | Self::LAST)
    }

    pub(super) const fn rule(self) -> u32 {
        self.0 & 0xffff
    }

    pub(super) const fn action(self) -> Action {
        match Action::from_format(self.0.wrapping_shr(Self::ACTION_AT) & 0xf) {
            Some(action) => action,
            None => Action::Count,
        }
    }

    /// Whether it is tried on frames of these directions.
    pub(super) const fn applies_to(self, directions: u32) -> bool {
        self.0.wrapping_shr(Self::DIRECTIONS_AT) & 3 & directions != 0
    }

    /// Whether the code has to confirm what the tuple says.
    pub(super) const fn confirms(self) -> bool {
        self.0 & Self::CONFIRM != 0
    }

    /// Whether it is the last of its run.
    pub(super) const fn is_last(self) -> bool {
        self.0 & Self::LAST != 0
    }
}

/// A shape, with what a look-up needs of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub(super) shape: Shape,
    /// What a frame must have at hand.
    pub(super) needed: Fields,
    /// The first terminal rule with a tuple of this shape; `u32::MAX`: none.
    pub(super) first: u32,
    /// Whether rules that log or count have tuples of this shape.
    pub(super) notes: bool,
    pub(super) mask: Words,
    /// What makes the hashes of this shape differ from those of others.
    pub(super) salt: u64,
}

impl Record {
    #[inline(always)]
    pub(super) fn read(words: &[u32; RECORD]) -> Self {
        let [shape, needed, first, notes, rest @ ..] = *words;
        let [l0, h0, l1, h1, l2, h2, l3, h3, l4, h4, low, high] = rest;
        Record {
            shape: Shape::from_bits(shape),
            needed: Fields::from_bits(needed),
            first,
            notes: notes != 0,
            mask: [
                join(l0, h0),
                join(l1, h1),
                join(l2, h2),
                join(l3, h3),
                join(l4, h4),
            ],
            salt: join(low, high),
        }
    }

    pub(super) fn write(&self) -> [u32; RECORD] {
        let [m0, m1, m2, m3, m4] = self.mask.map(parts);
        let [low, high] = parts(self.salt);
        [
            self.shape.to_bits(),
            self.needed.to_bits(),
            self.first,
            u32::from(self.notes),
            m0[0],
            m0[1],
            m1[0],
            m1[1],
            m2[0],
            m2[1],
            m3[0],
            m3[1],
            m4[0],
            m4[1],
            low,
            high,
        ]
    }
}

// The low half first: where memory is little-endian it is one load of 64 bits.
const fn join(low: u32, high: u32) -> u64 {
    (high as u64) << 32 | low as u64
}

const fn parts(word: u64) -> [u32; 2] {
    [word as u32, (word >> 32) as u32]
}

/// What makes hashes differ from one attempt at an index to the next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seed([u64; 4]);

impl Seed {
    /// A sequence of SplitMix64 (Steele, Lea, Flood: "Fast Splittable
    /// Pseudorandom Number Generators", 2014).
    pub(super) fn new(attempt: u64) -> Self {
        let mut state = attempt.wrapping_mul(0x2545_f491_4f6c_dd1d);
        Seed([(); 4].map(|()| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            mixed(state)
        }))
    }

    /// The salt of a shape.
    pub(super) fn salt(&self, shape: Shape) -> u64 {
        let [.., last] = self.0;
        mixed(last ^ u64::from(shape.to_bits()))
    }

    /// A hash of masked words. Of narrow classes words 0 and 4 alone count.
    #[inline]
    pub(super) fn hash(&self, salt: u64, words: &Words, wide: bool) -> u64 {
        let [s0, s1, s2, _] = self.0;
        let [w0, w1, w2, w3, w4] = *words;
        if wide {
            let addresses = fold(w0 ^ salt, w1 ^ s0) ^ fold(w2 ^ s1, w3 ^ s2);
            fold(addresses ^ s0, w4 ^ s1)
        } else {
            fold(w0 ^ salt, w4 ^ s0)
        }
    }
}

const fn mixed(state: u64) -> u64 {
    let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Both halves of a product of 128 bits, folded into one.
#[inline]
const fn fold(a: u64, b: u64) -> u64 {
    let product = (a as u128).wrapping_mul(b as u128);
    (product >> 64) as u64 ^ product as u64
}

/// Where a hash is looked for first, and what tells it from its neighbours.
#[inline]
pub(super) fn place(hash: u64, slots: usize) -> (usize, u32) {
    let mask = u64::try_from(slots.wrapping_sub(1)).unwrap_or(0);
    let slot = usize::try_from((hash >> 32) & mask).unwrap_or(0);
    (slot, (hash as u32) >> START_BITS)
}

/// The slot of a run that starts at `start`.
pub(super) fn slot(tag: u32, start: u32) -> u32 {
    tag.wrapping_shl(START_BITS) | start.wrapping_add(1)
}

/// A built index: what is needed to find in it.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) places: Places,
    pub(super) seed: Seed,
    /// Where the shapes of each class lie, in words.
    pub(super) classes: [Range<usize>; CLASSES],
    /// Whether there are rules that log or count.
    pub(super) notes: bool,
    /// Whether there are tuples, and rules without any.
    pub(super) has_tuples: bool,
    pub(super) has_linear: bool,
}

impl Index {
    /// The shapes of a class.
    #[inline(always)]
    pub(super) fn shapes<'a>(&self, words: &'a [u32], class: Class) -> &'a [[u32; RECORD]] {
        let place = self.classes.get(class.index());
        let (shapes, _) = place
            .map_or(&[][..], |place| part(words, place))
            .as_chunks();
        shapes
    }

    /// Finds the run of the tuples of a shape that a frame matches: the entries
    /// from its first one on.
    #[inline(always)]
    pub(super) fn find<'a>(
        &self,
        words: &'a [u32],
        program: &[u8],
        shape: &Record,
        key: &Key,
    ) -> Option<&'a [u32]> {
        if !key.fields.cover(shape.needed) {
            return None;
        }
        let wide = key.class.is_wide();
        let masked = masked(&key.words, &shape.mask, wide);
        let hash = self.seed.hash(shape.salt, &masked, wide);
        let slots = part(words, &self.places.slots);
        let (first, tag) = place(hash, slots.len());
        let mask = slots.len().wrapping_sub(1);
        for step in 0..PROBES {
            let slot = *slots.get(first.wrapping_add(step) & mask)?;
            if slot == 0 {
                return None;
            }
            if slot >> START_BITS == tag {
                let start = slot & (1u32 << START_BITS).wrapping_sub(1);
                let start = usize::try_from(start).ok()?.checked_sub(1)?;
                if self.is_at(words, program, start, shape.shape, masked) {
                    return part(words, &self.places.entries).get(start..);
                }
            }
        }
        None
    }

    /// Whether the run that starts at `start` is of this shape and these fields.
    #[inline(never)]
    fn is_at(
        &self,
        words: &[u32],
        program: &[u8],
        start: usize,
        shape: Shape,
        masked: Words,
    ) -> bool {
        let order = part(words, &self.places.order);
        let tuple = Program::split(program)
            .zip(order.get(start))
            .and_then(|(program, at)| program.tuple(*at));
        tuple.is_some_and(|tuple| Shape::of(&tuple) == shape && of_tuple(&tuple) == masked)
    }
}

#[inline]
fn masked(words: &Words, mask: &Words, wide: bool) -> Words {
    let [w0, w1, w2, w3, w4] = *words;
    let [m0, m1, m2, m3, m4] = *mask;
    if wide {
        [w0 & m0, w1 & m1, w2 & m2, w3 & m3, w4 & m4]
    } else {
        [w0 & m0, 0, 0, 0, w4 & m4]
    }
}
