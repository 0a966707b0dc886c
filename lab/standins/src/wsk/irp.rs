//! IRPs as the provider handles them: taken from the client, cancellable
//! while they wait, completed exactly once.
//!
//! "Using IRPs with Winsock Kernel Functions" is the contract: the client sets
//! a completion routine for success, error and cancellation before the call;
//! the provider takes the next stack location and completes the IRP whatever
//! the call returns.

use super::types::NtStatus;
use crate::core::{Rule, callout};
use crate::nt::irp::set_cancel_routine;
use crate::nt::types::{DRIVER_CANCEL, IRP, sl};
use std::cell::Cell;
use std::sync::atomic::{AtomicU8, Ordering};

const INVOKE_ALWAYS: u8 = sl::INVOKE_ON_SUCCESS | sl::INVOKE_ON_ERROR | sl::INVOKE_ON_CANCEL;

thread_local! {
    /// How many completion routines of this provider's IRPs this thread is in.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// An IRP that belongs to the provider.
pub(super) struct Request {
    irp: *mut IRP,
}

// SAFETY: while the request exists the IRP is the provider's alone, and the
// provider hands it from thread to thread under its locks.
unsafe impl Send for Request {}
// SAFETY: the cancel routine and the cancel flag are touched atomically, the
// rest by the one thread that completes it.
unsafe impl Sync for Request {}

impl Request {
    /// Takes an IRP from the client of the function `name`.
    pub(super) fn take(name: &'static str, irp: *mut IRP) -> Self {
        if irp.is_null() {
            violate!(Rule::LabWskIrpRequired, "{name} without an IRP");
        }
        let location = crate::nt::irp::mark_pending(irp, name);
        // SAFETY: the current stack location of an IRP that is now ours.
        let location = unsafe { &*location };
        if location.CompletionRoutine.is_none() || location.Control & INVOKE_ALWAYS != INVOKE_ALWAYS
        {
            violate!(
                Rule::LabIrpSetup,
                "{name}: IRP {irp:?} needs a completion routine for success, error and \
                 cancellation (control flags {:#x})",
                location.Control
            );
        }
        Self { irp }
    }

    pub(super) fn address(&self) -> usize {
        self.irp as usize
    }

    /// IoSetCancelRoutine. False when the IRP was cancelled already: then the
    /// routine will not run, and the caller has to end the request.
    pub(super) fn arm_cancel(&self, routine: DRIVER_CANCEL) -> bool {
        set_cancel_routine(self.irp, Some(routine));
        // SAFETY: the IRP is alive while it is ours.
        let flag = unsafe { &raw mut (*self.irp).Cancel };
        // SAFETY: one byte, written by whoever cancels before it takes the
        // routine.
        let cancelled = unsafe { AtomicU8::from_ptr(flag) }.load(Ordering::SeqCst) != 0;
        !(cancelled && self.disarm_cancel())
    }

    /// IoSetCancelRoutine(NULL). False when the cancel routine has been taken
    /// to be run: then it has run, runs, or is about to.
    pub(super) fn disarm_cancel(&self) -> bool {
        set_cancel_routine(self.irp, None).is_some()
    }

    /// IoMarkIrpPending, or its absence: whether the call is going to return
    /// STATUS_PENDING. To be said while nobody else can complete the IRP.
    pub(super) fn set_pending(&self, pending: bool) {
        // SAFETY: the IRP is alive while it is ours.
        let location = unsafe { (*self.irp).CurrentStackLocation };
        // SAFETY: the current stack location is ours with the IRP.
        let control = unsafe { &mut (*location).Control };
        if pending {
            *control |= sl::PENDING_RETURNED;
        } else {
            *control &= !sl::PENDING_RETURNED;
        }
    }

    /// Completes the IRP: the client's routine runs at `level`.
    pub(super) fn complete(&self, status: NtStatus, information: usize, level: u8) {
        DEPTH.set(DEPTH.get() + 1);
        callout::forbid_wait(Rule::LabWskWaitInCallback, || {
            crate::nt::irp::complete_at(self.irp, status, information, level);
        });
        DEPTH.set(DEPTH.get() - 1);
    }
}

/// How many completion routines of WSK IRPs this thread is in.
pub(super) fn depth() -> u32 {
    DEPTH.get()
}

/// Whether this thread is inside a completion routine of a WSK IRP.
pub(super) fn in_completion() -> bool {
    DEPTH.get() > 0
}
