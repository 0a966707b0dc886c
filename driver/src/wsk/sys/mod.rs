//! Raw Winsock Kernel: `wsk.h`, and with [`wdm`] the routines for IRPs and MDLs that
//! its callers need. C names are kept so that they can be looked up.
//!
//! The structures are declared here because the generated bindings don't cover
//! `wsk.h`. Layouts are those of 64-bit Windows; the assertions keep them honest.
//!
//! Source: MSDN "WSK_PROVIDER_DISPATCH", "WSK_PROVIDER_LISTEN_DISPATCH",
//! "WSK_PROVIDER_CONNECTION_DISPATCH", "WSK_PROVIDER_DATAGRAM_DISPATCH" and the
//! pages of the functions they name.

#![allow(non_snake_case)] // C names are kept so that they can be looked up

mod code;
mod wdm;

use core::ffi::c_void;
use core::mem::offset_of;

pub(super) use code::*;
pub(super) use wdm::*;

/// `WSK_CLIENT`, opaque.
#[repr(C)]
pub(super) struct WskClient {
    opaque: [u8; 0],
}

/// `WSK_SOCKET`.
#[repr(C)]
pub(crate) struct WskSocket {
    /// One of the `WSK_PROVIDER_..._DISPATCH` tables, by the socket's category.
    pub(super) dispatch: *const c_void,
}

const _: () = assert!(size_of::<WskSocket>() == 0x8);

/// `WSK_BUF`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct WskBuf {
    pub(super) mdl: *mut Mdl,
    pub(super) offset: u32,
    pub(super) length: usize,
}

const _: () = assert!(size_of::<WskBuf>() == 0x18);
const _: () = assert!(offset_of!(WskBuf, offset) == 8);
const _: () = assert!(offset_of!(WskBuf, length) == 16);

/// `NPIID`, a `GUID`.
#[repr(C)]
pub(super) struct NpiId {
    pub(super) data1: u32,
    pub(super) data2: u16,
    pub(super) data3: u16,
    pub(super) data4: [u8; 8],
}

const _: () = assert!(size_of::<NpiId>() == 16);

/// `NPI_WSK_INTERFACE_ID`.
pub(super) static NPI_WSK_INTERFACE_ID: NpiId = NpiId {
    data1: 0x2227_E803,
    data2: 0x8D8B,
    data3: 0x11D4,
    data4: [0xAB, 0xAD, 0x00, 0x90, 0x27, 0x71, 0x9E, 0x09],
};

/// `WSK_EVENT_CALLBACK_CONTROL`.
#[repr(C)]
pub(super) struct WskEventCallbackControl {
    pub(super) npi_id: *const NpiId,
    pub(super) event_mask: u32,
}

const _: () = assert!(size_of::<WskEventCallbackControl>() == 0x10);
const _: () = assert!(offset_of!(WskEventCallbackControl, event_mask) == 8);

/// `WSK_CLIENT_DISPATCH`.
#[repr(C)]
pub(super) struct WskClientDispatch {
    pub(super) version: u16,
    pub(super) reserved: u16,
    /// `WskClientEvent`: no such event is defined, so none is handled.
    pub(super) client_event: *const c_void,
}

const _: () = assert!(size_of::<WskClientDispatch>() == 0x10);
const _: () = assert!(offset_of!(WskClientDispatch, client_event) == 8);
// SAFETY: constant data without interior mutability; the pointer is null.
unsafe impl Sync for WskClientDispatch {}

/// `WSK_CLIENT_NPI`.
#[repr(C)]
pub(super) struct WskClientNpi {
    pub(super) client_context: *mut c_void,
    pub(super) dispatch: *const WskClientDispatch,
}

const _: () = assert!(size_of::<WskClientNpi>() == 0x10);
// SAFETY: constant data; its pointer is to a constant of the same kind.
unsafe impl Sync for WskClientNpi {}

/// `WSK_REGISTRATION`, the provider's to fill.
#[repr(C)]
pub(super) struct WskRegistration {
    pub(super) state: u64,
    pub(super) context: *mut c_void,
    pub(super) lock: usize,
}

const _: () = assert!(size_of::<WskRegistration>() == 0x18);

/// `WSK_PROVIDER_NPI`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct WskProviderNpi {
    pub(super) client: *mut WskClient,
    pub(super) dispatch: *const WskProviderDispatch,
}

const _: () = assert!(size_of::<WskProviderNpi>() == 0x10);

