//! Datagram sockets.

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::net::SocketAddr;
use core::ptr::{self, NonNull};

use super::addr::SockAddr;
use super::buf::Span;
use super::client::Client;
use super::endpoint::{Endpoint, Own};
use super::irp::Outcome;
use super::op::{Control, Op};
use super::options::{self, Request, Socket};
use super::socket::{self, Category};
use super::sys;
use crate::kernel::status::{NtStatus, Result};

const CATEGORY: Category = Category {
    socket_type: sys::SOCK_DGRAM,
    protocol: sys::IPPROTO_UDP,
    flags: sys::WSK_FLAG_DATAGRAM_SOCKET,
};

/// A UDP socket. Several operations may be pending at once, each with its own
/// [`Op`], memory and [`Peer`]. What is said of [`Stream`](super::Stream) about
/// calls and closing goes for it too.
pub(crate) struct Datagram {
    socket: NonNull<sys::WskSocket>,
}

// SAFETY: a socket may be used from anywhere, several calls at once too; what
// must not meet is a condition of every function.
unsafe impl Sync for Datagram {}
// SAFETY: as above.
unsafe impl Send for Datagram {}

impl Socket for Datagram {
    fn raw(&self) -> Result<NonNull<sys::WskSocket>> {
        Ok(self.socket)
    }
}

/// Who a datagram is from, and what the transport remarks about it. Stays where
/// it is while an operation is pending.
pub(crate) struct Peer {
    address: UnsafeCell<SockAddr>,
    flags: UnsafeCell<u32>,
}

// SAFETY: written by the provider while an operation is pending, read by its
// owner when it has ended (conditions of the functions).
unsafe impl Sync for Peer {}
// SAFETY: as above.
unsafe impl Send for Peer {}

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
            broadcast: flags & sys::MSG_BCAST != 0,
            multicast: flags & sys::MSG_MCAST != 0,
            address,
        }
    }

    /// Where an address may be written while no operation is pending, or by one
    /// that is given this place.
    pub(crate) fn place(&self) -> *mut SockAddr {
        self.address.get()
    }

    /// Where the last datagram came from, for a send back: stays as long as the
    /// peer, and as it is until the next receive.
    pub(crate) fn address(&self) -> *const SockAddr {
        self.address.get().cast_const()
    }
}

/// What is known of a received datagram beside its bytes.
#[derive(Clone, Copy)]
pub(crate) struct Received {
    /// It was longer than the buffer.
    pub(crate) truncated: bool,
    /// It was sent to a broadcast address.
    pub(crate) broadcast: bool,
    /// It was sent to a multicast address.
    pub(crate) multicast: bool,
    /// Where it came from.
    pub(crate) address: SockAddr,
}

impl Endpoint for Datagram {
    unsafe fn own(&self) -> Own {
        let table = self.table();
        Own {
            bind: table.bind,
            local_address: table.get_local_address,
        }
    }
}

impl Datagram {
    /// A socket of the family of `like`, not bound. `PASSIVE_LEVEL`.
    pub(crate) fn open(client: &Client, control: &Control, like: &SocketAddr) -> Result<Self> {
        let family = SockAddr::any(like).family();
        // SAFETY: no context and no callbacks.
        let socket = unsafe {
            socket::open(
                client,
                control,
                &CATEGORY,
                family,
                ptr::null_mut(),
                ptr::null(),
            )
        }?;
        Ok(Self { socket })
    }

    /// Starts to open one; when `op` has ended well, [`Datagram::opened`] has it.
    /// `IRQL <= DISPATCH_LEVEL`.
    pub(crate) fn start_open(client: &Client, op: &Op, like: &SocketAddr) -> Result<()> {
        socket::start_open(client, op, &CATEGORY, SockAddr::any(like).family())
    }

    /// The socket that an operation of [`Datagram::start_open`] has ended with,
    /// to be called once for each.
    pub(crate) fn opened(outcome: Outcome) -> Result<Self> {
        let socket = socket::made_by(outcome.value()?)?;
        Ok(Self { socket })
    }

    fn table(&self) -> &sys::WskProviderDatagramDispatch {
        // SAFETY: a datagram socket, open by the conditions of the functions
        // that use it.
        unsafe { socket::table(self.socket) }
    }

