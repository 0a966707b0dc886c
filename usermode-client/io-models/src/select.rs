//! `select`: "which of these sockets is ready?", asked anew each time.
//!
//! One thread. Each turn it writes down all sockets it wants to read or write,
//! calls `select`, and looks through the answer. So a turn costs as much as there
//! are sockets, however few of them are ready; this is the limit that matters.
//! The other one, 64 sockets in a set, is only how long the headers make the
//! array: `FdSet` is longer when it has to be.
//!
//! `select` waits for nothing but sockets. What else is to end the wait has to
//! become one: here a UDP socket that is connected to itself.

use std::collections::HashMap;
use std::io;
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::windows::io::AsRawSocket;
use std::time::{Duration, Instant};

use crate::Error;
use crate::counters::End;
use crate::echo::{Echo, Wants};
use crate::error::Failed;
use crate::raw::select::{self, FdSet};
use crate::server::{Job, no_delay};

/// After an accept that failed for want of something, all would fail: for so long
/// none is tried. The listener is left out of the set meanwhile, or it would be
/// ready all the time; sleeping instead would keep the connections waiting too.
const PAUSE: Duration = Duration::from_millis(10);

/// Connections taken in a turn.
const ACCEPTS: usize = 64;

struct Connection {
    stream: TcpStream,
    echo: Echo,
    writing: bool,
}

pub(crate) fn serve(job: Job) -> Result<(), Error> {
    let listener = TcpListener::from(job.listener);
    listener.set_nonblocking(true).failed("ioctlsocket")?;
    let bell = bell().failed("making the socket that wakes select")?;
    let ring = bell.try_clone().failed("WSADuplicateSocket")?;
    // If the byte doesn't fit, one that wakes it as well is there already.
    job.stop.on_stop(move || drop(ring.send(&[1])));
    job.counters.thread();

    let mut connections: HashMap<u64, Connection> = HashMap::new();
    let mut scratch = vec![0; job.options.buffer];
    let (mut read, mut write) = (FdSet::new(), FdSet::new());
    let mut pause_until: Option<Instant> = None;
    while !job.stop.is_asked() {
        // `select` leaves only those that are ready in the sets, so they are
        // filled again each time.
        read.clear();
        write.clear();
        read.insert(&bell);
        pause_until = pause_until.filter(|until| *until > Instant::now());
        if pause_until.is_none() {
            read.insert(&listener);
        }
        for connection in connections.values() {
            let wanted = if connection.writing {
                &mut write
            } else {
                &mut read
            };
            wanted.insert(&connection.stream);
        }
        job.counters.room(read.room().max(write.room()));
        let most = pause_until.map(|_| PAUSE);
        select::wait(&mut read, &mut write, most).failed("select")?;

        for socket in read.sockets().chain(write.sockets()) {
            if socket == listener.as_raw_socket() {
                if !accept(&listener, &mut connections, &job.counters) {
                    pause_until = Some(Instant::now() + PAUSE);
                }
                continue;
            }
            let Some(connection) = connections.get_mut(&socket) else {
                // The bell; the loop looks whether to stop.
                continue;
            };
            match connection
                .echo
                .turn(&mut connection.stream, &mut scratch, &job.counters)
            {
                Wants::Read => connection.writing = false,
                Wants::Write => connection.writing = true,
                Wants::End(end) => {
                    if end == End::Finished {
                        // Closing would do it too: nothing is left unread.
                        let _gone = connection.stream.shutdown(Shutdown::Write);
                    }
                    connections.remove(&socket);
                    job.counters.ended(Some(end));
                }
            }
        }
    }
    for connection in connections.into_values() {
        let _gone = connection.stream.shutdown(Shutdown::Write);
        job.counters.ended(None);
    }
    Ok(())
}

/// Takes the connections that wait, so many at most: the others have their turn
/// too. False if there is something missing to take one.
fn accept(
    listener: &TcpListener,
    connections: &mut HashMap<u64, Connection>,
    counters: &crate::Counters,
) -> bool {
    for _ in 0..ACCEPTS {
        let accepted = listener.accept().and_then(|(stream, _peer)| {
            stream.set_nonblocking(true)?;
            no_delay(&stream);
            Ok(stream)
        });
        match accepted {
            Ok(stream) => {
                counters.accepted();
                let connection = Connection {
                    stream,
                    echo: Echo::default(),
                    writing: false,
                };
                connections.insert(connection.stream.as_raw_socket(), connection);
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return true,
            // The client is gone again: the next one.
            Err(e) if End::from(&e) == End::Reset => counters.accept_error(),
            Err(_) => {
                counters.accept_error();
                return false;
            }
        }
    }
    true
}

fn bell() -> io::Result<UdpSocket> {
    let bell = UdpSocket::bind("127.0.0.1:0")?;
    bell.connect(bell.local_addr()?)?;
    bell.set_nonblocking(true)?;
    Ok(bell)
}
