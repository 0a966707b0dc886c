//! The OID functions a filter calls, and the miniport's end of a request.

use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::super::adapter::Later;
use super::super::consts::{
    STATUS_FAILURE, STATUS_INVALID_PARAMETER, STATUS_PENDING, STATUS_REQUEST_ABORTED,
    STATUS_RESOURCES, STATUS_SUCCESS, object,
};
use super::super::engine::{Module, call, dispatch, lock, module, tables};
use super::super::frame::{aligned, read};
use super::super::miniport::execute;
use super::super::types::{Handle, OidRequest, Status};
use super::{Answer, At, Below, CloneEntry, HOLD, OID_STATES, REQUESTS, cancel_below, counts};
use crate::core::{Rule, fault, irql, pool};

/// What NdisFOidRequest and NdisFDirectOidRequest do.
fn forward(api: &'static str, handle: Handle, at: *mut OidRequest, direct: bool) -> Status {
    dispatch(Rule::IrqlOidFunction, api);
    let module = module(api, handle);
    module.require_state(api, OID_STATES);
    let now = read(at);
    if now.header.kind != object::OID_REQUEST || now.header.size < 0xEC {
        return STATUS_INVALID_PARAMETER;
    }
    let id = now.request_id.addr();
    let late = module.adapter.draw(|rng| rng.percent(50));
    let held = {
        let mut requests = lock(&REQUESTS);
        if requests.originals.contains_key(&at.addr()) {
            violate!(
                Rule::LabNdisOidClone,
                "{api}: request {at:p} is the original; forward a clone (NdisAllocateCloneOidRequest)"
            );
        }
        let mut reached = None;
        if let Some(clone) = requests.clones.get_mut(&at.addr()) {
            if clone.at != At::Filter {
                violate!(
                    Rule::LabNdisOidClone,
                    "{api}: clone {at:p} was sent before ({:?})",
                    clone.at
                );
            }
            clone.at = At::Below;
            reached = Some(clone.original);
        }
        if let Some(original) = reached.and_then(|at| requests.originals.get_mut(&at)) {
            original.reached = true;
        }
        let below = Below {
            module: module.handle,
            direct,
            id,
            aborted: false,
        };
        if requests
            .below
            .insert(at.expose_provenance(), below)
            .is_some()
        {
            violate!(
                Rule::LabNdisOidClone,
                "{api}: request {at:p} is pending already"
            );
        }
        // With the lock held: a cancellation finds the request below, or ends the hold first.
        id != 0 && HOLD.load(Ordering::SeqCst) == id
    };
    if held || late {
        if !held {
            let delay = module.adapter.draw(|rng| rng.below(5_000));
            module.adapter.below.push(
                Instant::now() + Duration::from_micros(delay),
                Later::Oid(at.addr()),
            );
        }
        return STATUS_PENDING;
    }
    answer(&module, at).unwrap_or(STATUS_FAILURE)
}

/// The miniport carries out a request that is below; nothing if it is not.
fn answer(module: &Module, at: *mut OidRequest) -> Option<Status> {
    let below = lock(&REQUESTS).below.remove(&at.addr())?;
    // SAFETY: the request is the driver's and pending, so it is alive and nobody else's.
    let asked = unsafe { &mut *at };
    let status = if below.aborted {
        STATUS_REQUEST_ABORTED
    } else {
        execute(&module.adapter, asked)
    };
    let answer = Answer {
        status,
        counts: counts(&asked.data, asked.request_type),
        revision: asked.supported_revision,
    };
    let mut requests = lock(&REQUESTS);
    let original = requests.clones.get_mut(&at.addr()).map(|clone| {
        clone.at = At::Back;
        clone.original
    });
    if let Some(original) = original.and_then(|at| requests.originals.get_mut(&at)) {
        original.answer = Some(answer);
    }
    Some(status)
}

/// The miniport completes a pending request.
pub(crate) fn finish(at: usize) {
    let found = lock(&REQUESTS).below.get(&at).map(|b| (b.module, b.direct));
    let Some((handle, direct)) = found else {
        return;
    };
    let Some(module) = tables().modules.get(&handle).cloned() else {
        return;
    };
    let request: *mut OidRequest = ptr::with_exposed_provenance_mut(at);
    let Some(status) = answer(&module, request) else {
        return;
    };
    let handlers = &module.driver.handlers;
    let (handler, api) = if direct {
        (
            handlers.direct_oid_request_complete,
            "FilterDirectOidRequestComplete",
        )
    } else {
        (handlers.oid_request_complete, "FilterOidRequestComplete")
    };
    let Some(handler) = handler else {
        violate!(
            Rule::LabNdisHandlers,
            "the filter made an OID request that pended, but has no {api}"
        );
    };
    let level = if module.adapter.draw(|rng| rng.percent(50)) {
        irql::DISPATCH_LEVEL
    } else {
        irql::PASSIVE_LEVEL
    };
    let Some(_inside) = module.calls.enter() else {
        return;
    };
    call(api, level, handler as *const (), || {
        // SAFETY: the handler is the driver's for this module; the request is its own.
        unsafe { handler(module.context(), request, status) }
    });
}

