//! Those who wait in line for a listener's connections: the oldest first, and out of
//! the line from anywhere in a few steps, however many wait. Knows nothing of sockets
//! or the kernel, so that it runs in tests on any host; whoever has a line guards it,
//! and the places of those in it, with a lock.
//!
//! One whose request is being cancelled can't be served, and may not leave before the
//! framework's cancel callback has come for it. It is set aside, so that nobody comes
//! by it again and again until then.

use core::cell::Cell;
use core::ptr;

/// Where one of them is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    Nowhere,
    InLine,
    Aside,
}

/// One's place in a [`Line`], guarded by its lock.
pub(super) struct Place<T> {
    previous: Cell<*const T>,
    next: Cell<*const T>,
    at: Cell<Where>,
}

impl<T> Place<T> {
    pub(super) const fn new() -> Self {
        Self {
            previous: Cell::new(ptr::null()),
            next: Cell::new(ptr::null()),
            at: Cell::new(Where::Nowhere),
        }
    }
}

/// Something that can wait in one [`Line`].
pub(super) trait Waits: Sized {
    /// Its place, always the same.
    fn place(&self) -> &Place<Self>;
}

/// A line.
pub(super) struct Line<T> {
    first: *const T,
    last: *const T,
    count: u32,
}

// SAFETY: the pointers are to those in line, which are used under its lock only
// (push); they have no affinity to a thread.
unsafe impl<T> Send for Line<T> {}

impl<T: Waits> Line<T> {
    pub(super) const fn new() -> Self {
        Self {
            first: ptr::null(),
            last: ptr::null(),
            count: 0,
        }
    }

    /// How many are in line.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// Lets `item` in at the end.
    ///
    /// # Safety
    /// It is nowhere, and stays where it is, live, until it has been taken out;
    /// meanwhile only this line uses its place.
    pub(super) unsafe fn push(&mut self, item: *const T) {
        // SAFETY: live (caller).
        let place = unsafe { &*item }.place();
        place.previous.set(self.last);
        place.next.set(ptr::null());
        place.at.set(Where::InLine);
        // SAFETY: null or in line, so live.
        match unsafe { self.last.as_ref() } {
            Some(last) => last.place().next.set(item),
            None => self.first = item,
        }
        self.last = item;
        self.count = self.count.saturating_add(1);
    }

    /// The one that has waited longest.
    pub(super) fn first(&self) -> Option<&T> {
        // SAFETY: null or in line, so live.
        unsafe { self.first.as_ref() }
    }

    /// Whether `item` is in line.
    pub(super) fn is_in(&self, item: &T) -> bool {
        item.place().at.get() == Where::InLine
    }

    /// Takes `item` out, whether it is in line or aside; false if it is neither.
    ///
    /// # Safety
    /// It is in no other line.
    pub(super) unsafe fn take(&mut self, item: &T) -> bool {
        let at = item.place().at.replace(Where::Nowhere);
        if at == Where::InLine {
            self.unlink(item);
        }
        at != Where::Nowhere
    }

    /// Sets `item` aside, until it is taken out. In line no more, it isn't counted.
    ///
    /// # Safety
    /// It is in no other line.
    pub(super) unsafe fn set_aside(&mut self, item: &T) {
        if item.place().at.get() == Where::InLine {
            self.unlink(item);
            item.place().at.set(Where::Aside);
        }
    }

    fn unlink(&mut self, item: &T) {
        let (previous, next) = (item.place().previous.get(), item.place().next.get());
        // SAFETY: null or in line, so live.
        match unsafe { previous.as_ref() } {
            Some(previous) => previous.place().next.set(next),
            None => self.first = next,
        }
        // SAFETY: as above.
        match unsafe { next.as_ref() } {
            Some(next) => next.place().previous.set(previous),
            None => self.last = previous,
        }
        self.count = self.count.saturating_sub(1);
    }
}
