//! TCP. Source: RFC 9293 section 3.1.

mod options;

use super::{Cursor, Defect};

pub use options::{MAX_SACK_BLOCKS, MAX_WINDOW_SCALE, Options, Sack};

/// Header: bytes without options.
pub const MIN_HEADER_LEN: usize = 20;

/// A TCP header, checked: a data offset of at least 20 bytes, all there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    fixed: &'a [u8; MIN_HEADER_LEN],
    options: &'a [u8],
}

/// The control bits, as the byte on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronize sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgment number counts.
    pub const ACK: u8 = 0x10;
    /// The urgent pointer counts.
    pub const URG: u8 = 0x20;
    /// ECN echo, RFC 3168.
    pub const ECE: u8 = 0x40;
    /// Congestion window reduced, RFC 3168.
    pub const CWR: u8 = 0x80;

    /// Whether all bits of `mask` are set.
    #[must_use]
    pub fn has(self, mask: u8) -> bool {
        self.0 & mask == mask
    }
}

impl<'a> Header<'a> {
    /// Takes the header and its options.
    ///
    /// # Errors
    /// [`Defect::HeaderLength`]; [`Defect::Truncated`] or [`Defect::Snapped`]
    /// when it is not all there.
    pub fn parse(cursor: &mut Cursor<'a>) -> Result<Self, Defect> {
        let mut at = *cursor;
        let fixed = at.take::<MIN_HEADER_LEN>()?;
        let options_len = usize::from(fixed[12] >> 4)
            .saturating_mul(4)
            .checked_sub(MIN_HEADER_LEN)
            .ok_or(Defect::HeaderLength)?;
        let options = at.take_slice(options_len)?;
        *cursor = at;
        Ok(Self { fixed, options })
    }

    /// `fixed` and `options`: what [`Header::parse`] would accept.
    pub(super) const fn of(fixed: &'a [u8; MIN_HEADER_LEN], options: &'a [u8]) -> Self {
        Self { fixed, options }
    }

    /// Header with options, in bytes: 20..=60.
    #[must_use]
    pub fn header_len(&self) -> usize {
        MIN_HEADER_LEN.saturating_add(self.options.len())
    }

    /// Source port.
    #[must_use]
    pub fn source_port(&self) -> u16 {
        u16::from_be_bytes([self.fixed[0], self.fixed[1]])
    }

    /// Destination port.
    #[must_use]
    pub fn destination_port(&self) -> u16 {
        u16::from_be_bytes([self.fixed[2], self.fixed[3]])
    }

    /// Sequence number.
    #[must_use]
    pub fn seq(&self) -> u32 {
        u32::from_be_bytes([self.fixed[4], self.fixed[5], self.fixed[6], self.fixed[7]])
    }

    /// Acknowledgment number; meaningful with [`Flags::ACK`].
    #[must_use]
    pub fn ack(&self) -> u32 {
        u32::from_be_bytes([self.fixed[8], self.fixed[9], self.fixed[10], self.fixed[11]])
    }

    /// Control bits.
    #[must_use]
    pub fn flags(&self) -> Flags {
        Flags(self.fixed[13])
    }

    /// Window as it stands, not scaled.
    #[must_use]
    pub fn window(&self) -> u16 {
        u16::from_be_bytes([self.fixed[14], self.fixed[15]])
    }

    /// Checksum as it stands; not to be trusted where the adapter writes it.
    #[must_use]
    pub fn checksum(&self) -> u16 {
        u16::from_be_bytes([self.fixed[16], self.fixed[17]])
    }

    /// Urgent pointer; meaningful with [`Flags::URG`].
    #[must_use]
    pub fn urgent(&self) -> u16 {
        u16::from_be_bytes([self.fixed[18], self.fixed[19]])
    }

    /// Options, padding included: 0..=40 bytes.
    #[must_use]
    pub fn options(&self) -> &'a [u8] {
        self.options
    }

    /// What the options say. Read anew with each call.
    #[must_use]
    pub fn parsed_options(&self) -> Options {
        Options::parse(self.options)
    }
}
