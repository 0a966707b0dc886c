//! A spin lock that owns what it protects.
//!
//! Taking it raises to `DISPATCH_LEVEL`; the guard lowers again. Code under the
//! guard must not wait, must not complete requests or IRPs, must not call a
//! callback of another part of the system, and must be short.

use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use super::sys;

/// A `KSPIN_LOCK` around a value. Once shared it must stay where it is (in a
/// static, or in pool).
pub(crate) struct SpinLock<T> {
    /// `KeInitializeSpinLock` stores 0; so does `new`.
    lock: UnsafeCell<usize>,
    value: UnsafeCell<T>,
}

// SAFETY: the lock hands the value to one processor at a time.
unsafe impl<T: Send> Sync for SpinLock<T> {}
// SAFETY: an unshared lock may move with its value.
unsafe impl<T: Send> Send for SpinLock<T> {}

impl<T> SpinLock<T> {
    /// A free lock around `value`.
    pub(crate) const fn new(value: T) -> Self {
        Self {
            lock: UnsafeCell::new(0),
            value: UnsafeCell::new(value),
        }
    }

    /// Takes the lock at `IRQL <= DISPATCH_LEVEL`. Not recursive.
    pub(crate) fn lock(&self) -> SpinLockGuard<'_, T> {
        // SAFETY: initialised (0 is a free lock), at a fixed address, and the
        // caller is at IRQL <= DISPATCH_LEVEL.
        let old_irql = unsafe { sys::KeAcquireSpinLockRaiseToDpc(self.lock.get()) };
        SpinLockGuard {
            lock: self,
            old_irql,
            stays_on_this_thread: PhantomData,
        }
    }
}

/// The lock, held; lets go (and lowers the IRQL) when dropped. Guards of two
/// locks must be dropped in the opposite order they were taken.
pub(crate) struct SpinLockGuard<'a, T> {
    lock: &'a SpinLock<T>,
    old_irql: u8,
    stays_on_this_thread: PhantomData<*mut ()>,
}

impl<T> Deref for SpinLockGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the guard is the one holder of the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for SpinLockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard is the one holder of the lock, borrowed exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for SpinLockGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: taken by this guard, released once, with the IRQL it saved.
        unsafe { sys::KeReleaseSpinLock(self.lock.lock.get(), self.old_irql) }
    }
}
