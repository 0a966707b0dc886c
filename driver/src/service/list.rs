//! A doubly linked list of things that carry their links themselves, with one
//! walk that may be interrupted between any two of them. Knows nothing of locks
//! or the kernel, so that it runs in tests on any host; whoever has one guards
//! it, and the links, with a lock.
//!
//! # How a walk stays valid
//! The list itself has the walk's place: what is to be visited next. Taking that
//! very thing out moves the place on to the one after it, in the same critical
//! section. So whatever comes and goes while the lock isn't held, the place is
//! either at the end or at something that is in the list, which is never freed
//! there: nothing is freed before it has been taken out. The place only moves
//! forwards and nothing in the list changes its order, so nothing is visited
//! twice, and what is in the list from the walk's start on is visited or taken
//! out. What is put in during a walk goes in front of it, and isn't visited.

use core::cell::Cell;
use core::ptr;

/// Neighbours in a [`List`], guarded by its lock.
pub(super) struct Links<T> {
    previous: Cell<*const T>,
    next: Cell<*const T>,
}

impl<T> Links<T> {
    pub(super) const fn new() -> Self {
        Self {
            previous: Cell::new(ptr::null()),
            next: Cell::new(ptr::null()),
        }
    }
}

/// Something that can be in one [`List`].
pub(super) trait Linked: Sized {
    /// Its links, always the same.
    fn links(&self) -> &Links<Self>;
}

/// A list, and one walk through it.
pub(super) struct List<T> {
    first: *const T,
    /// What the walk visits next: in the list, or null at its end.
    place: *const T,
}

// SAFETY: the pointers are to things in the list, which are used under its lock
// only (link); they have no affinity to a thread.
unsafe impl<T> Send for List<T> {}

impl<T: Linked> List<T> {
    pub(super) const fn new() -> Self {
        Self {
            first: ptr::null(),
            place: ptr::null(),
        }
    }

    /// Puts `item` in, before all others.
    ///
    /// # Safety
    /// It is in no list, and stays where it is, live, until it has been taken
    /// out again; meanwhile only this list uses its links.
    pub(super) unsafe fn link(&mut self, item: *const T) {
        // SAFETY: live (caller).
        let links = unsafe { &*item }.links();
        links.previous.set(ptr::null());
        links.next.set(self.first);
        // SAFETY: null or in the list, so live.
        if let Some(next) = unsafe { self.first.as_ref() } {
            next.links().previous.set(item);
        }
        self.first = item;
    }

    /// Takes `item` out.
    ///
    /// # Safety
    /// It is in this list.
    pub(super) unsafe fn unlink(&mut self, item: *const T) {
        // SAFETY: in the list (caller), so live.
        let links = unsafe { &*item }.links();
        let (previous, next) = (links.previous.get(), links.next.get());
        if self.place == item {
            self.place = next;
        }
        // SAFETY: null or in the list, so live.
        match unsafe { previous.as_ref() } {
            Some(previous) => previous.links().next.set(next),
            None => self.first = next,
        }
        // SAFETY: as above.
        if let Some(next) = unsafe { next.as_ref() } {
            next.links().previous.set(previous);
        }
    }

    /// Shows each thing in the list to `each`, until that returns false; whether
    /// it never did.
    pub(super) fn all(&self, mut each: impl FnMut(&T) -> bool) -> bool {
        // SAFETY: null or in the list, so live.
        let mut next = unsafe { self.first.as_ref() };
        while let Some(item) = next {
            if !each(item) {
                return false;
            }
            // SAFETY: as above.
            next = unsafe { item.links().next.get().as_ref() };
        }
        true
    }

    /// Begins the walk.
    pub(super) fn walk(&mut self) {
        self.place = self.first;
    }

    /// The walk's next thing, in the list as long as it isn't taken out; none at
    /// the end.
    pub(super) fn step(&mut self) -> Option<*const T> {
        // SAFETY: null or in the list (unlink keeps it so), so live.
        let item = unsafe { self.place.as_ref() }?;
        self.place = item.links().next.get();
        Some(ptr::from_ref(item))
    }
}
