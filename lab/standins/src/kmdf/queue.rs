//! I/O queues: sequential, parallel, manual; their states.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::c_void;

use super::abi::{Attributes, Globals, Handle, QueueConfig, QueueState, consts, major};
use super::cancel::{purge, wait_idle};
use super::loader::Table;
use super::object::{self, ParentRule, check_size, template};
use super::present::{present, settle};
use super::world::{Data, Kind, Place, Queue, World, enter, lock};
use crate::core::{Rule, callout, fault, irql};
use crate::nt::arg;
use crate::nt::types::status;

/// Puts this file's functions into the table.
pub fn register(table: &mut Table) {
    let functions: [(&str, *const c_void); 13] = [
        ("WdfIoQueueCreate", WdfIoQueueCreate as _),
        ("WdfIoQueueGetState", WdfIoQueueGetState as _),
        ("WdfIoQueueGetDevice", WdfIoQueueGetDevice as _),
        (
            "WdfIoQueueRetrieveNextRequest",
            WdfIoQueueRetrieveNextRequest as _,
        ),
        ("WdfIoQueueStart", WdfIoQueueStart as _),
        ("WdfIoQueueStop", WdfIoQueueStop as _),
        (
            "WdfIoQueueStopSynchronously",
            WdfIoQueueStopSynchronously as _,
        ),
        ("WdfIoQueueDrain", WdfIoQueueDrain as _),
        (
            "WdfIoQueueDrainSynchronously",
            WdfIoQueueDrainSynchronously as _,
        ),
        ("WdfIoQueuePurge", WdfIoQueuePurge as _),
        (
            "WdfIoQueuePurgeSynchronously",
            WdfIoQueuePurgeSynchronously as _,
        ),
        ("WdfDeviceGetDefaultQueue", WdfDeviceGetDefaultQueue as _),
        (
            "WdfDeviceConfigureRequestDispatching",
            WdfDeviceConfigureRequestDispatching as _,
        ),
    ];
    for (name, function) in functions {
        table.set(name, function);
    }
}

unsafe extern "system" fn WdfIoQueueCreate(
    globals: *mut Globals,
    device: Handle,
    config: *const QueueConfig,
    attributes: *const Attributes,
    out: *mut Handle,
) -> i32 {
    let api = "WdfIoQueueCreate";
    irql::require_max_rule(Rule::IrqlKmdf, api, irql::DISPATCH_LEVEL);
    enter(globals, api).device(device, api);
    // SAFETY: by the function's contract.
    let config = *unsafe { arg(config.cast_mut(), api, "Config") };
    check_size::<QueueConfig>(config.size as usize, api, "WDF_IO_QUEUE_CONFIG");
    check_config(&config, api);
    // SAFETY: by the function's contract.
    let template = unsafe { template(attributes, ParentRule::Optional, api) };
    if fault::alloc_should_fail_named(api) {
        return status::INSUFFICIENT_RESOURCES;
    }
    let mut world = lock();
    if config.default_queue != 0 && world.device(device, api).default_queue != 0 {
        violate!(
            Rule::LabWdfQueue,
            "{api}: {device:#x} has a default queue already"
        );
    }
    let parent = if template.parent == 0 {
        device
    } else {
        template.parent
    };
    if !under(&world, parent, device) {
        violate!(
            Rule::ParentObjectCheck,
            "{api}: the parent is not the device or under it"
        );
    }
    let queue = Queue {
        device,
        config,
        accepting: true,
        dispatching: true,
        waiting: VecDeque::new(),
        owned: BTreeSet::new(),
        callbacks: 0,
        cancelled: VecDeque::new(),
        notify: None,
    };
    let handle = world.insert(Kind::Queue, parent, Data::Queue(Box::new(queue)));
    object::apply(world.any(handle, api), &template);
    if config.default_queue != 0 {
        world.device(device, api).default_queue = handle;
    }
    drop(world);
    // SAFETY: the driver's variable, or null.
    unsafe { object::store(out, handle) };
    status::SUCCESS
}

