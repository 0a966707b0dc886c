//! The structures and constants of the Winsock Kernel interface (`wsk.h`),
//! x64.
//!
//! Field order and names are those of the driver documentation ("WSK_BUF",
//! "WSK_PROVIDER_CONNECTION_DISPATCH", ...); every size and the offsets that
//! matter are asserted at compile time, so that a slip here is a build error
//! and not a driver calling the wrong function.

pub(crate) use crate::nt::types::{IRP as Irp, MDL as Mdl, UNICODE_STRING as UnicodeString};
use std::ffi::c_void;
use std::mem::{offset_of, size_of};

/// `NTSTATUS`.
pub(crate) type NtStatus = i32;

/// `MAKE_WSK_VERSION(1, 0)`: the only version there is.
pub(crate) const WSK_VERSION_1_0: u16 = 0x0100;

/// `WSK_NO_WAIT` of `WskCaptureProviderNPI`.
pub(crate) const WSK_NO_WAIT: u32 = 0;

pub(crate) const WSK_FLAG_BASIC_SOCKET: u32 = 0;
pub(crate) const WSK_FLAG_LISTEN_SOCKET: u32 = 1;
pub(crate) const WSK_FLAG_CONNECTION_SOCKET: u32 = 2;
pub(crate) const WSK_FLAG_DATAGRAM_SOCKET: u32 = 4;
pub(crate) const WSK_FLAG_STREAM_SOCKET: u32 = 8;

/// Tells an event callback function that it runs at DISPATCH_LEVEL.
pub(crate) const WSK_FLAG_AT_DISPATCH_LEVEL: u32 = 8;
/// `WskReceiveEvent`: give the buffers back soon.
pub(crate) const WSK_FLAG_RELEASE_ASAP: u32 = 2;
/// `WskReceiveEvent`: the end of a message, or all of it; of TCP, the push bit.
pub(crate) const WSK_FLAG_ENTIRE_MESSAGE: u32 = 4;
/// `WskDisconnect`, `WskDisconnectEvent`: a reset, not an orderly end.
pub(crate) const WSK_FLAG_ABORTIVE: u32 = 1;
/// `WskSend`.
pub(crate) const WSK_FLAG_NODELAY: u32 = 2;
/// `WskReceive`: only a full buffer will do.
pub(crate) const WSK_FLAG_WAITALL: u32 = 2;
/// `WskReceive`: throw away what comes until the end of the connection.
pub(crate) const WSK_FLAG_DRAIN: u32 = 4;

pub(crate) const WSK_TRANSPORT_LIST_QUERY: u32 = 2;
pub(crate) const WSK_TRANSPORT_LIST_CHANGE: u32 = 3;
pub(crate) const WSK_CACHE_SD: u32 = 4;
pub(crate) const WSK_RELEASE_SD: u32 = 5;
pub(crate) const WSK_TDI_DEVICENAME_MAPPING: u32 = 6;
pub(crate) const WSK_SET_STATIC_EVENT_CALLBACKS: u32 = 7;
pub(crate) const WSK_TDI_BEHAVIOR: u32 = 8;

pub(crate) const SO_WSK_EVENT_CALLBACK: u32 = 0x4002;

pub(crate) const SO_CONDITIONAL_ACCEPT: i32 = 0x3002;

/// `WSK_INSPECT_ACTION`.
pub(crate) const WSK_INSPECT_REJECT: u32 = 0;
pub(crate) const WSK_INSPECT_ACCEPT: u32 = 1;
pub(crate) const WSK_INSPECT_PEND: u32 = 2;

pub(crate) const WSK_EVENT_SEND_BACKLOG: u32 = 0x10;
pub(crate) const WSK_EVENT_RECEIVE: u32 = 0x40;
pub(crate) const WSK_EVENT_DISCONNECT: u32 = 0x80;
pub(crate) const WSK_EVENT_RECEIVE_FROM: u32 = 0x100;
pub(crate) const WSK_EVENT_ACCEPT: u32 = 0x200;
pub(crate) const WSK_EVENT_DISABLE: u32 = 0x8000_0000;
/// The event flags a connection may have.
pub(crate) const WSK_EVENTS_CONNECTION: u32 =
    WSK_EVENT_SEND_BACKLOG | WSK_EVENT_RECEIVE | WSK_EVENT_DISCONNECT;

