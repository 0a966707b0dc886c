//! Requests come into queues and are presented to the driver.

use std::ffi::c_void;

use super::abi::{Handle, consts, major};
use super::cancel::tell_cancelled;
use super::request;
use super::world::{Data, Place, World, changed, lock};
use crate::core::{callout, irql};
use crate::nt::types::status;
use crate::nt::workitem;

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
    tell_cancelled(queue);
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
    tell_cancelled(queue);
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
