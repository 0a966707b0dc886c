//! A client that puts load on an echo and measures how it answers.
//!
//! Each connection sends a message, waits until all of it is back, compares it,
//! and sends the next: one message on its way a connection, so connections and
//! size are the load. A few threads hold all connections, without blocking, and
//! each connection gets its turn: one that is answered while it is looked at waits
//! until the others were.
//!
//! This is a closed loop: while a server stalls, nothing more is sent to it, so
//! the messages that would have waited are never begun, and the latencies don't
//! know of them ("coordinated omission"). They tell how long what was sent took,
//! not what clients would see that come by themselves at a steady rate.

mod worker;

#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use worker::{Tally, Worker, pattern};

/// Connections there may be: what one address has ports for.
pub const CONNECTIONS: std::ops::RangeInclusive<usize> = 1..=60_000;
/// Bytes a message may have.
pub const SIZE: std::ops::RangeInclusive<usize> = 1..=16 * 1024 * 1024;
/// How long all of the connecting may take, and how long a server may be silent
/// before that is an error.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a thread with nothing to do looks for what it is to do.
const LOOK: Duration = Duration::from_millis(20);
/// Latencies told apart: 1 ns to 100 s, with three digits.
const LONGEST_NS: u64 = 100_000_000_000;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The echo.
    pub address: SocketAddr,
    /// Connections held at once, of [`CONNECTIONS`].
    pub connections: usize,
    /// Bytes of a message, of [`SIZE`].
    pub size: usize,
    /// How long messages are sent before they count.
    pub warm_up: Duration,
    /// How long they count.
    pub duration: Duration,
    /// Threads of the client, at least one.
    pub threads: usize,
}

/// Moments a caller may want to measure something else at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// All connections are there and were answered once, by a byte.
    Connected,
    /// From here on messages count.
    Began,
    /// They don't any more. The connections are still there.
    Ended,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// How long setting the connections up took, a first answer on each included.
    pub connecting: Duration,
    /// How long messages counted.
    pub elapsed: Duration,
    /// Messages that came back whole while they counted.
    pub messages: u64,
    /// Nanoseconds from the first byte sent to the last one back.
    pub latency: Histogram<u64>,
    /// Messages of the connection that was answered the least. A latency is
    /// known only of what was answered, so this tells what that can't.
    pub fewest: u64,
    /// Messages of the connection that was answered the most.
    pub most: u64,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A bound was out of range.
    #[error("{what} is {value}; it is to be {least} to {most}")]
    Bound {
        /// Which one.
        what: &'static str,
        /// What it was.
        value: usize,
        /// The smallest it may be.
        least: usize,
        /// The largest it may be.
        most: usize,
    },
    /// A connection was not set up, or a first byte not sent back.
    #[error("connecting to {address} failed after {connected} connections of a thread: {source}{}", advice(.source))]
    Connect {
        /// The echo.
        address: SocketAddr,
        /// How many that thread had set up.
        connected: usize,
        /// What the system says.
        source: io::Error,
    },
    /// A connection ended while it was used.
    #[error("{address} ended a connection: {source}")]
    Lost {
        /// The echo.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The bytes that came back were others.
    #[error("{address} sent back other bytes than it got: it is no echo")]
    Wrong {
        /// The echo.
        address: SocketAddr,
    },
    /// Nothing came back.
    #[error("{address} has sent nothing back within {} s", .after.as_secs())]
    Silent {
        /// The echo.
        address: SocketAddr,
        /// How long.
        after: Duration,
    },
    /// It was told to stop.
    #[error("stopped before it was done")]
    Stopped,
    /// A call failed which does not fail unless the system is out of something.
    #[error("{call} failed: {source}")]
    System {
        /// What was done.
        call: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

/// What to do about it, where that is known.
fn advice(error: &io::Error) -> &'static str {
    // EMFILE, WSAEMFILE.
    match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::ConnectionRefused, _) => "; nothing listens there",
        (_, Some(24 | 10024)) => {
            "; raise the limit of open files (ulimit -n) above the number of connections"
        }
        (io::ErrorKind::AddrNotAvailable, _) => "; this host has no more ports for that address",
        _ => "",
    }
}

const CONNECT: u8 = 0;
const WARM_UP: u8 = 1;
const MEASURE: u8 = 2;
const END: u8 = 3;

impl Plan {
    fn check(&self) -> Result<(), Error> {
        let within = |what, value, range: std::ops::RangeInclusive<usize>| {
            if range.contains(&value) {
                return Ok(());
            }
            Err(Error::Bound {
                what,
                value,
                least: *range.start(),
                most: *range.end(),
            })
        };
        within("the number of connections", self.connections, CONNECTIONS)?;
        within("the size of a message", self.size, SIZE)?;
        within("the number of threads", self.threads, 1..=1024)
    }

