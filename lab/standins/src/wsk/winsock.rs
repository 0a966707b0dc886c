//! The host's sockets, as the provider uses them: overlapped Winsock sockets
//! on one completion port. Under Wine they are the host's own.
//!
//! Everything here returns Winsock error numbers; [`super::status`] turns them
//! into NTSTATUS at the one place that needs it.

use super::addr::{MAX_LEN, RawAddr};
use super::types::{AF_INET6, IPPROTO_TCP};
use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::OnceLock;
use windows_sys::Win32::Foundation::{CloseHandle, HANDLE, INVALID_HANDLE_VALUE};
use windows_sys::Win32::Networking::WinSock as ws;
use windows_sys::Win32::Storage::FileSystem::SetFileCompletionNotificationModes;
use windows_sys::Win32::System::IO::{
    CancelIoEx, CreateIoCompletionPort, GetQueuedCompletionStatus, OVERLAPPED,
    PostQueuedCompletionStatus,
};

/// `FILE_SKIP_COMPLETION_PORT_ON_SUCCESS`: what succeeds at once queues no
/// packet, so that the caller may choose where it completes.
const SKIP_PACKET_ON_SUCCESS: u8 = 1;
/// `FILE_SKIP_SET_EVENT_ON_HANDLE`.
const SKIP_EVENT: u8 = 2;
/// Bytes `AcceptEx` wants for each of its two addresses.
pub(super) const ACCEPT_ADDRESS: usize = MAX_LEN + 16;

/// How an overlapped call came back.
pub(super) enum Started {
    /// Done, so many bytes; no packet will come.
    Done(u32),
    /// A packet will come to the completion port.
    Pending,
    /// It failed at once; no packet will come.
    Failed(i32),
}

/// A completion port.
pub(super) struct Port(HANDLE);

// SAFETY: a completion port handle may be used from any thread.
unsafe impl Send for Port {}
// SAFETY: as above; the calls on it are atomic in the system.
unsafe impl Sync for Port {}

/// A packet taken from a port.
pub(super) struct Packet {
    pub(super) key: usize,
    pub(super) bytes: u32,
    pub(super) overlapped: *mut OVERLAPPED,
}

impl Port {
    pub(super) fn new() -> Option<Self> {
        // SAFETY: creating a new port; no handle goes in.
        let port = unsafe { CreateIoCompletionPort(INVALID_HANDLE_VALUE, null_mut(), 0, 0) };
        (!port.is_null()).then_some(Self(port))
    }

    /// Waits for the next packet.
    pub(super) fn wait(&self) -> Option<Packet> {
        let (mut bytes, mut key, mut overlapped) = (0, 0, null_mut());
        // SAFETY: the three locals outlive the call. FALSE with an OVERLAPPED
        // is a failed operation, whose status is in the OVERLAPPED.
        unsafe {
            GetQueuedCompletionStatus(self.0, &mut bytes, &mut key, &mut overlapped, u32::MAX)
        };
        (!overlapped.is_null()).then_some(Packet {
            key,
            bytes,
            overlapped,
        })
    }

    /// Queues a packet of our own.
    pub(super) fn post(&self, key: usize, overlapped: *mut OVERLAPPED) -> bool {
        // SAFETY: the port is open; the pointer is only handed through.
        let posted = unsafe { PostQueuedCompletionStatus(self.0, 0, key, overlapped) };
        posted != 0
    }
}

fn last_error() -> i32 {
    // SAFETY: reads this thread's last socket error.
    unsafe { ws::WSAGetLastError() }
}

fn check(result: i32) -> Result<(), i32> {
    if result == 0 {
        Ok(())
    } else {
        Err(last_error())
    }
}

/// Starts Winsock, once.
pub(super) fn startup() -> Result<(), i32> {
    static DONE: OnceLock<i32> = OnceLock::new();
    let result = *DONE.get_or_init(|| {
        let mut data = std::mem::MaybeUninit::<ws::WSADATA>::zeroed();
        // SAFETY: version 2.2 and a WSADATA to fill in.
        unsafe { ws::WSAStartup(0x0202, data.as_mut_ptr()) }
    });
    if result == 0 { Ok(()) } else { Err(result) }
}

