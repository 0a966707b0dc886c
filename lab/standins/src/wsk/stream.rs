//! Connections: `WskConnect`, `WskSend`, `WskDisconnect`; `WskReceive` is in
//! [`super::receive`].
//!
//! One send and one receive of a connection are with the system at a time; the
//! rest wait in order. So data and completions keep the order of the calls,
//! whatever thread they complete on.

use super::addr::RawAddr;
use super::buffer::{Buffer, Way};
use super::host::{self, Started};
use super::op::{Body, Op};
use super::socket::{Category, Socket, enter};
use super::state::{Phase, State};
use super::todo::Todo;
use super::types::{
    Irp, NtStatus, WSK_EVENT_SEND_BACKLOG, WSK_FLAG_ABORTIVE, WSK_FLAG_NODELAY, WskBuf, WskSocket,
};
use super::{check_flags, fault, status};
use crate::core::Rule;
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use windows_sys::Win32::Networking::WinSock as ws;

/// `WskConnect`.
pub(super) unsafe extern "system" fn connect(
    socket: *mut WskSocket,
    remote: *mut c_void,
    flags: u32,
    irp: *mut Irp,
) -> NtStatus {
    const NAME: &str = "WskConnect";
    let call = enter(NAME, socket, &[Category::Connection]);
    check_flags(NAME, flags, 0);
    if remote.is_null() {
        violate!(Rule::LabWskNullArgument, "{NAME} without a remote address");
    }
    // SAFETY: not null; a SOCKADDR by the client's part of the contract.
    let to = unsafe { RawAddr::read(remote, call.socket.family) };
    let Ok(to) = to else {
        let op = call.socket.begin(NAME, irp, Body::Simple);
        return op.deliver(status::INVALID_ADDRESS_COMPONENT, 0);
    };
    let op = call
        .socket
        .begin(NAME, irp, Body::Connect { create: false });
    if let Some(status) = fault(NAME) {
        return op.deliver(status, 0);
    }
    start_connect(&call.socket, &op, to)
}

/// Starts connecting the bound socket; shared with `WskSocketConnect`.
pub(super) fn start_connect(socket: &Arc<Socket>, op: &Arc<Op>, to: RawAddr) -> NtStatus {
    let mut todo = Todo::default();
    {
        let mut state = socket.state();
        if let Err(status) = state.may_connect() {
            todo.finish(op.clone(), status, 0);
        } else if op.cancelled.load(Ordering::SeqCst) {
            todo.finish(op.clone(), status::CANCELLED, 0);
        } else {
            state.phase = Phase::Connecting;
            state.connecting = Some(op.clone());
            state.remote = Some(to);
            let started = host::connect(state.handle, to);
            op.waits(&started);
            match started {
                Started::Later => {}
                Started::Done(_) => state.connect_done(op, status::SUCCESS, &mut todo),
                Started::Failed(error) => {
                    state.connect_done(op, status::from_host(error), &mut todo);
                }
            }
        }
    }
    todo.settle(op)
}

/// `WskSend`.
pub(super) unsafe extern "system" fn send(
    socket: *mut WskSocket,
    buffer: *mut WskBuf,
    flags: u32,
    irp: *mut Irp,
) -> NtStatus {
    const NAME: &str = "WskSend";
    let call = enter(NAME, socket, &[Category::Connection]);
    check_flags(NAME, flags, WSK_FLAG_NODELAY);
    // SAFETY: the client's WSK_BUF, under the contract of WskSend.
    let buffer = unsafe { Buffer::new(NAME, buffer, Way::FromClient) };
    let op = call.socket.begin(NAME, irp, Body::Send(buffer));
    if let Some(status) = fault(NAME) {
        return op.deliver(status, 0);
    }
    queue_send(&call.socket, &op)
}

