//! One operation in the air, and the lists of a socket's operations.
//!
//! An [`Io`] is one of them: the provider's operation, the request, and its
//! [`Flight`]. A socket makes them as it needs them and keeps them for the next
//! request, so it has at most [`MAX_SOCKET_READS`] and [`MAX_SOCKET_WRITES`] of
//! them and a few more, each a few hundred bytes and an IRP. The bytes that are
//! read and written are the requester's locked pages; the socket has none.

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr;

use weir_abi::limits::{MAX_SOCKET_READS, MAX_SOCKET_WRITES};

use super::TAG;
use super::flight::Flight;
use super::flow;
use super::sock::Sock;
use super::udp;
use super::work::Work;
use crate::error::Error;
use crate::kernel::pool::KBox;
use crate::kernel::status::{NtStatus, Result};
use crate::kernel::wdf::{Request, WDFREQUEST};
use crate::wsk::{Ends, Op, Outcome, Peer, SockAddr};

/// One operation. Its address doesn't change while its socket lives.
pub(super) struct Io {
    pub(super) sock: *const Sock,
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
pub(super) struct State {
    pub(super) next: *mut Io,
    pub(super) flight: Flight,
    pub(super) work: Work,
    /// The request, while it is in the air.
    pub(super) request: Option<Request>,
    pub(super) outcome: Outcome,
}

/// The operations of one socket.
pub(super) struct Inner {
    /// In the air.
    pub(super) busy: *mut Io,
    /// To be used again.
    free: *mut Io,
    pub(super) reads: u32,
    pub(super) writes: u32,
}

// SAFETY: pointers to what the socket owns; no affinity to a thread.
unsafe impl Send for Inner {}

/// An operation that is over: taken out of its [`Io`], which may be in use again.
pub(super) struct Over {
    pub(super) work: Work,
    pub(super) request: Request,
    pub(super) outcome: Outcome,
    /// What else the provider wrote.
    pub(super) beside: Beside,
}

/// What an operation brings beside bytes.
pub(super) enum Beside {
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
pub(super) unsafe fn state<'a>(io: *mut Io) -> &'a mut State {
    // SAFETY: alive with its socket (caller).
    let state = unsafe { (*io).state.get() };
    // SAFETY: guarded by the lock that the caller holds; one reference at a time.
    unsafe { &mut *state }
}

impl Inner {
    pub(super) const fn new() -> Self {
        Self {
            busy: ptr::null_mut(),
            free: ptr::null_mut(),
            reads: 0,
            writes: 0,
        }
    }

    /// Takes an operation out of the list of busy ones.
    pub(super) fn unlink(&mut self, io: *mut Io) {
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
    pub(super) fn find(&self, request: WDFREQUEST) -> Option<*mut Io> {
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
    pub(super) fn find_accept(&mut self) -> Option<*mut Io> {
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

    /// Keeps an operation for the next request.
    pub(super) fn put_free(&mut self, io: *mut Io) {
        // SAFETY: one of this socket's, whose lock is held.
        unsafe { state(io) }.next = self.free;
        self.free = io;
    }

    pub(super) fn take_free(&mut self) -> Option<*mut Io> {
        let io = self.free;
        if io.is_null() {
            return None;
        }
        // SAFETY: one of this socket's, whose lock is held.
        self.free = unsafe { state(io) }.next;
        Some(io)
    }

    /// Room for one more of these, or none: until [`Inner::leave`]. With it comes an
    /// operation that was kept, if there is one; else the caller makes one. Never the
    /// other way round, or those who are refused would leave theirs behind.
    pub(super) fn admit(&mut self, work: Work) -> core::result::Result<Option<*mut Io>, Error> {
        let (count, most) = if work.is_read() {
            (&mut self.reads, MAX_SOCKET_READS)
        } else if work.is_write() {
            (&mut self.writes, MAX_SOCKET_WRITES)
        } else {
            return Ok(self.take_free());
        };
        if *count >= most {
            return Err(Error::TooMany);
        }
        *count = count.saturating_add(1);
        Ok(self.take_free())
    }

    pub(super) fn leave(&mut self, work: Work) {
        if work.is_read() {
            self.reads = self.reads.saturating_sub(1);
        } else if work.is_write() {
            self.writes = self.writes.saturating_sub(1);
        }
    }

    /// Takes what is left of an operation that is over.
    pub(super) fn land(&mut self, io: *mut Io) -> Option<Over> {
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
pub(super) fn fresh(sock: &Sock) -> Result<*mut Io> {
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
    unsafe { op.bind_call(flow::ended, io.cast::<c_void>()) };
    Ok(io)
}
