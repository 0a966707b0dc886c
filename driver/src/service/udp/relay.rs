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
use core::net::SocketAddr;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use weir_abi::{SocketInfo, SocketKind, SocketState};

use super::service::UdpService;
use super::state;
use crate::kernel::lock::SpinLock;
use crate::kernel::pool::{KBox, KSlice};
use crate::kernel::status::Result;
use crate::kernel::time;
use crate::service::TAG;
use crate::service::sockets;
use crate::wsk::pump::{self, Task};
use crate::wsk::{Datagram, IoBuffer, Op, Peer, SockAddr};

mod known;

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
