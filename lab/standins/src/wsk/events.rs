//! Event callback functions that carry data: `WskReceiveEvent`,
//! `WskReceiveFromEvent`, and `WskDisconnectEvent`; and `WskRelease`, by which
//! a client gives back what it kept.

use super::counts::{Count, add, count};
use super::socket::{Category, Socket, enter};
use super::state::Dispatch;
use super::todo::Todo;
use super::types::{
    NtStatus, PfnReceiveEvent, PfnReceiveFromEvent, WSK_EVENT_DISCONNECT, WSK_EVENT_RECEIVE,
    WSK_EVENT_RECEIVE_FROM, WSK_EVENT_SEND_BACKLOG, WSK_FLAG_ABORTIVE, WSK_FLAG_AT_DISPATCH_LEVEL,
    WSK_FLAG_ENTIRE_MESSAGE, WSK_FLAG_RELEASE_ASAP, WskDataIndication, WskDatagramIndication,
    WskSocket,
};
use super::{engine, fault, lists, status};
use crate::core::{Rule, irql};
use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::Arc;

fn level_and_flags() -> (u8, u32) {
    let level = engine::level();
    let flag = level == irql::DISPATCH_LEVEL && engine::random() & 1 == 0;
    (level, if flag { WSK_FLAG_AT_DISPATCH_LEVEL } else { 0 })
}

/// Calls the receive callback of a connection or datagram socket; the caller
/// has counted it and set `indicating`.
pub(super) fn indicate(socket: &Arc<Socket>, todo: &mut Todo) {
    match socket.category {
        Category::Datagram => indicate_datagrams(socket, todo),
        _ => indicate_data(socket, todo),
    }
    let mut state = socket.state();
    state.indicating = false;
    state.callbacks -= 1;
    state.pump(socket, todo);
    state.check_closed(todo);
}

fn indicate_data(socket: &Arc<Socket>, todo: &mut Todo) {
    let (routine, context, data, more, asked) = {
        let mut state = socket.state();
        let Dispatch::Connection(dispatch) = state.dispatch else {
            return;
        };
        let Some(routine) = dispatch.receive_event else {
            return;
        };
        // A waiting WskReceive has precedence; it will find the data.
        if state.closed || state.enabled & WSK_EVENT_RECEIVE == 0 || !state.receives.is_empty() {
            return;
        }
        let most = state.buffered.len().min(engine::most_indicated());
        let data: Vec<u8> = state.buffered.drain(..most).collect();
        let more = !state.buffered.is_empty();
        (routine, state.context, data, more, state.asked)
    };
    if data.is_empty() {
        return;
    }
    if let Some(status) = fault("WskReceiveEvent") {
        fail(socket, status, todo, |level| {
            receive_event(level, routine, context, 0, null_mut(), 0)
        });
        return;
    }
    let list = lists::of_data(&data, engine::most_in_element());
    let (level, mut flags) = level_and_flags();
    let asap = engine::release_asap();
    if asap {
        flags |= WSK_FLAG_RELEASE_ASAP;
    }
    // The last segment of a write has the push bit; others may have it.
    if !more || engine::random() & 1 == 0 {
        flags |= WSK_FLAG_ENTIRE_MESSAGE;
    }
    count(Count::Indications);
    add(Count::IndicatedElements, lists::length(list));
    add(Count::IndicatedBytes, data.len());
    add(Count::IndicatedAsap, usize::from(asap));
    socket.state().retained.lend(list, asap);
    let (answer, accepted) = receive_event(level, routine, context, flags, list, data.len());
    let mut state = socket.state();
    match answer {
        status::SUCCESS => {
            if accepted > data.len() || accepted == 0 {
                violate!(
                    Rule::LabWskCallbackStatus,
                    "WskReceiveEvent accepted {accepted} of {} bytes and returned STATUS_SUCCESS",
                    data.len()
                );
            }
            state.retained.take_back(list);
            let left = data.get(accepted..).unwrap_or_default();
            state.put_back(left);
            state.paused = !left.is_empty() && state.asked == asked;
            count(if left.is_empty() {
                Count::Accepted
            } else {
                Count::AcceptedPart
            });
        }
        status::PENDING => {
            let closed = state.closed;
            count(Count::Retained);
            if state.retained.keep(list, closed) {
                count(Count::RetainedAsap);
            }
        }
        status::DATA_NOT_ACCEPTED => {
            count(Count::NotAccepted);
            state.retained.take_back(list);
            state.put_back(&data);
            state.paused = state.asked == asked;
        }
        other => violate!(
            Rule::LabWskCallbackStatus,
            "WskReceiveEvent returned {other:#x}, which is not one of its statuses"
        ),
    }
}

