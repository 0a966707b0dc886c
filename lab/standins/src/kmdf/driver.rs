//! WDFDRIVER, and the way out.

use std::ffi::c_void;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::abi::{Attributes, DriverConfig, Globals, Handle, consts};
use super::loader::Table;
use super::object::{self, ParentRule, apply, check_size, template};
use super::world::{Data, Kind, enter, lock, wait_for};
use super::{device, file, io};
use crate::core::{Rule, callout, config, event_log, fault, irql, session};
use crate::nt::arg;
use crate::nt::types::{DRIVER_OBJECT, UNICODE_STRING, status};

/// Puts this file's functions into the table.
pub fn register(table: &mut Table) {
    table.set("WdfDriverCreate", WdfDriverCreate as *const c_void);
    table.set(
        "WdfDriverWdmGetDriverObject",
        WdfDriverWdmGetDriverObject as *const c_void,
    );
}

unsafe extern "system" fn WdfDriverCreate(
    globals: *mut Globals,
    driver: *mut DRIVER_OBJECT,
    path: *const UNICODE_STRING,
    attributes: *const Attributes,
    config: *const DriverConfig,
    out: *mut Handle,
) -> i32 {
    let api = "WdfDriverCreate";
    irql::require_exact_rule(Rule::DriverCreate, api, irql::PASSIVE_LEVEL);
    if enter(globals, api).driver != 0 {
        violate!(Rule::DriverCreate, "{api} called twice");
    }
    if driver != session::driver_object() {
        violate!(
            Rule::DriverCreate,
            "{api}: {driver:?} is not the driver object of the bind"
        );
    }
    if path.is_null() {
        violate!(Rule::LabBadParameter, "{api}: RegistryPath is null");
    }
    // SAFETY: by the function's contract.
    let config = unsafe { arg(config.cast_mut(), api, "DriverConfig") };
    check_size::<DriverConfig>(config.size as usize, api, "WDF_DRIVER_CONFIG");
    if config.flags & consts::NON_PNP == 0 {
        violate!(
            Rule::LabUnimplemented,
            "{api}: the lab has non-PnP drivers only"
        );
    }
    if config.flags & consts::NO_DISPATCH_OVERRIDE != 0 {
        violate!(
            Rule::LabUnimplemented,
            "{api}: WdfDriverInitNoDispatchOverride"
        );
    }
    if !config.device_add.is_null() {
        return status::INVALID_PARAMETER;
    }
    // SAFETY: by the function's contract.
    let template = unsafe { template(attributes, ParentRule::None, api) };
    if fault::alloc_should_fail_named(api) {
        return status::INSUFFICIENT_RESOURCES;
    }
    let mut world = lock();
    let data = Data::Driver {
        unload: config.unload,
        object: driver,
    };
    let handle = world.insert(Kind::Driver, 0, data);
    apply(world.any(handle, api), &template);
    world.driver = handle;
    drop(world);
    // SAFETY: the globals of the bind, checked by `enter`.
    let globals = unsafe { arg(globals, api, "DriverGlobals") };
    globals.driver = handle;
    if config.tag != 0 {
        globals.tag = config.tag;
    }
    // SAFETY: Wine's driver object, alive until the driver is unloaded.
    let object = unsafe { arg(driver, api, "DriverObject") };
    object.MajorFunction = [Some(io::dispatch); 28];
    object.DriverUnload = config.unload.is_some().then_some(unload as _);
    // SAFETY: the driver's variable, or null.
    unsafe { object::store(out, handle) };
    status::SUCCESS
}

unsafe extern "system" fn WdfDriverWdmGetDriverObject(
    globals: *mut Globals,
    handle: Handle,
) -> *mut DRIVER_OBJECT {
    let api = "WdfDriverWdmGetDriverObject";
    match enter(globals, api).object(handle, Kind::Driver, api).data {
        Data::Driver { object, .. } => object,
        _ => std::ptr::null_mut(),
    }
}

/// How long unload waits for open handles: `"unload": {"wait_ms": N}` in the
/// configuration. Windows waits for ever, and so does the lab by default;
/// then EvtDriverUnload runs with handles open.
fn patience() -> Option<Duration> {
    let ms = config::get()
        .extra
        .get("unload")
        .and_then(|u| u.get("wait_ms"));
    ms.and_then(Value::as_u64).map(Duration::from_millis)
}

/// After this time, requests of handles that are closed already are taken to
/// be forgotten: nothing the driver is still told of would complete them.
const STUCK: Duration = Duration::from_secs(3);

/// DriverUnload as the framework sets it.
unsafe extern "system" fn unload(_driver: *mut DRIVER_OBJECT) {
    let start = Instant::now();
    let limit = patience();
    let mut world = lock();
    // As on Windows: while a handle is open the driver stays, but takes no
    // new ones.
    world.unloading = true;
    let mut reported = 0;
    device::require_finished(&world);
    while !world.by_file.is_empty() && limit.is_none_or(|l| start.elapsed() < l) {
        if start.elapsed() > STUCK {
            file::require_alive(&world);
        }
        if reported != world.by_file.len() {
            reported = world.by_file.len();
            event_log(json!({ "event": "unload_waits", "handles": reported }));
        }
        world = wait_for(world, Duration::from_millis(20));
    }
    let driver = world.driver;
    let callback = match world.objects.get(&driver).map(|o| &o.data) {
        Some(Data::Driver { unload, .. }) => *unload,
        _ => None,
    };
    drop(world);
    if let Some(callback) = callback {
        callout::call_at(
            "EvtDriverUnload",
            callback as usize,
            irql::PASSIVE_LEVEL,
            || {
                // SAFETY: the driver's callback with its own handle.
                unsafe { callback(driver) }
            },
        );
    }
    delete_everything();
}

/// Deletes the driver's devices, then the driver object and what is under it.
pub fn delete_everything() {
    let devices: Vec<Handle> = {
        let world = lock();
        let all = world.objects.iter().filter(|(_, o)| o.kind == Kind::Device);
        all.map(|(h, _)| *h).collect()
    };
    file::close_all();
    for handle in devices {
        device::delete(handle);
    }
    device::check_inits();
    let driver = std::mem::take(&mut lock().driver);
    if driver != 0 {
        object::delete(driver, "deleted with the driver");
    }
}
