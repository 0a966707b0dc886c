//! The pure part of a capture reader: which frames it gets, how many bytes of
//! each, how they lie in a read buffer, and where they wait between reads.
//!
//! Nothing here knows of requests, locks or timers; whoever owns a [`Tap`]
//! serialises its use. Records are those of [`weir_abi::record`].
//!
//! # The way of a frame
//! [`Tap::admit`] numbers it (or filters it out). The owner then has it written
//! with [`Tap::write`] into the read that is being filled, its [`Fill`] beside
//! it, or puts it aside with [`Tap::set_aside`] in the backlog. While the
//! backlog holds anything, every new frame goes there too: that keeps the order
//! ([`Tap::must_wait`]). [`Tap::drain`] moves frames from the backlog to a read.
//! [`Tap::finish`] counts the frames of a completed read as delivered.
//!
//! # The balance
//! `seen = delivered + queued + lost_backlog + lost_closed` holds after each
//! call, if each [`Fill`] is finished exactly once.

use weir_abi::record::FrameMeta;
use weir_abi::{CaptureOptions, FrameRecord, ReaderStats, RecordFlags, record_size};
use zerocopy::{FromBytes, IntoBytes};

const HEADER: usize = size_of::<FrameRecord>();

/// What has been written into one read buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fill {
    used: usize,
    frames: u64,
    bytes: u64,
    first_100ns: u64,
}

impl Fill {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Fill {
            used: 0,
            frames: 0,
            bytes: 0,
            first_100ns: 0,
        }
    }

    /// Bytes of the buffer in use: what the completed read reports.
    #[must_use]
    pub const fn used(&self) -> usize {
        self.used
    }

    /// Whole records in the buffer.
    #[must_use]
    pub const fn frames(&self) -> u64 {
        self.frames
    }

    /// Whether the buffer holds no record.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.frames == 0
    }

    /// Milliseconds left at `now_100ns` until `flush_ms` after the first frame;
    /// 0 when that has passed. A clock that was set back doesn't prolong the
    /// wait beyond `flush_ms`.
    #[must_use]
    pub fn due_in_ms(&self, now_100ns: u64, flush_ms: u32) -> u32 {
        let waited = now_100ns.saturating_sub(self.first_100ns) / 10_000;
        flush_ms.saturating_sub(u32::try_from(waited).unwrap_or(u32::MAX))
    }

    fn add(&mut self, record: &FrameRecord, size: usize) {
        if self.frames == 0 {
            self.first_100ns = record.timestamp_100ns;
        }
        self.used = self.used.saturating_add(size);
        self.frames = self.frames.saturating_add(1);
        self.bytes = self.bytes.saturating_add(u64::from(record.captured_len));
    }
}

/// How far [`Tap::drain`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// The backlog is empty.
    Empty,
    /// The next record doesn't fit the rest of the buffer.
    Full,
    /// As many bytes as were allowed at once have been moved; more wait.
    Budget,
}

