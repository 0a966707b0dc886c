//! The part without sin: binds to KMDF, makes a control device with one
//! parallel queue, and takes it all down again.

use core::ffi::c_void;
use core::sync::atomic::{AtomicPtr, Ordering};

use crate::raw::kmdf::{self, BindInfo, DriverConfig, Globals, QueueConfig, attributes};
use crate::raw::nt::{DriverObject, UnicodeString};
use crate::{Moment, Scene, raw, sin_is, sins, tour};

/// Room for what KMDF keeps using until the driver unbinds.
struct Bind {
    info: BindInfo,
    table: *const *const c_void,
    path: UnicodeString,
    text: [u16; 260],
}

static mut BIND: Bind = Bind {
    info: BindInfo {
        size: 0x30,
        component: COMPONENT.as_ptr(),
        major: 1,
        minor: 31,
        build: 0,
        count: kmdf::FUNCTIONS,
        table: core::ptr::null_mut(),
        module: core::ptr::null_mut(),
    },
    table: core::ptr::null(),
    path: UnicodeString {
        length: 0,
        maximum: 520,
        buffer: core::ptr::null_mut(),
    },
    text: [0; 260],
};

static COMPONENT: [u16; 12] = wide(b"KmdfLibrary\0");
static SDDL: [u16; 27] = wide(b"D:P(A;;GA;;;SY)(A;;GA;;;BA)");
static DEVICE: [u16; 14] = wide(b"\\Device\\LabBad");
static LINK: [u16; 18] = wide(b"\\DosDevices\\LabBad");

const fn wide<const N: usize>(text: &[u8; N]) -> [u16; N] {
    let mut out = [0; N];
    let mut i = 0;
    while i < N {
        out[i] = text[i] as u16;
        i += 1;
    }
    out
}

fn string(text: &'static [u16]) -> UnicodeString {
    let bytes = (text.len() * 2) as u16;
    UnicodeString {
        length: bytes,
        maximum: bytes,
        buffer: text.as_ptr().cast_mut(),
    }
}

static DRIVER_OBJECT: AtomicPtr<DriverObject> = AtomicPtr::new(core::ptr::null_mut());
static DEVICE_HANDLE: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());
static CONSUMED_INIT: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());
static SAVED_UNLOAD: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());

/// The WDFDEVICE.
pub(crate) fn device() -> *mut c_void {
    DEVICE_HANDLE.load(Ordering::Acquire)
}

/// The WDFDEVICE_INIT the device was made from.
pub(crate) fn consumed_init() -> *mut c_void {
    CONSUMED_INIT.load(Ordering::Acquire)
}

fn scene(moment: Moment, request: *mut c_void) -> Scene {
    Scene {
        moment,
        driver_object: DRIVER_OBJECT.load(Ordering::Acquire),
        device: device(),
        request,
    }
}

