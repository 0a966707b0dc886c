//! Failures on demand: allocation number N, or the Nth passage of a point.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;

use super::config::{Config, Point};
use super::{config, event_log, stack};

static COUNT: AtomicU64 = AtomicU64::new(0);
static FAIL_AT: AtomicU64 = AtomicU64::new(0);

struct Points {
    points: Vec<Point>,
    passed: BTreeMap<String, u64>,
}

static POINTS: Mutex<Points> = Mutex::new(Points {
    points: Vec::new(),
    passed: BTreeMap::new(),
});

/// Starts a session: counters at zero, faults as configured.
pub fn begin(config: &Config) {
    COUNT.store(0, Ordering::SeqCst);
    set(config.faults.alloc, config.faults.points.clone());
}

/// Replaces what is to fail; counters go on.
pub fn set(alloc: Option<u64>, points: Vec<Point>) {
    FAIL_AT.store(alloc.unwrap_or(0), Ordering::SeqCst);
    if let Ok(mut state) = POINTS.lock() {
        state.points = points;
        state.passed.clear();
    }
}

/// Allocations the driver asked for in this session, failed ones included.
pub fn alloc_count() -> u64 {
    COUNT.load(Ordering::SeqCst)
}

/// Counts an allocation of the driver (pool, IRP, MDL, framework object, ...)
/// and says whether it is the one to fail. `what` names it in the log.
pub fn alloc_should_fail_named(what: &str) -> bool {
    let number = COUNT.fetch_add(1, Ordering::SeqCst) + 1;
    let fail = FAIL_AT.load(Ordering::SeqCst) == number;
    if fail || config::get().alloc_log {
        event_log(json!({
            "event": if fail { "fault" } else { "alloc" },
            "what": what,
            "number": number,
            "caller": stack::driver_frame().map(stack::describe),
        }));
    }
    fail
}

/// [`alloc_should_fail_named`] for an allocation without a name.
pub fn alloc_should_fail() -> bool {
    alloc_should_fail_named("allocation")
}

/// Passes the point `point`; the status to fail with, if it is its turn.
pub fn take(point: &str) -> Option<i32> {
    let status = {
        let mut state = POINTS.lock().ok()?;
        if !state.points.iter().any(|p| p.point == point) {
            return None;
        }
        let passed = state.passed.entry(point.to_owned()).or_insert(0);
        *passed += 1;
        let passed = *passed;
        state
            .points
            .iter()
            .find(|p| p.point == point && p.nth == passed)
            .map(|p| p.status)
    };
    if let Some(status) = status {
        event_log(json!({ "event": "fault", "what": point, "status": status }));
    }
    status
}
