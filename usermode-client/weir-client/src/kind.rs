//! Kinds of errors, and what `std::io` makes of them.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use weir_abi::{SocketOption, status};

use crate::error::Error;

/// What was being done with a socket when it failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Doing {
    /// Connecting to this address.
    Connecting(SocketAddr),
    /// Binding to this address.
    Binding(SocketAddr),
    /// Listening on this address.
    Listening(SocketAddr),
    /// Accepting a connection.
    Accepting,
    /// Receiving.
    Receiving,
    /// Sending.
    Sending,
    /// Sending a datagram to this address.
    SendingTo(SocketAddr),
    /// Shutting down or aborting.
    ShuttingDown,
    /// Setting this option.
    Setting(weir_abi::SocketOption),
    /// Reading this option.
    Getting(weir_abi::SocketOption),
    /// Joining or leaving this multicast group.
    Group(std::net::IpAddr),
    /// Looking up this name.
    Resolving(String),
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Doing::Connecting(to) => write!(f, "connecting to {to}"),
            Doing::Binding(at) => write!(f, "binding to {at}"),
            Doing::Listening(at) => write!(f, "listening on {at}"),
            Doing::Accepting => f.write_str("accepting a connection"),
            Doing::Receiving => f.write_str("receiving"),
            Doing::Sending => f.write_str("sending"),
            Doing::SendingTo(to) => write!(f, "sending to {to}"),
            Doing::ShuttingDown => f.write_str("shutting down"),
            Doing::Setting(option) => write!(f, "setting {option}"),
            Doing::Getting(option) => write!(f, "reading {option}"),
            Doing::Group(group) => write!(f, "the membership in {group}"),
            Doing::Resolving(name) => write!(f, "looking up {name}"),
        }
    }
}

impl Doing {
    /// What this status means for this, where that is more than what it means
    /// in general: what is wrong, and what to do.
    pub(crate) fn meaning(&self, code: i32) -> Option<(&'static str, &'static str)> {
        Some(match (self, code) {
            (Doing::Connecting(_), status::INVALID_ADDRESS_COMPONENT) => (
                "nobody can connect to this address: it is multicast, broadcast, unspecified or \
                 IPv4-mapped, has no port, or is of another family than the address to connect from",
                "give a unicast address with a port",
            ),
            (Doing::Binding(_) | Doing::Listening(_), status::INVALID_ADDRESS_COMPONENT) => (
                "no socket can have this address: it is multicast, broadcast or IPv4-mapped",
                "use a unicast address of this machine, or 0.0.0.0 or [::] for all of them",
            ),
            (Doing::Group(_), status::INVALID_ADDRESS_COMPONENT) => (
                "it is no multicast group, or not one of the socket's family",
                "join a group of 224.0.0.0/4 on an IPv4 socket, of ff00::/8 on an IPv6 socket",
            ),
            (
                Doing::Group(_) | Doing::Setting(SocketOption::MulticastInterface),
                status::INVALID_PARAMETER,
            ) => (
                "no interface has this index, or it takes no multicasts",
                "give the index of one that is up, or 0 to let the system choose",
            ),
            (Doing::Group(_), status::ADDRESS_ALREADY_EXISTS) => (
                "the socket is in this group already",
                "join it once on each interface",
            ),
            (Doing::SendingTo(_), status::INVALID_ADDRESS_COMPONENT) => (
                "nothing can be sent to this address: it is unspecified, has no port, or is of \
                 another family than the socket",
                "give an address with a port, of the socket's family",
            ),
            (Doing::SendingTo(_), status::INVALID_BUFFER_SIZE) => (
                "no datagram is that long",
                "send 65507 bytes at most over IPv4, 65527 over IPv6",
            ),
            (Doing::Listening(_), status::INVALID_PARAMETER_2) => (
                "a flag is not one of listeners, or it is dual-stack and the address is of IPv4",
                "for both families listen on an IPv6 address, as [::]:7; leave other flags out",
            ),
            (Doing::SendingTo(_), status::ACCESS_DENIED) => (
                "it is a broadcast address, and the socket was not opened for that",
                "allow broadcasts (weirctl udp send --broadcast, set_broadcast)",
            ),
            _ => return None,
        })
    }
}

