//! IRQL of the calling thread.
//!
//! A thread here is what a processor is on Windows: raising it to
//! `DISPATCH_LEVEL` does not stop other threads, but everything that may not
//! be done at that level is refused.

use std::cell::Cell;

use super::Rule;

/// Normal threads, callbacks from user-mode requests, work items.
pub const PASSIVE_LEVEL: u8 = 0;
/// Asynchronous procedure calls held off.
pub const APC_LEVEL: u8 = 1;
/// Spin locks, DPCs, the network's data path.
pub const DISPATCH_LEVEL: u8 = 2;

thread_local! {
    static CURRENT: Cell<u8> = const { Cell::new(PASSIVE_LEVEL) };
}

/// IRQL of this thread.
pub fn current() -> u8 {
    CURRENT.get()
}

/// Sets the level and returns the old one; for the lab's own use.
pub fn set(level: u8) -> u8 {
    CURRENT.replace(level)
}

/// Raises to `level` (`KeRaiseIrql`): lowering this way is a violation.
pub fn raise(level: u8) -> u8 {
    let old = current();
    if level < old {
        violate!(Rule::IrqlKeRaiseLower, "raised from IRQL {old} to {level}");
    }
    set(level)
}

/// Lowers to `level` (`KeLowerIrql`): raising this way is a violation.
pub fn lower(level: u8) {
    let old = current();
    if level > old {
        violate!(Rule::IrqlKeRaiseLower, "lowered from IRQL {old} to {level}");
    }
    set(level);
}

/// `api` needs IRQL <= `max`, under the general rule for Ke functions.
pub fn require_max(api: &str, max: u8) {
    require_max_rule(Rule::IrqlKeDispatchLte, api, max);
}

/// `api` needs IRQL <= `max`; `rule` names what is broken otherwise.
pub fn require_max_rule(rule: Rule, api: &str, max: u8) {
    let now = current();
    if now > max {
        violate!(rule, "{api} at IRQL {now}, allowed up to {max}");
    }
}

/// `api` needs IRQL == `level`, under the general rule for Ke functions.
pub fn require_exact(api: &str, level: u8) {
    require_exact_rule(Rule::IrqlKeDispatchLte, api, level);
}

/// `api` needs IRQL == `level`; `rule` names what is broken otherwise.
pub fn require_exact_rule(rule: Rule, api: &str, level: u8) {
    let now = current();
    if now != level {
        violate!(rule, "{api} at IRQL {now}, needs exactly {level}");
    }
}
