//! The control channel's commands about adapters.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::adapter::{Adapter, parse_mac};
use super::consts::{
    INDICATE_LINK_STATE, PAUSE_DETACH_FILTER, PAUSE_RESTART_STACK, request as kinds,
};
use super::dump::Dump;
use super::engine::{State, adapter, call, lock, tables, wait_until};
use super::frame::{Dir, Info};
use super::oid::{self, Spec};
use super::shape::Shape;
use super::{ends, events, lifecycle, replay, traffic};
use crate::core::{config, control, event_log, irql};

/// `NetEventPnPCapabilities`.
const NET_EVENT_PNP_CAPABILITIES: u32 = 7;
/// `NdisDevicePnPEventPowerProfileChanged`.
const DEVICE_PNP_POWER_PROFILE_CHANGED: u32 = 4;

/// Registers all commands.
pub(crate) fn register() {
    control::register("adapters", |_| Ok(adapters()));
    control::register("adapter_add", add);
    control::register("adapter_remove", remove);
    control::register("replay", |r| replay::start(&named(r)?, r));
    control::register("replay_status", |r| Ok(replay::status(&*named(r)?)));
    control::register("replay_stop", |r| Ok(replay::stop(&*named(r)?)));
    control::register("inject", inject);
    control::register("pause", pause);
    control::register("restart", restart);
    control::register("oid", oid_request);
    control::register("status_indicate", status_indicate);
    control::register("pnp", pnp);
    control::register("cancel_send", cancel_send);
    control::register("wire", wire);
    control::register("dump", dump);
}

fn named(request: &Value) -> Result<Arc<Adapter>, String> {
    adapter(request.get("adapter").and_then(Value::as_str))
}

fn number(request: &Value, key: &str) -> Option<u64> {
    match request.get(key)? {
        Value::String(text) => match text.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).ok(),
            None => text.parse().ok(),
        },
        other => other.as_u64(),
    }
}

fn hex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|b| !b.is_ascii_whitespace() && *b != b':')
        .collect();
    if !digits.len().is_multiple_of(2) {
        return Err("an odd number of hex digits".to_owned());
    }
    digits
        .chunks(2)
        .map(|pair| {
            std::str::from_utf8(pair)
                .ok()
                .and_then(|p| u8::from_str_radix(p, 16).ok())
                .ok_or_else(|| format!("bad hex {:?}", String::from_utf8_lossy(pair)))
        })
        .collect()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Creates the adapters of the configuration that are not there yet.
pub(crate) fn create_adapters() {
    for (index, entry) in config::get().adapters.iter().enumerate() {
        if adapter(Some(&entry.name)).is_ok() {
            continue;
        }
        if let Err(error) = create(entry, index) {
            event_log(json!({ "event": "ndis.adapter", "adapter": entry.name, "error": error }));
        }
    }
}

fn create(entry: &config::Adapter, index: usize) -> Result<Arc<Adapter>, String> {
    let mut shape = config::get().shape.clone();
    if let Some(Value::Object(own)) = entry.extra.get("shape") {
        shape.extend(own.clone());
    }
    let shape: Shape =
        serde_json::from_value(Value::Object(shape)).map_err(|e| format!("shape: {e}"))?;
    let new = Adapter::new(
        &entry.name,
        parse_mac(&entry.mac)?,
        entry.mtu,
        index as u32 + 1,
        shape,
    );
    if entry.extra.get("above").and_then(Value::as_str) == Some("loop") {
        new.loop_above
            .store(true, std::sync::atomic::Ordering::SeqCst);
    }
    if entry.wire.is_some() || entry.wire_listen.is_some() {
        traffic::connect(&new, entry.wire_listen, entry.wire.as_deref())?;
    }
    ends::start(&new);
    tables().adapters.push(Arc::clone(&new));
    if let Some(request) = &entry.replay {
        // The module is attached first; a replay waits for it.
        let (waiting, request) = (Arc::clone(&new), request.clone());
        std::thread::spawn(move || {
            wait_until(Duration::from_secs(10), || {
                waiting
                    .module()
                    .is_some_and(|m| m.state() == State::Running)
            });
            if let Err(error) = replay::start(&waiting, &request) {
                event_log(
                    json!({ "event": "ndis.replay", "adapter": waiting.name, "error": error }),
                );
            }
        });
    }
    Ok(new)
}

fn adapters() -> Value {
    let all = tables().adapters.clone();
    let all: Vec<Value> = all.iter().map(|a| a.report()).collect();
    json!({ "adapters": all })
}