/// A new overlapped socket on `port`, with Windows' default of IPv6 only.
pub(super) fn socket(
    port: &Port,
    key: usize,
    family: u16,
    kind: u16,
    protocol: u32,
) -> Result<ws::SOCKET, i32> {
    startup()?;
    // SAFETY: plain numbers; no protocol information, no group.
    let socket = unsafe {
        ws::WSASocketW(
            i32::from(family),
            i32::from(kind),
            protocol.cast_signed(),
            null(),
            0,
            ws::WSA_FLAG_OVERLAPPED | ws::WSA_FLAG_NO_HANDLE_INHERIT,
        )
    };
    if socket == ws::INVALID_SOCKET {
        return Err(last_error());
    }
    let handle = std::ptr::with_exposed_provenance_mut::<c_void>(socket);
    // SAFETY: both handles are open.
    let associated = unsafe { CreateIoCompletionPort(handle, port.0, key, 0) };
    // SAFETY: the handle is open.
    let modes =
        unsafe { SetFileCompletionNotificationModes(handle, SKIP_PACKET_ON_SUCCESS | SKIP_EVENT) };
    if associated.is_null() || modes == 0 {
        close(socket);
        return Err(ws::WSAENOBUFS);
    }
    if family == AF_INET6 {
        let _ = set_option(
            socket,
            ws::IPPROTO_IPV6,
            ws::IPV6_V6ONLY,
            &1u32.to_ne_bytes(),
        );
    }
    Ok(socket)
}

pub(super) fn close(socket: ws::SOCKET) {
    // SAFETY: the caller owns the socket and gives it up.
    unsafe { ws::closesocket(socket) };
}

/// Closes with a reset instead of an orderly end.
pub(super) fn close_abortive(socket: ws::SOCKET) {
    // struct linger { on, 0 seconds }
    let _ = set_option(socket, ws::SOL_SOCKET, ws::SO_LINGER, &[1, 0, 0, 0]);
    close(socket);
}

/// Binds. Wine lets a UDP socket have an address that is not the host's;
/// Windows does not, so whether it is one is asked of TCP, where Wine knows.
pub(super) fn bind(socket: ws::SOCKET, address: RawAddr) -> Result<(), i32> {
    let ip = address.ip();
    if !ip.is_unspecified() && !ip.is_multicast() {
        let mut any_port = address.to_std();
        any_port.set_port(0);
        std::net::TcpListener::bind(any_port)
            .map_err(|e| e.raw_os_error().unwrap_or(ws::WSAEADDRNOTAVAIL))?;
    }
    // SAFETY: the address is a whole SOCKADDR of its length.
    check(unsafe { ws::bind(socket, address.as_ptr().cast(), address.len() as i32) })
}

/// SOMAXCONN of winsock2.h: as many as the system can. (The bindings' constant
/// is winsock.h's, 5.)
const BACKLOG: i32 = i32::MAX;

pub(super) fn listen(socket: ws::SOCKET) -> Result<(), i32> {
    // SAFETY: plain numbers.
    check(unsafe { ws::listen(socket, BACKLOG) })
}

/// The end of sending.
pub(super) fn shutdown_send(socket: ws::SOCKET) -> Result<(), i32> {
    // SAFETY: plain numbers.
    check(unsafe { ws::shutdown(socket, ws::SD_SEND) })
}

pub(super) fn local_address(socket: ws::SOCKET) -> Result<RawAddr, i32> {
    let mut bytes = [0u8; 128];
    let mut len = 128;
    // SAFETY: 128 writable bytes and their number.
    check(unsafe { ws::getsockname(socket, bytes.as_mut_ptr().cast(), &mut len) })?;
    RawAddr::from_bytes(&bytes).ok_or(ws::WSAEAFNOSUPPORT)
}

pub(super) fn remote_address(socket: ws::SOCKET) -> Result<RawAddr, i32> {
    let mut bytes = [0u8; 128];
    let mut len = 128;
    // SAFETY: 128 writable bytes and their number.
    check(unsafe { ws::getpeername(socket, bytes.as_mut_ptr().cast(), &mut len) })?;
    RawAddr::from_bytes(&bytes).ok_or(ws::WSAEAFNOSUPPORT)
}

/// Whether a connection whose receive found its end was in truth reset.
///
/// Under Wine a reset that comes while nothing is received is noticed, and
/// forgotten, before the next receive, which then finds an orderly end. But a
/// reset connection has no other side any more; one that ended has.
pub(super) fn was_reset(socket: ws::SOCKET) -> bool {
    matches!(remote_address(socket), Err(ws::WSAENOTCONN))
}

pub(super) fn set_option(
    socket: ws::SOCKET,
    level: i32,
    name: i32,
    value: &[u8],
) -> Result<(), i32> {
    let len = i32::try_from(value.len()).map_err(|_| ws::WSAEINVAL)?;
    // SAFETY: `value` is readable for its length.
    check(unsafe { ws::setsockopt(socket, level, name, value.as_ptr(), len) })
}

