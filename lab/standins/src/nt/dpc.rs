//! Timers and DPCs.
//!
//! One lab thread watches the clock; two run DPCs, at DISPATCH_LEVEL, so that
//! two DPCs may run at the same time, as on two processors.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::c_void;
use std::sync::{Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use super::types::{KDEFERRED_ROUTINE, KDPC, KTIMER, LIST_ENTRY};
use super::{active, arg, dispatcher};
use crate::core::{Rule, callout, event_log, irql, session};

const WORKERS: usize = 2;
/// KDPC::Type of a normal DPC.
const DPC_OBJECT: u8 = 0x13;

struct Timer {
    due: Instant,
    period: Option<Duration>,
    dpc: usize,
}

struct State {
    timers: BTreeMap<usize, Timer>,
    queue: VecDeque<(u64, usize)>,
    /// Number of the next DPC to be queued, and those being run now.
    next: u64,
    running: [u64; WORKERS],
}

static STATE: Mutex<State> = Mutex::new(State {
    timers: BTreeMap::new(),
    queue: VecDeque::new(),
    next: 1,
    running: [0; WORKERS],
});
static CLOCK: Condvar = Condvar::new();
static WORK: Condvar = Condvar::new();
static DONE: Condvar = Condvar::new();
static START: Once = Once::new();

fn lock() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn start() {
    START.call_once(|| {
        spawn("lab-clock", clock);
        for index in 0..WORKERS {
            spawn("lab-dpc", move || worker(index));
        }
    });
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) {
    if let Err(error) = std::thread::Builder::new().name(name.to_owned()).spawn(run) {
        event_log(
            serde_json::json!({ "event": "error", "what": name, "error": error.to_string() }),
        );
    }
}

fn clock() {
    let mut state = lock();
    loop {
        let now = Instant::now();
        let due: Vec<usize> = state
            .timers
            .iter()
            .filter(|(_, t)| t.due <= now)
            .map(|(a, _)| *a)
            .collect();
        for address in due {
            fire(&mut state, address);
        }
        let next = state.timers.values().map(|t| t.due).min();
        let wait = next.map_or(Duration::from_secs(3600), |due| {
            due.saturating_duration_since(Instant::now())
        });
        let waited = CLOCK.wait_timeout(state, wait);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
}

fn fire(state: &mut State, address: usize) {
    let Some(timer) = state.timers.get_mut(&address) else {
        return;
    };
    let dpc = timer.dpc;
    if let Some(period) = timer.period {
        timer.due += period;
    } else {
        state.timers.remove(&address);
        active::remove(address);
    }
    let header = address as *mut super::types::DISPATCHER_HEADER;
    dispatcher::signal(header, 1);
    if dpc != 0 {
        insert(state, dpc as *mut KDPC);
    }
}

/// Puts a DPC into the queue; false when it is there already.
fn insert(state: &mut State, dpc: *mut KDPC) -> bool {
    let address = dpc as usize;
    if state.queue.iter().any(|(_, a)| *a == address) {
        return false;
    }
    let number = state.next;
    state.next += 1;
    state.queue.push_back((number, address));
    active::add(address, Rule::LabPoolFreeActive, "a queued DPC");
    WORK.notify_one();
    true
}

struct Call {
    dpc: *mut KDPC,
    routine: KDEFERRED_ROUTINE,
    context: *mut c_void,
    arguments: [*mut c_void; 2],
}

fn worker(index: usize) {
    loop {
        let mut state = lock();
        let (number, address) = loop {
            if let Some(entry) = state.queue.pop_front() {
                break entry;
            }
            state = WORK.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        state.running[index] = number;
        active::remove(address);
        let call = take(address as *mut KDPC);
        drop(state);
        callout::call_at(
            "DeferredRoutine",
            call.routine as usize,
            irql::DISPATCH_LEVEL,
            || {
                // SAFETY: the driver's routine, with the arguments it queued.
                unsafe {
                    (call.routine)(call.dpc, call.context, call.arguments[0], call.arguments[1]);
                }
            },
        );
        lock().running[index] = 0;
        DONE.notify_all();
    }
}

/// Reads a queued DPC, and marks it as not queued any more.
fn take(dpc: *mut KDPC) -> Call {
    // SAFETY: a queued DPC is alive: freeing it would have been a violation.
    let d = unsafe { &mut *dpc };
    d.DpcData = std::ptr::null_mut();
    let Some(routine) = d.DeferredRoutine else {
        violate!(
            Rule::LabObjectUninitialized,
            "queued DPC {dpc:?} has no routine any more"
        );
    };
    Call {
        dpc,
        routine,
        context: d.DeferredContext,
        arguments: [d.SystemArgument1, d.SystemArgument2],
    }
}

/// # Safety
/// `dpc` points to a KDPC.
unsafe fn checked<'a>(dpc: *mut KDPC, api: &str) -> &'a mut KDPC {
    // SAFETY: by contract.
    let d = unsafe { arg(dpc, api, "Dpc") };
    if d.Type != DPC_OBJECT || d.DeferredRoutine.is_none() {
        violate!(
            Rule::LabObjectUninitialized,
            "{api}: DPC {dpc:?} is not initialised"
        );
    }
    d
}

/// MSDN: KeInitializeDpc. Any IRQL.
///
/// # Safety
/// `dpc` points to memory for a KDPC.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn KeInitializeDpc(
    dpc: *mut KDPC,
    routine: Option<KDEFERRED_ROUTINE>,
    context: *mut c_void,
) {
    // SAFETY: by contract.
    let d = unsafe { arg(dpc, "KeInitializeDpc", "Dpc") };
    if active::is_active(dpc as usize) {
        violate!(Rule::LabDpcActive, "KeInitializeDpc: DPC {dpc:?} is queued");
    }
    if routine.is_none() {
        violate!(Rule::LabBadParameter, "KeInitializeDpc: no routine");
    }
    *d = KDPC {
        Type: DPC_OBJECT,
        Importance: 1,
        Number: 0,
        DpcListEntry: LIST_ENTRY {
            Flink: std::ptr::null_mut(),
            Blink: std::ptr::null_mut(),
        },
        DeferredRoutine: routine,
        DeferredContext: context,
        SystemArgument1: std::ptr::null_mut(),
        SystemArgument2: std::ptr::null_mut(),
        DpcData: std::ptr::null_mut(),
    };
}

/// MSDN: KeInsertQueueDpc. Any IRQL.
///
/// # Safety
/// `dpc` points to an initialised KDPC.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn KeInsertQueueDpc(
    dpc: *mut KDPC,
    argument1: *mut c_void,
    argument2: *mut c_void,
) -> u8 {
    start();
    // SAFETY: by contract.
    let d = unsafe { checked(dpc, "KeInsertQueueDpc") };
    let mut state = lock();
    if !insert(&mut state, dpc) {
        return 0;
    }
    d.SystemArgument1 = argument1;
    d.SystemArgument2 = argument2;
    d.DpcData = dpc.cast();
    1
}

/// MSDN: KeRemoveQueueDpc. Any IRQL.
///
/// # Safety
/// `dpc` points to an initialised KDPC.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn KeRemoveQueueDpc(dpc: *mut KDPC) -> u8 {
    // SAFETY: by contract.
    let d = unsafe { checked(dpc, "KeRemoveQueueDpc") };
    let mut state = lock();
    let before = state.queue.len();
    state.queue.retain(|(_, a)| *a != dpc as usize);
    let removed = state.queue.len() != before;
    if removed {
        active::remove(dpc as usize);
        d.DpcData = std::ptr::null_mut();
    }
    u8::from(removed)
}

