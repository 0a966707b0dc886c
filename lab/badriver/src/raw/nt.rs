//! ntoskrnl. Opaque objects are as large as on x64 Windows.

use core::ffi::c_void;

/// As wdm.h has it.
#[repr(C)]
pub(crate) struct UnicodeString {
    pub(crate) length: u16,
    pub(crate) maximum: u16,
    pub(crate) buffer: *mut u16,
}

/// DRIVER_OBJECT; `unload` is at 104 of its 336 bytes.
#[repr(C)]
pub(crate) struct DriverObject {
    before: [u64; 13],
    pub(crate) unload: Option<unsafe extern "system" fn(*mut DriverObject)>,
    after: [u64; 28],
}

const _: () = assert!(size_of::<DriverObject>() == 336);
const _: () = assert!(core::mem::offset_of!(DriverObject, unload) == 104);

/// KEVENT.
#[repr(C)]
pub(crate) struct Event([u64; 3]);
/// KTIMER.
#[repr(C)]
pub(crate) struct Timer([u64; 8]);
/// KDPC.
#[repr(C)]
pub(crate) struct Dpc([u64; 8]);
/// EX_RUNDOWN_REF.
#[repr(C)]
pub(crate) struct Rundown(u64);
/// KSPIN_LOCK.
#[repr(C)]
pub(crate) struct Lock(u64);

impl Event {
    pub(crate) const fn zero() -> Self {
        Self([0; 3])
    }
}
impl Timer {
    pub(crate) const fn zero() -> Self {
        Self([0; 8])
    }
}
impl Dpc {
    pub(crate) const fn zero() -> Self {
        Self([0; 8])
    }
}
impl Rundown {
    pub(crate) const fn zero() -> Self {
        Self(0)
    }
}
impl Lock {
    pub(crate) const fn zero() -> Self {
        Self(0)
    }
}

/// A DPC's routine.
pub(crate) type DpcRoutine =
    unsafe extern "system" fn(*mut Dpc, *mut c_void, *mut c_void, *mut c_void);
/// A system thread's routine.
pub(crate) type ThreadRoutine = unsafe extern "system" fn(*mut c_void);
/// A work item's routine: DEVICE_OBJECT and context.
pub(crate) type WorkRoutine = unsafe extern "system" fn(*mut c_void, *mut c_void);

