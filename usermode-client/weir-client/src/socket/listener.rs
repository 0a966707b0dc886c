//! A TCP listener.

use std::sync::Mutex;
use std::task::{Context, Poll};
use std::time::Duration;

use weir_abi::SocketAcceptRequest;

use super::stream::Stream;
use super::{Opening, Socket};
use crate::error::Error;
use crate::kind::Doing;
use crate::lock::lock;

/// A listening socket, and accepts that were started and not waited out.
pub(crate) struct Listener {
    socket: Socket,
    /// A wait that was given up leaves its accept here, with the connection that
    /// may have come to it.
    started: Mutex<Vec<Opening>>,
}

impl Listener {
    pub(crate) const fn new(socket: Socket) -> Listener {
        Listener {
            socket,
            started: Mutex::new(Vec::new()),
        }
    }

    pub(crate) const fn socket(&self) -> &Socket {
        &self.socket
    }

    /// An accept under way: one that was left, or a new one.
    pub(crate) fn begin(&self) -> Result<Opening, Error> {
        if let Some(left) = lock(&self.started).pop() {
            return Ok(left);
        }
        let request = SocketAcceptRequest::new(self.socket.id());
        Opening::start(self.socket.net(), &request, Doing::Accepting)
    }

    /// Leaves an accept to who comes next.
    pub(crate) fn leave(&self, opening: Opening) {
        lock(&self.started).push(opening);
    }

    /// Waits for a connection, at most for `timeout`; `None` when the time is
    /// over. None is lost: it goes to who accepts next.
    pub(crate) fn accept(&self, timeout: Option<Duration>) -> Result<Option<Stream>, Error> {
        let mut opening = self.begin()?;
        match opening.wait(timeout) {
            Some(socket) => Ok(Some(Stream::new(socket?))),
            None => {
                self.leave(opening);
                Ok(None)
            }
        }
    }

    /// As [`Listener::accept`], for a task.
    pub(crate) fn poll_accept(
        &self,
        opening: &mut Option<Opening>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Stream, Error>> {
        if opening.is_none() {
            *opening = Some(self.begin()?);
        }
        let Some(started) = opening else {
            return Poll::Pending;
        };
        match started.poll(cx) {
            Poll::Ready(socket) => {
                *opening = None;
                Poll::Ready(socket.map(Stream::new))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // These are on handles of their own; each cancels when it goes.
        lock(&self.started).clear();
        if let Some(channel) = self.socket.take_channel() {
            channel.cancel();
            channel.close_soon();
        }
    }
}
