//! `WskControlSocket`: socket options, I/O controls, and the switching of
//! event callbacks.
//!
//! Offered: what "WSK Socket Options" lists save SO_WSK_SECURITY
//! (STATUS_NOT_SUPPORTED), and the options of TCP, IPv4 and
//! IPv6 that the host's sockets know. Each option but SO_WSK_EVENT_CALLBACK
//! needs an IRP.

use super::addr::RawAddr;
use super::engine;
use super::host;
use super::op::{Body, Op};
use super::socket::{Category, Socket, enter};
use super::state::{Dispatch, Phase, State};
use super::todo::Todo;
use super::types::{
    AF_INET6, IPPROTO_TCP, Irp, NPI_WSK_INTERFACE_ID, NtStatus, SIO_ADDRESS_LIST_CHANGE,
    SIO_ADDRESS_LIST_QUERY, SIO_ADDRESS_LIST_SORT, SIO_KEEPALIVE_VALS,
    SIO_WSK_QUERY_IDEAL_SEND_BACKLOG, SIO_WSK_QUERY_RECEIVE_BACKLOG, SIO_WSK_SET_REMOTE_ADDRESS,
    SIO_WSK_SET_SENDTO_ADDRESS, SO_CONDITIONAL_ACCEPT, SO_WSK_EVENT_CALLBACK, WSK_EVENT_ACCEPT,
    WSK_EVENT_DISABLE, WSK_EVENT_DISCONNECT, WSK_EVENT_RECEIVE, WSK_EVENT_RECEIVE_FROM,
    WSK_EVENT_SEND_BACKLOG, WSK_EVENTS_CONNECTION, WSK_GET_OPTION, WSK_IOCTL, WSK_SET_OPTION,
    WskEventCallbackControl, WskSocket,
};
use super::{fault, status};
use crate::core::{Rule, irql};
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use windows_sys::Win32::Networking::WinSock as ws;

const SOL_SOCKET: i32 = ws::SOL_SOCKET;
/// Options that go to the host's socket as they are.
const PASSED_ON: &[(i32, i32)] = &[
    (SOL_SOCKET, ws::SO_BROADCAST),
    (SOL_SOCKET, ws::SO_KEEPALIVE),
    (SOL_SOCKET, ws::SO_RCVBUF),
    (SOL_SOCKET, ws::SO_SNDBUF),
    (SOL_SOCKET, ws::SO_REUSEADDR),
    (SOL_SOCKET, ws::SO_EXCLUSIVEADDRUSE),
    (ws::IPPROTO_TCP, ws::TCP_NODELAY),
    (ws::IPPROTO_TCP, ws::TCP_KEEPIDLE),
    (ws::IPPROTO_TCP, ws::TCP_KEEPINTVL),
    (ws::IPPROTO_TCP, ws::TCP_KEEPCNT),
    (ws::IPPROTO_IP, ws::IP_TTL),
    (ws::IPPROTO_IP, ws::IP_TOS),
    (ws::IPPROTO_IP, ws::IP_DONTFRAGMENT),
    (ws::IPPROTO_IP, ws::IP_MULTICAST_IF),
    (ws::IPPROTO_IP, ws::IP_MULTICAST_TTL),
    (ws::IPPROTO_IP, ws::IP_ADD_MEMBERSHIP),
    (ws::IPPROTO_IP, ws::IP_DROP_MEMBERSHIP),
    (ws::IPPROTO_IP, ws::IP_RECVTTL),
    (ws::IPPROTO_IPV6, ws::IPV6_HOPLIMIT),
    (ws::IPPROTO_IPV6, ws::IPV6_V6ONLY),
    (ws::IPPROTO_IPV6, ws::IPV6_UNICAST_HOPS),
    (ws::IPPROTO_IPV6, ws::IPV6_MULTICAST_IF),
    (ws::IPPROTO_IPV6, ws::IPV6_MULTICAST_HOPS),
    (ws::IPPROTO_IPV6, ws::IPV6_ADD_MEMBERSHIP),
    (ws::IPPROTO_IPV6, ws::IPV6_DROP_MEMBERSHIP),
];

