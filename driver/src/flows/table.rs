//! One adapter's table: the engine's, in pool, behind a lock.

use core::sync::atomic::{AtomicU64, Ordering};

use weir_engine::Meta;
use weir_engine::flow::{Config, Flow, Slot, Stats, Table, Tracked};
use weir_engine::wire::Dissected;
use zerocopy::FromZeros;

use super::{TAG, alarms, view};
use crate::kernel::lock::SpinLock;
use crate::kernel::pool::{KBox, KSlice};
use crate::kernel::status::{NtStatus, Result};
use crate::kernel::time;

/// Flows of one adapter: 2 MiB and a little.
pub(super) const CAPACITY: usize = 16_384;

/// Alarms moved to the list in one run of the timer; a table keeps no more.
const ALARMS_AT_ONCE: usize = 64;

/// Secrets given out so far.
static SEEDS: AtomicU64 = AtomicU64::new(0);

type InPool = Table<KSlice<Slot>, KSlice<u32>>;

/// A table goes over the kernel's small stack when it is made.
const _: () = assert!(size_of::<InPool>() <= 1024);

pub(super) struct Flows {
    adapter: u32,
    table: SpinLock<InPool>,
    memory: u64,
}

impl Flows {
    /// An empty table.
    pub(super) fn try_new(adapter: u32) -> Result<KBox<Self>> {
        let index_len = InPool::index_len(CAPACITY);
        let slots = KSlice::try_from_fn(CAPACITY, TAG, |_| Slot::new_zeroed())?;
        let index = KSlice::try_from_fn(index_len.max(1), TAG, |_| 0u32)?;
        let memory = size_of_val::<[Slot]>(&slots)
            .saturating_add(size_of_val::<[u32]>(&index))
            .saturating_add(size_of::<Self>());
        let config = Config {
            seed: seed(slots.as_ptr().addr()),
            ..Config::default()
        };
        let table = Table::new(slots, index, config).map_err(|_| NtStatus::UNSUCCESSFUL)?;
        let flows = Self {
            adapter,
            table: SpinLock::new(table),
            memory: u64::try_from(memory).unwrap_or(u64::MAX),
        };
        KBox::try_new(flows, TAG)
    }

    pub(super) fn adapter(&self) -> u32 {
        self.adapter
    }

    pub(super) fn capacity(&self) -> usize {
        CAPACITY
    }

    /// Bytes of pool.
    pub(super) fn memory(&self) -> u64 {
        self.memory
    }

    pub(super) fn track(&self, frame: &Dissected<'_>, meta: &Meta) -> Option<Tracked> {
        self.table.lock().track(frame, meta)
    }

    pub(super) fn next_from(&self, slot: u32) -> Option<(u32, Flow)> {
        self.table.lock().next_from(slot)
    }

    pub(super) fn stats(&self) -> Stats {
        self.table.lock().stats()
    }

    /// Ages the flows, and moves alarms to the list of all adapters.
    pub(super) fn tick(&self, now_100ns: u64) {
        self.table.lock().tick(now_100ns);
        for _ in 0..ALARMS_AT_ONCE {
            let alarm = self.table.lock().take_alarm();
            let Some(alarm) = alarm else { break };
            alarms::add(&view::alarm(self.adapter, &alarm));
        }
    }
}

/// A number that strangers don't know: made of what differs from one start to
/// the next (clocks to 100 ns, and where the system put this memory and the
/// image), mixed well. It keeps a sender from choosing frames that fall on one
/// place of the table; it is no key.
fn seed(address: usize) -> u64 {
    let parts = [
        time::system_time_100ns(),
        time::monotonic_100ns(),
        address as u64,
        (&raw const SEEDS).addr() as u64,
        SEEDS.fetch_add(1, Ordering::Relaxed),
    ];
    parts.into_iter().fold(0, |state, part| mix(state ^ part))
}

/// The finaliser of splitmix64 (Steele, Lea and Flood, "Fast splittable
/// pseudorandom number generators", 2014): each bit of the input changes about
/// half of the output's.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
