//! Addresses of driver memory that something still uses: set timers, queued
//! DPCs, held locks, waited-for events, built MDLs. Freeing memory that holds
//! one is what Driver Verifier reports as bug check 0xC7 and its kin.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::core::Rule;

static ACTIVE: Mutex<BTreeMap<usize, (Rule, &'static str, u32)>> = Mutex::new(BTreeMap::new());

/// Something at `address` is in use (counted).
pub fn add(address: usize, rule: Rule, what: &'static str) {
    if let Ok(mut active) = ACTIVE.lock() {
        active.entry(address).or_insert((rule, what, 0)).2 += 1;
    }
}

/// One use of `address` has ended.
pub fn remove(address: usize) {
    if let Ok(mut active) = ACTIVE.lock()
        && let Some(entry) = active.get_mut(&address)
    {
        entry.2 -= 1;
        if entry.2 == 0 {
            active.remove(&address);
        }
    }
}

/// The first thing in use in a range of memory.
pub fn inside(address: usize, size: usize) -> Option<(Rule, &'static str)> {
    let active = ACTIVE.lock().ok()?;
    active.range(address..address.saturating_add(size)).next().map(|(_, v)| (v.0, v.1))
}
