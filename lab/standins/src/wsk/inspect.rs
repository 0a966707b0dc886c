//! Conditional accept: `WskInspectEvent`, `WskInspectComplete`, `WskAbortEvent`.
//!
//! On Windows the client is asked before the handshake is answered; here the
//! host has answered it by then. So a refused peer sees its connection made and
//! reset at once, instead of refused, and may send its first bytes while it is
//! being inspected; nobody sees them unless it is accepted. All the rest is as
//! documented: nothing is accepted, by callback or IRP, that was not inspected,
//! and a peer that resets during a pending inspection is told of by
//! `WskAbortEvent`.

use super::counts::{Count, count};
use super::engine;
use super::host;
use super::op::Body;
use super::socket::{Category, Dispatch, Phase, Socket, State, Todo, enter};
use super::types::{
    Irp, NtStatus, PfnInspectEvent, WSK_INSPECT_ACCEPT, WSK_INSPECT_PEND, WSK_INSPECT_REJECT,
    WskInspectId, WskSocket,
};
use super::{fault, status};
use crate::core::Rule;
use std::collections::VecDeque;
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(1);
/// Ids of ended inspections that are remembered, to tell a late completion
/// from one of something that never was.
const REMEMBERED: usize = 256;

/// A connection that the client has been asked about.
struct Inspection {
    id: WskInspectId,
    connection: Arc<Socket>,
    /// `WskInspectEvent` has not returned yet.
    asking: bool,
    /// What `WskInspectComplete` said before the event callback had returned.
    decided: Option<bool>,
}

/// How an inspection ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Decided,
    Aborted,
}

/// The inspections of a listening socket.
#[derive(Default)]
pub(super) struct Inspections {
    /// SO_CONDITIONAL_ACCEPT.
    pub(super) on: bool,
    /// Asked about, or about to be.
    asked: usize,
    open: Vec<Inspection>,
    ended: VecDeque<(WskInspectId, End)>,
}

impl Inspections {
    fn end(&mut self, id: WskInspectId, how: End) -> Option<Inspection> {
        let at = self.open.iter().position(|one| one.id == id)?;
        self.ended.push_back((id, how));
        if self.ended.len() > REMEMBERED {
            self.ended.pop_front();
        }
        Some(self.open.swap_remove(at))
    }

    /// How many connections there are in inspection, or about to be.
    pub(super) fn count(&self) -> usize {
        self.asked + self.open.len()
    }

    /// The client is about to be asked about one more.
    pub(super) fn asked(&mut self) {
        self.asked += 1;
    }

    /// Takes all connections that are being inspected: the listener closes.
    pub(super) fn drain(&mut self) -> Vec<Arc<Socket>> {
        self.open.drain(..).map(|one| one.connection).collect()
    }
}

fn callback(state: &State) -> Option<PfnInspectEvent> {
    match state.dispatch {
        Dispatch::Listen(dispatch) => dispatch.inspect_event,
        _ => None,
    }
}

/// Asks the client about a new connection; the caller has counted the callback.
pub(super) fn inspect_event(listener: &Arc<Socket>, connection: Arc<Socket>, todo: &mut Todo) {
    let (routine, context) = {
        let state = listener.state();
        (callback(&state).filter(|_| !state.closed), state.context)
    };
    if let Some(routine) = routine {
        if let Some(status) = fault("WskInspectEvent") {
            // The documented way to say that a listening socket has failed.
            super::listen::listener_failed(listener, status, todo);
            engine::callback(
                "WskInspectEvent",
                routine as usize,
                engine::level(),
                // SAFETY: the client's routine; a null id says what it says.
                || unsafe { routine(context, null_mut(), null_mut(), null_mut()) },
            );
        } else {
            ask(listener, routine, context, &connection);
        }
    }
    let mut state = listener.state();
    state.inspections.asked = state.inspections.asked.saturating_sub(1);
    state.callbacks -= 1;
    state.pump_accept(listener, todo);
    state.check_closed(todo);
}

fn ask(
    listener: &Arc<Socket>,
    routine: PfnInspectEvent,
    context: *mut std::ffi::c_void,
    connection: &Arc<Socket>,
) {
    let serial = NEXT.fetch_add(1, Ordering::Relaxed);
    let id = WskInspectId {
        key: Arc::as_ptr(connection) as usize,
        serial_number: serial,
    };
    let (local, remote) = {
        let state = connection.state();
        (state.local, state.remote)
    };
    let (Some(local), Some(remote)) = (local, remote) else {
        return;
    };
    listener.state().inspections.open.push(Inspection {
        id,
        connection: connection.clone(),
        asking: true,
        decided: None,
    });
    // The client must copy the id: its memory is the call's.
    let mut lent = id;
    let action = engine::callback("WskInspectEvent", routine as usize, engine::level(), || {
        // SAFETY: the client's routine for this event, with arguments that
        // live until it returns.
        unsafe {
            routine(
                context,
                local.as_ptr().cast_mut(),
                remote.as_ptr().cast_mut(),
                &raw mut lent,
            )
        }
    });
    let mut state = listener.state();
    let Some(at) = state.inspections.open.iter().position(|one| one.id == id) else {
        // The listener was closed meanwhile.
        return;
    };
    let decided = state.inspections.open[at].decided;
    let accepted = match (action, decided) {
        (WSK_INSPECT_PEND, None) => {
            count(Count::InspectedPended);
            state.inspections.open[at].asking = false;
            drop(state);
            connection.state().inspected = Some((Arc::downgrade(listener), id));
            // It may have gone before anybody looked.
            if host::was_reset(connection.state().handle) {
                aborted(listener, id);
            }
            return;
        }
        (WSK_INSPECT_PEND, Some(accepted)) => accepted,
        (WSK_INSPECT_ACCEPT, None) => true,
        (WSK_INSPECT_REJECT, None) => false,
        (WSK_INSPECT_ACCEPT | WSK_INSPECT_REJECT, Some(_)) => violate!(
            Rule::LabWskInspect,
            "WskInspectComplete for inspection {serial}, which WskInspectEvent answered with \
             {action} instead of WskInspectPend"
        ),
        _ => violate!(
            Rule::LabWskCallbackStatus,
            "WskInspectEvent returned {action}, which is no WSK_INSPECT_ACTION for it"
        ),
    };
    state.inspections.end(id, End::Decided);
    state.inspected(connection.clone(), accepted);
}