    /// Starts to bind it. `IRQL <= DISPATCH_LEVEL`.
    ///
    /// # Safety
    /// The socket isn't closed; `local` stays as it is until `op` has ended.
    pub(crate) unsafe fn start_bind(&self, op: &Op, local: &SockAddr) -> Result<()> {
        let bind = self.table().bind.ok_or(NtStatus::NOT_SUPPORTED)?;
        op.issue(|irp| {
            let local = ptr::from_ref(local).cast();
            // SAFETY: an open socket and its own function; a SOCKADDR that stays
            // (caller).
            unsafe { bind(self.socket.as_ptr(), local, 0, irp) };
        })
    }

    /// Connects a bound socket: it receives from `remote` only, and sends there
    /// when no address is given. `PASSIVE_LEVEL`.
    ///
    /// # Safety
    /// The socket isn't closed.
    pub(crate) unsafe fn connect(&self, control: &Control, remote: SocketAddr) -> Result<()> {
        let mut address = SockAddr::from(remote);
        let len = address.len();
        let bytes = (&raw mut address).cast::<u8>();
        // SAFETY: the start of a live local, every pattern of whose bytes is
        // valid, and no longer than it.
        let input = unsafe { core::slice::from_raw_parts_mut(bytes, len) };
        let request = Request {
            kind: sys::WSK_IOCTL,
            code: sys::SIO_WSK_SET_REMOTE_ADDRESS,
            level: 0,
        };
        // SAFETY: open (caller).
        unsafe { options::ask(self.socket, control, request, input, &mut []) }.map(|_| ())
    }

    /// Starts to connect it. `IRQL <= DISPATCH_LEVEL`.
    ///
    /// # Safety
    /// The socket isn't closed; `remote` stays as it is until `op` has ended.
    pub(crate) unsafe fn start_connect(&self, op: &Op, remote: &SockAddr) -> Result<()> {
        // SAFETY: every provider table starts with the basic one, and the socket
        // is open.
        let control = unsafe { socket::basic(self.socket).control_socket };
        let control = control.ok_or(NtStatus::NOT_SUPPORTED)?;
        let input = ptr::from_ref(remote).cast_mut().cast::<c_void>();
        op.issue(|irp| {
            // SAFETY: an open socket and its own function; a SOCKADDR of its
            // length that stays (caller) and is only read; no output.
            unsafe {
                control(
                    self.socket.as_ptr(),
                    sys::WSK_IOCTL,
                    sys::SIO_WSK_SET_REMOTE_ADDRESS,
                    0,
                    remote.len(),
                    input,
                    0,
                    ptr::null_mut(),
                    ptr::null_mut(),
                    irp,
                )
            };
        })
    }

    /// Receives one datagram; what doesn't fit is cut off, which `peer` says.
    /// `Ok` means that the end of `op` will be told, `Err` that nothing was
    /// started. `IRQL <= DISPATCH_LEVEL`.
    ///
    /// # Safety
    /// The socket isn't closed, and isn't being closed; the memory of `into` and
    /// `peer` stay, untouched by others, until `op` has ended.
    pub(crate) unsafe fn receive_from(&self, op: &Op, into: Span, peer: &Peer) -> Result<()> {
        let receive_from = self.table().receive_from.ok_or(NtStatus::NOT_SUPPORTED)?;
        let address = peer.address.get();
        let flags = peer.flags.get();
        // SAFETY: no other operation uses this peer (caller).
        unsafe { *flags = 0 };
        op.transfer(into, |part, irp| {
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

    /// Sends one datagram to `to`, or, if that is null, to the address the socket
    /// is connected to. `Ok` means that the end of `op` will be told, `Err` that
    /// nothing was started. `IRQL <= DISPATCH_LEVEL`.
    ///
    /// # Safety
    /// The socket isn't closed, and isn't being closed; the memory of `from`
    /// stays until `op` has ended, and so does `to`: null, or a live address.
    pub(crate) unsafe fn send_to(&self, op: &Op, from: Span, to: *const SockAddr) -> Result<()> {
        let send_to = self.table().send_to.ok_or(NtStatus::NOT_SUPPORTED)?;
        let address = to.cast::<c_void>();
        op.transfer(from, |part, irp| {
            // SAFETY: an open socket and its own function; the description and
            // the address stay until the IRP is completed; no control data.
            unsafe { send_to(self.socket.as_ptr(), part, 0, address, 0, ptr::null(), irp) };
        })
    }
}
