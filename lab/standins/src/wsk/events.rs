//! Event callback functions that carry data: `WskReceiveEvent`,
//! `WskReceiveFromEvent`, and `WskDisconnectEvent`; and `WskRelease`, by which
//! a client gives back what it kept.

use super::addr::RawAddr;
use super::datagram::Arrived;
use super::socket::{Category, Dispatch, Socket, Todo, enter};
use super::types::{
    NtStatus, WSK_EVENT_DISCONNECT, WSK_EVENT_RECEIVE, WSK_EVENT_RECEIVE_FROM,
    WSK_EVENT_SEND_BACKLOG, WSK_FLAG_AT_DISPATCH_LEVEL, WSK_FLAG_RELEASE_ASAP, WskBuf,
    WskDataIndication, WskDatagramIndication, WskSocket,
};
use super::{engine, status};
use crate::core::{Rule, irql};
use crate::nt::mdl::flags;
use crate::nt::types::MDL;
use std::ptr::null_mut;
use std::sync::Arc;

const PAGE: usize = 4096;

/// Memory behind one element of an indication: bytes, an MDL over them, and
/// for a datagram the address it came from.
struct Piece {
    mdl: MDL,
    remote: Option<RawAddr>,
    control: Vec<u8>,
    /// Keeps the bytes the MDL describes.
    _bytes: Box<[u8]>,
}

impl Piece {
    fn new(bytes: &[u8], remote: Option<RawAddr>, control: Vec<u8>) -> Box<Self> {
        let mut bytes: Box<[u8]> = bytes.into();
        let start = bytes.as_mut_ptr();
        let offset = start as usize % PAGE;
        Box::new(Self {
            mdl: MDL {
                Next: null_mut(),
                Size: size_of::<MDL>() as i16,
                MdlFlags: flags::SOURCE_IS_NONPAGED_POOL,
                Reserved: 0,
                Process: null_mut(),
                MappedSystemVa: start.cast(),
                StartVa: start.wrapping_sub(offset).cast(),
                ByteCount: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
                ByteOffset: offset as u32,
            },
            remote,
            control,
            _bytes: bytes,
        })
    }

    fn buffer(&mut self) -> WskBuf {
        WskBuf {
            mdl: &raw mut self.mdl,
            offset: 0,
            length: self.mdl.ByteCount as usize,
        }
    }
}

/// An element of a stream indication. The client sees its first field.
#[repr(C)]
struct Data {
    public: WskDataIndication,
    piece: Box<Piece>,
}

/// An element of a datagram indication. The client sees its first field.
#[repr(C)]
struct Datagram {
    public: WskDatagramIndication,
    piece: Box<Piece>,
}

/// The list for `data`, in one element or two.
fn list_of(data: &[u8]) -> *mut WskDataIndication {
    let at = if data.len() > 1 && engine::random() & 1 == 0 {
        data.len() / 2
    } else {
        data.len()
    };
    let (first, second) = data.split_at(at);
    let mut list = null_mut();
    for part in [second, first] {
        if part.is_empty() {
            continue;
        }
        let mut piece = Piece::new(part, None, Vec::new());
        let public = WskDataIndication {
            next: list,
            buffer: piece.buffer(),
        };
        list = Box::into_raw(Box::new(Data { public, piece })).cast();
    }
    list
}

fn free_list(mut list: *mut WskDataIndication) {
    while !list.is_null() {
        // SAFETY: made by `list_of`, and freed once: its owner gave it back.
        let element = unsafe { Box::from_raw(list.cast::<Data>()) };
        list = element.public.next;
    }
}

fn datagram_list(datagrams: Vec<Arrived>) -> *mut WskDatagramIndication {
    let mut list = null_mut();
    for arrived in datagrams.into_iter().rev() {
        let mut piece = Piece::new(&arrived.data, arrived.from, arrived.control);
        let remote_address = piece
            .remote
            .as_ref()
            .map_or(null_mut(), |address| address.as_ptr().cast_mut());
        let public = WskDatagramIndication {
            next: list,
            buffer: piece.buffer(),
            control_info: if piece.control.is_empty() {
                null_mut()
            } else {
                piece.control.as_mut_ptr().cast()
            },
            control_info_length: piece.control.len() as u32,
            remote_address,
        };
        list = Box::into_raw(Box::new(Datagram { public, piece })).cast();
    }
    list
}

fn free_datagrams(mut list: *mut WskDatagramIndication) {
    while !list.is_null() {
        // SAFETY: made by `datagram_list`, and freed once.
        let element = unsafe { Box::from_raw(list.cast::<Datagram>()) };
        list = element.public.next;
    }
}

fn level_and_flags() -> (u8, u32) {
    let level = engine::level();
    let flag = level == irql::DISPATCH_LEVEL && engine::random() & 1 == 0;
    (level, if flag { WSK_FLAG_AT_DISPATCH_LEVEL } else { 0 })
}

