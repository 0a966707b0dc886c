//! Frames on their way back: what a write holds.
//!
//! A write is whole records one after another, each a [`FrameRecord`] of this
//! version, all bytes of a frame, and padding up to a multiple of 8. [`writes`]
//! looks at one record after the other; whoever takes a write looks at all of
//! them before doing anything, and at a copy, because user mode can change the
//! memory of a write at any time.

use core::fmt;
use core::iter::FusedIterator;

use crate::record::{HEADER_LEN, RecordError, Records};
use crate::{Direction, FrameRecord, RecordFlags, limits, records, status};

/// One frame of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteFrame<'a> {
    /// Id of the adapter it goes to; not 0.
    pub adapter: u32,
    /// Divert role: the number of the frame that is given back.
    pub sequence: u64,
    /// Which way it goes.
    pub direction: Direction,
    /// [`RecordFlags::CHECKSUM_OFFLOAD`] and [`RecordFlags::TAG_BESIDE`] mean
    /// something, others nothing.
    pub flags: RecordFlags,
    /// Bytes of payload in each of the segments it is to be cut into; 0 if it
    /// isn't.
    pub segment_size: u16,
    /// Its bytes: [`limits::MIN_WRITE_FRAME`] to [`limits::MAX_SNAPLEN`].
    pub bytes: &'a [u8],
    /// Where its record ends in the write.
    pub end: usize,
}

/// Why a write is refused as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// No record at all.
    Empty,
    /// More than [`limits::MAX_WRITE_LEN`] bytes.
    TooLong(usize),
    /// Something is not a record.
    Record(RecordError),
    /// The header's length is not that of this version.
    HeaderLen {
        /// Which record, from 0.
        index: usize,
        /// What it says.
        header_len: u8,
    },
    /// Not the whole frame, or a length no frame can have.
    FrameLen {
        /// Which record, from 0.
        index: usize,
        /// Bytes in the record.
        captured: u32,
        /// Bytes the frame has.
        original: u32,
    },
    /// No adapter has the id 0.
    NoAdapter {
        /// Which record, from 0.
        index: usize,
    },
    /// A direction that doesn't exist.
    Direction {
        /// Which record, from 0.
        index: usize,
        /// What it says.
        direction: u8,
    },
    /// Flags this version doesn't know, a truncated frame, or a segment size
    /// without [`RecordFlags::CHECKSUM_OFFLOAD`].
    Flags {
        /// Which record, from 0.
        index: usize,
        /// What it says.
        flags: u16,
    },
}

impl WriteError {
    /// The NTSTATUS that says so.
    #[must_use]
    pub const fn status(self) -> i32 {
        match self {
            WriteError::Empty => status::BUFFER_TOO_SMALL,
            WriteError::TooLong(_) => status::INVALID_BUFFER_SIZE,
            WriteError::Record(_) | WriteError::HeaderLen { .. } => status::INVALID_USER_BUFFER,
            WriteError::FrameLen { .. } => status::INVALID_PARAMETER_3,
            WriteError::NoAdapter { .. } => status::NO_SUCH_DEVICE,
            WriteError::Direction { .. } => status::INVALID_PARAMETER_7,
            WriteError::Flags { .. } => status::INVALID_PARAMETER_9,
        }
    }
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WriteError::Empty => f.write_str("a write of no bytes"),
            WriteError::TooLong(len) => {
                write!(
                    f,
                    "a write of {len} bytes, at most {}",
                    limits::MAX_WRITE_LEN
                )
            }
            WriteError::Record(e) => e.fmt(f),
            WriteError::HeaderLen { index, header_len } => {
                write!(
                    f,
                    "record {index}: a header of {header_len} bytes, not {HEADER_LEN}"
                )
            }
            WriteError::FrameLen {
                index,
                captured,
                original,
            } => write!(
                f,
                "record {index}: {captured} bytes of a frame of {original}; {} to {} are wanted, all of them",
                limits::MIN_WRITE_FRAME,
                limits::MAX_SNAPLEN
            ),
            WriteError::NoAdapter { index } => write!(f, "record {index}: adapter 0"),
            WriteError::Direction { index, direction } => {
                write!(f, "record {index}: {direction} is no direction")
            }
            WriteError::Flags { index, flags } => {
                write!(f, "record {index}: flags {flags:#06x} can't be written")
            }
        }
    }
}

