//! What can be waited for: events, timers and threads, by their common
//! DISPATCHER_HEADER, and the waits.
//!
//! The signal state lives in the driver's memory as on Windows; the lab keeps
//! one mutex and condition variable for every 64th address to wait on.

use std::ffi::c_void;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::types::{DISPATCHER_HEADER, KEVENT, LIST_ENTRY, status};
use super::{active, arg};
use crate::core::{Rule, callout, irql, pool};

/// `DISPATCHER_HEADER::Type` values.
pub mod kind {
    #![allow(missing_docs)]
    pub const NOTIFICATION_EVENT: u8 = 0;
    pub const SYNCHRONIZATION_EVENT: u8 = 1;
    pub const THREAD: u8 = 6;
    pub const NOTIFICATION_TIMER: u8 = 8;
    pub const SYNCHRONIZATION_TIMER: u8 = 9;
}

const SHARDS: usize = 64;

struct Shard {
    lock: Mutex<()>,
    changed: Condvar,
}

static TABLE: [Shard; SHARDS] = [const {
    Shard {
        lock: Mutex::new(()),
        changed: Condvar::new(),
    }
}; SHARDS];

fn shard(address: usize) -> &'static Shard {
    &TABLE[(address >> 4) % SHARDS]
}

fn lock(shard: &Shard) -> MutexGuard<'_, ()> {
    shard.lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Words a header of this type must state as its size; none = not an object.
fn words(kind: u8) -> Option<u8> {
    match kind {
        kind::NOTIFICATION_EVENT | kind::SYNCHRONIZATION_EVENT | kind::THREAD => Some(6),
        kind::NOTIFICATION_TIMER | kind::SYNCHRONIZATION_TIMER => Some(16),
        _ => None,
    }
}

/// The header of an initialised object.
///
/// # Safety
/// `object` points to memory of a dispatcher object.
unsafe fn header<'a>(object: *mut c_void, api: &str) -> &'a mut DISPATCHER_HEADER {
    if pool::is_freed(object as usize) {
        violate!(
            Rule::LabObjectUninitialized,
            "{api}: object {object:?} lies in freed pool"
        );
    }
    // SAFETY: by contract.
    let header = unsafe { arg::<DISPATCHER_HEADER>(object.cast(), api, "object") };
    if words(header.Type) != Some(header.Size) {
        violate!(
            Rule::LabObjectUninitialized,
            "{api}: object {object:?} of type {}, size {}: not initialised",
            header.Type,
            header.Size
        );
    }
    header
}

/// Writes a fresh header.
pub fn initialize(header: &mut DISPATCHER_HEADER, kind: u8, signalled: bool) {
    let list = &raw mut header.WaitListHead;
    *header = DISPATCHER_HEADER {
        Type: kind,
        Signalling: 0,
        Size: words(kind).unwrap_or(0),
        Reserved: 0,
        SignalState: i32::from(signalled),
        WaitListHead: LIST_ENTRY {
            Flink: list,
            Blink: list,
        },
    };
}

/// Sets the state and wakes the waiters; returns the old state.
pub fn signal(header: *mut DISPATCHER_HEADER, state: i32) -> i32 {
    let shard = shard(header as usize);
    let guard = lock(shard);
    // SAFETY: callers pass the header of a live object.
    let slot = unsafe { &raw mut (*header).SignalState };
    // SAFETY: the shard's lock serialises every change of the state.
    let old = unsafe { slot.replace(state) };
    if state != 0 {
        shard.changed.notify_all();
    }
    drop(guard);
    old
}

fn take(header: &mut DISPATCHER_HEADER) -> bool {
    // SAFETY: a live integer; other threads change it under the same lock.
    let signalled = unsafe { std::ptr::read_volatile(&raw const header.SignalState) } != 0;
    let consumed = matches!(
        header.Type,
        kind::SYNCHRONIZATION_EVENT | kind::SYNCHRONIZATION_TIMER
    );
    if signalled && consumed {
        header.SignalState = 0;
    }
    signalled
}

/// Time left until a kernel time-out (negative: relative; positive: absolute,
/// 100 ns since 1601).
pub fn duration(timeout: i64) -> Duration {
    let hundred_ns = if timeout <= 0 {
        timeout.unsigned_abs()
    } else {
        timeout.unsigned_abs().saturating_sub(system_time())
    };
    Duration::from_nanos(hundred_ns.saturating_mul(100))
}

/// Now, in 100 ns since 1601, UTC.
pub fn system_time() -> u64 {
    const TO_1970: u64 = 116_444_736_000_000_000;
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    TO_1970 + since.as_secs() * 10_000_000 + u64::from(since.subsec_nanos()) / 100
}

/// Waits for a header; `None` waits for ever. False = timed out.
fn wait(header: &mut DISPATCHER_HEADER, timeout: Option<Duration>) -> bool {
    let shard = shard(std::ptr::from_mut(header) as usize);
    let end = timeout.and_then(|t| Instant::now().checked_add(t));
    let mut guard = lock(shard);
    loop {
        if take(header) {
            return true;
        }
        guard = match (timeout, end) {
            (Some(_), Some(end)) => {
                let left = end.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return false;
                }
                let waited = shard.changed.wait_timeout(guard, left);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            _ => shard
                .changed
                .wait(guard)
                .unwrap_or_else(PoisonError::into_inner),
        };
    }
}