/// The buffers of a control call.
struct Io {
    input: Vec<u8>,
    output: *mut u8,
    output_size: usize,
    returned: *mut usize,
}

/// `WskControlSocket`.
#[allow(clippy::too_many_arguments)] // the documented signature
pub(super) unsafe extern "system" fn control_socket(
    socket: *mut WskSocket,
    request: u32,
    code: u32,
    level: u32,
    input_size: usize,
    input: *mut c_void,
    output_size: usize,
    output: *mut c_void,
    returned: *mut usize,
    irp: *mut Irp,
) -> NtStatus {
    use Category::{Basic, Connection, Datagram, Listen};
    const NAME: &str = "WskControlSocket";
    let call = enter(NAME, socket, &[Basic, Listen, Datagram, Connection]);
    if (input.is_null() && input_size != 0) || (output.is_null() && output_size != 0) {
        violate!(
            Rule::LabWskNullArgument,
            "{NAME}: {input_size} bytes of input at {input:?}, {output_size} of output at {output:?}"
        );
    }
    if request == WSK_IOCTL
        && [
            SIO_ADDRESS_LIST_QUERY,
            SIO_ADDRESS_LIST_CHANGE,
            SIO_ADDRESS_LIST_SORT,
        ]
        .contains(&code)
    {
        irql::require_exact_rule(
            Rule::LabWskIrql,
            "WskControlSocket(SIO_ADDRESS_LIST_*)",
            irql::PASSIVE_LEVEL,
        );
    }
    let mut io = Io {
        input: vec![0; input_size],
        output: output.cast(),
        output_size,
        returned,
    };
    if input_size != 0 {
        // SAFETY: the client's input buffer of this size, into a vector of it.
        unsafe { std::ptr::copy_nonoverlapping(input.cast(), io.input.as_mut_ptr(), input_size) };
    }
    let event = request == WSK_SET_OPTION
        && level.cast_signed() == SOL_SOCKET
        && code == SO_WSK_EVENT_CALLBACK;
    if event {
        return event_callbacks(&call.socket, input, input_size, irp);
    }
    let ioctl = request == WSK_IOCTL;
    if irp.is_null() && !(ioctl && is_query(code)) {
        violate!(
            Rule::LabWskIrpRequired,
            "{NAME} (request {request}, level {level:#x}, code {code:#x}) without an IRP"
        );
    }
    let change = ioctl && code == SIO_ADDRESS_LIST_CHANGE;
    let body = if change {
        Body::AddressChange
    } else {
        Body::Simple
    };
    let op = (!irp.is_null()).then(|| call.socket.begin(NAME, irp, body));
    if let Some(status) = fault(NAME) {
        return end(op.as_ref(), Err(status), &io);
    }
    if let (true, Some(op)) = (change, &op) {
        return await_change(&call.socket, op);
    }
    let (level, code_signed) = (level.cast_signed(), code.cast_signed());
    let result = match request {
        WSK_SET_OPTION => set_option(&call.socket, level, code_signed, &io.input),
        WSK_GET_OPTION => get_option(&call.socket, level, code_signed, &io),
        WSK_IOCTL => control(&call.socket, code, &io),
        _ => Err(status::INVALID_PARAMETER),
    };
    end(op.as_ref(), result, &io)
}

fn is_query(code: u32) -> bool {
    [
        SIO_WSK_QUERY_IDEAL_SEND_BACKLOG,
        SIO_WSK_QUERY_RECEIVE_BACKLOG,
    ]
    .contains(&code)
}

fn end(op: Option<&Arc<Op>>, result: Result<usize, NtStatus>, io: &Io) -> NtStatus {
    let (status, bytes) = match result {
        Ok(bytes) => (status::SUCCESS, bytes),
        Err(status) => (status, 0),
    };
    match op {
        Some(op) => op.deliver(status, bytes),
        None => {
            if !io.returned.is_null() {
                // SAFETY: the client's variable, for a call without an IRP.
                unsafe { io.returned.write(bytes) };
            }
            status
        }
    }
}

