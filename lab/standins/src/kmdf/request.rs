//! Requests: state, cancelability, completion.

use std::ffi::c_void;

use super::abi::{Globals, Handle, RequestCancel, RequestParameters, major};
use super::loader::Table;
use super::object::check_size;
use super::world::{Data, Place, Request, World, changed, enter, lock};
use super::{cancel, file, io, object, present};
use crate::core::{Rule, callout, irql};
use crate::nt::arg;
use crate::nt::types::{IRP, status};

/// Puts this file's functions into the table.
pub fn register(table: &mut Table) {
    let functions: [(&str, *const c_void); 16] = [
        ("WdfRequestComplete", WdfRequestComplete as _),
        (
            "WdfRequestCompleteWithInformation",
            WdfRequestCompleteWithInformation as _,
        ),
        ("WdfRequestSetInformation", WdfRequestSetInformation as _),
        ("WdfRequestGetInformation", WdfRequestGetInformation as _),
        ("WdfRequestGetParameters", WdfRequestGetParameters as _),
        ("WdfRequestGetFileObject", WdfRequestGetFileObject as _),
        ("WdfRequestGetIoQueue", WdfRequestGetIoQueue as _),
        (
            "WdfRequestGetRequestorMode",
            WdfRequestGetRequestorMode as _,
        ),
        ("WdfRequestWdmGetIrp", WdfRequestWdmGetIrp as _),
        (
            "WdfRequestForwardToIoQueue",
            WdfRequestForwardToIoQueue as _,
        ),
        ("WdfRequestRequeue", WdfRequestRequeue as _),
        ("WdfRequestMarkCancelable", WdfRequestMarkCancelable as _),
        (
            "WdfRequestMarkCancelableEx",
            WdfRequestMarkCancelableEx as _,
        ),
        (
            "WdfRequestUnmarkCancelable",
            WdfRequestUnmarkCancelable as _,
        ),
        ("WdfRequestIsCanceled", WdfRequestIsCanceled as _),
        ("WdfRequestStopAcknowledge", WdfRequestStopAcknowledge as _),
    ];
    for (name, function) in functions {
        table.set(name, function);
    }
}

impl World {
    /// Whether a request is not completed yet.
    pub fn is_open(&self, handle: Handle) -> bool {
        let data = self.objects.get(&handle).map(|o| &o.data);
        matches!(data, Some(Data::Request(r)) if r.place != Place::Completed)
    }

    /// A request that the driver owns now.
    pub fn owned(&mut self, handle: Handle, api: &str) -> &mut Request {
        let r = self.request(handle, api);
        match r.place {
            Place::Driver(_) => r,
            Place::Completed if api.starts_with("WdfRequestComplete") => {
                violate!(
                    Rule::DoubleCompletion,
                    "{api}: request {handle:#x} was completed"
                )
            }
            place => violate!(
                Rule::InvalidReqAccess,
                "{api}: the driver does not own request {handle:#x} ({place:?})"
            ),
        }
    }
}

/// The framework gives a request to the driver outside of a queue.
pub fn hand_to_driver(handle: Handle) {
    let mut world = lock();
    let r = world.request(handle, "create");
    r.place = Place::Driver(0);
    r.seen = true;
}

/// Bytes a request's information may claim.
fn limit(r: &Request) -> usize {
    match r.major {
        major::READ | major::WRITE | major::DEVICE_CONTROL => r.parameters[0] & 0xFFFF_FFFF,
        _ => usize::MAX,
    }
}

/// Completes a request, for the driver or for the framework.
pub fn complete(handle: Handle, result: i32, information: usize) {
    let (irp, from, file, kind) = {
        let mut world = lock();
        let r = world.request(handle, "completion");
        let from = r.place;
        r.place = Place::Completed;
        let (irp, file, kind) = (r.irp, r.file, r.major);
        if let Place::Driver(queue) | Place::Queued(queue) = from
            && let Some(Data::Queue(q)) = world.objects.get_mut(&queue).map(|o| &mut o.data)
        {
            q.owned.remove(&handle);
            q.waiting.retain(|w| *w != handle);
        }
        world.by_irp.remove(&(irp as usize));
        (irp, from, file, kind)
    };
    object::delete(handle, "completed");
    io::finish(irp, result, information);
    if let Some(Data::File(f)) = lock().objects.get_mut(&file).map(|o| &mut o.data) {
        f.requests -= 1;
    }
    if kind == major::CREATE {
        file::created(file, result);
    }
    changed();
    if let Place::Driver(queue) = from
        && queue != 0
    {
        settle_later(queue);
    }
}

/// A place in the queue has become free.
fn settle_later(queue: Handle) {
    present::settle(queue);
    present::present(queue);
}

