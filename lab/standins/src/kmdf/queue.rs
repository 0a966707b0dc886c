//! I/O queues: sequential, parallel, manual; their states; cancellation.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::c_void;
use std::time::Duration;

use super::abi::{
    Attributes, Globals, Handle, ObjectCallback, QueueConfig, QueueState, consts, major,
};
use super::loader::Table;
use super::object::{self, ParentRule, check_size, template};
use super::request;
use super::world::{Data, Kind, Place, Queue, World, changed, enter, lock, wait_for};
use crate::core::{Rule, callout, fault, irql};
use crate::nt::types::status;
use crate::nt::{arg, workitem};

/// Puts this file's functions into the table.
pub fn register(table: &mut Table) {
    let functions: [(&str, *const c_void); 12] = [
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

// ---- requests come in -----------------------------------------------------

/// Puts a new request into the queue of its device.
pub fn deliver(handle: Handle) {
    let (queue, canceled) = {
        let mut world = lock();
        let r = world.request(handle, "deliver");
        let (device, kind, canceled) = (r.device, r.major, r.canceled);
        let device = world.device(device, "deliver");
        (
            *device.dispatch.get(&kind).unwrap_or(&device.default_queue),
            canceled,
        )
    };
    if canceled {
        request::complete(handle, status::CANCELLED, 0);
    } else if queue == 0 {
        request::complete(handle, status::INVALID_DEVICE_REQUEST, 0);
    } else {
        take_in(queue, handle);
    }
}

/// Appends a request to a queue that takes it, and presents what waits there.
///
/// Both happen under one lock, as KMDF's `FxIoQueue::QueueRequest` has it: a
/// thread that completes another request at this moment finds nothing new in the
/// queue, so it doesn't present this one from within its completion.
fn take_in(queue: Handle, handle: Handle) {
    let first = {
        let mut world = lock();
        if world.queue(queue, "queue").accepting {
            world.request(handle, "queue").place = Place::Queued(queue);
            world.queue(queue, "queue").waiting.push_back(handle);
            if deferred(&world, queue) {
                None
            } else {
                next(&mut world, queue)
            }
        } else {
            drop(world);
            request::complete(handle, status::INVALID_DEVICE_STATE, 0);
            return;
        }
    };
    if let Some((handle, call)) = first {
        call_back(queue, handle, call);
    }
    present(queue);
}

/// One request to present: what to call.
enum Call {
    Length(unsafe extern "system" fn(Handle, Handle, usize), usize),
    Control(
        unsafe extern "system" fn(Handle, Handle, usize, usize, u32),
        usize,
        usize,
        u32,
    ),
    Default(unsafe extern "system" fn(Handle, Handle)),
    Nothing(i32),
}

fn choose(world: &mut World, queue: Handle, handle: Handle) -> Call {
    let r = world.request(handle, "present");
    let (kind, p) = (r.major, r.parameters);
    let length = p[0] & 0xFFFF_FFFF;
    let config = world.queue(queue, "present").config;
    let by_default = || {
        config
            .io_default
            .map_or(Call::Nothing(status::INVALID_DEVICE_REQUEST), Call::Default)
    };
    match kind {
        major::READ | major::WRITE if length == 0 && config.allow_zero_length == 0 => {
            Call::Nothing(status::SUCCESS)
        }
        major::READ => config
            .io_read
            .map_or_else(by_default, |f| Call::Length(f, length)),
        major::WRITE => config
            .io_write
            .map_or_else(by_default, |f| Call::Length(f, length)),
        major::DEVICE_CONTROL => config.io_control.map_or_else(by_default, |f| {
            let code = u32::try_from(p[2] & 0xFFFF_FFFF).unwrap_or(0);
            Call::Control(f, length, p[1] & 0xFFFF_FFFF, code)
        }),
        _ => by_default(),
    }
}

/// Whether this thread's IRQL is too high for the queue's callbacks.
fn deferred(world: &World, queue: Handle) -> bool {
    let passive = world.objects.get(&queue).is_some_and(|o| o.passive);
    passive && irql::current() != irql::PASSIVE_LEVEL
}

/// Presents waiting requests while the queue's kind and state allow it.
pub fn present(queue: Handle) {
    loop {
        let first = {
            let mut world = lock();
            if deferred(&world, queue) {
                drop(world);
                workitem::submit(move || present(queue));
                return;
            }
            next(&mut world, queue)
        };
        let Some((handle, call)) = first else { return };
        call_back(queue, handle, call);
    }
}

/// Calls the driver back with a request that is its own from now on.
fn call_back(queue: Handle, handle: Handle, call: Call) {
    let level = irql::current();
    match call {
        Call::Length(f, length) => {
            callout::call_at("EvtIoRead/Write", f as usize, level, || {
                // SAFETY: the driver's callback with a request it owns from now on.
                unsafe { f(queue, handle, length) };
            });
        }
        Call::Control(f, output, input, code) => {
            callout::call_at("EvtIoDeviceControl", f as usize, level, || {
                // SAFETY: the driver's callback with a request it owns from now on.
                unsafe { f(queue, handle, output, input, code) };
            });
        }
        Call::Default(f) => callout::call_at("EvtIoDefault", f as usize, level, || {
            // SAFETY: the driver's callback with a request it owns from now on.
            unsafe { f(queue, handle) };
        }),
        Call::Nothing(result) => request::complete(handle, result, 0),
    }
    if let Some(object) = lock().objects.get_mut(&queue)
        && let Data::Queue(q) = &mut object.data
    {
        q.callbacks -= 1;
    }
    changed();
    settle(queue);
}

/// The next request to present, now with the driver.
fn next(world: &mut World, queue: Handle) -> Option<(Handle, Call)> {
    let Data::Queue(q) = &mut world.objects.get_mut(&queue)?.data else {
        return None;
    };
    let room = match q.config.dispatch {
        consts::SEQUENTIAL => q.owned.is_empty(),
        consts::PARALLEL => q.owned.len() < q.config.presented as usize,
        _ => false,
    };
    if !q.dispatching || !room {
        return None;
    }
    let handle = q.waiting.pop_front()?;
    q.owned.insert(handle);
    q.callbacks += 1;
    let r = world.request(handle, "present");
    r.place = Place::Driver(queue);
    r.seen = true;
    let call = choose(world, queue, handle);
    Some((handle, call))
}

/// Runs a queue's state callback when what it waits for has come.
pub fn settle(queue: Handle) {
    let call = {
        let mut world = lock();
        let Some(object) = world.objects.get_mut(&queue) else {
            return;
        };
        let passive = object.passive;
        let Data::Queue(q) = &mut object.data else {
            return;
        };
        let idle = q.owned.is_empty();
        match q.notify {
            Some((callback, context, drain)) if idle && (!drain || q.waiting.is_empty()) => {
                q.notify = None;
                callback.map(|c| (c, context, passive))
            }
            _ => None,
        }
    };
    if let Some((callback, context, passive)) = call {
        run_at(passive, move || {
            callout::call_at(
                "EvtIoQueueState",
                callback as usize,
                irql::current(),
                || {
                    // SAFETY: the driver's callback and context.
                    unsafe { callback(queue, context as *mut c_void) }
                },
            );
        });
    }
}

/// Runs driver code that wants PASSIVE_LEVEL on a worker when this is not it.
fn run_at(passive: bool, f: impl FnOnce() + Send + 'static) {
    if passive && irql::current() != irql::PASSIVE_LEVEL {
        workitem::submit(f);
    } else {
        f();
    }
}

// ---- cancellation ---------------------------------------------------------

enum Cancelled {
    Nothing,
    ByFramework,
    OnQueue(Handle, unsafe extern "system" fn(Handle, Handle), bool),
    ByDriver(ObjectCallback, bool),
}

/// Cancels a request: where it is decides who completes it.
pub fn cancel(handle: Handle) {
    let what = {
        let mut world = lock();
        let passive = world.objects.get(&handle).is_some_and(|o| o.passive);
        let Some(Data::Request(r)) = world.objects.get_mut(&handle).map(|o| &mut o.data) else {
            return;
        };
        r.canceled = true;
        let seen = r.seen;
        match r.place {
            Place::Driver(_) => match r.cancel.take() {
                Some(callback) => {
                    r.cancel_called = true;
                    Cancelled::ByDriver(callback, passive)
                }
                None => Cancelled::Nothing,
            },
            Place::Queued(queue) => off_queue(&mut world, queue, handle, seen),
            Place::Arriving | Place::Completed => Cancelled::Nothing,
        }
    };
    match what {
        Cancelled::Nothing => {}
        Cancelled::ByFramework => request::complete(handle, status::CANCELLED, 0),
        Cancelled::OnQueue(queue, callback, passive) => {
            let level = if passive {
                irql::PASSIVE_LEVEL
            } else {
                irql::DISPATCH_LEVEL
            };
            at(level, move || {
                callout::call_at("EvtIoCanceledOnQueue", callback as usize, level, || {
                    // SAFETY: the driver's callback; the request is its again.
                    unsafe { callback(queue, handle) }
                });
            });
        }
        Cancelled::ByDriver(callback, passive) => {
            let level = if passive {
                irql::PASSIVE_LEVEL
            } else {
                irql::DISPATCH_LEVEL
            };
            at(level, move || {
                callout::call_at("EvtRequestCancel", callback as usize, level, || {
                    // SAFETY: the driver's callback for a request it owns.
                    unsafe { callback(handle) }
                });
            });
        }
    }
}

/// Runs `f` here when this thread may be at `level`, else on a worker.
fn at(level: u8, f: impl FnOnce() + Send + 'static) {
    if irql::current() > level {
        workitem::submit(f);
    } else {
        f();
    }
}

fn off_queue(world: &mut World, queue: Handle, handle: Handle, seen: bool) -> Cancelled {
    let passive = world.objects.get(&queue).is_some_and(|o| o.passive);
    let q = world.queue(queue, "cancel");
    q.waiting.retain(|r| *r != handle);
    // The callback is for requests the driver has met before; others it never
    // hears of.
    if let Some(callback) = q.config.io_canceled.filter(|_| seen) {
        q.owned.insert(handle);
        world.request(handle, "cancel").place = Place::Driver(queue);
        return Cancelled::OnQueue(queue, callback, passive);
    }
    world.request(handle, "cancel").place = Place::Driver(0);
    Cancelled::ByFramework
}

/// The last handle of a file was closed: cancels what waits in queues.
pub fn cancel_file(device: Handle, file: Handle) {
    let waiting: Vec<Handle> = {
        let world = lock();
        let of_file = |o: &Data| {
            matches!(o, Data::Request(r)
            if r.device == device && r.file == file && matches!(r.place, Place::Queued(_)))
        };
        world
            .objects
            .iter()
            .filter(|(_, o)| of_file(&o.data))
            .map(|(h, _)| *h)
            .collect()
    };
    for request in waiting {
        cancel(request);
    }
}

/// Refuses new requests and cancels those it has, the driver's cancelable
/// ones included.
pub fn purge(queue: Handle) {
    let all: Vec<Handle> = {
        let mut world = lock();
        let Some(Data::Queue(q)) = world.objects.get_mut(&queue).map(|o| &mut o.data) else {
            return;
        };
        q.accepting = false;
        q.waiting.iter().chain(q.owned.iter()).copied().collect()
    };
    for request in all {
        cancel(request);
    }
    settle(queue);
}

/// Before a queue object goes: purged, and nothing of it left.
pub fn quiesce(queue: Handle) {
    purge(queue);
    wait_idle(queue, true);
}

fn wait_idle(queue: Handle, drain: bool) {
    let mut world = lock();
    loop {
        let Some(Data::Queue(q)) = world.objects.get(&queue).map(|o| &o.data) else {
            return;
        };
        if q.owned.is_empty() && (!drain || q.waiting.is_empty()) {
            return;
        }
        world = wait_for(world, Duration::from_millis(50));
    }
}

// ---- the driver's calls ---------------------------------------------------

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
