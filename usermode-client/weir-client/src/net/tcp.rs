//! TCP, for threads.

use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use weir_abi::{SocketKind, SocketOption, SocketSetting};

use super::OpenOptions;
use crate::device::Device;
use crate::error::Error;
use crate::kind::Doing;
use crate::lock::lock;
use crate::socket::Socket;
use crate::socket::listener::Listener;
use crate::socket::stream::Stream;

/// A TCP connection of the kernel's.
///
/// `Read` and `Write` are for `&TcpStream` too, so one thread can read while
/// another writes; a clone is the same connection, with the same time limits.
/// What comes goes to one of several threads that read at once.
///
/// A write returns when its bytes are in the stream's window (up to 256 KiB on
/// their way to the transport); what fails there is told by the next write, by
/// `flush`, which waits for all of it, or by [`TcpStream::shutdown`].
///
/// Dropping the last clone ends the connection in order, in the background:
/// what was written is sent, then the end, and what the peer still sends is
/// thrown away for up to 30 seconds. [`super::wait_ended`] waits for that.
/// [`TcpStream::abort`] resets it instead.
#[derive(Clone)]
pub struct TcpStream {
    stream: Arc<Stream>,
    timeouts: Arc<Mutex<Timeouts>>,
}

#[derive(Clone, Copy, Default)]
struct Timeouts {
    read: Option<Duration>,
    write: Option<Duration>,
}

impl std::fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TcpStream").field(self.socket()).finish()
    }
}

impl TcpStream {
    /// Connects. The system decides how long it tries.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`](crate::ErrorKind) if nobody listens there,
    /// [`ErrorKind::Unreachable`](crate::ErrorKind) without a way there,
    /// [`ErrorKind::TimedOut`](crate::ErrorKind) if nothing answers,
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind) for an address nobody can
    /// connect to.
    pub fn connect(device: &Device, to: SocketAddr) -> Result<TcpStream, Error> {
        Self::connect_with(device, to, &OpenOptions::default(), None)
    }

    /// Connects, with options, within `timeout` if one is given.
    pub fn connect_with(
        device: &Device,
        to: SocketAddr,
        options: &OpenOptions,
        timeout: Option<Duration>,
    ) -> Result<TcpStream, Error> {
        let spec = options.connected(SocketKind::TcpStream, to);
        let opening = device.net().open(&spec, Doing::Connecting(to))?;
        let socket = opening.wait_or_cancel(timeout)?;
        Ok(Self::from_stream(Arc::new(Stream::new(socket))))
    }

    pub(crate) fn from_stream(stream: Arc<Stream>) -> TcpStream {
        TcpStream {
            stream,
            timeouts: Arc::default(),
        }
    }

    /// The same connection, for tasks.
    #[must_use]
    pub fn into_async(self) -> crate::aio::TcpStream {
        crate::aio::TcpStream::from_stream(self.stream)
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
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket()
            .peer_addr()
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// The same connection once more.
    #[must_use]
    pub fn try_clone(&self) -> TcpStream {
        self.clone()
    }

    /// How long a read waits; `None`: without an end. A read that is given up
    /// takes nothing with it: what comes later is for the next.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) {
        lock(&self.timeouts).read = timeout;
    }

    /// How long a write waits for room, a flush and a shutdown for the
    /// transport; `None`: without an end. A write that is given up has written
    /// nothing; a shutdown that is given up goes on, and can be waited for again.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) {
        lock(&self.timeouts).write = timeout;
    }

    fn timeouts(&self) -> Timeouts {
        *lock(&self.timeouts)
    }

    /// Small segments are not held back.
    pub fn set_nodelay(&self, on: bool) -> Result<(), Error> {
        self.socket().set(SocketSetting::NoDelay(on))
    }

    /// Whether small segments are not held back.
    pub fn nodelay(&self) -> Result<bool, Error> {
        Ok(self.socket().get(SocketOption::NoDelay)? != 0)
    }

    /// Probes the peer when nothing was heard of it for long.
    pub fn set_keepalive(&self, on: bool) -> Result<(), Error> {
        self.socket().set(SocketSetting::KeepAlive(on))
    }

    /// Ends the sending direction after all that was written (half close): the
    /// peer reads the end; what it sends may still be read.
    pub fn shutdown(&self) -> Result<(), Error> {
        self.stream.shutdown(self.timeouts().write)
    }

    /// Ends the connection at once with a reset. What is under way is lost.
    pub fn abort(&self) -> Result<(), Error> {
        self.stream.abort()
    }
}

impl Read for &TcpStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        Ok(self.stream.read(buf, self.timeouts().read)?)
    }
}

impl Write for &TcpStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(buf)])
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(self.stream.write(parts, self.timeouts().write)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(self.stream.flush(self.timeouts().write)?)
    }
}

impl Read for TcpStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }
}

impl Write for TcpStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self).write(buf)
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(parts)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self).flush()
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
    ///
    /// # Errors
    /// [`ErrorKind::AddressInUse`](crate::ErrorKind),
    /// [`ErrorKind::AddressNotAvailable`](crate::ErrorKind), and
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind) for a multicast address.
    pub fn bind(device: &Device, at: SocketAddr) -> Result<TcpListener, Error> {
        Self::bind_with(device, at, &OpenOptions::default())
    }

    /// Listens, with options.
    pub fn bind_with(
        device: &Device,
        at: SocketAddr,
        options: &OpenOptions,
    ) -> Result<TcpListener, Error> {
        let opening = device
            .net()
            .open(&options.listener(at), Doing::Listening(at))?;
        let socket = opening.wait_or_cancel(None)?;
        Ok(TcpListener {
            listener: Arc::new(Listener::new(socket)),
        })
    }

    pub(crate) const fn from_listener(listener: Arc<Listener>) -> TcpListener {
        TcpListener { listener }
    }

    /// The same listener, for tasks.
    #[must_use]
    pub fn into_async(self) -> crate::aio::TcpListener {
        crate::aio::TcpListener::from_listener(self.listener)
    }

    /// The socket: its id, address, options; those of TCP are for the
    /// connections to come.
    #[must_use]
    pub fn socket(&self) -> &Socket {
        self.listener.socket()
    }

    /// The address it listens on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.socket().local_addr()
    }

    /// Waits for a connection.
    pub fn accept(&self) -> Result<(TcpStream, SocketAddr), Error> {
        loop {
            if let Some(accepted) = self.accept_within(None)? {
                return Ok(accepted);
            }
        }
    }

    /// Waits for a connection, at most for `timeout` if one is given. `None`
    /// when the time is over; a connection that comes later goes to the next
    /// accept.
    pub fn accept_within(
        &self,
        timeout: Option<Duration>,
    ) -> Result<Option<(TcpStream, SocketAddr)>, Error> {
        let Some(stream) = self.listener.accept(timeout)? else {
            return Ok(None);
        };
        let peer = stream.socket().peer_addr();
        let peer = peer.unwrap_or_else(|| super::unspecified(stream.socket().local_addr()));
        Ok(Some((TcpStream::from_stream(Arc::new(stream)), peer)))
    }

    /// The connections, as they come.
    #[must_use]
    pub const fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }
}

/// The connections of a listener, as they come; without an end.
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: &'a TcpListener,
}

impl Iterator for Incoming<'_> {
    type Item = Result<TcpStream, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }
}
