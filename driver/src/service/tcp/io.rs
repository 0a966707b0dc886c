//! The operations and the memory of one pipe of a connection, and what it has
//! retained.

use core::cell::{Cell, UnsafeCell};
use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

use super::signal;
use super::state::{Failure, HELD, Kind};
use crate::kernel::pool::KBox;
use crate::kernel::status::{NtStatus, Result};
use crate::service::TAG;
use crate::wsk::pump::{self, Task};
use crate::wsk::{IoBuffer, Op, Outcome, Retained, Span, Stream};

/// Where bytes are counted: for the service, and for the socket.
pub(super) type Meters = [*const AtomicU64; 2];

/// Parts of retained data that are sent at once: a send for each, so that a list of
/// many small ones doesn't wait for each of them.
const PARTS: usize = 4;

/// Bytes of a slot of a pipe. With two operations at a time a pipe moves at most
/// a slot per round trip of the provider, so small is slow; and all connections
/// together may take `MAX_UNITS` times a unit of non-paged pool, so large is
/// dear. An echo has one pipe and many peers, a relay is there for bulk.
pub(super) const fn slot_len(kind: Kind) -> u32 {
    match kind {
        Kind::Discard => 0,
        Kind::Echo => 8 * 1024,
        Kind::Relay => 16 * 1024,
    }
}

/// Units of memory a connection takes: 4 KiB each. The slots, and one for all else.
/// What a relay retains, 64 KiB a direction at most (`state/gate.rs`), is the
/// transport's and not counted here.
pub(super) const fn units(kind: Kind) -> usize {
    match kind {
        Kind::Discard => 1,
        Kind::Echo => 5,
        Kind::Relay => 17,
    }
}

/// The operations and the memory of one pipe.
pub(super) struct Pipe {
    /// Receive, drain: one after the other.
    pub(super) receive: Op,
    /// Connect, prepare, send, shut, abort: one after the other.
    pub(super) out: Op,
    slots: Option<IoBuffer>,
    /// The value of the option that is being set.
    pub(super) option: UnsafeCell<u32>,
    passing: Option<KBox<Passing>>,
}

impl Pipe {
    /// A pipe whose operations aren't bound yet.
    pub(super) fn try_new(kind: Kind) -> Result<Self> {
        let slots = u32::try_from(kind.slots()).unwrap_or(0);
        let len = slot_len(kind).saturating_mul(slots);
        Ok(Self {
            receive: Op::try_new()?,
            out: Op::try_new()?,
            slots: match len {
                0 => None,
                len => Some(IoBuffer::try_new(len, TAG)?),
            },
            option: UnsafeCell::new(0),
            passing: match kind {
                Kind::Relay => Some(KBox::try_new(Passing::try_new()?, TAG)?),
                Kind::Echo | Kind::Discard => None,
            },
        })
    }

    /// Says whom to tell and where to count.
    ///
    /// # Safety
    /// `task` and `meters` are good as long as operations of this may end, and
    /// `task` for as long after that as its step hasn't been given their signals;
    /// this stays where it is.
    pub(super) unsafe fn bind(
        &mut self,
        number: usize,
        task: *const Task,
        received: Meters,
        sent: Meters,
    ) {
        let signals = |all: [u32; 2]| all.get(number).copied().unwrap_or(0);
        // SAFETY: the caller's.
        unsafe { self.receive.bind(task, signals(signal::IN)) };
        // SAFETY: the caller's.
        unsafe { self.receive.meter(received) };
        // SAFETY: the caller's.
        unsafe { self.out.bind(task, signals(signal::OUT)) };
        // SAFETY: the caller's.
        unsafe { self.out.meter(sent) };
        self.out.urgent(signal::URGENT);
        if let Some(passing) = &mut self.passing {
            // SAFETY: the caller's; in a block of its own, which this owns.
            unsafe { passing.bind(task, signals(signal::PASSED), sent) };
        }
    }

