//! File objects: one thread for each open handle presents its requests in the
//! order they came, so handles are served in parallel and none overtakes
//! itself; then cleanup and close.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;

use super::abi::{Globals, Handle, consts};
use super::loader::Table;
use super::object::{self, apply};
use super::world::{Data, File, Kind, World, changed, enter, lock, wait_for};
use super::{cancel, io, present, request};
use crate::core::{Rule, callout, event_log, irql};
use crate::nt::object::within;
use crate::nt::types::{FILE_OBJECT, IRP, status};
use crate::nt::wine;

/// Puts this file's functions into the table.
pub fn register(table: &mut Table) {
    table.set(
        "WdfFileObjectGetDevice",
        WdfFileObjectGetDevice as *const c_void,
    );
    table.set(
        "WdfFileObjectWdmGetFileObject",
        WdfFileObjectWdmGetFileObject as *const c_void,
    );
}

/// Work for a file's thread.
pub enum Job {
    /// IRP_MJ_CREATE as a request.
    Create(Handle),
    /// Any other request.
    Io(Handle),
    /// IRP_MJ_CLOSE: cleanup and close. Zero when the lab closes it itself.
    Close(usize),
}

static THREADS: Mutex<BTreeMap<Handle, Sender<Job>>> = Mutex::new(BTreeMap::new());

fn threads() -> MutexGuard<'static, BTreeMap<Handle, Sender<Job>>> {
    THREADS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hands work to a file's thread; false when the file is gone.
pub fn send(file: Handle, job: Job) -> bool {
    threads().get(&file).is_some_and(|s| s.send(job).is_ok())
}

/// Makes the file object of an open, and its thread.
pub fn open(device: Handle, wdm: *mut FILE_OBJECT) -> Result<Handle, i32> {
    let handle = {
        let mut world = lock();
        let template = world.device(device, "open").file_attributes;
        let data = Data::File(File {
            device,
            wdm,
            requests: 0,
            closing: false,
        });
        let handle = world.insert(Kind::File, device, data);
        if let Some(template) = template {
            apply(world.any(handle, "open"), &template);
        }
        world.by_file.insert(wdm as usize, handle);
        handle
    };
    let (sender, receiver) = channel();
    // SAFETY: takes nothing. This is Wine's thread, which serves the opener's.
    let opener = unsafe { wine::PsGetCurrentProcessId() };
    let spawned = std::thread::Builder::new()
        .name("lab-file".to_owned())
        .spawn(move || {
            for job in receiver {
                match job {
                    // As in the thread that opens it, which waits meanwhile.
                    Job::Create(request) => within(opener, || create(handle, request)),
                    Job::Io(request) => present::deliver(request),
                    Job::Close(irp) => {
                        close(handle);
                        io::finish_close(irp as *mut IRP);
                        return;
                    }
                }
            }
        });
    if spawned.is_err() {
        forget(handle);
        return Err(status::INSUFFICIENT_RESOURCES);
    }
    threads().insert(handle, sender);
    Ok(handle)
}

fn forget(handle: Handle) {
    lock().by_file.retain(|_, h| *h != handle);
    object::delete(handle, "closed");
    changed();
}

fn create(file: Handle, request: Handle) {
    let callback = {
        let mut world = lock();
        let device = world.file(file, "create").device;
        let callback = world.device(device, "create").files.and_then(|f| f.create);
        callback.map(|c| (c, device))
    };
    let Some((callback, device)) = callback else {
        request::complete(request, status::SUCCESS, 0);
        return;
    };
    request::hand_to_driver(request);
    callout::call_at(
        "EvtDeviceFileCreate",
        callback as usize,
        irql::PASSIVE_LEVEL,
        || {
            // SAFETY: the driver's callback, with live handles.
            unsafe { callback(device, request, file) }
        },
    );
    // The open is not over before the driver has completed it, and nothing
    // comes before the open is over.
    let mut world = lock();
    while world.is_open(request) {
        world = wait_for(world, Duration::from_millis(50));
    }
}

