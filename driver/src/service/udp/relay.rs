//! What a UDP relay keeps of each client: a socket of its own towards the
//! target, so that answers find their way back, and one buffer for them.
//!
//! # Life of a client
//! The first datagram from an address makes a block for it, puts it in the table
//! and has its socket opened, bound and connected; the datagram waits for that in
//! its buffer, as do others that come from there meanwhile. From then on its
//! datagrams go out by its socket, and what its task receives there goes back by
//! the service's own. A client of whom nothing was heard, nor for whom, for
//! [`IDLE_S`] is forgotten; a stop of the service forgets all.
//!
//! # Who calls what on its socket
//! Its own task receives, and closes. Buffers of the service send, and for each
//! send are counted as [`Shared::users`], until it has ended. The task closes
//! only when it is being forgotten, which lets no more users in, and there are
//! none left: so no call meets the close.
//!
//! # Locks
//! [`Clients`] has one lock, for the table and for what is [`Shared`] of each
//! client in it. It comes before the pump's.

use core::cell::{Cell, OnceCell, UnsafeCell};
use core::ffi::c_void;
use core::net::SocketAddr;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use weir_abi::{SocketInfo, SocketKind, SocketState};

use super::service::{BUFFER_LEN, UdpService, length};
use super::state::{self, DatagramAction, DatagramEvent, Failure, Fate};
use crate::kernel::lock::SpinLock;
use crate::kernel::pool::{KBox, KSlice};
use crate::kernel::status::{NtStatus, Result};
use crate::kernel::time;
use crate::service::TAG;
use crate::service::counters::bump;
use crate::service::sockets;
use crate::wsk::pump::{self, Next, Task};
use crate::wsk::{Client, Datagram, Endpoint as _, IoBuffer, Op, Peer, SockAddr};

/// Most clients of one relay at once: with their buffers, 16 MiB of non-paged
/// pool. Datagrams of more are dropped, and counted.
const MAX_CLIENTS: usize = 256;

/// Seconds after which a client is forgotten: the least RFC 4787 (REQ-5) asks of
/// those who keep such tables.
const IDLE_S: u64 = 120;

/// Units of 100 ns in a second.
const PER_SECOND: u64 = 10_000_000;

mod signal {
    pub(super) const START: u32 = 1;
    /// It is to be forgotten.
    pub(super) const STOP: u32 = 2;
    /// Open, bind, connect, receive or send has ended.
    pub(super) const ENDED: u32 = 4;
    pub(super) const CLOSED: u32 = 8;
    /// The last user has gone.
    pub(super) const DRAINED: u32 = 0x10;
    /// The pause after too many failures is over.
    pub(super) const RESUME: u32 = 0x20;
}

/// A relay's clients.
pub(super) struct Clients {
    any: SockAddr,
    target: SockAddr,
    table: SpinLock<KSlice<Option<Entry>>>,
    /// Clients that were ever made.
    made: AtomicU32,
}

#[derive(Clone, Copy)]
struct Entry {
    address: SocketAddr,
    client: NonNull<Known>,
}

// SAFETY: what it points to is kept alive by being in the table.
unsafe impl Send for Entry {}

/// What becomes of a client's datagram.
pub(super) enum Route {
    /// To be sent by this client's socket; [`Clients::sent`] follows.
    Send(NonNull<Known>),
    /// The buffer is signalled when it can be asked again.
    Wait,
    Drop,
}

/// Guarded by the table's lock.
struct Shared {
    ready: bool,
    /// It is being forgotten, and not in the table any more.
    gone: bool,
    /// Sends of the service's buffers that haven't ended.
    users: u32,
    /// Buffers that wait, a bit for each.
    waiting: u32,
    /// When something was sent or received last.
    used_100ns: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Opening,
    Binding,
    Connecting,
    Running,
}

