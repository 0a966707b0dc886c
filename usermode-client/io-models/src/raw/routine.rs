//! Overlapped operations whose completion calls a routine.

use std::io;
use std::ops::Range;
use std::os::windows::io::OwnedSocket;
use std::sync::Arc;

use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::System::IO::{CancelIoEx, OVERLAPPED};

use super::number;
use super::op::{self, Op, Transfer};

/// What is called when an operation of this kind has completed.
pub(crate) trait Routine: Sized {
    /// Called on the thread that started the operation, within an alertable wait
    /// of it. The operation may be started again.
    fn completed(op: RoutineOp<Self>, result: io::Result<usize>);
}

/// An operation with a routine, not in flight. Of one thread: Windows calls the
/// routine on the thread that started it. One that is in flight when its thread
/// ends is cancelled, its routine never called, and its memory never freed.
pub(crate) struct RoutineOp<C>(Box<Op<C>>);

impl<C: Routine> RoutineOp<C> {
    /// One for this socket, with a buffer of so many bytes. The socket is on no
    /// completion port: sockets on one can't be had outside of `port`.
    pub(crate) fn new(socket: Arc<OwnedSocket>, buffer: usize, context: C) -> RoutineOp<C> {
        RoutineOp(Op::new(socket, buffer, context))
    }

    /// Its owner's part.
    pub(crate) fn context(&mut self) -> &mut C {
        &mut self.0.context
    }

    /// Receives into the whole buffer. An operation that doesn't start comes
    /// back, and its routine is not called.
    pub(crate) fn receive(self) -> Result<(), (RoutineOp<C>, io::Error)> {
        self.start(&Transfer::Receive)
    }

    /// Sends these bytes of the buffer.
    pub(crate) fn send(self, range: Range<usize>) -> Result<(), (RoutineOp<C>, io::Error)> {
        self.start(&Transfer::Send(range))
    }

    fn start(self, what: &Transfer) -> Result<(), (RoutineOp<C>, io::Error)> {
        match op::transfer(self.0, what, Some(trampoline::<C>)) {
            Ok((_the_kernels, _at_once)) => Ok(()),
            Err((op, error)) => Err((RoutineOp(op), error)),
        }
    }
}

/// Cancels what is in flight on a socket. The routines are called all the same.
pub(crate) fn cancel(socket: &OwnedSocket) {
    // SAFETY: the socket is borrowed; no operation named means all of them.
    unsafe { CancelIoEx(number(socket) as HANDLE, std::ptr::null()) };
}

/// What Windows calls.
unsafe extern "system" fn trampoline<C: Routine>(
    _error: u32,
    _transferred: u32,
    overlapped: *mut OVERLAPPED,
    _flags: u32,
) {
    let op = overlapped.cast::<Op<C>>();
    // The error in the arguments is of no one set of codes; this one is.
    // SAFETY: Windows passes the OVERLAPPED the operation was started with, which
    // is the first field of an Op<C>: `start` names the trampoline of its own C.
    // It has completed.
    let result = unsafe { op::outcome(op, false) };
    // SAFETY: the same pointer, from the box `op::start` took apart; its one
    // completion gives it back once.
    let op = unsafe { Box::from_raw(op) };
    C::completed(RoutineOp(op), result);
}
