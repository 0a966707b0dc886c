//! Listening sockets: `WskAccept` and `WskAcceptEvent`.
//!
//! The provider takes as many connections from the host as there are waiting
//! IRPs, and all while an event callback wants them; the rest wait with the
//! host. A connection goes to a waiting IRP first, then to the callback.

use super::addr::RawAddr;
use super::counts::{Count, count};
use super::host::gate::{self, Ends};
use super::host::{self, Fd, errno};
use super::inspect::Candidate;
use super::op::{Body, OutAddr, Pointer};
use super::socket::{Category, Socket, enter};
use super::state::{Dispatch, Phase, State};
use super::todo::Todo;
use super::types::{
    Irp, NtStatus, PfnAcceptEvent, WSK_EVENT_ACCEPT, WSK_EVENTS_CONNECTION,
    WSK_FLAG_AT_DISPATCH_LEVEL, WskClientConnectionDispatch, WskSocket,
};
use super::{check_flags, engine, fault, status};
use crate::core::{Rule, irql};
use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Connections a client in conditional accept mode is asked about, and has
/// not taken, at a time.
const INSPECTED: usize = 256;
/// How long to wait when the host has no more sockets.
const RETRY: Duration = Duration::from_millis(50);

/// `WskAccept`.
pub(super) unsafe extern "system" fn accept(
    socket: *mut WskSocket,
    flags: u32,
    context: *mut c_void,
    dispatch: *const WskClientConnectionDispatch,
    local: *mut c_void,
    remote: *mut c_void,
    irp: *mut Irp,
) -> NtStatus {
    const NAME: &str = "WskAccept";
    let call = enter(NAME, socket, &[Category::Listen]);
    check_flags(NAME, flags, 0);
    // SAFETY: null, or the client's constant dispatch table.
    let dispatch = unsafe { dispatch.as_ref() }.copied();
    let body = Body::Accept {
        context: Pointer(context),
        dispatch,
        local: OutAddr(local),
        remote: OutAddr(remote),
    };
    let op = call.socket.begin(NAME, irp, body);
    if let Some(status) = fault(NAME) {
        return op.deliver(status, 0);
    }
    let mut todo = Todo::default();
    {
        let mut state = call.socket.state();
        if state.phase == Phase::Dead {
            todo.finish(op.clone(), status::FILE_FORCED_CLOSED, 0);
        } else if state.phase != Phase::Listening {
            todo.finish(op.clone(), status::INVALID_DEVICE_STATE, 0);
        } else if op.cancelled.load(Ordering::SeqCst) {
            todo.finish(op.clone(), status::CANCELLED, 0);
        } else {
            state.accepts.push_back(op.clone());
            state.pump_accept(&call.socket, &mut todo);
        }
    }
    todo.settle(&op)
}

impl State {
    /// Hands out connections and keeps enough accepts with the system.
    pub(super) fn pump_accept(&mut self, listener: &Arc<Socket>, todo: &mut Todo) {
        if self.closed || self.phase != Phase::Listening {
            return;
        }
        while let Some(connection) = self.ready.pop_front() {
            if let Err(connection) = self.hand_out(listener, connection, todo) {
                self.ready.push_front(connection);
                break;
            }
        }
        while self.wants_connection() {
            match host::accept(self.handle) {
                Ok(None) => break,
                Ok(Some(fd)) => self.arrived(listener, fd, todo),
                // That one is gone; the next may come.
                Err(errno::ECONNABORTED) => {}
                Err(error) => {
                    self.no_socket(listener, error, todo);
                    return;
                }
            }
        }
        self.pump_gate(todo);
    }

    /// The host has connections for a listening socket.
    pub(super) fn pump_accept_ready(&mut self, listener: &Arc<Socket>, todo: &mut Todo) {
        if listener.category == Category::Listen {
            self.pump_accept(listener, todo);
        }
    }

    fn wants_connection(&self) -> bool {
        if self.inspections.gate.is_some() {
            // All of them were asked for.
            return true;
        }
        if self.inspections.on {
            return self.inspections.count() + self.ready.len() < INSPECTED;
        }
        !self.accepts.is_empty() || self.enabled & WSK_EVENT_ACCEPT != 0
    }

