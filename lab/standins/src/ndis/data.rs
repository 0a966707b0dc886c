//! The data functions a filter calls: send, indicate, complete, return, cancel.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::consts::{FLAG_DISPATCH_LEVEL, RECEIVE_RESOURCES};
use super::ends;
use super::engine::{Module, State, dispatch, module};
use super::frame::Dir;
use super::track::{self, Origin, Way};
use super::types::{Handle, NetBufferList};
use crate::core::{Rule, irql};

const DATA_STATES: &[State] = &[State::Running, State::Pausing];

/// What every data function checks first.
fn enter(way: Way, handle: Handle, flags: u32) -> Arc<Module> {
    let api = way.api();
    dispatch(Rule::IrqlFilterDriverFunction, api);
    let module = module(api, handle);
    if flags & FLAG_DISPATCH_LEVEL != 0 && irql::current() != irql::DISPATCH_LEVEL {
        violate!(
            Rule::LabNdisDispatchFlag,
            "{api} with the DISPATCH_LEVEL flag at IRQL {}",
            irql::current()
        );
    }
    module.require_state(api, DATA_STATES);
    module
}

/// Takes every list of the chain from the filter.
fn take(
    module: &Module,
    chain: &[*mut NetBufferList],
    way: Way,
    to_resources: bool,
) -> Vec<(*mut NetBufferList, Origin, Option<u64>)> {
    chain
        .iter()
        .map(|nbl| {
            let (origin, sequence) = track::leave_filter(module, *nbl, way, to_resources);
            if origin == Origin::Filter {
                module.own_outstanding.fetch_add(1, Ordering::SeqCst);
            }
            (*nbl, origin, sequence)
        })
        .collect()
}

/// NdisFSendNetBufferLists.
///
/// # Safety
/// Called by a filter driver with a chain of NET_BUFFER_LISTs it owns.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn NdisFSendNetBufferLists(
    handle: Handle,
    nbls: *mut NetBufferList,
    port: u32,
    flags: u32,
) {
    let module = enter(Way::SendDown, handle, flags);
    require_port(Way::SendDown, port);
    let chain = track::chain(Way::SendDown.api(), nbls);
    let taken = take(&module, &chain, Way::SendDown, false);
    ends::send(&module, &taken);
}

/// NdisFIndicateReceiveNetBufferLists.
///
/// # Safety
/// Called by a filter driver with a chain of NET_BUFFER_LISTs it owns.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn NdisFIndicateReceiveNetBufferLists(
    handle: Handle,
    nbls: *mut NetBufferList,
    port: u32,
    count: u32,
    flags: u32,
) {
    let api = Way::IndicateUp.api();
    let module = enter(Way::IndicateUp, handle, flags);
    require_port(Way::IndicateUp, port);
    let chain = track::chain(api, nbls);
    if chain.len() != count as usize {
        violate!(
            Rule::LabNdisNblChain,
            "{api}: NumberOfNetBufferLists is {count}, the chain has {}",
            chain.len()
        );
    }
    let resources = flags & RECEIVE_RESOURCES != 0;
    let taken = take(&module, &chain, Way::IndicateUp, resources);
    ends::receive(&module, &taken, resources);
}

/// NdisFSendNetBufferListsComplete.
///
/// # Safety
/// Called by a filter driver with a chain of NET_BUFFER_LISTs it owns.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn NdisFSendNetBufferListsComplete(
    handle: Handle,
    nbls: *mut NetBufferList,
    flags: u32,
) {
    hand_back(Way::CompleteUp, handle, nbls, flags, Dir::Down);
}

/// NdisFReturnNetBufferLists.
///
/// # Safety
/// Called by a filter driver with a chain of NET_BUFFER_LISTs it owns.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn NdisFReturnNetBufferLists(
    handle: Handle,
    nbls: *mut NetBufferList,
    flags: u32,
) {
    hand_back(Way::ReturnDown, handle, nbls, flags, Dir::Up);
}

fn hand_back(way: Way, handle: Handle, nbls: *mut NetBufferList, flags: u32, dir: Dir) {
    let module = enter(way, handle, flags);
    let chain = track::chain(way.api(), nbls);
    for (nbl, ..) in take(&module, &chain, way, false) {
        ends::home(&module, nbl, dir);
    }
}

/// NdisFCancelSendNetBufferLists.
///
/// # Safety
/// Called by a filter driver.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn NdisFCancelSendNetBufferLists(
    handle: Handle,
    cancel_id: *mut core::ffi::c_void,
) {
    let api = "NdisFCancelSendNetBufferLists";
    dispatch(Rule::IrqlFilterDriverFunction, api);
    let module = module(api, handle);
    module.require_state(api, DATA_STATES);
    ends::cancel_sends(&module.adapter, cancel_id.addr());
}

/// The lab's adapters have the default port only.
fn require_port(way: Way, port: u32) {
    if port != 0 {
        violate!(
            Rule::LabBadParameter,
            "{}: port {port}, the adapter has only port 0",
            way.api()
        );
    }
}
