//! A UDP socket.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use weir_abi::{DatagramFlags, DatagramRecord, datagram_read, limits, status};
use zerocopy::IntoBytes;

use super::waiters::{Place, Waiters, Wakes, wait_for};
use super::{Socket, failed};
use crate::buffers::LARGE;
use crate::channel::{Completion, Pending};
use crate::device::bad_reply;
use crate::error::Error;
use crate::kind::Doing;
use crate::lock::lock;

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
    sends: Mutex<Sends>,
    /// Who waits until fewer sends are outstanding than the driver has room for.
    senders: Arc<Waiters>,
}

/// Sends outstanding: their ends make room.
#[derive(Default)]
struct Sends {
    /// That somebody waits for.
    awaited: usize,
    /// That nobody waits for any more.
    left: Vec<Box<dyn Pending>>,
}

/// A send: of a datagram that waits for room, or that is under way.
pub(crate) struct Sending<'a> {
    socket: &'a Datagrams,
    bytes: &'a [u8],
    to: Option<SocketAddr>,
    /// Among those that wait for room.
    place: Place<'a>,
    pending: Option<Box<dyn Pending>>,
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        // It is sent all the same.
        if let Some(pending) = self.pending.take() {
            self.socket.leave_send(pending);
        }
    }
}

impl Datagrams {
    pub(crate) fn new(socket: Socket) -> Datagrams {
        Datagrams {
            socket,
            reading: Mutex::new(None),
            readers: Waiters::new(Wakes::First),
            sends: Mutex::default(),
            senders: Waiters::new(Wakes::First),
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
            place: self.senders.place(),
            pending: None,
        }
    }

    /// Leaves a send to itself; its end makes room for who waits.
    fn leave_send(&self, pending: Box<dyn Pending>) {
        let mut sends = lock(&self.sends);
        sends.awaited -= 1;
        sends.left.push(pending);
        if self.forget_sent(&mut sends) {
            drop(sends);
            self.senders.ring();
        }
    }

    /// Lets go of the sends that were left and have ended; whether there were any.
    fn forget_sent(&self, sends: &mut Sends) -> bool {
        let waker = Waker::from(Arc::clone(&self.senders));
        let mut cx = Context::from_waker(&waker);
        let before = sends.left.len();
        sends
            .left
            .retain_mut(|send| send.poll(&mut cx).is_pending());
        sends.left.len() < before
    }

    /// Starts a send; `None` if there is no room for another until one has ended.
    fn start_send(
        &self,
        bytes: &[u8],
        to: Option<SocketAddr>,
    ) -> Result<Option<Box<dyn Pending>>, Error> {
        let too_long = Error::DatagramTooLong { len: bytes.len() };
        let record = u32::try_from(bytes.len())
            .ok()
            .filter(|len| *len <= limits::MAX_DATAGRAM)
            .and_then(|len| DatagramRecord::new(len, DatagramFlags::empty(), to))
            .ok_or(too_long)?;
        let mut alone = false;
        loop {
            let mut buffer = self
                .socket
                .buffers()
                .take(size_of_val(&record) + bytes.len());
            if let Some((head, body)) = buffer.split_at_mut_checked(size_of_val(&record)) {
                head.copy_from_slice(record.as_bytes());
                body.copy_from_slice(bytes);
            }
            let failure = match self.socket.channel()?.write(buffer) {
                Ok(pending) => {
                    lock(&self.sends).awaited += 1;
                    return Ok(Some(pending));
                }
                Err(failure) => failure,
            };
            if failure.status.0 != status::QUOTA_EXCEEDED || alone {
                return Err(failed(sending_to(to), failure));
            }
            let mut sends = lock(&self.sends);
            if !self.forget_sent(&mut sends) {
                // If none is outstanding, none will make room. The last may have
                // ended just now, so once more.
                alone = sends.awaited == 0 && sends.left.is_empty();
                if !alone {
                    return Ok(None);
                }
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
        let Some(pending) = &sending.pending else {
            return Err(late());
        };
        pending.cancel();
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
        let mut pending = match self.pending.take() {
            Some(pending) => pending,
            None => {
                self.place.sleep(cx);
                match self.socket.start_send(self.bytes, self.to)? {
                    Some(pending) => {
                        self.place.served();
                        pending
                    }
                    None => return Poll::Pending,
                }
            }
        };
        let Poll::Ready(completion) = pending.poll(cx) else {
            self.pending = Some(pending);
            return Poll::Pending;
        };
        lock(&self.socket.sends).awaited -= 1;
        self.socket.senders.ring();
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
