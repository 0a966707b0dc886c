//! Sockets: what a `PWSK_SOCKET` stands for, the table of them, and the way
//! they are entered and closed.
//!
//! A socket's [`State`] is under its own lock. Everything that changes it adds
//! to a [`Todo`] what is to be done once the lock is released: IRPs to
//! complete, callbacks to make. A socket goes away when it is closing and
//! nothing of it is under way any more.

use super::addr::RawAddr;
use super::datagram::Arrived;
use super::engine::{self, lock};
use super::host::Fd;
use super::inspect::{self, Candidate, Inspections};
use super::irp::Request;
use super::lists::Lists;
use super::op::{Body, Op};
use super::registration::Client;
use super::sharing::Table;
use super::types::{
    Irp, NtStatus, WskClientConnectionDispatch, WskDataIndication, WskDatagramIndication,
    WskInspectId, WskSocket,
};
use super::{host, status};
use crate::core::{Rule, irql};
use std::collections::{HashMap, VecDeque};
use std::ffi::c_void;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, RwLock, Weak};

/// `WSK_SOCKET` categories.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Category {
    Basic,
    Listen,
    Datagram,
    Connection,
}

/// How far a socket has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Created,
    Bound,
    Connecting,
    Connected,
    Listening,
    /// Abortively disconnected, or told to be no longer functional.
    Dead,
}

/// The event callback functions a client gave.
#[derive(Clone, Copy)]
pub(super) enum Dispatch {
    None,
    Listen(super::types::WskClientListenDispatch),
    Datagram(super::types::WskClientDatagramDispatch),
    Connection(WskClientConnectionDispatch),
}

/// One socket. Starts with what the client sees of it.
#[repr(C)]
pub(super) struct Socket {
    public: WskSocket,
    pub(super) id: u64,
    pub(super) client: Arc<Client>,
    pub(super) category: Category,
    pub(super) family: u16,
    pub(super) protocol: u32,
    /// Who made it: an RVA in the driver.
    pub(super) caller: u32,
    calls: AtomicU32,
    pub(super) received: AtomicU64,
    pub(super) sent: AtomicU64,
    state: Mutex<State>,
}

// SAFETY: the raw pointers inside are the client's, opaque to the provider, or
// to tables that never go away.
unsafe impl Send for Socket {}
// SAFETY: as above; everything that changes is atomic or under the lock.
unsafe impl Sync for Socket {}

/// What changes about a socket.
pub(super) struct State {
    pub(super) handle: Fd,
    pub(super) phase: Phase,
    pub(super) local: Option<RawAddr>,
    pub(super) remote: Option<RawAddr>,
    pub(super) reuse: bool,
    pub(super) exclusive: bool,
    pub(super) closing: Option<Arc<Op>>,
    /// Closing has begun (stays true when `closing` has been taken).
    pub(super) closed: bool,
    /// The client has it (or had it).
    pub(super) born: bool,
    /// Operations begun and not ended.
    pub(super) outstanding: usize,
    /// Event callback functions that are running or about to.
    pub(super) callbacks: usize,
    pub(super) context: *mut c_void,
    pub(super) dispatch: Dispatch,
    /// Enabled event callbacks, and those of them that can't be disabled.
    pub(super) enabled: u32,
    pub(super) fixed: u32,
    /// IRPs of disabling calls that wait for running callbacks.
    pub(super) disabling: Vec<Arc<Op>>,

    pub(super) receives: VecDeque<Arc<Op>>,
    pub(super) receiving: Option<Arc<Op>>,
    pub(super) sends: VecDeque<Arc<Op>>,
    pub(super) sending: Option<Arc<Op>>,
    pub(super) connecting: Option<Arc<Op>>,
    /// Data received and not yet given to the client.
    pub(super) buffered: VecDeque<u8>,
    /// The other side has sent its last byte.
    pub(super) eof: bool,
    /// The connection has failed.
    pub(super) failed: Option<NtStatus>,
    /// This side has sent its last byte.
    pub(super) shut: bool,
    /// The receive callback runs or is about to.
    pub(super) indicating: bool,
    /// The client refused data: no receive callbacks until it asks.
    pub(super) paused: bool,
    /// How often it has asked: a callback that refuses data while the client
    /// asks for it does not stop the callbacks.
    pub(super) asked: u64,
    /// The watch saw data: no further watch until some was received.
    pub(super) watched: bool,
    pub(super) disconnect_told: bool,
    /// Lists the client has.
    pub(super) retained: Lists<WskDataIndication>,
    pub(super) retained_datagrams: Lists<WskDatagramIndication>,

