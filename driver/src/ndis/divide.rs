//! Taking a chain apart: what goes on, what goes back.
//!
//! A list goes on whole if all of its frames do, goes back if none does, and is
//! replaced by a [`Part`] otherwise. The decision on each frame is made once, in
//! order, and nothing is kept of it but the list or the part: a part is begun at
//! the first frame that differs from the first one.
//!
//! # Memory
//! If the part can't be made, all that was to go on is lost; if a frame can't be
//! added to it, that frame is. Readers are told so: of a list that may be divided
//! they are shown nothing before it is known. The [notes](super::notes) of what
//! they are to be shown have an end, and a list may have more frames: then the
//! part is begun there, needed or not, so that what is said is true. If no frame
//! is stopped after all, and none was lost, it is ended unused.

use core::ptr::NonNull;

use weir_engine::stats::Loss;

use super::back;
use super::inspect::{Fate, Inspector};
use super::nbl;
use super::part::Part;
use super::sys::{self, NDIS_STATUS, NET_BUFFER_LIST};

/// What becomes of a list.
pub(super) enum Outcome {
    /// It goes on.
    On,
    /// This goes on in its stead. A hold of the module's gate goes with it.
    PartOn(Part),
    /// It goes back, with this status if it is a send.
    Back(NDIS_STATUS),
}

/// Decides on each frame of a list and counts it. `IRQL <= DISPATCH_LEVEL`.
///
/// # Safety
/// `list` is valid and the filter's, and stays so until it, or what became of
/// it, is handed on.
pub(super) unsafe fn divide(
    inspector: &mut Inspector<'_>,
    list: NonNull<NET_BUFFER_LIST>,
) -> Outcome {
    // SAFETY: valid and the filter's; not written while this reference lives.
    let seen = unsafe { list.as_ref() };
    if !inspector.may_stop() || !nbl::has_several(seen) {
        // SAFETY: the contract is the same.
        return unsafe { undivided(inspector, seen) };
    }
    // Pausing waits for a part, as for all that the filter originates (see
    // `back.rs`), and may have begun since the chain came in. Asked before any
    // frame is decided on: a decision is not taken back.
    if !inspector.module().gate.acquire_raw() {
        // SAFETY: the filter's.
        unsafe { inspector.refuse(seen) };
        return Outcome::Back(sys::NDIS_STATUS_PAUSED);
    }
    // SAFETY: the contract is the same.
    let outcome = unsafe { divided(inspector, list) };
    if !matches!(outcome, Outcome::PartOn(_)) {
        back::release(inspector.module(), 1);
    }
    outcome
}

/// A list of one frame, or one whose frames all go on.
///
/// # Safety
/// `list` is the filter's.
unsafe fn undivided(inspector: &mut Inspector<'_>, list: &NET_BUFFER_LIST) -> Outcome {
    let mut stopped = false;
    for buffer in nbl::buffers(list) {
        // SAFETY: a buffer of a list that is the filter's.
        let fate = unsafe { inspector.frame(list, buffer) };
        stopped |= fate == Fate::Stopped;
    }
    inspector.settle(None);
    if stopped {
        Outcome::Back(sys::NDIS_STATUS_SUCCESS)
    } else {
        Outcome::On
    }
}

/// # Safety
/// As [`divide`].
unsafe fn divided(inspector: &mut Inspector<'_>, list: NonNull<NET_BUFFER_LIST>) -> Outcome {
    // SAFETY: valid and the filter's; not written while this reference lives.
    let seen = unsafe { list.as_ref() };
    let mut part = Making::NotBegun;
    let (mut on, mut stopped, mut lost) = (0usize, 0usize, 0usize);
    for (index, buffer) in nbl::buffers(seen).enumerate() {
        if inspector.notes_are_full() {
            if stopped == 0 && part.is_not_begun() {
                // SAFETY: the list is the filter's and stays so while the part
                // lives.
                part = unsafe { begin_part(inspector, list, index) };
            }
            // SAFETY: the filter's.
            unsafe { inspector.show(seen, part.has_failed()) };
        }
        // SAFETY: a buffer of a list that is the filter's.
        let fate = unsafe { inspector.frame_of_several(seen, buffer) };
        let begin = match fate {
            Fate::On => {
                on = on.saturating_add(1);
                stopped != 0
            }
            Fate::Stopped => {
                stopped = stopped.saturating_add(1);
                stopped == 1 && on != 0
            }
        };
        if begin && part.is_not_begun() {
            // Those before this one: all of them go on, or none.
            let before = if fate == Fate::On { 0 } else { index };
            // SAFETY: the list is the filter's and stays so while the part lives.
            part = unsafe { begin_part(inspector, list, before) };
        }
        if fate == Fate::On
            && let Making::Begun(part) = &mut part
            // SAFETY: a buffer of the list that the part is of.
            && !unsafe { part.push(inspector.module(), buffer) }
        {
            // SAFETY: as above.
            unsafe { inspector.lose(seen, buffer) };
            lost = lost.saturating_add(1);
        }
    }
    // SAFETY: the filter's.
    unsafe { inspector.show(seen, part.has_failed()) };
    match part {
        Making::Failed => {
            inspector.settle(Some(Loss::Resources));
            Outcome::Back(sys::NDIS_STATUS_RESOURCES)
        }
        Making::Begun(part) if stopped != 0 || lost != 0 => {
            inspector.settle(None);
            if lost < on {
                Outcome::PartOn(part)
            } else {
                Outcome::Back(sys::NDIS_STATUS_RESOURCES)
            }
        }
        Making::NotBegun if stopped != 0 => {
            inspector.settle(None);
            // None went on.
            Outcome::Back(sys::NDIS_STATUS_SUCCESS)
        }
        // All do; a part that was begun isn't needed.
        Making::NotBegun | Making::Begun(_) => {
            inspector.settle(None);
            Outcome::On
        }
    }
}

/// How far a part is.
enum Making {
    NotBegun,
    Begun(Part),
    /// There was no memory for it.
    Failed,
}

impl Making {
    fn is_not_begun(&self) -> bool {
        matches!(self, Self::NotBegun)
    }

    fn has_failed(&self) -> bool {
        matches!(self, Self::Failed)
    }
}

/// Begins a part with the first `before` frames of the list.
///
/// # Safety
/// As [`Part::try_new`].
unsafe fn begin_part(
    inspector: &Inspector<'_>,
    list: NonNull<NET_BUFFER_LIST>,
    before: usize,
) -> Making {
    // SAFETY: the contract is the same.
    let part = unsafe { Part::try_new(inspector.module(), list, inspector.direction()) };
    let Some(mut part) = part else {
        return Making::Failed;
    };
    // SAFETY: valid and the filter's by contract.
    for buffer in nbl::buffers(unsafe { list.as_ref() }).take(before) {
        // SAFETY: a buffer of the list that the part is of.
        if !unsafe { part.push(inspector.module(), buffer) } {
            return Making::Failed;
        }
    }
    Making::Begun(part)
}
