//! Records in memory: how one is written, and where they wait.

use weir_abi::limits::RECORD_ALIGN;
use weir_abi::{FrameRecord, RecordFlags, record_size};
use zerocopy::{FromBytes, IntoBytes};

const HEADER: usize = size_of::<FrameRecord>();

/// A record in its place.
pub(super) struct Written {
    /// Bytes of the frame in it.
    pub(super) captured_len: u32,
    /// Bytes of the record.
    pub(super) size: usize,
}

/// Why a record was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotWritten {
    /// A full record doesn't fit, and nothing was touched.
    NoRoom,
    /// The frame's memory could not be read, and nothing less will do.
    Unreadable,
}

/// Writes one record at the start of `out`. A copy that comes up short (the
/// frame's memory could not be read) makes a shorter record, marked truncated,
/// unless it has to be `whole`.
#[inline(always)]
pub(super) fn write_record(
    out: &mut [u8],
    record: &FrameRecord,
    whole: bool,
    copy: impl FnOnce(&mut [u8]) -> usize,
) -> Result<Written, NotWritten> {
    let no_room = NotWritten::NoRoom;
    let wanted = usize::try_from(record.captured_len).map_err(|_| no_room)?;
    let size = usize::try_from(record.size).map_err(|_| no_room)?;
    let place = out.get_mut(..size).ok_or(no_room)?;
    // The padding; what a read reports must not show old memory. What of these
    // bytes is not padding is written over.
    *place.last_chunk_mut::<RECORD_ALIGN>().ok_or(no_room)? = [0; RECORD_ALIGN];
    let (header, body) = place.split_at_mut_checked(HEADER).ok_or(no_room)?;
    let copied = copy(body.get_mut(..wanted).ok_or(no_room)?).min(wanted);

    if copied < wanted {
        let short = cut(record, copied).filter(|_| !whole);
        let short = short.ok_or(NotWritten::Unreadable)?;
        let size = usize::try_from(short.size).map_err(|_| no_room)?;
        let end = size.checked_sub(HEADER).ok_or(no_room)?;
        body.get_mut(copied..end).ok_or(no_room)?.fill(0);
        header.copy_from_slice(short.as_bytes());
        return Ok(Written {
            captured_len: short.captured_len,
            size,
        });
    }
    header.copy_from_slice(record.as_bytes());
    Ok(Written {
        captured_len: record.captured_len,
        size,
    })
}

/// The header of a record of which less could be had.
#[cold]
fn cut(record: &FrameRecord, copied: usize) -> Option<FrameRecord> {
    let captured_len = u32::try_from(copied).ok()?;
    Some(FrameRecord {
        captured_len,
        size: record_size(captured_len)?,
        flags: record.flags | RecordFlags::TRUNCATED.bits(),
        ..*record
    })
}

/// Whole records in a ring of bytes, each in one piece: a record that doesn't
/// fit behind the newest starts again at the beginning, and `upper_end` says
/// where the readable bytes end before that.
#[derive(Debug)]
pub(super) struct Ring<B> {
    memory: B,
    /// Where the oldest record starts.
    head: usize,
    /// Where the next record goes.
    tail: usize,
    /// While wrapped: the end of the records that start at `head`.
    upper_end: usize,
    /// Whether the newest records lie before the oldest.
    wrapped: bool,
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Ring<B> {
    pub(super) const fn new(memory: B) -> Self {
        Ring {
            memory,
            head: 0,
            tail: 0,
            upper_end: 0,
            wrapped: false,
        }
    }

    /// Where a record of `size` bytes would go, and whether it would wrap.
    fn place(&self, size: usize) -> Option<(usize, bool)> {
        if self.wrapped {
            let fits = self.head.saturating_sub(self.tail) >= size;
            return fits.then_some((self.tail, false));
        }
        let behind = self.memory.as_ref().len().saturating_sub(self.tail);
        if behind >= size {
            return Some((self.tail, false));
        }
        (self.head >= size).then_some((0, true))
    }

    pub(super) fn push(
        &mut self,
        record: FrameRecord,
        whole: bool,
        copy: impl FnOnce(&mut [u8]) -> usize,
    ) -> bool {
        let Ok(size) = usize::try_from(record.size) else {
            return false;
        };
        let Some((start, wraps)) = self.place(size) else {
            return false;
        };
        let end = start.saturating_add(size);
        let Some(free) = self.memory.as_mut().get_mut(start..end) else {
            return false;
        };
        let Ok(written) = write_record(free, &record, whole, copy) else {
            return false;
        };
        if wraps {
            self.upper_end = self.tail;
            self.wrapped = true;
        }
        self.tail = start.saturating_add(written.size);
        true
    }

    /// The oldest record: its header, and all of it.
    pub(super) fn front(&self) -> Option<(FrameRecord, &[u8])> {
        let end = if self.wrapped {
            self.upper_end
        } else {
            self.tail
        };
        let bytes = self.memory.as_ref().get(self.head..end)?;
        let (record, _) = FrameRecord::read_from_prefix(bytes).ok()?;
        let size = usize::try_from(record.size).ok()?;
        Some((record, bytes.get(..size)?))
    }

    /// Forgets the oldest record, which has `size` bytes.
    pub(super) fn pop(&mut self, size: usize) {
        self.head = self.head.saturating_add(size);
        if self.wrapped && self.head >= self.upper_end {
            self.head = 0;
            self.wrapped = false;
        }
        if self.is_empty() {
            self.clear();
        }
    }
}

impl<B> Ring<B> {
    pub(super) const fn is_empty(&self) -> bool {
        !self.wrapped && self.head >= self.tail
    }

    pub(super) const fn clear(&mut self) {
        self.head = 0;
        self.tail = 0;
        self.upper_end = 0;
        self.wrapped = false;
    }
}
