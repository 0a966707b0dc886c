//! A virtual Ethernet adapter: the host above and the miniport below one filter
//! module, with what each has seen.
//!
//! Context. Two threads belong to an adapter, one for each end; they finish
//! what the ends do not finish at once. Counters are behind a lock of their own
//! each direction, which is a leaf.

use std::collections::{BTreeMap, VecDeque};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::dump::Dump;
use super::engine::{HandleKind, Module, lock, new_handle};
use super::frame::Dir;
use super::prng::Prng;
use super::shape::Shape;

/// Frames and bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Amount {
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
}

impl Amount {
    pub(crate) fn add(&mut self, bytes: u32) {
        self.frames += 1;
        self.bytes += u64::from(bytes);
    }

    fn json(self) -> Value {
        json!({ "frames": self.frames, "bytes": self.bytes })
    }
}

/// One direction's account.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    /// Given to the filter.
    pub(crate) offered: Amount,
    /// Came out at the other side.
    pub(crate) out: Amount,
    /// Back with their originator after having gone through.
    pub(crate) returned: Amount,
    /// Back with their originator without having gone through.
    pub(crate) dropped: Amount,
    /// Not offered, because the module was not running.
    pub(crate) refused: Amount,
    /// Originated by the filter itself.
    pub(crate) injected: Amount,
    /// What was beside those: how many had which checksum, tag and type information.
    pub(crate) injected_info: BTreeMap<String, u64>,
    /// Went round the filter: none attached, or its handler bypassed.
    pub(crate) bypassed: Amount,
    /// Came out after one that was offered later.
    pub(crate) reordered: u64,
    /// Digest over the offered frames, in order, and over those that came out.
    pub(crate) hash_in: u64,
    pub(crate) hash_out: u64,
    /// The same, whatever the order.
    pub(crate) sum_in: u64,
    pub(crate) sum_out: u64,
    /// Completion status of sends that did not go through, by status.
    pub(crate) statuses: BTreeMap<String, u64>,
    last_out: u64,
}

impl Stats {
    /// A frame was offered.
    pub(crate) fn offer(&mut self, digest: u64, len: u32) {
        self.offered.add(len);
        self.hash_in = fold(self.hash_in, digest);
        self.sum_in = self.sum_in.wrapping_add(digest);
    }

    /// A frame came out; `sequence` is that of its list, if it was offered.
    pub(crate) fn exit(&mut self, digest: u64, len: u32, sequence: Option<u64>) {
        self.out.add(len);
        if let Some(sequence) = sequence {
            self.hash_out = fold(self.hash_out, digest);
            self.sum_out = self.sum_out.wrapping_add(digest);
            if sequence < self.last_out {
                self.reordered += 1;
            }
            self.last_out = self.last_out.max(sequence);
        }
    }

    fn json(&self) -> Value {
        json!({
            "frames_in": self.offered.frames,
            "bytes_in": self.offered.bytes,
            "frames_out": self.out.frames,
            "bytes_out": self.out.bytes,
            "returned": self.returned.json(),
            "dropped": self.dropped.json(),
            "refused": self.refused.json(),
            "injected": self.injected.json(),
            "injected_info": self.injected_info,
            "bypassed": self.bypassed.json(),
            "reordered": self.reordered,
            "hash_in": format!("{:016x}", self.hash_in),
            "hash_out": format!("{:016x}", self.hash_out),
            "sum_in": format!("{:016x}", self.sum_in),
            "sum_out": format!("{:016x}", self.sum_out),
            "drop_statuses": self.statuses,
        })
    }
}

