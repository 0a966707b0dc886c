//! Connections that wait for a SOCKET_ACCEPT, and SOCKET_ACCEPTs that wait for a
//! connection. There are never both.

use core::sync::atomic::Ordering;

use super::TAG;
use super::accept;
use super::line::{Line, Place, Waits};
use super::marks::mark;
use super::sock::{Sock, SockRef};
use crate::error::Error;
use crate::kernel::lock::SpinLock;
use crate::kernel::log;
use crate::kernel::pool::KSlice;
use crate::kernel::status::{NtStatus, Result};
use crate::kernel::wdf::Request;
use crate::wsk::{Accept, Control, Ear, Endpoint as _, Ends, Refused, Stream};

/// A connection nobody has asked for yet.
pub(super) struct Queued {
    pub(super) stream: Stream,
    pub(super) ends: Ends,
}

/// What a listener has beside its socket.
pub(super) struct Listening {
    waiting: SpinLock<Waiting>,
}

struct Waiting {
    /// A ring of connections: `len` of them from `first` on.
    ring: KSlice<Option<Queued>>,
    first: usize,
    len: usize,
    /// Sockets that are being opened with a connection of this listener. Each is
    /// held by a reference, those set aside too.
    acceptors: Line<Sock>,
    /// Why nobody is let in any more.
    over: Option<NtStatus>,
}

impl Waits for Sock {
    fn place(&self) -> &Place<Self> {
        &self.in_line
    }
}

impl Waiting {
    fn push(&mut self, queued: Queued) -> core::result::Result<(), Queued> {
        let size = self.ring.len();
        if self.len >= size {
            return Err(queued);
        }
        let at = self.first.wrapping_add(self.len).checked_rem(size);
        match at.and_then(|at| self.ring.get_mut(at)) {
            Some(place) => {
                *place = Some(queued);
                self.len = self.len.saturating_add(1);
                Ok(())
            }
            None => Err(queued),
        }
    }

    fn pop(&mut self) -> Option<Queued> {
        if self.len == 0 {
            return None;
        }
        let queued = self.ring.get_mut(self.first)?.take();
        let next = self.first.wrapping_add(1);
        self.first = next.checked_rem(self.ring.len()).unwrap_or(0);
        self.len = self.len.saturating_sub(1);
        queued
    }

    /// Takes `acceptor` out, if it waits; its reference goes to the caller.
    fn take(&mut self, acceptor: &Sock) -> Option<SockRef> {
        // SAFETY: waits for this listener, or for none.
        let taken = unsafe { self.acceptors.take(acceptor) };
        // SAFETY: the reference that was counted for the line.
        taken.then(|| unsafe { acceptor.counted() })
    }

    /// Takes out the oldest acceptor whose request isn't being cancelled. One that
    /// is stays for its cancel callback, aside: so each is come by once.
    fn take_ready(&mut self) -> Option<SockRef> {
        loop {
            let oldest: *const Sock = self.acceptors.first()?;
            // SAFETY: in line, and so held by a reference.
            let oldest = unsafe { &*oldest };
            if oldest.opening.unmark() {
                return self.take(oldest);
            }
            // SAFETY: in this line.
            unsafe { self.acceptors.set_aside(oldest) };
        }
    }
}

impl Listening {
    /// Room for `backlog` connections. `IRQL <= DISPATCH_LEVEL`.
    pub(super) fn try_new(backlog: u32) -> Result<Self> {
        let size = usize::try_from(backlog).map_err(|_| NtStatus::INVALID_PARAMETER)?;
        Ok(Self {
            waiting: SpinLock::new(Waiting {
                ring: KSlice::try_from_fn(size, TAG, |_| None)?,
                first: 0,
                len: 0,
                acceptors: Line::new(),
                over: None,
            }),
        })
    }

    /// Connections and acceptors that wait.
    pub(super) fn count(&self) -> (u64, u32) {
        let waiting = self.waiting.lock();
        (
            u64::try_from(waiting.len).unwrap_or(0),
            waiting.acceptors.count(),
        )
    }

    /// Asks for a connection for `acceptor`: there is one, or `request` waits for
    /// one. `PASSIVE_LEVEL`.
    pub(super) fn ask(
        &self,
        acceptor: &SockRef,
        request: Request,
    ) -> core::result::Result<Option<(Request, Queued)>, (Request, Error)> {
        let mut waiting = self.waiting.lock();
        // Closed first, given up then, under this lock: so either this sees it, or
        // the closer finds the acceptor in the list.
        if acceptor.is(mark::CLOSING) {
            return Err((request, Error::Closing));
        }
        if let Some(why) = waiting.over {
            return Err((request, Error::System(why)));
        }
        if let Some(queued) = waiting.pop() {
            return Ok(Some((request, queued)));
        }
        if let Err(status) = request.mark_cancelable(Some(evt_cancel)) {
            return Err((request, Error::System(status)));
        }
        acceptor.opening.set_request(request);
        // SAFETY: being opened, so it waits nowhere else; the reference keeps it.
        unsafe { waiting.acceptors.push(acceptor.clone().into_raw()) };
        Ok(None)
    }

