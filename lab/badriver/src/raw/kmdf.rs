//! KMDF 1.31 by the index of its function table (wdffuncenum.h), x64 layouts.

use core::ffi::c_void;
use core::sync::atomic::{AtomicPtr, Ordering};

use super::nt::{DriverObject, UnicodeString};

/// Functions in the table of 1.31.
pub(crate) const FUNCTIONS: u32 = 458;

/// WDF_BIND_INFO.
#[repr(C)]
pub(crate) struct BindInfo {
    pub(crate) size: u32,
    pub(crate) component: *const u16,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) build: u32,
    pub(crate) count: u32,
    pub(crate) table: *mut *const *const c_void,
    pub(crate) module: *mut c_void,
}

const _: () = assert!(size_of::<BindInfo>() == 0x30);

/// WDF_DRIVER_GLOBALS, as far as the flag that says whether unload is taken over.
#[repr(C)]
pub(crate) struct Globals {
    before: [u8; 0x30],
    pub(crate) displace_unload: u8,
}

/// WDF_DRIVER_CONFIG.
#[repr(C)]
pub(crate) struct DriverConfig {
    pub(crate) size: u32,
    pub(crate) device_add: usize,
    pub(crate) unload: Option<unsafe extern "C" fn(*mut c_void)>,
    pub(crate) flags: u32,
    pub(crate) tag: u32,
}

const _: () = assert!(size_of::<DriverConfig>() == 0x20);

/// WDF_IO_QUEUE_CONFIG.
#[repr(C)]
pub(crate) struct QueueConfig {
    pub(crate) size: u32,
    pub(crate) dispatch: u32,
    pub(crate) power: u32,
    pub(crate) allow_zero: u8,
    pub(crate) default: u8,
    pub(crate) io_default: usize,
    pub(crate) read: Option<unsafe extern "C" fn(*mut c_void, *mut c_void, usize)>,
    pub(crate) write: usize,
    pub(crate) ioctl: Option<unsafe extern "C" fn(*mut c_void, *mut c_void, usize, usize, u32)>,
    pub(crate) internal: usize,
    pub(crate) stop: usize,
    pub(crate) resume: usize,
    pub(crate) cancelled: usize,
    pub(crate) presented: u32,
    pub(crate) driver: *mut c_void,
}

const _: () = assert!(size_of::<QueueConfig>() == 0x60);

/// WDF_OBJECT_ATTRIBUTES.
#[repr(C)]
pub(crate) struct Attributes {
    pub(crate) size: u32,
    pub(crate) cleanup: usize,
    pub(crate) destroy: usize,
    pub(crate) execution: u32,
    pub(crate) synchronization: u32,
    pub(crate) parent: *mut c_void,
    pub(crate) context_size: usize,
    pub(crate) context_type: *const c_void,
}

const _: () = assert!(size_of::<Attributes>() == 0x38);

/// Attributes with nothing but a parent.
pub(crate) const fn attributes(parent: *mut c_void) -> Attributes {
    Attributes {
        size: 0x38,
        cleanup: 0,
        destroy: 0,
        // Inherit from the parent.
        execution: 1,
        synchronization: 1,
        parent,
        context_size: 0,
        context_type: core::ptr::null(),
    }
}

#[link(name = "lab.sys", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "system" {
    pub(crate) fn WdfVersionBind(
        driver: *mut DriverObject,
        path: *mut UnicodeString,
        info: *mut BindInfo,
        globals: *mut *mut Globals,
    ) -> i32;
    pub(crate) fn WdfVersionUnbind(
        path: *mut UnicodeString,
        info: *mut BindInfo,
        globals: *mut Globals,
    ) -> i32;
}

/// The table, once bound.
static TABLE: AtomicPtr<*const c_void> = AtomicPtr::new(core::ptr::null_mut());
/// The driver's globals, once bound.
static GLOBALS: AtomicPtr<Globals> = AtomicPtr::new(core::ptr::null_mut());

