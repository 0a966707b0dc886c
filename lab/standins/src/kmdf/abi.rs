//! KMDF structures (x64, 1.31) as the driver fills them in.

use std::ffi::{c_char, c_void};

use crate::nt::types::{MDL, layout};

/// A framework handle.
pub type Handle = usize;

/// WDF_BIND_INFO.
#[repr(C)]
pub struct BindInfo {
    /// 0x30.
    pub size: u32,
    /// `KmdfLibrary`.
    pub component: *const u16,
    /// 1.
    pub major: u32,
    /// KMDF 1.x.
    pub minor: u32,
    /// Build.
    pub build: u32,
    /// Entries of the function table.
    pub func_count: u32,
    /// See [`super::loader`].
    pub func_table: *mut c_void,
    /// The library's.
    pub module: *mut c_void,
}
layout!(
    BindInfo,
    48,
    component = 8,
    major = 16,
    func_count = 28,
    func_table = 32
);

/// WDF_DRIVER_GLOBALS.
#[repr(C)]
pub struct Globals {
    /// WDFDRIVER.
    pub driver: Handle,
    /// Flags.
    pub flags: u32,
    /// Pool tag.
    pub tag: u32,
    /// Name.
    pub name: [u8; 32],
    /// The stub is to displace DriverUnload.
    pub displace_unload: u8,
}
layout!(
    Globals,
    56,
    flags = 8,
    tag = 12,
    name = 16,
    displace_unload = 48
);

/// WDF_OBJECT_ATTRIBUTES.
#[repr(C)]
pub struct Attributes {
    /// 0x38.
    pub size: u32,
    /// EvtCleanupCallback.
    pub cleanup: Option<ObjectCallback>,
    /// EvtDestroyCallback.
    pub destroy: Option<ObjectCallback>,
    /// WDF_EXECUTION_LEVEL.
    pub execution_level: u32,
    /// WDF_SYNCHRONIZATION_SCOPE.
    pub synchronization: u32,
    /// Parent.
    pub parent: Handle,
    /// Bytes of context, when not the type's.
    pub context_size: usize,
    /// Type of the context.
    pub context_type: *const ContextType,
}
layout!(
    Attributes,
    56,
    cleanup = 8,
    execution_level = 24,
    parent = 32,
    context_type = 48
);

/// EvtObjectCleanup, EvtObjectDestroy.
pub type ObjectCallback = unsafe extern "system" fn(Handle);

/// WDF_OBJECT_CONTEXT_TYPE_INFO.
#[repr(C)]
pub struct ContextType {
    /// 0x28.
    pub size: u32,
    /// Name.
    pub name: *const c_char,
    /// Bytes.
    pub context_size: usize,
    /// What identifies the type.
    pub unique: *const ContextType,
    /// Or a function that says so.
    pub get_unique: Option<unsafe extern "system" fn(*mut Globals) -> *const ContextType>,
}
layout!(
    ContextType,
    40,
    context_size = 16,
    unique = 24,
    get_unique = 32
);

/// WDF_DRIVER_CONFIG.
#[repr(C)]
pub struct DriverConfig {
    /// 0x20.
    pub size: u32,
    /// EvtDriverDeviceAdd.
    pub device_add: *const c_void,
    /// EvtDriverUnload.
    pub unload: Option<ObjectCallback>,
    /// WDF_DRIVER_INIT_FLAGS.
    pub flags: u32,
    /// Pool tag.
    pub tag: u32,
}
layout!(DriverConfig, 32, device_add = 8, unload = 16, flags = 24);

/// WDF_FILEOBJECT_CONFIG.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct FileConfig {
    /// 0x28.
    pub size: u32,
    /// EvtDeviceFileCreate(device, request, file).
    pub create: Option<unsafe extern "system" fn(Handle, Handle, Handle)>,
    /// EvtFileClose.
    pub close: Option<ObjectCallback>,
    /// EvtFileCleanup.
    pub cleanup: Option<ObjectCallback>,
    /// WDF_TRI_STATE.
    pub auto_forward: u32,
    /// WDF_FILEOBJECT_CLASS.
    pub class: u32,
}
layout!(
    FileConfig,
    40,
    create = 8,
    close = 16,
    cleanup = 24,
    class = 36
);