fn driver_completes(
    globals: *mut Globals,
    handle: Handle,
    result: i32,
    information: Option<usize>,
    api: &str,
) {
    irql::require_max_rule(Rule::IrqlKmdf, api, irql::DISPATCH_LEVEL);
    if result == status::PENDING {
        violate!(
            Rule::LabBadParameter,
            "{api}: a request cannot be completed with STATUS_PENDING"
        );
    }
    let information = {
        let mut world = enter(globals, api);
        let r = world.owned(handle, api);
        if r.cancel.is_some() {
            violate!(
                Rule::ReqNotCanceled,
                "{api}: request {handle:#x} is still marked cancelable (WdfRequestUnmarkCancelable)"
            );
        }
        let information = information.unwrap_or(r.information);
        // STATUS_SEVERITY_ERROR carries no data back.
        let error = result.cast_unsigned() >> 30 == 3;
        if !error && information > limit(r) {
            violate!(
                Rule::LabRequestInformation,
                "{api}: information {information} exceeds the buffer of {} bytes",
                limit(r)
            );
        }
        information
    };
    complete(handle, result, information);
}

unsafe extern "system" fn WdfRequestComplete(globals: *mut Globals, handle: Handle, result: i32) {
    driver_completes(globals, handle, result, None, "WdfRequestComplete");
}

unsafe extern "system" fn WdfRequestCompleteWithInformation(
    globals: *mut Globals,
    handle: Handle,
    result: i32,
    information: usize,
) {
    let api = "WdfRequestCompleteWithInformation";
    driver_completes(globals, handle, result, Some(information), api);
}

unsafe extern "system" fn WdfRequestSetInformation(
    globals: *mut Globals,
    handle: Handle,
    information: usize,
) {
    let api = "WdfRequestSetInformation";
    enter(globals, api).owned(handle, api).information = information;
}

unsafe extern "system" fn WdfRequestGetInformation(globals: *mut Globals, handle: Handle) -> usize {
    let api = "WdfRequestGetInformation";
    enter(globals, api).owned(handle, api).information
}

unsafe extern "system" fn WdfRequestGetParameters(
    globals: *mut Globals,
    handle: Handle,
    out: *mut RequestParameters,
) {
    let api = "WdfRequestGetParameters";
    irql::require_max_rule(Rule::IrqlKmdf, api, irql::DISPATCH_LEVEL);
    // SAFETY: by the function's contract.
    let out = unsafe { arg(out, api, "Parameters") };
    check_size::<RequestParameters>(usize::from(out.size), api, "WDF_REQUEST_PARAMETERS");
    let mut world = enter(globals, api);
    let r = world.owned(handle, api);
    out.minor = r.minor;
    out.kind = u32::from(r.major);
    let low = |n: usize| r.parameters[n] & 0xFFFF_FFFF;
    out.parameters = match r.major {
        // Length, Key, DeviceOffset.
        major::READ | major::WRITE => [low(0), low(1), r.parameters[2], 0],
        // OutputBufferLength, InputBufferLength, IoControlCode, Type3InputBuffer.
        major::DEVICE_CONTROL => [low(0), low(1), low(2), r.parameters[3]],
        _ => r.parameters,
    };
}

unsafe extern "system" fn WdfRequestGetFileObject(globals: *mut Globals, handle: Handle) -> Handle {
    let api = "WdfRequestGetFileObject";
    let file = enter(globals, api).owned(handle, api).file;
    file::visible(file)
}

unsafe extern "system" fn WdfRequestGetIoQueue(globals: *mut Globals, handle: Handle) -> Handle {
    let api = "WdfRequestGetIoQueue";
    match enter(globals, api).owned(handle, api).place {
        Place::Driver(queue) => queue,
        _ => 0,
    }
}

unsafe extern "system" fn WdfRequestGetRequestorMode(globals: *mut Globals, handle: Handle) -> i8 {
    let api = "WdfRequestGetRequestorMode";
    let irp = enter(globals, api).owned(handle, api).irp;
    // SAFETY: the IRP of a request the driver owns.
    unsafe { (*irp).RequestorMode }
}

unsafe extern "system" fn WdfRequestWdmGetIrp(globals: *mut Globals, handle: Handle) -> *mut IRP {
    let api = "WdfRequestWdmGetIrp";
    enter(globals, api).owned(handle, api).irp
}

unsafe extern "system" fn WdfRequestForwardToIoQueue(
    globals: *mut Globals,
    handle: Handle,
    to: Handle,
) -> i32 {
    let api = "WdfRequestForwardToIoQueue";
    irql::require_max_rule(Rule::IrqlKmdf, api, irql::DISPATCH_LEVEL);
    let (from, canceled) = {
        let mut world = enter(globals, api);
        let device = world.queue(to, api).device;
        let accepting = world.queue(to, api).accepting;
        let r = world.owned(handle, api);
        if r.cancel.is_some() {
            violate!(
                Rule::ReqNotCanceled,
                "{api}: request {handle:#x} is marked cancelable"
            );
        }
        let Place::Driver(from) = r.place else {
            return status::INVALID_DEVICE_REQUEST;
        };
        if r.device != device || from == to {
            return status::INVALID_DEVICE_REQUEST;
        }
        if !accepting {
            return status::WDF_BUSY;
        }
        r.place = Place::Queued(to);
        let canceled = r.canceled;
        world.queue(to, api).waiting.push_back(handle);
        if let Some(Data::Queue(q)) = world.objects.get_mut(&from).map(|o| &mut o.data) {
            q.owned.remove(&handle);
        }
        (from, canceled)
    };
    if canceled {
        cancel::cancel(handle);
    }
    changed();
    if from != 0 {
        settle_later(from);
    }
    present::present(to);
    status::SUCCESS
}