/// An option's value: four bytes, or (BOOLEAN, UCHAR) one.
fn number(bytes: &[u8]) -> Result<u32, NtStatus> {
    match bytes {
        [a, b, c, d, ..] => Ok(u32::from_ne_bytes([*a, *b, *c, *d])),
        [one, ..] => Ok(u32::from(*one)),
        [] => Err(status::INVALID_PARAMETER),
    }
}

/// On Windows "the option must be set on the receiving socket": the host, where it
/// is of the sending one, isn't asked.
fn is_loop(socket: &Socket, level: i32, name: i32) -> bool {
    let names = [
        (ws::IPPROTO_IP, ws::IP_MULTICAST_LOOP),
        (ws::IPPROTO_IPV6, ws::IPV6_MULTICAST_LOOP),
    ];
    socket.category == Category::Datagram && names.contains(&(level, name))
}

fn is_packet_info(socket: &Socket, level: i32, name: i32) -> bool {
    let v6 = socket.family == AF_INET6;
    socket.category == Category::Datagram
        && ((level, name) == (ws::IPPROTO_IP, ws::IP_PKTINFO) && !v6
            || (level, name) == (ws::IPPROTO_IPV6, ws::IPV6_PKTINFO) && v6)
}

fn set_option(
    socket: &Arc<Socket>,
    level: i32,
    name: i32,
    value: &[u8],
) -> Result<usize, NtStatus> {
    let mut state = socket.state();
    if (level, name) == (SOL_SOCKET, SO_CONDITIONAL_ACCEPT) {
        return state.set_conditional(socket, value);
    }
    if is_packet_info(socket, level, name) {
        state.packet_info = number(value)? != 0;
        return Ok(0);
    }
    if is_loop(socket, level, name) {
        state.no_loop = number(value)? == 0;
        return Ok(0);
    }
    if !PASSED_ON.contains(&(level, name)) || state.handle == host::NONE {
        return Err(status::NOT_SUPPORTED);
    }
    let sharing =
        level == SOL_SOCKET && [ws::SO_REUSEADDR, ws::SO_EXCLUSIVEADDRUSE].contains(&name);
    if sharing && state.phase != Phase::Created {
        violate!(
            Rule::LabWskOrder,
            "SO_REUSEADDR or SO_EXCLUSIVEADDRUSE set on socket {} after it was bound",
            socket.id
        );
    }
    if name != ws::SO_EXCLUSIVEADDRUSE || level != SOL_SOCKET {
        host::options::set(state.handle, level, name, value).map_err(status::from_host)?;
    }
    match (level, name) {
        (ws::IPPROTO_IP, ws::IP_RECVTTL) | (ws::IPPROTO_IPV6, ws::IPV6_HOPLIMIT) => {
            state.hop_limit = number(value)? != 0;
        }
        _ => {}
    }
    if sharing {
        let on = number(value)? != 0;
        if name == ws::SO_REUSEADDR {
            state.reuse = on;
        } else {
            state.exclusive = on;
        }
    }
    Ok(0)
}

fn get_option(socket: &Arc<Socket>, level: i32, name: i32, io: &Io) -> Result<usize, NtStatus> {
    let state = socket.state();
    let conditional =
        socket.category == Category::Listen && (level, name) == (SOL_SOCKET, SO_CONDITIONAL_ACCEPT);
    let packet_info = is_packet_info(socket, level, name);
    let loops = is_loop(socket, level, name);
    let known = conditional || packet_info || loops || PASSED_ON.contains(&(level, name));
    if !known || state.handle == host::NONE {
        return Err(status::NOT_SUPPORTED);
    }
    let own = match (level, name) {
        (SOL_SOCKET, SO_CONDITIONAL_ACCEPT) => Some(state.inspections.on),
        _ if packet_info => Some(state.packet_info),
        _ if loops => Some(!state.no_loop),
        (SOL_SOCKET, ws::SO_REUSEADDR) => Some(state.reuse),
        (SOL_SOCKET, ws::SO_EXCLUSIVEADDRUSE) => Some(state.exclusive),
        _ => None,
    };
    if let Some(on) = own {
        return io.write(&u32::from(on).to_ne_bytes());
    }
    let value = host::options::get(state.handle, level, name).map_err(status::from_host)?;
    match value.get(..io.output_size) {
        // A BOOLEAN or UCHAR is enough for what fits in one.
        Some(short) if io.output_size == 1 && value.iter().skip(1).all(|b| *b == 0) => {
            io.write(short)
        }
        _ => io.write(&value),
    }
}

