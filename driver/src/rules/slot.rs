//! Where the rules in force are found, and what keeps them alive.
//!
//! A slot is free, or somebody's: claimed, then filled, current, and on its way
//! out. Its rundown protection is run down except while its set can be used;
//! the set's pointer is stored before the protection opens and taken away after
//! it has run down, so whoever is inside sees a live set.

use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

use super::{Set, TAG, Version};
use crate::kernel::pool::KBox;
use crate::kernel::rundown::Rundown;

/// One in force, one on its way out, and two loads at once.
const SLOTS_THERE_ARE: usize = 4;

struct Slot {
    taken: AtomicBool,
    inside: Rundown,
    set: AtomicPtr<Set>,
}

static SLOTS: [Slot; SLOTS_THERE_ARE] = [const {
    Slot {
        taken: AtomicBool::new(false),
        inside: Rundown::new(),
        set: AtomicPtr::new(ptr::null_mut()),
    }
}; SLOTS_THERE_ARE];

/// The index of the slot in force, plus 1; 0: there are no rules.
static CURRENT: AtomicUsize = AtomicUsize::new(0);

/// Initialises every slot's rundown protection and runs it down.
pub(super) fn start() {
    for slot in &SLOTS {
        slot.inside.init();
        slot.inside.wait();
    }
}

fn at(number: usize) -> Option<&'static Slot> {
    SLOTS.get(number.checked_sub(1)?)
}

/// The rules in force, kept from being freed.
pub(crate) struct InForce {
    slot: &'static Slot,
}

impl InForce {
    pub(super) fn set(&self) -> &Set {
        // SAFETY: stored before the rundown protection opened and freed only
        // after it has run down, which it can't while `self` is inside.
        unsafe { &*self.slot.set.load(Ordering::Acquire) }
    }
}

impl Drop for InForce {
    fn drop(&mut self) {
        self.slot.inside.release_raw();
    }
}

/// The rules in force, if there are any. To be let go of soon: a load waits for
/// it. `IRQL <= DISPATCH_LEVEL`.
pub(crate) fn current() -> Option<InForce> {
    loop {
        let number = CURRENT.load(Ordering::Acquire);
        let slot = at(number)?;
        if slot.inside.acquire_raw() {
            let rules = InForce { slot };
            // It may have been freed and filled again in between: those rules are
            // ready, but not in force before CURRENT says so.
            if CURRENT.load(Ordering::Acquire) == number {
                return Some(rules);
            }
        }
        // Another one is current by now: a slot is closed after CURRENT has
        // changed. Each further turn takes one more load from user mode.
    }
}

/// A slot nobody else has; free again when dropped.
pub(super) struct Place {
    number: usize,
    slot: &'static Slot,
}

impl Place {
    pub(super) fn claim() -> Option<Self> {
        (1..)
            .zip(&SLOTS)
            .find(|(_, slot)| !slot.taken.swap(true, Ordering::Acquire))
            .map(|(number, slot)| Self { number, slot })
    }

    /// Puts rules into it, ready to be used.
    pub(super) fn fill(self, set: KBox<Set>) -> Filled {
        self.slot.set.store(KBox::into_raw(set), Ordering::Release);
        self.slot.inside.reinit();
        Filled(self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.slot.taken.store(false, Ordering::Release);
    }
}

/// A slot with rules. When dropped, at `PASSIVE_LEVEL`, it waits for those who
/// use them and frees them.
pub(super) struct Filled(Place);

impl Filled {
    /// Says which rules these are, before anybody can ask.
    pub(super) fn number(&self, version: Version) {
        // SAFETY: filled by `fill`, freed by `drop` of `self`.
        let set = unsafe { &*self.0.slot.set.load(Ordering::Acquire) };
        set.generation.store(version.generation, Ordering::Relaxed);
        set.loaded_100ns
            .store(version.loaded_100ns, Ordering::Relaxed);
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        self.0.slot.inside.wait();
        let set = self.0.slot.set.swap(ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: from KBox::into_raw in `fill`, with this tag; nobody is inside
        // any more and nobody can come in, so this is the last use.
        drop(unsafe { KBox::from_raw(set, TAG) });
    }
}

/// Makes `new` the slot in force, in one step. The one before, to be dropped
/// without a lock.
pub(super) fn replace(new: Option<Filled>) -> Option<Filled> {
    let number = new.as_ref().map_or(0, |filled| filled.0.number);
    // In force from the next line on; taken apart by whoever replaces it.
    core::mem::forget(new);
    let old = CURRENT.swap(number, Ordering::AcqRel);
    let slot = at(old)?;
    Some(Filled(Place { number: old, slot }))
}
