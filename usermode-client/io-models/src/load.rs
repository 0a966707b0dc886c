//! A client that puts load on an echo and measures how it answers.
//!
//! Each connection sends a message, waits until all of it is back, compares it,
//! and sends the next: one message on its way a connection, so connections and
//! size are the load. A few threads hold all connections, without blocking.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

/// Connections there may be: what one address has ports for.
pub const CONNECTIONS: std::ops::RangeInclusive<usize> = 1..=60_000;
/// Bytes a message may have.
pub const SIZE: std::ops::RangeInclusive<usize> = 1..=16 * 1024 * 1024;
/// Connections a thread is setting up at once.
const CONNECTING: usize = 64;
/// How long all of the connecting may take, and how long a server may be silent
/// before that is an error.
const PATIENCE: Duration = Duration::from_secs(60);
/// The byte a connection begins with.
const GREETING: u8 = b'?';
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

    /// Does it; `at` is called at each moment.
    ///
    /// # Errors
    /// The first that any connection has: a number is worth nothing if some
    /// connections were not answered.
    pub fn run(&self, mut at: impl FnMut(Moment)) -> Result<Report, Error> {
        self.check()?;
        let phase = Arc::new(AtomicU8::new(CONNECT));
        let message: Arc<[u8]> = pattern(self.size).into();
        let threads = self.threads.min(self.connections);
        let (tell, told) = mpsc::channel();
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
                thread::spawn(move || {
                    let result = worker.run(share, &tell);
                    if result.is_err() {
                        // Ends the others' wait; the error is the thread's result.
                        let _over = tell.send(false);
                    }
                    result
                })
            })
            .collect();
        drop(tell);
        let ready = told.iter().take(threads).all(|ready| ready);
        let connecting = start.elapsed();
        let mut elapsed = Duration::ZERO;
        if ready {
            at(Moment::Connected);
            phase.store(WARM_UP, Ordering::Release);
            let fine = pause(&told, self.warm_up);
            if fine {
                at(Moment::Began);
                let began = Instant::now();
                phase.store(MEASURE, Ordering::Release);
                pause(&told, self.duration);
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
        let mut failed = None;
        for worker in workers {
            match worker.join() {
                Ok(Ok(Tally { latency, answers })) => {
                    report.messages += latency.len();
                    report.latency += latency;
                    for count in answers {
                        report.fewest = report.fewest.min(count);
                        report.most = report.most.max(count);
                    }
                }
                Ok(Err(error)) => failed = failed.or(Some(error)),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(report),
        }
    }
}

/// Waits so long, or until a thread tells of an error.
fn pause(told: &mpsc::Receiver<bool>, time: Duration) -> bool {
    matches!(told.recv_timeout(time), Err(RecvTimeoutError::Timeout))
}

fn histogram() -> Result<Histogram<u64>, Error> {
    Histogram::new_with_bounds(1, LONGEST_NS, 3).map_err(|e| Error::System {
        call: "making a histogram",
        source: io::Error::other(e),
    })
}

/// What a thread has counted.
struct Tally {
    latency: Histogram<u64>,
    /// Messages of each connection.
    answers: Vec<u64>,
}

/// Bytes of which no two parts are likely to be alike (xorshift).
fn pattern(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..size)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

struct Worker {
    plan: Plan,
    message: Arc<[u8]>,
    phase: Arc<AtomicU8>,
}

/// How far a connection is set up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Connecting,
    /// A byte was sent: that the system has set a connection up doesn't mean
    /// that the server has accepted it.
    Greeting,
    Up,
}

struct Connection {
    stream: TcpStream,
    step: Step,
    sent: usize,
    received: usize,
    began: Instant,
    /// Whether it began while messages counted.
    counts: bool,
    /// Messages that counted.
    answers: u64,
}