/// WDF_IO_QUEUE_CONFIG.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct QueueConfig {
    /// 0x60.
    pub size: u32,
    /// 1 sequential, 2 parallel, 3 manual.
    pub dispatch: u32,
    /// WDF_TRI_STATE.
    pub power_managed: u32,
    /// Deliver reads and writes of no bytes.
    pub allow_zero_length: u8,
    /// The device's default queue.
    pub default_queue: u8,
    /// EvtIoDefault(queue, request).
    pub io_default: Option<unsafe extern "system" fn(Handle, Handle)>,
    /// EvtIoRead(queue, request, length).
    pub io_read: Option<unsafe extern "system" fn(Handle, Handle, usize)>,
    /// EvtIoWrite(queue, request, length).
    pub io_write: Option<unsafe extern "system" fn(Handle, Handle, usize)>,
    /// EvtIoDeviceControl(queue, request, output, input, code).
    pub io_control: Option<unsafe extern "system" fn(Handle, Handle, usize, usize, u32)>,
    /// EvtIoInternalDeviceControl.
    pub io_internal: Option<unsafe extern "system" fn(Handle, Handle, usize, usize, u32)>,
    /// EvtIoStop; power only.
    pub io_stop: *const c_void,
    /// EvtIoResume; power only.
    pub io_resume: *const c_void,
    /// EvtIoCanceledOnQueue(queue, request).
    pub io_canceled: Option<unsafe extern "system" fn(Handle, Handle)>,
    /// Parallel: requests presented at a time.
    pub presented: u32,
    /// Driver of a queue; null.
    pub driver: Handle,
}
layout!(
    QueueConfig,
    96,
    power_managed = 8,
    default_queue = 13,
    io_default = 16,
    io_canceled = 72,
    presented = 80,
    driver = 88
);

/// WDF_REQUEST_PARAMETERS.
#[repr(C)]
pub struct RequestParameters {
    /// 0x28.
    pub size: u16,
    /// Minor function.
    pub minor: u8,
    /// Padding.
    pub reserved: u8,
    /// WDF_REQUEST_TYPE: the major function.
    pub kind: u32,
    /// Depends on the type.
    pub parameters: [usize; 4],
}
layout!(RequestParameters, 40, kind = 4, parameters = 8);

/// WDF_TIMER_CONFIG.
#[repr(C)]
pub struct TimerConfig {
    /// 0x28.
    pub size: u32,
    /// EvtTimerFunc.
    pub func: Option<ObjectCallback>,
    /// Milliseconds.
    pub period: u32,
    /// Callback lock.
    pub serialize: u8,
    /// Milliseconds.
    pub tolerable_delay: u32,
    /// The next field is aligned to 8.
    pub reserved: u32,
    /// High resolution (WDF_TRI_STATE's byte).
    pub high_resolution: u64,
}
layout!(TimerConfig, 40, func = 8, period = 16, high_resolution = 32);

/// WDF_WORKITEM_CONFIG.
#[repr(C)]
pub struct WorkItemConfig {
    /// 0x18.
    pub size: u32,
    /// EvtWorkItemFunc.
    pub func: Option<ObjectCallback>,
    /// Callback lock.
    pub serialize: u8,
}
layout!(WorkItemConfig, 24, func = 8);

/// PFN_WDF_IO_QUEUE_STATE(queue, context).
pub type QueueState = unsafe extern "system" fn(Handle, *mut c_void);
/// PFN_WDF_REQUEST_CANCEL(request).
pub type RequestCancel = ObjectCallback;
/// A pointer to an MDL pointer, as the WdmMdl functions take it.
pub type MdlOut = *mut *mut MDL;

/// Framework constants.
pub mod consts {
    #![allow(missing_docs)]
    pub const EXECUTION_INHERIT: u32 = 1;
    pub const EXECUTION_PASSIVE: u32 = 2;
    pub const EXECUTION_DISPATCH: u32 = 3;
    pub const SCOPE_INHERIT: u32 = 1;
    pub const SCOPE_NONE: u32 = 4;
    pub const SEQUENTIAL: u32 = 1;
    pub const PARALLEL: u32 = 2;
    pub const MANUAL: u32 = 3;
    pub const NON_PNP: u32 = 1;
    pub const NO_DISPATCH_OVERRIDE: u32 = 2;
    pub const FILE_NOT_REQUIRED: u32 = 1;
    pub const FILE_OPTIONAL: u32 = 0x8000_0000;
    pub const IO_NEITHER: u32 = 1;
    pub const IO_BUFFERED: u32 = 2;
    pub const IO_DIRECT: u32 = 3;
}

/// IRP_MJ_* of what user mode sends.
pub mod major {
    #![allow(missing_docs)]
    pub const CREATE: u8 = 0;
    pub const CLOSE: u8 = 2;
    pub const READ: u8 = 3;
    pub const WRITE: u8 = 4;
    pub const DEVICE_CONTROL: u8 = 14;
    pub const INTERNAL_DEVICE_CONTROL: u8 = 15;
    pub const CLEANUP: u8 = 18;
}
