//! Datagram sockets: `WskSendTo`, `WskReceiveFrom`, `WskSendMessages`.

use super::addr::RawAddr;
use super::buffer::{Buffer, Way};
use super::op::{Body, Op, OutAddr, ReceiveFromOut};
use super::socket::{Category, Phase, Socket, State, Todo, enter};
use super::types::{Irp, MSG_TRUNC, NtStatus, WSK_EVENT_RECEIVE_FROM, WskBuf, WskSocket};
use super::winsock::{self, FromOut, Started};
use super::{check_flags, fault, status};
use crate::core::Rule;
use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use windows_sys::Win32::Networking::WinSock::{WSABUF, WSAEMSGSIZE};

/// Largest datagram there is.
const LARGEST: usize = 65_535;
/// Datagrams the provider holds for WskReceiveFromEvent before the transport
/// has to; also the longest list it indicates.
const AHEAD: usize = 4;

/// `WskSendTo`.
pub(super) unsafe extern "system" fn send_to(
    socket: *mut WskSocket,
    buffer: *mut WskBuf,
    flags: u32,
    remote: *mut c_void,
    control_length: u32,
    control: *mut c_void,
    irp: *mut Irp,
) -> NtStatus {
    const NAME: &str = "WskSendTo";
    let call = enter(NAME, socket, &[Category::Datagram]);
    check_flags(NAME, flags, 0);
    if control_length != 0 && control.is_null() {
        violate!(
            Rule::LabWskNullArgument,
            "{NAME}: {control_length} bytes of control information at a null pointer"
        );
    }
    // SAFETY: the client's WSK_BUF, under the contract of WskSendTo.
    let buffer = unsafe { Buffer::new(NAME, buffer, Way::FromClient) };
    let to = if remote.is_null() {
        let state = call.socket.state();
        state.fixed_remote.or(state.fixed_sendto).ok_or(None)
    } else {
        // SAFETY: not null; a SOCKADDR by the client's part of the contract.
        unsafe { RawAddr::read(remote, call.socket.family) }.map_err(Some)
    };
    let to = match to {
        Ok(to) => to,
        Err(None) => violate!(
            Rule::LabWskNullArgument,
            "{NAME} without a remote address, and none was fixed for the socket"
        ),
        Err(Some(_)) => {
            let op = call.socket.begin(NAME, irp, Body::Simple);
            return op.deliver(status::INVALID_ADDRESS_COMPONENT, 0);
        }
    };
    let op = call.socket.begin(NAME, irp, Body::SendTo { buffer, to });
    if let Some(status) = fault(NAME) {
        return op.deliver(status, 0);
    }
    if control_length != 0 {
        // Control information that a sender attaches (source address, TTL)
        // has no counterpart in what this provider can reach.
        return op.deliver(status::NOT_SUPPORTED, 0);
    }
    let mut todo = Todo::default();
    {
        let mut state = call.socket.state();
        if state.phase == Phase::Bound {
            state.sends.push_back(op.clone());
            state.pump_send_to(&mut todo);
        } else {
            todo.finish(op.clone(), status::INVALID_DEVICE_STATE, 0);
        }
    }
    todo.settle(&op)
}

/// `WskReceiveFrom`.
#[allow(clippy::too_many_arguments)] // the documented signature
pub(super) unsafe extern "system" fn receive_from(
    socket: *mut WskSocket,
    buffer: *mut WskBuf,
    flags: u32,
    remote: *mut c_void,
    control_length: *mut u32,
    control: *mut c_void,
    control_flags: *mut u32,
    irp: *mut Irp,
) -> NtStatus {
    const NAME: &str = "WskReceiveFrom";
    let call = enter(NAME, socket, &[Category::Datagram]);
    check_flags(NAME, flags, 0);
    if control_length.is_null() && !control.is_null() {
        violate!(
            Rule::LabWskNullArgument,
            "{NAME}: a control buffer without a ControlInfoLength"
        );
    }
    // SAFETY: the client's WSK_BUF, under the contract of WskReceiveFrom.
    let buffer = unsafe { Buffer::new(NAME, buffer, Way::ToClient) };
    let body = Body::ReceiveFrom {
        buffer,
        out: ReceiveFromOut {
            remote: OutAddr(remote),
            control_length,
            control_flags,
        },
        from: UnsafeCell::new(FromOut::new()),
    };
    let op = call.socket.begin(NAME, irp, body);
    if let Some(status) = fault(NAME) {
        return op.deliver(status, 0);
    }
    let mut todo = Todo::default();
    {
        let mut state = call.socket.state();
        if state.phase == Phase::Bound {
            state.receives.push_back(op.clone());
            state.pump_receive_from(&call.socket, &mut todo);
        } else {
            todo.finish(op.clone(), status::INVALID_DEVICE_STATE, 0);
        }
    }
    todo.settle(&op)
}

