//! Registration of a filter driver, and its end.

use std::ptr;
use std::sync::Arc;

use serde_json::json;

use super::consts::{
    PAUSE_DETACH_FILTER, STATUS_BAD_CHARACTERISTICS, STATUS_BAD_VERSION, STATUS_FAILURE,
    STATUS_INVALID_PARAMETER, STATUS_RESOURCES, STATUS_SUCCESS, object,
};
use super::engine::{FilterDriver, HandleKind, call, lock, new_handle, passive, tables};
use super::frame::read;
use super::types::{
    DriverObject, FilterCharacteristics, Handle, ObjectHeader, Status, UnicodeString,
};
use super::{commands, lifecycle};
use crate::core::{Rule, event_log, fault, irql, session};

/// NDIS version of the lab: 6.85, as on Windows 11 (major in the high half).
pub(crate) const NDIS_VERSION: u32 = 6 << 16 | 85;

/// NdisGetVersion.
#[unsafe(no_mangle)]
pub extern "system" fn NdisGetVersion() -> u32 {
    NDIS_VERSION
}

/// NdisFRegisterFilterDriver.
///
/// The handle is written before any module is attached. Modules are attached
/// to all adapters, on another thread, before the function returns.
///
/// # Safety
/// Called by a driver with its driver object and characteristics.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn NdisFRegisterFilterDriver(
    object: *mut DriverObject,
    context: Handle,
    characteristics: *const FilterCharacteristics,
    handle: *mut Handle,
) -> Status {
    let api = "NdisFRegisterFilterDriver";
    passive(Rule::IrqlFilterDriverFunction, api);
    if characteristics.is_null() || handle.is_null() {
        violate!(Rule::LabBadParameter, "{api}: a null pointer");
    }
    // SAFETY: the caller gives a place for the handle; checked for null above.
    unsafe { handle.write(ptr::null_mut()) };
    if object.is_null() || object != session::driver_object() {
        return STATUS_INVALID_PARAMETER;
    }
    if let Some(status) = fault::take("ndis.NdisFRegisterFilterDriver") {
        return status;
    }
    let (handlers, service) = match validate(characteristics) {
        Ok(valid) => valid,
        Err((status, why)) => {
            event_log(
                json!({ "event": "ndis.register", "status": format!("0x{status:08X}"), "why": why }),
            );
            return status;
        }
    };
    if !tables().drivers.is_empty() {
        return STATUS_FAILURE;
    }
    if fault::alloc_should_fail_named("NdisFRegisterFilterDriver") {
        return STATUS_RESOURCES;
    }
    let driver = Arc::new(FilterDriver {
        handle: new_handle(HandleKind::Driver),
        context: context.expose_provenance(),
        handlers,
        service,
    });
    let number: Handle = ptr::without_provenance_mut(driver.handle);
    // SAFETY: as above.
    unsafe { handle.write(number) };
    tables().drivers.insert(driver.handle, Arc::clone(&driver));
    if let Some(handler) = handlers.set_options {
        let status = call(
            "FilterSetOptions",
            irql::PASSIVE_LEVEL,
            handler as *const (),
            || {
                // SAFETY: the handler is the driver's.
                unsafe { handler(number, context) }
            },
        );
        if status != STATUS_SUCCESS {
            tables().drivers.remove(&driver.handle);
            return status;
        }
    }
    event_log(
        json!({ "event": "ndis.register", "service": driver.service, "status": "0x00000000" }),
    );
    // Another thread, because a driver must not rely on FilterAttach being
    // called in the context of its DriverEntry.
    let attaching = Arc::clone(&driver);
    let thread = std::thread::spawn(move || {
        commands::create_adapters();
        let adapters = tables().adapters.clone();
        for adapter in adapters {
            lifecycle::attach(&adapter, &attaching);
        }
    });
    let _ = thread.join();
    STATUS_SUCCESS
}

