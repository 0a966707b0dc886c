//! Where each frame of a reader in the divert role is: two marks for each of the
//! last [`NUMBERS`] numbers, one for frames that wait, one for those that are
//! with the reader. A number without a mark was lost, or has come back.

use weir_abi::limits::MAX_OUTSTANDING;

/// Numbers that are told apart.
pub(super) const NUMBERS: u64 = MAX_OUTSTANDING as u64;

/// Bytes of one row of marks.
const ROW: usize = (MAX_OUTSTANDING / 8) as usize;

/// Bytes of memory for the marks.
pub const MARKS_LEN: usize = 2 * ROW;

const _: () = assert!(NUMBERS.is_multiple_of(8));

#[derive(Debug)]
pub(super) struct Outstanding<B> {
    /// A row of waiting frames, then a row of those with the reader.
    marks: B,
}

/// Where the mark of a number lies in its row.
#[derive(Clone, Copy)]
struct Place {
    byte: usize,
    bit: u8,
}

impl Place {
    fn of(sequence: u64) -> Self {
        let number = sequence % NUMBERS;
        Place {
            byte: usize::try_from(number / 8).unwrap_or(usize::MAX),
            bit: 1u8.wrapping_shl(u32::try_from(number % 8).unwrap_or(0)),
        }
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Outstanding<B> {
    pub(super) const fn new(marks: B) -> Self {
        Outstanding { marks }
    }

    /// The byte of the waiting, and the byte of those with the reader.
    fn bytes(&mut self, byte: usize) -> Option<(&mut u8, &mut u8)> {
        let (waiting, with_reader) = self.marks.as_mut().split_at_mut_checked(ROW)?;
        Some((waiting.get_mut(byte)?, with_reader.get_mut(byte)?))
    }

    /// Frees the marks of a new number from the frame that had them. `None` if
    /// that one still waits: then there is no number for the new one. Otherwise
    /// whether it was with the reader, who is not waited for any longer.
    pub(super) fn make_room(&mut self, sequence: u64) -> Option<bool> {
        let Place { byte, bit } = Place::of(sequence);
        let (waiting, with_reader) = self.bytes(byte)?;
        if *waiting & bit != 0 {
            return None;
        }
        let was = *with_reader & bit != 0;
        *with_reader &= !bit;
        Some(was)
    }

    /// The frame waits now.
    pub(super) fn queue(&mut self, sequence: u64) {
        let Place { byte, bit } = Place::of(sequence);
        if let Some((waiting, _)) = self.bytes(byte) {
            *waiting |= bit;
        }
    }

    /// Those that wait, of the numbers from `first` to `last`, are with the
    /// reader now. As a read holds all frames that were not lost between its
    /// first and its last, they are the frames of one read.
    pub(super) fn deliver(&mut self, first: u64, last: u64) {
        let mut sequence = first;
        // A read is full before its numbers are further apart than that.
        let mut left = last.saturating_sub(first).min(NUMBERS.saturating_sub(1));
        loop {
            let Place { byte, bit } = Place::of(sequence);
            let Some((waiting, with_reader)) = self.bytes(byte) else {
                return;
            };
            if bit == 1 && left >= 7 {
                *with_reader |= *waiting;
                *waiting = 0;
                if left == 7 {
                    return;
                }
                left = left.saturating_sub(8);
                sequence = sequence.wrapping_add(8);
                continue;
            }
            *with_reader |= *waiting & bit;
            *waiting &= !bit;
            if left == 0 {
                return;
            }
            left = left.saturating_sub(1);
            sequence = sequence.wrapping_add(1);
        }
    }

    /// Takes a frame from the reader; false if it isn't there.
    pub(super) fn take(&mut self, sequence: u64) -> bool {
        let Place { byte, bit } = Place::of(sequence);
        let Some((_, with_reader)) = self.bytes(byte) else {
            return false;
        };
        let was = *with_reader & bit != 0;
        *with_reader &= !bit;
        was
    }

    /// The frame is with the reader again.
    pub(super) fn put_back(&mut self, sequence: u64) {
        let Place { byte, bit } = Place::of(sequence);
        if let Some((_, with_reader)) = self.bytes(byte) {
            *with_reader |= bit;
        }
    }

    /// Forgets all frames.
    pub(super) fn clear(&mut self) {
        self.marks.as_mut().fill(0);
    }
}
