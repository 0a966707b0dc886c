//! Reads, writes and whatever else a request asks of a socket: from the request
//! to the provider's operation and back.
//!
//! An [`Io`] is one of them: the provider's operation, the request, and its
//! [`Flight`]. A socket makes them as it needs them and keeps them for the next
//! request, so it has at most [`MAX_SOCKET_READS`] and [`MAX_SOCKET_WRITES`] of
//! them and a few more, each a few hundred bytes and an IRP. The bytes that are
//! read and written are the requester's locked pages; the socket has none.

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::Ordering;

use weir_abi::limits::{MAX_SOCKET_READS, MAX_SOCKET_WRITES};

use super::TAG;
use super::flight::{Flight, Submitted};
use super::sock::{Sock, SockRef, mark};
use super::udp;
use crate::error::Error;
use crate::kernel::lock::SpinLock;
use crate::kernel::pool::KBox;
use crate::kernel::status::{NtStatus, Result};
use crate::kernel::wdf::{Request, WDFREQUEST};
use crate::wsk::{Ends, Op, Outcome, Peer, SockAddr};

/// What a request asks for.
#[derive(Clone, Copy)]
pub(super) enum Work {
    /// Bytes of a stream, into so much room.
    Receive { room: u32 },
    /// So many bytes to a stream.
    Send { len: u32 },
    /// One datagram into so much room, its header at this address.
    ReceiveFrom { header: *mut u8, room: u32 },
    /// One datagram of so many bytes, header left out.
    SendTo { len: u32 },
    /// The end of a stream's sending direction.
    Disconnect,
    /// The end of a stream, which these marks were added for.
    Abort { added: u32 },
    /// A connection, for a socket that is being opened.
    Connect,
    /// A connection of a listener's, for a socket that is being opened.
    Accept,
}

impl Work {
    fn is_read(self) -> bool {
        matches!(self, Self::Receive { .. } | Self::ReceiveFrom { .. })
    }

    fn is_write(self) -> bool {
        matches!(self, Self::Send { .. } | Self::SendTo { .. })
    }

    /// Bytes it can have moved: what the provider says is believed up to that, as
    /// no more than that was locked.
    fn moved(self, said: usize) -> usize {
        match self {
            Self::Receive { room: most }
            | Self::ReceiveFrom { room: most, .. }
            | Self::Send { len: most }
            | Self::SendTo { len: most } => said.min(usize::try_from(most).unwrap_or(0)),
            _ => 0,
        }
    }

    /// Bytes it gives to the transport.
    fn queued(self) -> u64 {
        match self {
            Self::Send { len } | Self::SendTo { len } => u64::from(len),
            _ => 0,
        }
    }
}

/// One operation. Its address doesn't change while its socket lives.
pub(super) struct Io {
    sock: *const Sock,
    pub(super) op: Op,
    /// Who a datagram is from, or an accepted connection.
    pub(super) peer: Peer,
    /// Where a datagram, or a connection, goes to: written before the operation is
    /// submitted, and then left alone until it has ended. Of a connection that is
    /// accepted: where it came to, which the provider writes.
    to: UnsafeCell<SockAddr>,
    state: UnsafeCell<State>,
}

impl Io {
    /// Says where it goes to.
    ///
    /// # Safety
    /// The operation isn't pending.
    pub(super) unsafe fn set_to(&self, to: SockAddr) -> &SockAddr {
        // SAFETY: nobody else looks at it then (caller).
        unsafe { *self.to.get() = to };
        // SAFETY: not written again before the operation has ended.
        unsafe { &*self.to.get() }
    }

    /// Room for the local and the remote end of a connection that is accepted, with
    /// nothing in it.
    ///
    /// # Safety
    /// The operation isn't pending.
    pub(super) unsafe fn ends_room(&self) -> (*mut SockAddr, *mut SockAddr) {
        let (local, remote) = (self.to.get(), self.peer.place());
        // SAFETY: nobody else looks at it then (caller).
        unsafe { *local = SockAddr::EMPTY };
        // SAFETY: as above.
        unsafe { *remote = SockAddr::EMPTY };
        (local, remote)
    }

