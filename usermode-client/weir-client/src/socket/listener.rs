//! A TCP listener.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use weir_abi::SocketAcceptRequest;

use super::stream::Stream;
use super::waiters::{Place, Waiters, Wakes, wait_for};
use super::{Opening, Socket};
use crate::error::Error;
use crate::kind::Doing;
use crate::lock::lock;

/// A listening socket and its accepts under way. These are the listener's, one
/// for each that waits: a wait that is given up leaves its accept, and the
/// connection that comes to it is for whoever waits then, or comes next. Those
/// that nobody has taken when the listener goes are closed with it.
pub(crate) struct Listener {
    socket: Socket,
    started: Mutex<VecDeque<Opening>>,
    waiters: Arc<Waiters>,
}

impl Listener {
    pub(crate) fn new(socket: Socket) -> Listener {
        Listener {
            socket,
            started: Mutex::default(),
            waiters: Waiters::new(Wakes::First),
        }
    }

    pub(crate) const fn socket(&self) -> &Socket {
        &self.socket
    }

    /// A place among those that wait for a connection.
    pub(crate) fn place(&self) -> Place<'_> {
        self.waiters.place()
    }

    fn start(&self) -> Result<Opening, Error> {
        let request = SocketAcceptRequest::new(self.socket.id());
        Opening::start(self.socket.net(), &request, Doing::Accepting)
    }

    /// Waits for a connection, at most for `timeout`; `None` when the time is
    /// over. None is lost: it goes to who accepts next.
    pub(crate) fn accept(&self, timeout: Option<Duration>) -> Result<Option<Stream>, Error> {
        let mut place = self.place();
        wait_for(timeout, |cx| self.poll_accept(&mut place, cx)).transpose()
    }

    /// As [`Listener::accept`], for a task.
    pub(crate) fn poll_accept(
        &self,
        place: &mut Place<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Stream, Error>> {
        place.sleep(cx);
        let waker = Waker::from(Arc::clone(&self.waiters));
        let mut cx = Context::from_waker(&waker);
        let mut started = lock(&self.started);
        let mut at = 0;
        loop {
            if at == started.len() {
                // Each that waits has one under way.
                if at >= self.waiters.places() {
                    return Poll::Pending;
                }
                started.push_back(self.start()?);
            }
            if let Some(opening) = started.get_mut(at)
                && let Poll::Ready(socket) = opening.poll(&mut cx)
            {
                started.remove(at);
                place.served();
                return Poll::Ready(socket.map(Stream::new));
            }
            at += 1;
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // These are on handles of their own; each cancels and closes when it goes.
        lock(&self.started).clear();
        if let Some(channel) = self.socket.take_channel() {
            channel.cancel();
            channel.close_soon();
        }
    }
}
