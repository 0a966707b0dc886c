//! A TCP service: a listener and its connections.

use core::ffi::c_void;
use core::net::SocketAddr;
use core::ptr;
use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use weir_abi::{
    ServiceFlags, ServiceSpec, SocketFlags, SocketInfo, SocketKind, SocketState, status,
};

use super::connection::Connection;
use super::io::units;
use super::signal;
use super::state::{CLIENT, End, Kind};
use crate::kernel::lock::SpinLock;
use crate::kernel::log;
use crate::kernel::pool::KBox;
use crate::kernel::rundown::Rundown;
use crate::kernel::status::{NtStatus, Result};
use crate::service::TAG;
use crate::service::counters::{Counters, bump};
use crate::service::health::Health;
use crate::service::list::List;
use crate::service::sockets;
use crate::socket::admits;
use crate::wsk::pump::{self, Next, Task};
use crate::wsk::{Accept, Client, Ear, Ends, Listener, Op, Options, Refused, SockAddr, Stream};

/// Most memory of all connections of all services together, in units of 4 KiB
/// ([`units`]): 256 MiB of non-paged pool. More connections are refused, and
/// counted.
const MAX_UNITS: usize = 65_536;

/// Connections that a stop signals before it lets go of their list for a
/// moment, so that others get at it, and the processor at its DPCs.
const SIGNALLED_IN_A_ROW: usize = 64;

/// Units that connections of all services together have.
static UNITS: AtomicUsize = AtomicUsize::new(0);

/// A TCP service. Its address is in the provider's hands and in its connections'.
pub(in crate::service) struct TcpService {
    kind: Kind,
    /// The rules are asked about a peer before its handshake is answered.
    conditional: bool,
    /// A relay's: where it connects from and to.
    target: Option<[SockAddr; 2]>,
    counters: Counters,
    /// Its one part is the listener.
    health: Health,
    connections: SpinLock<Connections>,
    /// Held by each connection, and by the failure task while it works.
    live: Rundown,
    /// Set before the accept event is enabled, and not changed afterwards.
    listener: Option<Listener>,
    /// Closes a listener that the provider has given up.
    failure: Task,
    /// [`ENABLED`] and [`FAILED`]; whoever adds the second signals `failure`.
    listening: AtomicU8,
    /// Keeps the provider captured.
    client: Client,
}

/// The call that enables the accept event has returned.
const ENABLED: u8 = 1;
/// The provider has said that the listening socket doesn't work any more.
const FAILED: u8 = 2;

struct Connections {
    list: List<Connection>,
    /// Connections that were ever taken in.
    taken: u32,
    /// No more are taken in.
    closing: bool,
}

// SAFETY: its parts are atomics, locks, and a listener that is set before the
// service is shared; the task is the pump's to synchronise.
unsafe impl Sync for TcpService {}
// SAFETY: as above.
unsafe impl Send for TcpService {}

impl TcpService {
    /// Starts one of this kind as `spec` says; the address it has got, too.
    /// `PASSIVE_LEVEL`.
    pub(in crate::service) fn start(
        kind: Kind,
        spec: &ServiceSpec,
    ) -> Result<(KBox<Self>, SocketAddr)> {
        let client = Client::acquire()?;
        let mut service = KBox::try_new(
            Self {
                kind,
                conditional: spec.flags.contains(ServiceFlags::CONDITIONAL_ACCEPT),
                target: spec
                    .target
                    .map(|to| [SockAddr::any(&to), SockAddr::from(to)]),
                counters: Counters::default(),
                health: Health::new(1),
                connections: SpinLock::new(Connections {
                    list: List::new(),
                    taken: 0,
                    closing: false,
                }),
                live: Rundown::new(),
                listener: None,
                failure: Task::that_waits(listener_failure),
                listening: AtomicU8::new(0),
                client,
            },
            TAG,
        )?;
        service.live.init();
        let own = service.as_ptr();
        // SAFETY: the service stays where it is until `stop` has seen the task
        // end, which `live` tells it.
        unsafe { service.failure.bind(own.cast::<c_void>()) };
        let listener = service.listen(spec.address)?;
        service.listener = Some(listener);
        // From here on `stop` is the way out.
        match service.open_up() {
            Ok(bound) => Ok((service, bound)),
            Err(status) => {
                Self::stop(service);
                Err(status)
            }
        }
    }