/// `WSK_CONTROL_SOCKET_TYPE`.
pub(crate) const WSK_SET_OPTION: u32 = 0;
pub(crate) const WSK_GET_OPTION: u32 = 1;
pub(crate) const WSK_IOCTL: u32 = 2;

pub(crate) const SIO_WSK_SET_REMOTE_ADDRESS: u32 = 0x8F00_0001;
pub(crate) const SIO_WSK_QUERY_IDEAL_SEND_BACKLOG: u32 = 0x4F00_0003;
pub(crate) const SIO_WSK_QUERY_RECEIVE_BACKLOG: u32 = 0x4F00_0004;
pub(crate) const SIO_WSK_SET_SENDTO_ADDRESS: u32 = 0x8F00_0006;
pub(crate) const SIO_ADDRESS_LIST_QUERY: u32 = 0x4800_0016;
pub(crate) const SIO_ADDRESS_LIST_CHANGE: u32 = 0x2800_0017;
pub(crate) const SIO_ADDRESS_LIST_SORT: u32 = 0xC800_0019;
pub(crate) const SIO_KEEPALIVE_VALS: u32 = 0x9800_0004;

pub(crate) const SOCK_STREAM: u16 = 1;
pub(crate) const SOCK_DGRAM: u16 = 2;
pub(crate) const IPPROTO_TCP: u32 = 6;
pub(crate) const IPPROTO_UDP: u32 = 17;
pub(crate) const AF_INET: u16 = 2;
pub(crate) const AF_INET6: u16 = 23;
/// `MSG_TRUNC` of `WskReceiveFrom`'s control flags.
pub(crate) const MSG_TRUNC: u32 = 0x0100;
/// Control information was left out: its buffer is too small.
pub(crate) const MSG_CTRUNC: u32 = 0x0200;
/// The datagram was sent to everybody, or to a group.
pub(crate) const MSG_BCAST: u32 = 0x0400;
pub(crate) const MSG_MCAST: u32 = 0x0800;

/// `GUID`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Guid {
    pub(crate) data1: u32,
    pub(crate) data2: u16,
    pub(crate) data3: u16,
    pub(crate) data4: [u8; 8],
}

/// `NPI_WSK_INTERFACE_ID`.
pub(crate) const NPI_WSK_INTERFACE_ID: Guid = Guid {
    data1: 0x2227_E803,
    data2: 0x8D8B,
    data3: 0x11D4,
    data4: [0xAB, 0xAD, 0x00, 0x90, 0x27, 0x71, 0x9E, 0x09],
};

/// `WSK_CLIENT_NPI`.
#[repr(C)]
pub(crate) struct WskClientNpi {
    pub(crate) client_context: *mut c_void,
    pub(crate) dispatch: *const WskClientDispatch,
}

/// `WSK_CLIENT_DISPATCH`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct WskClientDispatch {
    pub(crate) version: u16,
    pub(crate) reserved: u16,
    pub(crate) client_event: *const c_void,
}

/// `WSK_REGISTRATION`: opaque to the client, ours to use.
#[repr(C)]
pub(crate) struct WskRegistration {
    pub(crate) state: u64,
    pub(crate) context: *mut c_void,
    pub(crate) lock: usize,
}

/// `WSK_PROVIDER_NPI`.
#[repr(C)]
pub(crate) struct WskProviderNpi {
    pub(crate) client: *mut c_void,
    pub(crate) dispatch: *const WskProviderDispatch,
}

/// `WSK_PROVIDER_CHARACTERISTICS`.
#[repr(C)]
pub(crate) struct WskProviderCharacteristics {
    pub(crate) highest_version: u16,
    pub(crate) lowest_version: u16,
}

/// `WSK_SOCKET`: all that a client may know of a socket.
#[repr(C)]
pub(crate) struct WskSocket {
    pub(crate) dispatch: *const c_void,
}

/// `WSK_BUF`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct WskBuf {
    pub(crate) mdl: *mut Mdl,
    pub(crate) offset: u32,
    pub(crate) length: usize,
}

/// `WSK_BUF_LIST`.
#[repr(C)]
pub(crate) struct WskBufList {
    pub(crate) next: *mut WskBufList,
    pub(crate) buffer: WskBuf,
}

