//! Talks to `weir.sys`.
//!
//! [`Device::open`] opens the control device for overlapped I/O and checks that
//! both sides speak the same version of the contract. Its calls are typed;
//! [`Device::open_capture`] gives a [`Capture`] that keeps several reads
//! outstanding. [`net`] has the kernel's sockets for programs that wait, [`aio`]
//! for tasks. Errors keep the NTSTATUS and the Win32 code, and say what to do.
//!
//! The driver runs on Windows only. Everything here but the `windows` module is
//! portable and is tested on any host against a channel in memory; elsewhere
//! [`Device::open`] returns [`Error::Unsupported`].

pub mod aio;
mod buffers;
mod capture;
pub mod channel;
mod device;
mod error;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod kind;
mod lock;
mod model;
pub mod net;
pub mod owners;
#[cfg(test)]
mod sharing_tests;
// Nobody has operations without a system and without a driver in memory.
#[cfg(any(windows, test, feature = "fake"))]
mod slot;
mod socket;
#[cfg(test)]
mod socket_tests;
mod steer;
#[cfg(test)]
mod steer_tests;
#[cfg(test)]
mod tests;
mod wake;
#[cfg(windows)]
mod windows;
mod write;

pub use capture::{Batch, Capture, Frame, ReadAhead};
pub use device::{Device, Workers};
pub use error::{Error, Failure, NtStatus};
pub use kind::{Doing, ErrorKind};
pub use model::{Adapter, DriverStatus, DriverVersion, Ended, Service, StartedService, filetime};
pub use steer::{Alarm, Flow, LoadedRules, RuleCounters, RulesInForce};
pub use weir_abi as abi;
pub use write::{Divert, FrameLen, Injector, Outgoing};