/// `WskDisconnect`.
pub(super) unsafe extern "system" fn disconnect(
    socket: *mut WskSocket,
    buffer: *mut WskBuf,
    flags: u32,
    irp: *mut Irp,
) -> NtStatus {
    const NAME: &str = "WskDisconnect";
    let call = enter(NAME, socket, &[Category::Connection]);
    check_flags(NAME, flags, WSK_FLAG_ABORTIVE);
    if flags & WSK_FLAG_ABORTIVE != 0 {
        if !buffer.is_null() {
            violate!(
                Rule::LabWskFlags,
                "{NAME} with WSK_FLAG_ABORTIVE and a buffer, which must then be NULL"
            );
        }
        let op = call.socket.begin(NAME, irp, Body::Simple);
        if let Some(status) = fault(NAME) {
            return op.deliver(status, 0);
        }
        return abort(&call.socket, &op);
    }
    let buffer = if buffer.is_null() {
        None
    } else {
        // SAFETY: the client's WSK_BUF, under the contract of WskDisconnect.
        Some(unsafe { Buffer::new(NAME, buffer, Way::FromClient) })
    };
    let op = call.socket.begin(NAME, irp, Body::Disconnect(buffer));
    if let Some(status) = fault(NAME) {
        return op.deliver(status, 0);
    }
    queue_send(&call.socket, &op)
}

fn queue_send(socket: &Arc<Socket>, op: &Arc<Op>) -> NtStatus {
    let mut todo = Todo::default();
    {
        let mut state = socket.state();
        match state.may_send() {
            Err(status) => todo.finish(op.clone(), status, 0),
            Ok(()) => {
                state.sends.push_back(op.clone());
                state.pump_send(&mut todo);
            }
        }
    }
    todo.settle(op)
}

/// An abortive disconnect: a reset, now; everything pending ends.
fn abort(socket: &Arc<Socket>, op: &Arc<Op>) -> NtStatus {
    let mut todo = Todo::default();
    let status = {
        let mut state = socket.state();
        if state.phase == Phase::Connected {
            state.failed = Some(status::CONNECTION_ABORTED);
            state.end_all(status::CANCELLED, status::CONNECTION_ABORTED, &mut todo);
            status::SUCCESS
        } else if state.phase == Phase::Dead {
            status::SUCCESS
        } else {
            status::INVALID_DEVICE_STATE
        }
    };
    todo.finish(op.clone(), status, 0);
    todo.settle(op)
}

impl State {
    /// Ends a connection with a reset, its sends and receives with these.
    fn end_all(&mut self, sends: NtStatus, receives: NtStatus, todo: &mut Todo) {
        self.phase = Phase::Dead;
        for op in std::mem::take(&mut self.sends) {
            todo.finish(op, sends, 0);
        }
        for op in std::mem::take(&mut self.receives) {
            todo.finish(op, receives, 0);
        }
        self.buffered.clear();
        for (op, status) in [(&self.sending, sends), (&self.receiving, receives)] {
            if let Some(op) = op
                && op.take_waiting()
            {
                todo.finish(op.clone(), status, 0);
            }
        }
        self.release_handle(true);
    }

    /// The socket is no longer functional.
    pub(super) fn give_up(&mut self, status: NtStatus, todo: &mut Todo) {
        self.failed = Some(status);
        self.end_all(status, status, todo);
    }

    fn may_connect(&self) -> Result<(), NtStatus> {
        match self.phase {
            Phase::Bound => Ok(()),
            Phase::Connecting | Phase::Connected => Err(status::CONNECTION_ACTIVE),
            _ => Err(status::INVALID_DEVICE_STATE),
        }
    }

    fn may_send(&self) -> Result<(), NtStatus> {
        if let Some(status) = self.failed {
            return Err(status);
        }
        if self.phase != Phase::Connected {
            return Err(status::INVALID_CONNECTION);
        }
        let ending = self
            .sends
            .iter()
            .chain(&self.sending)
            .any(|op| matches!(op.body, Body::Disconnect(_)));
        if self.shut || ending {
            return Err(status::LOCAL_DISCONNECT);
        }
        Ok(())
    }

    pub(super) fn connect_done(&mut self, op: &Arc<Op>, status: NtStatus, todo: &mut Todo) {
        if status::is_success(status) {
            self.phase = Phase::Connected;
            self.local = host::local_address(self.handle).ok().or(self.local);
        } else {
            self.phase = Phase::Bound;
            self.remote = None;
        }
        let mut information = 0;
        if status::is_success(status) && matches!(op.body, Body::Connect { create: true, .. }) {
            self.born = true;
            information = op.socket.publish() as usize;
        }
        todo.finish(op.clone(), status, information);
    }

