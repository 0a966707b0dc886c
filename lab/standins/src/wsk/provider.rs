//! The provider's own dispatch table: making sockets, and controls of the
//! client object.
//!
//! Offered: TCP and UDP over IPv4 and IPv6; listening, datagram, connection
//! and basic sockets. Not offered (STATUS_NOT_SUPPORTED): stream sockets, raw
//! sockets, WSK_TRANSPORT_LIST_CHANGE. Security descriptors are cached and
//! released as documented, but none changes who may share an address (see
//! [`super::sharing`]).

use super::addr::{RawAddr, len_of};
use super::engine::{self, lock};
use super::host::{self, Fd};
use super::op::{Body, Op};
use super::registration::{Client, enter_client};
use super::socket::{Category, Socket};
use super::state::{Dispatch, Phase, State};
use super::types::{
    AF_INET, AF_INET6, Guid, IPPROTO_TCP, IPPROTO_UDP, Irp, NPI_WSK_INTERFACE_ID, NtStatus,
    SOCK_DGRAM, SOCK_STREAM, WSK_CACHE_SD, WSK_EVENT_ACCEPT, WSK_EVENT_RECEIVE_FROM,
    WSK_EVENTS_CONNECTION, WSK_FLAG_BASIC_SOCKET, WSK_FLAG_CONNECTION_SOCKET,
    WSK_FLAG_DATAGRAM_SOCKET, WSK_FLAG_LISTEN_SOCKET, WSK_FLAG_STREAM_SOCKET, WSK_RELEASE_SD,
    WSK_SET_STATIC_EVENT_CALLBACKS, WSK_TDI_BEHAVIOR, WSK_TDI_DEVICENAME_MAPPING,
    WSK_TRANSPORT_LIST_CHANGE, WSK_TRANSPORT_LIST_QUERY, WSK_VERSION_1_0,
    WskClientConnectionDispatch, WskClientDatagramDispatch, WskClientListenDispatch,
    WskEventCallbackControl, WskProviderDispatch, WskTransport,
};
use super::{check_flags, dispatch, fault, names, status, stream};
use crate::core::{Rule, irql};
use std::collections::BTreeSet;
use std::ffi::c_void;
use std::sync::{Arc, Mutex};

/// What `WskCaptureProviderNPI` hands out.
pub(super) static DISPATCH: WskProviderDispatch = WskProviderDispatch {
    version: WSK_VERSION_1_0,
    reserved: 0,
    socket,
    socket_connect,
    control_client,
    get_address_info: names::get_address_info,
    free_address_info: names::free_address_info,
    get_name_info: names::get_name_info,
};

/// The transports there are: category flags, type, protocol.
const TRANSPORTS: [(u16, u32); 2] = [(SOCK_STREAM, IPPROTO_TCP), (SOCK_DGRAM, IPPROTO_UDP)];
const PROVIDER_ID: Guid = Guid {
    data1: 0xEB00_4A0F,
    data2: 0x9B1A,
    data3: 0x11D4,
    data4: [0x91, 0x23, 0x00, 0x50, 0x04, 0x77, 0x59, 0xBC],
};

/// Security descriptors that were cached and not released.
static CACHED: Mutex<BTreeSet<usize>> = Mutex::new(BTreeSet::new());

fn category(flags: u32) -> Result<Category, NtStatus> {
    match flags {
        WSK_FLAG_BASIC_SOCKET => Ok(Category::Basic),
        WSK_FLAG_LISTEN_SOCKET => Ok(Category::Listen),
        WSK_FLAG_CONNECTION_SOCKET => Ok(Category::Connection),
        WSK_FLAG_DATAGRAM_SOCKET => Ok(Category::Datagram),
        WSK_FLAG_STREAM_SOCKET => Err(status::NOT_SUPPORTED),
        other => violate!(
            Rule::LabWskFlags,
            "WskSocket with flags {other:#x}, which name no single category of socket"
        ),
    }
}