/// `WskSendMessages`: sending a list of datagrams is not offered.
pub(super) unsafe extern "system" fn send_messages(
    socket: *mut WskSocket,
    _list: *mut c_void,
    flags: u32,
    _remote: *mut c_void,
    _control_length: u32,
    _control: *mut c_void,
    irp: *mut Irp,
) -> NtStatus {
    const NAME: &str = "WskSendMessages";
    let call = enter(NAME, socket, &[Category::Datagram]);
    check_flags(NAME, flags, 0);
    let op = call.socket.begin(NAME, irp, Body::Simple);
    op.deliver(status::NOT_SUPPORTED, 0)
}

impl State {
    pub(super) fn pump_send_to(&mut self, todo: &mut Todo) {
        if self.sending.is_some() || self.closed {
            return;
        }
        let Some(op) = self.sends.pop_front() else {
            return;
        };
        self.sending = Some(op.clone());
        let Body::SendTo { buffer, to } = &op.body else {
            return;
        };
        if op.cancelled.load(Ordering::SeqCst) {
            todo.finish(op, status::CANCELLED, 0);
            return;
        }
        let (handle, to, segments) = (self.handle, *to, buffer.wsabufs(0));
        let started = op.start(|overlapped| {
            // SAFETY: the client lends the memory until its IRP completes; the
            // OVERLAPPED is the operation's.
            unsafe { winsock::send_to(handle, &segments, to, overlapped) }
        });
        match started {
            Started::Pending => {}
            Started::Done(bytes) => {
                let socket = op.socket.clone();
                self.send_to_done(&socket, &op, status::SUCCESS, bytes as usize, todo);
            }
            Started::Failed(error) => todo.finish(op, status::from_winsock(error), 0),
        }
    }

    pub(super) fn send_to_done(
        &mut self,
        socket: &Arc<Socket>,
        op: &Arc<Op>,
        status: NtStatus,
        bytes: usize,
        todo: &mut Todo,
    ) {
        socket.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        let bytes = if status::is_success(status) { bytes } else { 0 };
        todo.finish(op.clone(), status, bytes);
    }

    /// Starts the next receive: of the client first, else one for its event.
    pub(super) fn pump_receive_from(&mut self, socket: &Arc<Socket>, todo: &mut Todo) {
        if self.closed || self.phase != Phase::Bound {
            return;
        }
        while self.receiving.is_none() {
            let Some(op) = self.receives.pop_front() else {
                break;
            };
            self.receiving = Some(op.clone());
            if op.cancelled.load(Ordering::SeqCst) {
                todo.finish(op, status::CANCELLED, 0);
            } else if let Some((data, from)) = self.datagrams.pop_front() {
                let (status, bytes) = op.deliver_datagram(&data, from);
                todo.finish(op, status, bytes);
            } else if let Some((status, bytes)) = self.start_receive_from(&op) {
                todo.finish(op, status, bytes);
            }
        }
        if self.enabled & WSK_EVENT_RECEIVE_FROM == 0 || self.paused {
            return;
        }
        if !self.datagrams.is_empty() && !self.indicating {
            self.indicating = true;
            self.callbacks += 1;
            todo.indicate = true;
        }
        if self.receiving.is_none() && self.datagrams.len() < AHEAD {
            let body = Body::FillFrom {
                data: UnsafeCell::new(vec![0; LARGEST]),
                from: UnsafeCell::new(FromOut::new()),
            };
            let op = Op::own(socket, body);
            self.outstanding += 1;
            self.receiving = Some(op.clone());
            if let Some((status, bytes)) = self.start_receive_from(&op) {
                todo.finish(op, status, bytes);
            }
        }
    }