/// `WSK_DATA_INDICATION`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct WskDataIndication {
    pub(crate) next: *mut WskDataIndication,
    pub(crate) buffer: WskBuf,
}

/// `WSK_DATAGRAM_INDICATION`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct WskDatagramIndication {
    pub(crate) next: *mut WskDatagramIndication,
    pub(crate) buffer: WskBuf,
    pub(crate) control_info: *mut c_void,
    pub(crate) control_info_length: u32,
    pub(crate) remote_address: *mut c_void,
}

/// `WSK_EVENT_CALLBACK_CONTROL`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct WskEventCallbackControl {
    pub(crate) npi_id: *const Guid,
    pub(crate) event_mask: u32,
}

/// `WSK_TRANSPORT`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct WskTransport {
    pub(crate) version: u16,
    pub(crate) socket_type: u16,
    pub(crate) protocol: u32,
    pub(crate) address_family: u16,
    pub(crate) provider_id: Guid,
}

pub(crate) type PfnReceiveEvent = unsafe extern "system" fn(
    *mut c_void,
    u32,
    *mut WskDataIndication,
    usize,
    *mut usize,
) -> NtStatus;
pub(crate) type PfnDisconnectEvent = unsafe extern "system" fn(*mut c_void, u32) -> NtStatus;
pub(crate) type PfnSendBacklogEvent = unsafe extern "system" fn(*mut c_void, usize) -> NtStatus;
pub(crate) type PfnAcceptEvent = unsafe extern "system" fn(
    *mut c_void,
    u32,
    *mut c_void,
    *mut c_void,
    *mut WskSocket,
    *mut *mut c_void,
    *mut *const WskClientConnectionDispatch,
) -> NtStatus;
/// The answer is a `WSK_INSPECT_ACTION`.
pub(crate) type PfnInspectEvent =
    unsafe extern "system" fn(*mut c_void, *mut c_void, *mut c_void, *mut WskInspectId) -> u32;
pub(crate) type PfnAbortEvent =
    unsafe extern "system" fn(*mut c_void, *mut WskInspectId) -> NtStatus;
pub(crate) type PfnReceiveFromEvent =
    unsafe extern "system" fn(*mut c_void, u32, *mut WskDatagramIndication) -> NtStatus;

/// `WSK_CLIENT_CONNECTION_DISPATCH`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct WskClientConnectionDispatch {
    pub(crate) receive_event: Option<PfnReceiveEvent>,
    pub(crate) disconnect_event: Option<PfnDisconnectEvent>,
    pub(crate) send_backlog_event: Option<PfnSendBacklogEvent>,
}

/// `WSK_CLIENT_LISTEN_DISPATCH`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct WskClientListenDispatch {
    pub(crate) accept_event: Option<PfnAcceptEvent>,
    pub(crate) inspect_event: Option<PfnInspectEvent>,
    pub(crate) abort_event: Option<PfnAbortEvent>,
}

/// `WSK_CLIENT_DATAGRAM_DISPATCH`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct WskClientDatagramDispatch {
    pub(crate) receive_from_event: Option<PfnReceiveFromEvent>,
}

/// `WSK_PROVIDER_DISPATCH`.
#[repr(C)]
pub(crate) struct WskProviderDispatch {
    pub(crate) version: u16,
    pub(crate) reserved: u16,
    pub(crate) socket: PfnSocket,
    pub(crate) socket_connect: PfnSocketConnect,
    pub(crate) control_client: PfnControlClient,
    pub(crate) get_address_info: PfnGetAddressInfo,
    pub(crate) free_address_info: PfnFreeAddressInfo,
    pub(crate) get_name_info: PfnGetNameInfo,
}

