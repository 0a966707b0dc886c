//! Sins against KMDF.

use core::ffi::c_void;

use crate::raw::kmdf::*;
use crate::raw::nt::{IofCompleteRequest, KfRaiseIrql};
use crate::{Moment, Scene, base, sin_is};

/// Calls the framework when it is no longer bound, if that is the sin.
pub(crate) fn after_unbind() {
    if sin_is("wdf-after-unbind") {
        // SAFETY: the sin: the driver has unbound.
        unsafe { WdfObjectDelete(base::device()) };
    }
}

/// Commits the sin of that name; true when it took the request.
///
/// # Safety
/// As `sins::commit`.
#[allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "an arm is one sequence whose last call is wrong on purpose"
)]
pub(crate) unsafe fn commit(scene: Scene) -> bool {
    let Scene {
        moment,
        device,
        request,
        ..
    } = scene;
    // SAFETY: the caller's scene is real; what each arm does wrong is what it is
    // there for, and ends the run.
    unsafe {
        match moment {
            Moment::Load => at_load(device),
            Moment::Unload => {
                if sin_is("wdf-device-reference") {
                    WdfObjectReferenceActual(device, core::ptr::null_mut(), 0, core::ptr::null());
                }
            }
            Moment::Ioctl => {
                if sin_is("request-double") {
                    WdfRequestComplete(request, 0);
                    WdfRequestComplete(request, 0);
                    return true;
                } else if sin_is("request-information") {
                    WdfRequestCompleteWithInformation(request, 0, 1 << 20);
                    return true;
                } else if sin_is("request-delete") {
                    WdfObjectDelete(request);
                    return true;
                } else if sin_is("request-cancelable") {
                    WdfRequestMarkCancelable(request, never_cancelled);
                    WdfRequestComplete(request, 0);
                    return true;
                } else if sin_is("request-cancelable-twice") {
                    WdfRequestMarkCancelable(request, never_cancelled);
                    WdfRequestMarkCancelable(request, never_cancelled);
                    return true;
                } else if sin_is("request-unmarked-twice") {
                    WdfRequestMarkCancelable(request, never_cancelled);
                    WdfRequestUnmarkCancelable(request);
                    WdfRequestUnmarkCancelable(request);
                    return true;
                } else if sin_is("request-asked-while-cancelable") {
                    WdfRequestMarkCancelable(request, never_cancelled);
                    WdfRequestIsCanceled(request);
                    return true;
                } else if sin_is("request-after-completion") {
                    WdfRequestComplete(request, 0);
                    WdfRequestIsCanceled(request);
                    return true;
                } else if sin_is("request-pending-status") {
                    WdfRequestComplete(request, 0x103);
                    return true;
                } else if sin_is("request-irp-completed") {
                    IofCompleteRequest(WdfRequestWdmGetIrp(request), 0);
                    return true;
                }
            }
            // Never completed: found when the driver unloads.
            Moment::Read => return sin_is("request-forgotten"),
        }
    }
    false
}

unsafe extern "C" fn never_cancelled(_request: *mut c_void) {}
unsafe extern "C" fn timer(_timer: *mut c_void) {}
unsafe extern "C" fn read(_queue: *mut c_void, _request: *mut c_void, _length: usize) {}
unsafe extern "C" fn timer_stops_itself(timer: *mut c_void) {
    // SAFETY: at PASSIVE_LEVEL with the timer's handle; that it waits for this
    // very callback is the sin.
    unsafe { WdfTimerStop(timer, 1) };
}

