//! What the files under test import from `ntoskrnl.exe`, for the host. It is as
//! strict as the documentation of each function: a broken rule panics.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::kernel::sys::{ExRundownRef, KDeferredRoutine, KDpc, KTimer};

const PASSIVE: u8 = 0;
const DISPATCH: u8 = 2;

thread_local! {
    static IRQL: Cell<u8> = const { Cell::new(PASSIVE) };
    static LOCKS: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
    static TURN: Cell<u64> = Cell::new(THREADS.fetch_add(1, Ordering::Relaxed) << 32);
    static FAIL_ALLOCATION: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Makes each thread perturb in its own way.
static THREADS: AtomicU64 = AtomicU64::new(1);
static LIVE: AtomicUsize = AtomicUsize::new(0);
static TIMERS: Mutex<Option<HashMap<usize, Timer>>> = Mutex::new(None);
static DPCS: Mutex<Option<HashMap<usize, Dpc>>> = Mutex::new(None);
/// Held while a DPC runs.
static DPC_RUNS: Mutex<()> = Mutex::new(());

#[derive(Clone, Copy)]
struct Timer {
    dpc: usize,
    due_in_100ns: Option<i64>,
}

#[derive(Clone, Copy)]
struct Dpc {
    routine: KDeferredRoutine,
    context: usize,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn require(max: u8, what: &str) {
    let irql = IRQL.get();
    assert!(irql <= max, "{what} at IRQL {irql}");
}

/// Now and then lets another thread go first, so that rare orders are seen.
fn perturb() {
    let turn = TURN
        .get()
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1);
    TURN.set(turn);
    match turn >> 59 {
        0 => std::thread::sleep(Duration::from_micros(20)),
        1..=3 => std::thread::yield_now(),
        _ => {}
    }
}

/// Spin locks the calling thread holds.
pub(crate) fn locks_held() -> usize {
    LOCKS.with_borrow(Vec::len)
}

/// Runs code as the network stack may: at `DISPATCH_LEVEL`.
pub(crate) fn at_dispatch<R>(run: impl FnOnce() -> R) -> R {
    let old = IRQL.replace(DISPATCH);
    let result = run();
    assert_eq!(IRQL.replace(old), DISPATCH, "IRQL changed by a callee");
    assert_eq!(locks_held(), 0, "spin lock held across a return");
    result
}

/// Allocations that have not been freed.
pub(crate) fn live_allocations() -> usize {
    LIVE.load(Ordering::SeqCst)
}

/// Makes the `n`th allocation of this thread from now on fail (from 0), once.
pub(crate) fn fail_allocation(n: Option<usize>) {
    FAIL_ALLOCATION.set(n);
}

/// Milliseconds until each timer that is set is due.
pub(crate) fn timers_set() -> Vec<i64> {
    let timers = held(&TIMERS);
    timers
        .iter()
        .flatten()
        .filter_map(|(_, t)| t.due_in_100ns)
        .map(|due| -due / 10_000)
        .collect()
}

/// Lets every timer that is set be due now; their DPCs run on this thread.
pub(crate) fn fire_timers() {
    let running = held(&DPC_RUNS);
    let due: Vec<usize> = held(&TIMERS)
        .iter_mut()
        .flatten()
        .filter_map(|(_, timer)| timer.due_in_100ns.take().map(|_| timer.dpc))
        .collect();
    for dpc in due {
        let routine = held(&DPCS)
            .iter()
            .flatten()
            .find(|(at, _)| **at == dpc)
            .map(|(_, d)| *d);
        let Some(Dpc { routine, context }) = routine else {
            continue;
        };
        at_dispatch(|| {
            let none = std::ptr::null_mut();
            // SAFETY: the routine of an initialised DPC with its own context;
            // KeFlushQueuedDpcs waits for this to end.
            unsafe { routine(dpc as *mut KDpc, context as *mut c_void, none, none) }
        });
    }
    drop(running);
}

const HEADER: usize = 16;

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes + HEADER, 16).expect("a sane size")
}

