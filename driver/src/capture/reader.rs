//! One reader: its lock, its reads, its flush timer.

use core::ffi::c_void;
use core::num::NonZeroU32;
use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};

use weir_abi::limits::{MAX_READ_LEN, MAX_SNAPLEN};
use weir_abi::record::{FrameMeta, record_size};
use weir_abi::{CaptureOptions, CaptureSource, Directions, DivertOptions, ReaderStats};
use weir_engine::tap::{Drained, MARKS_LEN, Tap, Wrote};

use super::reads::{Read, Reads};
use super::slot::{self, Inside, Slot};
use super::{TAG, budget};
use crate::error::Error;
use crate::handle;
use crate::kernel::lock::SpinLock;
use crate::kernel::pool::{KBox, KBuf};
use crate::kernel::status::{NtStatus, Result};
use crate::kernel::time;
use crate::kernel::timer::Timer;
use crate::kernel::wdf::{self, Request, WDFREQUEST};

/// Bytes moved from the backlog to a read while the lock is held once: some tens
/// of microseconds of copying.
const DRAIN_BUDGET: usize = 256 * 1024;

/// What a handle asks for when it becomes a reader.
#[derive(Clone, Copy)]
pub(super) enum Role<'a> {
    Capture(&'a CaptureOptions),
    Divert(&'a DivertOptions),
}

impl Role<'_> {
    /// The one adapter whose frames it wants; `None` for all.
    pub(super) fn adapter(self) -> Option<NonZeroU32> {
        match self {
            Self::Capture(options) => options.adapter,
            Self::Divert(options) => options.adapter,
        }
    }

    fn directions(self) -> Directions {
        match self {
            Self::Capture(options) => options.directions,
            Self::Divert(_) => Directions::all(),
        }
    }

    fn source(self) -> CaptureSource {
        match self {
            Self::Capture(options) => options.source,
            Self::Divert(_) => CaptureSource::All,
        }
    }

    fn backlog(self) -> u32 {
        match self {
            Self::Capture(options) => options.backlog,
            Self::Divert(options) => options.backlog,
        }
    }

    fn flush_ms(self) -> u32 {
        match self {
            Self::Capture(options) => options.flush_ms,
            Self::Divert(options) => options.flush_ms,
        }
    }

    /// Most bytes of a frame.
    fn snaplen(self) -> u32 {
        match self {
            Self::Capture(options) => options.snaplen,
            Self::Divert(_) => MAX_SNAPLEN,
        }
    }
}

pub(super) struct Reader {
    id: u32,
    /// Whether it is in the divert role.
    diverts: bool,
    /// The one adapter whose frames it gets; `None` for all.
    adapter: Option<NonZeroU32>,
    directions: Directions,
    source: CaptureSource,
    /// Frames it didn't ask for, which needn't take the lock.
    passed_over: AtomicU64,
    /// Shortest read that is accepted.
    min_read: usize,
    flush_ms: u32,
    state: SpinLock<State>,
    timer: Timer,
    /// What its backlog takes of what all may have. After `state`, whose memory
    /// is freed before it is given back.
    _share: budget::Share,
}

struct State {
    tap: Tap<KBuf>,
    reads: Reads,
    closing: bool,
}

impl Reader {
    /// A reader without reads, for `slot`.
    pub(super) fn try_new(id: u32, role: Role<'_>, slot: &'static Slot) -> Result<KBox<Self>> {
        let too_long = NtStatus::INVALID_PARAMETER;
        let share = budget::Share::take(role.backlog()).ok_or(NtStatus::QUOTA_EXCEEDED)?;
        let backlog = usize::try_from(role.backlog()).map_err(|_| too_long)?;
        let min_read = record_size(role.snaplen()).ok_or(too_long)?;
        let min_read = usize::try_from(min_read).map_err(|_| too_long)?;
        let memory = KBuf::try_zeroed(backlog, TAG)?;
        let tap = match role {
            Role::Capture(options) => Tap::new(*options, memory),
            Role::Divert(options) => {
                Tap::divert(options, memory, KBuf::try_zeroed(MARKS_LEN, TAG)?)
            }
        };
        let reads = Reads::try_new()?;
        let context = ptr::from_ref(slot).cast_mut().cast::<c_void>();
        // SAFETY: the context is a static.
        let timer = unsafe { Timer::try_new(flush, context) }?;
        KBox::try_new(
            Self {
                id,
                diverts: matches!(role, Role::Divert(_)),
                adapter: role.adapter(),
                directions: role.directions(),
                source: role.source(),
                passed_over: AtomicU64::new(0),
                min_read,
                flush_ms: role.flush_ms(),
                state: SpinLock::new(State {
                    tap,
                    reads,
                    closing: false,
                }),
                timer,
                _share: share,
            },
            TAG,
        )
    }

