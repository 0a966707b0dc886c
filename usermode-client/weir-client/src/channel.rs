//! The way to the driver: what an open handle of its device can do.
//!
//! On Windows a handle with overlapped I/O is behind it; tests put a driver in
//! memory there (feature `fake`).

use std::task::{Context, Poll};
use std::time::Duration;

use crate::{Error, Failure};

/// Opens handles of the device.
pub trait Connector: Send + Sync {
    /// A fresh handle, without a role.
    fn connect(&self) -> Result<Box<dyn Channel>, Error>;
}

/// An open handle of the device. Dropping it cancels what is outstanding on it
/// and waits for that to end, unless a worker of the completion port drops it;
/// [`Channel::close_soon`] does neither.
pub trait Channel: Send + Sync {
    /// Sends `input` with IOCTL `code` and waits for the reply, for which there
    /// are `room` bytes.
    fn control(&self, code: u32, input: &[u8], room: usize) -> Result<Vec<u8>, Failure> {
        let mut pending = self.start_control(code, input, room)?;
        let completion = loop {
            // Without a time limit this returns with the completion.
            if let Some(completion) = pending.wait(None) {
                break completion;
            }
        };
        let len = completion.result?;
        let mut reply = completion.buffer;
        reply.truncate(len);
        Ok(reply)
    }

    /// Sends `input` with IOCTL `code`; the reply, for which there are `room`
    /// bytes, is in the completion's buffer.
    fn start_control(
        &self,
        code: u32,
        input: &[u8],
        room: usize,
    ) -> Result<Box<dyn Pending>, Failure>;

    /// Starts a read of `buffer.len()` bytes. The reads of a handle are filled
    /// in the order they were started.
    fn read(&self, buffer: Vec<u8>) -> Result<Box<dyn Pending>, Failure>;

    /// Starts a write of all of `buffer`. The writes of a handle are done in
    /// the order they were started.
    fn write(&self, buffer: Vec<u8>) -> Result<Box<dyn Pending>, Failure>;

    /// Asks for the end of all that is outstanding; each still completes.
    fn cancel(&self);

    /// Closes the handle when the last operation outstanding on it has ended.
    /// Cancels nothing and doesn't wait.
    fn close_soon(self: Box<Self>);
}

/// An operation that was started. Dropping it neither ends the operation nor
/// frees what the operation uses: that goes when it completes.
pub trait Pending: Send {
    /// Waits for its end, at most for `timeout` if one is given. `None` when
    /// the time is over; to be asked again then, and not after it gave the
    /// completion.
    fn wait(&mut self, timeout: Option<Duration>) -> Option<Completion>;

    /// Its completion, if it has ended; else the task is woken when it has. Not
    /// to be asked again after it gave the completion.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Completion>;

    /// Asks for its end; it still completes, with what it has done if that is
    /// something.
    fn cancel(&self);
}

/// An operation that ended.
#[derive(Debug)]
pub struct Completion {
    /// How many bytes were read, written or replied, or why none were.
    pub result: Result<usize, Failure>,
    /// The buffer it was started with; of a control request that for the reply.
    pub buffer: Vec<u8>,
}
