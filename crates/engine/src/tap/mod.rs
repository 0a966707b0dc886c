//! The pure part of a reader, in the capture or the divert role: which frames it
//! gets, how many bytes of each, how they lie in a read buffer, where they wait
//! between reads, and which of them are still to be given back.
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
//! # The divert role
//! A reader in the divert role gets whole frames or none: one that can't be had
//! whole is lost, and counted as such. Each frame that was delivered is with the
//! reader until it is given back ([`Tap::claim`], once), or until its place among
//! [`MAX_OUTSTANDING`](weir_abi::limits::MAX_OUTSTANDING) is another one's. One
//! that waits gives up its place to none: the other one is lost.
//!
//! # The balance
//! `seen = delivered + queued + lost_backlog + lost_closed` holds after each
//! call, if each [`Fill`] is finished exactly once; in the divert role
//! `delivered = returned + outstanding + unreturned` too.

mod outstanding;
mod ring;

use weir_abi::limits::MAX_SNAPLEN;
use weir_abi::record::FrameMeta;
use weir_abi::{
    CaptureOptions, CaptureSource, Directions, DivertOptions, FrameRecord, ReaderStats, RecordFlags,
};

use outstanding::Outstanding;
use ring::{NotWritten, Ring, write_record};

pub use outstanding::MARKS_LEN;

/// What has been written into one read buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fill {
    used: usize,
    frames: u64,
    bytes: u64,
    first_100ns: u64,
    /// Numbers of the first and the last frame.
    sequences: (u64, u64),
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
            sequences: (0, 0),
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

    #[inline(always)]
    fn add(&mut self, record: &FrameRecord, captured_len: u32, size: usize) {
        if self.frames == 0 {
            self.first_100ns = record.timestamp_100ns;
            self.sequences.0 = record.sequence;
        }
        self.sequences.1 = record.sequence;
        self.used = self.used.saturating_add(size);
        self.frames = self.frames.saturating_add(1);
        self.bytes = self.bytes.saturating_add(u64::from(captured_len));
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

/// What came of [`Tap::write`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrote {
    /// The record is in the buffer.
    Yes,
    /// It doesn't fit the rest of the buffer, and nothing has changed.
    NoRoom,
    /// The frame is lost, and counted: it can't be had whole, and has to be.
    Lost,
}

