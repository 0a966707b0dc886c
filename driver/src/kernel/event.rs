//! A notification event: set once, wakes everybody, stays set until reset.

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr;

use super::pool::{KBox, Tag};
use super::status::Result;
use super::sys;
use super::time;

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
        let object = self.event.get().cast::<c_void>();
        // SAFETY: an initialised event in non-paged memory; without a timeout, in
        // kernel mode and not alertable, nothing but the event ends the wait, so
        // its status says nothing; the caller may block.
        let _ = unsafe {
            sys::KeWaitForSingleObject(object, sys::EXECUTIVE, sys::KERNEL_MODE, 0, ptr::null())
        };
    }

    /// Blocks until set, but not longer than `ms` milliseconds; whether it was set.
    /// `IRQL <= APC_LEVEL`.
    pub(crate) fn wait_ms(&self, ms: u32) -> bool {
        let object = self.event.get().cast::<c_void>();
        let due = time::relative_100ns(ms);
        // SAFETY: an initialised event in non-paged memory and a live time; the
        // caller may block.
        let status = unsafe {
            sys::KeWaitForSingleObject(object, sys::EXECUTIVE, sys::KERNEL_MODE, 0, &raw const due)
        };
        // STATUS_TIMEOUT is the other way this wait can end.
        status == 0
    }
}
