//! The lightweight filter: on every Ethernet adapter, between its driver and
//! the protocols, seeing each frame both ways.
//!
//! # Who calls what, at which IRQL
//!
//! | callbacks | file | IRQL | at once |
//! |---|---|---|---|
//! | attach, detach, restart, pause | `filter.rs` | `PASSIVE_LEVEL` | one at a time for a module |
//! | send, send complete, cancel | `send.rs` | `<= DISPATCH_LEVEL` | on all processors |
//! | receive, return | `receive.rs` | `<= DISPATCH_LEVEL` | on all processors |
//! | OID request, complete, cancel | `oid.rs` | `<= DISPATCH_LEVEL` | one ordinary request at a time for a module; any number of direct ones |
//! | status | `status.rs` | `<= DISPATCH_LEVEL` | on all processors |
//! | PnP events | `status.rs` | `PASSIVE_LEVEL` | |
//! | [`start`], [`stop`] | load, unload | `PASSIVE_LEVEL` | once |
//! | [`list_adapters`], [`adapter_stats`], ... | control | `PASSIVE_LEVEL` | any number |
//! | [`inject`] | writes of user mode | `<= DISPATCH_LEVEL` | any number |
//!
//! A set DISPATCH_LEVEL flag in a call says that the IRQL is that; a clear one
//! says nothing. The flags go on with the frames they came with.
//!
//! # Who owns a list, from call to call
//! A `NET_BUFFER_LIST` of a neighbour's is the filter's from the callback that
//! brings it. Within that callback each of its frames is decided on, once, in
//! order, and the list then
//! - goes on, if all its frames do;
//! - goes back, if none does: a send is completed with success (it was dealt
//!   with, as the rules say), a receive is returned;
//! - stays with the filter, if some do: a list of the filter's own, a part,
//!   goes on in its place (`part.rs`), over the same MDLs and data. The list is
//!   completed or returned when its part is back, with the part's status. If
//!   there is no memory for the part, what was to go on is lost, and the list
//!   goes back, a send with `NDIS_STATUS_RESOURCES`; if there is none for a frame
//!   of it, that frame is lost, and the others go on.
//!
//! Readers in the capture role are shown a frame when it is known what becomes of
//! it: of a list that may be divided, when all of it has been decided on
//! (`notes.rs`).
//!
//! What goes on does so in one call, what goes back in another, each in the order
//! it came. Of a neighbour's list the filter writes what belongs to its owner of
//! the moment, `Next` and `Status`, and on a send it completes itself what an
//! adapter writes there: the outcome of a large send.
//!
//! With `NDIS_RECEIVE_FLAGS_RESOURCES` a chain is lent, not given: the adapter
//! has it back, as it was, when the callback returns. The filter lends it on in
//! runs, each cut out of the chain for one call (`receive.rs`).
//!
//! The filter's own lists (parts, and frames from user mode) are the neighbour's
//! from the call that hands them on until they come back. They are known by
//! their `SourceHandle` and their pool, end in the callback that brings them
//! back, and go on to nobody (`own.rs`, `back.rs`). A frame from user mode is
//! handed on past the rules, so it is not diverted again; it is shown to readers,
//! and is in no balance and in no flow (`inject.rs`). How much of these may be
//! under way is limited (`budget.rs`).
//!
//! # The gate
//! Each module has rundown protection that is open while it is Running. Send and
//! receive hold it from before they look at a frame until the calls that hand
//! it on have returned, and each list of the filter's own holds it from before
//! it is handed on until it has ended and, if it is a part, its parent has been
//! handed back. Restart opens it; pause shuts it and waits until nobody is
//! inside. So no frame is handed on after pause has returned, without a lock on
//! the data path. The hold of a part is taken before its list is decided on: a
//! list that comes too late for it is refused whole, and no rule is asked. (Going in fails while pause waits, so a send from within a
//! receive indication that pause waits for is refused and doesn't hold it up.)
//!
//! # Pausing
//! A filter has to wait for the frames it originated and give back those it
//! kept (MSDN, "Pausing a Filter Module"): both hold the gate. For frames it has
//! passed on, and which come back later, it doesn't wait: they are the sender's
//! or the adapter's, and NDIS makes these wait for them when it pauses them in
//! turn. The way back is therefore open in every state. `in_flight` counts them,
//! for people to look at; no decision hangs on it.
//!
//! # Locks
//! One spin lock in each cell of counters, one around what is known of an
//! adapter. Both are leaves: nothing is called under them. Counting costs a
//! chain of frames one lock that hardly anyone else takes; a reader that holds
//! a cell's lock sees each frame of it entered in `seen` and in its verdict's
//! term, or in neither. That is why the balance is closed at any time. Flows,
//! rules and readers have locks of their own, none of which is held here. The
//! rules in force are held (not locked) while a chain is decided on, and let go
//! of before it is handed on; only a chain that is lent is decided on and handed
//! on in turns.
//!
//! # What keeps what alive
//! A module is made in attach and freed in detach. NDIS makes no callback for it
//! outside of that. IOCTLs find modules through a table of [`MAX_ADAPTERS`]
//! slots, each with rundown protection: detach empties the slot, waits for those
//! inside, and then frees.

mod adapter;
mod back;
mod budget;
mod checksum;
mod divide;
mod filter;
mod finish;
mod inject;
mod inspect;
pub(crate) mod nb;
mod nbl;
mod notes;
mod oid;
mod own;
mod part;
mod receive;
mod send;
mod status;
mod sys;
mod tag;
mod view;

use wdk_sys::DRIVER_OBJECT;
use weir_abi::{AdapterInfo, AdapterStats};

use crate::kernel::pool::Tag;
use crate::kernel::status::Result;

pub(crate) use inject::{InjectError, Injection, inject};

/// Adapters the filter can be attached to at once.
pub(crate) const MAX_ADAPTERS: usize = 64;

const TAG: Tag = Tag::new(*b"WrNd");

/// Registers the filter. NDIS may attach it to adapters before this returns.
/// `PASSIVE_LEVEL`, once.
pub(crate) fn start(driver_object: *mut DRIVER_OBJECT) -> Result<()> {
    adapter::init();
    filter::register(driver_object)
}

/// Takes the filter out of every adapter. After it no callback of this module
/// runs. Does nothing after a `start` that failed or never was. `PASSIVE_LEVEL`.
pub(crate) fn stop() {
    filter::deregister();
}

/// Whether the filter is registered.
pub(crate) fn is_registered() -> bool {
    filter::is_registered()
}

/// The NDIS version the filter declares: `0x0006_0055` is 6.85.
pub(crate) fn version() -> u32 {
    filter::version()
}

/// How many adapters it is attached to.
pub(crate) fn adapter_count() -> u32 {
    let mut count = 0u32;
    adapter::each_info(|_| count = count.saturating_add(1));
    count
}

/// Every adapter it is attached to.
pub(crate) fn list_adapters(each: impl FnMut(&AdapterInfo)) {
    adapter::each_info(each);
}

/// The counters of one adapter; `None` if there is none with this id.
pub(crate) fn adapter_stats(id: u32) -> Option<AdapterStats> {
    adapter::stats(id)
}

/// The module a callback is about.
///
/// # Safety
/// `context` is the module context of a callback that has not returned.
unsafe fn module<'a>(context: sys::NDIS_HANDLE) -> &'a adapter::Module {
    // SAFETY: attach gave NDIS this pointer, detach takes it back, and NDIS makes
    // no callback with it outside of that.
    unsafe { &*context.cast::<adapter::Module>() }
}
