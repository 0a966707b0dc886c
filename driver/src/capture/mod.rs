//! Readers: frames from the data path into the reads of user mode, in the capture
//! role (copies) and in the divert role (the frames themselves).
//!
//! # Who calls what, at which IRQL
//!
//! | call | from | IRQL |
//! |---|---|---|
//! | [`start`], [`stop`] | load, unload | `PASSIVE_LEVEL` |
//! | [`open`], [`open_divert`] | OPEN_CAPTURE, OPEN_DIVERT | `PASSIVE_LEVEL` |
//! | [`close`] | clean-up of the handle | `PASSIVE_LEVEL` |
//! | [`read`] | `EvtIoRead` | `PASSIVE_LEVEL` |
//! | [`stats`] | GET_READER_STATS | `PASSIVE_LEVEL` |
//! | [`give_back`], and what it gives | `inject`, for a write | `PASSIVE_LEVEL` |
//! | [`on_frame`], [`divert`] | `ndis`, on the data path | `<= DISPATCH_LEVEL` |
//! | flush timer | DPC | `DISPATCH_LEVEL` |
//! | cancel callback | whoever cancels | `<= DISPATCH_LEVEL` |
//!
//! # What keeps what alive
//! Readers are found through a fixed array of slots, each with rundown
//! protection. Inside of it are: a call of [`on_frame`], [`divert`], [`read`] or
//! [`stats`] while it runs, a [`Returning`] write from its first to its last
//! frame, a flush timer's callback while it runs, and every read from
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
//! # Diverting
//! The frames of one adapter go to at most one reader in the divert role: that is
//! seen to when it is opened. The frame is that reader's when [`divert`] has said
//! so, even if its backlog had no room: then it is lost, and in that reader's
//! balance. Where there is no such reader, or it is being closed, [`divert`]
//! says so and the frame passes on.
//!
//! What was delivered can be given back, each frame once: a write claims the
//! numbers of its frames (under the lock, one at a time), and whoever claims one
//! has it. The frames themselves are not kept: what goes on is what was written.
//!
//! # When a read is completed
//! When the next frame doesn't fit; when the flush time since its first frame
//! has passed (0: with that frame); at cancellation; at close.

mod budget;
mod reader;
mod reads;
mod slot;

use core::sync::atomic::{AtomicU32, Ordering};

use weir_abi::record::FrameMeta;
use weir_abi::{CaptureOptions, Direction, DivertOptions, ReaderStats, RecordFlags};
use weir_engine::rule::Far;

use crate::error::Error;
use crate::kernel::pool::Tag;
use crate::kernel::rundown::Rundown;
use crate::kernel::wdf::Request;
use reader::Role;
use slot::Inside;

pub(crate) use slot::Ticket;

const TAG: Tag = Tag::new(*b"WrCa");

/// Open while readers may be opened and closed by their handles; [`stop`] shuts
/// it and closes what is left itself.
static GATE: Rundown = Rundown::new();

/// The number the last reader got.
static LAST_ID: AtomicU32 = AtomicU32::new(0);

/// A frame as the filter sees it.
#[derive(Clone, Copy)]
pub(crate) struct Frame<'a> {
    /// Id of the adapter.
    pub(crate) adapter: u32,
    /// Which way it goes.
    pub(crate) direction: Direction,
    /// When it was seen: 100 ns since 1601-01-01 UTC.
    pub(crate) timestamp_100ns: u64,
    /// Bytes it has.
    pub(crate) len: u32,
    /// What is to be remarked of it: dropped, diverted, injected, a bad checksum,
    /// checksums that are the adapter's business.
    pub(crate) flags: RecordFlags,
    /// Index of the rule that decided on it.
    pub(crate) rule: Option<u32>,
    /// Index of the first rule that logged it.
    pub(crate) logged: Option<u32>,
    /// Bytes of payload in each segment the adapter is to make of it, or in each
    /// datagram it has made it of; else 0.
    pub(crate) segment_size: u16,
    /// Its bytes.
    pub(crate) bytes: &'a dyn Far,
}

