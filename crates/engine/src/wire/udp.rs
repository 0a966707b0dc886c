//! UDP. Sources: RFC 768; RFC 2675 section 4 for a length of zero.

use super::{Cursor, Defect};

/// Header: bytes on the wire.
pub const HEADER_LEN: usize = 8;

/// A UDP header, checked: a length that covers it or is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a>(&'a [u8; HEADER_LEN]);

impl<'a> Header<'a> {
    /// # Errors
    /// [`Defect::Length`]; [`Defect::Truncated`] or [`Defect::Snapped`] when it
    /// is not all there.
    pub fn parse(cursor: &mut Cursor<'a>) -> Result<Self, Defect> {
        let mut at = *cursor;
        let header = Self(at.take()?);
        if matches!(header.len(), 1..=7) {
            return Err(Defect::Length);
        }
        *cursor = at;
        Ok(header)
    }

    /// `bytes`: what [`Header::parse`] would accept.
    pub(super) const fn of(bytes: &'a [u8; HEADER_LEN]) -> Self {
        Self(bytes)
    }

    /// Source port; 0 when none.
    #[must_use]
    pub fn source_port(&self) -> u16 {
        u16::from_be_bytes([self.0[0], self.0[1]])
    }

    /// Destination port.
    #[must_use]
    pub fn destination_port(&self) -> u16 {
        u16::from_be_bytes([self.0[2], self.0[3]])
    }

    fn len(&self) -> u16 {
        u16::from_be_bytes([self.0[4], self.0[5]])
    }

    /// Bytes after the header that belong to the datagram; none when the length
    /// is zero: a jumbogram, or a frame which the adapter segments.
    #[must_use]
    pub fn payload_len(&self) -> Option<usize> {
        usize::from(self.len()).checked_sub(HEADER_LEN)
    }

    /// Checksum as it stands; 0 when none (IPv4) or left to the adapter.
    #[must_use]
    pub fn checksum(&self) -> u16 {
        u16::from_be_bytes([self.0[6], self.0[7]])
    }
}