    /// What [`Io::ends_room`] was filled with.
    ///
    /// # Safety
    /// The operation has ended.
    unsafe fn ends(&self) -> Ends {
        // SAFETY: nobody writes it any more (caller).
        let local = unsafe { *self.to.get() };
        // SAFETY: as above.
        let remote = unsafe { self.peer.last() }.address;
        Ends { local, remote }
    }
}

/// Guarded by the socket's lock.
struct State {
    next: *mut Io,
    flight: Flight,
    work: Work,
    /// The request, while it is in the air.
    request: Option<Request>,
    outcome: Outcome,
}

struct Inner {
    /// In the air.
    busy: *mut Io,
    /// To be used again.
    free: *mut Io,
    reads: u32,
    writes: u32,
}

// SAFETY: pointers to what the socket owns; no affinity to a thread.
unsafe impl Send for Inner {}

/// The operations of one socket.
pub(super) struct Flow {
    inner: SpinLock<Inner>,
}

/// An operation that is over: taken out of its [`Io`], which may be in use again.
struct Over {
    work: Work,
    request: Request,
    outcome: Outcome,
    /// What else the provider wrote.
    beside: Beside,
}

/// What an operation brings beside bytes.
enum Beside {
    Nothing,
    /// Who sent the datagram, and what is to be said of it.
    Datagram(udp::Received),
    /// The ends of an accepted connection.
    Connection(Ends),
}

/// The state of an operation.
///
/// # Safety
/// `io` is one of the socket's, whose lock is held as long as the reference is.
unsafe fn state<'a>(io: *mut Io) -> &'a mut State {
    // SAFETY: alive with its socket (caller).
    let state = unsafe { (*io).state.get() };
    // SAFETY: guarded by the lock that the caller holds; one reference at a time.
    unsafe { &mut *state }
}

impl Flow {
    pub(super) const fn new() -> Self {
        Self {
            inner: SpinLock::new(Inner {
                busy: ptr::null_mut(),
                free: ptr::null_mut(),
                reads: 0,
                writes: 0,
            }),
        }
    }

    /// Reads and writes in the air.
    pub(super) fn pending(&self) -> (u32, u32) {
        let inner = self.inner.lock();
        (inner.reads, inner.writes)
    }

    /// Frees what is kept for later. The socket is being freed.
    pub(super) fn free(&self) {
        loop {
            let io = {
                let mut inner = self.inner.lock();
                let io = inner.free;
                if io.is_null() {
                    return;
                }
                // SAFETY: kept by this socket, whose lock is held.
                inner.free = unsafe { state(io) }.next;
                io
            };
            // SAFETY: into_raw of `fresh`, off the list, so taken back once.
            drop(unsafe { KBox::from_raw(io, TAG) });
        }
    }
}

impl Inner {
    /// Takes an operation out of the list of busy ones.
    fn unlink(&mut self, io: *mut Io) {
        // SAFETY: one of this socket's, whose lock is held, as are those below.
        let after = unsafe { state(io) }.next;
        if self.busy == io {
            self.busy = after;
            return;
        }
        let mut at = self.busy;
        while !at.is_null() {
            // SAFETY: as above.
            let state = unsafe { state(at) };
            if state.next == io {
                state.next = after;
                return;
            }
            at = state.next;
        }
    }

    /// The operation in the air for this request.
    fn find(&self, request: WDFREQUEST) -> Option<*mut Io> {
        let mut at = self.busy;
        while !at.is_null() {
            // SAFETY: one of this socket's, whose lock is held.
            let state = unsafe { state(at) };
            if state.request.as_ref().is_some_and(|r| r.raw() == request) {
                return Some(at);
            }
            at = state.next;
        }
        None
    }

    /// The accept in the air: a socket that is being opened has no more than one.
    fn find_accept(&mut self) -> Option<*mut Io> {
        let mut at = self.busy;
        while !at.is_null() {
            // SAFETY: one of this socket's, whose lock is held.
            let state = unsafe { state(at) };
            if matches!(state.work, Work::Accept) {
                return Some(at);
            }
            at = state.next;
        }
        None
    }

