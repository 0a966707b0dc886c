//! What stream and datagram sockets have in common: they are bound, they know where
//! to, and whoever uses one closes it. (A listener closes itself.)

use core::net::SocketAddr;

use super::addr::SockAddr;
use super::op::{Control, Op};
use super::options::Socket;
use super::socket;
use super::sys;
use crate::kernel::status::Result;

/// Functions each category has, each at a place of its own in its table.
pub(crate) struct Own {
    pub(super) bind: Option<sys::WskBindFn>,
    pub(super) local_address: Option<sys::WskGetAddressFn>,
}

/// A stream or a datagram socket.
pub(crate) trait Endpoint: Socket {
    /// Its functions.
    ///
    /// # Safety
    /// The socket isn't closed.
    unsafe fn own(&self) -> Own;

    /// Binds it; needed before anything is sent, received or connected.
    /// `PASSIVE_LEVEL`.
    ///
    /// # Errors
    /// Those of [`Listener::open`](super::Listener::open).
    ///
    /// # Safety
    /// The socket isn't closed.
    unsafe fn bind(&self, control: &Control, local: SocketAddr) -> Result<()> {
        let address = SockAddr::from(local);
        // SAFETY: open (caller).
        let bind = unsafe { self.own() }.bind;
        // SAFETY: an open socket and its own function.
        unsafe { socket::bind(self.raw()?, control, bind, &address) }
    }

    /// Its own address, once bound. `PASSIVE_LEVEL`.
    ///
    /// # Safety
    /// The socket isn't closed.
    unsafe fn local_address(&self, control: &Control) -> Result<SocketAddr> {
        // SAFETY: open (caller).
        let get = unsafe { self.own() }.local_address;
        // SAFETY: an open socket and its own function.
        unsafe { socket::address(self.raw()?, control, get) }
    }

    /// Closes the socket: the provider completes every other operation that is
    /// pending on it, and resets a connection unless both sides have shut it down.
    /// `IRQL <= DISPATCH_LEVEL`.
    ///
    /// # Safety
    /// The socket isn't closed, and no call on it is in progress or follows.
    unsafe fn close(&self, op: &Op) -> Result<()> {
        // SAFETY: open, and closed once (caller).
        unsafe { socket::start_close(self.raw()?, op) }
    }

    /// As [`Endpoint::close`], and waits: every pending operation has been told of
    /// its end when this returns. `PASSIVE_LEVEL`.
    ///
    /// # Safety
    /// As [`Endpoint::close`].
    unsafe fn close_and_wait(&self, control: &Control) -> Result<()> {
        // SAFETY: open, and closed once (caller).
        unsafe { socket::close_and_wait(self.raw()?, control) }
    }
}
