//! Flow tables: one for each adapter, in memory of its own.
//!
//! # Who calls what, at which IRQL
//!
//! | call | from | IRQL |
//! |---|---|---|
//! | [`start`], [`stop`] | load, unload | `PASSIVE_LEVEL` |
//! | [`attach`]; dropping what it gave | attach, detach of an adapter | `PASSIVE_LEVEL` |
//! | [`Attached::track`] | `ndis`, on the data path | `<= DISPATCH_LEVEL` |
//! | [`list`], [`stats`], [`totals`] | FLOW_LIST, FLOW_STATS, GET_STATUS | `PASSIVE_LEVEL` |
//! | [`alarms`] | ALARM_LIST | `PASSIVE_LEVEL` |
//! | the timer | DPC, once a second | `DISPATCH_LEVEL` |
//!
//! # Locks
//! One spin lock around each table. A frame takes its adapter's; the timer takes
//! one after the other; a list takes it for each flow anew, so that nobody waits
//! longer than for one. The list of alarms has a spin lock of its own, taken
//! when the table's is free again. Nothing is called under either.
//!
//! # What keeps what alive
//! A table belongs to who attached it, and is found by others through a fixed
//! array of slots with rundown protection. Detaching empties the slot, waits for
//! those inside, and then frees.
//!
//! # The timer
//! It sets itself again each time. So that it ends, [`stop`] says so first, then
//! cancels, waits for the run that may not have seen it, and cancels again.

pub(crate) mod alarms;
mod table;
mod view;

use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use weir_abi::limits::MAX_ADAPTERS;
use weir_abi::{FlowInfo, FlowStats};
use weir_engine::Meta;
use weir_engine::flow::Tracked;
use weir_engine::wire::Dissected;

use crate::kernel::pool::{KBox, Tag};
use crate::kernel::rundown::Rundown;
use crate::kernel::status::{NtStatus, Result};
use crate::kernel::time;
use crate::kernel::timer::Timer;
use table::Flows;

const TAG: Tag = Tag::new(*b"WrFl");

/// How often tables are aged and alarms are collected.
const TICK_MS: u32 = 1_000;

/// A place for a table.
struct Slot {
    /// Somebody's, from attach to detach.
    taken: AtomicBool,
    /// The table, while it can be found.
    table: AtomicPtr<Flows>,
    /// Held by those who look at `table`.
    inside: Rundown,
}

static SLOTS: [Slot; MAX_ADAPTERS] = [const {
    Slot {
        taken: AtomicBool::new(false),
        table: AtomicPtr::new(ptr::null_mut()),
        inside: Rundown::new(),
    }
}; MAX_ADAPTERS];

/// The timer is to set itself again.
static TICKING: AtomicBool = AtomicBool::new(false);
/// The timer, from start to stop.
static TIMER: AtomicPtr<Timer> = AtomicPtr::new(ptr::null_mut());

/// The table of one adapter. Dropping it, at `PASSIVE_LEVEL`, waits for whoever
/// looks at it.
pub(crate) struct Attached {
    slot: &'static Slot,
    table: *mut Flows,
}

// SAFETY: the table is shared with other threads anyway, behind its lock.
unsafe impl Send for Attached {}
// SAFETY: as above.
unsafe impl Sync for Attached {}

impl Attached {
    /// Counts a frame in its flow, before its verdict. `None`: it has none.
    pub(crate) fn track(&self, frame: &Dissected<'_>, meta: &Meta) -> Option<Tracked> {
        // SAFETY: freed when `self` is dropped, not before.
        unsafe { &*self.table }.track(frame, meta)
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.slot.table.store(ptr::null_mut(), Ordering::Relaxed);
        self.slot.inside.wait();
        // SAFETY: from into_raw in `attach`, with this tag; nobody finds it any
        // more, and nobody is inside.
        drop(unsafe { KBox::from_raw(self.table, TAG) });
        self.slot.inside.reinit();
        self.slot.taken.store(false, Ordering::Release);
    }
}

/// Makes ready. Before anything else here is called; on an error [`stop`] is
/// called all the same.
pub(crate) fn start() -> Result<()> {
    for slot in &SLOTS {
        slot.inside.init();
    }
    // SAFETY: the callback uses no context.
    let timer = unsafe { Timer::try_new(tick, ptr::null_mut()) }?;
    let timer = KBox::try_new(timer, TAG)?;
    TICKING.store(true, Ordering::Relaxed);
    timer.set_ms(TICK_MS);
    TIMER.store(KBox::into_raw(timer), Ordering::Release);
    Ok(())
}

