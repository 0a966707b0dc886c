//! What the event callback of a connection may keep, and what it has to refuse:
//! the one thing it shares with the connection's step, under a lock.
//!
//! A gate is closed at first, and only the step opens it. The callback closes it
//! again with the first data it refuses, and with the end of the peer. So what was
//! kept before that comes before whatever a receive then gets, and nothing is kept
//! while one is pending.

use super::Look;

/// Data indications that are kept of one direction of a connection, at most.
pub(crate) const HELD: usize = 4;
/// Bytes of them, at most. They are the transport's own memory.
pub(crate) const HELD_BYTES: u64 = 64 * 1024;
/// Bytes from which on data are worth being kept. To copy less costs less than to be
/// woken once more to give it back; and what is small may sit in a buffer that isn't.
pub(crate) const BULK: u32 = 4 * 1024;

/// What was kept, each with its bytes, until the step takes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Gate<T> {
    open: bool,
    /// For good.
    shut: bool,
    /// Bytes that are the least to be kept.
    least: u32,
    look: Look,
    /// Kept and not yet released, and their bytes.
    held: usize,
    bytes: u64,
    new: [Option<(T, u32)>; HELD],
}

impl<T> Gate<T> {
    /// A closed one, which is to keep no less than so many bytes at a time.
    pub(crate) const fn new(least: u32) -> Self {
        Self {
            open: false,
            shut: false,
            least,
            look: Look::Not,
            held: 0,
            bytes: 0,
            new: [const { None }; HELD],
        }
    }

    /// Whether data of so many bytes may be kept; `hasty` data should not be.
    pub(crate) fn admits(&self, bytes: u32, hasty: bool) -> bool {
        let all = self.bytes.saturating_add(u64::from(bytes));
        let fits = self.held < HELD && all <= HELD_BYTES;
        self.open && !hasty && bytes >= self.least && fits
    }

    /// Keeps what was admitted just now.
    pub(crate) fn keep(&mut self, data: T, bytes: u32) {
        let mut places = self.new.iter_mut();
        // There is one: no more are new than held (admits).
        if let Some(place) = places.find(|place| place.is_none()) {
            *place = Some((data, bytes));
            self.held = self.held.saturating_add(1);
            self.bytes = self.bytes.saturating_add(u64::from(bytes));
        }
    }

    /// Closes it: there is something to look for. True if the step has to be
    /// told.
    pub(crate) fn close(&mut self, look: Look) -> bool {
        self.open = false;
        let before = self.look;
        self.look = before.max(look);
        !self.shut && self.look != before
    }

    /// Opens it, for the events are about to be resumed; false if there is
    /// something to look for first.
    pub(crate) fn open(&mut self) -> bool {
        self.open = self.look == Look::Not && !self.shut;
        self.open
    }

    /// Closes it for good.
    pub(crate) fn shut(&mut self) {
        self.open = false;
        self.shut = true;
    }

    /// What is new: what was kept, the oldest first, and what there is to look for
    /// after that.
    pub(crate) fn take(&mut self) -> ([Option<(T, u32)>; HELD], Look) {
        let new = core::mem::replace(&mut self.new, [const { None }; HELD]);
        (new, core::mem::take(&mut self.look))
    }

    /// Something of so many bytes, kept and taken, has been released.
    pub(crate) fn released(&mut self, bytes: u32) {
        self.held = self.held.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(u64::from(bytes));
    }
}
