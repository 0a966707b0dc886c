//! The tour through ntoskrnl.
// Whole sequences of calls are the point here; each function says why its own
// is in order.
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "each block is one sequence of calls that keeps every rule"
)]

use core::ffi::c_void;
use core::sync::atomic::{AtomicU32, Ordering};

use super::check;
use crate::raw::kmdf::WdfDeviceWdmGetDeviceObject;
use crate::raw::nt::*;

const TAG: u32 = u32::from_le_bytes(*b"LbTo");
const NON_PAGED: u64 = 0x40;
const SUCCESS: i32 = 0;
const TIMEOUT: i32 = 0x102;
const MILLISECOND: i64 = -10_000;

static mut LOCK: Lock = Lock::zero();
static mut INNER: Lock = Lock::zero();
static mut EVENT: Event = Event::zero();
static mut ONE: Event = Event::zero();
static mut TIMER: Timer = Timer::zero();
static mut DPC: Dpc = Dpc::zero();
static mut RUNDOWN: Rundown = Rundown::zero();
static CALLS: AtomicU32 = AtomicU32::new(0);

/// All of it.
///
/// # Safety
/// At PASSIVE_LEVEL, once, with the driver's WDFDEVICE.
pub(super) unsafe fn visit(device: *mut c_void) {
    // SAFETY: as the caller's, for each of these.
    unsafe {
        pool();
        locks();
        events();
        timers();
        rundown();
        work(device);
        threads();
        irps_and_mdls();
        etw();
        rest();
    }
}

unsafe fn pool() {
    // SAFETY: each block is freed once, with its tag, and used before.
    unsafe {
        let small = ExAllocatePool2(NON_PAGED, 24, TAG).cast::<u8>();
        check(!small.is_null() && small.addr() % 16 == 0);
        check((0..24).all(|i| small.add(i).read() == 0));
        small.add(23).write(1);
        let page = ExAllocatePool2(NON_PAGED, 8192, TAG).cast::<u8>();
        check(!page.is_null() && page.addr() % 4096 == 0);
        ExFreePoolWithTag(small.cast(), TAG);
        ExFreePoolWithTag(page.cast(), TAG);
    }
}

unsafe fn locks() {
    // SAFETY: two locks of the driver's own, released last taken first.
    unsafe {
        KeInitializeSpinLock(&raw mut LOCK);
        KeInitializeSpinLock(&raw mut INNER);
        check(KeGetCurrentIrql() == 0);
        let old = KeAcquireSpinLockRaiseToDpc(&raw mut LOCK);
        check(old == 0 && KeGetCurrentIrql() == 2);
        KeAcquireSpinLockAtDpcLevel(&raw mut INNER);
        KeReleaseSpinLockFromDpcLevel(&raw mut INNER);
        KeReleaseSpinLock(&raw mut LOCK, old);
        check(KeGetCurrentIrql() == 0);
        check(KfRaiseIrql(2) == 0);
        KeLowerIrql(0);
    }
}

unsafe fn events() {
    // SAFETY: initialised events; the waits at DISPATCH_LEVEL do not block.
    unsafe {
        let (none, short) = (0_i64, MILLISECOND);
        KeInitializeEvent(&raw mut EVENT, 0, 0);
        check(KeWaitForSingleObject((&raw mut EVENT).cast(), 0, 0, 0, &raw const short) == TIMEOUT);
        check(KeSetEvent(&raw mut EVENT, 0, 0) == 0);
        check(KeReadStateEvent(&raw mut EVENT) != 0);
        // A notification event stays signalled ...
        let old = KfRaiseIrql(2);
        for _ in 0..2 {
            let wait = KeWaitForSingleObject((&raw mut EVENT).cast(), 0, 0, 0, &raw const none);
            check(wait == SUCCESS);
        }
        KeLowerIrql(old);
        check(KeResetEvent(&raw mut EVENT) != 0);
        // ... and a synchronization event lets one through.
        KeInitializeEvent(&raw mut ONE, 1, 1);
        let one = (&raw mut ONE).cast();
        check(KeWaitForSingleObject(one, 0, 0, 0, core::ptr::null()) == SUCCESS);
        check(KeWaitForSingleObject(one, 0, 0, 0, &raw const short) == TIMEOUT);
    }
}

