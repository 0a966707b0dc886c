//! Transport addresses: IPv4 and IPv6 `SOCKADDR`s as values.

use super::types::{AF_INET, AF_INET6};
use std::ffi::c_void;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// The largest `SOCKADDR` this provider has to do with: `SOCKADDR_IN6`.
pub(crate) const MAX_LEN: usize = 28;

/// A `SOCKADDR_IN` or `SOCKADDR_IN6`, byte for byte.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RawAddr {
    bytes: [u8; MAX_LEN],
    len: usize,
}

/// The length of the `SOCKADDR` of an address family, if it is one of ours.
pub(crate) const fn len_of(family: u16) -> Option<usize> {
    match family {
        AF_INET => Some(16),
        AF_INET6 => Some(28),
        _ => None,
    }
}

impl RawAddr {
    /// Reads the `SOCKADDR` at `address`, whose family must be `family`.
    /// `Err` holds the family that was there instead.
    ///
    /// # Safety
    /// `address` must be readable for the length of that family's `SOCKADDR`
    /// (the caller of the WSK function vouches for it).
    pub(crate) unsafe fn read(address: *const c_void, family: u16) -> Result<Self, u16> {
        // SAFETY: the caller vouches for a readable SOCKADDR, whose first two
        // bytes are the family; no alignment is assumed.
        let found = unsafe { address.cast::<u16>().read_unaligned() };
        let Some(len) = len_of(family) else {
            return Err(found);
        };
        if found != family {
            return Err(found);
        }
        let mut bytes = [0; MAX_LEN];
        // SAFETY: the family is right, so `len` bytes are readable by the
        // caller's word, and `bytes` is at least as long.
        unsafe { std::ptr::copy_nonoverlapping(address.cast::<u8>(), bytes.as_mut_ptr(), len) };
        Ok(Self { bytes, len })
    }

    /// Writes the address to a client's buffer.
    ///
    /// # Safety
    /// `to` must be writable for the length of this family's `SOCKADDR`.
    pub(crate) unsafe fn write(&self, to: *mut c_void) {
        // SAFETY: the caller vouches for `len` writable bytes; ours are in a
        // local array and so don't overlap.
        unsafe { std::ptr::copy_nonoverlapping(self.bytes.as_ptr(), to.cast::<u8>(), self.len) };
    }

    /// An address from bytes that Winsock filled in; `None` for a family that
    /// isn't ours.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let family = u16::from_ne_bytes([*bytes.first()?, *bytes.get(1)?]);
        let len = len_of(family)?;
        let mut copy = [0; MAX_LEN];
        copy.get_mut(..len)?.copy_from_slice(bytes.get(..len)?);
        Some(Self { bytes: copy, len })
    }

    pub(crate) fn as_ptr(&self) -> *const c_void {
        self.bytes.as_ptr().cast()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn family(&self) -> u16 {
        u16::from_ne_bytes([self.bytes[0], self.bytes[1]])
    }

    /// The address as Rust's, for tables and for people.
    pub(crate) fn to_std(self) -> SocketAddr {
        let port = u16::from_be_bytes([self.bytes[2], self.bytes[3]]);
        if self.family() == AF_INET {
            let b = &self.bytes;
            return SocketAddr::V4(SocketAddrV4::new(
                Ipv4Addr::new(b[4], b[5], b[6], b[7]),
                port,
            ));
        }
        let mut ip = [0; 16];
        ip.copy_from_slice(&self.bytes[8..24]);
        let mut scope = [0; 4];
        scope.copy_from_slice(&self.bytes[24..28]);
        SocketAddr::V6(SocketAddrV6::new(
            Ipv6Addr::from(ip),
            port,
            0,
            u32::from_ne_bytes(scope),
        ))
    }

    pub(crate) fn ip(self) -> IpAddr {
        self.to_std().ip()
    }

    pub(crate) fn port(self) -> u16 {
        self.to_std().port()
    }
}
