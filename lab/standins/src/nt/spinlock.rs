//! Spin locks: held by a thread, released in order, at DISPATCH_LEVEL.
//!
//! A lock word is 0 when free, else twice the holder's thread id plus one. A
//! thread stands for a processor: waiting for a lock it holds itself would
//! never end on Windows, and is refused here.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use windows_sys::Win32::System::Threading::GetCurrentThreadId;

use super::active;
use crate::core::{Rule, irql, pool};

const DEPTH: usize = 16;
/// A lock held this long is never coming back.
const STUCK: Duration = Duration::from_secs(20);

thread_local! {
    /// Locks this thread holds, last acquired last: (address, IRQL before).
    static HELD: Cell<([(usize, u8); DEPTH], usize)> = const { Cell::new(([(0, 0); DEPTH], 0)) };
}

/// Spin locks this thread holds.
pub fn held_count() -> usize {
    HELD.get().1
}

/// The lock this thread acquired last and still holds.
pub fn last_held() -> Option<usize> {
    let (held, count) = HELD.get();
    count.checked_sub(1).map(|top| held[top].0)
}

/// Whether this thread holds a lock.
pub fn holds(address: usize) -> bool {
    let (held, count) = HELD.get();
    held.iter().take(count).any(|(a, _)| *a == address)
}

fn me() -> usize {
    // SAFETY: takes no argument.
    let id = unsafe { GetCurrentThreadId() };
    (id as usize) * 2 + 1
}

/// The lock word.
///
/// # Safety
/// `lock` points to a live KSPIN_LOCK.
unsafe fn word<'a>(lock: *mut usize, api: &str) -> &'a AtomicUsize {
    if lock.is_null() || !lock.is_aligned() {
        violate!(Rule::SpinLockSafe, "{api}: lock {lock:?}");
    }
    if pool::is_freed(lock as usize) {
        violate!(
            Rule::SpinLockSafe,
            "{api}: lock {lock:?} lies in freed pool"
        );
    }
    // SAFETY: aligned and alive by this function's contract.
    unsafe { AtomicUsize::from_ptr(lock) }
}

fn acquire(word: &AtomicUsize, old_irql: u8, api: &str) {
    let address = std::ptr::from_ref(word) as usize;
    let mine = me();
    let mut start = None;
    let mut spins = 0u32;
    while let Err(holder) =
        word.compare_exchange_weak(0, mine, Ordering::Acquire, Ordering::Relaxed)
    {
        if holder == mine {
            violate!(
                Rule::SpinLock,
                "{api}: lock {address:#x} is already held by this thread"
            );
        }
        if holder != 0 && (holder & 1 == 0 || holder > 0x1_0000_0000) {
            violate!(
                Rule::SpinLockSafe,
                "{api}: lock {address:#x} holds {holder:#x}: not initialised, or overwritten"
            );
        }
        spins += 1;
        if spins < 64 {
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
            let since = *start.get_or_insert_with(Instant::now);
            if since.elapsed() > STUCK {
                violate!(
                    Rule::SpinLock,
                    "{api}: lock {address:#x} held by thread {} for {} s: deadlock",
                    holder / 2,
                    STUCK.as_secs()
                );
            }
        }
    }
    let (mut held, count) = HELD.get();
    if count == DEPTH {
        violate!(
            Rule::SpinLock,
            "{api}: {DEPTH} spin locks held by one thread"
        );
    }
    held[count] = (address, old_irql);
    HELD.set((held, count + 1));
    active::add(address, Rule::SpinLockSafe, "a held spin lock");
}

/// Releases; returns the IRQL from before the acquire.
fn release(word: &AtomicUsize, api: &str) -> u8 {
    let address = std::ptr::from_ref(word) as usize;
    let holder = word.load(Ordering::Relaxed);
    let mine = me();
    if holder == 0 {
        violate!(
            Rule::SpinLockRelease,
            "{api}: lock {address:#x} is not held"
        );
    }
    if holder != mine {
        violate!(
            Rule::SpinLockRelease,
            "{api}: lock {address:#x} is held by thread {}, not by this one ({})",
            holder / 2,
            mine / 2
        );
    }
    let (held, count) = HELD.get();
    let Some((last, old)) = count.checked_sub(1).map(|top| held[top]) else {
        violate!(Rule::SpinLockRelease, "{api}: this thread holds no lock");
    };
    if last != address {
        violate!(
            Rule::SpinLockRelease,
            "{api}: lock {address:#x} released while {last:#x}, acquired later, is held"
        );
    }
    HELD.set((held, count - 1));
    active::remove(address);
    word.store(0, Ordering::Release);
    old
}

