//! What sockets of every category share, and connections.
//!
//! A socket is a pointer the provider gave out, and no more. It has no `Drop`:
//! closing takes an IRP and time. Whoever opens a socket closes it, by
//! [`close_and_wait`] at `PASSIVE_LEVEL` or by [`Stream::close`].

use core::ffi::c_void;
use core::ptr::NonNull;

use super::addr::SockAddr;
use super::buf::IoBuffer;
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
    let socket = core::ptr::with_exposed_provenance_mut::<sys::WskSocket>(made);
    NonNull::new(socket).ok_or(NtStatus::UNSUCCESSFUL)
}

/// Binds a socket. `PASSIVE_LEVEL`.
///
/// # Safety
/// `socket` is open, and `bind` is from its provider table.
pub(super) unsafe fn bind(
    socket: NonNull<sys::WskSocket>,
    control: &Control,
    bind: sys::WskBindFn,
    address: &SockAddr,
) -> Result<()> {
    let bound = control.run(|irp| {
        let address = core::ptr::from_ref(address).cast::<c_void>();
        // SAFETY: an open socket and its own function; a SOCKADDR of its family
        // that outlives the call, which is waited for; an armed IRP.
        unsafe { bind(socket.as_ptr(), address, 0, irp) };
    });
    bound.map(|_| ()).map_err(why_not_bound)
}

/// The address a bound socket has, the port as it was chosen. `PASSIVE_LEVEL`.
///
/// # Safety
/// `socket` is open, and `get` is from its provider table.
pub(super) unsafe fn local_address(
    socket: NonNull<sys::WskSocket>,
    control: &Control,
    get: sys::WskGetLocalAddressFn,
) -> Result<SockAddr> {
    let mut address = SockAddr::EMPTY;
    control.run(|irp| {
        let address = (&raw mut address).cast::<c_void>();
        // SAFETY: an open socket and its own function; room for the address of
        // either family on a kernel stack (which isn't paged out while a thread
        // waits in kernel mode on a KernelMode wait); an armed IRP, waited for.
        unsafe { get(socket.as_ptr(), address, irp) };
    })?;
    Ok(address)
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
unsafe fn basic<'a>(socket: NonNull<sys::WskSocket>) -> &'a sys::WskProviderBasicDispatch {
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

/// A connected stream socket. Each function starts one operation and returns;
/// `Ok` means that the [`Op`]'s signal will come, `Err` that nothing was
/// started. None of them may run at the same time as [`Stream::close`], and
/// none may follow it: the tasks of the pump see to that by being one at a time.
pub(crate) struct Stream {
    socket: NonNull<sys::WskSocket>,
}

impl Stream {
    pub(super) fn new(socket: NonNull<sys::WskSocket>) -> Self {
        Self { socket }
    }

    /// Receives what there is, at most the whole of `buffer`; 0 bytes mean that
    /// the peer has shut its side down. `IRQL <= DISPATCH_LEVEL`.
    ///
    /// # Safety
    /// The socket isn't closed; `buffer` stays, untouched by another operation,
    /// until `op` has signalled.
    pub(crate) unsafe fn receive(&self, op: &Op, buffer: &IoBuffer) -> Result<()> {
        // SAFETY: an open connection, whose table this is.
        let table = unsafe { table::<sys::WskProviderConnectionDispatch>(self.socket) };
        let receive = table.receive.ok_or(NtStatus::NOT_SUPPORTED)?;
        let part = buffer.part(0, buffer.len())?;
        op.issue(|irp| {
            // SAFETY: an open connection and its own function; a description of
            // locked memory that stays until the IRP is completed; no flags.
            unsafe { receive(self.socket.as_ptr(), part, 0, irp) };
        })
    }

    /// Sends `length` bytes of `buffer` from `offset`. `IRQL <= DISPATCH_LEVEL`.
    ///
    /// # Safety
    /// As [`Stream::receive`].
    pub(crate) unsafe fn send(
        &self,
        op: &Op,
        buffer: &IoBuffer,
        offset: u32,
        length: u32,
    ) -> Result<()> {
        // SAFETY: an open connection, whose table this is.
        let table = unsafe { table::<sys::WskProviderConnectionDispatch>(self.socket) };
        let send = table.send.ok_or(NtStatus::NOT_SUPPORTED)?;
        let part = buffer.part(offset, length)?;
        op.issue(|irp| {
            // SAFETY: as in receive.
            unsafe { send(self.socket.as_ptr(), part, 0, irp) };
        })
    }

    /// Shuts our side down, after all that was sent. Ends when the transport
    /// has carried that out. `IRQL <= DISPATCH_LEVEL`.
    ///
    /// # Safety
    /// The socket isn't closed.
    pub(crate) unsafe fn disconnect(&self, op: &Op) -> Result<()> {
        // SAFETY: an open connection, whose table this is.
        let table = unsafe { table::<sys::WskProviderConnectionDispatch>(self.socket) };
        let disconnect = table.disconnect.ok_or(NtStatus::NOT_SUPPORTED)?;
        op.issue(|irp| {
            // SAFETY: an open connection and its own function; no last data and
            // no flags: a graceful disconnect.
            unsafe { disconnect(self.socket.as_ptr(), core::ptr::null(), 0, irp) };
        })
    }

    /// Closes the socket: the provider completes every other operation that is
    /// pending on it, and resets the connection unless both sides have shut it
    /// down. `IRQL <= DISPATCH_LEVEL`.
    ///
    /// # Safety
    /// The socket isn't closed, and no call on it is in progress or follows.
    pub(crate) unsafe fn close(&self, op: &Op) -> Result<()> {
        // SAFETY: an open socket.
        let table = unsafe { basic(self.socket) };
        let close = table.close_socket.ok_or(NtStatus::NOT_SUPPORTED)?;
        op.issue(|irp| {
            // SAFETY: an open socket, closed once, with its own function.
            unsafe { close(self.socket.as_ptr(), irp) };
        })
    }
}
