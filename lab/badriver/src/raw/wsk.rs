//! The little of Winsock Kernel that the sins need: functions, dispatch tables
//! by index, structures by offset (wsk.h, x64).

use core::ffi::c_void;

/// A WSK_SOCKET.
pub(crate) type Socket = *mut *const *const c_void;
/// An IRP.
pub(crate) type Irp = *mut c_void;

/// WSK_CLIENT_NPI: context, WSK_CLIENT_DISPATCH.
#[repr(C)]
pub(crate) struct ClientNpi {
    pub(crate) context: *mut c_void,
    pub(crate) dispatch: *const ClientDispatch,
}

/// WSK_CLIENT_DISPATCH, of version 1.0.
#[repr(C)]
pub(crate) struct ClientDispatch {
    pub(crate) version: u16,
    pub(crate) reserved: u16,
    pub(crate) event: usize,
}

/// WSK_PROVIDER_NPI.
#[repr(C)]
pub(crate) struct ProviderNpi {
    pub(crate) client: *mut c_void,
    pub(crate) dispatch: *const *const c_void,
}

/// WSK_BUF.
#[repr(C)]
pub(crate) struct Buf {
    pub(crate) mdl: *mut c_void,
    pub(crate) offset: u32,
    pub(crate) length: usize,
}

/// WSK_BUF_LIST.
#[repr(C)]
pub(crate) struct BufList {
    pub(crate) next: *mut BufList,
    pub(crate) buffer: Buf,
}

/// WSK_INSPECT_ID.
#[repr(C)]
pub(crate) struct InspectId {
    pub(crate) key: usize,
    pub(crate) serial: u32,
}

/// WSK_EVENT_CALLBACK_CONTROL.
#[repr(C)]
pub(crate) struct EventControl {
    pub(crate) npi: *const [u32; 4],
    pub(crate) mask: u32,
}

/// NPI_WSK_INTERFACE_ID.
pub(crate) static NPI: [u32; 4] = [0x2227_E803, 0x11D4_8D8B, 0x9000_ADAB, 0x099E_7127];

pub(crate) const LISTEN: u32 = 1;
pub(crate) const DATAGRAM: u32 = 4;
pub(crate) const EVENT_RECEIVE: u32 = 0x40;
pub(crate) const EVENT_RECEIVE_FROM: u32 = 0x100;

/// Places in WSK_PROVIDER_DISPATCH, in pointers.
pub(crate) mod provider {
    pub(crate) const SOCKET: usize = 1;
}

/// Places in WSK_PROVIDER_DATAGRAM_DISPATCH (and of the functions that every
/// table has in the same place), in pointers.
pub(crate) mod datagram {
    pub(crate) const CONTROL: usize = 0;
    pub(crate) const CLOSE: usize = 1;
    pub(crate) const BIND: usize = 2;
    pub(crate) const SEND_TO: usize = 3;
    pub(crate) const RECEIVE_FROM: usize = 4;
    pub(crate) const RELEASE: usize = 5;
    pub(crate) const LOCAL_ADDRESS: usize = 6;
    pub(crate) const SEND_MESSAGES: usize = 7;
}

/// WskAccept in WSK_PROVIDER_LISTEN_DISPATCH.
pub(crate) const ACCEPT: usize = 3;
/// WskInspectComplete in the same table.
pub(crate) const INSPECT_COMPLETE: usize = 4;

pub(crate) type SocketFn = unsafe extern "system" fn(
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
    Irp,
) -> i32;
pub(crate) type CloseFn = unsafe extern "system" fn(Socket, Irp) -> i32;
pub(crate) type BindFn = unsafe extern "system" fn(Socket, *mut c_void, u32, Irp) -> i32;
pub(crate) type AddressFn = unsafe extern "system" fn(Socket, *mut c_void, Irp) -> i32;
pub(crate) type ReleaseFn = unsafe extern "system" fn(Socket, *mut c_void) -> i32;
pub(crate) type SendToFn =
    unsafe extern "system" fn(Socket, *mut Buf, u32, *mut c_void, u32, *mut c_void, Irp) -> i32;
pub(crate) type ReceiveFromFn = unsafe extern "system" fn(
    Socket,
    *mut Buf,
    u32,
    *mut c_void,
    *mut u32,
    *mut c_void,
    *mut u32,
    Irp,
) -> i32;
pub(crate) type ControlFn = unsafe extern "system" fn(
    Socket,
    u32,
    u32,
    u32,
    usize,
    *mut c_void,
    usize,
    *mut c_void,
    *mut usize,
    Irp,
) -> i32;
pub(crate) type AcceptFn = unsafe extern "system" fn(
    Socket,
    u32,
    *mut c_void,
    *const c_void,
    *mut c_void,
    *mut c_void,
    Irp,
) -> i32;

pub(crate) type InspectCompleteFn =
    unsafe extern "system" fn(Socket, *mut InspectId, u32, Irp) -> i32;
pub(crate) type SendMessagesFn =
    unsafe extern "system" fn(Socket, *mut BufList, u32, *mut c_void, u32, *mut c_void, Irp) -> i32;

/// An IoCompletion routine: device, IRP, context.
pub(crate) type Routine = unsafe extern "system" fn(*mut c_void, Irp, *mut c_void) -> i32;

#[link(name = "lab.sys", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "system" {
    pub(crate) fn WskRegister(npi: *const ClientNpi, registration: *mut [u64; 3]) -> i32;
    pub(crate) fn WskDeregister(registration: *mut [u64; 3]);
    pub(crate) fn WskCaptureProviderNPI(
        registration: *mut [u64; 3],
        wait: u32,
        npi: *mut ProviderNpi,
    ) -> i32;
    pub(crate) fn WskReleaseProviderNPI(registration: *mut [u64; 3]);
}

/// IoSetCompletionRoutine(TRUE, TRUE, TRUE) on an IRP of one stack location
/// that is idle. Both structures are written as words here.
///
/// # Safety
/// The IRP is such a one.
pub(crate) unsafe fn set_routine(irp: Irp, routine: Option<Routine>, context: *mut c_void) {
    let irp = irp.cast::<*mut usize>();
    // Tail.Overlay.CurrentStackLocation; a location has nine words.
    // SAFETY: within the IRP.
    let current = unsafe { irp.wrapping_add(23).read() };
    let next = current.wrapping_sub(9);
    // Control: invoke on success, error and cancellation.
    // SAFETY: the IRP's only stack location.
    unsafe { next.write(0xE0 << 24) };
    let routine = routine.map_or(0, |routine| routine as usize);
    // SAFETY: as above.
    unsafe { next.wrapping_add(7).write(routine) };
    // SAFETY: as above.
    unsafe { next.wrapping_add(8).write(context.expose_provenance()) };
}

/// IoStatus of a completed IRP.
///
/// # Safety
/// The IRP is completed and not freed.
pub(crate) unsafe fn result(irp: Irp) -> (i32, usize) {
    let block = irp.cast::<usize>().wrapping_add(6);
    // SAFETY: within the IRP; the status is the word's lower half.
    let status = unsafe { block.cast::<i32>().read() };
    // SAFETY: as above.
    let information = unsafe { block.wrapping_add(1).read() };
    (status, information)
}
