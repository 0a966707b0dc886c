//! What sockets of every category share.
//!
//! A socket is a pointer the provider gave out, and no more. It has no `Drop`:
//! closing takes an IRP and time. Whoever opens a socket closes it, by
//! [`close_and_wait`] at `PASSIVE_LEVEL` or by [`start_close`].

use core::ffi::c_void;
use core::net::SocketAddr;
use core::ptr::NonNull;

use super::addr::SockAddr;
use super::client::Client;
use super::op::{Control, Op};
use super::sys;
use crate::kernel::status::{NtStatus, Result};

/// What `WskSocket` needs to know of a category of sockets.
pub(super) struct Category {
    pub(super) socket_type: u16,
    pub(super) protocol: u32,
    pub(super) flags: u32,
}

/// Opens a socket. `PASSIVE_LEVEL`.
///
/// # Safety
/// `context` and `dispatch` (null, or the client dispatch table of this
/// category) are good until the socket has been closed.
pub(super) unsafe fn open(
    client: &Client,
    control: &Control,
    category: &Category,
    address_family: u16,
    context: *mut c_void,
    dispatch: *const c_void,
) -> Result<NonNull<sys::WskSocket>> {
    let socket = client.socket_fn()?;
    let handle = client.handle();
    let made = control.run(|irp| {
        // SAFETY: the captured provider's function and client; constants of
        // wsk.h; context and dispatch as promised by the caller; no process,
        // thread or descriptor; an armed IRP that is waited for. What it returns
        // is in the IRP too.
        unsafe {
            socket(
                handle,
                address_family,
                category.socket_type,
                category.protocol,
                category.flags,
                context,
                dispatch,
                core::ptr::null_mut(),
                core::ptr::null_mut(),
                core::ptr::null_mut(),
                irp,
            )
        };
    })?;
    made_by(made)
}

/// The socket that a call has left in the information of its IRP.
pub(super) fn made_by(information: usize) -> Result<NonNull<sys::WskSocket>> {
    let socket = core::ptr::with_exposed_provenance_mut::<sys::WskSocket>(information);
    NonNull::new(socket).ok_or(NtStatus::UNSUCCESSFUL)
}

/// Starts to open a socket without callbacks; [`made_by`] has it when `op` has
/// ended well. `IRQL <= DISPATCH_LEVEL`.
pub(super) fn start_open(
    client: &Client,
    op: &Op,
    category: &Category,
    address_family: u16,
) -> Result<()> {
    let socket = client.socket_fn()?;
    let handle = client.handle();
    op.issue(|irp| {
        // SAFETY: the captured provider's function and client; constants of
        // wsk.h; no context, callbacks, process, thread or descriptor; an armed
        // IRP.
        unsafe {
            socket(
                handle,
                address_family,
                category.socket_type,
                category.protocol,
                category.flags,
                core::ptr::null_mut(),
                core::ptr::null(),
                core::ptr::null_mut(),
                core::ptr::null_mut(),
                core::ptr::null_mut(),
                irp,
            )
        };
    })
}

/// Binds a socket. `PASSIVE_LEVEL`.
///
/// # Safety
/// `socket` is open, and `bind` is from its provider table.
pub(super) unsafe fn bind(
    socket: NonNull<sys::WskSocket>,
    control: &Control,
    bind: Option<sys::WskBindFn>,
    address: &SockAddr,
) -> Result<()> {
    let bind = bind.ok_or(NtStatus::NOT_SUPPORTED)?;
    let bound = control.run(|irp| {
        let address = core::ptr::from_ref(address).cast::<c_void>();
        // SAFETY: an open socket and its own function; a SOCKADDR of its family
        // that outlives the call, which is waited for; an armed IRP.
        unsafe { bind(socket.as_ptr(), address, 0, irp) };
    });
    bound.map(|_| ()).map_err(why_not_bound)
}

/// What a socket's own or peer's address is, the port as it was chosen.
/// `PASSIVE_LEVEL`.
///
/// # Safety
/// `socket` is open, and `get` is from its provider table.
pub(super) unsafe fn address(
    socket: NonNull<sys::WskSocket>,
    control: &Control,
    get: Option<sys::WskGetAddressFn>,
) -> Result<SocketAddr> {
    let get = get.ok_or(NtStatus::NOT_SUPPORTED)?;
    let mut address = SockAddr::EMPTY;
    control.run(|irp| {
        let address = (&raw mut address).cast::<c_void>();
        // SAFETY: an open socket and its own function; room for the address of
        // either family on a kernel stack (which isn't paged out while a thread
        // waits in kernel mode on a KernelMode wait); an armed IRP, waited for.
        unsafe { get(socket.as_ptr(), address, irp) };
    })?;
    SocketAddr::try_from(&address)
}

