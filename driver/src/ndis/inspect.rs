//! What happens to each frame on its way: its headers are dissected out of a
//! copy, its flow counts it, the rules decide on it, it is counted and shown to
//! the readers. Once, in the call
//! that brings it; nothing is kept, nothing is allocated.

use core::ptr::NonNull;

use weir_abi::{Direction, RecordFlags};
use weir_engine::rule::{Action, View};
use weir_engine::stats::{Counters, Loss, Verdict};
use weir_engine::wire::{self, HEADER_WINDOW};
use weir_engine::{Meta, path};

use super::adapter::Module;
use super::checksum::Offload;
use super::nb::NbBytes;
use super::nbl;
use super::notes::{Note, Notes};
use super::sys::{NET_BUFFER, NET_BUFFER_LIST};
use crate::capture;
use crate::kernel::time;
use crate::rules::{self, InForce};

/// What becomes of a frame.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It goes on, if its list does.
    On,
    /// It was dropped, or given to a reader, and has been counted.
    Stopped,
}

/// When readers are shown a frame.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Show {
    /// With its verdict.
    Now,
    /// When it is known what becomes of the others of its list.
    Later,
}

/// Looks at the frames of one chain, counts them, and decides on them.
pub(super) struct Inspector<'a> {
    module: &'a Module,
    direction: Direction,
    /// The rules, the same for the whole chain. To be let go of before the chain
    /// is handed on, where that can be: a load of new ones waits for it.
    rules: Option<InForce>,
    /// Whether somebody captures.
    shown: bool,
    /// One clock reading does for a chain: NDIS hands over together what came
    /// together.
    time_100ns: u64,
    /// Everything below is of the chain so far and not entered yet.
    batch: Counters,
    /// Frames that are to go on, and their bytes, of the list that is looked at.
    going: (u64, u64),
    /// What is to be shown of it.
    notes: Notes,
    /// Frames that go on, of all lists that have been settled.
    gone: u64,
}

impl<'a> Inspector<'a> {
    /// For a chain that came to a running module.
    pub(super) fn new(module: &'a Module, direction: Direction) -> Self {
        Self {
            module,
            direction,
            rules: rules::current(),
            shown: capture::any_reader(),
            time_100ns: time::system_time_100ns(),
            batch: Counters::ZERO,
            going: (0, 0),
            notes: Notes::new(),
            gone: 0,
        }
    }

