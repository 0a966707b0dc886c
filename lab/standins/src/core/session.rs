//! The session of one loaded driver, from its bind to its unbind.
//!
//! One at a time: the rules about what is left at unload are about the whole
//! process, and the lab gives each driver a process of its own.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::{Rule, config, control, event_log, fault, pool, stack};
use crate::nt::types::DRIVER_OBJECT;

static BASE: AtomicUsize = AtomicUsize::new(0);
static SIZE: AtomicUsize = AtomicUsize::new(0);
static DRIVER: AtomicUsize = AtomicUsize::new(0);
static NAME: Mutex<String> = Mutex::new(String::new());

/// Starts the session of the driver whose image is at `base`.
/// False when another one is running.
pub fn begin(driver: *mut DRIVER_OBJECT, base: usize, size: usize, name: &str) -> bool {
    if DRIVER
        .compare_exchange(0, driver as usize, Ordering::SeqCst, Ordering::SeqCst)
        .is_err()
    {
        return false;
    }
    if let Ok(mut stored) = NAME.lock() {
        name.clone_into(&mut stored);
    }
    BASE.store(base, Ordering::SeqCst);
    SIZE.store(size, Ordering::SeqCst);
    stack::pin();
    let config = config::reload();
    fault::begin(config);
    control::start();
    event_log(json!({
        "event": "load", "driver": name, "base": format!("{base:#x}"), "size": size
    }));
    crate::nt::session_begin();
    crate::ndis::session_begin();
    crate::wsk::session_begin();
    true
}

/// Ends the session. What is left is a violation, named piece by piece.
pub fn end() {
    pool::verify();
    let plain = |lines: Vec<String>| lines.into_iter().map(|l| (Rule::LabLeak, l));
    let mut leaks = crate::kmdf::leaks();
    leaks.extend(plain(crate::ndis::leaks()));
    leaks.extend(plain(crate::wsk::leaks()));
    leaks.extend(crate::nt::leaks());
    let pool_leaks = pool::leaks();
    event_log(json!({
        "event": "unload",
        "driver": name(),
        "leaks": leaks.iter().map(|(_, l)| l).collect::<Vec<_>>(),
        "pool_leaks": pool_leaks,
        "pool": pool::by_tag(),
        "allocs": fault::alloc_count(),
        "wsk": crate::wsk::summary(),
    }));
    if let Some((rule, first)) = leaks.first() {
        violate!(*rule, "{} left at unload, first: {first}", leaks.len());
    }
    if let Some(first) = pool_leaks.first() {
        violate!(
            Rule::LabPoolLeak,
            "{} block(s) left at unload, first: {first}",
            pool_leaks.len()
        );
    }
    crate::wsk::session_end();
    crate::ndis::session_end();
    crate::nt::session_end();
    pool::session_end();
    // The image's place stays known: a call that comes too late is named too.
    DRIVER.store(0, Ordering::SeqCst);
}

/// The driver object of the running session; null between sessions.
pub fn driver_object() -> *mut DRIVER_OBJECT {
    DRIVER.load(Ordering::SeqCst) as *mut DRIVER_OBJECT
}

/// Whether a driver is loaded.
pub fn active() -> bool {
    !driver_object().is_null()
}

/// Service name of the driver, as the service manager knows it.
pub fn name() -> String {
    // Called while a violation is written, so it must never wait.
    NAME.try_lock().map(|n| n.clone()).unwrap_or_default()
}

/// Name and RVA of an address inside the driver's image.
pub fn locate(address: usize) -> Option<(String, usize)> {
    rva(address).map(|rva| (name(), rva))
}

/// RVA of an address inside the driver's image.
pub fn rva(address: usize) -> Option<usize> {
    let base = BASE.load(Ordering::SeqCst);
    let rva = address.checked_sub(base)?;
    (base != 0 && rva < SIZE.load(Ordering::SeqCst)).then_some(rva)
}

/// Whether an address lies in the driver's image.
pub fn in_image(address: usize) -> bool {
    rva(address).is_some()
}
