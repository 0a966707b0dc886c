//! A TCP stream: bytes both ways, for threads and for tasks.
//!
//! At most one read is outstanding. It belongs to the stream, not to who waits:
//! a wait that is given up leaves it, and what it brings is there for the next.
//! Writes are taken into buffers of the stream and done in order, a window of
//! them outstanding at once, so that a write doesn't wait for the peer's
//! acknowledgement before the next starts; what fails is told by the next write,
//! or by a flush.
//!
//! A thread waits as a task does, without a lock: one that waits holds up neither
//! the task nor the thread that has another clone.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use weir_abi::{ShutdownHow, SocketShutdownRequest, status};

use super::call::Call;
use super::waiters::{Waiters, Wakes, wait_for};
use super::{Socket, failed, linger};
use crate::buffers::LARGE;
use crate::channel::{Completion, Pending};
use crate::error::{Error, Failure};
use crate::kind::Doing;
use crate::lock::lock;

/// Writes outstanding at once.
const WINDOW: usize = 16;
/// Bytes of these; one write may always be outstanding.
const WINDOW_BYTES: usize = 256 * 1024;

/// A connected stream.
pub(crate) struct Stream {
    socket: Socket,
    reading: Mutex<Reading>,
    /// Who waits for the read.
    readers: Arc<Waiters>,
    writing: Mutex<Writing>,
    /// Who waits for writes or the shutdown.
    writers: Arc<Waiters>,
    /// Nothing is left to be said to the peer: shut down and ended, or aborted.
    over: AtomicBool,
}

#[derive(Default)]
struct Reading {
    pending: Option<Box<dyn Pending>>,
    /// What came and nobody has taken yet: `ready[at..len]`.
    ready: Vec<u8>,
    at: usize,
    len: usize,
    /// The peer has sent all it had to send.
    ended: bool,
}

#[derive(Default)]
struct Writing {
    flight: VecDeque<(Box<dyn Pending>, usize)>,
    bytes: usize,
    failure: Option<Failure>,
    /// A shutdown under way.
    closing: Option<Call<SocketShutdownRequest>>,
    shut: bool,
}

impl Reading {
    /// Moves what is there to `buf`.
    fn take(&mut self, socket: &Socket, buf: &mut [u8]) -> Option<usize> {
        let there = self.ready.get(self.at..self.len)?;
        if there.is_empty() {
            return None;
        }
        let n = there.len().min(buf.len());
        let (to, from) = (buf.get_mut(..n)?, there.get(..n)?);
        to.copy_from_slice(from);
        self.at += n;
        if self.at == self.len {
            (self.at, self.len) = (0, 0);
            socket.buffers().give_back(std::mem::take(&mut self.ready));
        }
        Some(n)
    }

    /// Answers with what is there, else when the read that is outstanding ends.
    fn poll(
        &mut self,
        socket: &Socket,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<Result<usize, Error>> {
        // The driver refuses a read of nothing: its answer would be the end's.
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if let Some(n) = self.take(socket, buf) {
            return Poll::Ready(Ok(n));
        }
        if self.ended {
            return Poll::Ready(Ok(0));
        }
        let mut pending = match self.pending.take() {
            Some(pending) => pending,
            None => {
                let buffer = socket.buffers().take(buf.len());
                let read = socket.channel()?.read(buffer);
                read.map_err(|e| failed(Doing::Receiving, e))?
            }
        };
        let Poll::Ready(completion) = pending.poll(cx) else {
            self.pending = Some(pending);
            return Poll::Pending;
        };
        self.settle(socket, completion)?;
        Poll::Ready(Ok(self.take(socket, buf).unwrap_or(0)))
    }

    /// Takes the end of the read.
    fn settle(&mut self, socket: &Socket, completion: Completion) -> Result<(), Error> {
        match completion.result {
            Ok(len) => {
                tracing::trace!(id = socket.id(), len, "received");
                self.ended = len == 0;
                (self.at, self.len) = (0, len.min(completion.buffer.len()));
                self.ready = completion.buffer;
                Ok(())
            }
            Err(failure) => {
                socket.buffers().give_back(completion.buffer);
                Err(failed(Doing::Receiving, failure))
            }
        }
    }
}

impl Writing {
    /// Whether another write of `len` bytes may start.
    fn has_room(&self, len: usize) -> bool {
        self.flight.is_empty()
            || (self.flight.len() < WINDOW && self.bytes.saturating_add(len) <= WINDOW_BYTES)
    }