    /// Takes a connection in: an acceptor gets it, or it waits.
    fn hand_over(&self, queued: Queued) -> core::result::Result<(), Refused> {
        let acceptor = {
            let mut waiting = self.waiting.lock();
            if waiting.over.is_some() {
                return Err(Refused);
            }
            match waiting.take_ready() {
                Some(acceptor) => acceptor,
                None => return waiting.push(queued).map_err(|_| Refused),
            }
        };
        accept::found(acceptor, Ok(queued));
        Ok(())
    }

    /// Lets nobody in any more, and sends the acceptors away with `why`.
    /// `IRQL <= DISPATCH_LEVEL`.
    fn end(&self, why: NtStatus) {
        loop {
            let acceptor = {
                let mut waiting = self.waiting.lock();
                waiting.over.get_or_insert(why);
                waiting.take_ready()
            };
            let Some(acceptor) = acceptor else { return };
            accept::found(acceptor, Err(why));
        }
    }

    /// The listener is being closed.
    pub(super) fn shut(&self) {
        self.end(NtStatus::CONNECTION_ABORTED);
    }

    /// Closes the connections nobody has asked for: resets them. `PASSIVE_LEVEL`,
    /// after [`Listening::shut`], and no event comes any more.
    pub(super) fn close_waiting(&self, closer: &Control) {
        loop {
            // Not under the lock: closing waits.
            let queued = self.waiting.lock().pop();
            let Some(Queued { stream, .. }) = queued else {
                return;
            };
            close_stream(&stream, closer);
        }
    }

    /// Takes back the request of `acceptor`, which isn't to wait any longer. Does
    /// nothing if it doesn't, or if its cancel callback is on its way.
    pub(super) fn give_up(&self, acceptor: &SockRef) {
        let taken = {
            let mut waiting = self.waiting.lock();
            if !waiting.acceptors.is_in(acceptor) {
                None
            } else if acceptor.opening.unmark() {
                waiting.take(acceptor)
            } else {
                // SAFETY: in this line.
                unsafe { waiting.acceptors.set_aside(acceptor) };
                None
            }
        };
        if let Some(acceptor) = taken {
            accept::found(acceptor, Err(NtStatus::CANCELLED));
        }
    }
}

/// Closes a connection no socket has. `PASSIVE_LEVEL`.
pub(super) fn close_stream(stream: &Stream, closer: &Control) {
    // SAFETY: nobody else has it, and it is used for the last time.
    if let Err(status) = unsafe { stream.close_and_wait(closer) } {
        log::status(c"closing a connection nobody asked for", status);
    }
}

/// The framework's cancel callback of a SOCKET_ACCEPT that waits.
unsafe extern "C" fn evt_cancel(request: crate::kernel::wdf::WDFREQUEST) {
    // SAFETY: not completed before this callback has come.
    let Some(acceptor) = (unsafe { super::of_raw(request) }) else {
        return;
    };
    let Some(listener) = acceptor.opening.listener() else {
        return;
    };
    let Some(listening) = &listener.listening else {
        return;
    };
    let taken = listening.waiting.lock().take(&acceptor);
    if let Some(acceptor) = taken {
        accept::found(acceptor, Err(NtStatus::CANCELLED));
    }
}

impl Accept for Sock {
    fn accept(&self, connection: Stream, ends: &Ends) -> core::result::Result<Ear, Refused> {
        let Some(listening) = &self.listening else {
            return Err(Refused);
        };
        let taken = listening.hand_over(Queued {
            stream: connection,
            ends: *ends,
        });
        let counter = if taken.is_ok() {
            &self.counters.reads
        } else {
            &self.counters.refused
        };
        counter.fetch_add(1, Ordering::Relaxed);
        taken.map(|()| Ear::NONE)
    }

    fn inspect(&self, ends: &Ends) -> bool {
        let good = super::admit::peer(ends);
        if !good {
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
        }
        good
    }

    fn listener_failed(&self) {
        self.fail(NtStatus::FILE_FORCED_CLOSED);
        if let Some(listening) = &self.listening {
            listening.end(NtStatus::FILE_FORCED_CLOSED);
        }
        self.forced_closed();
    }
}