    /// Starts the next send, if none is with the system.
    pub(super) fn pump_send(&mut self, todo: &mut Todo) {
        if self.sending.is_some() || self.closed {
            return;
        }
        let Some(op) = self.sends.pop_front() else {
            return;
        };
        self.sending = Some(op.clone());
        if let Some((status, bytes)) = self.start_send(&op) {
            self.ideal_backlog_told(todo);
            todo.finish(op, status, bytes);
        }
    }

    /// A result, if there is one at once.
    fn start_send(&mut self, op: &Arc<Op>) -> Option<(NtStatus, usize)> {
        if op.cancelled.load(Ordering::SeqCst) {
            return Some((status::CANCELLED, 0));
        }
        if let Some(status) = self.failed {
            return Some((status, 0));
        }
        let buffer = match &op.body {
            Body::Send(buffer) | Body::Disconnect(Some(buffer)) => buffer,
            _ => return Some(self.end_sending(0)),
        };
        loop {
            let done = op.progress();
            let mut segments = buffer.segments(done);
            // SAFETY: the client lends the memory until its IRP completes.
            let started = unsafe { host::send(self.handle, &mut segments, None, &mut []) };
            op.waits(&started);
            match started {
                Started::Later => return None,
                Started::Done(bytes) => {
                    op.socket.sent.fetch_add(bytes as u64, Ordering::Relaxed);
                    op.done.store(done + bytes, Ordering::Relaxed);
                    if done + bytes >= buffer.len() {
                        break;
                    }
                }
                Started::Failed(error) => return Some((status::from_host(error), 0)),
            }
        }
        if matches!(op.body, Body::Disconnect(_)) {
            return Some(self.end_sending(op.progress()));
        }
        Some((status::SUCCESS, op.progress()))
    }

    fn end_sending(&mut self, bytes: usize) -> (NtStatus, usize) {
        self.shut = true;
        match host::shutdown_send(self.handle) {
            Ok(()) => (status::SUCCESS, bytes),
            // The other side has reset it: nothing is left to end.
            Err(error) => (status::from_host(error), 0),
        }
    }

    /// There is room to send.
    pub(super) fn resume_send(&mut self, todo: &mut Todo) {
        let Some(op) = self.sending.clone() else {
            return;
        };
        if !op.take_waiting() {
            return;
        }
        let result = if matches!(op.body, Body::SendTo { .. }) {
            self.start_send_to(&op)
        } else {
            self.start_send(&op)
        };
        if let Some((status, bytes)) = result {
            self.ideal_backlog_told(todo);
            todo.finish(op, status, bytes);
        }
    }

    /// Notes that WskSendBacklogEvent is due: the host has given the connection
    /// another send buffer than it had.
    pub(super) fn ideal_backlog_told(&mut self, todo: &mut Todo) {
        if self.enabled & WSK_EVENT_SEND_BACKLOG == 0 || self.phase != Phase::Connected {
            return;
        }
        let Some(ideal) = self.ideal_backlog() else {
            return;
        };
        let before = std::mem::replace(&mut self.backlog, ideal);
        if before != 0 && before != ideal {
            self.callbacks += 1;
            todo.backlog = Some(ideal);
        }
    }

    /// What the host would like to have in hand of this connection's data.
    pub(super) fn ideal_backlog(&self) -> Option<usize> {
        let value = host::options::get(self.handle, ws::SOL_SOCKET, ws::SO_SNDBUF).ok()?;
        let bytes = u32::from_ne_bytes(value.try_into().ok()?);
        Some(bytes as usize)
    }

    /// A connection may have been made, or refused.
    pub(super) fn resume_connect(&mut self, todo: &mut Todo) {
        let Some(op) = self.connecting.clone() else {
            return;
        };
        if !op.take_waiting() {
            return;
        }
        let status = match host::options::take_error(self.handle) {
            Err(error) => status::from_host(error),
            Ok(()) if host::remote_address(self.handle).is_ok() => status::SUCCESS,
            Ok(()) => {
                // It was told before it began.
                op.waits(&Started::Later);
                return;
            }
        };
        self.connect_done(&op, status, todo);
    }

    /// A connect that was cancelled: the socket can't be told to stop, but is
    /// of no more use to its client either way.
    pub(super) fn give_up_connect(&mut self, op: &Arc<Op>) {
        if matches!(op.body, Body::Connect { .. }) {
            self.phase = Phase::Dead;
            self.failed = Some(status::CONNECTION_ABORTED);
            self.remote = None;
            self.release_handle(true);
        }
    }
}
