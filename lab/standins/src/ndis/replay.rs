//! Replay of a capture file through an adapter, in both directions.
//!
//! Which frames the host sends is told by its MAC address: a frame with that
//! source goes down, every other goes up. The address is, in this order, the
//! one asked for; the adapter's, if a frame of the file has it as its source;
//! else the unicast address that takes part in most frames as source or
//! destination, and of several the one that is a source first (the host opens
//! the conversation with its gateway more often than the other way round).

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::adapter::{Adapter, mac_text, parse_mac};
use super::dump::{Captured, read_capture};
use super::engine::{lock, wait_until};
use super::frame::Dir;
use super::traffic;

/// Lists in flight at most, as a NIC's ring has an end.
const IN_FLIGHT: usize = 1024;

/// How fast.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Speed {
    /// As fast as the filter takes them.
    Max,
    /// The file's own timing, this many times as fast.
    Times(f64),
    /// Frames a second.
    Rate(f64),
}

/// One replay, running or over.
#[derive(Debug)]
pub(crate) struct Replay {
    file: String,
    host_mac: [u8; 6],
    total: u64,
    /// 0: until it is stopped.
    loops: u64,
    done: AtomicU64,
    down: AtomicU64,
    up: AtomicU64,
    running: AtomicBool,
    stop: AtomicBool,
    begun: Instant,
    elapsed_us: AtomicU64,
}

static REPLAYS: Mutex<Vec<(String, Arc<Replay>)>> = Mutex::new(Vec::new());

impl Replay {
    fn report(&self) -> Value {
        let running = self.running.load(Ordering::SeqCst);
        let us = if running {
            self.begun.elapsed().as_micros() as u64
        } else {
            self.elapsed_us.load(Ordering::SeqCst)
        };
        json!({
            "file": self.file,
            "host_mac": mac_text(&self.host_mac),
            "frames": self.total,
            "loops": self.loops,
            "sent": self.done.load(Ordering::SeqCst),
            "down": self.down.load(Ordering::SeqCst),
            "up": self.up.load(Ordering::SeqCst),
            "running": running,
            "elapsed_us": us,
        })
    }
}

/// Starts a replay as `{"file", "host_mac", "speed", "loops", "wait"}` say.
/// `speed`: `"max"` or 0, a number (times the original), or `{"pps": N}`;
/// `loops`: 0 for ever.
pub(crate) fn start(adapter: &Arc<Adapter>, request: &Value) -> Result<Value, String> {
    let file = request
        .get("file")
        .and_then(Value::as_str)
        .ok_or("no \"file\"")?;
    if lock(&REPLAYS)
        .iter()
        .any(|(name, r)| *name == adapter.name && r.running.load(Ordering::SeqCst))
    {
        return Err(format!(
            "adapter {} replays already; use replay_stop",
            adapter.name
        ));
    }
    let speed = parse_speed(request.get("speed"))?;
    let loops = request.get("loops").and_then(Value::as_u64).unwrap_or(1);
    let frames = read_capture(file)?;
    let host_mac = match request.get("host_mac").and_then(Value::as_str) {
        Some(text) => parse_mac(text)?,
        None => host_of(frames.iter().map(|f| f.bytes.as_slice()), adapter.mac),
    };
    let replay = Arc::new(Replay {
        file: file.to_owned(),
        host_mac,
        total: frames.len() as u64,
        loops,
        done: AtomicU64::new(0),
        down: AtomicU64::new(0),
        up: AtomicU64::new(0),
        running: AtomicBool::new(true),
        stop: AtomicBool::new(false),
        begun: Instant::now(),
        elapsed_us: AtomicU64::new(0),
    });
    {
        let mut replays = lock(&REPLAYS);
        replays.retain(|(name, _)| *name != adapter.name);
        replays.push((adapter.name.clone(), Arc::clone(&replay)));
    }
    let (worker, over) = (Arc::clone(&replay), Arc::clone(adapter));
    let thread = std::thread::Builder::new()
        .name(format!("ndis-{}-replay", adapter.name))
        .spawn(move || {
            run(&over, &worker, &frames, speed);
            settle(&over, &worker);
        })
        .map_err(|e| e.to_string())?;
    if request.get("wait").and_then(Value::as_bool) == Some(true) {
        let _ = thread.join();
    }
    Ok(replay.report())
}

/// The last frames come home, then the replay is over.
fn settle(adapter: &Adapter, replay: &Replay) {
    wait_until(Duration::from_secs(5), || in_flight(adapter) == 0);
    replay
        .elapsed_us
        .store(replay.begun.elapsed().as_micros() as u64, Ordering::SeqCst);
    replay.running.store(false, Ordering::SeqCst);
}

fn in_flight(adapter: &Adapter) -> usize {
    adapter
        .module()
        .map_or(0, |m| m.outstanding.load(Ordering::SeqCst))
}

fn parse_speed(speed: Option<&Value>) -> Result<Speed, String> {
    let positive = |n: f64| {
        (n > 0.0 && n.is_finite())
            .then_some(n)
            .ok_or("\"speed\" must be positive".to_owned())
    };
    match speed {
        None | Some(Value::Null) => Ok(Speed::Max),
        Some(Value::String(text)) if text == "max" => Ok(Speed::Max),
        Some(Value::Number(times)) if times.as_f64() == Some(0.0) => Ok(Speed::Max),
        Some(Value::Number(times)) => positive(times.as_f64().unwrap_or(0.0)).map(Speed::Times),
        Some(other) => match other.get("pps").and_then(Value::as_f64) {
            Some(rate) => positive(rate).map(Speed::Rate),
            None => Err(format!(
                "\"speed\" is \"max\", a number or {{\"pps\": N}}, not {other}"
            )),
        },
    }
}

