//! The ways the driver makes a call with an IRP: [`Op`] for calls whose end wakes
//! a task of the [pump](super::pump) or runs a function of its owner, [`Control`]
//! for calls that are waited for at `PASSIVE_LEVEL`.

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};

use super::buf::Span;
use super::irp::{Irp, Outcome};
use super::pump::{self, Task};
use super::sys;
use crate::kernel::event::Event;
use crate::kernel::status::{NtStatus, Result};

/// What runs when an operation has ended: its context, and how it has ended.
/// `IRQL <= DISPATCH_LEVEL`, possibly inside the call that started it. It calls
/// nothing of the provider's and doesn't wait. The operation is idle again: the
/// routine may free it, or have it used again from elsewhere.
pub(crate) type Ended = unsafe fn(context: *mut c_void, outcome: Outcome);

/// Who learns of the end of an operation.
#[derive(Clone, Copy)]
enum Tell {
    Nobody,
    Signal {
        task: *const Task,
        signal: u32,
    },
    Call {
        routine: Ended,
        context: *mut c_void,
    },
}

/// No memory.
const NOTHING: sys::WskBuf = sys::WskBuf {
    mdl: ptr::null_mut(),
    offset: 0,
    length: 0,
};

/// One asynchronous call at a time.
pub(crate) struct Op {
    irp: Irp,
    tell: Tell,
    /// What the pending call was given, if it moves data: here, not on a stack,
    /// so that it is there until the call has ended.
    part: UnsafeCell<sys::WskBuf>,
    /// Where bytes that were moved are added up, if anywhere.
    meters: [*const AtomicU64; 2],
    /// Signals that are raised as well if a call fails or moves less than asked.
    urgent: u32,
}

// SAFETY: the IRP's state is atomic; `part` is written by whoever has armed the
// IRP, before the call; the rest doesn't change once the operation is shared.
unsafe impl Sync for Op {}
// SAFETY: as above.
unsafe impl Send for Op {}

impl Op {
    /// An idle operation nobody has been bound to. `IRQL <= DISPATCH_LEVEL`.
    pub(crate) fn try_new() -> Result<Self> {
        Ok(Self {
            irp: Irp::try_new()?,
            tell: Tell::Nobody,
            part: UnsafeCell::new(NOTHING),
            meters: [ptr::null(); 2],
            urgent: 0,
        })
    }

    /// Says which task gets which signal when a call has ended. Before this or
    /// [`Op::bind_call`], calls are refused.
    ///
    /// # Safety
    /// Neither the task nor this operation moves or goes away from the start of
    /// a call until the task's step has been given `signal`.
    pub(crate) unsafe fn bind(&mut self, task: *const Task, signal: u32) {
        self.tell = Tell::Signal { task, signal };
    }

    /// Says what runs when a call has ended. [`Op::finish`] isn't called then.
    ///
    /// # Safety
    /// From the start of a call until `routine` has begun, the operation neither
    /// moves nor goes away, and `context` stays good for `routine`.
    pub(crate) unsafe fn bind_call(&mut self, routine: Ended, context: *mut c_void) {
        self.tell = Tell::Call { routine, context };
    }

    /// Has the bytes of each call that succeeds added to all of `meters`, before
    /// its end is told.
    ///
    /// # Safety
    /// Each is null, or good for as long as calls may end.
    pub(crate) unsafe fn meter(&mut self, meters: [*const AtomicU64; 2]) {
        self.meters = meters;
    }

    /// Has these signals raised as well when a call fails or moves less than it
    /// was asked to.
    pub(crate) fn urgent(&mut self, signals: u32) {
        self.urgent = signals;
    }

    /// Makes a call: `call` gets the IRP and must hand it to one function of
    /// the provider. `Ok` means that the end will be told, once; `Err` that no
    /// call was made.
    pub(super) fn issue(&self, call: impl FnOnce(*mut sys::Irp)) -> Result<()> {
        self.issue_with(NOTHING, |_, irp| call(irp))
    }

    fn issue_with(
        &self,
        part: sys::WskBuf,
        call: impl FnOnce(*const sys::WskBuf, *mut sys::Irp),
    ) -> Result<()> {
        if matches!(self.tell, Tell::Nobody) {
            return Err(NtStatus::INVALID_DEVICE_STATE);
        }
        let own = ptr::from_ref(self).cast_mut().cast::<c_void>();
        let irp = self.irp.arm(ended, own)?;
        let place = self.part.get();
        // SAFETY: the IRP is armed and not yet the provider's, so nobody else
        // reads or writes the description.
        unsafe { *place = part };
        call(place.cast_const(), irp);
        Ok(())
    }

    /// As [`Op::issue`], for a call that moves the data of `span`.
    pub(super) fn transfer(
        &self,
        span: Span,
        call: impl FnOnce(*const sys::WskBuf, *mut sys::Irp),
    ) -> Result<()> {
        self.issue_with(span.raw(), call)
    }

