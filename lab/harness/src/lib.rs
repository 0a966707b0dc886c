//! The host's side of the lab: a Wine prefix in which a Windows kernel driver
//! built on this machine is loaded against strict stand-ins for KMDF, NDIS and
//! Winsock Kernel, and in which Windows programs talk to it.
//!
//! The harness knows nothing of any one driver. A driver is an image file and
//! a service name; what it does is the caller's business.
//!
//! ```no_run
//! # fn main() -> Result<(), weir_lab_harness::Error> {
//! use weir_lab_harness::{Artifacts, Config, Lab};
//! let lab = Lab::open("target/lab/play", Artifacts::in_dir("target/weir/lab"));
//! lab.up(&Config::default())?;
//! lab.install_driver("weir", "target/weir/weir.sys".as_ref())?;
//! lab.start_driver("weir")?;
//! lab.stop_driver("weir")?;
//! lab.down()?;
//! # Ok(()) }
//! ```

mod client;
mod config;
mod error;
mod events;
mod imports;
mod lab;
mod symbols;

pub use client::JsonClient;
pub use config::{Adapter, Config, Faults, PointFault, Shape, Unload};
pub use error::Error;
pub use events::Event;
pub use imports::{STAND_IN, redirect_imports};
pub use lab::{Artifacts, Lab, windows_path};
pub use symbols::SymbolMap;

/// What every fallible operation of the harness gives.
pub type Result<T> = std::result::Result<T, Error>;
