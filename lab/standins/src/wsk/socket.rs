//! Sockets: what a `PWSK_SOCKET` stands for, the table of them, and the way
//! they are entered and closed.
//!
//! A socket's [`State`] is under its own lock. Everything that changes it adds
//! to a [`Todo`] what is to be done once the lock is released: IRPs to
//! complete, callbacks to make. A socket goes away when it is closing and
//! nothing of it is under way any more.

use super::engine::{self, lock};
use super::irp::Request;
use super::op::{Body, Op};
use super::registration::Client;
use super::sharing::Table;
use super::state::State;
use super::todo::Todo;
use super::types::{Irp, NtStatus, WskSocket};
use super::{host, inspect, status};
use crate::core::{Rule, irql};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, RwLock};

/// `WSK_SOCKET` categories.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Category {
    Basic,
    Listen,
    Datagram,
    Connection,
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
