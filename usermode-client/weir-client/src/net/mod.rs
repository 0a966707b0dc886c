//! Kernel sockets, for programs that wait: `std::net`'s types over the driver.
//!
//! They are for threads; [`aio`](crate::aio) has the same for tasks. Both are
//! served by the completion port of the [`Device`](crate::Device) they were
//! opened with, and one can be made of the other.

mod tcp;
mod udp;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;

use weir_abi::{SocketFlags, SocketKind, SocketSpec};

pub use tcp::{Incoming, TcpListener, TcpStream};
pub use udp::UdpSocket;

pub use crate::socket::datagram::Received;
pub use crate::socket::{Socket, SocketEntry};

/// Waits until every stream of this process that was dropped has ended in order,
/// at most for `timeout`; false when the time is over. Such a stream goes on
/// sending what was written after its drop, which the end of the process cuts
/// off: a program that ends at once calls this first, or shuts its streams down.
pub fn wait_ended(timeout: std::time::Duration) -> bool {
    crate::socket::wait_ended(timeout)
}

/// How a socket is opened. The default asks for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenOptions {
    /// The address to bind to, of a socket that connects; any without it.
    pub local: Option<SocketAddr>,
    /// Reuse of the address, broadcast, IPv4 on an IPv6 socket, and the like.
    pub flags: SocketFlags,
    /// Of a listener: connections that wait in the driver until they are
    /// accepted, 1 to [`MAX_LISTEN_BACKLOG`](crate::abi::limits::MAX_LISTEN_BACKLOG);
    /// above that, peers are refused. Not used with
    /// [`SocketFlags::ACCEPT_BY_REQUEST`]: there they wait in the transport.
    pub backlog: u32,
    /// Bytes the transport holds for a reader; `None`: as the provider has it.
    pub receive_limit: Option<NonZeroU32>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        OpenOptions {
            local: None,
            flags: SocketFlags::empty(),
            backlog: 128,
            receive_limit: None,
        }
    }
}

/// The unspecified address of the family of this one, without a port.
const fn unspecified(like: SocketAddr) -> SocketAddr {
    match like {
        SocketAddr::V4(_) => SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        SocketAddr::V6(_) => SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0),
    }
}

impl OpenOptions {
    fn spec(&self, kind: SocketKind, local: SocketAddr, remote: Option<SocketAddr>) -> SocketSpec {
        SocketSpec {
            kind,
            flags: self.flags,
            local,
            remote,
            backlog: 0,
            receive_limit: self.receive_limit,
        }
    }

    /// A socket connected to `remote`.
    pub(crate) fn connected(&self, kind: SocketKind, remote: SocketAddr) -> SocketSpec {
        let local = self.local.unwrap_or_else(|| unspecified(remote));
        self.spec(kind, local, Some(remote))
    }

    /// A listener on `local`.
    pub(crate) fn listener(&self, local: SocketAddr) -> SocketSpec {
        let by_request = self.flags.contains(SocketFlags::ACCEPT_BY_REQUEST);
        SocketSpec {
            backlog: if by_request { 0 } else { self.backlog },
            ..self.spec(SocketKind::TcpListener, local, None)
        }
    }

    /// A UDP socket on `local`.
    pub(crate) fn bound(&self, local: SocketAddr) -> SocketSpec {
        self.spec(SocketKind::Udp, local, None)
    }
}
