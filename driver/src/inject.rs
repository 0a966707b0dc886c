//! Writes: frames from user mode, of handles in the divert and the inject role.
//!
//! # A write, from its bytes to its end
//! 1. It is copied: user mode can change its memory while it is looked at.
//! 2. Every record of the copy is checked, before anything is done.
//! 3. Divert role: every frame that is given back is claimed, so that no other
//!    write gives it back too. One that isn't with the reader: the claims of this
//!    write are undone, and it is refused.
//! 4. The frames are handed on one after the other. At the first that can't be
//!    the write ends: what was handed on before is reported as written (a short
//!    write), and the claims of the rest are undone. If it is the very first, the
//!    write fails with the reason.
//!
//! A write is completed before its callback returns: none is ever pending, so
//! there is nothing to cancel. What becomes of a frame after it was handed on is
//! counted by its adapter.
//!
//! # Who calls what, at which IRQL
//!
//! | call | from | IRQL |
//! |---|---|---|
//! | [`start`], [`stop`] | load, unload | `PASSIVE_LEVEL` |
//! | [`open`], [`close`] | OPEN_INJECT, clean-up of the handle | `PASSIVE_LEVEL` |
//! | [`dispatch`] | `EvtIoWrite` | `PASSIVE_LEVEL` |

use core::num::NonZeroU32;
use core::sync::atomic::{AtomicU32, Ordering};

use weir_abi::limits::{MAX_WRITE_LEN, MAX_WRITERS};
use weir_abi::{ReaderStats, RecordFlags, WriteError, WriteFrame, writes};
use zerocopy::FromZeros;

use crate::capture::{self, Returning};
use crate::error::Error;
use crate::handle::{self, Handle, Role};
use crate::kernel::pool::{KBuf, Tag};
use crate::kernel::rundown::Rundown;
use crate::kernel::status::NtStatus;
use crate::kernel::wdf::Request;
use crate::ndis::{self, InjectError, Injection};

const TAG: Tag = Tag::new(*b"WrWr");

/// Open while writes are taken.
static GATE: Rundown = Rundown::new();

/// Handles in the inject role.
static WRITERS: AtomicU32 = AtomicU32::new(0);

/// The number the last writer got.
static LAST_ID: AtomicU32 = AtomicU32::new(0);

/// Makes ready. Before the device exists.
pub(crate) fn start() {
    GATE.init();
}

/// Refuses writes from now on and waits for those that run. `PASSIVE_LEVEL`.
pub(crate) fn stop() {
    GATE.wait();
}

/// How many handles are in the inject role.
pub(crate) fn count() -> u32 {
    WRITERS.load(Ordering::Relaxed)
}

/// One more handle in the inject role; the writer's number.
pub(crate) fn open() -> Result<u32, Error> {
    let _open = GATE.acquire().ok_or(Error::Unloading)?;
    let most = u32::try_from(MAX_WRITERS).unwrap_or(u32::MAX);
    WRITERS
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
            count.checked_add(1).filter(|count| *count <= most)
        })
        .map_err(|_| Error::TooMany)?;
    let id = LAST_ID.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
        last.checked_add(1)
    });
    match id {
        Ok(last) => Ok(last.wrapping_add(1)),
        Err(_) => {
            close();
            Err(Error::TooMany)
        }
    }
}

/// One handle less in the inject role.
pub(crate) fn close() {
    WRITERS.fetch_sub(1, Ordering::Relaxed);
}

/// The balance of a handle in the inject role.
pub(crate) fn stats(handle: &Handle) -> ReaderStats {
    let (returned, refused) = handle.written();
    ReaderStats {
        returned,
        refused,
        ..ReaderStats::new_zeroed()
    }
}

/// Takes a write of `length` bytes, and completes it.
pub(crate) fn dispatch(request: Request, length: usize) {
    match write(&request, length) {
        Ok(written) => request.complete(NtStatus::SUCCESS, written),
        Err(error) => request.complete(error.status(), 0),
    }
}

fn write(request: &Request, length: usize) -> Result<usize, Error> {
    let _open = GATE.acquire().ok_or(Error::Unloading)?;
    let handle = handle::of_request(request).ok_or(Error::WrongRole)?;
    let writer = match handle.role()? {
        Role::Inject(adapter) => Writer::Inject { handle, adapter },
        Role::Divert(ticket) => Writer::Divert(capture::give_back(ticket)?),
        Role::Capture(_) | Role::Socket => return Err(Error::WrongRole),
    };
    let result = copy(request, length).and_then(|bytes| writer.write_all(&bytes));
    // A part of it is a refusal too.
    if result != Ok(length) {
        writer.refuse();
    }
    result
}

