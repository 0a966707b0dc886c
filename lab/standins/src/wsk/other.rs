//! A second opinion: Wine's own `netio.sys` in place of this provider.
//!
//! With `"wsk": {"provider": "wine"}` in `lab.json` the driver's calls go to
//! Wine's implementation as they are, IRPs and buffers included, and come back
//! from its threads. Wine 8 has TCP over IPv4: making, binding, connecting,
//! `WskAccept`, sending, receiving, closing, and `WskGetAddressInfo`. What it has
//! as empty functions that never complete their IRP is put in their places here,
//! with Winsock on Wine's own socket: options, addresses, `WskDisconnect`,
//! `WskInspectComplete` (not supported), `WskControlClient`. What is missing
//! altogether stays so: datagrams, IPv6, event callbacks, cancelling, MDL chains,
//! more than ten requests of a socket at a time; a name is taken to be a
//! terminated string, which a UNICODE_STRING need not be. None of this provider's rules
//! is checked of what Wine does itself; faults are not injected.

use super::irp::Request;
use super::status;
use super::types::{
    BasicDispatch, ConnectionDispatch, Irp, ListenDispatch, NtStatus, SO_WSK_EVENT_CALLBACK,
    WSK_FLAG_ABORTIVE, WSK_FLAG_CONNECTION_SOCKET, WSK_FLAG_LISTEN_SOCKET, WSK_GET_OPTION,
    WSK_SET_OPTION, WskBuf, WskClientNpi, WskInspectId, WskProviderDispatch, WskProviderNpi,
    WskRegistration, WskSocket,
};
use crate::core::config;
use crate::nt::irp::{IoAllocateIrp, IoFreeIrp};
use crate::nt::types::{DEVICE_OBJECT, IRP, sl, status as nt};
use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::OnceLock;
use windows_sys::Win32::Networking::WinSock as ws;
use windows_sys::Win32::System::LibraryLoader::{GetProcAddress, LoadLibraryA};
use windows_sys::Win32::System::Memory::{PAGE_READWRITE, VirtualProtect};

type Register = unsafe extern "system" fn(*mut WskClientNpi, *mut WskRegistration) -> NtStatus;
type Capture =
    unsafe extern "system" fn(*mut WskRegistration, u32, *mut WskProviderNpi) -> NtStatus;
type Release = unsafe extern "system" fn(*mut WskRegistration);

type Export = unsafe extern "system" fn() -> isize;

/// Wine's exports.
#[derive(Clone, Copy)]
pub(super) struct Other {
    pub(super) register: Register,
    pub(super) deregister: Release,
    pub(super) release: Release,
    capture: Capture,
}

/// Wine's provider, where the configuration says so and Wine has one.
pub(super) fn provider() -> Option<&'static Other> {
    static OTHER: OnceLock<Option<Other>> = OnceLock::new();
    let asked = config::get().extra.get("wsk")?.get("provider")? == "wine";
    asked.then(|| OTHER.get_or_init(load).as_ref())?
}

fn load() -> Option<Other> {
    let path = c"C:\\windows\\system32\\drivers\\netio.sys";
    // SAFETY: a terminated string.
    let module = unsafe { LoadLibraryA(path.as_ptr().cast()) };
    if module.is_null() {
        return None;
    }
    // SAFETY: a loaded module and a terminated name.
    let find = |name: &std::ffi::CStr| unsafe { GetProcAddress(module, name.as_ptr().cast()) };
    let (register, deregister) = (find(c"WskRegister")?, find(c"WskDeregister")?);
    let (capture, release) = (
        find(c"WskCaptureProviderNPI")?,
        find(c"WskReleaseProviderNPI")?,
    );
    Some(Other {
        // SAFETY: the documented types of these exports.
        register: unsafe { std::mem::transmute::<Export, Register>(register) },
        // SAFETY: as above.
        deregister: unsafe { std::mem::transmute::<Export, Release>(deregister) },
        // SAFETY: as above.
        capture: unsafe { std::mem::transmute::<Export, Capture>(capture) },
        // SAFETY: as above.
        release: unsafe { std::mem::transmute::<Export, Release>(release) },
    })
}

impl Other {
    /// `WskCaptureProviderNPI`, and what Wine lacks put in its places.
    ///
    /// # Safety
    /// As the function of that name.
    pub(super) unsafe fn capture(
        &self,
        registration: *mut WskRegistration,
        wait: u32,
        npi: *mut WskProviderNpi,
    ) -> NtStatus {
        // SAFETY: as the caller's.
        let captured = unsafe { (self.capture)(registration, wait, npi) };
        if status::is_success(captured) {
            static ONCE: std::sync::Once = std::sync::Once::new();
            // SAFETY: filled in just now.
            let npi = unsafe { &*npi };
            ONCE.call_once(|| fill_in(npi));
        }
        captured
    }
}

/// A completion routine that leaves the IRP to whoever waits for it.
unsafe extern "system" fn ended(_: *mut DEVICE_OBJECT, _: *mut IRP, _: *mut c_void) -> i32 {
    nt::MORE_PROCESSING_REQUIRED
}

