//! Datagram sockets: `WskSendTo`, `WskReceiveFrom`, `WskSendMessages`.

use super::addr::RawAddr;
use super::buffer::{Buffer, Way};
use super::host::{self, From, IoVec, Started, control};
use super::op::{Body, Op, OutAddr, ReceiveFromOut};
use super::socket::{Call, Category, Socket, enter};
use super::state::{Phase, State};
use super::todo::Todo;
use super::types::{
    Irp, MSG_BCAST, MSG_CTRUNC, MSG_MCAST, MSG_TRUNC, NtStatus, WSK_EVENT_RECEIVE_FROM, WskBuf,
    WskBufList, WskSocket,
};
use super::{check_flags, fault, status};
use crate::core::Rule;
use std::cell::RefCell;
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Largest datagram there is.
const LARGEST: usize = 65_535;
/// Datagrams the provider holds for WskReceiveFromEvent before the host has
/// to; also the longest list it indicates.
const AHEAD: usize = 16;
/// The longest list of WskSendMessages.
const MESSAGES: usize = 4096;

thread_local! {
    /// Where the provider's own receives go first.
    static OWN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A datagram received and not yet given to the client.
#[derive(Clone)]
pub(super) struct Arrived {
    pub(super) data: Vec<u8>,
    pub(super) from: Option<RawAddr>,
    /// Control information as the client wants it.
    pub(super) control: Vec<u8>,
    flags: u32,
}

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
    let messages = vec![unsafe { Buffer::new(NAME, buffer, Way::FromClient) }];
    // SAFETY: the client's address and control information.
    unsafe { send_list(NAME, &call, messages, remote, control_length, control, irp) }
}

/// `WskSendMessages`: each element of the list is a datagram.
pub(super) unsafe extern "system" fn send_messages(
    socket: *mut WskSocket,
    list: *mut WskBufList,
    flags: u32,
    remote: *mut c_void,
    control_length: u32,
    control: *mut c_void,
    irp: *mut Irp,
) -> NtStatus {
    const NAME: &str = "WskSendMessages";
    let call = enter(NAME, socket, &[Category::Datagram]);
    check_flags(NAME, flags, 0);
    if list.is_null() || (control_length != 0 && control.is_null()) {
        violate!(
            Rule::LabWskNullArgument,
            "{NAME}: a list at {list:?}, {control_length} bytes of control information at {control:?}"
        );
    }
    let mut messages = Vec::new();
    let mut now = list;
    // SAFETY: null, or the client's WSK_BUF_LIST.
    while let Some(element) = unsafe { now.as_ref() } {
        if messages.len() == MESSAGES {
            violate!(Rule::LabWskBuffer, "{NAME}: the WSK_BUF_LIST has no end");
        }
        // SAFETY: the WSK_BUF of an element of the client's list.
        messages.push(unsafe { Buffer::new(NAME, &raw const element.buffer, Way::FromClient) });
        now = element.next;
    }
    // SAFETY: the client's address and control information.
    unsafe { send_list(NAME, &call, messages, remote, control_length, control, irp) }
}

