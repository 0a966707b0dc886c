//! Overlapped I/O with events: an operation sets an event when it is done.
//!
//! Here nothing is said to be ready: a receive is started, with the buffer it is
//! to fill, and done some time later. Until then the buffer is the kernel's.
//! `Flight` is an operation in that state; it gives the buffer back when the
//! operation has completed, and dropping it cancels first.
//!
//! A connection has one operation at a time, a receive or the send of what was
//! received. So a client that doesn't read is not read from.
//!
//! The limit: a thread waits for at most 64 events, of which one is to wake it.
//! So a thread gets 63 connections, and then another is begun. Connections are
//! accepted by `AcceptEx`, which is an overlapped operation too.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::windows::io::OwnedSocket;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::SockRef;

use crate::Error;
use crate::counters::{Counters, End};
use crate::crew::{Crew, Inbox, Wake};
use crate::error::Failed;
use crate::raw::accept::{self, Accept};
use crate::raw::event::{self, Event, Until, Woken};
use crate::raw::flight::{EventOp, Flight, Landed};
use crate::server::{Job, no_delay};
use crate::turn::{Next, Turn};

/// After an accept that failed for want of something, all would fail.
const PAUSE: Duration = Duration::from_millis(10);

pub(crate) fn serve(job: Job) -> Result<(), Error> {
    let function = Accept::new(&job.listener).failed("WSAIoctl")?;
    let listener = Arc::new(OwnedSocket::from(job.listener));
    let stop = Arc::new(Event::new().failed("CreateEvent")?);
    let set = Arc::clone(&stop);
    job.stop.on_stop(move || set.set());
    job.counters.thread();

    let counters = Arc::clone(&job.counters);
    let mut crew = Crew::new(job.per_thread, &job.counters, |inbox| {
        begin(inbox, Arc::clone(&counters), job.options.buffer)
    });
    while !job.stop.is_asked() {
        let accepted = accept_one(&function, &listener, &stop);
        match accepted.and_then(|stream| stream.map_or(Ok(()), |stream| crew.give(stream))) {
            Ok(()) if job.stop.is_asked() => {}
            Ok(()) => job.counters.accepted(),
            Err(e) => {
                job.counters.accept_error();
                if End::from(&e) != End::Reset {
                    thread::sleep(PAUSE);
                }
            }
        }
    }
    Ok(())
}

/// Waits for a connection, or for `stop`; then there is none.
fn accept_one(
    function: &Accept,
    listener: &Arc<OwnedSocket>,
    stop: &Arc<Event>,
) -> io::Result<Option<TcpStream>> {
    let done = Arc::new(Event::new()?);
    let socket = function.socket()?;
    let op = EventOp::new(Arc::clone(listener), accept::BUFFER, Arc::clone(&done), ());
    let mut flight = op.accept(function, &socket)?;
    let events = [Arc::clone(stop), done];
    loop {
        if event::wait(&events, Until::Event)? == Woken::Event(0) {
            // The flight is cancelled by being dropped.
            return Ok(None);
        }
        match flight.land() {
            Landed::Done(_op, _bytes) => {
                let stream = TcpStream::from(accept::finish(socket, &**listener)?);
                no_delay(&stream);
                return Ok(Some(stream));
            }
            Landed::Failed(error) => return Err(error),
            Landed::Flying(still) => flight = still,
        }
    }
}

fn begin(
    inbox: Arc<Inbox>,
    counters: Arc<Counters>,
    buffer: usize,
) -> io::Result<(Wake, JoinHandle<()>)> {
    let wake = Arc::new(Event::new()?);
    let woken = Arc::clone(&wake);
    let thread = thread::Builder::new()
        .name("overlapped-event".to_owned())
        .spawn(move || watch(woken, &inbox, &counters, buffer))?;
    Ok((Box::new(move || wake.set()), thread))
}

struct Connection {
    socket: Arc<OwnedSocket>,
    /// None only while it is being turned.
    flight: Option<Flight<Turn>>,
}

/// Serves the connections of one thread.
fn watch(wake: Arc<Event>, inbox: &Inbox, counters: &Counters, buffer: usize) {
    // The connection of an event has its place, less the one that wakes.
    let mut events = vec![wake];
    let mut connections: Vec<Connection> = Vec::new();
    while !inbox.stopped() {
        let first = match event::wait(&events, Until::Event) {
            Ok(Woken::Event(at)) => at,
            Ok(Woken::Routine | Woken::None) => continue,
            // All events are ours and open, and not too many.
            Err(_) => break,
        };
        if first == 0 {
            // Reset before the inbox is emptied: what comes after that sets it
            // again.
            events.iter().take(1).for_each(|wake| wake.reset());
            while let Some(stream) = inbox.next() {
                match enlist(stream, buffer) {
                    Ok((event, connection)) => {
                        events.push(event);
                        connections.push(connection);
                    }
                    Err(e) => {
                        inbox.left();
                        counters.ended(Some(End::from(&e)));
                    }
                }
            }
        }
        // The wait names the first that is set. Those behind it are asked too, or
        // a busy one in front would keep them waiting; whether an operation has
        // completed is seen without a call of the system.
        let mut place = first.saturating_sub(1);
        while let Some(connection) = connections.get_mut(place) {
            match connection.turn(counters) {
                None => place += 1,
                Some(end) => {
                    if end == End::Finished {
                        let _gone = SockRef::from(&*connection.socket).shutdown(Shutdown::Write);
                    }
                    connections.swap_remove(place);
                    events.swap_remove(place + 1);
                    inbox.left();
                    counters.ended(Some(end));
                }
            }
        }
    }
    for connection in connections {
        let _gone = SockRef::from(&*connection.socket).shutdown(Shutdown::Write);
        counters.ended(None);
    }
    while inbox.next().is_some() {
        counters.ended(None);
    }
}

fn enlist(stream: TcpStream, buffer: usize) -> io::Result<(Arc<Event>, Connection)> {
    let socket = Arc::new(OwnedSocket::from(stream));
    let event = Arc::new(Event::new()?);
    let op = EventOp::new(
        Arc::clone(&socket),
        buffer,
        Arc::clone(&event),
        Turn::default(),
    );
    let flight = Some(op.receive()?);
    Ok((event, Connection { socket, flight }))
}

impl Connection {
    /// Goes on if the operation in flight has completed; how it ended, if it did.
    fn turn(&mut self, counters: &Counters) -> Option<End> {
        let (mut op, bytes) = match self.flight.take()?.land() {
            Landed::Done(op, bytes) => (op, bytes),
            Landed::Failed(error) => return Some(End::from(&error)),
            Landed::Flying(still) => {
                self.flight = Some(still);
                return None;
            }
        };
        if op.context().sending() {
            counters.sent(bytes);
        } else {
            counters.received(bytes);
        }
        let started = match op.context().completed(bytes) {
            Next::Receive => op.receive(),
            Next::Send(range) => op.send(range),
            Next::Finished => return Some(End::Finished),
        };
        match started {
            Ok(flight) => {
                self.flight = Some(flight);
                None
            }
            Err(error) => Some(End::from(&error)),
        }
    }
}