    /// A part of one of its slots.
    pub(super) fn slot(&self, kind: Kind, slot: u32, offset: u32, length: u32) -> Result<Span> {
        let start = slot.saturating_mul(slot_len(kind)).saturating_add(offset);
        let slots = self.slots.as_ref();
        slots
            .ok_or(NtStatus::INVALID_DEVICE_STATE)?
            .span(start, length)
    }

    /// What passes on what is retained.
    pub(super) fn passing(&self) -> Result<&Passing> {
        self.passing
            .as_deref()
            .ok_or(NtStatus::INVALID_DEVICE_STATE)
    }
}

/// What a pipe has retained, and the sends that pass it on.
pub(super) struct Passing {
    kept: Cell<Kept>,
    ops: [Op; PARTS],
    task: *const Task,
    signal: u32,
    /// Sends that are pending, and one more while they are being started.
    pending: AtomicU32,
    /// What those that have ended came to.
    sent: AtomicU64,
    /// The NTSTATUS of one that has failed; 0 if none has.
    failed: AtomicI32,
    /// Parts of the first that are being sent, and their bytes.
    parts: Cell<usize>,
    bytes: Cell<u64>,
}

/// The oldest first, each with its bytes.
#[derive(Default)]
struct Kept([Option<(Retained, u32)>; HELD]);

impl Passing {
    fn try_new() -> Result<Self> {
        let [a, b, c, d] = [(); PARTS].map(|()| Op::try_new());
        Ok(Self {
            kept: Cell::new(Kept::default()),
            ops: [a?, b?, c?, d?],
            task: ptr::null(),
            signal: 0,
            pending: AtomicU32::new(0),
            sent: AtomicU64::new(0),
            failed: AtomicI32::new(0),
            parts: Cell::new(0),
            bytes: Cell::new(0),
        })
    }

    /// # Safety
    /// As [`Pipe::bind`]; this stays where it is.
    unsafe fn bind(&mut self, task: *const Task, signal: u32, meters: Meters) {
        self.task = task;
        self.signal = signal;
        let own = ptr::from_mut(self).cast::<c_void>();
        for op in &mut self.ops {
            // SAFETY: operations and context are one block, which goes away only
            // after the task has been given the signal of the last of them.
            unsafe { op.bind_call(send_ended, own) };
            // SAFETY: the caller's.
            unsafe { op.meter(meters) };
        }
    }

    /// Keeps one more, after the others.
    pub(super) fn keep(&self, retained: Retained, bytes: u32) {
        let mut kept = self.kept.take();
        // There is a place for all that the gate admits.
        if let Some(place) = kept.0.iter_mut().find(|place| place.is_none()) {
            *place = Some((retained, bytes));
        }
        self.kept.set(kept);
    }

    /// The first of them, which isn't kept any more.
    pub(super) fn take_first(&self) -> Option<(Retained, u32)> {
        let mut kept = self.kept.take();
        let first = kept.0.first_mut().and_then(Option::take);
        kept.0.rotate_left(1);
        self.kept.set(kept);
        first
    }

