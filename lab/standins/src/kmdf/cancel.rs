//! Requests are cancelled; queues are purged and waited for.

use std::time::Duration;

use super::abi::{Handle, ObjectCallback};
use super::present::settle;
use super::request;
use super::world::{Data, Place, World, lock, wait_for};
use crate::core::{callout, irql};
use crate::nt::types::status;
use crate::nt::workitem;

enum Cancelled {
    Nothing,
    ByFramework,
    OnQueue(Handle, unsafe extern "system" fn(Handle, Handle), bool),
    ByDriver(ObjectCallback, bool),
}

/// Cancels a request: where it is decides who completes it.
///
/// One that the driver has is told of by way of its queue, and not while a
/// callback of that queue runs (KMDF's `FxIoQueue::CancelForDriver`): the thread
/// that runs it tells afterwards ([`tell_cancelled`]).
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
            Place::Driver(queue) => match r.cancel.take() {
                Some(callback) => {
                    r.cancel_called = true;
                    by_driver(&mut world, queue, handle, callback, passive)
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
        Cancelled::ByDriver(callback, passive) => tell(handle, callback, passive),
    }
}

/// Now, or once a callback of its queue is over.
fn by_driver(
    world: &mut World,
    queue: Handle,
    handle: Handle,
    callback: ObjectCallback,
    passive: bool,
) -> Cancelled {
    match world.objects.get_mut(&queue).map(|o| &mut o.data) {
        Some(Data::Queue(q)) if q.callbacks > 0 => {
            q.cancelled.push_back((handle, callback, passive));
            Cancelled::Nothing
        }
        _ => Cancelled::ByDriver(callback, passive),
    }
}

fn tell(handle: Handle, callback: ObjectCallback, passive: bool) {
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

/// Tells the driver of requests that were cancelled while callbacks ran: by a
/// thread that serves the queue, between two requests.
pub fn tell_cancelled(queue: Handle) {
    loop {
        let first = match lock().objects.get_mut(&queue).map(|o| &mut o.data) {
            Some(Data::Queue(q)) => q.cancelled.pop_front(),
            _ => None,
        };
        let Some((handle, callback, passive)) = first else {
            return;
        };
        tell(handle, callback, passive);
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

/// Waits until the driver has none of a queue's requests, and with `drain` until
/// none waits there.
pub fn wait_idle(queue: Handle, drain: bool) {
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