/// Reads an option into `value`; the number of bytes there are.
pub(super) fn get_option(
    socket: ws::SOCKET,
    level: i32,
    name: i32,
    value: &mut [u8],
) -> Result<usize, i32> {
    let mut len = i32::try_from(value.len()).map_err(|_| ws::WSAEINVAL)?;
    // SAFETY: `value` is writable for its length.
    check(unsafe { ws::getsockopt(socket, level, name, value.as_mut_ptr(), &mut len) })?;
    Ok(usize::try_from(len).unwrap_or(0))
}

/// Cancels one overlapped operation, or all of a socket's with `None`.
pub(super) fn cancel(socket: ws::SOCKET, overlapped: Option<*mut OVERLAPPED>) {
    let handle = std::ptr::with_exposed_provenance_mut::<c_void>(socket);
    let which = overlapped.unwrap_or(null_mut());
    // SAFETY: the handle is open; the OVERLAPPED, if any, is alive since its
    // operation's owner holds it. Finding nothing to cancel is no harm.
    unsafe { CancelIoEx(handle, which) };
}

fn started(result: i32, bytes: u32) -> Started {
    if result == 0 {
        return Started::Done(bytes);
    }
    match last_error() {
        ws::WSA_IO_PENDING => Started::Pending,
        error => Started::Failed(error),
    }
}

/// `WSASend`.
///
/// # Safety
/// The buffers and the OVERLAPPED must stay until the operation is done.
pub(super) unsafe fn send(
    socket: ws::SOCKET,
    buffers: &[ws::WSABUF],
    overlapped: *mut OVERLAPPED,
) -> Started {
    let mut bytes = 0;
    // SAFETY: the caller keeps buffers and OVERLAPPED; the array of WSABUFs
    // itself is copied by the call.
    let result = unsafe {
        ws::WSASend(
            socket,
            buffers.as_ptr(),
            buffers.len() as u32,
            &mut bytes,
            0,
            overlapped,
            None,
        )
    };
    started(result, bytes)
}

/// `WSARecv`; `peek` leaves the data where it is.
///
/// # Safety
/// The buffers, `flags` and the OVERLAPPED must stay until the operation is
/// done.
pub(super) unsafe fn receive(
    socket: ws::SOCKET,
    buffers: &[ws::WSABUF],
    flags: *mut u32,
    overlapped: *mut OVERLAPPED,
) -> Started {
    let mut bytes = 0;
    // SAFETY: the caller keeps buffers, flags and OVERLAPPED.
    let result = unsafe {
        ws::WSARecv(
            socket,
            buffers.as_ptr(),
            buffers.len() as u32,
            &mut bytes,
            flags,
            overlapped,
            None,
        )
    };
    started(result, bytes)
}

/// `WSASendTo`.
///
/// # Safety
/// The buffers and the OVERLAPPED must stay until the operation is done.
pub(super) unsafe fn send_to(
    socket: ws::SOCKET,
    buffers: &[ws::WSABUF],
    to: RawAddr,
    overlapped: *mut OVERLAPPED,
) -> Started {
    let mut bytes = 0;
    // SAFETY: the caller keeps buffers and OVERLAPPED; the address is copied
    // by the call.
    let result = unsafe {
        ws::WSASendTo(
            socket,
            buffers.as_ptr(),
            buffers.len() as u32,
            &mut bytes,
            0,
            to.as_ptr().cast(),
            to.len() as i32,
            overlapped,
            None,
        )
    };
    started(result, bytes)
}

/// Where `WSARecvFrom` writes besides the data.
pub(super) struct FromOut {
    pub(super) address: [u8; 128],
    pub(super) address_len: i32,
    pub(super) flags: u32,
}

impl FromOut {
    pub(super) const fn new() -> Self {
        Self {
            address: [0; 128],
            address_len: 128,
            flags: 0,
        }
    }
}

/// `WSARecvFrom`.
///
/// # Safety
/// The buffers, `out` and the OVERLAPPED must stay until the operation is
/// done.
pub(super) unsafe fn receive_from(
    socket: ws::SOCKET,
    buffers: &[ws::WSABUF],
    out: *mut FromOut,
    overlapped: *mut OVERLAPPED,
) -> Started {
    let mut bytes = 0;
    // SAFETY: the caller keeps `out`.
    let flags = unsafe { &raw mut (*out).flags };
    // SAFETY: as above.
    let address = unsafe { &raw mut (*out).address };
    // SAFETY: as above.
    let address_len = unsafe { &raw mut (*out).address_len };
    // SAFETY: the caller keeps buffers, out-values and OVERLAPPED.
    let result = unsafe {
        ws::WSARecvFrom(
            socket,
            buffers.as_ptr(),
            buffers.len() as u32,
            &mut bytes,
            flags,
            address.cast(),
            address_len,
            overlapped,
            None,
        )
    };
    started(result, bytes)
}