/// NdisFDeregisterFilterDriver: every module is paused and detached first.
///
/// # Safety
/// Called by a filter driver.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn NdisFDeregisterFilterDriver(handle: Handle) {
    let api = "NdisFDeregisterFilterDriver";
    passive(Rule::IrqlFilterDriverFunction, api);
    let Some(driver) = tables().drivers.get(&handle.addr()).cloned() else {
        violate!(
            Rule::NdisFDeregisterFilterDriver,
            "{api}: {handle:p} is no registered filter driver (called twice?)"
        );
    };
    let adapters = tables().adapters.clone();
    for adapter in adapters {
        let _pnp = lock(&adapter.pnp);
        if let Some(module) = adapter.module() {
            lifecycle::take_out(&module, PAUSE_DETACH_FILTER);
        }
    }
    tables().drivers.remove(&driver.handle);
    event_log(json!({ "event": "ndis.deregister", "service": driver.service }));
}

type Invalid = (Status, &'static str);

/// Checks what NDIS checks (NDIS_FILTER_DRIVER_CHARACTERISTICS page) and copies
/// the structure; fields beyond the revision given are empty.
fn validate(
    given: *const FilterCharacteristics,
) -> Result<(FilterCharacteristics, String), Invalid> {
    let header = read(given.cast::<ObjectHeader>());
    let bad = |why| Err((STATUS_BAD_CHARACTERISTICS, why));
    if header.kind != object::FILTER_DRIVER_CHARACTERISTICS {
        return bad("Header.Type is not NDIS_OBJECT_TYPE_FILTER_DRIVER_CHARACTERISTICS");
    }
    if header.size < 0xC8 {
        return bad("Header.Size is less than that of revision 1");
    }
    // The two version bytes follow the header in every revision.
    let [major, minor] = read(given.cast::<[u8; 2]>().wrapping_byte_add(4));
    if u32::from(major) != NDIS_VERSION >> 16 || u32::from(minor) > NDIS_VERSION & 0xFFFF {
        return Err((
            STATUS_BAD_VERSION,
            "the NDIS version is not one this NDIS knows",
        ));
    }
    let wanted = match minor {
        80.. => (3, 0xF0),
        1..80 => (2, 0xE0),
        0 => (1, 0xC8),
    };
    if (header.revision, header.size) != wanted {
        return bad("Header.Revision and Size do not go with the NDIS version");
    }
    let mut all = std::mem::MaybeUninit::<FilterCharacteristics>::zeroed();
    let bytes = usize::from(header.size).min(size_of::<FilterCharacteristics>());
    // SAFETY: the driver's structure has `size` bytes by its header; ours has at least as many.
    unsafe { ptr::copy_nonoverlapping(given.cast::<u8>(), all.as_mut_ptr().cast::<u8>(), bytes) };
    // SAFETY: every field is valid when zero, and the rest was copied from one of the same type.
    let all = unsafe { all.assume_init() };
    if all.attach.is_none() || all.detach.is_none() || all.restart.is_none() || all.pause.is_none()
    {
        return bad("Attach, Detach, Restart and Pause handlers are mandatory");
    }
    if all.oid_request.is_some() != all.oid_request_complete.is_some() {
        return bad("OidRequestHandler and OidRequestCompleteHandler go together");
    }
    if all.direct_oid_request.is_some() != all.direct_oid_request_complete.is_some() {
        return bad("DirectOidRequestHandler and DirectOidRequestCompleteHandler go together");
    }
    if (all.receive.is_some() || all.return_nbls.is_some()) && all.status.is_none() {
        return bad("receive and return handlers need a StatusHandler");
    }
    let friendly = text(&all.friendly_name);
    let unique = text(&all.unique_name);
    let service = text(&all.service_name);
    if friendly.is_empty() || service.is_empty() {
        return bad("FriendlyName and ServiceName must not be empty");
    }
    if unique.len() != 38 || !unique.starts_with('{') || !unique.ends_with('}') {
        return bad("UniqueName must be a GUID in braces");
    }
    Ok((all, service))
}

/// A counted string of the driver's as text.
fn text(string: &UnicodeString) -> String {
    if string.Buffer.is_null() {
        return String::new();
    }
    let chars = usize::from(string.Length) / 2;
    // SAFETY: a UNICODE_STRING of the driver's has `Length` bytes at `Buffer`.
    let chars = unsafe { std::slice::from_raw_parts(string.Buffer, chars) };
    String::from_utf16_lossy(chars)
}
