//! A completion port, and the sockets on it.

use std::io;
use std::marker::PhantomData;
use std::ops::Range;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle, OwnedSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use windows_sys::Win32::Foundation::{HANDLE, INVALID_HANDLE_VALUE, WAIT_TIMEOUT};
use windows_sys::Win32::Storage::FileSystem::SetFileCompletionNotificationModes;
use windows_sys::Win32::System::IO::{
    CancelIoEx, CreateIoCompletionPort, GetQueuedCompletionStatusEx, OVERLAPPED_ENTRY,
    PostQueuedCompletionStatus,
};
use windows_sys::Win32::System::Threading::INFINITE;
use windows_sys::Win32::System::WindowsProgramming::{
    FILE_SKIP_COMPLETION_PORT_ON_SUCCESS, FILE_SKIP_SET_EVENT_ON_HANDLE,
};

use super::accept::{self, Accept};
use super::op::{self, Op, Refused, Started, Transfer};
use super::{number, option};

/// Key of the packets of operations.
const KEY_OPERATION: usize = 0;
/// Key of the packets that wake a worker; they have no operation.
const KEY_WAKE: usize = 1;
/// Packets taken at once: few, so that one worker does not take what the others
/// could do.
const BATCH: usize = 8;

/// What an operation carries: whether its socket has no packet for one that is
/// done at once, and its owner's part.
type Carried<C> = (bool, C);

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
    /// No packet is posted for an operation that is done at once.
    quick: bool,
    _carries: PhantomData<fn(C) -> C>,
}

impl<C> Clone for PortSocket<C> {
    fn clone(&self) -> Self {
        PortSocket {
            socket: Arc::clone(&self.socket),
            quick: self.quick,
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

    /// From now on no packet is posted for an operation that is done at once:
    /// whoever starts it has it back at once. A socket that can't do that stays
    /// as it is. To be called before anything is started on it.
    pub(crate) fn be_quick(&mut self) {
        let modes = FILE_SKIP_COMPLETION_PORT_ON_SUCCESS | FILE_SKIP_SET_EVENT_ON_HANDLE;
        let handle = number(&*self.socket) as HANDLE;
        if option::is_handle(&*self.socket) {
            // SAFETY: the socket is open, being ours; no pointer is passed.
            self.quick = unsafe { SetFileCompletionNotificationModes(handle, modes as u8) } != 0;
        }
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
pub(crate) struct PortOp<C>(Box<Op<Carried<C>>>);

impl<C> PortOp<C> {
    /// One for this socket, with a buffer of so many bytes.
    pub(crate) fn new(socket: &PortSocket<C>, buffer: usize, context: C) -> PortOp<C> {
        let carried = (socket.quick, context);
        PortOp(Op::new(Arc::clone(&socket.socket), buffer, carried))
    }

    /// Its owner's part.
    pub(crate) fn context(&mut self) -> &mut C {
        &mut self.0.context.1
    }

    /// Ends it.
    pub(crate) fn into_context(self) -> C {
        self.0.context.1
    }
}

/// An operation that has completed.
pub(crate) struct Done<C> {
    /// The operation, ours again.
    pub(crate) op: PortOp<C>,
    /// Bytes, or how it failed.
    pub(crate) result: io::Result<usize>,
}

/// What becomes of starting an operation: in flight, or done at once without a
/// packet; or not started, and given back.
pub(crate) type Start<C> = Result<Option<Done<C>>, (PortOp<C>, io::Error)>;

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
            quick: false,
            _carries: PhantomData,
        })
    }

    /// Receives into the whole buffer.
    pub(crate) fn receive(&self, op: PortOp<C>) -> Start<C> {
        self.start(op, |op| op::transfer(op, &Transfer::Receive, None))
    }

    /// Sends these bytes of the buffer.
    pub(crate) fn send(&self, op: PortOp<C>, range: Range<usize>) -> Start<C> {
        self.start(op, |op| op::transfer(op, &Transfer::Send(range), None))
    }

    /// Accepts a connection from the operation's socket into the one that
    /// `accepted` finds in what the operation carries: so that it is the
    /// operation's alone when the packet comes, which may be at once.
    pub(crate) fn accept(
        &self,
        op: PortOp<C>,
        accept: &Accept,
        accepted: impl FnOnce(&C) -> Option<&OwnedSocket>,
    ) -> Start<C> {
        let Some(accepted) = accepted(&op.0.context.1).map(number) else {
            return Err((op, io::ErrorKind::InvalidInput.into()));
        };
        self.start(op, |op| accept.start(op, accepted))
    }

    /// Counts the operation before it starts: its packet may be taken by another
    /// thread before the call returns.
    fn start(
        &self,
        op: PortOp<C>,
        start: impl FnOnce(Box<Op<Carried<C>>>) -> Result<Started<Carried<C>>, Refused<Carried<C>>>,
    ) -> Start<C> {
        let quick = op.0.context.0;
        self.flying.fetch_add(1, Ordering::AcqRel);
        match start(op.0) {
            Ok((op, at_once)) if at_once && quick => {
                // SAFETY: it has completed, and no packet gives it to another: so
                // it is ours, as `start` made it.
                Ok(Some(unsafe { self.take_back(op) }))
            }
            Ok(_the_kernels) => Ok(None),
            Err((op, error)) => {
                self.flying.fetch_sub(1, Ordering::AcqRel);
                Err((PortOp(op), error))
            }
        }
    }

