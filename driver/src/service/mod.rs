//! Network services inside the kernel, started and stopped by IOCTL.
//!
//! # Life of a service
//! `start` reserves a place in the table (which makes the address and port
//! taken, for this driver), sets up the sockets without any lock, and puts the
//! running service in its place. `stop` takes it out, which leaves the place
//! reserved, ends it, and frees the place. So a service is stopped by one caller
//! only, a second start of it fails until it is gone for good, and ids are never
//! used twice. Both run at `PASSIVE_LEVEL` and may wait.
//!
//! # A service that fails
//! A TCP service whose listening socket the provider gives up, and a UDP service
//! all of whose buffers have ended with an error, take in nothing any more. They
//! stay in the table, listed as failed and with the status they failed with
//! ([`health`]), until somebody stops them: the connections there are go on, and
//! who started the service can see what became of it.
//!
//! # Life of a connection
//! A service started with `CONDITIONAL_ACCEPT` asks the rules in force first, for
//! each SYN (`socket/admit.rs`): a peer they drop is refused before its handshake
//! is answered, and counted as dropped. Any other takes who comes, and keeps what
//! that would cost it (`wsk/listener.rs`).
//!
//! The accept event (`<= DISPATCH_LEVEL`) allocates the IRPs, the buffers and the
//! MDLs the connection will ever need, links it into its service's list and
//! signals its task. From then on its task alone touches it: `tcp/state` says what
//! it does; and makes all calls on its sockets. What the events of its sockets
//! leave for the task is behind a lock (`tcp/hearing.rs`). Keep-alive is set on
//! each socket that is sent to, so that a peer that is gone without a word is found
//! out in the end, and no delay.
//! On any error, or when the service stops, whatever was retained is given back and
//! its sockets are closed as they are. Closing makes the provider complete what is
//! pending, and waits for events that are in progress. When every operation and
//! every close has ended, the task counts why it ended, unlinks and frees the
//! block. No memory is needed on the way out.
//!
//! A relay's target is connected to in one call that is cancelled if the service
//! stops meanwhile; no data are taken from the client before it is there.
//!
//! # How a stop reaches every connection
//! All of them are signalled under their list's lock, because a connection that
//! is in the list isn't freed: it unlinks itself first, under that lock. There
//! may be thousands, so the lock is let go after every few of them. While it is,
//! connections end by themselves or by the signal they have been given, and so
//! the place where the walk goes on can be one of those that go away. That is why
//! the place is kept in the list, where unlinking moves it on (`list.rs`).
//! "Closing" is set when the walk begins and is under the same lock, so none is
//! linked from then on, and the walk meets each one that hasn't unlinked itself
//! before, once.
//!
//! # How data come
//! | service | by | memory of a connection's data |
//! |---|---|---|
//! | TCP echo | receives into slots | two slots of 8 KiB |
//! | TCP discard | events, done with in the event | none |
//! | TCP relay | events that retain what comes in bulk, sent from where it is; receives into slots what is little, and when an event may not | for each direction two slots of 16 KiB, and of the transport's at most 4 indications with 64 KiB |
//! | UDP | receives into its buffers | a datagram each |
//!
//! An echo gains nothing by retaining: it would have to be woken once more for each
//! message, to give back what it has sent, where the end of a send of a slot wakes
//! nobody. That is why a relay doesn't retain what is little either, and has events at
//! all only once there was bulk, of which it saves a copy of every byte it retains.
//!
//! # Backpressure
//! A pipe of an echo has two slots: while one is being sent the other is received
//! into, and when both are full nothing is received. A relay retains what the table
//! says, fills its slots with what comes then, and then takes nothing more. A peer
//! that doesn't read stops the one that sends. A UDP service has a fixed number of buffers,
//! each with one datagram, and a relay one more for each of a bounded number of
//! clients; while all are busy, the transport holds or drops what comes.
//!
//! # What a message costs
//! Of an echo one work item, at most: the end of a receive wakes the task, whose step
//! sends what came and receives into the other slot. The end of that send wakes
//! nobody unless something waits for it (`wsk/pump.rs`); what was moved is counted by
//! the completion itself, so that counters are exact all the same. Of a discard
//! none: its event counts. Of what a relay retains two: one to send it, and one to
//! give it back, which nobody waits for.
//!
//! # Locks
//! | lock | guards | held while |
//! |---|---|---|
//! | [`TABLE`] | the table of services | looking, copying counters |
//! | a TCP service's list | links of its connections, "closing" | linking, unlinking, signalling a few of them, listing them |
//! | a TCP connection's gate, for each socket | what its events have kept | keeping one, taking all of them |
//! | a UDP relay's table | its clients | finding one, putting one in, taking one out |
//! | the pump's queue | tasks and their signals | raising signals |
//!
//! A list's or a table's lock comes before the pump's; `TABLE` and a gate's are taken
//! alone.
//! What keeps things alive is not locks but rundowns: [`CALLS`] for calls into
//! this file, each service's `live` for its connections, buffers and clients and
//! for who lists its sockets, a UDP service's `calls` for calls on its socket.

