//! Stream sockets: those that connect, and those a listener has accepted.

use core::net::SocketAddr;
use core::ptr::{self, NonNull};

use super::addr::SockAddr;
use super::buf::Span;
use super::client::Client;
use super::endpoint::{Endpoint, Own};
use super::events::{Ear, Retained};
use super::irp::Outcome;
use super::op::{Control, Op};
use super::options::Socket;
use super::socket::{self, Category};
use super::sys;
use crate::kernel::status::{NtStatus, Result};

const CATEGORY: Category = Category {
    socket_type: sys::SOCK_STREAM,
    protocol: sys::IPPROTO_TCP,
    flags: sys::WSK_FLAG_CONNECTION_SOCKET,
};

/// A stream socket. Functions that take an [`Op`] start one operation and
/// return; `Ok` means that its end will be told, `Err` that nothing was started.
/// Several may be pending at once, each with its own `Op`; those of one
/// direction are carried out in the order of the calls.
///
/// None of its functions may run at the same time as the one that closes it, and
/// none may follow that: a task of the pump sees to it by being the only caller,
/// anybody else by a rundown that is held for each call and waited for before
/// closing. It has no `Drop`.
pub(crate) struct Stream {
    socket: NonNull<sys::WskSocket>,
}

// SAFETY: a socket may be used from anywhere, several calls at once too; what
// must not meet is said above, and is a condition of every function.
unsafe impl Sync for Stream {}
// SAFETY: as above.
unsafe impl Send for Stream {}

impl Socket for Stream {
    fn raw(&self) -> Result<NonNull<sys::WskSocket>> {
        Ok(self.socket)
    }
}

impl Endpoint for Stream {
    unsafe fn own(&self) -> Own {
        let table = self.table();
        Own {
            bind: table.bind,
            local_address: table.get_local_address,
        }
    }
}

impl Stream {
    pub(super) fn new(socket: NonNull<sys::WskSocket>) -> Self {
        Self { socket }
    }

    /// A socket of the family of `like`, neither bound nor connected.
    /// `PASSIVE_LEVEL`.
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

    /// Starts to make a socket of the family of `remote`, bound to any local
    /// address and connected to `remote`, in one call. When `op` has ended well,
    /// [`Stream::connected`] has it. `ear` is who is told of its events, once they
    /// are enabled. `IRQL <= DISPATCH_LEVEL`.
    ///
    /// # Safety
    /// `remote` and `local` (the wildcard of the same family, or an address of
    /// this machine) stay as they are until `op` has ended.
    pub(crate) unsafe fn start_connected(
        client: &Client,
        op: &Op,
        local: &SockAddr,
        remote: &SockAddr,
        ear: Ear,
    ) -> Result<()> {
        let connect = client.table()?.socket_connect;
        let connect = connect.ok_or(NtStatus::NOT_SUPPORTED)?;
        let handle = client.handle();
        op.issue(|irp| {
            // SAFETY: the captured provider's function and client; SOCKADDRs of
            // one family that stay (caller); context and callbacks that fit each
            // other (Ear); no flags, process, thread or descriptor.
            unsafe {
                connect(
                    handle,
                    CATEGORY.socket_type,
                    CATEGORY.protocol,
                    ptr::from_ref(local).cast(),
                    ptr::from_ref(remote).cast(),
                    0,
                    ear.context,
                    ear.dispatch,
                    ptr::null_mut(),
                    ptr::null_mut(),
                    ptr::null_mut(),
                    irp,
                )
            };
        })
    }

    /// The socket that an operation of [`Stream::start_connected`] has ended with,
    /// to be called once for each.
    pub(crate) fn connected(outcome: Outcome) -> Result<Self> {
        let socket = socket::made_by(outcome.value()?)?;
        Ok(Self { socket })
    }

    fn table(&self) -> &sys::WskProviderConnectionDispatch {
        // SAFETY: a connection, open by the conditions of the functions that use
        // it.
        unsafe { socket::table(self.socket) }
    }

    /// Connects a bound socket. Cancellable, as are receives and sends.
    /// `IRQL <= DISPATCH_LEVEL`.
    ///
    /// # Safety
    /// The socket isn't closed; `remote` stays as it is until `op` has ended.
    pub(crate) unsafe fn connect(&self, op: &Op, remote: &SockAddr) -> Result<()> {
        let connect = self.table().connect.ok_or(NtStatus::NOT_SUPPORTED)?;
        op.issue(|irp| {
            let remote = ptr::from_ref(remote).cast();
            // SAFETY: an open socket and its own function; a SOCKADDR that stays
            // (caller).
            unsafe { connect(self.socket.as_ptr(), remote, 0, irp) };
        })
    }

    /// Its peer's address, once connected. `PASSIVE_LEVEL`.
    ///
    /// # Safety
    /// The socket isn't closed.
    pub(crate) unsafe fn remote_address(&self, control: &Control) -> Result<SocketAddr> {
        // SAFETY: an open socket and its own function.
        unsafe { socket::address(self.socket, control, self.table().get_remote_address) }
    }

