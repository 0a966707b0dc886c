//! A socket: what it is made of, who holds it, and how it is closed.

use core::cell::UnsafeCell;
use core::ops::Deref;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

use weir_abi::{SocketAddress, SocketFlags, SocketInfo, SocketKind, SocketState, status};

use super::flow::{self, Flow};
use super::line::Place;
use super::listen::Listening;
use super::marks::{Marks, mark};
use super::open::Opening;
use super::tree::Links;
use super::{LIVE, TAG};
use crate::error::Error;
use crate::kernel::lock::SpinLock;
use crate::kernel::log;
use crate::kernel::pool::KBox;
use crate::kernel::rundown::{Rundown, RundownGuard};
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

/// What a listener's connections are to get: of its flags, and of what was set
/// since. A connection has it from the transport, or doesn't; so what has ever been
/// on is said of each connection, and may have been said needlessly.
pub(super) struct PassesOn {
    on: AtomicU32,
    ever: AtomicU32,
}

impl PassesOn {
    /// What can be passed on.
    const ALL: SocketFlags = SocketFlags::NO_DELAY.union(SocketFlags::KEEP_ALIVE);

    const fn new(flags: SocketFlags) -> Self {
        let on = flags.intersection(Self::ALL).bits();
        Self {
            on: AtomicU32::new(on),
            ever: AtomicU32::new(on),
        }
    }

    /// What is on.
    pub(super) fn on(&self) -> SocketFlags {
        SocketFlags::from_bits_truncate(self.on.load(Ordering::Relaxed))
    }

    /// What is to be said of a connection.
    pub(super) fn of(&self, flag: SocketFlags) -> Option<bool> {
        let ever = SocketFlags::from_bits_truncate(self.ever.load(Ordering::Relaxed));
        ever.contains(flag).then(|| self.on().contains(flag))
    }

    /// Says what later connections get.
    pub(super) fn set(&self, flag: SocketFlags, on: bool) {
        if on {
            self.ever.fetch_or(flag.bits(), Ordering::Relaxed);
            self.on.fetch_or(flag.bits(), Ordering::Relaxed);
        } else {
            self.on.fetch_and(!flag.bits(), Ordering::Relaxed);
        }
    }
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
    /// Itself, as the pool gave it out: what is freed in the end is this, and not
    /// what a shared reference points to.
    own: *mut Sock,
    pub(super) id: u64,
    pub(super) kind: SocketKind,
    pub(super) flags: SocketFlags,
    /// The process that opened its handle.
    pub(super) owner: u32,
    opened_100ns: u64,
    /// Guarded by the list's lock.
    pub(super) links: Links<Sock>,
    /// Guarded by the lock of the listener it is opened with a connection of.
    pub(super) in_line: Place<Sock>,
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
    pub(super) marks: Marks,
    pub(super) counters: Counters,
    pub(super) addresses: SpinLock<Addresses>,
    /// Reads and writes.
    pub(super) flow: Flow,
    /// What is asked for while it is being opened.
    pub(super) opening: Opening,
    /// Ends the opening at `PASSIVE_LEVEL`.
    pub(super) opens: Task,
    /// Closes it there, if the provider gives it up.
    pub(super) closes: Task,
    /// Of a listener: what its connections get.
    pub(super) passes_on: PassesOn,
    /// Of a listener that takes connections as they come.
    pub(super) listening: Option<Listening>,
}

// SAFETY: `own` is written before it is shared, `links` is guarded by the list's
// lock and `in_line` by a listener's, `transport` is written once before it is published by READY, the rest is
// made to be shared.
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
                own: core::ptr::null_mut(),
                id: super::next_id(),
                kind: plan.kind,
                flags: plan.flags,
                owner: plan.owner,
                opened_100ns: time::system_time_100ns(),
                links: Links::new(),
                in_line: Place::new(),
                held_by_handle: AtomicBool::new(false),
                client,
                closer: Control::try_new()?,
                opener: Control::try_new()?,
                calls: Rundown::new(),
                transport: UnsafeCell::new(None),
                marks: Marks::new(),
                counters: Counters::default(),
                addresses: SpinLock::new(plan.addresses),
                flow: Flow::new(),
                opening: Opening::new(),
                opens: Task::that_waits(super::open::step),
                closes: Task::that_waits(super::open::step_close),
                passes_on: PassesOn::new(plan.flags),
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
        unsafe { (*raw).own = raw };
        // SAFETY: as above.
        let opens = unsafe { &mut (*raw).opens };
        // SAFETY: it stays where it is, and its step is signalled only while a
        // reference is kept for it.
        unsafe { opens.bind(raw.cast()) };
        // SAFETY: as above.
        let closes = unsafe { &mut (*raw).closes };
        // SAFETY: as above.
        unsafe { closes.bind(raw.cast()) };
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
        // SAFETY: counted just now.
        unsafe { self.counted() }
    }

    /// A reference that has been counted already.
    ///
    /// # Safety
    /// The caller has counted one, and takes it back by this, once.
    pub(super) unsafe fn counted(&self) -> SockRef {
        // SAFETY: where it is, and counted (caller).
        unsafe { SockRef::from_raw(self.own) }
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
        held.then(|| unsafe { self.counted() })
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
        self.marks.is(marks)
    }

    /// Adds remarks; whether one of them was there before.
    pub(super) fn mark(&self, marks: u32) -> bool {
        self.marks.mark(marks)
    }

    /// Notes that it has failed for good; the first reason stays.
    pub(super) fn fail(&self, with: NtStatus) {
        self.marks.fail(with.0);
    }

    /// The provider has given it up: it is to be closed as soon as that can be done,
    /// whatever its handle does (MSDN "Closing a Socket"). May be said more than
    /// once. `IRQL <= DISPATCH_LEVEL`.
    pub(super) fn forced_closed(&self) {
        // Marked first: a reset that is taken back looks for it (`marks.rs`).
        let first = !self.mark(mark::FAILED);
        self.fail(NtStatus::FILE_FORCED_CLOSED);
        if first {
            super::open::close_failed(self.reference());
        }
    }

    /// Holds it open for a call on its transport.
    pub(super) fn begin_call(&self) -> core::result::Result<RundownGuard<'_>, Error> {
        self.calls.acquire().ok_or_else(|| match self.failure() {
            Some(status) => Error::System(status),
            None => Error::Closing,
        })
    }

    /// What it has failed with.
    pub(super) fn failure(&self) -> Option<NtStatus> {
        match self.marks.failure() {
            status::SUCCESS => None,
            status => Some(NtStatus(status)),
        }
    }

    /// Closes it, once; a second caller returns at once. When this returns, the
    /// provider has completed every operation, and no event comes any more.
    /// `PASSIVE_LEVEL`, and never from a call that holds `calls`.
    pub(super) fn shut(&self) {
        if self.mark(mark::CLOSING) {
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
            status: self.marks.failure(),
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
