//! The words beside the slots: where what is, and the chains of the hash.

use core::ops::Range;

/// Most slots a table can have: 2^24 - 2, so that the number of a slot and eight
/// bits of its key's hash are one word.
pub const MAX_SLOTS: usize = 0x00ff_fffe;

const NUMBER: u32 = 0x00ff_ffff;

/// A slot and a bit of its hash in one word; 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Link(u32);

impl Link {
    fn new(slot: u32, hash: u32) -> Self {
        Self(hash << 24 | slot.wrapping_add(1))
    }

    fn slot(self) -> Option<u32> {
        (self.0 & NUMBER).checked_sub(1)
    }

    fn may_be(self, hash: u32) -> bool {
        (self.0 ^ hash << 24) >> 24 == 0
    }
}

/// Where the parts are, in words from the start.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) buckets: Range<usize>,
    pub(super) next: Range<usize>,
    pub(super) wheel: Range<usize>,
    pub(super) over: Range<usize>,
    pub(super) half_open: Range<usize>,
    pub(super) spill: Range<usize>,
    pub(super) timers: Range<usize>,
    pub(super) adapters: Range<usize>,
    pub(super) watch: Range<usize>,
}

impl Layout {
    pub(super) fn new(slots: usize) -> Self {
        let mut at = 0usize;
        let mut part = |words: usize| {
            let start = at;
            at = at.saturating_add(words);
            start..at
        };
        Self {
            // Eleven buckets for sixteen flows: a full table's chains hold 1.5 on
            // the average, and the whole stays within 140 bytes a flow.
            buckets: part((slots.saturating_mul(11) >> 4).max(1)),
            next: part(slots),
            wheel: part(slots.saturating_add(super::wheel::BUCKETS)),
            over: part(super::bits::words(slots)),
            half_open: part(super::bits::words(slots)),
            spill: part(super::spill::words(slots)),
            timers: part(super::rtt::words(slots)),
            adapters: part(MAX_ADAPTERS),
            watch: part(super::watch::WORDS),
        }
    }

    pub(super) fn words(&self) -> usize {
        self.watch.end
    }
}

/// Adapters that a table tells apart.
pub(super) const MAX_ADAPTERS: usize = 256;

/// A part of the index; none of it, should the memory have shrunk.
pub(super) fn part<'a>(index: &'a [u32], range: &Range<usize>) -> &'a [u32] {
    index.get(range.clone()).unwrap_or_default()
}

/// A part of the index, to write.
pub(super) fn part_mut<'a>(index: &'a mut [u32], range: &Range<usize>) -> &'a mut [u32] {
    index.get_mut(range.clone()).unwrap_or_default()
}

#[inline]
fn bucket(hash: u32, buckets: usize) -> usize {
    let scaled = u64::from(hash).wrapping_mul(buckets as u64) >> 32;
    scaled as usize
}

/// The slot of a hash's chain that `is_it` takes, of those whose hash may be this.
#[inline]
pub(super) fn find(
    words: &[u32],
    layout: &Layout,
    hash: u32,
    is_it: impl Fn(u32) -> bool,
) -> Option<u32> {
    let buckets = layout.buckets.end;
    let at = |place: usize| Link(words.get(place).copied().unwrap_or(0));
    let mut link = at(bucket(hash, buckets));
    // No chain is longer than the table: a damaged one must not hold us.
    for _ in 0..=words.len() {
        let slot = link.slot()?;
        if link.may_be(hash) && is_it(slot) {
            return Some(slot);
        }
        link = at(buckets.saturating_add(slot as usize));
    }
    None
}

/// Buckets and the links between the slots of one bucket: adjoining parts.
pub(super) struct Chains<'a> {
    words: &'a mut [u32],
    buckets: usize,
}

impl<'a> Chains<'a> {
    #[inline]
    pub(super) fn new(index: &'a mut [u32], layout: &Layout) -> Self {
        Self {
            words: index.get_mut(..layout.next.end).unwrap_or_default(),
            buckets: layout.buckets.end,
        }
    }

    fn bucket(&self, hash: u32) -> usize {
        bucket(hash, self.buckets)
    }

    #[inline]
    fn at(&self, place: usize) -> Link {
        Link(self.words.get(place).copied().unwrap_or(0))
    }

    #[inline]
    fn behind(&self, slot: u32) -> usize {
        self.buckets.saturating_add(slot as usize)
    }

    /// Puts a slot that is in no chain at the head of its own.
    pub(super) fn insert(&mut self, slot: u32, hash: u32) {
        let head = self.bucket(hash);
        let first = self.at(head);
        self.set(self.behind(slot), first);
        self.set(head, Link::new(slot, hash));
    }

    /// Takes a slot out of its chain.
    pub(super) fn remove(&mut self, slot: u32, hash: u32) {
        let mut place = self.bucket(hash);
        for _ in 0..=self.words.len() {
            match self.at(place).slot() {
                None => return,
                Some(found) if found == slot => {
                    let rest = self.at(self.behind(slot));
                    self.set(place, rest);
                    self.set(self.behind(slot), Link(0));
                    return;
                }
                Some(other) => place = self.behind(other),
            }
        }
    }

    fn set(&mut self, place: usize, link: Link) {
        if let Some(word) = self.words.get_mut(place) {
            *word = link.0;
        }
    }
}
