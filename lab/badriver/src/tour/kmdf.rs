//! The tour through KMDF: locks, timers, work items, contexts, and the ways of
//! a request and a file.
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "each block is one sequence of calls that keeps every rule"
)]

use core::ffi::c_void;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use super::check;
use crate::raw::kmdf::*;
use crate::raw::nt::{KeDelayExecutionThread, KeGetCurrentIrql};

const SUCCESS: i32 = 0;
const CANCELLED: i32 = u32::cast_signed(0xC000_0120);
const BUFFER_TOO_SMALL: i32 = u32::cast_signed(0xC000_0023);
const NO_MORE_ENTRIES: i32 = u32::cast_signed(0x8000_001A);
const MILLISECOND: i64 = -10_000;

/// Where requests wait: a manual queue.
static WAITING: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());
/// Answers an IOCTL a little later.
static LATER: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());
static WORKED: AtomicU32 = AtomicU32::new(0);
static CLEANED: AtomicU32 = AtomicU32::new(0);
static DESTROYED: AtomicU32 = AtomicU32::new(0);

// What became of the visit from user mode, in the order it must come.
static OPENED: AtomicU32 = AtomicU32::new(0);
static CONTROLS: AtomicU32 = AtomicU32::new(0);
static ANSWERED: AtomicU32 = AtomicU32::new(0);
static READS: AtomicU32 = AtomicU32::new(0);
static CANCELS: AtomicU32 = AtomicU32::new(0);
static CLEANUPS: AtomicU32 = AtomicU32::new(0);
static CLOSES: AtomicU32 = AtomicU32::new(0);

static CONTEXT: ContextType = ContextType {
    size: 40,
    name: c"Tour".as_ptr().cast(),
    context: 24,
    unique: &raw const CONTEXT,
    get_unique: core::ptr::null(),
};

/// Asks for file objects with a context.
///
/// # Safety
/// The init is the driver's and not consumed.
pub(crate) unsafe fn configure(init: *mut c_void) {
    let mut config = FileConfig {
        size: 0x28,
        create: Some(opened),
        close: Some(closed),
        cleanup: Some(cleaned_up),
        // WdfFalse
        forward: 0,
        // WdfFileObjectWdfCanUseFsContext
        class: 2,
    };
    let mut with_context = attributes(core::ptr::null_mut());
    with_context.context_type = (&raw const CONTEXT).cast();
    // SAFETY: as the caller's; both structures outlive the call.
    unsafe {
        WdfDeviceInitSetFileObjectConfig(init, &raw mut config, &raw mut with_context);
    }
}

/// The part at load.
///
/// # Safety
/// At PASSIVE_LEVEL, once, with the driver's device.
pub(super) unsafe fn visit(device: *mut c_void) {
    // SAFETY: as the caller's, for each of these.
    unsafe {
        objects(device);
        locks(device);
        callbacks(device);
        queues(device);
    }
}

unsafe extern "C" fn cleanup(_object: *mut c_void) {
    check(DESTROYED.load(Ordering::SeqCst) == 0);
    CLEANED.fetch_add(1, Ordering::SeqCst);
}

unsafe extern "C" fn destroy(_object: *mut c_void) {
    check(CLEANED.load(Ordering::SeqCst) == 2);
    DESTROYED.fetch_add(1, Ordering::SeqCst);
}

unsafe fn objects(device: *mut c_void) {
    // SAFETY: a parent and its child, deleted together; the reference is given
    // up once and keeps the child's memory until then.
    unsafe {
        let (mut parent, mut child) = (core::ptr::null_mut(), core::ptr::null_mut());
        let mut plain = attributes(device);
        plain.cleanup = cleanup as *const () as usize;
        check(WdfObjectCreate(&raw mut plain, &raw mut parent) == SUCCESS);
        let mut full = attributes(parent);
        full.cleanup = cleanup as *const () as usize;
        full.destroy = destroy as *const () as usize;
        full.context_type = (&raw const CONTEXT).cast();
        check(WdfObjectCreate(&raw mut full, &raw mut child) == SUCCESS);
        let context = WdfObjectGetTypedContextWorker(child, &raw const CONTEXT).cast::<u64>();
        check(!context.is_null() && context.read() == 0);
        context.write(42);
        check(WdfObjectGetTypedContextWorker(parent, &raw const CONTEXT).is_null());
        let none = core::ptr::null_mut();
        WdfObjectReferenceActual(child, none, 0, core::ptr::null());
        WdfObjectDelete(parent);
        check(CLEANED.load(Ordering::SeqCst) == 2 && DESTROYED.load(Ordering::SeqCst) == 0);
        check(context.read() == 42);
        WdfObjectDereferenceActual(child, none, 0, core::ptr::null());
        check(DESTROYED.load(Ordering::SeqCst) == 1);
    }
}

