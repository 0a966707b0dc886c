//! Addresses of driver memory that something still uses: set timers, queued
//! DPCs, held locks, waited-for events. Freeing memory that holds one is what
//! Driver Verifier reports as bug check 0xC7 and its kin.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::core::Rule;

type Table = BTreeMap<usize, (Rule, &'static str, u32)>;

static ACTIVE: Mutex<Table> = Mutex::new(BTreeMap::new());

fn table() -> MutexGuard<'static, Table> {
    ACTIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Something at `address` is in use (counted).
pub fn add(address: usize, rule: Rule, what: &'static str) {
    table().entry(address).or_insert((rule, what, 0)).2 += 1;
}

/// One use of `address` has ended.
pub fn remove(address: usize) {
    let mut active = table();
    if let Some(entry) = active.get_mut(&address) {
        entry.2 -= 1;
        if entry.2 == 0 {
            active.remove(&address);
        }
    }
}

/// Whether the object at exactly `address` is in use.
pub fn is_active(address: usize) -> bool {
    table().contains_key(&address)
}

/// The first thing in use in a range of memory.
pub fn inside(address: usize, size: usize) -> Option<(Rule, &'static str)> {
    table()
        .range(address..address.saturating_add(size))
        .next()
        .map(|(_, v)| (v.0, v.1))
}

/// Forgets everything; the session is over and was clean.
pub fn clear() {
    table().clear();
}
