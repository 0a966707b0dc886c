//! Addresses of sockets on the wire, and what they mean.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::status;

message! {
    /// A transport address.
    pub struct SocketAddress [32] {
        /// 4 or 6: the version of IP, not an `AF_` constant. 0, with zeros in every
        /// other field: no address, where one may be left out.
        0 => family: u32,
        /// IPv6 scope id (RFC 4007); 0 for IPv4.
        4 => scope_id: u32,
        /// The address in network order; IPv4 in the first four bytes, the rest 0.
        8 => addr: [u8; 16],
        /// The port, in the machine's byte order. 0 lets the driver choose.
        24 => port: u16,
        /// 0.
        26 => reserved0: u16,
        /// 0.
        28 => reserved1: u32,
    }
}

/// [`SocketAddress::family`] of IPv4.
pub const FAMILY_V4: u32 = 4;
/// [`SocketAddress::family`] of IPv6.
pub const FAMILY_V6: u32 = 6;

/// Why an address can't be what it is given for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressError {
    /// The family is neither 4 nor 6.
    Family(u32),
    /// An IPv4 address with a scope id, or with bytes after its fourth.
    NotPlainV4,
    /// A multicast or broadcast address, which nobody has as its own.
    NotUnicast,
    /// Port 0, or the unspecified address: nobody to send to or connect to.
    NotADestination,
    /// Not a multicast address, which groups have.
    NotMulticast,
    /// Local and remote address, or socket and address, of different families.
    Families,
    /// An IPv4 address wrapped in IPv6 (RFC 4291 section 2.5.5.2).
    MappedV4,
    /// A reserved field isn't 0.
    Reserved,
}

impl AddressError {
    /// The NTSTATUS that says so.
    #[must_use]
    pub const fn status(self) -> i32 {
        match self {
            AddressError::Reserved => status::INVALID_PARAMETER,
            _ => status::INVALID_ADDRESS_COMPONENT,
        }
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AddressError::Family(n) => write!(f, "address family {n} is neither 4 nor 6"),
            AddressError::NotPlainV4 => f.write_str("an IPv4 address with a scope or extra bytes"),
            AddressError::NotUnicast => f.write_str("a multicast or broadcast address"),
            AddressError::NotADestination => f.write_str("port 0 or the unspecified address"),
            AddressError::NotMulticast => f.write_str("not a multicast address"),
            AddressError::Families => f.write_str("addresses of different families"),
            AddressError::MappedV4 => f.write_str("an IPv4-mapped IPv6 address"),
            AddressError::Reserved => f.write_str("a reserved field of the address isn't 0"),
        }
    }
}

impl core::error::Error for AddressError {}

impl SocketAddress {
    /// No address.
    pub const NONE: Self = SocketAddress {
        family: 0,
        scope_id: 0,
        addr: [0; 16],
        port: 0,
        reserved0: 0,
        reserved1: 0,
    };

    /// The socket address these bytes mean, if they are one: `None` for
    /// [`SocketAddress::NONE`].
    pub fn optional(&self) -> Result<Option<SocketAddr>, AddressError> {
        if *self == Self::NONE {
            return Ok(None);
        }
        self.socket_addr().map(Some)
    }

    /// An address to connect or relay to: unicast, with a port.
    pub fn connect_addr(&self) -> Result<SocketAddr, AddressError> {
        let addr = self.listen_addr()?;
        if addr.port() == 0 || addr.ip().is_unspecified() {
            return Err(AddressError::NotADestination);
        }
        Ok(addr)
    }

    /// An address to send a datagram to: of any kind, with a port.
    pub fn send_addr(&self) -> Result<SocketAddr, AddressError> {
        let addr = self.socket_addr()?;
        if addr.port() == 0 || addr.ip().is_unspecified() {
            return Err(AddressError::NotADestination);
        }
        Ok(addr)
    }

    /// A multicast group: its port is 0, since a group has none.
    pub fn group(&self) -> Result<IpAddr, AddressError> {
        let addr = self.socket_addr()?;
        if addr.port() != 0 || !addr.ip().is_multicast() {
            return Err(AddressError::NotMulticast);
        }
        Ok(addr.ip())
    }

    /// The socket address these bytes mean, of any kind: no check that a
    /// service could listen on it.
    pub const fn socket_addr(&self) -> Result<SocketAddr, AddressError> {
        if self.reserved0 != 0 || self.reserved1 != 0 {
            return Err(AddressError::Reserved);
        }
        match self.family {
            FAMILY_V4 => {
                let [a, b, c, d, rest @ ..] = self.addr;
                if self.scope_id != 0 || u96(rest) != 0 {
                    return Err(AddressError::NotPlainV4);
                }
                Ok(SocketAddr::V4(SocketAddrV4::new(
                    Ipv4Addr::new(a, b, c, d),
                    self.port,
                )))
            }
            FAMILY_V6 => Ok(SocketAddr::V6(SocketAddrV6::new(
                Ipv6Addr::from_octets(self.addr),
                self.port,
                0,
                self.scope_id,
            ))),
            other => Err(AddressError::Family(other)),
        }
    }

