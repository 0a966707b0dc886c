//! Reading captured frames.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use weir_abi::{
    FrameRecord, ReaderStats, ReaderStatsRequest, RecordError, RequestHeader, limits, status,
};

use crate::channel::{Channel, Completion, Pending};
use crate::device::call;
use crate::error::{Error, Failure, NtStatus};

/// How long the end of a capture waits for a read to fill: the backlog fills
/// one at once, so after this what is missing is in a read that isn't full.
const LAST_WAIT: Duration = Duration::from_millis(100);

/// How many reads are outstanding, and how long each is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadAhead {
    /// Reads outstanding at once; at least 1 is used.
    pub reads: usize,
    /// Bytes of each; raised to what the driver needs for one whole record.
    pub bytes: usize,
}

impl Default for ReadAhead {
    fn default() -> Self {
        ReadAhead {
            reads: 4,
            bytes: 512 * 1024,
        }
    }
}

/// A handle in the capture role with reads outstanding.
///
/// Reads are delivered in the order they were started, so frames come in the
/// order the driver saw them. Dropping a capture cancels its reads and waits
/// until the last has ended, but for a worker of the completion port, which may be
/// the one to take their ends.
///
/// Any thread may open it, read it and drop it: Windows cancels no I/O with the
/// thread that started it where a completion port gets its end.
pub struct Capture {
    reads: VecDeque<Box<dyn Pending>>,
    channel: Box<dyn Channel>,
    spare: Vec<Vec<u8>>,
    read_len: usize,
    reader: u32,
    snaplen: u32,
    received: u64,
    stopping: bool,
    // Why a read could not be started again; told after what is outstanding.
    broken: Option<Error>,
}

impl std::fmt::Debug for Capture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Capture")
            .field("reader", &self.reader)
            .field("outstanding", &self.reads.len())
            .field("received", &self.received)
            .finish_non_exhaustive()
    }
}

/// One captured frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What the driver says about it.
    pub record: FrameRecord,
    /// Its bytes, up to the snap length.
    pub bytes: &'a [u8],
}

/// The frames of one read.
#[derive(Debug)]
pub struct Batch {
    bytes: Vec<u8>,
    frames: usize,
}

impl Batch {
    fn new(bytes: Vec<u8>) -> Result<Batch, RecordError> {
        let frames = weir_abi::records(&bytes).try_fold(0, |n, record| record.map(|_| n + 1))?;
        Ok(Batch { bytes, frames })
    }

    /// How many frames there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.frames
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.frames == 0
    }

    /// The frames, in the order the driver saw them.
    pub fn frames(&self) -> impl Iterator<Item = Frame<'_>> {
        // All records were found good when the batch was made.
        weir_abi::records(&self.bytes)
            .flatten()
            .map(|(record, bytes)| Frame { record, bytes })
    }
}

/// What the driver said when it gave a role.
pub(crate) struct Role {
    pub(crate) reader: u32,
    pub(crate) snaplen: u32,
    pub(crate) min_read: u32,
}

impl Capture {
    pub(crate) fn start(
        channel: Box<dyn Channel>,
        reply: Role,
        ahead: ReadAhead,
    ) -> Result<Capture, Error> {
        let read_len = ahead
            .bytes
            .max(reply.min_read as usize)
            .min(limits::MAX_READ_LEN as usize);
        let mut capture = Capture {
            reads: VecDeque::new(),
            channel,
            spare: Vec::new(),
            read_len,
            reader: reply.reader,
            snaplen: reply.snaplen,
            received: 0,
            stopping: false,
            broken: None,
        };
        for _ in 0..ahead.reads.max(1) {
            capture.start_read()?;
        }
        tracing::debug!(
            reader = reply.reader,
            snaplen = reply.snaplen,
            read_len,
            "capture open"
        );
        Ok(capture)
    }

    /// The reader's number in the driver.
    #[must_use]
    pub const fn reader(&self) -> u32 {
        self.reader
    }

    /// The snap length in force.
    #[must_use]
    pub const fn snaplen(&self) -> u32 {
        self.snaplen
    }

    /// Frames received so far.
    #[must_use]
    pub const fn received(&self) -> u64 {
        self.received
    }

    /// The reader's balance.
    pub fn stats(&self) -> Result<ReaderStats, Error> {
        let request = ReaderStatsRequest {
            header: RequestHeader::of::<ReaderStatsRequest>(),
        };
        Ok(call(&*self.channel, &request)?.stats)
    }

