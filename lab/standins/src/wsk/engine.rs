//! The provider's engine: one completion port, a few worker threads, and the
//! seeded choices that make every client see both ways of everything.
//!
//! Whatever a WSK function may do at once, it sometimes does at once (the IRP
//! completes inside the call) and sometimes from a worker (the call returns
//! STATUS_PENDING); completions and event callbacks run at DISPATCH_LEVEL, and
//! sometimes at PASSIVE_LEVEL. Both are within the contract, so a client has
//! to be right for both.
//!
//! Locks: a socket's state ([`super::socket::State`]) is the only lock held
//! around Winsock calls. No lock of any kind is held while client code runs.

use super::op::Op;
use super::winsock::Port;
use crate::core::{Rule, callout, config, irql};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use windows_sys::Win32::System::IO::OVERLAPPED;

/// Packets of overlapped operations; the OVERLAPPED starts an [`Op`].
pub(super) const KEY_IO: usize = 1;
/// Packets of our own; the pointer is a boxed task.
const KEY_TASK: usize = 2;
const WORKERS: usize = 4;
/// Completions nested this deep in one thread go through a worker.
const INLINE_DEPTH: u32 = 4;

static RANDOM: AtomicU64 = AtomicU64::new(1);
/// Per cent of the calls that could complete at once and do.
static INLINE: AtomicU32 = AtomicU32::new(50);
/// Per cent of the callbacks that run at DISPATCH_LEVEL.
static DISPATCH: AtomicU32 = AtomicU32::new(75);

type Task = Box<dyn FnOnce() + Send>;

/// Takes a lock. The workspace aborts on panic, so none is ever poisoned.
pub(super) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a session: the choices begin anew from the configured seed.
///
/// `lab.json`: `"shape": {"seed": N}`, and for this provider
/// `"wsk": {"inline": percent, "dispatch": percent}`.
pub(super) fn begin() {
    let config = config::get();
    let seed = config.shape.get("seed").and_then(serde_json::Value::as_u64);
    RANDOM.store(seed.unwrap_or(1), Ordering::SeqCst);
    let wsk = config.extra.get("wsk");
    let percent = |name: &str, default: u32| {
        wsk.and_then(|section| section.get(name))
            .and_then(serde_json::Value::as_u64)
            .and_then(|value| u32::try_from(value).ok())
            .unwrap_or(default)
    };
    INLINE.store(percent("inline", 50), Ordering::SeqCst);
    DISPATCH.store(percent("dispatch", 75), Ordering::SeqCst);
}

/// The next number of the seeded sequence (splitmix64).
pub(super) fn random() -> u64 {
    const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut z = RANDOM.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn chance(percent: u32) -> bool {
    random() % 100 < u64::from(percent)
}

/// Whether a call that could complete at once shall.
pub(super) fn inline_now() -> bool {
    super::irp::depth() < INLINE_DEPTH && chance(INLINE.load(Ordering::Relaxed))
}

/// The IRQL for client code called from here: never below the current one.
pub(super) fn level() -> u8 {
    if irql::current() >= irql::DISPATCH_LEVEL || chance(DISPATCH.load(Ordering::Relaxed)) {
        irql::DISPATCH_LEVEL
    } else {
        irql::PASSIVE_LEVEL
    }
}

/// Enters an event callback function, which must not wait for anything.
pub(super) fn callback<R>(
    name: &'static str,
    routine: usize,
    level: u8,
    f: impl FnOnce() -> R,
) -> R {
    callout::forbid_wait(Rule::LabWskWaitInCallback, || {
        callout::call_at(name, routine, level, f)
    })
}

/// The completion port; `None` when the host has no more handles.
pub(super) fn port() -> Option<&'static Port> {
    static PORT: OnceLock<Option<&'static Port>> = OnceLock::new();
    *PORT.get_or_init(|| {
        let port: &'static Port = Box::leak(Box::new(Port::new()?));
        for number in 0..WORKERS {
            std::thread::Builder::new()
                .name(format!("lab-wsk-{number}"))
                .spawn(move || work(port))
                .ok()?;
        }
        Some(port)
    })
}

/// Runs `task` on a worker, at PASSIVE_LEVEL.
pub(super) fn post(task: impl FnOnce() + Send + 'static) {
    let task: Box<Task> = Box::new(Box::new(task));
    let raw = Box::into_raw(task);
    let posted = port().is_some_and(|port| port.post(KEY_TASK, raw.cast::<OVERLAPPED>()));
    if !posted {
        // Without a port there are no workers: a thread of its own will do.
        // SAFETY: the pointer came from Box::into_raw and nobody took it.
        let task = unsafe { Box::from_raw(raw) };
        std::thread::spawn(task);
    }
}

fn work(port: &'static Port) {
    loop {
        let Some(packet) = port.wait() else { continue };
        match packet.key {
            KEY_IO => {
                // SAFETY: packets with this key are those of Op::start, which
                // gave up one reference for each.
                let op = unsafe { Arc::from_raw(packet.overlapped.cast::<Op>().cast_const()) };
                op.packet(packet.bytes);
            }
            KEY_TASK => {
                // SAFETY: packets with this key are those of `post`.
                let task = unsafe { Box::from_raw(packet.overlapped.cast::<Task>()) };
                task();
            }
            _ => {}
        }
    }
}