    /// The socket address to listen on or to be bound to: unicast or unspecified.
    pub const fn listen_addr(&self) -> Result<SocketAddr, AddressError> {
        let addr = match self.socket_addr() {
            Ok(addr) => addr,
            Err(e) => return Err(e),
        };
        match addr.ip() {
            IpAddr::V4(ip) if ip.is_multicast() || ip.is_broadcast() => {
                Err(AddressError::NotUnicast)
            }
            IpAddr::V6(ip) if ip.is_multicast() => Err(AddressError::NotUnicast),
            IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => Err(AddressError::MappedV4),
            _ => Ok(addr),
        }
    }
}

const fn u96(bytes: [u8; 12]) -> u128 {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = bytes;
    u128::from_be_bytes([0, 0, 0, 0, a, b, c, d, e, f, g, h, i, j, k, l])
}

impl From<SocketAddr> for SocketAddress {
    fn from(addr: SocketAddr) -> Self {
        let (family, octets, scope_id) = match addr {
            SocketAddr::V4(v4) => {
                let [a, b, c, d] = v4.ip().octets();
                (
                    FAMILY_V4,
                    [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                    0,
                )
            }
            SocketAddr::V6(v6) => (FAMILY_V6, v6.ip().octets(), v6.scope_id()),
        };
        SocketAddress {
            family,
            scope_id,
            addr: octets,
            port: addr.port(),
            reserved0: 0,
            reserved1: 0,
        }
    }
}

impl From<Option<SocketAddr>> for SocketAddress {
    fn from(addr: Option<SocketAddr>) -> Self {
        addr.map_or(Self::NONE, Self::from)
    }
}

impl TryFrom<SocketAddress> for SocketAddr {
    type Error = AddressError;

    fn try_from(address: SocketAddress) -> Result<Self, AddressError> {
        address.socket_addr()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn listen(addr: &str) -> Result<SocketAddr, AddressError> {
        let addr: SocketAddr = addr.parse().expect("an address");
        SocketAddress::from(addr).listen_addr()
    }

    #[test]
    fn unicast_and_unspecified_can_be_listened_on() {
        for addr in [
            "127.0.0.1:7",
            "0.0.0.0:0",
            "10.0.0.255:65535",
            "[::]:1",
            "[fe80::1%4]:7",
        ] {
            assert_eq!(listen(addr).ok(), addr.parse().ok(), "{addr}");
        }
    }

    #[test]
    fn others_can_not() {
        for (addr, why) in [
            ("224.0.0.1:7", AddressError::NotUnicast),
            ("255.255.255.255:7", AddressError::NotUnicast),
            ("[ff02::1]:7", AddressError::NotUnicast),
            ("[::ffff:127.0.0.1]:7", AddressError::MappedV4),
        ] {
            assert_eq!(listen(addr), Err(why), "{addr}");
            assert_eq!(why.status(), status::INVALID_ADDRESS_COMPONENT);
        }
        assert_eq!(AddressError::Reserved.status(), status::INVALID_PARAMETER);
    }

    #[test]
    fn destinations_and_groups() {
        let address = |addr: &str| SocketAddress::from(addr.parse::<SocketAddr>().expect("good"));
        for addr in ["0.0.0.0:7", "[::]:7", "127.0.0.1:0"] {
            let why = Err(AddressError::NotADestination);
            assert_eq!(address(addr).connect_addr(), why, "{addr}");
            assert_eq!(address(addr).send_addr(), why, "{addr}");
        }
        let group = address("224.0.0.9:7");
        assert_eq!(group.connect_addr(), Err(AddressError::NotUnicast));
        assert!(group.send_addr().is_ok());
        assert_eq!(group.group(), Err(AddressError::NotMulticast));
        assert!(address("224.0.0.9:0").group().is_ok());
        assert!(address("[ff02::9]:0").group().is_ok());
        assert_eq!(
            address("10.0.0.1:0").group(),
            Err(AddressError::NotMulticast)
        );
        assert_eq!(SocketAddress::NONE.optional(), Ok(None));
        assert_eq!(
            SocketAddress::NONE.socket_addr(),
            Err(AddressError::Family(0))
        );
        assert_eq!(SocketAddress::from(None), SocketAddress::NONE);
        let almost = SocketAddress {
            port: 1,
            ..SocketAddress::NONE
        };
        assert_eq!(almost.optional(), Err(AddressError::Family(0)));
    }

    proptest! {
        #[test]
        fn every_address_comes_back(addr: SocketAddr) {
            let flat = match addr {
                // The flow label isn't part of the contract.
                SocketAddr::V6(a) => SocketAddrV6::new(*a.ip(), a.port(), 0, a.scope_id()).into(),
                v4 => v4,
            };
            prop_assert_eq!(SocketAddress::from(addr).socket_addr(), Ok(flat));
        }

        #[test]
        fn any_bytes_are_an_address_or_an_error(bytes: [u8; 32]) {
            let address: SocketAddress = zerocopy::transmute!(bytes);
            if let Ok(addr) = address.socket_addr() {
                prop_assert_eq!(SocketAddress::from(addr), address);
            }
        }
    }
}
