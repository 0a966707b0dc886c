//! Socket options.
//!
//! MSDN "WSK Socket Options", and for each level "IPPROTO_TCP Socket Options",
//! "IPPROTO_IP Socket Options", "IPPROTO_IPV6 Socket Options". Values are of the
//! shapes those pages have: mostly a `ULONG`, for groups an `IP_MREQ` or an
//! `IPV6_MREQ`. Setting or getting one takes an IRP and is waited for.

use core::ffi::c_void;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::ptr::{self, NonNull};

use super::op::{Control, Op};
use super::socket;
use super::sys;
use crate::kernel::status::{NtStatus, Result};

/// The family an option of the network layer is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// An option whose value is a number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Number {
    /// 0 or 1: small segments aren't held back (TCP).
    NoDelay,
    /// 0 or 1: an idle connection is probed (TCP).
    KeepAlive,
    /// Seconds of idleness before the first probe. From Windows 10 1709.
    KeepAliveIdle,
    /// Seconds between probes. From Windows 10 1709.
    KeepAliveInterval,
    /// Probes without an answer after which the connection is given up. From
    /// Windows 10 1703.
    KeepAliveCount,
    /// 0 or 1: the address may be another socket's, too. Before binding.
    ReuseAddress,
    /// Bytes the transport keeps for a socket that doesn't receive.
    ReceiveBuffer,
    /// Bytes the transport keeps of what was sent. WSK itself doesn't buffer
    /// sends; a transport may refuse this.
    SendBuffer,
    /// Hops a unicast packet may take.
    HopLimit(Family),
    /// Hops a multicast packet may take.
    MulticastHopLimit(Family),
    /// The index of the interface multicast goes out by; 0 for the default.
    MulticastInterface(Family),
    /// 0 or 1: multicast is looped back to this machine's members.
    MulticastLoop(Family),
    /// 0 or 1: may send to broadcast addresses.
    Broadcast,
    /// 0 or 1: an IPv6 socket isn't an IPv4 one too. Before binding.
    V6Only,
    /// 0 or 1: a listener's connections are asked about before the handshake is
    /// answered. Before binding.
    ConditionalAccept,
}

impl Number {
    /// The option's level and name.
    fn code(self) -> (u32, u32) {
        let ip = |family| match family {
            Family::V4 => sys::IPPROTO_IP,
            Family::V6 => sys::IPPROTO_IPV6,
        };
        match self {
            Self::NoDelay => (sys::IPPROTO_TCP, sys::TCP_NODELAY),
            Self::KeepAlive => (sys::SOL_SOCKET, sys::SO_KEEPALIVE),
            Self::KeepAliveIdle => (sys::IPPROTO_TCP, sys::TCP_KEEPIDLE),
            Self::KeepAliveInterval => (sys::IPPROTO_TCP, sys::TCP_KEEPINTVL),
            Self::KeepAliveCount => (sys::IPPROTO_TCP, sys::TCP_KEEPCNT),
            Self::ReuseAddress => (sys::SOL_SOCKET, sys::SO_REUSEADDR),
            Self::ReceiveBuffer => (sys::SOL_SOCKET, sys::SO_RCVBUF),
            Self::SendBuffer => (sys::SOL_SOCKET, sys::SO_SNDBUF),
            Self::HopLimit(family) => (ip(family), sys::IP_TTL),
            Self::MulticastHopLimit(family) => (ip(family), sys::IP_MULTICAST_TTL),
            Self::MulticastInterface(family) => (ip(family), sys::IP_MULTICAST_IF),
            Self::MulticastLoop(family) => (ip(family), sys::IP_MULTICAST_LOOP),
            Self::Broadcast => (sys::SOL_SOCKET, sys::SO_BROADCAST),
            Self::V6Only => (sys::IPPROTO_IPV6, sys::IPV6_V6ONLY),
            Self::ConditionalAccept => (sys::SOL_SOCKET, sys::SO_CONDITIONAL_ACCEPT),
        }
    }

    /// The value as the option has it, and back: an IPv4 interface's index is in
    /// network order (MSDN "IPPROTO_IP Socket Options", `IP_MULTICAST_IF`).
    fn order(self, value: u32) -> u32 {
        match self {
            Self::MulticastInterface(Family::V4) => value.to_be(),
            _ => value,
        }
    }
}

/// A multicast group on an interface.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    /// The interface by one of its addresses, by its index as `0.x.x.x`, or
    /// unspecified.
    V4 {
        group: Ipv4Addr,
        interface: Ipv4Addr,
    },
    /// The interface by its index; 0 for the default.
    V6 { group: Ipv6Addr, interface: u32 },
}

impl Group {
    /// `IP_MREQ` or `IPV6_MREQ`: its bytes, and how many of them.
    fn bytes(self) -> ([u8; 20], usize, u32) {
        let mut bytes = [0u8; 20];
        let (group, rest) = bytes.split_at_mut(match self {
            Self::V4 { .. } => 4,
            Self::V6 { .. } => 16,
        });
        let (interface, _) = rest.split_at_mut(4);
        match self {
            Self::V4 {
                group: address,
                interface: on,
            } => {
                group.copy_from_slice(&address.octets());
                interface.copy_from_slice(&on.octets());
                (bytes, 8, sys::IPPROTO_IP)
            }
            Self::V6 {
                group: address,
                interface: on,
            } => {
                group.copy_from_slice(&address.octets());
                interface.copy_from_slice(&on.to_ne_bytes());
                (bytes, 20, sys::IPPROTO_IPV6)
            }
        }
    }
}

