//! One connection of a TCP service: a block of pool with everything it will ever
//! need, so that after it has been accepted nothing of it can fail for want of
//! memory, its closing least of all.

use core::cell::{Cell, OnceCell};
use core::ffi::c_void;
use core::ptr;

use weir_abi::SocketInfo;

use super::hearing::Hearing;
use super::io::{Passing, Pipe, failure, length, slot_len};
use super::seen::Seen;
use super::service::TcpService;
use super::signal;
use super::state::{
    Action, BULK, CLIENT, Event, Failure, Kind, Look, OPTIONS, PIPES, SIDES, Session, TARGET,
};
use crate::kernel::log;
use crate::kernel::pool::KBox;
use crate::kernel::status::{NtStatus, Result};
use crate::kernel::time;
use crate::service::TAG;
use crate::service::list::{Linked, Links};
use crate::service::sockets;
use crate::wsk::pump::{Next, Task};
use crate::wsk::{Ear, Endpoint as _, Ends, Number, Op, Socket, Stream};

/// What is set on each socket that is sent to. Keep-alive, so that a peer that is
/// gone without a word is found out; no delay, because what goes out is what has
/// come in and was cut by the sender already: a part of it that waited for the
/// answer to the part before would wait for the peer's delayed acknowledgement.
const OPTION: [Number; OPTIONS] = [Number::KeepAlive, Number::NoDelay];

