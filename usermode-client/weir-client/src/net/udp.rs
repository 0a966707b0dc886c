//! UDP, for threads.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use weir_abi::{SocketKind, SocketSetting};

use super::{OpenOptions, Received};
use crate::device::Device;
use crate::error::Error;
use crate::kind::Doing;
use crate::lock::lock;
use crate::socket::Socket;
use crate::socket::datagram::Datagrams;

/// A UDP socket of the kernel's. A clone is the same socket.
#[derive(Clone)]
pub struct UdpSocket {
    datagrams: Arc<Datagrams>,
    read_timeout: Arc<Mutex<Option<Duration>>>,
}

impl std::fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("UdpSocket").field(self.socket()).finish()
    }
}

impl UdpSocket {
    /// A socket on an address of this machine; port 0 lets the driver choose.
    pub fn bind(device: &Device, at: SocketAddr) -> Result<UdpSocket, Error> {
        Self::bind_with(device, at, &OpenOptions::default())
    }

    /// A socket on an address, with options.
    pub fn bind_with(
        device: &Device,
        at: SocketAddr,
        options: &OpenOptions,
    ) -> Result<UdpSocket, Error> {
        let opening = device.net().open(&options.bound(at), Doing::Binding(at))?;
        Ok(Self::new(opening.wait_or_cancel(None)?))
    }

    /// A socket that sends to one peer and receives from it alone.
    pub fn connect(
        device: &Device,
        to: SocketAddr,
        options: &OpenOptions,
    ) -> Result<UdpSocket, Error> {
        let spec = options.connected(SocketKind::Udp, to);
        let opening = device.net().open(&spec, Doing::Connecting(to))?;
        Ok(Self::new(opening.wait_or_cancel(None)?))
    }

    fn new(socket: Socket) -> UdpSocket {
        Self::from_datagrams(Arc::new(Datagrams::new(socket)))
    }

    pub(crate) fn from_datagrams(datagrams: Arc<Datagrams>) -> UdpSocket {
        UdpSocket {
            datagrams,
            read_timeout: Arc::default(),
        }
    }

    /// The same socket, for tasks.
    #[must_use]
    pub fn into_async(self) -> crate::aio::UdpSocket {
        crate::aio::UdpSocket::from_datagrams(self.datagrams)
    }

    /// The socket: its id, address, options.
    #[must_use]
    pub fn socket(&self) -> &Socket {
        self.datagrams.socket()
    }

    /// The address it has.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.socket().local_addr()
    }

    /// How long a receive waits; `None`: without an end. One that is given up
    /// loses no datagram.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) {
        *lock(&self.read_timeout) = timeout;
    }

    /// Receives a datagram; what `buf` has no room for is lost, and told.
    pub fn recv_from(&self, buf: &mut [u8]) -> Result<Received, Error> {
        let timeout = *lock(&self.read_timeout);
        self.datagrams.recv(buf, timeout)
    }

    /// Sends a datagram to an address.
    ///
    /// # Errors
    /// [`Error::DatagramTooLong`], and what the driver says.
    pub fn send_to(&self, bytes: &[u8], to: SocketAddr) -> Result<usize, Error> {
        self.datagrams.send(bytes, Some(to), None)
    }

    /// Sends a datagram to the peer of a connected socket.
    pub fn send(&self, bytes: &[u8]) -> Result<usize, Error> {
        self.datagrams.send(bytes, None, None)
    }

    /// Receives what is sent to a multicast group, on the interface with this
    /// index, or with 0 on the one the routes name.
    pub fn join(&self, group: IpAddr, interface: u32) -> Result<(), Error> {
        self.socket().join(group, interface)
    }

    /// Receives it no longer.
    pub fn leave(&self, group: IpAddr, interface: u32) -> Result<(), Error> {
        self.socket().leave(group, interface)
    }

    /// May send to broadcast addresses.
    pub fn set_broadcast(&self, on: bool) -> Result<(), Error> {
        self.socket().set(SocketSetting::Broadcast(on))
    }

    /// Hops of multicasts; with 0 they stay on this machine.
    pub fn set_multicast_ttl(&self, hops: u32) -> Result<(), Error> {
        self.socket().set(SocketSetting::MulticastTtl(hops))
    }

    /// Whether it receives multicasts that this machine has sent. Where POSIX asks
    /// the socket that sends, Windows asks the one that receives.
    pub fn set_multicast_loop(&self, on: bool) -> Result<(), Error> {
        self.socket().set(SocketSetting::MulticastLoop(on))
    }

    /// The interface multicasts are sent on, by index; 0: the routes decide.
    pub fn set_multicast_interface(&self, index: u32) -> Result<(), Error> {
        self.socket().set(SocketSetting::MulticastInterface(index))
    }
}
