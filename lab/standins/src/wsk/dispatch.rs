//! The provider's dispatch tables, one for each category of socket, and the
//! functions that all categories share: `WskCloseSocket`, `WskBind`,
//! `WskGetLocalAddress`, `WskGetRemoteAddress`.

use super::addr::RawAddr;
use super::engine::lock;
use super::host;
use super::op::Body;
use super::sharing::Sharing;
use super::socket::{ADDRESSES, Call, Category, Socket, enter};
use super::state::{Phase, State};
use super::types::{
    BasicDispatch, ConnectionDispatch, DatagramDispatch, Irp, ListenDispatch, NtStatus, WskBuf,
    WskSocket,
};
use super::{
    check_flags, datagram, events, fault, inspect, listen, options, receive, status, stream,
};
use crate::core::Rule;
use std::ffi::c_void;
use std::sync::Arc;

static BASIC: BasicDispatch = BASIC_TABLE;
const BASIC_TABLE: BasicDispatch = BasicDispatch {
    control_socket: options::control_socket,
    close_socket,
};
static LISTEN: ListenDispatch = ListenDispatch {
    basic: BASIC_TABLE,
    bind,
    accept: listen::accept,
    inspect_complete: inspect::inspect_complete,
    get_local_address,
};
static DATAGRAM: DatagramDispatch = DatagramDispatch {
    basic: BASIC_TABLE,
    bind,
    send_to: datagram::send_to,
    receive_from: datagram::receive_from,
    release: events::release_datagrams,
    get_local_address,
    send_messages: datagram::send_messages,
};
static CONNECTION: ConnectionDispatch = ConnectionDispatch {
    basic: BASIC_TABLE,
    bind,
    connect: stream::connect,
    get_local_address,
    get_remote_address,
    send: stream::send,
    receive: receive::receive,
    disconnect: stream::disconnect,
    release: events::release,
    connect_ex,
    send_ex,
    receive_ex,
};

/// The table a new socket of a category points to.
pub(super) fn table_of(category: Category) -> *const c_void {
    match category {
        Category::Basic => (&raw const BASIC).cast(),
        Category::Listen => (&raw const LISTEN).cast(),
        Category::Datagram => (&raw const DATAGRAM).cast(),
        Category::Connection => (&raw const CONNECTION).cast(),
    }
}

/// `WskCloseSocket`.
unsafe extern "system" fn close_socket(socket: *mut WskSocket, irp: *mut Irp) -> NtStatus {
    use Category::{Basic, Connection, Datagram, Listen};
    const NAME: &str = "WskCloseSocket";
    let call = enter(NAME, socket, &[Basic, Listen, Datagram, Connection]);
    let op = call.socket.prepare_close(NAME, irp);
    call.socket.close(op)
}

/// `WskBind`. For a listening socket it also begins to listen.
unsafe extern "system" fn bind(
    socket: *mut WskSocket,
    local: *mut c_void,
    flags: u32,
    irp: *mut Irp,
) -> NtStatus {
    use Category::{Connection, Datagram, Listen};
    const NAME: &str = "WskBind";
    let call = enter(NAME, socket, &[Listen, Datagram, Connection]);
    check_flags(NAME, flags, 0);
    if local.is_null() {
        violate!(Rule::LabWskNullArgument, "{NAME} without a local address");
    }
    // SAFETY: not null; a SOCKADDR by the client's part of the contract.
    let address = unsafe { RawAddr::read(local, call.socket.family) };
    let op = call.socket.begin(NAME, irp, Body::Simple);
    if let Some(status) = fault(NAME) {
        return op.deliver(status, 0);
    }
    let result = match address {
        Ok(address) => bind_to(&call.socket, address),
        Err(_) => Err(status::INVALID_ADDRESS_COMPONENT),
    };
    op.deliver(result.err().unwrap_or(status::SUCCESS), 0)
}

/// Binds a socket; shared with `WskSocketConnect`.
pub(super) fn bind_to(socket: &Arc<Socket>, address: RawAddr) -> Result<(), NtStatus> {
    let mut state = socket.state();
    if state.phase != Phase::Created {
        return Err(status::ADDRESS_ALREADY_ASSOCIATED);
    }
    let sharing = match (state.exclusive, state.reuse) {
        (true, _) => Sharing::Exclusive,
        (false, true) => Sharing::Reuse,
        (false, false) => Sharing::Default,
    };
    let mut table = lock(&ADDRESSES);
    table.check(socket.protocol, address, sharing)?;
    host::bind(state.handle, address, socket.category == Category::Listen)
        .map_err(status::from_host)?;
    let local = host::local_address(state.handle).unwrap_or(address);
    state.local = Some(local);
    if socket.category == Category::Listen {
        state.close_gate(socket);
        host::listen(state.handle).map_err(status::from_host)?;
        state.phase = Phase::Listening;
    } else {
        state.phase = Phase::Bound;
    }
    table.insert(socket.id, socket.protocol, local, sharing);
    drop(table);
    begin_events(socket, &mut state);
    Ok(())
}

