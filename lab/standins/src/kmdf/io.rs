//! IRPs from Wine: how they come in, are cancelled, and go back.
//!
//! Wine's ntoskrnl calls the dispatch routine on its one request thread. The
//! lab marks every IRP pending and hands it to its file's thread. An IRP that
//! is done stays in memory for a while: Wine may still ask to cancel it, and
//! would otherwise touch freed memory.

use std::collections::VecDeque;
use std::ffi::c_void;
use std::sync::Mutex;

use windows_sys::Win32::System::Memory::{GetProcessHeap, HeapFree};

use super::abi::{Handle, major};
use super::cancel;
use super::file::{self, Job};
use super::object::apply;
use super::world::{Data, Kind, Place, Request, lock};
use crate::nt::irp::set_cancel_routine;
use crate::nt::types::{DEVICE_OBJECT, IO_STACK_LOCATION, IRP, sl, status};
use crate::nt::{arg, wine, workitem};

/// IRP flag: the system buffer is freed with the IRP.
const DEALLOCATE_BUFFER: u32 = 0x20;
/// IRPs kept after completion.
const QUARANTINE: usize = 256;
/// Fills output that the driver has not written yet.
const FRESH: u8 = 0xA5;

struct Done(*mut IRP);

// SAFETY: a completed IRP belongs to nobody but the quarantine.
unsafe impl Send for Done {}

static DONE: Mutex<VecDeque<Done>> = Mutex::new(VecDeque::new());

fn device_of(wdm: *mut DEVICE_OBJECT) -> Option<Handle> {
    let world = lock();
    world
        .objects
        .iter()
        .find(|(_, o)| matches!(&o.data, Data::Device(d) if d.wdm == wdm))
        .map(|(h, _)| *h)
}

/// MajorFunction of a KMDF driver.
pub unsafe extern "system" fn dispatch(wdm: *mut DEVICE_OBJECT, irp: *mut IRP) -> i32 {
    // SAFETY: Wine passes a live IRP that nobody else touches yet.
    let packet = unsafe { arg(irp, "dispatch", "Irp") };
    // SAFETY: its current stack location is this driver's.
    let location = unsafe { arg(packet.CurrentStackLocation, "dispatch", "stack location") };
    location.Control |= sl::PENDING_RETURNED;
    let kind = location.MajorFunction;
    let wdm_file = location.FileObject;
    let result = match (device_of(wdm), kind) {
        (None, _) => Err(status::NO_SUCH_DEVICE),
        (Some(device), major::CREATE) => accept(device, wdm_file as usize)
            .and_then(|()| file::open(device, wdm_file))
            .map(|file| (file, Job::Create(request(device, file, packet, location)))),
        (Some(_), major::CLOSE) => known(wdm_file as usize).map(|file| {
            // Wine forgets the file object once this returns; keep it.
            // SAFETY: Wine's object, alive during its own request.
            unsafe { wine::ObfReferenceObject(wdm_file.cast()) };
            (file, Job::Close(irp as usize))
        }),
        (Some(device), major::READ | major::WRITE | major::DEVICE_CONTROL) => {
            known(wdm_file as usize)
                .map(|file| (file, Job::Io(request(device, file, packet, location))))
        }
        _ => Err(status::INVALID_DEVICE_REQUEST),
    };
    match result {
        Ok((file, job)) => {
            if let Job::Create(handle) | Job::Io(handle) = job {
                set_cancel_routine(irp, Some(cancel));
                if packet.Cancel != 0 {
                    cancel::cancel(handle);
                }
            }
            if !file::send(file, job) {
                finish(irp, status::FILE_CLOSED, 0);
            }
        }
        Err(result) => finish(irp, if kind == major::CLOSE { 0 } else { result }, 0),
    }
    status::PENDING
}

/// Whether a device takes another open.
fn accept(device: Handle, wdm_file: usize) -> Result<(), i32> {
    let mut world = lock();
    if world.unloading {
        return Err(status::DELETE_PENDING);
    }
    let open = world
        .objects
        .values()
        .any(|o| matches!(&o.data, Data::File(f) if f.device == device));
    let d = world.device(device, "open");
    if !d.finished {
        return Err(status::INVALID_DEVICE_STATE);
    }
    if d.exclusive && open {
        return Err(status::ACCESS_DENIED);
    }
    if wdm_file == 0 {
        return Err(status::INVALID_PARAMETER);
    }
    Ok(())
}

/// The file object of a request; a refused open has none.
fn known(wdm_file: usize) -> Result<Handle, i32> {
    lock()
        .by_file
        .get(&wdm_file)
        .copied()
        .ok_or(status::FILE_CLOSED)
}

