//! KMDF calls.
//!
//! `wdk-sys` has a macro that calls a framework function by name; it indexes the
//! function table as a slice of a length only known at run time and so leaves a
//! way to a panic in the image. [`function!`] reads the same table without one:
//! every index used here is below 453, and a driver bound to KMDF 1.25 or later
//! always has those.
//!
//! A [`Request`] is a `WDFREQUEST` that this driver owns. It is not `Copy`, and
//! completing it takes it, so that it is completed once.

use core::ffi::c_void;
use core::ptr::{self, NonNull};

use wdk_sys::{
    _WDF_DEVICE_IO_TYPE, _WDF_EXECUTION_LEVEL, _WDF_SYNCHRONIZATION_SCOPE, DEVICE_OBJECT,
    DRIVER_OBJECT, PFN_WDF_REQUEST_CANCEL, PWDF_DRIVER_GLOBALS, PWDFDEVICE_INIT, ULONG_PTR,
    UNICODE_STRING, WDF_DRIVER_CONFIG, WDF_FILEOBJECT_CONFIG, WDF_OBJECT_ATTRIBUTES,
    WDF_OBJECT_CONTEXT_TYPE_INFO, WDFFUNC,
};
pub(crate) use wdk_sys::{
    _WDF_REQUEST_TYPE, WDF_IO_QUEUE_CONFIG, WDF_REQUEST_TYPE, WDFDEVICE, WDFDRIVER, WDFFILEOBJECT,
    WDFQUEUE, WDFREQUEST,
};

use super::status::{NtStatus, Result};

/// The framework's globals for this driver, first argument of every call.
fn globals() -> PWDF_DRIVER_GLOBALS {
    // SAFETY: set by WdfVersionBind before DriverEntry and not changed after.
    unsafe { wdk_sys::WdfDriverGlobals }
}

/// Entry `index` of the framework's function table.
fn table_entry(index: usize) -> WDFFUNC {
    // SAFETY: set by WdfVersionBind before DriverEntry and not changed after.
    let table = unsafe { wdk_sys::WdfFunctions };
    // SAFETY: the table has at least 453 entries (see the top of this file).
    let entry = unsafe { table.add(index) };
    // SAFETY: an initialised entry of the table, which stays until unbind.
    unsafe { *entry }
}

/// The framework function of this name, as an `Option` of its typed pointer.
macro_rules! function {
    ($pointer:ident, $index:ident) => {{
        // SAFETY: the framework keeps at this index a function of this type;
        // both are optional function pointers of the same size.
        unsafe {
            core::mem::transmute::<WDFFUNC, wdk_sys::$pointer>(table_entry(
                wdk_sys::_WDFFUNCENUM::$index as usize,
            ))
        }
    }};
}

/// What a call gives when the table has no such function, which a framework
/// that bound this driver doesn't do.
const ABSENT: i32 = NtStatus::NOT_SUPPORTED.0;

/// The `Size` field of a framework structure.
#[expect(
    clippy::cast_possible_truncation,
    reason = "structures are far below 4 GiB"
)]
const fn size_field<T>() -> u32 {
    size_of::<T>() as u32
}

/// A string constant as UTF-16 for [`unicode`]; ASCII only, `N` its length.
pub(crate) const fn utf16<const N: usize>(ascii: &str) -> [u16; N] {
    let mut wide = [0u16; N];
    let mut rest = ascii.as_bytes();
    assert!(rest.len() == N);
    let mut out: &mut [u16] = &mut wide;
    while let ([byte, bytes @ ..], [unit, units @ ..]) = (rest, out) {
        assert!(byte.is_ascii());
        *unit = *byte as u16;
        rest = bytes;
        out = units;
    }
    wide
}

/// A counted string over a constant. The system only reads it.
pub(crate) fn unicode(units: &'static [u16]) -> UNICODE_STRING {
    let bytes = u16::try_from(size_of_val(units)).unwrap_or(0);
    UNICODE_STRING {
        Length: bytes,
        MaximumLength: bytes,
        Buffer: units.as_ptr().cast_mut(),
    }
}

