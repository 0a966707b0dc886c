//! The provider against a client that keeps every rule, over the host's own
//! sockets: what it is told and what comes out at the other end.
//!
//! (That broken rules are found is shown by a driver that breaks them.)

mod controls;
mod events;
mod inspect;
mod stream;
mod udp;

use super::engine;
use super::registration::{
    WskCaptureProviderNPI, WskDeregister, WskRegister, WskReleaseProviderNPI,
};
use super::status;
use super::types::*;
use crate::nt::irp::{IoAllocateIrp, IoFreeIrp};
use crate::nt::mdl::{IoAllocateMdl, IoFreeMdl, MmBuildMdlForNonPagedPool};
use crate::nt::types::{DEVICE_OBJECT, IRP, MDL, sl, status as nt};
use std::ffi::c_void;
use std::net::SocketAddr;
use std::ptr::{null, null_mut};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

/// Clients come one at a time: what is injected, and what is left over, is
/// the whole process's.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    engine::lock(&ALONE)
}

/// An IRP, and what became of it.
pub(super) struct Request {
    irp: *mut IRP,
    done: Box<Done>,
}

#[derive(Default)]
struct Done {
    result: Mutex<Option<(NtStatus, usize)>>,
    changed: Condvar,
}

unsafe extern "system" fn completed(
    _device: *mut DEVICE_OBJECT,
    irp: *mut IRP,
    context: *mut c_void,
) -> i32 {
    // SAFETY: the context is the Done of a Request, which waits for this.
    let done = unsafe { &*context.cast::<Done>() };
    // SAFETY: completed: the IRP is the client's again.
    let block = unsafe { (*irp).IoStatus };
    let before = engine::lock(&done.result).replace((block.Status, block.Information));
    assert!(before.is_none(), "an IRP completed twice");
    done.changed.notify_all();
    nt::MORE_PROCESSING_REQUIRED
}

impl Request {
    pub(super) fn new() -> Self {
        let irp = IoAllocateIrp(1, 0);
        let done = Box::<Done>::default();
        // SAFETY: a fresh IRP: one past its only stack location.
        let next = unsafe { (*irp).CurrentStackLocation }.wrapping_sub(1);
        // SAFETY: its only stack location.
        let next = unsafe { &mut *next };
        next.CompletionRoutine = Some(completed);
        next.Context = (&raw const *done).cast_mut().cast();
        next.Control = sl::INVOKE_ON_SUCCESS | sl::INVOKE_ON_ERROR | sl::INVOKE_ON_CANCEL;
        Self { irp, done }
    }

    pub(super) fn irp(&self) -> *mut IRP {
        self.irp
    }

    pub(super) fn is_done(&self) -> bool {
        engine::lock(&self.done.result).is_some()
    }

    /// Waits for the completion: status and information.
    pub(super) fn wait(&self) -> (NtStatus, usize) {
        let result = engine::lock(&self.done.result);
        let (result, timeout) = self
            .done
            .changed
            .wait_timeout_while(result, PATIENCE, |result| result.is_none())
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        assert!(!timeout.timed_out(), "an IRP was not completed");
        result.unwrap_or((status::PENDING, 0))
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        IoFreeIrp(self.irp);
    }
}

/// Makes a call and waits for its end; the returned status has to agree.
pub(super) fn call(f: impl FnOnce(*mut IRP) -> NtStatus) -> (NtStatus, usize) {
    let request = Request::new();
    let returned = f(request.irp());
    let (status, information) = request.wait();
    assert!(
        returned == status::PENDING || returned == status,
        "returned {returned:#x}, completed with {status:#x}"
    );
    (status, information)
}

/// Memory with an MDL.
pub(super) struct Memory {
    pub(super) bytes: Box<[u8]>,
    mdl: *mut MDL,
    buf: Box<WskBuf>,
}

impl Memory {
    pub(super) fn new(content: &[u8]) -> Self {
        let mut bytes: Box<[u8]> = content.into();
        let mdl = IoAllocateMdl(
            bytes.as_mut_ptr().cast(),
            bytes.len() as u32,
            0,
            0,
            null_mut(),
        );
        MmBuildMdlForNonPagedPool(mdl);
        let buf = Box::new(WskBuf {
            mdl,
            offset: 0,
            length: content.len(),
        });
        Self { bytes, mdl, buf }
    }

    pub(super) fn buf(&mut self) -> *mut WskBuf {
        &raw mut *self.buf
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        IoFreeMdl(self.mdl);
    }
}

