//! The two ways the driver makes a call with an IRP: [`Op`] for calls whose end
//! wakes a task of the [pump](super::pump), [`Control`] for calls that are
//! waited for at `PASSIVE_LEVEL`.

use core::ffi::c_void;

use super::irp::{Irp, Outcome};
use super::pump::{self, Task};
use super::sys;
use crate::kernel::event::Event;
use crate::kernel::status::{NtStatus, Result};

/// One asynchronous call at a time; its completion signals a task.
pub(crate) struct Op {
    irp: Irp,
    task: *const Task,
    signal: u32,
}

impl Op {
    /// An idle operation whose completions raise `signal` on the task given to
    /// [`Op::bind`]. `IRQL <= DISPATCH_LEVEL`.
    pub(crate) fn try_new(signal: u32) -> Result<Self> {
        Ok(Self {
            irp: Irp::try_new()?,
            task: core::ptr::null(),
            signal,
        })
    }

    /// Says which task is to be woken. Before this, calls are refused.
    ///
    /// # Safety
    /// Neither the task nor this operation moves or goes away from the start of
    /// a call until the task's step has been given `signal`.
    pub(crate) unsafe fn bind(&mut self, task: *const Task) {
        self.task = task;
    }

    /// Makes a call: `call` gets the IRP and must hand it to one function of
    /// the provider. `Ok` means that `signal` will come, once; `Err` that no
    /// call was made.
    pub(super) fn issue(&self, call: impl FnOnce(*mut sys::Irp)) -> Result<()> {
        if self.task.is_null() {
            return Err(NtStatus::INVALID_DEVICE_STATE);
        }
        let own = core::ptr::from_ref(self).cast_mut().cast::<c_void>();
        let irp = self.irp.arm(wake, own)?;
        call(irp);
        Ok(())
    }

    /// How the call ended. To be called once for each `signal`.
    pub(crate) fn finish(&self) -> Outcome {
        self.irp.finish()
    }
}

/// The completion routine of an [`Op`]. It calls nothing of the provider's: it
/// may be running inside the very call that started the operation.
unsafe extern "system" fn wake(
    _device: *mut c_void,
    _irp: *mut sys::Irp,
    context: *mut c_void,
) -> i32 {
    let (task, signal) = {
        // SAFETY: the context is the Op, which (Op::bind) lives until its task
        // has been given the signal raised below; the reference ends here.
        let op = unsafe { &*context.cast::<Op>() };
        (op.task, op.signal)
    };
    // SAFETY: the same promise keeps the task alive until it has the signal.
    // Nothing of the Op or its task is touched afterwards.
    unsafe { pump::signal(task, signal) };
    NtStatus::MORE_PROCESSING_REQUIRED.0
}

/// Calls that are waited for. Holds all they need, so a socket that has been
/// opened can always be closed, however short memory is.
pub(super) struct Control {
    irp: Irp,
    done: Event,
}

impl Control {
    pub(super) fn try_new() -> Result<Self> {
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
        let event = core::ptr::from_ref(&self.done).cast_mut().cast::<c_void>();
        let irp = self.irp.arm(set_event, event)?;
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
    // SAFETY: the context is the Control's event; Control::run doesn't return
    // before it is set.
    let done = unsafe { &*context.cast::<Event>() };
    done.set();
    NtStatus::MORE_PROCESSING_REQUIRED.0
}