/// A rolling hash in which order matters.
fn fold(hash: u64, digest: u64) -> u64 {
    (hash.rotate_left(7) ^ digest).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Something an end finishes later.
#[derive(Debug)]
pub(crate) enum Later {
    /// A list to complete or to return, by address, to the module with this handle.
    Nbl(usize, usize),
    /// An OID request to complete, by address.
    Oid(usize),
    /// A frame the host above sends down again.
    Send(Vec<u8>),
}

/// The list of things one end will finish, each not before its time.
#[derive(Default)]
pub(crate) struct Queue {
    items: Mutex<VecDeque<(Instant, Later)>>,
    filled: Condvar,
}

impl Queue {
    pub(crate) fn push(&self, due: Instant, item: Later) {
        lock(&self.items).push_back((due, item));
        self.filled.notify_one();
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.items).len()
    }

    /// Makes due at once what `hit` says yes to.
    pub(crate) fn hasten(&self, mut hit: impl FnMut(&Later) -> bool) {
        let now = Instant::now();
        for (due, item) in lock(&self.items).iter_mut() {
            if hit(item) {
                *due = now;
            }
        }
        self.filled.notify_one();
    }

    pub(crate) fn wake(&self) {
        self.filled.notify_all();
    }

    /// All that is due, or nothing after `patience`.
    pub(crate) fn due(&self, patience: Duration) -> Vec<Later> {
        let mut items = lock(&self.items);
        if items.is_empty() {
            items = self
                .filled
                .wait_timeout(items, patience)
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .0;
        }
        let now = Instant::now();
        let Some(first) = items.iter().map(|(due, _)| *due).min() else {
            return Vec::new();
        };
        if first > now {
            drop(items);
            std::thread::sleep(first.duration_since(now).min(patience));
            return Vec::new();
        }
        let (ready, rest) = std::mem::take(&mut *items)
            .into_iter()
            .partition(|(due, _)| *due <= now);
        *items = rest;
        let ready: VecDeque<(Instant, Later)> = ready;
        ready.into_iter().map(|(_, item)| item).collect()
    }
}

/// The far end of an adapter's cable: a UDP socket of the machine, one
/// Ethernet frame a datagram.
pub(crate) struct Wire {
    pub(crate) socket: UdpSocket,
    /// Where frames go; without one, to whoever sent last.
    pub(crate) peer: Mutex<Option<SocketAddr>>,
    pub(crate) stop: AtomicBool,
    pub(crate) sent: AtomicU64,
    pub(crate) received: AtomicU64,
    pub(crate) errors: AtomicU64,
}

/// A virtual adapter.
pub(crate) struct Adapter {
    pub(crate) name: String,
    pub(crate) mac: [u8; 6],
    pub(crate) mtu: u32,
    pub(crate) if_index: u32,
    /// `SourceHandle` of the frames of its two ends.
    pub(crate) source: usize,
    pub(crate) shape: Shape,
    /// Frames that go up are sent down again.
    pub(crate) loop_above: AtomicBool,
    module: Mutex<Option<Arc<Module>>>,
    /// One PnP operation at a time.
    pub(crate) pnp: Mutex<()>,
    /// One regular OID request at a time.
    pub(crate) oid: Mutex<()>,
    rng: Mutex<Prng>,
    stats: [Mutex<Stats>; 2],
    sequence: [AtomicU64; 2],
    /// What the miniport finishes later.
    pub(crate) below: Queue,
    /// What the host above finishes later.
    pub(crate) above: Queue,
    pub(crate) stop: AtomicBool,
    pub(crate) wire: Mutex<Option<Arc<Wire>>>,
    pub(crate) dumps: [Mutex<Option<Dump>>; 2],
    /// Miniport state that OIDs set and query.
    pub(crate) packet_filter: AtomicU32,
    pub(crate) lookahead: AtomicU32,
    /// What arrived above or below of indications and events.
    pub(crate) arrivals: Mutex<BTreeMap<String, u64>>,
}