impl State {
    /// SO_CONDITIONAL_ACCEPT: "prior to binding", with both callbacks there.
    fn set_conditional(&mut self, socket: &Socket, value: &[u8]) -> Result<usize, NtStatus> {
        if socket.category != Category::Listen {
            return Err(status::NOT_SUPPORTED);
        }
        if self.phase != Phase::Created {
            violate!(
                Rule::LabWskOrder,
                "SO_CONDITIONAL_ACCEPT set on socket {} after it was bound",
                socket.id
            );
        }
        let on = number(value)? != 0;
        let both = matches!(
            self.dispatch,
            Dispatch::Listen(dispatch)
                if dispatch.inspect_event.is_some() && dispatch.abort_event.is_some()
        );
        if on && !both {
            violate!(
                Rule::LabWskEvents,
                "SO_CONDITIONAL_ACCEPT on socket {} without WskInspectEvent and WskAbortEvent",
                socket.id
            );
        }
        self.inspections.on = on;
        Ok(0)
    }
}

fn control(socket: &Arc<Socket>, code: u32, io: &Io) -> Result<usize, NtStatus> {
    let mut state = socket.state();
    match code {
        SIO_WSK_SET_REMOTE_ADDRESS | SIO_WSK_SET_SENDTO_ADDRESS => {
            if socket.category != Category::Datagram {
                return Err(status::NOT_SUPPORTED);
            }
            if state.phase != Phase::Bound {
                violate!(
                    Rule::LabWskOrder,
                    "a fixed address was set on socket {} before it was bound",
                    socket.id
                );
            }
            let address = if io.input.is_empty() {
                None
            } else {
                let address =
                    RawAddr::from_bytes(&io.input).filter(|to| to.family() == socket.family);
                Some(address.ok_or(status::INVALID_ADDRESS_COMPONENT)?)
            };
            if code == SIO_WSK_SET_REMOTE_ADDRESS {
                state.fixed_remote = address;
            } else {
                state.fixed_sendto = address;
            }
            Ok(0)
        }
        SIO_WSK_QUERY_RECEIVE_BACKLOG => {
            let host = host::receive_backlog(state.handle).map_err(status::from_host)?;
            io.write(&(host + state.buffered.len()).to_ne_bytes())
        }
        SIO_WSK_QUERY_IDEAL_SEND_BACKLOG if socket.category == Category::Connection => {
            let ideal = state.ideal_backlog().ok_or(status::INVALID_DEVICE_STATE)?;
            io.write(&ideal.to_ne_bytes())
        }
        SIO_KEEPALIVE_VALS if socket.protocol == IPPROTO_TCP => {
            // struct tcp_keepalive: on, time and interval in milliseconds.
            let word = |at: usize| number(io.input.get(at..at + 4).unwrap_or_default());
            let (on, time, interval) = (word(0)?, word(4)?, word(8)?);
            let set = |level, name, value: u32| {
                host::options::set(state.handle, level, name, &value.to_ne_bytes())
                    .map_err(status::from_host)
            };
            set(SOL_SOCKET, ws::SO_KEEPALIVE, on)?;
            if on != 0 {
                set(
                    ws::IPPROTO_TCP,
                    ws::TCP_KEEPIDLE,
                    time.div_ceil(1000).max(1),
                )?;
                let interval = interval.div_ceil(1000).max(1);
                set(ws::IPPROTO_TCP, ws::TCP_KEEPINTVL, interval)?;
            }
            Ok(0)
        }
        SIO_ADDRESS_LIST_QUERY => {
            let list = host::local_addresses(socket.family).map_err(status::from_host)?;
            io.write_addresses(&list)
        }
        _ => Err(status::NOT_SUPPORTED),
    }
}

