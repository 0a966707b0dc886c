//! Socket options that only Windows has.

use std::io;
use std::os::windows::io::AsRawSocket;

use windows_sys::Win32::Networking::WinSock::{
    SO_EXCLUSIVEADDRUSE, SO_UPDATE_ACCEPT_CONTEXT, SOCKET, SOL_SOCKET, setsockopt,
};

use super::{last_error, number};

/// Has the port for itself: nobody can bind it beside this socket.
pub(crate) fn exclusive(socket: &impl AsRawSocket) -> io::Result<()> {
    set(number(socket), SO_EXCLUSIVEADDRUSE, &1_u32.to_ne_bytes())
}

/// Makes a socket that `AcceptEx` filled a full one: without it `shutdown` fails
/// on it (MSDN "AcceptEx function", remarks).
pub(super) fn accepted(socket: &impl AsRawSocket, listener: &impl AsRawSocket) -> io::Result<()> {
    let listener = number(listener).to_ne_bytes();
    set(number(socket), SO_UPDATE_ACCEPT_CONTEXT, &listener)
}

fn set(socket: SOCKET, option: i32, value: &[u8]) -> io::Result<()> {
    // SAFETY: `value` is valid for the length given with it, through the call,
    // which copies it.
    let done = unsafe {
        setsockopt(
            socket,
            SOL_SOCKET,
            option,
            value.as_ptr(),
            i32::try_from(value.len()).unwrap_or(0),
        )
    };
    if done == 0 { Ok(()) } else { Err(last_error()) }
}