/// Ends the timer. Every table has been dropped, or will never be asked for.
pub(crate) fn stop() {
    TICKING.store(false, Ordering::Relaxed);
    let timer = TIMER.swap(ptr::null_mut(), Ordering::AcqRel);
    if timer.is_null() {
        return;
    }
    // SAFETY: from into_raw in `start`, taken once. A run of the callback that is
    // under way finds null, or sets the timer once more before it ends.
    let timer = unsafe { KBox::from_raw(timer, TAG) };
    // Waits for a run that saw TICKING and may have set the timer again; a run
    // after that doesn't. Dropping cancels and waits once more.
    timer.cancel_and_flush();
}

/// A table for an adapter, empty.
pub(crate) fn attach(adapter: u32) -> Result<Attached> {
    let table = Flows::try_new(adapter)?;
    let slot = SLOTS
        .iter()
        .find(|slot| !slot.taken.swap(true, Ordering::Acquire))
        .ok_or(NtStatus::QUOTA_EXCEEDED)?;
    let table = KBox::into_raw(table);
    slot.table.store(table, Ordering::Release);
    Ok(Attached { slot, table })
}

/// Calls `each` for every table until it returns false.
fn with_tables(mut each: impl FnMut(&Flows) -> bool) {
    for slot in &SLOTS {
        let Some(_inside) = slot.inside.acquire() else {
            continue;
        };
        let table = slot.table.load(Ordering::Acquire);
        // SAFETY: null or a live table: dropping it waits for _inside.
        let Some(table) = (unsafe { table.as_ref() }) else {
            continue;
        };
        if !each(table) {
            return;
        }
    }
}

/// What `ask` makes of an adapter's table, if there is such an adapter.
fn with_table<R>(adapter: u32, ask: impl FnOnce(&Flows) -> R) -> Option<R> {
    let mut ask = Some(ask);
    let mut answer = None;
    with_tables(|table| {
        if table.adapter() != adapter {
            return true;
        }
        answer = ask.take().map(|ask| ask(table));
        false
    });
    answer
}

/// Where a list of flows came to.
pub(crate) struct Listed {
    /// The slot to go on with; `None`: that was all.
    pub(crate) next: Option<u32>,
    /// Flows in the table.
    pub(crate) active: u64,
}

/// Calls `each` for the flows of an adapter in the slots from `start` on, until it
/// returns false: then the list goes on with the flow it was called for.
/// `None`: there is no such adapter.
pub(crate) fn list(
    adapter: u32,
    start: u32,
    mut each: impl FnMut(&FlowInfo) -> bool,
) -> Option<Listed> {
    with_table(adapter, |table| {
        let mut from = Some(start);
        let mut next = None;
        while let Some((slot, flow)) = from.and_then(|slot| table.next_from(slot)) {
            if !each(&view::flow(slot, &flow)) {
                next = Some(slot);
                break;
            }
            from = slot.checked_add(1);
        }
        let active = u64::from(table.stats().active);
        Listed { next, active }
    })
}

/// What an adapter's table has counted, if there is such an adapter.
pub(crate) fn stats(adapter: u32) -> Option<FlowStats> {
    with_table(adapter, |table| {
        view::stats(&table.stats(), table.capacity(), table.memory())
    })
}

/// Over all adapters.
pub(crate) struct Totals {
    /// Flows.
    pub(crate) active: u64,
    /// Bytes of pool.
    pub(crate) memory: u64,
}

/// What the tables of all adapters hold.
pub(crate) fn totals() -> Totals {
    let mut totals = Totals {
        active: 0,
        memory: 0,
    };
    with_tables(|table| {
        let active = u64::from(table.stats().active);
        totals.active = totals.active.saturating_add(active);
        totals.memory = totals.memory.saturating_add(table.memory());
        true
    });
    totals
}

/// The timer's callback.
///
/// # Safety
/// None is needed: the context is not used.
unsafe fn tick(_context: *mut c_void) {
    let now = time::system_time_100ns();
    with_tables(|table| {
        table.tick(now);
        true
    });
    if !TICKING.load(Ordering::Relaxed) {
        return;
    }
    // SAFETY: null, or the timer whose callback this is: `stop` waits for this
    // run before it frees it.
    if let Some(timer) = unsafe { TIMER.load(Ordering::Acquire).as_ref() } {
        timer.set_ms(TICK_MS);
    }
}