/// `WDF_OBJECT_ATTRIBUTES_INIT`, with callbacks at `PASSIVE_LEVEL` and no
/// synchronisation by the framework.
pub(crate) fn passive_attributes() -> WDF_OBJECT_ATTRIBUTES {
    WDF_OBJECT_ATTRIBUTES {
        Size: size_field::<WDF_OBJECT_ATTRIBUTES>(),
        ExecutionLevel: _WDF_EXECUTION_LEVEL::WdfExecutionLevelPassive,
        SynchronizationScope: _WDF_SYNCHRONIZATION_SCOPE::WdfSynchronizationScopeNone,
        ..WDF_OBJECT_ATTRIBUTES::default()
    }
}

/// `WDF_DRIVER_CONFIG_INIT`.
pub(crate) fn driver_config() -> WDF_DRIVER_CONFIG {
    WDF_DRIVER_CONFIG {
        Size: size_field::<WDF_DRIVER_CONFIG>(),
        ..WDF_DRIVER_CONFIG::default()
    }
}

/// `WDF_FILEOBJECT_CONFIG_INIT` without callbacks.
pub(crate) fn file_config() -> WDF_FILEOBJECT_CONFIG {
    WDF_FILEOBJECT_CONFIG {
        Size: size_field::<WDF_FILEOBJECT_CONFIG>(),
        AutoForwardCleanupClose: wdk_sys::_WDF_TRI_STATE::WdfUseDefault,
        FileObjectClass: wdk_sys::_WDF_FILEOBJECT_CLASS::WdfFileObjectWdfCanUseFsContext,
        ..WDF_FILEOBJECT_CONFIG::default()
    }
}

/// `WDF_IO_QUEUE_CONFIG_INIT` for a parallel queue, without callbacks.
pub(crate) fn queue_config() -> WDF_IO_QUEUE_CONFIG {
    let mut config = WDF_IO_QUEUE_CONFIG {
        Size: size_field::<WDF_IO_QUEUE_CONFIG>(),
        DispatchType: wdk_sys::_WDF_IO_QUEUE_DISPATCH_TYPE::WdfIoQueueDispatchParallel,
        PowerManaged: wdk_sys::_WDF_TRI_STATE::WdfUseDefault,
        ..WDF_IO_QUEUE_CONFIG::default()
    };
    // Unlimited.
    config.Settings.Parallel.NumberOfPresentedRequests = u32::MAX;
    config
}

/// A context type, declared once in a static: the framework knows types by the
/// address of this.
#[repr(transparent)]
pub(crate) struct ContextType(WDF_OBJECT_CONTEXT_TYPE_INFO);

// SAFETY: never written after it is compiled; its pointers are to statics.
unsafe impl Sync for ContextType {}

impl ContextType {
    /// The type of contexts `T`, named `name`; `own` is the address of the
    /// static this is the value of.
    pub(crate) const fn new<T>(name: &'static core::ffi::CStr, own: *const ContextType) -> Self {
        const { assert!(align_of::<T>() <= 16, "the framework aligns contexts to 16") };
        Self(WDF_OBJECT_CONTEXT_TYPE_INFO {
            Size: size_field::<WDF_OBJECT_CONTEXT_TYPE_INFO>(),
            ContextName: name.as_ptr(),
            ContextSize: size_of::<T>(),
            UniqueType: own.cast::<WDF_OBJECT_CONTEXT_TYPE_INFO>(),
            EvtDriverGetUniqueContextType: None,
        })
    }

    /// For `WDF_OBJECT_ATTRIBUTES::ContextTypeInfo`.
    pub(crate) const fn info(&'static self) -> *const WDF_OBJECT_CONTEXT_TYPE_INFO {
        &raw const self.0
    }
}