unsafe extern "system" fn WdfRequestRequeue(globals: *mut Globals, handle: Handle) -> i32 {
    let api = "WdfRequestRequeue";
    irql::require_max_rule(Rule::IrqlKmdf, api, irql::DISPATCH_LEVEL);
    let canceled = {
        let mut world = enter(globals, api);
        let r = world.owned(handle, api);
        let Place::Driver(queue) = r.place else {
            return status::INVALID_DEVICE_REQUEST;
        };
        let canceled = r.canceled;
        if queue == 0 {
            return status::INVALID_DEVICE_REQUEST;
        }
        let q = world.queue(queue, api);
        if q.config.dispatch != super::abi::consts::MANUAL {
            return status::INVALID_DEVICE_REQUEST;
        }
        q.owned.remove(&handle);
        q.waiting.push_front(handle);
        world.request(handle, api).place = Place::Queued(queue);
        canceled
    };
    if canceled {
        cancel::cancel(handle);
    }
    status::SUCCESS
}

/// Marks a request; `Err` when it was cancelled before.
fn mark(
    globals: *mut Globals,
    handle: Handle,
    routine: Option<RequestCancel>,
    api: &str,
) -> Result<(), RequestCancel> {
    irql::require_max_rule(Rule::IrqlKmdf, api, irql::DISPATCH_LEVEL);
    let Some(routine) = routine else {
        violate!(Rule::LabBadParameter, "{api}: no EvtRequestCancel");
    };
    let mut world = enter(globals, api);
    let r = world.owned(handle, api);
    if r.cancel.is_some() || r.cancel_called {
        violate!(
            Rule::MarkCancOnCancReq,
            "{api}: request {handle:#x} is marked already"
        );
    }
    if r.canceled {
        r.cancel_called = true;
        return Err(routine);
    }
    r.cancel = Some(routine);
    Ok(())
}

unsafe extern "system" fn WdfRequestMarkCancelable(
    globals: *mut Globals,
    handle: Handle,
    routine: Option<RequestCancel>,
) {
    if let Err(routine) = mark(globals, handle, routine, "WdfRequestMarkCancelable") {
        // Cancelled already: the callback comes before this returns.
        callout::call_at(
            "EvtRequestCancel",
            routine as usize,
            irql::current(),
            || {
                // SAFETY: the driver's callback for a request it owns.
                unsafe { routine(handle) }
            },
        );
    }
}

unsafe extern "system" fn WdfRequestMarkCancelableEx(
    globals: *mut Globals,
    handle: Handle,
    routine: Option<RequestCancel>,
) -> i32 {
    let api = "WdfRequestMarkCancelableEx";
    match mark(globals, handle, routine, api) {
        Ok(()) => status::SUCCESS,
        Err(_) => {
            // The driver completes it; the callback will not come.
            enter(globals, api).owned(handle, api).cancel_called = false;
            status::CANCELLED
        }
    }
}

unsafe extern "system" fn WdfRequestUnmarkCancelable(globals: *mut Globals, handle: Handle) -> i32 {
    let api = "WdfRequestUnmarkCancelable";
    irql::require_max_rule(Rule::IrqlKmdf, api, irql::DISPATCH_LEVEL);
    let mut world = enter(globals, api);
    let r = world.owned(handle, api);
    if r.cancel.take().is_some() {
        status::SUCCESS
    } else if r.cancel_called {
        status::CANCELLED
    } else {
        violate!(
            Rule::MarkCancOnCancReq,
            "{api}: request {handle:#x} is not marked cancelable"
        )
    }
}

unsafe extern "system" fn WdfRequestIsCanceled(globals: *mut Globals, handle: Handle) -> u8 {
    let api = "WdfRequestIsCanceled";
    irql::require_max_rule(Rule::IrqlKmdf, api, irql::DISPATCH_LEVEL);
    let mut world = enter(globals, api);
    let r = world.owned(handle, api);
    if r.cancel.is_some() {
        violate!(
            Rule::ReqIsCancOnCancReq,
            "{api}: request {handle:#x} is marked cancelable"
        );
    }
    u8::from(r.canceled)
}

unsafe extern "system" fn WdfRequestStopAcknowledge(
    globals: *mut Globals,
    _handle: Handle,
    _requeue: u8,
) {
    let api = "WdfRequestStopAcknowledge";
    drop(enter(globals, api));
    violate!(
        Rule::LabUnimplemented,
        "{api}: a control device has no power-managed queue"
    )
}