mod counters;
mod health;
mod list;
mod sockets;
mod table;
mod tcp;
mod udp;

use core::net::SocketAddr;

use weir_abi::{
    ServiceInfo, ServiceKind, ServiceSpec, ServiceState, SocketAddress, SocketInfo, Transport,
    status,
};

use crate::kernel::lock::SpinLock;
use crate::kernel::pool::{KBox, Tag};
use crate::kernel::rundown::Rundown;
use crate::kernel::status::{NtStatus, Result};
use counters::Counts;
use table::{NoPlace, Table};
use tcp::TcpService;
use tcp::state::Kind;
use udp::UdpService;

/// The pool tag of everything a service allocates itself.
const TAG: Tag = Tag::new(*b"WrSv");

static TABLE: SpinLock<Table<Service>> = SpinLock::new(Table::new());

/// Held by each start and stop.
static CALLS: Rundown = Rundown::new();

/// A running service.
enum Service {
    Tcp(KBox<TcpService>),
    Udp(KBox<UdpService>),
}

impl Service {
    fn start(spec: &ServiceSpec) -> Result<(Self, SocketAddr)> {
        let kind = match spec.kind {
            ServiceKind::Echo => Kind::Echo,
            ServiceKind::Discard => Kind::Discard,
            ServiceKind::Relay => Kind::Relay,
        };
        match spec.transport {
            Transport::Tcp => {
                let (service, bound) = TcpService::start(kind, spec)?;
                Ok((Self::Tcp(service), bound))
            }
            Transport::Udp => {
                let (service, bound) = UdpService::start(kind, spec.address, spec.target)?;
                Ok((Self::Udp(service), bound))
            }
        }
    }

    fn stop(self) {
        match self {
            Self::Tcp(service) => TcpService::stop(service),
            Self::Udp(service) => UdpService::stop(service),
        }
    }

    fn counts(&self) -> Counts {
        match self {
            Self::Tcp(service) => service.counters().read(),
            Self::Udp(service) => service.counters().read(),
        }
    }

    /// The NTSTATUS it failed with, none while it runs.
    fn failure(&self) -> Option<i32> {
        match self {
            Self::Tcp(service) => service.health().failure(),
            Self::Udp(service) => service.health().failure(),
        }
    }
}

/// A service that isn't stopped meanwhile.
struct Held {
    id: u32,
    bound: SocketAddr,
    service: HeldService,
}

enum HeldService {
    Tcp(*const TcpService),
    Udp(*const UdpService),
}

impl Held {
    /// The first service from `id` on that isn't being stopped.
    fn first(id: u32) -> Option<Self> {
        let table = TABLE.lock();
        let mut after = id.saturating_sub(1);
        loop {
            let (id, spec, service) = table.after(after)?;
            after = id;
            let service = match service {
                Service::Tcp(service) if service.hold() => {
                    HeldService::Tcp(service.as_ptr().cast_const())
                }
                Service::Udp(service) if service.hold() => {
                    HeldService::Udp(service.as_ptr().cast_const())
                }
                _ => continue,
            };
            return Some(Self {
                id,
                bound: spec.address,
                service,
            });
        }
    }

