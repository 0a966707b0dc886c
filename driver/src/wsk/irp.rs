//! An IRP of our own, used again and again.
//!
//! MSDN "Using IRPs with Winsock Kernel Functions" gives the rules this type
//! keeps: one stack location is enough; `IoReuseIrp` before each further use; a
//! completion routine for success, error and cancellation before each call; and
//! the routine ends the completion with `STATUS_MORE_PROCESSING_REQUIRED`. The
//! provider completes the IRP of every call, whatever the call returns, so the
//! returned status is never looked at: what happened is in the IRP.
//!
//! # Why cancelling is sound
//! `IoCancelIrp` on an IRP that has meanwhile been completed, reused or freed
//! would be a call on something else, or on nothing. So an IRP is in one of these
//! states, and changes it in single atomic steps:
//!
//! ```text
//! IDLE -> BUSY -> ARMED -----------> ARMED|ENDED -> IDLE
//!                   |                     ^
//!                   v                     |
//!            ARMED|CANCELLING -> ARMED|CANCELLING|ENDED
//! ```
//!
//! A cancel goes from ARMED to ARMED|CANCELLING, or does nothing at all: it
//! never meets an IRP that is being made ready, and there is never more than one.
//! The completion routine adds ENDED. If it finds CANCELLING there, it leaves the
//! completion to the canceller, who takes CANCELLING away when `IoCancelIrp` has
//! returned, and finds ENDED. So from before `IoCancelIrp` until after it nobody
//! learns that the call has ended; and who hasn't learnt it neither reuses nor
//! frees the IRP. That the IRP is still completed is no matter: it is the
//! driver's own memory, which the I/O manager has been told to leave alone
//! (`STATUS_MORE_PROCESSING_REQUIRED`), and `IoCancelIrp` on a completed one sets
//! a flag and finds no cancel routine.

use core::ffi::c_void;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, Ordering};

use super::sys;
use crate::kernel::log;
use crate::kernel::status::{NtStatus, Result};

/// States of an [`Irp`]; see the top of this file.
mod state {
    /// Ours.
    pub(super) const IDLE: u8 = 0;
    /// Ours, and being made ready.
    pub(super) const BUSY: u8 = 1;
    /// The provider's.
    pub(super) const ARMED: u8 = 2;
    /// Its completion routine has run.
    pub(super) const ENDED: u8 = 4;
    /// Somebody is in `IoCancelIrp` with it.
    pub(super) const CANCELLING: u8 = 8;
}

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
    state: AtomicU8,
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
            state: AtomicU8::new(state::IDLE),
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
        let taken = self.state.compare_exchange(
            state::IDLE,
            state::BUSY,
            Ordering::Acquire,
            Ordering::Relaxed,
        );
        if taken.is_err() {
            log::line(c"an IRP was to be used twice at once");
            return Err(NtStatus::INVALID_DEVICE_STATE);
        }
        let irp = self.irp.as_ptr();
        // SAFETY: allocated by IoAllocateIrp and, as it was idle, not with the
        // provider.
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
        self.state.store(state::ARMED, Ordering::Release);
        Ok(irp)
    }

    /// For the completion routine: the call has ended. True if whoever waits for
    /// that is to be told by the caller; false if a canceller will tell.
    pub(super) fn ended(&self) -> bool {
        let before = self.state.fetch_or(state::ENDED, Ordering::AcqRel);
        before & state::CANCELLING == 0
    }

    /// How the call has ended, between [`Irp::ended`] and [`Irp::finish`].
    pub(super) fn outcome(&self) -> Outcome {
        // SAFETY: the completion routine kept the IRP from the I/O manager, so
        // it is ours again and initialised.
        let block = unsafe { (*self.irp.as_ptr()).status };
        Outcome {
            status: NtStatus(block.status),
            information: block.information,
        }
    }

    /// Asks the provider to end the call soon, if there is one. True if it has
    /// ended meanwhile and the caller is to tell. `IRQL <= DISPATCH_LEVEL`.
    pub(super) fn cancel(&self) -> bool {
        let taken = self.state.compare_exchange(
            state::ARMED,
            state::ARMED | state::CANCELLING,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
        if taken.is_err() {
            return false;
        }
        // SAFETY: armed, so initialised; neither reused nor freed until
        // CANCELLING has been taken away (top of this file).
        unsafe { sys::IoCancelIrp(self.irp.as_ptr()) };
        let before = self.state.fetch_and(!state::CANCELLING, Ordering::AcqRel);
        before & state::ENDED != 0
    }

    /// Takes the IRP back after its completion has been told, with the outcome.
    /// The caller must have learnt of the completion through something that
    /// orders memory (a lock or an event).
    pub(super) fn finish(&self) -> Outcome {
        let outcome = self.outcome();
        self.state.store(state::IDLE, Ordering::Release);
        outcome
    }
}

impl Drop for Irp {
    fn drop(&mut self) {
        if *self.state.get_mut() != state::IDLE {
            // Not reachable while the rules above are kept. A leaked IRP is a
            // finding; a freed one that the provider still writes to is a crash.
            log::line(c"an IRP was let go while in use, and leaks");
            return;
        }
        // SAFETY: allocated in try_new, idle, freed once.
        unsafe { sys::IoFreeIrp(self.irp.as_ptr()) };
    }
}