/// `WdfDriverCreate`. `PASSIVE_LEVEL`.
///
/// # Safety
/// Both pointers are the arguments of `DriverEntry`, which is running.
pub(crate) unsafe fn driver_create(
    driver: *mut DRIVER_OBJECT,
    registry_path: *const UNICODE_STRING,
    config: &mut WDF_DRIVER_CONFIG,
) -> Result<WDFDRIVER> {
    let Some(create) = function!(PFN_WDFDRIVERCREATE, WdfDriverCreateTableIndex) else {
        return Err(NtStatus(ABSENT));
    };
    let mut handle: WDFDRIVER = ptr::null_mut();
    // SAFETY: DriverEntry's own arguments (the caller's word), an initialised
    // config, no attributes, and a place for the handle.
    let status = unsafe {
        create(
            globals(),
            driver,
            registry_path,
            ptr::null_mut(),
            config,
            &raw mut handle,
        )
    };
    NtStatus(status).into_result().map(|()| handle)
}

/// A device that is being described; freed unless it becomes a device.
pub(crate) struct DeviceInit(PWDFDEVICE_INIT);

impl DeviceInit {
    /// `WdfControlDeviceInitAllocate`, with who may open the device as an SDDL
    /// string. `PASSIVE_LEVEL`.
    pub(crate) fn control(driver: WDFDRIVER, sddl: &'static [u16]) -> Result<Self> {
        let Some(allocate) = function!(
            PFN_WDFCONTROLDEVICEINITALLOCATE,
            WdfControlDeviceInitAllocateTableIndex
        ) else {
            return Err(NtStatus(ABSENT));
        };
        let sddl = unicode(sddl);
        // SAFETY: the handle of this driver, and a string that lives over the call.
        let init = unsafe { allocate(globals(), driver, &raw const sddl) };
        if init.is_null() {
            Err(NtStatus::INSUFFICIENT_RESOURCES)
        } else {
            Ok(Self(init))
        }
    }

    /// `WdfDeviceInitAssignName`: the device's name in the kernel's name space.
    pub(crate) fn assign_name(&mut self, name: &'static [u16]) -> Result<()> {
        let Some(assign) = function!(
            PFN_WDFDEVICEINITASSIGNNAME,
            WdfDeviceInitAssignNameTableIndex
        ) else {
            return Err(NtStatus(ABSENT));
        };
        let name = unicode(name);
        // SAFETY: a live init structure and a string that lives over the call.
        NtStatus(unsafe { assign(globals(), self.0, &raw const name) }).into_result()
    }

    /// `WdfDeviceInitSetDeviceType` and `WdfDeviceInitSetCharacteristics` (the
    /// latter added to what is set already).
    pub(crate) fn set_type(&mut self, device_type: u32, characteristics: u32) {
        if let Some(set) = function!(
            PFN_WDFDEVICEINITSETDEVICETYPE,
            WdfDeviceInitSetDeviceTypeTableIndex
        ) {
            // SAFETY: a live init structure.
            unsafe { set(globals(), self.0, device_type) };
        }
        if let Some(set) = function!(
            PFN_WDFDEVICEINITSETCHARACTERISTICS,
            WdfDeviceInitSetCharacteristicsTableIndex
        ) {
            // SAFETY: a live init structure; OrInValues is TRUE.
            unsafe { set(globals(), self.0, characteristics, 1) };
        }
    }

    /// `WdfDeviceInitSetIoType`: reads and writes use locked user memory (MDLs).
    pub(crate) fn set_direct_io(&mut self) {
        if let Some(set) = function!(PFN_WDFDEVICEINITSETIOTYPE, WdfDeviceInitSetIoTypeTableIndex) {
            // SAFETY: a live init structure.
            unsafe { set(globals(), self.0, _WDF_DEVICE_IO_TYPE::WdfDeviceIoDirect) };
        }
    }

