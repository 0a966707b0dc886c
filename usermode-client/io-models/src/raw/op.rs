//! An overlapped operation: what the kernel owns while it is in flight.

use std::io;
use std::ops::Range;
use std::os::windows::io::OwnedSocket;
use std::sync::Arc;

use windows_sys::Win32::Networking::WinSock::{
    LPWSAOVERLAPPED_COMPLETION_ROUTINE, SOCKET, WSA_IO_PENDING, WSABUF, WSAGetOverlappedResult,
    WSARecv, WSASend,
};
use windows_sys::Win32::System::IO::OVERLAPPED;

use super::{last_error, number};

/// An operation: the kernel's `OVERLAPPED`, the buffer it reads or fills, the
/// socket, which stays open at least as long, and what its owner wants to know
/// when it completes. It lives in a box, which is taken apart into a pointer
/// when the operation starts and put together again when it has completed: in
/// between no Rust code can reach it.
///
/// The `OVERLAPPED` comes first, so that its address is the operation's.
#[repr(C)]
pub(crate) struct Op<C> {
    pub(super) overlapped: OVERLAPPED,
    /// Winsock may write the flags of a receive when it completes, not only
    /// while it is called.
    flags: u32,
    pub(super) socket: Arc<OwnedSocket>,
    pub(super) buffer: Box<[u8]>,
    /// Its owner's.
    pub(crate) context: C,
}

const _: () = assert!(std::mem::offset_of!(Op<()>, overlapped) == 0);

impl<C> Op<C> {
    pub(super) fn new(socket: Arc<OwnedSocket>, buffer: usize, context: C) -> Box<Op<C>> {
        Box::new(Op {
            overlapped: OVERLAPPED::default(),
            flags: 0,
            socket,
            buffer: vec![0; buffer].into_boxed_slice(),
            context,
        })
    }

    fn bytes(&mut self, range: Range<usize>) -> io::Result<WSABUF> {
        let bytes = self.buffer.get_mut(range);
        let bytes = bytes.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(WSABUF {
            len: u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
            buf: bytes.as_mut_ptr(),
        })
    }
}

/// What to do with a buffer.
#[derive(Clone, Debug)]
pub(super) enum Transfer {
    Receive,
    Send(Range<usize>),
}

/// An operation that has started, and whether it was done at once.
pub(super) type Started<C> = (*mut Op<C>, bool);

/// An operation that did not start, given back.
pub(super) type Refused<C> = (Box<Op<C>>, io::Error);

/// Starts a transfer with the operation's buffer. When this succeeds the kernel
/// has the operation; it is over once its completion has come by whichever way
/// the caller set up: `overlapped.hEvent`, `routine`, or the socket's port. That
/// is also so if it is done at once: all three ways tell of it then too, unless
/// the socket was told that its port need not (`port`).
pub(super) fn transfer<C>(
    mut op: Box<Op<C>>,
    what: &Transfer,
    routine: LPWSAOVERLAPPED_COMPLETION_ROUTINE,
) -> Result<Started<C>, Refused<C>> {
    let range = match what {
        Transfer::Receive => 0..op.buffer.len(),
        Transfer::Send(range) => range.clone(),
    };
    let bytes = match op.bytes(range) {
        Ok(bytes) => bytes,
        Err(error) => return Err((op, error)),
    };
    start(op, |socket, op| {
        let overlapped = op.cast::<OVERLAPPED>();
        let done = match what {
            Transfer::Receive => {
                // SAFETY: `op` is valid: `start` has just made it from a box.
                let flags = unsafe { &raw mut (*op).flags };
                // SAFETY: `bytes` names memory of the operation's box, which with
                // its OVERLAPPED and flags stays where it is until the completion;
                // WSARecv copies the WSABUF itself. The socket is the operation's.
                unsafe {
                    WSARecv(
                        socket,
                        &bytes,
                        1,
                        std::ptr::null_mut(),
                        flags,
                        overlapped,
                        routine,
                    )
                }
            }
            // SAFETY: as above; a send has no flags to give back.
            Transfer::Send(_) => unsafe {
                WSASend(
                    socket,
                    &bytes,
                    1,
                    std::ptr::null_mut(),
                    0,
                    overlapped,
                    routine,
                )
            },
        };
        done == 0
    })
}

/// Hands the operation to `call`, which starts it and says whether that was done
/// at once. If it failed, and is not pending either, the operation is over.
pub(super) fn start<C>(
    mut op: Box<Op<C>>,
    call: impl FnOnce(SOCKET, *mut Op<C>) -> bool,
) -> Result<Started<C>, Refused<C>> {
    let event = op.overlapped.hEvent;
    op.overlapped = OVERLAPPED::default();
    op.overlapped.hEvent = event;
    op.flags = 0;
    let socket = number(&*op.socket);
    let op = Box::into_raw(op);
    let at_once = call(socket, op);
    if !at_once {
        let error = last_error();
        if error.raw_os_error() != Some(WSA_IO_PENDING) {
            // SAFETY: the call failed, so the kernel has not taken the operation
            // and nothing will tell of a completion (MSDN "WSARecv function",
            // return value): it is ours again, from the box above.
            return Err((unsafe { Box::from_raw(op) }, error));
        }
    }
    Ok((op, at_once))
}

/// How an operation ended: bytes, or the error as Winsock names it (a port's
/// packet has only an NTSTATUS). With `wait` this waits for its event.
///
/// # Safety
/// `op` is valid. Unless `wait`, it has completed or may be asked whether it has.
pub(super) unsafe fn outcome<C>(op: *mut Op<C>, wait: bool) -> io::Result<usize> {
    // SAFETY: `op` is valid by the contract; the socket in it is not the kernel's
    // to change.
    let socket = unsafe { &raw const (*op).socket };
    // SAFETY: valid for the same reason, and nobody writes to it.
    let socket = number(unsafe { &**socket });
    let (mut bytes, mut flags) = (0, 0);
    // SAFETY: OVERLAPPED is the first field of the valid `op`; both numbers are
    // ours through the call.
    let done = unsafe {
        WSAGetOverlappedResult(
            socket,
            op.cast_const().cast(),
            &mut bytes,
            i32::from(wait),
            &mut flags,
        )
    };
    if done == 0 {
        Err(last_error())
    } else {
        Ok(bytes as usize)
    }
}
