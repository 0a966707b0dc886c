//! A completion port, and the sockets on it.

use std::io;
use std::marker::PhantomData;
use std::ops::Range;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle, OwnedSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use windows_sys::Win32::Foundation::{HANDLE, INVALID_HANDLE_VALUE};
use windows_sys::Win32::System::IO::{
    CancelIoEx, CreateIoCompletionPort, GetQueuedCompletionStatusEx, OVERLAPPED_ENTRY,
    PostQueuedCompletionStatus,
};
use windows_sys::Win32::System::Threading::INFINITE;

use super::accept::{self, Accept};
use super::number;
use super::op::{self, Op, Refused, Transfer};

/// Key of the packets of operations.
const KEY_OPERATION: usize = 0;
/// Key of the packets that wake a worker; they have no operation.
const KEY_WAKE: usize = 1;
/// Packets taken at once: few, so that one worker does not take what the others
/// could do.
const BATCH: usize = 8;

/// A port whose operations all carry a `C`. Operations in flight when it is
/// dropped keep their memory for ever.
pub(crate) struct Port<C> {
    handle: OwnedHandle,
    flying: AtomicUsize,
    _carries: PhantomData<fn(C) -> C>,
}

/// A socket on a port. Nothing else can start an operation on it.
pub(crate) struct PortSocket<C> {
    socket: Arc<OwnedSocket>,
    _carries: PhantomData<fn(C) -> C>,
}

impl<C> Clone for PortSocket<C> {
    fn clone(&self) -> Self {
        PortSocket {
            socket: Arc::clone(&self.socket),
            _carries: PhantomData,
        }
    }
}

impl<C> PortSocket<C> {
    /// Cancels what is in flight on it. The packets come all the same.
    pub(crate) fn cancel(&self) {
        // SAFETY: the socket is borrowed; no operation named means all of them.
        unsafe { CancelIoEx(number(&*self.socket) as HANDLE, std::ptr::null()) };
    }

    /// Makes a socket that was accepted from this one into one like any other.
    pub(crate) fn finish_accept(&self, accepted: OwnedSocket) -> io::Result<OwnedSocket> {
        accept::finish(accepted, &*self.socket)
    }

    /// Has small answers sent at once.
    pub(crate) fn no_delay(&self) {
        crate::server::no_delay(&*self.socket);
    }

    /// Shuts its sending side down.
    pub(crate) fn shutdown(&self) -> io::Result<()> {
        socket2::SockRef::from(&*self.socket).shutdown(std::net::Shutdown::Write)
    }
}

/// An operation of a port, not in flight.
pub(crate) struct PortOp<C>(Box<Op<C>>);

impl<C> PortOp<C> {
    /// One for this socket, with a buffer of so many bytes.
    pub(crate) fn new(socket: &PortSocket<C>, buffer: usize, context: C) -> PortOp<C> {
        PortOp(Op::new(Arc::clone(&socket.socket), buffer, context))
    }

    /// Its owner's part.
    pub(crate) fn context(&mut self) -> &mut C {
        &mut self.0.context
    }

    /// Ends it.
    pub(crate) fn into_context(self) -> C {
        self.0.context
    }
}

/// A packet of an operation that has completed.
pub(crate) struct Done<C> {
    /// The operation, ours again.
    pub(crate) op: PortOp<C>,
    /// Bytes, or how it failed.
    pub(crate) result: io::Result<usize>,
}

/// What a wait for packets gave.
pub(crate) struct Packets<C> {
    /// Operations that have completed.
    pub(crate) done: Vec<Done<C>>,
    /// Whether somebody called [`Port::wake`].
    pub(crate) woken: bool,
}

impl<C: Send> Port<C> {
    /// A port that lets so many threads run at once.
    pub(crate) fn new(threads: usize) -> io::Result<Port<C>> {
        let threads = u32::try_from(threads).unwrap_or(0);
        // SAFETY: INVALID_HANDLE_VALUE and no existing port ask for a new one;
        // no pointer is passed.
        let raw = unsafe {
            CreateIoCompletionPort(INVALID_HANDLE_VALUE, std::ptr::null_mut(), 0, threads)
        };
        if raw.is_null() {
            return Err(io::Error::last_os_error());
        }
        Ok(Port {
            // SAFETY: the call succeeded, so the handle is open, and nobody else
            // closes it.
            handle: unsafe { OwnedHandle::from_raw_handle(raw) },
            flying: AtomicUsize::new(0),
            _carries: PhantomData,
        })
    }