/// The bytes a WSK_BUF describes, wherever its MDLs have them.
///
/// # Safety
/// It describes live memory.
pub(super) unsafe fn bytes_of(buffer: &WskBuf) -> Vec<u8> {
    let mut data = Vec::new();
    let (mut mdl, mut skip) = (buffer.mdl, buffer.offset as usize);
    let mut left = buffer.length;
    while left > 0 {
        // SAFETY: as long as there are bytes there is an MDL for them.
        let now = unsafe { &*mdl };
        let start = crate::nt::mdl::system_address(mdl).wrapping_add(skip);
        let part = left.min(now.ByteCount as usize - skip);
        // SAFETY: what the MDL describes.
        data.extend_from_slice(unsafe { std::slice::from_raw_parts(start, part) });
        (left, skip, mdl) = (left - part, 0, now.Next);
    }
    data
}

/// A registered client with the provider captured.
pub(super) struct Client {
    registration: Box<WskRegistration>,
    _dispatch: Box<WskClientDispatch>,
    npi: WskProviderNpi,
}

impl Client {
    pub(super) fn new() -> Self {
        let dispatch = Box::new(WskClientDispatch {
            version: WSK_VERSION_1_0,
            reserved: 0,
            client_event: null(),
        });
        let mut client_npi = WskClientNpi {
            client_context: null_mut(),
            dispatch: &raw const *dispatch,
        };
        let mut registration = Box::new(WskRegistration {
            state: 0,
            context: null_mut(),
            lock: 0,
        });
        // SAFETY: both live; the registration stays until Drop.
        let registered = unsafe { WskRegister(&raw mut client_npi, &raw mut *registration) };
        assert_eq!(registered, status::SUCCESS);
        let mut npi = WskProviderNpi {
            client: null_mut(),
            dispatch: null(),
        };
        // SAFETY: registered just now.
        let captured =
            unsafe { WskCaptureProviderNPI(&raw mut *registration, WSK_NO_WAIT, &mut npi) };
        assert_eq!(captured, status::SUCCESS);
        Self {
            registration,
            _dispatch: dispatch,
            npi,
        }
    }

    fn dispatch(&self) -> &'static WskProviderDispatch {
        // SAFETY: the provider's table never goes away.
        unsafe { &*self.npi.dispatch }
    }

    pub(super) fn handle(&self) -> *mut c_void {
        self.npi.client
    }

    /// Makes a socket.
    pub(super) fn socket(
        &self,
        v6: bool,
        flags: u32,
        context: *mut c_void,
        table: *const c_void,
    ) -> *mut WskSocket {
        let (kind, protocol) = if flags == WSK_FLAG_DATAGRAM_SOCKET {
            (SOCK_DGRAM, IPPROTO_UDP)
        } else {
            (SOCK_STREAM, IPPROTO_TCP)
        };
        let family = if v6 { AF_INET6 } else { AF_INET };
        let (status, socket) = call(|irp| {
            // SAFETY: WskSocket as documented.
            unsafe {
                (self.dispatch().socket)(
                    self.handle(),
                    family,
                    kind,
                    protocol,
                    flags,
                    context,
                    table,
                    null_mut(),
                    null_mut(),
                    null_mut(),
                    irp,
                )
            }
        });
        assert_eq!(status, status::SUCCESS);
        std::ptr::with_exposed_provenance_mut(socket)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let registration = &raw mut *self.registration;
        // SAFETY: captured once, released once.
        unsafe { WskReleaseProviderNPI(registration) };
        // SAFETY: registered once; a test that leaves a socket open is found
        // out here.
        unsafe { WskDeregister(registration) };
        let mut npi = WskProviderNpi {
            client: null_mut(),
            dispatch: null(),
        };
        // SAFETY: "can be called after WskDeregister ... only if the block is
        // not freed or overwritten".
        let late = unsafe { WskCaptureProviderNPI(registration, WSK_INFINITE_WAIT, &mut npi) };
        assert_eq!(late, status::DEVICE_NOT_READY);
    }
}

const WSK_INFINITE_WAIT: u32 = u32::MAX;

/// A SOCKADDR for a call.
pub(super) fn sockaddr(address: SocketAddr) -> [u8; 28] {
    let mut bytes = [0; 28];
    bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
    match address {
        SocketAddr::V4(v4) => {
            bytes[..2].copy_from_slice(&AF_INET.to_ne_bytes());
            bytes[4..8].copy_from_slice(&v4.ip().octets());
        }
        SocketAddr::V6(v6) => {
            bytes[..2].copy_from_slice(&AF_INET6.to_ne_bytes());
            bytes[8..24].copy_from_slice(&v6.ip().octets());
        }
    }
    bytes
}