    /// As [`Op::issue`], for a call that wants a description of data and moves
    /// none.
    pub(super) fn without_data(
        &self,
        call: impl FnOnce(*const sys::WskBuf, *mut sys::Irp),
    ) -> Result<()> {
        self.issue_with(NOTHING, call)
    }

    /// Asks the provider to end the pending call soon, if there is one. Its end
    /// is told as always, possibly from within this: with `STATUS_CANCELLED`, or
    /// with what it came to before. Does nothing to a call that hasn't been
    /// started yet. `IRQL <= DISPATCH_LEVEL`.
    ///
    /// # Safety
    /// The operation doesn't go away before this has returned.
    pub(crate) unsafe fn cancel(&self) {
        if self.irp.cancel() {
            // SAFETY: the call has ended and nobody has been told (Irp::cancel).
            unsafe { tell(self) };
        }
    }

    /// How the call ended. To be called once for each signal.
    pub(crate) fn finish(&self) -> Outcome {
        self.irp.finish()
    }
}

/// Tells that an operation has ended.
///
/// # Safety
/// It has, nobody has been told yet, and who binds it keeps their promises.
/// Nothing of the operation is touched afterwards.
unsafe fn tell(op: *const Op) {
    let (told, urgent) = {
        // SAFETY: alive until its end has been told, which happens below; the
        // reference ends here.
        let op = unsafe { &*op };
        (op.tell, if op.count() { 0 } else { op.urgent })
    };
    match told {
        Tell::Nobody => {}
        Tell::Signal { task, signal } => {
            // SAFETY: the promise of `bind` keeps the task alive until it has
            // the signal.
            unsafe { pump::signal(task, signal | urgent) };
        }
        Tell::Call { routine, context } => {
            // SAFETY: alive until the routine begins (bind_call).
            let outcome = unsafe { (*op).irp.finish() };
            // SAFETY: bound with this context, which is good (bind_call).
            unsafe { routine(context, outcome) };
        }
    }
}

impl Op {
    /// Adds up what the call that has ended moved; true if it did all it was
    /// asked to.
    fn count(&self) -> bool {
        let Ok(bytes) = self.irp.outcome().value() else {
            return false;
        };
        // SAFETY: the call has ended and nobody has been told yet, so nobody
        // writes the description.
        let part = unsafe { *self.part.get() };
        if part.mdl.is_null() {
            return true;
        }
        for meter in self.meters {
            // SAFETY: null, or good for as long as calls may end (Op::meter).
            if let Some(meter) = unsafe { meter.as_ref() } {
                // usize has 64 bits here.
                meter.fetch_add(bytes as u64, Ordering::Relaxed);
            }
        }
        bytes == part.length
    }
}

/// The completion routine of an [`Op`]. It calls nothing of the provider's: it
/// may be running inside the very call that started the operation.
unsafe extern "system" fn ended(
    _device: *mut c_void,
    _irp: *mut sys::Irp,
    context: *mut c_void,
) -> i32 {
    let op = context.cast::<Op>().cast_const();
    // SAFETY: the context is the Op, which lives until its end has been told.
    let is_mine = unsafe { (*op).irp.ended() };
    if is_mine {
        // SAFETY: the call has ended, and telling is up to us (Irp::ended).
        unsafe { tell(op) };
    }
    NtStatus::MORE_PROCESSING_REQUIRED.0
}

/// Calls that are waited for. Holds all they need, so a socket that has been
/// opened can always be closed, however short memory is.
pub(crate) struct Control {
    irp: Irp,
    done: Event,
}

impl Control {
    /// One that nobody uses yet. `IRQL <= DISPATCH_LEVEL`.
    pub(crate) fn try_new() -> Result<Self> {
        Ok(Self {
            irp: Irp::try_new()?,
            done: Event::try_new()?,
        })
    }

    /// Makes one call, which `call` must do with the IRP it is given, and waits
    /// for its end. `PASSIVE_LEVEL`, one caller at a time, and never from a
    /// completion routine or an event callback.
    pub(super) fn run(&self, call: impl FnOnce(*mut sys::Irp)) -> Result<usize> {
        self.done.reset();
        let own = ptr::from_ref(self).cast_mut().cast::<c_void>();
        let irp = self.irp.arm(set_event, own)?;
        call(irp);
        self.done.wait();
        self.irp.finish().value()
    }
}

unsafe extern "system" fn set_event(
    _device: *mut c_void,
    _irp: *mut sys::Irp,
    context: *mut c_void,
) -> i32 {
    // SAFETY: the context is the Control; Control::run doesn't return before
    // its event is set.
    let control = unsafe { &*context.cast::<Control>() };
    // Always true: nobody cancels these.
    if control.irp.ended() {
        control.done.set();
    }
    NtStatus::MORE_PROCESSING_REQUIRED.0
}
