//! `WSAAsyncSelect`: what happens to a socket arrives as a window message.
//!
//! A thread with a window that nobody sees pumps messages; each names a socket
//! and what happened to it. Made for programs whose one thread is at its message
//! loop anyway.
//!
//! A message is news, not state, and is not repeated: after `FD_READ` the next
//! one comes only after a `recv`, `FD_WRITE` only after a `send` did not fit,
//! `FD_CLOSE` once. So a `recv` is called only for an `FD_READ`: for a message of
//! another kind it would ask for a second `FD_READ` while the first is in the
//! queue, and a client could make the queue grow.
//!
//! A message may also be old: the socket it names may be closed by now, and its
//! number be another's. So each connection has a message of its own, by which it
//! is known; one that nobody has is old news. Messages are given anew in turn, of
//! 16,382, and long before one comes again what was posted with it has passed
//! through the queue: it is behind one wake-up at most, with which a thread gets
//! no more connections than it may hold.
//!
//! The limit: a queue holds 10,000 posted messages, and further ones are lost. A
//! connection may have three waiting, one of each kind, and the one that had its
//! place before may have left two. So a thread gets 1,900 connections, which
//! leaves 500 for wake-ups, for what a first look at a socket asks for, and for
//! the system's own messages; then another thread with another window is begun.

use std::collections::HashMap;
use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::Error;
use crate::counters::{Counters, End};
use crate::crew::{Crew, Inbox, Wake};
use crate::echo::{Echo, Wants};
use crate::error::Failed;
use crate::raw::event::{FD_ACCEPT, FD_CLOSE, FD_READ, FD_WRITE, Happened};
use crate::raw::window::{Message, NAMES, Name, Window};
use crate::server::{Job, no_delay};

/// After an accept that failed for want of something, all would fail. This
/// thread does nothing but accept.
const PAUSE: Duration = Duration::from_millis(10);

pub(crate) fn serve(job: Job) -> Result<(), Error> {
    let listener = TcpListener::from(job.listener);
    let window = Window::new().failed("CreateWindowEx")?;
    let waker = window.waker();
    job.stop.on_stop(move || waker.wake());
    window
        .watch(&listener, 0, FD_ACCEPT)
        .failed("WSAAsyncSelect")?;
    job.counters.thread();

    let counters = Arc::clone(&job.counters);
    let mut crew = Crew::new(job.per_thread, &job.counters, |inbox| {
        begin(inbox, Arc::clone(&counters), job.options.buffer)
    });
    while !job.stop.is_asked() {
        if window.next().failed("GetMessage")? == Message::Wake {
            continue;
        }
        // One accept a message: it makes Winsock post the next one, if there are
        // more. Not so under Wine if it fails, so then it is tried again.
        while !accept(&listener, &mut crew, &job.counters) && !job.stop.is_asked() {}
    }
    Ok(())
}

/// Takes a connection, if one waits. False if that failed, and may not the next
/// time.
fn accept<B: Fn(Arc<Inbox>) -> io::Result<(Wake, JoinHandle<()>)>>(
    listener: &TcpListener,
    crew: &mut Crew<B>,
    counters: &Counters,
) -> bool {
    let given = listener.accept().and_then(|(stream, _peer)| {
        no_delay(&stream);
        crew.give(stream)
    });
    match given {
        Ok(()) => counters.accepted(),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
        Err(e) => {
            counters.accept_error();
            if End::from(&e) != End::Reset {
                thread::sleep(PAUSE);
            }
            return false;
        }
    }
    true
}

/// Begins a thread with a window of its own. Only the thread can make it, so it
/// tells how that went.
fn begin(
    inbox: Arc<Inbox>,
    counters: Arc<Counters>,
    buffer: usize,
) -> io::Result<(Wake, JoinHandle<()>)> {
    let (made, window) = mpsc::channel();
    let thread = thread::Builder::new()
        .name("async-select".to_owned())
        .spawn(move || match Window::new() {
            Ok(window) => {
                let _taken = made.send(Ok(window.waker()));
                pump(&window, &inbox, &counters, buffer);
            }
            Err(e) => drop(made.send(Err(e))),
        })?;
    let waker = window
        .recv()
        .map_err(|_| io::Error::other("the thread ended"))??;
    Ok((Box::new(move || waker.wake()), thread))
}

