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
use std::time::Duration;

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

/// After all accepts have failed for want of something.
const PAUSE: Duration = Duration::from_millis(10);

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
    /// Accepts that could not be started for want of something. Tried again when
    /// a connection ends or is accepted.
    owed: AtomicUsize,
    /// To find the connections when the server stops.
    sockets: Mutex<HashMap<u64, PortSocket<Context>>>,
    next_id: AtomicU64,
    stopping: AtomicBool,
    workers: usize,
    buffer: usize,
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
        sockets: Mutex::default(),
        next_id: AtomicU64::new(0),
        stopping: AtomicBool::new(false),
        workers,
        buffer: job.options.buffer,
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
            let packets = self.port.wait().failed("GetQueuedCompletionStatusEx")?;
            for done in packets.done {
                self.completed(done);
            }
            if packets.woken && !self.stopping.swap(true, Ordering::SeqCst) {
                self.cancel_all();
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

    fn completed(&self, Done { mut op, result }: Done<Context>) {
        match op.context() {
            Context::Accept(_) => {
                self.owed.fetch_add(1, Ordering::AcqRel);
                // First the next accept: clients are waiting.
                self.start_accepts();
                let Context::Accept(socket) = op.into_context() else {
                    return;
                };
                match result {
                    Ok(_) => self.connected(socket),
                    Err(_) if self.stopping() => {}
                    Err(_) => self.counters.accept_error(),
                }
            }
            Context::Connection { id, turn } => {
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
                self.go_on(id, op, next);
            }
        }
    }

    fn go_on(&self, id: u64, op: PortOp<Context>, next: Next) {
        let started = match next {
            Next::Receive => self.port.receive(op),
            Next::Send(range) => self.port.send(op, range),
            Next::Finished => return self.ended(id, Some(End::Finished)),
        };
        match started {
            // Stopping may have looked for it before it was in flight.
            Ok(()) if self.stopping() => self.cancel(id),
            Ok(()) => {}
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
        let Ok(socket) = adopted else {
            return self.counters.accept_error();
        };
        socket.no_delay();
        self.counters.accepted();
        let turn = Turn::default();
        let op = PortOp::new(&socket, self.buffer, Context::Connection { id, turn });
        self.sockets().insert(id, socket);
        self.go_on(id, op, Next::Receive);
    }

    fn ended(&self, id: u64, end: Option<End>) {
        let socket = self.sockets().remove(&id);
        if let (Some(socket), Some(End::Finished)) = (socket, end) {
            let _gone = socket.shutdown();
        }
        self.counters.ended(end);
        if self.owed.load(Ordering::Acquire) != 0 {
            self.start_accepts();
        }
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
                self.counters.accept_error();
                if self.owed.fetch_add(1, Ordering::AcqRel) + 1 < ACCEPTS {
                    return;
                }
                // None is in flight: no packet would bring us here again.
                thread::sleep(PAUSE);
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
        started.map_err(|(_op, error)| error)
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
