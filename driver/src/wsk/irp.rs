//! An IRP of our own, used again and again.
//!
//! MSDN "Using IRPs with Winsock Kernel Functions" gives the rules this type
//! keeps: one stack location is enough; `IoReuseIrp` before each further use; a
//! completion routine for success, error and cancellation before each call; and
//! the routine ends the completion with `STATUS_MORE_PROCESSING_REQUIRED`. The
//! provider completes the IRP of every call, whatever the call returns, so the
//! returned status is never looked at: what happened is in the IRP.

use core::ffi::c_void;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};

use super::sys;
use crate::kernel::log;
use crate::kernel::status::{NtStatus, Result};

/// How a call ended: `IoStatus` of its IRP.
#[derive(Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) status: NtStatus,
    /// Bytes transferred, or whatever else the call returns.
    pub(crate) information: usize,
}

impl Outcome {
    /// The information, if the call succeeded.
    pub(crate) fn value(self) -> Result<usize> {
        self.status.into_result().map(|()| self.information)
    }
}

/// An IRP with one stack location, either idle or with the provider.
pub(super) struct Irp {
    irp: NonNull<sys::Irp>,
    /// From [`Irp::arm`] to [`Irp::finish`].
    armed: AtomicBool,
}

impl Irp {
    /// An idle IRP. `IRQL <= DISPATCH_LEVEL`.
    pub(super) fn try_new() -> Result<Self> {
        // SAFETY: one stack location, no quota: valid at IRQL <= DISPATCH_LEVEL;
        // null is handled below.
        let irp = unsafe { sys::IoAllocateIrp(1, 0) };
        let irp = NonNull::new(irp).ok_or(NtStatus::INSUFFICIENT_RESOURCES)?;
        Ok(Self {
            irp,
            armed: AtomicBool::new(false),
        })
    }

    /// Makes the IRP ready for one call to the provider, which the caller must
    /// then make with the pointer returned. An IRP that is still with the
    /// provider is refused: reusing it would corrupt it.
    pub(super) fn arm(
        &self,
        routine: sys::IoCompletionRoutine,
        context: *mut c_void,
    ) -> Result<*mut sys::Irp> {
        if self.armed.swap(true, Ordering::Acquire) {
            log::line(c"an IRP was to be used twice at once");
            return Err(NtStatus::INVALID_DEVICE_STATE);
        }
        let irp = self.irp.as_ptr();
        // SAFETY: allocated by IoAllocateIrp and, as `armed` was clear, not with
        // the provider.
        unsafe { sys::IoReuseIrp(irp, NtStatus::UNSUCCESSFUL.0) };
        // SAFETY: the IRP is ours and initialised; the offset is asserted in sys.
        let current = unsafe { (*irp).current_stack_location };
        // What IoSetCompletionRoutine, an inline function, does.
        // SAFETY: a reused IRP's current location is one past its only one, so
        // the next location is the element before, within the same allocation.
        let next = unsafe { current.sub(1) };
        // SAFETY: `next` is the IRP's one stack location, ours until the call.
        unsafe { (*next).completion_routine = routine };
        // SAFETY: as above.
        unsafe { (*next).context = context };
        // SAFETY: as above.
        unsafe { (*next).control = sys::SL_INVOKE_ALWAYS };
        Ok(irp)
    }

    /// Takes the IRP back after its completion routine has run, with the
    /// outcome. The caller must have learnt of the completion through something
    /// that orders memory (a lock or an event).
    pub(super) fn finish(&self) -> Outcome {
        // SAFETY: the completion routine kept the IRP from the I/O manager, so
        // it is ours again and initialised.
        let block = unsafe { (*self.irp.as_ptr()).status };
        self.armed.store(false, Ordering::Release);
        Outcome {
            status: NtStatus(block.status),
            information: block.information,
        }
    }
}

impl Drop for Irp {
    fn drop(&mut self) {
        if *self.armed.get_mut() {
            // Not reachable while the rules above are kept. A leaked IRP is a
            // finding; a freed one that the provider still writes to is a crash.
            log::line(c"an IRP was let go while in use, and leaks");
            return;
        }
        // SAFETY: allocated in try_new, idle, freed once.
        unsafe { sys::IoFreeIrp(self.irp.as_ptr()) };
    }
}