unsafe fn locks(device: *mut c_void) {
    // SAFETY: each lock is released by its holder before it is deleted.
    unsafe {
        let mut plain = attributes(device);
        let (mut spin, mut wait) = (core::ptr::null_mut(), core::ptr::null_mut());
        check(WdfSpinLockCreate(&raw mut plain, &raw mut spin) == SUCCESS);
        WdfSpinLockAcquire(spin);
        check(KeGetCurrentIrql() == 2);
        WdfSpinLockRelease(spin);
        check(KeGetCurrentIrql() == 0);
        check(WdfWaitLockCreate(&raw mut plain, &raw mut wait) == SUCCESS);
        check(WdfWaitLockAcquire(wait, core::ptr::null()) == SUCCESS);
        WdfWaitLockRelease(wait);
        WdfObjectDelete(spin);
        WdfObjectDelete(wait);
    }
}

unsafe extern "C" fn worked(_item: *mut c_void) {
    // SAFETY: takes no argument.
    check(unsafe { KeGetCurrentIrql() } == 0);
    WORKED.fetch_add(1, Ordering::SeqCst);
}

unsafe extern "C" fn ticked(_timer: *mut c_void) {
    // SAFETY: takes no argument.
    check(unsafe { KeGetCurrentIrql() } == 2);
    WORKED.fetch_add(100, Ordering::SeqCst);
}

unsafe fn callbacks(device: *mut c_void) {
    // SAFETY: objects of this driver, idle when they are deleted.
    unsafe {
        let mut plain = attributes(device);
        let (mut item, mut timer) = (core::ptr::null_mut(), core::ptr::null_mut());
        let mut config = WorkItemConfig {
            size: 0x18,
            function: worked,
            serialize: 0,
        };
        check(WdfWorkItemCreate(&raw mut config, &raw mut plain, &raw mut item) == SUCCESS);
        WdfWorkItemEnqueue(item);
        WdfWorkItemFlush(item);
        check(WORKED.load(Ordering::SeqCst) == 1);
        WdfObjectDelete(item);
        let mut config = timer_config(ticked, 0);
        check(WdfTimerCreate(&raw mut config, &raw mut plain, &raw mut timer) == SUCCESS);
        check(WdfTimerStart(timer, 5 * MILLISECOND) == 0);
        let pause = 50 * MILLISECOND;
        KeDelayExecutionThread(0, 0, &raw const pause);
        check(WORKED.load(Ordering::SeqCst) == 101);
        check(WdfTimerStart(timer, 10_000 * MILLISECOND) == 0);
        check(WdfTimerStop(timer, 1) == 1);
        WdfObjectDelete(timer);
    }
}

fn timer_config(function: unsafe extern "C" fn(*mut c_void), period: u32) -> TimerConfig {
    TimerConfig {
        size: 0x28,
        function,
        period,
        serialize: 0,
        tolerance: 0,
        high_resolution: 0,
    }
}

unsafe fn queues(device: *mut c_void) {
    let mut config = QueueConfig {
        size: 0x60,
        // WdfIoQueueDispatchManual
        dispatch: 3,
        power: 2,
        allow_zero: 0,
        default: 0,
        io_default: 0,
        read: None,
        write: 0,
        ioctl: None,
        internal: 0,
        stop: 0,
        resume: 0,
        cancelled: cancelled_on_queue as *const () as usize,
        presented: 0,
        driver: core::ptr::null_mut(),
    };
    let mut plain = attributes(core::ptr::null_mut());
    let mut queue = core::ptr::null_mut();
    // SAFETY: a live device, structures that outlive the calls.
    unsafe {
        check(WdfIoQueueCreate(device, &raw mut config, &raw mut plain, &raw mut queue) == SUCCESS);
        let mut request = core::ptr::null_mut();
        check(WdfIoQueueRetrieveNextRequest(queue, &raw mut request) == NO_MORE_ENTRIES);
        // Accepts, dispatches, has none, driver has none.
        check(WdfIoQueueGetState(queue, core::ptr::null_mut(), core::ptr::null_mut()) == 15);
        let mut timer = core::ptr::null_mut();
        let mut config = timer_config(answer, 0);
        let mut parent = attributes(device);
        check(WdfTimerCreate(&raw mut config, &raw mut parent, &raw mut timer) == SUCCESS);
        LATER.store(timer, Ordering::Release);
    }
    WAITING.store(queue, Ordering::Release);
}

