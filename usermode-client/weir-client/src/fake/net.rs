//! The sockets of the driver in memory: those of the host, on one reactor.
//!
//! They keep the contract's rules, not the host's: a handle closed before both
//! sides have shut down resets its connection, a read that is cancelled fails,
//! a full queue refuses.

mod op;
mod role;
mod socket;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use mio::{Events, Poll, Registry, Token, Waker};
use weir_abi::{IpVersion, SocketInfo, SocketKind, status};

pub(super) use op::{FakeOp, Op};
pub(super) use socket::FakeSocket;

use crate::lock::lock;

/// The token of the waker: no socket has it, as ids start at 1.
const WAKE: Token = Token(0);

/// The sockets of a driver.
pub(super) struct Network {
    registry: Registry,
    waker: Waker,
    sockets: Mutex<BTreeMap<u64, Arc<FakeSocket>>>,
    next: AtomicU64,
    /// Writes stay where they are.
    held: AtomicBool,
    stop: Arc<AtomicBool>,
}

impl Network {
    /// A network with its reactor.
    pub(super) fn start() -> io::Result<Arc<Network>> {
        let poll = Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let stop = Arc::new(AtomicBool::new(false));
        let network = Arc::new(Network {
            registry,
            waker,
            sockets: Mutex::default(),
            next: AtomicU64::new(1),
            held: AtomicBool::new(false),
            stop: Arc::clone(&stop),
        });
        let served = Arc::downgrade(&network);
        std::thread::Builder::new()
            .name("fake-network".to_owned())
            .spawn(move || serve(poll, &stop, |id| served.upgrade()?.find(id)))?;
        Ok(network)
    }

    pub(super) fn find(&self, id: u64) -> Option<Arc<FakeSocket>> {
        lock(&self.sockets).get(&id).cloned()
    }

    fn new_id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn add(&self, socket: &Arc<FakeSocket>) {
        lock(&self.sockets).insert(socket.id, Arc::clone(socket));
    }

    pub(super) fn hold_writes(&self, hold: bool) {
        self.held.store(hold, Ordering::Relaxed);
        let all: Vec<_> = lock(&self.sockets).values().cloned().collect();
        for socket in all {
            socket.progress();
        }
    }

    /// How many sockets there are.
    pub(super) fn len(&self) -> usize {
        lock(&self.sockets).len()
    }

    /// The sockets from an id on.
    pub(super) fn list(&self, from: u64) -> Vec<SocketInfo> {
        let sockets: Vec<_> = lock(&self.sockets)
            .range(from..)
            .map(|(_, s)| Arc::clone(s))
            .collect();
        sockets.iter().map(|s| s.info()).collect()
    }

    /// A listener with this id.
    pub(super) fn listener(&self, id: u64) -> Result<Arc<FakeSocket>, i32> {
        self.find(id)
            .filter(|s| s.kind == SocketKind::TcpListener)
            .ok_or(status::NOT_FOUND)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // If it can't be woken it stays, and serves nothing.
        let _ = self.waker.wake();
    }
}

fn serve(mut poll: Poll, stop: &AtomicBool, find: impl Fn(u64) -> Option<Arc<FakeSocket>>) {
    let mut events = Events::with_capacity(256);
    while !stop.load(Ordering::Relaxed) {
        if let Err(error) = poll.poll(&mut events, None) {
            if error.kind() == io::ErrorKind::Interrupted {
                continue;
            }
            tracing::error!(%error, "the fake network stops");
            return;
        }
        for event in &events {
            if let Some(socket) = find(event.token().0 as u64) {
                socket.progress();
            }
        }
    }
}

/// The status a failure of the host's is in the contract.
pub(super) fn status_of(error: &io::Error) -> i32 {
    use io::ErrorKind as K;
    match error.kind() {
        K::AddrInUse => status::ADDRESS_ALREADY_EXISTS,
        K::AddrNotAvailable => status::INVALID_ADDRESS,
        K::ConnectionRefused => status::CONNECTION_REFUSED,
        K::ConnectionReset => status::CONNECTION_RESET,
        K::ConnectionAborted => status::CONNECTION_ABORTED,
        K::NotConnected => status::INVALID_CONNECTION,
        K::BrokenPipe => status::CONNECTION_RESET,
        K::TimedOut => status::IO_TIMEOUT,
        K::PermissionDenied => status::ACCESS_DENIED,
        K::HostUnreachable => status::HOST_UNREACHABLE,
        K::NetworkUnreachable => status::NETWORK_UNREACHABLE,
        K::InvalidInput => status::INVALID_ADDRESS_COMPONENT,
        _ => status::UNSUCCESSFUL,
    }
}

/// The addresses of a name, as the host finds them.
pub(super) fn resolve(
    name: &[u16],
    service: Option<&[u16]>,
    family: Option<IpVersion>,
) -> Result<Vec<SocketAddr>, i32> {
    let text = |units: &[u16]| {
        let units = units.strip_suffix(&[0]).unwrap_or(units);
        String::from_utf16(units).map_err(|_| status::NO_MATCH)
    };
    let port = match service {
        Some(units) => text(units)?.parse().map_err(|_| status::NO_MATCH)?,
        None => 0,
    };
    let found = (text(name)?.as_str(), port)
        .to_socket_addrs()
        .map_err(|_| status::NO_MATCH)?;
    let wanted = |addr: &SocketAddr| match family {
        None => true,
        Some(IpVersion::V4) => addr.is_ipv4(),
        Some(IpVersion::V6) => addr.is_ipv6(),
    };
    Ok(found.filter(wanted).collect())
}