    fn listen(&self, address: SocketAddr) -> Result<Listener> {
        let options = Options {
            conditional: self.conditional,
            ..Options::default()
        };
        // SAFETY: the service is freed in `stop` only, after closing.
        unsafe { Listener::open(&self.client, address, options, ptr::from_ref(self)) }
    }

    fn open_up(&self) -> Result<SocketAddr> {
        let Some(listener) = &self.listener else {
            return Err(NtStatus::INVALID_DEVICE_STATE);
        };
        let bound = listener.local_address()?;
        listener.enable(self.kind.hears())?;
        if self.listening.fetch_or(ENABLED, Ordering::AcqRel) == FAILED {
            self.close_listener();
        }
        Ok(bound)
    }

    /// Has a listener closed that has failed. Once, and not before the call that
    /// enabled its event has returned: `WskCloseSocket` must not meet another
    /// call on the same socket, and the event may come while that one runs.
    fn close_listener(&self) {
        if self.live.acquire_raw() {
            // SAFETY: bound in start; `live`, held, keeps the service until the
            // step lets go of it.
            unsafe { pump::signal(&raw const self.failure, 1) };
        }
    }

    /// Ends the service: no connection is taken any more, those there are get
    /// reset, and all of it is freed. `PASSIVE_LEVEL`.
    pub(in crate::service) fn stop(service: KBox<Self>) {
        if let Some(listener) = &service.listener {
            listener.close();
        }
        {
            let mut connections = service.connections.lock();
            connections.closing = true;
            connections.list.walk();
        }
        while service.stop_some() {}
        service.live.wait();
        drop(service);
    }

    /// Signals the next few connections of the walk; false at its end.
    fn stop_some(&self) -> bool {
        let mut connections = self.connections.lock();
        for _ in 0..SIGNALLED_IN_A_ROW {
            let Some(connection) = connections.list.step() else {
                return false;
            };
            // SAFETY: in the list, under its lock, so not freed.
            let task = unsafe { &raw const (*connection).task };
            // SAFETY: as above; the connection goes away only by a step, which
            // unlinks it under this lock first.
            unsafe { pump::signal(task, signal::STOP) };
        }
        true
    }

    /// Holds the service, unless it is being stopped.
    pub(in crate::service) fn hold(&self) -> bool {
        self.live.acquire_raw()
    }

    /// Undoes [`TcpService::hold`].
    pub(in crate::service) fn let_go(&self) {
        self.live.release_raw();
    }

    /// Shows its sockets from the one with this number on, until `each` returns
    /// false; whether it never did. Its list's lock is held meanwhile.
    pub(in crate::service) fn show(
        &self,
        id: u32,
        bound: SocketAddr,
        from: u64,
        each: &mut impl FnMut(&SocketInfo) -> bool,
    ) -> bool {
        if from == sockets::OWN {
            let (state, failure) = match self.health.failure() {
                None => (SocketState::Listening, status::SUCCESS),
                Some(failure) => (SocketState::Failed, failure),
            };
            let counts = self.counters.read();
            let mut flags = SocketFlags::empty();
            flags.set(SocketFlags::CONDITIONAL_ACCEPT, self.conditional);
            let info = SocketInfo {
                local: bound.into(),
                flags: flags.bits(),
                reads: counts.accepted,
                refused: counts.dropped,
                status: failure,
                ..sockets::blank(id, sockets::OWN, SocketKind::TcpListener, state)
            };
            if !each(&info) {
                return false;
            }
        }
        let connections = self.connections.lock();
        let list = &connections.list;
        list.all(|connection| connection.show(id, from, each))
    }

    pub(in crate::service) fn health(&self) -> &Health {
        &self.health
    }

    pub(in crate::service) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Starts to connect to the target; `ear` is who is told of its events.
    pub(super) fn connect(&self, op: &Op, ear: Ear) -> Result<()> {
        let [from, to] = self.target.as_ref().ok_or(NtStatus::INVALID_DEVICE_STATE)?;
        // SAFETY: parts of the service, which outlives its connections and so
        // their operations.
        unsafe { Stream::start_connected(&self.client, op, from, to, ear) }
    }

