//! A UDP socket.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};
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
}

/// A send under way.
pub(crate) struct Sending {
    pending: Box<dyn Pending>,
    doing: Doing,
    len: usize,
}

impl Datagrams {
    pub(crate) fn new(socket: Socket) -> Datagrams {
        Datagrams {
            socket,
            reading: Mutex::new(None),
            readers: Waiters::new(Wakes::First),
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

    /// Starts to send a datagram, to the connected peer if no address is given.
    pub(crate) fn start_send(
        &self,
        bytes: &[u8],
        to: Option<SocketAddr>,
    ) -> Result<Sending, Error> {
        let too_long = Error::DatagramTooLong { len: bytes.len() };
        let record = u32::try_from(bytes.len())
            .ok()
            .filter(|len| *len <= limits::MAX_DATAGRAM)
            .and_then(|len| DatagramRecord::new(len, DatagramFlags::empty(), to))
            .ok_or(too_long)?;
        let mut buffer = self
            .socket
            .buffers()
            .take(size_of_val(&record) + bytes.len());
        if let Some((head, body)) = buffer.split_at_mut_checked(size_of_val(&record)) {
            head.copy_from_slice(record.as_bytes());
            body.copy_from_slice(bytes);
        }
        let doing = to.map_or(Doing::Sending, Doing::SendingTo);
        match self.socket.channel()?.write(buffer) {
            Ok(pending) => Ok(Sending {
                pending,
                doing,
                len: bytes.len(),
            }),
            Err(failure) => Err(failed(doing, failure)),
        }
    }

    fn sent(&self, sending: &Sending, completion: Completion) -> Result<usize, Error> {
        self.socket.buffers().give_back(completion.buffer);
        match completion.result {
            Ok(_) => Ok(sending.len),
            Err(failure) => Err(failed(sending.doing.clone(), failure)),
        }
    }

    /// Sends a datagram. When the time is over the send is cancelled.
    pub(crate) fn send(
        &self,
        bytes: &[u8],
        to: Option<SocketAddr>,
        timeout: Option<Duration>,
    ) -> Result<usize, Error> {
        let mut sending = self.start_send(bytes, to)?;
        let (completion, late) = match sending.pending.wait(timeout) {
            Some(completion) => (completion, false),
            None => {
                sending.pending.cancel();
                loop {
                    if let Some(completion) = sending.pending.wait(None) {
                        break (completion, true);
                    }
                }
            }
        };
        match self.sent(&sending, completion) {
            Err(Error::Socket { failure, doing }) if late && failure.is_cancelled() => {
                Err(Error::TimedOut {
                    doing,
                    after: timeout.unwrap_or_default(),
                })
            }
            other => other,
        }
    }

    pub(crate) fn poll_sent(
        &self,
        sending: &mut Sending,
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize, Error>> {
        let completion = ready!(sending.pending.poll(cx));
        Poll::Ready(self.sent(sending, completion))
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
