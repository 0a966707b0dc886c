//! Sins against ntoskrnl: pool, IRQL, locks, timers, IRPs, MDLs, work items.
// Whole sequences of calls are the point here, and each arm's reason is its
// sin: everything before the last call keeps the rules.

use core::ffi::c_void;

use crate::raw::kmdf::WdfDeviceWdmGetDeviceObject;
use crate::raw::nt::*;
use crate::{Moment, Scene, sin_is};

const TAG: u32 = u32::from_le_bytes(*b"Lbad");
const OTHER_TAG: u32 = u32::from_le_bytes(*b"Labx");
const NON_PAGED: u64 = 0x40;
const UNINITIALIZED: u64 = 0x2;
const PAGED: u64 = 0x100;
const DISPATCH: u8 = 2;
/// Above DISPATCH_LEVEL, where next to nothing may be called.
const HIGH: u8 = 5;

static mut LOCK: Lock = Lock::zero();
static mut OTHER: Lock = Lock::zero();
static mut EVENT: Event = Event::zero();
static mut DPC: Dpc = Dpc::zero();
static mut BUSY: Dpc = Dpc::zero();
static mut BUSY_TOO: Dpc = Dpc::zero();
static PROVIDER: [u8; 16] = [7; 16];
static mut TIMER: Timer = Timer::zero();
static mut RUNDOWN: Rundown = Rundown::zero();

