//! Clocks and relative due times.

use super::sys;

/// Units of 100 ns in a millisecond.
const PER_MS: i64 = 10_000;

/// Units of 100 ns in a second.
const PER_SECOND: u64 = 10_000_000;

/// Now, in units of 100 ns since 1601-01-01 UTC (a `FILETIME`), with the best
/// resolution the system has. Any IRQL.
pub(crate) fn system_time_100ns() -> u64 {
    let mut now = 0i64;
    // SAFETY: writes one LARGE_INTEGER to a live local.
    unsafe { sys::KeQuerySystemTimePrecise(&raw mut now) };
    now.cast_unsigned()
}

/// Time since some fixed moment of this boot, in units of 100 ns; never goes
/// back. Any IRQL.
pub(crate) fn monotonic_100ns() -> u64 {
    let mut frequency = 0i64;
    // SAFETY: writes one LARGE_INTEGER to a live local.
    let ticks = unsafe { sys::KeQueryPerformanceCounter(&raw mut frequency) }.cast_unsigned();
    let frequency = frequency.cast_unsigned();
    // Whole seconds and the rest apart: the product of both would overflow.
    let seconds = ticks.checked_div(frequency).unwrap_or(0);
    let rest = ticks.checked_rem(frequency).unwrap_or(0);
    let part = rest
        .saturating_mul(PER_SECOND)
        .checked_div(frequency)
        .unwrap_or(0);
    seconds.saturating_mul(PER_SECOND).saturating_add(part)
}

/// `ms` milliseconds from now, as `KeSetTimer` and `KeWaitForSingleObject` want
/// it: negative, in units of 100 ns.
pub(crate) fn relative_100ns(ms: u32) -> i64 {
    // At most u32::MAX * 10_000 < 2^46.
    i64::from(ms).wrapping_mul(PER_MS).wrapping_neg()
}
