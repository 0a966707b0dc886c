//! Locks.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks what is whole whether or not a holder panicked: nothing here panics
/// while it holds a lock.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