    pub(super) accepts: VecDeque<Arc<Op>>,
    /// A connection under inspection: the listening socket, and which one.
    pub(super) inspected: Option<(Weak<Socket>, WskInspectId)>,
    /// Requests that wait for the host's addresses to change, and the
    /// descriptor that tells.
    pub(super) changes: Vec<Arc<Op>>,
    pub(super) changed: Fd,
    /// The ideal send backlog as last told.
    pub(super) backlog: usize,
    /// Connections nobody has asked for yet.
    pub(super) ready: VecDeque<Arc<Socket>>,
    pub(super) inspections: Inspections,

    /// SIO_WSK_SET_REMOTE_ADDRESS, SIO_WSK_SET_SENDTO_ADDRESS.
    pub(super) fixed_remote: Option<RawAddr>,
    pub(super) fixed_sendto: Option<RawAddr>,
    /// Datagrams not yet given to the client.
    pub(super) datagrams: VecDeque<Arrived>,
    /// Control information the client wants with datagrams: IP_PKTINFO and the
    /// hop limit.
    pub(super) packet_info: bool,
    pub(super) hop_limit: bool,
}

static SOCKETS: LazyLock<RwLock<HashMap<usize, Arc<Socket>>>> = LazyLock::new(Default::default);
/// The last closed sockets: their memory stays, so that a late use of one is
/// known for what it is.
static CLOSED: Mutex<VecDeque<Arc<Socket>>> = Mutex::new(VecDeque::new());
const CLOSED_KEPT: usize = 2048;
static NEXT_ID: AtomicU64 = AtomicU64::new(1);
pub(super) static ADDRESSES: Mutex<Table> = Mutex::new(Table::new());

fn table<R>(f: impl FnOnce(&HashMap<usize, Arc<Socket>>) -> R) -> R {
    f(&SOCKETS
        .read()
        .unwrap_or_else(std::sync::PoisonError::into_inner))
}

/// All open sockets, oldest first.
pub(super) fn all() -> Vec<Arc<Socket>> {
    let mut all: Vec<_> = table(|sockets| sockets.values().cloned().collect());
    all.sort_by_key(|socket| socket.id);
    all
}

/// What is to be done when a socket's lock has been released.
#[derive(Default)]
pub(super) struct Todo {
    /// Requests with their final results.
    pub(super) finished: VecDeque<(Arc<Op>, NtStatus, usize)>,
    /// The receive callback (stream or datagram) is to run; counted.
    pub(super) indicate: bool,
    /// WskSendBacklogEvent with this ideal backlog; counted.
    pub(super) backlog: Option<usize>,
    /// WskDisconnectEvent with these flags; counted.
    pub(super) disconnect: Option<u32>,
    /// Candidates for WskInspectEvent; each counted.
    pub(super) inspect: Vec<Candidate>,
    /// Inspections of which WskAbortEvent is to tell.
    pub(super) aborts: Vec<WskInspectId>,
    /// Connections for WskAcceptEvent; each counted.
    pub(super) accepted: Vec<Arc<Socket>>,
    /// Connections handed out, whose own events may begin.
    pub(super) started: Vec<Arc<Socket>>,
}

impl Todo {
    pub(super) fn finish(&mut self, op: Arc<Op>, status: NtStatus, information: usize) {
        self.finished.push_back((op, status, information));
    }