/// `PFN_WSK_SOCKET`.
pub(super) type WskSocketFn = unsafe extern "system" fn(
    client: *mut WskClient,
    address_family: u16,
    socket_type: u16,
    protocol: u32,
    flags: u32,
    socket_context: *mut c_void,
    dispatch: *const c_void,
    owning_process: *mut c_void,
    owning_thread: *mut c_void,
    security_descriptor: *mut c_void,
    irp: *mut Irp,
) -> i32;

/// `PFN_WSK_SOCKET_CONNECT`.
pub(super) type WskSocketConnectFn = unsafe extern "system" fn(
    client: *mut WskClient,
    socket_type: u16,
    protocol: u32,
    local_address: *const c_void,
    remote_address: *const c_void,
    flags: u32,
    socket_context: *mut c_void,
    dispatch: *const c_void,
    owning_process: *mut c_void,
    owning_thread: *mut c_void,
    security_descriptor: *mut c_void,
    irp: *mut Irp,
) -> i32;

/// `PFN_WSK_GET_ADDRESS_INFO`.
pub(super) type WskGetAddressInfoFn = unsafe extern "system" fn(
    client: *mut WskClient,
    node_name: *const UnicodeString,
    service_name: *const UnicodeString,
    name_space: u32,
    provider: *const NpiId,
    hints: *const AddrInfoEx,
    result: *mut *mut AddrInfoEx,
    owning_process: *mut c_void,
    owning_thread: *mut c_void,
    irp: *mut Irp,
) -> i32;

/// `PFN_WSK_FREE_ADDRESS_INFO`.
pub(super) type WskFreeAddressInfoFn =
    unsafe extern "system" fn(client: *mut WskClient, info: *mut AddrInfoEx);

/// `WSK_PROVIDER_DISPATCH`.
#[repr(C)]
pub(super) struct WskProviderDispatch {
    pub(super) version: u16,
    pub(super) reserved: u16,
    pub(super) socket: Option<WskSocketFn>,
    pub(super) socket_connect: Option<WskSocketConnectFn>,
    /// `WskControlClient`.
    unused: *const c_void,
    pub(super) get_address_info: Option<WskGetAddressInfoFn>,
    pub(super) free_address_info: Option<WskFreeAddressInfoFn>,
    /// `WskGetNameInfo`.
    unused2: *const c_void,
}

const _: () = assert!(size_of::<WskProviderDispatch>() == 0x38);
const _: () = assert!(offset_of!(WskProviderDispatch, socket) == 8);
const _: () = assert!(offset_of!(WskProviderDispatch, get_address_info) == 32);

/// `UNICODE_STRING`.
#[repr(C)]
pub(super) struct UnicodeString {
    /// In bytes, as is the next.
    pub(super) length: u16,
    pub(super) maximum_length: u16,
    pub(super) buffer: *const u16,
}

const _: () = assert!(size_of::<UnicodeString>() == 0x10);
const _: () = assert!(offset_of!(UnicodeString, buffer) == 8);

/// `ADDRINFOEXW` (ws2def.h).
#[repr(C)]
pub(super) struct AddrInfoEx {
    pub(super) flags: i32,
    pub(super) family: i32,
    pub(super) socket_type: i32,
    pub(super) protocol: i32,
    pub(super) address_len: usize,
    pub(super) canonical_name: *const u16,
    pub(super) address: *const c_void,
    pub(super) blob: *const c_void,
    pub(super) blob_len: usize,
    pub(super) provider: *const NpiId,
    pub(super) next: *const AddrInfoEx,
}

const _: () = assert!(size_of::<AddrInfoEx>() == 0x48);
const _: () = assert!(offset_of!(AddrInfoEx, address_len) == 16);
const _: () = assert!(offset_of!(AddrInfoEx, address) == 32);
const _: () = assert!(offset_of!(AddrInfoEx, next) == 64);

/// `PFN_WSK_CONTROL_SOCKET`.
pub(super) type WskControlSocketFn = unsafe extern "system" fn(
    socket: *mut WskSocket,
    request_type: u32,
    control_code: u32,
    level: u32,
    input_size: usize,
    input_buffer: *mut c_void,
    output_size: usize,
    output_buffer: *mut c_void,
    output_size_returned: *mut usize,
    irp: *mut Irp,
) -> i32;
/// `PFN_WSK_CLOSE_SOCKET`.
pub(super) type WskCloseSocketFn =
    unsafe extern "system" fn(socket: *mut WskSocket, irp: *mut Irp) -> i32;
