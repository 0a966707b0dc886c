//! Logical processors, all groups together.

use core::ptr;

use super::sys;

/// The most processors the system can have, hot-added ones included; at least
/// 1. Indexes from [`current`] are below it. `IRQL <= DISPATCH_LEVEL`.
pub(crate) fn count() -> u32 {
    // SAFETY: no pointers; the group number is the documented "all".
    unsafe { sys::KeQueryMaximumProcessorCountEx(sys::ALL_PROCESSOR_GROUPS) }.max(1)
}

/// The index of the calling processor over all groups. Below `DISPATCH_LEVEL`
/// the thread may have moved on by the time the caller looks.
pub(crate) fn current() -> u32 {
    // SAFETY: a null PPROCESSOR_NUMBER is allowed: only the index is returned.
    unsafe { sys::KeGetCurrentProcessorNumberEx(ptr::null_mut()) }
}
