//! Counters of what rules did.

use core::sync::atomic::{AtomicU64, Ordering};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Frames a rule (or the default) took effect on, and their bytes on the wire.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct Hits {
    /// Frames.
    pub frames: u64,
    /// Bytes of these frames on the wire.
    pub bytes: u64,
}

impl Hits {
    /// One more frame. Counters wrap.
    pub const fn add(&mut self, wire_len: u32) {
        self.frames = self.frames.wrapping_add(1);
        self.bytes = self.bytes.wrapping_add(wire_len as u64);
    }

    /// The sum of two counters.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Hits {
            frames: self.frames.wrapping_add(other.frames),
            bytes: self.bytes.wrapping_add(other.bytes),
        }
    }
}

/// Hits with one writer at a time and any number of readers: one for each rule
/// and processor, the writer being whoever runs on that processor and can't be
/// moved from it. All bytes 0 is a valid counter that counted nothing.
///
/// A reader may see a frame whose bytes are not added yet; never half a number.
#[derive(Debug, Default, FromBytes, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct HitCell {
    frames: AtomicU64,
    bytes: AtomicU64,
}

impl HitCell {
    /// One more frame. Two callers at the same time would lose one of theirs;
    /// [`HitCell::add_shared`] is for those.
    pub fn add(&self, wire_len: u32) {
        raise(&self.frames, 1);
        raise(&self.bytes, u64::from(wire_len));
    }

    /// One more frame, with other writers around.
    pub fn add_shared(&self, wire_len: u32) {
        self.frames.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(u64::from(wire_len), Ordering::Relaxed);
    }

    /// What was counted so far.
    #[must_use]
    pub fn read(&self) -> Hits {
        Hits {
            frames: self.frames.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}

fn raise(counter: &AtomicU64, by: u64) {
    let value = counter.load(Ordering::Relaxed);
    counter.store(value.wrapping_add(by), Ordering::Relaxed);
}