/// Remembers what the bind gave.
pub(crate) fn bound(table: *const *const c_void, globals: *mut Globals) {
    TABLE.store(table.cast_mut(), Ordering::Release);
    GLOBALS.store(globals, Ordering::Release);
}

/// First argument of every call.
pub(crate) fn globals() -> *mut Globals {
    GLOBALS.load(Ordering::Acquire)
}

/// The function with this index.
pub(crate) fn function(index: usize) -> *const c_void {
    let table = TABLE.load(Ordering::Acquire);
    // SAFETY: the indexes used here are below the size of the table that was bound.
    let entry = unsafe { table.add(index) };
    // SAFETY: the table is filled and stays until the driver unbinds.
    unsafe { entry.read() }
}

/// Declares KMDF functions by index: a Rust function that adds the globals.
macro_rules! functions {
    ($($(#[$doc:meta])* $index:literal $name:ident($($arg:ident: $type:ty),*) $(-> $ret:ty)?;)+) => {
        $(
            $(#[$doc])*
            #[allow(non_snake_case, reason = "the names KMDF's documentation uses")]
            pub(crate) unsafe fn $name($($arg: $type),*) $(-> $ret)? {
                type F = unsafe extern "C" fn(*mut Globals, $($type),*) $(-> $ret)?;
                // SAFETY: the table's entry of this index has this type.
                let function: F = unsafe { core::mem::transmute(function($index)) };
                // SAFETY: the caller keeps (or knowingly breaks) this function's rules.
                unsafe { function(globals(), $($arg),*) }
            }
        )+
    };
}

/// WDF_TIMER_CONFIG; its last field is one byte on an eight-byte boundary.
#[repr(C)]
pub(crate) struct TimerConfig {
    pub(crate) size: u32,
    pub(crate) function: unsafe extern "C" fn(*mut c_void),
    pub(crate) period: u32,
    pub(crate) serialize: u8,
    pub(crate) tolerance: u32,
    pub(crate) high_resolution: u64,
}

const _: () = assert!(size_of::<TimerConfig>() == 0x28);

/// WDF_FILEOBJECT_CONFIG.
#[repr(C)]
pub(crate) struct FileConfig {
    pub(crate) size: u32,
    pub(crate) create: Option<unsafe extern "C" fn(*mut c_void, *mut c_void, *mut c_void)>,
    pub(crate) close: Option<unsafe extern "C" fn(*mut c_void)>,
    pub(crate) cleanup: Option<unsafe extern "C" fn(*mut c_void)>,
    pub(crate) forward: u32,
    pub(crate) class: u32,
}

const _: () = assert!(size_of::<FileConfig>() == 0x28);

/// WDF_OBJECT_CONTEXT_TYPE_INFO.
#[repr(C)]
pub(crate) struct ContextType {
    pub(crate) size: u32,
    pub(crate) name: *const u8,
    pub(crate) context: usize,
    pub(crate) unique: *const ContextType,
    pub(crate) get_unique: *const c_void,
}

// SAFETY: nobody writes to it.
unsafe impl Sync for ContextType {}

/// WDF_WORKITEM_CONFIG.
#[repr(C)]
pub(crate) struct WorkItemConfig {
    pub(crate) size: u32,
    pub(crate) function: unsafe extern "C" fn(*mut c_void),
    pub(crate) serialize: u8,
}

/// A request's cancel routine.
pub(crate) type CancelRoutine = unsafe extern "C" fn(*mut c_void);

functions! {
    25 WdfControlDeviceInitAllocate(driver: *mut c_void, sddl: *const UnicodeString) -> *mut c_void;
    27 WdfControlFinishInitializing(device: *mut c_void);
    31 WdfDeviceWdmGetDeviceObject(device: *mut c_void) -> *mut c_void;
    54 WdfDeviceInitFree(init: *mut c_void);
    67 WdfDeviceInitAssignName(init: *mut c_void, name: *const UnicodeString) -> i32;
    71 WdfDeviceInitSetFileObjectConfig(init: *mut c_void, config: *mut FileConfig, attributes: *mut Attributes);
    75 WdfDeviceCreate(init: *mut *mut c_void, attributes: *mut Attributes, out: *mut *mut c_void) -> i32;
    80 WdfDeviceCreateSymbolicLink(device: *mut c_void, name: *const UnicodeString) -> i32;
    116 WdfDriverCreate(driver: *mut DriverObject, path: *mut UnicodeString, attributes: *mut Attributes, config: *mut DriverConfig, out: *mut *mut c_void) -> i32;
    152 WdfIoQueueCreate(device: *mut c_void, config: *mut QueueConfig, attributes: *mut Attributes, out: *mut *mut c_void) -> i32;
    205 WdfObjectReferenceActual(object: *mut c_void, tag: *mut c_void, line: i32, file: *const u8);
    206 WdfObjectDereferenceActual(object: *mut c_void, tag: *mut c_void, line: i32, file: *const u8);
    153 WdfIoQueueGetState(queue: *mut c_void, queued: *mut u32, driver: *mut u32) -> u32;
    158 WdfIoQueueRetrieveNextRequest(queue: *mut c_void, out: *mut *mut c_void) -> i32;
    202 WdfObjectGetTypedContextWorker(object: *mut c_void, kind: *const ContextType) -> *mut c_void;
    203 WdfObjectAllocateContext(object: *mut c_void, attributes: *mut Attributes, out: *mut *mut c_void) -> i32;
    207 WdfObjectCreate(attributes: *mut Attributes, out: *mut *mut c_void) -> i32;
    208 WdfObjectDelete(object: *mut c_void);
    255 WdfRequestMarkCancelable(request: *mut c_void, cancel: CancelRoutine);
    256 WdfRequestUnmarkCancelable(request: *mut c_void) -> i32;
    257 WdfRequestIsCanceled(request: *mut c_void) -> u8;
    263 WdfRequestComplete(request: *mut c_void, status: i32);
    265 WdfRequestCompleteWithInformation(request: *mut c_void, status: i32, information: usize);
    269 WdfRequestRetrieveInputBuffer(request: *mut c_void, minimum: usize, buffer: *mut *mut u8, length: *mut usize) -> i32;
    270 WdfRequestRetrieveOutputBuffer(request: *mut c_void, minimum: usize, buffer: *mut *mut u8, length: *mut usize) -> i32;
    277 WdfRequestGetFileObject(request: *mut c_void) -> *mut c_void;
    281 WdfRequestForwardToIoQueue(request: *mut c_void, queue: *mut c_void) -> i32;
    285 WdfRequestWdmGetIrp(request: *mut c_void) -> *mut c_void;
    312 WdfWaitLockCreate(attributes: *mut Attributes, out: *mut *mut c_void) -> i32;
    313 WdfWaitLockAcquire(lock: *mut c_void, timeout: *const i64) -> i32;
    314 WdfWaitLockRelease(lock: *mut c_void);
    315 WdfSpinLockCreate(attributes: *mut Attributes, out: *mut *mut c_void) -> i32;
    316 WdfSpinLockAcquire(lock: *mut c_void);
    317 WdfSpinLockRelease(lock: *mut c_void);
    318 WdfTimerCreate(config: *mut TimerConfig, attributes: *mut Attributes, out: *mut *mut c_void) -> i32;
    319 WdfTimerStart(timer: *mut c_void, due: i64) -> u8;
    320 WdfTimerStop(timer: *mut c_void, wait: u8) -> u8;
    379 WdfWorkItemCreate(config: *mut WorkItemConfig, attributes: *mut Attributes, out: *mut *mut c_void) -> i32;
    380 WdfWorkItemEnqueue(item: *mut c_void);
    382 WdfWorkItemFlush(item: *mut c_void);
}