/// Makes the request object of an IRP.
fn request(device: Handle, file: Handle, irp: &mut IRP, location: &IO_STACK_LOCATION) -> Handle {
    prepare_output(irp, location);
    let mut world = lock();
    let template = world.device(device, "request").request_attributes;
    let data = Request {
        irp,
        device,
        file,
        place: Place::Arriving,
        seen: false,
        canceled: false,
        cancel: None,
        cancel_called: false,
        information: 0,
        major: location.MajorFunction,
        minor: location.MinorFunction,
        parameters: location.Parameters,
        memory: [0; 2],
        mdls: Vec::new(),
    };
    let key = data.irp as usize;
    let handle = world.insert(Kind::Request, device, Data::Request(Box::new(data)));
    if let Some(template) = template {
        apply(world.any(handle, "request"), &template);
    }
    world.by_irp.insert(key, handle);
    world.file(file, "request").requests += 1;
    handle
}

/// Output that the driver does not write must not look like zeros.
fn prepare_output(irp: &IRP, location: &IO_STACK_LOCATION) {
    let low = |n: usize| location.Parameters[n] & 0xFFFF_FFFF;
    let (start, end) = match location.MajorFunction {
        major::READ => (0, low(0)),
        major::DEVICE_CONTROL if low(2) & 3 == 0 => (low(1), low(0)),
        _ => return,
    };
    if end > start && !irp.SystemBuffer.is_null() {
        let at = irp.SystemBuffer.cast::<u8>().wrapping_add(start);
        // SAFETY: Wine's buffer holds the larger of input and output.
        unsafe { std::ptr::write_bytes(at, FRESH, end - start) };
    }
}

/// Wine cancels an IRP: user mode asked, or its process is gone. Called on
/// Wine's request thread with Wine's completion lock held, so the work is done
/// elsewhere.
unsafe extern "system" fn cancel(_device: *mut DEVICE_OBJECT, irp: *mut IRP) {
    // SAFETY: a live IRP of Wine's (see the quarantine).
    let level = unsafe { (*irp).CancelIrql };
    // SAFETY: the caller holds it and leaves its release to this routine.
    unsafe { wine::IoReleaseCancelSpinLock(level) };
    let handle = lock().by_irp.get(&(irp as usize)).copied();
    if let Some(handle) = handle {
        workitem::submit(move || cancel::cancel(handle));
    }
}

/// Gives an IRP back to Wine with its result.
pub fn finish(irp: *mut IRP, result: i32, information: usize) {
    set_cancel_routine(irp, None);
    // SAFETY: an IRP of Wine's that this driver owns until the call below.
    let packet = unsafe { arg(irp, "completion", "Irp") };
    packet.IoStatus.Status = result;
    packet.IoStatus.Information = information;
    // SAFETY: its current stack location is this driver's.
    let location = unsafe { arg(packet.CurrentStackLocation, "completion", "stack location") };
    packet.PendingReturned = u8::from(location.Control & sl::PENDING_RETURNED != 0);
    location.Control = 0;
    packet.CurrentLocation += 1;
    packet.CurrentStackLocation = packet.CurrentStackLocation.wrapping_add(1);
    let buffer = packet.SystemBuffer;
    let owned = packet.Flags & DEALLOCATE_BUFFER != 0 && !buffer.is_null();
    let Some(routine) = location.CompletionRoutine else {
        return;
    };
    let context = location.Context;
    // SAFETY: Wine's routine for this IRP; it takes the result to the client.
    let answer = unsafe { routine(std::ptr::null_mut(), irp, context) };
    if answer == status::MORE_PROCESSING_REQUIRED {
        // Wine's request thread has not left the dispatch yet; it reports the
        // result and frees the IRP itself.
        return;
    }
    if owned {
        free_buffer(buffer);
    }
    let mut done = DONE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    done.push_back(Done(irp));
    if done.len() > QUARANTINE
        && let Some(oldest) = done.pop_front()
    {
        // SAFETY: completed, out of the quarantine, freed once.
        unsafe { wine::IoFreeIrp(oldest.0) };
    }
}

fn free_buffer(buffer: *mut c_void) {
    // SAFETY: takes no argument.
    let heap = unsafe { GetProcessHeap() };
    // SAFETY: Wine allocated it there and left its release to the completion.
    unsafe { HeapFree(heap, 0, buffer) };
}

/// Completes IRP_MJ_CLOSE; null when the lab closed the file itself.
pub fn finish_close(irp: *mut IRP) {
    if irp.is_null() {
        return;
    }
    // SAFETY: Wine's pending close.
    let packet = unsafe { arg(irp, "close", "Irp") };
    let file = packet.OriginalFileObject;
    finish(irp, status::SUCCESS, 0);
    // SAFETY: referenced when the close came in.
    unsafe { wine::ObfDereferenceObject(file.cast()) };
}
