//! `AcceptEx`: an accept that is an overlapped operation like any other.

use std::io;
use std::os::windows::io::{AsRawSocket, OwnedSocket};

use socket2::{Domain, Protocol, Socket, Type};
use windows_sys::Win32::Networking::WinSock::{
    LPFN_ACCEPTEX, SIO_GET_EXTENSION_FUNCTION_POINTER, SOCKADDR_IN6, SOCKET, WSAID_ACCEPTEX,
    WSAIoctl,
};
use windows_sys::core::GUID;

use super::op::{Op, Refused, Started, start};
use super::{last_error, number, option};

/// Room for one address: the largest, and 16 bytes that `AcceptEx` wants beside
/// it.
const ADDRESS: usize = size_of::<SOCKADDR_IN6>() + 16;

/// Room for what `AcceptEx` puts in the buffer: both addresses.
pub(crate) const BUFFER: usize = 2 * ADDRESS;

/// The function, looked up for one listener's provider, which is how it is to be
/// had (MSDN "AcceptEx function", note).
#[derive(Clone, Copy)]
pub(crate) struct Accept {
    function: LPFN_ACCEPTEX,
    domain: Domain,
}

impl Accept {
    /// Looks it up for `listener`.
    pub(crate) fn new(listener: &Socket) -> io::Result<Accept> {
        let address = listener.local_addr()?;
        let name: GUID = WSAID_ACCEPTEX;
        let mut function: LPFN_ACCEPTEX = None;
        let mut bytes = 0;
        // SAFETY: in: a GUID; out: room for a function pointer, which the call
        // fills with the one the GUID names, of the type LPFN_ACCEPTEX is; the
        // socket is borrowed, and without OVERLAPPED the call is over when it
        // returns.
        let done = unsafe {
            WSAIoctl(
                number(listener),
                SIO_GET_EXTENSION_FUNCTION_POINTER,
                (&raw const name).cast(),
                size_of::<GUID>() as u32,
                (&raw mut function).cast(),
                size_of::<LPFN_ACCEPTEX>() as u32,
                &mut bytes,
                std::ptr::null_mut(),
                None,
            )
        };
        if done != 0 {
            return Err(last_error());
        }
        Ok(Accept {
            function,
            domain: address.domain(),
        })
    }

    /// A socket to accept a connection into.
    pub(crate) fn socket(&self) -> io::Result<OwnedSocket> {
        let socket = Socket::new(self.domain, Type::STREAM, Some(Protocol::TCP))?;
        Ok(socket.into())
    }

    /// Starts the operation, whose socket listens, to accept into `accepted`,
    /// which is open.
    pub(super) fn start<C>(
        &self,
        op: Box<Op<C>>,
        accepted: SOCKET,
    ) -> Result<Started<C>, Refused<C>> {
        let (Some(accept), true) = (self.function, op.buffer.len() >= BUFFER) else {
            return Err((op, io::ErrorKind::InvalidInput.into()));
        };
        start(op, |listener, op| {
            // SAFETY: `op` is valid: `start` has just made it from a box.
            let buffer = unsafe { &raw mut (*op).buffer };
            // SAFETY: valid for the same reason, and nobody else has it yet.
            let buffer = unsafe { (*buffer).as_mut_ptr() };
            let mut received = 0;
            // SAFETY: the function is AcceptEx. Buffer (of BUFFER bytes, as
            // checked) and OVERLAPPED are the operation's and stay where they are
            // until it completes; both sockets are open. Bytes received are
            // written before it returns, or not at all.
            let done = unsafe {
                accept(
                    listener,
                    accepted,
                    buffer.cast(),
                    0,
                    ADDRESS as u32,
                    ADDRESS as u32,
                    &mut received,
                    op.cast(),
                )
            };
            done != 0
        })
    }
}

/// Makes a socket that was accepted into one like any other.
pub(crate) fn finish(
    accepted: OwnedSocket,
    listener: &impl AsRawSocket,
) -> io::Result<OwnedSocket> {
    option::accepted(&accepted, listener)?;
    Ok(accepted)
}