    /// The reader's number.
    pub(super) const fn id(&self) -> u32 {
        self.id
    }

    /// Whether it is in the divert role.
    pub(super) const fn diverts(&self) -> bool {
        self.diverts
    }

    /// The balance as it is now.
    pub(super) fn stats(&self) -> ReaderStats {
        let mut stats = self.state.lock().tap.stats();
        let passed_over = self.passed_over.load(Ordering::Relaxed);
        stats.filtered = stats.filtered.wrapping_add(passed_over);
        stats
    }

    /// Counts what still waits as lost and what is with the reader as not
    /// returned, and says how many frames these are. After [`Reader::close`], when
    /// every read has been completed.
    pub(super) fn lost_at_close(&self) -> (u64, u64) {
        let mut state = self.state.lock();
        let given_up = state.tap.stats().outstanding;
        state.tap.close();
        (state.tap.stats().lost_closed, given_up)
    }

    /// Whether it gets frames of this adapter.
    pub(super) fn is_for(&self, adapter: u32) -> bool {
        self.adapter.is_none_or(|id| id.get() == adapter)
    }

    /// Whether it asked for frames like this one. [`Tap::admit`] has the last word.
    fn wants(&self, meta: &FrameMeta) -> bool {
        self.is_for(meta.adapter)
            && self.directions.contains(meta.direction.mask())
            && (self.source == CaptureSource::All || meta.logged != 0)
    }

    /// [`Tap::claim`], for the numbers of a write.
    pub(super) fn claim(&self, sequence: u64) -> bool {
        self.state.lock().tap.claim(sequence)
    }

    /// [`Tap::unclaim`].
    pub(super) fn unclaim(&self, sequence: u64) {
        self.state.lock().tap.unclaim(sequence);
    }

    /// [`Tap::refuse`].
    pub(super) fn refuse(&self) {
        self.state.lock().tap.refuse();
    }