    pub(super) fn module(&self) -> &'a Module {
        self.module
    }

    pub(super) fn direction(&self) -> Direction {
        self.direction
    }

    /// Whether a frame may be stopped: there are rules.
    pub(super) fn may_stop(&self) -> bool {
        self.rules.is_some()
    }

    /// Decides on a frame of a list whose other frames go its way, after its flow
    /// has seen it. If it is to go on, [`Inspector::settle`] counts it.
    ///
    /// A frame that a rule diverts passes when nobody diverts its adapter. One
    /// that goes to a reader is the reader's even if the reader has no room for
    /// it, and counts it as lost.
    ///
    /// # Safety
    /// `buffer` is a buffer of `list`, which is the filter's.
    pub(super) unsafe fn frame(
        &mut self,
        list: &NET_BUFFER_LIST,
        buffer: NonNull<NET_BUFFER>,
    ) -> Fate {
        // SAFETY: the contract is the same.
        unsafe { self.decide(list, buffer, Show::Now) }
    }

    /// The same for a frame of a list that may be divided: readers are shown it
    /// by [`Inspector::show`], before [`Inspector::notes_are_full`].
    ///
    /// # Safety
    /// As [`Inspector::frame`].
    pub(super) unsafe fn frame_of_several(
        &mut self,
        list: &NET_BUFFER_LIST,
        buffer: NonNull<NET_BUFFER>,
    ) -> Fate {
        // SAFETY: the contract is the same.
        unsafe { self.decide(list, buffer, Show::Later) }
    }

    /// # Safety
    /// As [`Inspector::frame`].
    unsafe fn decide(
        &mut self,
        list: &NET_BUFFER_LIST,
        buffer: NonNull<NET_BUFFER>,
        show: Show,
    ) -> Fate {
        let tag = nbl::tag(list);
        // SAFETY: the filter's, MDLs and data included.
        let bytes = unsafe { NbBytes::new(buffer, tag) };
        let len = bytes.len();
        let mut window = [0u8; HEADER_WINDOW];
        let got = bytes.copy_to(0, &mut window);
        let window = window.get(..got).unwrap_or_default();
        let meta = Meta {
            adapter: self.module.id(),
            direction: Some(self.direction),
            time_100ns: self.time_100ns,
            frame_len: len,
        };
        let rules = self.rules.as_ref();
        let seen = path::inspect(
            &View::new(window, len, len, &bytes),
            &meta,
            rules.map(InForce::rules),
            |frame, meta| self.module.flows.track(frame, meta),
            |rule| {
                if let Some(rules) = rules {
                    rules.hit(rule, len);
                }
            },
        );
        if let Some(rules) = rules {
            rules.decided(&seen.decision, len);
        }
        let offload = Offload::of(list, self.direction);
        let checks = offload.verify(&seen.frame, window, &bytes);
        self.batch.balance.see(len);
        self.batch.protocols.count(&seen.frame, false);
        self.batch.protocols.count_checksums(checks);
        let mut frame = capture::Frame {
            adapter: meta.adapter,
            direction: self.direction,
            timestamp_100ns: self.time_100ns,
            len,
            flags: offload.remarks(checks) | remark_tag(tag),
            rule: seen.decision.rule,
            logged: seen.decision.log,
            segment_size: offload.segment_size_of(&seen.frame),
            bytes: &bytes,
        };
        let verdict = match seen.decision.action {
            Action::Drop => Verdict::Drop,
            Action::Divert => {
                let diverted = capture::Frame {
                    flags: frame.flags | RecordFlags::DIVERTED,
                    ..frame
                };
                if capture::divert(&diverted) {
                    Verdict::Divert
                } else {
                    Verdict::Pass
                }
            }
            Action::Pass | Action::Log | Action::Count => Verdict::Pass,
        };
        if self.shown {
            frame.flags |= remark(verdict);
            match show {
                Show::Now => capture::on_frame(&frame),
                Show::Later => self
                    .notes
                    .add(Note::new(frame.flags, frame.rule, frame.logged)),
            }
        }
        if verdict != Verdict::Pass {
            self.batch.balance.enter(verdict, len);
            return Fate::Stopped;
        }
        let (frames, sum) = self.going;
        self.going = (frames.saturating_add(1), sum.saturating_add(u64::from(len)));
        Fate::On
    }

    /// Whether what was noted is to be shown before the next frame.
    pub(super) fn notes_are_full(&self) -> bool {
        self.notes.are_full()
    }

    /// Shows readers the frames of the list that they haven't been shown.
    /// `lost`: those that were to go on don't.
    ///
    /// # Safety
    /// `list` is the filter's.
    pub(super) unsafe fn show(&mut self, list: &NET_BUFFER_LIST, lost: bool) {
        let (before, notes) = self.notes.all();
        if notes.is_empty() {
            return;
        }
        let tag = nbl::tag(list);
        let segment_size = Offload::of(list, self.direction).segment_size();
        for (buffer, note) in nbl::buffers(list).skip(before).zip(notes) {
            // SAFETY: a buffer of a list that is the filter's, MDLs and data
            // included.
            let bytes = unsafe { NbBytes::new(buffer, tag) };
            let mut flags = note.flags;
            if lost && note.was_to_go_on() {
                flags |= RecordFlags::LOST;
            }
            capture::on_frame(&capture::Frame {
                adapter: self.module.id(),
                direction: self.direction,
                timestamp_100ns: self.time_100ns,
                len: bytes.len(),
                flags,
                rule: note.rule(),
                logged: note.logged(),
                segment_size,
                bytes: &bytes,
            });
        }
        self.notes.shown();
    }

    /// Counts the frame that was decided on last as lost for want of memory: it
    /// was to go on.
    ///
    /// # Safety
    /// `buffer` is that frame, of a list that is the filter's.
    pub(super) unsafe fn lose(&mut self, list: &NET_BUFFER_LIST, buffer: NonNull<NET_BUFFER>) {
        // SAFETY: the filter's, MDLs and data included.
        let len = unsafe { NbBytes::new(buffer, nbl::tag(list)) }.len();
        let (frames, sum) = self.going;
        self.going = (frames.saturating_sub(1), sum.saturating_sub(u64::from(len)));
        let lost = Verdict::Lost(Loss::Resources);
        self.batch.balance.enter(lost, len);
        if let Some(note) = self.notes.last() {
            note.flags |= RecordFlags::LOST;
        }
    }

    /// Counts the frames of a list that were to go on: as passed, or as lost.
    pub(super) fn settle(&mut self, lost: Option<Loss>) {
        self.notes.reset();
        let (frames, bytes) = core::mem::take(&mut self.going);
        let balance = &mut self.batch.balance;
        let term = match lost {
            None => {
                balance.passed_bytes = balance.passed_bytes.wrapping_add(bytes);
                self.gone = self.gone.saturating_add(frames);
                &mut balance.passed
            }
            Some(Loss::Paused) => &mut balance.lost_paused,
            Some(Loss::Resources) => &mut balance.lost_resources,
            Some(Loss::Other) => &mut balance.lost_other,
        };
        *term = term.wrapping_add(frames);
    }

    /// Counts the frames of a list as lost because the module is being paused, as
    /// [`refuse`] does.
    ///
    /// # Safety
    /// The list is the filter's.
    pub(super) unsafe fn refuse(&mut self, list: &NET_BUFFER_LIST) {
        // SAFETY: the contract is the same.
        unsafe { count_refused(&mut self.batch, list) };
    }

    /// Enters what has been counted so far. Says how many frames go on. Before
    /// they are handed on: they may come back from within that call.
    pub(super) fn enter(&mut self) -> u64 {
        let batch = core::mem::take(&mut self.batch);
        if batch.balance.seen != 0 {
            self.module.enter(self.direction, &batch);
        }
        let gone = core::mem::take(&mut self.gone);
        self.module.in_flight(self.direction, signed(gone));
        gone
    }
}