    fn put_free(&mut self, io: *mut Io) {
        // SAFETY: one of this socket's, whose lock is held.
        unsafe { state(io) }.next = self.free;
        self.free = io;
    }

    fn take_free(&mut self) -> Option<*mut Io> {
        let io = self.free;
        if io.is_null() {
            return None;
        }
        // SAFETY: one of this socket's, whose lock is held.
        self.free = unsafe { state(io) }.next;
        Some(io)
    }

    /// Room for one more of these, or none.
    fn admit(&mut self, work: Work) -> core::result::Result<(), Error> {
        let (count, most) = if work.is_read() {
            (&mut self.reads, MAX_SOCKET_READS)
        } else if work.is_write() {
            (&mut self.writes, MAX_SOCKET_WRITES)
        } else {
            return Ok(());
        };
        if *count >= most {
            return Err(Error::TooMany);
        }
        *count = count.saturating_add(1);
        Ok(())
    }

    fn leave(&mut self, work: Work) {
        if work.is_read() {
            self.reads = self.reads.saturating_sub(1);
        } else if work.is_write() {
            self.writes = self.writes.saturating_sub(1);
        }
    }

    /// Takes what is left of an operation that is over.
    fn land(&mut self, io: *mut Io) -> Option<Over> {
        self.unlink(io);
        // SAFETY: one of this socket's, whose lock is held.
        let state = unsafe { state(io) };
        let work = state.work;
        let outcome = state.outcome;
        let request = state.request.take();
        // SAFETY: alive with its socket.
        let own = unsafe { &*io };
        let beside = match work {
            // SAFETY: its operation has ended.
            Work::ReceiveFrom { .. } => Beside::Datagram(unsafe { own.peer.last() }),
            // SAFETY: as above.
            Work::Accept => Beside::Connection(unsafe { own.ends() }),
            _ => Beside::Nothing,
        };
        self.leave(work);
        self.put_free(io);
        Some(Over {
            work,
            request: request?,
            outcome,
            beside,
        })
    }
}

/// A new operation of `sock`. `IRQL <= DISPATCH_LEVEL`.
fn fresh(sock: &Sock) -> Result<*mut Io> {
    let io = KBox::try_new(
        Io {
            sock,
            op: Op::try_new()?,
            peer: Peer::new(),
            to: UnsafeCell::new(SockAddr::EMPTY),
            state: UnsafeCell::new(State {
                next: ptr::null_mut(),
                flight: Flight::new(),
                work: Work::Disconnect,
                request: None,
                outcome: Outcome {
                    status: NtStatus::UNSUCCESSFUL,
                    information: 0,
                },
            }),
        },
        TAG,
    )?;
    let io = KBox::into_raw(io);
    // SAFETY: just made, and nobody else has it.
    let op = unsafe { &mut (*io).op };
    // SAFETY: in pool, where it stays until its socket is freed, which each
    // operation in the air keeps from happening.
    unsafe { op.bind_call(ended, io.cast::<c_void>()) };
    Ok(io)
}

/// Hands `request` to the provider by way of `start`, which makes one call with
/// the operation it is given. The request is completed when that has ended. If it
/// can't begin, it is given back with the reason. `PASSIVE_LEVEL`; `request`
/// belongs to the handle of `sock`.
pub(super) fn submit(
    sock: &SockRef,
    request: Request,
    work: Work,
    start: impl FnOnce(&Sock, &Io) -> Result<()>,
) -> core::result::Result<(), (Request, Error)> {
    let taken = sock.flow.inner.lock().take_free();
    let io = match taken.map_or_else(|| fresh(sock), Ok) {
        Ok(io) => io,
        Err(status) => return Err((request, Error::System(status))),
    };
    let calls = sock.calls.acquire();
    let begun = match &calls {
        None => Err((request, Error::Closing)),
        Some(_) => begin(sock, io, request, work),
    };
    if let Err(refused) = begun {
        sock.flow.inner.lock().put_free(io);
        return Err(refused);
    }
    // SAFETY: in the air, so alive with its socket, which it keeps.
    let io_ref = unsafe { &*io };
    if let Err(status) = start(sock, io_ref) {
        let outcome = Outcome {
            status,
            information: 0,
        };
        // Not the last word: submitted, below, is.
        note_end(sock, io, outcome);
    }
    drop(calls);
    let over = {
        let mut inner = sock.flow.inner.lock();
        // SAFETY: one of this socket's, whose lock is held.
        match unsafe { state(io) }.flight.submitted() {
            Submitted::Flying => return Ok(()),
            Submitted::Over => inner.land(io),
            Submitted::Cancel => {
                drop(inner);
                // SAFETY: a canceller keeps it in the air.
                unsafe { io_ref.op.cancel() };
                let mut inner = sock.flow.inner.lock();
                // SAFETY: as above.
                if !unsafe { state(io) }.flight.cancelled() {
                    return Ok(());
                }
                inner.land(io)
            }
        }
    };
    finish(sock, over);
    Ok(())
}

