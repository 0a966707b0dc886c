//! The end of a stream nobody holds any more.
//!
//! The driver resets a connection whose handle is closed before both sides have
//! shut it down, and a reset can destroy what the peer has not read yet. So a
//! stream that is dropped is ended in order first: what was written is sent, the
//! sending direction is shut down, and what the peer still sends is thrown away
//! until it ends too. One thread does that for all of them, for as long as there
//! are any; the time and the bytes each gets are bounded, and so is their number.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::{Duration, Instant};

use weir_abi::{ShutdownHow, SocketShutdownRequest};

use super::call::Call;
use crate::channel::{Channel, Pending};
use crate::kind::Doing;
use crate::lock::lock;

/// How long a stream gets to end. The time of a closed socket in other systems
/// is of this order.
const TIME: Duration = Duration::from_secs(30);
/// Streams that end at once; one more is reset.
const MOST: usize = 1024;
/// Bytes that are read for nothing; a peer that sends more is reset.
const MOST_BYTES: usize = 1024 * 1024;
/// Bytes of each of these reads.
const READ: usize = 4096;
/// How long the thread waits for another stream before it ends.
const IDLE: Duration = Duration::from_millis(200);

/// A stream on its way to its end.
pub(super) struct Ending {
    channel: Option<Box<dyn Channel>>,
    flight: VecDeque<Box<dyn Pending>>,
    read: Option<Box<dyn Pending>>,
    shutdown: Option<Call<SocketShutdownRequest>>,
    shut: bool,
    ended: bool,
    thrown_away: usize,
    deadline: Instant,
    id: u64,
}

impl Ending {
    pub(super) fn new(
        channel: Box<dyn Channel>,
        flight: VecDeque<Box<dyn Pending>>,
        read: Option<Box<dyn Pending>>,
        shutdown: Option<Call<SocketShutdownRequest>>,
        shut: bool,
        id: u64,
    ) -> Ending {
        Ending {
            channel: Some(channel),
            flight,
            read,
            shutdown,
            shut,
            ended: false,
            thrown_away: 0,
            deadline: Instant::now() + TIME,
            id,
        }
    }

    /// Goes on; ready when there is nothing more to wait for. `Err` for a
    /// connection that is lost anyway.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ()>> {
        let Some(channel) = &self.channel else {
            return Poll::Ready(Ok(()));
        };
        while let Some(write) = self.flight.front_mut() {
            let completion = ready!(write.poll(cx));
            self.flight.pop_front();
            if completion.result.is_err() {
                return Poll::Ready(Err(()));
            }
        }
        if !self.shut {
            if self.shutdown.is_none() {
                let request = SocketShutdownRequest::new(ShutdownHow::Send);
                let call = Call::start(&**channel, &request, Doing::ShuttingDown);
                self.shutdown = Some(call.map_err(drop)?);
            }
            if let Some(call) = &mut self.shutdown {
                ready!(call.poll(cx)).map_err(drop)?;
            }
            self.shut = true;
        }
        while !self.ended {
            let mut read = match self.read.take() {
                Some(read) => read,
                None => channel.read(vec![0; READ]).map_err(drop)?,
            };
            let Poll::Ready(completion) = read.poll(cx) else {
                self.read = Some(read);
                return Poll::Pending;
            };
            let len = completion.result.map_err(drop)?;
            self.ended = len == 0;
            self.thrown_away += len;
            if self.thrown_away > MOST_BYTES {
                return Poll::Ready(Err(()));
            }
        }
        Poll::Ready(Ok(()))
    }

    fn close(mut self, how: &'static str) {
        tracing::debug!(id = self.id, how, "dropped stream closed");
        if let Some(channel) = self.channel.take() {
            channel.cancel();
            channel.close_soon();
        }
    }
}

#[derive(Default)]
struct Bench {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    new: Vec<Ending>,
    /// Streams with the thread.
    held: usize,
    running: bool,
    woken: bool,
}

impl Wake for Bench {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        lock(&self.waiting).woken = true;
        self.changed.notify_one();
    }
}

fn bench() -> Arc<Bench> {
    static BENCH: Mutex<Option<Arc<Bench>>> = Mutex::new(None);
    Arc::clone(lock(&BENCH).get_or_insert_default())
}

/// Ends a stream, in its own time.
pub(super) fn end(mut ending: Ending) {
    // Most have nothing to wait for but the peer; some not even that.
    let mut cx = Context::from_waker(Waker::noop());
    if let Poll::Ready(result) = ending.poll(&mut cx) {
        ending.close(if result.is_ok() { "in order" } else { "lost" });
        return;
    }
    let bench = bench();
    let mut waiting = lock(&bench.waiting);
    if waiting.held + waiting.new.len() >= MOST {
        drop(waiting);
        ending.close("reset: too many at once");
        return;
    }
    waiting.new.push(ending);
    waiting.woken = true;
    if !waiting.running {
        let thread = Arc::clone(&bench);
        let spawned = std::thread::Builder::new()
            .name("weir-linger".to_owned())
            .spawn(move || serve(&thread));
        match spawned {
            Ok(_) => waiting.running = true,
            Err(error) => {
                tracing::warn!(%error, "streams are reset: no thread to end them in order");
                let lost = std::mem::take(&mut waiting.new);
                drop(waiting);
                for ending in lost {
                    ending.close("reset: no thread");
                }
                return;
            }
        }
    }
    drop(waiting);
    bench.changed.notify_one();
}

/// Streams of this process that were dropped and have not ended yet.
fn ending() -> usize {
    let bench = bench();
    let waiting = lock(&bench.waiting);
    waiting.held + waiting.new.len()
}

/// Waits until none of them is left, at most for `timeout`.
pub(crate) fn wait_ended(timeout: Duration) -> bool {
    // A time limit past what an Instant can say is none.
    let until = Instant::now().checked_add(timeout);
    while ending() > 0 {
        if until.is_some_and(|until| Instant::now() >= until) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

fn serve(bench: &Arc<Bench>) {
    let waker = Waker::from(Arc::clone(bench));
    let mut cx = Context::from_waker(&waker);
    let mut held: Vec<Ending> = Vec::new();
    loop {
        let mut waiting = lock(&bench.waiting);
        waiting.held = held.len();
        while !waiting.woken {
            let next = held.iter().map(|e| e.deadline).min();
            let left = next.map_or(IDLE, |at| at.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                break;
            }
            let (again, time) = bench
                .changed
                .wait_timeout(waiting, left)
                .unwrap_or_else(PoisonError::into_inner);
            waiting = again;
            if time.timed_out() && held.is_empty() && waiting.new.is_empty() {
                waiting.running = false;
                return;
            }
        }
        waiting.woken = false;
        held.append(&mut waiting.new);
        waiting.held = held.len();
        drop(waiting);
        let now = Instant::now();
        let mut still = Vec::with_capacity(held.len());
        for mut ending in held.drain(..) {
            match ending.poll(&mut cx) {
                Poll::Ready(Ok(())) => ending.close("in order"),
                Poll::Ready(Err(())) => ending.close("lost"),
                Poll::Pending if ending.deadline <= now => ending.close("reset: out of time"),
                Poll::Pending => still.push(ending),
            }
        }
        held = still;
    }
}