struct Connection {
    stream: TcpStream,
    echo: Echo,
    /// An `FD_READ` has come, and no `recv` was called since.
    readable: bool,
}

/// The connections of one window.
struct Pump<'a> {
    window: &'a Window,
    inbox: &'a Inbox,
    counters: &'a Counters,
    connections: HashMap<Name, Connection>,
    /// The name given last.
    last: Name,
    scratch: Vec<u8>,
}

fn pump(window: &Window, inbox: &Inbox, counters: &Counters, buffer: usize) {
    let mut pump = Pump {
        window,
        inbox,
        counters,
        connections: HashMap::new(),
        last: 0,
        scratch: vec![0; buffer],
    };
    while !inbox.stopped() {
        match window.next() {
            Ok(Message::Network { name, event }) => pump.turn(name, event),
            Ok(Message::Wake) => {}
            // The queue is this thread's own; without it there is nothing to do
            // but to close what there is.
            Err(_) => break,
        }
        // Not only for a wake-up: one that found the queue full was lost.
        if inbox.rung() {
            while let Some(stream) = inbox.next() {
                pump.add(stream);
            }
        }
    }
    for connection in pump.connections.into_values() {
        let _gone = connection.stream.shutdown(Shutdown::Write);
        counters.ended(None);
    }
    while inbox.next().is_some() {
        counters.ended(None);
    }
}

impl Pump<'_> {
    /// A name that no connection has, and none had for long.
    fn name(&mut self) -> Name {
        loop {
            // 0 is the listener's, in the window it has.
            self.last = 1 + self.last % (NAMES - 1);
            // A thread holds fewer connections than there are names.
            if !self.connections.contains_key(&self.last) {
                return self.last;
            }
        }
    }

    /// A new connection. An accepted socket inherits what its listener's window
    /// is told; `watch` replaces it. What has come before that may have been
    /// announced to nobody, so it is looked at here.
    fn add(&mut self, stream: TcpStream) {
        let name = self.name();
        let events = FD_READ | FD_WRITE | FD_CLOSE;
        if let Err(e) = self.window.watch(&stream, name, events) {
            self.inbox.left();
            self.counters.ended(Some(End::from(&e)));
            return;
        }
        let mut connection = Connection {
            stream,
            echo: Echo::default(),
            readable: false,
        };
        let wants =
            connection
                .echo
                .first_turn(&mut connection.stream, &mut self.scratch, self.counters);
        self.connections.insert(name, connection);
        self.ended(name, wants);
    }

    /// Something happened to the connection of this name.
    fn turn(&mut self, name: Name, event: Happened) {
        // Otherwise old news of a socket that is closed.
        let Some(connection) = self.connections.get_mut(&name) else {
            return;
        };
        let wants = connection.turn(event, &mut self.scratch, self.counters);
        self.ended(name, wants);
    }

    /// Closes the connection if it is over.
    fn ended(&mut self, name: Name, wants: Wants) {
        let Wants::End(end) = wants else { return };
        if let Some(connection) = self.connections.remove(&name)
            && end == End::Finished
        {
            let _gone = connection.stream.shutdown(Shutdown::Write);
        }
        self.inbox.left();
        self.counters.ended(Some(end));
    }
}

impl Connection {
    fn turn(&mut self, event: Happened, scratch: &mut [u8], counters: &Counters) -> Wants {
        self.readable |= event.any(FD_READ);
        let closed = event.closed();
        if let Some(error) = &closed {
            // No FD_READ follows, whatever is left to read.
            let end = error.as_ref().map_or(End::Finished, End::from);
            self.echo.closing(end);
            self.readable = true;
        }
        if self.echo.holds() && closed.is_none() && !event.any(FD_WRITE) {
            // There is no room yet; FD_WRITE will tell.
            return Wants::Write;
        }
        match self.echo.flush(&mut self.stream, counters) {
            Wants::Read if self.readable => {
                self.readable = self.echo.is_closing();
                self.echo.turn(&mut self.stream, scratch, counters)
            }
            wants => wants,
        }
    }
}