    /// Takes the end of the oldest write.
    fn settle(&mut self, socket: &Socket, completion: Completion) {
        let Some((_, len)) = self.flight.pop_front() else {
            return;
        };
        self.bytes = self.bytes.saturating_sub(len);
        socket.buffers().give_back(completion.buffer);
        match completion.result {
            Ok(done) if done == len => tracing::trace!(id = socket.id(), len, "sent"),
            Ok(done) => {
                tracing::error!(id = socket.id(), len, done, "a write was cut short");
                self.failure = self.failure.or(Some(Failure {
                    status: crate::NtStatus(status::UNSUCCESSFUL),
                    win32: 0,
                }));
            }
            // The first failure says why; those after it only that it did.
            Err(failure) => self.failure = self.failure.or(Some(failure)),
        }
    }

    fn check(&self) -> Result<(), Error> {
        match self.failure {
            Some(failure) => Err(failed(Doing::Sending, failure)),
            None => Ok(()),
        }
    }

    fn check_open(&self) -> Result<(), Error> {
        self.check()?;
        if self.shut || self.closing.is_some() {
            return Err(Error::AfterShutdown);
        }
        Ok(())
    }

    /// Starts a write of the first `len` bytes of `parts`; there is room.
    fn begin(
        &mut self,
        socket: &Socket,
        parts: &[IoSlice<'_>],
        len: usize,
    ) -> Result<usize, Error> {
        let mut buffer = socket.buffers().take(len);
        let mut at = 0;
        for part in parts {
            let n = part.len().min(len - at);
            let (Some(to), Some(from)) = (buffer.get_mut(at..at + n), part.get(..n)) else {
                break;
            };
            to.copy_from_slice(from);
            at += n;
        }
        let started = socket.channel()?.write(buffer);
        let write = started.map_err(|failure| {
            self.failure = self.failure.or(Some(failure));
            failed(Doing::Sending, failure)
        })?;
        self.flight.push_back((write, len));
        self.bytes += len;
        Ok(len)
    }

    /// Takes what has ended by now.
    fn reap(&mut self, socket: &Socket) {
        while let Some((oldest, _)) = self.flight.front_mut()
            && let Some(completion) = oldest.wait(Some(Duration::ZERO))
        {
            self.settle(socket, completion);
        }
    }

    /// Ready when `enough`; the oldest ends first.
    fn poll_until(
        &mut self,
        socket: &Socket,
        cx: &mut Context<'_>,
        enough: impl Fn(&Self) -> bool,
    ) -> Poll<()> {
        self.reap(socket);
        while !enough(self) {
            let Some((oldest, _)) = self.flight.front_mut() else {
                break;
            };
            let completion = ready!(oldest.poll(cx));
            self.settle(socket, completion);
        }
        Poll::Ready(())
    }
}

fn too_late(doing: Doing, timeout: Option<Duration>) -> Error {
    Error::TimedOut {
        doing,
        after: timeout.unwrap_or_default(),
    }
}

impl Stream {
    pub(crate) fn new(socket: Socket) -> Stream {
        Stream {
            socket,
            reading: Mutex::default(),
            readers: Waiters::new(Wakes::All),
            writing: Mutex::default(),
            writers: Waiters::new(Wakes::All),
            over: AtomicBool::new(false),
        }
    }

    pub(crate) const fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Reads; 0 is the end. When the time is over the read stays, and what it
    /// brings is for the next.
    pub(crate) fn read(&self, buf: &mut [u8], timeout: Option<Duration>) -> Result<usize, Error> {
        let place = self.readers.place();
        let read = wait_for(timeout, |cx| {
            place.sleep(cx);
            self.reading(buf)
        });
        read.unwrap_or_else(|| Err(too_late(Doing::Receiving, timeout)))
    }

    /// As [`Stream::read`], for a task.
    pub(crate) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<Result<usize, Error>> {
        self.readers.sleep_task(cx);
        self.reading(buf)
    }

    fn reading(&self, buf: &mut [u8]) -> Poll<Result<usize, Error>> {
        let waker = Waker::from(Arc::clone(&self.readers));
        let mut cx = Context::from_waker(&waker);
        lock(&self.reading).poll(&self.socket, &mut cx, buf)
    }