#[unsafe(no_mangle)]
extern "system" fn ExAllocatePool2(flags: u64, bytes: usize, tag: u32) -> *mut c_void {
    require(DISPATCH, "ExAllocatePool2");
    assert_eq!(flags, 0x40, "POOL_FLAG_NON_PAGED");
    assert_ne!(bytes, 0);
    if let Some(left) = FAIL_ALLOCATION.get() {
        FAIL_ALLOCATION.set(left.checked_sub(1));
        if left == 0 {
            return std::ptr::null_mut();
        }
    }
    // SAFETY: the layout has a size above 0.
    let block = unsafe { alloc_zeroed(layout(bytes)) };
    // SAFETY: the header is 16 bytes, aligned to 16.
    unsafe { block.cast::<(usize, u32)>().write_unaligned((bytes, tag)) };
    LIVE.fetch_add(1, Ordering::SeqCst);
    // SAFETY: within the block.
    unsafe { block.add(HEADER) }.cast()
}

#[unsafe(no_mangle)]
extern "system" fn ExFreePoolWithTag(pool: *mut c_void, tag: u32) {
    require(DISPATCH, "ExFreePoolWithTag");
    // SAFETY: every block has its header before it.
    let block = unsafe { pool.cast::<u8>().sub(HEADER) };
    // SAFETY: written in ExAllocatePool2.
    let (bytes, of) = unsafe { block.cast::<(usize, u32)>().read_unaligned() };
    assert_eq!(tag, of, "tag");
    LIVE.fetch_sub(1, Ordering::SeqCst);
    // A use after this finds nonsense.
    // SAFETY: `bytes` bytes behind the header.
    unsafe { pool.cast::<u8>().write_bytes(0xDD, bytes) };
    // SAFETY: allocated with this layout, freed once (the pool's user's duty).
    unsafe { dealloc(block, layout(bytes)) };
}

fn word<'a>(at: *mut usize) -> &'a AtomicUsize {
    // SAFETY: the user gives a live, aligned word that only this module touches.
    unsafe { AtomicUsize::from_ptr(at) }
}

#[unsafe(no_mangle)]
extern "system" fn KeAcquireSpinLockRaiseToDpc(lock: *mut usize) -> u8 {
    require(DISPATCH, "KeAcquireSpinLockRaiseToDpc");
    perturb();
    let held = LOCKS.with_borrow(|locks| locks.contains(&(lock as usize)));
    assert!(!held, "spin lock taken twice");
    while word(lock)
        .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
        .is_err()
    {
        std::thread::yield_now();
    }
    LOCKS.with_borrow_mut(|locks| locks.push(lock as usize));
    IRQL.replace(DISPATCH)
}

#[unsafe(no_mangle)]
extern "system" fn KeReleaseSpinLock(lock: *mut usize, old_irql: u8) {
    let last = LOCKS.with_borrow_mut(Vec::pop);
    assert_eq!(
        last,
        Some(lock as usize),
        "released in another order than taken"
    );
    word(lock).store(0, Ordering::Release);
    IRQL.set(old_irql);
}

fn rundown<'a>(reference: *mut ExRundownRef) -> &'a AtomicUsize {
    word(reference.cast())
}

/// Bit 0: run down, or being so. The rest: twice the users.
#[unsafe(no_mangle)]
extern "system" fn ExInitializeRundownProtection(reference: *mut ExRundownRef) {
    rundown(reference).store(0, Ordering::SeqCst);
}

#[unsafe(no_mangle)]
extern "system" fn ExReInitializeRundownProtection(reference: *mut ExRundownRef) {
    assert_eq!(
        rundown(reference).swap(0, Ordering::SeqCst),
        1,
        "not run down"
    );
}

#[unsafe(no_mangle)]
extern "system" fn ExAcquireRundownProtection(reference: *mut ExRundownRef) -> u8 {
    require(DISPATCH, "ExAcquireRundownProtection");
    perturb();
    let enter = |users: usize| (users & 1 == 0).then_some(users + 2);
    u8::from(
        rundown(reference)
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, enter)
            .is_ok(),
    )
}

