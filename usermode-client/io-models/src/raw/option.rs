//! Socket options that only Windows has.

use std::io;
use std::os::windows::io::AsRawSocket;

use windows_sys::Win32::Networking::WinSock::{
    SO_EXCLUSIVEADDRUSE, SO_PROTOCOL_INFOW, SO_UPDATE_ACCEPT_CONTEXT, SOCKET, SOL_SOCKET,
    WSAPROTOCOL_INFOW, XP1_IFS_HANDLES, getsockopt, setsockopt,
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

/// Whether the socket is a handle of the file system's, which its provider says:
/// one of a layered provider need not be, and then I/O modes of handles mean
/// nothing to it (MSDN "SetFileCompletionNotificationModes function").
pub(crate) fn is_handle(socket: &impl AsRawSocket) -> bool {
    let mut provider = WSAPROTOCOL_INFOW::default();
    let mut length = size_of::<WSAPROTOCOL_INFOW>().cast_signed() as i32;
    // SAFETY: the option's value is this structure; it is ours and of the length
    // given with it, through the call.
    let done = unsafe {
        getsockopt(
            number(socket),
            SOL_SOCKET,
            SO_PROTOCOL_INFOW,
            (&raw mut provider).cast(),
            &mut length,
        )
    };
    done == 0 && provider.dwServiceFlags1 & XP1_IFS_HANDLES != 0
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