    /// Receives what there is, at most all of `into`; 0 bytes mean that the peer
    /// has shut its side down. A cancelled receive that has data ends with the
    /// data. `IRQL <= DISPATCH_LEVEL`.
    ///
    /// # Safety
    /// The socket isn't closed; the memory of `into` stays, untouched by others,
    /// until `op` has ended.
    pub(crate) unsafe fn receive(&self, op: &Op, into: Span) -> Result<()> {
        let receive = self.table().receive.ok_or(NtStatus::NOT_SUPPORTED)?;
        op.transfer(into, |part, irp| {
            // SAFETY: an open connection and its own function; a description of
            // locked memory that stays until the IRP is completed; no flags.
            unsafe { receive(self.socket.as_ptr(), part, 0, irp) };
        })
    }

    /// Has whoever was named when it was made told of its events from here on. They
    /// may come before this returns. What came before this may not be told: the
    /// next receive gets it. `IRQL <= DISPATCH_LEVEL`.
    ///
    /// # Safety
    /// The socket isn't closed, is connected, and was made with an [`Ear`] that
    /// isn't [`Ear::NONE`].
    pub(crate) unsafe fn listen(&self) -> Result<()> {
        let events = sys::WSK_EVENT_RECEIVE | sys::WSK_EVENT_DISCONNECT;
        // SAFETY: open, connected, and made with these callbacks (caller).
        unsafe { socket::enable_events(self.socket, events) }
    }

    /// Receives until the peer's side is shut down or the connection has failed,
    /// and throws away what comes: ends with the reason, or with no bytes.
    /// `IRQL <= DISPATCH_LEVEL`.
    ///
    /// # Safety
    /// The socket isn't closed.
    pub(crate) unsafe fn drain(&self, op: &Op) -> Result<()> {
        let receive = self.table().receive.ok_or(NtStatus::NOT_SUPPORTED)?;
        op.without_data(|nothing, irp| {
            // SAFETY: an open connection and its own function; a description of no
            // memory, as this flag wants it, that stays until the IRP is completed.
            unsafe { receive(self.socket.as_ptr(), nothing, sys::WSK_FLAG_DRAIN, irp) };
        })
    }

    /// Gives back what was retained. `IRQL <= DISPATCH_LEVEL`, and not from a
    /// completion routine.
    ///
    /// # Safety
    /// The socket isn't closed, and is the one the data came from; no call that was
    /// given a part of them is pending.
    pub(crate) unsafe fn release(&self, retained: Retained) -> Result<()> {
        let Some(release) = self.table().release else {
            // It can't be given back, and says so when it is dropped.
            return Err(NtStatus::NOT_SUPPORTED);
        };
        let list = retained.into_list();
        // SAFETY: an open connection and its own function; a list that its receive
        // event has retained, given back once.
        let status = unsafe { release(self.socket.as_ptr(), list.as_ptr()) };
        NtStatus(status).into_result()
    }

    /// Sends all of `from`. `IRQL <= DISPATCH_LEVEL`.
    ///
    /// # Safety
    /// As [`Stream::receive`].
    pub(crate) unsafe fn send(&self, op: &Op, from: Span) -> Result<()> {
        let send = self.table().send.ok_or(NtStatus::NOT_SUPPORTED)?;
        op.transfer(from, |part, irp| {
            // SAFETY: as in receive.
            unsafe { send(self.socket.as_ptr(), part, 0, irp) };
        })
    }

    /// Shuts our side down, after all that was sent: a FIN. Ends when the
    /// transport has carried that out. `IRQL <= DISPATCH_LEVEL`.
    ///
    /// # Safety
    /// The socket isn't closed.
    pub(crate) unsafe fn disconnect(&self, op: &Op) -> Result<()> {
        // SAFETY: the caller's.
        unsafe { self.end(op, 0) }
    }

    /// Resets the connection: what is pending ends with an error, what was sent
    /// and hasn't arrived is lost. `IRQL <= DISPATCH_LEVEL`.
    ///
    /// # Safety
    /// The socket isn't closed.
    pub(crate) unsafe fn abort(&self, op: &Op) -> Result<()> {
        // SAFETY: the caller's.
        unsafe { self.end(op, sys::WSK_FLAG_ABORTIVE) }
    }

    /// # Safety
    /// The socket isn't closed.
    unsafe fn end(&self, op: &Op, flags: u32) -> Result<()> {
        let disconnect = self.table().disconnect.ok_or(NtStatus::NOT_SUPPORTED)?;
        op.issue(|irp| {
            // SAFETY: an open connection and its own function; no last data.
            unsafe { disconnect(self.socket.as_ptr(), ptr::null(), flags, irp) };
        })
    }
}
