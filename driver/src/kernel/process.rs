//! Processes.

use super::sys;

/// The process whose thread runs this; what it means depends on who calls. Any
/// IRQL.
pub(crate) fn current_id() -> u32 {
    // SAFETY: takes nothing, and may be called at any IRQL.
    let id = unsafe { sys::PsGetCurrentProcessId() };
    // Process ids have 32 bits, in a HANDLE.
    u32::try_from(id.addr()).unwrap_or(0)
}