/// Puts an operation in the air, with a reference to its socket.
fn begin(
    sock: &Sock,
    io: *mut Io,
    request: Request,
    work: Work,
) -> core::result::Result<(), (Request, Error)> {
    let mut inner = sock.flow.inner.lock();
    if let Err(error) = inner.admit(work) {
        return Err((request, error));
    }
    if let Err(status) = request.mark_cancelable(Some(evt_cancel)) {
        inner.leave(work);
        return Err((request, Error::System(status)));
    }
    // SAFETY: one of this socket's, whose lock is held.
    let state = unsafe { state(io) };
    state.flight = Flight::new();
    state.work = work;
    state.request = Some(request);
    state.next = inner.busy;
    inner.busy = io;
    sock.counters
        .queued
        .fetch_add(work.queued(), Ordering::Relaxed);
    core::mem::forget(sock.reference());
    Ok(())
}

/// Notes how an operation has ended; what is left of it, if it is over.
fn note_end(sock: &Sock, io: *mut Io, outcome: Outcome) -> Option<Over> {
    let mut inner = sock.flow.inner.lock();
    // SAFETY: one of this socket's, whose lock is held.
    let state = unsafe { state(io) };
    state.outcome = outcome;
    let request = state.request.as_ref();
    let unmark = || request.is_some_and(|request| request.unmark_cancelable().is_ok());
    if state.flight.ended(unmark) {
        inner.land(io)
    } else {
        None
    }
}

/// The provider's operation has ended (an [`Ended`](crate::wsk::Op::bind_call)).
unsafe fn ended(context: *mut c_void, outcome: Outcome) {
    let io = context.cast::<Io>();
    // SAFETY: in the air, so alive with its socket.
    let sock = unsafe { (*io).sock };
    // SAFETY: as above.
    let sock = unsafe { &*sock };
    if let Some(over) = note_end(sock, io, outcome) {
        finish(sock, Some(over));
    }
}

/// The framework's cancel callback of every request in the air.
unsafe extern "C" fn evt_cancel(request: WDFREQUEST) {
    // SAFETY: not completed before this callback has come.
    let Some(sock) = (unsafe { super::of_raw(request) }) else {
        return;
    };
    let found = {
        let mut inner = sock.flow.inner.lock();
        let Some(io) = inner.find(request) else {
            return;
        };
        // SAFETY: one of this socket's, whose lock is held.
        let flight = unsafe { &mut state(io).flight };
        let cancels = flight.cancel();
        if flight.came() {
            (io, false, inner.land(io))
        } else {
            (io, cancels, None)
        }
    };
    let over = match found {
        (_, false, over) => over,
        (io, true, _) => cancel_now(&sock, io),
    };
    if over.is_some() {
        finish(&sock, over);
    }
}

/// Cancels the accept that is in the air on this socket, if there is one: the
/// provider's operation is the listener's, and doesn't end by closing this socket.
/// Nothing is submitted any more. `IRQL <= DISPATCH_LEVEL`.
pub(super) fn cancel_accept(sock: &Sock) {
    let found = {
        let mut inner = sock.flow.inner.lock();
        inner.find_accept().filter(|io| {
            // SAFETY: one of this socket's, whose lock is held.
            unsafe { state(*io) }.flight.cancel()
        })
    };
    if let Some(io) = found {
        let over = cancel_now(sock, io);
        if over.is_some() {
            finish(sock, over);
        }
    }
}

