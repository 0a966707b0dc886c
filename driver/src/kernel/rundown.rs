//! Rundown protection: many short users, one owner who waits for them to end.

use core::cell::UnsafeCell;

use super::sys;

/// An `EX_RUNDOWN_REF`. Stays where it is once shared.
pub(crate) struct Rundown {
    reference: UnsafeCell<sys::ExRundownRef>,
}

// SAFETY: EX_RUNDOWN_REF is made to be used from all processors at once.
unsafe impl Sync for Rundown {}
// SAFETY: an unshared one holds no address of itself.
unsafe impl Send for Rundown {}

impl Rundown {
    /// The bytes of a rundown reference; call [`Rundown::init`] at its final
    /// address before the first `acquire`.
    pub(crate) const fn new() -> Self {
        Self {
            reference: UnsafeCell::new(sys::ExRundownRef(0)),
        }
    }

    /// `ExInitializeRundownProtection`: from here on users may come in. Any
    /// IRQL. Not while there are users.
    pub(crate) fn init(&self) {
        // SAFETY: a valid address; that nobody uses it yet is the condition.
        unsafe { sys::ExInitializeRundownProtection(self.reference.get()) }
    }

    /// Comes in, unless the owner has begun to wait. `IRQL <= DISPATCH_LEVEL`.
    pub(crate) fn acquire(&self) -> Option<RundownGuard<'_>> {
        self.acquire_raw().then(|| RundownGuard { rundown: self })
    }

    /// [`Rundown::acquire`] for users that outlive a scope; each `true` is
    /// matched by one [`Rundown::release_raw`].
    pub(crate) fn acquire_raw(&self) -> bool {
        // SAFETY: initialised, at a fixed address, IRQL <= DISPATCH_LEVEL.
        unsafe { sys::ExAcquireRundownProtection(self.reference.get()) != 0 }
    }

    /// Goes out again.
    pub(crate) fn release_raw(&self) {
        // SAFETY: the caller came in by acquire_raw and goes out once.
        unsafe { sys::ExReleaseRundownProtection(self.reference.get()) }
    }

    /// Lets nobody in any more and waits for all users to go.
    /// `IRQL < DISPATCH_LEVEL`; returns at once when called a second time.
    pub(crate) fn wait(&self) {
        // SAFETY: initialised, at a fixed address; the caller may block.
        unsafe { sys::ExWaitForRundownProtectionRelease(self.reference.get()) }
    }

    /// Opens again after [`Rundown::wait`] has returned.
    pub(crate) fn reinit(&self) {
        // SAFETY: the condition (wait has returned) is the owner's to keep; the
        // owner alone calls wait and reinit.
        unsafe { sys::ExReInitializeRundownProtection(self.reference.get()) }
    }
}

/// One user inside; goes out when dropped.
pub(crate) struct RundownGuard<'a> {
    rundown: &'a Rundown,
}

impl Drop for RundownGuard<'_> {
    fn drop(&mut self) {
        self.rundown.release_raw();
    }
}
