//! `WSAAsyncSelect`: what happens to a socket arrives as a window message.
//!
//! A thread with a window that nobody sees pumps messages; each names a socket
//! and what happened to it. Made for programs whose one thread is at its message
//! loop anyway.
//!
//! A message is news, not state, and is not repeated: after `FD_READ` the next
//! one comes only after a `recv`, `FD_WRITE` only after a `send` did not fit,
//! `FD_CLOSE` once. It may also be old: the socket it names may be closed by now,
//! and its number be another's. So a message only makes us look, and what the
//! calls on the socket give is what counts.
//!
//! The limit: a queue holds 10,000 posted messages, and further ones are lost. A
//! connection may have three waiting. So a thread gets 3,333 connections, and
//! then another thread with another window is begun.

use std::collections::HashMap;
use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::windows::io::AsRawSocket;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::Error;
use crate::counters::{Counters, End};
use crate::crew::{Crew, Inbox, Wake};
use crate::echo::{Echo, Wants};
use crate::error::Failed;
use crate::raw::event::{FD_ACCEPT, FD_CLOSE, FD_READ, FD_WRITE};
use crate::raw::window::{Message, Window};
use crate::server::{Job, no_delay};

/// After an accept that failed for want of something, all would fail.
const PAUSE: Duration = Duration::from_millis(10);

pub(crate) fn serve(job: Job) -> Result<(), Error> {
    let listener = TcpListener::from(job.listener);
    let window = Window::new().failed("CreateWindowEx")?;
    let waker = window.waker();
    job.stop.on_stop(move || waker.wake());
    window
        .watch(&listener, FD_ACCEPT)
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
        // more.
        let given = listener.accept().and_then(|(stream, _peer)| {
            no_delay(&stream);
            crew.give(stream)
        });
        match given {
            Ok(()) => job.counters.accepted(),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
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
}

/// The connections of one window.
struct Pump<'a> {
    window: &'a Window,
    inbox: &'a Inbox,
    counters: &'a Counters,
    connections: HashMap<u64, Connection>,
    scratch: Vec<u8>,
}

fn pump(window: &Window, inbox: &Inbox, counters: &Counters, buffer: usize) {
    let mut pump = Pump {
        window,
        inbox,
        counters,
        connections: HashMap::new(),
        scratch: vec![0; buffer],
    };
    while !inbox.stopped() {
        match window.next() {
            Ok(Message::Network { socket, event }) => pump.turn(socket, event.closed()),
            Ok(Message::Wake) => {
                while let Some(stream) = inbox.next() {
                    pump.add(stream);
                }
            }
            // The queue is this thread's own; without it there is nothing to do
            // but to close what there is.
            Err(_) => break,
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
    /// A new connection. An accepted socket inherits what its listener's window
    /// is told; `watch` replaces it. What has come before that may have been
    /// announced to nobody, so it is looked at here.
    fn add(&mut self, stream: TcpStream) {
        if let Err(e) = self.window.watch(&stream, FD_READ | FD_WRITE | FD_CLOSE) {
            self.inbox.left();
            self.counters.ended(Some(End::from(&e)));
            return;
        }
        let socket = stream.as_raw_socket();
        let echo = Echo::default();
        let mut connection = Connection { stream, echo };
        let wants =
            connection
                .echo
                .first_turn(&mut connection.stream, &mut self.scratch, self.counters);
        self.connections.insert(socket, connection);
        self.ended(socket, wants);
    }

    /// Something happened to this socket, perhaps that the peer closed.
    fn turn(&mut self, socket: u64, closed: Option<Option<io::Error>>) {
        // Otherwise old news of a socket that is closed.
        let Some(connection) = self.connections.get_mut(&socket) else {
            return;
        };
        if let Some(error) = closed {
            // No FD_READ follows, whatever is left to read. Should this be news
            // of a former socket of this number, the read below says so by
            // having nothing.
            let end = error.map_or(End::Finished, |error| End::from(&error));
            connection.echo.closing(end);
        }
        let wants = connection
            .echo
            .turn(&mut connection.stream, &mut self.scratch, self.counters);
        self.ended(socket, wants);
    }

    /// Closes the connection if it is over.
    fn ended(&mut self, socket: u64, wants: Wants) {
        let Wants::End(end) = wants else { return };
        if let Some(connection) = self.connections.remove(&socket)
            && end == End::Finished
        {
            let _gone = connection.stream.shutdown(Shutdown::Write);
        }
        self.inbox.left();
        self.counters.ended(Some(end));
    }
}