/// A call of `WskControlSocket`.
#[derive(Clone, Copy)]
pub(super) struct Request {
    pub(super) kind: u32,
    pub(super) code: u32,
    pub(super) level: u32,
}

/// A socket of any category, for what can be done with all of them. Everything
/// here is called at `PASSIVE_LEVEL` unless it says otherwise.
pub(crate) trait Socket {
    /// The provider's socket; an error if it is being closed.
    fn raw(&self) -> Result<NonNull<sys::WskSocket>>;

    /// Sets an option. `STATUS_NOT_SUPPORTED` or `STATUS_INVALID_PARAMETER` if
    /// the transport doesn't have it for this socket.
    ///
    /// # Safety
    /// The socket isn't closed, nor being closed.
    unsafe fn set(&self, control: &Control, option: Number, value: u32) -> Result<()> {
        let (level, code) = option.code();
        let request = Request {
            kind: sys::WSK_SET_OPTION,
            code,
            level,
        };
        let mut value = option.order(value).to_ne_bytes();
        // SAFETY: open (caller).
        unsafe { ask(self.raw()?, control, request, &mut value, &mut []) }.map(|_| ())
    }

    /// Starts to set an option; how that went is in `op`.
    /// `IRQL <= DISPATCH_LEVEL`.
    ///
    /// # Safety
    /// As [`Socket::set`]; `value` stays until `op` has ended, and nobody else
    /// uses it.
    unsafe fn start_set(&self, op: &Op, option: Number, value: *mut u32) -> Result<()> {
        let (level, code) = option.code();
        let socket = self.raw()?;
        // SAFETY: every provider table starts with the basic one, and the socket
        // is open.
        let control = unsafe { socket::basic(socket).control_socket };
        let control = control.ok_or(NtStatus::NOT_SUPPORTED)?;
        op.issue(|irp| {
            // SAFETY: an open socket and its own function; a value that stays
            // until the IRP is completed (caller), and no output.
            unsafe {
                control(
                    socket.as_ptr(),
                    sys::WSK_SET_OPTION,
                    code,
                    level,
                    size_of::<u32>(),
                    value.cast::<c_void>(),
                    0,
                    ptr::null_mut(),
                    ptr::null_mut(),
                    irp,
                )
            };
        })
    }

    /// The value of an option.
    ///
    /// # Safety
    /// As [`Socket::set`].
    unsafe fn get(&self, control: &Control, option: Number) -> Result<u32> {
        let (level, code) = option.code();
        let request = Request {
            kind: sys::WSK_GET_OPTION,
            code,
            level,
        };
        let mut value = [0u8; 4];
        // SAFETY: open (caller).
        unsafe { ask(self.raw()?, control, request, &mut [], &mut value) }?;
        Ok(option.order(u32::from_ne_bytes(value)))
    }

    /// Joins a group, or leaves it.
    ///
    /// # Safety
    /// As [`Socket::set`].
    unsafe fn member(&self, control: &Control, group: Group, join: bool) -> Result<()> {
        let (mut bytes, len, level) = group.bytes();
        let request = Request {
            kind: sys::WSK_SET_OPTION,
            code: if join {
                sys::IP_ADD_MEMBERSHIP
            } else {
                sys::IP_DROP_MEMBERSHIP
            },
            level,
        };
        let input = bytes.get_mut(..len).unwrap_or_default();
        // SAFETY: open (caller).
        unsafe { ask(self.raw()?, control, request, input, &mut []) }.map(|_| ())
    }
}

/// Makes one call of `WskControlSocket` and waits for it.
///
/// # Safety
/// `socket` is open.
pub(super) unsafe fn ask(
    socket: NonNull<sys::WskSocket>,
    control: &Control,
    request: Request,
    input: &mut [u8],
    output: &mut [u8],
) -> Result<usize> {
    // SAFETY: every provider table starts with the basic one, and the socket is
    // open.
    let call = unsafe { socket::basic(socket).control_socket };
    let call = call.ok_or(NtStatus::NOT_SUPPORTED)?;
    // No buffer is a null pointer, not one to nothing.
    let at = |bytes: &mut [u8]| match bytes.len() {
        0 => ptr::null_mut(),
        _ => bytes.as_mut_ptr().cast::<c_void>(),
    };
    let (from, to) = (at(input), at(output));
    control.run(|irp| {
        // SAFETY: an open socket and its own function; buffers of the sizes
        // stated, on a kernel stack, which outlive the call: it is waited for.
        unsafe {
            call(
                socket.as_ptr(),
                request.kind,
                request.code,
                request.level,
                input.len(),
                from,
                output.len(),
                to,
                ptr::null_mut(),
                irp,
            )
        };
    })
}
