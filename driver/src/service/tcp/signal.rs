//! Signals of a connection's task.

use super::state::Wanted;

/// It has been accepted.
pub(super) const START: u32 = 1;
/// The service stops.
pub(super) const STOP: u32 = 2;
/// A socket's close has ended: the client's, the target's.
pub(super) const CLOSED: [u32; 2] = [4, 8];
/// A pipe's receive has ended.
pub(super) const IN: [u32; 2] = [0x10, 0x20];
/// What a pipe's other end did has ended.
pub(super) const OUT: [u32; 2] = [0x40, 0x80];
/// It has ended in a way that has to be looked at.
pub(super) const URGENT: u32 = 0x100;
/// An event of a pipe's source has come.
pub(super) const HEARD: [u32; 2] = [0x200, 0x400];
/// Sending what a pipe has retained has ended.
pub(super) const PASSED: [u32; 2] = [0x800, 0x1000];

/// The signals that wake the task.
pub(super) fn waking(wanted: Wanted) -> u32 {
    let [first, second] = wanted.out;
    let [out_first, out_second] = OUT;
    let quiet = if first { 0 } else { out_first } | if second { 0 } else { out_second };
    !quiet
}