/// The rest of both ways to send.
///
/// # Safety
/// The client's part of the contract of `WskSendTo`: `remote` is null or a
/// SOCKADDR, `control` readable for its length.
unsafe fn send_list(
    name: &'static str,
    call: &Call,
    messages: Vec<Buffer>,
    remote: *mut c_void,
    control_length: u32,
    control: *mut c_void,
    irp: *mut Irp,
) -> NtStatus {
    let to = if remote.is_null() {
        let state = call.socket.state();
        state.fixed_remote.or(state.fixed_sendto).ok_or(None)
    } else {
        // SAFETY: not null; a SOCKADDR by the caller's word.
        unsafe { RawAddr::read(remote, call.socket.family) }.map_err(Some)
    };
    let to = match to {
        Ok(to) => to,
        Err(None) => violate!(
            Rule::LabWskNullArgument,
            "{name} without a remote address, and none was fixed for the socket"
        ),
        Err(Some(_)) => {
            let op = call.socket.begin(name, irp, Body::Simple);
            return op.deliver(status::INVALID_ADDRESS_COMPONENT, 0);
        }
    };
    let control = if control_length == 0 {
        Some(Vec::new())
    } else {
        // SAFETY: so many readable bytes, by the caller's word.
        let bytes =
            unsafe { std::slice::from_raw_parts(control.cast::<u8>(), control_length as usize) };
        control::for_host(bytes)
    };
    let Some(control) = control else {
        let op = call.socket.begin(name, irp, Body::Simple);
        return op.deliver(status::INVALID_PARAMETER, 0);
    };
    let body = Body::SendTo {
        messages,
        to,
        control,
    };
    let op = call.socket.begin(name, irp, body);
    if let Some(status) = fault(name) {
        return op.deliver(status, 0);
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
            control: control.cast(),
            control_length,
            control_flags,
        },
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

impl State {
    pub(super) fn pump_send_to(&mut self, todo: &mut Todo) {
        if self.sending.is_some() || self.closed {
            return;
        }
        let Some(op) = self.sends.pop_front() else {
            return;
        };
        self.sending = Some(op.clone());
        if let Some((status, bytes)) = self.start_send_to(&op) {
            todo.finish(op, status, bytes);
        }
    }

    /// A result, if there is one at once.
    pub(super) fn start_send_to(&mut self, op: &Arc<Op>) -> Option<(NtStatus, usize)> {
        let Body::SendTo {
            messages,
            to,
            control,
        } = &op.body
        else {
            return Some((status::INVALID_DEVICE_STATE, 0));
        };
        if op.cancelled.load(Ordering::SeqCst) {
            return Some((status::CANCELLED, 0));
        }
        let mut control = control.clone();
        while let Some(message) = messages.get(op.progress()) {
            let mut segments = message.segments(0);
            // SAFETY: the client lends the memory until its IRP completes.
            let started =
                unsafe { host::send(self.handle, &mut segments, Some(*to), &mut control) };
            op.waits(&started);
            match started {
                Started::Later => return None,
                Started::Done(bytes) => {
                    op.socket.sent.fetch_add(bytes as u64, Ordering::Relaxed);
                    op.done.fetch_add(1, Ordering::Relaxed);
                }
                // What a peer said of an earlier datagram is no failure of
                // this one; it has not been sent yet.
                Started::Failed(host::errno::ECONNREFUSED) => {}
                Started::Failed(error) => return Some((status::from_host(error), 0)),
            }
        }
        let bytes = messages.iter().map(Buffer::len).sum();
        Some((status::SUCCESS, bytes))
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
            } else if let Some(arrived) = self.datagrams.pop_front() {
                let (status, bytes) = op.deliver_datagram(&arrived);
                todo.finish(op, status, bytes);
            } else if let Some((status, bytes)) = self.start_receive_from(&op) {
                todo.finish(op, status, bytes);
            }
        }
        if self.enabled & WSK_EVENT_RECEIVE_FROM == 0 || self.paused {
            return;
        }
        if self.receiving.is_none() && self.datagrams.len() < AHEAD {
            let op = Op::own(socket, Body::FillFrom);
            self.outstanding += 1;
            self.receiving = Some(op.clone());
            if let Some((status, bytes)) = self.start_receive_from(&op) {
                todo.finish(op, status, bytes);
            }
        }
        if !self.datagrams.is_empty() && !self.indicating {
            self.indicating = true;
            self.callbacks += 1;
            todo.indicate = true;
        }
    }

    pub(super) fn start_receive_from(&mut self, op: &Arc<Op>) -> Option<(NtStatus, usize)> {
        if let Body::ReceiveFrom { buffer, .. } = &op.body {
            loop {
                if op.cancelled.load(Ordering::SeqCst) {
                    return Some((status::CANCELLED, 0));
                }
                let mut segments = buffer.segments(0);
                // SAFETY: the client lends the memory until its IRP completes.
                let (started, from) = unsafe { host::receive_from(self.handle, &mut segments) };
                op.waits(&started);
                match started {
                    Started::Later => return None,
                    Started::Done(bytes) if self.is_wanted(&from) => {
                        op.socket
                            .received
                            .fetch_add(bytes as u64, Ordering::Relaxed);
                        op.write_from(from.address, &self.control_of(&from), flags_of(&from));
                        return Some((cut(&from), bytes));
                    }
                    // Not from the fixed remote address, or what a peer said
                    // of a datagram that was sent.
                    Started::Done(_) | Started::Failed(host::errno::ECONNREFUSED) => {}
                    Started::Failed(error) => return Some((status::from_host(error), 0)),
                }
            }
        }
        self.fill_from(op)
    }

    /// Takes from the host what it has, as much as may be held.
    fn fill_from(&mut self, op: &Arc<Op>) -> Option<(NtStatus, usize)> {
        let before = self.datagrams.len();
        while self.datagrams.len() < AHEAD {
            let (started, from) = OWN.with_borrow_mut(|scratch| {
                scratch.resize(LARGEST, 0);
                let mut segment = [IoVec {
                    base: scratch.as_mut_ptr(),
                    len: LARGEST,
                }];
                // SAFETY: this thread's own memory.
                let (started, from) = unsafe { host::receive_from(self.handle, &mut segment) };
                if let Started::Done(bytes) = started
                    && self.is_wanted(&from)
                {
                    self.datagrams.push_back(Arrived {
                        data: scratch.iter().take(bytes).copied().collect(),
                        from: from.address,
                        control: self.control_of(&from),
                        flags: flags_of(&from),
                    });
                }
                (started, from)
            });
            match started {
                Started::Later if self.datagrams.len() == before => {
                    op.waits(&started);
                    return None;
                }
                Started::Later => break,
                Started::Done(bytes) if self.is_wanted(&from) => {
                    op.socket
                        .received
                        .fetch_add(bytes as u64, Ordering::Relaxed);
                }
                Started::Done(_) | Started::Failed(host::errno::ECONNREFUSED) => {}
                Started::Failed(error) => return Some((status::from_host(error), 0)),
            }
        }
        Some((status::SUCCESS, 0))
    }

    fn is_wanted(&self, from: &From) -> bool {
        let own = self.no_loop && from.control.multicast() && is_of_this_host(from);
        !own && (self.fixed_remote.is_none() || from.address == self.fixed_remote)
    }

    /// The control information the client has asked for.
    fn control_of(&self, from: &From) -> Vec<u8> {
        from.control.windows(self.packet_info, self.hop_limit)
    }
}

