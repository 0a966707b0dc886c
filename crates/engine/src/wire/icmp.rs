//! ICMP and ICMPv6: the header they share, echoes, and the packet that an error
//! quotes.
//!
//! Sources: RFC 792 and RFC 4443 (messages), RFC 4884 (errors may quote more,
//! the quoted packet starts at the same place).

use super::{Cursor, Defect, Protocol, ipv4, ipv6};
use core::net::IpAddr;

/// Header: bytes on the wire.
pub const HEADER_LEN: usize = 4;

/// Type, code and checksum: the four bytes which all messages of both start with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a>(&'a [u8; HEADER_LEN]);

impl<'a> Header<'a> {
    /// # Errors
    /// [`Defect::Truncated`] or [`Defect::Snapped`] when it is not all there.
    pub fn parse(cursor: &mut Cursor<'a>) -> Result<Self, Defect> {
        cursor.take().map(Self)
    }

    /// Message type: of ICMP or ICMPv6, which number them differently.
    #[must_use]
    pub fn kind(&self) -> u8 {
        self.0[0]
    }

    /// Code, within the type.
    #[must_use]
    pub fn code(&self) -> u8 {
        self.0[1]
    }

    /// Checksum as it stands.
    #[must_use]
    pub fn checksum(&self) -> u16 {
        u16::from_be_bytes([self.0[2], self.0[3]])
    }
}

/// An echo request or reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Echo {
    /// Answers, rather than asks.
    pub is_reply: bool,
    /// Identifier: the same in a request and its reply, as a port would be.
    pub id: u16,
    /// Sequence number.
    pub seq: u16,
}

impl Echo {
    /// `rest`: what follows the four bytes of the header. None for another
    /// message, and for one that is cut before its eighth byte.
    pub(super) fn read(header: &Header<'_>, v6: bool, rest: &Cursor<'_>) -> Option<Self> {
        let is_reply = match (v6, header.kind()) {
            (false, 8) | (true, 128) => false,
            (false, 0) | (true, 129) => true,
            _ => return None,
        };
        let [a, b, c, d] = *rest.clone().take::<4>().ok()?;
        Some(Self {
            is_reply,
            id: u16::from_be_bytes([a, b]),
            seq: u16::from_be_bytes([c, d]),
        })
    }
}

/// The packet that an error is about, as far as the error quotes it. Its lengths
/// are those of the packet that was sent, and say nothing of what is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Inner {
    /// Who sent it: the receiver of the error, unless somebody lies.
    pub source: IpAddr,
    /// Where it was going.
    pub destination: IpAddr,
    /// What it carries; of a chain of extension headers that is cut, the first
    /// that isn't here.
    pub protocol: Protocol,
    /// Source and destination port, where it has ports and they are here.
    pub ports: Option<(u16, u16)>,
}

impl Inner {
    /// `rest`: what follows the four bytes of the header. None for a message that
    /// is no error, and for an error whose quoted header isn't whole or sound.
    pub(super) fn read(header: &Header<'_>, v6: bool, rest: &Cursor<'_>) -> Option<Self> {
        let mut at = *rest;
        // Unused, a gateway, an MTU, a pointer.
        at.take::<4>().ok()?;
        match (v6, header.kind()) {
            // Unreachable, source quench, redirect, time exceeded, parameter problem.
            (false, 3 | 4 | 5 | 11 | 12) => Self::ipv4(&mut at),
            // Unreachable, too big, time exceeded, parameter problem.
            (true, 1..=4) => Self::ipv6(&mut at),
            _ => None,
        }
    }

    fn ipv4(at: &mut Cursor<'_>) -> Option<Self> {
        let ip = ipv4::Header::parse(at).ok()?;
        Some(Self {
            source: ip.source().into(),
            destination: ip.destination().into(),
            protocol: ip.protocol(),
            ports: if ip.fragment_offset() == 0 {
                Self::ports(ip.protocol(), at)
            } else {
                None
            },
        })
    }

    fn ipv6(at: &mut Cursor<'_>) -> Option<Self> {
        let ip = ipv6::Header::parse(at).ok()?;
        let (chain, defect) = ipv6::Extensions::walk(ip.next_header(), at);
        Some(Self {
            source: ip.source().into(),
            destination: ip.destination().into(),
            protocol: chain.upper,
            ports: if defect.is_none() && !chain.is_later_fragment() {
                Self::ports(chain.upper, at)
            } else {
                None
            },
        })
    }

    /// TCP, UDP, SCTP, UDP-Lite and DCCP start with their ports.
    fn ports(protocol: Protocol, at: &mut Cursor<'_>) -> Option<(u16, u16)> {
        if !matches!(protocol.0, 6 | 17 | 33 | 132 | 136) {
            return None;
        }
        let [a, b, c, d] = *at.take::<4>().ok()?;
        Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
    }
}