/// MSDN: KeFlushQueuedDpcs. IRQL = PASSIVE_LEVEL. Returns when every DPC that
/// was queued before the call has run.
#[unsafe(no_mangle)]
pub extern "system" fn KeFlushQueuedDpcs() {
    irql::require_exact_rule(
        Rule::IrqlExPassive,
        "KeFlushQueuedDpcs",
        irql::PASSIVE_LEVEL,
    );
    let mut state = lock();
    let limit = state.next;
    while state.queue.iter().any(|(n, _)| *n < limit)
        || state.running.iter().any(|n| *n != 0 && *n < limit)
    {
        state = DONE.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
}

/// MSDN: KeInitializeTimer. Any IRQL.
///
/// # Safety
/// `timer` points to memory for a KTIMER.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn KeInitializeTimer(timer: *mut KTIMER) {
    // SAFETY: by contract.
    unsafe { KeInitializeTimerEx(timer, 0) }
}

/// MSDN: KeInitializeTimerEx. Any IRQL. Type 0 notification, 1 synchronization.
///
/// # Safety
/// `timer` points to memory for a KTIMER.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn KeInitializeTimerEx(timer: *mut KTIMER, kind: i32) {
    let api = "KeInitializeTimerEx";
    // SAFETY: by contract.
    let t = unsafe { arg(timer, api, "Timer") };
    if lock().timers.contains_key(&(timer as usize)) {
        violate!(Rule::LabTimerActive, "{api}: timer {timer:?} is set");
    }
    let kind = match kind {
        0 => dispatcher::kind::NOTIFICATION_TIMER,
        1 => dispatcher::kind::SYNCHRONIZATION_TIMER,
        _ => violate!(Rule::LabBadParameter, "{api}: type {kind}"),
    };
    dispatcher::initialize(&mut t.Header, kind, false);
    t.DueTime = 0;
    t.Dpc = std::ptr::null_mut();
    t.Period = 0;
}

