//! The control device: its name, who may open it, and what happens to a handle
//! from create to close.

use crate::handle::{self, HANDLE_TYPE, Role};
use crate::kernel::status::{NtStatus, Result};
use crate::kernel::wdf::{
    self, Device, DeviceInit, Request, WDFDEVICE, WDFDRIVER, WDFFILEOBJECT, WDFREQUEST,
};
use crate::kernel::{process, workitem};
use crate::{capture, inject, queue, socket};

/// `FILE_DEVICE_NETWORK`, the device type in every IOCTL code too.
const DEVICE_TYPE: u32 = weir_abi::ioctl::DEVICE_TYPE;
/// `FILE_DEVICE_SECURE_OPEN`: the security descriptor guards names below the
/// device too.
const SECURE_OPEN: u32 = 0x100;

/// Everything to SYSTEM and Administrators, nothing to anybody else; not
/// inherited (MSDN "SDDL for Device Objects", `SDDL_DEVOBJ_SYS_ALL_ADM_ALL`).
const SDDL: &str = "D:P(A;;GA;;;SY)(A;;GA;;;BA)";

static SDDL_UNITS: [u16; SDDL.len()] = wdf::utf16(SDDL);
static NAME: [u16; weir_abi::DEVICE_NAME.len()] = wdf::utf16(weir_abi::DEVICE_NAME);
static LINK: [u16; weir_abi::LINK_NAME.len()] = wdf::utf16(weir_abi::LINK_NAME);

/// Makes the device, its link and its queue. Nobody can open it before
/// `WdfControlFinishInitializing`.
pub(crate) fn create(driver: WDFDRIVER) -> Result<Device> {
    let mut init = DeviceInit::control(driver, &SDDL_UNITS)?;
    init.set_type(DEVICE_TYPE, SECURE_OPEN);
    init.set_direct_io();
    init.assign_name(&NAME)?;

    let mut files = wdf::file_config();
    files.EvtDeviceFileCreate = Some(evt_device_file_create);
    files.EvtFileCleanup = Some(evt_file_cleanup);
    files.EvtFileClose = Some(evt_file_close);
    let mut file_attributes = wdf::passive_attributes();
    file_attributes.ContextTypeInfo = HANDLE_TYPE.info();
    init.set_files(&mut files, &mut file_attributes);

    let device = init.create(&mut wdf::passive_attributes())?;
    workitem::set_device(device.wdm().cast());
    if let Err(status) = device
        .create_link(&LINK)
        .and_then(|()| queue::create(device))
    {
        delete(device);
        return Err(status);
    }
    Ok(device)
}

/// Deletes a device that was never opened: a start that failed later on. (At
/// unload the framework deletes it.)
pub(crate) fn delete(device: Device) {
    workitem::set_device(core::ptr::null_mut());
    device.delete();
}

/// A handle is being opened; the device's security descriptor has been checked.
///
/// In the thread that opens it, so the current process is the opener's: MSDN
/// "EVT_WDF_DEVICE_FILE_CREATE" promises that, and the framework's source
/// (`FxPkgGeneral::OnCreate`) calls it from the dispatch routine of `IRP_MJ_CREATE`,
/// which the I/O manager runs in the opener's thread for the device that is opened.
/// It wouldn't be so had a queue been configured for create requests, or with a
/// driver above this one.
unsafe extern "C" fn evt_device_file_create(
    _device: WDFDEVICE,
    request: WDFREQUEST,
    file: WDFFILEOBJECT,
) {
    // SAFETY: the framework hands the create request over here, once.
    let request = unsafe { Request::from_raw(request) };
    handle::opened();
    if let Some(handle) = handle::of_file(file) {
        // SAFETY: a file object's context lives at least until its close callback.
        unsafe { (*handle).set_owner(process::current_id()) };
    }
    request.complete(NtStatus::SUCCESS, 0);
}

/// The last handle to this file object is closed; requests may still be
/// outstanding. `PASSIVE_LEVEL` (the file object's execution level).
unsafe extern "C" fn evt_file_cleanup(file: WDFFILEOBJECT) {
    let Some(handle) = handle::of_file(file) else {
        return;
    };
    // SAFETY: a file object's context lives at least until its close callback.
    let handle = unsafe { &*handle };
    match handle.close() {
        Some(Role::Capture(ticket) | Role::Divert(ticket)) => capture::close(ticket),
        Some(Role::Inject(_)) => inject::close(),
        // None: there may be a socket that is being opened.
        Some(Role::Socket) | None => socket::close(handle),
    }
}

/// The file object goes away; no request of it is left.
unsafe extern "C" fn evt_file_close(file: WDFFILEOBJECT) {
    if let Some(handle) = handle::of_file(file) {
        // SAFETY: the context is good until this callback has returned.
        socket::forget(unsafe { &*handle });
    }
    handle::closed();
}