/// `{"name", "mac", "mtu", ...}` as in the configuration; attaches the filter.
pub(crate) fn add(request: &Value) -> Result<Value, String> {
    let entry: config::Adapter =
        serde_json::from_value(request.clone()).map_err(|e| e.to_string())?;
    if adapter(Some(&entry.name)).is_ok() {
        return Err(format!("adapter {} is there already", entry.name));
    }
    let next = tables()
        .adapters
        .iter()
        .map(|a| a.if_index)
        .max()
        .unwrap_or(0);
    let new = create(&entry, next as usize)?;
    let driver = tables().drivers.values().next().cloned();
    if let Some(driver) = driver {
        lifecycle::attach(&new, &driver);
    }
    Ok(new.report())
}

/// `{"adapter"}`: pauses, detaches and removes it, as when a NIC goes away.
fn remove(request: &Value) -> Result<Value, String> {
    let adapter = named(request)?;
    let report = take_down(&adapter);
    tables().adapters.retain(|a| a.name != adapter.name);
    Ok(report)
}

/// Pauses and detaches the module of an adapter, and stops its threads.
pub(crate) fn take_down(adapter: &Arc<Adapter>) -> Value {
    {
        let _pnp = lock(&adapter.pnp);
        if let Some(module) = adapter.module() {
            lifecycle::take_out(&module, PAUSE_DETACH_FILTER);
        }
    }
    replay::stop(adapter);
    let report = adapter.report();
    ends::stop(adapter);
    report
}

/// `{"adapter", "dir": "up"|"down", "frames": ["hex", ...], "together",
/// "one_list", "info": {"index": value}, "wait"}`: one call for all frames, or one
/// each, in one list or in one each; with these entries of `NetBufferListInfo`;
/// waits until they are home.
pub(crate) fn inject(request: &Value) -> Result<Value, String> {
    let adapter = named(request)?;
    let dir = match request.get("dir").and_then(Value::as_str) {
        Some("up") => Dir::Up,
        Some("down") => Dir::Down,
        other => return Err(format!("\"dir\" is \"up\" or \"down\", not {other:?}")),
    };
    let frames: Vec<Vec<u8>> = request
        .get("frames")
        .and_then(Value::as_array)
        .ok_or("no \"frames\"")?
        .iter()
        .map(|f| hex(f.as_str().unwrap_or("-")))
        .collect::<Result<_, _>>()?;
    let mut rng = adapter.fork_rng();
    let says = |key: &str| request.get(key).and_then(Value::as_bool) == Some(true);
    let info = info_of(request)?;
    let of_a_list = if says("one_list") { frames.len() } else { 1 };
    let groups: Vec<Vec<&[u8]>> = frames
        .chunks(of_a_list.max(1))
        .map(|list| list.iter().map(Vec::as_slice).collect())
        .collect();
    let size = if says("together") {
        groups.len().max(1)
    } else {
        1
    };
    for call in groups.chunks(size) {
        traffic::offer_with(&adapter, dir, call, &info, &mut rng);
    }
    // With "wait" a little longer than a filter may keep them, so that the
    // limit is met first.
    let limit = if says("wait") {
        adapter.shape.data_timeout()
    } else {
        Duration::ZERO
    };
    let patience = limit + Duration::from_secs(1);
    let home = wait_until(patience, || {
        adapter
            .module()
            .is_none_or(|m| m.outstanding.load(std::sync::atomic::Ordering::SeqCst) == 0)
    });
    Ok(json!({ "offered": frames.len(), "all_home": home }))
}

/// `"info"`, in the order of the indexes.
fn info_of(request: &Value) -> Result<Vec<Info>, String> {
    let Some(Value::Object(entries)) = request.get("info") else {
        return Ok(Vec::new());
    };
    entries
        .iter()
        .map(|(index, value)| {
            let index = index.parse().map_err(|e| format!("info {index}: {e}"))?;
            let value = value.as_u64().ok_or("an info entry is a number")?;
            Ok((index, value as usize))
        })
        .collect()
}

fn pause(request: &Value) -> Result<Value, String> {
    let adapter = named(request)?;
    let _pnp = lock(&adapter.pnp);
    let module = adapter.module().ok_or("no filter is attached")?;
    lifecycle::pause(&module, PAUSE_RESTART_STACK);
    Ok(json!({ "state": format!("{:?}", module.state()) }))
}

pub(crate) fn restart(request: &Value) -> Result<Value, String> {
    let adapter = named(request)?;
    let _pnp = lock(&adapter.pnp);
    let module = adapter.module().ok_or("no filter is attached")?;
    lifecycle::cycle(&module);
    Ok(json!({ "state": format!("{:?}", module.state()) }))
}

