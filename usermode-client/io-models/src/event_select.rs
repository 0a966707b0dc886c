//! `WSAEventSelect`: what happens to a socket sets an event.
//!
//! A thread waits for the events of its sockets. The wait says only that one is
//! set; `WSAEnumNetworkEvents` says what happened, and resets it. As with window
//! messages this is news that is not repeated before the call that asks for more
//! (`recv` for `FD_READ`, a `send` that did not fit for `FD_WRITE`).
//!
//! The limit: a thread waits for at most 64 events, of which one is to wake it.
//! So a thread gets 63 connections, and then another is begun. And the wait names
//! the first event that is set: a busy socket in front would keep the others
//! from their turn, so after each wait those behind it are looked at too.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::Error;
use crate::counters::{Counters, End};
use crate::crew::{Crew, Inbox, Wake};
use crate::echo::{Echo, Wants};
use crate::error::Failed;
use crate::raw::event::{self, Event, FD_ACCEPT, FD_CLOSE, FD_READ, FD_WRITE, Until, Woken};
use crate::server::{Job, no_delay};

/// After an accept that failed for want of something, all would fail.
const PAUSE: Duration = Duration::from_millis(10);

pub(crate) fn serve(job: Job) -> Result<(), Error> {
    let listener = TcpListener::from(job.listener);
    let stop = Arc::new(Event::new().failed("CreateEvent")?);
    let arrived = Arc::new(Event::new().failed("CreateEvent")?);
    let set = Arc::clone(&stop);
    job.stop.on_stop(move || set.set());
    event::watch(&listener, &arrived, FD_ACCEPT).failed("WSAEventSelect")?;
    job.counters.thread();

    let counters = Arc::clone(&job.counters);
    let mut crew = Crew::new(job.per_thread, &job.counters, |inbox| {
        begin(inbox, Arc::clone(&counters), job.options.buffer)
    });
    let events = [stop, Arc::clone(&arrived)];
    while !job.stop.is_asked() {
        event::wait(&events, Until::Event).failed("WSAWaitForMultipleEvents")?;
        event::happened(&listener, &arrived).failed("WSAEnumNetworkEvents")?;
        loop {
            let given = listener.accept().and_then(|(stream, _peer)| {
                no_delay(&stream);
                crew.give(stream)
            });
            match given {
                Ok(()) => job.counters.accepted(),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => {
                    job.counters.accept_error();
                    if End::from(&e) != End::Reset {
                        thread::sleep(PAUSE);
                    }
                }
            }
            if job.stop.is_asked() {
                break;
            }
        }
    }
    Ok(())
}

fn begin(
    inbox: Arc<Inbox>,
    counters: Arc<Counters>,
    buffer: usize,
) -> io::Result<(Wake, JoinHandle<()>)> {
    let wake = Arc::new(Event::new()?);
    let woken = Arc::clone(&wake);
    let thread = thread::Builder::new()
        .name("event-select".to_owned())
        .spawn(move || watch(woken, &inbox, &counters, buffer))?;
    Ok((Box::new(move || wake.set()), thread))
}

struct Connection {
    stream: TcpStream,
    echo: Echo,
}

/// Serves the connections of one thread.
fn watch(wake: Arc<Event>, inbox: &Inbox, counters: &Counters, buffer: usize) {
    let mut scratch = vec![0; buffer];
    // The connection of an event has its place, less the one that wakes.
    let mut events = vec![wake];
    let mut connections: Vec<Connection> = Vec::new();
    // Each wait that names an event is followed by a look at those behind it.
    let (mut behind, mut until) = (0, Until::Event);
    while !inbox.stopped() {
        let at = match event::wait(events.get(behind..).unwrap_or(&[]), until) {
            Ok(Woken::Event(at)) => behind + at,
            Ok(Woken::Routine | Woken::None) => {
                (behind, until) = (0, Until::Event);
                continue;
            }
            // All events are ours and open, and not too many.
            Err(_) => break,
        };
        behind = at + 1;
        match at.checked_sub(1) {
            None => {
                // The first. Reset before the inbox is emptied: what comes after
                // that sets it again.
                events.iter().take(1).for_each(|wake| wake.reset());
                while let Some(stream) = inbox.next() {
                    match enlist(stream, &mut scratch, counters) {
                        Ok((event, connection)) => {
                            events.push(event);
                            connections.push(connection);
                        }
                        Err(end) => {
                            inbox.left();
                            counters.ended(Some(end));
                        }
                    }
                }
            }
            Some(place) => {
                let turned = events.get(at).zip(connections.get_mut(place));
                let ended = turned.and_then(|(event, c)| c.turn(event, &mut scratch, counters));
                if let Some(end) = ended {
                    connections.swap_remove(place);
                    events.swap_remove(at);
                    // The last has come to its place.
                    behind = at;
                    inbox.left();
                    counters.ended(Some(end));
                }
            }
        }
        until = Until::Now;
        if behind == events.len() {
            (behind, until) = (0, Until::Event);
        }
    }
    for connection in connections {
        let _gone = connection.stream.shutdown(Shutdown::Write);
        counters.ended(None);
    }
    while inbox.next().is_some() {
        counters.ended(None);
    }
}

/// A new connection, or how it has ended already. An accepted socket inherits its
/// listener's event; `watch` replaces it. What has come before that may have set
/// no event, so it is looked at here.
fn enlist(
    stream: TcpStream,
    scratch: &mut [u8],
    counters: &Counters,
) -> Result<(Arc<Event>, Connection), End> {
    let ended = |e: io::Error| End::from(&e);
    let event = Arc::new(Event::new().map_err(ended)?);
    event::watch(&stream, &event, FD_READ | FD_WRITE | FD_CLOSE).map_err(ended)?;
    let echo = Echo::default();
    let mut connection = Connection { stream, echo };
    let wants = connection
        .echo
        .first_turn(&mut connection.stream, scratch, counters);
    match connection.ended(wants) {
        None => Ok((event, connection)),
        Some(end) => Err(end),
    }
}

impl Connection {
    /// Does what happened asks for; how it ended, if it did.
    fn turn(&mut self, event: &Event, scratch: &mut [u8], counters: &Counters) -> Option<End> {
        let happened = match event::happened(&self.stream, event) {
            Ok(happened) => happened,
            Err(e) => return Some(End::from(&e)),
        };
        if !happened.any(FD_READ | FD_WRITE | FD_CLOSE) {
            return None;
        }
        if let Some(end) = happened.closed() {
            // No FD_READ follows, whatever is left to read.
            self.echo
                .closing(end.map_or(End::Finished, |error| End::from(&error)));
        }
        let wants = self.echo.turn(&mut self.stream, scratch, counters);
        self.ended(wants)
    }

    fn ended(&self, wants: Wants) -> Option<End> {
        match wants {
            Wants::Read | Wants::Write => None,
            Wants::End(end) => {
                if end == End::Finished {
                    let _gone = self.stream.shutdown(Shutdown::Write);
                }
                Some(end)
            }
        }
    }
}
