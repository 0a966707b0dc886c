//! Things in the order of their keys, in a tree whose links they carry themselves:
//! putting one in, taking one out, finding one, and finding the next after a key
//! each take as many steps as the tree is deep, which for ten thousand things is
//! a few dozen. Knows nothing of locks or the kernel, so that it runs in tests on
//! any host; whoever has one guards it, and the links, with a lock.
//!
//! A walk needs no place in the tree: it goes on after the last key it has seen,
//! so anything may come and go between two steps of it.
//!
//! # How it stays shallow
//! It is a treap: a search tree by key, and a heap by a number drawn from the key.
//! Numbers that look random give the depth of a tree that was filled in random
//! order, whatever the order was. They are drawn from ids the driver gives out, so
//! nobody can choose them to make it deep.

use core::cell::Cell;
use core::ptr;

/// Subtrees of something in a [`Tree`], guarded by its lock.
pub(super) struct Links<T> {
    lower: Cell<*const T>,
    higher: Cell<*const T>,
    linked: Cell<bool>,
}

impl<T> Links<T> {
    pub(super) const fn new() -> Self {
        Self {
            lower: Cell::new(ptr::null()),
            higher: Cell::new(ptr::null()),
            linked: Cell::new(false),
        }
    }

    /// Whether it is in a tree.
    pub(super) fn is_linked(&self) -> bool {
        self.linked.get()
    }
}

/// Something that can be in one [`Tree`].
pub(super) trait Keyed: Sized {
    /// Its key: always the same, and no other's in the tree.
    fn key(&self) -> u64;

    /// Its links, always the same.
    fn links(&self) -> &Links<Self>;
}

/// Where it is in the heap: a number that looks random (the last steps of
/// splitmix64).
fn rank(key: u64) -> u64 {
    let mut bits = key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// The tree.
pub(super) struct Tree<T> {
    root: Cell<*const T>,
}

// SAFETY: pointers to things that are used under its lock only (insert); they have
// no affinity to a thread.
unsafe impl<T> Send for Tree<T> {}

impl<T: Keyed> Tree<T> {
    pub(super) const fn new() -> Self {
        Self {
            root: Cell::new(ptr::null()),
        }
    }

    /// What a link leads to.
    fn at(&self, link: &Cell<*const T>) -> Option<&T> {
        // SAFETY: null or in the tree, so live (insert) for as long as the lock is
        // held, and so as long as the tree is borrowed.
        unsafe { link.get().as_ref() }
    }

    /// Puts `item` in.
    ///
    /// # Safety
    /// It is in no tree, and its key isn't there; it stays where it is, live, until
    /// it has been taken out; meanwhile only this tree uses its links.
    pub(super) unsafe fn insert(&mut self, item: *const T) {
        // SAFETY: live (caller).
        let new = unsafe { &*item };
        let (key, rank_of_new) = (new.key(), rank(new.key()));
        let mut link = &self.root;
        while let Some(found) = self.at(link) {
            if rank(found.key()) < rank_of_new {
                break;
            }
            let links = found.links();
            link = if found.key() < key {
                &links.higher
            } else {
                &links.lower
            };
        }
        // What was there is parted into what is lower and what is higher.
        let mut rest = link.get();
        link.set(item);
        let links = new.links();
        let (mut lower, mut higher) = (&links.lower, &links.higher);
        // SAFETY: null or in the tree, so live.
        while let Some(found) = unsafe { rest.as_ref() } {
            let links = found.links();
            if found.key() < key {
                lower.set(rest);
                lower = &links.higher;
                rest = lower.get();
            } else {
                higher.set(rest);
                higher = &links.lower;
                rest = higher.get();
            }
        }
        lower.set(ptr::null());
        higher.set(ptr::null());
        links.linked.set(true);
    }

    /// Takes `item` out.
    ///
    /// # Safety
    /// It is in this tree.
    pub(super) unsafe fn remove(&mut self, item: *const T) {
        // SAFETY: in the tree (caller), so live.
        let old = unsafe { &*item };
        let mut link = &self.root;
        while link.get() != item {
            let Some(found) = self.at(link) else { return };
            let links = found.links();
            link = if found.key() < old.key() {
                &links.higher
            } else {
                &links.lower
            };
        }
        // Its subtrees take its place, joined by rank.
        let links = old.links();
        let (mut lower, mut higher) = (links.lower.get(), links.higher.get());
        loop {
            // SAFETY: null or in the tree, so live.
            let one = unsafe { lower.as_ref() };
            // SAFETY: as above.
            let other = unsafe { higher.as_ref() };
            let (Some(one), Some(other)) = (one, other) else {
                link.set(if one.is_some() { lower } else { higher });
                break;
            };
            if rank(one.key()) < rank(other.key()) {
                link.set(higher);
                link = &other.links().lower;
                higher = link.get();
            } else {
                link.set(lower);
                link = &one.links().higher;
                lower = link.get();
            }
        }
        links.lower.set(ptr::null());
        links.higher.set(ptr::null());
        links.linked.set(false);
    }

    /// The one with this key.
    pub(super) fn get(&self, key: u64) -> Option<&T> {
        self.above(key.checked_sub(1))
            .filter(|found| found.key() == key)
    }

    /// The one with the lowest key above this one; above none: of all.
    pub(super) fn above(&self, key: Option<u64>) -> Option<&T> {
        let mut best = None;
        let mut link = &self.root;
        while let Some(found) = self.at(link) {
            let links = found.links();
            link = if key.is_some_and(|key| found.key() <= key) {
                &links.higher
            } else {
                best = Some(found);
                &links.lower
            };
        }
        best
    }
}
