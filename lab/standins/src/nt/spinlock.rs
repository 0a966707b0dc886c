//! Spin locks: held by a thread, released in order, at DISPATCH_LEVEL.

use std::cell::Cell;

const DEPTH: usize = 16;

thread_local! {
    /// Locks this thread holds, last acquired last: (address, IRQL before).
    static HELD: Cell<([(usize, u8); DEPTH], usize)> = const { Cell::new(([(0, 0); DEPTH], 0)) };
}

/// Spin locks this thread holds.
pub fn held_count() -> usize {
    HELD.get().1
}