/// MSDN: KeInitializeEvent.
///
/// # Safety
/// `event` points to memory for a KEVENT.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn KeInitializeEvent(event: *mut KEVENT, kind: i32, state: u8) {
    let api = "KeInitializeEvent";
    // SAFETY: by contract.
    let event = unsafe { arg(event, api, "Event") };
    if active::is_active(std::ptr::from_mut(event) as usize) {
        violate!(
            Rule::LabObjectUninitialized,
            "{api}: event is being waited for"
        );
    }
    match u8::try_from(kind) {
        Ok(kind @ (kind::NOTIFICATION_EVENT | kind::SYNCHRONIZATION_EVENT)) => {
            initialize(&mut event.Header, kind, state != 0);
        }
        _ => violate!(Rule::LabBadParameter, "{api}: type {kind}"),
    }
}

/// # Safety
/// `event` points to an initialised KEVENT.
unsafe fn event_header<'a>(event: *mut KEVENT, api: &str) -> &'a mut DISPATCHER_HEADER {
    // SAFETY: by contract.
    let header = unsafe { header(event.cast(), api) };
    if header.Type > kind::SYNCHRONIZATION_EVENT {
        violate!(
            Rule::LabObjectUninitialized,
            "{api}: object {event:?} is not an event"
        );
    }
    header
}

/// MSDN: KeSetEvent. IRQL <= DISPATCH_LEVEL; with Wait, <= APC_LEVEL.
///
/// # Safety
/// `event` points to an initialised KEVENT.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn KeSetEvent(event: *mut KEVENT, _increment: i32, wait: u8) -> i32 {
    let max = if wait == 0 {
        irql::DISPATCH_LEVEL
    } else {
        irql::APC_LEVEL
    };
    irql::require_max_rule(Rule::IrqlKeSetEvent, "KeSetEvent", max);
    // SAFETY: by contract.
    let header = unsafe { event_header(event, "KeSetEvent") };
    signal(header, 1)
}

/// MSDN: KeResetEvent. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// `event` points to an initialised KEVENT.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn KeResetEvent(event: *mut KEVENT) -> i32 {
    irql::require_max("KeResetEvent", irql::DISPATCH_LEVEL);
    // SAFETY: by contract.
    let header = unsafe { event_header(event, "KeResetEvent") };
    signal(header, 0)
}

/// MSDN: KeClearEvent. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// `event` points to an initialised KEVENT.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn KeClearEvent(event: *mut KEVENT) {
    irql::require_max("KeClearEvent", irql::DISPATCH_LEVEL);
    // SAFETY: by contract.
    let header = unsafe { event_header(event, "KeClearEvent") };
    signal(header, 0);
}

/// MSDN: KeReadStateEvent. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// `event` points to an initialised KEVENT.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn KeReadStateEvent(event: *mut KEVENT) -> i32 {
    irql::require_max("KeReadStateEvent", irql::DISPATCH_LEVEL);
    // SAFETY: by contract.
    let header = unsafe { event_header(event, "KeReadStateEvent") };
    let _guard = lock(shard(event as usize));
    header.SignalState
}

/// MSDN: KeWaitForSingleObject. IRQL <= APC_LEVEL, or <= DISPATCH_LEVEL with
/// a time-out of zero.
///
/// # Safety
/// `object` points to an initialised event, timer or thread object; `timeout`
/// to a LARGE_INTEGER or null.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn KeWaitForSingleObject(
    object: *mut c_void,
    _reason: i32,
    _mode: i8,
    _alertable: u8,
    timeout: *const i64,
) -> i32 {
    let api = "KeWaitForSingleObject";
    let timeout = if timeout.is_null() {
        None
    } else {
        // SAFETY: not null, so a LARGE_INTEGER by contract.
        Some(unsafe { timeout.read_unaligned() })
    };
    let max = if timeout == Some(0) {
        irql::DISPATCH_LEVEL
    } else {
        irql::APC_LEVEL
    };
    irql::require_max_rule(Rule::IrqlKeWait, api, max);
    if timeout != Some(0) {
        callout::check_wait(api);
    }
    // SAFETY: by contract.
    let header = unsafe { header(object, api) };
    active::add(
        object as usize,
        Rule::LabPoolFreeActive,
        "an object a thread waits for",
    );
    let signalled = wait(header, timeout.map(duration));
    active::remove(object as usize);
    if signalled {
        status::WAIT_0
    } else {
        status::TIMEOUT
    }
}

/// MSDN: KeDelayExecutionThread. IRQL <= APC_LEVEL.
///
/// # Safety
/// `interval` points to a LARGE_INTEGER.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn KeDelayExecutionThread(
    _mode: i8,
    _alertable: u8,
    interval: *const i64,
) -> i32 {
    let api = "KeDelayExecutionThread";
    irql::require_max_rule(Rule::IrqlKeWait, api, irql::APC_LEVEL);
    callout::check_wait(api);
    // SAFETY: by contract.
    let interval = *unsafe { arg(interval.cast_mut(), api, "Interval") };
    std::thread::sleep(duration(interval));
    status::SUCCESS
}