fn check_config(config: &QueueConfig, api: &str) {
    let handlers = config.io_default.is_some()
        || config.io_read.is_some()
        || config.io_write.is_some()
        || config.io_control.is_some()
        || config.io_internal.is_some();
    match config.dispatch {
        consts::MANUAL if handlers => {
            violate!(
                Rule::LabWdfQueue,
                "{api}: a manual queue has no EvtIo callbacks"
            )
        }
        consts::SEQUENTIAL | consts::PARALLEL if !handlers => {
            violate!(Rule::LabWdfQueue, "{api}: the queue has no EvtIo callback")
        }
        consts::MANUAL | consts::SEQUENTIAL => {}
        consts::PARALLEL if config.presented > 0 => {}
        consts::PARALLEL => {
            violate!(
                Rule::LabWdfQueue,
                "{api}: NumberOfPresentedRequests is 0, nothing would come"
            )
        }
        other => violate!(Rule::LabBadParameter, "{api}: DispatchType {other}"),
    }
    if config.power_managed == 1 {
        violate!(
            Rule::LabWdfQueue,
            "{api}: a control device's queue is not power-managed"
        );
    }
    if config.driver != 0 {
        violate!(Rule::LabUnimplemented, "{api}: Driver");
    }
}

fn under(world: &World, mut child: Handle, ancestor: Handle) -> bool {
    loop {
        if child == ancestor {
            return true;
        }
        match world.objects.get(&child) {
            Some(object) => child = object.parent,
            None => return false,
        }
    }
}

unsafe extern "system" fn WdfIoQueueGetState(
    globals: *mut Globals,
    queue: Handle,
    queued: *mut u32,
    owned: *mut u32,
) -> u32 {
    let api = "WdfIoQueueGetState";
    let (state, waiting, with_driver) = {
        let mut world = enter(globals, api);
        let q = world.queue(queue, api);
        let state = u32::from(q.accepting)
            | u32::from(q.dispatching) << 1
            | u32::from(q.waiting.is_empty()) << 2
            | u32::from(q.owned.is_empty()) << 3;
        (state, q.waiting.len(), q.owned.len())
    };
    // SAFETY: the driver's variable, or null.
    unsafe { object::store(queued, u32::try_from(waiting).unwrap_or(u32::MAX)) };
    // SAFETY: the driver's variable, or null.
    unsafe { object::store(owned, u32::try_from(with_driver).unwrap_or(u32::MAX)) };
    state
}

unsafe extern "system" fn WdfIoQueueGetDevice(globals: *mut Globals, queue: Handle) -> Handle {
    let api = "WdfIoQueueGetDevice";
    enter(globals, api).queue(queue, api).device
}

unsafe extern "system" fn WdfDeviceGetDefaultQueue(
    globals: *mut Globals,
    device: Handle,
) -> Handle {
    let api = "WdfDeviceGetDefaultQueue";
    enter(globals, api).device(device, api).default_queue
}

unsafe extern "system" fn WdfDeviceConfigureRequestDispatching(
    globals: *mut Globals,
    device: Handle,
    queue: Handle,
    kind: u32,
) -> i32 {
    let api = "WdfDeviceConfigureRequestDispatching";
    irql::require_max_rule(Rule::IrqlKmdf, api, irql::DISPATCH_LEVEL);
    if fault::alloc_should_fail_named(api) {
        return status::INSUFFICIENT_RESOURCES;
    }
    let mut world = enter(globals, api);
    if world.queue(queue, api).device != device {
        violate!(
            Rule::LabBadParameter,
            "{api}: queue {queue:#x} is not of device {device:#x}"
        );
    }
    let served = match u8::try_from(kind) {
        Ok(kind @ (major::READ | major::WRITE | major::DEVICE_CONTROL)) => kind,
        Ok(major::CREATE | major::INTERNAL_DEVICE_CONTROL) => {
            violate!(Rule::LabUnimplemented, "{api}: RequestType {kind}")
        }
        _ => return status::INVALID_PARAMETER,
    };
    let dispatch = &mut world.device(device, api).dispatch;
    if dispatch.contains_key(&served) {
        return status::WDF_BUSY;
    }
    dispatch.insert(served, queue);
    status::SUCCESS
}

