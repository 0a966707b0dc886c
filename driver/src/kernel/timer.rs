//! A one-shot timer whose callback runs as a DPC.

use core::cell::UnsafeCell;
use core::ffi::c_void;

use super::pool::{KBox, Tag};
use super::status::Result;
use super::sys;
use super::time::relative_100ns;

const TAG: Tag = Tag::new(*b"WrKt");

/// What runs when the timer is due: at `DISPATCH_LEVEL`, with the context given
/// to [`Timer::try_new`]. Not called twice at the same time unless the timer is
/// set again while its callback runs on another processor.
pub(crate) type TimerCallback = unsafe fn(*mut c_void);

struct Inner {
    timer: UnsafeCell<sys::KTimer>,
    dpc: UnsafeCell<sys::KDpc>,
    callback: TimerCallback,
    context: *mut c_void,
}

/// A `KTIMER` and its `KDPC` in non-paged pool. Dropped at `PASSIVE_LEVEL`:
/// dropping cancels it and waits for a callback that has begun.
pub(crate) struct Timer {
    inner: KBox<Inner>,
}

// SAFETY: a KTIMER may be set and cancelled from anywhere; the callback and its
// context are fixed when made.
unsafe impl Sync for Timer {}
// SAFETY: the timer itself never moves; only the owning pointer does.
unsafe impl Send for Timer {}

impl Timer {
    /// A timer that isn't set.
    ///
    /// # Safety
    /// `context` stays good for `callback` until the timer has been dropped or
    /// [`Timer::cancel_and_flush`] has returned with nobody setting it again.
    pub(crate) unsafe fn try_new(callback: TimerCallback, context: *mut c_void) -> Result<Self> {
        let inner = KBox::try_new(
            Inner {
                timer: UnsafeCell::new(sys::KTimer([0; 8])),
                dpc: UnsafeCell::new(sys::KDpc([0; 8])),
                callback,
                context,
            },
            TAG,
        )?;
        // SAFETY: a KTIMER's worth of non-paged memory at its final address.
        unsafe { sys::KeInitializeTimerEx(inner.timer.get(), sys::NOTIFICATION_TIMER) };
        let own = inner.as_ptr().cast::<c_void>();
        // SAFETY: a KDPC's worth of non-paged memory at its final address; the
        // context is the box, which outlives the DPC (see Drop).
        unsafe { sys::KeInitializeDpc(inner.dpc.get(), fire, own) };
        Ok(Self { inner })
    }

    /// Due once, `ms` milliseconds from now; replaces an earlier due time.
    /// `IRQL <= DISPATCH_LEVEL`.
    pub(crate) fn set_ms(&self, ms: u32) {
        let dpc = self.inner.dpc.get();
        // SAFETY: both were initialised in try_new and are in non-paged pool.
        unsafe { sys::KeSetTimer(self.inner.timer.get(), relative_100ns(ms), dpc) };
    }

    /// Not due any more; a callback that is already queued may still run.
    /// `IRQL <= DISPATCH_LEVEL`.
    pub(crate) fn cancel(&self) {
        // SAFETY: initialised in try_new.
        unsafe { sys::KeCancelTimer(self.inner.timer.get()) };
    }

    /// Cancels, and waits until no callback runs or is queued. `PASSIVE_LEVEL`.
    pub(crate) fn cancel_and_flush(&self) {
        self.cancel();
        // SAFETY: PASSIVE_LEVEL is the condition of this function.
        unsafe { sys::KeFlushQueuedDpcs() };
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.cancel_and_flush();
    }
}

unsafe extern "system" fn fire(
    _dpc: *mut sys::KDpc,
    context: *mut c_void,
    _argument1: *mut c_void,
    _argument2: *mut c_void,
) {
    // SAFETY: the context is the Inner given to KeInitializeDpc; Timer's Drop
    // waits for queued DPCs before it frees it.
    let inner = unsafe { &*context.cast::<Inner>() };
    // SAFETY: try_new's caller keeps the context good while callbacks can come.
    unsafe { (inner.callback)(inner.context) };
}
