//! Framework spin locks and wait locks.

use std::ffi::c_void;
use std::time::{Duration, Instant};

use windows_sys::Win32::System::Threading::GetCurrentThreadId;

use super::abi::{Attributes, Globals, Handle};
use super::loader::Table;
use super::object::{ParentRule, create};
use super::world::{Data, Held, Kind, changed, enter, lock, wait_for};
use crate::core::{Rule, irql};
use crate::nt::dispatcher::duration;
use crate::nt::spinlock;
use crate::nt::types::status;

/// Puts this file's functions into the table.
pub fn register(table: &mut Table) {
    table.set("WdfSpinLockCreate", WdfSpinLockCreate as *const c_void);
    table.set("WdfSpinLockAcquire", WdfSpinLockAcquire as *const c_void);
    table.set("WdfSpinLockRelease", WdfSpinLockRelease as *const c_void);
    table.set("WdfWaitLockCreate", WdfWaitLockCreate as *const c_void);
    table.set("WdfWaitLockAcquire", WdfWaitLockAcquire as *const c_void);
    table.set("WdfWaitLockRelease", WdfWaitLockRelease as *const c_void);
}

unsafe extern "system" fn WdfSpinLockCreate(
    globals: *mut Globals,
    attributes: *const Attributes,
    out: *mut Handle,
) -> i32 {
    let api = "WdfSpinLockCreate";
    drop(enter(globals, api));
    irql::require_max_rule(Rule::IrqlKmdf, api, irql::DISPATCH_LEVEL);
    let data = || Data::SpinLock {
        word: Box::new(0),
        old_irql: 0,
    };
    // SAFETY: by the function's contract.
    unsafe {
        create(
            api,
            attributes,
            ParentRule::Optional,
            Kind::SpinLock,
            data,
            out,
        )
    }
}

fn word(globals: *mut Globals, handle: Handle, api: &str) -> *mut usize {
    match &mut enter(globals, api).object(handle, Kind::SpinLock, api).data {
        Data::SpinLock { word, .. } => &raw mut **word,
        _ => std::ptr::null_mut(),
    }
}

unsafe extern "system" fn WdfSpinLockAcquire(globals: *mut Globals, handle: Handle) {
    let api = "WdfSpinLockAcquire";
    irql::require_max_rule(Rule::IrqlKmdf, api, irql::DISPATCH_LEVEL);
    let word = word(globals, handle, api);
    if spinlock::holds(word as usize) {
        violate!(
            Rule::WdfSpinlock,
            "{api}: {handle:#x} is already held by this thread"
        );
    }
    // SAFETY: the lock lives in its object, which the driver must keep.
    let old = unsafe { spinlock::KeAcquireSpinLockRaiseToDpc(word) };
    if let Data::SpinLock { old_irql, .. } = &mut lock().object(handle, Kind::SpinLock, api).data {
        *old_irql = old;
    }
}

unsafe extern "system" fn WdfSpinLockRelease(globals: *mut Globals, handle: Handle) {
    let api = "WdfSpinLockRelease";
    let word = word(globals, handle, api);
    if spinlock::last_held() != Some(word as usize) {
        violate!(
            Rule::WdfSpinlockRelease,
            "{api}: {handle:#x} is not the lock this thread acquired last"
        );
    }
    let old = match lock().object(handle, Kind::SpinLock, api).data {
        Data::SpinLock { old_irql, .. } => old_irql,
        _ => 0,
    };
    // SAFETY: held by this thread, as just seen.
    unsafe { spinlock::KeReleaseSpinLock(word, old) };
}

unsafe extern "system" fn WdfWaitLockCreate(
    globals: *mut Globals,
    attributes: *const Attributes,
    out: *mut Handle,
) -> i32 {
    let api = "WdfWaitLockCreate";
    drop(enter(globals, api));
    irql::require_max_rule(Rule::IrqlKmdf, api, irql::DISPATCH_LEVEL);
    let data = || Data::WaitLock(Held::default());
    // SAFETY: by the function's contract.
    unsafe {
        create(
            api,
            attributes,
            ParentRule::Optional,
            Kind::WaitLock,
            data,
            out,
        )
    }
}

fn me() -> u32 {
    // SAFETY: takes no argument.
    unsafe { GetCurrentThreadId() }
}

unsafe extern "system" fn WdfWaitLockAcquire(
    globals: *mut Globals,
    handle: Handle,
    timeout: *const i64,
) -> i32 {
    let api = "WdfWaitLockAcquire";
    let limit = if timeout.is_null() {
        None
    } else {
        // SAFETY: not null, so a LONGLONG by contract.
        Some(unsafe { timeout.read_unaligned() })
    };
    let max = if limit == Some(0) {
        irql::DISPATCH_LEVEL
    } else {
        irql::PASSIVE_LEVEL
    };
    irql::require_max_rule(Rule::IrqlKmdf, api, max);
    let end = limit.map(|t| Instant::now() + duration(t));
    let mut world = enter(globals, api);
    loop {
        let held = world.wait_lock(handle, api);
        if held.owner == me() {
            violate!(
                Rule::WdfWaitlock,
                "{api}: {handle:#x} is already held by this thread"
            );
        }
        if held.owner == 0 {
            held.owner = me();
            return status::SUCCESS;
        }
        if end.is_some_and(|e| Instant::now() >= e) {
            return status::TIMEOUT;
        }
        world = wait_for(world, Duration::from_millis(10));
    }
}

unsafe extern "system" fn WdfWaitLockRelease(globals: *mut Globals, handle: Handle) {
    let api = "WdfWaitLockRelease";
    irql::require_max_rule(Rule::IrqlKmdf, api, irql::DISPATCH_LEVEL);
    let mut world = enter(globals, api);
    let held = world.wait_lock(handle, api);
    if held.owner != me() {
        violate!(
            Rule::WdfWaitlockRelease,
            "{api}: {handle:#x} is held by thread {}, not by this one",
            held.owner
        );
    }
    held.owner = 0;
    drop(world);
    changed();
}
