//! Overlapped I/O with completion routines: an operation names what is called
//! when it is done.
//!
//! The routine is called on the thread that started the operation, and only
//! while that thread is in an alertable wait: so between two waits nothing else
//! runs, and what only this thread touches needs no lock. The routine starts the
//! next operation and returns; one that is done at once does not call its routine
//! from there, but in the next wait, so the stack doesn't grow.
//!
//! An alertable wait calls routines as long as there are any, those included that
//! come while it does so: with much to do it might never return, and nobody would
//! be accepted. So only so many operations are started between two waits; further
//! ones are kept and started before the next.
//!
//! The limits: a thread has to be in an alertable wait at all times it does
//! nothing else, and one thread does everything, however many cores there are:
//! an operation's routine can't be called by another thread. `AcceptEx` takes no
//! routine, so accepting has an event, which the same wait waits for; it returns
//! for either.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::os::windows::io::OwnedSocket;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::counters::{Counters, End};
use crate::error::Failed;
use crate::raw::accept::{self, Accept};
use crate::raw::event::{self, Event, Until, Woken};
use crate::raw::flight::{EventOp, Flight, Landed};
use crate::raw::routine::{self, Routine, RoutineOp};
use crate::server::{Job, no_delay};
use crate::turn::{Next, Turn};
use crate::{Error, Stop};

/// After an accept that failed for want of something, all would fail: for so long
/// none is tried. An alertable wait, too: this thread serves the connections.
const PAUSE: Duration = Duration::from_millis(10);

/// Operations that routines start between two waits.
const STARTS: usize = 256;

/// What all connections share, without a lock: all of it is one thread's.
struct Shared {
    sockets: RefCell<HashMap<u64, Arc<OwnedSocket>>>,
    /// Operations that routines may still start before the next wait.
    starts: Cell<usize>,
    /// Those that were not started for that reason.
    kept: RefCell<Vec<(RoutineOp<Connection>, Next)>>,
    stopping: Cell<bool>,
    counters: Arc<Counters>,
}

impl Shared {
    /// Starts the next operation of a connection.
    fn go_on(&self, mut op: RoutineOp<Connection>, next: Next) {
        let id = op.context().id;
        let started = match next {
            Next::Receive => op.receive(),
            Next::Send(range) => op.send(range),
            Next::Finished => return self.ended(id, Some(End::Finished)),
        };
        if let Err((_op, error)) = started {
            self.ended(id, Some(End::from(&error)));
        }
    }

    /// Before a wait: starts what was kept.
    fn start_kept(&self) {
        self.starts.set(STARTS);
        let kept = self.kept.take();
        for (op, next) in kept {
            self.go_on(op, next);
        }
    }

    fn ended(&self, id: u64, end: Option<End>) {
        // A statement of its own: a call on a socket may be alertable too, and a
        // routine called from within it would find the map borrowed.
        let socket = self.sockets.borrow_mut().remove(&id);
        if let (Some(socket), Some(End::Finished)) = (socket, end) {
            let _gone = SockRef::from(&*socket).shutdown(Shutdown::Write);
        }
        self.counters.ended(end);
    }
}

/// A connection: what its one operation carries.
struct Connection {
    id: u64,
    turn: Turn,
    shared: Rc<Shared>,
}

impl Routine for Connection {
    fn completed(mut op: RoutineOp<Self>, result: io::Result<usize>) {
        let connection = op.context();
        let shared = Rc::clone(&connection.shared);
        let id = connection.id;
        let bytes = match result {
            _ if shared.stopping.get() => return shared.ended(id, None),
            Ok(bytes) => bytes,
            Err(error) => return shared.ended(id, Some(End::from(&error))),
        };
        if connection.turn.sending() {
            shared.counters.sent(bytes);
        } else {
            shared.counters.received(bytes);
        }
        let next = connection.turn.completed(bytes);
        match shared.starts.get().checked_sub(1) {
            Some(left) => {
                shared.starts.set(left);
                shared.go_on(op, next);
            }
            None => shared.kept.borrow_mut().push((op, next)),
        }
    }
}