impl core::error::Error for WriteError {}

/// The frames of a write, each checked when it is come to. After an error there
/// is nothing more. A write without a record is an error too.
#[must_use]
pub const fn writes(write: &[u8]) -> Writes<'_> {
    Writes {
        len: write.len(),
        records: records(write),
        end: 0,
        index: 0,
        over: false,
    }
}

/// Iterator of [`writes`].
#[derive(Clone, Debug)]
pub struct Writes<'a> {
    len: usize,
    records: Records<'a>,
    end: usize,
    index: usize,
    over: bool,
}

impl<'a> Writes<'a> {
    fn take(&mut self) -> Option<Result<WriteFrame<'a>, WriteError>> {
        if self.len > max_write_len() {
            return Some(Err(WriteError::TooLong(self.len)));
        }
        match self.records.next() {
            Some(Ok((record, bytes))) => Some(self.check(&record, bytes)),
            Some(Err(e)) => Some(Err(WriteError::Record(e))),
            None if self.len == 0 => Some(Err(WriteError::Empty)),
            None => None,
        }
    }

    fn check(
        &mut self,
        record: &FrameRecord,
        bytes: &'a [u8],
    ) -> Result<WriteFrame<'a>, WriteError> {
        let index = self.index;
        self.index = index.saturating_add(1);
        self.end = self
            .end
            .saturating_add(usize::try_from(record.size).unwrap_or(usize::MAX));
        if record.header_len != HEADER_LEN {
            let header_len = record.header_len;
            return Err(WriteError::HeaderLen { index, header_len });
        }
        let lengths = limits::MIN_WRITE_FRAME..=limits::MAX_SNAPLEN;
        if record.captured_len != record.original_len || !lengths.contains(&record.captured_len) {
            return Err(WriteError::FrameLen {
                index,
                captured: record.captured_len,
                original: record.original_len,
            });
        }
        if record.adapter == 0 {
            return Err(WriteError::NoAdapter { index });
        }
        let direction = record.direction().ok_or(WriteError::Direction {
            index,
            direction: record.direction,
        })?;
        let bad = WriteError::Flags {
            index,
            flags: record.flags,
        };
        let flags = RecordFlags::from_bits(record.flags).ok_or(bad)?;
        let cut = record.segment_size != 0;
        if flags.contains(RecordFlags::TRUNCATED)
            || (cut && !flags.contains(RecordFlags::CHECKSUM_OFFLOAD))
        {
            return Err(bad);
        }
        Ok(WriteFrame {
            adapter: record.adapter,
            sequence: record.sequence,
            direction,
            flags,
            segment_size: record.segment_size,
            bytes,
            end: self.end,
        })
    }
}

/// [`limits::MAX_WRITE_LEN`] as a length.
fn max_write_len() -> usize {
    usize::try_from(limits::MAX_WRITE_LEN).unwrap_or(usize::MAX)
}

impl<'a> Iterator for Writes<'a> {
    type Item = Result<WriteFrame<'a>, WriteError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let item = self.take();
        self.over = !matches!(item, Some(Ok(_)));
        item
    }
}

