//! Where each frame of a reader in the divert role is. There are places for
//! [`NUMBERS`] frames; a frame's is its number modulo that. A place has two
//! marks, one for a frame that waits, one for a frame that is with the reader. A
//! number without a mark was lost, or has come back.
//!
//! Numbers run on while frames are lost, and a frame that waits keeps its place
//! meanwhile, however many that are. So each place knows its frame's round
//! besides: how often all numbers had been used, the low bits of that. Numbers so
//! far apart that these are the same again are told apart by nobody but the one
//! who was given them.

use weir_abi::limits::MAX_OUTSTANDING;

/// Numbers that are told apart.
pub(super) const NUMBERS: u64 = MAX_OUTSTANDING as u64;

/// Bytes of one row of marks.
const ROW: usize = (MAX_OUTSTANDING / 8) as usize;

/// Bytes of memory for the marks, and a round for each place.
pub const MARKS_LEN: usize = 2 * ROW + MAX_OUTSTANDING as usize;

const _: () = assert!(NUMBERS.is_multiple_of(8));

#[derive(Debug)]
pub(super) struct Outstanding<B> {
    /// A row of waiting frames, a row of those with the reader, then the rounds.
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

/// The low bits of how often all numbers had been used before this one.
fn round_of(sequence: u64) -> u8 {
    u8::try_from(sequence / NUMBERS % 256).unwrap_or(0)
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Outstanding<B> {
    pub(super) const fn new(marks: B) -> Self {
        Outstanding { marks }
    }

    /// The byte of the waiting, and the byte of those with the reader.
    fn bytes(&mut self, byte: usize) -> Option<(&mut u8, &mut u8)> {
        let (waiting, rest) = self.marks.as_mut().split_at_mut_checked(ROW)?;
        Some((waiting.get_mut(byte)?, rest.get_mut(byte)?))
    }

    /// The round of the frame whose place this number has.
    fn round(&mut self, sequence: u64) -> Option<&mut u8> {
        let (_, rounds) = self.marks.as_mut().split_at_mut_checked(2 * ROW)?;
        rounds.get_mut(usize::try_from(sequence % NUMBERS).ok()?)
    }

    /// Whether the place of this number is this number's.
    pub(super) fn has_place(&mut self, sequence: u64) -> bool {
        let round = self.round(sequence).copied();
        round == Some(round_of(sequence))
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

    /// The frame waits now, in its place.
    pub(super) fn queue(&mut self, sequence: u64) {
        if let Some(round) = self.round(sequence) {
            *round = round_of(sequence);
        }
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
        if !self.has_place(sequence) {
            return false;
        }
        let Place { byte, bit } = Place::of(sequence);
        let Some((_, with_reader)) = self.bytes(byte) else {
            return false;
        };
        let was = *with_reader & bit != 0;
        *with_reader &= !bit;
        was
    }

    /// The frame is with the reader again, in its place.
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