/// One client. All of it but `task`, `shared` and the counters is touched by its
/// own step only.
pub(super) struct Known {
    task: Task,
    service: *const UdpService,
    address: SockAddr,
    /// Which of the service's clients it is, from 0.
    count: u32,
    opened_100ns: u64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    shared: UnsafeCell<Shared>,
    phase: Cell<Phase>,
    /// Whether `transfer` is pending.
    pending: Cell<bool>,
    /// Whether the close has been asked for, and whether it has ended.
    closing: Cell<bool>,
    closed: Cell<bool>,
    machine: Cell<state::Datagram>,
    retired: Cell<bool>,
    socket: OnceCell<Datagram>,
    transfer: Op,
    close: Op,
    buffer: IoBuffer,
    peer: Peer,
}

impl Clients {
    pub(super) fn try_new(target: SocketAddr) -> Result<Self> {
        Ok(Self {
            any: SockAddr::any(&target),
            target: SockAddr::from(target),
            table: SpinLock::new(KSlice::try_from_fn(MAX_CLIENTS, TAG, |_| None)?),
            made: AtomicU32::new(0),
        })
    }

    /// Where a datagram from `from` goes, which is in buffer `number`. A client
    /// that isn't known is made so if it `may` be.
    ///
    /// # Safety
    /// `service` is live, and these are its clients; if `may`, it isn't stopping,
    /// which the caller holds up.
    pub(super) unsafe fn route(
        &self,
        service: *const UdpService,
        from: &SockAddr,
        number: u32,
        may: bool,
    ) -> Route {
        let Ok(mut address) = SocketAddr::try_from(from) else {
            return Route::Drop;
        };
        if let SocketAddr::V6(v6) = &mut address {
            // Part of the packet's header, and not of who sends.
            v6.set_flowinfo(0);
        }
        let bit = 1u32.checked_shl(number).unwrap_or(0);
        if let Some(route) = self.find(&address, bit) {
            return route;
        }
        if !may {
            return Route::Drop;
        }
        let count = self.made.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's.
        let client = unsafe { Known::try_new(service, SockAddr::from(address), count, bit) };
        let Ok(client) = client else {
            return Route::Drop;
        };
        // SAFETY: live (caller).
        let service = unsafe { &*service };
        self.insert(service, address, client, bit)
    }

    fn find(&self, address: &SocketAddr, bit: u32) -> Option<Route> {
        let table = self.table.lock();
        Self::found(&table, address, bit)
    }

    fn found(table: &[Option<Entry>], address: &SocketAddr, bit: u32) -> Option<Route> {
        let mut entries = table.iter().flatten();
        let entry = entries.find(|entry| entry.address == *address)?;
        // SAFETY: in the table, whose lock is held: alive.
        let shared = unsafe { entry.client.as_ref() }.shared.get();
        // SAFETY: the lock that guards it is held.
        let shared = unsafe { &mut *shared };
        if shared.ready {
            shared.users = shared.users.saturating_add(1);
            shared.used_100ns = time::monotonic_100ns();
            Some(Route::Send(entry.client))
        } else {
            shared.waiting |= bit;
            Some(Route::Wait)
        }
    }

    /// Puts a new client in the table, unless somebody else has done so, and
    /// starts it. The service isn't stopping.
    fn insert(
        &self,
        service: &UdpService,
        address: SocketAddr,
        client: KBox<Known>,
        bit: u32,
    ) -> Route {
        let mut table = self.table.lock();
        if let Some(route) = Self::found(&table, &address, bit) {
            drop(table);
            drop(client);
            return route;
        }
        let place = table.iter_mut().find(|place| place.is_none());
        let Some(place) = place.filter(|_| service.live.acquire_raw()) else {
            drop(table);
            drop(client);
            return Route::Drop;
        };
        let Some(client) = NonNull::new(KBox::into_raw(client)) else {
            return Route::Drop;
        };
        *place = Some(Entry { address, client });
        service.counters.connections.fetch_add(1, Ordering::Relaxed);
        // SAFETY: in the table, whose lock is held: alive.
        let task = unsafe { &raw const (*client.as_ptr()).task };
        // SAFETY: bound in try_new; it goes away by its own step only, which
        // takes the lock first.
        unsafe { pump::signal(task, signal::START) };
        Route::Wait
    }

