//! Entering driver code: at a stated IRQL, with nothing left behind.

use std::cell::Cell;

use super::{Rule, irql, stack};
use crate::nt::spinlock;

const DEPTH: usize = 32;

thread_local! {
    static NAMES: Cell<([&'static str; DEPTH], usize)> = const { Cell::new(([""; DEPTH], 0)) };
}

/// Calls driver code `f`, the callback `name`, at `level`.
///
/// On return the IRQL must be `level` again and every spin lock taken inside
/// must have been released; then the caller's IRQL is restored.
pub fn call<R>(name: &'static str, level: u8, f: impl FnOnce() -> R) -> R {
    let (mut names, depth) = NAMES.get();
    if depth < DEPTH {
        names[depth] = name;
    }
    NAMES.set((names, depth + 1));
    let before = irql::set(level);
    let held = spinlock::held_count();
    let result = f();
    let after = irql::current();
    if spinlock::held_count() != held {
        violate!(
            Rule::SpinLockReturn,
            "{name} returned with {} spin lock(s) held on entry and {} on return",
            held,
            spinlock::held_count()
        );
    }
    if after != level {
        violate!(
            Rule::IrqlReturn,
            "{name} was called at IRQL {level} and returned at {after}"
        );
    }
    irql::set(before);
    NAMES.set((NAMES.get().0, depth));
    result
}

thread_local! {
    static NO_WAIT: Cell<Option<Rule>> = const { Cell::new(None) };
}

/// Runs `f`; a wait of this thread meanwhile breaks `rule`.
pub fn forbid_wait<R>(rule: Rule, f: impl FnOnce() -> R) -> R {
    let before = NO_WAIT.replace(Some(rule));
    let result = f();
    NO_WAIT.set(before);
    result
}

/// To be called by whatever makes a thread wait.
pub fn check_wait(api: &str) {
    if let Some(rule) = NO_WAIT.get() {
        violate!(rule, "{api} inside {:?}", names());
    }
}

/// [`call`], and what is found wrong afterwards is blamed on the callback at
/// `address`: there is no driver code on the stack any more.
pub fn call_at<R>(name: &'static str, address: usize, level: u8, f: impl FnOnce() -> R) -> R {
    stack::blame(address);
    call(name, level, f)
}

/// Whether this thread is in a driver callback.
pub fn inside() -> bool {
    NAMES.get().1 > 0
}

/// The driver callbacks this thread is in, outermost first.
pub fn names() -> Vec<&'static str> {
    let (names, depth) = NAMES.get();
    names.iter().take(depth.min(DEPTH)).copied().collect()
}
