//! A UDP socket.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

use weir_abi::{DatagramFlags, DatagramRecord, datagram_read, limits};
use zerocopy::IntoBytes;

use super::waiters::{Place, Waiters, Wakes, wait_for};
use super::{Socket, failed};
use crate::buffers::LARGE;
use crate::channel::{Completion, Pending};
use crate::device::bad_reply;
use crate::error::Error;
use crate::kind::Doing;
use crate::lock::lock;
use crate::wake::wake;

/// A datagram that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its bytes that are in the buffer.
    pub len: usize,
    /// Who sent it.
    pub from: SocketAddr,
    /// Whether it was a multicast or a broadcast, and whether the buffer was too
    /// short for it: then the rest is lost.
    pub flags: DatagramFlags,
}

/// A socket for datagrams. At most one read is outstanding; it belongs to the
/// socket, so what it brings is never lost. Any number of threads and tasks may
/// receive.
pub(crate) struct Datagrams {
    socket: Socket,
    reading: Mutex<Option<Box<dyn Pending>>>,
    readers: Arc<Waiters>,
    room: Arc<Room>,
}

/// How many sends are outstanding, of those the driver has room for. It is known
/// here, as the driver refuses one too many only when that has been queued: then
/// nobody may wait for its end any more.
struct Room {
    taken: Mutex<u32>,
    /// Who waits until there are fewer.
    senders: Arc<Waiters>,
}

impl Room {
    fn take(self: &Arc<Self>) -> Option<Arc<Share>> {
        let mut taken = lock(&self.taken);
        if *taken >= limits::MAX_SOCKET_WRITES {
            return None;
        }
        *taken += 1;
        Some(Arc::new(Share {
            room: Arc::clone(self),
            of: Mutex::new(Of {
                ended: false,
                owner: None,
            }),
        }))
    }
}

/// The share of one send in the room. The send's end wakes it, whether or not
/// somebody waits for that, and it gives the room back and wakes who does.
struct Share {
    room: Arc<Room>,
    of: Mutex<Of>,
}

struct Of {
    ended: bool,
    owner: Option<Waker>,
}

impl Share {
    /// Whom the end is to wake.
    fn sleep(&self, cx: &Context<'_>) {
        let mut of = lock(&self.of);
        if !of.ended {
            of.owner = Some(cx.waker().clone());
        }
    }

    /// It has ended; that may be told more than once.
    fn end(&self) {
        let owner = {
            let mut of = lock(&self.of);
            if std::mem::replace(&mut of.ended, true) {
                return;
            }
            of.owner.take()
        };
        *lock(&self.room.taken) -= 1;
        self.room.senders.ring();
        // Not under the lock: a waker may run the task at once.
        if let Some(owner) = owner {
            wake(owner);
        }
    }
}

impl Wake for Share {
    fn wake(self: Arc<Self>) {
        self.end();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.end();
    }
}

/// A send: of a datagram that waits for room, or that is under way. Dropped, one
/// that is under way is sent all the same.
pub(crate) struct Sending<'a> {
    socket: &'a Datagrams,
    bytes: &'a [u8],
    to: Option<SocketAddr>,
    /// Among those that wait for room.
    place: Place<'a>,
    started: Option<Started>,
}

struct Started {
    pending: Box<dyn Pending>,
    share: Arc<Share>,
}

impl Started {
    fn poll(&mut self, cx: &Context<'_>) -> Poll<Completion> {
        self.share.sleep(cx);
        let waker = Waker::from(Arc::clone(&self.share));
        let completion = ready!(self.pending.poll(&mut Context::from_waker(&waker)));
        self.share.end();
        Poll::Ready(completion)
    }
}

impl Datagrams {
    pub(crate) fn new(socket: Socket) -> Datagrams {
        Datagrams {
            socket,
            reading: Mutex::new(None),
            readers: Waiters::new(Wakes::First),
            room: Arc::new(Room {
                taken: Mutex::new(0),
                senders: Waiters::new(Wakes::First),
            }),
        }
    }

    pub(crate) const fn socket(&self) -> &Socket {
        &self.socket
    }