pub(crate) type PfnSocket = unsafe extern "system" fn(
    *mut c_void,
    u16,
    u16,
    u32,
    u32,
    *mut c_void,
    *const c_void,
    *mut c_void,
    *mut c_void,
    *mut c_void,
    *mut Irp,
) -> NtStatus;
pub(crate) type PfnSocketConnect = unsafe extern "system" fn(
    *mut c_void,
    u16,
    u32,
    *mut c_void,
    *mut c_void,
    u32,
    *mut c_void,
    *const WskClientConnectionDispatch,
    *mut c_void,
    *mut c_void,
    *mut c_void,
    *mut Irp,
) -> NtStatus;
pub(crate) type PfnControlClient = unsafe extern "system" fn(
    *mut c_void,
    u32,
    usize,
    *mut c_void,
    usize,
    *mut c_void,
    *mut usize,
    *mut Irp,
) -> NtStatus;
pub(crate) type PfnGetAddressInfo = unsafe extern "system" fn(
    *mut c_void,
    *const UnicodeString,
    *const UnicodeString,
    u32,
    *const Guid,
    *const c_void,
    *mut *mut c_void,
    *mut c_void,
    *mut c_void,
    *mut Irp,
) -> NtStatus;
pub(crate) type PfnFreeAddressInfo = unsafe extern "system" fn(*mut c_void, *mut c_void);
pub(crate) type PfnGetNameInfo = unsafe extern "system" fn(
    *mut c_void,
    *const c_void,
    u32,
    *mut UnicodeString,
    *mut UnicodeString,
    u32,
    *mut c_void,
    *mut c_void,
    *mut Irp,
) -> NtStatus;

pub(crate) type PfnControlSocket = unsafe extern "system" fn(
    *mut WskSocket,
    u32,
    u32,
    u32,
    usize,
    *mut c_void,
    usize,
    *mut c_void,
    *mut usize,
    *mut Irp,
) -> NtStatus;
pub(crate) type PfnCloseSocket = unsafe extern "system" fn(*mut WskSocket, *mut Irp) -> NtStatus;
/// `WskBind`, `WskConnect`: an address, reserved flags, an IRP.
pub(crate) type PfnAddress =
    unsafe extern "system" fn(*mut WskSocket, *mut c_void, u32, *mut Irp) -> NtStatus;
/// `WskGetLocalAddress`, `WskGetRemoteAddress`.
pub(crate) type PfnGetAddress =
    unsafe extern "system" fn(*mut WskSocket, *mut c_void, *mut Irp) -> NtStatus;
/// `WskSend`, `WskReceive`, `WskDisconnect`.
pub(crate) type PfnBuffer =
    unsafe extern "system" fn(*mut WskSocket, *mut WskBuf, u32, *mut Irp) -> NtStatus;
/// `WskRelease` of a connection.
pub(crate) type PfnReleaseData =
    unsafe extern "system" fn(*mut WskSocket, *mut WskDataIndication) -> NtStatus;
/// `WskRelease` of a datagram socket.
pub(crate) type PfnReleaseDatagrams =
    unsafe extern "system" fn(*mut WskSocket, *mut WskDatagramIndication) -> NtStatus;
pub(crate) type PfnAccept = unsafe extern "system" fn(
    *mut WskSocket,
    u32,
    *mut c_void,
    *const WskClientConnectionDispatch,
    *mut c_void,
    *mut c_void,
    *mut Irp,
) -> NtStatus;
pub(crate) type PfnInspectComplete =
    unsafe extern "system" fn(*mut WskSocket, *mut WskInspectId, u32, *mut Irp) -> NtStatus;
pub(crate) type PfnSendTo = unsafe extern "system" fn(
    *mut WskSocket,
    *mut WskBuf,
    u32,
    *mut c_void,
    u32,
    *mut c_void,
    *mut Irp,
) -> NtStatus;
pub(crate) type PfnReceiveFrom = unsafe extern "system" fn(
    *mut WskSocket,
    *mut WskBuf,
    u32,
    *mut c_void,
    *mut u32,
    *mut c_void,
    *mut u32,
    *mut Irp,
) -> NtStatus;
pub(crate) type PfnSendMessages = unsafe extern "system" fn(
    *mut WskSocket,
    *mut WskBufList,
    u32,
    *mut c_void,
    u32,
    *mut c_void,
    *mut Irp,
) -> NtStatus;
pub(crate) type PfnConnectEx =
    unsafe extern "system" fn(*mut WskSocket, *mut c_void, *mut WskBuf, u32, *mut Irp) -> NtStatus;
