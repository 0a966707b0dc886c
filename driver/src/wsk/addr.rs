//! Transport addresses as the provider wants them.

use core::ffi::c_void;
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use super::sys;
use crate::kernel::status::{NtStatus, Result};

/// A `SOCKADDR_IN6`, or a `SOCKADDR_IN` at its start; which, the family says.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub(crate) struct SockAddr {
    family: u16,
    /// In network order.
    port: [u8; 2],
    /// IPv6: the flow label, in network order. IPv4: the address.
    flow_or_v4: [u8; 4],
    v6: [u8; 16],
    /// IPv6 only, in the machine's byte order.
    scope_id: u32,
}

const _: () = assert!(size_of::<SockAddr>() >= 28);
const _: () = assert!(core::mem::offset_of!(SockAddr, flow_or_v4) == 4);
const _: () = assert!(core::mem::offset_of!(SockAddr, v6) == 8);
const _: () = assert!(core::mem::offset_of!(SockAddr, scope_id) == 24);

impl SockAddr {
    /// Room for an address that the provider is to write.
    pub(crate) const EMPTY: Self = Self {
        family: 0,
        port: [0; 2],
        flow_or_v4: [0; 4],
        v6: [0; 16],
        scope_id: 0,
    };

    /// The wildcard address and port of the family that `like` has.
    pub(crate) fn any(like: &SocketAddr) -> Self {
        Self {
            family: if like.is_ipv4() {
                sys::AF_INET
            } else {
                sys::AF_INET6
            },
            ..Self::EMPTY
        }
    }

    /// A copy of an address the provider shows; [`SockAddr::EMPTY`] for none, or
    /// of a family that isn't one of IP's.
    ///
    /// # Safety
    /// Null, or a `SOCKADDR` of the length its family has.
    pub(super) unsafe fn read(address: *const c_void) -> Self {
        if address.is_null() {
            return Self::EMPTY;
        }
        // SAFETY: every SOCKADDR starts with its family (caller).
        let family = unsafe { address.cast::<u16>().read_unaligned() };
        let len = match family {
            sys::AF_INET => sys::SOCKADDR_IN_LEN,
            sys::AF_INET6 => sys::SOCKADDR_IN6_LEN,
            _ => return Self::EMPTY,
        };
        let mut copy = Self::EMPTY;
        let to = (&raw mut copy).cast::<u8>();
        // SAFETY: as long as its family says (caller), and no longer than the
        // copy, whose every pattern of bytes is valid.
        unsafe { core::ptr::copy_nonoverlapping(address.cast::<u8>(), to, len) };
        copy
    }

    /// Bytes of the `SOCKADDR_IN` or `SOCKADDR_IN6` this is.
    pub(super) fn len(&self) -> usize {
        if self.family == sys::AF_INET {
            sys::SOCKADDR_IN_LEN
        } else {
            sys::SOCKADDR_IN6_LEN
        }
    }

    /// `AF_INET` or `AF_INET6`.
    pub(super) fn family(&self) -> u16 {
        self.family
    }

    /// The port, in the machine's byte order.
    pub(crate) fn port(&self) -> u16 {
        u16::from_be_bytes(self.port)
    }
}

impl From<SocketAddr> for SockAddr {
    fn from(address: SocketAddr) -> Self {
        let port = address.port().to_be_bytes();
        match address {
            SocketAddr::V4(v4) => Self {
                family: sys::AF_INET,
                port,
                flow_or_v4: v4.ip().octets(),
                ..Self::EMPTY
            },
            SocketAddr::V6(v6) => Self {
                family: sys::AF_INET6,
                port,
                flow_or_v4: v6.flowinfo().to_be_bytes(),
                v6: v6.ip().octets(),
                scope_id: v6.scope_id(),
            },
        }
    }
}

impl TryFrom<&SockAddr> for SocketAddr {
    type Error = NtStatus;

    /// The address, or `STATUS_INVALID_ADDRESS_COMPONENT` for a family that
    /// isn't one of IP's.
    fn try_from(address: &SockAddr) -> Result<Self> {
        let port = address.port();
        match address.family {
            sys::AF_INET => Ok(SocketAddr::V4(SocketAddrV4::new(
                Ipv4Addr::from_octets(address.flow_or_v4),
                port,
            ))),
            sys::AF_INET6 => Ok(SocketAddr::V6(SocketAddrV6::new(
                Ipv6Addr::from_octets(address.v6),
                port,
                u32::from_be_bytes(address.flow_or_v4),
                address.scope_id,
            ))),
            _ => Err(NtStatus::INVALID_ADDRESS_COMPONENT),
        }
    }
}
