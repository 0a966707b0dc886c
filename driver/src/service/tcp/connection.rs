//! One connection of a TCP service: a block of pool with everything it will ever
//! need, so that after it has been accepted nothing of it can fail for want of
//! memory, its closing least of all.

use core::cell::{Cell, OnceCell, UnsafeCell};
use core::ffi::c_void;
use core::net::SocketAddr;
use core::ptr;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use weir_abi::{SocketInfo, SocketKind, SocketState};

use super::service::TcpService;
use super::state::{Action, CLIENT, Event, Failure, Kind, PIPES, SIDES, SLOTS, Session, View};
use crate::kernel::pool::KBox;
use crate::kernel::status::{NtStatus, Result};
use crate::kernel::time;
use crate::service::TAG;
use crate::service::list::{Linked, Links};
use crate::service::sockets;
use crate::wsk::pump::{Next, Task};
use crate::wsk::{Ends, IoBuffer, Number, Op, Outcome, SockAddr, Socket, Stream};

/// Bytes of a slot of a pipe. With two operations at a time a pipe moves at most
/// a slot per round trip of the provider, so small is slow; and all connections
/// together may take `MAX_UNITS` times a unit of non-paged pool, so large is
/// dear. An echo and a discard have one pipe and many peers, a relay is there for
/// bulk.
const fn slot_len(kind: Kind) -> u32 {
    match kind {
        Kind::Echo | Kind::Discard => 8 * 1024,
        Kind::Relay => 16 * 1024,
    }
}

/// Units of memory a connection takes: 16 KiB each.
pub(super) const fn units(kind: Kind) -> usize {
    match kind {
        Kind::Echo | Kind::Discard => 1,
        Kind::Relay => 4,
    }
}

/// Signals of a connection's task.
pub(super) mod signal {
    use super::super::state::Wanted;

    /// It has been accepted.
    pub(in super::super) const START: u32 = 1;
    /// The service stops.
    pub(in super::super) const STOP: u32 = 2;
    /// A socket's close has ended: the client's, the target's.
    pub(super) const CLOSED: [u32; 2] = [4, 8];
    /// A pipe's receive has ended.
    pub(super) const IN: [u32; 2] = [0x10, 0x20];
    /// What a pipe's other end did has ended.
    pub(super) const OUT: [u32; 2] = [0x40, 0x80];
    /// It has ended in a way that has to be looked at.
    pub(super) const URGENT: u32 = 0x100;

    /// The signals that wake the task.
    pub(super) fn waking(wanted: Wanted) -> u32 {
        let [first, second] = wanted.out;
        let [out_first, out_second] = OUT;
        let quiet = if first { 0 } else { out_first } | if second { 0 } else { out_second };
        !quiet
    }
}

/// The operations and the memory of one pipe.
struct Pipe {
    receive: Op,
    /// Connect, prepare, send, shut: one after the other.
    out: Op,
    slots: IoBuffer,
    /// The value of the option that is being set.
    option: UnsafeCell<u32>,
}

/// What others may look at, of one of a connection's sockets.
pub(super) struct Seen {
    local: SockAddr,
    remote: SockAddr,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    /// A [`View`], as its step left it.
    view: AtomicU8,
}

/// A connection. All of it but `task`, `links` and `seen` is touched by its own
/// step only, and steps of one task never overlap.
pub(super) struct Connection {
    pub(super) task: Task,
    /// Neighbours in the service's list, guarded by that list's lock.
    links: Links<Connection>,
    service: *const TcpService,
    /// Which of the service's connections it is, from 0: said when it is linked.
    pub(super) count: u32,
    accepted_100ns: u64,
    seen: [Seen; SIDES],
    session: Cell<Session>,
    client: Stream,
    /// A relay's, once connected.
    target: OnceCell<Stream>,
    pipes: [Option<Pipe>; PIPES],
    /// For closing, which may come while all others are pending.
    closes: [Option<Op>; SIDES],
}

impl Linked for Connection {
    fn links(&self) -> &Links<Self> {
        &self.links
    }
}

impl Seen {
    fn new(ends: Ends) -> Self {
        Self {
            local: ends.local,
            remote: ends.remote,
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            view: AtomicU8::new(View::default() as u8),
        }
    }