    /// A connection has come: to be inspected, or handed out.
    fn arrived(&mut self, listener: &Arc<Socket>, fd: Fd, todo: &mut Todo) {
        let (Ok(local), Ok(remote)) = (host::local_address(fd), host::remote_address(fd)) else {
            // Reset before it was taken.
            host::close_abortive(fd);
            return;
        };
        let mut inspected = self.inspections.on;
        if self.inspections.gate.is_some() {
            gate::passed(fd);
            inspected = gate::passes(remote);
            let ends = Ends { local, remote };
            if !inspected && !self.inspections.was_admitted(&ends) {
                // The client has been told that it is no more.
                host::close_abortive(fd);
                return;
            }
        }
        let mut state = State::new(fd, Phase::Connected, null_mut(), Dispatch::None);
        state.local = Some(local);
        state.remote = Some(remote);
        let connection = Socket::new(
            &listener.client,
            Category::Connection,
            listener.family,
            listener.protocol,
            state,
        );
        if engine::watch(&connection, fd).is_err() {
            return;
        }
        if inspected {
            self.callbacks += 1;
            self.inspections.asked();
            todo.inspect.push(Candidate::Connection(connection));
        } else if let Err(connection) = self.hand_out(listener, connection, todo) {
            self.ready.push_back(connection);
        }
    }

    /// Gives a connection to whoever is to have it; back when nobody is.
    fn hand_out(
        &mut self,
        listener: &Arc<Socket>,
        connection: Arc<Socket>,
        todo: &mut Todo,
    ) -> Result<(), Arc<Socket>> {
        if let Some(op) = self.accepts.pop_front() {
            if let Body::Accept {
                context,
                dispatch,
                local,
                remote,
            } = &op.body
            {
                let mut state = connection.state();
                state.context = context.0;
                state.dispatch = dispatch.map_or(Dispatch::None, Dispatch::Connection);
                state.fixed = listener.client.static_events() & WSK_EVENTS_CONNECTION;
                state.enabled = state.fixed;
                local.write(state.local);
                remote.write(state.remote);
                state.born = true;
            }
            count(Count::AcceptsByIrp);
            listener.client.socket_made();
            let public = connection.publish();
            todo.finish(op, status::SUCCESS, public as usize);
            todo.started.push(connection);
            return Ok(());
        }
        if self.enabled & WSK_EVENT_ACCEPT != 0 {
            self.callbacks += 1;
            todo.accepted.push(connection);
            return Ok(());
        }
        Err(connection)
    }

    /// The host has no socket to accept into: the waiting IRPs learn it, the
    /// event callback gets what comes later.
    fn no_socket(&mut self, listener: &Arc<Socket>, error: i32, todo: &mut Todo) {
        if self.closed {
            return;
        }
        for op in std::mem::take(&mut self.accepts) {
            todo.finish(op, status::from_host(error), 0);
        }
        if self.enabled & WSK_EVENT_ACCEPT != 0 || self.inspections.on {
            self.callbacks += 1;
            let listener = listener.clone();
            std::thread::spawn(move || {
                std::thread::sleep(RETRY);
                let mut todo = Todo::default();
                {
                    let mut state = listener.state();
                    state.callbacks -= 1;
                    state.pump_accept(&listener, &mut todo);
                    state.check_closed(&mut todo);
                }
                todo.run(&listener);
            });
        }
    }
}

/// A listening socket is no longer functional: what waits for connections ends.
pub(super) fn listener_failed(listener: &Arc<Socket>, status: NtStatus, todo: &mut Todo) {
    crate::core::event_log(serde_json::json!({
        "event": "wsk", "listener": listener.id, "failed": status,
    }));
    let mut state = listener.state();
    state.phase = Phase::Dead;
    state.inspections.refuse_all();
    state.release_handle(true);
    for op in std::mem::take(&mut state.accepts) {
        todo.finish(op, status::FILE_FORCED_CLOSED, 0);
    }
}

fn callback(state: &State) -> Option<PfnAcceptEvent> {
    match state.dispatch {
        Dispatch::Listen(dispatch) => dispatch.accept_event,
        _ => None,
    }
}

