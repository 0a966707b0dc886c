//! IPv4. Sources: RFC 791 section 3.1; RFC 3168 for the ECN bits.

use super::{Cursor, Defect, Protocol};
use core::net::Ipv4Addr;

/// Header: bytes without options.
pub const MIN_HEADER_LEN: usize = 20;

/// An IPv4 header, checked: version 4, a header length of at least 20 bytes
/// which is all there, and a total length that covers it or is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    fixed: &'a [u8; MIN_HEADER_LEN],
    options: &'a [u8],
}

impl<'a> Header<'a> {
    /// Takes the header and its options.
    ///
    /// # Errors
    /// [`Defect::Version`], [`Defect::HeaderLength`], [`Defect::Length`] by what
    /// is wrong in it; [`Defect::Truncated`] or [`Defect::Snapped`] when it is
    /// not all there.
    pub fn parse(cursor: &mut Cursor<'a>) -> Result<Self, Defect> {
        let mut at = *cursor;
        let fixed = at.take::<MIN_HEADER_LEN>()?;
        if fixed[0] >> 4 != 4 {
            return Err(Defect::Version);
        }
        let options_len = usize::from(fixed[0] & 0x0f)
            .saturating_mul(4)
            .checked_sub(MIN_HEADER_LEN)
            .ok_or(Defect::HeaderLength)?;
        let options = at.take_slice(options_len)?;
        let header = Self { fixed, options };
        let total = usize::from(header.total_len());
        if total != 0 && total < header.header_len() {
            return Err(Defect::Length);
        }
        *cursor = at;
        Ok(header)
    }

    /// `fixed`: what [`Header::parse`] would accept, without options.
    pub(super) const fn without_options(fixed: &'a [u8; MIN_HEADER_LEN]) -> Self {
        Self {
            fixed,
            options: &[],
        }
    }

    /// Header with options, in bytes: 20..=60.
    #[must_use]
    pub fn header_len(&self) -> usize {
        MIN_HEADER_LEN.saturating_add(self.options.len())
    }

    /// Total length in bytes, header included. Zero in a frame on its way to an
    /// adapter which segments it (large send offload writes the lengths).
    #[must_use]
    pub fn total_len(&self) -> u16 {
        u16::from_be_bytes([self.fixed[2], self.fixed[3]])
    }

    /// Bytes after the header that belong to the packet, from the total length;
    /// none when the field is left to the adapter.
    #[must_use]
    pub fn payload_len(&self) -> Option<usize> {
        usize::from(self.total_len()).checked_sub(self.header_len())
    }

    /// Differentiated services code point, 0..=63. RFC 2474.
    #[must_use]
    pub fn dscp(&self) -> u8 {
        self.fixed[1] >> 2
    }

    /// Explicit congestion notification, 0..=3. RFC 3168.
    #[must_use]
    pub fn ecn(&self) -> u8 {
        self.fixed[1] & 3
    }

    /// Identification.
    #[must_use]
    pub fn id(&self) -> u16 {
        u16::from_be_bytes([self.fixed[4], self.fixed[5]])
    }

    fn flags_and_offset(&self) -> u16 {
        u16::from_be_bytes([self.fixed[6], self.fixed[7]])
    }

    /// DF.
    #[must_use]
    pub fn dont_fragment(&self) -> bool {
        self.flags_and_offset() & 0x4000 != 0
    }

    /// MF.
    #[must_use]
    pub fn more_fragments(&self) -> bool {
        self.flags_and_offset() & 0x2000 != 0
    }

    /// Where this fragment's payload belongs, in bytes: 0..=65528.
    #[must_use]
    pub fn fragment_offset(&self) -> u32 {
        u32::from(self.flags_and_offset() & 0x1fff) << 3
    }

    /// Part of a datagram that is sent in several packets.
    #[must_use]
    pub fn is_fragment(&self) -> bool {
        self.more_fragments() || self.fragment_offset() != 0
    }

    /// Time to live.
    #[must_use]
    pub fn ttl(&self) -> u8 {
        self.fixed[8]
    }

    /// What the payload is.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        Protocol(self.fixed[9])
    }

    /// Header checksum as it stands; not to be trusted in a frame whose checksum
    /// is left to the adapter.
    #[must_use]
    pub fn checksum(&self) -> u16 {
        u16::from_be_bytes([self.fixed[10], self.fixed[11]])
    }

    /// Source address.
    #[must_use]
    pub fn source(&self) -> Ipv4Addr {
        Ipv4Addr::new(
            self.fixed[12],
            self.fixed[13],
            self.fixed[14],
            self.fixed[15],
        )
    }

    /// Destination address.
    #[must_use]
    pub fn destination(&self) -> Ipv4Addr {
        Ipv4Addr::new(
            self.fixed[16],
            self.fixed[17],
            self.fixed[18],
            self.fixed[19],
        )
    }

    /// The twenty bytes before the options, as they stand.
    #[must_use]
    pub fn fixed(&self) -> &'a [u8; MIN_HEADER_LEN] {
        self.fixed
    }

    /// Options, padding included: 0..=40 bytes.
    #[must_use]
    pub fn options(&self) -> &'a [u8] {
        self.options
    }
}