/// Commits the sin of that name.
///
/// # Safety
/// As `sins::commit`.
#[allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "an arm is one sequence whose last call is wrong on purpose"
)]
pub(crate) unsafe fn commit(scene: Scene) {
    match scene.moment {
        Moment::Load => {}
        // SAFETY: as the caller's.
        Moment::Ioctl => return unsafe { leave_raised() },
        Moment::Read | Moment::Unload => return,
    }
    // SAFETY: at PASSIVE_LEVEL, in DriverEntry, where all of these may be called;
    // what each arm does wrong is what it is there for, and ends the run.
    unsafe {
        let block = || ExAllocatePool2(NON_PAGED, 64, TAG).cast::<u8>();
        let raw_block = || ExAllocatePool2(NON_PAGED | UNINITIALIZED, 64, TAG).cast::<u8>();
        if sin_is("pool-double-free") {
            let b = block();
            ExFreePoolWithTag(b.cast(), TAG);
            ExFreePoolWithTag(b.cast(), TAG);
        } else if sin_is("pool-wrong-tag") {
            ExFreePoolWithTag(block().cast(), OTHER_TAG);
        } else if sin_is("pool-bad-free") {
            ExFreePoolWithTag(block().add(16).cast(), TAG);
        } else if sin_is("pool-overrun") {
            let b = block();
            b.add(64).write_volatile(1);
            ExFreePoolWithTag(b.cast(), TAG);
        } else if sin_is("pool-use-after-free") {
            let b = block();
            ExFreePoolWithTag(b.cast(), TAG);
            b.add(40).write_volatile(1);
        } else if sin_is("pool-paged-at-dispatch") {
            KfRaiseIrql(DISPATCH);
            ExAllocatePool2(PAGED, 64, TAG);
        } else if sin_is("pool-flags") {
            ExAllocatePool2(NON_PAGED | PAGED, 64, TAG);
        } else if sin_is("pool-leak") {
            block();
        } else if sin_is("pool-no-tag") {
            ExAllocatePool2(NON_PAGED, 64, 0);
        } else if sin_is("pool-irql") {
            KfRaiseIrql(5);
            block();
        } else if sin_is("pool-free-timer") {
            let timer = ExAllocatePool2(NON_PAGED, 64, TAG).cast::<Timer>();
            KeInitializeTimerEx(timer, 0);
            KeSetTimerEx(timer, -10_000_000, 0, core::ptr::null_mut());
            ExFreePoolWithTag(timer.cast(), TAG);
        } else if sin_is("pool-free-irql") {
            let b = block();
            KfRaiseIrql(5);
            ExFreePoolWithTag(b.cast(), TAG);
        } else if sin_is("wait-at-dispatch") {
            KeInitializeEvent(&raw mut EVENT, 0, 0);
            KfRaiseIrql(DISPATCH);
            KeWaitForSingleObject((&raw mut EVENT).cast(), 0, 0, 0, core::ptr::null());
        } else if sin_is("delay-at-dispatch") {
            KfRaiseIrql(DISPATCH);
            let interval = -10_000_i64;
            KeDelayExecutionThread(0, 0, &raw const interval);
        } else if sin_is("event-uninitialized") {
            KeSetEvent(&raw mut EVENT, 0, 0);
        } else if sin_is("event-irql") {
            KeInitializeEvent(&raw mut EVENT, 0, 0);
            KfRaiseIrql(5);
            KeSetEvent(&raw mut EVENT, 0, 0);
        } else if sin_is("event-type") {
            KeInitializeEvent(&raw mut EVENT, 7, 0);
        } else if sin_is("event-reset-irql") {
            KeInitializeEvent(&raw mut EVENT, 0, 0);
            KfRaiseIrql(HIGH);
            KeResetEvent(&raw mut EVENT);
        } else if sin_is("irql-raise-lowers") {
            KfRaiseIrql(DISPATCH);
            KfRaiseIrql(0);
        } else if sin_is("lock-twice") {
            KeInitializeSpinLock(&raw mut LOCK);
            KeAcquireSpinLockRaiseToDpc(&raw mut LOCK);
            KeAcquireSpinLockRaiseToDpc(&raw mut LOCK);
        } else if sin_is("lock-not-held") {
            KeInitializeSpinLock(&raw mut LOCK);
            KfRaiseIrql(DISPATCH);
            KeReleaseSpinLock(&raw mut LOCK, 0);
        } else if sin_is("lock-order") {
            KeInitializeSpinLock(&raw mut LOCK);
            KeInitializeSpinLock(&raw mut OTHER);
            let old = KeAcquireSpinLockRaiseToDpc(&raw mut LOCK);
            let inner = KeAcquireSpinLockRaiseToDpc(&raw mut OTHER);
            KeReleaseSpinLock(&raw mut LOCK, inner);
            KeReleaseSpinLock(&raw mut OTHER, old);
        } else if sin_is("lock-wrong-irql") {
            KeInitializeSpinLock(&raw mut LOCK);
            KeAcquireSpinLockRaiseToDpc(&raw mut LOCK);
            KeReleaseSpinLock(&raw mut LOCK, 1);
        } else if sin_is("lock-uninitialized") {
            KeAcquireSpinLockRaiseToDpc(raw_block().cast());
        } else if sin_is("lock-freed") {
            let lock = ExAllocatePool2(NON_PAGED, 64, TAG).cast::<Lock>();
            KeInitializeSpinLock(lock);
            ExFreePoolWithTag(lock.cast(), TAG);
            KeAcquireSpinLockRaiseToDpc(lock);
        } else if sin_is("rundown-release") {
            ExInitializeRundownProtection(&raw mut RUNDOWN);
            ExReleaseRundownProtection(&raw mut RUNDOWN);
        } else if sin_is("timer-uninitialized") {
            KeSetTimerEx(&raw mut TIMER, -1, 0, core::ptr::null_mut());
        } else if sin_is("timer-reinitialized") {
            KeInitializeTimerEx(&raw mut TIMER, 0);
            KeSetTimerEx(&raw mut TIMER, -100_000_000, 0, core::ptr::null_mut());
            KeInitializeTimerEx(&raw mut TIMER, 0);
        } else if sin_is("dpc-returns-raised") {
            KeInitializeDpc(&raw mut DPC, dpc_lowers, core::ptr::null_mut());
            KeInsertQueueDpc(&raw mut DPC, core::ptr::null_mut(), core::ptr::null_mut());
            KeFlushQueuedDpcs();
        } else if sin_is("dpc-reinitialized") {
            // Two slow ones keep the processors busy, so this one stays queued.
            for dpc in [&raw mut BUSY, &raw mut BUSY_TOO, &raw mut DPC] {
                KeInitializeDpc(dpc, dpc_slow, core::ptr::null_mut());
                KeInsertQueueDpc(dpc, core::ptr::null_mut(), core::ptr::null_mut());
            }
            KeInitializeDpc(&raw mut DPC, dpc_slow, core::ptr::null_mut());
        } else if sin_is("flush-dpcs-at-dispatch") {
            KfRaiseIrql(DISPATCH);
            KeFlushQueuedDpcs();
        } else if sin_is("work-item-twice") {
            let item = IoAllocateWorkItem(WdfDeviceWdmGetDeviceObject(scene.device));
            // A worker may take it at once, which makes the next time a right one;
            // there are not so many workers, and each is busy for long.
            for _ in 0..256 {
                IoQueueWorkItem(item, slow_work, 1, core::ptr::null_mut());
            }
        } else if sin_is("work-item-freed") {
            let item = IoAllocateWorkItem(WdfDeviceWdmGetDeviceObject(scene.device));
            IoFreeWorkItem(item);
            IoQueueWorkItem(item, slow_work, 1, core::ptr::null_mut());
        } else if sin_is("work-item-leak") {
            IoAllocateWorkItem(WdfDeviceWdmGetDeviceObject(scene.device));
        } else if sin_is("work-item-freed-twice") {
            let item = IoAllocateWorkItem(WdfDeviceWdmGetDeviceObject(scene.device));
            IoFreeWorkItem(item);
            IoFreeWorkItem(item);
        } else if sin_is("irp-irql") {
            KfRaiseIrql(HIGH);
            IoAllocateIrp(1, 0);
        } else if sin_is("irp-no-stack") {
            IoAllocateIrp(0, 0);
        } else if sin_is("irp-use-after-free") {
            let irp = IoAllocateIrp(1, 0);
            IoFreeIrp(irp);
            irp.cast::<u64>().add(6).write_volatile(1);
        } else if sin_is("irp-reuse-freed") {
            let irp = IoAllocateIrp(1, 0);
            IoFreeIrp(irp);
            IoReuseIrp(irp, 0);
        } else if sin_is("irp-double-free") {
            let irp = IoAllocateIrp(1, 0);
            IoFreeIrp(irp);
            IoFreeIrp(irp);
        } else if sin_is("irp-leak") {
            IoAllocateIrp(1, 0);
        } else if sin_is("irp-complete-own") {
            IofCompleteRequest(IoAllocateIrp(1, 0), 0);
        } else if sin_is("mdl-built-twice") {
            let b = block();
            let mdl = IoAllocateMdl(b.cast(), 64, 0, 0, core::ptr::null_mut());
            MmBuildMdlForNonPagedPool(mdl);
            MmBuildMdlForNonPagedPool(mdl);
        } else if sin_is("mdl-beyond-pool") {
            let mdl = IoAllocateMdl(block().cast(), 100, 0, 0, core::ptr::null_mut());
            MmBuildMdlForNonPagedPool(mdl);
        } else if sin_is("mdl-irql") {
            let mdl = IoAllocateMdl(block().cast(), 64, 0, 0, core::ptr::null_mut());
            KfRaiseIrql(HIGH);
            MmBuildMdlForNonPagedPool(mdl);
        } else if sin_is("mdl-leak") {
            let b = block();
            IoAllocateMdl(b.cast(), 64, 0, 0, core::ptr::null_mut());
            ExFreePoolWithTag(b.cast(), TAG);
        } else if sin_is("mdl-double-free") {
            let mdl = IoAllocateMdl((&raw mut EVENT).cast(), 8, 0, 0, core::ptr::null_mut());
            IoFreeMdl(mdl);
            IoFreeMdl(mdl);
        } else if sin_is("handle-bad") {
            ZwClose(core::ptr::without_provenance_mut::<c_void>(0x7fff_0004));
        } else if sin_is("close-at-dispatch") {
            let handle = thread(thread_short);
            KfRaiseIrql(DISPATCH);
            ZwClose(handle);
        } else if sin_is("thread-at-dispatch") {
            KfRaiseIrql(DISPATCH);
            thread(thread_short);
        } else if sin_is("reference-at-dispatch") {
            let handle = thread(thread_short);
            let mut object = core::ptr::null_mut();
            let none = core::ptr::null_mut();
            KfRaiseIrql(DISPATCH);
            ObReferenceObjectByHandle(handle, 0, none, 0, &raw mut object, none);
        } else if sin_is("reference-dropped-twice") {
            let handle = thread(thread_short);
            let mut object = core::ptr::null_mut();
            let none = core::ptr::null_mut();
            ObReferenceObjectByHandle(handle, 0, none, 0, &raw mut object, none);
            ObfDereferenceObject(object);
            ObfDereferenceObject(object);
        } else if sin_is("thread-handle-leak") {
            thread(thread_short);
        } else if sin_is("thread-left-running") {
            ZwClose(thread(thread_long));
        } else if sin_is("etw-unregister-twice") {
            let mut handle = 0;
            EtwRegister(
                &PROVIDER,
                core::ptr::null(),
                core::ptr::null_mut(),
                &raw mut handle,
            );
            EtwUnregister(handle);
            EtwUnregister(handle);
        } else if sin_is("etw-leak") {
            let mut handle = 0;
            EtwRegister(
                &PROVIDER,
                core::ptr::null(),
                core::ptr::null_mut(),
                &raw mut handle,
            );
        } else if sin_is("timer-left-set") {
            KeInitializeTimerEx(&raw mut TIMER, 0);
            KeSetTimerEx(&raw mut TIMER, -10_000_000_000, 0, core::ptr::null_mut());
        } else if sin_is("bugcheck") {
            KeBugCheckEx(0xBAD0_BAD0, 1, 2, 3, 4);
        } else if sin_is("access-violation") {
            core::ptr::without_provenance_mut::<u64>(8).write_volatile(1);
        }
    }
}

