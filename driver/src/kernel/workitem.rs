//! Work at `PASSIVE_LEVEL`, asked for at `DISPATCH_LEVEL`.
//!
//! Work items hang on the control device, so the system keeps the driver in
//! memory until a queued routine has returned.

use core::ffi::c_void;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, Ordering};

use super::pool::{KBox, Tag};
use super::status::{NtStatus, Result};
use super::sys;

const TAG: Tag = Tag::new(*b"WrKw");

/// The control device's WDM `DEVICE_OBJECT`; null until there is one.
static DEVICE: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// Says on which device work items are allocated; null again before the device
/// goes away.
pub(crate) fn set_device(device: *mut c_void) {
    DEVICE.store(device, Ordering::Release);
}

/// What runs at `PASSIVE_LEVEL`. It may drop the [`WorkItem`] it was queued by.
pub(crate) type WorkCallback = unsafe fn(*mut c_void);

struct Inner {
    item: NonNull<c_void>,
    callback: WorkCallback,
    context: *mut c_void,
}

/// An `IO_WORKITEM` with its callback. It may be queued again once its callback
/// has begun; it is dropped only when it isn't queued (from within the callback
/// is fine).
pub(crate) struct WorkItem {
    inner: KBox<Inner>,
}

// SAFETY: an IO_WORKITEM may be queued from anywhere; callback and context are
// fixed when made.
unsafe impl Sync for WorkItem {}
// SAFETY: the item itself never moves; only the owning pointer does.
unsafe impl Send for WorkItem {}

impl WorkItem {
    /// A work item that isn't queued. `IRQL <= DISPATCH_LEVEL`.
    ///
    /// # Safety
    /// `context` stays good for `callback` from each [`WorkItem::queue`] until
    /// that call's callback has ended.
    pub(crate) unsafe fn try_new(callback: WorkCallback, context: *mut c_void) -> Result<Self> {
        let device = DEVICE.load(Ordering::Acquire);
        if device.is_null() {
            return Err(NtStatus::DEVICE_NOT_READY);
        }
        // SAFETY: the control device's WDM object, alive while DEVICE holds it.
        let item = unsafe { sys::IoAllocateWorkItem(device) };
        let item = NonNull::new(item).ok_or(NtStatus::INSUFFICIENT_RESOURCES)?;
        match KBox::try_new(
            Inner {
                item,
                callback,
                context,
            },
            TAG,
        ) {
            Ok(inner) => Ok(Self { inner }),
            Err(status) => {
                // SAFETY: just allocated, never queued.
                unsafe { sys::IoFreeWorkItem(item.as_ptr()) };
                Err(status)
            }
        }
    }

    /// Asks for one run of the callback. `IRQL <= DISPATCH_LEVEL`.
    ///
    /// # Safety
    /// The item isn't queued already: since the last call, its callback has
    /// begun.
    pub(crate) unsafe fn queue(&self) {
        let own = self.inner.as_ptr().cast::<c_void>();
        // SAFETY: a live item which the caller says isn't queued; its context is
        // the box, which isn't dropped while the item is queued.
        unsafe {
            sys::IoQueueWorkItem(self.inner.item.as_ptr(), run, sys::DELAYED_WORK_QUEUE, own);
        }
    }
}

impl Drop for WorkItem {
    fn drop(&mut self) {
        // SAFETY: allocated in try_new; not queued is the condition of dropping.
        unsafe { sys::IoFreeWorkItem(self.inner.item.as_ptr()) };
    }
}

unsafe extern "system" fn run(_device: *mut c_void, context: *mut c_void) {
    // SAFETY: the context is the Inner given to IoQueueWorkItem, alive until
    // the callback below, which may drop it.
    let (callback, argument) = {
        // SAFETY: as above; the reference ends before the callback begins.
        let inner = unsafe { &*context.cast::<Inner>() };
        (inner.callback, inner.context)
    };
    // SAFETY: try_new's caller keeps the context good until this call ends.
    unsafe { callback(argument) };
}
