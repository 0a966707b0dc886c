//! Giving frames to a filter, and what becomes of those that come out.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::adapter::{Adapter, Later, Wire};
use super::consts::{
    FLAG_DISPATCH_LEVEL, RECEIVE_RESOURCES, RECEIVE_SINGLE_ETHER_TYPE, SEND_CHECK_FOR_LOOPBACK,
};
use super::engine::{Module, call, lock};
use super::frame::{self, Dir, Info, LabNbl, lists};
use super::prng::Prng;
use super::types::NetBufferList;
use super::{ends, track};
use crate::core::{Rule, irql};

/// The longest datagram of a wire: an Ethernet frame, jumbo or coalesced.
const WIRE_FRAME: usize = 65_535;
/// Frames that wait to be looped down again, at most.
const LOOP_QUEUE: usize = 1024;
/// A wire's look at its stop flag.
const TICK: Duration = Duration::from_millis(50);

/// Gives frames to the filter in one call: each group becomes one
/// NET_BUFFER_LIST with a NET_BUFFER for each frame. Without a filter, or with its handler bypassed, they go past it.
pub(crate) fn offer(adapter: &Arc<Adapter>, dir: Dir, groups: &[Vec<&[u8]>], rng: &mut Prng) {
    offer_with(adapter, dir, groups, &[], rng);
}

/// [`offer`], with entries of `NetBufferListInfo` that are not left to chance.
pub(crate) fn offer_with(
    adapter: &Arc<Adapter>,
    dir: Dir,
    groups: &[Vec<&[u8]>],
    info: &[Info],
    rng: &mut Prng,
) {
    let Some(module) = adapter.module() else {
        return bypass(adapter, dir, groups);
    };
    let handlers = module.data();
    let absent = match dir {
        Dir::Down => handlers.send.is_none(),
        Dir::Up => handlers.receive.is_none(),
    };
    let Some(_inside) = module.gate.enter() else {
        let mut stats = adapter.stats(dir);
        groups
            .iter()
            .flatten()
            .for_each(|f| stats.refused.add(length(f)));
        return;
    };
    if absent {
        return bypass(adapter, dir, groups);
    }
    // The first receive of all is one of those, so that none goes without.
    let first = adapter.stats(dir).offered.frames == 0;
    let percent = adapter.shape.resources_percent;
    let resources = dir == Dir::Up && (rng.percent(percent) || (first && percent > 0));
    let mut chain = Vec::with_capacity(groups.len());
    for group in groups {
        let list = frame::build(group, dir, adapter.source, info, rng, &adapter.shape);
        chain.push(list.nbl());
        enter(adapter, &module, list, dir, resources);
    }
    let level = if rng.percent(adapter.shape.dispatch_percent) {
        irql::DISPATCH_LEVEL
    } else {
        irql::PASSIVE_LEVEL
    };
    let told = if level == irql::DISPATCH_LEVEL && rng.percent(80) {
        FLAG_DISPATCH_LEVEL
    } else {
        0
    };
    let head = frame::link(&chain);
    match dir {
        Dir::Down => {
            let flags = told
                | if rng.percent(50) {
                    SEND_CHECK_FOR_LOOPBACK
                } else {
                    0
                };
            let Some(handler) = handlers.send else { return };
            call(
                "FilterSendNetBufferLists",
                level,
                handler as *const (),
                || {
                    // SAFETY: the handler is the driver's, and it owns the chain now.
                    unsafe { handler(module.context(), head, 0, flags) }
                },
            );
        }
        Dir::Up => {
            let flags = told
                | if resources { RECEIVE_RESOURCES } else { 0 }
                | if one_ether_type(groups) {
                    RECEIVE_SINGLE_ETHER_TYPE
                } else {
                    0
                };
            let count = u32::try_from(chain.len()).unwrap_or(u32::MAX);
            let Some(handler) = handlers.receive else {
                return;
            };
            call(
                "FilterReceiveNetBufferLists",
                level,
                handler as *const (),
                || {
                    // SAFETY: the handler is the driver's, and it owns the chain now.
                    unsafe { handler(module.context(), head, 0, count, flags) }
                },
            );
            if resources {
                reclaim(&module, &chain);
            }
        }
    }
}

fn enter(adapter: &Adapter, module: &Module, list: LabNbl, dir: Dir, resources: bool) {
    let mut stats = adapter.stats(dir);
    let sequence = adapter.next_sequence(dir);
    for (digest, len) in list.frames() {
        stats.offer(*digest, *len);
    }
    drop(stats);
    track::offer(module, list, dir, sequence, resources);
}

/// After a receive with NDIS_RECEIVE_FLAGS_RESOURCES the lists are the
/// miniport's again, in the chain they came in.
fn reclaim(module: &Module, chain: &[*mut NetBufferList]) {
    for nbl in chain {
        if track::place(*nbl) != Some(track::Place::Filter) {
            violate!(
                Rule::LabNdisResources,
                "FilterReceiveNetBufferLists returned while NBL {nbl:p}, indicated with \
                 NDIS_RECEIVE_FLAGS_RESOURCES, is {:?}",
                track::place(*nbl)
            );
        }
    }
    let Some(first) = chain.first() else { return };
    let now: Vec<*mut NetBufferList> = lists(*first).take(chain.len() + 1).collect();
    if now != chain {
        violate!(
            Rule::LabNdisResources,
            "FilterReceiveNetBufferLists returned without the original chain of {} NBL(s) restored",
            chain.len()
        );
    }
    for nbl in chain {
        track::require_unchanged(module, "FilterReceiveNetBufferLists", *nbl);
        ends::home(module, *nbl, Dir::Up);
    }
}