/// `{"adapter", "type": "query"|"set"|"method", "oid", "len", "data": "hex",
/// "direct", "cancel_after_ms"}`: `len` is the room for an answer; what is set
/// is `data`, or `len` zeros.
pub(crate) fn oid_request(request: &Value) -> Result<Value, String> {
    let adapter = named(request)?;
    let code = number(request, "oid").ok_or("no \"oid\"")? as u32;
    let data = hex(request.get("data").and_then(Value::as_str).unwrap_or(""))?;
    let room = number(request, "len").unwrap_or(0).min(1 << 20) as usize;
    let mut spec = match request
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or("query")
    {
        "query" => Spec::query(code, room),
        "set" if data.is_empty() => Spec::set(code, &vec![0; room]),
        "set" => Spec::set(code, &data),
        "method" => {
            let mut spec = Spec::query(code, room.max(data.len()));
            spec.kind = kinds::METHOD;
            spec.input = data.len() as u32;
            if let Some(to) = spec.buffer.get_mut(..data.len()) {
                to.copy_from_slice(&data);
            }
            spec
        }
        other => return Err(format!("\"type\" {other:?}")),
    };
    spec.direct = request.get("direct").and_then(Value::as_bool) == Some(true);
    spec.cancel_after = number(request, "cancel_after_ms").map(Duration::from_millis);
    let outcome = oid::run(&adapter, spec);
    Ok(json!({
        "status": format!("0x{:08X}", outcome.status),
        "bytes": outcome.bytes,
        "needed": outcome.needed,
        "buffer": to_hex(&outcome.buffer),
        "reached_miniport": outcome.reached_miniport,
    }))
}

/// `{"adapter", "link": "up"|"down"}` or `{"adapter", "code": N}`.
pub(crate) fn status_indicate(request: &Value) -> Result<Value, String> {
    let adapter = named(request)?;
    let up = request.get("link").and_then(Value::as_str) != Some("down");
    let code = number(request, "code").map_or(INDICATE_LINK_STATE, |c| c as u32);
    Ok(json!({ "arrived": events::indicate(&adapter, code, up) }))
}

/// `{"adapter", "net": N}` or `{"adapter", "device": N}` (event codes); without
/// either, one event of each kind.
pub(crate) fn pnp(request: &Value) -> Result<Value, String> {
    let adapter = named(request)?;
    if let Some(event) = number(request, "net") {
        let (arrived, status) = events::net_pnp(&adapter, event as u32);
        return Ok(json!({ "arrived": arrived, "status": format!("0x{status:08X}") }));
    }
    if let Some(event) = number(request, "device") {
        return Ok(json!({ "arrived": events::device_pnp(&adapter, event as u32) }));
    }
    let (above, status) = events::net_pnp(&adapter, NET_EVENT_PNP_CAPABILITIES);
    let below = events::device_pnp(&adapter, DEVICE_PNP_POWER_PROFILE_CHANGED);
    Ok(json!({ "arrived": above && below, "status": format!("0x{status:08X}") }))
}

/// `{"adapter", "id": N}`: the host cancels sends with that cancel ID.
pub(crate) fn cancel_send(request: &Value) -> Result<Value, String> {
    let adapter = named(request)?;
    let id = number(request, "id").unwrap_or(1) as usize;
    let before = adapter.arrivals_of("cancel_send");
    let module = adapter.module().ok_or("no filter is attached")?;
    let Some(_inside) = module.gate.enter() else {
        return Err("the module is not running".to_owned());
    };
    match module.data().cancel_send {
        Some(handler) => call(
            "FilterCancelSendNetBufferLists",
            irql::PASSIVE_LEVEL,
            handler as *const (),
            || {
                // SAFETY: the handler is the driver's for this module; the ID is only a number.
                unsafe { handler(module.context(), std::ptr::without_provenance_mut(id)) }
            },
        ),
        None => ends::cancel_sends(&adapter, id),
    }
    Ok(json!({ "arrived": adapter.arrivals_of("cancel_send") > before }))
}

/// `{"adapter", "peer": "address:port", "listen": port}`.
pub(crate) fn wire(request: &Value) -> Result<Value, String> {
    let adapter = named(request)?;
    let listen = number(request, "listen").map(|p| p as u16);
    let local = traffic::connect(
        &adapter,
        listen,
        request.get("peer").and_then(Value::as_str),
    )?;
    Ok(json!({ "listen": local }))
}

/// `{"adapter", "up": path|null, "down": path|null}`: writes what comes out of
/// the filter to capture files; null ends it.
fn dump(request: &Value) -> Result<Value, String> {
    let adapter = named(request)?;
    let [down, up] = &adapter.dumps;
    for (key, slot) in [("down", down), ("up", up)] {
        match request.get(key) {
            None => {}
            Some(Value::String(path)) => *lock(slot) = Some(Dump::create(path)?),
            Some(_) => *lock(slot) = None,
        }
    }
    Ok(Value::Null)
}
