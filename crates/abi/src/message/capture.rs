//! The capture role of a handle.

use super::{ReplyHeader, Request, RequestError, RequestHeader};
use crate::{CaptureSource, Directions, Ioctl, limits};

message! {
    /// Gives a handle the capture role.
    pub struct OpenCaptureRequest [32] {
        /// Version and size.
        0 => header: RequestHeader,
        /// Field 1: the adapter's id, or 0 for all of them.
        8 => adapter: u32,
        /// Field 2: most bytes of each frame; 0 for whole frames, else 1 to
        /// [`MAX_SNAPLEN`](limits::MAX_SNAPLEN).
        12 => snaplen: u32,
        /// Field 3: bytes that wait between reads at most, from
        /// [`MIN_BACKLOG`](limits::MIN_BACKLOG) to
        /// [`MAX_BACKLOG`](limits::MAX_BACKLOG).
        16 => backlog: u32,
        /// Field 4: milliseconds a read waits for more after its first frame,
        /// up to [`MAX_FLUSH_MS`](limits::MAX_FLUSH_MS).
        20 => flush_ms: u32,
        /// Field 5: [`Directions`], at least one.
        24 => directions: u32,
        /// Field 6: [`CaptureSource`].
        28 => source: u32,
    }
}

message! {
    /// The capture role was given.
    pub struct OpenCaptureReply [24] {
        /// Version and size.
        0 => header: ReplyHeader,
        /// The reader's number: from 1, never used again while the driver is
        /// loaded.
        8 => reader: u32,
        /// The snap length in force.
        12 => snaplen: u32,
        /// The shortest read that is accepted: one whole record.
        16 => min_read: u32,
        /// 0.
        20 => reserved: u32,
    }
}

impl Request for OpenCaptureRequest {
    const IOCTL: Ioctl = Ioctl::OpenCapture;
    type Reply = OpenCaptureReply;
}

/// What a reader asks for, checked: an [`OpenCaptureRequest`] that makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaptureOptions {
    /// The adapter's id; `None` for all of them. Whether there is one with this
    /// id is not known here.
    pub adapter: Option<core::num::NonZeroU32>,
    /// Most bytes of each frame: 1 to [`limits::MAX_SNAPLEN`].
    pub snaplen: u32,
    /// Bytes that wait between reads at most.
    pub backlog: u32,
    /// Milliseconds a read waits for more after its first frame.
    pub flush_ms: u32,
    /// Which frames; not empty.
    pub directions: Directions,
    /// All of these, or those that a log rule matched.
    pub source: CaptureSource,
}

impl CaptureOptions {
    /// The shortest read that holds a record of this snap length.
    #[must_use]
    pub fn min_read(&self) -> u32 {
        crate::record_size(self.snaplen).unwrap_or(u32::MAX)
    }
}

impl TryFrom<&OpenCaptureRequest> for CaptureOptions {
    type Error = RequestError;

    fn try_from(request: &OpenCaptureRequest) -> Result<Self, RequestError> {
        let bad = |n, name, value| RequestError::Field { n, name, value };
        let snaplen = match request.snaplen {
            0 => limits::MAX_SNAPLEN,
            n @ 1..=limits::MAX_SNAPLEN => n,
            n => return Err(bad(2, "snap length", n)),
        };
        if !(limits::MIN_BACKLOG..=limits::MAX_BACKLOG).contains(&request.backlog) {
            return Err(bad(3, "backlog", request.backlog));
        }
        if request.flush_ms > limits::MAX_FLUSH_MS {
            return Err(bad(4, "flush time", request.flush_ms));
        }
        let directions = Directions::from_bits(request.directions)
            .filter(|d| !d.is_empty())
            .ok_or(bad(5, "directions", request.directions))?;
        let source =
            CaptureSource::try_from(request.source).map_err(|e| bad(6, "source", e.value))?;
        Ok(CaptureOptions {
            adapter: core::num::NonZeroU32::new(request.adapter),
            snaplen,
            backlog: request.backlog,
            flush_ms: request.flush_ms,
            directions,
            source,
        })
    }
}

impl From<&CaptureOptions> for OpenCaptureRequest {
    fn from(options: &CaptureOptions) -> Self {
        OpenCaptureRequest {
            header: RequestHeader::of::<Self>(),
            adapter: options.adapter.map_or(0, core::num::NonZeroU32::get),
            snaplen: options.snaplen,
            backlog: options.backlog,
            flush_ms: options.flush_ms,
            directions: options.directions.bits(),
            source: options.source.into(),
        }
    }
}

message! {
    /// Asks for the balance of a handle in the capture, divert or inject role,
    /// on that handle.
    pub struct ReaderStatsRequest [8] {
        /// Version and size.
        0 => header: RequestHeader,
    }
}

message! {
    /// The balance of a handle.
    pub struct ReaderStatsReply [104] {
        /// Version and size.
        0 => header: ReplyHeader,
        /// The counters.
        8 => stats: ReaderStats,
    }
}

impl Request for ReaderStatsRequest {
    const IOCTL: Ioctl = Ioctl::GetReaderStats;
    type Reply = ReaderStatsReply;
}

message! {
    /// The closed balance of one reader, in frames:
    /// `seen = delivered + queued + lost_backlog + lost_closed`, and in the
    /// divert role `delivered = returned + outstanding + unreturned` besides.
    ///
    /// In the inject role only `returned` and `refused` count.
    pub struct ReaderStats [96] {
        /// Frames the reader asked for that reached it.
        0 => seen: u64,
        /// Frames in reads that were completed.
        8 => delivered: u64,
        /// Frames that wait: in the backlog, or in a read not yet complete.
        16 => queued: u64,
        /// Frames that found neither a read nor room in the backlog.
        24 => lost_backlog: u64,
        /// Frames that waited when the reader was closed.
        32 => lost_closed: u64,
        /// Frames the reader did not ask for; not part of `seen`.
        40 => filtered: u64,
        /// Captured bytes of the frames delivered.
        48 => delivered_bytes: u64,
        /// Reads completed with frames.
        56 => reads: u64,
        /// Divert: frames that were written back. Inject: frames that were
        /// written. What becomes of them then is counted by the adapter.
        64 => returned: u64,
        /// Divert: frames that are with the reader now.
        72 => outstanding: u64,
        /// Divert: frames that never came back: others took their place, or the
        /// handle was closed.
        80 => unreturned: u64,
        /// Writes that were refused, or of which a part was.
        88 => refused: u64,
    }
}

impl ReaderStats {
    /// Frames lost to this reader, for whatever reason.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost_backlog.saturating_add(self.lost_closed)
    }

    /// Whether the first equation holds.
    #[must_use]
    pub const fn is_balanced(&self) -> bool {
        self.seen
            == self
                .delivered
                .saturating_add(self.queued)
                .saturating_add(self.lost())
    }

    /// Whether both equations of the divert role hold.
    #[must_use]
    pub const fn is_divert_balanced(&self) -> bool {
        self.is_balanced()
            && self.delivered
                == self
                    .returned
                    .saturating_add(self.outstanding)
                    .saturating_add(self.unreturned)
    }
}