fn bypass(adapter: &Adapter, dir: Dir, groups: &[Vec<&[u8]>]) {
    for bytes in groups.iter().flatten() {
        adapter.stats(dir).bypassed.add(length(bytes));
        came_out(adapter, dir, bytes.to_vec());
    }
}

fn length(frame: &[u8]) -> u32 {
    u32::try_from(frame.len()).unwrap_or(u32::MAX)
}

fn one_ether_type(groups: &[Vec<&[u8]>]) -> bool {
    let mut types = groups.iter().flatten().map(|f| f.get(12..14));
    let first = types.next().flatten();
    first.is_some() && types.all(|t| t == first)
}

/// Whether anybody looks at the bytes of frames that come out this way.
pub(crate) fn wants_bytes(adapter: &Adapter, dir: Dir) -> bool {
    let [down, up] = &adapter.dumps;
    match dir {
        Dir::Down => lock(down).is_some() || lock(&adapter.wire).is_some(),
        Dir::Up => lock(up).is_some() || adapter.loop_above.load(Ordering::SeqCst),
    }
}

/// A frame came out: to the dump file, the wire, or back down.
pub(crate) fn came_out(adapter: &Adapter, dir: Dir, bytes: Vec<u8>) {
    let [down, up] = &adapter.dumps;
    let mut dump = lock(if dir == Dir::Down { down } else { up });
    if let Some(file) = dump.as_mut()
        && file.write(&bytes).is_err()
    {
        *dump = None;
    }
    drop(dump);
    match dir {
        Dir::Down => {
            let wire = lock(&adapter.wire).clone();
            if let Some(wire) = wire {
                wire.transmit(&bytes);
            }
        }
        Dir::Up if adapter.loop_above.load(Ordering::SeqCst) => {
            // The host has a send queue with an end, too.
            if adapter.above.len() < LOOP_QUEUE {
                adapter.above.push(Instant::now(), Later::Send(bytes));
            } else {
                adapter.arrived("loop_overflow");
            }
        }
        Dir::Up => {}
    }
}

impl Wire {
    fn transmit(&self, bytes: &[u8]) {
        let peer = *lock(&self.peer);
        let sent = peer.is_some_and(|to| self.socket.send_to(bytes, to).is_ok());
        if sent { &self.sent } else { &self.errors }.fetch_add(1, Ordering::SeqCst);
    }
}

/// Attaches an adapter to a UDP socket of the machine.
///
/// `listen` is the port on 127.0.0.1 (none or 0: any). Without a `peer`, frames
/// go to whoever sent the last one.
pub(crate) fn connect(
    adapter: &Arc<Adapter>,
    listen: Option<u16>,
    peer: Option<&str>,
) -> Result<String, String> {
    let peer = peer
        .map(|p| p.parse().map_err(|e| format!("wire {p}: {e}")))
        .transpose()?;
    let socket =
        UdpSocket::bind(("127.0.0.1", listen.unwrap_or(0))).map_err(|e| format!("wire: {e}"))?;
    socket
        .set_read_timeout(Some(TICK))
        .map_err(|e| format!("wire: {e}"))?;
    let local = socket
        .local_addr()
        .map_err(|e| format!("wire: {e}"))?
        .to_string();
    let fixed = peer.is_some();
    let wire = Arc::new(Wire {
        socket,
        peer: Mutex::new(peer),
        stop: AtomicBool::new(false),
        sent: AtomicU64::new(0),
        received: AtomicU64::new(0),
        errors: AtomicU64::new(0),
    });
    if let Some(old) = lock(&adapter.wire).replace(Arc::clone(&wire)) {
        old.stop.store(true, Ordering::SeqCst);
    }
    let adapter = Arc::clone(adapter);
    std::thread::Builder::new()
        .name(format!("ndis-{}-wire", adapter.name))
        .spawn(move || listen_to(&adapter, &wire, fixed))
        .map_err(|e| format!("wire: {e}"))?;
    Ok(local)
}

/// Each datagram is a frame for the host above.
fn listen_to(adapter: &Arc<Adapter>, wire: &Wire, fixed: bool) {
    let mut rng = adapter.fork_rng();
    let mut buffer = vec![0; WIRE_FRAME];
    while !wire.stop.load(Ordering::SeqCst) && !adapter.stop.load(Ordering::SeqCst) {
        let Ok((len, from)) = wire.socket.recv_from(&mut buffer) else {
            continue;
        };
        if !fixed {
            *lock(&wire.peer) = Some(from);
        }
        wire.received.fetch_add(1, Ordering::SeqCst);
        if let Some(bytes) = buffer.get(..len) {
            offer(adapter, Dir::Up, &[vec![bytes]], &mut rng);
        }
    }
}