pub(crate) fn serve(job: Job) -> Result<(), Error> {
    let function = Accept::new(&job.listener).failed("WSAIoctl")?;
    let listener = Arc::new(OwnedSocket::from(job.listener));
    let stop = Arc::new(Event::new().failed("CreateEvent")?);
    let set = Arc::clone(&stop);
    job.stop.on_stop(move || set.set());
    job.counters.thread();

    let shared = Rc::new(Shared {
        sockets: RefCell::default(),
        starts: Cell::new(STARTS),
        kept: RefCell::default(),
        stopping: Cell::new(false),
        counters: Arc::clone(&job.counters),
    });
    let mut next_id = 0;
    let served = loop {
        if job.stop.is_asked() {
            break Ok(());
        }
        match accept_one(&function, &listener, &stop, &job.stop, &shared) {
            Ok(Some(socket)) => {
                job.counters.accepted();
                next_id += 1;
                connected(&shared, next_id, socket, job.options.buffer);
            }
            Ok(None) => {}
            Err(e) => {
                job.counters.accept_error();
                if End::from(&e) != End::Reset {
                    pause(&stop, &shared);
                }
            }
        }
    };
    // Each operation in flight has an Rc of what is shared; its routine has to
    // be called, in an alertable wait, before this thread may end.
    shared.stopping.set(true);
    for (mut op, _next) in shared.kept.take() {
        let id = op.context().id;
        shared.ended(id, None);
    }
    let sockets: Vec<_> = shared.sockets.borrow().values().cloned().collect();
    for socket in &sockets {
        let _gone = SockRef::from(&**socket).shutdown(Shutdown::Write);
        routine::cancel(socket);
    }
    let never = [Arc::new(Event::new().failed("CreateEvent")?)];
    while Rc::strong_count(&shared) > 1 {
        event::wait(&never, Until::EventOrRoutine).failed("WSAWaitForMultipleEvents")?;
    }
    served
}

/// A new connection: its first receive. From here on it goes by itself.
fn connected(shared: &Rc<Shared>, id: u64, socket: OwnedSocket, buffer: usize) {
    let socket = Arc::new(socket);
    let connection = Connection {
        id,
        turn: Turn::default(),
        shared: Rc::clone(shared),
    };
    let op = RoutineOp::new(Arc::clone(&socket), buffer, connection);
    shared.sockets.borrow_mut().insert(id, socket);
    if let Err((_op, error)) = op.receive() {
        shared.ended(id, Some(End::from(&error)));
    }
}

/// Lets the connections go on for so long.
fn pause(stop: &Arc<Event>, shared: &Shared) {
    let events = [Arc::clone(stop)];
    let until = Instant::now() + PAUSE;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        shared.start_kept();
        // Not a routine: the time is up, or the stop has come, or waiting failed,
        // which the next accept will say.
        let woken = event::wait(&events, Until::EventOrRoutineFor(left));
        if !matches!(woken, Ok(Woken::Routine)) || left.is_zero() {
            return;
        }
    }
}

/// Waits for a connection, or for the stop; then there is none. The routines of
/// all connections are called from within this wait.
fn accept_one(
    function: &Accept,
    listener: &Arc<OwnedSocket>,
    stopped: &Arc<Event>,
    stop: &Stop,
    shared: &Shared,
) -> io::Result<Option<OwnedSocket>> {
    let done = Arc::new(Event::new()?);
    let socket = function.socket()?;
    let op = EventOp::new(Arc::clone(listener), accept::BUFFER, Arc::clone(&done), ());
    let mut flight: Flight<()> = op.accept(function, &socket)?;
    let events = [Arc::clone(stopped), done];
    loop {
        // What ended the wait doesn't matter: it calls routines before it looks at
        // events, and with much to do there are always some. Both events are
        // looked at each time, or no connection would be accepted then.
        shared.start_kept();
        event::wait(&events, Until::EventOrRoutine)?;
        if stop.is_asked() {
            // The flight is cancelled by being dropped.
            return Ok(None);
        }
        match flight.land() {
            Landed::Done(_op, _bytes) => {
                let socket = accept::finish(socket, &**listener)?;
                no_delay(&socket);
                return Ok(Some(socket));
            }
            Landed::Failed(error) => return Err(error),
            Landed::Flying(still) => flight = still,
        }
    }
}
