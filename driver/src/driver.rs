//! Load and unload.
//!
//! # Order
//! Load: readers, writes, rules, control, services and sockets are made ready, the device
//! is created, the flows' timer started, WSK registered, the filter registered
//! (frames may come from here on), and only then can the device be opened. Unload
//! goes the other way: no more IOCTLs, no more sockets of handles, no more writes (which put frames on the
//! data path), no more readers, no more frames, and so nobody who asks for flows
//! or rules any more, whose tables and programs are gone then; no more services,
//! no more WSK. The framework deletes the device when [`evt_driver_unload`] has
//! returned.
//!
//! Windows doesn't unload a driver whose device has open handles. Should it
//! happen all the same, handles that are still open find every request refused.
//!
//! Each `stop` tolerates a `start` that failed half-way or never ran, so a load
//! that fails calls the same [`stop`].

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use wdk_sys::{_WDF_DRIVER_INIT_FLAGS, DRIVER_OBJECT, NTSTATUS, UNICODE_STRING};

use crate::kernel::status::{NtStatus, Result};
use crate::kernel::wdf::WDFDRIVER;
use crate::kernel::{log, time, wdf, workitem};
use crate::{capture, control, device, flows, inject, ndis, rules, service, socket, wsk};

/// When the driver was loaded: UTC, in 100 ns since 1601.
static STARTED: AtomicU64 = AtomicU64::new(0);
/// The same moment on the clock that never goes back.
static STARTED_MONOTONIC: AtomicU64 = AtomicU64::new(0);
/// Unloading has begun.
static STOPPING: AtomicBool = AtomicBool::new(false);

/// When the driver was loaded, in 100 ns since 1601-01-01 UTC.
pub(crate) fn started_100ns() -> u64 {
    STARTED.load(Ordering::Relaxed)
}

/// How long the driver has been loaded, in 100 ns.
pub(crate) fn uptime_100ns() -> u64 {
    time::monotonic_100ns().saturating_sub(STARTED_MONOTONIC.load(Ordering::Relaxed))
}

/// Whether unloading has begun.
pub(crate) fn is_stopping() -> bool {
    STOPPING.load(Ordering::Relaxed)
}

/// Where the system, by way of the framework's entry point, starts the driver.
///
/// # Safety
/// Called once, at `PASSIVE_LEVEL`, with the driver's object and the path of its
/// service key.
// SAFETY: nothing else in the image has this name; the framework's entry point
// is linked against it.
#[unsafe(export_name = "DriverEntry")]
unsafe extern "system" fn driver_entry(
    driver_object: *mut DRIVER_OBJECT,
    registry_path: *const UNICODE_STRING,
) -> NTSTATUS {
    STARTED.store(time::system_time_100ns(), Ordering::Relaxed);
    STARTED_MONOTONIC.store(time::monotonic_100ns(), Ordering::Relaxed);

    let mut config = wdf::driver_config();
    config.DriverInitFlags = _WDF_DRIVER_INIT_FLAGS::WdfDriverInitNonPnpDriver.cast_unsigned();
    config.EvtDriverUnload = Some(evt_driver_unload);
    // SAFETY: these are the arguments of DriverEntry, which is running.
    let driver = unsafe { wdf::driver_create(driver_object, registry_path, &mut config) };

    match driver.and_then(|driver| start(driver_object, driver)) {
        Ok(()) => {
            log::line(c"loaded");
            NtStatus::SUCCESS.0
        }
        Err(status) => {
            log::status(c"load failed", status);
            status.0
        }
    }
}

fn start(driver_object: *mut DRIVER_OBJECT, driver: WDFDRIVER) -> Result<()> {
    capture::start();
    inject::start();
    rules::start();
    control::start();
    service::open();
    socket::start();
    let device = device::create(driver)?;
    let up = flows::start()
        .and_then(|()| wsk::start())
        .and_then(|()| ndis::start(driver_object));
    match up {
        Ok(()) => {
            device.finish_initializing();
            Ok(())
        }
        Err(status) => {
            stop();
            device::delete(device);
            Err(status)
        }
    }
}

fn stop() {
    STOPPING.store(true, Ordering::Relaxed);
    control::stop();
    socket::stop();
    inject::stop();
    capture::stop();
    ndis::stop();
    flows::stop();
    rules::stop();
    service::stop_all();
    wsk::stop();
}

/// `EvtDriverUnload`. `PASSIVE_LEVEL`.
unsafe extern "C" fn evt_driver_unload(_driver: WDFDRIVER) {
    stop();
    workitem::set_device(core::ptr::null_mut());
    log::line(c"unloaded");
}
