//! ETW registration: nothing listens in the lab, but handles are accounted.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::arg;
use super::types::status;
use crate::core::{Rule, fault, irql, stack};

static HANDLES: Mutex<BTreeMap<u64, u32>> = Mutex::new(BTreeMap::new());
static NEXT: AtomicU64 = AtomicU64::new(0x4554_5701);

fn handles() -> MutexGuard<'static, BTreeMap<u64, u32>> {
    HANDLES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// MSDN: EtwRegister. IRQL <= APC_LEVEL.
///
/// # Safety
/// `handle` points to a REGHANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn EtwRegister(
    provider: *const c_void,
    _callback: *const c_void,
    _context: *mut c_void,
    handle: *mut u64,
) -> i32 {
    irql::require_max("EtwRegister", irql::APC_LEVEL);
    if provider.is_null() {
        return status::INVALID_PARAMETER;
    }
    if fault::alloc_should_fail_named("EtwRegister") {
        return status::INSUFFICIENT_RESOURCES;
    }
    // SAFETY: by contract.
    let out = unsafe { arg(handle, "EtwRegister", "RegHandle") };
    *out = NEXT.fetch_add(1, Ordering::Relaxed);
    handles().insert(*out, stack::caller_rva());
    status::SUCCESS
}

/// MSDN: EtwUnregister. IRQL <= APC_LEVEL.
#[unsafe(no_mangle)]
pub extern "system" fn EtwUnregister(handle: u64) -> i32 {
    irql::require_max("EtwUnregister", irql::APC_LEVEL);
    if handles().remove(&handle).is_none() {
        violate!(
            Rule::LabEtwHandle,
            "EtwUnregister: {handle:#x} is not registered"
        );
    }
    status::SUCCESS
}

fn check(api: &str, handle: u64) {
    // Zero is what an event of an unregistered provider uses: allowed.
    if handle != 0 && !handles().contains_key(&handle) {
        violate!(Rule::LabEtwHandle, "{api}: {handle:#x} is not registered");
    }
}

/// MSDN: EtwWriteTransfer. Any IRQL.
#[unsafe(no_mangle)]
pub extern "system" fn EtwWriteTransfer(
    handle: u64,
    _descriptor: *const c_void,
    _activity: *const c_void,
    _related: *const c_void,
    _count: u32,
    _data: *const c_void,
) -> i32 {
    check("EtwWriteTransfer", handle);
    status::SUCCESS
}

/// MSDN: EtwWrite. Any IRQL.
#[unsafe(no_mangle)]
pub extern "system" fn EtwWrite(
    handle: u64,
    _descriptor: *const c_void,
    _activity: *const c_void,
    _count: u32,
    _data: *const c_void,
) -> i32 {
    check("EtwWrite", handle);
    status::SUCCESS
}

/// One line for each provider that is still registered.
pub fn leaks() -> Vec<String> {
    handles()
        .iter()
        .map(|(h, by)| format!("ETW provider {h:#x} by driver+0x{by:x}"))
        .collect()
}
