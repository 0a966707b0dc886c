//! The host's sockets, as the provider uses them: non-blocking descriptors,
//! and one epoll instance that says when to try again.
//!
//! Addresses and options go in and out as Windows has them; [`options`] and
//! [`control`] translate. Errors are the host's numbers; [`super::status`]
//! turns them into NTSTATUS at the one place that needs it.

mod addresses;
pub(super) mod control;
pub(super) mod gate;
pub(super) mod options;
mod poll;
mod sys;

pub(super) use addresses::{local_addresses, watch_addresses};
pub(super) use poll::{Event, Poll, READ, RESET, WRITE};
pub(super) use sys::{Fd, IoVec, errno};

use super::addr::{MAX_LEN, RawAddr};
use super::types::{AF_INET, AF_INET6, IPPROTO_TCP, SOCK_DGRAM};
use control::Control;
use std::ffi::c_void;
use std::ptr::null_mut;
use sys::{MsgHdr, call, plain};

/// No descriptor.
pub(super) const NONE: Fd = -1;

/// `AF_INET6` as the host has it; `AF_INET` is the same.
const HOST_INET6: u16 = 10;
const SOCK_NONBLOCK: usize = 0o4000;
const SOCK_CLOEXEC: usize = 0o2_000_000;
const NONBLOCK_CLOEXEC: usize = SOCK_NONBLOCK | SOCK_CLOEXEC;
const MSG_PEEK: usize = 2;
const MSG_NOSIGNAL: usize = 0x4000;
const MSG_TRUNC: i32 = 0x20;
const FIONREAD: usize = 0x541B;

/// How a call came back.
pub(super) enum Started {
    /// Done, so many bytes.
    Done(usize),
    /// Not now; the poll will say when.
    Later,
    /// It failed.
    Failed(i32),
}

impl Started {
    fn of(result: Result<usize, i32>) -> Self {
        match result {
            Ok(bytes) => Self::Done(bytes),
            Err(errno::EAGAIN | errno::EINPROGRESS) => Self::Later,
            Err(error) => Self::Failed(error),
        }
    }
}

/// An address the way the host writes it.
struct HostAddr {
    bytes: [u8; MAX_LEN],
    len: u32,
}

impl HostAddr {
    fn of(address: &RawAddr) -> Self {
        let mut bytes = [0; MAX_LEN];
        // SAFETY: MAX_LEN bytes, as long as any SOCKADDR of ours.
        unsafe { address.write(bytes.as_mut_ptr().cast()) };
        if address.family() == AF_INET6 {
            bytes[..2].copy_from_slice(&HOST_INET6.to_ne_bytes());
        }
        Self {
            bytes,
            len: address.len() as u32,
        }
    }

    const fn room() -> Self {
        Self {
            bytes: [0; MAX_LEN],
            len: MAX_LEN as u32,
        }
    }

    /// As Windows writes it.
    fn read(mut self) -> Option<RawAddr> {
        let family = u16::from_ne_bytes([self.bytes[0], self.bytes[1]]);
        match family {
            AF_INET => {}
            HOST_INET6 => self.bytes[..2].copy_from_slice(&AF_INET6.to_ne_bytes()),
            _ => return None,
        }
        RawAddr::from_bytes(&self.bytes)
    }
}

/// A new socket, IPv6 only where it is IPv6, as Windows has it.
pub(super) fn socket(family: u16, kind: u16, protocol: u32) -> Result<Fd, i32> {
    let host_family = if family == AF_INET6 {
        HOST_INET6
    } else {
        family
    };
    let kind_bits = usize::from(kind) | NONBLOCK_CLOEXEC;
    let fd = plain(
        sys::SOCKET,
        usize::from(host_family),
        kind_bits,
        protocol as usize,
    )? as Fd;
    if family == AF_INET6 {
        options::v6_only(fd)?;
    }
    if kind == SOCK_DGRAM {
        // What says of a datagram that it was a multicast or a broadcast.
        options::receive_packet_info(fd, family)?;
    }
    Ok(fd)
}

pub(super) fn close(fd: Fd) {
    let _always_closed = plain(sys::CLOSE, sys::fd(fd), 0, 0);
}

/// Closes with a reset instead of an orderly end.
pub(super) fn close_abortive(fd: Fd) {
    let _not_a_stream = options::linger_none(fd);
    close(fd);
}

/// Binds. A listening socket may have an address whose last connections still
/// linger, as on Windows.
pub(super) fn bind(fd: Fd, address: RawAddr, listening: bool) -> Result<(), i32> {
    if listening {
        options::reuse(fd)?;
    }
    let to = HostAddr::of(&address);
    // SAFETY: an address of this length.
    unsafe {
        call(
            sys::BIND,
            [
                sys::fd(fd),
                to.bytes.as_ptr() as usize,
                to.len as usize,
                0,
                0,
                0,
            ],
        )
    }
    .map(drop)
}

/// Listens, for as many as the host holds.
pub(super) fn listen(fd: Fd) -> Result<(), i32> {
    plain(sys::LISTEN, sys::fd(fd), 65_535, 0).map(drop)
}

/// The end of sending.
pub(super) fn shutdown_send(fd: Fd) -> Result<(), i32> {
    plain(sys::SHUTDOWN, sys::fd(fd), 1, 0).map(drop)
}

fn name_of(number: usize, fd: Fd) -> Result<RawAddr, i32> {
    let mut name = HostAddr::room();
    let (bytes, len) = (name.bytes.as_mut_ptr() as usize, &raw mut name.len as usize);
    // SAFETY: room for an address, and its length.
    unsafe { call(number, [sys::fd(fd), bytes, len, 0, 0, 0]) }?;
    name.read().ok_or(errno::EAFNOSUPPORT)
}

