//! What the models have in common: options, the listener, the way to stop.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use crate::{Counters, Error, Stop};

/// Bytes a buffer may have.
const BUFFER: std::ops::RangeInclusive<usize> = 1..=16 * 1024 * 1024;

/// One of Windows' ways to wait for sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Model {
    /// `select`: is one of these sockets ready?
    Select,
    /// `WSAAsyncSelect`: window messages.
    AsyncSelect,
    /// `WSAEventSelect`: an event a socket, 64 a thread.
    EventSelect,
    /// Overlapped operations, each with an event, 64 a thread.
    OverlappedEvent,
    /// Overlapped operations, each with a routine called in an alertable wait.
    OverlappedRoutine,
    /// A completion port, with a worker a core.
    Iocp,
}

impl Model {
    /// All, from the oldest on.
    pub const ALL: [Model; 6] = [
        Model::Select,
        Model::AsyncSelect,
        Model::EventSelect,
        Model::OverlappedEvent,
        Model::OverlappedRoutine,
        Model::Iocp,
    ];

    /// Its name on command lines.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Model::Select => "select",
            Model::AsyncSelect => "async-select",
            Model::EventSelect => "event-select",
            Model::OverlappedEvent => "overlapped-event",
            Model::OverlappedRoutine => "overlapped-routine",
            Model::Iocp => "iocp",
        }
    }

    /// The most connections one of its threads may hold, and how many it holds
    /// unless told otherwise. `None` where threads share all connections, or
    /// there is only one thread.
    #[must_use]
    pub fn per_thread(self) -> Option<usize> {
        match self {
            // WSA_MAXIMUM_WAIT_EVENTS, less the event that wakes the thread.
            Model::EventSelect | Model::OverlappedEvent => Some(63),
            // A queue holds 10,000 posted messages (MSDN "PostMessageW
            // function"); the module's text counts them.
            Model::AsyncSelect => Some(1_900),
            Model::Select | Model::OverlappedRoutine | Model::Iocp => None,
        }
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// No model has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no model is called {name}; there are: {}", Model::ALL.map(Model::as_str).join(", "))]
pub struct NoSuchModel {
    name: String,
}

impl FromStr for Model {
    type Err = NoSuchModel;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Model::ALL.into_iter().find(|m| m.as_str() == name);
        found.ok_or_else(|| NoSuchModel {
            name: name.to_owned(),
        })
    }
}

/// Bounds of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes of a connection's buffer, 1 to 16 MiB. The models that wait for
    /// readiness have one a thread and give a connection its own only while its
    /// client doesn't read.
    pub buffer: usize,
    /// Connections a thread holds, at most [`Model::per_thread`] of models that
    /// have it; others don't heed it.
    pub per_thread: Option<usize>,
    /// Threads of the completion port; one a core unless given.
    pub workers: Option<usize>,
    /// The completion port has a packet for each operation, also for one that is
    /// done at once, which otherwise its worker goes on with.
    pub every_packet: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            buffer: 16 * 1024,
            per_thread: None,
            workers: None,
            every_packet: false,
        }
    }
}

impl Options {
    fn check(&self, model: Model) -> Result<(), Error> {
        let within = |what, value, least, most| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            Err(Error::Bound {
                what,
                value,
                least,
                most,
            })
        };
        within("the buffer", self.buffer, *BUFFER.start(), *BUFFER.end())?;
        if let (Some(most), Some(asked)) = (model.per_thread(), self.per_thread) {
            within("the number of connections a thread", asked, 1, most)?;
        }
        if let Some(workers) = self.workers {
            within("the number of workers", workers, 1, 1024)?;
        }
        Ok(())
    }
}

/// An echo server that listens.
#[derive(Debug)]
pub struct Server {
    model: Model,
    #[cfg(windows)]
    listener: socket2::Socket,
    address: SocketAddr,
    options: Options,
    counters: Arc<Counters>,
    stop: Stop,
}

impl Server {
    /// Listens on `address`; port 0 lets the system choose.
    ///
    /// # Errors
    /// [`Error::NotWindows`] elsewhere, [`Error::Bound`] for options out of
    /// range, [`Error::Listen`] for an address that can't be had.
    pub fn bind(model: Model, address: SocketAddr, options: Options) -> Result<Server, Error> {
        options.check(model)?;
        #[cfg(not(windows))]
        {
            let _unused_here = address;
            Err(Error::NotWindows { model })
        }
        #[cfg(windows)]
        {
            let (listener, bound) =
                listen(address).map_err(|source| Error::Listen { address, source })?;
            Ok(Server {
                model,
                listener,
                address: bound,
                options,
                counters: Arc::default(),
                stop: Stop::default(),
            })
        }
    }