    /// Puts an operation that has completed behind the packets there are. Comes
    /// back if it can't be.
    pub(crate) fn requeue(&self, done: Done<C>) -> Option<Done<C>> {
        self.flying.fetch_add(1, Ordering::AcqRel);
        let op = Box::into_raw(done.op.0);
        // SAFETY: the port is open: ours. The OVERLAPPED is the first field of the
        // operation, and says how it has completed.
        let posted = unsafe {
            PostQueuedCompletionStatus(
                self.handle.as_raw_handle(),
                0,
                KEY_OPERATION,
                op.cast_const().cast(),
            )
        };
        if posted != 0 {
            return None;
        }
        // SAFETY: no packet was posted, so it is ours still, from the box above;
        // it has completed.
        Some(unsafe { self.take_back(op) })
    }

    /// Makes a started operation one that is not in flight.
    ///
    /// # Safety
    /// It has completed, comes from a box that was taken apart, and nobody else
    /// takes it back.
    unsafe fn take_back(&self, op: *mut Op<Carried<C>>) -> Done<C> {
        // SAFETY: valid and completed by the contract.
        let result = unsafe { op::outcome(op, false) };
        // SAFETY: from a box, and ours alone, by the contract.
        let op = PortOp(unsafe { Box::from_raw(op) });
        self.flying.fetch_sub(1, Ordering::AcqRel);
        Done { op, result }
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

    /// Waits for packets, no longer than this, and takes some; none if the time
    /// is up.
    pub(crate) fn wait(&self, most: Option<Duration>) -> io::Result<Packets<C>> {
        // Never INFINITE, which is u32::MAX.
        let most = most.map_or(INFINITE, |most| {
            u32::try_from(most.as_millis()).map_or(INFINITE - 1, |most| most.min(INFINITE - 1))
        });
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
                most,
                0,
            )
        };
        if ok == 0 {
            let error = io::Error::last_os_error();
            if error.raw_os_error() != Some(WAIT_TIMEOUT.cast_signed()) {
                return Err(error);
            }
            count = 0;
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
            let op = entry.lpOverlapped.cast::<Op<Carried<C>>>();
            // SAFETY: sockets come to this port only by `adopt`, and operations
            // start on them only through it, as an Op<Carried<C>> in a box, whose
            // first field is the OVERLAPPED the packet names. It has completed,
            // and its one packet gives it back once.
            packets.done.push(unsafe { self.take_back(op) });
        }
        Ok(packets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    fn pair() -> (TcpStream, OwnedSocket) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
        let address = listener.local_addr().expect("has an address");
        let client = TcpStream::connect(address).expect("connects");
        let (accepted, _peer) = listener.accept().expect("accepts");
        (client, accepted.into())
    }

    #[test]
    fn what_is_done_at_once_has_a_packet_only_if_wanted() {
        let soon = Some(Duration::from_secs(10));
        for quick in [false, true] {
            let port = Port::<u32>::new(1).expect("made");
            let (mut client, accepted) = pair();
            let mut socket = port.adopt(accepted).expect("adopted");
            if quick {
                socket.be_quick();
                assert!(socket.quick, "the provider's sockets are handles");
            }
            // A few bytes fit at once.
            let started = port.send(PortOp::new(&socket, 5, 7), 0..5);
            let started = started.map_err(|(_op, error)| error).expect("starts");
            let done = match started {
                Some(done) => done,
                None => {
                    let mut packets = port.wait(soon).expect("waits");
                    packets.done.pop().expect("a packet")
                }
            };
            let mut sent = [1; 5];
            client.read_exact(&mut sent).expect("arrives");
            assert_eq!(sent, [0; 5]);
            assert_eq!(done.result.as_ref().ok(), Some(&5));
            assert_eq!(port.flying(), 0);
            // Behind the others', and as it was.
            assert!(port.requeue(done).is_none(), "posted");
            assert_eq!(port.flying(), 1);
            let mut packets = port.wait(soon).expect("waits");
            let Done { mut op, result } = packets.done.pop().expect("a packet");
            assert_eq!((*op.context(), result.ok()), (7, Some(5)));
            // A receive with nothing to receive has a packet in any case.
            let started = port.receive(op).map_err(|(_op, error)| error);
            assert!(started.expect("starts").is_none());
            let none = port.wait(Some(Duration::from_millis(1))).expect("waits");
            assert!(none.done.is_empty() && !none.woken);
            client.write_all(&[9; 3]).expect("sends");
            let mut packets = port.wait(soon).expect("waits");
            let done = packets.done.pop().expect("a packet");
            assert_eq!((done.result.ok(), port.flying()), (Some(3), 0));
            let none = port.wait(Some(Duration::from_millis(1))).expect("waits");
            assert!(none.done.is_empty(), "one packet an operation");
        }
    }
}
