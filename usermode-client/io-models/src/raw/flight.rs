//! Overlapped operations that set an event when they complete.

use std::io;
use std::ops::Range;
use std::os::windows::io::OwnedSocket;
use std::ptr::NonNull;
use std::sync::Arc;

use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::Networking::WinSock::WSA_IO_INCOMPLETE;
use windows_sys::Win32::System::IO::CancelIoEx;

use super::accept::Accept;
use super::event::Event;
use super::number;
use super::op::{self, Op, Refused, Started, Transfer};

/// What an operation carries: its event, and its owner's part.
type Carried<C> = (Arc<Event>, C);

/// An operation with an event, not in flight.
pub(crate) struct EventOp<C>(Box<Op<Carried<C>>>);

impl<C> EventOp<C> {
    /// One for this socket, with a buffer of so many bytes. The socket is on no
    /// completion port: sockets on one can't be had outside of `port`.
    pub(crate) fn new(
        socket: Arc<OwnedSocket>,
        buffer: usize,
        event: Arc<Event>,
        context: C,
    ) -> EventOp<C> {
        let handle = event.handle();
        let mut op = Op::new(socket, buffer, (event, context));
        op.overlapped.hEvent = handle;
        EventOp(op)
    }

    /// Its owner's part.
    pub(crate) fn context(&mut self) -> &mut C {
        &mut self.0.context.1
    }

    /// Receives into the whole buffer.
    pub(crate) fn receive(self) -> io::Result<Flight<C>> {
        self.transfer(&Transfer::Receive)
    }

    /// Sends these bytes of the buffer.
    pub(crate) fn send(self, range: Range<usize>) -> io::Result<Flight<C>> {
        self.transfer(&Transfer::Send(range))
    }

    fn transfer(self, what: &Transfer) -> io::Result<Flight<C>> {
        self.0.context.0.reset();
        Flight::begun(op::transfer(self.0, what, None))
    }

    /// Accepts a connection from the socket, which listens, into `accepted`.
    pub(crate) fn accept(self, accept: &Accept, accepted: &OwnedSocket) -> io::Result<Flight<C>> {
        self.0.context.0.reset();
        Flight::begun(accept.start(self.0, number(accepted)))
    }
}

/// An operation in flight. Dropped, it is cancelled and waited for: its memory
/// is not freed before the kernel has let go of it.
pub(crate) struct Flight<C>(NonNull<Op<Carried<C>>>);

/// What comes of asking a [`Flight`].
pub(crate) enum Landed<C> {
    /// It completed with so many bytes.
    Done(EventOp<C>, usize),
    /// It failed.
    Failed(io::Error),
    /// Not yet.
    Flying(Flight<C>),
}

impl<C> Flight<C> {
    fn begun(started: Result<Started<Carried<C>>, Refused<Carried<C>>>) -> io::Result<Self> {
        // Done at once or not, the event tells.
        let (op, _at_once) = started.map_err(|(_op, error)| error)?;
        // Never null: it was a box.
        NonNull::new(op)
            .map(Flight)
            .ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// Takes the operation back if it has completed.
    pub(crate) fn land(self) -> Landed<C> {
        // SAFETY: in flight, so valid; it may be asked whether it has completed.
        let outcome = unsafe { op::outcome(self.0.as_ptr(), false) };
        if let Err(error) = &outcome
            && error.raw_os_error() == Some(WSA_IO_INCOMPLETE)
        {
            return Landed::Flying(self);
        }
        let raw = self.0.as_ptr();
        std::mem::forget(self);
        // SAFETY: it has completed, the kernel is done with it; the pointer is
        // from the box `op::start` took apart, and whoever had it is forgotten.
        let op = EventOp(unsafe { Box::from_raw(raw) });
        match outcome {
            Ok(bytes) => Landed::Done(op, bytes),
            Err(error) => Landed::Failed(error),
        }
    }
}

impl<C> Drop for Flight<C> {
    fn drop(&mut self) {
        let op = self.0.as_ptr();
        // SAFETY: in flight, so valid; the kernel doesn't write to the socket's
        // place.
        let socket = unsafe { &raw const (*op).socket };
        // SAFETY: valid for the same reason.
        let socket = number(unsafe { &**socket });
        // That it fails means it has completed already.
        // SAFETY: the socket is open, being the operation's, and OVERLAPPED is
        // the first field of the operation.
        unsafe { CancelIoEx(socket as HANDLE, op.cast()) };
        // SAFETY: valid, and this waits until the kernel is done with it.
        let _how_it_ended = unsafe { op::outcome(op, true) };
        // SAFETY: done by the wait above; the pointer is from a box and nobody
        // else has it.
        drop(unsafe { Box::from_raw(op) });
    }
}