/// Calls a client's `WskReceiveEvent`: what it returned, and how many bytes it
/// accepted.
fn receive_event(
    level: u8,
    routine: PfnReceiveEvent,
    context: *mut c_void,
    flags: u32,
    list: *mut WskDataIndication,
    bytes: usize,
) -> (NtStatus, usize) {
    let mut accepted = bytes;
    let answer = engine::callback("WskReceiveEvent", routine as usize, level, || {
        // SAFETY: the client's routine for this event; the list stays until it
        // is released, the count until the routine returns.
        unsafe { routine(context, flags, list, bytes, &mut accepted) }
    });
    (answer, accepted)
}

/// The socket is no longer functional: the callback without data says so, and
/// whatever else is asked of the socket.
fn fail<R>(socket: &Arc<Socket>, status: NtStatus, todo: &mut Todo, tell: impl FnOnce(u8) -> R) {
    socket.state().give_up(status::FILE_FORCED_CLOSED, todo);
    crate::core::event_log(serde_json::json!({
        "event": "wsk", "socket": socket.id, "failed": status,
    }));
    tell(engine::level());
}

fn indicate_datagrams(socket: &Arc<Socket>, todo: &mut Todo) {
    let (routine, context, datagrams, asked) = {
        let mut state = socket.state();
        let Dispatch::Datagram(dispatch) = state.dispatch else {
            return;
        };
        let Some(routine) = dispatch.receive_from_event else {
            return;
        };
        if state.closed || state.enabled & WSK_EVENT_RECEIVE_FROM == 0 || !state.receives.is_empty()
        {
            return;
        }
        let datagrams: Vec<_> = state.datagrams.drain(..).collect();
        (routine, state.context, datagrams, state.asked)
    };
    if datagrams.is_empty() {
        return;
    }
    if let Some(status) = fault("WskReceiveFromEvent") {
        fail(socket, status, todo, |level| {
            receive_from_event(level, routine, context, 0, null_mut())
        });
        return;
    }
    count(Count::DatagramIndications);
    add(Count::Datagrams, datagrams.len());
    let kept = datagrams.clone();
    let list = lists::of_datagrams(datagrams);
    socket.state().retained_datagrams.lend(list, false);
    let (level, flags) = level_and_flags();
    let answer = receive_from_event(level, routine, context, flags, list);
    let mut state = socket.state();
    match answer {
        status::SUCCESS => state.retained_datagrams.take_back(list),
        status::PENDING => {
            let closed = state.closed;
            count(Count::DatagramsRetained);
            state.retained_datagrams.keep(list, closed);
        }
        status::DATA_NOT_ACCEPTED => {
            count(Count::DatagramsNotAccepted);
            state.retained_datagrams.take_back(list);
            // Enabled for this socket: off until it is enabled again. Enabled
            // for all sockets: it stays on, and the datagrams are gone.
            if state.fixed & WSK_EVENT_RECEIVE_FROM == 0 {
                if state.asked == asked {
                    state.enabled &= !WSK_EVENT_RECEIVE_FROM;
                }
                for datagram in kept.into_iter().rev() {
                    state.datagrams.push_front(datagram);
                }
            }
        }
        other => violate!(
            Rule::LabWskCallbackStatus,
            "WskReceiveFromEvent returned {other:#x}, which is not one of its statuses"
        ),
    }
}

