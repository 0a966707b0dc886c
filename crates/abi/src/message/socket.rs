//! Kernel sockets as handles: the roles TCP stream, TCP listener and UDP socket.
//!
//! # Data
//! A TCP stream's read gets what has been received, at least one byte; success
//! with no bytes means that the peer has sent all it had to send. Its write
//! completes when the transport has taken all of it. A read of no bytes is
//! refused, as its answer could not be told from the end; a write of none
//! succeeds without touching the stream. A read that is cancelled succeeds if it
//! has bytes by then: none is lost.
//!
//! A UDP socket's read and write are one datagram each: [`datagram`](crate::datagram).
//!
//! # Close
//! Closing the handle closes the socket and cancels what is outstanding. A
//! connection that both sides have shut down ends in order; any other is reset.

use core::net::SocketAddr;
use core::num::NonZeroU32;

use super::{ReplyHeader, Request, RequestError, RequestHeader};
use crate::{AddressError, Ioctl, ShutdownHow, SocketAddress, SocketFlags, SocketKind, limits};

message! {
    /// Opens a socket on a control handle. It keeps its role for good; if the
    /// socket can't be opened, the handle stays a control handle.
    pub struct SocketOpenRequest [88] {
        /// Version and size.
        0 => header: RequestHeader,
        /// Field 1: [`SocketKind`].
        8 => kind: u32,
        /// Field 2: [`SocketFlags`].
        12 => flags: u32,
        /// Field 3: the address to bind to: unicast or unspecified, port 0 lets
        /// the driver choose. May be left out where there is a remote address.
        16 => local: SocketAddress,
        /// Field 4: the address to connect to; required for a TCP stream, none
        /// for a listener. A connected UDP socket receives from there alone.
        48 => remote: SocketAddress,
        /// Field 5: for a listener, connections that wait for a SOCKET_ACCEPT at
        /// most, from 1 to [`MAX_LISTEN_BACKLOG`](limits::MAX_LISTEN_BACKLOG);
        /// 0 for a listener with [`SocketFlags::ACCEPT_BY_REQUEST`], where they
        /// wait in the transport, and for others.
        80 => backlog: u32,
        /// Field 6: bytes the transport holds for a reader (`SO_RCVBUF`), up to
        /// [`MAX_SOCKET_BUFFER`](limits::MAX_SOCKET_BUFFER); 0: as the provider
        /// has it.
        84 => receive_limit: u32,
    }
}

message! {
    /// The socket is bound, listens, or is connected.
    pub struct SocketOpenReply [80] {
        /// Version and size.
        0 => header: ReplyHeader,
        /// Its id: from 1, never used again while the driver is loaded.
        8 => id: u64,
        /// Its address, the port as it was chosen.
        16 => local: SocketAddress,
        /// Its peer's address, if it has one.
        48 => remote: SocketAddress,
    }
}

/// A socket to open, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketSpec {
    /// What it is.
    pub kind: SocketKind,
    /// How it is to be opened.
    pub flags: SocketFlags,
    /// The address to bind to; the unspecified one of the remote address's family
    /// where the request left it out.
    pub local: SocketAddr,
    /// The address to connect to.
    pub remote: Option<SocketAddr>,
    /// Connections that wait in the driver, for a listener that takes them as they
    /// come; else 0.
    pub backlog: u32,
    /// `SO_RCVBUF`; `None`: as the provider has it.
    pub receive_limit: Option<NonZeroU32>,
}

/// The unspecified address of the family of this one, without a port.
const fn unspecified(like: SocketAddr) -> SocketAddr {
    use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    match like {
        SocketAddr::V4(_) => SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        SocketAddr::V6(_) => SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0),
    }
}

/// Whether the address is an IPv4-mapped one.
fn is_mapped(addr: SocketAddr) -> bool {
    matches!(addr, SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_some())
}