/// Replaces an entry of one of Wine's tables.
fn put<T>(place: *const T, entry: T) {
    let (mut before, size) = (0, size_of::<T>());
    // SAFETY: memory of a loaded module, made writable for the while.
    unsafe { VirtualProtect(place.cast(), size, PAGE_READWRITE, &mut before) };
    // SAFETY: writable now; nobody calls through it yet.
    unsafe { place.cast_mut().write(entry) };
    // SAFETY: as it was.
    unsafe { VirtualProtect(place.cast(), size, before, &mut before) };
}

/// The table of Wine's sockets of a category: of one made to look at it.
fn table_of(npi: &WskProviderNpi, flags: u32) -> Option<(*mut WskSocket, *const c_void)> {
    let irp = IoAllocateIrp(1, 0);
    if irp.is_null() {
        return None;
    }
    // SAFETY: a fresh IRP: one past its only stack location.
    let next = unsafe { (*irp).CurrentStackLocation }.wrapping_sub(1);
    // SAFETY: its only stack location.
    let next = unsafe { &mut *next };
    next.CompletionRoutine = Some(ended);
    next.Control = sl::INVOKE_ON_SUCCESS | sl::INVOKE_ON_ERROR | sl::INVOKE_ON_CANCEL;
    let none = null_mut();
    // SAFETY: Wine's table.
    let make = unsafe { (*npi.dispatch).socket };
    // SAFETY: as documented. Wine completes it within the call.
    unsafe {
        make(
            npi.client,
            super::types::AF_INET,
            super::types::SOCK_STREAM,
            super::types::IPPROTO_TCP,
            flags,
            none,
            std::ptr::null(),
            none,
            none,
            none,
            irp,
        )
    };
    // SAFETY: completed.
    let made = unsafe { (*irp).IoStatus.Information };
    IoFreeIrp(irp);
    let socket = std::ptr::with_exposed_provenance_mut::<WskSocket>(made);
    // SAFETY: null, or a socket made just now.
    let table = unsafe { socket.as_ref() }?.dispatch;
    Some((socket, table))
}

fn fill_in(npi: &WskProviderNpi) {
    let provider = npi.dispatch.cast_mut();
    // SAFETY: the field of a table, not read.
    put(
        unsafe { &raw const (*provider).control_client },
        control_client,
    );
    if let Some((socket, table)) = table_of(npi, WSK_FLAG_CONNECTION_SOCKET) {
        let table = table.cast::<ConnectionDispatch>();
        // SAFETY: fields of the table, not read.
        put(
            unsafe { &raw const (*table).basic.control_socket },
            control_socket,
        );
        // SAFETY: as above.
        put(
            unsafe { &raw const (*table).get_local_address },
            get_local_address,
        );
        // SAFETY: as above.
        put(
            unsafe { &raw const (*table).get_remote_address },
            get_remote_address,
        );
        // SAFETY: as above.
        put(unsafe { &raw const (*table).disconnect }, disconnect);
        close(socket);
    }
    if let Some((socket, table)) = table_of(npi, WSK_FLAG_LISTEN_SOCKET) {
        let table = table.cast::<ListenDispatch>();
        // SAFETY: fields of the table, not read.
        put(
            unsafe { &raw const (*table).basic.control_socket },
            control_socket,
        );
        // SAFETY: as above.
        put(
            unsafe { &raw const (*table).get_local_address },
            get_local_address,
        );
        // SAFETY: as above.
        put(
            unsafe { &raw const (*table).inspect_complete },
            inspect_complete,
        );
        close(socket);
    }
    crate::core::event_log(serde_json::json!({ "event": "wsk", "provider": "wine" }));
}

fn close(socket: *mut WskSocket) {
    let irp = IoAllocateIrp(1, 0);
    // SAFETY: a socket of ours.
    let table = unsafe { (*socket).dispatch }.cast::<BasicDispatch>();
    // SAFETY: every table begins so.
    let close = unsafe { (*table).close_socket };
    if irp.is_null() {
        return;
    }
    // SAFETY: a fresh IRP: one past its only stack location.
    let next = unsafe { (*irp).CurrentStackLocation }.wrapping_sub(1);
    // SAFETY: its only stack location.
    let next = unsafe { &mut *next };
    next.CompletionRoutine = Some(ended);
    next.Control = sl::INVOKE_ON_SUCCESS | sl::INVOKE_ON_ERROR | sl::INVOKE_ON_CANCEL;
    // SAFETY: as documented; Wine completes it within the call.
    unsafe { close(socket, irp) };
    IoFreeIrp(irp);
}

/// The Winsock socket in Wine's, which follows the public part.
///
/// # Safety
/// A socket of Wine's.
unsafe fn winsock(socket: *mut WskSocket) -> ws::SOCKET {
    // SAFETY: Wine 8's `struct wsk_socket_internal`.
    unsafe { socket.cast::<ws::SOCKET>().wrapping_add(1).read() }
}

/// Completes an IRP of the client's, if there is one.
fn answer(name: &'static str, irp: *mut Irp, status: NtStatus, information: usize) -> NtStatus {
    if !irp.is_null() {
        let request = Request::take(name, irp);
        request.set_pending(false);
        request.complete(status, information, super::engine::level());
    }
    status
}

