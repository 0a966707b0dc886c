//! A thread of the client, and its connections.

use std::io::{self, Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::{CONNECT, END, Error, LONGEST_NS, LOOK, MEASURE, PATIENCE, Plan, histogram};

/// Connections a thread is setting up at once.
const CONNECTING: usize = 64;
/// The byte a connection begins with.
const GREETING: u8 = b'?';

/// What a thread has counted.
pub(super) struct Tally {
    pub(super) latency: Histogram<u64>,
    /// Messages of each connection.
    pub(super) answers: Vec<u64>,
}

/// Bytes of which no two parts are likely to be alike (xorshift).
pub(super) fn pattern(size: usize) -> Vec<u8> {
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

/// One thread's share of the connections.
pub(super) struct Worker {
    pub(super) plan: Plan,
    pub(super) message: Arc<[u8]>,
    pub(super) phase: Arc<AtomicU8>,
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
    /// Does what the phase says, until that is the end; tells once all its
    /// connections are there.
    pub(super) fn run(&self, share: usize, tell: &mpsc::Sender<bool>) -> Result<Tally, Error> {
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
        // Those that were answered, have sent their next message, and not looked
        // since whether that was answered too. They do after the others' turn.
        let (mut again, mut looking) = (Vec::new(), Vec::new());
        loop {
            let before = phase;
            phase = self.phase.load(Ordering::Acquire);
            if phase == END {
                // Also where another thread has failed and not all is set up here.
                break;
            }
            if before == CONNECT && phase != CONNECT {
                answered = Instant::now();
                for (at, connection) in connections.iter_mut().enumerate() {
                    connection.begin(phase);
                    again.push(at);
                }
            }
            let most = if again.is_empty() {
                LOOK
            } else {
                Duration::ZERO
            };
            poll_once(&mut poll, &mut events, most).map_err(system("polling"))?;
            let mut turn = |at: usize, again: &mut Vec<usize>| -> Result<(), Error> {
                if let Some(connection) = connections.get_mut(at)
                    && self.turn(connection, &mut scratch, &mut latency)?
                {
                    answered = Instant::now();
                    again.push(at);
                }
                Ok(())
            };
            if phase != CONNECT {
                for at in events.iter().map(|event| event.token().0) {
                    turn(at, &mut again)?;
                }
                std::mem::swap(&mut again, &mut looking);
                for at in looking.drain(..) {
                    turn(at, &mut again)?;
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
            poll_once(poll, events, LOOK).map_err(failed(connected))?;
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

    /// Moves what can be moved, up to a message that comes back whole: then the
    /// next one is sent, and this is true.
    fn turn(
        &self,
        connection: &mut Connection,
        scratch: &mut [u8],
        latency: &mut Histogram<u64>,
    ) -> Result<bool, Error> {
        let address = self.plan.address;
        let lost = |source| Error::Lost { address, source };
        loop {
            self.send(connection)?;
            let wanted = self.message.get(connection.received..).unwrap_or(&[]);
            let room = wanted.len().min(scratch.len());
            let into = scratch.get_mut(..room).unwrap_or(&mut []);
            let bytes = match connection.stream.read(into) {
                Ok(0) => return Err(lost(io::ErrorKind::UnexpectedEof.into())),
                Ok(bytes) => bytes,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
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
            let phase = self.phase.load(Ordering::Relaxed);
            if connection.counts && phase == MEASURE {
                let took = connection.began.elapsed().as_nanos();
                connection.answers += 1;
                latency.saturating_record(u64::try_from(took).unwrap_or(LONGEST_NS));
            }
            if phase == END {
                return Ok(false);
            }
            connection.begin(phase);
            self.send(connection)?;
            return Ok(true);
        }
    }

    /// Sends what there is room for of a connection's message.
    fn send(&self, connection: &mut Connection) -> Result<(), Error> {
        let address = self.plan.address;
        while let Some(left) = self.message.get(connection.sent..)
            && !left.is_empty()
        {
            match connection.stream.write(left) {
                Ok(bytes) => connection.sent += bytes,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Lost { address, source }),
            }
        }
        Ok(())
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

fn poll_once(poll: &mut Poll, events: &mut Events, most: Duration) -> io::Result<()> {
    match poll.poll(events, Some(most)) {
        Err(e) if e.kind() == io::ErrorKind::Interrupted => {
            events.clear();
            Ok(())
        }
        result => result,
    }
}