    /// Does it all, on a worker.
    pub(super) fn run(mut self, socket: &Arc<Socket>) {
        loop {
            while let Some((op, status, information)) = self.finished.pop_front() {
                if op.finish(status, information) {
                    op.socket.after(&op, &mut self);
                }
            }
            for id in std::mem::take(&mut self.aborts) {
                inspect::aborted(socket, id);
            }
            for candidate in std::mem::take(&mut self.inspect) {
                inspect::inspect_event(socket, candidate, &mut self);
            }
            for accepted in std::mem::take(&mut self.accepted) {
                super::listen::accept_event(socket, accepted, &mut self);
            }
            for started in std::mem::take(&mut self.started) {
                let mut todo = Self::default();
                started.state().pump(&started, &mut todo);
                todo.post(&started);
            }
            if std::mem::take(&mut self.indicate) {
                super::events::indicate(socket, &mut self);
            }
            if let Some(ideal) = self.backlog.take() {
                super::events::send_backlog(socket, ideal, &mut self);
            }
            if let Some(flags) = self.disconnect.take() {
                super::events::disconnect(socket, flags, &mut self);
            }
            if self.is_empty() {
                return;
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.finished.is_empty()
            && !self.indicate
            && self.backlog.is_none()
            && self.disconnect.is_none()
            && self.inspect.is_empty()
            && self.aborts.is_empty()
            && self.accepted.is_empty()
            && self.started.is_empty()
    }

    /// Leaves it to a worker.
    pub(super) fn post(self, socket: &Arc<Socket>) {
        if !self.is_empty() {
            let socket = socket.clone();
            engine::post(move || self.run(&socket));
        }
    }

    /// The end of a client's call `own`: its own result now or later, the rest
    /// on a worker. What the call is to return.
    pub(super) fn settle(mut self, own: &Arc<Op>) -> NtStatus {
        let mine = self
            .finished
            .iter()
            .position(|(op, _, _)| Arc::ptr_eq(op, own))
            .and_then(|at| self.finished.remove(at));
        self.post(&own.socket);
        match mine {
            Some((op, status, information)) => op.deliver(status, information),
            None => status::PENDING,
        }
    }
}

/// A client's call that is inside one of a socket's functions.
pub(super) struct Call {
    pub(super) socket: Arc<Socket>,
}

impl Drop for Call {
    fn drop(&mut self) {
        self.socket.calls.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Enters the function `name` of a socket, which must be one of `categories`.
pub(super) fn enter(name: &'static str, socket: *mut WskSocket, categories: &[Category]) -> Call {
    check_caller(name, irql::DISPATCH_LEVEL);
    if socket.is_null() {
        violate!(Rule::LabWskNullArgument, "{name} without a socket");
    }
    let Some(found) = table(|sockets| sockets.get(&(socket as usize)).cloned()) else {
        let old = lock(&CLOSED)
            .iter()
            .find(|old| old.public() == socket)
            .map(|old| old.id);
        match old {
            Some(id) => violate!(
                Rule::LabWskClosedSocket,
                "{name} on socket {id}, which is closed"
            ),
            None => violate!(
                Rule::LabWskInvalidSocket,
                "{name}: {socket:?} is not a socket"
            ),
        }
    };
    if !categories.contains(&found.category) {
        violate!(
            Rule::LabWskCategory,
            "{name} on a {:?} socket, allowed on {categories:?}",
            found.category
        );
    }
    found.calls.fetch_add(1, Ordering::SeqCst);
    let call = Call { socket: found };
    if call.socket.state().closed {
        violate!(
            Rule::LabWskClosedSocket,
            "{name} on socket {}, for which WskCloseSocket was called",
            call.socket.id
        );
    }
    call
}

/// What every WSK function demands of the thread that calls it.
pub(super) fn check_caller(name: &'static str, max: u8) {
    irql::require_max_rule(Rule::LabWskIrql, name, max);
    if super::irp::in_completion() {
        violate!(
            Rule::LabWskCallInCompletion,
            "{name} from the completion routine of a WSK request"
        );
    }
}

impl Socket {
    /// A new socket, known to the client from [`Socket::publish`] on.
    pub(super) fn new(
        client: &Arc<Client>,
        category: Category,
        family: u16,
        protocol: u32,
        state: State,
    ) -> Arc<Self> {
        Arc::new(Self {
            public: WskSocket {
                dispatch: super::dispatch::table_of(category),
            },
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            client: client.clone(),
            category,
            family,
            protocol,
            caller: crate::core::stack::caller_rva(),
            calls: AtomicU32::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            state: Mutex::new(state),
        })
    }

    /// Enters the socket in the table; what the client gets.
    pub(super) fn publish(self: &Arc<Self>) -> *mut WskSocket {
        let public = self.public();
        SOCKETS
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .insert(public as usize, self.clone());
        public
    }

    pub(super) fn withdraw(self: &Arc<Self>) {
        SOCKETS
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .remove(&(self.public() as usize));
        lock(&ADDRESSES).remove(self.id);
        engine::unwatch(self.id);
        let mut closed = lock(&CLOSED);
        closed.push_back(self.clone());
        if closed.len() > CLOSED_KEPT {
            closed.pop_front();
        }
    }

    pub(super) fn public(&self) -> *mut WskSocket {
        (&raw const self.public).cast_mut()
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Takes a client's IRP for a request on this socket.
    pub(super) fn begin(
        self: &Arc<Self>,
        name: &'static str,
        irp: *mut Irp,
        body: Body,
    ) -> Arc<Op> {
        let request = Request::take(name, irp);
        self.state().outstanding += 1;
        Op::new(self, request, body)
    }

    /// A descriptor of this socket has become ready.
    pub(super) fn ready(self: &Arc<Self>, ready: u32) {
        let mut todo = Todo::default();
        let inspected = {
            let mut state = self.state();
            if state.handle == host::NONE {
                return;
            }
            if ready & host::WRITE != 0 {
                state.resume_connect(&mut todo);
                state.resume_send(&mut todo);
            }
            if ready & host::READ != 0 {
                state.resume_receive(&mut todo);
                state.pump_accept_ready(self, &mut todo);
                state.addresses_changed(&mut todo);
            }
            if ready & host::RESET != 0 {
                state.notice_reset(&mut todo);
            }
            state.check_closed(&mut todo);
            state.inspected.clone()
        };
        if let Some((listener, id)) = inspected
            && ready & host::RESET != 0
            && let Some(listener) = listener.upgrade()
        {
            inspect::aborted(&listener, id);
        }
        todo.run(self);
    }

    /// A request has been given back: what waited behind it goes on.
    pub(super) fn after(self: &Arc<Self>, op: &Arc<Op>, todo: &mut Todo) {
        if matches!(op.body, Body::Close) {
            self.client.socket_gone();
            return;
        }
        let mut state = self.state();
        let is = |slot: &Option<Arc<Op>>| slot.as_ref().is_some_and(|now| Arc::ptr_eq(now, op));
        if is(&state.receiving) {
            state.receiving = None;
        }
        if is(&state.sending) {
            state.sending = None;
        }
        if is(&state.connecting) {
            state.connecting = None;
        }
        state.outstanding = state.outstanding.saturating_sub(1);
        if matches!(op.body, Body::Create | Body::Connect { create: true, .. }) && !state.born {
            self.client.socket_gone();
        }
        state.pump(self, todo);
        state.check_closed(todo);
    }

    /// The client cancels a request: one that waits ends, one that is with the
    /// system is called back.
    pub(super) fn cancel(self: &Arc<Self>, op: &Arc<Op>) {
        let mut todo = Todo::default();
        {
            let mut state = self.state();
            op.cancelled.store(true, Ordering::SeqCst);
            let take = |queue: &mut VecDeque<Arc<Op>>| {
                let at = queue.iter().position(|one| Arc::ptr_eq(one, op))?;
                queue.remove(at)
            };
            let state = &mut *state;
            let queued = take(&mut state.receives)
                .or_else(|| take(&mut state.sends))
                .or_else(|| take(&mut state.accepts));
            if let Some(at) = state.changes.iter().position(|one| Arc::ptr_eq(one, op)) {
                todo.finish(state.changes.swap_remove(at), status::CANCELLED, 0);
            } else if let Some(op) = queued {
                todo.finish(op, status::CANCELLED, 0);
            } else if op.take_waiting() {
                state.give_up_connect(op);
                let (status, information) = op.cut_short();
                todo.finish(op.clone(), status, information);
            }
        }
        todo.post(self);
    }

    /// Takes the IRP of `WskCloseSocket`.
    pub(super) fn prepare_close(self: &Arc<Self>, name: &'static str, irp: *mut Irp) -> Arc<Op> {
        Op::new(self, Request::take(name, irp), Body::Close)
    }

    /// `WskCloseSocket`.
    pub(super) fn close(self: &Arc<Self>, close: Arc<Op>) -> NtStatus {
        if self.calls.load(Ordering::SeqCst) > 1 {
            violate!(
                Rule::LabWskCloseInProgress,
                "WskCloseSocket on socket {} while another of its functions is in progress",
                self.id
            );
        }
        let mut todo = Todo::default();
        {
            let mut state = self.state();
            let kept = state.kept();
            if kept > 0 {
                violate!(
                    Rule::LabWskRetained,
                    "WskCloseSocket on socket {} with {kept} data indication list(s) not released",
                    self.id
                );
            }
            state.closing = Some(close.clone());
            state.closed = true;
            state.drop_waiting(&mut todo);
            state.check_closed(&mut todo);
        }
        todo.settle(&close)
    }
}

impl State {
    pub(super) fn new(handle: Fd, phase: Phase, context: *mut c_void, dispatch: Dispatch) -> Self {
        Self {
            handle,
            phase,
            local: None,
            remote: None,
            reuse: false,
            exclusive: false,
            closing: None,
            closed: false,
            born: false,
            outstanding: 0,
            callbacks: 0,
            context,
            dispatch,
            enabled: 0,
            fixed: 0,
            disabling: Vec::new(),
            receives: VecDeque::new(),
            receiving: None,
            sends: VecDeque::new(),
            sending: None,
            connecting: None,
            buffered: VecDeque::new(),
            eof: false,
            failed: None,
            shut: false,
            indicating: false,
            paused: false,
            asked: 0,
            watched: false,
            disconnect_told: false,
            retained: Lists::new(),
            retained_datagrams: Lists::new(),
            accepts: VecDeque::new(),
            inspected: None,
            changes: Vec::new(),
            changed: host::NONE,
            backlog: 0,
            ready: VecDeque::new(),
            inspections: Inspections::default(),
            fixed_remote: None,
            fixed_sendto: None,
            datagrams: VecDeque::new(),
            packet_info: false,
            hop_limit: false,
        }
    }

    /// Data indication lists the client has kept and not released.
    pub(super) fn kept(&self) -> usize {
        self.retained.kept() + self.retained_datagrams.kept()
    }

    /// Starts whatever can be started.
    pub(super) fn pump(&mut self, socket: &Arc<Socket>, todo: &mut Todo) {
        if self.closed {
            return;
        }
        match socket.category {
            Category::Connection => {
                self.pump_send(todo);
                self.pump_receive(socket, todo);
            }
            Category::Datagram => {
                self.pump_send_to(todo);
                self.pump_receive_from(socket, todo);
            }
            Category::Listen => self.pump_accept(socket, todo),
            Category::Basic => {}
        }
    }

    /// Ends what only waits, as cancelled.
    fn drop_waiting(&mut self, todo: &mut Todo) {
        let receives = std::mem::take(&mut self.receives);
        let sends = std::mem::take(&mut self.sends);
        let accepts = std::mem::take(&mut self.accepts);
        let changes = std::mem::take(&mut self.changes);
        let queued = receives.into_iter().chain(sends).chain(accepts);
        for op in queued.chain(changes) {
            todo.finish(op, status::CANCELLED, 0);
        }
        for op in [&self.receiving, &self.sending, &self.connecting] {
            if let Some(op) = op
                && op.take_waiting()
            {
                todo.finish(op.clone(), status::CANCELLED, 0);
            }
        }
        self.inspections.refuse_all();
        for socket in std::mem::take(&mut self.ready) {
            socket.state().release_handle(true);
        }
    }

    /// When a closing socket has nothing under way any more, it goes away.
    pub(super) fn check_closed(&mut self, todo: &mut Todo) {
        if self.closed && self.outstanding == 0 && self.callbacks == 0 {
            if let Some(close) = self.closing.take() {
                // "Always performs an abortive disconnect of the socket unless
                // the socket is already fully disconnected in both
                // directions." After a graceful disconnect of this side alone
                // the host would throw away what it has not sent yet, where
                // Windows has seen it acknowledged: there the end stays
                // orderly, and the reset comes when the other side sends.
                let abortive = self.phase == Phase::Connected && !self.shut;
                self.release_handle(abortive);
                close.socket.withdraw();
                todo.finish(close, status::SUCCESS, 0);
            }
        } else if self.callbacks == 0 {
            for op in std::mem::take(&mut self.disabling) {
                todo.finish(op, status::SUCCESS, 0);
            }
        }
    }

    /// Gives the host's socket back.
    pub(super) fn release_handle(&mut self, abortive: bool) {
        self.inspections.gate = None;
        if self.changed != host::NONE {
            host::close(std::mem::replace(&mut self.changed, host::NONE));
        }
        if self.handle != host::NONE {
            let handle = std::mem::replace(&mut self.handle, host::NONE);
            if abortive {
                host::close_abortive(handle);
            } else {
                host::close(handle);
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // A socket that never reached its client.
        engine::unwatch(self.id);
        lock(&self.state).release_handle(true);
    }
}

/// Forgets the sockets of a session; what the client left open is closed.
pub(super) fn end_session() {
    let left: Vec<_> = SOCKETS
        .write()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .drain()
        .collect();
    for (_, socket) in left {
        socket.state().release_handle(true);
    }
    lock(&CLOSED).clear();
    lock(&ADDRESSES).clear();
}