impl FusedIterator for Writes<'_> {}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    use super::*;
    use crate::record::FrameMeta;

    fn record(len: u32) -> FrameRecord {
        let meta = FrameMeta {
            flags: RecordFlags::DIVERTED,
            rule: 7,
            ..FrameMeta::new(len, 3, 5, Direction::Out)
        };
        meta.record(u32::MAX, 11).expect("fits")
    }

    fn append(write: &mut Vec<u8>, record: &FrameRecord, fill: u8) {
        let start = write.len();
        write.extend_from_slice(record.as_bytes());
        write.resize(
            start + size_of::<FrameRecord>() + record.captured_len as usize,
            fill,
        );
        write.resize(start + record.size as usize, 0);
    }

    #[test]
    fn what_was_read_can_be_written() {
        let mut write = Vec::new();
        append(&mut write, &record(60), 1);
        append(&mut write, &record(1514), 2);
        let frames: Vec<_> = writes(&write).collect::<Result<_, _>>().expect("good");
        assert_eq!(frames.len(), 2);
        assert_eq!(frames[0].bytes, [1; 60]);
        assert_eq!(frames[1].bytes, [2; 1514]);
        assert_eq!(frames[0].end, record(60).size as usize);
        assert_eq!(frames[1].end, write.len());
        assert_eq!(
            (frames[0].sequence, frames[0].adapter, frames[0].direction),
            (11, 3, Direction::Out)
        );
    }

    /// A good record and then one that is changed by `change`.
    fn refused(change: impl FnOnce(&mut FrameRecord)) -> i32 {
        let mut bad = record(64);
        change(&mut bad);
        let mut write = Vec::new();
        append(&mut write, &record(64), 0);
        write.extend_from_slice(bad.as_bytes());
        write.resize(write.len() + 64, 0);
        let mut all = writes(&write);
        assert!(all.next().expect("the first").is_ok());
        let error = all.next().expect("the second").expect_err("bad");
        assert_eq!(all.next(), None);
        error.status()
    }

    #[test]
    fn each_kind_of_bad_record_has_its_status() {
        use status::*;
        assert_eq!(refused(|r| r.size = 0), INVALID_USER_BUFFER);
        assert_eq!(refused(|r| r.size = u32::MAX), INVALID_USER_BUFFER);
        assert_eq!(refused(|r| r.captured_len = 65), INVALID_USER_BUFFER);
        assert_eq!(refused(|r| r.header_len = 39), INVALID_USER_BUFFER);
        assert_eq!(
            refused(|r| {
                r.header_len = 48;
                r.captured_len = 56;
                r.original_len = 56;
            }),
            INVALID_USER_BUFFER
        );
        assert_eq!(refused(|r| r.original_len = 65), INVALID_PARAMETER_3);
        assert_eq!(
            refused(|r| {
                r.captured_len = 13;
                r.original_len = 13;
            }),
            INVALID_PARAMETER_3
        );
        assert_eq!(refused(|r| r.adapter = 0), NO_SUCH_DEVICE);
        assert_eq!(refused(|r| r.direction = 2), INVALID_PARAMETER_7);
        assert_eq!(refused(|r| r.flags = 0x8000), INVALID_PARAMETER_9);
        assert_eq!(refused(|r| r.flags = 0x01), INVALID_PARAMETER_9);
        assert_eq!(refused(|r| r.segment_size = 1460), INVALID_PARAMETER_9);
        let status = |write: &[u8]| writes(write).find_map(Result::err).map(WriteError::status);
        assert_eq!(status(&[]), Some(BUFFER_TOO_SMALL));
        assert_eq!(status(&[0; 39]), Some(INVALID_USER_BUFFER));
        let long = std::vec![0; 1024 * 1024 + 1];
        assert_eq!(status(&long), Some(INVALID_BUFFER_SIZE));
        let mut whole = Vec::new();
        append(&mut whole, &record(limits::MAX_SNAPLEN), 1);
        assert_eq!(status(&whole), None);
        let mut above = Vec::new();
        append(&mut above, &record(limits::MAX_SNAPLEN + 1), 1);
        assert_eq!(status(&above), Some(INVALID_PARAMETER_3));
    }

    proptest! {
        #[test]
        fn any_bytes_end(mut write in prop::collection::vec(any::<u8>(), 0..400), size in 0..64_u32) {
            // Random sizes are hardly ever plausible: give the first one a chance.
            if let Some(at) = write.get_mut(..8) {
                at[..4].copy_from_slice(&(size * 8).to_le_bytes());
                at[4..].copy_from_slice(&14u32.to_le_bytes());
            }
            for frame in writes(&write) {
                match frame {
                    Ok(frame) => {
                        prop_assert!(frame.end <= write.len());
                        prop_assert!(frame.bytes.len() >= 14);
                    }
                    Err(e) => prop_assert!(status::is_error(e.status()), "{e}"),
                }
            }
        }
    }
}