/// Closes a socket and waits until that is done: all its pending operations
/// have been completed by then, and its callbacks have returned.
/// `PASSIVE_LEVEL`.
///
/// # Safety
/// `socket` is open; no call to its functions is in progress or comes after.
pub(super) unsafe fn close_and_wait(
    socket: NonNull<sys::WskSocket>,
    control: &Control,
) -> Result<()> {
    // SAFETY: every provider table starts with the basic one, and the socket is
    // open.
    let close = unsafe { basic(socket).close_socket }.ok_or(NtStatus::NOT_SUPPORTED)?;
    let closed = control.run(|irp| {
        // SAFETY: an open socket, closed once; an armed IRP, waited for.
        unsafe { close(socket.as_ptr(), irp) };
    });
    closed.map(|_| ())
}

/// Starts to close a socket: the provider completes every other operation that
/// is pending on it. `IRQL <= DISPATCH_LEVEL`.
///
/// # Safety
/// `socket` is open; no call to its functions is in progress or comes after.
pub(super) unsafe fn start_close(socket: NonNull<sys::WskSocket>, op: &Op) -> Result<()> {
    // SAFETY: every provider table starts with the basic one, and the socket is
    // open.
    let close = unsafe { basic(socket).close_socket }.ok_or(NtStatus::NOT_SUPPORTED)?;
    op.issue(|irp| {
        // SAFETY: an open socket, closed once, with its own function.
        unsafe { close(socket.as_ptr(), irp) };
    })
}

/// Turns on the event callbacks in `mask`. `IRQL <= DISPATCH_LEVEL`.
///
/// # Safety
/// `socket` is open and bound, and was opened with a dispatch table that has
/// these callbacks.
pub(super) unsafe fn enable_events(socket: NonNull<sys::WskSocket>, mask: u32) -> Result<()> {
    // SAFETY: every provider table starts with the basic one, and the socket is
    // open.
    let control = unsafe { basic(socket).control_socket }.ok_or(NtStatus::NOT_SUPPORTED)?;
    let mut events = sys::WskEventCallbackControl {
        npi_id: &raw const sys::NPI_WSK_INTERFACE_ID,
        event_mask: mask,
    };
    // SAFETY: enabling takes no IRP and is done when the call returns; the input
    // is of the size stated, and there is no output.
    let status = unsafe {
        control(
            socket.as_ptr(),
            sys::WSK_SET_OPTION,
            sys::SO_WSK_EVENT_CALLBACK,
            sys::SOL_SOCKET,
            size_of::<sys::WskEventCallbackControl>(),
            (&raw mut events).cast::<c_void>(),
            0,
            core::ptr::null_mut(),
            core::ptr::null_mut(),
            core::ptr::null_mut(),
        )
    };
    NtStatus(status).into_result()
}

/// The start of a socket's provider table.
///
/// # Safety
/// `socket` is open, and stays so for as long as the table is used.
pub(super) unsafe fn basic<'a>(
    socket: NonNull<sys::WskSocket>,
) -> &'a sys::WskProviderBasicDispatch {
    // SAFETY: all provider tables begin with the basic one.
    unsafe { table(socket) }
}

/// A socket's provider table.
///
/// # Safety
/// `socket` is open, and `T` is the table of its category, or what it starts
/// with. The table is used only while the socket is open.
pub(super) unsafe fn table<'a, T>(socket: NonNull<sys::WskSocket>) -> &'a T {
    // SAFETY: an open socket; the provider fills in its table when it makes it.
    let dispatch = unsafe { (*socket.as_ptr()).dispatch };
    // SAFETY: tables are constant, and of the type the caller states.
    unsafe { &*dispatch.cast::<T>() }
}

/// What the driver's contract says of an address that can't be bound, whichever
/// of its statuses the transport has for that.
fn why_not_bound(status: NtStatus) -> NtStatus {
    match status {
        NtStatus::ADDRESS_ALREADY_EXISTS
        | NtStatus::SHARING_VIOLATION
        | NtStatus::ADDRESS_ALREADY_ASSOCIATED
        | NtStatus::ACCESS_DENIED => NtStatus::ADDRESS_ALREADY_EXISTS,
        NtStatus::INVALID_ADDRESS | NtStatus::INVALID_ADDRESS_COMPONENT => {
            NtStatus::INVALID_ADDRESS
        }
        other => other,
    }
}