    /// `WdfDeviceInitSetFileObjectConfig`.
    pub(crate) fn set_files(
        &mut self,
        config: &mut WDF_FILEOBJECT_CONFIG,
        attributes: &mut WDF_OBJECT_ATTRIBUTES,
    ) {
        if let Some(set) = function!(
            PFN_WDFDEVICEINITSETFILEOBJECTCONFIG,
            WdfDeviceInitSetFileObjectConfigTableIndex
        ) {
            // SAFETY: a live init structure; both structures are copied.
            unsafe { set(globals(), self.0, config, attributes) };
        }
    }

    /// `WdfDeviceCreate`. `PASSIVE_LEVEL`.
    pub(crate) fn create(mut self, attributes: &mut WDF_OBJECT_ATTRIBUTES) -> Result<Device> {
        let Some(create) = function!(PFN_WDFDEVICECREATE, WdfDeviceCreateTableIndex) else {
            return Err(NtStatus(ABSENT));
        };
        let mut device: WDFDEVICE = ptr::null_mut();
        // SAFETY: a live init structure, which the framework takes and sets to
        // null on success; on failure it stays and Drop frees it.
        let status = unsafe { create(globals(), &raw mut self.0, attributes, &raw mut device) };
        NtStatus(status).into_result().map(|()| Device(device))
    }
}

impl Drop for DeviceInit {
    fn drop(&mut self) {
        if self.0.is_null() {
            return;
        }
        if let Some(free) = function!(PFN_WDFDEVICEINITFREE, WdfDeviceInitFreeTableIndex) {
            // SAFETY: not taken by WdfDeviceCreate, which would have nulled it.
            unsafe { free(globals(), self.0) };
        }
    }
}

/// A device of this driver. The framework owns it.
#[derive(Clone, Copy)]
pub(crate) struct Device(WDFDEVICE);

impl Device {
    /// `WdfDeviceCreateSymbolicLink`. `PASSIVE_LEVEL`.
    pub(crate) fn create_link(self, name: &'static [u16]) -> Result<()> {
        let Some(create) = function!(
            PFN_WDFDEVICECREATESYMBOLICLINK,
            WdfDeviceCreateSymbolicLinkTableIndex
        ) else {
            return Err(NtStatus(ABSENT));
        };
        let name = unicode(name);
        // SAFETY: a live device and a string that lives over the call.
        NtStatus(unsafe { create(globals(), self.0, &raw const name) }).into_result()
    }

    /// `WdfIoQueueCreate`. `PASSIVE_LEVEL`.
    pub(crate) fn create_queue(
        self,
        config: &mut WDF_IO_QUEUE_CONFIG,
        attributes: &mut WDF_OBJECT_ATTRIBUTES,
    ) -> Result<WDFQUEUE> {
        let Some(create) = function!(PFN_WDFIOQUEUECREATE, WdfIoQueueCreateTableIndex) else {
            return Err(NtStatus(ABSENT));
        };
        let mut queue: WDFQUEUE = ptr::null_mut();
        // SAFETY: a live device, initialised structures, a place for the handle.
        let status = unsafe { create(globals(), self.0, config, attributes, &raw mut queue) };
        NtStatus(status).into_result().map(|()| queue)
    }

    /// `WdfDeviceConfigureRequestDispatching`: requests of this type come to
    /// `queue`, one of this device's. Once for each type. `IRQL <= DISPATCH_LEVEL`.
    pub(crate) fn route(self, queue: WDFQUEUE, requests: WDF_REQUEST_TYPE) -> Result<()> {
        let Some(route) = function!(
            PFN_WDFDEVICECONFIGUREREQUESTDISPATCHING,
            WdfDeviceConfigureRequestDispatchingTableIndex
        ) else {
            return Err(NtStatus(ABSENT));
        };
        // SAFETY: a live device and a queue of it.
        NtStatus(unsafe { route(globals(), self.0, queue, requests) }).into_result()
    }

    /// `WdfDeviceWdmGetDeviceObject`.
    pub(crate) fn wdm(self) -> *mut DEVICE_OBJECT {
        match function!(
            PFN_WDFDEVICEWDMGETDEVICEOBJECT,
            WdfDeviceWdmGetDeviceObjectTableIndex
        ) {
            // SAFETY: a live device.
            Some(get) => unsafe { get(globals(), self.0) },
            None => ptr::null_mut(),
        }
    }