/// `PFN_WSK_BIND`.
pub(super) type WskBindFn = unsafe extern "system" fn(
    socket: *mut WskSocket,
    local_address: *const c_void,
    flags: u32,
    irp: *mut Irp,
) -> i32;
/// `PFN_WSK_CONNECT`.
pub(super) type WskConnectFn = unsafe extern "system" fn(
    socket: *mut WskSocket,
    remote_address: *const c_void,
    flags: u32,
    irp: *mut Irp,
) -> i32;
/// `PFN_WSK_GET_LOCAL_ADDRESS` and `PFN_WSK_GET_REMOTE_ADDRESS`.
pub(super) type WskGetAddressFn = unsafe extern "system" fn(
    socket: *mut WskSocket,
    local_address: *mut c_void,
    irp: *mut Irp,
) -> i32;
/// `PFN_WSK_SEND` and `PFN_WSK_RECEIVE`; `PFN_WSK_DISCONNECT` too, whose buffer
/// may be null.
pub(super) type WskTransferFn = unsafe extern "system" fn(
    socket: *mut WskSocket,
    buffer: *const WskBuf,
    flags: u32,
    irp: *mut Irp,
) -> i32;
/// `PFN_WSK_SEND_TO`.
pub(super) type WskSendToFn = unsafe extern "system" fn(
    socket: *mut WskSocket,
    buffer: *const WskBuf,
    flags: u32,
    remote_address: *const c_void,
    control_info_length: u32,
    control_info: *const c_void,
    irp: *mut Irp,
) -> i32;
/// `PFN_WSK_RECEIVE_FROM`.
pub(super) type WskReceiveFromFn = unsafe extern "system" fn(
    socket: *mut WskSocket,
    buffer: *const WskBuf,
    flags: u32,
    remote_address: *mut c_void,
    control_length: *mut u32,
    control_info: *mut c_void,
    control_flags: *mut u32,
    irp: *mut Irp,
) -> i32;

/// `PFN_WSK_ACCEPT`.
pub(super) type WskAcceptFn = unsafe extern "system" fn(
    listen_socket: *mut WskSocket,
    flags: u32,
    accept_socket_context: *mut c_void,
    accept_socket_dispatch: *const c_void,
    local_address: *mut c_void,
    remote_address: *mut c_void,
    irp: *mut Irp,
) -> i32;

/// `WSK_PROVIDER_BASIC_DISPATCH`, the start of every other table.
#[repr(C)]
pub(super) struct WskProviderBasicDispatch {
    pub(super) control_socket: Option<WskControlSocketFn>,
    pub(super) close_socket: Option<WskCloseSocketFn>,
}

const _: () = assert!(size_of::<WskProviderBasicDispatch>() == 0x10);

/// `WSK_PROVIDER_LISTEN_DISPATCH`.
#[repr(C)]
pub(super) struct WskProviderListenDispatch {
    pub(super) basic: WskProviderBasicDispatch,
    pub(super) bind: Option<WskBindFn>,
    pub(super) accept: Option<WskAcceptFn>,
    /// `WskInspectComplete`: no decision is put off.
    unused: *const c_void,
    pub(super) get_local_address: Option<WskGetAddressFn>,
}

const _: () = assert!(size_of::<WskProviderListenDispatch>() == 0x30);
const _: () = assert!(offset_of!(WskProviderListenDispatch, bind) == 16);
const _: () = assert!(offset_of!(WskProviderListenDispatch, accept) == 24);
const _: () = assert!(offset_of!(WskProviderListenDispatch, get_local_address) == 40);

/// `WSK_PROVIDER_CONNECTION_DISPATCH`.
#[repr(C)]
pub(super) struct WskProviderConnectionDispatch {
    pub(super) basic: WskProviderBasicDispatch,
    pub(super) bind: Option<WskBindFn>,
    pub(super) connect: Option<WskConnectFn>,
    pub(super) get_local_address: Option<WskGetAddressFn>,
    pub(super) get_remote_address: Option<WskGetAddressFn>,
    pub(super) send: Option<WskTransferFn>,
    pub(super) receive: Option<WskTransferFn>,
    pub(super) disconnect: Option<WskTransferFn>,
    pub(super) release: Option<WskReleaseDataFn>,
    /// `WskConnectEx`, `WskSendEx`, `WskReceiveEx`.
    unused2: [*const c_void; 3],
}

const _: () = assert!(size_of::<WskProviderConnectionDispatch>() == 0x68);
const _: () = assert!(offset_of!(WskProviderConnectionDispatch, send) == 48);
const _: () = assert!(offset_of!(WskProviderConnectionDispatch, receive) == 56);
const _: () = assert!(offset_of!(WskProviderConnectionDispatch, disconnect) == 64);
const _: () = assert!(offset_of!(WskProviderConnectionDispatch, release) == 72);

/// `WSK_DATA_INDICATION`.
#[repr(C)]
pub(super) struct WskDataIndication {
    pub(super) next: *const WskDataIndication,
    pub(super) buffer: WskBuf,
}