unsafe extern "system" fn dpc(_: *mut Dpc, context: *mut c_void, _: *mut c_void, _: *mut c_void) {
    CALLS.fetch_add(1, Ordering::SeqCst);
    // SAFETY: takes no argument.
    check(unsafe { KeGetCurrentIrql() } == 2);
    // SAFETY: the event outlives the timer that carries it.
    unsafe { KeSetEvent(context.cast(), 0, 0) };
}

unsafe fn timers() {
    // SAFETY: one timer and one DPC, both at rest when this returns.
    unsafe {
        KeInitializeEvent(&raw mut EVENT, 0, 0);
        KeInitializeDpc(&raw mut DPC, dpc, (&raw mut EVENT).cast());
        KeInitializeTimerEx(&raw mut TIMER, 0);
        check(KeSetTimerEx(&raw mut TIMER, 20 * MILLISECOND, 0, &raw mut DPC) == 0);
        let event = (&raw mut EVENT).cast();
        check(KeWaitForSingleObject(event, 0, 0, 0, core::ptr::null()) == SUCCESS);
        check(CALLS.load(Ordering::SeqCst) == 1);
        // Cancelled before it is due: no call.
        check(KeSetTimerEx(&raw mut TIMER, 10_000 * MILLISECOND, 0, &raw mut DPC) == 0);
        check(KeSetTimerEx(&raw mut TIMER, 20_000 * MILLISECOND, 0, &raw mut DPC) == 1);
        check(KeCancelTimer(&raw mut TIMER) == 1);
        check(KeCancelTimer(&raw mut TIMER) == 0);
        // Periodic: more than one call, and none after the flush.
        check(KeSetTimerEx(&raw mut TIMER, 5 * MILLISECOND, 5, &raw mut DPC) == 0);
        let pause = 60 * MILLISECOND;
        KeDelayExecutionThread(0, 0, &raw const pause);
        check(KeCancelTimer(&raw mut TIMER) == 1);
        KeFlushQueuedDpcs();
        let calls = CALLS.load(Ordering::SeqCst);
        check(calls > 2);
        KeDelayExecutionThread(0, 0, &raw const pause);
        check(CALLS.load(Ordering::SeqCst) == calls);
        check(KeInsertQueueDpc(&raw mut DPC, core::ptr::null_mut(), core::ptr::null_mut()) == 1);
        KeFlushQueuedDpcs();
        check(CALLS.load(Ordering::SeqCst) == calls + 1);
    }
}

unsafe fn rundown() {
    // SAFETY: acquired and released in pairs, waited for when free.
    unsafe {
        ExInitializeRundownProtection(&raw mut RUNDOWN);
        check(ExAcquireRundownProtection(&raw mut RUNDOWN) != 0);
        ExReleaseRundownProtection(&raw mut RUNDOWN);
        ExWaitForRundownProtectionRelease(&raw mut RUNDOWN);
        check(ExAcquireRundownProtection(&raw mut RUNDOWN) == 0);
        ExReInitializeRundownProtection(&raw mut RUNDOWN);
        check(ExAcquireRundownProtection(&raw mut RUNDOWN) != 0);
        ExReleaseRundownProtection(&raw mut RUNDOWN);
    }
}

unsafe extern "system" fn work_routine(_device: *mut c_void, context: *mut c_void) {
    // SAFETY: takes no argument.
    check(unsafe { KeGetCurrentIrql() } == 0);
    // SAFETY: the event outlives the work item that carries it.
    unsafe { KeSetEvent(context.cast(), 0, 0) };
}

unsafe fn work(device: *mut c_void) {
    // SAFETY: queued again only after it has run, freed when it is not queued.
    unsafe {
        let item = IoAllocateWorkItem(WdfDeviceWdmGetDeviceObject(device));
        check(!item.is_null());
        let event = (&raw mut ONE).cast();
        KeInitializeEvent(&raw mut ONE, 1, 0);
        for _ in 0..3 {
            IoQueueWorkItem(item, work_routine, 1, event);
            check(KeWaitForSingleObject(event, 0, 0, 0, core::ptr::null()) == SUCCESS);
        }
        IoFreeWorkItem(item);
    }
}

