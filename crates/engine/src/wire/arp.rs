//! ARP. Source: RFC 826 (packet format).

use super::{Cursor, Defect, MacAddr};
use core::net::Ipv4Addr;

/// Hardware type of Ethernet, from IANA's "ARP Parameters".
const HARDWARE_ETHERNET: u16 = 1;
/// Protocol type of IPv4: its EtherType.
const PROTOCOL_IPV4: u16 = 0x0800;

/// An ARP packet, its addresses of whatever kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    fixed: &'a [u8; 8],
    addresses: &'a [u8],
}

/// The addresses of an ARP packet for IPv4 over Ethernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EthernetIpv4 {
    /// ar$sha
    pub sender_mac: MacAddr,
    /// ar$spa
    pub sender_ip: Ipv4Addr,
    /// ar$tha
    pub target_mac: MacAddr,
    /// ar$tpa
    pub target_ip: Ipv4Addr,
}

impl<'a> Packet<'a> {
    /// Request, from IANA's "ARP Parameters".
    pub const REQUEST: u16 = 1;
    /// Reply.
    pub const REPLY: u16 = 2;

    /// Takes the fixed part and the four addresses whose lengths it gives.
    ///
    /// # Errors
    /// [`Defect::Truncated`] or [`Defect::Snapped`] when they are not all there.
    pub fn parse(cursor: &mut Cursor<'a>) -> Result<Self, Defect> {
        let mut at = *cursor;
        let fixed = at.take::<8>()?;
        let one_side = usize::from(fixed[4]).saturating_add(usize::from(fixed[5]));
        let addresses = at.take_slice(one_side.saturating_mul(2))?;
        *cursor = at;
        Ok(Self { fixed, addresses })
    }

    /// ar$hrd
    #[must_use]
    pub fn hardware_type(&self) -> u16 {
        u16::from_be_bytes([self.fixed[0], self.fixed[1]])
    }

    /// ar$pro
    #[must_use]
    pub fn protocol_type(&self) -> u16 {
        u16::from_be_bytes([self.fixed[2], self.fixed[3]])
    }

    /// ar$op
    #[must_use]
    pub fn operation(&self) -> u16 {
        u16::from_be_bytes([self.fixed[6], self.fixed[7]])
    }

    /// The addresses, when the packet is about IPv4 over Ethernet.
    #[must_use]
    pub fn ethernet_ipv4(&self) -> Option<EthernetIpv4> {
        if self.hardware_type() != HARDWARE_ETHERNET
            || self.protocol_type() != PROTOCOL_IPV4
            || self.fixed[4] != 6
            || self.fixed[5] != 4
        {
            return None;
        }
        let (sender_mac, rest) = self.addresses.split_first_chunk::<6>()?;
        let (sender_ip, rest) = rest.split_first_chunk::<4>()?;
        let (target_mac, rest) = rest.split_first_chunk::<6>()?;
        let (target_ip, _) = rest.split_first_chunk::<4>()?;
        Some(EthernetIpv4 {
            sender_mac: MacAddr(*sender_mac),
            sender_ip: Ipv4Addr::from(*sender_ip),
            target_mac: MacAddr(*target_mac),
            target_ip: Ipv4Addr::from(*target_ip),
        })
    }
}