    /// Waits up to `timeout` for the next read to end. `None` when the time is
    /// over, or when the reads have been stopped and the last is delivered.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Batch>, Error> {
        // A time past what an Instant can say is without an end.
        let deadline = Instant::now().checked_add(timeout);
        loop {
            let Some(read) = self.reads.front_mut() else {
                return self.broken.take().map_or(Ok(None), Err);
            };
            let left = deadline.map(|end| end.saturating_duration_since(Instant::now()));
            let Some(completion) = read.wait(left) else {
                return Ok(None);
            };
            self.reads.pop_front();
            if let Some(batch) = self.take(completion)? {
                return Ok(Some(batch));
            }
        }
    }

    /// Gives a batch's memory back for another read.
    pub fn recycle(&mut self, batch: Batch) {
        if self.spare.len() < 2 {
            self.spare.push(batch.bytes);
        }
    }

    /// Ends the capture without losing what was seen before: goes on reading
    /// until every frame the reader had accepted by now is here or waits in a
    /// read that isn't full, cancels the reads (the driver completes such a one
    /// with its frames), and hands every batch to `sink`. Returns the reader's
    /// final balance.
    pub fn finish<E: From<Error>>(
        mut self,
        mut sink: impl FnMut(Batch) -> Result<(), E>,
    ) -> Result<ReaderStats, E> {
        self.drain(|batch, _| sink(batch))?;
        let stats = self.stats()?;
        tracing::debug!(reader = self.reader, ?stats, "capture finished");
        Ok(stats)
    }

    /// What [`Capture::finish`] does, but for the balance. After it no read is
    /// outstanding.
    pub(crate) fn drain<E: From<Error>>(
        &mut self,
        mut sink: impl FnMut(Batch, &dyn Channel) -> Result<(), E>,
    ) -> Result<(), E> {
        let stats = self.stats()?;
        let accepted = stats.delivered.saturating_add(stats.queued);
        while self.received < accepted {
            match self.next(LAST_WAIT)? {
                Some(batch) => sink(batch, &*self.channel)?,
                None => break,
            }
        }
        self.stop();
        while let Some(mut read) = self.reads.pop_front() {
            if let Some(completion) = read.wait(None)
                && let Some(batch) = self.take(completion)?
            {
                sink(batch, &*self.channel)?;
            }
        }
        Ok(())
    }

    /// The handle.
    pub(crate) fn channel(&self) -> &dyn Channel {
        &*self.channel
    }

    fn stop(&mut self) {
        self.stopping = true;
        self.channel.cancel();
    }

    fn start_read(&mut self) -> Result<(), Error> {
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.resize(self.read_len, 0);
        let read = self.channel.read(buffer).map_err(refused)?;
        self.reads.push_back(read);
        Ok(())
    }

    /// The frames of a read that ended, if it has any. Starts the next read in
    /// its place first.
    fn take(&mut self, completion: Completion) -> Result<Option<Batch>, Error> {
        let Completion { result, mut buffer } = completion;
        let len = match result {
            Ok(len) => len,
            Err(Failure {
                status: NtStatus(status::CANCELLED),
                ..
            }) if self.stopping => return Ok(None),
            Err(failure) => return Err(refused(failure)),
        };
        if !self.stopping && self.broken.is_none() {
            self.broken = self.start_read().err();
        }
        buffer.truncate(len);
        let batch = Batch::new(buffer)?;
        tracing::trace!(frames = batch.len(), bytes = len, "read");
        self.received += batch.len() as u64;
        if batch.is_empty() {
            self.recycle(batch);
            return Ok(None);
        }
        Ok(Some(batch))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // The reads own their memory, and the handle waits for them where it may.
        self.stop();
    }
}

fn refused(failure: Failure) -> Error {
    Error::Refused {
        operation: "capture read",
        failure,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll};

    use super::*;
    use crate::channel::Completion;

    /// A read that doesn't end, as its end is for the thread that would wait.
    struct Never;

    impl Pending for Never {
        fn wait(&mut self, _: Option<Duration>) -> Option<Completion> {
            panic!("waits for what only this thread can take");
        }

        fn poll(&mut self, _: &mut Context<'_>) -> Poll<Completion> {
            Poll::Pending
        }

        fn cancel(&self) {}
    }

    struct Cancelled(Arc<AtomicUsize>);

    impl Channel for Cancelled {
        fn start_control(&self, _: u32, _: &[u8], _: usize) -> Result<Box<dyn Pending>, Failure> {
            Ok(Box::new(Never))
        }

        fn read(&self, _: Vec<u8>) -> Result<Box<dyn Pending>, Failure> {
            Ok(Box::new(Never))
        }

        fn write(&self, _: Vec<u8>) -> Result<Box<dyn Pending>, Failure> {
            Ok(Box::new(Never))
        }

        fn cancel(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }

        fn close_soon(self: Box<Self>) {}
    }

    #[test]
    fn a_drop_cancels_and_leaves_the_waiting_to_the_handle() {
        let cancels = Arc::<AtomicUsize>::default();
        drop(Capture {
            reads: VecDeque::from([Box::new(Never) as Box<dyn Pending>]),
            channel: Box::new(Cancelled(Arc::clone(&cancels))),
            spare: Vec::new(),
            read_len: 4096,
            reader: 1,
            snaplen: 100,
            received: 0,
            stopping: false,
            broken: None,
        });
        assert_eq!(cancels.load(Ordering::Relaxed), 1);
    }
}