/// `AcceptEx` without first data.
///
/// # Safety
/// `buffer` (twice [`ACCEPT_ADDRESS`] bytes) and the OVERLAPPED must stay
/// until the operation is done.
pub(super) unsafe fn accept(
    listener: ws::SOCKET,
    into: ws::SOCKET,
    buffer: *mut u8,
    overlapped: *mut OVERLAPPED,
) -> Started {
    let mut bytes = 0;
    // SAFETY: the caller keeps buffer and OVERLAPPED; both sockets are open.
    let accepted = unsafe {
        ws::AcceptEx(
            listener,
            into,
            buffer.cast(),
            0,
            ACCEPT_ADDRESS as u32,
            ACCEPT_ADDRESS as u32,
            &mut bytes,
            overlapped,
        )
    };
    started(if accepted == 0 { -1 } else { 0 }, bytes)
}

/// Makes an accepted socket a full one; the two addresses of its connection.
pub(super) fn accepted(
    listener: ws::SOCKET,
    socket: ws::SOCKET,
) -> Result<(RawAddr, RawAddr), i32> {
    let _ = set_option(
        socket,
        ws::SOL_SOCKET,
        ws::SO_UPDATE_ACCEPT_CONTEXT,
        &listener.to_ne_bytes(),
    );
    Ok((local_address(socket)?, remote_address(socket)?))
}

type ConnectEx = unsafe extern "system" fn(
    ws::SOCKET,
    *const ws::SOCKADDR,
    i32,
    *const c_void,
    u32,
    *mut u32,
    *mut OVERLAPPED,
) -> i32;

fn connect_ex(socket: ws::SOCKET) -> Result<ConnectEx, i32> {
    static FUNCTION: OnceLock<ConnectEx> = OnceLock::new();
    if let Some(function) = FUNCTION.get() {
        return Ok(*function);
    }
    let mut function: Option<ConnectEx> = None;
    let which = ws::WSAID_CONNECTEX;
    let mut bytes = 0;
    // SAFETY: the IOCTL reads the GUID and writes one function pointer, for
    // which `Option<fn>` is the documented equivalent of a nullable pointer.
    check(unsafe {
        ws::WSAIoctl(
            socket,
            ws::SIO_GET_EXTENSION_FUNCTION_POINTER,
            (&raw const which).cast(),
            size_of::<windows_sys::core::GUID>() as u32,
            (&raw mut function).cast(),
            size_of::<usize>() as u32,
            &mut bytes,
            null_mut(),
            None,
        )
    })?;
    let function = function.ok_or(ws::WSAEOPNOTSUPP)?;
    Ok(*FUNCTION.get_or_init(|| function))
}

/// `ConnectEx`, on a bound socket.
///
/// # Safety
/// The OVERLAPPED must stay until the operation is done.
pub(super) unsafe fn connect(
    socket: ws::SOCKET,
    to: RawAddr,
    overlapped: *mut OVERLAPPED,
) -> Started {
    let function = match connect_ex(socket) {
        Ok(function) => function,
        Err(error) => return Started::Failed(error),
    };
    let mut bytes = 0;
    // SAFETY: the function came from Winsock for this purpose; the address is
    // copied by the call, the caller keeps the OVERLAPPED.
    let connected = unsafe {
        function(
            socket,
            to.as_ptr().cast(),
            to.len() as i32,
            null(),
            0,
            &mut bytes,
            overlapped,
        )
    };
    started(if connected == 0 { -1 } else { 0 }, bytes)
}

/// After a successful [`connect`].
pub(super) fn connected(socket: ws::SOCKET) {
    let _ = set_option(socket, ws::SOL_SOCKET, ws::SO_UPDATE_CONNECT_CONTEXT, &[]);
}

/// Bytes that wait to be received.
pub(super) fn receive_backlog(socket: ws::SOCKET) -> Result<usize, i32> {
    let mut available = 0;
    // SAFETY: FIONREAD writes one u32.
    check(unsafe { ws::ioctlsocket(socket, ws::FIONREAD, &mut available) })?;
    Ok(available as usize)
}

/// True for TCP.
pub(super) const fn is_tcp(protocol: u32) -> bool {
    protocol == IPPROTO_TCP
}

impl Drop for Port {
    fn drop(&mut self) {
        // SAFETY: the port is open and this is its only owner.
        unsafe { CloseHandle(self.0) };
    }
}