/// What NdisFOidRequestComplete and NdisFDirectOidRequestComplete do.
fn complete(api: &str, handle: Handle, at: *mut OidRequest, status: Status) {
    dispatch(Rule::IrqlOidFunction, api);
    let module = module(api, handle);
    module.require_state(api, OID_STATES);
    if status == STATUS_PENDING {
        violate!(
            Rule::NdisOidComplete,
            "{api}: the final status of a request can't be NDIS_STATUS_PENDING"
        );
    }
    let slot = {
        let requests = lock(&REQUESTS);
        let Some(original) = requests.originals.get(&at.addr()) else {
            if requests.clones.contains_key(&at.addr()) {
                violate!(
                    Rule::LabNdisOidClone,
                    "{api}: {at:p} is a clone; complete the original"
                );
            }
            if requests.over.iter().any(|(over, _)| *over == at.addr()) {
                violate!(
                    Rule::DoubleComplete,
                    "{api}: OID request {at:p} was completed before"
                );
            }
            violate!(
                Rule::LabNdisOidClone,
                "{api}: {at:p} is no OID request that was given to the filter"
            );
        };
        if original.module != module.handle {
            violate!(
                Rule::LabNdisHandle,
                "{api}: request {at:p} was given to another module"
            );
        }
        Arc::clone(&original.slot)
    };
    let mut done = lock(&slot.done);
    if let Some(before) = *done {
        violate!(
            Rule::DoubleComplete,
            "{api}: OID request {at:p} was completed before, with {before:#x}"
        );
    }
    *done = Some(status);
    slot.signal.notify_all();
}

/// NdisFOidRequest.
///
/// # Safety
/// Called by a filter driver with a request it owns.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn NdisFOidRequest(handle: Handle, request: *mut OidRequest) -> Status {
    forward("NdisFOidRequest", handle, request, false)
}

/// NdisFDirectOidRequest.
///
/// # Safety
/// Called by a filter driver with a request it owns.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn NdisFDirectOidRequest(
    handle: Handle,
    request: *mut OidRequest,
) -> Status {
    forward("NdisFDirectOidRequest", handle, request, true)
}

/// NdisFOidRequestComplete.
///
/// # Safety
/// Called by a filter driver with a request it was given.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn NdisFOidRequestComplete(
    handle: Handle,
    request: *mut OidRequest,
    status: Status,
) {
    complete("NdisFOidRequestComplete", handle, request, status);
}

/// NdisFDirectOidRequestComplete.
///
/// # Safety
/// Called by a filter driver with a request it was given.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn NdisFDirectOidRequestComplete(
    handle: Handle,
    request: *mut OidRequest,
    status: Status,
) {
    complete("NdisFDirectOidRequestComplete", handle, request, status);
}

/// NdisFCancelOidRequest.
///
/// # Safety
/// Called by a filter driver.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn NdisFCancelOidRequest(handle: Handle, id: *mut c_void) {
    let api = "NdisFCancelOidRequest";
    dispatch(Rule::IrqlOidFunction, api);
    cancel_below(&module(api, handle), id.addr(), false);
}

/// NdisFCancelDirectOidRequest.
///
/// # Safety
/// Called by a filter driver.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn NdisFCancelDirectOidRequest(handle: Handle, id: *mut c_void) {
    let api = "NdisFCancelDirectOidRequest";
    dispatch(Rule::IrqlOidFunction, api);
    cancel_below(&module(api, handle), id.addr(), true);
}

/// NdisAllocateCloneOidRequest.
///
/// # Safety
/// Called by a filter driver; `clone` must be writable.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn NdisAllocateCloneOidRequest(
    handle: Handle,
    original: *mut OidRequest,
    tag: u32,
    clone: *mut *mut OidRequest,
) -> Status {
    let api = "NdisAllocateCloneOidRequest";
    dispatch(Rule::IrqlOidFunction, api);
    let module = module(api, handle);
    if original.is_null() || clone.is_null() {
        violate!(Rule::LabBadParameter, "{api}: a null pointer");
    }
    // SAFETY: the caller gives a place for the result; checked for null above.
    unsafe { clone.write(ptr::null_mut()) };
    if let Some(status) = fault::take("ndis.NdisAllocateCloneOidRequest") {
        return status;
    }
    let at = aligned::<OidRequest>(pool::alloc(size_of::<OidRequest>(), tag, true));
    if at.is_null() {
        return STATUS_RESOURCES;
    }
    // SAFETY: the pool block is as large and aligned as the structure.
    unsafe { at.write(read(original)) };
    let entry = CloneEntry {
        module: module.handle,
        original: original.addr(),
        tag,
        at: At::Filter,
    };
    lock(&REQUESTS).clones.insert(at.expose_provenance(), entry);
    // SAFETY: as above.
    unsafe { clone.write(at) };
    STATUS_SUCCESS
}

/// NdisFreeCloneOidRequest.
///
/// # Safety
/// Called by a filter driver with a clone it owns.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn NdisFreeCloneOidRequest(handle: Handle, clone: *mut OidRequest) {
    let api = "NdisFreeCloneOidRequest";
    dispatch(Rule::IrqlOidFunction, api);
    let module = module(api, handle);
    let removed = {
        let mut requests = lock(&REQUESTS);
        if let Some(entry) = requests.clones.get(&clone.addr())
            && (entry.at == At::Below || entry.module != module.handle)
        {
            violate!(
                Rule::LabNdisOidClone,
                "{api}: clone {clone:p} is still below, or another module's"
            );
        }
        requests.clones.remove(&clone.addr())
    };
    let Some(removed) = removed else {
        violate!(
            Rule::LabNdisOidClone,
            "{api}: {clone:p} is no clone that is allocated"
        );
    };
    pool::free(clone.cast(), Some(removed.tag));
}
