//! The memory that frames from user mode take while they are under way.
//!
//! A frame that was handed on stays until whoever has it gives it back, which an
//! adapter that stands still doesn't do. So that writes can't take all of the
//! pool meanwhile, there is a limit for each adapter, and one for all together,
//! so that one adapter can't keep the others' share either.

use core::sync::atomic::{AtomicU32, Ordering};

use weir_abi::limits::{MAX_TOTAL_UNDER_WAY, MAX_UNDER_WAY};

/// Bytes that are somebody's, on all adapters.
static ALL: AtomicU32 = AtomicU32::new(0);

/// About what a list, its buffer and its MDL take besides the data: without it
/// the shortest frames would cost nothing.
const BESIDES: u32 = 512;

/// What the frames of one adapter take.
pub(super) struct Budget(AtomicU32);

/// The part of one frame; given back when dropped.
pub(super) struct Share<'a> {
    of: &'a Budget,
    bytes: u32,
}

impl Budget {
    pub(super) const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Takes what a frame with a buffer of `len` bytes costs, if so much is left.
    pub(super) fn take(&self, len: u32) -> Option<Share<'_>> {
        let bytes = len.checked_add(BESIDES)?;
        add(&self.0, bytes, MAX_UNDER_WAY)?;
        if add(&ALL, bytes, MAX_TOTAL_UNDER_WAY).is_none() {
            self.0.fetch_sub(bytes, Ordering::Relaxed);
            return None;
        }
        Some(Share { of: self, bytes })
    }

    /// The share of a buffer of `len` bytes that was taken before and forgotten.
    pub(super) fn forgotten(&self, len: u32) -> Share<'_> {
        let bytes = len.saturating_add(BESIDES);
        Share { of: self, bytes }
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.of.0.fetch_sub(self.bytes, Ordering::Relaxed);
        ALL.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn add(taken: &AtomicU32, bytes: u32, most: u32) -> Option<u32> {
    let more = |taken: u32| taken.checked_add(bytes).filter(|sum| *sum <= most);
    let added = taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    added.ok()
}