impl Adapter {
    pub(crate) fn new(name: &str, mac: [u8; 6], mtu: u32, index: u32, shape: Shape) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            mac,
            mtu,
            if_index: index,
            source: new_handle(HandleKind::Lab),
            rng: Mutex::new(Prng::new(shape.seed, u64::from(index))),
            shape,
            loop_above: AtomicBool::new(false),
            module: Mutex::new(None),
            pnp: Mutex::new(()),
            oid: Mutex::new(()),
            stats: [Mutex::default(), Mutex::default()],
            sequence: [AtomicU64::new(1), AtomicU64::new(1)],
            below: Queue::default(),
            above: Queue::default(),
            stop: AtomicBool::new(false),
            wire: Mutex::new(None),
            dumps: [Mutex::new(None), Mutex::new(None)],
            packet_filter: AtomicU32::new(0),
            lookahead: AtomicU32::new(128),
            arrivals: Mutex::default(),
        })
    }

    /// The filter module over this adapter, if one is attached.
    pub(crate) fn module(&self) -> Option<Arc<Module>> {
        lock(&self.module).clone()
    }

    pub(crate) fn set_module(&self, module: Option<Arc<Module>>) {
        *lock(&self.module) = module;
    }

    pub(crate) fn stats(&self, dir: Dir) -> std::sync::MutexGuard<'_, Stats> {
        let [down, up] = &self.stats;
        lock(match dir {
            Dir::Down => down,
            Dir::Up => up,
        })
    }

    /// Draws from the adapter's generator.
    pub(crate) fn draw<R>(&self, f: impl FnOnce(&mut Prng) -> R) -> R {
        f(&mut lock(&self.rng))
    }

    /// A generator of its own for one stream of traffic.
    pub(crate) fn fork_rng(&self) -> Prng {
        self.draw(|rng| Prng::new(rng.next(), 1))
    }

    pub(crate) fn next_sequence(&self, dir: Dir) -> u64 {
        let [down, up] = &self.sequence;
        match dir {
            Dir::Down => down,
            Dir::Up => up,
        }
        .fetch_add(1, Ordering::SeqCst)
    }

    /// Notes that something arrived at one of the ends.
    pub(crate) fn arrived(&self, what: &str) {
        *lock(&self.arrivals).entry(what.to_owned()).or_default() += 1;
    }

    /// How often `what` has arrived.
    pub(crate) fn arrivals_of(&self, what: &str) -> u64 {
        lock(&self.arrivals).get(what).copied().unwrap_or(0)
    }

    /// The adapter for `adapters` and for the event log.
    pub(crate) fn report(&self) -> Value {
        let module = self.module();
        let listening = lock(&self.wire)
            .as_ref()
            .and_then(|w| w.socket.local_addr().ok());
        let wire = lock(&self.wire).as_ref().map(|wire| {
            json!({
                "peer": lock(&wire.peer).map(|a| a.to_string()),
                "sent": wire.sent.load(Ordering::SeqCst),
                "received": wire.received.load(Ordering::SeqCst),
                "errors": wire.errors.load(Ordering::SeqCst),
            })
        });
        json!({
            "name": self.name,
            "mac": mac_text(&self.mac),
            "mtu": self.mtu,
            "if_index": self.if_index,
            "state": module.as_ref().map_or("Detached".to_owned(), |m| format!("{:?}", m.state())),
            "in_flight": module.as_ref().map_or(0, |m| m.outstanding.load(Ordering::SeqCst)),
            "down": self.stats(Dir::Down).json(),
            "up": self.stats(Dir::Up).json(),
            "packet_filter": self.packet_filter.load(Ordering::SeqCst),
            "arrivals": *lock(&self.arrivals),
            "wire": wire,
            "wire_port": listening.map(|a| a.port()),
        })
    }
}

/// Six bytes as text.
pub(crate) fn mac_text(mac: &[u8; 6]) -> String {
    mac.map(|b| format!("{b:02x}")).join(":")
}

/// `02:00:00:00:00:01` (or with dashes) as six bytes.
pub(crate) fn parse_mac(text: &str) -> Result<[u8; 6], String> {
    let parts: Vec<&str> = text.split([':', '-']).collect();
    let mut mac = [0; 6];
    if parts.len() != mac.len() {
        return Err(format!("'{text}' is no MAC address"));
    }
    for (byte, part) in mac.iter_mut().zip(parts) {
        *byte = u8::from_str_radix(part, 16).map_err(|_| format!("'{text}' is no MAC address"))?;
    }
    Ok(mac)
}
