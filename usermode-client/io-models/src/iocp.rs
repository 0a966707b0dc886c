//! A completion port: packets of completed operations in one queue, taken by as
//! many threads as there are cores.
//!
//! Any worker takes the next packet, of any socket: no thread belongs to a
//! connection, none waits while another has more than it can do, and the port
//! lets only so many run as there are cores. The packet names the operation,
//! which carries all the worker has to know.
//!
//! A connection has one operation in flight at a time, a receive or the send of
//! what was received. So its packets come one after the other, whichever worker
//! takes them, and it needs no lock; and a client that doesn't read is not read
//! from.
//!
//! An operation may be done at once: what is to be received has come already, a
//! send fits. A packet is posted for it all the same, to be taken in its turn,
//! unless the socket was told otherwise (`PortSocket::be_quick`); then whoever
//! started it goes on with it, which saves the way through the port. Only so
//! often in a row, though: a connection that always has something to do would
//! keep its worker from the others.
//!
//! Connections are accepted by `AcceptEx`, some of them always in flight, into
//! sockets made beforehand; an accept is a packet like any other.
//!
//! The limit: memory. Each connection has a buffer in flight even when idle,
//! which is locked in memory meanwhile.

use std::collections::HashMap;
use std::io;
use std::os::windows::io::OwnedSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use socket2::Socket;

use crate::Error;
use crate::counters::{Counters, End};
use crate::error::Failed;
use crate::raw::accept::{self, Accept};
use crate::raw::port::{Done, Port, PortOp, PortSocket};
use crate::server::Job;
use crate::turn::{Next, Turn};

/// Accepts in flight: clients that connect at once without one having to wait
/// until another accept is started. More wait in the backlog.
const ACCEPTS: usize = 64;

/// After an accept that failed for want of something, all would fail: for so long
/// none is tried, unless a connection ends meanwhile. No worker sleeps for it:
/// they wait for packets that much less long.
const PAUSE: Duration = Duration::from_millis(10);

/// Operations of a connection that are done at once which a worker goes on with
/// before it looks at the packets of others: a send, and the receive after it. So
/// each gets a message's turn. With more, a client that is quick to send its next
/// message keeps the worker, and the others wait for milliseconds.
const AT_ONCE: usize = 2;

/// What an operation carries.
enum Context {
    /// The socket that the connection is accepted into.
    Accept(OwnedSocket),
    /// The connection it belongs to.
    Connection { id: u64, turn: Turn },
}

struct Shared {
    port: Arc<Port<Context>>,
    listener: PortSocket<Context>,
    accept: Accept,
    /// Accepts that are not in flight: that could not be started for want of
    /// something, or failed for it.
    owed: AtomicUsize,
    /// When they are tried again, in milliseconds after `began`.
    try_at: AtomicU64,
    began: Instant,
    /// To find the connections when the server stops.
    sockets: Mutex<HashMap<u64, PortSocket<Context>>>,
    next_id: AtomicU64,
    stopping: AtomicBool,
    workers: usize,
    buffer: usize,
    every_packet: bool,
    counters: Arc<Counters>,
}

pub(crate) fn serve(job: Job) -> Result<(), Error> {
    let workers = job
        .options
        .workers
        .or_else(|| thread::available_parallelism().ok().map(Into::into))
        .unwrap_or(1);
    let port = Arc::new(Port::new(workers).failed("CreateIoCompletionPort")?);
    let accept = Accept::new(&job.listener).failed("WSAIoctl")?;
    let listener = port
        .adopt(Socket::into(job.listener))
        .failed("CreateIoCompletionPort")?;
    let shared = Shared {
        port: Arc::clone(&port),
        listener,
        accept,
        owed: AtomicUsize::new(ACCEPTS),
        try_at: AtomicU64::new(0),
        began: Instant::now(),
        sockets: Mutex::default(),
        next_id: AtomicU64::new(0),
        stopping: AtomicBool::new(false),
        workers,
        buffer: job.options.buffer,
        every_packet: job.options.every_packet,
        counters: job.counters,
    };
    shared.start_accepts();
    job.stop.on_stop(move || port.wake());
    thread::scope(|scope| {
        let threads: Vec<_> = (1..workers)
            .map(|_| {
                thread::Builder::new()
                    .name("iocp".to_owned())
                    .spawn_scoped(scope, || shared.work())
            })
            .collect();
        let served = shared.work();
        for thread in threads {
            let ended = thread.failed("CreateThread")?.join();
            ended.unwrap_or(Ok(()))?;
        }
        served
    })
}

impl Shared {
    /// A worker: takes packets until the server stops and all have come.
    fn work(&self) -> Result<(), Error> {
        self.counters.thread();
        loop {
            let most = self.owes().then_some(PAUSE);
            let packets = self.port.wait(most);
            let packets = packets.failed("GetQueuedCompletionStatusEx")?;
            for done in packets.done {
                self.completed(done);
            }
            if packets.woken && !self.stopping.swap(true, Ordering::SeqCst) {
                self.cancel_all();
            }
            if self.owes() && self.millis() >= self.try_at.load(Ordering::Relaxed) {
                self.start_accepts();
            }
            if self.stopping() && self.port.flying() == 0 {
                // The last packet has come; the others may be waiting for one.
                for _ in 1..self.workers {
                    self.port.wake();
                }
                return Ok(());
            }
        }
    }

