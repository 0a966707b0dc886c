//! One client of a UDP relay: its socket, and what its task does with it.

use core::cell::{Cell, OnceCell, UnsafeCell};
use core::ffi::c_void;
use core::net::SocketAddr;
use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};

use super::{Clients, Entry, Known, Phase, Shared, signal};
use crate::kernel::pool::KBox;
use crate::kernel::status::{NtStatus, Result};
use crate::kernel::time;
use crate::service::TAG;
use crate::service::counters::bump;
use crate::service::udp::service::{BUFFER_LEN, UdpService, length};
use crate::service::udp::state::{self, DatagramAction, DatagramEvent, Failure, Fate};
use crate::wsk::pump::{self, Next, Task};
use crate::wsk::{Client, Datagram, Endpoint as _, IoBuffer, Op, Peer, SockAddr};

impl Known {
    /// A client that isn't in the table yet.
    ///
    /// # Safety
    /// `service` outlives it.
    pub(super) unsafe fn try_new(
        service: *const UdpService,
        address: SockAddr,
        count: u32,
        waiting: u32,
    ) -> Result<KBox<Self>> {
        let mut client = KBox::try_new(
            Self {
                task: Task::new(step),
                service,
                address,
                count,
                opened_100ns: time::system_time_100ns(),
                bytes_in: AtomicU64::new(0),
                bytes_out: AtomicU64::new(0),
                shared: UnsafeCell::new(Shared {
                    ready: false,
                    gone: false,
                    users: 0,
                    waiting,
                    used_100ns: time::monotonic_100ns(),
                }),
                phase: Cell::new(Phase::Opening),
                pending: Cell::new(false),
                closing: Cell::new(false),
                closed: Cell::new(false),
                machine: Cell::new(state::Datagram::new()),
                retired: Cell::new(false),
                socket: OnceCell::new(),
                transfer: Op::try_new()?,
                close: Op::try_new()?,
                buffer: IoBuffer::try_new(BUFFER_LEN, TAG)?,
                peer: Peer::new(),
            },
            TAG,
        )?;
        let own = client.as_ptr();
        // SAFETY: the block stays at its address until its step frees it, and
        // returns Gone.
        unsafe { client.task.bind(own.cast::<c_void>()) };
        // SAFETY: `own` is the live block; no reference is made.
        let task = unsafe { &raw const (*own).task };
        // SAFETY: operation and task are in one block, which isn't freed while
        // the operation is pending.
        unsafe { client.transfer.bind(task, signal::ENDED) };
        // SAFETY: as above.
        unsafe { client.close.bind(task, signal::CLOSED) };
        Ok(client)
    }

    /// Counts what a user has sent.
    pub(in crate::service::udp) fn count_sent(&self, length: u32) {
        self.bytes_out
            .fetch_add(u64::from(length), Ordering::Relaxed);
    }

    fn service(&self) -> &UdpService {
        // SAFETY: live until its last step lets go of `live`.
        unsafe { &*self.service }
    }

    fn clients(&self) -> Result<&Clients> {
        self.service()
            .relay
            .as_ref()
            .ok_or(NtStatus::INVALID_DEVICE_STATE)
    }

    /// Its socket, for a user.
    ///
    /// # Safety
    /// The caller is one of its users.
    pub(in crate::service::udp) unsafe fn socket(&self) -> Option<&Datagram> {
        self.socket.get()
    }

    fn own_socket(&self) -> Result<&Datagram> {
        self.socket.get().ok_or(NtStatus::INVALID_DEVICE_STATE)
    }

    /// Starts the call its phase is about.
    fn begin(&self, phase: Phase) -> Result<()> {
        self.phase.set(phase);
        let clients = self.clients()?;
        let client: &Client = &self.service().client;
        match phase {
            Phase::Opening => {
                let like = SocketAddr::try_from(&clients.any)?;
                Datagram::start_open(client, &self.transfer, &like)
            }
            Phase::Binding => {
                // SAFETY: not closed; the address is the service's, which
                // outlives this.
                unsafe { self.own_socket()?.start_bind(&self.transfer, &clients.any) }
            }
            Phase::Connecting => {
                let socket = self.own_socket()?;
                // SAFETY: as above.
                unsafe { socket.start_connect(&self.transfer, &clients.target) }
            }
            Phase::Running => Ok(()),
        }
    }

