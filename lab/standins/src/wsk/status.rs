//! NTSTATUS codes that Winsock Kernel calls end with, and how the host's
//! errors become them.
//!
//! One table for error numbers of the host's calls ([`from_host`]), one for
//! those of name resolution ([`from_resolver`]).
//! Sources: "PFN_WSK_BIND" and its siblings, "Sharing Transport Addresses"
//! (INUSE = STATUS_ADDRESS_ALREADY_EXISTS, DENIED = STATUS_ACCESS_DENIED), and
//! the names of the NTSTATUS codes themselves, which Winsock's documented
//! errors mirror ("Windows Sockets Error Codes").

use super::host::errno;
use super::types::NtStatus;
use windows_sys::Win32::Networking::WinSock as ws;

/// Writes an NTSTATUS the way the headers do.
const fn nt(code: u32) -> NtStatus {
    code.cast_signed()
}

pub(crate) const SUCCESS: NtStatus = 0;
pub(crate) const PENDING: NtStatus = nt(0x0000_0103);
/// Disabling an event callback function that is running, without an IRP.
pub(crate) const EVENT_PENDING: NtStatus = nt(0x4000_0033);
pub(crate) const BUFFER_OVERFLOW: NtStatus = nt(0x8000_0005);
pub(crate) const ACCESS_VIOLATION: NtStatus = nt(0xC000_0005);
pub(crate) const INVALID_PARAMETER: NtStatus = nt(0xC000_000D);
pub(crate) const ACCESS_DENIED: NtStatus = nt(0xC000_0022);
pub(crate) const BUFFER_TOO_SMALL: NtStatus = nt(0xC000_0023);
pub(crate) const INSUFFICIENT_RESOURCES: NtStatus = nt(0xC000_009A);
pub(crate) const DEVICE_NOT_READY: NtStatus = nt(0xC000_00A3);
pub(crate) const IO_TIMEOUT: NtStatus = nt(0xC000_00B5);
pub(crate) const NOT_SUPPORTED: NtStatus = nt(0xC000_00BB);
pub(crate) const UNEXPECTED_NETWORK_ERROR: NtStatus = nt(0xC000_00C4);
pub(crate) const CANT_WAIT: NtStatus = nt(0xC000_00D8);
pub(crate) const TOO_MANY_OPENED_FILES: NtStatus = nt(0xC000_011F);
pub(crate) const CANCELLED: NtStatus = nt(0xC000_0120);
/// The socket is no longer functional.
pub(crate) const FILE_FORCED_CLOSED: NtStatus = nt(0xC000_00B6);
pub(crate) const LOCAL_DISCONNECT: NtStatus = nt(0xC000_013B);
pub(crate) const INVALID_CONNECTION: NtStatus = nt(0xC000_0140);
pub(crate) const INVALID_DEVICE_STATE: NtStatus = nt(0xC000_0184);
pub(crate) const INVALID_BUFFER_SIZE: NtStatus = nt(0xC000_0206);
pub(crate) const INVALID_ADDRESS_COMPONENT: NtStatus = nt(0xC000_0207);
pub(crate) const ADDRESS_ALREADY_EXISTS: NtStatus = nt(0xC000_020A);
pub(crate) const CONNECTION_RESET: NtStatus = nt(0xC000_020D);
/// A `WskReceiveEvent` or `WskReceiveFromEvent` that does not want the data.
pub(crate) const DATA_NOT_ACCEPTED: NtStatus = nt(0xC000_021B);
pub(crate) const CONNECTION_REFUSED: NtStatus = nt(0xC000_0236);
pub(crate) const ADDRESS_ALREADY_ASSOCIATED: NtStatus = nt(0xC000_0238);
pub(crate) const CONNECTION_ACTIVE: NtStatus = nt(0xC000_023B);
pub(crate) const NETWORK_UNREACHABLE: NtStatus = nt(0xC000_023C);
pub(crate) const HOST_UNREACHABLE: NtStatus = nt(0xC000_023D);
pub(crate) const CONNECTION_ABORTED: NtStatus = nt(0xC000_0241);
pub(crate) const NO_MATCH: NtStatus = nt(0xC000_0272);
/// A `WskAcceptEvent` that turns the connection away.
pub(crate) const REQUEST_NOT_ACCEPTED: NtStatus = nt(0xC000_00D0);
pub(crate) const NOINTERFACE: NtStatus = nt(0xC000_02B9);