impl SocketSpec {
    /// Whether a socket of this kind may be sent to, or connect to, this address
    /// with these flags.
    fn remote(
        kind: SocketKind,
        flags: SocketFlags,
        remote: &SocketAddress,
    ) -> Result<Option<SocketAddr>, RequestError> {
        let missing = |value| RequestError::Field {
            n: 4,
            name: "remote address",
            value,
        };
        let Some(addr) = remote.optional()? else {
            return match kind {
                SocketKind::TcpStream => Err(missing(0)),
                SocketKind::TcpListener | SocketKind::Udp => Ok(None),
            };
        };
        // Whatever address it is.
        if kind == SocketKind::TcpListener {
            return Err(missing(remote.family));
        }
        if is_mapped(addr) && flags.contains(SocketFlags::DUAL_STACK) {
            // The rest of the checks are for plain addresses; of a mapped one
            // the provider says what it thinks.
            return if addr.port() == 0 {
                Err(AddressError::NotADestination.into())
            } else {
                Ok(Some(addr))
            };
        }
        if kind == SocketKind::TcpStream {
            return Ok(Some(remote.connect_addr()?));
        }
        if is_mapped(addr) {
            return Err(AddressError::MappedV4.into());
        }
        Ok(Some(remote.send_addr()?))
    }
}

impl TryFrom<&SocketOpenRequest> for SocketSpec {
    type Error = RequestError;

    fn try_from(request: &SocketOpenRequest) -> Result<Self, RequestError> {
        let bad = |n, name, value| RequestError::Field { n, name, value };
        let kind =
            SocketKind::try_from(request.kind).map_err(|e| bad(1, "kind of socket", e.value))?;
        let wrong_flags = bad(2, "socket flags", request.flags);
        let flags = SocketFlags::from_bits(request.flags).ok_or(wrong_flags)?;
        let foreign = match kind {
            SocketKind::TcpStream => SocketFlags::CONDITIONAL_ACCEPT
                .union(SocketFlags::ACCEPT_BY_REQUEST)
                .union(SocketFlags::BROADCAST),
            SocketKind::TcpListener => SocketFlags::BROADCAST,
            SocketKind::Udp => SocketFlags::CONDITIONAL_ACCEPT
                .union(SocketFlags::ACCEPT_BY_REQUEST)
                .union(SocketFlags::NO_DELAY)
                .union(SocketFlags::KEEP_ALIVE),
        };
        if flags.intersects(foreign) {
            return Err(wrong_flags);
        }
        let remote = Self::remote(kind, flags, &request.remote)?;
        let local = match (request.local.optional()?, remote) {
            (Some(_), _) => request.local.listen_addr()?,
            (None, Some(remote)) => unspecified(remote),
            (None, None) => return Err(bad(3, "local address", 0)),
        };
        if remote.is_some_and(|remote| remote.is_ipv4() != local.is_ipv4()) {
            return Err(AddressError::Families.into());
        }
        if flags.contains(SocketFlags::DUAL_STACK) && local.is_ipv4() {
            return Err(wrong_flags);
        }
        let backlog = match kind {
            SocketKind::TcpListener if !flags.contains(SocketFlags::ACCEPT_BY_REQUEST) => {
                1..=limits::MAX_LISTEN_BACKLOG
            }
            SocketKind::TcpListener | SocketKind::TcpStream | SocketKind::Udp => 0..=0,
        };
        if !backlog.contains(&request.backlog) {
            return Err(bad(5, "backlog", request.backlog));
        }
        if request.receive_limit > limits::MAX_SOCKET_BUFFER {
            return Err(bad(6, "receive limit", request.receive_limit));
        }
        Ok(SocketSpec {
            kind,
            flags,
            local,
            remote,
            backlog: request.backlog,
            receive_limit: NonZeroU32::new(request.receive_limit),
        })
    }
}

impl From<&SocketSpec> for SocketOpenRequest {
    fn from(spec: &SocketSpec) -> Self {
        SocketOpenRequest {
            header: RequestHeader::of::<Self>(),
            kind: spec.kind.into(),
            flags: spec.flags.bits(),
            local: spec.local.into(),
            remote: spec.remote.into(),
            backlog: spec.backlog,
            receive_limit: spec.receive_limit.map_or(0, NonZeroU32::get),
        }
    }
}

impl Request for SocketOpenRequest {
    const IOCTL: Ioctl = Ioctl::SocketOpen;
    type Reply = SocketOpenReply;
}

message! {
    /// Takes a connection of a listener on a control handle, which has the role
    /// of a TCP stream from then on. Any number may wait for one listener, and
    /// get its connections in the order in which they came to wait.
    ///
    /// One that is cancelled as its connection comes has either result: success,
    /// and the connection is the handle's, or `STATUS_CANCELLED`, and the next
    /// SOCKET_ACCEPT gets it. One whose listener is closed fails with
    /// `STATUS_CONNECTION_ABORTED`.
    pub struct SocketAcceptRequest [16] {
        /// Version and size.
        0 => header: RequestHeader,
        /// Field 1: the listener's id.
        8 => listener: u64,
    }
}

