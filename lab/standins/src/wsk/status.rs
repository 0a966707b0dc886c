//! NTSTATUS codes that Winsock Kernel calls end with, and how the host's
//! socket errors become them.
//!
//! One table for error numbers of Winsock calls ([`from_winsock`]), one for
//! statuses that overlapped operations leave behind ([`from_overlapped`]).
//! Sources: "PFN_WSK_BIND" and its siblings, "Sharing Transport Addresses"
//! (INUSE = STATUS_ADDRESS_ALREADY_EXISTS, DENIED = STATUS_ACCESS_DENIED), and
//! the names of the NTSTATUS codes themselves, which Winsock's documented
//! errors mirror ("Windows Sockets Error Codes").

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
pub(crate) const SHARING_VIOLATION: NtStatus = nt(0xC000_0043);
pub(crate) const INSUFFICIENT_RESOURCES: NtStatus = nt(0xC000_009A);
pub(crate) const DEVICE_NOT_READY: NtStatus = nt(0xC000_00A3);
pub(crate) const PIPE_DISCONNECTED: NtStatus = nt(0xC000_00B0);
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

/// Error numbers of Winsock calls, and the NTSTATUS a WSK client sees.
const WINSOCK: &[(i32, NtStatus)] = &[
    (ws::WSAEACCES, ACCESS_DENIED),
    (ws::WSAEFAULT, ACCESS_VIOLATION),
    (ws::WSAEINVAL, INVALID_PARAMETER),
    (ws::WSAEMFILE, TOO_MANY_OPENED_FILES),
    (ws::WSAEWOULDBLOCK, CANT_WAIT),
    (ws::WSAEMSGSIZE, INVALID_BUFFER_SIZE),
    (ws::WSAEPROTOTYPE, NOT_SUPPORTED),
    (ws::WSAENOPROTOOPT, INVALID_PARAMETER),
    (ws::WSAEPROTONOSUPPORT, NOT_SUPPORTED),
    (ws::WSAESOCKTNOSUPPORT, NOT_SUPPORTED),
    (ws::WSAEOPNOTSUPP, NOT_SUPPORTED),
    (ws::WSAEAFNOSUPPORT, NOT_SUPPORTED),
    (ws::WSAEADDRINUSE, ADDRESS_ALREADY_EXISTS),
    (ws::WSAEADDRNOTAVAIL, INVALID_ADDRESS_COMPONENT),
    (ws::WSAENETUNREACH, NETWORK_UNREACHABLE),
    (ws::WSAEHOSTUNREACH, HOST_UNREACHABLE),
    (ws::WSAECONNABORTED, CONNECTION_ABORTED),
    (ws::WSAECONNRESET, CONNECTION_RESET),
    (ws::WSAENOBUFS, INSUFFICIENT_RESOURCES),
    (ws::WSAEISCONN, CONNECTION_ACTIVE),
    (ws::WSAENOTCONN, INVALID_CONNECTION),
    (ws::WSAESHUTDOWN, LOCAL_DISCONNECT),
    (ws::WSAETIMEDOUT, IO_TIMEOUT),
    (ws::WSAECONNREFUSED, CONNECTION_REFUSED),
    (ws::WSA_OPERATION_ABORTED, CANCELLED),
    (ws::WSAHOST_NOT_FOUND, NO_MATCH),
    (ws::WSATRY_AGAIN, NO_MATCH),
    (ws::WSANO_DATA, NO_MATCH),
];

/// The NTSTATUS for the error number of a failed Winsock call; what the table
/// doesn't know is STATUS_UNEXPECTED_NETWORK_ERROR.
pub(crate) fn from_winsock(error: i32) -> NtStatus {
    WINSOCK
        .iter()
        .find(|(code, _)| *code == error)
        .map_or(UNEXPECTED_NETWORK_ERROR, |(_, status)| *status)
}

/// The NTSTATUS for the status an overlapped operation ended with: as it is,
/// save where user mode's socket layer and WSK have different names for one
/// thing.
pub(crate) fn from_overlapped(status: NtStatus) -> NtStatus {
    match status {
        // A send after the sending side was shut down.
        PIPE_DISCONNECTED => LOCAL_DISCONNECT,
        SHARING_VIOLATION => ADDRESS_ALREADY_EXISTS,
        other => other,
    }
}

/// NT_SUCCESS.
pub(crate) const fn is_success(status: NtStatus) -> bool {
    status >= 0
}