    /// Does `step` until it is done, at most for `timeout`.
    fn wait<T>(
        &self,
        doing: Doing,
        timeout: Option<Duration>,
        step: impl Fn(&mut Writing, &mut Context<'_>) -> Poll<Result<T, Error>>,
    ) -> Result<T, Error> {
        let place = self.writers.place();
        let done = wait_for(timeout, |cx| {
            place.sleep(cx);
            self.step(&step)
        });
        done.unwrap_or_else(|| Err(too_late(doing, timeout)))
    }

    fn poll<T>(
        &self,
        cx: &Context<'_>,
        step: impl Fn(&mut Writing, &mut Context<'_>) -> Poll<Result<T, Error>>,
    ) -> Poll<Result<T, Error>> {
        self.writers.sleep_task(cx);
        self.step(step)
    }

    fn step<T>(
        &self,
        step: impl Fn(&mut Writing, &mut Context<'_>) -> Poll<Result<T, Error>>,
    ) -> Poll<Result<T, Error>> {
        let waker = Waker::from(Arc::clone(&self.writers));
        step(&mut lock(&self.writing), &mut Context::from_waker(&waker))
    }

    fn writes(
        &self,
        writing: &mut Writing,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<Result<usize, Error>> {
        writing.check_open()?;
        let all = parts
            .iter()
            .fold(0_usize, |all, part| all.saturating_add(part.len()));
        let len = all.min(LARGE);
        if len == 0 {
            return Poll::Ready(Ok(0));
        }
        ready!(writing.poll_until(&self.socket, cx, |w| w.has_room(len)));
        writing.check_open()?;
        Poll::Ready(writing.begin(&self.socket, parts, len))
    }

    /// Takes bytes to be sent, of several parts as one write; waits while the
    /// window is full. When the time is over none of them was taken.
    pub(crate) fn write(
        &self,
        parts: &[IoSlice<'_>],
        timeout: Option<Duration>,
    ) -> Result<usize, Error> {
        self.wait(Doing::Sending, timeout, |w, cx| self.writes(w, cx, parts))
    }

    /// As [`Stream::write`], for a task.
    pub(crate) fn poll_write(
        &self,
        cx: &Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<Result<usize, Error>> {
        self.poll(cx, |w, cx| self.writes(w, cx, parts))
    }

    fn flushes(&self, writing: &mut Writing, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(writing.poll_until(&self.socket, cx, |w| w.flight.is_empty()));
        Poll::Ready(writing.check())
    }

    /// Waits until the transport has taken all that was written.
    pub(crate) fn flush(&self, timeout: Option<Duration>) -> Result<(), Error> {
        self.wait(Doing::Sending, timeout, |w, cx| self.flushes(w, cx))
    }

    /// As [`Stream::flush`], for a task.
    pub(crate) fn poll_flush(&self, cx: &Context<'_>) -> Poll<Result<(), Error>> {
        self.poll(cx, |w, cx| self.flushes(w, cx))
    }

    fn closes(&self, writing: &mut Writing, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.flushes(writing, cx))?;
        if writing.shut {
            return Poll::Ready(Ok(()));
        }
        let mut call = match writing.closing.take() {
            Some(call) => call,
            None => {
                let request = SocketShutdownRequest::new(ShutdownHow::Send);
                Call::start(self.socket.channel()?, &request, Doing::ShuttingDown)?
            }
        };
        let Poll::Ready(result) = call.poll(cx) else {
            writing.closing = Some(call);
            return Poll::Pending;
        };
        if result.is_ok() {
            writing.shut = true;
            tracing::debug!(id = self.socket.id(), "shut down");
        }
        Poll::Ready(result.map(drop))
    }

    /// Ends the sending direction after all that was written; what the peer
    /// sends may still be read. Done again, it does nothing; when the time is
    /// over it goes on, and may be waited for again.
    pub(crate) fn shutdown(&self, timeout: Option<Duration>) -> Result<(), Error> {
        self.wait(Doing::ShuttingDown, timeout, |w, cx| self.closes(w, cx))
    }

    /// As [`Stream::shutdown`], for a task.
    pub(crate) fn poll_close(&self, cx: &Context<'_>) -> Poll<Result<(), Error>> {
        self.poll(cx, |w, cx| self.closes(w, cx))
    }

    /// Ends the connection at once with a reset; what is under way is lost.
    pub(crate) fn abort(&self) -> Result<(), Error> {
        self.start_abort()?.wait_or_cancel(None)?;
        tracing::debug!(id = self.socket.id(), "aborted");
        Ok(())
    }

    /// As [`Stream::abort`], and doesn't wait until that is done.
    pub(crate) fn start_abort(&self) -> Result<Call<SocketShutdownRequest>, Error> {
        self.over.store(true, Ordering::Relaxed);
        let request = SocketShutdownRequest::new(ShutdownHow::Abort);
        Call::start(self.socket.channel()?, &request, Doing::ShuttingDown)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let reading = std::mem::take(&mut *lock(&self.reading));
        let mut writing = std::mem::take(&mut *lock(&self.writing));
        let Some(channel) = self.socket.take_channel() else {
            return;
        };
        writing.reap(&self.socket);
        let over = self.over.load(Ordering::Relaxed) || writing.failure.is_some();
        if over || (writing.shut && reading.ended) {
            channel.cancel();
            channel.close_soon();
            return;
        }
        let flight = writing.flight.into_iter().map(|(write, _)| write).collect();
        linger::end(linger::Ending::new(
            channel,
            flight,
            reading.pending,
            writing.closing,
            writing.shut,
            self.socket.id(),
        ));
    }
}