impl SocketAcceptRequest {
    /// A request for a connection of the listener with this id.
    #[must_use]
    pub const fn new(listener: u64) -> Self {
        SocketAcceptRequest {
            header: RequestHeader::of::<Self>(),
            listener,
        }
    }
}

impl Request for SocketAcceptRequest {
    const IOCTL: Ioctl = Ioctl::SocketAccept;
    type Reply = SocketOpenReply;
}

message! {
    /// Ends the handle's TCP stream, or its sending direction.
    ///
    /// Each is done once: asked for again it succeeds at once, as it is done by
    /// then or under way; so no more than one of each is ever outstanding, beside
    /// the reads and writes. An abort may follow a send that doesn't end; that, and
    /// whatever else is outstanding, fails with `STATUS_CONNECTION_ABORTED` then,
    /// as does a send, a read or a write that comes after the abort. One that can't
    /// be carried out may be tried again.
    pub struct SocketShutdownRequest [16] {
        /// Version and size.
        0 => header: RequestHeader,
        /// Field 1: [`ShutdownHow`].
        8 => how: u32,
        /// 0.
        12 => reserved: u32,
    }
}

message! {
    /// The FIN or the RST is with the transport.
    pub struct SocketShutdownReply [8] {
        /// Version and size.
        0 => header: ReplyHeader,
    }
}

impl SocketShutdownRequest {
    /// A request to end it so.
    #[must_use]
    pub fn new(how: ShutdownHow) -> Self {
        SocketShutdownRequest {
            header: RequestHeader::of::<Self>(),
            how: how.into(),
            reserved: 0,
        }
    }

    /// How to end it.
    pub fn how(&self) -> Result<ShutdownHow, RequestError> {
        if self.reserved != 0 {
            return Err(RequestError::Reserved);
        }
        ShutdownHow::try_from(self.how).map_err(|e| RequestError::Field {
            n: 1,
            name: "way to shut down",
            value: e.value,
        })
    }
}

impl Request for SocketShutdownRequest {
    const IOCTL: Ioctl = Ioctl::SocketShutdown;
    type Reply = SocketShutdownReply;
}

message! {
    /// One socket of the driver.
    pub struct SocketInfo [160] {
        /// Its id; those of services' sockets are above all others, and not for
        /// SOCKET_ACCEPT.
        0 => id: u64,
        /// [`SocketKind`].
        8 => kind: u32,
        /// [`SocketState`](crate::SocketState).
        12 => state: u32,
        /// Its address.
        16 => local: SocketAddress,
        /// Its peer's address, if it has one.
        48 => remote: SocketAddress,
        /// Bytes of payload received.
        80 => bytes_in: u64,
        /// Bytes of payload the transport has taken.
        88 => bytes_out: u64,
        /// Receives that ended with bytes or a datagram; of a listener:
        /// connections taken.
        96 => reads: u64,
        /// Sends that ended well.
        104 => writes: u64,
        /// Bytes given to the transport and not taken by it yet; of a listener:
        /// connections that wait for a SOCKET_ACCEPT in the driver.
        112 => queued: u64,
        /// Of a listener: connections refused, for want of room in the driver or
        /// by a rule.
        120 => refused: u64,
        /// When it was opened or accepted: 100 ns since 1601-01-01 UTC.
        128 => opened_100ns: u64,
        /// The process that opened the handle; 0 for a service's.
        136 => owner: u32,
        /// The service it belongs to; 0 for a handle's.
        140 => service: u32,
        /// [`SocketFlags`] it was opened with.
        144 => flags: u32,
        /// The NTSTATUS it failed with; 0 if it hasn't.
        148 => status: i32,
        /// Reads outstanding; of a listener: SOCKET_ACCEPTs.
        152 => pending_reads: u32,
        /// Writes outstanding.
        156 => pending_writes: u32,
    }
}

message! {
    /// Asks how the handle's socket is.
    pub struct SocketInfoRequest [8] {
        /// Version and size.
        0 => header: RequestHeader,
    }
}

