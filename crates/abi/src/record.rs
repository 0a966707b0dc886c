//! Frames, as they lie in a read buffer and in a write buffer.
//!
//! A read holds whole records one after another, each a [`FrameRecord`], the
//! captured bytes, and zeros up to a multiple of 8. Nothing is split over two
//! reads.
//!
//! A read completes when the next frame doesn't fit it, when the flush time
//! since its first frame is over, or when it is cancelled: with success if it
//! holds frames then, since they are numbered already.
//!
//! A write holds records of the same form, each with a whole frame: [`writes`].

use core::fmt;
use core::iter::FusedIterator;

use zerocopy::FromBytes;

use crate::{Direction, RecordFlags, limits};

message! {
    /// What precedes the bytes of each captured frame.
    pub struct FrameRecord [40] {
        /// Size of the whole record: this header, the bytes, the padding. A
        /// multiple of 8.
        0 => size: u32,
        /// Bytes of the frame that follow.
        4 => captured_len: u32,
        /// Bytes the frame had.
        8 => original_len: u32,
        /// Id of the adapter it was seen at; in a write: that it goes to.
        12 => adapter: u32,
        /// When it was seen: 100 ns since 1601-01-01 UTC. Ignored in a write.
        16 => timestamp_100ns: u64,
        /// Its number among the frames this reader asked for, from 0. A gap is
        /// as many frames lost to this reader. In a write of the divert role:
        /// the number of the frame that is given back; of the inject role:
        /// ignored.
        24 => sequence: u64,
        /// [`Direction`]; in a write: the way it is to go.
        32 => direction: u8,
        /// Size of this header: where the bytes start.
        33 => header_len: u8,
        /// [`RecordFlags`].
        34 => flags: u16,
        /// Index + 1 of the rule that decided on the frame or, where the flag
        /// [`RecordFlags::LOGGED`] is set, of the first that logged it; 0: none.
        /// Ignored in a write.
        36 => rule: u16,
        /// Sent, and to be cut into segments by the adapter: bytes of payload
        /// in each (the MSS). Received, and put together by the adapter of
        /// several datagrams of UDP: bytes of payload in each. 0 for any other
        /// frame.
        38 => segment_size: u16,
    }
}

/// Size of [`FrameRecord`], as its `header_len` says it.
pub const HEADER_LEN: u8 = 40;
const _: () = assert!(HEADER_LEN as usize == size_of::<FrameRecord>());
const _: () = assert!(limits::RECORD_ALIGN == 8);

/// Size of a record with `captured_len` bytes of a frame: header, bytes,
/// padding. `None` if that doesn't fit 32 bits.
#[must_use]
pub const fn record_size(captured_len: u32) -> Option<u32> {
    match captured_len.checked_add(HEADER_LEN as u32) {
        Some(len) => len.checked_next_multiple_of(limits::RECORD_ALIGN as u32),
        None => None,
    }
}

/// What a writer knows of a frame. [`FrameMeta::record`] makes the header of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameMeta {
    /// Bytes the frame has.
    pub original_len: u32,
    /// Id of the adapter it was seen at.
    pub adapter: u32,
    /// When it was seen: 100 ns since 1601-01-01 UTC.
    pub timestamp_100ns: u64,
    /// Which way it goes.
    pub direction: Direction,
    /// Remarks; [`RecordFlags::TRUNCATED`] is added where it is true.
    pub flags: RecordFlags,
    /// Index + 1 of the rule that decided on it; 0: none.
    pub rule: u16,
    /// Index + 1 of the first rule that logged it; 0: none.
    pub logged: u16,
    /// [`FrameRecord::segment_size`].
    pub segment_size: u16,
}

impl FrameMeta {
    /// A frame that nothing is to be remarked of.
    #[must_use]
    pub const fn new(
        original_len: u32,
        adapter: u32,
        timestamp_100ns: u64,
        direction: Direction,
    ) -> Self {
        FrameMeta {
            original_len,
            adapter,
            timestamp_100ns,
            direction,
            flags: RecordFlags::empty(),
            rule: 0,
            logged: 0,
            segment_size: 0,
        }
    }

    /// The header for a frame of which at most `snaplen` bytes are captured.
    /// `None` if its size doesn't fit 32 bits.
    #[must_use]
    pub const fn record(&self, snaplen: u32, sequence: u64) -> Option<FrameRecord> {
        let (captured_len, flags) = if self.original_len > snaplen {
            (snaplen, self.flags.union(RecordFlags::TRUNCATED))
        } else {
            (self.original_len, self.flags)
        };
        let Some(size) = record_size(captured_len) else {
            return None;
        };
        Some(FrameRecord {
            size,
            captured_len,
            original_len: self.original_len,
            adapter: self.adapter,
            timestamp_100ns: self.timestamp_100ns,
            sequence,
            direction: self.direction as u8,
            header_len: HEADER_LEN,
            flags: flags.bits(),
            rule: self.rule,
            segment_size: self.segment_size,
        })
    }
}