    /// Begins a phase; true if that went wrong.
    fn enter(&self, phase: Phase) -> bool {
        let begun = self.begin(phase);
        self.pending.set(begun.is_ok() && phase != Phase::Running);
        begun.is_err()
    }

    /// Goes on after a call has ended; true if the client is to be forgotten.
    fn ended(&self, stopping: bool) -> bool {
        self.pending.set(false);
        let outcome = self.transfer.finish();
        match self.phase.get() {
            Phase::Opening => match Datagram::opened(outcome) {
                Ok(socket) => {
                    let _ = self.socket.set(socket);
                    stopping || self.enter(Phase::Binding)
                }
                Err(_) => self.fail(),
            },
            Phase::Binding if outcome.value().is_ok() => stopping || self.enter(Phase::Connecting),
            Phase::Connecting if outcome.value().is_ok() => {
                if stopping || self.enter(Phase::Running) {
                    return true;
                }
                self.ready();
                self.handle(DatagramEvent::Start)
            }
            Phase::Running => {
                let was_send = self.machine.get().is_sending();
                let event = match length(outcome) {
                    Err((failure, status)) => {
                        if !was_send && is_unreachable(status) {
                            self.service().counters.target_unreachable();
                        }
                        DatagramEvent::Failed(failure)
                    }
                    Ok(length) if was_send => DatagramEvent::Sent(length),
                    Ok(length) => {
                        // SAFETY: the operation has ended.
                        let received = unsafe { self.peer.last() };
                        let fate = match received.truncated {
                            true => Fate::Drop,
                            false => Fate::Send,
                        };
                        self.bytes_in
                            .fetch_add(u64::from(length), Ordering::Relaxed);
                        self.touch();
                        DatagramEvent::Received { length, fate }
                    }
                };
                self.handle(event)
            }
            _ => self.fail(),
        }
    }

    /// Its socket couldn't be had.
    fn fail(&self) -> bool {
        bump(&self.service().counters.errors, 1);
        true
    }

    /// Its socket is there: who waited may go on.
    fn ready(&self) {
        let Ok(clients) = self.clients() else { return };
        let waiting = {
            let _table = clients.table.lock();
            // SAFETY: the lock that guards it is held.
            let shared = unsafe { &mut *self.shared.get() };
            shared.ready = true;
            core::mem::take(&mut shared.waiting)
        };
        self.service().wake(waiting);
    }

    fn touch(&self) {
        let Ok(clients) = self.clients() else { return };
        let _table = clients.table.lock();
        // SAFETY: the lock that guards it is held.
        unsafe { (*self.shared.get()).used_100ns = time::monotonic_100ns() };
    }

    /// Does what follows from `event`; true if its buffer has retired.
    fn handle(&self, mut event: DatagramEvent) -> bool {
        let service = self.service();
        loop {
            let mut machine = self.machine.get();
            let (action, tally) = machine.on(event);
            self.machine.set(machine);
            service.counters.add(tally);
            let started = match action {
                DatagramAction::Wait => return false,
                DatagramAction::Retire => {
                    self.retired.set(true);
                    return true;
                }
                DatagramAction::Pause => {
                    service.pause();
                    return false;
                }
                DatagramAction::Receive => self.own_socket().and_then(|socket| {
                    // SAFETY: not closed: that comes after the buffer has been
                    // told to stop; no other operation uses buffer and peer, and
                    // the block stays until this has ended.
                    unsafe { socket.receive_from(&self.transfer, self.buffer.whole(), &self.peer) }
                }),
                DatagramAction::Send { length } => self.answer(length),
            };
            match started {
                Ok(()) => {
                    self.pending.set(true);
                    return false;
                }
                Err(_) => event = DatagramEvent::Failed(Failure::Final),
            }
        }
    }

