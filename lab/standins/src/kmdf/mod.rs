//! The KMDF stand-in: a control-device driver's part of KMDF 1.31, as strict
//! as the framework's own verifier.
//!
//! | file | what |
//! |---|---|
//! | `abi` | the driver's structures |
//! | `loader` | WDFLDR: bind, unbind, the function table |
//! | `world` | all objects, and the checks on handles |
//! | `object` | attributes, contexts, references, deletion |
//! | `driver`, `device`, `file` | driver, control device, file objects |
//! | `io` | IRPs from Wine: arrival, cancellation, completion |
//! | `queue`, `present`, `cancel` | I/O queues: made and changed; requests presented, and cancelled |
//! | `request`, `buffer` | requests |
//! | `sync`, `timer` | locks; timers and work items |
//!
//! What the lab does not have: PnP and power, I/O targets, synchronization
//! scopes, class extensions. The table's other entries report themselves as
//! `LabUnimplemented`.

pub mod abi;
mod buffer;
mod cancel;
mod device;
mod driver;
mod file;
mod io;
mod loader;
mod object;
mod present;
mod queue;
mod request;
mod sync;
mod timer;
mod world;

use crate::core::Rule;

/// What the driver still holds, with the rule each breaks.
pub fn leaks() -> Vec<(Rule, String)> {
    world::lock().leaks()
}

/// Whether the framework owns an IRP.
pub fn owns_irp(irp: *mut crate::nt::types::IRP) -> bool {
    world::lock().by_irp.contains_key(&(irp as usize))
}
