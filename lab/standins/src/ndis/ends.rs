//! The two ends of an adapter: the miniport below and the host above.
//!
//! Both take frames that the filter passes on, account for them, and give the
//! lists back: some inside the very call, some later from a thread of their
//! own, so that frames are in flight while a module pauses. Calls back into the
//! filter are at PASSIVE_LEVEL or DISPATCH_LEVEL as the seed has it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::adapter::{Adapter, Later};
use super::consts::{
    FLAG_DISPATCH_LEVEL, STATUS_FAILURE, STATUS_SEND_ABORTED, STATUS_SUCCESS, info,
};
use super::engine::{Module, call, lock, tables};
use super::frame::{self, Dir};
use super::track::{self, Origin};
use super::types::NetBufferList;
use super::{oid, traffic};
use crate::core::{Rule, irql, stack};

/// How often the ends look whether they are to stop, and for frames kept too long.
const TICK: Duration = Duration::from_millis(50);

/// Starts the two threads of an adapter.
pub(crate) fn start(adapter: &Arc<Adapter>) {
    for dir in [Dir::Down, Dir::Up] {
        let adapter = Arc::clone(adapter);
        let name = format!("ndis-{}-{}", adapter.name, dir.name());
        let spawned = std::thread::Builder::new()
            .name(name)
            .spawn(move || run(&adapter, dir));
        if let Err(error) = spawned {
            crate::core::event_log(
                serde_json::json!({ "event": "ndis", "error": error.to_string() }),
            );
        }
    }
}

/// One end's thread: `Down` serves the miniport, `Up` the host above.
fn run(adapter: &Arc<Adapter>, dir: Dir) {
    let mut rng = adapter.fork_rng();
    while !adapter.stop.load(Ordering::SeqCst) {
        let queue = if dir == Dir::Down {
            &adapter.below
        } else {
            &adapter.above
        };
        let mut lists: Vec<(usize, usize)> = Vec::new();
        for item in queue.due(TICK) {
            match item {
                Later::Nbl(nbl, module) => lists.push((nbl, module)),
                Later::Oid(request) => oid::finish(request),
                Later::Send(bytes) => {
                    traffic::offer(adapter, Dir::Down, &[vec![bytes.as_slice()]], &mut rng)
                }
            }
        }
        let mut rest = lists.as_slice();
        while let Some((_, first)) = rest.first() {
            // Chains of what belongs to one module, no longer than usual.
            let most = rng.range(1, adapter.shape.max_chain.max(1));
            let same = rest
                .iter()
                .take(most)
                .take_while(|(_, m)| m == first)
                .count();
            let (now, later) = rest.split_at(same);
            rest = later;
            let Some(module) = tables().modules.get(first).cloned() else {
                continue;
            };
            let nbls: Vec<*mut NetBufferList> = now
                .iter()
                .map(|(nbl, _)| std::ptr::with_exposed_provenance_mut(*nbl))
                .collect();
            let level = if rng.percent(adapter.shape.dispatch_percent) {
                irql::DISPATCH_LEVEL
            } else {
                irql::PASSIVE_LEVEL
            };
            match dir {
                Dir::Down => complete(&module, &nbls, level),
                Dir::Up => give_back(&module, &nbls, level),
            }
        }
        if dir == Dir::Down {
            look_for_held(adapter);
        }
    }
}

/// Ends the run when the filter has kept a frame beyond the limit.
fn look_for_held(adapter: &Adapter) {
    let Some(module) = adapter.module() else {
        return;
    };
    let limit = adapter.shape.data_timeout();
    if let Some((nbl, dir, age)) = track::held(module.handle)
        .into_iter()
        .find(|(.., age)| *age > limit)
    {
        held_violation(&module, nbl, dir, &format!("for {} ms", age.as_millis()));
    }
}

/// The filter kept a list it should have passed on or given back.
pub(crate) fn held_violation(module: &Module, nbl: usize, dir: Dir, how: &str) -> ! {
    let handlers = module.data();
    let (rule, api, handler) = match dir {
        Dir::Down => (
            Rule::NdisFilterTimedDataSend,
            "FilterSendNetBufferLists",
            handlers.send.map(|f| f as usize),
        ),
        Dir::Up => (
            Rule::NdisFilterTimedDataReceive,
            "FilterReceiveNetBufferLists",
            handlers.receive.map(|f| f as usize),
        ),
    };
    stack::blame(handler.unwrap_or(0));
    violate!(
        rule,
        "NBL {nbl:#x} given to {api} is still with the filter {how}"
    )
}