message! {
    /// How the handle's socket is.
    pub struct SocketInfoReply [168] {
        /// Version and size.
        0 => header: ReplyHeader,
        /// The socket.
        8 => info: SocketInfo,
    }
}

impl SocketInfoRequest {
    /// A request for the handle's socket.
    #[must_use]
    pub const fn new() -> Self {
        SocketInfoRequest {
            header: RequestHeader::of::<Self>(),
        }
    }
}

impl Default for SocketInfoRequest {
    fn default() -> Self {
        Self::new()
    }
}

impl Request for SocketInfoRequest {
    const IOCTL: Ioctl = Ioctl::SocketInfo;
    type Reply = SocketInfoReply;
}

message! {
    /// Asks for the sockets of the driver.
    pub struct SocketListRequest [16] {
        /// Version and size.
        0 => header: RequestHeader,
        /// Where to go on: 0 first, then what the reply before said.
        8 => cursor: u64,
    }
}

message! {
    /// Start of a part of the sockets; `count` times [`SocketInfo`] follow, in
    /// the order of their ids. A socket that was there all the time is in
    /// exactly one part.
    pub struct SocketListReply [24] {
        /// Version and size, the entries included.
        0 => header: ReplyHeader,
        /// How many entries follow.
        8 => count: u32,
        /// How many sockets there are.
        12 => total: u32,
        /// Where to go on; 0: that was all.
        16 => next: u64,
    }
}

impl SocketListRequest {
    /// A request for the sockets from `cursor` on.
    #[must_use]
    pub const fn new(cursor: u64) -> Self {
        SocketListRequest {
            header: RequestHeader::of::<Self>(),
            cursor,
        }
    }
}

impl Request for SocketListRequest {
    const IOCTL: Ioctl = Ioctl::SocketList;
    type Reply = SocketListReply;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status;

    fn addr(text: &str) -> Option<SocketAddr> {
        (!text.is_empty()).then(|| text.parse().expect("an address"))
    }

    fn request(kind: SocketKind, flags: u32, local: &str, remote: &str) -> SocketOpenRequest {
        SocketOpenRequest {
            header: RequestHeader::of::<SocketOpenRequest>(),
            kind: kind.into(),
            flags,
            local: addr(local).into(),
            remote: addr(remote).into(),
            backlog: u32::from(kind == SocketKind::TcpListener && flags & 0x40 == 0),
            receive_limit: 0,
        }
    }

    #[test]
    fn what_makes_sense_comes_back() {
        use SocketKind::*;
        for (kind, flags, local, remote) in [
            (TcpStream, 0x30, "", "127.0.0.1:7"),
            (TcpStream, 1, "10.0.0.1:8", "127.0.0.1:7"),
            (TcpStream, 8, "[::]:0", "[::ffff:127.0.0.1]:7"),
            (TcpListener, 0x3b, "[::]:0", ""),
            (TcpListener, 0x7b, "[::]:0", ""),
            (Udp, 0, "0.0.0.0:0", ""),
            (Udp, 4, "", "255.255.255.255:9"),
            (Udp, 0, "", "[ff02::1]:9"),
        ] {
            let request = request(kind, flags, local, remote);
            let spec = SocketSpec::try_from(&request).expect(remote);
            assert_eq!(spec.remote, addr(remote));
            assert_eq!(spec.flags.bits(), flags);
            if let Some(local) = addr(local) {
                assert_eq!(spec.local, local);
                assert_eq!(SocketOpenRequest::from(&spec), request);
            } else {
                assert!(spec.local.ip().is_unspecified() && spec.local.port() == 0);
                assert_eq!(spec.local.is_ipv4(), addr(remote).expect("one").is_ipv4());
            }
        }
    }