pub(super) fn local_address(fd: Fd) -> Result<RawAddr, i32> {
    name_of(sys::GETSOCKNAME, fd)
}

pub(super) fn remote_address(fd: Fd) -> Result<RawAddr, i32> {
    name_of(sys::GETPEERNAME, fd)
}

/// Whether a connection whose receive found its end was in truth reset, and a
/// send was told first: then it has no other side any more.
pub(super) fn was_reset(fd: Fd) -> bool {
    matches!(remote_address(fd), Err(errno::ENOTCONN))
}

/// Begins to connect.
pub(super) fn connect(fd: Fd, to: RawAddr) -> Started {
    let to = HostAddr::of(&to);
    // SAFETY: an address of this length.
    let result = unsafe {
        call(
            sys::CONNECT,
            [
                sys::fd(fd),
                to.bytes.as_ptr() as usize,
                to.len as usize,
                0,
                0,
                0,
            ],
        )
    };
    Started::of(result)
}

/// The next connection that waits, if one does.
pub(super) fn accept(fd: Fd) -> Result<Option<Fd>, i32> {
    let flags = NONBLOCK_CLOEXEC;
    // SAFETY: no address is asked for.
    let result = unsafe { call(sys::ACCEPT4, [sys::fd(fd), 0, 0, flags, 0, 0]) };
    match result {
        Ok(accepted) => Ok(Some(accepted as Fd)),
        Err(errno::EAGAIN) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sends; on a stream perhaps a part.
///
/// # Safety
/// The memory the segments name must be readable.
pub(super) unsafe fn send(
    fd: Fd,
    segments: &mut [IoVec],
    to: Option<RawAddr>,
    control: &mut [u8],
) -> Started {
    let mut to = to.as_ref().map(HostAddr::of);
    let (name, name_len) = to
        .as_mut()
        .map_or((null_mut(), 0), |to| (to.bytes.as_mut_ptr().cast(), to.len));
    let message = MsgHdr {
        name,
        name_len,
        iov: segments.as_mut_ptr(),
        // The host takes so many at a time; a stream goes on with the rest.
        iov_len: segments.len().min(1024),
        control: if control.is_empty() {
            null_mut()
        } else {
            control.as_mut_ptr().cast()
        },
        control_len: control.len(),
        flags: 0,
    };
    let at = &raw const message as usize;
    // SAFETY: a whole message header; the caller vouches for the segments.
    Started::of(unsafe { call(sys::SENDMSG, [sys::fd(fd), at, MSG_NOSIGNAL, 0, 0, 0]) })
}

/// Receives from a stream; `peek` leaves the data where it is.
///
/// # Safety
/// The memory the segments name must be writable.
pub(super) unsafe fn receive(fd: Fd, segments: &mut [IoVec], peek: bool) -> Started {
    let mut message = MsgHdr {
        name: null_mut(),
        name_len: 0,
        iov: segments.as_mut_ptr(),
        iov_len: segments.len().min(1024),
        control: null_mut(),
        control_len: 0,
        flags: 0,
    };
    let flags = if peek { MSG_PEEK } else { 0 };
    let at = &raw mut message as usize;
    // SAFETY: a whole message header; the caller vouches for the segments.
    Started::of(unsafe { call(sys::RECVMSG, [sys::fd(fd), at, flags, 0, 0, 0]) })
}

/// What came with a datagram.
#[derive(Clone, Default)]
pub(super) struct From {
    /// Where it came from.
    pub(super) address: Option<RawAddr>,
    /// It was longer than the memory.
    pub(super) truncated: bool,
    /// Where it was sent to, and more.
    pub(super) control: Control,
}

/// Receives a datagram.
///
/// # Safety
/// The memory the segments name must be writable.
pub(super) unsafe fn receive_from(fd: Fd, segments: &mut [IoVec]) -> (Started, From) {
    let mut name = HostAddr::room();
    let mut control = control::Room::new();
    let mut message = MsgHdr {
        name: name.bytes.as_mut_ptr().cast::<c_void>(),
        name_len: name.len,
        iov: segments.as_mut_ptr(),
        iov_len: segments.len().min(1024),
        control: control.as_mut_ptr().cast(),
        control_len: control::ROOM,
        flags: 0,
    };
    let at = &raw mut message as usize;
    // SAFETY: a whole message header; the caller vouches for the segments.
    let result = unsafe { call(sys::RECVMSG, [sys::fd(fd), at, 0, 0, 0, 0]) };
    let mut from = From::default();
    if result.is_ok() {
        from.address = name.read();
        from.truncated = message.flags & MSG_TRUNC != 0;
        from.control = control.read(message.control_len);
    }
    (Started::of(result), from)
}

/// Reads a descriptor empty; whether there was anything.
pub(super) fn drain(fd: Fd) -> bool {
    let mut scratch = [0u8; 4096];
    let mut any = false;
    loop {
        let (at, len) = (scratch.as_mut_ptr() as usize, scratch.len());
        // SAFETY: writable bytes, and how many.
        match unsafe { call(sys::READ, [sys::fd(fd), at, len, 0, 0, 0]) } {
            Ok(0) | Err(_) => return any,
            Ok(_) => any = true,
        }
    }
}

/// Bytes that wait to be received.
pub(super) fn receive_backlog(fd: Fd) -> Result<usize, i32> {
    let mut available = 0i32;
    let at = &raw mut available as usize;
    // SAFETY: FIONREAD writes one int.
    unsafe { call(sys::IOCTL, [sys::fd(fd), FIONREAD, at, 0, 0, 0]) }?;
    Ok(usize::try_from(available).unwrap_or(0))
}

/// True for TCP.
pub(super) const fn is_tcp(protocol: u32) -> bool {
    protocol == IPPROTO_TCP
}