impl Frame<'_> {
    fn meta(&self) -> FrameMeta {
        FrameMeta {
            flags: self.flags,
            rule: number(self.rule),
            logged: number(self.logged),
            segment_size: self.segment_size,
            ..FrameMeta::new(self.len, self.adapter, self.timestamp_100ns, self.direction)
        }
    }
}

/// A rule as records say it: its index and 1, or 0 for none. There are fewer
/// rules than numbers.
fn number(rule: Option<u32>) -> u16 {
    rule.and_then(|index| u16::try_from(index.checked_add(1)?).ok())
        .unwrap_or(0)
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

/// Whether any reader is open in the capture role: one relaxed load, so that an
/// idle capture costs the data path no more.
pub(crate) fn any_reader() -> bool {
    slot::capturing() != 0
}

/// How many readers are open in the capture role.
pub(crate) fn count() -> u32 {
    slot::capturing().count_ones()
}

/// How many readers are open in the divert role.
pub(crate) fn diverters() -> u32 {
    slot::diverting().count_ones()
}

/// Bytes of all readers' backlogs.
pub(crate) fn backlog_memory() -> u64 {
    budget::taken().into()
}

/// Gives a copy of a frame to every reader in the capture role that asked for it,
/// whatever becomes of the frame. Its flags say that, so the verdict comes first.
pub(crate) fn on_frame(frame: &Frame<'_>) {
    let mask = slot::capturing();
    if mask == 0 {
        return;
    }
    let meta = frame.meta();
    slot::any_of(mask, |reader| {
        // The mask is of a moment ago: the slot may be one of the other role now.
        if !reader.diverts() {
            reader.on_frame(&meta, &|to: &mut [u8]| frame.bytes.copy_to(0, to));
        }
        false
    });
}

/// Gives a frame to the reader in the divert role of its adapter. True: the frame
/// is that reader's, and doesn't go on. False: there is none, and it passes.
pub(crate) fn divert(frame: &Frame<'_>) -> bool {
    let mask = slot::diverting();
    if mask == 0 {
        return false;
    }
    let meta = frame.meta();
    slot::any_of(mask, |reader| {
        reader.diverts()
            && reader.is_for(frame.adapter)
            && reader.on_frame(&meta, &|to: &mut [u8]| frame.bytes.copy_to(0, to))
    })
}

/// Opens a reader in the capture role for a handle.
pub(crate) fn open(options: &CaptureOptions) -> Result<Ticket, Error> {
    open_as(Role::Capture(options))
}

/// Opens a reader in the divert role for a handle.
pub(crate) fn open_divert(options: &DivertOptions) -> Result<Ticket, Error> {
    open_as(Role::Divert(options))
}

fn open_as(role: Role<'_>) -> Result<Ticket, Error> {
    let _open = GATE.acquire().ok_or(Error::Unloading)?;
    let id = LAST_ID
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
            last.checked_add(1)
        })
        .map_err(|_| Error::TooMany)?
        .wrapping_add(1);
    slot::open(id, role)
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

/// A write of a reader in the divert role, which gives frames back. The reader
/// stays until this is dropped.
pub(crate) struct Returning(Inside);

/// Begins a write of a handle's reader in the divert role.
pub(crate) fn give_back(ticket: Ticket) -> Result<Returning, Error> {
    slot::enter(ticket).map(Returning).ok_or(Error::Closing)
}

impl Returning {
    /// Whether the reader gets frames of this adapter.
    pub(crate) fn is_for(&self, adapter: u32) -> bool {
        self.0.reader().is_for(adapter)
    }

    /// Takes the frame with this number from the reader, once. False: it isn't
    /// with the reader.
    #[must_use]
    pub(crate) fn claim(&self, sequence: u64) -> bool {
        self.0.reader().claim(sequence)
    }

    /// Undoes a claim.
    pub(crate) fn unclaim(&self, sequence: u64) {
        self.0.reader().unclaim(sequence);
    }

    /// Counts a write that was refused, or of which a part was.
    pub(crate) fn refuse(&self) {
        self.0.reader().refuse();
    }
}