/// What a record of a frame remarks about its verdict.
fn remark(verdict: Verdict) -> RecordFlags {
    match verdict {
        Verdict::Drop => RecordFlags::DROPPED,
        Verdict::Divert => RecordFlags::DIVERTED,
        Verdict::Lost(_) => RecordFlags::LOST,
        Verdict::Pass => RecordFlags::empty(),
    }
}

/// What a record of a frame remarks about its tag.
pub(super) fn remark_tag(beside: Option<[u8; 4]>) -> RecordFlags {
    match beside {
        Some(_) => RecordFlags::TAG_BESIDE,
        None => RecordFlags::empty(),
    }
}

/// Counts the frames of a chain that is refused because the module isn't
/// running. Rules, flows and readers are not asked: what they get is what was on
/// the wire or reached the host.
///
/// # Safety
/// `lists` is null or the first of a chain of valid lists that are the filter's.
pub(super) unsafe fn refuse(module: &Module, direction: Direction, lists: *mut NET_BUFFER_LIST) {
    let mut batch = Counters::ZERO;
    // SAFETY: the contract is the same.
    for list in unsafe { nbl::drain(lists) } {
        // SAFETY: a list of the chain, the filter's while this runs.
        let list = unsafe { list.as_ref() };
        // SAFETY: as above.
        unsafe { count_refused(&mut batch, list) };
    }
    module.enter(direction, &batch);
}

/// # Safety
/// `list` is the filter's.
unsafe fn count_refused(batch: &mut Counters, list: &NET_BUFFER_LIST) {
    let tag = nbl::tag(list);
    for buffer in nbl::buffers(list) {
        // SAFETY: a buffer of that list, MDLs and data included.
        let bytes = unsafe { NbBytes::new(buffer, tag) };
        let len = bytes.len();
        let mut window = [0u8; HEADER_WINDOW];
        let got = bytes.copy_to(0, &mut window);
        let headers = wire::dissect(window.get(..got).unwrap_or_default(), len);
        batch.balance.see(len);
        batch.protocols.count(&headers, false);
        batch.balance.enter(Verdict::Lost(Loss::Paused), len);
    }
}

/// A number of frames as a difference.
pub(super) fn signed(frames: u64) -> i64 {
    i64::try_from(frames).unwrap_or(i64::MAX)
}