    fn completed(&self, done: Done<Context>) {
        let Done { mut op, result } = done;
        if let Context::Connection { .. } = op.context() {
            return self.go_on(Done { op, result });
        }
        self.owed.fetch_add(1, Ordering::AcqRel);
        match &result {
            Err(error) if !self.stopping() && End::from(error) != End::Reset => self.pause(),
            // First the next accept: clients are waiting.
            _ => self.start_accepts(),
        }
        match (result, op.into_context()) {
            (Ok(_), Context::Accept(socket)) => self.connected(socket),
            (Err(_), _) if self.stopping() => {}
            _ => self.counters.accept_error(),
        }
    }

    /// Goes on with a connection whose operation has completed, until one is in
    /// flight.
    fn go_on(&self, mut done: Done<Context>) {
        for _ in 0..AT_ONCE {
            match self.next(done) {
                Some(at_once) => done = at_once,
                None => return,
            }
        }
        // Others first. If there is no memory for the packet, on with it.
        while let Some(back) = self.port.requeue(done) {
            match self.next(back) {
                Some(at_once) => done = at_once,
                None => return,
            }
        }
    }

    /// Starts what follows an operation that has completed. If that is done at
    /// once, it comes back.
    fn next(&self, done: Done<Context>) -> Option<Done<Context>> {
        let Done { mut op, result } = done;
        let Context::Connection { id, turn } = op.context() else {
            return None;
        };
        let (id, sending) = (*id, turn.sending());
        let bytes = match result {
            _ if self.stopping() => return self.ended(id, None),
            Ok(bytes) => bytes,
            Err(error) => return self.ended(id, Some(End::from(&error))),
        };
        if sending {
            self.counters.sent(bytes);
        } else {
            self.counters.received(bytes);
        }
        let next = turn.completed(bytes);
        self.start(id, op, next)
    }

    fn start(&self, id: u64, op: PortOp<Context>, next: Next) -> Option<Done<Context>> {
        let started = match next {
            Next::Receive => self.port.receive(op),
            Next::Send(range) => self.port.send(op, range),
            Next::Finished => return self.ended(id, Some(End::Finished)),
        };
        match started {
            // Stopping may have looked for it before it was in flight.
            Ok(None) if self.stopping() => {
                self.cancel(id);
                None
            }
            Ok(at_once) => at_once,
            Err((_op, error)) => self.ended(id, Some(End::from(&error))),
        }
    }

    /// A new connection: its first receive.
    fn connected(&self, socket: OwnedSocket) {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let adopted = self
            .listener
            .finish_accept(socket)
            .and_then(|socket| self.port.adopt(socket));
        let Ok(mut socket) = adopted else {
            return self.counters.accept_error();
        };
        socket.no_delay();
        if !self.every_packet {
            socket.be_quick();
        }
        self.counters.accepted();
        let turn = Turn::default();
        let op = PortOp::new(&socket, self.buffer, Context::Connection { id, turn });
        self.sockets().insert(id, socket);
        if let Some(done) = self.start(id, op, Next::Receive) {
            self.go_on(done);
        }
    }

    /// Ends a connection; nothing comes after that.
    fn ended(&self, id: u64, end: Option<End>) -> Option<Done<Context>> {
        let socket = self.sockets().remove(&id);
        if let (Some(socket), Some(End::Finished)) = (socket, end) {
            let _gone = socket.shutdown();
        }
        self.counters.ended(end);
        if self.owes() {
            self.start_accepts();
        }
        None
    }

    /// Whether there are accepts to be started.
    fn owes(&self) -> bool {
        self.owed.load(Ordering::Acquire) != 0
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Something is missing to accept: it is tried again later. The worker that
    /// comes here sees to it, as it waits for packets next, and no longer than
    /// until then.
    fn pause(&self) {
        let pause = u64::try_from(PAUSE.as_millis()).unwrap_or(u64::MAX);
        self.try_at
            .store(self.millis().saturating_add(pause), Ordering::Relaxed);
    }

    /// Starts the accepts that are owed, as far as that succeeds.
    fn start_accepts(&self) {
        let take = |owed: usize| owed.checked_sub(1);
        while !self.stopping() {
            if self
                .owed
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, take)
                .is_err()
            {
                return;
            }
            if self.start_accept().is_err() {
                self.owed.fetch_add(1, Ordering::AcqRel);
                self.counters.accept_error();
                return self.pause();
            }
        }
    }

    fn start_accept(&self) -> io::Result<()> {
        let context = Context::Accept(self.accept.socket()?);
        let op = PortOp::new(&self.listener, accept::BUFFER, context);
        let started = self.port.accept(op, &self.accept, |context| match context {
            Context::Accept(socket) => Some(socket),
            Context::Connection { .. } => None,
        });
        if self.stopping() {
            // The cancelling of all may have been before it was in flight.
            self.listener.cancel();
        }
        // The listener isn't quick: there is a packet in any case.
        started.map(drop).map_err(|(_op, error)| error)
    }

    /// Whether the server stops. What starts an operation asks this afterwards:
    /// either it sees the flag then, or the cancelling of all, which comes after
    /// the flag is set, sees the operation.
    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    fn cancel(&self, id: u64) {
        if let Some(socket) = self.sockets().get(&id) {
            socket.cancel();
        }
    }

    fn cancel_all(&self) {
        self.listener.cancel();
        for socket in self.sockets().values() {
            let _gone = socket.shutdown();
            socket.cancel();
        }
    }

    fn sockets(&self) -> MutexGuard<'_, HashMap<u64, PortSocket<Context>>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
