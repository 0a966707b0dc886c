//! The ntoskrnl stand-in: our own pool, locks, events, timers, DPCs, work
//! items, threads, rundown protection, IRPs and MDLs, strict about each.
//! Wine's ntoskrnl serves devices and the IRPs that come from user mode.

pub mod active;
pub mod irp;
pub mod mdl;
pub mod spinlock;
pub mod types;
pub mod wine;

/// A driver was bound.
pub fn session_begin() {}

/// A driver is gone.
pub fn session_end() {}

/// What the driver still holds.
pub fn leaks() -> Vec<String> {
    irp::leaks().into_iter().chain(mdl::leaks()).collect()
}