/// The host's socket for what a client asks.
fn make(category: Category, family: u16, kind: u16, protocol: u32) -> Result<Fd, NtStatus> {
    let transport = TRANSPORTS.contains(&(kind, protocol));
    let fits = match category {
        Category::Basic => true,
        Category::Listen | Category::Connection => kind == SOCK_STREAM,
        Category::Datagram => kind == SOCK_DGRAM,
    };
    if len_of(family).is_none() || !transport || !fits {
        return Err(status::NOT_SUPPORTED);
    }
    host::socket(family, kind, protocol).map_err(status::from_host)
}

/// The client's dispatch table for a category.
///
/// # Safety
/// `table` must be null or the client's table of that category.
unsafe fn callbacks(category: Category, table: *const c_void) -> Dispatch {
    if table.is_null() {
        return Dispatch::None;
    }
    match category {
        Category::Basic => Dispatch::None,
        Category::Listen => {
            // SAFETY: a table of this category, by the caller's word.
            let table = unsafe { table.cast::<WskClientListenDispatch>().read() };
            Dispatch::Listen(table)
        }
        Category::Datagram => {
            // SAFETY: as above.
            let table = unsafe { table.cast::<WskClientDatagramDispatch>().read() };
            Dispatch::Datagram(table)
        }
        Category::Connection => {
            // SAFETY: as above.
            let table = unsafe { table.cast::<WskClientConnectionDispatch>().read() };
            Dispatch::Connection(table)
        }
    }
}

fn static_events(client: &Client, category: Category) -> u32 {
    client.static_events()
        & match category {
            Category::Basic => 0,
            Category::Listen => WSK_EVENT_ACCEPT | WSK_EVENTS_CONNECTION,
            Category::Datagram => WSK_EVENT_RECEIVE_FROM,
            Category::Connection => WSK_EVENTS_CONNECTION,
        }
}

/// A socket for a request that is under way; its handle may still be missing.
fn prepare(
    client: &Arc<Client>,
    category: Category,
    family: u16,
    protocol: u32,
    handle: Fd,
    context: *mut c_void,
    callbacks: Dispatch,
) -> Arc<Socket> {
    let mut state = State::new(handle, Phase::Created, context, callbacks);
    state.fixed = static_events(client, category);
    state.enabled = state.fixed;
    client.socket_made();
    Socket::new(client, category, family, protocol, state)
}

fn watch(socket: &Arc<Socket>, handle: Fd) -> Result<(), NtStatus> {
    engine::watch(socket, handle).map_err(status::from_host)
}

/// `WskSocket`.
#[allow(clippy::too_many_arguments)] // the documented signature
unsafe extern "system" fn socket(
    client: *mut c_void,
    family: u16,
    kind: u16,
    protocol: u32,
    flags: u32,
    context: *mut c_void,
    table: *const c_void,
    _process: *mut c_void,
    _thread: *mut c_void,
    security: *mut c_void,
    irp: *mut Irp,
) -> NtStatus {
    const NAME: &str = "WskSocket";
    let call = enter_client(NAME, client, irql::DISPATCH_LEVEL);
    check_security(NAME, security);
    let category = category(flags);
    let (kind_of, made) = match category {
        Ok(category) => match fault(NAME) {
            Some(status) => (category, Err(status)),
            None => (category, make(category, family, kind, protocol)),
        },
        Err(status) => (Category::Basic, Err(status)),
    };
    // SAFETY: the client's table for the category it asked for.
    let callbacks = unsafe { callbacks(kind_of, table) };
    let handle = made.unwrap_or(host::NONE);
    let socket = prepare(
        &call.client,
        kind_of,
        family,
        protocol,
        handle,
        context,
        callbacks,
    );
    let made = made.and_then(|handle| watch(&socket, handle));
    let op = socket.begin(NAME, irp, Body::Create);
    match made {
        Ok(()) => {
            socket.state().born = true;
            let public = socket.publish();
            op.deliver(status::SUCCESS, public as usize)
        }
        Err(status) => op.deliver(status, 0),
    }
}

