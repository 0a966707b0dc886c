//! A socket: what it is made of, who holds it, and how it is closed.

use core::cell::UnsafeCell;
use core::ops::Deref;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering, fence};

use weir_abi::{SocketAddress, SocketFlags, SocketInfo, SocketKind, SocketState, status};

use super::flow::{self, Flow};
use super::listen::Listening;
use super::open::Opening;
use super::tree::Links;
use super::{LIVE, TAG};
use crate::kernel::lock::SpinLock;
use crate::kernel::log;
use crate::kernel::pool::KBox;
use crate::kernel::rundown::Rundown;
use crate::kernel::status::{NtStatus, Result};
use crate::kernel::time;
use crate::wsk::pump::Task;
use crate::wsk::{Client, Control, Datagram, Endpoint as _, Listener, Socket, Stream};

/// What the provider has for it.
pub(super) enum Transport {
    Stream(Stream),
    Listener(Listener),
    Udp(Datagram),
}

impl Transport {
    /// For what can be done with all of them.
    pub(super) fn socket(&self) -> &dyn Socket {
        match self {
            Self::Stream(stream) => stream,
            Self::Listener(listener) => listener,
            Self::Udp(datagram) => datagram,
        }
    }
}

/// Remarks about a socket.
pub(super) mod mark {
    /// The transport is there.
    pub(in super::super) const READY: u32 = 1;
    /// A stream is connected.
    pub(in super::super) const CONNECTED: u32 = 2;
    /// The peer has sent all it had to send.
    pub(in super::super) const PEER_CLOSED: u32 = 4;
    /// This side has: nothing more can be written.
    pub(in super::super) const SHUT: u32 = 8;
    /// Somebody closes it, or has.
    pub(in super::super) const CLOSING: u32 = 16;
    /// A listener that has failed is about to be closed.
    pub(in super::super) const FAILED: u32 = 32;
    /// This side resets it.
    pub(in super::super) const ABORTED: u32 = 64;
}

/// What has gone through a socket.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) bytes_in: AtomicU64,
    pub(super) bytes_out: AtomicU64,
    pub(super) reads: AtomicU64,
    pub(super) writes: AtomicU64,
    pub(super) queued: AtomicU64,
    pub(super) refused: AtomicU64,
    /// Of a listener: SOCKET_ACCEPTs that wait in the transport.
    pub(super) asking: AtomicU32,
}

/// Its own address and its peer's.
#[derive(Clone, Copy)]
pub(super) struct Addresses {
    pub(super) local: SocketAddress,
    pub(super) remote: SocketAddress,
}

/// A socket. Made by [`SockRef::try_new`], and counted.
pub(crate) struct Sock {
    refs: AtomicU32,
    pub(super) id: u64,
    pub(super) kind: SocketKind,
    pub(super) flags: SocketFlags,
    /// The process that opened its handle.
    pub(super) owner: u32,
    opened_100ns: u64,
    /// Guarded by the list's lock.
    pub(super) links: Links<Sock>,
    /// The handle's reference has not been given up yet.
    held_by_handle: AtomicBool,
    /// Keeps the provider captured; needed for calls that make sockets.
    pub(super) client: Client,
    /// For closing only.
    closer: Control,
    /// For whoever opens it only.
    pub(super) opener: Control,
    /// Held by each call on the transport.
    pub(super) calls: Rundown,
    /// Written once, before [`mark::READY`] is set.
    transport: UnsafeCell<Option<Transport>>,
    marks: AtomicU32,
    /// An NTSTATUS it failed with; 0 if it hasn't.
    failure: AtomicI32,
    pub(super) counters: Counters,
    pub(super) addresses: SpinLock<Addresses>,
    /// Reads and writes.
    pub(super) flow: Flow,
    /// What is asked for while it is being opened.
    pub(super) opening: Opening,
    /// Ends the opening at `PASSIVE_LEVEL`.
    pub(super) task: Task,
    /// Of a listener that takes connections as they come.
    pub(super) listening: Option<Listening>,
}

// SAFETY: `links` is guarded by the list's lock, `transport` is written once
// before it is published by READY, the rest is made to be shared.
unsafe impl Sync for Sock {}
// SAFETY: as above; nothing in it has an affinity to a thread.
unsafe impl Send for Sock {}

/// What a new socket is to be.
pub(super) struct Plan {
    pub(super) kind: SocketKind,
    pub(super) flags: SocketFlags,
    pub(super) owner: u32,
    pub(super) addresses: Addresses,
    /// Connections that may wait in the driver, of a listener; else 0.
    pub(super) backlog: u32,
}

/// A reference to a socket. The last one to go frees it: then nothing of it is
/// pending, and the provider's socket is closed. `IRQL <= DISPATCH_LEVEL`.
pub(crate) struct SockRef(NonNull<Sock>);

