//! Conditional accept: `WskInspectEvent`, `WskInspectComplete`, `WskAbortEvent`.
//!
//! The client is asked about a connection request before the handshake is
//! answered ([`super::admit`]): a refused peer sees its connection refused, and
//! one that is pended gets no answer until it is decided. Where the host doesn't
//! allow that, the client is asked about connections that the host has made
//! already: a refused peer then sees its connection made and reset at once, and
//! may send its first bytes while it is being inspected; nobody sees them unless
//! it is accepted. All the rest is as documented: nothing is accepted, by
//! callback or IRP, that was not inspected, and a peer that resets during a
//! pending inspection, or before its accepted connection is made, is told of by
//! `WskAbortEvent`.

use super::addr::RawAddr;
use super::admit::Admitted;
use super::counts::{Count, count};
use super::engine;
use super::host;
use super::host::gate::{Ends, Gate, Request};
use super::op::Body;
use super::socket::{Category, Socket, enter};
use super::state::{Dispatch, Phase, State};
use super::todo::Todo;
use super::types::{
    Irp, NtStatus, PfnInspectEvent, WSK_INSPECT_ACCEPT, WSK_INSPECT_PEND, WSK_INSPECT_REJECT,
    WskInspectId, WskSocket,
};
use super::{fault, status};
use crate::core::Rule;
use std::collections::{HashMap, VecDeque};
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(1);
/// Ids of ended inspections that are remembered, to tell a late completion
/// from one of something that never was.
const REMEMBERED: usize = 256;

/// What a client is asked about.
pub(super) enum Candidate {
    /// A connection that the host has made.
    Connection(Arc<Socket>),
    /// A request that nobody has answered.
    Request(Request),
}

impl Candidate {
    fn ends(&self) -> Option<(RawAddr, RawAddr)> {
        match self {
            Self::Connection(socket) => {
                let state = socket.state();
                state.local.zip(state.remote)
            }
            Self::Request(request) => Some((request.ends.local, request.ends.remote)),
        }
    }
}

/// Something that the client has been asked about.
struct Inspection {
    id: WskInspectId,
    candidate: Candidate,
    /// `WskInspectEvent` has not returned yet.
    asking: bool,
    /// What `WskInspectComplete` said before the event callback had returned.
    decided: Option<bool>,
    /// The peer has gone before the event callback had returned.
    gone: bool,
}

impl Inspection {
    /// Whether it is about a request of these ends.
    fn is_of(&self, ends: &Ends) -> bool {
        matches!(&self.candidate, Candidate::Request(request) if request.ends == *ends)
    }
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
    /// Before the socket, if the host allows it.
    pub(super) gate: Option<Gate>,
    /// Accepted requests whose connections are not made yet.
    pub(super) admitted: HashMap<Ends, Admitted>,
    /// The last requests that were decided, and whether they were refused:
    /// who repeats one is not asked about again.
    pub(super) decided: VecDeque<(Ends, u32, bool)>,
    /// Asked about, or about to be.
    asked: usize,
    open: Vec<Inspection>,
    ended: VecDeque<(WskInspectId, End)>,
}

impl Inspections {
    fn end(&mut self, id: WskInspectId, how: End) -> Option<Inspection> {
        let at = self.open.iter().position(|one| one.id == id)?;
        self.remember(id, how);
        Some(self.open.swap_remove(at))
    }

    fn remember(&mut self, id: WskInspectId, how: End) {
        self.ended.push_back((id, how));
        if self.ended.len() > REMEMBERED {
            self.ended.pop_front();
        }
    }

    /// How many connections there are in inspection, or about to be.
    pub(super) fn count(&self) -> usize {
        self.asked + self.open.len()
    }

    /// The client is about to be asked about one more.
    pub(super) fn asked(&mut self) {
        self.asked += 1;
    }

    /// The sequence number of the request of these ends that is being inspected.
    pub(super) fn pending(&self, ends: &Ends) -> Option<u32> {
        self.open.iter().find_map(|one| match &one.candidate {
            Candidate::Request(request) if one.is_of(ends) => Some(request.sequence),
            _ => None,
        })
    }

    /// The peer of a request under inspection has gone. Its id, unless the
    /// client has not answered yet, who is told when it has.
    pub(super) fn gone(&mut self, ends: &Ends) -> Option<WskInspectId> {
        let one = self.open.iter_mut().find(|one| one.is_of(ends))?;
        one.gone = true;
        (!one.asking).then_some(one.id)
    }