    /// A frame on the data path; `copy` copies its first bytes. False if the
    /// reader is being closed: then it has nothing to do with the frame.
    /// `IRQL <= DISPATCH_LEVEL`.
    pub(super) fn on_frame(&self, meta: &FrameMeta, copy: &dyn Fn(&mut [u8]) -> usize) -> bool {
        if !self.wants(meta) {
            self.passed_over.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        // At most the read the frame did not fit, and the one it went into.
        let (mut full, mut flushed) = (None, None);
        {
            let mut state = self.state.lock();
            let State {
                tap,
                reads,
                closing,
            } = &mut *state;
            if *closing {
                return false;
            }
            let Some(record) = tap.admit(meta) else {
                return true;
            };
            loop {
                let front = if tap.must_wait() { None } else { reads.front() };
                let Some(front) = front else {
                    tap.set_aside(record, copy);
                    break;
                };
                let (memory, fill) = front.memory();
                let first = fill.is_empty();
                match tap.write(fill, memory, record, copy) {
                    Wrote::Yes => {
                        if self.flush_ms == 0 {
                            flushed = take_front(tap, reads);
                        } else if first {
                            self.timer.set_ms(self.flush_ms);
                        }
                        break;
                    }
                    Wrote::Lost => break,
                    Wrote::NoRoom => {}
                }
                if first || full.is_some() {
                    // An empty read holds a whole record (min_read), and behind
                    // a read that was full all are empty: not reached, but the
                    // frame would have to be accounted for.
                    tap.set_aside(record, copy);
                    break;
                }
                // Full. If it is being cancelled it is not given back, and the
                // next one is the front.
                full = take_front(tap, reads);
            }
        }
        complete(full);
        complete(flushed);
        true
    }

    /// Takes a read. `PASSIVE_LEVEL`. `inside` stays with it until it is
    /// completed; the caller has another entry for the time of this call.
    pub(super) fn read(&self, request: Request, length: usize, inside: Inside) {
        if let Err((request, error)) = self.accept(request, length, inside) {
            request.complete(error.status(), 0);
            return;
        }
        self.drain();
    }

    fn accept(
        &self,
        request: Request,
        length: usize,
        inside: Inside,
    ) -> core::result::Result<(), (Request, Error)> {
        if length < self.min_read {
            return Err((request, Error::TooSmall));
        }
        // Maps the locked pages here, where there is time for it; later the
        // address is just used.
        let (memory, len) = match request.output(self.min_read) {
            Ok(buffer) => buffer,
            Err(status) => return Err((request, status.into())),
        };
        let len = len.min(usize::try_from(MAX_READ_LEN).unwrap_or(usize::MAX));

        let mut state = self.state.lock();
        if state.closing {
            return Err((request, Error::Closing));
        }
        let Some(vacancy) = state.reads.vacancy() else {
            return Err((request, Error::TooMany));
        };
        // Under the lock, so that the cancel callback, which takes the lock,
        // finds the read on the list.
        if let Err(status) = request.mark_cancelable(Some(cancel)) {
            return Err((request, status.into()));
        }
        // SAFETY: the output buffer of this request, good until it is completed.
        vacancy.fill(unsafe { Read::new(request, memory, len, inside) });
        Ok(())
    }

    /// Moves the backlog into the reads, until one of both is used up.
    fn drain(&self) {
        loop {
            let (done, again) = self.drain_some();
            complete(done);
            if !again {
                return;
            }
        }
    }

    /// One turn of [`Reader::drain`]: a read to complete, and whether to go on.
    fn drain_some(&self) -> (Option<Read>, bool) {
        let mut state = self.state.lock();
        let State {
            tap,
            reads,
            closing,
        } = &mut *state;
        if *closing || !tap.must_wait() {
            return (None, false);
        }
        let Some(front) = reads.front() else {
            return (None, false);
        };
        let (memory, fill) = front.memory();
        match tap.drain(fill, memory, DRAIN_BUDGET) {
            Drained::Budget => (None, true),
            Drained::Full => (take_front(tap, reads), true),
            Drained::Empty => {
                // The frames have waited already: only the rest of the flush
                // time is left.
                match fill.due_in_ms(time::system_time_100ns(), self.flush_ms) {
                    0 => (take_front(tap, reads), false),
                    ms => {
                        self.timer.set_ms(ms);
                        (None, false)
                    }
                }
            }
        }
    }

    /// The flush time has passed. `DISPATCH_LEVEL`. A timer set for an earlier
    /// read may come late and find a newer one: that one is completed with less
    /// in it than it could have, and nothing is lost.
    fn flush(&self) {
        let due = {
            let mut state = self.state.lock();
            let State { tap, reads, .. } = &mut *state;
            match reads.front() {
                Some(front) if !front.fill.is_empty() => take_front(tap, reads),
                _ => None,
            }
        };
        complete(due);
    }

    /// The system cancels this read, and it is still on the list: it is the
    /// callback's to complete.
    fn take_cancelled(&self, request: WDFREQUEST) -> Option<Read> {
        let mut state = self.state.lock();
        let State { tap, reads, .. } = &mut *state;
        let read = reads.remove(request)?;
        tap.finish(&read.fill);
        Some(read)
    }

    /// Accepts nothing any more and completes every read that isn't being
    /// cancelled. What waits is lost.
    pub(super) fn close(&self) {
        loop {
            let (read, more) = {
                let mut state = self.state.lock();
                state.closing = true;
                let State { tap, reads, .. } = &mut *state;
                (take_front(tap, reads), reads.front().is_some())
            };
            complete(read);
            if !more {
                break;
            }
        }
    }
}

/// Takes the read to fill off the list and counts its frames as delivered.
fn take_front(tap: &mut Tap<KBuf>, reads: &mut Reads) -> Option<Read> {
    let read = reads.take_front()?;
    tap.finish(&read.fill);
    Some(read)
}

/// Completes a read that was taken off the list; no lock is held.
fn complete(read: Option<Read>) {
    if let Some(read) = read {
        read.complete(NtStatus::CANCELLED);
    }
}

/// The flush timer's callback.
///
/// # Safety
/// `context` is the slot given to `Timer::try_new` in [`Reader::try_new`].
unsafe fn flush(context: *mut c_void) {
    // SAFETY: slots are statics.
    let slot: &'static Slot = unsafe { &*context.cast::<Slot>().cast_const() };
    if let Some(inside) = slot.enter() {
        inside.reader().flush();
    }
}

/// `EvtRequestCancel` of every accepted read.
unsafe extern "C" fn cancel(request: WDFREQUEST) {
    let Some(handle) = handle::of_file(wdf::file_of(request)) else {
        return;
    };
    // SAFETY: the file object's context lives until this request is completed,
    // which happens below.
    let ticket = unsafe { (*handle).ticket() };
    // SAFETY: the framework calls this once for a request that was accepted and
    // whose unmarking did not succeed, so it has not been completed; it is
    // completed below, after the last use of the reader.
    let Some(reader) = (unsafe { slot::of_accepted_read(ticket) }) else {
        return;
    };
    let read = reader.take_cancelled(request);
    complete(read);
}