/// What kind of error it is: what a program decides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No driver, or this is not Windows.
    NoDriver,
    /// The caller may not.
    AccessDenied,
    /// Client and driver are of different releases.
    Version,
    /// Another socket or service has the address.
    AddressInUse,
    /// The address is not this machine's.
    AddressNotAvailable,
    /// An address, a group, an option or a size that can't be.
    InvalidInput,
    /// The peer refused.
    Refused,
    /// The peer reset the connection.
    Reset,
    /// The connection was given up on this side.
    Aborted,
    /// There is no connection.
    NotConnected,
    /// A write after this side was shut down, or the connection's end.
    BrokenPipe,
    /// Nothing leads there.
    Unreachable,
    /// It took too long.
    TimedOut,
    /// The name has no address, or the id nothing to it.
    NotFound,
    /// It was cancelled, or the driver is going.
    Cancelled,
    /// The driver's bound is reached, or there is no memory.
    OutOfRoom,
    /// The provider can't do this.
    Unsupported,
    /// Anything else.
    Other,
}

impl Error {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::NotPresent { .. } | Error::Unsupported => ErrorKind::NoDriver,
            Error::AccessDenied => ErrorKind::AccessDenied,
            Error::Version { .. } => ErrorKind::Version,
            Error::TimedOut { .. } => ErrorKind::TimedOut,
            Error::AfterShutdown => ErrorKind::BrokenPipe,
            Error::DatagramTooLong { .. }
            | Error::BadName { .. }
            | Error::ProgramTooLong { .. } => ErrorKind::InvalidInput,
            Error::NoAddress { .. } => ErrorKind::NotFound,
            Error::Refused { failure, .. } | Error::Socket { failure, .. } => {
                of_status(failure.status.0)
            }
            Error::System { .. } | Error::Reply { .. } | Error::Record(_) => ErrorKind::Other,
        }
    }
}

fn of_status(code: i32) -> ErrorKind {
    match code {
        status::ACCESS_DENIED => ErrorKind::AccessDenied,
        status::REVISION_MISMATCH => ErrorKind::Version,
        status::ADDRESS_ALREADY_EXISTS
        | status::ADDRESS_ALREADY_ASSOCIATED
        | status::OBJECT_NAME_COLLISION
        | status::SHARING_VIOLATION => ErrorKind::AddressInUse,
        status::INVALID_ADDRESS => ErrorKind::AddressNotAvailable,
        status::INVALID_ADDRESS_COMPONENT
        | status::INVALID_PARAMETER
        | status::INVALID_PARAMETER_1
        | status::INVALID_PARAMETER_2
        | status::INVALID_PARAMETER_3
        | status::INVALID_PARAMETER_4
        | status::INVALID_PARAMETER_5
        | status::INVALID_PARAMETER_6
        | status::INVALID_BUFFER_SIZE
        | status::INVALID_USER_BUFFER
        | status::BUFFER_TOO_SMALL => ErrorKind::InvalidInput,
        status::CONNECTION_REFUSED | status::REQUEST_NOT_ACCEPTED => ErrorKind::Refused,
        status::CONNECTION_RESET | status::REMOTE_DISCONNECT | status::PORT_UNREACHABLE => {
            ErrorKind::Reset
        }
        status::CONNECTION_ABORTED | status::LOCAL_DISCONNECT | status::FILE_FORCED_CLOSED => {
            ErrorKind::Aborted
        }
        status::INVALID_CONNECTION | status::CONNECTION_INVALID => ErrorKind::NotConnected,
        status::GRACEFUL_DISCONNECT | status::CONNECTION_DISCONNECTED => ErrorKind::BrokenPipe,
        status::NETWORK_UNREACHABLE | status::HOST_UNREACHABLE | status::PROTOCOL_UNREACHABLE => {
            ErrorKind::Unreachable
        }
        status::IO_TIMEOUT => ErrorKind::TimedOut,
        status::NOT_FOUND | status::NO_MATCH | status::NO_SUCH_DEVICE => ErrorKind::NotFound,
        status::CANCELLED
        | status::FILE_CLOSED
        | status::DELETE_PENDING
        | status::DEVICE_NOT_READY => ErrorKind::Cancelled,
        status::QUOTA_EXCEEDED | status::INSUFFICIENT_RESOURCES | status::TOO_MANY_ADDRESSES => {
            ErrorKind::OutOfRoom
        }
        status::NOT_SUPPORTED | status::INVALID_DEVICE_REQUEST => ErrorKind::Unsupported,
        _ => ErrorKind::Other,
    }
}