    /// Sends what has been received to the client, by the service's socket.
    fn answer(&self, length: u32) -> Result<()> {
        let service = self.service();
        let _call = service.calls.acquire().ok_or(NtStatus::DELETE_PENDING)?;
        let socket = service.socket.as_ref();
        let socket = socket.ok_or(NtStatus::INVALID_DEVICE_STATE)?;
        let span = self.buffer.span(0, length)?;
        // SAFETY: not being closed (`calls`); buffer and address stay until this
        // has ended.
        unsafe { socket.send_to(&self.transfer, span, &raw const self.address) }
    }

    /// Takes it out of the table, so that nobody comes to use it any more; true
    /// if nobody does.
    fn leave(&self) -> bool {
        let Ok(clients) = self.clients() else {
            return true;
        };
        let own = ptr::from_ref(self);
        let (drained, waiting) = {
            let mut table = clients.table.lock();
            for place in table.iter_mut() {
                let is_it = |entry: &Entry| ptr::eq(entry.client.as_ptr(), own);
                if place.as_ref().is_some_and(is_it) {
                    *place = None;
                }
            }
            // SAFETY: the lock that guards it is held.
            let shared = unsafe { &mut *self.shared.get() };
            shared.gone = true;
            (shared.users == 0, core::mem::take(&mut shared.waiting))
        };
        self.service().wake(waiting);
        drained
    }

    /// Does what is left to do of a client that is being forgotten; true when
    /// nothing is.
    fn end(&self) -> bool {
        if !self.leave() {
            return false;
        }
        if let Some(socket) = self.socket.get()
            && !self.closing.replace(true)
        {
            // SAFETY: once; calls on it are made by this task, and by users, of
            // which there are none and come none.
            if unsafe { socket.close(&self.close) }.is_err() {
                self.closed.set(true);
            }
        }
        let closed = self.closed.get() || self.socket.get().is_none();
        closed && !self.pending.get()
    }
}

fn is_unreachable(status: NtStatus) -> bool {
    matches!(
        status,
        NtStatus::CONNECTION_RESET
            | NtStatus::CONNECTION_REFUSED
            | NtStatus::PORT_UNREACHABLE
            | NtStatus::HOST_UNREACHABLE
            | NtStatus::NETWORK_UNREACHABLE
    )
}

/// The step of a client's task.
///
/// # Safety
/// `owner` is a live [`Known`] of a live service, and its steps don't overlap.
unsafe fn step(owner: *mut c_void, signals: u32) -> Next {
    let own = owner.cast::<Known>();
    // SAFETY: live until the end of this step at least; nobody else has a
    // reference to what it touches.
    let known = unsafe { &*own };
    let has = |signal| signals & signal != 0;
    // It was being forgotten before, or is from here on.
    let mut over = known.closing.get() || known.retired.get() || known.is_gone();
    let stopping = over || has(signal::STOP);
    if has(signal::CLOSED) {
        let _closed = known.close.finish();
        known.closed.set(true);
    }
    if has(signal::ENDED) {
        over |= known.ended(stopping);
    }
    if has(signal::START) && !stopping {
        over |= known.enter(Phase::Opening);
    }
    if has(signal::RESUME) && !stopping && known.phase.get() == Phase::Running {
        over |= known.handle(DatagramEvent::Resume);
    }
    if has(signal::STOP) && !over {
        over = true;
        if known.phase.get() == Phase::Running {
            known.handle(DatagramEvent::Stop);
        }
    }
    if !(over && known.end()) {
        return Next::Keep { waking: pump::ALL };
    }
    let service = known.service;
    // SAFETY: made by into_raw with this tag, out of the table (end), idle, and
    // without users; nobody else can find it.
    drop(unsafe { KBox::from_raw(own, TAG) });
    // SAFETY: live until the release below, its last use.
    let service = unsafe { &*service };
    service.counters.connections.fetch_sub(1, Ordering::Relaxed);
    service.live.release_raw();
    Next::Gone
}

impl Known {
    fn is_gone(&self) -> bool {
        let Ok(clients) = self.clients() else {
            return true;
        };
        let _table = clients.table.lock();
        // SAFETY: the lock that guards it is held.
        unsafe { (*self.shared.get()).gone }
    }
}