fn last_error() -> NtStatus {
    // SAFETY: reads this thread's last socket error.
    match unsafe { ws::WSAGetLastError() } {
        ws::WSAENOTCONN => status::INVALID_CONNECTION,
        ws::WSAECONNRESET => status::CONNECTION_RESET,
        ws::WSAEINVAL | ws::WSAENOPROTOOPT => status::INVALID_PARAMETER,
        _ => status::NOT_SUPPORTED,
    }
}

unsafe extern "system" fn control_client(
    _client: *mut c_void,
    _code: u32,
    _input_size: usize,
    _input: *mut c_void,
    _output_size: usize,
    _output: *mut c_void,
    _returned: *mut usize,
    irp: *mut Irp,
) -> NtStatus {
    answer("WskControlClient", irp, status::NOT_SUPPORTED, 0)
}

unsafe extern "system" fn control_socket(
    socket: *mut WskSocket,
    request: u32,
    code: u32,
    level: u32,
    input_size: usize,
    input: *mut c_void,
    output_size: usize,
    output: *mut c_void,
    _returned: *mut usize,
    irp: *mut Irp,
) -> NtStatus {
    const NAME: &str = "WskControlSocket";
    // SAFETY: a socket of Wine's.
    let host = unsafe { winsock(socket) };
    let (level, name) = (level.cast_signed(), code.cast_signed());
    let event = level == ws::SOL_SOCKET && code == SO_WSK_EVENT_CALLBACK;
    let mut len = output_size as i32;
    let done = match request {
        _ if event => return answer(NAME, irp, status::NOT_SUPPORTED, 0),
        // SAFETY: the client's value, of this size.
        WSK_SET_OPTION => unsafe {
            ws::setsockopt(host, level, name, input.cast(), input_size as i32)
        },
        // SAFETY: the client's memory, of this size.
        WSK_GET_OPTION => unsafe { ws::getsockopt(host, level, name, output.cast(), &mut len) },
        _ => return answer(NAME, irp, status::NOT_SUPPORTED, 0),
    };
    let status = if done == 0 {
        status::SUCCESS
    } else {
        last_error()
    };
    let bytes = if request == WSK_GET_OPTION && done == 0 {
        usize::try_from(len).unwrap_or(0)
    } else {
        0
    };
    answer(NAME, irp, status, bytes)
}

unsafe extern "system" fn get_local_address(
    socket: *mut WskSocket,
    address: *mut c_void,
    irp: *mut Irp,
) -> NtStatus {
    // SAFETY: as the caller's.
    unsafe { get_address("WskGetLocalAddress", ws::getsockname, socket, address, irp) }
}

unsafe extern "system" fn get_remote_address(
    socket: *mut WskSocket,
    address: *mut c_void,
    irp: *mut Irp,
) -> NtStatus {
    // SAFETY: as the caller's.
    unsafe { get_address("WskGetRemoteAddress", ws::getpeername, socket, address, irp) }
}

/// Asks Winsock for one of a socket's addresses.
///
/// # Safety
/// A socket of Wine's, and room for an address of its family.
unsafe fn get_address(
    name: &'static str,
    ask: unsafe extern "system" fn(ws::SOCKET, *mut ws::SOCKADDR, *mut i32) -> i32,
    socket: *mut WskSocket,
    address: *mut c_void,
    irp: *mut Irp,
) -> NtStatus {
    let mut len = size_of::<ws::SOCKADDR_IN>() as i32;
    // SAFETY: the caller's.
    let host = unsafe { winsock(socket) };
    // SAFETY: an open socket, and the caller's room.
    let done = unsafe { ask(host, address.cast(), &mut len) };
    let status = if done == 0 {
        status::SUCCESS
    } else {
        last_error()
    };
    answer(name, irp, status, 0)
}

/// Without data: Wine would have to send it first.
unsafe extern "system" fn disconnect(
    socket: *mut WskSocket,
    buffer: *mut WskBuf,
    flags: u32,
    irp: *mut Irp,
) -> NtStatus {
    const NAME: &str = "WskDisconnect";
    if !buffer.is_null() {
        return answer(NAME, irp, status::NOT_SUPPORTED, 0);
    }
    // SAFETY: a socket of Wine's.
    let host = unsafe { winsock(socket) };
    let how = if flags & WSK_FLAG_ABORTIVE != 0 {
        ws::SD_BOTH
    } else {
        ws::SD_SEND
    };
    // SAFETY: plain numbers.
    let done = unsafe { ws::shutdown(host, how) };
    let status = if done == 0 {
        status::SUCCESS
    } else {
        last_error()
    };
    answer(NAME, irp, status, 0)
}

unsafe extern "system" fn inspect_complete(
    _socket: *mut WskSocket,
    _id: *mut WskInspectId,
    _action: u32,
    irp: *mut Irp,
) -> NtStatus {
    answer("WskInspectComplete", irp, status::NOT_SUPPORTED, 0)
}

const _: () = assert!(size_of::<WskProviderDispatch>() == 56);
