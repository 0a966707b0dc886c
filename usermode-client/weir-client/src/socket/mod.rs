//! What every kernel socket has: a handle in the role of one, its addresses,
//! its options; and calls that can be waited for by a thread or a task.

pub(crate) mod call;
pub(crate) mod datagram;
mod linger;
mod list;
pub(crate) mod listener;
pub(crate) mod stream;
pub(crate) mod waiters;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use weir_abi::{
    Group, Request, SocketGetOptionRequest, SocketInfoRequest, SocketOpenReply, SocketOpenRequest,
    SocketOption, SocketSetOptionRequest, SocketSetting, SocketSpec,
};

use crate::buffers::Buffers;
use crate::channel::{Channel, Connector};
use crate::device::{bad_reply, call as send};
use crate::error::{Error, Failure};
use crate::kind::Doing;
use call::Call;
pub(crate) use linger::wait_ended;
pub use list::SocketEntry;

/// Buffers of each size that are kept between operations.
const KEEP: usize = 64;

/// Where sockets come from: fresh handles, and buffers for all of them.
#[derive(Clone)]
pub(crate) struct Net {
    connector: Arc<dyn Connector>,
    pub(crate) buffers: Arc<Buffers>,
}

impl Net {
    pub(crate) fn new(connector: Arc<dyn Connector>) -> Net {
        Net {
            connector,
            buffers: Arc::new(Buffers::new(KEEP)),
        }
    }

    pub(crate) fn handle(&self) -> Result<Box<dyn Channel>, Error> {
        self.connector.connect()
    }

    /// Starts to open a socket on a handle of its own.
    pub(crate) fn open(&self, spec: &SocketSpec, doing: Doing) -> Result<Opening, Error> {
        Opening::start(self, &SocketOpenRequest::from(spec), doing)
    }
}

/// A socket that is about to be: bound, connected or accepted. Dropping it
/// cancels that and doesn't wait.
pub(crate) struct Opening {
    call: Call<SocketOpenRequest>,
    // Taken when the socket is there.
    channel: Option<Box<dyn Channel>>,
    net: Net,
}

impl Opening {
    /// Starts `request` on a handle of its own.
    pub(crate) fn start<Q>(net: &Net, request: &Q, doing: Doing) -> Result<Opening, Error>
    where
        Q: Request<Reply = SocketOpenReply>,
    {
        let channel = net.handle()?;
        let call = Call::start(&*channel, request, doing)?;
        Ok(Opening {
            channel: Some(channel),
            call,
            net: net.clone(),
        })
    }

    fn done(&mut self, reply: Result<SocketOpenReply, Error>) -> Result<Socket, Error> {
        let channel = self.channel.take().ok_or(Error::AfterShutdown)?;
        Socket::new(channel, &reply?, self.net.clone())
    }

    /// Waits for the socket, at most for `timeout`; one that is not there by
    /// then will not be.
    pub(crate) fn wait_or_cancel(mut self, timeout: Option<Duration>) -> Result<Socket, Error> {
        let reply = self.call.wait_or_cancel(timeout);
        self.done(reply)
    }

    /// The socket if it is there; else the task is woken when it is.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Socket, Error>> {
        let reply = ready!(self.call.poll(cx));
        Poll::Ready(self.done(reply))
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.call.cancel();
        if let Some(channel) = self.channel.take() {
            channel.close_soon();
        }
    }
}

/// A kernel socket: a handle in the role of one.
pub struct Socket {
    // Taken when the socket goes.
    channel: Option<Box<dyn Channel>>,
    net: Net,
    id: u64,
    local: SocketAddr,
    remote: Option<SocketAddr>,
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket")
            .field("id", &self.id)
            .field("local", &self.local)
            .field("remote", &self.remote)
            .finish_non_exhaustive()
    }
}

impl Socket {
    pub(crate) fn new(
        channel: Box<dyn Channel>,
        reply: &SocketOpenReply,
        net: Net,
    ) -> Result<Socket, Error> {
        let operation = SocketOpenRequest::IOCTL.name();
        let bad = |e: weir_abi::AddressError| bad_reply(operation, e.to_string());
        let socket = Socket {
            channel: Some(channel),
            net,
            id: reply.id,
            local: reply.local.socket_addr().map_err(bad)?,
            remote: reply.remote.optional().map_err(bad)?,
        };
        tracing::debug!(id = socket.id, local = %socket.local, remote = ?socket.remote, "socket open");
        Ok(socket)
    }

    /// The handle. It is there until the socket is dropped.
    pub(crate) fn channel(&self) -> Result<&dyn Channel, Error> {
        self.channel.as_deref().ok_or(Error::AfterShutdown)
    }

    pub(crate) const fn net(&self) -> &Net {
        &self.net
    }

    pub(crate) fn buffers(&self) -> &Buffers {
        &self.net.buffers
    }

    /// Takes the handle, to close it in another way.
    pub(crate) fn take_channel(&mut self) -> Option<Box<dyn Channel>> {
        self.channel.take()
    }

    /// Its id in the driver, as `weirctl sockets` shows it.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// The address it has.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The peer's, if it is connected.
    #[must_use]
    pub const fn peer_addr(&self) -> Option<SocketAddr> {
        self.remote
    }

    /// Sets an option.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind) for a value the option
    /// can't have, or a group that is no multicast address;
    /// [`ErrorKind::Unsupported`](crate::ErrorKind) for an option this kind of
    /// socket doesn't have.
    pub fn set(&self, setting: SocketSetting) -> Result<(), Error> {
        let doing = setting.group().map_or_else(
            || Doing::Setting(setting.option()),
            |group| Doing::Group(group.address),
        );
        send(self.channel()?, &SocketSetOptionRequest::from(&setting))
            .map_err(|e| told(doing, e))?;
        tracing::debug!(id = self.id, ?setting, "option set");
        Ok(())
    }

    /// The value of an option: 0 or 1 of a switch, else as [`SocketSetting`]
    /// counts it.
    pub fn get(&self, option: SocketOption) -> Result<u64, Error> {
        let reply = send(self.channel()?, &SocketGetOptionRequest::new(option))
            .map_err(|e| told(Doing::Getting(option), e))?;
        Ok(reply.value)
    }

    /// Receives what is sent to a multicast group, on the interface with this
    /// index, or with 0 on the one the routes name.
    pub fn join(&self, address: IpAddr, interface: u32) -> Result<(), Error> {
        self.set(SocketSetting::JoinGroup(Group { address, interface }))
    }

    /// Receives it no longer.
    pub fn leave(&self, address: IpAddr, interface: u32) -> Result<(), Error> {
        self.set(SocketSetting::LeaveGroup(Group { address, interface }))
    }

    /// How it is.
    pub fn info(&self) -> Result<SocketEntry, Error> {
        let request = SocketInfoRequest::new();
        let reply = send(self.channel()?, &request)?;
        SocketEntry::from_info(&reply.info)
            .map_err(|e| bad_reply(SocketInfoRequest::IOCTL.name(), e.to_string()))
    }
}

/// A refusal, with what was being done in place of the request's name.
pub(crate) fn told(doing: Doing, error: Error) -> Error {
    match error {
        Error::Refused { failure, .. } => failed(doing, failure),
        other => other,
    }
}

/// A failure of what was being done.
pub(crate) fn failed(doing: Doing, failure: Failure) -> Error {
    tracing::debug!(%doing, status = %failure.status, "failed");
    Error::Socket { doing, failure }
}
