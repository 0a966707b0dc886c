//! What comes back from the neighbours: lists of others, which go on, and the
//! filter's own, which end here.

use weir_abi::Direction;

use super::adapter::Module;
use super::inspect::signed;
use super::nbl::{self, Queue};
use super::own::{self, Frame, Own};
use super::part::Part;
use super::sys::{self, NET_BUFFER_LIST};

/// Sorts a chain that came back: what goes on to where it came from, in the order
/// it came, and how many of the filter's own have ended here. A part is followed
/// by its parent. [`release`] is called when the others have been handed on.
/// `IRQL <= DISPATCH_LEVEL`.
///
/// # Safety
/// `lists` is null or the first of a chain of valid lists that are the filter's;
/// those of its own are from `into_raw`, for this module.
pub(super) unsafe fn sort(
    module: &Module,
    lists: *mut NET_BUFFER_LIST,
    direction: Direction,
) -> (Queue, u32) {
    let mut others = Queue::new();
    let (mut ended, mut frames) = (0u32, 0u64);
    // SAFETY: the filter's, each until it is yielded.
    for list in unsafe { nbl::drain(lists) } {
        // SAFETY: the filter's; the reference ends before anything becomes of it.
        let (kind, of_list) = look(module, unsafe { list.as_ref() });
        match kind {
            None => {
                frames = frames.saturating_add(of_list);
                // SAFETY: the filter's, of a chain that is taken apart here.
                unsafe { others.push(list) };
            }
            Some(Own::Frame) => {
                // SAFETY: back, and the filter's until it is freed below.
                let status = unsafe { list.as_ref() }.Status;
                // Of what went up it says nothing: nobody has to set it.
                if direction == Direction::Out && status != sys::NDIS_STATUS_SUCCESS {
                    module.injected(direction, false);
                }
                // SAFETY: from into_raw in `inject.rs`, back now.
                drop(unsafe { Frame::from_raw(module, list) });
                ended = ended.saturating_add(1);
            }
            Some(Own::Part) => {
                frames = frames.saturating_add(of_list);
                // SAFETY: from into_raw of a part that was handed on, back now.
                let part = unsafe { Part::from_raw(list) };
                if let Some(parent) = part.finish(direction) {
                    // SAFETY: kept since the part was made, and in no chain.
                    unsafe { others.push(parent) };
                }
                ended = ended.saturating_add(1);
            }
        }
    }
    module.in_flight(direction, signed(frames).saturating_neg());
    (others, ended)
}

fn look(module: &Module, list: &NET_BUFFER_LIST) -> (Option<Own>, u64) {
    (own::own(module, list), nbl::frames_of(list))
}

/// Gives up what this many lists of the filter's own held of the module's gate:
/// Pausing may go on.
pub(super) fn release(module: &Module, ended: u32) {
    for _ in 0..ended {
        module.gate.release_raw();
    }
}