/// Calls `WskAcceptEvent` with a new connection.
pub(super) fn accept_event(listener: &Arc<Socket>, connection: Arc<Socket>, todo: &mut Todo) {
    let (routine, context, inherited) = {
        let state = listener.state();
        let inherited = (state.enabled & WSK_EVENTS_CONNECTION)
            | (listener.client.static_events() & WSK_EVENTS_CONNECTION);
        (
            callback(&state).filter(|_| !state.closed),
            state.context,
            inherited,
        )
    };
    if let Some(routine) = routine {
        if let Some(status) = fault("WskAcceptEvent") {
            // The documented way to say that a listening socket has failed.
            listener_failed(listener, status, todo);
            call_accept(routine, context, None, null_mut());
        } else {
            offer(routine, context, inherited, &connection, todo);
        }
    }
    let mut state = listener.state();
    state.callbacks -= 1;
    state.pump_accept(listener, todo);
    state.check_closed(todo);
}

fn offer(
    routine: PfnAcceptEvent,
    context: *mut c_void,
    inherited: u32,
    connection: &Arc<Socket>,
    todo: &mut Todo,
) {
    let addresses = {
        let mut state = connection.state();
        state.born = true;
        state.local.zip(state.remote)
    };
    connection.client.socket_made();
    let public = connection.publish();
    let (status, socket_context, dispatch) = call_accept(routine, context, addresses, public);
    match status {
        status::SUCCESS => {
            count(Count::AcceptsByEvent);
            // SAFETY: null, or the constant dispatch table the client gave.
            let dispatch = unsafe { dispatch.as_ref() }.copied();
            let mut state = connection.state();
            state.context = socket_context;
            state.dispatch = dispatch.map_or(Dispatch::None, Dispatch::Connection);
            state.fixed = connection.client.static_events() & WSK_EVENTS_CONNECTION;
            state.enabled |= inherited;
            drop(state);
            todo.started.push(connection.clone());
        }
        status::REQUEST_NOT_ACCEPTED => {
            count(Count::AcceptsRejected);
            connection.reject();
        }
        other => violate!(
            Rule::LabWskCallbackStatus,
            "WskAcceptEvent returned {other:#x}, neither STATUS_SUCCESS nor \
             STATUS_REQUEST_NOT_ACCEPTED"
        ),
    }
}

fn call_accept(
    routine: PfnAcceptEvent,
    context: *mut c_void,
    addresses: Option<(RawAddr, RawAddr)>,
    socket: *mut WskSocket,
) -> (NtStatus, *mut c_void, *const WskClientConnectionDispatch) {
    let (mut socket_context, mut dispatch) = (null_mut(), null());
    let level = engine::level();
    // The flag may be absent at DISPATCH_LEVEL, never present below it.
    let flags = if level == irql::DISPATCH_LEVEL && engine::random() & 1 == 0 {
        WSK_FLAG_AT_DISPATCH_LEVEL
    } else {
        0
    };
    let bytes = |address: &Option<RawAddr>| {
        address
            .as_ref()
            .map_or(null_mut(), |address| address.as_ptr().cast_mut())
    };
    let (local, remote) = addresses.unzip();
    let status = engine::callback("WskAcceptEvent", routine as usize, level, || {
        // SAFETY: the client's routine for this event, with arguments that
        // live until it returns.
        unsafe {
            routine(
                context,
                flags,
                bytes(&local),
                bytes(&remote),
                socket,
                &mut socket_context,
                &mut dispatch,
            )
        }
    });
    (status, socket_context, dispatch)
}

impl Socket {
    /// "The WSK subsystem will close the accepted socket on behalf of the WSK
    /// application."
    fn reject(self: &Arc<Self>) {
        let mut state = self.state();
        if state.outstanding > 0 || state.closed {
            violate!(
                Rule::LabWskCallbackStatus,
                "WskAcceptEvent rejected a connection on which it has made calls"
            );
        }
        state.closed = true;
        state.release_handle(true);
        self.withdraw();
        drop(state);
        self.client.socket_gone();
    }
}