/// MSDN: KeInitializeSpinLock.
///
/// # Safety
/// `lock` points to memory for a KSPIN_LOCK.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn KeInitializeSpinLock(lock: *mut usize) {
    // SAFETY: by contract.
    let word = unsafe { word(lock, "KeInitializeSpinLock") };
    if active::is_active(lock as usize) {
        violate!(
            Rule::SpinLockSafe,
            "KeInitializeSpinLock: lock {lock:?} is held"
        );
    }
    word.store(0, Ordering::Release);
}

/// MSDN: KeAcquireSpinLockRaiseToDpc. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// `lock` points to a live, initialised KSPIN_LOCK.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn KeAcquireSpinLockRaiseToDpc(lock: *mut usize) -> u8 {
    irql::require_max("KeAcquireSpinLockRaiseToDpc", irql::DISPATCH_LEVEL);
    // SAFETY: by contract.
    let word = unsafe { word(lock, "KeAcquireSpinLockRaiseToDpc") };
    let old = irql::raise(irql::DISPATCH_LEVEL);
    acquire(word, old, "KeAcquireSpinLockRaiseToDpc");
    old
}

/// MSDN: KeReleaseSpinLock. IRQL = DISPATCH_LEVEL.
///
/// # Safety
/// `lock` points to a KSPIN_LOCK this thread holds.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn KeReleaseSpinLock(lock: *mut usize, new_irql: u8) {
    let api = "KeReleaseSpinLock";
    // SAFETY: by contract.
    let word = unsafe { word(lock, api) };
    let old = release(word, api);
    irql::require_exact_rule(Rule::IrqlKeReleaseSpinLock, api, irql::DISPATCH_LEVEL);
    if new_irql != old {
        violate!(
            Rule::IrqlKeReleaseSpinLock,
            "{api}: NewIrql {new_irql}, but the acquire returned {old}"
        );
    }
    irql::lower(old);
}

/// MSDN: KeAcquireSpinLockAtDpcLevel. IRQL >= DISPATCH_LEVEL.
///
/// # Safety
/// `lock` points to a live, initialised KSPIN_LOCK.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn KeAcquireSpinLockAtDpcLevel(lock: *mut usize) {
    let api = "KeAcquireSpinLockAtDpcLevel";
    irql::require_exact(api, irql::DISPATCH_LEVEL);
    // SAFETY: by contract.
    let word = unsafe { word(lock, api) };
    acquire(word, irql::DISPATCH_LEVEL, api);
}

/// MSDN: KeTryToAcquireSpinLockAtDpcLevel. IRQL >= DISPATCH_LEVEL.
///
/// # Safety
/// `lock` points to a live, initialised KSPIN_LOCK.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn KeTryToAcquireSpinLockAtDpcLevel(lock: *mut usize) -> u8 {
    let api = "KeTryToAcquireSpinLockAtDpcLevel";
    irql::require_exact(api, irql::DISPATCH_LEVEL);
    // SAFETY: by contract.
    let word = unsafe { word(lock, api) };
    if word.load(Ordering::Relaxed) != 0 {
        return 0;
    }
    acquire(word, irql::DISPATCH_LEVEL, api);
    1
}

/// MSDN: KeReleaseSpinLockFromDpcLevel. IRQL >= DISPATCH_LEVEL.
///
/// # Safety
/// `lock` points to a KSPIN_LOCK this thread holds.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn KeReleaseSpinLockFromDpcLevel(lock: *mut usize) {
    let api = "KeReleaseSpinLockFromDpcLevel";
    // SAFETY: by contract.
    let word = unsafe { word(lock, api) };
    irql::require_exact(api, irql::DISPATCH_LEVEL);
    let old = release(word, api);
    if old != irql::DISPATCH_LEVEL {
        violate!(
            Rule::IrqlKeReleaseSpinLock,
            "{api}: the lock was acquired with KeAcquireSpinLockRaiseToDpc at IRQL {old}"
        );
    }
}

/// MSDN: KeGetCurrentIrql.
#[unsafe(no_mangle)]
pub extern "system" fn KeGetCurrentIrql() -> u8 {
    irql::current()
}

/// MSDN: KeRaiseIrql (its x64 function).
#[unsafe(no_mangle)]
pub extern "system" fn KfRaiseIrql(new_irql: u8) -> u8 {
    irql::raise(new_irql)
}

/// MSDN: KeLowerIrql. Below DISPATCH_LEVEL no spin lock may be held.
#[unsafe(no_mangle)]
pub extern "system" fn KeLowerIrql(new_irql: u8) {
    if new_irql < irql::DISPATCH_LEVEL && held_count() > 0 {
        violate!(
            Rule::IrqlKeRaiseLower,
            "KeLowerIrql({new_irql}) with a spin lock held"
        );
    }
    irql::lower(new_irql);
}