    /// Starts to send the next parts of the first of them.
    ///
    /// # Safety
    /// `socket` isn't closed; nothing of this is being sent, and the first isn't
    /// released before the end of this has been told.
    pub(super) unsafe fn send(&self, socket: &Stream) -> Result<()> {
        let kept = self.kept.take();
        // One for this, so that the end isn't told before all are started.
        self.pending.store(1, Ordering::Relaxed);
        self.sent.store(0, Ordering::Relaxed);
        self.failed.store(0, Ordering::Relaxed);
        let mut started: usize = 0;
        let mut bytes: u64 = 0;
        let mut result = Err(NtStatus::INVALID_DEVICE_STATE);
        if let Some(Some((first, _))) = kept.0.first() {
            for (op, part) in self.ops.iter().zip(first.parts()) {
                self.pending.fetch_add(1, Ordering::Relaxed);
                // SAFETY: the socket isn't closed, and the part stays (caller).
                if let Err(status) = unsafe { socket.send(op, part) } {
                    self.pending.fetch_sub(1, Ordering::Relaxed);
                    result = result.or(Err(status));
                    break;
                }
                started = started.saturating_add(1);
                bytes = bytes.saturating_add(u64::from(part.len()));
                result = Ok(());
                // What comes after a part that wasn't sent must not be sent either.
                if self.failed.load(Ordering::Acquire) != 0 {
                    break;
                }
            }
        }
        self.kept.set(kept);
        self.parts.set(started);
        self.bytes.set(bytes);
        if result.is_ok() {
            // SAFETY: live, and its end hasn't been told: this counts for one.
            unsafe { one_less(self) };
        }
        result
    }

    /// How sending has ended, once that has been told: so many bytes.
    pub(super) fn finish(&self) -> core::result::Result<u32, Failure> {
        let failed = self.failed.load(Ordering::Acquire);
        if failed != 0 {
            return Err(failure(NtStatus(failed)));
        }
        let sent = self.sent.load(Ordering::Acquire);
        // A part is sent whole, or the connection is given up.
        if sent != self.bytes.get() {
            return Err(Failure::Other);
        }
        let mut kept = self.kept.take();
        if let Some(Some((first, _))) = kept.0.first_mut() {
            first.advance(self.parts.get());
        }
        self.kept.set(kept);
        u32::try_from(sent).map_err(|_| Failure::Other)
    }

    /// Asks for the end of what is being sent.
    pub(super) fn cancel(&self) {
        for op in &self.ops {
            // SAFETY: the operations go away only after their end has been taken
            // note of, by the step that this is in.
            unsafe { op.cancel() };
        }
    }
}

/// What runs when one of the sends has ended.
///
/// # Safety
/// `context` is a [`Passing`] that is live until the end of all is told.
unsafe fn send_ended(context: *mut c_void, outcome: Outcome) {
    let own = context.cast::<Passing>().cast_const();
    {
        // SAFETY: live until the end of all is told, which is below.
        let own = unsafe { &*own };
        match outcome.value() {
            Ok(bytes) => {
                // usize has 64 bits here.
                own.sent.fetch_add(bytes as u64, Ordering::Relaxed);
            }
            Err(status) => own.failed.store(status.0, Ordering::Relaxed),
        }
    }
    // SAFETY: as above; this send counted for one.
    unsafe { one_less(own) };
}

/// Tells the end, if this was the last.
///
/// # Safety
/// `own` is live, and one of what is pending is the caller's, who doesn't touch it
/// any more.
unsafe fn one_less(own: *const Passing) {
    let (task, signal, before) = {
        // SAFETY: live (caller); not used after the subtraction.
        let own = unsafe { &*own };
        let (task, signal) = (own.task, own.signal);
        let before = own.pending.fetch_sub(1, Ordering::AcqRel);
        (task, signal, before)
    };
    if before == 1 {
        // SAFETY: bound; good until its step has been given this signal (bind).
        unsafe { pump::signal(task, signal) };
    }
}

/// The bytes of a transfer.
pub(super) fn length(outcome: Outcome) -> core::result::Result<u32, Failure> {
    let bytes = outcome.value().map_err(failure)?;
    u32::try_from(bytes).map_err(|_| Failure::Other)
}

pub(super) fn failure(status: NtStatus) -> Failure {
    match status {
        NtStatus::CONNECTION_RESET
        | NtStatus::CONNECTION_ABORTED
        | NtStatus::CONNECTION_DISCONNECTED
        | NtStatus::REMOTE_DISCONNECT => Failure::Reset,
        NtStatus::IO_TIMEOUT | NtStatus::LINK_TIMEOUT => Failure::TimedOut,
        _ => Failure::Other,
    }
}
