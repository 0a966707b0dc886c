//! A notification event: set once, wakes everybody, stays set until reset.

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr;

use super::pool::{KBox, Tag};
use super::status::{NtStatus, Result};
use super::sys;
use super::time::relative_100ns;

const TAG: Tag = Tag::new(*b"WrKe");

/// A `KEVENT` in non-paged pool.
pub(crate) struct Event {
    event: KBox<UnsafeCell<sys::KEvent>>,
}

// SAFETY: a KEVENT is made to be set and waited for from anywhere.
unsafe impl Sync for Event {}
// SAFETY: the event itself never moves; only the owning pointer does.
unsafe impl Send for Event {}

impl Event {
    /// A notification event, not set.
    pub(crate) fn try_new() -> Result<Self> {
        let event = KBox::try_new(UnsafeCell::new(sys::KEvent([0; 3])), TAG)?;
        // SAFETY: a KEVENT's worth of non-paged memory at its final address.
        unsafe { sys::KeInitializeEvent(event.get(), sys::NOTIFICATION_EVENT, 0) };
        Ok(Self { event })
    }

    /// Wakes all who wait. `IRQL <= DISPATCH_LEVEL`.
    pub(crate) fn set(&self) {
        // SAFETY: initialised in try_new; Wait = FALSE allows DISPATCH_LEVEL.
        unsafe { sys::KeSetEvent(self.event.get(), 0, 0) };
    }

    /// Makes later waits block again. `IRQL <= DISPATCH_LEVEL`.
    pub(crate) fn reset(&self) {
        // SAFETY: initialised in try_new.
        unsafe { sys::KeResetEvent(self.event.get()) };
    }

    /// Blocks until set. `IRQL <= APC_LEVEL`.
    pub(crate) fn wait(&self) {
        // Without a timeout only the event ends the wait.
        let _ = self.wait_for(ptr::null());
    }

    /// Blocks until set or until `ms` milliseconds have passed; false means
    /// time ran out. `IRQL <= APC_LEVEL` (`ms` 0: `<= DISPATCH_LEVEL`).
    #[must_use]
    pub(crate) fn wait_ms(&self, ms: u32) -> bool {
        let due = relative_100ns(ms);
        self.wait_for(&raw const due) != NtStatus::TIMEOUT
    }

    fn wait_for(&self, timeout: *const i64) -> NtStatus {
        let object = self.event.get().cast::<c_void>();
        // SAFETY: an initialised event in non-paged memory; `timeout` is null
        // or a live i64; kernel mode and not alertable, so nothing but the
        // event or the timeout ends the wait; the caller may block.
        let status = unsafe {
            sys::KeWaitForSingleObject(object, sys::EXECUTIVE, sys::KERNEL_MODE, 0, timeout)
        };
        NtStatus(status)
    }
}