/// Error numbers of the host's calls, and the NTSTATUS a WSK client sees.
const HOST: &[(i32, NtStatus)] = &[
    (errno::EPERM, ACCESS_DENIED),
    (errno::EACCES, ACCESS_DENIED),
    (errno::EFAULT, ACCESS_VIOLATION),
    (errno::EINVAL, INVALID_PARAMETER),
    (errno::ENODEV, INVALID_PARAMETER),
    (errno::ENOPROTOOPT, INVALID_PARAMETER),
    (errno::EMFILE, TOO_MANY_OPENED_FILES),
    (errno::ENFILE, TOO_MANY_OPENED_FILES),
    (errno::EAGAIN, CANT_WAIT),
    (errno::EMSGSIZE, INVALID_BUFFER_SIZE),
    (errno::EPROTONOSUPPORT, NOT_SUPPORTED),
    (errno::EOPNOTSUPP, NOT_SUPPORTED),
    (errno::EAFNOSUPPORT, NOT_SUPPORTED),
    (errno::EADDRINUSE, ADDRESS_ALREADY_EXISTS),
    (errno::EADDRNOTAVAIL, INVALID_ADDRESS_COMPONENT),
    (errno::ENETDOWN, NETWORK_UNREACHABLE),
    (errno::ENETUNREACH, NETWORK_UNREACHABLE),
    (errno::EHOSTUNREACH, HOST_UNREACHABLE),
    (errno::ECONNABORTED, CONNECTION_ABORTED),
    (errno::ECONNRESET, CONNECTION_RESET),
    // A send on a connection whose reset was told already.
    (errno::EPIPE, CONNECTION_RESET),
    (errno::ENOMEM, INSUFFICIENT_RESOURCES),
    (errno::ENOBUFS, INSUFFICIENT_RESOURCES),
    (errno::EISCONN, CONNECTION_ACTIVE),
    (errno::ENOTCONN, INVALID_CONNECTION),
    (errno::ETIMEDOUT, IO_TIMEOUT),
    (errno::ECONNREFUSED, CONNECTION_REFUSED),
];

/// Error numbers of name resolution, which is Winsock's.
const RESOLVER: &[(i32, NtStatus)] = &[
    (ws::WSAEACCES, ACCESS_DENIED),
    (ws::WSAEFAULT, ACCESS_VIOLATION),
    (ws::WSAEINVAL, INVALID_PARAMETER),
    (ws::WSAEAFNOSUPPORT, NOT_SUPPORTED),
    (ws::WSAESOCKTNOSUPPORT, NOT_SUPPORTED),
    (ws::WSAENOBUFS, INSUFFICIENT_RESOURCES),
    (ws::WSAHOST_NOT_FOUND, NO_MATCH),
    (ws::WSATRY_AGAIN, NO_MATCH),
    (ws::WSANO_DATA, NO_MATCH),
];

fn named(table: &[(i32, NtStatus)], error: i32) -> NtStatus {
    table
        .iter()
        .find(|(code, _)| *code == error)
        .map_or(UNEXPECTED_NETWORK_ERROR, |(_, status)| *status)
}

/// The NTSTATUS for the error number of a failed call of the host; what the
/// table doesn't know is STATUS_UNEXPECTED_NETWORK_ERROR.
pub(crate) fn from_host(error: i32) -> NtStatus {
    named(HOST, error)
}

/// The same for an error number of the resolver.
pub(crate) fn from_resolver(error: i32) -> NtStatus {
    named(RESOLVER, error)
}

/// NT_SUCCESS.
pub(crate) const fn is_success(status: NtStatus) -> bool {
    status >= 0
}
