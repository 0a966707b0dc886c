//! The ntoskrnl stand-in: our own pool, locks, events, timers, DPCs, work
//! items, threads, rundown protection, IRPs and MDLs, strict about each.
//! Wine's ntoskrnl serves devices and the IRPs that come from user mode.
//!
//! Exported functions have the names, prototypes and IRQL demands of their
//! MSDN pages; a file holds the functions of one kind of object and the
//! bookkeeping that makes them strict.

pub mod active;
pub mod cpu;
pub mod debug;
pub mod dispatcher;
pub mod dpc;
pub mod etw;
pub mod exception;
pub mod irp;
pub mod mdl;
pub mod mem;
pub mod object;
pub mod pool_api;
pub mod rtl;
pub mod rundown;
pub mod spinlock;
pub mod types;
pub mod wine;
pub mod workitem;

use crate::core::Rule;

/// A driver was bound.
pub fn session_begin() {
    exception::install();
}

/// A driver is gone.
pub fn session_end() {
    irp::session_end();
    active::clear();
}

/// What the driver still holds, with the rule each breaks.
pub fn leaks() -> Vec<(Rule, String)> {
    let io = irp::leaks()
        .into_iter()
        .chain(mdl::leaks())
        .chain(workitem::leaks());
    let other = dpc::leaks()
        .into_iter()
        .chain(object::leaks())
        .chain(etw::leaks());
    io.map(|l| (Rule::IoAllocateFree, l))
        .chain(other.map(|l| (Rule::LabLeak, l)))
        .collect()
}

/// A pointer argument as a reference; null or misaligned is a violation.
///
/// # Safety
/// A pointer that is neither must point to a live `T` for as long as the
/// reference is used.
pub unsafe fn arg<'a, T>(pointer: *mut T, api: &str, name: &str) -> &'a mut T {
    if pointer.is_null() {
        violate!(Rule::LabBadParameter, "{api}: {name} is null");
    }
    if !pointer.is_aligned() {
        violate!(
            Rule::LabBadParameter,
            "{api}: {name} {pointer:?} is not aligned"
        );
    }
    // SAFETY: not null, aligned, and alive by this function's contract.
    unsafe { &mut *pointer }
}