/// `WskSocketConnect`: create, bind, connect.
#[allow(clippy::too_many_arguments)] // the documented signature
unsafe extern "system" fn socket_connect(
    client: *mut c_void,
    kind: u16,
    protocol: u32,
    local: *mut c_void,
    remote: *mut c_void,
    flags: u32,
    context: *mut c_void,
    table: *const WskClientConnectionDispatch,
    _process: *mut c_void,
    _thread: *mut c_void,
    security: *mut c_void,
    irp: *mut Irp,
) -> NtStatus {
    const NAME: &str = "WskSocketConnect";
    let call = enter_client(NAME, client, irql::DISPATCH_LEVEL);
    check_flags(NAME, flags, 0);
    check_security(NAME, security);
    if local.is_null() || remote.is_null() {
        violate!(Rule::LabWskNullArgument, "{NAME} without both addresses");
    }
    // SAFETY: not null; a SOCKADDR starts with its family.
    let family = unsafe { local.cast::<u16>().read_unaligned() };
    // SAFETY: not null; the client's SOCKADDR of that family.
    let from = unsafe { RawAddr::read(local, family) };
    // SAFETY: as above; another family is found out by the read.
    let to = unsafe { RawAddr::read(remote, family) };
    let made = match (from, to) {
        (Ok(from), Ok(to)) => match fault(NAME) {
            Some(status) => Err(status),
            None => make(Category::Connection, family, kind, protocol).map(|made| (made, from, to)),
        },
        _ => Err(status::INVALID_ADDRESS_COMPONENT),
    };
    // SAFETY: the client's table for a connection.
    let callbacks = unsafe { callbacks(Category::Connection, table.cast()) };
    let handle = made.map_or(host::NONE, |(made, _, _)| made);
    let socket = prepare(
        &call.client,
        Category::Connection,
        family,
        protocol,
        handle,
        context,
        callbacks,
    );
    let bound = made.and_then(|(handle, from, to)| {
        watch(&socket, handle)?;
        dispatch::bind_to(&socket, from).map(|()| to)
    });
    match bound {
        Ok(to) => {
            let op = socket.begin(NAME, irp, Body::Connect { create: true });
            stream::start_connect(&socket, &op, to)
        }
        Err(status) => {
            let op: Arc<Op> = socket.begin(NAME, irp, Body::Create);
            op.deliver(status, 0)
        }
    }
}

fn check_security(name: &str, security: *mut c_void) {
    if !security.is_null() && !lock(&CACHED).contains(&(security as usize)) {
        violate!(
            Rule::LabWskSecurity,
            "{name}: security descriptor {security:?} is not one that WSK_CACHE_SD returned"
        );
    }
}

