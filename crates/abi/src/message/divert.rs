//! The divert and the inject role of a handle.

use core::num::NonZeroU32;

use super::{ReplyHeader, Request, RequestError, RequestHeader};
use crate::{Ioctl, limits};

message! {
    /// Gives a handle the divert role: its reads get the whole frames of
    /// `divert` rules, in place of whom they were meant for, and its writes give
    /// them back.
    pub struct OpenDivertRequest [24] {
        /// Version and size.
        0 => header: RequestHeader,
        /// Field 1: the adapter's id, or 0 for all of them.
        8 => adapter: u32,
        /// Field 2: bytes that wait between reads at most, from
        /// [`MIN_BACKLOG`](limits::MIN_BACKLOG) to
        /// [`MAX_BACKLOG`](limits::MAX_BACKLOG).
        12 => backlog: u32,
        /// Field 3: milliseconds a read waits for more after its first frame,
        /// up to [`MAX_FLUSH_MS`](limits::MAX_FLUSH_MS).
        16 => flush_ms: u32,
        /// 0.
        20 => reserved: u32,
    }
}

message! {
    /// The divert role was given.
    pub struct OpenDivertReply [24] {
        /// Version and size.
        0 => header: ReplyHeader,
        /// The reader's number: from 1, never used again while the driver is
        /// loaded.
        8 => reader: u32,
        /// The shortest read that is accepted: one whole record.
        12 => min_read: u32,
        /// The longest write that is taken.
        16 => max_write: u32,
        /// Frames that can be with the reader at once:
        /// [`MAX_OUTSTANDING`](limits::MAX_OUTSTANDING).
        20 => max_outstanding: u32,
    }
}

/// What a reader in the divert role asks for, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DivertOptions {
    /// The adapter's id; `None` for all of them. Whether there is one with this
    /// id is not known here.
    pub adapter: Option<NonZeroU32>,
    /// Bytes that wait between reads at most.
    pub backlog: u32,
    /// Milliseconds a read waits for more after its first frame.
    pub flush_ms: u32,
}

impl TryFrom<&OpenDivertRequest> for DivertOptions {
    type Error = RequestError;

    fn try_from(request: &OpenDivertRequest) -> Result<Self, RequestError> {
        let bad = |n, name, value| RequestError::Field { n, name, value };
        if request.reserved != 0 {
            return Err(RequestError::Reserved);
        }
        if !(limits::MIN_BACKLOG..=limits::MAX_BACKLOG).contains(&request.backlog) {
            return Err(bad(2, "backlog", request.backlog));
        }
        if request.flush_ms > limits::MAX_FLUSH_MS {
            return Err(bad(3, "flush time", request.flush_ms));
        }
        Ok(DivertOptions {
            adapter: NonZeroU32::new(request.adapter),
            backlog: request.backlog,
            flush_ms: request.flush_ms,
        })
    }
}

impl From<&DivertOptions> for OpenDivertRequest {
    fn from(options: &DivertOptions) -> Self {
        OpenDivertRequest {
            header: RequestHeader::of::<Self>(),
            adapter: options.adapter.map_or(0, NonZeroU32::get),
            backlog: options.backlog,
            flush_ms: options.flush_ms,
            reserved: 0,
        }
    }
}

impl Request for OpenDivertRequest {
    const IOCTL: Ioctl = Ioctl::OpenDivert;
    type Reply = OpenDivertReply;
}

message! {
    /// Gives a handle the inject role: its writes are frames to send, or to
    /// indicate to the host.
    pub struct OpenInjectRequest [16] {
        /// Version and size.
        0 => header: RequestHeader,
        /// The one adapter frames may go to; 0 for any.
        8 => adapter: u32,
        /// 0.
        12 => reserved: u32,
    }
}

message! {
    /// The inject role was given.
    pub struct OpenInjectReply [16] {
        /// Version and size.
        0 => header: ReplyHeader,
        /// The writer's number: from 1, never used again while the driver is
        /// loaded.
        8 => writer: u32,
        /// The longest write that is taken.
        12 => max_write: u32,
    }
}

impl OpenInjectRequest {
    /// A request for the inject role on one adapter, or on all.
    #[must_use]
    pub fn new(adapter: Option<NonZeroU32>) -> Self {
        OpenInjectRequest {
            header: RequestHeader::of::<Self>(),
            adapter: adapter.map_or(0, NonZeroU32::get),
            reserved: 0,
        }
    }

    /// Its adapter's id; `None` for any.
    pub const fn adapter(&self) -> Result<Option<NonZeroU32>, RequestError> {
        if self.reserved != 0 {
            return Err(RequestError::Reserved);
        }
        Ok(NonZeroU32::new(self.adapter))
    }
}

impl Request for OpenInjectRequest {
    const IOCTL: Ioctl = Ioctl::OpenInject;
    type Reply = OpenInjectReply;
}