    /// Does it; `at` is called at each moment. Ends soon after `stop` is set.
    ///
    /// # Errors
    /// The first that any connection has: a number is worth nothing if some
    /// connections were not answered. [`Error::Stopped`].
    pub fn run(&self, stop: &AtomicBool, mut at: impl FnMut(Moment)) -> Result<Report, Error> {
        self.check()?;
        let phase = Arc::new(AtomicU8::new(CONNECT));
        let message: Arc<[u8]> = pattern(self.size).into();
        let threads = self.threads.min(self.connections);
        let (tell, told) = mpsc::channel();
        let first_error = Arc::new(Mutex::new(None));
        let start = Instant::now();
        let workers: Vec<_> = (0..threads)
            .map(|n| {
                let share =
                    self.connections / threads + usize::from(n < self.connections % threads);
                let worker = Worker {
                    plan: *self,
                    message: Arc::clone(&message),
                    phase: Arc::clone(&phase),
                };
                let tell = tell.clone();
                let first_error = Arc::clone(&first_error);
                thread::spawn(move || match worker.run(share, &tell) {
                    Ok(tally) => Some(tally),
                    Err(error) => {
                        // Later ones may come of it.
                        let mut first = first_error.lock().unwrap_or_else(PoisonError::into_inner);
                        first.get_or_insert(error);
                        // Ends the others' wait.
                        let _over = tell.send(false);
                        None
                    }
                })
            })
            .collect();
        drop(tell);
        let ready = all_ready(&told, threads, stop);
        let connecting = start.elapsed();
        let mut elapsed = Duration::ZERO;
        if ready {
            at(Moment::Connected);
            phase.store(WARM_UP, Ordering::Release);
            let fine = pause(&told, self.warm_up, stop);
            if fine {
                at(Moment::Began);
                let began = Instant::now();
                phase.store(MEASURE, Ordering::Release);
                pause(&told, self.duration, stop);
                elapsed = began.elapsed();
                // Before `at`: it may take its time, and nothing counts then.
                phase.store(WARM_UP, Ordering::Release);
                at(Moment::Ended);
            }
        }
        phase.store(END, Ordering::Release);
        let mut report = Report {
            connecting,
            elapsed,
            messages: 0,
            latency: histogram()?,
            fewest: u64::MAX,
            most: 0,
        };
        for worker in workers {
            match worker.join() {
                Ok(Some(Tally { latency, answers })) => {
                    report.messages += latency.len();
                    report.latency += latency;
                    for count in answers {
                        report.fewest = report.fewest.min(count);
                        report.most = report.most.max(count);
                    }
                }
                Ok(None) => {}
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        let mut first_error = first_error.lock().unwrap_or_else(PoisonError::into_inner);
        // What is lost because of the stop is not worth telling.
        match first_error.take() {
            _ if stop.load(Ordering::Relaxed) => Err(Error::Stopped),
            Some(error) => Err(error),
            None => Ok(report),
        }
    }
}

/// Waits until all threads have told that they are ready; false if one tells of an
/// error, or it is to stop.
fn all_ready(told: &mpsc::Receiver<bool>, threads: usize, stop: &AtomicBool) -> bool {
    let mut ready = 0;
    while ready < threads {
        match told.recv_timeout(LOOK) {
            Ok(true) => ready += 1,
            Err(RecvTimeoutError::Timeout) if !stop.load(Ordering::Relaxed) => {}
            _ => return false,
        }
    }
    true
}

/// Waits so long, or until a thread tells of an error, or it is to stop: then
/// false.
fn pause(told: &mpsc::Receiver<bool>, time: Duration, stop: &AtomicBool) -> bool {
    // None: longer than the clock goes.
    let until = Instant::now().checked_add(time);
    loop {
        let left = until.map_or(Duration::MAX, |until| {
            until.saturating_duration_since(Instant::now())
        });
        match told.recv_timeout(left.min(LOOK)) {
            Err(RecvTimeoutError::Timeout) if stop.load(Ordering::Relaxed) => return false,
            Err(RecvTimeoutError::Timeout) if left <= LOOK => return true,
            Err(RecvTimeoutError::Timeout) => {}
            _ => return false,
        }
    }
}

fn histogram() -> Result<Histogram<u64>, Error> {
    Histogram::new_with_bounds(1, LONGEST_NS, 3).map_err(|e| Error::System {
        call: "making a histogram",
        source: io::Error::other(e),
    })
}
