//! One connection of a TCP echo: a block of pool with everything it will ever
//! need, so that after it has been accepted nothing of it can fail for want of
//! memory, its closing least of all.

use core::cell::Cell;
use core::ffi::c_void;

use super::TAG;
use super::list::{Linked, Links};
use super::state::{self, Failure, StreamAction, StreamEvent};
use super::tcp::TcpEcho;
use crate::kernel::pool::KBox;
use crate::kernel::status::Result;
use crate::wsk::pump::{Next, Task};
use crate::wsk::{IoBuffer, Op, Outcome, Stream};

/// Bytes of a connection's buffer. With one operation at a time a connection
/// moves at most one buffer per round trip, so small is slow; and all
/// connections together may take `MAX_CONNECTIONS` times this of non-paged
/// pool, so large is dear. 16 KiB is eleven full segments of Ethernet.
pub(super) const BUFFER_LEN: u32 = 16 * 1024;

/// Signals of a connection's task.
pub(super) mod signal {
    /// It has been accepted.
    pub(in super::super) const START: u32 = 1;
    /// The service stops.
    pub(in super::super) const STOP: u32 = 2;
    /// The receive, send or disconnect has ended.
    pub(super) const ENDED: u32 = 4;
    /// The close has ended.
    pub(super) const CLOSED: u32 = 8;
}

/// A connection. All of it but `task` and `links` is touched by its own step
/// only, and steps of one task never overlap.
pub(super) struct Connection {
    pub(super) task: Task,
    /// Neighbours in the service's list, guarded by that list's lock.
    links: Links<Connection>,
    service: *const TcpEcho,
    socket: Stream,
    state: Cell<state::Stream>,
    /// Receive, send, disconnect: one after the other.
    transfer: Op,
    /// Close, which may come while a transfer is pending.
    close: Op,
    buffer: IoBuffer,
}

impl Linked for Connection {
    fn links(&self) -> &Links<Self> {
        &self.links
    }
}

impl Connection {
    /// A connection that has not been started. `IRQL <= DISPATCH_LEVEL`.
    ///
    /// # Safety
    /// `service` outlives the connection.
    pub(super) unsafe fn try_new(service: *const TcpEcho, socket: Stream) -> Result<KBox<Self>> {
        let mut connection = KBox::try_new(
            Self {
                task: Task::new(step),
                links: Links::new(),
                service,
                socket,
                state: Cell::new(state::Stream::new(BUFFER_LEN)),
                transfer: Op::try_new()?,
                close: Op::try_new()?,
                buffer: IoBuffer::try_new(BUFFER_LEN, TAG)?,
            },
            TAG,
        )?;
        let own = connection.as_ptr();
        // SAFETY: the block stays at its address until its step frees it, and
        // returns Gone.
        unsafe { connection.task.bind(own.cast::<c_void>()) };
        // SAFETY: `own` is the live block; no reference is made.
        let task = unsafe { &raw const (*own).task };
        // SAFETY: operations and task are in one block, which is freed only
        // when both have ended and their signals been taken (state machine).
        unsafe { connection.transfer.bind(task, signal::ENDED) };
        // SAFETY: as above.
        unsafe { connection.close.bind(task, signal::CLOSED) };
        Ok(connection)
    }

    /// Does what follows from `event`; true if the connection is to be freed.
    fn handle(&self, mut event: StreamEvent) -> bool {
        loop {
            let mut state = self.state.get();
            let (action, tally) = state.on(event);
            self.state.set(state);
            // SAFETY: the service outlives its connections (try_new).
            unsafe { (*self.service).counters() }.add(tally);
            let started = match action {
                StreamAction::Wait => return false,
                StreamAction::Free => return true,
                StreamAction::Receive => {
                    // SAFETY: not closed (state machine), no other transfer is
                    // pending, and the block stays until this one has ended.
                    unsafe { self.socket.receive(&self.transfer, self.buffer.whole()) }
                }
                StreamAction::Send { offset, length } => {
                    self.buffer.span(offset, length).and_then(|span| {
                        // SAFETY: as for receive.
                        unsafe { self.socket.send(&self.transfer, span) }
                    })
                }
                StreamAction::Disconnect => {
                    // SAFETY: as for receive.
                    unsafe { self.socket.disconnect(&self.transfer) }
                }
                StreamAction::Close => {
                    // SAFETY: closed once (state machine); every call on the
                    // socket is made by this task, so none is in progress.
                    unsafe { self.socket.close(&self.close) }
                }
            };
            event = match (started, action) {
                (Ok(()), _) => return false,
                (Err(_), StreamAction::Close) => StreamEvent::Closed,
                (Err(_), _) => StreamEvent::Ended(Err(Failure::Final)),
            };
        }
    }
}

/// The step of a connection's task.
///
/// # Safety
/// `owner` is a live [`Connection`], and its steps don't overlap.
unsafe fn step(owner: *mut c_void, signals: u32) -> Next {
    let raw = owner.cast::<Connection>();
    // SAFETY: live until freed below, after the last use of this reference.
    let connection = unsafe { &*raw };
    let mut done = false;
    if signals & signal::ENDED != 0 {
        let result = bytes(connection.transfer.finish());
        done = connection.handle(StreamEvent::Ended(result));
    }
    if signals & signal::START != 0 {
        done |= connection.handle(StreamEvent::Start);
    }
    if signals & signal::STOP != 0 {
        done |= connection.handle(StreamEvent::Stop);
    }
    if signals & signal::CLOSED != 0 {
        // A close that failed leaves nothing that could be closed again.
        if let Err(status) = connection.close.finish().value() {
            crate::kernel::log::status(c"closing a connection", status);
        }
        done |= connection.handle(StreamEvent::Closed);
    }
    if !done {
        return Next::Keep;
    }
    let service = connection.service;
    // SAFETY: the service is live until this connection has left it; the
    // connection is in its list, and nothing of it is pending any more.
    unsafe { TcpEcho::forget(service, raw) };
    Next::Gone
}

fn bytes(outcome: Outcome) -> core::result::Result<u32, Failure> {
    outcome
        .value()
        .ok()
        .and_then(|bytes| u32::try_from(bytes).ok())
        .ok_or(Failure::Final)
}
