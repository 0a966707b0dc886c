//! The way to the driver: what an open handle of its device can do.
//!
//! On Windows a handle with overlapped I/O is behind it; tests put a driver in
//! memory there (feature `fake`).

use std::time::Duration;

use crate::{Error, Failure};

/// Opens handles of the device.
pub trait Connector: Send + Sync {
    /// A fresh handle, without a role.
    fn connect(&self) -> Result<Box<dyn Channel>, Error>;
}

/// An open handle of the device. Dropping it cancels what is outstanding on it
/// and waits for that to end.
pub trait Channel: Send + Sync {
    /// Sends `input` with IOCTL `code` and waits for the reply, for which there
    /// are `room` bytes.
    fn control(&self, code: u32, input: &[u8], room: usize) -> Result<Vec<u8>, Failure>;

    /// Starts a read of `buffer.len()` bytes. The reads of a handle are filled
    /// in the order they were started.
    fn read(&self, buffer: Vec<u8>) -> Result<Box<dyn Pending>, Failure>;

    /// Starts a write of all of `buffer`.
    fn write(&self, buffer: Vec<u8>) -> Result<Box<dyn Pending>, Failure>;

    /// Asks for the end of all that is outstanding; each still completes.
    fn cancel(&self);
}

/// A read or a write that was started.
pub trait Pending: Send {
    /// Waits for its end, at most for `timeout` if one is given. `None` when
    /// the time is over; to be asked again then, and not after it gave the
    /// completion.
    fn wait(&mut self, timeout: Option<Duration>) -> Option<Completion>;
}

/// A read or a write that ended.
#[derive(Debug)]
pub struct Completion {
    /// How many bytes were read or written, or why none were.
    pub result: Result<usize, Failure>,
    /// The buffer it was started with.
    pub buffer: Vec<u8>,
}