    fn show(&self, from: u64, each: &mut impl FnMut(&SocketInfo) -> bool) -> bool {
        match self.service {
            HeldService::Tcp(service) => {
                // SAFETY: held, so not freed.
                unsafe { &*service }.show(self.id, self.bound, from, each)
            }
            HeldService::Udp(service) => {
                // SAFETY: held, so not freed.
                unsafe { &*service }.show(self.id, self.bound, from, each)
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        match self.service {
            // SAFETY: held, so not freed before this.
            HeldService::Tcp(service) => unsafe { &*service }.let_go(),
            // SAFETY: as above.
            HeldService::Udp(service) => unsafe { &*service }.let_go(),
        }
    }
}

/// Shows the sockets of services with ids from `id` on, in their order, until
/// `each` returns false; the id of the one it was then, `None` if those were all.
pub(crate) fn sockets(id: u64, mut each: impl FnMut(&SocketInfo) -> bool) -> Option<u64> {
    let (mut service, mut from) = sockets::place(id);
    let mut stopped = None;
    while let Some(held) = Held::first(service) {
        if held.id != service {
            from = sockets::OWN;
        }
        let more = held.show(from, &mut |info| {
            let fits = each(info);
            if !fits {
                stopped = Some(info.id);
            }
            fits
        });
        if !more {
            return stopped;
        }
        service = held.id.checked_add(1)?;
        from = sockets::OWN;
    }
    None
}

/// How many sockets services have.
pub(crate) fn socket_count() -> u32 {
    let table = TABLE.lock();
    let mut count: u32 = 0;
    let mut id = 0;
    while let Some((next, spec, service)) = table.after(id) {
        let each = match (spec.transport, spec.kind) {
            (Transport::Tcp, ServiceKind::Relay) => 2,
            _ => 1,
        };
        let connections = service.counts().connections.saturating_mul(each);
        count = count.saturating_add(connections).saturating_add(1);
        id = next;
    }
    count
}

/// A service that has been started.
#[derive(Clone, Copy)]
pub(crate) struct Started {
    /// Its id.
    pub(crate) id: u32,
    /// Where it listens, the port as it was chosen.
    pub(crate) address: SocketAddress,
}

/// All services together.
#[derive(Clone, Copy, Default)]
pub(crate) struct Totals {
    /// Services that run.
    pub(crate) services: u32,
    /// Their connections now.
    pub(crate) connections: u32,
}

/// Lets services be started. Once, at load, before any other call here.
pub(crate) fn open() {
    CALLS.init();
}

/// Starts a service. `PASSIVE_LEVEL`.
///
/// # Errors
/// `STATUS_OBJECT_NAME_COLLISION` for a service that runs already;
/// `STATUS_QUOTA_EXCEEDED` when there are too many;
/// `STATUS_ADDRESS_ALREADY_EXISTS` when the port is somebody else's;
/// `STATUS_INVALID_ADDRESS` when the address isn't this machine's;
/// `STATUS_DEVICE_NOT_READY` when there is no network provider;
/// `STATUS_DELETE_PENDING` when the driver is unloading; or what the provider
/// says. In each case nothing has changed.
pub(crate) fn start(spec: &ServiceSpec) -> Result<Started> {
    let _call = CALLS.acquire().ok_or(NtStatus::DELETE_PENDING)?;
    let id = TABLE.lock().reserve(*spec).map_err(|error| match error {
        NoPlace::Exists => NtStatus::OBJECT_NAME_COLLISION,
        NoPlace::Full | NoPlace::OutOfIds => NtStatus::QUOTA_EXCEEDED,
    })?;
    match Service::start(spec) {
        Ok((service, bound)) => {
            let refused = TABLE.lock().run(id, bound, service);
            if let Err(service) = refused {
                service.stop();
                return Err(NtStatus::INVALID_DEVICE_STATE);
            }
            Ok(Started {
                id,
                address: bound.into(),
            })
        }
        Err(status) => {
            TABLE.lock().release(id);
            Err(status)
        }
    }
}

/// Stops a service; all of it is gone when this returns. `PASSIVE_LEVEL`.
///
/// # Errors
/// `STATUS_NOT_FOUND` if no such service runs (one that is just starting or
/// stopping doesn't), `STATUS_DELETE_PENDING` when the driver is unloading.
pub(crate) fn stop(id: u32) -> Result<()> {
    let _call = CALLS.acquire().ok_or(NtStatus::DELETE_PENDING)?;
    let service = TABLE.lock().take(id);
    service.ok_or(NtStatus::NOT_FOUND)?.stop();
    TABLE.lock().release(id);
    Ok(())
}

/// Writes the running services to `out`, in the order of their ids, after the
/// first `start` of them. How many were written, and how many run.
pub(crate) fn list(start: u32, out: &mut [ServiceInfo]) -> (usize, u32) {
    let table = TABLE.lock();
    let mut total: u32 = 0;
    let mut written: usize = 0;
    let mut id = 0;
    let mut out = out.iter_mut();
    while let Some((next, spec, service)) = table.after(id) {
        if total >= start
            && let Some(place) = out.next()
        {
            *place = info(next, spec, service);
            written = written.saturating_add(1);
        }
        total = total.saturating_add(1);
        id = next;
    }
    (written, total)
}

/// How many services and connections there are.
pub(crate) fn totals() -> Totals {
    let table = TABLE.lock();
    let mut totals = Totals::default();
    let mut id = 0;
    while let Some((next, _, service)) = table.after(id) {
        totals.services = totals.services.saturating_add(1);
        let connections = service.counts().connections;
        totals.connections = totals.connections.saturating_add(connections);
        id = next;
    }
    totals
}

/// Ends every service, and lets none be started any more. `PASSIVE_LEVEL`, once,
/// after [`open`].
pub(crate) fn stop_all() {
    CALLS.wait();
    // Nobody else changes the table any more: what it has, runs.
    loop {
        let (id, service) = {
            let mut table = TABLE.lock();
            let Some((id, ..)) = table.after(0) else {
                break;
            };
            (id, table.take(id))
        };
        if let Some(service) = service {
            service.stop();
        }
        TABLE.lock().release(id);
    }
}

fn info(id: u32, spec: &ServiceSpec, service: &Service) -> ServiceInfo {
    let counts = service.counts();
    let (state, status) = match service.failure() {
        None => (ServiceState::Running, status::SUCCESS),
        Some(status) => (ServiceState::Failed, status),
    };
    ServiceInfo {
        id,
        kind: spec.kind.into(),
        transport: spec.transport.into(),
        connections: counts.connections,
        address: spec.address.into(),
        accepted: counts.accepted,
        bytes_in: counts.bytes_in,
        bytes_out: counts.bytes_out,
        errors: counts.errors,
        dropped: counts.dropped,
        state: state.into(),
        status,
        target: spec.target.into(),
        finished: counts.finished,
        target_refused: counts.target_refused,
        reset_by_client: counts.reset_by_client,
        reset_by_target: counts.reset_by_target,
        timed_out: counts.timed_out,
        failed: counts.failed,
        flags: spec.flags.bits(),
        reserved: 0,
    }
}