impl FrameRecord {
    /// The frame's direction; `None` for a value this version doesn't know.
    #[must_use]
    pub fn direction(&self) -> Option<Direction> {
        Direction::try_from(u32::from(self.direction)).ok()
    }

    /// The remarks about the frame, unknown ones left out.
    #[must_use]
    pub const fn flags(&self) -> RecordFlags {
        RecordFlags::from_bits_truncate(self.flags)
    }
}

/// Why the bytes at `offset` of a read are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// Fewer bytes are left than a header has.
    ShortHeader {
        /// Where the record starts.
        offset: usize,
        /// Bytes that are left.
        left: usize,
    },
    /// The record says it is longer than what is left, shorter than its
    /// header and bytes, or not a multiple of 8.
    Size {
        /// Where the record starts.
        offset: usize,
        /// What it says.
        size: u32,
    },
    /// The header says it is shorter than a header of this version.
    HeaderLen {
        /// Where the record starts.
        offset: usize,
        /// What it says.
        header_len: u8,
    },
    /// More bytes captured than the frame had.
    CapturedLen {
        /// Where the record starts.
        offset: usize,
        /// Bytes captured.
        captured: u32,
        /// Bytes of the frame.
        original: u32,
    },
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordError::ShortHeader { offset, left } => {
                write!(f, "record at {offset}: only {left} bytes left")
            }
            RecordError::Size { offset, size } => {
                write!(f, "record at {offset}: its size can't be {size}")
            }
            RecordError::HeaderLen { offset, header_len } => {
                write!(
                    f,
                    "record at {offset}: its header can't be {header_len} bytes"
                )
            }
            RecordError::CapturedLen {
                offset,
                captured,
                original,
            } => {
                write!(
                    f,
                    "record at {offset}: {captured} bytes captured of {original}"
                )
            }
        }
    }
}

impl core::error::Error for RecordError {}

/// The records of a read: each header with the bytes captured of its frame.
/// After an error there is nothing more, since where the next record starts
/// is not known then.
#[must_use]
pub const fn records(read: &[u8]) -> Records<'_> {
    Records {
        rest: read,
        offset: 0,
    }
}

/// Iterator of [`records`].
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Records<'a> {
    fn take(&mut self) -> Result<(FrameRecord, &'a [u8]), RecordError> {
        let offset = self.offset;
        let rest = self.rest;
        let Ok((record, _)) = FrameRecord::read_from_prefix(rest) else {
            let left = rest.len();
            return Err(RecordError::ShortHeader { offset, left });
        };
        let header_len = usize::from(record.header_len);
        if header_len < size_of::<FrameRecord>() {
            let header_len = record.header_len;
            return Err(RecordError::HeaderLen { offset, header_len });
        }
        if record.captured_len > record.original_len {
            return Err(RecordError::CapturedLen {
                offset,
                captured: record.captured_len,
                original: record.original_len,
            });
        }
        let bad_size = RecordError::Size {
            offset,
            size: record.size,
        };
        let size = usize::try_from(record.size).map_err(|_| bad_size)?;
        let captured = usize::try_from(record.captured_len).map_err(|_| bad_size)?;
        let end = header_len.checked_add(captured).ok_or(bad_size)?;
        let (whole, after) = rest.split_at_checked(size).ok_or(bad_size)?;
        if !size.is_multiple_of(limits::RECORD_ALIGN) {
            return Err(bad_size);
        }
        let bytes = whole.get(header_len..end).ok_or(bad_size)?;
        self.rest = after;
        self.offset = offset.saturating_add(size);
        Ok((record, bytes))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<(FrameRecord, &'a [u8]), RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let item = self.take();
        if item.is_err() {
            self.rest = &[];
        }
        Some(item)
    }
}