    fn start_receive_from(&mut self, op: &Arc<Op>) -> Option<(NtStatus, usize)> {
        loop {
            if op.cancelled.load(Ordering::SeqCst) {
                return Some((status::CANCELLED, 0));
            }
            let handle = self.handle;
            let Some((segments, from)) = op.receive_from_target() else {
                return Some((status::INVALID_DEVICE_STATE, 0));
            };
            let started = op.start(|overlapped| {
                // SAFETY: the memory is the client's, lent until its IRP
                // completes, or the operation's own, as are the rest.
                unsafe { winsock::receive_from(handle, &segments, from, overlapped) }
            });
            let (status, bytes) = match started {
                Started::Pending => return None,
                Started::Done(bytes) => (status::SUCCESS, bytes as usize),
                Started::Failed(WSAEMSGSIZE) => {
                    let room: usize = segments.iter().map(|s| s.len as usize).sum();
                    (status::BUFFER_OVERFLOW, room)
                }
                Started::Failed(error) => (status::from_winsock(error), 0),
            };
            if let Some(result) = self.received_from(op, status, bytes) {
                return Some(result);
            }
        }
    }

    /// What came of a receive; `None` when it has to go on, because the
    /// datagram was not from the fixed remote address.
    fn received_from(
        &mut self,
        op: &Arc<Op>,
        status: NtStatus,
        bytes: usize,
    ) -> Option<(NtStatus, usize)> {
        let from = op.from();
        let truncated = status == status::BUFFER_OVERFLOW;
        if !status::is_success(status) && !truncated {
            return Some((status, 0));
        }
        if self.fixed_remote.is_some() && from != self.fixed_remote {
            return None;
        }
        op.socket
            .received
            .fetch_add(bytes as u64, Ordering::Relaxed);
        if let Body::FillFrom { data, .. } = &op.body {
            // SAFETY: the receive is over: nobody else touches the data.
            let data = unsafe { &*data.get() };
            let data = data.get(..bytes).unwrap_or(data).to_vec();
            self.datagrams.push_back((data, from));
            return Some((status::SUCCESS, bytes));
        }
        op.write_from(from, truncated);
        Some((status, bytes))
    }

    pub(super) fn receive_from_done(
        &mut self,
        _socket: &Arc<Socket>,
        op: &Arc<Op>,
        status: NtStatus,
        bytes: usize,
        todo: &mut Todo,
    ) {
        let result = self
            .received_from(op, status, bytes)
            .or_else(|| self.start_receive_from(op));
        if let Some((status, bytes)) = result {
            todo.finish(op.clone(), status, bytes);
        }
    }
}

impl Op {
    fn receive_from_target(&self) -> Option<(Vec<WSABUF>, *mut FromOut)> {
        let (segments, from) = match &self.body {
            Body::ReceiveFrom { buffer, from, .. } => (buffer.wsabufs(0), from),
            Body::FillFrom { data, from } => {
                // SAFETY: no receive is under way: nobody else touches it.
                let data = unsafe { &mut *data.get() };
                let segment = WSABUF {
                    len: u32::try_from(data.len()).unwrap_or(0),
                    buf: data.as_mut_ptr(),
                };
                (vec![segment], from)
            }
            _ => return None,
        };
        // SAFETY: no receive is under way: nobody else touches it.
        unsafe { from.get().write(FromOut::new()) };
        Some((segments, from.get()))
    }

    /// Where the datagram of a finished receive came from.
    fn from(&self) -> Option<RawAddr> {
        let (Body::ReceiveFrom { from, .. } | Body::FillFrom { from, .. }) = &self.body else {
            return None;
        };
        // SAFETY: the receive is over: nobody else touches it.
        let from = unsafe { &*from.get() };
        RawAddr::from_bytes(&from.address)
    }

    /// Fills in the out-parameters of a `WskReceiveFrom`.
    fn write_from(&self, from: Option<RawAddr>, truncated: bool) {
        let Body::ReceiveFrom { out, .. } = &self.body else {
            return;
        };
        out.remote.write(from);
        if !out.control_length.is_null() {
            // SAFETY: the client's variable, valid until its IRP completes.
            // Zero: "there is no control information present".
            unsafe { out.control_length.write(0) };
        }
        if !out.control_flags.is_null() {
            let flags = if truncated { MSG_TRUNC } else { 0 };
            // SAFETY: the client's variable, valid until its IRP completes.
            unsafe { out.control_flags.write(flags) };
        }
    }

    /// Gives a datagram that was received already to a `WskReceiveFrom`.
    fn deliver_datagram(&self, data: &[u8], from: Option<RawAddr>) -> (NtStatus, usize) {
        let Body::ReceiveFrom { buffer, .. } = &self.body else {
            return (status::INVALID_DEVICE_STATE, 0);
        };
        let taken = buffer.fill(0, data);
        let truncated = taken < data.len();
        self.write_from(from, truncated);
        let status = if truncated {
            status::BUFFER_OVERFLOW
        } else {
            status::SUCCESS
        };
        (status, taken)
    }
}
