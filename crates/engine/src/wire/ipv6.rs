//! IPv6 and its extension headers.
//!
//! Sources: RFC 8200 sections 3 and 4; RFC 4302 section 2 (AH); RFC 6275
//! section 6.1.1 (mobility); RFC 7401 (HIP); RFC 5533 (Shim6); IANA's "IPv6
//! Extension Header Types".

use super::{Cursor, Defect, Protocol};
use core::net::Ipv6Addr;

/// Extension headers that are walked; a longer chain is a defect. RFC 8200
/// section 4.1 has no use for more than seven.
pub const MAX_EXTENSIONS: u8 = 8;

/// Header: bytes, without extension headers.
pub const HEADER_LEN: usize = 40;

/// The fixed 40 bytes, checked to be version 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a>(&'a [u8; HEADER_LEN]);

impl<'a> Header<'a> {
    /// # Errors
    /// [`Defect::Version`]; [`Defect::Truncated`] or [`Defect::Snapped`] when it
    /// is not all there.
    pub fn parse(cursor: &mut Cursor<'a>) -> Result<Self, Defect> {
        let mut at = *cursor;
        let fixed = at.take::<HEADER_LEN>()?;
        if fixed[0] >> 4 != 6 {
            return Err(Defect::Version);
        }
        *cursor = at;
        Ok(Self(fixed))
    }

    /// `bytes`: what [`Header::parse`] would accept.
    pub(super) const fn of(bytes: &'a [u8; HEADER_LEN]) -> Self {
        Self(bytes)
    }

    /// Traffic class: DSCP and ECN.
    #[must_use]
    pub fn traffic_class(&self) -> u8 {
        (self.0[0] << 4) | (self.0[1] >> 4)
    }

    /// Flow label, 20 bits.
    #[must_use]
    pub fn flow_label(&self) -> u32 {
        u32::from_be_bytes([0, self.0[1] & 0x0f, self.0[2], self.0[3]])
    }

    /// Bytes after the fixed header; none when the field is zero: a jumbogram
    /// (RFC 2675), or a frame on its way to an adapter which segments it.
    #[must_use]
    pub fn payload_len(&self) -> Option<usize> {
        match u16::from_be_bytes([self.0[4], self.0[5]]) {
            0 => None,
            len => Some(usize::from(len)),
        }
    }

    /// The first of the next headers.
    #[must_use]
    pub fn next_header(&self) -> Protocol {
        Protocol(self.0[6])
    }

    /// Hop limit.
    #[must_use]
    pub fn hop_limit(&self) -> u8 {
        self.0[7]
    }

    /// Source address.
    #[must_use]
    pub fn source(&self) -> Ipv6Addr {
        Self::address(self.0.get(8..24))
    }

    /// Destination address.
    #[must_use]
    pub fn destination(&self) -> Ipv6Addr {
        Self::address(self.0.get(24..40))
    }

    fn address(bytes: Option<&[u8]>) -> Ipv6Addr {
        // Both ranges lie within the forty bytes, so the fallback is never taken.
        bytes
            .and_then(|b| b.first_chunk::<16>())
            .map_or(Ipv6Addr::UNSPECIFIED, |b| Ipv6Addr::from(*b))
    }
}

/// A fragment header. RFC 8200 section 4.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Where this fragment's payload belongs, in bytes.
    pub offset: u32,
    /// M: more fragments follow.
    pub more: bool,
    /// Identification.
    pub id: u32,
}

/// Bytes of an extension header of which `len` is the second byte: at least 8.
fn extension_len(kind: Protocol, len: u8) -> usize {
    let len = usize::from(len);
    match kind {
        // Of fixed size, that byte reserved: RFC 8200 section 4.5.
        Protocol::IPV6_FRAGMENT => 8,
        // In units of 4 bytes, minus 2: RFC 4302 section 2.2.
        Protocol::AH => len.saturating_add(2).saturating_mul(4),
        // In units of 8 bytes, not counting the first: RFC 8200 section 4.
        _ => len.saturating_add(1).saturating_mul(8),
    }
}

/// Splits the extension header of this kind off the front of `bytes`; none when
/// it is none, or not all there.
pub(super) fn split_extension(kind: Protocol, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = *bytes.get(1)?;
    if !kind.is_ipv6_extension() {
        return None;
    }
    bytes.split_at_checked(extension_len(kind, len))
}

/// The chain between the fixed header and the upper layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extensions {
    /// How many extension headers were walked.
    pub count: u8,
    /// The fragment header, if there is one.
    pub fragment: Option<Fragment>,
    /// What comes after the last header that was walked.
    pub upper: Protocol,
}

impl Extensions {
    /// A chain of none.
    pub(super) const fn none(upper: Protocol) -> Self {
        Self {
            count: 0,
            fragment: None,
            upper,
        }
    }

    /// Walks the chain that starts with `first`, leaving `cursor` at the upper
    /// layer, or where the walk had to end. The first part holds what was
    /// walked, whatever comes second.
    #[must_use]
    pub fn walk(first: Protocol, cursor: &mut Cursor<'_>) -> (Self, Option<Defect>) {
        let mut chain = Self::none(first);
        loop {
            match chain.step(cursor) {
                Ok(true) => {}
                Ok(false) => return (chain, None),
                Err(defect) => return (chain, Some(defect)),
            }
        }
    }

    /// Walks one header: whether there may be another.
    fn step(&mut self, cursor: &mut Cursor<'_>) -> Result<bool, Defect> {
        let kind = self.upper;
        if !kind.is_ipv6_extension() {
            return Ok(false);
        }
        if self.count >= MAX_EXTENSIONS {
            return Err(Defect::TooManyExtensions);
        }
        let mut at = *cursor;
        let [next, len, a, b, c, d, e, f] = *at.take::<8>()?;
        at.take_slice(extension_len(kind, len).saturating_sub(8))?;
        let mut goes_on = true;
        if kind == Protocol::IPV6_FRAGMENT {
            let word = u16::from_be_bytes([a, b]);
            let fragment = Fragment {
                offset: u32::from(word & 0xfff8),
                more: word & 1 != 0,
                id: u32::from_be_bytes([c, d, e, f]),
            };
            // Past the first fragment there is payload, not another header.
            goes_on = fragment.offset == 0;
            self.fragment = Some(fragment);
        }
        *cursor = at;
        self.upper = Protocol(next);
        self.count = self.count.saturating_add(1);
        Ok(goes_on)
    }

    /// A fragment other than the first: its payload starts in the middle.
    #[must_use]
    pub fn is_later_fragment(&self) -> bool {
        self.fragment.is_some_and(|f| f.offset != 0)
    }

    /// Part of a packet that is sent in several fragments (not an atomic
    /// fragment, RFC 6946).
    #[must_use]
    pub fn is_fragment(&self) -> bool {
        self.fragment.is_some_and(|f| f.offset != 0 || f.more)
    }
}