impl FusedIterator for Records<'_> {}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    use super::*;

    fn meta(original_len: u32) -> FrameMeta {
        FrameMeta::new(original_len, 3, 5, Direction::Out)
    }

    fn append(read: &mut Vec<u8>, frame: &[u8], snaplen: u32, sequence: u64) {
        let record = meta(frame.len() as u32)
            .record(snaplen, sequence)
            .expect("fits");
        let end = read.len() + record.size as usize;
        read.extend_from_slice(record.as_bytes());
        read.extend_from_slice(&frame[..record.captured_len as usize]);
        read.resize(end, 0);
    }

    #[test]
    fn sizes_are_padded_and_bounded() {
        assert_eq!(record_size(0), Some(40));
        assert_eq!(record_size(1), Some(48));
        assert_eq!(record_size(8), Some(48));
        assert_eq!(record_size(limits::MAX_SNAPLEN), Some(262_184));
        assert_eq!(record_size(u32::MAX - 40), None);
        assert_eq!(record_size(u32::MAX), None);
        assert_eq!(meta(u32::MAX).record(u32::MAX, 0), None);
    }

    #[test]
    fn a_cut_frame_is_marked() {
        let cut = meta(100).record(99, 0).expect("fits");
        assert_eq!(
            (cut.captured_len, cut.flags()),
            (99, RecordFlags::TRUNCATED)
        );
        let whole = meta(100).record(100, 0).expect("fits");
        assert_eq!(
            (whole.captured_len, whole.flags()),
            (100, RecordFlags::empty())
        );
        assert_eq!(whole.direction(), Some(Direction::Out));
        assert_eq!(
            FrameRecord {
                direction: 2,
                ..whole
            }
            .direction(),
            None
        );
    }

    /// One record of 16 bytes of frame, changed by `change`.
    fn broken(change: impl FnOnce(&mut FrameRecord)) -> RecordError {
        let mut record = meta(16).record(16, 0).expect("fits");
        change(&mut record);
        let mut read = record.as_bytes().to_vec();
        read.resize(56, 0);
        let mut all = records(&read);
        let error = all.next().expect("an item").expect_err("broken");
        assert_eq!(all.next(), None, "nothing after an error");
        error
    }

    #[test]
    fn records_that_contradict_themselves_are_errors() {
        let size = |size| RecordError::Size { offset: 0, size };
        assert_eq!(broken(|r| r.size = 0), size(0));
        assert_eq!(broken(|r| r.size = 48), size(48));
        assert_eq!(broken(|r| r.size = 55), size(55));
        assert_eq!(broken(|r| r.size = 64), size(64));
        assert_eq!(broken(|r| r.size = u32::MAX), size(u32::MAX));
        let header = |header_len| RecordError::HeaderLen {
            offset: 0,
            header_len,
        };
        assert_eq!(broken(|r| r.header_len = 39), header(39));
        assert_eq!(broken(|r| r.header_len = 48), size(56));
        let more = RecordError::CapturedLen {
            offset: 0,
            captured: 17,
            original: 16,
        };
        assert_eq!(broken(|r| r.captured_len = 17), more);
        let short = RecordError::ShortHeader {
            offset: 0,
            left: 39,
        };
        assert_eq!(records(&[0; 39]).next(), Some(Err(short)));
    }

    #[test]
    fn a_longer_header_of_a_later_version_is_skipped() {
        let mut record = meta(4).record(4, 0).expect("fits");
        record.size = 56;
        record.header_len = 48;
        let mut read = record.as_bytes().to_vec();
        read.extend_from_slice(&[0xee; 8]);
        read.extend_from_slice(b"abcd\0\0\0\0");
        let (_, bytes) = records(&read).next().expect("an item").expect("a record");
        assert_eq!(bytes, b"abcd");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
            snaplen in 1..256_u32,
        ) {
            let mut read = Vec::new();
            for (frame, sequence) in frames.iter().zip(0..) {
                append(&mut read, frame, snaplen, sequence);
            }
            let got: Vec<_> = records(&read).collect::<Result<_, _>>().expect("whole");
            prop_assert_eq!(got.len(), frames.len());
            for (((record, bytes), frame), sequence) in got.into_iter().zip(&frames).zip(0..) {
                let kept = frame.len().min(snaplen as usize);
                prop_assert_eq!(bytes, &frame[..kept]);
                prop_assert_eq!(record.original_len as usize, frame.len());
                prop_assert_eq!(record.sequence, sequence);
            }
        }

        #[test]
        fn any_bytes_end(mut read in prop::collection::vec(any::<u8>(), 0..400), size in 0..64_u32) {
            // Random sizes are hardly ever plausible: give the first one a chance.
            if let Some(at) = read.get_mut(..4) {
                at.copy_from_slice(&(size * 8).to_le_bytes());
            }
            let taken: usize = records(&read)
                .flatten()
                .map(|(record, bytes)| {
                    assert!(bytes.len() <= record.size as usize);
                    record.size as usize
                })
                .sum();
            prop_assert!(taken <= read.len());
        }
    }
}