/// One reader: its options, its counters, its backlog. `B` is the memory of the
/// backlog.
#[derive(Debug)]
pub struct Tap<B> {
    options: CaptureOptions,
    stats: ReaderStats,
    next_sequence: u64,
    backlog: Ring<B>,
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Tap<B> {
    /// A reader that has seen nothing, with `memory` as its backlog.
    pub fn new(options: CaptureOptions, memory: B) -> Self {
        let stats = ReaderStats {
            seen: 0,
            delivered: 0,
            queued: 0,
            lost_backlog: 0,
            lost_closed: 0,
            filtered: 0,
            delivered_bytes: 0,
            reads: 0,
            returned: 0,
            outstanding: 0,
            unreturned: 0,
            refused: 0,
        };
        Tap {
            options,
            stats,
            next_sequence: 0,
            backlog: Ring::new(memory),
        }
    }

    /// What the reader asked for.
    pub const fn options(&self) -> &CaptureOptions {
        &self.options
    }

    /// The counters as they are now.
    pub const fn stats(&self) -> ReaderStats {
        self.stats
    }

    /// Whether frames wait in the backlog, so that a new one has to wait too.
    pub const fn must_wait(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Takes notice of a frame. `None` if the reader didn't ask for it;
    /// otherwise the header of its record, numbered. The caller then calls
    /// [`Tap::write`] until it succeeds, or [`Tap::set_aside`] once.
    pub fn admit(&mut self, meta: &FrameMeta) -> Option<FrameRecord> {
        let adapter = self.options.adapter;
        let wanted = self.options.directions.contains(meta.direction.mask())
            && adapter.is_none_or(|id| id.get() == meta.adapter);
        let record = if wanted {
            meta.record(self.options.snaplen, self.next_sequence)
        } else {
            None
        };
        match record {
            Some(_) => {
                self.next_sequence = self.next_sequence.wrapping_add(1);
                bump(&mut self.stats.seen, 1);
            }
            None => bump(&mut self.stats.filtered, 1),
        }
        record
    }

    /// Writes an admitted frame at the end of a read buffer; `copy` puts the
    /// frame's first bytes into the slice it is given and says how many it put
    /// there. False, and nothing has changed, if the record doesn't fit.
    #[must_use]
    pub fn write(
        &mut self,
        fill: &mut Fill,
        buffer: &mut [u8],
        record: FrameRecord,
        copy: impl FnOnce(&mut [u8]) -> usize,
    ) -> bool {
        let Some(free) = buffer.get_mut(fill.used..) else {
            return false;
        };
        let Some(written) = write_record(free, record, copy) else {
            return false;
        };
        fill.add(&written.record, written.size);
        bump(&mut self.stats.queued, 1);
        true
    }

    /// Puts an admitted frame into the backlog, or counts it as lost if it
    /// doesn't fit. True if it waits now.
    pub fn set_aside(
        &mut self,
        record: FrameRecord,
        copy: impl FnOnce(&mut [u8]) -> usize,
    ) -> bool {
        let waits = self.backlog.push(record, copy);
        let counter = if waits {
            &mut self.stats.queued
        } else {
            &mut self.stats.lost_backlog
        };
        bump(counter, 1);
        waits
    }

    /// Moves waiting frames, oldest first, to the end of a read buffer: as many
    /// as fit, and not many more than `budget` bytes.
    pub fn drain(&mut self, fill: &mut Fill, buffer: &mut [u8], budget: usize) -> Drained {
        let mut moved = 0usize;
        loop {
            let Some((record, bytes)) = self.backlog.front() else {
                return Drained::Empty;
            };
            if moved >= budget {
                return Drained::Budget;
            }
            let size = bytes.len();
            let free = buffer.get_mut(fill.used..);
            let Some((place, _)) = free.and_then(|free| free.split_at_mut_checked(size)) else {
                return Drained::Full;
            };
            place.copy_from_slice(bytes);
            fill.add(&record, size);
            moved = moved.saturating_add(size);
            self.backlog.pop(size);
        }
    }

    /// Counts the frames of a read that is completed: they are delivered.
    pub fn finish(&mut self, fill: &Fill) {
        if fill.is_empty() {
            return;
        }
        let stats = &mut self.stats;
        stats.queued = stats.queued.saturating_sub(fill.frames);
        bump(&mut stats.delivered, fill.frames);
        bump(&mut stats.delivered_bytes, fill.bytes);
        bump(&mut stats.reads, 1);
    }

    /// Counts what still waits as lost: nobody will read it. All fills have
    /// been finished before.
    pub fn close(&mut self) {
        self.backlog.clear();
        bump(&mut self.stats.lost_closed, self.stats.queued);
        self.stats.queued = 0;
    }
}

/// Counters wrap after 2^64 frames; nothing is decided by them.
fn bump(counter: &mut u64, by: u64) {
    *counter = counter.wrapping_add(by);
}

struct Written {
    record: FrameRecord,
    size: usize,
}

/// Writes one record at the start of `out`. A copy that comes up short (the
/// frame's memory could not be read) makes a shorter record, marked truncated.
/// `None`, and `out` is as it was, if a full record doesn't fit.
fn write_record(
    out: &mut [u8],
    mut record: FrameRecord,
    copy: impl FnOnce(&mut [u8]) -> usize,
) -> Option<Written> {
    let wanted = usize::try_from(record.captured_len).ok()?;
    let size = usize::try_from(record.size).ok()?;
    let whole = out.get_mut(..size)?;
    let (header, body) = whole.split_at_mut_checked(HEADER)?;
    let copied = copy(body.get_mut(..wanted)?).min(wanted);

    let mut size = size;
    if copied < wanted {
        record.captured_len = u32::try_from(copied).ok()?;
        record.size = record_size(record.captured_len)?;
        record.flags |= RecordFlags::TRUNCATED.bits();
        size = usize::try_from(record.size).ok()?;
    }
    // The padding; what a read reports must not show old memory.
    body.get_mut(copied..size.checked_sub(HEADER)?)?.fill(0);
    header.copy_from_slice(record.as_bytes());
    Some(Written { record, size })
}

/// Whole records in a ring of bytes, each in one piece: a record that doesn't
/// fit behind the newest starts again at the beginning, and `upper_end` says
/// where the readable bytes end before that.
#[derive(Debug)]
struct Ring<B> {
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
    const fn new(memory: B) -> Self {
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

    fn push(&mut self, record: FrameRecord, copy: impl FnOnce(&mut [u8]) -> usize) -> bool {
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
        let Some(written) = write_record(free, record, copy) else {
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
    fn front(&self) -> Option<(FrameRecord, &[u8])> {
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
    fn pop(&mut self, size: usize) {
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
    const fn is_empty(&self) -> bool {
        !self.wrapped && self.head >= self.tail
    }

    const fn clear(&mut self) {
        self.head = 0;
        self.tail = 0;
        self.upper_end = 0;
        self.wrapped = false;
    }
}
