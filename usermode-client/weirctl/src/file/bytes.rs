//! Integers in either byte order.

/// The byte order of a file, or of a section of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Little,
    Big,
}

impl Order {
    pub(super) fn u16_at(self, bytes: &[u8], at: usize) -> Option<u16> {
        let field = *bytes.get(at..)?.first_chunk()?;
        Some(match self {
            Order::Little => u16::from_le_bytes(field),
            Order::Big => u16::from_be_bytes(field),
        })
    }

    pub(super) fn u32_at(self, bytes: &[u8], at: usize) -> Option<u32> {
        let field = *bytes.get(at..)?.first_chunk()?;
        Some(match self {
            Order::Little => u32::from_le_bytes(field),
            Order::Big => u32::from_be_bytes(field),
        })
    }

    /// A field of a header whose length has been checked.
    pub(super) fn u16(self, bytes: &[u8], at: usize) -> u16 {
        self.u16_at(bytes, at).unwrap_or(0)
    }

    /// A field of a header whose length has been checked.
    pub(super) fn u32(self, bytes: &[u8], at: usize) -> u32 {
        self.u32_at(bytes, at).unwrap_or(0)
    }

    pub(super) fn i64(self, field: [u8; 8]) -> i64 {
        match self {
            Order::Little => i64::from_le_bytes(field),
            Order::Big => i64::from_be_bytes(field),
        }
    }
}