/// A create was completed: on failure there is no file, and never a close.
pub fn created(file: Handle, result: i32) {
    if result < 0 {
        threads().remove(&file);
        forget(file);
    }
}

/// Cleanup, and when the last request is done, close.
fn close(file: Handle) {
    threads().remove(&file);
    let (config, device) = {
        let mut world = lock();
        let device = world.file(file, "close").device;
        (world.device(device, "close").files, device)
    };
    cancel::cancel_file(device, file);
    if let Some(cleanup) = config.and_then(|c| c.cleanup) {
        callout::call_at(
            "EvtFileCleanup",
            cleanup as usize,
            irql::PASSIVE_LEVEL,
            || {
                // SAFETY: the driver's callback with a live handle.
                unsafe { cleanup(file) }
            },
        );
    }
    // IRP_MJ_CLOSE comes when no request refers to the file any more.
    let start = Instant::now();
    let mut reported = false;
    let mut world = lock();
    world.file(file, "close").closing = true;
    while world.file(file, "close").requests > 0 {
        if !reported && start.elapsed() > Duration::from_secs(5) {
            reported = true;
            let requests = world.file(file, "close").requests;
            event_log(json!({ "event": "waiting", "what": "close", "requests": requests }));
        }
        world = wait_for(world, Duration::from_millis(50));
    }
    drop(world);
    if let Some(close) = config.and_then(|c| c.close) {
        callout::call_at("EvtFileClose", close as usize, irql::PASSIVE_LEVEL, || {
            // SAFETY: the driver's callback with a live handle.
            unsafe { close(file) }
        });
    }
    forget(file);
}

/// Every handle is closed, but a file cannot go because the driver keeps its
/// requests: on Windows the process, and this unload, would hang for ever.
pub fn require_alive(world: &World) {
    let files = world.objects.values().filter_map(|o| match &o.data {
        Data::File(f) => Some(f),
        _ => None,
    });
    let closing: Vec<u32> = files
        .map(|f| if f.closing { f.requests } else { 0 })
        .collect();
    if closing.iter().all(|n| *n > 0) {
        let held: u32 = closing.iter().sum();
        violate!(
            Rule::RequestCompleted,
            "unload waits for {held} request(s) of closed handles that were never completed"
        );
    }
}

/// Closes every file that is still open, and waits for it: the driver unloads.
pub fn close_all() {
    let files: Vec<Handle> = lock().by_file.values().copied().collect();
    for file in files {
        send(file, Job::Close(0));
    }
    let start = Instant::now();
    let mut world = lock();
    while !world.by_file.is_empty() && start.elapsed() < Duration::from_secs(10) {
        world = wait_for(world, Duration::from_millis(20));
    }
}

/// The handle a driver sees for a file; 0 when it asked for none.
pub fn visible(file: Handle) -> Handle {
    let mut world = lock();
    let Some(Data::File(data)) = world.objects.get(&file).map(|o| &o.data) else {
        return 0;
    };
    let device = data.device;
    let class = world
        .device(device, "file")
        .files
        .map_or(consts::FILE_NOT_REQUIRED, |f| f.class);
    if class & !consts::FILE_OPTIONAL == consts::FILE_NOT_REQUIRED {
        0
    } else {
        file
    }
}

unsafe extern "system" fn WdfFileObjectGetDevice(globals: *mut Globals, file: Handle) -> Handle {
    let api = "WdfFileObjectGetDevice";
    enter(globals, api).file(file, api).device
}

unsafe extern "system" fn WdfFileObjectWdmGetFileObject(
    globals: *mut Globals,
    file: Handle,
) -> *mut FILE_OBJECT {
    let api = "WdfFileObjectWdmGetFileObject";
    enter(globals, api).file(file, api).wdm
}
