//! A filter module: one adapter's place in the filter, and the table of all.
//!
//! A module lives from `FilterAttach` to `FilterDetach`; NDIS holds it as the
//! module context, which is how every callback finds it. The rest of the driver
//! finds it through the table, by an id that is never used twice.

use core::ptr;
use core::sync::atomic::{
    AtomicBool, AtomicI64, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering,
};

use weir_abi::{AdapterInfo, AdapterState, AdapterStats, Direction};
use weir_engine::stats::Counters;
use zerocopy::FromZeros;

use super::budget::Budget;
use super::own::{self, Pools};
use super::sys::{self, NDIS_HANDLE};
use super::{MAX_ADAPTERS, TAG};
use crate::flows;
use crate::kernel::cpu;
use crate::kernel::lock::SpinLock;
use crate::kernel::pool::KBox;
use crate::kernel::rundown::Rundown;
use crate::kernel::status::{NtStatus, Result};

/// Cells besides the first; on a machine with more processors they are shared.
const MORE_CELLS: usize = 31;

/// What one processor has counted. Both directions are in one cell, so a reader
/// of a cell gets them of the same moment.
struct Cell {
    counters: SpinLock<[Counters; 2]>,
    /// Frames passed on here less frames that came back here: only the sum over
    /// all cells means something.
    in_flight: [AtomicI64; 2],
}

impl Cell {
    fn try_new() -> Result<KBox<Self>> {
        let cell = Self {
            counters: SpinLock::new([Counters::ZERO; 2]),
            in_flight: [AtomicI64::new(0), AtomicI64::new(0)],
        };
        KBox::try_new(cell, TAG)
    }
}

/// A filter module.
pub(super) struct Module {
    handle: NDIS_HANDLE,
    id: u32,
    /// Its state, one of [`AdapterState`] as a number.
    state: AtomicU8,
    /// Open while frames may pass: see `mod.rs`, "The gate".
    pub(super) gate: Rundown,
    first: KBox<Cell>,
    more: [Option<KBox<Cell>>; MORE_CELLS],
    /// Cells there are.
    cell_count: u32,
    info: SpinLock<AdapterInfo>,
    /// Its flows.
    pub(super) flows: flows::Attached,
    /// What the filter's own lists are made from.
    pub(super) pools: Pools,
    /// What frames from user mode take.
    pub(super) budget: Budget,
    /// What the adapter wants of them.
    wishes: Wishes,
    /// Frames handed on that user mode gave, each direction.
    injected: [AtomicU64; 2],
    /// Such frames that were not.
    inject_failed: [AtomicU64; 2],
}

/// What a restart says of frames from the filter. Plain numbers: a frame made
/// while they change fits one of the two.
struct Wishes {
    mtu: AtomicU32,
    data_back_fill: AtomicU32,
    context_back_fill: AtomicU32,
    takes_tags: AtomicBool,
}

// SAFETY: `handle` is a token for NDIS, used from any thread; the rest is Sync.
unsafe impl Sync for Module {}
// SAFETY: as above; nothing in it belongs to a thread.
unsafe impl Send for Module {}

impl Module {
    /// A module in the state Attaching, its gate shut. `PASSIVE_LEVEL`.
    pub(super) fn try_new(handle: NDIS_HANDLE, info: AdapterInfo) -> Result<KBox<Self>> {
        let pools = Pools::try_new(handle)?;
        let flows = flows::attach(info.id)?;
        let first = Cell::try_new()?;
        let mut more = [const { None }; MORE_CELLS];
        let mut cell_count = 1u32;
        for place in &mut more {
            if cell_count >= cpu::count() {
                break;
            }
            *place = Some(Cell::try_new()?);
            cell_count = cell_count.saturating_add(1);
        }
        let module = Self {
            handle,
            id: info.id,
            state: AtomicU8::new(number(AdapterState::Attaching)),
            gate: Rundown::new(),
            first,
            more,
            cell_count,
            info: SpinLock::new(info),
            pools,
            flows,
            budget: Budget::new(),
            wishes: Wishes {
                mtu: AtomicU32::new(0),
                data_back_fill: AtomicU32::new(0),
                context_back_fill: AtomicU32::new(0),
                takes_tags: AtomicBool::new(false),
            },
            injected: [AtomicU64::new(0), AtomicU64::new(0)],
            inject_failed: [AtomicU64::new(0), AtomicU64::new(0)],
        };
        let module = KBox::try_new(module, TAG)?;
        module.gate.init();
        module.gate.wait();
        Ok(module)
    }

