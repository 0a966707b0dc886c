//! The data path from the host to the network. All callbacks here run at
//! `IRQL <= DISPATCH_LEVEL`, on many processors at once.

use core::ffi::c_void;

use weir_abi::Direction;
use weir_engine::stats::{Loss, Verdict};

use super::adapter::Module;
use super::inspect::{inspect, signed};
use super::nbl::Chain;
use super::sys::{self, NDIS_HANDLE, NET_BUFFER_LIST};

/// `FilterSendNetBufferLists`. The NBLs are the filter's until the one call at
/// the end that hands them down, or back.
pub(super) unsafe extern "system" fn send(
    context: NDIS_HANDLE,
    lists: *mut NET_BUFFER_LIST,
    port: u32,
    flags: u32,
) {
    // SAFETY: NDIS passes the context that attach set.
    let module = unsafe { super::module(context) };
    // SAFETY: NDIS hands over a valid chain; `chain` is not used past the call
    // that hands it on.
    let chain = unsafe { Chain::new(lists) };
    let Some(_inside) = module.gate.acquire() else {
        // SAFETY: the chain is the filter's and goes back here, once.
        return unsafe { refuse(module, chain, lists, flags) };
    };
    let frames = inspect(module, &chain, Direction::Out, Verdict::Pass);
    // Before the call: completion may come from within it.
    module.in_flight(Direction::Out, signed(frames));
    // SAFETY: the filter's NBLs, handed on once, with the port and the flags
    // they came with; the module is Running, and Pausing waits for _inside.
    unsafe { sys::NdisFSendNetBufferLists(module.handle(), lists, port, flags) };
}

/// Gives a chain back to its sender because the module is not running.
///
/// # Safety
/// `lists`, of which `chain` is the view, is the filter's, and no longer
/// afterwards.
unsafe fn refuse(module: &Module, chain: Chain<'_>, lists: *mut NET_BUFFER_LIST, flags: u32) {
    inspect(module, &chain, Direction::Out, Verdict::Lost(Loss::Paused));
    chain.set_status(sys::NDIS_STATUS_PAUSED);
    let complete_flags = flags & sys::NDIS_FLAGS_DISPATCH_LEVEL;
    // SAFETY: each NBL has its status and is completed once (contract above).
    unsafe { sys::NdisFSendNetBufferListsComplete(module.handle(), lists, complete_flags) };
}

/// `FilterSendNetBufferListsComplete`. The filter originates no sends yet, so
/// every NBL that comes here is one it passed down, and goes on up, in any
/// state.
pub(super) unsafe extern "system" fn send_complete(
    context: NDIS_HANDLE,
    lists: *mut NET_BUFFER_LIST,
    flags: u32,
) {
    // SAFETY: NDIS passes the context that attach set.
    let module = unsafe { super::module(context) };
    // SAFETY: a valid chain, not used past the call that hands it on.
    let frames = unsafe { Chain::new(lists) }.count();
    module.in_flight(Direction::Out, signed(frames).saturating_neg());
    // SAFETY: the filter's NBLs, handed on once with their flags.
    unsafe { sys::NdisFSendNetBufferListsComplete(module.handle(), lists, flags) };
}

/// `FilterCancelSendNetBufferLists`. The filter queues no sends, so there is
/// nothing of its own to cancel.
pub(super) unsafe extern "system" fn cancel_send(context: NDIS_HANDLE, cancel_id: *mut c_void) {
    // SAFETY: NDIS passes the context that attach set.
    let module = unsafe { super::module(context) };
    // SAFETY: an id that NDIS gave, passed on as it is.
    unsafe { sys::NdisFCancelSendNetBufferLists(module.handle(), cancel_id) };
}