/// A SOCKADDR from a call.
pub(super) fn address(bytes: &[u8]) -> SocketAddr {
    match super::addr::RawAddr::from_bytes(bytes) {
        Some(address) => address.to_std(),
        None => panic!("no address in {bytes:?}"),
    }
}

pub(super) fn loopback(v6: bool) -> SocketAddr {
    let text = if v6 { "[::1]:0" } else { "127.0.0.1:0" };
    text.parse().unwrap_or_else(|_| panic!("{text}"))
}

/// Makes the other side's socket (of Winsock) end with a reset.
pub(super) fn reset_on_close(socket: usize) {
    use windows_sys::Win32::Networking::WinSock as ws;
    let linger = [1u8, 0, 0, 0];
    // SAFETY: an open socket and a struct linger.
    unsafe { ws::setsockopt(socket, ws::SOL_SOCKET, ws::SO_LINGER, linger.as_ptr(), 4) };
}

/// The host's side of a connection must find it reset.
pub(super) fn assert_reset(host: &mut std::net::TcpStream) {
    use std::io::{ErrorKind, Read};
    match host.read(&mut [0; 4]) {
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        // Wine notices, and forgets, a reset between two receives; but a reset
        // connection has no other side.
        Ok(bytes) => {
            let peer = host.peer_addr().map_err(|error| error.kind());
            assert_eq!((bytes, peer), (0, Err(ErrorKind::NotConnected)));
        }
    }
}

/// Connects to who refuses: the reset comes after connect has returned, or before.
pub(super) fn assert_refused(at: std::net::SocketAddr) {
    use std::io::ErrorKind;
    match std::net::TcpStream::connect(at) {
        Ok(mut host) => {
            let _ = host.set_read_timeout(Some(PATIENCE));
            assert_reset(&mut host);
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

/// The dispatch table of an open socket, of the category the caller knows.
pub(super) fn table_of<T>(socket: *mut WskSocket) -> &'static T {
    // SAFETY: an open socket.
    let table = unsafe { (*socket).dispatch };
    // SAFETY: tables never go away; the caller knows the type.
    unsafe { &*table.cast() }
}

fn basic(socket: *mut WskSocket) -> &'static BasicDispatch {
    table_of(socket)
}

pub(super) fn close(socket: *mut WskSocket) {
    // SAFETY: an open socket, not used any more.
    let closed = call(|irp| unsafe { (basic(socket).close_socket)(socket, irp) });
    assert_eq!(closed.0, status::SUCCESS);
}

/// Binds with the function of the socket's own table; where it is bound.
pub(super) fn bind_with(
    bind: PfnAddress,
    local: PfnGetAddress,
    socket: *mut WskSocket,
    to: SocketAddr,
) -> Result<SocketAddr, NtStatus> {
    let mut bytes = sockaddr(to);
    // SAFETY: WskBind as documented.
    let (status, _) = call(|irp| unsafe { bind(socket, bytes.as_mut_ptr().cast(), 0, irp) });
    if status != status::SUCCESS {
        return Err(status);
    }
    // SAFETY: WskGetLocalAddress as documented.
    let (status, _) = call(|irp| unsafe { local(socket, bytes.as_mut_ptr().cast(), irp) });
    assert_eq!(status, status::SUCCESS);
    Ok(address(&bytes))
}

/// Sets an option of four bytes.
pub(super) fn set_option(socket: *mut WskSocket, level: i32, code: i32, value: u32) -> NtStatus {
    let mut value = value;
    let set = call(|irp| {
        // SAFETY: WskControlSocket as documented.
        unsafe {
            (basic(socket).control_socket)(
                socket,
                WSK_SET_OPTION,
                code.cast_unsigned(),
                level.cast_unsigned(),
                4,
                (&raw mut value).cast(),
                0,
                null_mut(),
                null_mut(),
                irp,
            )
        }
    });
    set.0
}

/// Enables (or, with WSK_EVENT_DISABLE, disables) event callbacks.
pub(super) fn events(socket: *mut WskSocket, mask: u32) -> NtStatus {
    let npi = NPI_WSK_INTERFACE_ID;
    let mut control = WskEventCallbackControl {
        npi_id: &raw const npi,
        event_mask: mask,
    };
    // SAFETY: SO_WSK_EVENT_CALLBACK as documented, without an IRP.
    unsafe {
        (basic(socket).control_socket)(
            socket,
            WSK_SET_OPTION,
            SO_WSK_EVENT_CALLBACK,
            windows_sys::Win32::Networking::WinSock::SOL_SOCKET.cast_unsigned(),
            size_of::<WskEventCallbackControl>(),
            (&raw mut control).cast(),
            0,
            null_mut(),
            null_mut(),
            null_mut(),
        )
    }
}
