//! Datagram sockets.

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::net::SocketAddr;
use core::ptr::{self, NonNull};

use super::addr::SockAddr;
use super::buf::IoBuffer;
use super::client::Client;
use super::op::{Control, Op};
use super::socket::{self, Category};
use super::sys;
use crate::kernel::log;
use crate::kernel::status::{NtStatus, Result};

const CATEGORY: Category = Category {
    socket_type: sys::SOCK_DGRAM,
    protocol: sys::IPPROTO_UDP,
    flags: sys::WSK_FLAG_DATAGRAM_SOCKET,
};

/// A bound UDP socket. Several operations may be pending at once, each with its
/// own [`Op`], [`IoBuffer`] and [`Peer`].
pub(crate) struct Datagram {
    socket: NonNull<sys::WskSocket>,
    control: Control,
}

// SAFETY: a socket may be used from anywhere; `control` is used by open,
// local_address and close, which the owner calls one at a time.
unsafe impl Sync for Datagram {}
// SAFETY: as above.
unsafe impl Send for Datagram {}

/// Who a datagram is from, and what the transport remarks about it. Stays where
/// it is while an operation is pending.
pub(crate) struct Peer {
    address: UnsafeCell<SockAddr>,
    flags: UnsafeCell<u32>,
}

impl Peer {
    pub(crate) const fn new() -> Self {
        Self {
            address: UnsafeCell::new(SockAddr::EMPTY),
            flags: UnsafeCell::new(0),
        }
    }

    /// What the last datagram was, once its operation has ended.
    ///
    /// # Safety
    /// No operation with this peer is pending.
    pub(crate) unsafe fn last(&self) -> Received {
        // SAFETY: nobody writes while no operation is pending (caller).
        let flags = unsafe { *self.flags.get() };
        // SAFETY: as above.
        let address = unsafe { *self.address.get() };
        Received {
            truncated: flags & sys::MSG_TRUNC != 0,
            to_many: flags & (sys::MSG_BCAST | sys::MSG_MCAST) != 0,
            port: address.port(),
        }
    }
}

/// What is known of a received datagram beside its bytes.
#[derive(Clone, Copy)]
pub(crate) struct Received {
    /// It was longer than the buffer.
    pub(crate) truncated: bool,
    /// It was sent to a broadcast or multicast address.
    pub(crate) to_many: bool,
    /// The port it came from.
    pub(crate) port: u16,
}

impl Datagram {
    /// A socket bound to `address`. `PASSIVE_LEVEL`.
    ///
    /// # Errors
    /// Those of [`Listener::open`](super::Listener::open).
    pub(crate) fn open(client: &Client, address: SocketAddr) -> Result<Self> {
        let control = Control::try_new()?;
        let address = SockAddr::from(address);
        // SAFETY: no context and no callbacks.
        let socket = unsafe {
            socket::open(
                client,
                &control,
                &CATEGORY,
                address.family(),
                ptr::null_mut(),
                ptr::null(),
            )
        }?;
        let datagram = Self { socket, control };
        let bound = datagram
            .table()
            .bind
            .ok_or(NtStatus::NOT_SUPPORTED)
            .and_then(|bind| {
                // SAFETY: an open socket and its own function.
                unsafe { socket::bind(socket, &datagram.control, bind, &address) }
            });
        if let Err(status) = bound {
            // SAFETY: just opened, and no call is in progress.
            unsafe { datagram.close() };
            return Err(status);
        }
        Ok(datagram)
    }

    fn table(&self) -> &sys::WskProviderDatagramDispatch {
        // SAFETY: a datagram socket, open by the conditions of the functions
        // that use it.
        unsafe { socket::table(self.socket) }
    }

    /// Where it receives. `PASSIVE_LEVEL`.
    pub(crate) fn local_address(&self) -> Result<SocketAddr> {
        let get = self
            .table()
            .get_local_address
            .ok_or(NtStatus::NOT_SUPPORTED)?;
        // SAFETY: an open socket and its own function.
        let address = unsafe { socket::local_address(self.socket, &self.control, get) }?;
        SocketAddr::try_from(&address)
    }

    /// Receives one datagram. `Ok` means that `op` will signal, `Err` that
    /// nothing was started. `IRQL <= DISPATCH_LEVEL`.
    ///
    /// # Safety
    /// The socket isn't closed, and isn't being closed; `buffer` and `peer` stay,
    /// untouched by another operation, until `op` has signalled.
    pub(crate) unsafe fn receive_from(
        &self,
        op: &Op,
        buffer: &IoBuffer,
        peer: &Peer,
    ) -> Result<()> {
        let receive_from = self.table().receive_from.ok_or(NtStatus::NOT_SUPPORTED)?;
        let part = buffer.part(0, buffer.len())?;
        let address = peer.address.get();
        let flags = peer.flags.get();
        // SAFETY: no other operation uses this peer (caller).
        unsafe { *flags = 0 };
        op.issue(|irp| {
            // SAFETY: an open socket and its own function; the description, the
            // address and the flags stay until the IRP is completed; control
            // information is not asked for.
            unsafe {
                receive_from(
                    self.socket.as_ptr(),
                    part,
                    0,
                    address.cast::<c_void>(),
                    ptr::null_mut(),
                    ptr::null_mut(),
                    flags,
                    irp,
                )
            };
        })
    }

    /// Sends the first `length` bytes of `buffer` to where `peer` is from. `Ok`
    /// means that `op` will signal, `Err` that nothing was started.
    /// `IRQL <= DISPATCH_LEVEL`.
    ///
    /// # Safety
    /// As [`Datagram::receive_from`].
    pub(crate) unsafe fn send_to(
        &self,
        op: &Op,
        buffer: &IoBuffer,
        length: u32,
        peer: &Peer,
    ) -> Result<()> {
        let send_to = self.table().send_to.ok_or(NtStatus::NOT_SUPPORTED)?;
        let part = buffer.part(0, length)?;
        let address = peer.address.get().cast_const().cast::<c_void>();
        op.issue(|irp| {
            // SAFETY: an open socket and its own function; the description and
            // the address stay until the IRP is completed; no control data.
            unsafe { send_to(self.socket.as_ptr(), part, 0, address, 0, ptr::null(), irp) };
        })
    }

    /// Closes the socket: every pending operation has been completed when this
    /// returns. `PASSIVE_LEVEL`.
    ///
    /// # Safety
    /// Called once; no other call on the socket is in progress or follows.
    pub(crate) unsafe fn close(&self) {
        // SAFETY: open, closed once, no calls in progress (caller).
        let closed = unsafe { socket::close_and_wait(self.socket, &self.control) };
        if let Err(status) = closed {
            log::status(c"closing a datagram socket", status);
        }
    }
}