    /// A send by this client's socket has ended, or wasn't made.
    pub(super) fn sent(&self, client: NonNull<Known>) {
        let _table = self.table.lock();
        // SAFETY: a user (the caller) keeps it alive until it has been counted
        // off below, under the lock its last step takes as well.
        let known = unsafe { client.as_ref() };
        // SAFETY: the lock that guards it is held.
        let shared = unsafe { &mut *known.shared.get() };
        shared.users = shared.users.saturating_sub(1);
        if shared.gone && shared.users == 0 {
            // SAFETY: alive, as above; it waits for this signal.
            unsafe { pump::signal(&raw const known.task, signal::DRAINED) };
        }
    }

    /// Has every client forgotten that `which` is true of, with how long it was
    /// idle in seconds; how many. `IRQL <= DISPATCH_LEVEL`.
    fn forget(&self, which: impl Fn(u64) -> bool) -> u64 {
        let now = time::monotonic_100ns();
        let mut count: u64 = 0;
        let mut table = self.table.lock();
        for place in table.iter_mut() {
            let Some(entry) = place else { continue };
            // SAFETY: in the table, whose lock is held: alive.
            let known = unsafe { entry.client.as_ref() };
            // SAFETY: the lock that guards it is held.
            let shared = unsafe { &*known.shared.get() };
            let idle = now.saturating_sub(shared.used_100ns);
            if which(idle.checked_div(PER_SECOND).unwrap_or(0)) {
                count = count.saturating_add(1);
                // SAFETY: bound; its last step takes this lock first.
                unsafe { pump::signal(&raw const known.task, signal::STOP) };
            }
        }
        count
    }

    /// Has clients forgotten of whom nothing was heard for long; how many.
    pub(super) fn forget_idle(&self) -> u64 {
        self.forget(|idle_s| idle_s >= IDLE_S)
    }

    /// Has all of them forgotten.
    pub(super) fn forget_all(&self) {
        self.forget(|_| true);
    }

    /// Shows their sockets towards the target, from the one with this number on,
    /// until `each` returns false; whether it never did. The table's order is
    /// none, so the next one is looked for each time.
    pub(super) fn show(
        &self,
        service: u32,
        from: u64,
        each: &mut impl FnMut(&SocketInfo) -> bool,
    ) -> bool {
        let mut from = from;
        loop {
            let table = self.table.lock();
            let numbered = table.iter().flatten().map(|entry| {
                // SAFETY: in the table, whose lock is held: alive.
                let known = unsafe { entry.client.as_ref() };
                (sockets::number(known.count, 0), known)
            });
            let later = numbered.filter(|(number, _)| *number >= from);
            let Some((number, known)) = later.min_by_key(|(number, _)| *number) else {
                return true;
            };
            let blank = sockets::blank(service, number, SocketKind::Udp, SocketState::Connected);
            let info = SocketInfo {
                remote: SocketAddr::try_from(&self.target).ok().into(),
                bytes_in: known.bytes_in.load(Ordering::Relaxed),
                bytes_out: known.bytes_out.load(Ordering::Relaxed),
                opened_100ns: known.opened_100ns,
                ..blank
            };
            drop(table);
            if !each(&info) {
                return false;
            }
            from = number.saturating_add(1);
        }
    }

    /// Lets those go on that pause.
    pub(super) fn resume(&self) {
        let table = self.table.lock();
        for entry in table.iter().flatten() {
            // SAFETY: in the table, whose lock is held: alive.
            let known = unsafe { entry.client.as_ref() };
            // SAFETY: bound; its last step takes this lock first.
            unsafe { pump::signal(&raw const known.task, signal::RESUME) };
        }
    }
}

impl Known {
    /// A client that isn't in the table yet.
    ///
    /// # Safety
    /// `service` outlives it.
    unsafe fn try_new(
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
    pub(super) fn count_sent(&self, length: u32) {
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
    pub(super) unsafe fn socket(&self) -> Option<&Datagram> {
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