    /// Unlinks and frees a connection. The service may be gone when this
    /// returns.
    ///
    /// # Safety
    /// The service is live; the connection is one of its, is called by its own
    /// step, has no operation pending, and isn't used afterwards.
    pub(super) unsafe fn forget(
        service: *const Self,
        connection: *mut Connection,
        end: Option<End>,
    ) {
        // SAFETY: live, as the connection still holds `live`.
        let service = unsafe { &*service };
        {
            let mut connections = service.connections.lock();
            // SAFETY: linked by `take`, and unlinked by its last step only,
            // which this is.
            unsafe { connections.list.unlink(connection.cast_const()) };
        }
        service.counters.connections.fetch_sub(1, Ordering::Relaxed);
        if let Some(end) = end {
            service.counters.ended(end);
        }
        // SAFETY: into_raw of `accept`, with its tag; unlinked, so nobody else
        // can find it, and idle.
        drop(unsafe { KBox::from_raw(connection, TAG) });
        UNITS.fetch_sub(units(service.kind), Ordering::Relaxed);
        // The last use of the service: stop may free it from here on.
        service.live.release_raw();
    }

    /// Makes a connection's block, links it and starts it.
    fn take(&self, socket: Stream, ends: &Ends) -> core::result::Result<Ear, Refused> {
        let [local, remote] = self.target.unwrap_or([SockAddr::EMPTY; 2]);
        let ends = [*ends, Ends { local, remote }];
        // SAFETY: the connection holds `live`, which `stop` waits for.
        let connection = unsafe { Connection::try_new(self, self.kind, socket, ends) };
        let mut connection = connection.map_err(|_| Refused)?;
        let ear = connection.ear(CLIENT);
        let mut connections = self.connections.lock();
        if connections.closing {
            drop(connections);
            return Err(Refused);
        }
        // Here, so that the list is in the order of these.
        connection.count = connections.taken;
        connections.taken = connections.taken.wrapping_add(1);
        self.counters.connections.fetch_add(1, Ordering::Relaxed);
        bump(&self.counters.accepted, 1);
        let connection = KBox::into_raw(connection).cast_const();
        // SAFETY: new, so in no list; it stays where it is until it is freed,
        // which it isn't before it has been unlinked.
        unsafe { connections.list.link(connection) };
        // SAFETY: in the list, whose lock is held: it can't be stopped and
        // freed before it has been started.
        let task = unsafe { &raw const (*connection).task };
        // SAFETY: as above; bound in try_new.
        unsafe { pump::signal(task, signal::START) };
        Ok(ear)
    }
}

impl Accept for TcpService {
    fn accept(&self, connection: Stream, ends: &Ends) -> core::result::Result<Ear, Refused> {
        if !self.live.acquire_raw() {
            bump(&self.counters.dropped, 1);
            return Err(Refused);
        }
        let units = units(self.kind);
        let others = UNITS.fetch_add(units, Ordering::Relaxed);
        let taken = if others.saturating_add(units) <= MAX_UNITS {
            self.take(connection, ends)
        } else {
            Err(Refused)
        };
        if taken.is_err() {
            UNITS.fetch_sub(units, Ordering::Relaxed);
            bump(&self.counters.dropped, 1);
            // The last use of the service, but for the provider's: its close
            // waits for this event to return.
            self.live.release_raw();
        }
        taken
    }

    fn inspect(&self, ends: &Ends) -> bool {
        let good = admits(ends);
        if !good {
            bump(&self.counters.dropped, 1);
        }
        good
    }

    fn listener_failed(&self) {
        bump(&self.counters.errors, 1);
        // The event has no status of its own. This is the one that operations
        // give on a socket that is to be closed (MSDN "Closing a Socket").
        self.health.part_failed(NtStatus::FILE_FORCED_CLOSED.0);
        log::line(c"tcp service: its listening socket has failed");
        if self.listening.fetch_or(FAILED, Ordering::AcqRel) == ENABLED {
            self.close_listener();
        }
    }
}

/// The step of the failure task: runs once.
///
/// # Safety
/// `owner` is a live [`TcpService`] whose `live` was acquired for this step.
unsafe fn listener_failure(owner: *mut c_void, _signals: u32) -> Next {
    // SAFETY: kept by `live` until the last line.
    let service = unsafe { &*owner.cast::<TcpService>() };
    if let Some(listener) = &service.listener {
        listener.close();
    }
    service.live.release_raw();
    Next::Gone
}