// SAFETY: a counted reference to something that may be shared.
unsafe impl Send for SockRef {}
// SAFETY: as above.
unsafe impl Sync for SockRef {}

impl Deref for SockRef {
    type Target = Sock;

    fn deref(&self) -> &Sock {
        // SAFETY: counted, so not freed before this is dropped.
        unsafe { self.0.as_ref() }
    }
}

impl Clone for SockRef {
    fn clone(&self) -> Self {
        self.refs.fetch_add(1, Ordering::Relaxed);
        Self(self.0)
    }
}

impl Drop for SockRef {
    fn drop(&mut self) {
        if self.refs.fetch_sub(1, Ordering::Release) != 1 {
            return;
        }
        fence(Ordering::Acquire);
        // SAFETY: into_raw of try_new, with its tag; the last reference.
        drop(unsafe { KBox::from_raw(self.0.as_ptr(), TAG) });
        LIVE.release_raw();
    }
}

impl SockRef {
    /// A socket that isn't anything yet, and isn't listed. `PASSIVE_LEVEL`.
    ///
    /// # Errors
    /// `STATUS_DEVICE_NOT_READY` without a network provider,
    /// `STATUS_INSUFFICIENT_RESOURCES`, `STATUS_DELETE_PENDING` at unload.
    pub(super) fn try_new(plan: &Plan) -> Result<Self> {
        let client = Client::acquire()?;
        let listening = match plan.backlog {
            0 => None,
            backlog => Some(Listening::try_new(backlog)?),
        };
        let sock = KBox::try_new(
            Sock {
                refs: AtomicU32::new(1),
                id: super::next_id(),
                kind: plan.kind,
                flags: plan.flags,
                owner: plan.owner,
                opened_100ns: time::system_time_100ns(),
                links: Links::new(),
                held_by_handle: AtomicBool::new(false),
                client,
                closer: Control::try_new()?,
                opener: Control::try_new()?,
                calls: Rundown::new(),
                transport: UnsafeCell::new(None),
                marks: AtomicU32::new(0),
                failure: AtomicI32::new(status::SUCCESS),
                counters: Counters::default(),
                addresses: SpinLock::new(plan.addresses),
                flow: Flow::new(),
                opening: Opening::new(),
                task: Task::new(super::open::step),
                listening,
            },
            TAG,
        )?;
        // After this every way out frees it by its count.
        if !LIVE.acquire_raw() {
            return Err(NtStatus::DELETE_PENDING);
        }
        sock.calls.init();
        let raw = KBox::into_raw(sock);
        // SAFETY: into_raw never gives null.
        let made = Self(unsafe { NonNull::new_unchecked(raw) });
        // SAFETY: just made, and nobody else has it.
        let task = unsafe { &mut (*raw).task };
        // SAFETY: it stays where it is, and its step is signalled only while a
        // reference is kept for it.
        unsafe { task.bind(raw.cast()) };
        Ok(made)
    }

    /// The reference as a pointer; [`SockRef::from_raw`] takes it back.
    pub(super) fn into_raw(self) -> *mut Sock {
        let raw = self.0.as_ptr();
        core::mem::forget(self);
        raw
    }

    /// # Safety
    /// `raw` is what `into_raw` gave, taken back once; or a live socket to which
    /// the caller has counted a reference.
    pub(super) unsafe fn from_raw(raw: *mut Sock) -> Self {
        // SAFETY: into_raw never gives null.
        Self(unsafe { NonNull::new_unchecked(raw) })
    }
}

impl Sock {
    /// One more reference to a socket that is kept alive meanwhile.
    pub(super) fn reference(&self) -> SockRef {
        self.refs.fetch_add(1, Ordering::Relaxed);
        SockRef(NonNull::from(self))
    }

    /// Counts the handle's reference.
    pub(super) fn hold_by_handle(&self) {
        core::mem::forget(self.reference());
        self.held_by_handle.store(true, Ordering::Release);
    }

    /// The handle's reference, if it has not been given up.
    pub(super) fn release_from_handle(&self) -> Option<SockRef> {
        let held = self.held_by_handle.swap(false, Ordering::AcqRel);
        // SAFETY: counted by hold_by_handle, and taken back once by the swap.
        held.then(|| unsafe { SockRef::from_raw(core::ptr::from_ref(self).cast_mut()) })
    }

    /// Says what the provider has for it.
    ///
    /// # Safety
    /// Once, by whoever opens it.
    pub(super) unsafe fn set_transport(&self, transport: Transport) {
        // SAFETY: nobody reads it before READY, and nobody else writes it.
        unsafe { *self.transport.get() = Some(transport) };
        self.mark(mark::READY);
    }

    /// What the provider has for it, once there is something.
    pub(super) fn transport(&self) -> Option<&Transport> {
        if !self.is(mark::READY) {
            return None;
        }
        // SAFETY: READY (Acquire) was set after the one write.
        unsafe { (*self.transport.get()).as_ref() }
    }