#[unsafe(no_mangle)]
extern "system" fn ExReleaseRundownProtection(reference: *mut ExRundownRef) {
    let before = rundown(reference).fetch_sub(2, Ordering::SeqCst);
    assert!(before >= 2, "released more often than acquired");
}

#[unsafe(no_mangle)]
extern "system" fn ExWaitForRundownProtectionRelease(reference: *mut ExRundownRef) {
    require(PASSIVE, "ExWaitForRundownProtectionRelease");
    perturb();
    rundown(reference).fetch_or(1, Ordering::SeqCst);
    let since = Instant::now();
    while rundown(reference).load(Ordering::SeqCst) != 1 {
        assert!(
            since.elapsed() < Duration::from_secs(30),
            "somebody never leaves"
        );
        std::thread::yield_now();
    }
}

#[unsafe(no_mangle)]
extern "system" fn KeInitializeTimerEx(timer: *mut KTimer, _kind: i32) {
    let fresh = Timer {
        dpc: 0,
        due_in_100ns: None,
    };
    held(&TIMERS)
        .get_or_insert_default()
        .insert(timer as usize, fresh);
}

#[unsafe(no_mangle)]
extern "system" fn KeInitializeDpc(
    dpc: *mut KDpc,
    routine: KDeferredRoutine,
    context: *mut c_void,
) {
    let fresh = Dpc {
        routine,
        context: context as usize,
    };
    held(&DPCS)
        .get_or_insert_default()
        .insert(dpc as usize, fresh);
}

#[unsafe(no_mangle)]
extern "system" fn KeSetTimer(timer: *mut KTimer, due: i64, dpc: *mut KDpc) -> u8 {
    require(DISPATCH, "KeSetTimer");
    assert!(due < 0, "relative");
    let set = Timer {
        dpc: dpc as usize,
        due_in_100ns: Some(due),
    };
    let before = held(&TIMERS)
        .get_or_insert_default()
        .insert(timer as usize, set);
    u8::from(before.expect("an initialised timer").due_in_100ns.is_some())
}

#[unsafe(no_mangle)]
extern "system" fn KeCancelTimer(timer: *mut KTimer) -> u8 {
    require(DISPATCH, "KeCancelTimer");
    let mut timers = held(&TIMERS);
    let timer = timers.get_or_insert_default().get_mut(&(timer as usize));
    let due = timer.expect("an initialised timer").due_in_100ns.take();
    u8::from(due.is_some())
}

#[unsafe(no_mangle)]
extern "system" fn KeFlushQueuedDpcs() {
    require(PASSIVE, "KeFlushQueuedDpcs");
    drop(held(&DPC_RUNS));
}

#[unsafe(no_mangle)]
extern "system" fn KeQuerySystemTimePrecise(time: *mut i64) {
    let since_1970 = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a set clock");
    let now = 116_444_736_000_000_000 + since_1970.as_nanos() / 100;
    // SAFETY: the caller's LARGE_INTEGER.
    unsafe { time.write(i64::try_from(now).expect("63 bits")) };
}

#[unsafe(no_mangle)]
extern "system" fn KeQueryPerformanceCounter(frequency: *mut i64) -> i64 {
    // SAFETY: the caller's LARGE_INTEGER.
    unsafe { frequency.write(10_000_000) };
    0
}

/// Two processors, and a thread may be told it runs on either.
#[unsafe(no_mangle)]
extern "system" fn KeQueryMaximumProcessorCountEx(group: u16) -> u32 {
    assert_eq!(group, 0xFFFF, "ALL_PROCESSOR_GROUPS");
    2
}

#[unsafe(no_mangle)]
extern "system" fn KeGetCurrentProcessorNumberEx(number: *mut c_void) -> u32 {
    assert!(number.is_null(), "only the index is asked for");
    perturb();
    u32::from(TURN.get() & 2 != 0)
}
