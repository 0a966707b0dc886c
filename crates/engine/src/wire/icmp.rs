//! ICMP and ICMPv6, as far as they are alike. Sources: RFC 792; RFC 4443
//! section 2.1.

use super::{Cursor, Defect};

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