/// The driver's own copy of what is to be written.
fn copy(request: &Request, length: usize) -> Result<KBuf, Error> {
    // In this order, so that no length makes the driver ask for more memory.
    if length == 0 {
        return Err(WriteError::Empty.into());
    }
    if length > usize::try_from(MAX_WRITE_LEN).unwrap_or(usize::MAX) {
        return Err(WriteError::TooLong(length).into());
    }
    let (from, _) = request.input(length)?;
    let mut bytes = KBuf::try_zeroed(length, TAG)?;
    // SAFETY: `length` readable bytes that stay until the request is completed,
    // and as many of the buffer's. The process may change them meanwhile: what
    // is looked at is the copy, whichever bytes it got.
    unsafe { core::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), length) };
    Ok(bytes)
}

/// Who writes.
enum Writer<'a> {
    Inject {
        handle: &'a Handle,
        /// The one adapter frames may go to; `None` for any.
        adapter: Option<NonZeroU32>,
    },
    Divert(Returning),
}

impl Writer<'_> {
    /// Checks all of a write, then hands its frames on. How many bytes of it
    /// were.
    fn write_all(&self, bytes: &[u8]) -> Result<usize, Error> {
        for frame in writes(bytes) {
            let frame = frame?;
            if !self.may_write_to(frame.adapter) {
                return Err(Error::NoSuchAdapter);
            }
        }
        self.claim_all(bytes)?;
        let mut written = 0;
        for frame in frames(bytes) {
            if let Err(error) = hand_on(&frame) {
                self.unclaim(bytes.get(written..).unwrap_or_default());
                return if written == 0 {
                    Err(error)
                } else {
                    Ok(written)
                };
            }
            written = frame.end;
            if let Self::Inject { handle, .. } = self {
                handle.count_written();
            }
        }
        Ok(written)
    }

    fn may_write_to(&self, adapter: u32) -> bool {
        match self {
            Self::Inject { adapter: only, .. } => only.is_none_or(|id| id.get() == adapter),
            Self::Divert(returning) => returning.is_for(adapter),
        }
    }

    /// Divert role: claims each frame of a checked write, or none.
    fn claim_all(&self, bytes: &[u8]) -> Result<(), Error> {
        let Self::Divert(returning) = self else {
            return Ok(());
        };
        let mut claimed = 0;
        for frame in frames(bytes) {
            if !returning.claim(frame.sequence) {
                self.unclaim(bytes.get(..claimed).unwrap_or_default());
                return Err(Error::NotOutstanding);
            }
            claimed = frame.end;
        }
        Ok(())
    }

    /// Divert role: undoes the claims of these records.
    fn unclaim(&self, bytes: &[u8]) {
        if let Self::Divert(returning) = self {
            for frame in frames(bytes) {
                returning.unclaim(frame.sequence);
            }
        }
    }

    fn refuse(&self) {
        match self {
            Self::Inject { handle, .. } => handle.count_refused(),
            Self::Divert(returning) => returning.refuse(),
        }
    }
}

/// Hands one frame on to its adapter, or to the host.
fn hand_on(frame: &WriteFrame<'_>) -> Result<(), Error> {
    let injection = Injection {
        adapter: frame.adapter,
        direction: frame.direction,
        len: u32::try_from(frame.bytes.len()).unwrap_or(u32::MAX),
        checksum_offload: frame.flags.contains(RecordFlags::CHECKSUM_OFFLOAD),
        segment_size: frame.segment_size,
        tag_beside: frame
            .flags
            .contains(RecordFlags::TAG_BESIDE)
            .then_some(true),
    };
    let mut fill = |to: &mut [u8]| {
        let fits = to.len() == frame.bytes.len();
        if fits {
            to.copy_from_slice(frame.bytes);
        }
        fits
    };
    ndis::inject(&injection, &mut fill).map_err(|error| match error {
        InjectError::NoSuchAdapter => Error::NoSuchAdapter,
        InjectError::NotRunning => Error::NotRunning,
        InjectError::Length => Error::FrameLength,
        InjectError::Source => Error::System(NtStatus::UNSUCCESSFUL),
        InjectError::UnderWay => Error::TooMany,
        InjectError::NoMemory => Error::System(NtStatus::INSUFFICIENT_RESOURCES),
    })
}

/// The frames of records that have been checked.
fn frames(bytes: &[u8]) -> impl Iterator<Item = WriteFrame<'_>> {
    writes(bytes).map_while(Result::ok)
}
