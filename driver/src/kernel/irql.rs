//! The interrupt request level of the calling processor.

use super::sys;

/// `PASSIVE_LEVEL`: may block.
pub(crate) const PASSIVE_LEVEL: u8 = 0;

/// The current IRQL.
pub(crate) fn current() -> u8 {
    // SAFETY: reads a processor register; callable at any IRQL.
    unsafe { sys::KeGetCurrentIrql() }
}

/// Whether the caller may block.
pub(crate) fn is_passive() -> bool {
    current() == PASSIVE_LEVEL
}