unsafe extern "C" fn opened(_device: *mut c_void, request: *mut c_void, file: *mut c_void) {
    OPENED.fetch_add(1, Ordering::SeqCst);
    // SAFETY: the file has the context its attributes asked for; the request is
    // this driver's, completed once.
    unsafe {
        let context = WdfObjectGetTypedContextWorker(file, &raw const CONTEXT).cast::<u64>();
        check(!context.is_null());
        context.write(file.addr() as u64);
        check(WdfRequestGetFileObject(request) == file);
        WdfRequestComplete(request, SUCCESS);
    }
}

unsafe extern "C" fn cleaned_up(file: *mut c_void) {
    CLEANUPS.fetch_add(1, Ordering::SeqCst);
    // SAFETY: the file is alive, and its context with it.
    unsafe {
        let context = WdfObjectGetTypedContextWorker(file, &raw const CONTEXT).cast::<u64>();
        check(context.read() == file.addr() as u64);
    }
}

unsafe extern "C" fn closed(_file: *mut c_void) {
    let closes = CLOSES.fetch_add(1, Ordering::SeqCst);
    check(CLEANUPS.load(Ordering::SeqCst) > closes);
}

unsafe extern "C" fn not_expected(_request: *mut c_void) {
    check(false);
}

/// An IOCTL: its buffers are looked at, and it waits in the manual queue until
/// the timer answers it.
///
/// # Safety
/// The request is this driver's.
pub(crate) unsafe fn control(request: *mut c_void) {
    CONTROLS.fetch_add(1, Ordering::SeqCst);
    // SAFETY: as the caller's; after the forward it is not touched here.
    unsafe {
        let (mut buffer, mut length) = (core::ptr::null_mut(), 0);
        let (buffer, length) = (&raw mut buffer, &raw mut length);
        check(WdfRequestRetrieveInputBuffer(request, 9, buffer, length) == BUFFER_TOO_SMALL);
        check(WdfRequestRetrieveInputBuffer(request, 8, buffer, length) == SUCCESS);
        check(length.read() == 8 && !buffer.read().is_null());
        check(WdfRequestRetrieveOutputBuffer(request, 65, buffer, length) == BUFFER_TOO_SMALL);
        check(WdfRequestRetrieveOutputBuffer(request, 1, buffer, length) == SUCCESS);
        check(length.read() == 64);
        WdfRequestMarkCancelable(request, not_expected);
        check(WdfRequestUnmarkCancelable(request) == SUCCESS);
        check(WdfRequestIsCanceled(request) == 0);
        let queue = WAITING.load(Ordering::Acquire);
        check(WdfRequestForwardToIoQueue(request, queue) == SUCCESS);
        WdfTimerStart(LATER.load(Ordering::Acquire), 10 * MILLISECOND);
    }
}

unsafe extern "C" fn answer(_timer: *mut c_void) {
    let queue = WAITING.load(Ordering::Acquire);
    let mut request = core::ptr::null_mut();
    // SAFETY: what the queue gives is this driver's, completed once.
    unsafe {
        check(WdfIoQueueRetrieveNextRequest(queue, &raw mut request) == SUCCESS);
        let (mut buffer, mut length) = (core::ptr::null_mut(), 0);
        let (buffer, length) = (&raw mut buffer, &raw mut length);
        check(WdfRequestRetrieveOutputBuffer(request, 16, buffer, length) == SUCCESS);
        buffer.read().write_bytes(0x11, 16);
        WdfRequestCompleteWithInformation(request, SUCCESS, 16);
    }
    ANSWERED.fetch_add(1, Ordering::SeqCst);
}

/// A read waits in the manual queue until user mode gives it up.
///
/// # Safety
/// The request is this driver's.
pub(crate) unsafe fn read(request: *mut c_void) {
    READS.fetch_add(1, Ordering::SeqCst);
    let queue = WAITING.load(Ordering::Acquire);
    // SAFETY: as the caller's; after the forward it is not touched here.
    unsafe { check(WdfRequestForwardToIoQueue(request, queue) == SUCCESS) };
}

unsafe extern "C" fn cancelled_on_queue(queue: *mut c_void, request: *mut c_void) {
    check(queue == WAITING.load(Ordering::Acquire));
    CANCELS.fetch_add(1, Ordering::SeqCst);
    // SAFETY: the request is this driver's again, completed once.
    unsafe { WdfRequestComplete(request, CANCELLED) };
}

/// At unload: whoever came has been served in full.
pub(crate) fn check_visit() {
    let visits = OPENED.load(Ordering::SeqCst);
    check(CLEANUPS.load(Ordering::SeqCst) == visits);
    check(CLOSES.load(Ordering::SeqCst) == visits);
    check(ANSWERED.load(Ordering::SeqCst) == CONTROLS.load(Ordering::SeqCst));
    check(CANCELS.load(Ordering::SeqCst) == READS.load(Ordering::SeqCst));
}
