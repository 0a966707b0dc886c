//! One echo server in each of Windows' I/O models, and a client that puts load
//! on any echo.
//!
//! Each model is a module that can be read by itself; the limits of each are
//! met, not avoided: sets of 64 sockets that grow, threads of 64 events with
//! more threads beyond, message queues that hold 10,000. All send back what they
//! receive, hold at most one buffer for a client that doesn't read (and don't
//! read from it meanwhile), answer a half close with everything that was sent
//! before it, and survive a reset. `docs/io-models.md` compares them.
//!
//! ```no_run
//! # fn main() -> Result<(), weir_io_models::Error> {
//! use weir_io_models::{Model, Options, Server};
//! let server = Server::bind(Model::Iocp, "127.0.0.1:7".parse().unwrap(), Options::default())?;
//! let stop = server.stop_handle();
//! std::thread::spawn(move || {
//!     std::thread::sleep(std::time::Duration::from_secs(60));
//!     stop.stop();
//! });
//! server.run()
//! # }
//! ```

#[cfg(windows)]
mod async_select;
mod counters;
#[cfg(any(windows, test))]
mod crew;
#[cfg(any(windows, test))]
mod echo;
mod error;
#[cfg(windows)]
mod event_select;
#[cfg(windows)]
mod iocp;
pub mod load;
#[cfg(windows)]
mod overlapped_event;
#[cfg(windows)]
mod overlapped_routine;
#[cfg(windows)]
mod raw;
#[cfg(windows)]
mod select;
mod server;
mod stop;
#[cfg(any(windows, test))]
mod turn;
pub mod usage;

pub use counters::{Counters, Counts, End};
pub use error::Error;
pub use server::{Model, Options, Server};
pub use stop::Stop;