impl Worker {
    fn run(&self, share: usize, tell: &mpsc::Sender<bool>) -> Result<Tally, Error> {
        let system = |call| move |source| Error::System { call, source };
        let mut poll = Poll::new().map_err(system("making a poll"))?;
        let mut events = Events::with_capacity(1024);
        let mut connections = Vec::with_capacity(share);
        self.connect(share, &mut poll, &mut events, &mut connections)?;
        // The receiver is there until all threads have ended.
        let _taken = tell.send(true);

        let mut latency = histogram()?;
        let mut scratch = vec![0; self.plan.size.min(64 * 1024)];
        let mut phase = CONNECT;
        let mut answered = Instant::now();
        while phase != END {
            let before = phase;
            phase = self.phase.load(Ordering::Acquire);
            if before == CONNECT && phase != CONNECT {
                answered = Instant::now();
                for connection in &mut connections {
                    connection.begin(phase);
                    self.turn(connection, &mut scratch, &mut latency)?;
                }
            }
            poll_once(&mut poll, &mut events).map_err(system("polling"))?;
            for event in &events {
                if let Some(connection) = connections.get_mut(event.token().0)
                    && phase != CONNECT
                    && self.turn(connection, &mut scratch, &mut latency)?
                {
                    answered = Instant::now();
                }
            }
            if phase == CONNECT {
                answered = Instant::now();
            } else if answered.elapsed() > PATIENCE {
                let (address, after) = (self.plan.address, PATIENCE);
                return Err(Error::Silent { address, after });
            }
        }
        let answers = connections.iter().map(|c| c.answers).collect();
        Ok(Tally { latency, answers })
    }

    /// Sets the connections up, some at once.
    fn connect(
        &self,
        share: usize,
        poll: &mut Poll,
        events: &mut Events,
        connections: &mut Vec<Connection>,
    ) -> Result<(), Error> {
        let address = self.plan.address;
        let mut connected = 0;
        let failed = |connected| {
            move |source| Error::Connect {
                address,
                connected,
                source,
            }
        };
        let mut answered = Instant::now();
        while connected < share {
            while connections.len() < share && connections.len() - connected < CONNECTING {
                let mut stream = TcpStream::connect(address).map_err(failed(connected))?;
                poll.registry()
                    .register(
                        &mut stream,
                        Token(connections.len()),
                        Interest::READABLE | Interest::WRITABLE,
                    )
                    .map_err(failed(connected))?;
                connections.push(Connection {
                    stream,
                    step: Step::Connecting,
                    sent: 0,
                    received: 0,
                    began: Instant::now(),
                    counts: false,
                    answers: 0,
                });
            }
            poll_once(poll, events).map_err(failed(connected))?;
            for event in &*events {
                let Some(connection) = connections.get_mut(event.token().0) else {
                    continue;
                };
                if connection.step != Step::Up && connection.is_up().map_err(failed(connected))? {
                    connected += 1;
                    answered = Instant::now();
                }
            }
            if answered.elapsed() > PATIENCE {
                return Err(failed(connected)(io::ErrorKind::TimedOut.into()));
            }
            if self.phase.load(Ordering::Acquire) == END {
                // Another thread has failed.
                break;
            }
        }
        Ok(())
    }

    /// Moves what can be moved; whether a message came back.
    fn turn(
        &self,
        connection: &mut Connection,
        scratch: &mut [u8],
        latency: &mut Histogram<u64>,
    ) -> Result<bool, Error> {
        let address = self.plan.address;
        let lost = |source| Error::Lost { address, source };
        let mut answered = false;
        loop {
            while let Some(left) = self.message.get(connection.sent..)
                && !left.is_empty()
            {
                match connection.stream.write(left) {
                    Ok(bytes) => connection.sent += bytes,
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(lost(e)),
                }
            }
            let wanted = self.message.get(connection.received..).unwrap_or(&[]);
            let room = wanted.len().min(scratch.len());
            let into = scratch.get_mut(..room).unwrap_or(&mut []);
            let bytes = match connection.stream.read(into) {
                Ok(0) => return Err(lost(io::ErrorKind::UnexpectedEof.into())),
                Ok(bytes) => bytes,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(answered),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(lost(e)),
            };
            if scratch.get(..bytes) != wanted.get(..bytes) {
                return Err(Error::Wrong { address });
            }
            connection.received += bytes;
            if connection.received < self.message.len() {
                continue;
            }
            answered = true;
            let phase = self.phase.load(Ordering::Relaxed);
            if connection.counts && phase == MEASURE {
                let took = connection.began.elapsed().as_nanos();
                connection.answers += 1;
                latency.saturating_record(u64::try_from(took).unwrap_or(LONGEST_NS));
            }
            if phase == END {
                return Ok(answered);
            }
            connection.begin(phase);
        }
    }
}