    /// The read that is outstanding, started if there is none.
    fn begin<'a>(
        &self,
        reading: &'a mut Option<Box<dyn Pending>>,
    ) -> Result<&'a mut Box<dyn Pending>, Error> {
        if reading.is_none() {
            // Whole datagrams, whatever room who asks has: another may ask next.
            let buffer = self.socket.buffers().take(LARGE);
            let read = self.socket.channel()?.read(buffer);
            *reading = Some(read.map_err(|e| failed(Doing::Receiving, e))?);
        }
        reading.as_mut().ok_or(Error::AfterShutdown)
    }

    fn settle(&self, completion: Completion, buf: &mut [u8]) -> Result<Received, Error> {
        let Completion { result, buffer } = completion;
        let received = match result {
            Ok(len) => unpack(buffer.get(..len).unwrap_or(&buffer), buf),
            Err(failure) => Err(failed(Doing::Receiving, failure)),
        };
        self.socket.buffers().give_back(buffer);
        if let Ok(received) = &received {
            tracing::trace!(id = self.socket.id(), ?received, "received");
        }
        received
    }

    /// A place among those that wait for a datagram.
    pub(crate) fn place(&self) -> Place<'_> {
        self.readers.place()
    }

    /// Receives a datagram. When the time is over the read stays, and the
    /// datagram it brings is for the next.
    pub(crate) fn recv(
        &self,
        buf: &mut [u8],
        timeout: Option<Duration>,
    ) -> Result<Received, Error> {
        let mut place = self.place();
        let received = wait_for(timeout, |cx| self.poll_recv(&mut place, cx, buf));
        received.unwrap_or_else(|| {
            Err(Error::TimedOut {
                doing: Doing::Receiving,
                after: timeout.unwrap_or_default(),
            })
        })
    }

    /// As [`Datagrams::recv`], for a task.
    pub(crate) fn poll_recv(
        &self,
        place: &mut Place<'_>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<Result<Received, Error>> {
        place.sleep(cx);
        let waker = Waker::from(Arc::clone(&self.readers));
        let mut cx = Context::from_waker(&waker);
        let mut reading = lock(&self.reading);
        let completion = ready!(self.begin(&mut reading)?.poll(&mut cx));
        *reading = None;
        drop(reading);
        place.served();
        // Whoever waits next has to start the next read.
        self.readers.ring();
        Poll::Ready(self.settle(completion, buf))
    }

    /// A send of a datagram, to the connected peer if no address is given; not
    /// started yet.
    pub(crate) fn sending<'a>(&'a self, bytes: &'a [u8], to: Option<SocketAddr>) -> Sending<'a> {
        Sending {
            socket: self,
            bytes,
            to,
            place: self.room.senders.place(),
            started: None,
        }
    }

    /// Starts a send; `None` if there is no room for another until one has ended.
    fn start_send(&self, bytes: &[u8], to: Option<SocketAddr>) -> Result<Option<Started>, Error> {
        let too_long = Error::DatagramTooLong { len: bytes.len() };
        let record = u32::try_from(bytes.len())
            .ok()
            .filter(|len| *len <= limits::MAX_DATAGRAM)
            .and_then(|len| DatagramRecord::new(len, DatagramFlags::empty(), to))
            .ok_or(too_long)?;
        let channel = self.socket.channel()?;
        let Some(share) = self.room.take() else {
            return Ok(None);
        };
        let mut buffer = self
            .socket
            .buffers()
            .take(size_of_val(&record) + bytes.len());
        if let Some((head, body)) = buffer.split_at_mut_checked(size_of_val(&record)) {
            head.copy_from_slice(record.as_bytes());
            body.copy_from_slice(bytes);
        }
        match channel.write(buffer) {
            Ok(pending) => Ok(Some(Started { pending, share })),
            Err(failure) => {
                share.end();
                Err(failed(sending_to(to), failure))
            }
        }
    }

    /// Sends a datagram. When the time is over it is not sent, or its send is
    /// cancelled.
    pub(crate) fn send(
        &self,
        bytes: &[u8],
        to: Option<SocketAddr>,
        timeout: Option<Duration>,
    ) -> Result<usize, Error> {
        let mut sending = self.sending(bytes, to);
        let late = || Error::TimedOut {
            doing: sending_to(to),
            after: timeout.unwrap_or_default(),
        };
        if let Some(sent) = wait_for(timeout, |cx| sending.poll(cx)) {
            return sent;
        }
        let Some(started) = &sending.started else {
            return Err(late());
        };
        started.pending.cancel();
        match wait_for(None, |cx| sending.poll(cx)) {
            Some(Err(Error::Socket { failure, .. })) if failure.is_cancelled() => Err(late()),
            Some(other) => other,
            None => Err(late()),
        }
    }
}

fn sending_to(to: Option<SocketAddr>) -> Doing {
    to.map_or(Doing::Sending, Doing::SendingTo)
}

impl Sending<'_> {
    /// Ready when it is sent.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Error>> {
        let mut started = match self.started.take() {
            Some(started) => started,
            None => {
                self.place.sleep(cx);
                match self.socket.start_send(self.bytes, self.to)? {
                    Some(started) => {
                        self.place.served();
                        started
                    }
                    None => return Poll::Pending,
                }
            }
        };
        let Poll::Ready(completion) = started.poll(cx) else {
            self.started = Some(started);
            return Poll::Pending;
        };
        let Completion { result, buffer } = completion;
        self.socket.socket.buffers().give_back(buffer);
        Poll::Ready(match result {
            Ok(_) => Ok(self.bytes.len()),
            Err(failure) => Err(failed(sending_to(self.to), failure)),
        })
    }
}

fn unpack(read: &[u8], buf: &mut [u8]) -> Result<Received, Error> {
    let (from, mut flags, bytes) =
        datagram_read(read).map_err(|e| bad_reply("read of a datagram", e.to_string()))?;
    let len = bytes.len().min(buf.len());
    if len < bytes.len() {
        flags |= DatagramFlags::TRUNCATED;
    }
    for (to, from) in buf.iter_mut().zip(bytes) {
        *to = *from;
    }
    Ok(Received { len, from, flags })
}

impl Drop for Datagrams {
    fn drop(&mut self) {
        let reading = lock(&self.reading).take();
        if let Some(channel) = self.socket.take_channel() {
            // Only the read: a datagram given to the socket is to be sent.
            if let Some(read) = reading {
                read.cancel();
            }
            channel.close_soon();
        }
    }
}