unsafe extern "system" fn WdfIoQueueRetrieveNextRequest(
    globals: *mut Globals,
    queue: Handle,
    out: *mut Handle,
) -> i32 {
    let api = "WdfIoQueueRetrieveNextRequest";
    irql::require_max_rule(Rule::IrqlKmdf, api, irql::DISPATCH_LEVEL);
    // SAFETY: by the function's contract.
    let out = unsafe { arg(out, api, "OutRequest") };
    *out = 0;
    let mut world = enter(globals, api);
    let q = world.queue(queue, api);
    if q.config.dispatch == consts::PARALLEL {
        return status::INVALID_DEVICE_STATE;
    }
    if !q.dispatching {
        return status::WDF_PAUSED;
    }
    let Some(handle) = q.waiting.pop_front() else {
        return status::NO_MORE_ENTRIES;
    };
    q.owned.insert(handle);
    let r = world.request(handle, api);
    r.place = Place::Driver(queue);
    r.seen = true;
    *out = handle;
    status::SUCCESS
}

unsafe extern "system" fn WdfIoQueueStart(globals: *mut Globals, queue: Handle) {
    let api = "WdfIoQueueStart";
    irql::require_max_rule(Rule::IrqlKmdf, api, irql::DISPATCH_LEVEL);
    {
        let mut world = enter(globals, api);
        let q = world.queue(queue, api);
        q.accepting = true;
        q.dispatching = true;
    }
    present(queue);
}

/// Sets what to call when idle; a second one at a time is refused.
fn notify(
    globals: *mut Globals,
    queue: Handle,
    api: &str,
    callback: Option<QueueState>,
    context: *mut c_void,
    drain: bool,
    change: impl FnOnce(&mut Queue),
) {
    irql::require_max_rule(Rule::IrqlKmdf, api, irql::DISPATCH_LEVEL);
    let mut world = enter(globals, api);
    let q = world.queue(queue, api);
    if q.notify.is_some() {
        violate!(
            Rule::LabWdfQueue,
            "{api}: an earlier stop, drain or purge is not finished"
        );
    }
    q.notify = Some((callback, context as usize, drain));
    change(q);
}

unsafe extern "system" fn WdfIoQueueStop(
    globals: *mut Globals,
    queue: Handle,
    callback: Option<QueueState>,
    context: *mut c_void,
) {
    notify(
        globals,
        queue,
        "WdfIoQueueStop",
        callback,
        context,
        false,
        |q| q.dispatching = false,
    );
    settle(queue);
}

unsafe extern "system" fn WdfIoQueueDrain(
    globals: *mut Globals,
    queue: Handle,
    callback: Option<QueueState>,
    context: *mut c_void,
) {
    notify(
        globals,
        queue,
        "WdfIoQueueDrain",
        callback,
        context,
        true,
        |q| q.accepting = false,
    );
    settle(queue);
}

unsafe extern "system" fn WdfIoQueuePurge(
    globals: *mut Globals,
    queue: Handle,
    callback: Option<QueueState>,
    context: *mut c_void,
) {
    notify(
        globals,
        queue,
        "WdfIoQueuePurge",
        callback,
        context,
        true,
        |q| q.accepting = false,
    );
    purge(queue);
}

fn synchronously(globals: *mut Globals, queue: Handle, api: &str, change: impl FnOnce(&mut Queue)) {
    irql::require_exact_rule(Rule::IrqlKmdf, api, irql::PASSIVE_LEVEL);
    if callout::names().iter().any(|n| n.starts_with("EvtIo")) {
        violate!(
            Rule::LabWdfQueue,
            "{api} inside a queue's callback would wait for itself"
        );
    }
    change(enter(globals, api).queue(queue, api));
}

unsafe extern "system" fn WdfIoQueueStopSynchronously(globals: *mut Globals, queue: Handle) {
    synchronously(globals, queue, "WdfIoQueueStopSynchronously", |q| {
        q.dispatching = false
    });
    wait_idle(queue, false);
}

unsafe extern "system" fn WdfIoQueueDrainSynchronously(globals: *mut Globals, queue: Handle) {
    synchronously(globals, queue, "WdfIoQueueDrainSynchronously", |q| {
        q.accepting = false
    });
    wait_idle(queue, true);
}

unsafe extern "system" fn WdfIoQueuePurgeSynchronously(globals: *mut Globals, queue: Handle) {
    synchronously(globals, queue, "WdfIoQueuePurgeSynchronously", |q| {
        q.accepting = false
    });
    purge(queue);
    wait_idle(queue, true);
}