/// Whether this machine has sent it.
fn is_of_this_host(from: &From) -> bool {
    let Some(address) = from.address else {
        return false;
    };
    let ip = address.ip();
    let is_its = |own: &RawAddr| own.ip() == ip;
    ip.is_loopback()
        || host::local_addresses(address.family()).is_ok_and(|all| all.iter().any(is_its))
}

/// `ControlFlags` of `WskReceiveFrom`.
fn flags_of(from: &From) -> u32 {
    let mut flags = 0;
    for (is, flag) in [
        (from.truncated, MSG_TRUNC),
        (from.control.multicast(), MSG_MCAST),
        (from.control.broadcast(), MSG_BCAST),
    ] {
        if is {
            flags |= flag;
        }
    }
    flags
}

fn cut(from: &From) -> NtStatus {
    if from.truncated {
        status::BUFFER_OVERFLOW
    } else {
        status::SUCCESS
    }
}

impl Op {
    /// Fills in the out-parameters of a `WskReceiveFrom`.
    fn write_from(&self, from: Option<RawAddr>, control: &[u8], flags: u32) {
        let Body::ReceiveFrom { out, .. } = &self.body else {
            return;
        };
        out.remote.write(from);
        let mut flags = flags;
        if !out.control_length.is_null() {
            // SAFETY: the client's variable, valid until its IRP completes.
            let room = unsafe { out.control_length.read() } as usize;
            let fits = control.len() <= room && !out.control.is_null();
            let length = if fits { control.len() } else { 0 };
            if length > 0 {
                // SAFETY: the client's memory, as long as it says.
                unsafe { std::ptr::copy_nonoverlapping(control.as_ptr(), out.control, length) };
            } else if !control.is_empty() {
                flags |= MSG_CTRUNC;
            }
            // SAFETY: as above.
            unsafe { out.control_length.write(length as u32) };
        }
        if !out.control_flags.is_null() {
            // SAFETY: the client's variable, valid until its IRP completes.
            unsafe { out.control_flags.write(flags) };
        }
    }

    /// Gives a datagram that was received already to a `WskReceiveFrom`.
    fn deliver_datagram(&self, arrived: &Arrived) -> (NtStatus, usize) {
        let Body::ReceiveFrom { buffer, .. } = &self.body else {
            return (status::INVALID_DEVICE_STATE, 0);
        };
        let taken = buffer.fill(0, &arrived.data);
        let truncated = taken < arrived.data.len();
        let (status, flag) = if truncated {
            (status::BUFFER_OVERFLOW, MSG_TRUNC)
        } else {
            (status::SUCCESS, 0)
        };
        self.write_from(arrived.from, &arrived.control, arrived.flags | flag);
        (status, taken)
    }
}