/// SIO_ADDRESS_LIST_CHANGE: ends when the host's addresses change.
fn await_change(socket: &Arc<Socket>, op: &Arc<Op>) -> NtStatus {
    let mut todo = Todo::default();
    {
        let mut state = socket.state();
        let ready = if state.changed == host::NONE {
            host::watch_addresses().and_then(|fd| {
                state.changed = fd;
                engine::watch(socket, fd)
            })
        } else {
            Ok(())
        };
        match ready {
            Err(error) => todo.finish(op.clone(), status::from_host(error), 0),
            Ok(()) if op.cancelled.load(Ordering::SeqCst) => {
                todo.finish(op.clone(), status::CANCELLED, 0);
            }
            Ok(()) => state.changes.push(op.clone()),
        }
    }
    todo.settle(op)
}

impl State {
    /// The host's addresses may have changed.
    pub(super) fn addresses_changed(&mut self, todo: &mut Todo) {
        if self.changed == host::NONE || !host::drain(self.changed) {
            return;
        }
        for op in std::mem::take(&mut self.changes) {
            todo.finish(op, status::SUCCESS, 0);
        }
    }
}

impl Io {
    /// A SOCKET_ADDRESS_LIST with the addresses it points to behind it.
    fn write_addresses(&self, list: &[RawAddr]) -> Result<usize, NtStatus> {
        const HEAD: usize = 8;
        const ENTRY: usize = 16;
        const PLACE: usize = 32;
        let size = HEAD + list.len() * (ENTRY + PLACE);
        let mut bytes = vec![0; size];
        let count = i32::try_from(list.len()).map_err(|_| status::BUFFER_TOO_SMALL)?;
        bytes[..4].copy_from_slice(&count.to_ne_bytes());
        for (number, address) in list.iter().enumerate() {
            let entry = HEAD + number * ENTRY;
            let place = HEAD + list.len() * ENTRY + number * PLACE;
            let pointer = (self.output as usize).wrapping_add(place);
            bytes[entry..entry + 8].copy_from_slice(&pointer.to_ne_bytes());
            let length = address.len() as u32;
            bytes[entry + 8..entry + 12].copy_from_slice(&length.to_ne_bytes());
            let place = bytes.get_mut(place..).unwrap_or_default().as_mut_ptr();
            // SAFETY: room for the longest address, made above.
            unsafe { address.write(place.cast()) };
        }
        self.write(&bytes)
    }

    fn write(&self, value: &[u8]) -> Result<usize, NtStatus> {
        if self.output_size < value.len() {
            return Err(status::BUFFER_TOO_SMALL);
        }
        // SAFETY: the client's output buffer, long enough.
        unsafe { std::ptr::copy_nonoverlapping(value.as_ptr(), self.output, value.len()) };
        Ok(value.len())
    }
}

/// Event flags a category of socket may have.
fn allowed(category: Category) -> u32 {
    match category {
        Category::Basic => 0,
        // Those of a connection are for the connections it will accept.
        Category::Listen => WSK_EVENT_ACCEPT | WSK_EVENTS_CONNECTION,
        Category::Datagram => WSK_EVENT_RECEIVE_FROM,
        Category::Connection => WSK_EVENTS_CONNECTION,
    }
}

/// Whether the client gave a callback function for a single event flag.
fn has_callback(state: &State, event: u32) -> bool {
    match (state.dispatch, event) {
        (Dispatch::Listen(dispatch), WSK_EVENT_ACCEPT) => dispatch.accept_event.is_some(),
        // Given by WskAcceptEvent, for each connection.
        (Dispatch::Listen(_), _) => true,
        (Dispatch::Datagram(dispatch), WSK_EVENT_RECEIVE_FROM) => {
            dispatch.receive_from_event.is_some()
        }
        (Dispatch::Connection(dispatch), WSK_EVENT_RECEIVE) => dispatch.receive_event.is_some(),
        (Dispatch::Connection(dispatch), WSK_EVENT_DISCONNECT) => {
            dispatch.disconnect_event.is_some()
        }
        (Dispatch::Connection(dispatch), WSK_EVENT_SEND_BACKLOG) => {
            dispatch.send_backlog_event.is_some()
        }
        _ => false,
    }
}