    /// Refuses all that are being inspected: the listener closes.
    pub(super) fn refuse_all(&mut self) {
        for one in std::mem::take(&mut self.open) {
            self.refuse(one.candidate);
        }
        self.admitted.clear();
    }

    fn refuse(&self, candidate: Candidate) {
        match (candidate, &self.gate) {
            (Candidate::Connection(connection), _) => connection.state().release_handle(true),
            (Candidate::Request(request), Some(gate)) => gate.refuse(&request),
            // The host has closed its listening socket, and refuses what comes.
            (Candidate::Request(_), None) => {}
        }
    }
}

fn callback(state: &State) -> Option<PfnInspectEvent> {
    match state.dispatch {
        Dispatch::Listen(dispatch) => dispatch.inspect_event,
        _ => None,
    }
}

/// Asks the client about a candidate; the caller has counted the callback.
pub(super) fn inspect_event(listener: &Arc<Socket>, candidate: Candidate, todo: &mut Todo) {
    let (routine, context) = {
        let state = listener.state();
        (callback(&state).filter(|_| !state.closed), state.context)
    };
    let failed = routine.and_then(|_| fault("WskInspectEvent"));
    match (routine, failed) {
        (Some(routine), None) => ask(listener, routine, context, candidate, todo),
        (Some(routine), Some(status)) => {
            listener.state().inspections.refuse(candidate);
            // The documented way to say that a listening socket has failed.
            super::listen::listener_failed(listener, status, todo);
            engine::callback(
                "WskInspectEvent",
                routine as usize,
                engine::level(),
                // SAFETY: the client's routine; a null id says what it says.
                || unsafe { routine(context, null_mut(), null_mut(), null_mut()) },
            );
        }
        // The listener closes.
        (None, _) => listener.state().inspections.refuse(candidate),
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
    candidate: Candidate,
    todo: &mut Todo,
) {
    let serial = NEXT.fetch_add(1, Ordering::Relaxed);
    let id = WskInspectId {
        // Opaque to the client; as good as an address.
        key: (serial as usize) << 4,
        serial_number: serial,
    };
    let Some((local, remote)) = candidate.ends() else {
        return;
    };
    let connection = match &candidate {
        Candidate::Connection(connection) => Some(connection.clone()),
        Candidate::Request(_) => None,
    };
    listener.state().inspections.open.push(Inspection {
        id,
        candidate,
        asking: true,
        decided: None,
        gone: false,
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
    let Some(one) = state.inspections.open.iter_mut().find(|one| one.id == id) else {
        // The listener was closed meanwhile.
        return;
    };
    let accepted = match (action, one.decided) {
        (WSK_INSPECT_PEND, None) => {
            count(Count::InspectedPended);
            one.asking = false;
            let mut gone = one.gone;
            drop(state);
            if let Some(connection) = connection {
                let mut state = connection.state();
                state.inspected = Some((Arc::downgrade(listener), id));
                // It may have gone before anybody looked.
                gone = host::was_reset(state.handle);
            }
            if gone {
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
    if one.gone && accepted {
        one.asking = false;
        todo.aborts.push(id);
    } else if let Some(one) = state.inspections.end(id, End::Decided) {
        state.inspected(id, one.candidate, accepted);
    }
}

/// The peer of something that was inspected has gone before its connection was
/// made: it is still being inspected, or was accepted.
pub(super) fn aborted(listener: &Arc<Socket>, id: WskInspectId) {
    let mut todo = Todo::default();
    let (routine, context) = {
        let mut state = listener.state();
        match state.inspections.end(id, End::Aborted) {
            Some(one) => {
                if let Candidate::Connection(connection) = one.candidate {
                    connection.state().release_handle(true);
                }
            }
            None if state.inspections.take_admitted(id) => {}
            None => return,
        }
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
    fn inspected(&mut self, id: WskInspectId, candidate: Candidate, accepted: bool) {
        count(if accepted {
            Count::InspectedAccepted
        } else {
            Count::InspectedRejected
        });
        let accepted = accepted && !self.closed;
        match candidate {
            Candidate::Connection(connection) => {
                let mut state = connection.state();
                state.inspected = None;
                if accepted {
                    drop(state);
                    self.ready.push_back(connection);
                } else {
                    state.release_handle(true);
                }
            }
            Candidate::Request(request) => self.inspections.answer(id, &request, accepted),
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
            self.inspected(id, inspection.candidate, accepted);
        }
        if self.phase == Phase::Dead {
            status::FILE_FORCED_CLOSED
        } else {
            status::SUCCESS
        }
    }
}