    /// `WdfControlFinishInitializing`: from here on the device can be opened.
    pub(crate) fn finish_initializing(self) {
        if let Some(finish) = function!(
            PFN_WDFCONTROLFINISHINITIALIZING,
            WdfControlFinishInitializingTableIndex
        ) {
            // SAFETY: a live control device, finished once.
            unsafe { finish(globals(), self.0) };
        }
    }

    /// `WdfObjectDelete`, for a device that nobody could open yet.
    pub(crate) fn delete(self) {
        if let Some(delete) = function!(PFN_WDFOBJECTDELETE, WdfObjectDeleteTableIndex) {
            // SAFETY: a live device of this driver, deleted once; as a control
            // device it may be deleted by its driver.
            unsafe { delete(globals(), self.0.cast::<c_void>()) };
        }
    }
}

/// The context of type `T` of a file object; null if it has none.
pub(crate) fn file_context<T>(file: WDFFILEOBJECT, kind: &'static ContextType) -> *mut T {
    match function!(
        PFN_WDFOBJECTGETTYPEDCONTEXTWORKER,
        WdfObjectGetTypedContextWorkerTableIndex
    ) {
        // SAFETY: a live handle; the type info is a static.
        Some(get) => unsafe { get(globals(), file.cast::<c_void>(), kind.info()) }.cast::<T>(),
        None => ptr::null_mut(),
    }
}

/// The file object of a request that has not been completed.
pub(crate) fn file_of(request: WDFREQUEST) -> WDFFILEOBJECT {
    match function!(
        PFN_WDFREQUESTGETFILEOBJECT,
        WdfRequestGetFileObjectTableIndex
    ) {
        // SAFETY: a live request.
        Some(get) => unsafe { get(globals(), request) },
        None => ptr::null_mut(),
    }
}

/// A request from user mode, owned by this driver until it is completed.
#[must_use]
pub(crate) struct Request(WDFREQUEST);

// SAFETY: a WDFREQUEST may be used and completed on any thread.
unsafe impl Send for Request {}

impl Request {
    /// # Safety
    /// The framework has just handed this request to the driver, and nobody
    /// else makes a `Request` of it.
    pub(crate) const unsafe fn from_raw(raw: WDFREQUEST) -> Self {
        Self(raw)
    }

    /// The handle, to compare with.
    pub(crate) const fn raw(&self) -> WDFREQUEST {
        self.0
    }

    /// `WdfRequestCompleteWithInformation`. `IRQL <= DISPATCH_LEVEL`, no spin
    /// lock held. `information` is the number of bytes the caller gets.
    pub(crate) fn complete(self, status: NtStatus, information: usize) {
        if let Some(complete) = function!(
            PFN_WDFREQUESTCOMPLETEWITHINFORMATION,
            WdfRequestCompleteWithInformationTableIndex
        ) {
            // SAFETY: owned, and given up here: completed once.
            unsafe { complete(globals(), self.0, status.0, information as ULONG_PTR) };
        }
    }

    /// The file object it came through; null for a request without one.
    pub(crate) fn file(&self) -> WDFFILEOBJECT {
        file_of(self.0)
    }

    /// `WdfRequestRetrieveInputBuffer`: at least `minimum` bytes, in memory
    /// that stays until the request is completed.
    pub(crate) fn input(&self, minimum: usize) -> Result<(*const u8, usize)> {
        let Some(retrieve) = function!(
            PFN_WDFREQUESTRETRIEVEINPUTBUFFER,
            WdfRequestRetrieveInputBufferTableIndex
        ) else {
            return Err(NtStatus(ABSENT));
        };
        let mut buffer: *mut c_void = ptr::null_mut();
        let mut len = 0usize;
        // SAFETY: a live request and two places for the answers.
        let status = unsafe { retrieve(globals(), self.0, minimum, &raw mut buffer, &raw mut len) };
        NtStatus(status)
            .into_result()
            .map(|()| (buffer.cast::<u8>().cast_const(), len))
    }

