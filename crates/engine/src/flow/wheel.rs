//! Ageing: a wheel of seconds, each with a list of slots to look at then.
//!
//! A frame does not move its flow in the wheel. When its second comes, a flow
//! that had frames since is put where its idle time will be over, but at most
//! [`REACH`] seconds ahead, for it may be over sooner by then. A slot that is
//! used stays in its list whoever uses it, so nothing is ever taken out of the
//! middle of one.

/// Seconds in the wheel; more than [`REACH`].
pub(super) const BUCKETS: usize = 64;
/// How far ahead a slot is put, in seconds: the latest by which a flow that
/// closed is noticed to be over its idle time.
pub(super) const REACH: u64 = 60;

/// The lists, and the free slots' one.
pub(super) struct Wheel<'a> {
    /// The heads, then a link for each slot. 0 ends a list, else slot + 1.
    words: &'a mut [u32],
}

impl<'a> Wheel<'a> {
    pub(super) fn new(words: &'a mut [u32]) -> Self {
        Self { words }
    }

    fn head(&mut self, second: u64) -> Option<&mut u32> {
        self.words
            .get_mut((second as usize) & BUCKETS.wrapping_sub(1))
    }

    fn link(&mut self, slot: u32) -> Option<&mut u32> {
        self.words.get_mut(BUCKETS.saturating_add(slot as usize))
    }

    /// Puts a slot, which is in no list, where `second` comes by.
    pub(super) fn put(&mut self, slot: u32, second: u64) {
        let Some(head) = self.head(second) else {
            return;
        };
        let rest = core::mem::replace(head, slot.wrapping_add(1));
        if let Some(link) = self.link(slot) {
            *link = rest;
        }
    }

    /// Takes a slot out of a second's list.
    pub(super) fn take(&mut self, second: u64) -> Option<u32> {
        let first = self.head(second)?.checked_sub(1)?;
        let rest = self.unlink(first);
        if let Some(head) = self.head(second) {
            *head = rest;
        }
        Some(first)
    }

    /// Puts a slot, which is in no list, before those that `free` begins.
    pub(super) fn push(&mut self, slot: u32, free: &mut u32) {
        if let Some(link) = self.link(slot) {
            *link = *free;
            *free = slot.wrapping_add(1);
        }
    }

    /// Takes the first of the slots that `free` begins.
    pub(super) fn pop(&mut self, free: &mut u32) -> Option<u32> {
        let first = free.checked_sub(1)?;
        *free = self.unlink(first);
        Some(first)
    }

    fn unlink(&mut self, slot: u32) -> u32 {
        self.link(slot).map_or(0, core::mem::take)
    }
}