/// A connection. All of it but `task`, `links`, `seen` and `hearing` is touched by
/// its own step only, and steps of one task never overlap.
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
    /// Who is told of each socket's events.
    hearing: [Hearing; SIDES],
    /// For closing, which may come while all others are pending.
    closes: [Option<Op>; SIDES],
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
                session: Cell::new(Session::new(kind, slot_len(kind), BULK)),
                client,
                target: OnceCell::new(),
                pipes: [const { None }; PIPES],
                hearing: [const { Hearing::new() }; SIDES],
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
            let (Some(source), Some(sink)) = (source, sink) else {
                return Err(NtStatus::INVALID_PARAMETER);
            };
            // SAFETY: live, in the same block.
            let bytes_in = unsafe { &raw const (*source).bytes_in };
            // SAFETY: live, in the same block.
            let bytes_out = unsafe { &raw const (*sink).bytes_out };
            let received = [&raw const counters.bytes_in, bytes_in];
            let sent = [&raw const counters.bytes_out, bytes_out];
            if let Some(hearing) = connection.hearing.get_mut(kind.source(number)) {
                // SAFETY: the task and the meters are in the block, or in the
                // service, which outlives it.
                unsafe { hearing.bind(kind, number, task, received) };
            }
            if let Some(Some(pipe)) = connection.pipes.get_mut(number) {
                // SAFETY: operations, meters and task are in one block, or in the
                // service, and the block is freed only when all have ended and
                // their signals been taken (state machine).
                unsafe { pipe.bind(number, task, received, sent) };
            }
        }
        for (close, closed) in connection.closes.iter_mut().flatten().zip(signal::CLOSED) {
            // SAFETY: as above.
            unsafe { close.bind(task, closed) };
        }
        Ok(connection)
    }

    /// Who is told of the events of the socket of `side`.
    pub(super) fn ear(&self, side: usize) -> Ear {
        let hears = self.service().kind().may_hear();
        match self.hearing.get(side).filter(|_| hears) {
            // SAFETY: a part of the block, which isn't freed before each of its
            // sockets has been closed (state machine).
            Some(hearing) => unsafe { Ear::of(hearing) },
            None => Ear::NONE,
        }
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
            let info = seen.info(service, number, self.accepted_100ns);
            if let Some(info) = info.filter(|_| number >= from)
                && !each(&info)
            {
                return false;
            }
        }
        true
    }

    /// Leaves for others to look at how its sockets are.
    fn leave_view(&self) {
        let session = self.session.get();
        for (side, seen) in self.seen.iter().enumerate() {
            seen.leave(session.view(side));
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
                Action::CancelConnect
                | Action::Listen { .. }
                | Action::Hear { .. }
                | Action::Mute { .. }
                | Action::Release { .. } => {
                    self.do_at_once(action);
                    continue;
                }
                Action::Connect => Event::Out(0, Err(Failure::Other)),
                Action::Receive { pipe, .. } | Action::Drain { pipe } => {
                    Event::In(pipe, Err(Failure::Other))
                }
                Action::Prepare { pipe, .. }
                | Action::Send { pipe, .. }
                | Action::Shut { pipe }
                | Action::Abort { pipe } => Event::Out(pipe, Err(Failure::Other)),
                Action::Pass { pipe } => Event::Passed(pipe, Err(Failure::Other)),
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
                self.service().connect(&pipe.out, self.ear(TARGET))
            }
            Action::Prepare { pipe, option } => {
                let socket = self.socket(kind.sink(pipe))?;
                let option = OPTION.get(option).copied();
                let option = option.ok_or(NtStatus::INVALID_PARAMETER)?;
                let pipe = self.pipe(pipe)?;
                // SAFETY: nobody else uses the value: no `out` is pending (state
                // machine).
                unsafe { *pipe.option.get() = 1 };
                // SAFETY: not closed (state machine); the value is in the block,
                // which stays until this has ended.
                unsafe { socket.start_set(&pipe.out, option, pipe.option.get()) }
            }
            Action::Receive { pipe, slot } => {
                let socket = self.socket(kind.source(pipe))?;
                let pipe = self.pipe(pipe)?;
                let into = pipe.slot(kind, slot, 0, slot_len(kind))?;
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
                let from = pipe.slot(kind, slot, offset, length)?;
                // SAFETY: as for receive.
                unsafe { socket.send(&pipe.out, from) }
            }
            Action::Drain { pipe } => {
                let socket = self.socket(kind.source(pipe))?;
                // SAFETY: as for receive.
                unsafe { socket.drain(&self.pipe(pipe)?.receive) }
            }
            Action::Pass { pipe } => {
                let socket = self.socket(kind.sink(pipe))?;
                // SAFETY: not closed, nothing is being passed, and what is isn't
                // released before that has ended (state machine).
                unsafe { self.pipe(pipe)?.passing()?.send(socket) }
            }
            Action::Abort { pipe } => {
                let socket = self.socket(kind.sink(pipe))?;
                let pipe = self.pipe(pipe)?;
                // The reset ends the sends; this does if that can't be asked for.
                pipe.passing()?.cancel();
                // SAFETY: as for receive.
                unsafe { socket.abort(&pipe.out) }
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
            _ => Ok(()),
        }
    }

    /// Does what has no end to wait for.
    fn do_at_once(&self, action: Action) {
        match action {
            Action::CancelConnect => self.cancel_connect(),
            Action::Listen { pipe } => {
                let enabled = self.socket(self.source(pipe)).and_then(|socket| {
                    // SAFETY: not closed (state machine), connected, and made with
                    // the ear of this connection.
                    unsafe { socket.listen() }
                });
                // Without its events it is as it is with them, but slower.
                self.tell(Event::Listening(pipe, enabled.is_ok()));
            }
            Action::Hear { pipe } => {
                let hearing = self.hearing.get(self.source(pipe));
                if !hearing.is_some_and(Hearing::open) {
                    self.heard(pipe);
                }
            }
            Action::Mute { pipe } => {
                if let Some(hearing) = self.hearing.get(self.source(pipe)) {
                    hearing.shut();
                }
                self.heard(pipe);
            }
            Action::Release { pipe } => self.release(pipe),
            _ => {}
        }
    }

    fn source(&self, pipe: usize) -> usize {
        self.service().kind().source(pipe)
    }

    /// Takes what the events of a pipe's source have left.
    fn heard(&self, pipe: usize) {
        let Some(hearing) = self.hearing.get(self.source(pipe)) else {
            return;
        };
        let (new, look) = hearing.take();
        for (retained, bytes) in new.into_iter().flatten() {
            // Only a relay's are retained, and it passes them on.
            if let Ok(passing) = self.pipe(pipe).and_then(Pipe::passing) {
                passing.keep(retained, bytes);
                self.tell(Event::Held(pipe, bytes));
            }
        }
        if look != Look::Not {
            self.tell(Event::Look(pipe, look));
        }
    }

    /// Gives back what is first of what a pipe has retained.
    fn release(&self, pipe: usize) {
        let source = self.source(pipe);
        let passing = self.pipe(pipe).and_then(Pipe::passing);
        let Some((retained, bytes)) = passing.ok().and_then(Passing::take_first) else {
            return;
        };
        let released = self.socket(source).and_then(|socket| {
            // SAFETY: not closed, and where it came from; nothing of it is being
            // sent (state machine).
            unsafe { socket.release(retained) }
        });
        if let Err(status) = released {
            log::status(c"giving back received data", status);
        }
        if let Some(hearing) = self.hearing.get(source) {
            hearing.released(bytes);
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
    for (pipe, passed) in signal::PASSED.into_iter().enumerate() {
        if signals & passed != 0
            && let Ok(passing) = connection.pipe(pipe).and_then(Pipe::passing)
        {
            connection.tell(Event::Passed(pipe, passing.finish()));
        }
    }
    for (pipe, heard) in signal::HEARD.into_iter().enumerate() {
        if signals & heard != 0 {
            connection.heard(pipe);
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