    /// None while there is no such socket.
    fn state(&self) -> Option<SocketState> {
        const CONNECTING: u8 = View::Connecting as u8;
        const CONNECTED: u8 = View::Connected as u8;
        const PEER_CLOSED: u8 = View::PeerClosed as u8;
        const SHUT_DOWN: u8 = View::ShutDown as u8;
        const CLOSING: u8 = View::Closing as u8;
        match self.view.load(Ordering::Relaxed) {
            CONNECTING => Some(SocketState::Connecting),
            CONNECTED => Some(SocketState::Connected),
            PEER_CLOSED => Some(SocketState::PeerClosed),
            SHUT_DOWN => Some(SocketState::ShutDown),
            CLOSING => Some(SocketState::Closing),
            _ => None,
        }
    }
}

impl Pipe {
    /// A pipe whose operations aren't bound yet.
    fn try_new(kind: Kind) -> Result<Self> {
        let len = slot_len(kind).saturating_mul(SLOTS);
        Ok(Self {
            receive: Op::try_new()?,
            out: Op::try_new()?,
            slots: IoBuffer::try_new(len, TAG)?,
            option: UnsafeCell::new(0),
        })
    }
}

impl Connection {
    /// A connection that has not been started. `IRQL <= DISPATCH_LEVEL`.
    ///
    /// # Safety
    /// `service` outlives the connection.
    pub(super) unsafe fn try_new(
        service: *const TcpService,
        kind: Kind,
        client: Stream,
        ends: [Ends; SIDES],
    ) -> Result<KBox<Self>> {
        let mut connection = KBox::try_new(
            Self {
                task: Task::new(step),
                links: Links::new(),
                service,
                count: 0,
                accepted_100ns: time::system_time_100ns(),
                seen: ends.map(Seen::new),
                session: Cell::new(Session::new(kind, slot_len(kind))),
                client,
                target: OnceCell::new(),
                pipes: [const { None }; PIPES],
                closes: [const { None }; SIDES],
            },
            TAG,
        )?;
        for pipe in connection.pipes.iter_mut().take(kind.pipes()) {
            *pipe = Some(Pipe::try_new(kind)?);
        }
        for close in connection.closes.iter_mut().take(kind.sides()) {
            *close = Some(Op::try_new()?);
        }
        let own = connection.as_ptr();
        // SAFETY: the block stays at its address until its step frees it, and
        // returns Gone.
        unsafe { connection.task.bind(own.cast::<c_void>()) };
        // SAFETY: `own` is the live block; no reference is made.
        let task = unsafe { &raw const (*own).task };
        // SAFETY: the service outlives the connection (caller).
        let counters = unsafe { (*service).counters() };
        for number in 0..kind.pipes() {
            let at = |seen: &[Seen; SIDES], side: usize| seen.get(side).map(ptr::from_ref);
            let source = at(&connection.seen, kind.source(number));
            let sink = at(&connection.seen, kind.sink(number));
            let signals = signal::IN.get(number).zip(signal::OUT.get(number));
            let pipe = connection.pipes.get_mut(number).and_then(Option::as_mut);
            let (Some(source), Some(sink), Some((received, out)), Some(pipe)) =
                (source, sink, signals, pipe)
            else {
                return Err(NtStatus::INVALID_PARAMETER);
            };
            // SAFETY: operations and task are in one block, which is freed only
            // when all have ended and their signals been taken (state machine).
            unsafe { pipe.receive.bind(task, *received) };
            // SAFETY: as above.
            unsafe { pipe.out.bind(task, *out) };
            pipe.out.urgent(signal::URGENT);
            // SAFETY: live, in the same block.
            let own = unsafe { &raw const (*source).bytes_in };
            // SAFETY: the counters are the service's, which outlives this.
            unsafe { pipe.receive.meter([&raw const counters.bytes_in, own]) };
            // SAFETY: live, in the same block.
            let own = unsafe { &raw const (*sink).bytes_out };
            // SAFETY: as above.
            unsafe { pipe.out.meter([&raw const counters.bytes_out, own]) };
        }
        for (close, closed) in connection.closes.iter_mut().flatten().zip(signal::CLOSED) {
            // SAFETY: as above.
            unsafe { close.bind(task, closed) };
        }
        Ok(connection)
    }