/// Cancels the provider's operation; the caller has been told to by
/// [`Flight::cancel`].
fn cancel_now(sock: &Sock, io: *mut Io) -> Option<Over> {
    // SAFETY: a canceller keeps it in the air, and so alive.
    let op = unsafe { &(*io).op };
    // SAFETY: as above.
    unsafe { op.cancel() };
    let mut inner = sock.flow.inner.lock();
    // SAFETY: one of this socket's, whose lock is held.
    if unsafe { state(io) }.flight.cancelled() {
        inner.land(io)
    } else {
        None
    }
}

/// Completes the request of an operation that is over, and gives up its
/// reference to the socket. No lock is held.
fn finish(sock: &Sock, over: Option<Over>) {
    // SAFETY: counted by `begin` for this operation, which ends here.
    let sock = unsafe { SockRef::from_raw(ptr::from_ref(sock).cast_mut()) };
    let Some(over) = over else { return };
    sock.counters
        .queued
        .fetch_sub(over.work.queued(), Ordering::Relaxed);
    let counters = &sock.counters;
    let status = over.outcome.status;
    let information = over.work.moved(over.outcome.information);
    if let Work::Connect = over.work {
        return super::open::connected(sock, over.request, over.outcome);
    }
    if let Beside::Connection(ends) = over.beside {
        return super::accept::ended(sock, over.request, over.outcome, ends);
    }
    if let (Work::ReceiveFrom { header, .. }, Beside::Datagram(datagram)) = (over.work, over.beside)
    {
        // SAFETY: the start of the request's memory, long enough for a header,
        // until the request is completed.
        let (status, len) = unsafe { udp::received(header, &datagram, status, information) };
        if status.is_success() {
            counters.reads.fetch_add(1, Ordering::Relaxed);
            count(&counters.bytes_in, information);
        }
        over.request.complete(status, len);
        return;
    }
    if !status.is_success() {
        match over.work {
            Work::SendTo { .. } => {}
            Work::Disconnect if !is_final(status) => sock.take_back_disconnect(),
            Work::Abort { added } if !is_final(status) => sock.take_back_abort(added),
            _ if is_final(status) => sock.fail(status),
            _ => {}
        }
        // What the provider cancels because the stream is reset wasn't cancelled by
        // whoever had asked for it.
        let aborted = sock.is(mark::ABORTED) && !matches!(over.work, Work::Abort { .. });
        let status = match status {
            NtStatus::CANCELLED if aborted => NtStatus::CONNECTION_ABORTED,
            status => status,
        };
        over.request.complete(status, 0);
        return;
    }
    let len = match over.work {
        Work::Receive { .. } => {
            if information == 0 {
                sock.mark(mark::PEER_CLOSED);
            } else {
                counters.reads.fetch_add(1, Ordering::Relaxed);
                count(&counters.bytes_in, information);
            }
            information
        }
        Work::Send { .. } => {
            counters.writes.fetch_add(1, Ordering::Relaxed);
            count(&counters.bytes_out, information);
            information
        }
        Work::SendTo { .. } => {
            counters.writes.fetch_add(1, Ordering::Relaxed);
            count(&counters.bytes_out, information);
            information.saturating_add(udp::HEADER)
        }
        _ => super::shut_reply(&over.request),
    };
    over.request.complete(NtStatus::SUCCESS, len);
}

fn count(counter: &core::sync::atomic::AtomicU64, more: usize) {
    let more = u64::try_from(more).unwrap_or(0);
    counter.fetch_add(more, Ordering::Relaxed);
}

/// Whether nothing more can come of a stream that has ended an operation so.
fn is_final(status: NtStatus) -> bool {
    !matches!(
        status,
        NtStatus::CANCELLED
            | NtStatus::INSUFFICIENT_RESOURCES
            | NtStatus::NOT_SUPPORTED
            | NtStatus::INVALID_PARAMETER
            | NtStatus::INVALID_DEVICE_STATE
    )
}