/// The MAC address that is taken for the host's.
fn host_of<'a>(frames: impl Iterator<Item = &'a [u8]>, adapter: [u8; 6]) -> [u8; 6] {
    let mut count: HashMap<[u8; 6], (u64, usize)> = HashMap::new();
    for (index, frame) in frames.enumerate() {
        let (Some(to), Some(from)) = (address(frame, 0), address(frame, 6)) else {
            continue;
        };
        if from == adapter {
            return adapter;
        }
        count.entry(from).or_insert((0, index)).0 += 1;
        if to[0] & 1 == 0 {
            count.entry(to).or_insert((0, usize::MAX)).0 += 1;
        }
        // A destination becomes a source when it first speaks.
        if let Some(entry) = count.get_mut(&from) {
            entry.1 = entry.1.min(index);
        }
    }
    count
        .into_iter()
        .max_by_key(|(_, (n, first))| (*n, std::cmp::Reverse(*first)))
        .map_or(adapter, |(mac, _)| mac)
}

fn address(frame: &[u8], at: usize) -> Option<[u8; 6]> {
    frame.get(at..at + 6)?.try_into().ok()
}

fn run(adapter: &Arc<Adapter>, replay: &Replay, frames: &[Captured], speed: Speed) {
    let mut rng = adapter.fork_rng();
    let dir_of = |frame: &Captured| match address(&frame.bytes, 6) {
        Some(from) if from == replay.host_mac => Dir::Down,
        _ => Dir::Up,
    };
    let mut round = 0;
    while (replay.loops == 0 || round < replay.loops) && !frames.is_empty() {
        round += 1;
        let begun = Instant::now();
        let zero = frames.first().map_or(Duration::ZERO, |f| f.time);
        let due = |index: usize, frame: &Captured| match speed {
            Speed::Max => Duration::ZERO,
            Speed::Times(times) => frame.time.saturating_sub(zero).div_f64(times),
            Speed::Rate(rate) => Duration::from_secs_f64(index as f64 / rate),
        };
        let mut next = 0;
        while let Some(first) = frames.get(next) {
            if replay.stop.load(Ordering::SeqCst) || adapter.stop.load(Ordering::SeqCst) {
                return;
            }
            if in_flight(adapter) > IN_FLIGHT {
                std::thread::sleep(Duration::from_micros(200));
                continue;
            }
            let wait = due(next, first).saturating_sub(begun.elapsed());
            if !wait.is_zero() {
                std::thread::sleep(wait.min(Duration::from_millis(20)));
                continue;
            }
            let dir = dir_of(first);
            let now = begun.elapsed();
            let ready = |index: usize| {
                frames
                    .get(index)
                    .is_some_and(|f| dir_of(f) == dir && due(index, f) <= now)
            };
            let mut groups: Vec<Vec<&[u8]>> = Vec::new();
            let start = next;
            for _ in 0..rng.range(1, adapter.shape.max_chain.max(1)) {
                let most = match dir {
                    Dir::Down => adapter.shape.max_nbs,
                    Dir::Up => adapter.shape.max_receive_nbs,
                };
                let most = rng.range(1, most.max(1));
                let mut group = Vec::new();
                while group.len() < most && ready(next) {
                    if let Some(frame) = frames.get(next) {
                        group.push(frame.bytes.as_slice());
                    }
                    next += 1;
                }
                if group.is_empty() {
                    break;
                }
                groups.push(group);
            }
            traffic::offer(adapter, dir, &groups, &mut rng);
            let count = (next - start) as u64;
            if dir == Dir::Down {
                &replay.down
            } else {
                &replay.up
            }
            .fetch_add(count, Ordering::SeqCst);
            replay.done.fetch_add(count, Ordering::SeqCst);
        }
    }
}

/// The replay of an adapter, running or last.
pub(crate) fn status(adapter: &Adapter) -> Value {
    lock(&REPLAYS)
        .iter()
        .find(|(name, _)| *name == adapter.name)
        .map_or(Value::Null, |(_, r)| r.report())
}

/// Ends the replay of an adapter and says how far it came.
pub(crate) fn stop(adapter: &Adapter) -> Value {
    let found = lock(&REPLAYS)
        .iter()
        .find(|(name, _)| *name == adapter.name)
        .map(|(_, r)| Arc::clone(r));
    let Some(replay) = found else {
        return Value::Null;
    };
    replay.stop.store(true, Ordering::SeqCst);
    wait_until(Duration::from_secs(10), || {
        !replay.running.load(Ordering::SeqCst)
    });
    replay.report()
}

/// Forgets the replays: the session is over.
pub(crate) fn clear() {
    lock(&REPLAYS).clear();
}

#[cfg(test)]
mod tests {
    use super::host_of;

    fn frame(to: u8, from: u8) -> Vec<u8> {
        let mut bytes = vec![to; 6];
        bytes.extend([from; 6]);
        bytes.extend([8, 0]);
        bytes
    }

    #[test]
    fn the_adapters_own_address_wins() {
        let frames = [frame(2, 4), frame(2, 4), frame(4, 6)];
        assert_eq!(host_of(frames.iter().map(Vec::as_slice), [6; 6]), [6; 6]);
    }

    #[test]
    fn else_the_busiest_and_of_equals_the_first_to_speak() {
        let frames = [frame(0xFF, 8), frame(4, 2), frame(2, 4), frame(4, 2)];
        assert_eq!(host_of(frames.iter().map(Vec::as_slice), [6; 6]), [2; 6]);
    }
}