/// Calls the receive callback of a connection or datagram socket; the caller
/// has counted it and set `indicating`.
pub(super) fn indicate(socket: &Arc<Socket>, todo: &mut Todo) {
    match socket.category {
        Category::Datagram => indicate_datagrams(socket),
        _ => indicate_data(socket),
    }
    let mut state = socket.state();
    state.indicating = false;
    state.callbacks -= 1;
    state.pump(socket, todo);
    state.check_closed(todo);
}

fn indicate_data(socket: &Arc<Socket>) {
    let (routine, context, data, asked) = {
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
        let data: Vec<u8> = state.buffered.drain(..).collect();
        (routine, state.context, data, state.asked)
    };
    if data.is_empty() {
        return;
    }
    let list = list_of(&data);
    socket.state().retained.push((list, true));
    let mut accepted = data.len();
    let (level, mut flags) = level_and_flags();
    if engine::random() & 1 == 0 {
        flags |= WSK_FLAG_RELEASE_ASAP;
    }
    let answer = engine::callback("WskReceiveEvent", routine as usize, level, || {
        // SAFETY: the client's routine for this event; the list stays until it
        // is released, the count until the routine returns.
        unsafe { routine(context, flags, list, data.len(), &mut accepted) }
    });
    let mut state = socket.state();
    match answer {
        status::SUCCESS => {
            if accepted > data.len() {
                violate!(
                    Rule::LabWskCallbackStatus,
                    "WskReceiveEvent accepted {accepted} of {} bytes",
                    data.len()
                );
            }
            take_back(&mut state.retained, list);
            free_list(list);
            put_back(
                &mut state.buffered,
                data.get(accepted..).unwrap_or_default(),
            );
            state.paused = accepted < data.len() && state.asked == asked;
        }
        status::PENDING => {
            let closed = state.closed;
            keep(&mut state.retained, list, closed);
        }
        status::DATA_NOT_ACCEPTED => {
            take_back(&mut state.retained, list);
            free_list(list);
            put_back(&mut state.buffered, &data);
            state.paused = state.asked == asked;
        }
        other => violate!(
            Rule::LabWskCallbackStatus,
            "WskReceiveEvent returned {other:#x}, which is not one of its statuses"
        ),
    }
}

/// The callback gave its list back by returning: it must not have released it.
fn take_back<T>(retained: &mut Vec<(*mut T, bool)>, list: *mut T) {
    match retained.iter().position(|(kept, _)| *kept == list) {
        Some(at) => {
            retained.swap_remove(at);
        }
        None => violate!(
            Rule::LabWskRelease,
            "a data indication was released with WskRelease and given back by the callback too"
        ),
    }
}

/// The callback kept its list (and may have released it by now).
fn keep<T>(retained: &mut [(*mut T, bool)], list: *mut T, closed: bool) {
    if let Some(entry) = retained.iter_mut().find(|(kept, _)| *kept == list) {
        if closed {
            violate!(
                Rule::LabWskRetained,
                "a callback kept its data indication on a socket that is being closed"
            );
        }
        entry.1 = false;
    }
}

fn put_back(buffered: &mut std::collections::VecDeque<u8>, data: &[u8]) {
    for byte in data.iter().rev() {
        buffered.push_front(*byte);
    }
}

fn indicate_datagrams(socket: &Arc<Socket>) {
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
    let kept = datagrams.clone();
    let list = datagram_list(datagrams);
    socket.state().retained_datagrams.push((list, true));
    let (level, flags) = level_and_flags();
    let answer = engine::callback("WskReceiveFromEvent", routine as usize, level, || {
        // SAFETY: the client's routine for this event; the list stays until it
        // is released.
        unsafe { routine(context, flags, list) }
    });
    let mut state = socket.state();
    match answer {
        status::SUCCESS => {
            take_back(&mut state.retained_datagrams, list);
            free_datagrams(list);
        }
        status::PENDING => {
            let closed = state.closed;
            keep(&mut state.retained_datagrams, list, closed);
        }
        status::DATA_NOT_ACCEPTED => {
            take_back(&mut state.retained_datagrams, list);
            free_datagrams(list);
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
    let mut state = call.socket.state();
    let Some(at) = state.retained.iter().position(|(kept, _)| *kept == list) else {
        violate!(
            Rule::LabWskRelease,
            "WskRelease of {list:?}, which is not a list that WskReceiveEvent kept"
        );
    };
    state.retained.swap_remove(at);
    drop(state);
    free_list(list);
    status::SUCCESS
}

/// `WskRelease` of a datagram socket.
pub(super) unsafe extern "system" fn release_datagrams(
    socket: *mut WskSocket,
    list: *mut WskDatagramIndication,
) -> NtStatus {
    let call = enter("WskRelease", socket, &[Category::Datagram]);
    let mut state = call.socket.state();
    let Some(at) = state
        .retained_datagrams
        .iter()
        .position(|(kept, _)| *kept == list)
    else {
        violate!(
            Rule::LabWskRelease,
            "WskRelease of {list:?}, which is not a list that WskReceiveFromEvent kept"
        );
    };
    state.retained_datagrams.swap_remove(at);
    drop(state);
    free_datagrams(list);
    status::SUCCESS
}
