//! The functions a filter calls about its modules' life.

use std::sync::atomic::Ordering;

use super::super::consts::{
    STATUS_FAILURE, STATUS_INVALID_PARAMETER, STATUS_NOT_SUPPORTED, STATUS_SUCCESS, object,
};
use super::super::engine::{State, dispatch, lock, module, passive};
use super::super::frame::read;
use super::super::types::{FilterAttributes, Handle, PartialCharacteristics, Status};
use super::cycle;
use crate::core::{Rule, fault};

/// NdisFSetAttributes.
///
/// # Safety
/// Called by a filter driver from FilterAttach.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn NdisFSetAttributes(
    handle: Handle,
    context: Handle,
    attributes: *const FilterAttributes,
) -> Status {
    let api = "NdisFSetAttributes";
    passive(Rule::IrqlFilterDriverFunction, api);
    let module = module(api, handle);
    module.require_state(api, &[State::Attaching]);
    if module.attributes_set.load(Ordering::SeqCst) {
        violate!(
            Rule::LabNdisSetAttributes,
            "{api} is called twice for adapter {}",
            module.adapter.name
        );
    }
    if attributes.is_null() || context.is_null() {
        violate!(Rule::LabBadParameter, "{api}: a null pointer");
    }
    let header = read(attributes).header;
    if header.kind != object::FILTER_ATTRIBUTES || header.size < 8 || header.revision == 0 {
        return STATUS_INVALID_PARAMETER;
    }
    if let Some(status) = fault::take("ndis.NdisFSetAttributes") {
        return status;
    }
    module.set_context(context);
    STATUS_SUCCESS
}

/// NdisFPauseComplete.
///
/// # Safety
/// Called by a filter driver.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn NdisFPauseComplete(handle: Handle) {
    let api = "NdisFPauseComplete";
    dispatch(Rule::IrqlFilterDriverFunction, api);
    let module = module(api, handle);
    if module.state() != State::Pausing || !module.finish_transition(STATUS_SUCCESS) {
        violate!(
            Rule::NdisFilterTimedPauseComplete,
            "{api}: no pause is pending (completed twice?)"
        );
    }
}

/// NdisFRestartComplete.
///
/// # Safety
/// Called by a filter driver.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn NdisFRestartComplete(handle: Handle, status: Status) {
    let api = "NdisFRestartComplete";
    passive(Rule::IrqlFilterDriverFunction, api);
    let module = module(api, handle);
    if module.state() != State::Restarting || !module.finish_transition(status) {
        violate!(
            Rule::LabNdisRestart,
            "{api}: no restart is pending (completed twice?)"
        );
    }
}

/// NdisFRestartFilter: the stack is paused and restarted, from another thread.
///
/// # Safety
/// Called by a filter driver.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn NdisFRestartFilter(handle: Handle) -> Status {
    let api = "NdisFRestartFilter";
    passive(Rule::IrqlFilterDriverFunction, api);
    let module = module(api, handle);
    module.require_state(api, &[State::Running, State::Paused, State::Restarting]);
    let spawned = std::thread::Builder::new()
        .name("ndis-restart".to_owned())
        .spawn(move || {
            let _pnp = lock(&module.adapter.pnp);
            cycle(&module);
        });
    if spawned.is_ok() {
        STATUS_SUCCESS
    } else {
        STATUS_FAILURE
    }
}

/// NdisSetOptionalHandlers: a module's partial characteristics.
///
/// # Safety
/// Called by a filter driver from FilterSetModuleOptions.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn NdisSetOptionalHandlers(
    handle: Handle,
    handlers: *const PartialCharacteristics,
) -> Status {
    let api = "NdisSetOptionalHandlers";
    passive(Rule::IrqlFilterDriverFunction, api);
    let module = module(api, handle);
    if !module.in_set_options.load(Ordering::SeqCst) {
        violate!(
            Rule::LabNdisOptionalHandlers,
            "{api} outside of FilterSetModuleOptions"
        );
    }
    if handlers.is_null() {
        violate!(Rule::LabBadParameter, "{api}: a null pointer");
    }
    let given = read(handlers);
    if given.header.kind != object::FILTER_PARTIAL_CHARACTERISTICS {
        return STATUS_NOT_SUPPORTED;
    }
    if usize::from(given.header.size) < size_of::<PartialCharacteristics>() {
        return STATUS_INVALID_PARAMETER;
    }
    if (given.receive.is_some() || given.return_nbls.is_some())
        && module.driver.handlers.status.is_none()
    {
        return STATUS_INVALID_PARAMETER;
    }
    *lock(&module.data_handlers) = given;
    STATUS_SUCCESS
}