unsafe extern "system" fn dpc_lowers(_: *mut Dpc, _: *mut c_void, _: *mut c_void, _: *mut c_void) {
    // SAFETY: a DPC runs at DISPATCH_LEVEL; that it returns at PASSIVE_LEVEL is the sin.
    unsafe { KeLowerIrql(0) };
}

unsafe extern "system" fn slow_work(_device: *mut c_void, _context: *mut c_void) {
    let interval = -5_000_000_i64;
    // SAFETY: a work item runs at PASSIVE_LEVEL, where it may wait.
    unsafe { KeDelayExecutionThread(0, 0, &raw const interval) };
}

unsafe extern "system" fn dpc_slow(_: *mut Dpc, _: *mut c_void, _: *mut c_void, _: *mut c_void) {
    for turn in 0..300_000_000_u32 {
        core::hint::black_box(turn);
    }
}

unsafe extern "system" fn thread_short(_context: *mut c_void) {}

unsafe extern "system" fn thread_long(_context: *mut c_void) {
    let interval = -100_000_000_i64;
    // SAFETY: a system thread runs at PASSIVE_LEVEL, where it may wait.
    unsafe { KeDelayExecutionThread(0, 0, &raw const interval) };
}

/// A handle of a new system thread.
///
/// # Safety
/// At PASSIVE_LEVEL, unless that is the sin.
unsafe fn thread(routine: ThreadRoutine) -> *mut c_void {
    let mut handle = core::ptr::null_mut();
    let none = core::ptr::null_mut();
    // SAFETY: the routine ends by returning, and uses no context.
    unsafe { PsCreateSystemThread(&raw mut handle, 0, none, none, none, routine, none) };
    handle
}

/// The sins of a callback that returns otherwise than it was called.
///
/// # Safety
/// In a callback of the driver.
#[allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "an arm is one sequence whose last call is wrong on purpose"
)]
unsafe fn leave_raised() {
    // SAFETY: at PASSIVE_LEVEL with a lock of the driver's own; that neither is
    // undone is the sin.
    unsafe {
        if sin_is("irql-return") {
            KfRaiseIrql(DISPATCH);
        } else if sin_is("lock-returned") {
            KeInitializeSpinLock(&raw mut LOCK);
            KeAcquireSpinLockRaiseToDpc(&raw mut LOCK);
        }
    }
}