    pub(super) fn is(&self, marks: u32) -> bool {
        self.marks.load(Ordering::Acquire) & marks != 0
    }

    /// Adds remarks; those there were before.
    pub(super) fn mark(&self, marks: u32) -> u32 {
        self.marks.fetch_or(marks, Ordering::AcqRel)
    }

    /// Notes that it has failed for good; the first reason stays.
    pub(super) fn fail(&self, with: NtStatus) {
        let _ = self.failure.compare_exchange(
            status::SUCCESS,
            with.0,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
    }

    /// The sending direction couldn't be ended: it may be tried again, unless the
    /// stream has been reset meanwhile.
    pub(super) fn take_back_disconnect(&self) {
        let _ = self
            .marks
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |marks| {
                (marks & mark::ABORTED == 0).then_some(marks & !mark::SHUT)
            });
    }

    /// The stream couldn't be reset: it may be tried again. `added` are the marks
    /// the attempt had set.
    pub(super) fn take_back_abort(&self, added: u32) {
        let _ = self.failure.compare_exchange(
            NtStatus::CONNECTION_ABORTED.0,
            status::SUCCESS,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        self.marks.fetch_and(!added, Ordering::AcqRel);
    }

    /// What it has failed with.
    pub(super) fn failure(&self) -> Option<NtStatus> {
        match self.failure.load(Ordering::Acquire) {
            status::SUCCESS => None,
            status => Some(NtStatus(status)),
        }
    }

    /// Closes it, once; a second caller returns at once. When this returns, the
    /// provider has completed every operation, and no event comes any more.
    /// `PASSIVE_LEVEL`, and never from a call that holds `calls`.
    pub(super) fn shut(&self) {
        if self.mark(mark::CLOSING) & mark::CLOSING != 0 {
            return;
        }
        if let Some(listening) = &self.listening {
            listening.shut();
        }
        self.calls.wait();
        flow::cancel_accept(self);
        let closed = match self.transport() {
            None => Ok(()),
            // SAFETY: open, closed once (CLOSING), no call is in progress or
            // follows: `calls` has been waited for.
            Some(Transport::Stream(stream)) => unsafe { stream.close_and_wait(&self.closer) },
            // SAFETY: as above.
            Some(Transport::Udp(datagram)) => unsafe { datagram.close_and_wait(&self.closer) },
            Some(Transport::Listener(listener)) => {
                listener.close();
                Ok(())
            }
        };
        if let Err(status) = closed {
            log::status(c"closing a socket", status);
        }
        if let Some(listening) = &self.listening {
            listening.close_waiting(&self.closer);
        }
    }

    fn state(&self) -> SocketState {
        if self.failure().is_some() {
            return SocketState::Failed;
        }
        if self.is(mark::CLOSING) {
            return SocketState::Closing;
        }
        match self.kind {
            SocketKind::TcpListener => SocketState::Listening,
            SocketKind::Udp => SocketState::Bound,
            SocketKind::TcpStream => match (
                self.is(mark::CONNECTED),
                self.is(mark::PEER_CLOSED),
                self.is(mark::SHUT),
            ) {
                (false, ..) => SocketState::Connecting,
                (_, true, true) => SocketState::Closing,
                (_, true, false) => SocketState::PeerClosed,
                (_, false, true) => SocketState::ShutDown,
                (_, false, false) => SocketState::Connected,
            },
        }
    }

    /// How it is. `IRQL <= DISPATCH_LEVEL`; takes its locks one after another.
    pub(super) fn info(&self) -> SocketInfo {
        let Addresses { local, remote } = *self.addresses.lock();
        let (mut pending_reads, pending_writes) = self.flow.pending();
        let mut queued = self.counters.queued.load(Ordering::Relaxed);
        if let Some(listening) = &self.listening {
            let (waiting, acceptors) = listening.count();
            queued = waiting;
            pending_reads = acceptors;
        }
        pending_reads = pending_reads.saturating_add(self.counters.asking.load(Ordering::Relaxed));
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SocketInfo {
            id: self.id,
            kind: self.kind.into(),
            state: self.state().into(),
            local,
            remote,
            bytes_in: read(&self.counters.bytes_in),
            bytes_out: read(&self.counters.bytes_out),
            reads: read(&self.counters.reads),
            writes: read(&self.counters.writes),
            queued,
            refused: read(&self.counters.refused),
            opened_100ns: self.opened_100ns,
            owner: self.owner,
            service: 0,
            flags: self.flags.bits(),
            status: self.failure.load(Ordering::Acquire),
            pending_reads,
            pending_writes,
        }
    }
}

impl Drop for Sock {
    fn drop(&mut self) {
        debug_assert!(!self.links.is_linked());
        self.flow.free();
    }
}
