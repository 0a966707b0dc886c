//! Kernel sockets, for tasks: `futures_io`'s traits over the driver.
//!
//! They need no runtime of their own. The workers of the completion port wake
//! the tasks, so any executor will do. Dropping a future frees nothing the
//! kernel has: a read that was started stays with its stream, what it brings is
//! for the next, and a connection is for the next accept.
//!
//! Any number of tasks may wait for a connection or a datagram. Of a stream, as
//! its traits have it, one task may wait to read and one to write; of two, the one
//! that came last is woken.
//!
//! A waker is called on a worker, which serves others too: one that runs the task
//! at once keeps them waiting for as long as that takes. Such a task may not call
//! what waits, as options do (`set_nodelay`, `join`, `socket().set()`) and the types
//! of [`net`](crate::net): the worker may be the one it waits for.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};
use weir_abi::{SocketKind, SocketSetting};

use crate::device::Device;
use crate::error::Error;
use crate::kind::Doing;
use crate::net::{OpenOptions, Received};
use crate::socket::datagram::Datagrams;
use crate::socket::listener::Listener;
use crate::socket::stream::Stream;
use crate::socket::{Net, Socket};

async fn opened(net: &Net, spec: &weir_abi::SocketSpec, doing: Doing) -> Result<Socket, Error> {
    let mut opening = net.open(spec, doing)?;
    poll_fn(|cx| opening.poll(cx)).await
}

/// A TCP connection of the kernel's. A clone is the same connection: one task
/// may read it while another writes.
///
/// A write is done when its bytes are in the stream's window; `flush` waits
/// until the transport has taken them, `close` ends the sending direction after
/// them (half close). Dropping the last clone is as of
/// [`net::TcpStream`](crate::net::TcpStream).
#[derive(Clone)]
pub struct TcpStream {
    stream: Arc<Stream>,
}

impl std::fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TcpStream").field(self.socket()).finish()
    }
}

impl TcpStream {
    /// Connects. Dropping the future cancels that.
    pub async fn connect(device: &Device, to: SocketAddr) -> Result<TcpStream, Error> {
        Self::connect_with(device, to, &OpenOptions::default()).await
    }

    /// Connects, with options.
    pub async fn connect_with(
        device: &Device,
        to: SocketAddr,
        options: &OpenOptions,
    ) -> Result<TcpStream, Error> {
        let spec = options.connected(SocketKind::TcpStream, to);
        let socket = opened(device.net(), &spec, Doing::Connecting(to)).await?;
        Ok(Self::from_stream(Arc::new(Stream::new(socket))))
    }

    pub(crate) const fn from_stream(stream: Arc<Stream>) -> TcpStream {
        TcpStream { stream }
    }

    /// The same connection, for threads. What is outstanding stays.
    #[must_use]
    pub fn into_blocking(self) -> crate::net::TcpStream {
        crate::net::TcpStream::from_stream(self.stream)
    }

    /// The socket: its id, addresses, options.
    #[must_use]
    pub fn socket(&self) -> &Socket {
        self.stream.socket()
    }

    /// The address it has.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.socket().local_addr()
    }

    /// The peer's address.
    #[must_use]
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.socket().peer_addr()
    }

    /// Small segments are not held back.
    pub fn set_nodelay(&self, on: bool) -> Result<(), Error> {
        self.socket().set(SocketSetting::NoDelay(on))
    }

    /// Ends the connection at once with a reset. What is under way is lost, and
    /// told so by what waits for it; this doesn't wait.
    pub fn abort(&self) -> Result<(), Error> {
        self.stream.start_abort().map(drop)
    }
}

impl AsyncRead for &TcpStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.stream.poll_read(cx, buf).map_err(io::Error::from)
    }
}

impl AsyncWrite for &TcpStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream.poll_write(cx, parts).map_err(io::Error::from)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_flush(cx).map_err(io::Error::from)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_close(cx).map_err(io::Error::from)
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self).poll_read(cx, buf)
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self).poll_write_vectored(cx, parts)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self).poll_close(cx)
    }
}

/// Takes TCP connections in the kernel.
pub struct TcpListener {
    listener: Arc<Listener>,
}

impl std::fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TcpListener").field(self.socket()).finish()
    }
}

impl TcpListener {
    /// Listens on an address of this machine; port 0 lets the driver choose.
    pub async fn bind(device: &Device, at: SocketAddr) -> Result<TcpListener, Error> {
        Self::bind_with(device, at, &OpenOptions::default()).await
    }