impl Connection {
    /// Whether it is set up by now, and was answered a first time.
    fn is_up(&mut self) -> io::Result<bool> {
        if self.step == Step::Connecting {
            if let Some(error) = self.stream.take_error()? {
                return Err(error);
            }
            match self.stream.peer_addr() {
                Ok(_peer) => {}
                Err(e) if e.kind() == io::ErrorKind::NotConnected => return Ok(false),
                Err(e) => return Err(e),
            }
            self.stream.set_nodelay(true)?;
            // A connection that was just set up has room for a byte.
            self.stream.write_all(&[GREETING])?;
            self.step = Step::Greeting;
        }
        let mut back = [0];
        match self.stream.read(&mut back) {
            Ok(1) if back == [GREETING] => self.step = Step::Up,
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => return Err(io::Error::other("it is no echo: another byte came back")),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
        Ok(self.step == Step::Up)
    }

    fn begin(&mut self, phase: u8) {
        self.sent = 0;
        self.received = 0;
        self.began = Instant::now();
        self.counts = phase == MEASURE;
    }
}

fn poll_once(poll: &mut Poll, events: &mut Events) -> io::Result<()> {
    match poll.poll(events, Some(LOOK)) {
        Err(e) if e.kind() == io::ErrorKind::Interrupted => {
            events.clear();
            Ok(())
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// A server with a thread a connection, which does `serve` with each.
    fn server(serve: fn(std::net::TcpStream) -> io::Result<()>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
        let address = listener.local_addr().expect("has an address");
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || serve(stream));
            }
        });
        address
    }

    fn echo(stream: std::net::TcpStream) -> io::Result<()> {
        io::copy(&mut &stream, &mut &stream).map(drop)
    }

    fn plan(address: SocketAddr, connections: usize, size: usize) -> Plan {
        Plan {
            address,
            connections,
            size,
            warm_up: Duration::from_millis(20),
            duration: Duration::from_millis(200),
            threads: 2,
        }
    }

    #[test]
    fn an_echo_is_measured_between_the_moments() {
        let mut moments = Vec::new();
        for (connections, size) in [(1, 1), (20, 100), (3, 300_000)] {
            moments.clear();
            let plan = plan(server(echo), connections, size);
            let report = plan.run(|moment| moments.push(moment)).expect("runs");
            assert!(report.messages > 0, "{connections} x {size}");
            assert_eq!(report.messages, report.latency.len());
            let evenly = report.messages / connections as u64;
            assert!(report.fewest <= evenly && report.most >= evenly && report.most > 0);
            assert!(report.elapsed >= plan.duration);
            assert!(report.latency.max() < 1_000_000_000 * 5);
            assert_eq!(moments, [Moment::Connected, Moment::Began, Moment::Ended]);
        }
    }

    #[test]
    fn what_is_no_echo_is_an_error() {
        let wrong = server(|mut stream| {
            let mut buffer = [0; 64];
            stream.read_exact(&mut buffer[..1])?;
            stream.write_all(&buffer[..1])?;
            let count = stream.read(&mut buffer)?;
            buffer[count - 1] ^= 1;
            stream.write_all(&buffer[..count])?;
            thread::sleep(Duration::from_secs(1));
            Ok(())
        });
        let error = plan(wrong, 2, 10).run(|_| ()).expect_err("no echo");
        assert!(matches!(error, Error::Wrong { .. }), "{error}");
        let closing = server(|mut stream| {
            let mut buffer = [0; 5];
            stream.read_exact(&mut buffer[..1])?;
            stream.write_all(&buffer[..1])?;
            stream.read(&mut buffer).map(drop)
        });
        let error = plan(closing, 2, 10).run(|_| ()).expect_err("no echo");
        assert!(matches!(error, Error::Lost { .. }), "{error}");
        let mute = server(|mut stream| stream.read(&mut [0]).map(drop));
        let error = plan(mute, 2, 10).run(|_| ()).expect_err("no echo");
        assert!(matches!(error, Error::Connect { .. }), "{error}");
    }

    #[test]
    fn nobody_there_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
        let address = listener.local_addr().expect("has an address");
        drop(listener);
        let error = plan(address, 1, 1).run(|_| ()).expect_err("refused");
        assert!(error.to_string().contains("nothing listens"), "{error}");
        let error = plan(address, 0, 1).run(|_| ()).expect_err("none");
        assert!(matches!(error, Error::Bound { .. }), "{error}");
    }
}