/// What a KMDF driver's stub does: bind, `DriverEntry`, take over the unload.
///
/// # Safety
/// Called once with the arguments the system gave the image's entry.
pub(crate) unsafe fn load(driver_object: *mut DriverObject, path: *mut UnicodeString) -> i32 {
    core::hint::black_box(raw::nt::compiler_functions());
    DRIVER_OBJECT.store(driver_object, Ordering::Release);
    let bind = &raw mut BIND;
    // SAFETY: the image's only thread so far; nothing else refers to BIND.
    let bind = unsafe { &mut *bind };
    // SAFETY: the system's string is valid for the length of this call.
    let path = unsafe { &*path };
    // SAFETY: as above, it holds `length` bytes.
    let from = unsafe { core::slice::from_raw_parts(path.buffer, usize::from(path.length) / 2) };
    for (to, from) in bind.text.iter_mut().zip(from) {
        *to = *from;
    }
    bind.path.length = path.length.min(518);
    bind.path.buffer = bind.text.as_mut_ptr();
    bind.info.table = &raw mut bind.table;
    if sin_is("wdf-bind-count") {
        bind.info.count += 1;
    }
    let mut globals: *mut Globals = core::ptr::null_mut();
    let (path, info) = (&raw mut bind.path, &raw mut bind.info);
    // SAFETY: all of it is in BIND, which lives as long as the image.
    let status = unsafe { kmdf::WdfVersionBind(driver_object, path, info, &raw mut globals) };
    if status < 0 {
        return status;
    }
    kmdf::bound(bind.table, globals);
    // SAFETY: bound; the driver object is the system's.
    let status = unsafe { driver_entry(driver_object, path) };
    if status < 0 {
        // SAFETY: the same arguments as the bind's, once.
        unsafe { kmdf::WdfVersionUnbind(path, info, globals) };
        return status;
    }
    // SAFETY: the loader made the globals, which live until the unbind.
    let displace = unsafe { (*globals).displace_unload };
    if displace != 0 {
        // SAFETY: the driver object is valid while the driver is loaded.
        let object = unsafe { &mut *driver_object };
        let saved = object
            .unload
            .map_or(core::ptr::null_mut(), |f| f as *mut c_void);
        SAVED_UNLOAD.store(saved, Ordering::Release);
        object.unload = Some(unload);
    }
    status
}

unsafe extern "system" fn unload(driver_object: *mut DriverObject) {
    let saved = SAVED_UNLOAD.load(Ordering::Acquire);
    if !saved.is_null() {
        type F = unsafe extern "system" fn(*mut DriverObject);
        // SAFETY: it was stored from a function pointer of this type.
        let saved: F = unsafe { core::mem::transmute(saved) };
        // SAFETY: the framework's own unload, called once, with the object given.
        unsafe { saved(driver_object) };
    }
    let bind = &raw mut BIND;
    // SAFETY: a field of a static; no reference is made.
    let path = unsafe { &raw mut (*bind).path };
    // SAFETY: as above.
    let info = unsafe { &raw mut (*bind).info };
    // SAFETY: the same arguments as the bind's.
    unsafe { kmdf::WdfVersionUnbind(path, info, kmdf::globals()) };
    sins::after_unbind();
}