/// MSDN: KeSetTimerEx. IRQL <= DISPATCH_LEVEL. Period in milliseconds.
///
/// # Safety
/// `timer` points to an initialised KTIMER, `dpc` to an initialised KDPC or null.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn KeSetTimerEx(
    timer: *mut KTIMER,
    due: i64,
    period: i32,
    dpc: *mut KDPC,
) -> u8 {
    let api = "KeSetTimerEx";
    irql::require_max(api, irql::DISPATCH_LEVEL);
    start();
    // SAFETY: by contract.
    let t = unsafe { arg(timer, api, "Timer") };
    check_timer(t, api);
    if !dpc.is_null() {
        // SAFETY: by contract.
        unsafe { checked(dpc, api) };
    }
    let Ok(period_ms) = u32::try_from(period) else {
        violate!(Rule::LabBadParameter, "{api}: period {period}");
    };
    let entry = Timer {
        due: Instant::now() + dispatcher::duration(due),
        period: (period_ms != 0).then(|| Duration::from_millis(period_ms.into())),
        dpc: dpc as usize,
    };
    let mut state = lock();
    t.Header.SignalState = 0;
    t.Dpc = dpc;
    t.Period = period_ms;
    let was_set = state.timers.insert(timer as usize, entry).is_some();
    if !was_set {
        active::add(timer as usize, Rule::LabPoolFreeActive, "a set timer");
    }
    CLOCK.notify_one();
    u8::from(was_set)
}

fn check_timer(t: &KTIMER, api: &str) {
    let known = matches!(
        t.Header.Type,
        dispatcher::kind::NOTIFICATION_TIMER | dispatcher::kind::SYNCHRONIZATION_TIMER
    );
    if !known || t.Header.Size != 16 {
        violate!(
            Rule::LabObjectUninitialized,
            "{api}: the timer is not initialised"
        );
    }
}

/// MSDN: KeSetTimer. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// As [`KeSetTimerEx`].
#[unsafe(no_mangle)]
pub unsafe extern "system" fn KeSetTimer(timer: *mut KTIMER, due: i64, dpc: *mut KDPC) -> u8 {
    // SAFETY: by contract.
    unsafe { KeSetTimerEx(timer, due, 0, dpc) }
}

/// MSDN: KeCancelTimer. IRQL <= DISPATCH_LEVEL. A DPC that is queued already
/// still runs: KeFlushQueuedDpcs waits for it.
///
/// # Safety
/// `timer` points to an initialised KTIMER.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn KeCancelTimer(timer: *mut KTIMER) -> u8 {
    let api = "KeCancelTimer";
    irql::require_max(api, irql::DISPATCH_LEVEL);
    // SAFETY: by contract.
    let t = unsafe { arg(timer, api, "Timer") };
    check_timer(t, api);
    let removed = lock().timers.remove(&(timer as usize)).is_some();
    if removed {
        active::remove(timer as usize);
    }
    u8::from(removed)
}

/// One line for each timer that is set and each DPC that is queued.
pub fn leaks() -> Vec<String> {
    let state = lock();
    let timers = state.timers.keys().map(|a| format!("set timer {a:#x}"));
    let dpcs = state
        .queue
        .iter()
        .map(|(_, a)| format!("queued DPC {a:#x}"));
    let running = state
        .running
        .iter()
        .filter(|n| **n != 0)
        .map(|_| format!("DPC of {} still running", session::name()));
    timers.chain(dpcs).chain(running).collect()
}
