//! The data path from the network to the host. All callbacks here run at
//! `IRQL <= DISPATCH_LEVEL`, on many processors at once.

use weir_abi::Direction;
use weir_engine::stats::{Loss, Verdict};

use super::adapter::Module;
use super::inspect::{inspect, signed};
use super::nbl::Chain;
use super::sys::{self, NDIS_HANDLE, NET_BUFFER_LIST};

/// `FilterReceiveNetBufferLists`. With `NDIS_RECEIVE_FLAGS_RESOURCES` the NBLs
/// are the filter's for this call only, and go back by its return; otherwise
/// until the one call that hands them up, or back.
pub(super) unsafe extern "system" fn receive(
    context: NDIS_HANDLE,
    lists: *mut NET_BUFFER_LIST,
    port: u32,
    count: u32,
    flags: u32,
) {
    // SAFETY: NDIS passes the context that attach set.
    let module = unsafe { super::module(context) };
    // SAFETY: NDIS hands over a valid chain; `chain` is not used past the call
    // that hands it on.
    let chain = unsafe { Chain::new(lists) };
    let Some(_inside) = module.gate.acquire() else {
        // SAFETY: the chain is the filter's and goes back here, once.
        return unsafe { refuse(module, &chain, lists, flags) };
    };
    let frames = signed(inspect(module, &chain, Direction::In, Verdict::Pass));
    // Before the call: they may be returned from within it.
    module.in_flight(Direction::In, frames);
    // SAFETY: the filter's NBLs, handed on once, with the port, the count and
    // the flags they came with; the module is Running, and Pausing waits for
    // _inside. The chain was not touched, so with RESOURCES it goes back as it
    // came.
    unsafe {
        sys::NdisFIndicateReceiveNetBufferLists(module.handle(), lists, port, count, flags);
    }
    if flags & sys::NDIS_RECEIVE_FLAGS_RESOURCES != 0 {
        module.in_flight(Direction::In, frames.saturating_neg());
    }
}

/// Gives a chain back to the adapter because the module is not running.
///
/// # Safety
/// `lists`, of which `chain` is the view, is the filter's, and no longer
/// afterwards.
unsafe fn refuse(module: &Module, chain: &Chain<'_>, lists: *mut NET_BUFFER_LIST, flags: u32) {
    inspect(module, chain, Direction::In, Verdict::Lost(Loss::Paused));
    if flags & sys::NDIS_RECEIVE_FLAGS_RESOURCES != 0 {
        // Back by returning: NdisFReturnNetBufferLists must not be called.
        return;
    }
    let return_flags = flags & sys::NDIS_FLAGS_DISPATCH_LEVEL;
    // SAFETY: the filter's NBLs, returned once (contract above).
    unsafe { sys::NdisFReturnNetBufferLists(module.handle(), lists, return_flags) };
}

/// `FilterReturnNetBufferLists`. The filter originates no receives yet, so
/// every NBL that comes here is one it passed up, and goes on down, in any
/// state.
pub(super) unsafe extern "system" fn give_back(
    context: NDIS_HANDLE,
    lists: *mut NET_BUFFER_LIST,
    flags: u32,
) {
    // SAFETY: NDIS passes the context that attach set.
    let module = unsafe { super::module(context) };
    // SAFETY: a valid chain, not used past the call that hands it on.
    let frames = unsafe { Chain::new(lists) }.count();
    module.in_flight(Direction::In, signed(frames).saturating_neg());
    // SAFETY: the filter's NBLs, handed on once with their flags.
    unsafe { sys::NdisFReturnNetBufferLists(module.handle(), lists, flags) };
}
