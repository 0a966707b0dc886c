//! Taking a chain apart: what goes on, what goes back.
//!
//! A list goes on whole if all of its frames do, goes back if none does, and is
//! replaced by a [`Part`] otherwise. The decision on each frame is made once, in
//! order, and nothing is kept of it but the list or the part: a part is begun at
//! the first frame that differs from the first one.

use core::ptr::NonNull;

use weir_engine::stats::Loss;

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
    let mut part = Making::NotBegun;
    let (mut on, mut stopped) = (0usize, 0usize);
    for (index, buffer) in nbl::buffers(seen).enumerate() {
        // SAFETY: a buffer of a list that is the filter's.
        let fate = unsafe { inspector.frame(seen, buffer) };
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
        if begin && matches!(part, Making::NotBegun) {
            // Those before this one: all of them go on, or none.
            let before = if fate == Fate::On { 0 } else { index };
            // SAFETY: the list is the filter's and stays so while the part lives.
            part = unsafe { begin_part(inspector, list, before) };
        }
        if fate == Fate::On && stopped != 0 {
            // SAFETY: a buffer of the list that the part is of.
            part = unsafe { part.push(inspector, buffer) };
        }
    }
    match part {
        Making::NotBegun if stopped == 0 => {
            inspector.settle(None);
            Outcome::On
        }
        // None went on.
        Making::NotBegun => Outcome::Back(sys::NDIS_STATUS_SUCCESS),
        Making::Failed => {
            inspector.settle(Some(Loss::Resources));
            Outcome::Back(sys::NDIS_STATUS_RESOURCES)
        }
        Making::Begun(part) => {
            // Pausing waits for the part, as for all that the filter originates;
            // see `back.rs`. It may have begun since the chain came in.
            if inspector.module().gate.acquire_raw() {
                inspector.settle(None);
                Outcome::PartOn(part)
            } else {
                inspector.settle(Some(Loss::Paused));
                Outcome::Back(sys::NDIS_STATUS_PAUSED)
            }
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
    /// # Safety
    /// As [`Part::push`].
    unsafe fn push(self, inspector: &Inspector<'_>, buffer: NonNull<sys::NET_BUFFER>) -> Self {
        let Self::Begun(mut part) = self else {
            return self;
        };
        // SAFETY: the contract is the same.
        if unsafe { part.push(inspector.module(), buffer) } {
            Self::Begun(part)
        } else {
            Self::Failed
        }
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
    let Some(part) = part else {
        return Making::Failed;
    };
    let mut making = Making::Begun(part);
    // SAFETY: valid and the filter's by contract.
    for buffer in nbl::buffers(unsafe { list.as_ref() }).take(before) {
        // SAFETY: a buffer of the list that the part is of.
        making = unsafe { making.push(inspector, buffer) };
    }
    making
}