const _: () = assert!(size_of::<WskDataIndication>() == 0x20);
const _: () = assert!(offset_of!(WskDataIndication, buffer) == 8);

/// `PFN_WSK_RELEASE_DATA_INDICATION_LIST`.
pub(super) type WskReleaseDataFn =
    unsafe extern "system" fn(socket: *mut WskSocket, list: *mut WskDataIndication) -> i32;

/// `PFN_WSK_RECEIVE_EVENT`.
pub(super) type WskReceiveEventFn = unsafe extern "system" fn(
    socket_context: *mut c_void,
    flags: u32,
    list: *mut WskDataIndication,
    bytes_indicated: usize,
    bytes_accepted: *mut usize,
) -> i32;

/// `PFN_WSK_DISCONNECT_EVENT`.
pub(super) type WskDisconnectEventFn =
    unsafe extern "system" fn(socket_context: *mut c_void, flags: u32) -> i32;

/// `WSK_CLIENT_CONNECTION_DISPATCH`.
#[repr(C)]
pub(super) struct WskClientConnectionDispatch {
    pub(super) receive_event: Option<WskReceiveEventFn>,
    pub(super) disconnect_event: Option<WskDisconnectEventFn>,
    /// `WskSendBacklogEvent`: how much is sent at once isn't ours to choose.
    pub(super) send_backlog_event: *const c_void,
}

const _: () = assert!(size_of::<WskClientConnectionDispatch>() == 0x18);

/// `WSK_PROVIDER_DATAGRAM_DISPATCH`.
#[repr(C)]
pub(super) struct WskProviderDatagramDispatch {
    pub(super) basic: WskProviderBasicDispatch,
    pub(super) bind: Option<WskBindFn>,
    pub(super) send_to: Option<WskSendToFn>,
    pub(super) receive_from: Option<WskReceiveFromFn>,
    /// `WskRelease`.
    unused: *const c_void,
    pub(super) get_local_address: Option<WskGetAddressFn>,
    /// `WskSendMessages`.
    unused2: *const c_void,
}

const _: () = assert!(size_of::<WskProviderDatagramDispatch>() == 0x40);
const _: () = assert!(offset_of!(WskProviderDatagramDispatch, send_to) == 24);
const _: () = assert!(offset_of!(WskProviderDatagramDispatch, receive_from) == 32);
const _: () = assert!(offset_of!(WskProviderDatagramDispatch, get_local_address) == 48);

/// `PFN_WSK_ACCEPT_EVENT`.
pub(super) type WskAcceptEventFn = unsafe extern "system" fn(
    socket_context: *mut c_void,
    flags: u32,
    local_address: *const c_void,
    remote_address: *const c_void,
    accept_socket: *mut WskSocket,
    accept_socket_context: *mut *mut c_void,
    accept_socket_dispatch: *mut *const c_void,
) -> i32;

/// `WSK_INSPECT_ID`.
#[repr(C)]
pub(super) struct WskInspectId {
    pub(super) key: usize,
    pub(super) serial_number: u32,
}

/// `PFN_WSK_INSPECT_EVENT`; what it returns is a `WSK_INSPECT_ACTION`.
pub(super) type WskInspectEventFn = unsafe extern "system" fn(
    socket_context: *mut c_void,
    local_address: *const c_void,
    remote_address: *const c_void,
    inspect_id: *mut WskInspectId,
) -> u32;

/// `PFN_WSK_ABORT_EVENT`.
pub(super) type WskAbortEventFn =
    unsafe extern "system" fn(socket_context: *mut c_void, inspect_id: *mut WskInspectId) -> i32;

/// `WSK_CLIENT_LISTEN_DISPATCH`.
#[repr(C)]
pub(super) struct WskClientListenDispatch {
    pub(super) accept_event: Option<WskAcceptEventFn>,
    pub(super) inspect_event: Option<WskInspectEventFn>,
    pub(super) abort_event: Option<WskAbortEventFn>,
}

const _: () = assert!(size_of::<WskClientListenDispatch>() == 0x18);

#[link(name = "netio.sys", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "system" {
    pub(super) fn WskRegister(
        client_npi: *const WskClientNpi,
        registration: *mut WskRegistration,
    ) -> i32;
    pub(super) fn WskDeregister(registration: *mut WskRegistration);
    pub(super) fn WskCaptureProviderNPI(
        registration: *mut WskRegistration,
        wait_timeout_ms: u32,
        provider_npi: *mut WskProviderNpi,
    ) -> i32;
    pub(super) fn WskReleaseProviderNPI(registration: *mut WskRegistration);
}