/// The other side of a connection under inspection has reset it.
pub(super) fn aborted(listener: &Arc<Socket>, id: WskInspectId) {
    let mut todo = Todo::default();
    let (routine, context) = {
        let mut state = listener.state();
        let Some(inspection) = state.inspections.end(id, End::Aborted) else {
            return;
        };
        inspection.connection.state().release_handle(true);
        let routine = match state.dispatch {
            Dispatch::Listen(dispatch) if !state.closed => dispatch.abort_event,
            _ => None,
        };
        state.callbacks += 1;
        (routine, state.context)
    };
    if let Some(routine) = routine {
        count(Count::InspectedAborted);
        let mut lent = id;
        let level = engine::level();
        let answer = engine::callback("WskAbortEvent", routine as usize, level, || {
            // SAFETY: the client's routine for this event.
            unsafe { routine(context, &raw mut lent) }
        });
        if answer != status::SUCCESS {
            violate!(
                Rule::LabWskCallbackStatus,
                "WskAbortEvent returned {answer:#x}; it \"must always return STATUS_SUCCESS\""
            );
        }
    }
    {
        let mut state = listener.state();
        state.callbacks -= 1;
        state.pump_accept(listener, &mut todo);
        state.check_closed(&mut todo);
    }
    todo.post(listener);
}

impl State {
    /// The client has decided.
    fn inspected(&mut self, connection: Arc<Socket>, accepted: bool) {
        connection.state().inspected = None;
        count(if accepted {
            Count::InspectedAccepted
        } else {
            Count::InspectedRejected
        });
        if accepted && !self.closed {
            self.ready.push_back(connection);
        } else {
            connection.state().release_handle(true);
        }
    }
}

/// `WskInspectComplete`.
pub(super) unsafe extern "system" fn inspect_complete(
    socket: *mut WskSocket,
    id: *mut WskInspectId,
    action: u32,
    irp: *mut Irp,
) -> NtStatus {
    const NAME: &str = "WskInspectComplete";
    let call = enter(NAME, socket, &[Category::Listen]);
    if id.is_null() {
        violate!(Rule::LabWskNullArgument, "{NAME} without an InspectID");
    }
    if ![WSK_INSPECT_ACCEPT, WSK_INSPECT_REJECT].contains(&action) {
        violate!(
            Rule::LabWskInspect,
            "{NAME} with action {action}, neither WskInspectAccept nor WskInspectReject"
        );
    }
    // SAFETY: not null; the client's copy of the id.
    let id = unsafe { id.read() };
    let op = call.socket.begin(NAME, irp, Body::Simple);
    if let Some(status) = fault(NAME) {
        return op.deliver(status, 0);
    }
    let mut todo = Todo::default();
    {
        let mut state = call.socket.state();
        let status = state.decide(call.socket.id, id, action == WSK_INSPECT_ACCEPT);
        state.pump_accept(&call.socket, &mut todo);
        todo.finish(op.clone(), status, 0);
    }
    todo.settle(&op)
}

impl State {
    fn decide(&mut self, listener: u64, id: WskInspectId, accepted: bool) -> NtStatus {
        let serial = id.serial_number;
        if !self.inspections.on {
            violate!(
                Rule::LabWskInspect,
                "WskInspectComplete on socket {listener}, which has no SO_CONDITIONAL_ACCEPT"
            );
        }
        let asked = self.inspections.open.iter_mut().find(|one| one.id == id);
        let Some(inspection) = asked else {
            let ended = self.inspections.ended.iter().find(|(old, _)| *old == id);
            match ended {
                // "The connection will not be established even if
                // WskInspectAccept is specified."
                Some((_, End::Aborted)) => return status::CONNECTION_ABORTED,
                Some((_, End::Decided)) => violate!(
                    Rule::LabWskInspect,
                    "WskInspectComplete for inspection {serial}, which is decided already"
                ),
                None => violate!(
                    Rule::LabWskInspect,
                    "WskInspectComplete for inspection {serial}, which there never was"
                ),
            }
        };
        if inspection.asking {
            if inspection.decided.replace(accepted).is_some() {
                violate!(
                    Rule::LabWskInspect,
                    "WskInspectComplete for inspection {serial}, which is decided already"
                );
            }
            return status::SUCCESS;
        }
        if let Some(inspection) = self.inspections.end(id, End::Decided) {
            self.inspected(inspection.connection, accepted);
        }
        if self.phase == Phase::Dead {
            status::FILE_FORCED_CLOSED
        } else {
            status::SUCCESS
        }
    }
}
