//! The data path from the host to the network. All callbacks here run at
//! `IRQL <= DISPATCH_LEVEL`, on many processors at once.

use core::ffi::c_void;

use weir_abi::Direction;

use super::adapter::Module;
use super::divide::{Outcome, divide};
use super::inspect::{self, Inspector};
use super::nbl::{self, Queue};
use super::sys::{self, NDIS_HANDLE, NET_BUFFER_LIST};
use super::{back, part};

/// `FilterSendNetBufferLists`. The NBLs are the filter's until one of the calls
/// at the end hands them down, or back.
pub(super) unsafe extern "system" fn send(
    context: NDIS_HANDLE,
    lists: *mut NET_BUFFER_LIST,
    port: u32,
    flags: u32,
) {
    // SAFETY: NDIS passes the context that attach set.
    let module = unsafe { super::module(context) };
    let Some(_inside) = module.gate.acquire() else {
        // SAFETY: the chain is the filter's and goes back here, once.
        return unsafe { refuse(module, lists, flags) };
    };
    let mut inspector = Inspector::new(module, Direction::Out);
    let (mut on, mut stopped) = (Queue::new(), Queue::new());
    // SAFETY: NDIS hands over a valid chain; each list is the filter's until the
    // calls below.
    for list in unsafe { nbl::drain(lists) } {
        // SAFETY: the filter's until the calls below.
        match unsafe { divide(&mut inspector, list) } {
            // SAFETY: of the chain that is taken apart here.
            Outcome::On => unsafe { on.push(list) },
            // SAFETY: a list of the filter's own, in no chain.
            Outcome::PartOn(part) => unsafe { on.push(part.into_raw()) },
            Outcome::Back(status) => {
                // SAFETY: the filter's, about to be completed by it.
                unsafe { part::complete_large_send(list) };
                // SAFETY: as above.
                unsafe { nbl::set_status(list, status) };
                // SAFETY: of the chain that is taken apart here.
                unsafe { stopped.push(list) };
            }
        }
    }
    // Before the calls: completion may come from within them.
    inspector.enter();
    drop(inspector);
    if let Some((lists, _)) = on.finish() {
        // SAFETY: the filter's NBLs, handed on once, with the port and the flags
        // they came with; the module is Running, and Pausing waits for _inside.
        unsafe { sys::NdisFSendNetBufferLists(module.handle(), lists, port, flags) };
    }
    if let Some((lists, _)) = stopped.finish() {
        let flags = flags & sys::NDIS_FLAGS_DISPATCH_LEVEL;
        // SAFETY: each NBL has its status and is completed once.
        unsafe { sys::NdisFSendNetBufferListsComplete(module.handle(), lists, flags) };
    }
}

/// Gives a chain back to its sender because the module is not running.
///
/// # Safety
/// `lists` is a valid chain that is the filter's, and no longer afterwards.
unsafe fn refuse(module: &Module, lists: *mut NET_BUFFER_LIST, flags: u32) {
    // SAFETY: valid and the filter's by contract.
    unsafe { inspect::refuse(module, Direction::Out, lists) };
    // SAFETY: as above.
    for list in unsafe { nbl::drain(lists) } {
        // SAFETY: as above.
        unsafe { nbl::set_status(list, sys::NDIS_STATUS_PAUSED) };
    }
    let flags = flags & sys::NDIS_FLAGS_DISPATCH_LEVEL;
    // SAFETY: each NBL has its status and is completed once (contract above).
    unsafe { sys::NdisFSendNetBufferListsComplete(module.handle(), lists, flags) };
}

/// `FilterSendNetBufferListsComplete`: what was sent is back, in any state. The
/// filter's own ends here; the rest goes on up.
pub(super) unsafe extern "system" fn send_complete(
    context: NDIS_HANDLE,
    lists: *mut NET_BUFFER_LIST,
    flags: u32,
) {
    // SAFETY: NDIS passes the context that attach set.
    let module = unsafe { super::module(context) };
    // SAFETY: a valid chain of lists that this module sent.
    let (others, ended) = unsafe { back::sort(module, lists, Direction::Out) };
    if let Some((lists, _)) = others.finish() {
        // SAFETY: the filter's NBLs, handed on once with their flags.
        unsafe { sys::NdisFSendNetBufferListsComplete(module.handle(), lists, flags) };
    }
    back::release(module, ended);
}

/// `FilterCancelSendNetBufferLists`. The filter queues no sends, so there is
/// nothing of its own to cancel; parts carry the id of their parents.
pub(super) unsafe extern "system" fn cancel_send(context: NDIS_HANDLE, cancel_id: *mut c_void) {
    // SAFETY: NDIS passes the context that attach set.
    let module = unsafe { super::module(context) };
    // SAFETY: an id that NDIS gave, passed on as it is.
    unsafe { sys::NdisFCancelSendNetBufferLists(module.handle(), cancel_id) };
}
