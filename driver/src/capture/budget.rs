//! The non-paged memory that the backlogs of all readers may take together.

use core::sync::atomic::{AtomicU32, Ordering};

use weir_abi::limits::MAX_TOTAL_BACKLOG;

/// Bytes that are somebody's.
static TAKEN: AtomicU32 = AtomicU32::new(0);

/// A part of the memory; given back when dropped.
pub(super) struct Share(u32);

impl Share {
    /// Takes so many bytes, if so many are left.
    pub(super) fn take(bytes: u32) -> Option<Self> {
        let more = |taken: u32| {
            taken
                .checked_add(bytes)
                .filter(|sum| *sum <= MAX_TOTAL_BACKLOG)
        };
        TAKEN
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()
            .map(|_| Self(bytes))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        TAKEN.fetch_sub(self.0, Ordering::Relaxed);
    }
}

/// Bytes that are somebody's.
pub(super) fn taken() -> u32 {
    TAKEN.load(Ordering::Relaxed)
}