    /// `WdfRequestRetrieveOutputBuffer`: at least `minimum` bytes. For a direct
    /// read this is the system's mapping of the reader's locked pages, made
    /// here if need be. Stays until the request is completed.
    pub(crate) fn output(&self, minimum: usize) -> Result<(*mut u8, usize)> {
        let Some(retrieve) = function!(
            PFN_WDFREQUESTRETRIEVEOUTPUTBUFFER,
            WdfRequestRetrieveOutputBufferTableIndex
        ) else {
            return Err(NtStatus(ABSENT));
        };
        let mut buffer: *mut c_void = ptr::null_mut();
        let mut len = 0usize;
        // SAFETY: a live request and two places for the answers.
        let status = unsafe { retrieve(globals(), self.0, minimum, &raw mut buffer, &raw mut len) };
        NtStatus(status)
            .into_result()
            .map(|()| (buffer.cast::<u8>(), len))
    }

    /// `WdfRequestRetrieveOutputWdmMdl`: the MDL of a direct read's locked pages;
    /// stays until the request is completed. Not for a request without output.
    pub(crate) fn output_mdl(&self) -> Result<NonNull<c_void>> {
        let Some(retrieve) = function!(
            PFN_WDFREQUESTRETRIEVEOUTPUTWDMMDL,
            WdfRequestRetrieveOutputWdmMdlTableIndex
        ) else {
            return Err(NtStatus(ABSENT));
        };
        let mut mdl = ptr::null_mut();
        // SAFETY: a live request and a place for the answer.
        let status = unsafe { retrieve(globals(), self.0, &raw mut mdl) };
        NtStatus(status).into_result()?;
        NonNull::new(mdl.cast::<c_void>()).ok_or(NtStatus::UNSUCCESSFUL)
    }

    /// `WdfRequestRetrieveInputWdmMdl`: the same of a direct write's pages.
    pub(crate) fn input_mdl(&self) -> Result<NonNull<c_void>> {
        let Some(retrieve) = function!(
            PFN_WDFREQUESTRETRIEVEINPUTWDMMDL,
            WdfRequestRetrieveInputWdmMdlTableIndex
        ) else {
            return Err(NtStatus(ABSENT));
        };
        let mut mdl = ptr::null_mut();
        // SAFETY: a live request and a place for the answer.
        let status = unsafe { retrieve(globals(), self.0, &raw mut mdl) };
        NtStatus(status).into_result()?;
        NonNull::new(mdl.cast::<c_void>()).ok_or(NtStatus::UNSUCCESSFUL)
    }

    /// `WdfRequestMarkCancelableEx`. On an error (cancelled already) `cancel`
    /// will not be called.
    pub(crate) fn mark_cancelable(&self, cancel: PFN_WDF_REQUEST_CANCEL) -> Result<()> {
        let Some(mark) = function!(
            PFN_WDFREQUESTMARKCANCELABLEEX,
            WdfRequestMarkCancelableExTableIndex
        ) else {
            return Err(NtStatus(ABSENT));
        };
        // SAFETY: a live request that isn't marked yet.
        NtStatus(unsafe { mark(globals(), self.0, cancel) }).into_result()
    }

    /// `WdfRequestUnmarkCancelable`. On `STATUS_CANCELLED` the cancel callback
    /// has been or will be called, and the request is its to complete.
    pub(crate) fn unmark_cancelable(&self) -> Result<()> {
        let Some(unmark) = function!(
            PFN_WDFREQUESTUNMARKCANCELABLE,
            WdfRequestUnmarkCancelableTableIndex
        ) else {
            return Err(NtStatus(ABSENT));
        };
        // SAFETY: a live request: whoever could complete it waits for the lock
        // under which this is called.
        NtStatus(unsafe { unmark(globals(), self.0) }).into_result()
    }
}