    /// NDIS's handle of this module.
    pub(super) fn handle(&self) -> NDIS_HANDLE {
        self.handle
    }

    /// The adapter's id.
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// Notes a step of the state machine; NDIS is the one that walks it.
    pub(super) fn set_state(&self, state: AdapterState) {
        self.state.store(number(state), Ordering::Relaxed);
    }

    /// Changes what is known of the adapter. `IRQL <= DISPATCH_LEVEL`.
    pub(super) fn update_info(&self, update: impl FnOnce(&mut AdapterInfo)) {
        update(&mut self.info.lock());
    }

    /// Notes what a restart says of the adapter.
    pub(super) fn set_wishes(&self, general: &sys::NDIS_RESTART_GENERAL_ATTRIBUTES) {
        let wishes = &self.wishes;
        wishes.mtu.store(general.MtuSize, Ordering::Relaxed);
        wishes
            .data_back_fill
            .store(general.DataBackFillSize, Ordering::Relaxed);
        wishes
            .context_back_fill
            .store(general.ContextBackFillSize, Ordering::Relaxed);
        let tags = general.MacOptions & sys::NDIS_MAC_OPTION_8021Q == sys::NDIS_MAC_OPTION_8021Q;
        wishes.takes_tags.store(tags, Ordering::Relaxed);
    }

    /// The longest IP packet the adapter sends; 0 if it hasn't said.
    pub(super) fn mtu(&self) -> u32 {
        self.wishes.mtu.load(Ordering::Relaxed)
    }

    /// Whether the adapter takes and gives 802.1Q tags beside the frame.
    pub(super) fn takes_tags(&self) -> bool {
        self.wishes.takes_tags.load(Ordering::Relaxed)
    }

    /// Room to leave before the data of a frame.
    pub(super) fn data_back_fill(&self) -> u32 {
        own::data_back_fill(self.wishes.data_back_fill.load(Ordering::Relaxed))
    }

    /// Room to leave before the context of a list.
    pub(super) fn context_back_fill(&self) -> u16 {
        own::context_back_fill(self.wishes.context_back_fill.load(Ordering::Relaxed))
    }

    /// Counts a frame from user mode: handed on, or not so, or not sent in the end.
    pub(super) fn injected(&self, direction: Direction, handed_on: bool) {
        let counters = if handed_on {
            &self.injected
        } else {
            &self.inject_failed
        };
        if let Some(counter) = counters.get(direction.index()) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn info(&self) -> AdapterInfo {
        let mut info = *self.info.lock();
        info.state = u32::from(self.state.load(Ordering::Relaxed));
        info
    }

    fn cells(&self) -> impl Iterator<Item = &Cell> {
        let more = self.more.iter().flatten().map(|cell| &**cell);
        core::iter::once(&*self.first).chain(more)
    }

    /// The calling processor's cell. Below `DISPATCH_LEVEL` the thread may move
    /// on meanwhile: then it uses its old processor's cell, which is as good.
    fn cell(&self) -> &Cell {
        let index = cpu::current().checked_rem(self.cell_count).unwrap_or(0);
        let more = index.checked_sub(1).and_then(|i| usize::try_from(i).ok());
        let cell = more.and_then(|i| self.more.get(i)?.as_deref());
        cell.unwrap_or(&self.first)
    }

    /// Enters a batch of frames, each of which has its verdict.
    pub(super) fn enter(&self, direction: Direction, batch: &Counters) {
        let mut counters = self.cell().counters.lock();
        if let Some(mine) = counters.get_mut(direction.index()) {
            mine.merge(batch);
        }
    }

    /// Notes that `frames` frames have been passed on, or (negative) came back.
    pub(super) fn in_flight(&self, direction: Direction, frames: i64) {
        if let Some(mine) = self.cell().in_flight.get(direction.index()) {
            mine.fetch_add(frames, Ordering::Relaxed);
        }
    }

    fn stats(&self) -> AdapterStats {
        let mut stats = AdapterStats::new_zeroed();
        let mut sums = [Counters::ZERO; 2];
        let mut in_flight = [0i64; 2];
        for cell in self.cells() {
            let counters = *cell.counters.lock();
            for (sum, part) in sums.iter_mut().zip(&counters) {
                sum.merge(part);
            }
            for (sum, part) in in_flight.iter_mut().zip(&cell.in_flight) {
                *sum = sum.wrapping_add(part.load(Ordering::Relaxed));
            }
        }
        for (to, from) in stats.balance.iter_mut().zip(&sums) {
            *to = super::view::balance(&from.balance);
        }
        for (to, from) in stats.protocols.iter_mut().zip(&sums) {
            *to = super::view::protocols(&from.protocols);
        }
        for (to, from) in stats.injected.iter_mut().zip(&self.injected) {
            *to = from.load(Ordering::Relaxed);
        }
        for (to, from) in stats.inject_failed.iter_mut().zip(&self.inject_failed) {
            *to = from.load(Ordering::Relaxed);
        }
        for (to, from) in stats.in_flight.iter_mut().zip(in_flight) {
            // The cells are not read at one moment, so a frame may be seen to
            // come back that was not seen to leave.
            *to = u64::try_from(from).unwrap_or(0);
        }
        stats
    }
}

const fn number(state: AdapterState) -> u8 {
    match state {
        AdapterState::Attaching => 1,
        AdapterState::Paused => 2,
        AdapterState::Restarting => 3,
        AdapterState::Running => 4,
        AdapterState::Pausing => 5,
    }
}

/// A place in the table.
struct Slot {
    /// Somebody's, from claim to retire.
    taken: AtomicBool,
    /// The module, while it can be looked up.
    module: AtomicPtr<Module>,
    /// Held by those who look at `module`.
    readers: Rundown,
}

static SLOTS: [Slot; MAX_ADAPTERS] = [const {
    Slot {
        taken: AtomicBool::new(false),
        module: AtomicPtr::new(ptr::null_mut()),
        readers: Rundown::new(),
    }
}; MAX_ADAPTERS];

/// The id of the next adapter.
static NEXT_ID: AtomicU32 = AtomicU32::new(1);

/// Makes the table usable; once, before anything else here.
pub(super) fn init() {
    for slot in &SLOTS {
        slot.readers.init();
    }
}

/// An id nobody had before.
pub(super) fn next_id() -> Result<u32> {
    NEXT_ID
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |id| id.checked_add(1))
        .map_err(|_| NtStatus::QUOTA_EXCEEDED)
}

