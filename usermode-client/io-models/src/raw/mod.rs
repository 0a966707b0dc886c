//! All of this crate that is unsafe. See README.md.

pub(crate) mod accept;
pub(crate) mod event;
pub(crate) mod flight;
mod op;
pub(crate) mod option;
pub(crate) mod port;
pub(crate) mod process;
pub(crate) mod routine;
pub(crate) mod select;
pub(crate) mod window;

use std::io;
use std::os::windows::io::AsRawSocket;

use windows_sys::Win32::Networking::WinSock::{SOCKET, WSAGetLastError};

/// What the last Winsock call of this thread failed with.
fn last_error() -> io::Error {
    // SAFETY: takes nothing and reads a value of this thread.
    io::Error::from_raw_os_error(unsafe { WSAGetLastError() })
}

/// The socket's number, as Winsock has it.
fn number(socket: &impl AsRawSocket) -> SOCKET {
    // A u64 in std, of the width of a pointer in Winsock; no socket is wider.
    socket.as_raw_socket() as SOCKET
}
