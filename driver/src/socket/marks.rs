//! What a socket is remembered to be: connected, ended, failed, closed. Knows
//! nothing of the kernel, so that it runs in tests on any host. Each step may be
//! taken by anybody at any IRQL, several at once.
//!
//! A stream's two ends have a mark each, set when it is asked for and taken back
//! when it turns out that it can't be done. Writes are refused while one of them is
//! set, so a reset that takes the place of an end that waits, and isn't carried out
//! either, leaves a stream that both may be asked of again.

use core::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use weir_abi::status;

/// Remarks about a socket.
pub(super) mod mark {
    /// The transport is there.
    pub(in super::super) const READY: u32 = 1;
    /// A stream is connected.
    pub(in super::super) const CONNECTED: u32 = 2;
    /// The peer has sent all it had to send.
    pub(in super::super) const PEER_CLOSED: u32 = 4;
    /// This side ends, or has ended, what it sends.
    pub(in super::super) const ENDED: u32 = 8;
    /// Somebody closes it, or has.
    pub(in super::super) const CLOSING: u32 = 16;
    /// The provider has given it up, and it is closed for that, or about to be.
    pub(in super::super) const FAILED: u32 = 32;
    /// This side resets it, or has.
    pub(in super::super) const ABORTED: u32 = 64;
    /// Either end: nothing more can be written.
    pub(in super::super) const SHUT: u32 = ENDED | ABORTED;
}

/// The remarks, and what it has failed with.
pub(super) struct Marks {
    marks: AtomicU32,
    /// An NTSTATUS; 0 if it hasn't.
    failure: AtomicI32,
}

impl Marks {
    pub(super) const fn new() -> Self {
        Self {
            marks: AtomicU32::new(0),
            failure: AtomicI32::new(status::SUCCESS),
        }
    }

    /// Whether one of these is there.
    pub(super) fn is(&self, marks: u32) -> bool {
        self.marks.load(Ordering::Acquire) & marks != 0
    }

    /// Adds remarks; whether one of them was there before.
    pub(super) fn mark(&self, marks: u32) -> bool {
        self.marks.fetch_or(marks, Ordering::AcqRel) & marks != 0
    }

    /// Notes that it has failed for good; the first reason stays. Whether this is
    /// the first.
    pub(super) fn fail(&self, with: i32) -> bool {
        self.failure
            .compare_exchange(status::SUCCESS, with, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// What it has failed with; 0 if it hasn't.
    pub(super) fn failure(&self) -> i32 {
        self.failure.load(Ordering::Acquire)
    }

    /// Begins to end the sending direction; false if that, or a reset, is done or
    /// under way.
    pub(super) fn begin_end(&self) -> bool {
        let begun = self
            .marks
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |marks| {
                (marks & mark::SHUT == 0).then_some(marks | mark::ENDED)
            });
        begun.is_ok()
    }

    /// The sending direction couldn't be ended.
    pub(super) fn take_back_end(&self) {
        self.marks.fetch_and(!mark::ENDED, Ordering::AcqRel);
    }

    /// Begins a reset; `None` if one is done or under way, else whether it is what
    /// the socket has failed with.
    pub(super) fn begin_reset(&self) -> Option<bool> {
        if self.mark(mark::ABORTED) {
            return None;
        }
        // What comes after this is refused with it.
        Some(self.fail(status::CONNECTION_ABORTED))
    }

    /// The reset couldn't be carried out. `failed` is what [`Marks::begin_reset`]
    /// said: what the socket had failed with before that stays.
    pub(super) fn take_back_reset(&self, failed: bool) {
        if failed {
            self.failure.store(status::SUCCESS, Ordering::Release);
        }
        let before = self.marks.fetch_and(!mark::ABORTED, Ordering::AcqRel);
        // Given up by the provider meanwhile, which was not the first reason then.
        if before & mark::FAILED != 0 {
            self.fail(status::FILE_FORCED_CLOSED);
        }
    }
}