/// # Safety
/// Bound, at `PASSIVE_LEVEL`, once.
unsafe fn driver_entry(driver_object: *mut DriverObject, path: *mut UnicodeString) -> i32 {
    let mut config = DriverConfig {
        size: 0x20,
        device_add: 0,
        unload: Some(evt_unload),
        // WdfDriverInitNonPnpDriver
        flags: 1,
        tag: u32::from_le_bytes(*b"LbBd"),
    };
    if sin_is("wdf-struct-size") {
        config.size -= 8;
    }
    let mut driver = core::ptr::null_mut();
    let none = core::ptr::null_mut();
    // SAFETY: the arguments of DriverEntry and a config that outlives the call.
    let status = unsafe {
        kmdf::WdfDriverCreate(driver_object, path, none, &raw mut config, &raw mut driver)
    };
    if status < 0 {
        return status;
    }
    if sin_is("wdf-driver-create-twice") {
        // SAFETY: as above; that it is the second call is the sin.
        unsafe {
            kmdf::WdfDriverCreate(driver_object, path, none, &raw mut config, &raw mut driver)
        };
    }
    let sddl = string(&SDDL);
    // SAFETY: the driver's handle is valid, the string outlives the call.
    let mut init = unsafe { kmdf::WdfControlDeviceInitAllocate(driver, &raw const sddl) };
    if init.is_null() {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    let name = string(&DEVICE);
    // SAFETY: the init is not consumed yet, the string outlives the call.
    let status = unsafe { kmdf::WdfDeviceInitAssignName(init, &raw const name) };
    if status < 0 {
        // SAFETY: freed once, not consumed.
        unsafe { kmdf::WdfDeviceInitFree(init) };
        return status;
    }
    if sin_is("none") {
        // SAFETY: the init is not consumed yet.
        unsafe { tour::kmdf::configure(init) };
    }
    let kept = init;
    CONSUMED_INIT.store(init, Ordering::Release);
    let mut device = core::ptr::null_mut();
    // SAFETY: the init is consumed by success.
    let status = unsafe { kmdf::WdfDeviceCreate(&raw mut init, none.cast(), &raw mut device) };
    if status < 0 {
        // SAFETY: freed once, not consumed.
        unsafe { kmdf::WdfDeviceInitFree(init) };
        return status;
    }
    DEVICE_HANDLE.store(device, Ordering::Release);
    if sin_is("wdf-init-after-create") {
        // SAFETY: the sin: the init was consumed.
        unsafe { kmdf::WdfDeviceInitAssignName(kept, &raw const name) };
    }
    let link = string(&LINK);
    // SAFETY: the device has a name, the string outlives the call.
    let status = unsafe { kmdf::WdfDeviceCreateSymbolicLink(device, &raw const link) };
    if status < 0 {
        return status;
    }
    let mut queue = QueueConfig {
        size: 0x60,
        // WdfIoQueueDispatchParallel
        dispatch: 2,
        // WdfUseDefault
        power: 2,
        allow_zero: 0,
        default: 1,
        io_default: 0,
        read: Some(evt_read),
        write: 0,
        ioctl: Some(evt_ioctl),
        internal: 0,
        stop: 0,
        resume: 0,
        cancelled: 0,
        presented: u32::MAX,
        driver: core::ptr::null_mut(),
    };
    let mut plain = attributes(core::ptr::null_mut());
    let mut handle = core::ptr::null_mut();
    // SAFETY: the device is valid and both structures outlive the call.
    let status =
        unsafe { kmdf::WdfIoQueueCreate(device, &raw mut queue, &raw mut plain, &raw mut handle) };
    if status < 0 {
        return status;
    }
    if sin_is("none") {
        // SAFETY: at PASSIVE_LEVEL, once, with a device.
        unsafe { tour::load(device) };
    }
    // SAFETY: at PASSIVE_LEVEL with a device, which is what sins at load expect.
    unsafe { sins::commit(scene(Moment::Load, core::ptr::null_mut())) };
    if !sin_is("wdf-finish-missing") {
        // SAFETY: the device is whole.
        unsafe { kmdf::WdfControlFinishInitializing(device) };
    }
    0
}

unsafe extern "C" fn evt_unload(_driver: *mut c_void) {
    if sin_is("none") {
        tour::kmdf::check_visit();
    }
    // SAFETY: at PASSIVE_LEVEL with a device, which is what sins at unload expect.
    unsafe { sins::commit(scene(Moment::Unload, core::ptr::null_mut())) };
}

unsafe extern "C" fn evt_ioctl(
    _q: *mut c_void,
    request: *mut c_void,
    _o: usize,
    _i: usize,
    _c: u32,
) {
    if sin_is("none") {
        // SAFETY: the request is this driver's, and the tour's from here on.
        return unsafe { tour::kmdf::control(request) };
    }
    // SAFETY: the request is this driver's until it completes it.
    let taken = unsafe { sins::commit(scene(Moment::Ioctl, request)) };
    if !taken {
        // SAFETY: completed here and nowhere else.
        unsafe { kmdf::WdfRequestComplete(request, 0) };
    }
}

unsafe extern "C" fn evt_read(_q: *mut c_void, request: *mut c_void, _length: usize) {
    if sin_is("none") {
        // SAFETY: the request is this driver's, and the tour's from here on.
        return unsafe { tour::kmdf::read(request) };
    }
    // SAFETY: the request is this driver's until it completes it.
    let taken = unsafe { sins::commit(scene(Moment::Read, request)) };
    if !taken {
        // SAFETY: completed here and nowhere else.
        unsafe { kmdf::WdfRequestComplete(request, 0) };
    }
}

/// STATUS_INSUFFICIENT_RESOURCES
pub(crate) const STATUS_INSUFFICIENT_RESOURCES: i32 = u32::cast_signed(0xC000_009A);