/// A claimed place in the table; empty again when dropped.
pub(super) struct Place(&'static Slot);

impl Place {
    /// Finds a free one.
    pub(super) fn claim() -> Result<Self> {
        let free = SLOTS
            .iter()
            .find(|slot| !slot.taken.swap(true, Ordering::Acquire));
        free.map(Self).ok_or(NtStatus::QUOTA_EXCEEDED)
    }

    /// From here on the module can be looked up, until [`retire`].
    pub(super) fn publish(self, module: *mut Module) {
        self.0.module.store(module, Ordering::Release);
        core::mem::forget(self);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.store(false, Ordering::Release);
    }
}

/// Takes a module out of the table and waits until nobody looks at it any
/// more. `PASSIVE_LEVEL`.
pub(super) fn retire(module: *mut Module) {
    let found = SLOTS
        .iter()
        .find(|slot| ptr::eq(slot.module.load(Ordering::Relaxed), module));
    let Some(slot) = found else { return };
    slot.module.store(ptr::null_mut(), Ordering::Relaxed);
    slot.readers.wait();
    slot.readers.reinit();
    drop(Place(slot));
}

/// Calls `each` for every module in the table until it returns false.
fn with_modules(mut each: impl FnMut(&Module) -> bool) {
    for slot in &SLOTS {
        let Some(_reader) = slot.readers.acquire() else {
            continue;
        };
        let module = slot.module.load(Ordering::Acquire);
        // SAFETY: null or a live module: retire waits for _reader before the
        // module is dropped.
        let Some(module) = (unsafe { module.as_ref() }) else {
            continue;
        };
        if !each(module) {
            return;
        }
    }
}

/// Every adapter, as the contract describes it. `IRQL <= DISPATCH_LEVEL`.
pub(super) fn each_info(mut each: impl FnMut(&AdapterInfo)) {
    with_modules(|module| {
        each(&module.info());
        true
    });
}

/// Calls `f` with the adapter that has this id, if it is there, which stays
/// meanwhile. `IRQL <= DISPATCH_LEVEL`.
pub(super) fn with<R>(id: u32, f: impl FnOnce(&Module) -> R) -> Option<R> {
    let mut f = Some(f);
    let mut result = None;
    with_modules(|module| {
        if module.id != id {
            return true;
        }
        result = f.take().map(|f| f(module));
        false
    });
    result
}

/// The counters of one adapter, if it is there. `IRQL <= DISPATCH_LEVEL`.
pub(super) fn stats(id: u32) -> Option<AdapterStats> {
    with(id, Module::stats)
}