    /// Shows its sockets from the one with this number on, until `each` returns
    /// false; whether it never did.
    pub(super) fn show(
        &self,
        service: u32,
        from: u64,
        each: &mut impl FnMut(&SocketInfo) -> bool,
    ) -> bool {
        for (side, seen) in self.seen.iter().enumerate() {
            let number = sockets::number(self.count, side);
            let Some(state) = seen.state().filter(|_| number >= from) else {
                continue;
            };
            let blank = sockets::blank(service, number, SocketKind::TcpStream, state);
            let info = SocketInfo {
                local: SocketAddr::try_from(&seen.local).ok().into(),
                remote: SocketAddr::try_from(&seen.remote).ok().into(),
                bytes_in: seen.bytes_in.load(Ordering::Relaxed),
                bytes_out: seen.bytes_out.load(Ordering::Relaxed),
                opened_100ns: self.accepted_100ns,
                ..blank
            };
            if !each(&info) {
                return false;
            }
        }
        true
    }

    /// Leaves for others to look at how its sockets are.
    fn leave_view(&self) {
        let session = self.session.get();
        for (side, seen) in self.seen.iter().enumerate() {
            seen.view.store(session.view(side) as u8, Ordering::Relaxed);
        }
    }

    fn service(&self) -> &TcpService {
        // SAFETY: the service outlives its connections (try_new).
        unsafe { &*self.service }
    }

    fn pipe(&self, pipe: usize) -> Result<&Pipe> {
        let pipe = self.pipes.get(pipe).and_then(Option::as_ref);
        pipe.ok_or(NtStatus::INVALID_DEVICE_STATE)
    }

    fn socket(&self, side: usize) -> Result<&Stream> {
        match side {
            CLIENT => Ok(&self.client),
            _ => self.target.get().ok_or(NtStatus::INVALID_DEVICE_STATE),
        }
    }

    /// Gives the machine an event.
    fn tell(&self, event: Event) {
        let mut session = self.session.get();
        session.on(event);
        self.session.set(session);
    }

    /// Does all there is to do; true if the connection is to be freed.
    fn act(&self) -> bool {
        loop {
            let mut session = self.session.get();
            let action = session.next();
            self.session.set(session);
            let Some(action) = action else { return false };
            let failed = match action {
                Action::Free => return true,
                Action::CancelConnect => {
                    self.cancel_connect();
                    continue;
                }
                Action::Connect => Event::Out(0, Err(Failure::Other)),
                Action::Receive { pipe, .. } => Event::In(pipe, Err(Failure::Other)),
                Action::Prepare { pipe } | Action::Send { pipe, .. } | Action::Shut { pipe } => {
                    Event::Out(pipe, Err(Failure::Other))
                }
                Action::Close { side } => Event::Closed(side),
            };
            if self.start(action).is_err() {
                self.tell(failed);
            }
        }
    }

    /// Starts an operation; an error means that there was no call.
    fn start(&self, action: Action) -> Result<()> {
        let kind = self.service().kind();
        match action {
            Action::Connect => {
                let pipe = self.pipe(0)?;
                self.service().connect(&pipe.out)
            }
            Action::Prepare { pipe } => {
                let socket = self.socket(kind.sink(pipe))?;
                let pipe = self.pipe(pipe)?;
                // SAFETY: nobody else uses the value: no `out` is pending (state
                // machine).
                unsafe { *pipe.option.get() = 1 };
                // SAFETY: not closed (state machine); the value is in the block,
                // which stays until this has ended.
                unsafe { socket.start_set(&pipe.out, Number::KeepAlive, pipe.option.get()) }
            }
            Action::Receive { pipe, slot } => {
                let socket = self.socket(kind.source(pipe))?;
                let pipe = self.pipe(pipe)?;
                let len = slot_len(kind);
                let into = pipe.slots.span(slot.saturating_mul(len), len)?;
                // SAFETY: not closed, and nobody else uses the slot (state
                // machine); the block stays until this has ended.
                unsafe { socket.receive(&pipe.receive, into) }
            }
            Action::Send {
                pipe,
                slot,
                offset,
                length,
            } => {
                let socket = self.socket(kind.sink(pipe))?;
                let pipe = self.pipe(pipe)?;
                let start = slot.saturating_mul(slot_len(kind)).saturating_add(offset);
                let from = pipe.slots.span(start, length)?;
                // SAFETY: as for receive.
                unsafe { socket.send(&pipe.out, from) }
            }
            Action::Shut { pipe } => {
                let socket = self.socket(kind.sink(pipe))?;
                // SAFETY: as for receive.
                unsafe { socket.disconnect(&self.pipe(pipe)?.out) }
            }
            Action::Close { side } => {
                let close = self.closes.get(side).and_then(Option::as_ref);
                let close = close.ok_or(NtStatus::INVALID_DEVICE_STATE)?;
                // SAFETY: closed once (state machine); every call on the socket
                // is made by this task, so none is in progress.
                unsafe { self.socket(side)?.close(close) }
            }
            Action::CancelConnect | Action::Free => Ok(()),
        }
    }