    /// Puts a socket on the port. It has no other handle, and nothing is in
    /// flight on it.
    pub(crate) fn adopt(&self, socket: OwnedSocket) -> io::Result<PortSocket<C>> {
        // SAFETY: socket and port are open: ours.
        let port = unsafe {
            CreateIoCompletionPort(
                number(&socket) as HANDLE,
                self.handle.as_raw_handle(),
                KEY_OPERATION,
                0,
            )
        };
        if port.is_null() {
            return Err(io::Error::last_os_error());
        }
        Ok(PortSocket {
            socket: Arc::new(socket),
            _carries: PhantomData,
        })
    }

    /// Receives into the whole buffer.
    pub(crate) fn receive(&self, op: PortOp<C>) -> Result<(), (PortOp<C>, io::Error)> {
        self.start(|| op::transfer(op.0, &Transfer::Receive, None))
    }

    /// Sends these bytes of the buffer.
    pub(crate) fn send(
        &self,
        op: PortOp<C>,
        range: Range<usize>,
    ) -> Result<(), (PortOp<C>, io::Error)> {
        self.start(|| op::transfer(op.0, &Transfer::Send(range), None))
    }

    /// Accepts a connection from the operation's socket into the one that
    /// `accepted` finds in what the operation carries: so that it is the
    /// operation's alone when the packet comes, which may be at once.
    pub(crate) fn accept(
        &self,
        op: PortOp<C>,
        accept: &Accept,
        accepted: impl FnOnce(&C) -> Option<&OwnedSocket>,
    ) -> Result<(), (PortOp<C>, io::Error)> {
        let Some(accepted) = accepted(&op.0.context).map(number) else {
            return Err((op, io::ErrorKind::InvalidInput.into()));
        };
        self.start(|| accept.start(op.0, accepted))
    }

    /// Counts the operation before it starts: its packet may be taken by another
    /// thread before the call returns.
    fn start(
        &self,
        start: impl FnOnce() -> Result<*mut Op<C>, Refused<C>>,
    ) -> Result<(), (PortOp<C>, io::Error)> {
        self.flying.fetch_add(1, Ordering::AcqRel);
        match start() {
            Ok(_the_kernels) => Ok(()),
            Err((op, error)) => {
                self.flying.fetch_sub(1, Ordering::AcqRel);
                Err((PortOp(op), error))
            }
        }
    }

    /// Operations whose packets have not been taken.
    pub(crate) fn flying(&self) -> usize {
        self.flying.load(Ordering::Acquire)
    }

    /// Posts a packet without an operation.
    pub(crate) fn wake(&self) {
        // SAFETY: the port is open: ours. The packet has no OVERLAPPED.
        unsafe {
            PostQueuedCompletionStatus(self.handle.as_raw_handle(), 0, KEY_WAKE, std::ptr::null())
        };
    }

    /// Waits for packets and takes some.
    pub(crate) fn wait(&self) -> io::Result<Packets<C>> {
        let mut entries = [OVERLAPPED_ENTRY::default(); BATCH];
        let mut count = 0;
        // SAFETY: `entries` has room for BATCH packets and `count` for their
        // number, both ours through the call; the port is open.
        let ok = unsafe {
            GetQueuedCompletionStatusEx(
                self.handle.as_raw_handle(),
                entries.as_mut_ptr(),
                BATCH as u32,
                &mut count,
                INFINITE,
                0,
            )
        };
        if ok == 0 {
            return Err(io::Error::last_os_error());
        }
        let mut packets = Packets {
            done: Vec::with_capacity(count as usize),
            woken: false,
        };
        for entry in entries.iter().take(count as usize) {
            if entry.lpCompletionKey == KEY_WAKE {
                packets.woken = true;
                continue;
            }
            let op = entry.lpOverlapped.cast::<Op<C>>();
            // SAFETY: sockets come to this port only by `adopt`, and operations
            // start on them only through it, as Op<C> whose first field is the
            // OVERLAPPED the packet names; it has completed.
            let result = unsafe { op::outcome(op, false) };
            // SAFETY: the same pointer, from the box `op::start` took apart; its
            // one packet gives it back once.
            let op = PortOp(unsafe { Box::from_raw(op) });
            self.flying.fetch_sub(1, Ordering::AcqRel);
            packets.done.push(Done { op, result });
        }
        Ok(packets)
    }
}
