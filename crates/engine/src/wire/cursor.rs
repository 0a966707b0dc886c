//! Reading a frame front to back, with its two ends told apart.

use super::Defect;

/// What is left of a frame: the bytes at hand, and how many there are on the wire.
///
/// A frame is rarely here as a whole: the driver gathers its first bytes only,
/// and a capture file holds what the snap length let through. A header that is
/// missing from the slice but was on the wire is [`Defect::Snapped`], nobody's
/// fault; one that was never on the wire is [`Defect::Truncated`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    on_wire: usize,
    at: usize,
}

impl<'a> Cursor<'a> {
    /// `bytes`: the first bytes of the frame. `on_wire`: the frame's length in
    /// bytes, without FCS. Bytes past `on_wire` are not part of the frame and
    /// are never looked at.
    #[must_use]
    pub fn new(bytes: &'a [u8], on_wire: usize) -> Self {
        Self {
            bytes: bytes.get(..on_wire).unwrap_or(bytes),
            on_wire,
            at: 0,
        }
    }

    /// `bytes`: at most `on_wire` of them; `at`: bytes before them.
    #[inline(always)]
    pub(super) const fn from_parts(bytes: &'a [u8], on_wire: usize, at: usize) -> Self {
        Self { bytes, on_wire, at }
    }

    /// Bytes from the frame's start to here.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// Bytes from here to the end of the frame on the wire.
    #[must_use]
    pub fn on_wire(&self) -> usize {
        self.on_wire
    }

    /// Bytes from here to the end of the slice.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The next `N` bytes, stepping over them; nothing is stepped over on error.
    ///
    /// # Errors
    /// [`Defect::Truncated`] when the frame ends before, [`Defect::Snapped`]
    /// when only the slice does.
    pub fn take<const N: usize>(&mut self) -> Result<&'a [u8; N], Defect> {
        let on_wire = self.on_wire.checked_sub(N).ok_or(Defect::Truncated)?;
        let (head, rest) = self.bytes.split_first_chunk().ok_or(Defect::Snapped)?;
        *self = Self {
            bytes: rest,
            on_wire,
            at: self.at.saturating_add(N),
        };
        Ok(head)
    }

    /// The next `len` bytes; otherwise as [`Cursor::take`].
    ///
    /// # Errors
    /// As [`Cursor::take`].
    pub fn take_slice(&mut self, len: usize) -> Result<&'a [u8], Defect> {
        let on_wire = self.on_wire.checked_sub(len).ok_or(Defect::Truncated)?;
        let (head, rest) = self.bytes.split_at_checked(len).ok_or(Defect::Snapped)?;
        *self = Self {
            bytes: rest,
            on_wire,
            at: self.at.saturating_add(len),
        };
        Ok(head)
    }

    /// Ends the frame `len` bytes from here: what follows is padding or belongs
    /// to an outer layer.
    ///
    /// # Errors
    /// [`Defect::Truncated`] when the frame ends even before that; the cursor
    /// then keeps all that is there.
    pub fn limit(&mut self, len: usize) -> Result<(), Defect> {
        if len > self.on_wire {
            return Err(Defect::Truncated);
        }
        *self = Self {
            at: self.at,
            ..Self::new(self.bytes, len)
        };
        Ok(())
    }
}
