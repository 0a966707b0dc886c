//! Calls of the host's kernel, made directly.
//!
//! A program under Wine runs on the host's processor in the host's process, so
//! the host's system calls are there for it, without Wine's server between: as
//! on Windows a kernel socket has no user-mode socket layer above it. x86-64
//! Linux only, as is the lab.

use std::arch::asm;
use std::ffi::c_void;

/// A file descriptor of the host.
pub(crate) type Fd = i32;

pub(super) const CLOSE: usize = 3;
pub(super) const IOCTL: usize = 16;
pub(super) const SOCKET: usize = 41;
pub(super) const CONNECT: usize = 42;
pub(super) const SENDTO: usize = 44;
pub(super) const SENDMSG: usize = 46;
pub(super) const RECVMSG: usize = 47;
pub(super) const SHUTDOWN: usize = 48;
pub(super) const BIND: usize = 49;
pub(super) const LISTEN: usize = 50;
pub(super) const GETSOCKNAME: usize = 51;
pub(super) const GETPEERNAME: usize = 52;
pub(super) const SETSOCKOPT: usize = 54;
pub(super) const GETSOCKOPT: usize = 55;
pub(super) const EPOLL_WAIT: usize = 232;
pub(super) const EPOLL_CTL: usize = 233;
pub(super) const ACCEPT4: usize = 288;
pub(super) const EVENTFD2: usize = 290;
pub(super) const EPOLL_CREATE1: usize = 291;
pub(super) const WRITE: usize = 1;
pub(super) const READ: usize = 0;

/// `errno`s that somebody asks for by name.
pub(crate) mod errno {
    pub(crate) const EPERM: i32 = 1;
    pub(crate) const EINTR: i32 = 4;
    pub(crate) const EAGAIN: i32 = 11;
    pub(crate) const ENOMEM: i32 = 12;
    pub(crate) const EACCES: i32 = 13;
    pub(crate) const EFAULT: i32 = 14;
    pub(crate) const ENODEV: i32 = 19;
    pub(crate) const EINVAL: i32 = 22;
    pub(crate) const ENFILE: i32 = 23;
    pub(crate) const EMFILE: i32 = 24;
    pub(crate) const EPIPE: i32 = 32;
    pub(crate) const EMSGSIZE: i32 = 90;
    pub(crate) const ENOPROTOOPT: i32 = 92;
    pub(crate) const EPROTONOSUPPORT: i32 = 93;
    pub(crate) const EOPNOTSUPP: i32 = 95;
    pub(crate) const EAFNOSUPPORT: i32 = 97;
    pub(crate) const EADDRINUSE: i32 = 98;
    pub(crate) const EADDRNOTAVAIL: i32 = 99;
    pub(crate) const ENETDOWN: i32 = 100;
    pub(crate) const ENETUNREACH: i32 = 101;
    pub(crate) const ECONNABORTED: i32 = 103;
    pub(crate) const ECONNRESET: i32 = 104;
    pub(crate) const ENOBUFS: i32 = 105;
    pub(crate) const EISCONN: i32 = 106;
    pub(crate) const ENOTCONN: i32 = 107;
    pub(crate) const ETIMEDOUT: i32 = 110;
    pub(crate) const ECONNREFUSED: i32 = 111;
    pub(crate) const EHOSTUNREACH: i32 = 113;
    pub(crate) const EINPROGRESS: i32 = 115;
}

/// `struct iovec`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct IoVec {
    pub(crate) base: *mut u8,
    pub(crate) len: usize,
}

/// `struct msghdr`.
#[repr(C)]
pub(super) struct MsgHdr {
    pub(super) name: *mut c_void,
    pub(super) name_len: u32,
    pub(super) iov: *mut IoVec,
    pub(super) iov_len: usize,
    pub(super) control: *mut c_void,
    pub(super) control_len: usize,
    pub(super) flags: i32,
}

/// `struct epoll_event`, which is packed on x86-64.
#[repr(C, packed)]
#[derive(Clone, Copy, Default)]
pub(super) struct EpollEvent {
    pub(super) events: u32,
    pub(super) data: u64,
}

const _: () = {
    assert!(size_of::<MsgHdr>() == 56);
    assert!(size_of::<EpollEvent>() == 12);
};

/// One system call; again when a signal interrupts it before it did anything.
///
/// # Safety
/// The arguments must be what the call `number` wants: memory it is given
/// stays, and is writable where the call writes.
pub(super) unsafe fn call(number: usize, arguments: [usize; 6]) -> Result<usize, i32> {
    loop {
        let result: isize;
        let [a, b, c, d, e, f] = arguments;
        // SAFETY: the host's system call convention; the caller vouches for
        // the arguments.
        unsafe {
            asm!(
                "syscall",
                inlateout("rax") number.cast_signed() => result,
                in("rdi") a, in("rsi") b, in("rdx") c,
                in("r10") d, in("r8") e, in("r9") f,
                lateout("rcx") _, lateout("r11") _,
                options(nostack),
            );
        }
        // -4095 to -1 are errors.
        match result {
            -4095..=-1 => {
                let error = (-result) as i32;
                if error != errno::EINTR {
                    return Err(error);
                }
            }
            done => return Ok(done.cast_unsigned()),
        }
    }
}

/// A call without pointers.
pub(super) fn plain(number: usize, a: usize, b: usize, c: usize) -> Result<usize, i32> {
    // SAFETY: the callers in this folder name calls that take numbers only.
    unsafe { call(number, [a, b, c, 0, 0, 0]) }
}

pub(super) fn fd(fd: Fd) -> usize {
    fd.cast_unsigned() as usize
}