/// Events that are enabled for every socket may begin.
fn begin_events(socket: &Arc<Socket>, state: &mut State) {
    let mut todo = super::todo::Todo::default();
    state.pump(socket, &mut todo);
    todo.post(socket);
}

/// `WskGetLocalAddress`.
unsafe extern "system" fn get_local_address(
    socket: *mut WskSocket,
    address: *mut c_void,
    irp: *mut Irp,
) -> NtStatus {
    use Category::{Connection, Datagram, Listen};
    const NAME: &str = "WskGetLocalAddress";
    let call = enter(NAME, socket, &[Listen, Datagram, Connection]);
    get_address(NAME, &call, address, irp, |state| state.local)
}

/// `WskGetRemoteAddress`.
unsafe extern "system" fn get_remote_address(
    socket: *mut WskSocket,
    address: *mut c_void,
    irp: *mut Irp,
) -> NtStatus {
    const NAME: &str = "WskGetRemoteAddress";
    let call = enter(NAME, socket, &[Category::Connection]);
    get_address(NAME, &call, address, irp, |state| {
        state.remote.filter(|_| state.phase == Phase::Connected)
    })
}

fn get_address(
    name: &'static str,
    call: &Call,
    to: *mut c_void,
    irp: *mut Irp,
    which: impl FnOnce(&State) -> Option<RawAddr>,
) -> NtStatus {
    if to.is_null() {
        violate!(
            Rule::LabWskNullArgument,
            "{name} without a buffer for the address"
        );
    }
    let op = call.socket.begin(name, irp, Body::Simple);
    if let Some(status) = fault(name) {
        return op.deliver(status, 0);
    }
    let address = which(&call.socket.state());
    match address {
        Some(address) => {
            // SAFETY: not null; large enough by the client's part of the
            // contract.
            unsafe { address.write(to) };
            op.deliver(status::SUCCESS, 0)
        }
        None => op.deliver(status::INVALID_DEVICE_STATE, 0),
    }
}

/// `WskConnectEx` with data to send along is not offered; without, it is
/// `WskConnect`.
unsafe extern "system" fn connect_ex(
    socket: *mut WskSocket,
    remote: *mut c_void,
    buffer: *mut WskBuf,
    flags: u32,
    irp: *mut Irp,
) -> NtStatus {
    if buffer.is_null() {
        // SAFETY: the caller's contract for WskConnectEx contains WskConnect's.
        return unsafe { stream::connect(socket, remote, flags, irp) };
    }
    not_supported("WskConnectEx", socket, irp)
}

/// `WskSendEx` with control information is not offered; without, it is
/// `WskSend`.
unsafe extern "system" fn send_ex(
    socket: *mut WskSocket,
    buffer: *mut WskBuf,
    flags: u32,
    control_length: u32,
    _control: *mut c_void,
    irp: *mut Irp,
) -> NtStatus {
    if control_length == 0 {
        // SAFETY: the caller's contract for WskSendEx contains WskSend's.
        return unsafe { stream::send(socket, buffer, flags, irp) };
    }
    not_supported("WskSendEx", socket, irp)
}

/// `WskReceiveEx`: there never is control information, so it is `WskReceive`.
unsafe extern "system" fn receive_ex(
    socket: *mut WskSocket,
    buffer: *mut WskBuf,
    flags: u32,
    control_length: *mut u32,
    _control: *mut c_void,
    control_flags: *mut u32,
    irp: *mut Irp,
) -> NtStatus {
    for variable in [control_length, control_flags] {
        if !variable.is_null() {
            // SAFETY: the client's variable, valid until its IRP completes.
            unsafe { variable.write(0) };
        }
    }
    // SAFETY: the caller's contract for WskReceiveEx contains WskReceive's.
    unsafe { receive::receive(socket, buffer, flags, irp) }
}

fn not_supported(name: &'static str, socket: *mut WskSocket, irp: *mut Irp) -> NtStatus {
    let call = enter(name, socket, &[Category::Connection]);
    let op = call.socket.begin(name, irp, Body::Simple);
    op.deliver(status::NOT_SUPPORTED, 0)
}
