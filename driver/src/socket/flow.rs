//! Reads, writes and whatever else a request asks of a socket: from the request
//! to the provider's operation and back.

use core::ffi::c_void;
use core::sync::atomic::Ordering;

use super::TAG;
use super::flight::{Flight, Submitted};
use super::io::{Beside, Inner, Io, Over, fresh, state};
use super::marks::mark;
use super::sock::{Sock, SockRef};
use super::udp;
use super::work::{Work, is_final};
use crate::error::Error;
use crate::kernel::lock::SpinLock;
use crate::kernel::pool::KBox;
use crate::kernel::status::{NtStatus, Result};
use crate::kernel::wdf::{Request, WDFREQUEST};
use crate::wsk::Outcome;

/// The operations of one socket, behind their lock.
pub(super) struct Flow {
    inner: SpinLock<Inner>,
}

impl Flow {
    pub(super) const fn new() -> Self {
        Self {
            inner: SpinLock::new(Inner::new()),
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
            let Some(io) = self.inner.lock().take_free() else {
                return;
            };
            // SAFETY: into_raw of `fresh`, off the list, so taken back once.
            drop(unsafe { KBox::from_raw(io, TAG) });
        }
    }
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
    let calls = match sock.begin_call() {
        Ok(calls) => calls,
        Err(error) => return Err((request, error)),
    };
    let io = match io_for(sock, work) {
        Ok(io) => io,
        Err(error) => return Err((request, error)),
    };
    begin(sock, io, request, work)?;
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

/// An operation for this work, which has been let in: so there are never more of
/// them than may be in the air, however many ask at once.
fn io_for(sock: &Sock, work: Work) -> core::result::Result<*mut Io, Error> {
    let kept = sock.flow.inner.lock().admit(work)?;
    if let Some(io) = kept {
        return Ok(io);
    }
    fresh(sock).map_err(|status| {
        sock.flow.inner.lock().leave(work);
        Error::System(status)
    })
}

/// Puts an operation in the air, with a reference to its socket. If that can't be
/// done, its place is given back.
fn begin(
    sock: &Sock,
    io: *mut Io,
    request: Request,
    work: Work,
) -> core::result::Result<(), (Request, Error)> {
    let mut inner = sock.flow.inner.lock();
    if let Err(status) = request.mark_cancelable(Some(evt_cancel)) {
        inner.leave(work);
        inner.put_free(io);
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
pub(super) unsafe fn ended(context: *mut c_void, outcome: Outcome) {
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
    let sock = unsafe { sock.counted() };
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
    if status == NtStatus::FILE_FORCED_CLOSED {
        sock.forced_closed();
    }
    let status = why(&sock, over.work, status);
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
        let said = over.outcome.status;
        match over.work {
            Work::SendTo { .. } => {}
            Work::Disconnect if !is_final(said) => sock.marks.take_back_end(),
            Work::Abort { failed } if !is_final(said) => sock.marks.take_back_reset(failed),
            _ if is_final(said) => sock.fail(said),
            _ => {}
        }
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

/// What an operation is said to have ended with: what the provider cancels because
/// the stream is reset, or the socket has failed, wasn't cancelled by whoever had
/// asked for it.
fn why(sock: &Sock, work: Work, status: NtStatus) -> NtStatus {
    if status != NtStatus::CANCELLED {
        status
    } else if sock.is(mark::FAILED) {
        NtStatus::FILE_FORCED_CLOSED
    } else if sock.is(mark::ABORTED) && !matches!(work, Work::Abort { .. }) {
        NtStatus::CONNECTION_ABORTED
    } else {
        status
    }
}

fn count(counter: &core::sync::atomic::AtomicU64, more: usize) {
    let more = u64::try_from(more).unwrap_or(0);
    counter.fetch_add(more, Ordering::Relaxed);
}