/// SO_WSK_EVENT_CALLBACK.
fn event_callbacks(
    socket: &Arc<Socket>,
    input: *mut c_void,
    input_size: usize,
    irp: *mut Irp,
) -> NtStatus {
    const NAME: &str = "SO_WSK_EVENT_CALLBACK";
    if input_size < size_of::<WskEventCallbackControl>() {
        return refuse(socket, irp, status::INVALID_PARAMETER);
    }
    // SAFETY: the client's WSK_EVENT_CALLBACK_CONTROL, whole.
    let control = unsafe { input.cast::<WskEventCallbackControl>().read_unaligned() };
    if control.npi_id.is_null() {
        violate!(Rule::LabWskNullArgument, "{NAME} without an NpiId");
    }
    // SAFETY: not null; the client's pointer to an NPI identifier.
    if unsafe { *control.npi_id } != NPI_WSK_INTERFACE_ID {
        return refuse(socket, irp, status::NOT_SUPPORTED);
    }
    let disable = control.event_mask & WSK_EVENT_DISABLE != 0;
    let events = control.event_mask & !WSK_EVENT_DISABLE;
    let mut state = socket.state();
    check_events(socket, &state, events, disable);
    if disable {
        state.enabled &= !events;
        let running = state.callbacks > 0;
        drop(state);
        return disabled(socket, irp, running);
    }
    if !irp.is_null() {
        violate!(
            Rule::LabWskIrpForbidden,
            "{NAME} with an IRP: an application \"does not specify a pointer to an IRP\" to enable"
        );
    }
    drop(state);
    if let Some(status) = fault("WskControlSocket") {
        return status;
    }
    let mut todo = Todo::default();
    let mut state = socket.state();
    state.enabled |= events;
    state.asked += 1;
    if events & WSK_EVENT_RECEIVE != 0 {
        state.paused = false;
    }
    state.pump(socket, &mut todo);
    drop(state);
    todo.post(socket);
    status::SUCCESS
}

fn check_events(socket: &Socket, state: &State, events: u32, disable: bool) {
    const NAME: &str = "SO_WSK_EVENT_CALLBACK";
    let category = socket.category;
    if events == 0 || events & !allowed(category) != 0 {
        violate!(
            Rule::LabWskEvents,
            "{NAME}: event flags {events:#x} are not those of a {category:?} socket"
        );
    }
    let ready = match category {
        Category::Connection => state.phase == Phase::Connected || state.phase == Phase::Dead,
        _ => state.phase != Phase::Created,
    };
    if !ready {
        violate!(
            Rule::LabWskOrder,
            "{NAME} on a {category:?} socket before it is {}",
            if category == Category::Connection {
                "connected"
            } else {
                "bound"
            }
        );
    }
    for bit in 0..u32::BITS {
        let event = 1 << bit;
        if events & event != 0 && !disable && !has_callback(state, event) {
            violate!(
                Rule::LabWskEvents,
                "{NAME}: event {event:#x} enabled without a callback function in the dispatch table"
            );
        }
    }
    if disable {
        let inherited = category == Category::Listen && events & WSK_EVENTS_CONNECTION != 0;
        if events.count_ones() != 1 || events & state.fixed != 0 || inherited {
            violate!(
                Rule::LabWskEvents,
                "{NAME}: events {events:#x} can't be disabled (one at a time, none that \
                 WSK_SET_STATIC_EVENT_CALLBACKS enabled, none of a connection on a listener)"
            );
        }
    }
}

/// An event callback function is off; but it may still be running.
fn disabled(socket: &Arc<Socket>, irp: *mut Irp, running: bool) -> NtStatus {
    if irp.is_null() {
        return if running {
            status::EVENT_PENDING
        } else {
            status::SUCCESS
        };
    }
    let op = socket.begin("WskControlSocket", irp, Body::Simple);
    let waits = {
        let mut state = socket.state();
        let waits = state.callbacks > 0;
        if waits {
            state.disabling.push(op.clone());
        }
        waits
    };
    if waits {
        status::PENDING
    } else {
        op.deliver(status::SUCCESS, 0)
    }
}

fn refuse(socket: &Arc<Socket>, irp: *mut Irp, status: NtStatus) -> NtStatus {
    if irp.is_null() {
        return status;
    }
    socket
        .begin("WskControlSocket", irp, Body::Simple)
        .deliver(status, 0)
}