    /// Listens, with options.
    pub async fn bind_with(
        device: &Device,
        at: SocketAddr,
        options: &OpenOptions,
    ) -> Result<TcpListener, Error> {
        let spec = options.listener(at);
        let socket = opened(device.net(), &spec, Doing::Listening(at)).await?;
        Ok(Self::from_listener(Arc::new(Listener::new(socket))))
    }

    pub(crate) const fn from_listener(listener: Arc<Listener>) -> TcpListener {
        TcpListener { listener }
    }

    /// The same listener, for threads.
    #[must_use]
    pub fn into_blocking(self) -> crate::net::TcpListener {
        crate::net::TcpListener::from_listener(self.listener)
    }

    /// The socket: its id, address, options.
    #[must_use]
    pub fn socket(&self) -> &Socket {
        self.listener.socket()
    }

    /// The address it listens on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.socket().local_addr()
    }

    /// Waits for a connection. Any number of tasks may wait, and a future that is
    /// dropped loses none: what comes is for another that waits, or the next
    /// accept. Connections nobody has taken are closed with the listener.
    pub async fn accept(&self) -> Result<TcpStream, Error> {
        let mut place = self.listener.place();
        let stream = poll_fn(|cx| self.listener.poll_accept(&mut place, cx)).await?;
        Ok(TcpStream::from_stream(Arc::new(stream)))
    }
}

/// A UDP socket of the kernel's. A clone is the same socket.
#[derive(Clone)]
pub struct UdpSocket {
    datagrams: Arc<Datagrams>,
}

impl std::fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("UdpSocket").field(self.socket()).finish()
    }
}

impl UdpSocket {
    /// A socket on an address of this machine; port 0 lets the driver choose.
    pub async fn bind(
        device: &Device,
        at: SocketAddr,
        options: &OpenOptions,
    ) -> Result<UdpSocket, Error> {
        let socket = opened(device.net(), &options.bound(at), Doing::Binding(at)).await?;
        Ok(Self::from_datagrams(Arc::new(Datagrams::new(socket))))
    }

    /// A socket that sends to one peer and receives from it alone.
    pub async fn connect(
        device: &Device,
        to: SocketAddr,
        options: &OpenOptions,
    ) -> Result<UdpSocket, Error> {
        let spec = options.connected(SocketKind::Udp, to);
        let socket = opened(device.net(), &spec, Doing::Connecting(to)).await?;
        Ok(Self::from_datagrams(Arc::new(Datagrams::new(socket))))
    }

    pub(crate) const fn from_datagrams(datagrams: Arc<Datagrams>) -> UdpSocket {
        UdpSocket { datagrams }
    }

    /// The same socket, for threads.
    #[must_use]
    pub fn into_blocking(self) -> crate::net::UdpSocket {
        crate::net::UdpSocket::from_datagrams(self.datagrams)
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

    /// Receives a datagram; what `buf` has no room for is lost, and told. Any
    /// number of tasks may wait, and a future that is dropped loses none.
    pub async fn recv_from(&self, buf: &mut [u8]) -> Result<Received, Error> {
        let mut place = self.datagrams.place();
        poll_fn(|cx| self.datagrams.poll_recv(&mut place, cx, buf)).await
    }

    /// Sends a datagram to an address. Once started it is sent, whether or not
    /// the future is waited for. Any number of tasks may send: above the 64 sends
    /// the driver has room for, they wait.
    pub async fn send_to(&self, bytes: &[u8], to: SocketAddr) -> Result<usize, Error> {
        self.send_maybe_to(bytes, Some(to)).await
    }

    /// Sends a datagram to the peer of a connected socket.
    pub async fn send(&self, bytes: &[u8]) -> Result<usize, Error> {
        self.send_maybe_to(bytes, None).await
    }

    async fn send_maybe_to(&self, bytes: &[u8], to: Option<SocketAddr>) -> Result<usize, Error> {
        let mut sending = self.datagrams.sending(bytes, to);
        poll_fn(|cx| sending.poll(cx)).await
    }

    /// Receives what is sent to a multicast group, on the interface with this
    /// index, or with 0 on the one the routes name.
    pub fn join(&self, group: IpAddr, interface: u32) -> Result<(), Error> {
        self.socket().join(group, interface)
    }
}
