//! Connections: `WskConnect`, `WskSend`, `WskReceive`, `WskDisconnect`.
//!
//! One send and one receive of a connection are with the system at a time; the
//! rest wait in order. So data and completions keep the order of the calls,
//! whatever thread they complete on.

use super::addr::RawAddr;
use super::buffer::{Buffer, Way};
use super::host::{self, IoVec, Started};
use super::op::{Body, Op};
use super::socket::{Category, Phase, Socket, State, Todo, enter};
use super::types::{
    Irp, NtStatus, WSK_EVENT_DISCONNECT, WSK_EVENT_RECEIVE, WSK_EVENT_SEND_BACKLOG,
    WSK_FLAG_ABORTIVE, WSK_FLAG_DRAIN, WSK_FLAG_NODELAY, WSK_FLAG_WAITALL, WskBuf, WskSocket,
};
use super::{check_flags, fault, status};
use crate::core::Rule;
use std::cell::RefCell;
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use windows_sys::Win32::Networking::WinSock as ws;

/// Bytes the provider receives at a time for WskReceiveEvent, and throws away
/// at a time for WSK_FLAG_DRAIN.
const SCRATCH: usize = 16 * 1024;

thread_local! {
    /// Where the provider's own receives go first.
    static OWN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

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

/// `WskReceive`.
pub(super) unsafe extern "system" fn receive(
    socket: *mut WskSocket,
    buffer: *mut WskBuf,
    flags: u32,
    irp: *mut Irp,
) -> NtStatus {
    const NAME: &str = "WskReceive";
    let call = enter(NAME, socket, &[Category::Connection]);
    check_flags(NAME, flags, WSK_FLAG_WAITALL | WSK_FLAG_DRAIN);
    if flags == WSK_FLAG_WAITALL | WSK_FLAG_DRAIN {
        violate!(
            Rule::LabWskFlags,
            "{NAME} with both WSK_FLAG_WAITALL and WSK_FLAG_DRAIN, which exclude each other"
        );
    }
    // SAFETY: the client's WSK_BUF, under the contract of WskReceive.
    let buffer = unsafe { Buffer::new(NAME, buffer, Way::ToClient) };
    let body = if flags & WSK_FLAG_DRAIN != 0 {
        if buffer.len() != 0 {
            violate!(
                Rule::LabWskFlags,
                "{NAME} with WSK_FLAG_DRAIN and a buffer of {} bytes, which must be empty",
                buffer.len()
            );
        }
        Body::Drain
    } else {
        Body::Receive {
            buffer,
            wait_all: flags & WSK_FLAG_WAITALL != 0,
        }
    };
    let op = call.socket.begin(NAME, irp, body);
    if let Some(status) = fault(NAME) {
        return op.deliver(status, 0);
    }
    let mut todo = Todo::default();
    {
        let mut state = call.socket.state();
        state.paused = false;
        state.asked += 1;
        let empty = matches!(&op.body, Body::Receive { buffer, .. } if buffer.len() == 0);
        match state.may_receive() {
            Err(status) => todo.finish(op.clone(), status, 0),
            // "Specifying a zero length ... re-enabling WskReceiveEvent".
            Ok(()) if empty => todo.finish(op.clone(), status::SUCCESS, 0),
            Ok(()) => state.receives.push_back(op.clone()),
        }
        state.pump_receive(&call.socket, &mut todo);
    }
    todo.settle(&op)
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

    /// Data that a callback did not take is the first to come again.
    pub(super) fn put_back(&mut self, data: &[u8]) {
        for byte in data.iter().rev() {
            self.buffered.push_front(*byte);
        }
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

    fn may_receive(&self) -> Result<(), NtStatus> {
        match self.phase {
            Phase::Connected => Ok(()),
            Phase::Dead => Err(self.failed.unwrap_or(status::CONNECTION_ABORTED)),
            _ => Err(status::INVALID_CONNECTION),
        }
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

    /// Starts the next receive: of the client first, else one for its events.
    pub(super) fn pump_receive(&mut self, socket: &Arc<Socket>, todo: &mut Todo) {
        if self.closed || self.phase != Phase::Connected {
            return;
        }
        self.tell_disconnect(todo);
        if self.receiving.is_some() {
            return;
        }
        if let Some(op) = self.receives.pop_front() {
            self.receiving = Some(op.clone());
            if let Some((status, bytes)) = self.start_receive(&op) {
                self.tell_disconnect(todo);
                todo.finish(op, status, bytes);
            }
            return;
        }
        let over = self.eof || self.failed.is_some();
        if self.enabled & WSK_EVENT_RECEIVE != 0 && !self.paused && !self.indicating {
            if !self.buffered.is_empty() {
                self.indicating = true;
                self.callbacks += 1;
                todo.indicate = true;
            } else if !over {
                self.start_own(socket, todo, false);
            }
        } else if self.enabled & (WSK_EVENT_RECEIVE | WSK_EVENT_DISCONNECT) == WSK_EVENT_DISCONNECT
            && !over
            && !self.watched
            && self.buffered.is_empty()
        {
            self.start_own(socket, todo, true);
        }
    }

    /// A receive of the provider's own: of data, or only a look.
    fn start_own(&mut self, socket: &Arc<Socket>, todo: &mut Todo, watch: bool) {
        let body = if watch { Body::Watch } else { Body::Fill };
        let op = Op::own(socket, body);
        self.outstanding += 1;
        self.receiving = Some(op.clone());
        if let Some((status, bytes)) = self.start_receive(&op) {
            // An own operation has no IRP; ending it makes the pump go on.
            todo.finish(op, status, bytes);
        }
    }

    /// Goes on with a receive until it has its result or has to wait.
    fn start_receive(&mut self, op: &Arc<Op>) -> Option<(NtStatus, usize)> {
        loop {
            if op.cancelled.load(Ordering::SeqCst) && op.received() == 0 {
                return Some((status::CANCELLED, 0));
            }
            if !self.buffered.is_empty() && self.take_buffered(op) {
                return Some((status::SUCCESS, op.received()));
            }
            if let Some(status) = self.failed {
                return Some((status, 0));
            }
            if self.eof {
                return Some((status::SUCCESS, op.received()));
            }
            let started = self.receive_now(op);
            op.waits(&started);
            let (status, bytes) = match started {
                Started::Later => return None,
                Started::Done(bytes) => (status::SUCCESS, bytes),
                Started::Failed(error) => (status::from_host(error), 0),
            };
            if let Some(result) = self.received(op, status, bytes) {
                return Some(result);
            }
        }
    }

    /// Receives into the client's memory, or into the provider's.
    fn receive_now(&mut self, op: &Arc<Op>) -> Started {
        let handle = self.handle;
        if let Body::Receive { buffer, .. } = &op.body {
            let mut segments = buffer.segments(op.progress());
            // SAFETY: the client lends the memory until its IRP completes.
            return unsafe { host::receive(handle, &mut segments, false) };
        }
        let peek = matches!(op.body, Body::Watch);
        OWN.with_borrow_mut(|scratch| {
            scratch.resize(SCRATCH, 0);
            let mut segment = [IoVec {
                base: scratch.as_mut_ptr(),
                len: if peek { 1 } else { SCRATCH },
            }];
            // SAFETY: this thread's own memory.
            let started = unsafe { host::receive(handle, &mut segment, peek) };
            if let (Started::Done(bytes), Body::Fill) = (&started, &op.body) {
                self.buffered.extend(scratch.iter().take(*bytes));
            }
            started
        })
    }

    /// There may be something to receive.
    pub(super) fn resume_receive(&mut self, todo: &mut Todo) {
        let Some(op) = self.receiving.clone() else {
            return;
        };
        if !op.take_waiting() {
            return;
        }
        let result = if matches!(op.body, Body::ReceiveFrom { .. } | Body::FillFrom) {
            self.start_receive_from(&op)
        } else {
            self.start_receive(&op)
        };
        if let Some((status, bytes)) = result {
            self.tell_disconnect(todo);
            todo.finish(op, status, bytes);
        }
    }

    /// Gives buffered data to a client's receive; true when that ends it.
    fn take_buffered(&mut self, op: &Arc<Op>) -> bool {
        match &op.body {
            Body::Receive { buffer, wait_all } => {
                let data: Vec<u8> = self.buffered.iter().copied().collect();
                let at = op.progress();
                let taken = buffer.fill(at, &data);
                self.buffered.drain(..taken);
                op.done.store(at + taken, Ordering::Relaxed);
                !wait_all || at + taken == buffer.len()
            }
            Body::Drain => {
                self.buffered.clear();
                false
            }
            _ => false,
        }
    }

    /// What came of a receive; `None` when it has to go on.
    fn received(
        &mut self,
        op: &Arc<Op>,
        status: NtStatus,
        bytes: usize,
    ) -> Option<(NtStatus, usize)> {
        self.watched = false;
        if !status::is_success(status) {
            if status != status::CANCELLED && self.failed.is_none() {
                self.failed = Some(status);
            }
            return Some((self.failed.unwrap_or(status), 0));
        }
        if !matches!(op.body, Body::Watch) {
            op.socket
                .received
                .fetch_add(bytes as u64, Ordering::Relaxed);
        }
        if bytes == 0 {
            if !self.shut && host::was_reset(self.handle) {
                self.failed = Some(status::CONNECTION_RESET);
                return Some((status::CONNECTION_RESET, 0));
            }
            self.eof = true;
            return Some((status::SUCCESS, op.received()));
        }
        match &op.body {
            Body::Receive { buffer, wait_all } => {
                let all = op.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
                (!wait_all || all >= buffer.len()).then_some((status::SUCCESS, all))
            }
            Body::Drain => None,
            // The data is with the rest already.
            Body::Fill => Some((status::SUCCESS, bytes)),
            _ => {
                self.watched = true;
                Some((status::SUCCESS, 0))
            }
        }
    }

    /// The host says that the connection is gone, and no receive is there to
    /// find out: because data waits that the client has not taken.
    pub(super) fn notice_reset(&mut self, todo: &mut Todo) {
        if self.phase != Phase::Connected
            || self.enabled & WSK_EVENT_DISCONNECT == 0
            || self.receiving.is_some()
            || self.failed.is_some()
            || self.eof
        {
            return;
        }
        match host::options::take_error(self.handle) {
            Err(error) => self.failed = Some(status::from_host(error)),
            Ok(()) if !self.shut && host::was_reset(self.handle) => {
                self.failed = Some(status::CONNECTION_RESET);
            }
            Ok(()) => return,
        }
        self.tell_disconnect(todo);
    }

    /// Notes that WskDisconnectEvent is due: once, after all data; of a reset
    /// at once, since "no further data will be received from the socket".
    fn tell_disconnect(&mut self, todo: &mut Todo) {
        let over = self.eof || self.failed.is_some();
        if over
            && !self.disconnect_told
            && !self.closed
            && !self.indicating
            && self.enabled & WSK_EVENT_DISCONNECT != 0
            && (self.buffered.is_empty() || self.failed.is_some())
            && self.phase == Phase::Connected
        {
            self.disconnect_told = true;
            self.callbacks += 1;
            if self.failed.is_some() {
                self.buffered.clear();
            }
            todo.disconnect = Some(if self.failed.is_some() {
                WSK_FLAG_ABORTIVE
            } else {
                0
            });
        }
    }
}

impl Op {
    /// Bytes a client's receive has so far.
    fn received(&self) -> usize {
        match &self.body {
            Body::Receive { .. } => self.progress(),
            _ => 0,
        }
    }

    /// What a cancelled operation ends with: data that a receive has got
    /// already is not lost.
    pub(super) fn cut_short(&self) -> (NtStatus, usize) {
        match self.received() {
            0 => (status::CANCELLED, 0),
            bytes => (status::SUCCESS, bytes),
        }
    }
}