    /// Its model.
    #[must_use]
    pub fn model(&self) -> Model {
        self.model
    }

    /// The address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its bounds.
    #[must_use]
    pub fn options(&self) -> Options {
        self.options
    }

    /// What stops it.
    #[must_use]
    pub fn stop_handle(&self) -> Stop {
        self.stop.clone()
    }

    /// What it has done, also while it runs.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Serves until told to stop. Then the listener is closed, each connection
    /// is shut down and closed, and each thread has ended.
    ///
    /// # Errors
    /// [`Error::System`]: what the model itself stands on failed. A connection
    /// that fails ends alone.
    pub fn run(self) -> Result<(), Error> {
        #[cfg(not(windows))]
        {
            Err(Error::NotWindows { model: self.model })
        }
        #[cfg(windows)]
        {
            let job = Job {
                listener: self.listener,
                options: self.options,
                per_thread: self
                    .options
                    .per_thread
                    .or(self.model.per_thread())
                    .unwrap_or(usize::MAX),
                counters: self.counters,
                stop: self.stop,
            };
            match self.model {
                Model::Select => crate::select::serve(job),
                Model::AsyncSelect => crate::async_select::serve(job),
                Model::EventSelect => crate::event_select::serve(job),
                Model::OverlappedEvent => crate::overlapped_event::serve(job),
                Model::OverlappedRoutine => crate::overlapped_routine::serve(job),
                Model::Iocp => crate::iocp::serve(job),
            }
        }
    }
}

/// What a model is given.
#[cfg(windows)]
pub(crate) struct Job {
    pub(crate) listener: socket2::Socket,
    pub(crate) options: Options,
    /// Connections a thread may hold.
    pub(crate) per_thread: usize,
    pub(crate) counters: Arc<Counters>,
    pub(crate) stop: Stop,
}

/// Has small answers sent at once. A client that is gone already can't be given
/// that; its first receive says so.
#[cfg(windows)]
pub(crate) fn no_delay(socket: &impl std::os::windows::io::AsSocket) {
    let _gone = socket2::SockRef::from(socket).set_tcp_nodelay(true);
}

/// Clients that may wait to be accepted. Winsock takes less where the system
/// allows less.
#[cfg(windows)]
const BACKLOG: i32 = 1024;

#[cfg(windows)]
fn listen(address: SocketAddr) -> std::io::Result<(socket2::Socket, SocketAddr)> {
    use socket2::{Domain, Protocol, Socket, Type};
    use std::io;
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // On Windows a second program could bind the same port otherwise (MSDN
    // "Using SO_REUSEADDR and SO_EXCLUSIVEADDRUSE").
    crate::raw::option::exclusive(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let bound = socket.local_addr()?.as_socket();
    let bound = bound.ok_or_else(|| io::Error::other("the socket has no IP address"))?;
    Ok((socket, bound))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_models() {
        for model in Model::ALL {
            assert_eq!(model.as_str().parse(), Ok(model));
        }
        let error = "epoll".parse::<Model>().expect_err("no such model");
        assert!(error.to_string().contains("epoll") && error.to_string().contains("iocp"));
    }

    #[test]
    fn options_out_of_range_say_the_range() {
        let bind = |model, options| {
            let address = "127.0.0.1:0".parse().expect("an address");
            Server::bind(model, address, options).map(drop)
        };
        let options = |buffer, per_thread| Options {
            buffer,
            per_thread,
            ..Options::default()
        };
        for (model, options) in [
            (Model::Iocp, options(0, None)),
            (Model::Iocp, options(16 * 1024 * 1024 + 1, None)),
            (Model::EventSelect, options(1, Some(64))),
            (Model::OverlappedEvent, options(1, Some(0))),
        ] {
            let error = bind(model, options).expect_err("out of range");
            assert!(matches!(error, Error::Bound { .. }), "{error}");
        }
        let result = bind(Model::Iocp, Options::default());
        #[cfg(windows)]
        result.expect("listens");
        #[cfg(not(windows))]
        assert!(matches!(result, Err(Error::NotWindows { .. })));
    }
}
