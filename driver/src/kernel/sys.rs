//! Raw `ntoskrnl.exe`: the functions and structures the safe files are built on.
//!
//! They are declared here and not taken from the generated bindings because
//! several of them are inline functions or macros in one release of the WDK's
//! headers and exports in another (`KeInitializeSpinLock`, `ExAllocatePool2`), and
//! because their opaque structures only need a size and an alignment. Layouts
//! are those of 64-bit Windows; the assertions below keep them honest.

#![allow(non_snake_case)] // C names are kept so that they can be looked up

use core::ffi::{c_char, c_void};

/// `KEVENT`, opaque.
#[repr(C, align(8))]
pub(crate) struct KEvent(pub(crate) [u64; 3]);

/// `KTIMER`, opaque.
#[repr(C, align(8))]
pub(crate) struct KTimer(pub(crate) [u64; 8]);

/// `KDPC`, opaque.
#[repr(C, align(8))]
pub(crate) struct KDpc(pub(crate) [u64; 8]);

/// `EX_RUNDOWN_REF`.
#[repr(C, align(8))]
pub(crate) struct ExRundownRef(pub(crate) usize);

const _: () = assert!(size_of::<KEvent>() == 0x18);
const _: () = assert!(size_of::<KTimer>() == 0x40);
const _: () = assert!(size_of::<KDpc>() == 0x40);
const _: () = assert!(size_of::<ExRundownRef>() == 8);

/// `KDEFERRED_ROUTINE`.
pub(crate) type KDeferredRoutine =
    unsafe extern "system" fn(*mut KDpc, *mut c_void, *mut c_void, *mut c_void);

/// `IO_WORKITEM_ROUTINE`.
pub(crate) type IoWorkItemRoutine = unsafe extern "system" fn(*mut c_void, *mut c_void);

/// `POOL_FLAG_NON_PAGED` (wdm.h, "POOL_FLAGS").
pub(crate) const POOL_FLAG_NON_PAGED: u64 = 0x40;
/// `NotificationEvent` of `EVENT_TYPE`.
pub(crate) const NOTIFICATION_EVENT: i32 = 0;
/// `NotificationTimer` of `TIMER_TYPE`.
pub(crate) const NOTIFICATION_TIMER: i32 = 0;
/// `Executive` of `KWAIT_REASON`.
pub(crate) const EXECUTIVE: i32 = 0;
/// `KernelMode` of `KPROCESSOR_MODE`.
pub(crate) const KERNEL_MODE: i8 = 0;
/// `DelayedWorkQueue` of `WORK_QUEUE_TYPE`.
pub(crate) const DELAYED_WORK_QUEUE: i32 = 1;
/// `ALL_PROCESSOR_GROUPS`.
pub(crate) const ALL_PROCESSOR_GROUPS: u16 = 0xFFFF;

unsafe extern "system" {
    pub(crate) fn ExAllocatePool2(flags: u64, bytes: usize, tag: u32) -> *mut c_void;
    pub(crate) fn ExFreePoolWithTag(pool: *mut c_void, tag: u32);

    pub(crate) fn KeAcquireSpinLockRaiseToDpc(lock: *mut usize) -> u8;
    pub(crate) fn KeReleaseSpinLock(lock: *mut usize, old_irql: u8);

    pub(crate) fn ExInitializeRundownProtection(rundown: *mut ExRundownRef);
    pub(crate) fn ExReInitializeRundownProtection(rundown: *mut ExRundownRef);
    pub(crate) fn ExAcquireRundownProtection(rundown: *mut ExRundownRef) -> u8;
    pub(crate) fn ExReleaseRundownProtection(rundown: *mut ExRundownRef);
    pub(crate) fn ExWaitForRundownProtectionRelease(rundown: *mut ExRundownRef);

    pub(crate) fn KeInitializeEvent(event: *mut KEvent, kind: i32, state: u8);
    pub(crate) fn KeSetEvent(event: *mut KEvent, increment: i32, wait: u8) -> i32;
    pub(crate) fn KeResetEvent(event: *mut KEvent) -> i32;
    pub(crate) fn KeWaitForSingleObject(
        object: *mut c_void,
        reason: i32,
        mode: i8,
        alertable: u8,
        timeout: *const i64,
    ) -> i32;

    pub(crate) fn KeInitializeTimerEx(timer: *mut KTimer, kind: i32);
    pub(crate) fn KeSetTimer(timer: *mut KTimer, due: i64, dpc: *mut KDpc) -> u8;
    pub(crate) fn KeCancelTimer(timer: *mut KTimer) -> u8;
    pub(crate) fn KeInitializeDpc(dpc: *mut KDpc, routine: KDeferredRoutine, context: *mut c_void);
    pub(crate) fn KeFlushQueuedDpcs();

    pub(crate) fn KeQueryPerformanceCounter(frequency: *mut i64) -> i64;
    pub(crate) fn KeQuerySystemTimePrecise(time: *mut i64);
    pub(crate) fn KeQueryMaximumProcessorCountEx(group: u16) -> u32;
    pub(crate) fn KeGetCurrentProcessorNumberEx(number: *mut c_void) -> u32;

    pub(crate) fn PsGetCurrentProcessId() -> *mut c_void;

    pub(crate) fn IoAllocateWorkItem(device: *mut c_void) -> *mut c_void;
    pub(crate) fn IoQueueWorkItem(
        item: *mut c_void,
        routine: IoWorkItemRoutine,
        queue: i32,
        context: *mut c_void,
    );
    pub(crate) fn IoFreeWorkItem(item: *mut c_void);
}

unsafe extern "C" {
    pub(crate) fn DbgPrint(format: *const c_char, ...) -> u32;
}