/// One reader: its options, its counters, its backlog. `B` is the memory of the
/// backlog.
#[derive(Debug)]
pub struct Tap<B> {
    options: CaptureOptions,
    stats: ReaderStats,
    next_sequence: u64,
    backlog: Ring<B>,
    /// In the divert role: where each frame is.
    outstanding: Option<Outstanding<B>>,
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Tap<B> {
    /// A reader in the capture role that has seen nothing, with `memory` as its
    /// backlog.
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
            outstanding: None,
        }
    }

    /// A reader in the divert role that has seen nothing, with `memory` as its
    /// backlog and [`MARKS_LEN`] zeroed bytes as `marks`.
    pub fn divert(options: &DivertOptions, memory: B, marks: B) -> Self {
        let options = CaptureOptions {
            adapter: options.adapter,
            snaplen: MAX_SNAPLEN,
            backlog: options.backlog,
            flush_ms: options.flush_ms,
            directions: Directions::all(),
            source: CaptureSource::All,
        };
        Tap {
            outstanding: Some(Outstanding::new(marks)),
            ..Tap::new(options, memory)
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

    /// Whether the reader asked for frames like this one.
    #[inline(always)]
    fn wants(&self, meta: &FrameMeta) -> bool {
        let options = &self.options;
        options.directions.contains(meta.direction.mask())
            && options.adapter.is_none_or(|id| id.get() == meta.adapter)
            && (options.source == CaptureSource::All || meta.logged != 0)
    }

    /// Takes notice of a frame. `None` if there is nothing more to do with it:
    /// the reader didn't ask for it, or it is lost and counted. Otherwise the
    /// header of its record, numbered. The caller then calls [`Tap::write`] until
    /// it doesn't say that there is no room, or [`Tap::set_aside`] once.
    #[inline]
    pub fn admit(&mut self, meta: &FrameMeta) -> Option<FrameRecord> {
        if !self.wants(meta) {
            bump(&mut self.stats.filtered, 1);
            return None;
        }
        let logged = FrameMeta {
            rule: meta.logged,
            flags: meta.flags.union(RecordFlags::LOGGED),
            ..*meta
        };
        let meta = match self.options.source {
            CaptureSource::All => meta,
            CaptureSource::Logged => &logged,
        };
        let Some(record) = meta.record(self.options.snaplen, self.next_sequence) else {
            bump(&mut self.stats.filtered, 1);
            return None;
        };
        self.next_sequence = self.next_sequence.wrapping_add(1);
        bump(&mut self.stats.seen, 1);
        if let Some(outstanding) = &mut self.outstanding {
            let given_up = outstanding.make_room(record.sequence);
            if given_up == Some(true) {
                lower(&mut self.stats.outstanding, 1);
                bump(&mut self.stats.unreturned, 1);
            }
            if given_up.is_none() || record.captured_len < record.original_len {
                bump(&mut self.stats.lost_backlog, 1);
                return None;
            }
        }
        Some(record)
    }

    /// Whether a read would hold numbers so far apart that one mark stands for
    /// two of them: then it is full.
    #[inline(always)]
    fn is_apart(&self, fill: &Fill, sequence: u64) -> bool {
        let (first, _) = fill.sequences;
        self.outstanding.is_some()
            && !fill.is_empty()
            && sequence.wrapping_sub(first) >= outstanding::NUMBERS
    }

    /// Counts an admitted frame as waiting.
    #[inline(always)]
    fn queue(&mut self, sequence: u64) {
        bump(&mut self.stats.queued, 1);
        if let Some(outstanding) = &mut self.outstanding {
            outstanding.queue(sequence);
        }
    }

    /// Writes an admitted frame at the end of a read buffer; `copy` puts the
    /// frame's first bytes into the slice it is given and says how many it put
    /// there.
    #[must_use]
    #[inline]
    pub fn write(
        &mut self,
        fill: &mut Fill,
        buffer: &mut [u8],
        record: FrameRecord,
        copy: impl FnOnce(&mut [u8]) -> usize,
    ) -> Wrote {
        let Some(free) = buffer.get_mut(fill.used..) else {
            return Wrote::NoRoom;
        };
        if self.is_apart(fill, record.sequence) {
            return Wrote::NoRoom;
        }
        let whole = self.outstanding.is_some();
        match write_record(free, &record, whole, copy) {
            Ok(written) => {
                fill.add(&record, written.captured_len, written.size);
                self.queue(record.sequence);
                Wrote::Yes
            }
            Err(NotWritten::NoRoom) => Wrote::NoRoom,
            Err(NotWritten::Unreadable) => {
                bump(&mut self.stats.lost_backlog, 1);
                Wrote::Lost
            }
        }
    }

    /// Puts an admitted frame into the backlog, or counts it as lost if it
    /// doesn't fit. True if it waits now.
    pub fn set_aside(
        &mut self,
        record: FrameRecord,
        copy: impl FnOnce(&mut [u8]) -> usize,
    ) -> bool {
        let whole = self.outstanding.is_some();
        let waits = self.backlog.push(record, whole, copy);
        if waits {
            self.queue(record.sequence);
        } else {
            bump(&mut self.stats.lost_backlog, 1);
        }
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
            if self.is_apart(fill, record.sequence) {
                return Drained::Full;
            }
            let free = buffer.get_mut(fill.used..);
            let Some((place, _)) = free.and_then(|free| free.split_at_mut_checked(size)) else {
                return Drained::Full;
            };
            place.copy_from_slice(bytes);
            fill.add(&record, record.captured_len, size);
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
        lower(&mut stats.queued, fill.frames);
        bump(&mut stats.delivered, fill.frames);
        bump(&mut stats.delivered_bytes, fill.bytes);
        bump(&mut stats.reads, 1);
        if let Some(outstanding) = &mut self.outstanding {
            let (first, last) = fill.sequences;
            outstanding.deliver(first, last);
            bump(&mut stats.outstanding, fill.frames);
        }
    }

    /// Takes back the frame with this number, once: true if it is with the
    /// reader, who then has no more to do with it.
    #[must_use]
    pub fn claim(&mut self, sequence: u64) -> bool {
        let Some(outstanding) = &mut self.outstanding else {
            return false;
        };
        let claimed = sequence < self.next_sequence && outstanding.take(sequence);
        if claimed {
            lower(&mut self.stats.outstanding, 1);
            bump(&mut self.stats.returned, 1);
        }
        claimed
    }

    /// Undoes a [`Tap::claim`]: the frame is with the reader again, unless its
    /// place is another one's meanwhile.
    pub fn unclaim(&mut self, sequence: u64) {
        let Some(outstanding) = &mut self.outstanding else {
            return;
        };
        lower(&mut self.stats.returned, 1);
        if outstanding.has_place(sequence) {
            outstanding.put_back(sequence);
            bump(&mut self.stats.outstanding, 1);
        } else {
            bump(&mut self.stats.unreturned, 1);
        }
    }

    /// Counts a write that was refused, or of which a part was.
    pub fn refuse(&mut self) {
        bump(&mut self.stats.refused, 1);
    }

    /// Counts what still waits as lost: nobody will read it; and what is with
    /// the reader as not returned. All fills have been finished before.
    pub fn close(&mut self) {
        self.backlog.clear();
        let stats = &mut self.stats;
        bump(&mut stats.lost_closed, stats.queued);
        stats.queued = 0;
        bump(&mut stats.unreturned, stats.outstanding);
        stats.outstanding = 0;
        if let Some(outstanding) = &mut self.outstanding {
            outstanding.clear();
        }
    }
}

/// Counters wrap after 2^64 frames; nothing is decided by them.
fn bump(counter: &mut u64, by: u64) {
    *counter = counter.wrapping_add(by);
}

/// Takes away what was added before.
fn lower(counter: &mut u64, by: u64) {
    *counter = counter.wrapping_sub(by);
}