    fn cancel_connect(&self) {
        if let Ok(pipe) = self.pipe(0) {
            // SAFETY: the operation is a part of the connection, which only its
            // own step frees: this one, later.
            unsafe { pipe.out.cancel() };
        }
    }

    /// What became of a pipe's receive.
    fn received(&self, pipe: usize) {
        if let Ok(io) = self.pipe(pipe) {
            self.tell(Event::In(pipe, length(io.receive.finish())));
        }
    }

    /// What became of what a pipe's other end did.
    fn put_out(&self, pipe: usize) {
        let Ok(io) = self.pipe(pipe) else { return };
        let outcome = io.out.finish();
        let connecting = self.session.get().is_connecting() && pipe == 0;
        let result = if !connecting {
            length(outcome)
        } else {
            match Stream::connected(outcome) {
                Ok(socket) => {
                    // Connected once only (state machine).
                    let _ = self.target.set(socket);
                    Ok(0)
                }
                Err(status) => Err(failure(status)),
            }
        };
        self.tell(Event::Out(pipe, result));
    }
}

/// The step of a connection's task.
///
/// # Safety
/// `owner` is a live [`Connection`] whose service is live, and its steps don't
/// overlap.
unsafe fn step(owner: *mut c_void, signals: u32) -> Next {
    let own = owner.cast::<Connection>();
    // SAFETY: live until the end of this step at least; nobody else has a
    // reference to what it touches.
    let connection = unsafe { &*own };
    // What has ended is told first: its IRP is ours again by that.
    for (pipe, out) in signal::OUT.into_iter().enumerate() {
        if signals & out != 0 {
            connection.put_out(pipe);
        }
    }
    for (pipe, received) in signal::IN.into_iter().enumerate() {
        if signals & received != 0 {
            connection.received(pipe);
        }
    }
    for (side, closed) in signal::CLOSED.into_iter().enumerate() {
        if signals & closed != 0
            && let Some(close) = connection.closes.get(side).and_then(Option::as_ref)
        {
            let _closed = close.finish();
            connection.tell(Event::Closed(side));
        }
    }
    if signals & signal::START != 0 {
        connection.tell(Event::Start);
    }
    if signals & signal::STOP != 0 {
        connection.tell(Event::Stop);
    }
    let done = connection.act();
    connection.leave_view();
    if !done {
        return Next::Keep {
            waking: signal::waking(connection.session.get().wanted()),
        };
    }
    let service = connection.service;
    let end = connection.session.get().end();
    // SAFETY: nothing is pending and nobody else has the connection (state
    // machine); it isn't touched after this, nor is the service.
    unsafe { TcpService::forget(service, own, end) };
    Next::Gone
}

/// The bytes of a transfer.
fn length(outcome: Outcome) -> core::result::Result<u32, Failure> {
    let bytes = outcome.value().map_err(failure)?;
    u32::try_from(bytes).map_err(|_| Failure::Other)
}

fn failure(status: NtStatus) -> Failure {
    match status {
        NtStatus::CONNECTION_RESET
        | NtStatus::CONNECTION_ABORTED
        | NtStatus::CONNECTION_DISCONNECTED
        | NtStatus::REMOTE_DISCONNECT => Failure::Reset,
        NtStatus::IO_TIMEOUT | NtStatus::LINK_TIMEOUT => Failure::TimedOut,
        _ => Failure::Other,
    }
}