/// `WskControlClient`. None of its operations here takes an IRP.
#[allow(clippy::too_many_arguments)] // the documented signature
unsafe extern "system" fn control_client(
    client: *mut c_void,
    code: u32,
    input_size: usize,
    input: *mut c_void,
    output_size: usize,
    output: *mut c_void,
    returned: *mut usize,
    irp: *mut Irp,
) -> NtStatus {
    const NAME: &str = "WskControlClient";
    let call = enter_client(NAME, client, irql::DISPATCH_LEVEL);
    if (input.is_null() && input_size != 0) || (output.is_null() && output_size != 0) {
        violate!(
            Rule::LabWskNullArgument,
            "{NAME}: {input_size} bytes of input at {input:?}, {output_size} of output at {output:?}"
        );
    }
    if !irp.is_null() && code != WSK_TRANSPORT_LIST_CHANGE {
        violate!(
            Rule::LabWskIrpForbidden,
            "{NAME}({code}) with an IRP, which must be NULL for this operation"
        );
    }
    if let Some(status) = fault(NAME) {
        return status;
    }
    match code {
        WSK_SET_STATIC_EVENT_CALLBACKS => {
            if input_size < size_of::<WskEventCallbackControl>() {
                return status::INVALID_PARAMETER;
            }
            // SAFETY: the client's structure, whole.
            let control = unsafe { input.cast::<WskEventCallbackControl>().read_unaligned() };
            set_static(&call.client, control)
        }
        WSK_TRANSPORT_LIST_QUERY => {
            let list = transports();
            let bytes = size_of_val(&list);
            if !returned.is_null() {
                // SAFETY: the client's variable.
                unsafe { returned.write(bytes) };
            }
            if output_size < bytes {
                return status::BUFFER_OVERFLOW;
            }
            // SAFETY: an output buffer long enough; bytes need no alignment.
            unsafe {
                std::ptr::copy_nonoverlapping(list.as_ptr().cast::<u8>(), output.cast(), bytes)
            };
            status::SUCCESS
        }
        WSK_CACHE_SD => {
            if input.is_null() || output_size < size_of::<usize>() {
                return status::INVALID_PARAMETER;
            }
            let copy = Box::into_raw(Box::new(0u64)) as usize;
            lock(&CACHED).insert(copy);
            // SAFETY: an output buffer of a pointer's size at least.
            unsafe { output.cast::<usize>().write_unaligned(copy) };
            status::SUCCESS
        }
        WSK_RELEASE_SD => {
            if input_size < size_of::<usize>() {
                return status::INVALID_PARAMETER;
            }
            // SAFETY: an input buffer of a pointer's size at least.
            let copy = unsafe { input.cast::<usize>().read_unaligned() };
            if !lock(&CACHED).remove(&copy) {
                violate!(
                    Rule::LabWskSecurity,
                    "WSK_RELEASE_SD of {copy:#x}, which is not a cached security descriptor"
                );
            }
            let copy = std::ptr::with_exposed_provenance_mut::<u64>(copy);
            // SAFETY: made by WSK_CACHE_SD and taken out of the table just now.
            drop(unsafe { Box::from_raw(copy) });
            status::SUCCESS
        }
        WSK_TDI_DEVICENAME_MAPPING | WSK_TDI_BEHAVIOR => status::SUCCESS,
        _ => status::NOT_SUPPORTED,
    }
}

fn set_static(client: &Client, control: WskEventCallbackControl) -> NtStatus {
    if control.npi_id.is_null() {
        violate!(
            Rule::LabWskNullArgument,
            "WSK_SET_STATIC_EVENT_CALLBACKS without an NpiId"
        );
    }
    // SAFETY: not null; the client's pointer to an NPI identifier.
    if unsafe { *control.npi_id } != NPI_WSK_INTERFACE_ID {
        return status::NOT_SUPPORTED;
    }
    if client.ever_had_socket() {
        violate!(
            Rule::LabWskOrder,
            "WSK_SET_STATIC_EVENT_CALLBACKS after a socket was created"
        );
    }
    client.set_static_events(control.event_mask);
    status::SUCCESS
}

fn transports() -> [WskTransport; 4] {
    let of = |family: u16, (kind, protocol): (u16, u32)| WskTransport {
        version: WSK_VERSION_1_0,
        socket_type: kind,
        protocol,
        address_family: family,
        provider_id: PROVIDER_ID,
    };
    [
        of(AF_INET, TRANSPORTS[0]),
        of(AF_INET, TRANSPORTS[1]),
        of(AF_INET6, TRANSPORTS[0]),
        of(AF_INET6, TRANSPORTS[1]),
    ]
}

/// Security descriptors that were not released: one line each.
pub(super) fn leaks() -> Vec<String> {
    lock(&CACHED)
        .iter()
        .map(|copy| format!("cached security descriptor {copy:#x}"))
        .collect()
}

pub(super) fn end_session() {
    lock(&CACHED).clear();
}