    #[test]
    fn what_makes_none_has_its_status() {
        use SocketKind::*;
        use status::*;
        for (kind, flags, local, remote, want) in [
            (TcpStream, 0, "127.0.0.1:0", "", INVALID_PARAMETER_4),
            (TcpStream, 2, "", "127.0.0.1:7", INVALID_PARAMETER_2),
            (TcpStream, 4, "", "127.0.0.1:7", INVALID_PARAMETER_2),
            (TcpStream, 8, "", "127.0.0.1:7", INVALID_PARAMETER_2),
            (TcpStream, 0x40, "", "127.0.0.1:7", INVALID_PARAMETER_2),
            (TcpStream, 0, "", "127.0.0.1:0", INVALID_ADDRESS_COMPONENT),
            (TcpStream, 0, "", "0.0.0.0:7", INVALID_ADDRESS_COMPONENT),
            (TcpStream, 0, "", "224.0.0.1:7", INVALID_ADDRESS_COMPONENT),
            (
                TcpStream,
                0,
                "",
                "[::ffff:1.2.3.4]:7",
                INVALID_ADDRESS_COMPONENT,
            ),
            (
                TcpStream,
                8,
                "",
                "[::ffff:1.2.3.4]:0",
                INVALID_ADDRESS_COMPONENT,
            ),
            (
                TcpStream,
                0,
                "[::]:0",
                "127.0.0.1:7",
                INVALID_ADDRESS_COMPONENT,
            ),
            (TcpListener, 0, "", "", INVALID_PARAMETER_3),
            (
                TcpListener,
                0,
                "127.0.0.1:0",
                "127.0.0.1:7",
                INVALID_PARAMETER_4,
            ),
            (
                TcpListener,
                8,
                "[::]:0",
                "[::ffff:1.2.3.4]:7",
                INVALID_PARAMETER_4,
            ),
            (TcpListener, 4, "127.0.0.1:0", "", INVALID_PARAMETER_2),
            (TcpListener, 0, "224.0.0.1:7", "", INVALID_ADDRESS_COMPONENT),
            (Udp, 0, "", "", INVALID_PARAMETER_3),
            (Udp, 2, "127.0.0.1:0", "", INVALID_PARAMETER_2),
            (Udp, 0x10, "127.0.0.1:0", "", INVALID_PARAMETER_2),
            (Udp, 0x20, "127.0.0.1:0", "", INVALID_PARAMETER_2),
            (Udp, 0x40, "127.0.0.1:0", "", INVALID_PARAMETER_2),
            (TcpStream, 0x40, "", "127.0.0.1:7", INVALID_PARAMETER_2),
            (TcpListener, 0x80, "127.0.0.1:0", "", INVALID_PARAMETER_2),
            (Udp, 0, "224.0.0.1:7", "", INVALID_ADDRESS_COMPONENT),
            (Udp, 0, "", "[::ffff:1.2.3.4]:7", INVALID_ADDRESS_COMPONENT),
        ] {
            let error = SocketSpec::try_from(&request(kind, flags, local, remote))
                .expect_err("makes no sense");
            assert_eq!(
                error.status(),
                want,
                "{kind} {flags} {local} {remote}: {error}"
            );
        }
        let good = request(TcpListener, 0, "127.0.0.1:0", "");
        for (change, want) in [
            (SocketOpenRequest { kind: 4, ..good }, INVALID_PARAMETER_1),
            (SocketOpenRequest { kind: 0, ..good }, INVALID_PARAMETER_1),
            (SocketOpenRequest { kind: 3, ..good }, INVALID_PARAMETER_5),
            (
                SocketOpenRequest { backlog: 0, ..good },
                INVALID_PARAMETER_5,
            ),
            (
                SocketOpenRequest {
                    flags: SocketFlags::ACCEPT_BY_REQUEST.bits(),
                    ..good
                },
                INVALID_PARAMETER_5,
            ),
            (
                SocketOpenRequest {
                    backlog: limits::MAX_LISTEN_BACKLOG + 1,
                    ..good
                },
                INVALID_PARAMETER_5,
            ),
            (
                SocketOpenRequest {
                    receive_limit: limits::MAX_SOCKET_BUFFER + 1,
                    ..good
                },
                INVALID_PARAMETER_6,
            ),
        ] {
            let error = SocketSpec::try_from(&change).expect_err("makes no sense");
            assert_eq!(error.status(), want, "{change:?}: {error}");
        }
    }

    #[test]
    fn shutting_down_is_one_of_two() {
        for how in ShutdownHow::ALL {
            assert_eq!(SocketShutdownRequest::new(*how).how(), Ok(*how));
        }
        for value in [0, 3] {
            let request = SocketShutdownRequest {
                how: value,
                ..SocketShutdownRequest::new(ShutdownHow::Send)
            };
            let error = request.how().expect_err("none of them");
            assert_eq!(error.status(), status::INVALID_PARAMETER_1);
        }
    }
}