/// # Safety
/// As `sins::commit`.
#[allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "an arm is one sequence whose last call is wrong on purpose"
)]
unsafe fn at_load(device: *mut c_void) {
    let mut plain = attributes(device);
    let mut handle = core::ptr::null_mut();
    let (plain, out) = (&raw mut plain, &raw mut handle);
    // SAFETY: as `commit`.
    unsafe {
        if sin_is("wdf-handle-garbage") {
            WdfObjectDelete(core::ptr::without_provenance_mut(0x1234_5678));
        } else if sin_is("wdf-handle-type") {
            WdfSpinLockAcquire(device);
        } else if sin_is("wdf-handle-dead") {
            WdfObjectCreate(plain, out);
            WdfObjectDelete(handle);
            WdfObjectDelete(handle);
        } else if sin_is("wdf-irql") {
            KfRaiseIrql(2);
            WdfObjectCreate(plain, out);
            let mut config = timer_config();
            WdfTimerCreate(&raw mut config, plain, out);
            WdfWaitLockCreate(plain, out);
            WdfWaitLockAcquire(handle, core::ptr::null());
        } else if sin_is("wdf-unimplemented") {
            // WdfDeviceSetPowerCapabilities, which no control device may call.
            type F = unsafe extern "C" fn(*mut Globals, *mut c_void, *mut c_void);
            let f: F = core::mem::transmute(function(96));
            f(globals(), device, core::ptr::null_mut());
        } else if sin_is("wdf-wrong-globals") {
            type F = unsafe extern "C" fn(*mut Globals, *mut c_void);
            let f: F = core::mem::transmute(function(208));
            f(core::ptr::null_mut(), device);
        } else if sin_is("wdf-reference") {
            WdfObjectCreate(plain, out);
            let none = core::ptr::null_mut();
            WdfObjectDereferenceActual(handle, none, 0, core::ptr::null());
            WdfObjectDereferenceActual(handle, none, 0, core::ptr::null());
        } else if sin_is("wdf-object-size") {
            (*plain).size = 8;
            WdfObjectCreate(plain, out);
        } else if sin_is("wdf-spinlock-twice") {
            WdfSpinLockCreate(plain, out);
            WdfSpinLockAcquire(handle);
            WdfSpinLockAcquire(handle);
        } else if sin_is("wdf-spinlock-release") {
            WdfSpinLockCreate(plain, out);
            KfRaiseIrql(2);
            WdfSpinLockRelease(handle);
        } else if sin_is("wdf-waitlock-twice") {
            WdfWaitLockCreate(plain, out);
            WdfWaitLockAcquire(handle, core::ptr::null());
            WdfWaitLockAcquire(handle, core::ptr::null());
        } else if sin_is("wdf-waitlock-release") {
            WdfWaitLockCreate(plain, out);
            WdfWaitLockRelease(handle);
        } else if sin_is("wdf-timer-orphan") {
            let mut config = timer_config();
            WdfTimerCreate(&raw mut config, core::ptr::null_mut(), out);
        } else if sin_is("wdf-timer-waits-for-itself") {
            let mut config = timer_config();
            config.function = timer_stops_itself;
            let mut passive = attributes(device);
            // WdfExecutionLevelPassive
            passive.execution = 2;
            WdfTimerCreate(&raw mut config, &raw mut passive, out);
            WdfTimerStart(handle, -1);
        } else if sin_is("wdf-context-untyped") {
            let mut bare = attributes(core::ptr::null_mut());
            WdfObjectAllocateContext(device, &raw mut bare, core::ptr::null_mut());
        } else if sin_is("wdf-init-freed-twice") {
            // The entry's own was consumed by WdfDeviceCreate.
            WdfDeviceInitFree(base::consumed_init());
        } else if sin_is("wdf-queue-default-twice") {
            let mut config = QueueConfig {
                size: 0x60,
                dispatch: 2,
                power: 2,
                allow_zero: 0,
                default: 1,
                io_default: 0,
                read: Some(read),
                write: 0,
                ioctl: None,
                internal: 0,
                stop: 0,
                resume: 0,
                cancelled: 0,
                presented: u32::MAX,
                driver: core::ptr::null_mut(),
            };
            WdfIoQueueCreate(device, &raw mut config, core::ptr::null_mut(), out);
        } else if sin_is("wdf-finish-twice") {
            WdfControlFinishInitializing(device);
        }
    }
}

fn timer_config() -> TimerConfig {
    TimerConfig {
        size: 0x28,
        function: timer,
        period: 0,
        serialize: 0,
        tolerance: 0,
        high_resolution: 0,
    }
}