/// The data flags that go with an IRQL: the dispatch bit may be set only when
/// it is true, and need not be set then.
fn level_flags(adapter: &Adapter, level: u8) -> u32 {
    if level == irql::DISPATCH_LEVEL && adapter.draw(|rng| rng.percent(80)) {
        FLAG_DISPATCH_LEVEL
    } else {
        0
    }
}

/// The miniport takes lists the filter sends.
pub(crate) fn send(module: &Arc<Module>, nbls: &[(*mut NetBufferList, Origin, Option<u64>)]) {
    let adapter = &module.adapter;
    let mut at_once = Vec::new();
    for (nbl, origin, sequence) in nbls {
        leave(adapter, Dir::Down, *nbl, *origin, *sequence);
        let failed = adapter.draw(|rng| rng.percent(adapter.shape.send_fail_percent));
        frame::set_status(
            *nbl,
            if failed {
                STATUS_FAILURE
            } else {
                STATUS_SUCCESS
            },
        );
        match wait_for(adapter) {
            None => at_once.push(*nbl),
            Some(delay) => {
                let item = Later::Nbl(nbl.expose_provenance(), module.handle);
                adapter.below.push(Instant::now() + delay, item);
            }
        }
    }
    complete(module, &at_once, irql::current());
}

/// The host above takes lists the filter indicates. With `resources` they stay
/// the filter's when the call returns.
pub(crate) fn receive(
    module: &Arc<Module>,
    nbls: &[(*mut NetBufferList, Origin, Option<u64>)],
    resources: bool,
) {
    let adapter = &module.adapter;
    let mut at_once = Vec::new();
    for (nbl, origin, sequence) in nbls {
        leave(adapter, Dir::Up, *nbl, *origin, *sequence);
        if resources {
            returned(module, *nbl);
            continue;
        }
        match wait_for(adapter) {
            None => at_once.push(*nbl),
            Some(delay) => {
                let item = Later::Nbl(nbl.expose_provenance(), module.handle);
                adapter.above.push(Instant::now() + delay, item);
            }
        }
    }
    give_back(module, &at_once, irql::current());
}

/// How long an end keeps a list; nothing means not at all.
fn wait_for(adapter: &Adapter) -> Option<Duration> {
    adapter.draw(|rng| {
        (!rng.percent(adapter.shape.inline_percent))
            .then(|| Duration::from_micros(rng.below(adapter.shape.delay_us_max + 1)))
    })
}

/// A list came out of the filter in direction `dir`.
///
/// `sequence` is that of the lab's list it is, or is derived from, if it is
/// either.
fn leave(
    adapter: &Adapter,
    dir: Dir,
    nbl: *mut NetBufferList,
    origin: Origin,
    sequence: Option<u64>,
) {
    let known = if origin == Origin::Lab && !traffic::wants_bytes(adapter, dir) {
        track::frames(nbl)
    } else {
        None
    };
    if let Some(frames) = known {
        let mut stats = adapter.stats(dir);
        for (digest, len) in frames {
            stats.exit(digest, len, sequence);
        }
        return;
    }
    for nb in frame::buffers(nbl) {
        let bytes = match frame::gather(nb) {
            Ok(bytes) => bytes,
            Err(what) => violate!(
                Rule::LabNdisNetBuffer,
                "NET_BUFFER {nb:p} of NBL {nbl:p}: {what}"
            ),
        };
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let digest = frame::digest_of(&bytes);
        if origin == Origin::Filter && sequence.is_some() {
            track::derived(nbl, digest);
        }
        let mut stats = adapter.stats(dir);
        if sequence.is_none() {
            stats.injected.add(len);
            for (name, index) in [
                ("checksum", info::CHECKSUM),
                ("tag", info::IEEE_8021Q),
                ("type", info::FRAME_TYPE),
            ] {
                let beside = frame::read(nbl).info.get(index).map_or(0, |v| v.addr());
                *stats
                    .injected_info
                    .entry(format!("{name} {beside:#x}"))
                    .or_default() += 1;
            }
        }
        stats.exit(digest, len, sequence);
        drop(stats);
        traffic::came_out(adapter, dir, bytes);
    }
}