unsafe extern "system" fn thread(context: *mut c_void) {
    let pause = 10 * MILLISECOND;
    // SAFETY: a system thread runs at PASSIVE_LEVEL, where it may wait.
    unsafe { KeDelayExecutionThread(0, 0, &raw const pause) };
    // SAFETY: the counter is a static.
    unsafe { &*context.cast::<AtomicU32>() }.store(7, Ordering::SeqCst);
}

unsafe fn threads() {
    // SAFETY: the handle is closed once, the reference dropped once, and the
    // thread has ended before this returns.
    unsafe {
        let none = core::ptr::null_mut();
        let mut handle = none;
        let counter = (&raw const CALLS).cast_mut().cast();
        let made = PsCreateSystemThread(&raw mut handle, 0, none, none, none, thread, counter);
        check(made == SUCCESS);
        let mut object = none;
        check(ObReferenceObjectByHandle(handle, 0, none, 0, &raw mut object, none) == SUCCESS);
        check(ZwClose(handle) == SUCCESS);
        check(KeWaitForSingleObject(object, 0, 0, 0, core::ptr::null()) == SUCCESS);
        check(CALLS.load(Ordering::SeqCst) == 7);
        ObfDereferenceObject(object);
    }
}

unsafe fn irps_and_mdls() {
    // SAFETY: everything is freed once, the parts before what they are parts of.
    unsafe {
        let irp = IoAllocateIrp(1, 0);
        check(!irp.is_null());
        IoReuseIrp(irp, 0);
        IoFreeIrp(irp);
        let block = ExAllocatePool2(NON_PAGED, 5000, TAG).cast::<u8>();
        check(!block.is_null());
        let none = core::ptr::null_mut();
        let whole = IoAllocateMdl(block.cast(), 5000, 0, 0, none);
        let part = IoAllocateMdl(block.cast(), 5000, 0, 0, none);
        check(!whole.is_null() && !part.is_null());
        MmBuildMdlForNonPagedPool(whole);
        IoBuildPartialMdl(whole, part, block.add(100).cast(), 200);
        // MDL: MappedSystemVa at 24, ByteCount at 40.
        check(whole.cast::<*mut u8>().add(3).read() == block);
        check(part.cast::<*mut u8>().add(3).read() == block.add(100));
        check(part.cast::<u32>().add(10).read() == 200);
        IoFreeMdl(part);
        IoFreeMdl(whole);
        ExFreePoolWithTag(block.cast(), TAG);
    }
}

unsafe fn etw() {
    static PROVIDER: [u8; 16] = [3; 16];
    let mut handle = 0;
    // SAFETY: registered once, unregistered once.
    unsafe {
        let none = core::ptr::null_mut();
        check(EtwRegister(&PROVIDER, core::ptr::null(), none, &raw mut handle) == SUCCESS);
        check(handle != 0 && EtwUnregister(handle) == SUCCESS);
    }
}

unsafe fn rest() {
    // SAFETY: outputs are local variables, strings are terminated.
    unsafe {
        let (mut frequency, mut time) = (0, 0);
        let first = KeQueryPerformanceCounter(&raw mut frequency);
        check(frequency > 0 && KeQueryPerformanceCounter(core::ptr::null_mut()) >= first);
        KeQuerySystemTimePrecise(&raw mut time);
        // Between 2020 and 2100, 100 ns since 1601.
        check(time > 132_000_000_000_000_000 && time < 157_500_000_000_000_000);
        let cpus = KeQueryActiveProcessorCountEx(0xFFFF);
        check(cpus > 0 && KeGetCurrentProcessorNumberEx(core::ptr::null_mut()) < cpus);
        check(RtlCompareMemory(b"weird".as_ptr().cast(), b"weirs".as_ptr().cast(), 5) == 4);
        DbgPrint(
            c"tour: %d frames, %s".as_ptr().cast(),
            12,
            c"done".as_ptr() as usize,
        );
    }
}
