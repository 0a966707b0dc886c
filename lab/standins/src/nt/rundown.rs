//! Rundown protection: a count of users that can be closed and waited out.
//!
//! The word is as on Windows: twice the number of users, with bit 0 set once
//! the wait has begun. Waiting polls: it happens once, at an object's end.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::arg;
use super::types::EX_RUNDOWN_REF;
use crate::core::{Rule, callout, event_log, irql, pool};

const CLOSED: usize = 1;
const ONE: usize = 2;

/// # Safety
/// `run` points to an EX_RUNDOWN_REF.
unsafe fn word<'a>(run: *mut EX_RUNDOWN_REF, api: &str) -> &'a AtomicUsize {
    if pool::is_freed(run as usize) {
        violate!(Rule::RundownProtection, "{api}: {run:?} lies in freed pool");
    }
    // SAFETY: by contract.
    let run = unsafe { arg(run, api, "RunRef") };
    // SAFETY: an aligned, live word.
    unsafe { AtomicUsize::from_ptr(&raw mut run.Count) }
}

/// MSDN: ExInitializeRundownProtection.
///
/// # Safety
/// `run` points to memory for an EX_RUNDOWN_REF.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn ExInitializeRundownProtection(run: *mut EX_RUNDOWN_REF) {
    // SAFETY: by contract.
    unsafe { word(run, "ExInitializeRundownProtection") }.store(0, Ordering::SeqCst);
}

/// MSDN: ExReInitializeRundownProtection: only after a finished rundown.
///
/// # Safety
/// `run` points to a run-down EX_RUNDOWN_REF.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn ExReInitializeRundownProtection(run: *mut EX_RUNDOWN_REF) {
    let api = "ExReInitializeRundownProtection";
    // SAFETY: by contract.
    let word = unsafe { word(run, api) };
    let old = word.swap(0, Ordering::SeqCst);
    if old != CLOSED {
        violate!(
            Rule::RundownProtection,
            "{api}: not run down (word {old:#x})"
        );
    }
}

/// MSDN: ExRundownCompleted.
///
/// # Safety
/// `run` points to a run-down EX_RUNDOWN_REF.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn ExRundownCompleted(run: *mut EX_RUNDOWN_REF) {
    let api = "ExRundownCompleted";
    // SAFETY: by contract.
    let word = unsafe { word(run, api) };
    let old = word.swap(CLOSED, Ordering::SeqCst);
    if old & !CLOSED != 0 {
        violate!(Rule::RundownProtection, "{api}: {} users left", old / ONE);
    }
}

/// MSDN: ExAcquireRundownProtection. Any IRQL.
///
/// # Safety
/// `run` points to an initialised EX_RUNDOWN_REF.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn ExAcquireRundownProtection(run: *mut EX_RUNDOWN_REF) -> u8 {
    let api = "ExAcquireRundownProtection";
    // SAFETY: by contract.
    let word = unsafe { word(run, api) };
    let taken = word.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |value| {
        if value & CLOSED == 0 {
            value.checked_add(ONE)
        } else {
            None
        }
    });
    u8::from(taken.is_ok())
}

/// MSDN: ExReleaseRundownProtection. Any IRQL.
///
/// # Safety
/// `run` points to an EX_RUNDOWN_REF the caller acquired.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn ExReleaseRundownProtection(run: *mut EX_RUNDOWN_REF) {
    let api = "ExReleaseRundownProtection";
    // SAFETY: by contract.
    let word = unsafe { word(run, api) };
    let old = word.fetch_sub(ONE, Ordering::AcqRel);
    if old < ONE {
        violate!(
            Rule::RundownProtection,
            "{api}: released more often than acquired"
        );
    }
}

/// MSDN: ExWaitForRundownProtectionRelease. IRQL <= APC_LEVEL.
///
/// # Safety
/// `run` points to an initialised EX_RUNDOWN_REF.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn ExWaitForRundownProtectionRelease(run: *mut EX_RUNDOWN_REF) {
    let api = "ExWaitForRundownProtectionRelease";
    irql::require_max_rule(Rule::IrqlExPassive, api, irql::APC_LEVEL);
    callout::check_wait(api);
    // SAFETY: by contract.
    let word = unsafe { word(run, api) };
    word.fetch_or(CLOSED, Ordering::AcqRel);
    let start = Instant::now();
    let mut reported = false;
    while word.load(Ordering::Acquire) != CLOSED {
        std::thread::sleep(Duration::from_micros(200));
        if !reported && start.elapsed() > Duration::from_secs(5) {
            reported = true;
            event_log(serde_json::json!({
                "event": "waiting", "what": api, "users": word.load(Ordering::Relaxed) / ONE,
            }));
        }
    }
}
