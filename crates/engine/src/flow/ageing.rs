//! Who goes, and who goes first.

use super::bits::Bits;
use super::index::{self, Chains};
use super::slot::{FIRST_BITS, LAST_BITS, Slot};
use super::table::{Class, Standing, Table, idle_seconds, seconds};
use super::time::SECOND;
use super::wheel::{BUCKETS, REACH, Wheel};
use super::{rtt, spill};

/// A clock that went so far at once, in either direction, leaves no flow.
const LEAP: u64 = 12 * 3600 * SECOND;
const _: () = assert!(LEAP + super::Idle::MAX as u64 * SECOND < 1 << LAST_BITS);

/// A flow older than this is told to be this old: 300 days.
const OLDEST: u64 = 300 * 86_400 * SECOND;
const _: () = assert!(OLDEST + 86_400 * SECOND < 1 << FIRST_BITS);

/// Slots looked at for each frame, while the wheel is behind.
const EACH_FRAME: usize = 4;
/// Slots compared when the table is full of flows in use.
const SAMPLE: u32 = 16;

impl<S, I> Table<S, I>
where
    S: AsRef<[Slot]> + AsMut<[Slot]>,
    I: AsRef<[u32]> + AsMut<[u32]>,
{
    /// Forgets flows whose idle time is over, as of `now_100ns` (100 ns since
    /// 1601-01-01 UTC). Call it about once a second; [`Table::track`] ages too,
    /// by its frames' times. The work of a call is bounded by a small part of
    /// the table: what it doesn't get to, the next one does. Only a clock that
    /// leaps by twelve hours or more empties the table at once.
    pub fn tick(&mut self, now_100ns: u64) {
        self.advance(now_100ns);
        let budget = (self.used as usize >> 5).saturating_add(4 * BUCKETS);
        self.age(budget);
    }

    /// Moves the clock on to a frame's time.
    #[inline]
    pub(super) fn advance(&mut self, now: u64) {
        if now.wrapping_sub(self.clock) <= LEAP {
            self.clock = now;
        } else if now.abs_diff(self.clock) > LEAP {
            self.leap(now);
        }
        if self.clock >= self.due {
            self.age(EACH_FRAME);
        }
    }

    /// What was seen before has nothing to do with now. Memory is cleared at
    /// once, not flow by flow: somebody waits for a lock meanwhile.
    #[cold]
    fn leap(&mut self, now: u64) {
        let words = self.index.as_mut();
        let layout = &self.layout;
        for range in [
            &layout.buckets,
            &layout.wheel,
            &layout.over,
            &layout.half_open,
            &layout.spill,
            &layout.timers,
        ] {
            index::part_mut(words, range).fill(0);
        }
        self.watch().forget_half_open();
        let gone = u64::from(self.stats.active);
        self.stats.expired = self.stats.expired.wrapping_add(gone);
        self.stats.active = 0;
        self.stats.half_open = 0;
        // Slots behind `used` are not looked at before they are begun.
        self.used = 0;
        self.free = 0;
        self.clock = now;
        self.second = seconds(now);
        self.due = now;
    }

    /// Lets the wheel catch up with the clock, by so many steps at most.
    fn age(&mut self, budget: usize) {
        let clock_second = seconds(self.clock);
        // Once around, every slot was looked at.
        let oldest = clock_second.saturating_sub(BUCKETS as u64);
        self.second = self.second.max(oldest);
        for _ in 0..budget {
            if self.second >= clock_second {
                break;
            }
            let second = self.second;
            match self.wheel().take(second) {
                Some(slot) => self.look_at(slot),
                None => self.second = second.saturating_add(1),
            }
        }
        self.due = self.second.saturating_add(1).saturating_mul(SECOND);
    }

    fn wheel(&mut self) -> Wheel<'_> {
        Wheel::new(index::part_mut(self.index.as_mut(), &self.layout.wheel))
    }

    /// A slot's second came: it is forgotten, or put further ahead.
    fn look_at(&mut self, slot: u32) {
        let clock = self.clock;
        let Some(entry) = self.slots.as_mut().get_mut(slot as usize) else {
            return;
        };
        let last = entry.last(clock);
        let idle = u64::from(idle_seconds(entry, &self.config)).saturating_mul(SECOND);
        let over = last.saturating_add(idle);
        if over <= clock {
            self.forget(slot);
            self.stats.expired = self.stats.expired.wrapping_add(1);
            let mut free = self.free;
            self.wheel().push(slot, &mut free);
            self.free = free;
            return;
        }
        if clock.saturating_sub(entry.first(clock)) > OLDEST {
            entry.set_first(clock.saturating_sub(OLDEST));
        }
        self.put_in_wheel(slot, over);
    }

    /// Puts a slot that is in no list where it is to be looked at.
    fn put_in_wheel(&mut self, slot: u32, over: u64) {
        let second = self.second;
        let due = seconds(over).saturating_add(1);
        // Not clamp: it panics where its bounds cross, and is not seen through.
        let due = due
            .min(second.saturating_add(REACH))
            .max(second.saturating_add(1));
        self.wheel().put(slot, due);
    }

    /// Whether a flow's idle time is over at a frame's time.
    #[inline]
    pub(super) fn is_idle(&self, entry: &Slot, now: u64) -> bool {
        let last = entry.last(self.clock);
        let quiet = now.saturating_sub(last);
        // Shorter than any idle time can be.
        if quiet < SECOND {
            return false;
        }
        quiet >= u64::from(idle_seconds(entry, &self.config)).saturating_mul(SECOND)
    }

    /// A slot for a new flow, in its chain and in the wheel: a free one, or that
    /// of the flow which is worth least.
    pub(super) fn allocate(&mut self, hash: u32) -> Option<u32> {
        let slots = u32::try_from(self.slots.as_ref().len()).ok()?;
        let mut free = self.free;
        let reused = self.wheel().pop(&mut free);
        self.free = free;
        let slot = match reused {
            Some(slot) => slot,
            None if self.used < slots => {
                let slot = self.used;
                self.used = slot.saturating_add(1);
                slot
            }
            None => {
                let slot = self.evict()?;
                // It stays where it is in the wheel.
                Chains::new(self.index.as_mut(), &self.layout).insert(slot, hash);
                return Some(slot);
            }
        };
        Chains::new(self.index.as_mut(), &self.layout).insert(slot, hash);
        let least = u64::from(self.config.idle.least());
        let over = self.clock.saturating_add(SECOND.saturating_mul(least));
        self.put_in_wheel(slot, over);
        Some(slot)
    }

    /// Forgets the flow of least worth: one that is over, or else one that is
    /// half open, or else of some that come next the one that was quiet longest.
    fn evict(&mut self) -> Option<u32> {
        let hand = self.hand;
        let count = self.slots.as_ref().len();
        let words = self.index.as_mut();
        let over = Bits::new(index::part_mut(words, &self.layout.over), count).next(hand);
        let half_open = Bits::new(index::part_mut(words, &self.layout.half_open), count).next(hand);
        let (slot, evicted) = match (over, half_open) {
            (Some(slot), _) => (slot, &mut self.stats.evicted_over),
            (None, Some(slot)) => (slot, &mut self.stats.evicted_half_open),
            (None, None) => {
                let slot = self.quietest()?;
                (slot, &mut self.stats.evicted_other)
            }
        };
        *evicted = evicted.wrapping_add(1);
        self.hand = slot.saturating_add(1);
        self.forget(slot);
        Some(slot)
    }

    /// Of the next slots, the one without a frame for the longest time.
    fn quietest(&self) -> Option<u32> {
        let slots = self.slots.as_ref();
        let behind = slots.iter().zip(0u32..).skip(self.hand as usize);
        behind
            .chain(slots.iter().zip(0u32..))
            .filter(|(entry, _)| !entry.is_empty())
            .take(SAMPLE as usize)
            .min_by_key(|(entry, _)| entry.last(self.clock))
            .map(|(_, slot)| slot)
    }

    /// Takes a flow out of everything but the wheel.
    fn forget(&mut self, slot: u32) {
        let Some(entry) = self.slots.as_ref().get(slot as usize) else {
            return;
        };
        let hash = self.hasher.key(&entry.key());
        self.end(slot);
        Chains::new(self.index.as_mut(), &self.layout).remove(slot, hash);
        if let Some(entry) = self.slots.as_mut().get_mut(slot as usize) {
            entry.clear();
        }
    }

    /// A flow ends, but another takes its place with the same key.
    pub(super) fn end_in_place(&mut self, slot: u32) {
        self.end(slot);
        self.stats.expired = self.stats.expired.wrapping_add(1);
    }

    fn end(&mut self, slot: u32) {
        let Some(entry) = self.slots.as_ref().get(slot as usize) else {
            return;
        };
        let standing = Standing::of(entry);
        let words = self.index.as_mut();
        if entry.is_spilled() {
            spill::release(index::part_mut(words, &self.layout.spill), slot);
        }
        for second in [false, true] {
            rtt::cancel(index::part_mut(words, &self.layout.timers), slot, second);
        }
        self.stats.active = self.stats.active.saturating_sub(1);
        self.delist(slot, standing);
        if standing.half_open {
            self.watch_end(slot, false);
        }
    }

    fn classes(&mut self, class: Class) -> Option<Bits<'_>> {
        let count = self.slots.as_ref().len();
        let range = match class {
            Class::Over => &self.layout.over,
            Class::HalfOpen => &self.layout.half_open,
            Class::Other => return None,
        };
        Some(Bits::new(
            index::part_mut(self.index.as_mut(), range),
            count,
        ))
    }

    pub(super) fn enlist(&mut self, slot: u32, standing: Standing) {
        if let Some(mut bits) = self.classes(standing.class) {
            bits.set(slot, true);
        }
        self.stats.half_open = self
            .stats
            .half_open
            .saturating_add(u32::from(standing.half_open));
    }

    fn delist(&mut self, slot: u32, standing: Standing) {
        if let Some(mut bits) = self.classes(standing.class) {
            bits.set(slot, false);
        }
        self.stats.half_open = self
            .stats
            .half_open
            .saturating_sub(u32::from(standing.half_open));
    }

    /// A frame changed what its flow is worth.
    pub(super) fn changed(&mut self, slot: u32, before: Standing, after: Standing) {
        if before == after {
            return;
        }
        self.delist(slot, before);
        self.enlist(slot, after);
        if before.half_open && !after.half_open {
            // Reset is no handshake.
            self.watch_end(slot, after.class != Class::Over);
        }
    }
}