fn receive_from_event(
    level: u8,
    routine: PfnReceiveFromEvent,
    context: *mut c_void,
    flags: u32,
    list: *mut WskDatagramIndication,
) -> NtStatus {
    engine::callback("WskReceiveFromEvent", routine as usize, level, || {
        // SAFETY: the client's routine for this event; the list stays until it
        // is released.
        unsafe { routine(context, flags, list) }
    })
}

/// Calls `WskDisconnectEvent`; the caller has counted it.
pub(super) fn disconnect(socket: &Arc<Socket>, flags: u32, todo: &mut Todo) {
    let routine = {
        let state = socket.state();
        match state.dispatch {
            Dispatch::Connection(dispatch)
                if !state.closed && state.enabled & WSK_EVENT_DISCONNECT != 0 =>
            {
                dispatch
                    .disconnect_event
                    .map(|routine| (routine, state.context))
            }
            _ => None,
        }
    };
    if let Some((routine, context)) = routine {
        count(if flags & WSK_FLAG_ABORTIVE == 0 {
            Count::DisconnectsGraceful
        } else {
            Count::DisconnectsAbortive
        });
        let (level, at) = level_and_flags();
        let answer = engine::callback("WskDisconnectEvent", routine as usize, level, || {
            // SAFETY: the client's routine for this event.
            unsafe { routine(context, flags | at) }
        });
        if answer != status::SUCCESS {
            violate!(
                Rule::LabWskCallbackStatus,
                "WskDisconnectEvent returned {answer:#x}; it \"must always return STATUS_SUCCESS\""
            );
        }
    }
    let mut state = socket.state();
    state.callbacks -= 1;
    state.pump(socket, todo);
    state.check_closed(todo);
}

/// Calls `WskSendBacklogEvent`; the caller has counted it.
pub(super) fn send_backlog(socket: &Arc<Socket>, ideal: usize, todo: &mut Todo) {
    let routine = {
        let state = socket.state();
        match state.dispatch {
            Dispatch::Connection(dispatch)
                if !state.closed && state.enabled & WSK_EVENT_SEND_BACKLOG != 0 =>
            {
                dispatch
                    .send_backlog_event
                    .map(|routine| (routine, state.context))
            }
            _ => None,
        }
    };
    if let Some((routine, context)) = routine {
        let level = engine::level();
        let answer = engine::callback("WskSendBacklogEvent", routine as usize, level, || {
            // SAFETY: the client's routine for this event.
            unsafe { routine(context, ideal) }
        });
        if answer != status::SUCCESS {
            violate!(
                Rule::LabWskCallbackStatus,
                "WskSendBacklogEvent returned {answer:#x}; it \"must always return STATUS_SUCCESS\""
            );
        }
    }
    let mut state = socket.state();
    state.callbacks -= 1;
    state.pump(socket, todo);
    state.check_closed(todo);
}

/// `WskRelease` of a connection.
pub(super) unsafe extern "system" fn release(
    socket: *mut WskSocket,
    list: *mut WskDataIndication,
) -> NtStatus {
    let call = enter("WskRelease", socket, &[Category::Connection]);
    let released = call.socket.state().retained.release(list);
    released.free();
    count(Count::Released);
    status::SUCCESS
}

/// `WskRelease` of a datagram socket.
pub(super) unsafe extern "system" fn release_datagrams(
    socket: *mut WskSocket,
    list: *mut WskDatagramIndication,
) -> NtStatus {
    let call = enter("WskRelease", socket, &[Category::Datagram]);
    let released = call.socket.state().retained_datagrams.release(list);
    released.free();
    count(Count::DatagramsReleased);
    status::SUCCESS
}