/// `WskSendEx`, `WskReceiveEx`: with control information.
pub(crate) type PfnSendEx = unsafe extern "system" fn(
    *mut WskSocket,
    *mut WskBuf,
    u32,
    u32,
    *mut c_void,
    *mut Irp,
) -> NtStatus;
pub(crate) type PfnReceiveEx = unsafe extern "system" fn(
    *mut WskSocket,
    *mut WskBuf,
    u32,
    *mut u32,
    *mut c_void,
    *mut u32,
    *mut Irp,
) -> NtStatus;

/// `WSK_INSPECT_ID`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct WskInspectId {
    pub(crate) key: usize,
    pub(crate) serial_number: u32,
}

/// `WSK_PROVIDER_BASIC_DISPATCH`.
#[repr(C)]
pub(crate) struct BasicDispatch {
    pub(crate) control_socket: PfnControlSocket,
    pub(crate) close_socket: PfnCloseSocket,
}

/// `WSK_PROVIDER_CONNECTION_DISPATCH`.
#[repr(C)]
pub(crate) struct ConnectionDispatch {
    pub(crate) basic: BasicDispatch,
    pub(crate) bind: PfnAddress,
    pub(crate) connect: PfnAddress,
    pub(crate) get_local_address: PfnGetAddress,
    pub(crate) get_remote_address: PfnGetAddress,
    pub(crate) send: PfnBuffer,
    pub(crate) receive: PfnBuffer,
    pub(crate) disconnect: PfnBuffer,
    pub(crate) release: PfnReleaseData,
    pub(crate) connect_ex: PfnConnectEx,
    pub(crate) send_ex: PfnSendEx,
    pub(crate) receive_ex: PfnReceiveEx,
}

/// `WSK_PROVIDER_DATAGRAM_DISPATCH`.
#[repr(C)]
pub(crate) struct DatagramDispatch {
    pub(crate) basic: BasicDispatch,
    pub(crate) bind: PfnAddress,
    pub(crate) send_to: PfnSendTo,
    pub(crate) receive_from: PfnReceiveFrom,
    pub(crate) release: PfnReleaseDatagrams,
    pub(crate) get_local_address: PfnGetAddress,
    pub(crate) send_messages: PfnSendMessages,
}

/// `WSK_PROVIDER_LISTEN_DISPATCH`.
#[repr(C)]
pub(crate) struct ListenDispatch {
    pub(crate) basic: BasicDispatch,
    pub(crate) bind: PfnAddress,
    pub(crate) accept: PfnAccept,
    pub(crate) inspect_complete: PfnInspectComplete,
    pub(crate) get_local_address: PfnGetAddress,
}

const _: () = {
    assert!(size_of::<WskClientNpi>() == 16);
    assert!(size_of::<WskClientDispatch>() == 16);
    assert!(offset_of!(WskClientDispatch, client_event) == 8);
    assert!(size_of::<WskRegistration>() == 24);
    assert!(size_of::<WskProviderNpi>() == 16);
    assert!(size_of::<WskProviderCharacteristics>() == 4);
    assert!(size_of::<WskSocket>() == 8);
    assert!(size_of::<WskBuf>() == 24);
    assert!(offset_of!(WskBuf, length) == 16);
    assert!(size_of::<WskDataIndication>() == 32);
    assert!(size_of::<WskDatagramIndication>() == 56);
    assert!(offset_of!(WskDatagramIndication, remote_address) == 48);
    assert!(size_of::<WskEventCallbackControl>() == 16);
    assert!(size_of::<WskTransport>() == 28);
    assert!(offset_of!(WskTransport, provider_id) == 12);
    assert!(size_of::<WskInspectId>() == 16);
    assert!(size_of::<WskClientConnectionDispatch>() == 24);
    assert!(size_of::<WskClientListenDispatch>() == 24);
    assert!(size_of::<WskClientDatagramDispatch>() == 8);
    assert!(size_of::<WskProviderDispatch>() == 56);
    assert!(offset_of!(WskProviderDispatch, socket) == 8);
    assert!(size_of::<BasicDispatch>() == 16);
    assert!(size_of::<ConnectionDispatch>() == 104);
    assert!(offset_of!(ConnectionDispatch, release) == 72);
    assert!(size_of::<DatagramDispatch>() == 64);
    assert!(offset_of!(DatagramDispatch, get_local_address) == 48);
    assert!(size_of::<ListenDispatch>() == 48);
    assert!(offset_of!(ListenDispatch, get_local_address) == 40);
};