#[link(name = "lab.sys", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "system" {
    pub(crate) fn KeBugCheckEx(code: u32, a: usize, b: usize, c: usize, d: usize) -> !;
    pub(crate) fn ExAllocatePool2(flags: u64, size: usize, tag: u32) -> *mut c_void;
    pub(crate) fn ExFreePoolWithTag(block: *mut c_void, tag: u32);
    pub(crate) fn KeGetCurrentIrql() -> u8;
    pub(crate) fn KfRaiseIrql(irql: u8) -> u8;
    pub(crate) fn KeLowerIrql(irql: u8);
    pub(crate) fn KeInitializeSpinLock(lock: *mut Lock);
    pub(crate) fn KeAcquireSpinLockRaiseToDpc(lock: *mut Lock) -> u8;
    pub(crate) fn KeReleaseSpinLock(lock: *mut Lock, irql: u8);
    pub(crate) fn KeInitializeEvent(event: *mut Event, kind: u32, state: u8);
    pub(crate) fn KeSetEvent(event: *mut Event, increment: i32, wait: u8) -> i32;
    pub(crate) fn KeWaitForSingleObject(
        object: *mut c_void,
        reason: u32,
        mode: u8,
        alertable: u8,
        timeout: *const i64,
    ) -> i32;
    pub(crate) fn KeDelayExecutionThread(mode: u8, alertable: u8, interval: *const i64) -> i32;
    pub(crate) fn KeInitializeTimerEx(timer: *mut Timer, kind: u32);
    pub(crate) fn KeSetTimerEx(timer: *mut Timer, due: i64, period: i32, dpc: *mut Dpc) -> u8;
    pub(crate) fn KeCancelTimer(timer: *mut Timer) -> u8;
    pub(crate) fn KeInitializeDpc(dpc: *mut Dpc, routine: DpcRoutine, context: *mut c_void);
    pub(crate) fn KeInsertQueueDpc(dpc: *mut Dpc, a: *mut c_void, b: *mut c_void) -> u8;
    pub(crate) fn KeFlushQueuedDpcs();
    pub(crate) fn ExInitializeRundownProtection(rundown: *mut Rundown);
    pub(crate) fn ExReleaseRundownProtection(rundown: *mut Rundown);
    pub(crate) fn IoAllocateIrp(stack: i8, quota: u8) -> *mut c_void;
    pub(crate) fn IoFreeIrp(irp: *mut c_void);
    pub(crate) fn IofCompleteRequest(irp: *mut c_void, boost: i8);
    pub(crate) fn IoAllocateMdl(
        address: *mut c_void,
        length: u32,
        secondary: u8,
        quota: u8,
        irp: *mut c_void,
    ) -> *mut c_void;
    pub(crate) fn IoFreeMdl(mdl: *mut c_void);
    pub(crate) fn MmBuildMdlForNonPagedPool(mdl: *mut c_void);
    pub(crate) fn IoAllocateWorkItem(device: *mut c_void) -> *mut c_void;
    pub(crate) fn IoQueueWorkItem(
        item: *mut c_void,
        routine: WorkRoutine,
        queue: u32,
        context: *mut c_void,
    );
    pub(crate) fn IoFreeWorkItem(item: *mut c_void);
    pub(crate) fn ZwClose(handle: *mut c_void) -> i32;
    pub(crate) fn KeReadStateEvent(event: *mut Event) -> i32;
    pub(crate) fn ExReInitializeRundownProtection(rundown: *mut Rundown);
    pub(crate) fn ExAcquireRundownProtection(rundown: *mut Rundown) -> u8;
    pub(crate) fn ExWaitForRundownProtectionRelease(rundown: *mut Rundown);
    pub(crate) fn KeAcquireSpinLockAtDpcLevel(lock: *mut Lock);
    pub(crate) fn KeReleaseSpinLockFromDpcLevel(lock: *mut Lock);
    pub(crate) fn IoBuildPartialMdl(
        source: *mut c_void,
        target: *mut c_void,
        address: *mut c_void,
        length: u32,
    );
    pub(crate) fn KeQueryPerformanceCounter(frequency: *mut i64) -> i64;
    pub(crate) fn KeQuerySystemTimePrecise(time: *mut u64);
    pub(crate) fn KeQueryActiveProcessorCountEx(group: u16) -> u32;
    pub(crate) fn KeGetCurrentProcessorNumberEx(number: *mut u32) -> u32;
    pub(crate) fn RtlCompareMemory(a: *const c_void, b: *const c_void, length: usize) -> usize;
    pub(crate) fn DbgPrint(format: *const u8, a: usize, b: usize) -> u32;
    pub(crate) fn KeResetEvent(event: *mut Event) -> i32;
    pub(crate) fn IoReuseIrp(irp: *mut c_void, status: i32);
    pub(crate) fn PsCreateSystemThread(
        handle: *mut *mut c_void,
        access: u32,
        attributes: *mut c_void,
        process: *mut c_void,
        client: *mut c_void,
        routine: ThreadRoutine,
        context: *mut c_void,
    ) -> i32;
    pub(crate) fn ObReferenceObjectByHandle(
        handle: *mut c_void,
        access: u32,
        kind: *mut c_void,
        mode: i8,
        object: *mut *mut c_void,
        information: *mut c_void,
    ) -> i32;
    pub(crate) fn ObfDereferenceObject(object: *mut c_void) -> isize;
    pub(crate) fn EtwRegister(
        provider: *const [u8; 16],
        callback: *const c_void,
        context: *mut c_void,
        handle: *mut u64,
    ) -> i32;
    pub(crate) fn EtwUnregister(handle: u64) -> i32;
}

#[link(name = "lab.sys", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "C" {
    // The compiler calls these by itself; it is told where they are.
    fn memcpy(to: *mut c_void, from: *const c_void, n: usize) -> *mut c_void;
    fn memset(to: *mut c_void, byte: i32, n: usize) -> *mut c_void;
}

/// Names the functions the compiler may call, so that they are imported.
pub(crate) fn compiler_functions() -> (usize, usize) {
    (memcpy as *const () as usize, memset as *const () as usize)
}
