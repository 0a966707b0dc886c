//! Captured frames, as they lie in a read buffer.
//!
//! A read holds whole records one after another, each a [`FrameRecord`], the
//! captured bytes, and zeros up to a multiple of 8. Nothing is split over two
//! reads.

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
        /// Id of the adapter it was seen at.
        12 => adapter: u32,
        /// When it was seen: 100 ns since 1601-01-01 UTC.
        16 => timestamp_100ns: u64,
        /// Its number among the frames this reader asked for, from 0. A gap is
        /// as many frames lost to this reader.
        24 => sequence: u64,
        /// [`Direction`].
        32 => direction: u8,
        /// [`RecordFlags`].
        33 => flags: u8,
        /// Size of this header: where the bytes start.
        34 => header_len: u16,
        /// 0.
        36 => reserved: u32,
    }
}

/// Size of [`FrameRecord`], as its `header_len` says it.
pub const HEADER_LEN: u16 = 40;
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
}

impl FrameMeta {
    /// The header for a frame of which at most `snaplen` bytes are captured.
    /// `None` if its size doesn't fit 32 bits.
    #[must_use]
    pub const fn record(&self, snaplen: u32, sequence: u64) -> Option<FrameRecord> {
        let (captured_len, flags) = if self.original_len > snaplen {
            (snaplen, RecordFlags::TRUNCATED)
        } else {
            (self.original_len, RecordFlags::empty())
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
            flags: flags.bits(),
            header_len: HEADER_LEN,
            reserved: 0,
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
        header_len: u16,
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
