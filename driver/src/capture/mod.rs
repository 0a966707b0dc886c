//! Capture: frames from the data path into the reads of user mode.
//!
//! # Who calls what, at which IRQL
//!
//! | call | from | IRQL |
//! |---|---|---|
//! | [`start`], [`stop`] | load, unload | `PASSIVE_LEVEL` |
//! | [`open`] | OPEN_CAPTURE | `PASSIVE_LEVEL` |
//! | [`close`] | clean-up of the handle | `PASSIVE_LEVEL` |
//! | [`read`] | `EvtIoRead` | `PASSIVE_LEVEL` |
//! | [`stats`] | GET_READER_STATS | `PASSIVE_LEVEL` |
//! | [`on_frame`] | `ndis`, on the data path | `<= DISPATCH_LEVEL` |
//! | flush timer | DPC | `DISPATCH_LEVEL` |
//! | cancel callback | whoever cancels | `<= DISPATCH_LEVEL` |
//!
//! # What keeps what alive
//! Readers are found through a fixed array of slots, each with rundown
//! protection. Inside of it are: a call of [`on_frame`], [`read`] or [`stats`]
//! while it runs, a flush timer's callback while it runs, and every read from
//! the moment the reader accepts it until it has been completed. [`close`] lets
//! nobody in any more, completes the reads, waits for the rest to leave, stops
//! the timer, and only then frees the reader. A slot is a static, so a pointer
//! to one is always good.
//!
//! # Locks
//! One spin lock a reader, around its [`tap`](weir_engine::tap) and its list of
//! reads. No other lock is taken under it, and no request is completed under
//! it: what is to be completed is taken off the list under the lock and
//! completed after it. The framework calls made under it are marking a request
//! cancelable and unmarking it, which is what makes the next paragraph hold.
//!
//! # Who owns a read
//! A read is accepted (marked cancelable and put on the list, both under the
//! lock) or completed at once. While it is on the list its memory may be
//! written, under the lock. It leaves the list, under the lock, in one of two
//! ways, and who takes it off completes it:
//! 1. the driver wants to complete it and unmarking succeeds: the cancel
//!    callback will never run for it;
//! 2. the cancel callback takes it. If unmarking fails, the callback is on its
//!    way or waits for the lock; the read is then left on the list, gets no more
//!    frames, and is the callback's.
//!
//! A cancelled read that holds frames is completed with success and those
//! frames: they are numbered, and would be a gap nobody counted.
//!
//! # Order
//! Frames are numbered under the lock. A frame goes into the first read that is
//! not being cancelled; when there is none, into the backlog. While the backlog
//! holds anything, new frames go there too; whoever adds a read drains it, a
//! bounded number of bytes each time the lock is held.
//!
//! # When a read is completed
//! When the next frame doesn't fit; when the flush time since its first frame
//! has passed (0: with that frame); at cancellation; at close.

mod reader;
mod reads;
mod slot;

use core::sync::atomic::{AtomicU32, Ordering};

use weir_abi::record::FrameMeta;
use weir_abi::{CaptureOptions, Direction, ReaderStats};

use crate::error::Error;
use crate::kernel::pool::Tag;
use crate::kernel::rundown::Rundown;
use crate::kernel::wdf::Request;
use crate::ndis::nb::NbBytes;

pub(crate) use slot::Ticket;

const TAG: Tag = Tag::new(*b"WrCa");

/// Open while readers may be opened and closed by their handles; [`stop`] shuts
/// it and closes what is left itself.
static GATE: Rundown = Rundown::new();

/// The number the last reader got.
static LAST_ID: AtomicU32 = AtomicU32::new(0);

/// A frame as the filter sees it.
pub(crate) struct Frame<'a> {
    /// Id of the adapter.
    pub(crate) adapter: u32,
    /// Which way it goes.
    pub(crate) direction: Direction,
    /// When it was seen: 100 ns since 1601-01-01 UTC.
    pub(crate) timestamp_100ns: u64,
    /// Bytes it has.
    pub(crate) len: u32,
    /// Its bytes.
    pub(crate) bytes: &'a NbBytes<'a>,
}

/// Makes the slots ready. Before anything else here is called.
pub(crate) fn start() {
    slot::start();
    GATE.init();
}

/// Closes every reader and lets none be opened again. Every read is completed
/// when this returns. Calls that come after it find no reader.
pub(crate) fn stop() {
    GATE.wait();
    slot::close_all();
}

/// Whether any reader is open: one relaxed load, so that an idle capture costs
/// the data path no more.
pub(crate) fn any_reader() -> bool {
    slot::active() != 0
}

/// How many readers are open.
pub(crate) fn count() -> u32 {
    slot::active().count_ones()
}

/// Gives a frame to every reader that asked for it.
pub(crate) fn on_frame(frame: &Frame<'_>) {
    let meta = FrameMeta::new(
        frame.len,
        frame.adapter,
        frame.timestamp_100ns,
        frame.direction,
    );
    slot::for_each_active(|reader| {
        reader.on_frame(&meta, &|to: &mut [u8]| frame.bytes.copy_to(0, to));
    });
}

/// Opens a reader for a handle.
pub(crate) fn open(options: &CaptureOptions) -> Result<Ticket, Error> {
    let _open = GATE.acquire().ok_or(Error::Unloading)?;
    let id = LAST_ID
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
            last.checked_add(1)
        })
        .map_err(|_| Error::TooMany)?
        .wrapping_add(1);
    slot::open(id, options)
}

/// Closes a handle's reader. Its reads are completed and its memory is freed
/// when this returns, unless [`stop`] is doing so just now.
pub(crate) fn close(ticket: Ticket) {
    if let Some(_open) = GATE.acquire() {
        slot::close(ticket);
    }
}

/// Takes a read of `length` bytes for a handle's reader; completes it at once if
/// the reader doesn't accept it.
pub(crate) fn read(ticket: Ticket, request: Request, length: usize) {
    match slot::enter(ticket) {
        Some(inside) => inside.read(request, length),
        None => request.complete(Error::Closing.status(), 0),
    }
}

/// The balance of a handle's reader.
pub(crate) fn stats(ticket: Ticket) -> Result<ReaderStats, Error> {
    let inside = slot::enter(ticket).ok_or(Error::Closing)?;
    Ok(inside.reader().stats())
}