/// A list is the filter's again; notes it if it was the filter's own.
fn returned(module: &Module, nbl: *mut NetBufferList) -> Option<Origin> {
    let origin = track::back_to_filter(nbl);
    if origin == Some(Origin::Filter) {
        module.own_outstanding.fetch_sub(1, Ordering::SeqCst);
    }
    origin
}

/// The miniport is done with sends: they go up through the filter.
fn complete(module: &Arc<Module>, nbls: &[*mut NetBufferList], level: u8) {
    if nbls.is_empty() {
        return;
    }
    let _inside = module.calls.enter();
    let own = nbls
        .iter()
        .filter(|nbl| returned(module, **nbl) == Some(Origin::Filter))
        .count();
    let flags = level_flags(&module.adapter, level);
    match module.data().send_complete {
        Some(handler) => {
            let chain = frame::link(nbls);
            call(
                "FilterSendNetBufferListsComplete",
                level,
                handler as *const (),
                || {
                    // SAFETY: the handler is the driver's for this module, and it owns the chain now.
                    unsafe { handler(module.context(), chain, flags) }
                },
            );
        }
        None if own > 0 => violate!(
            Rule::LabNdisHandlers,
            "the filter originated a send, but has no FilterSendNetBufferListsComplete"
        ),
        None => nbls.iter().for_each(|nbl| home(module, *nbl, Dir::Down)),
    }
}

/// The host above is done with receives: they go down through the filter.
fn give_back(module: &Arc<Module>, nbls: &[*mut NetBufferList], level: u8) {
    if nbls.is_empty() {
        return;
    }
    let _inside = module.calls.enter();
    let own = nbls
        .iter()
        .filter(|nbl| returned(module, **nbl) == Some(Origin::Filter))
        .count();
    let flags = level_flags(&module.adapter, level);
    match module.data().return_nbls {
        Some(handler) => {
            let chain = frame::link(nbls);
            call(
                "FilterReturnNetBufferLists",
                level,
                handler as *const (),
                || {
                    // SAFETY: the handler is the driver's for this module, and it owns the chain now.
                    unsafe { handler(module.context(), chain, flags) }
                },
            );
        }
        None if own > 0 => violate!(
            Rule::LabNdisHandlers,
            "the filter originated a receive indication, but has no FilterReturnNetBufferLists"
        ),
        None => nbls.iter().for_each(|nbl| home(module, *nbl, Dir::Up)),
    }
}

/// One of the lab's lists is back with its originator.
pub(crate) fn home(module: &Module, nbl: *mut NetBufferList, dir: Dir) {
    let Some(home) = track::home(module, nbl) else {
        violate!(
            Rule::LabNdisNblDoubleReturn,
            "NBL {nbl:p} went home twice at once"
        );
    };
    let mut stats = module.adapter.stats(dir);
    let mut derived = home.derived;
    for (digest, len) in &home.frames {
        let in_part = derived.iter().position(|d| d == digest);
        if let Some(at) = in_part {
            derived.swap_remove(at);
        }
        if home.passed || in_part.is_some() {
            stats.returned.add(*len)
        } else {
            stats.dropped.add(*len)
        }
    }
    if !home.passed && dir == Dir::Down {
        *stats
            .statuses
            .entry(format!("0x{:08X}", home.status))
            .or_default() += 1;
    }
}

/// The miniport gives up the sends with this cancel ID that it still has.
pub(crate) fn cancel_sends(adapter: &Adapter, cancel_id: usize) {
    adapter.arrived("cancel_send");
    adapter.below.hasten(|item| {
        let Later::Nbl(nbl, _) = item else {
            return false;
        };
        let nbl: *mut NetBufferList = std::ptr::with_exposed_provenance_mut(*nbl);
        let hit = frame::read(nbl).info[info::CANCEL_ID].addr() == cancel_id;
        if hit {
            frame::set_status(nbl, STATUS_SEND_ABORTED);
        }
        hit
    });
}

/// Where the wire and the dump of an adapter are told to stop.
pub(crate) fn stop(adapter: &Adapter) {
    adapter.stop.store(true, Ordering::SeqCst);
    adapter.below.wake();
    adapter.above.wake();
    if let Some(wire) = lock(&adapter.wire).take() {
        wire.stop.store(true, Ordering::SeqCst);
    }
    for dump in &adapter.dumps {
        lock(dump).take();
    }
}