impl From<ErrorKind> for io::ErrorKind {
    fn from(kind: ErrorKind) -> io::ErrorKind {
        match kind {
            ErrorKind::NoDriver | ErrorKind::NotFound => io::ErrorKind::NotFound,
            ErrorKind::AccessDenied => io::ErrorKind::PermissionDenied,
            ErrorKind::Version | ErrorKind::Unsupported => io::ErrorKind::Unsupported,
            ErrorKind::AddressInUse => io::ErrorKind::AddrInUse,
            ErrorKind::AddressNotAvailable => io::ErrorKind::AddrNotAvailable,
            ErrorKind::InvalidInput => io::ErrorKind::InvalidInput,
            ErrorKind::Refused => io::ErrorKind::ConnectionRefused,
            ErrorKind::Reset => io::ErrorKind::ConnectionReset,
            ErrorKind::Aborted => io::ErrorKind::ConnectionAborted,
            ErrorKind::NotConnected => io::ErrorKind::NotConnected,
            ErrorKind::BrokenPipe => io::ErrorKind::BrokenPipe,
            ErrorKind::Unreachable => io::ErrorKind::HostUnreachable,
            ErrorKind::TimedOut => io::ErrorKind::TimedOut,
            // Not `Interrupted`: that means "again", and loops ask again.
            ErrorKind::Cancelled | ErrorKind::Other => io::ErrorKind::Other,
            ErrorKind::OutOfRoom => io::ErrorKind::OutOfMemory,
        }
    }
}

impl From<Error> for io::Error {
    /// The kind as `std::io` has it; the error itself inside, so its message
    /// and its codes are kept.
    fn from(error: Error) -> io::Error {
        io::Error::new(error.kind().into(), error)
    }
}

impl Error {
    /// The error inside an `io::Error` that a socket of this crate gave.
    pub fn from_io(error: io::Error) -> Result<Error, io::Error> {
        error.downcast::<Error>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Failure, NtStatus};

    #[test]
    fn what_fails_and_why_and_what_to_do_are_told() {
        let failure = Failure {
            status: NtStatus(status::CONNECTION_REFUSED),
            win32: 1225,
        };
        let to = "127.0.0.1:9".parse().expect("an address");
        let error = io::Error::from(Error::Socket {
            doing: Doing::Connecting(to),
            failure,
        });
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let text = error.to_string();
        assert!(
            text.starts_with("connecting to 127.0.0.1:9: nobody listens"),
            "{text}"
        );
        assert!(text.contains("Win32 error 1225"), "{text}");
        let inner = Error::from_io(error).expect("one of ours");
        assert_eq!(inner.status(), Some(failure.status));
        assert_eq!(inner.win32(), Some(1225));
    }

    #[test]
    fn what_was_done_says_more_than_the_status() {
        let to: SocketAddr = "255.255.255.255:9".parse().expect("an address");
        let told = |doing, code| {
            let failure = Failure {
                status: NtStatus(code),
                win32: 0,
            };
            Error::Socket { doing, failure }.to_string()
        };
        let text = told(Doing::SendingTo(to), status::ACCESS_DENIED);
        assert!(
            text.contains("a broadcast address") && text.contains("--broadcast"),
            "{text}"
        );
        let text = told(Doing::Group(to.ip()), status::INVALID_ADDRESS_COMPONENT);
        assert!(
            text.contains("no multicast group") && text.contains("0xc0000207"),
            "{text}"
        );
        for (doing, code, says) in [
            (
                Doing::Group(to.ip()),
                status::INVALID_PARAMETER,
                "interface",
            ),
            (
                Doing::Setting(SocketOption::MulticastInterface),
                status::INVALID_PARAMETER,
                "interface",
            ),
            (Doing::SendingTo(to), status::INVALID_BUFFER_SIZE, "65507"),
            (Doing::Listening(to), status::INVALID_PARAMETER_2, "IPv6"),
        ] {
            let text = told(doing, code);
            assert!(text.contains(says), "{text}");
        }
        let text = told(Doing::Accepting, status::ACCESS_DENIED);
        assert!(text.contains("SYSTEM and Administrators"), "{text}");
    }

    #[test]
    fn every_status_of_sockets_has_a_kind() {
        let of = |code| of_status(code);
        assert_eq!(of(status::PENDING), ErrorKind::Other);
        for info in status::TABLE {
            let about_sockets = info.name.contains("CONNECT") || info.name.contains("UNREACHABLE");
            if about_sockets {
                assert_ne!(of(info.code), ErrorKind::Other, "{}", info.name);
            }
        }
    }
}
