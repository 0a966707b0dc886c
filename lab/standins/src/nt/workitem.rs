//! Work items: a routine that a system thread runs at PASSIVE_LEVEL.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, Once, PoisonError};

use super::types::DEVICE_OBJECT;
use crate::core::{Rule, callout, event_log, fault, irql, session, stack};

const WORKERS: usize = 4;

/// A work item's routine: (device, context).
pub type IO_WORKITEM_ROUTINE = unsafe extern "system" fn(*mut DEVICE_OBJECT, *mut c_void);

struct Item {
    device: usize,
    queued: bool,
    caller: u32,
}

/// Any job for the system's worker threads.
type Job = Box<dyn FnOnce() + Send>;

static ITEMS: Mutex<BTreeMap<usize, Item>> = Mutex::new(BTreeMap::new());
static NEXT: AtomicUsize = AtomicUsize::new(0);
static QUEUE: Mutex<VecDeque<Job>> = Mutex::new(VecDeque::new());
static WORK: Condvar = Condvar::new();
static RUNNING: AtomicUsize = AtomicUsize::new(0);
static START: Once = Once::new();

fn items() -> MutexGuard<'static, BTreeMap<usize, Item>> {
    ITEMS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn queue() -> MutexGuard<'static, VecDeque<Job>> {
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn worker() {
    loop {
        let mut jobs = queue();
        let job = loop {
            if let Some(job) = jobs.pop_front() {
                break job;
            }
            jobs = WORK.wait(jobs).unwrap_or_else(PoisonError::into_inner);
        };
        RUNNING.fetch_add(1, Ordering::SeqCst);
        drop(jobs);
        job();
        RUNNING.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Hands a job to the system's worker threads.
pub fn submit(job: impl FnOnce() + Send + 'static) {
    START.call_once(|| {
        for _ in 0..WORKERS {
            let spawned = std::thread::Builder::new()
                .name("lab-worker".to_owned())
                .spawn(worker);
            if let Err(error) = spawned {
                event_log(serde_json::json!({ "event": "error", "error": error.to_string() }));
            }
        }
    });
    queue().push_back(Box::new(job));
    WORK.notify_one();
}

/// MSDN: IoAllocateWorkItem. IRQL <= DISPATCH_LEVEL.
#[unsafe(no_mangle)]
pub extern "system" fn IoAllocateWorkItem(device: *mut DEVICE_OBJECT) -> *mut c_void {
    irql::require_max_rule(
        Rule::IrqlIoDispatch,
        "IoAllocateWorkItem",
        irql::DISPATCH_LEVEL,
    );
    if device.is_null() {
        violate!(
            Rule::LabBadParameter,
            "IoAllocateWorkItem: no device object"
        );
    }
    if fault::alloc_should_fail_named("IoAllocateWorkItem") {
        return std::ptr::null_mut();
    }
    // An opaque handle in a range that is never mapped: a driver that looks
    // inside faults.
    let handle = 0xFFFF_8000_0001_0000 + NEXT.fetch_add(1, Ordering::Relaxed) * 0x100;
    let item = Item {
        device: device as usize,
        queued: false,
        caller: stack::caller_rva(),
    };
    items().insert(handle, item);
    handle as *mut c_void
}

/// MSDN: IoFreeWorkItem. IRQL <= DISPATCH_LEVEL.
#[unsafe(no_mangle)]
pub extern "system" fn IoFreeWorkItem(item: *mut c_void) {
    irql::require_max_rule(Rule::IrqlIoDispatch, "IoFreeWorkItem", irql::DISPATCH_LEVEL);
    match items().remove(&(item as usize)) {
        None => violate!(
            Rule::LabWorkItemFreed,
            "IoFreeWorkItem: {item:?} is no live work item"
        ),
        Some(found) if found.queued => {
            violate!(
                Rule::LabWorkItemQueued,
                "IoFreeWorkItem: {item:?} is queued"
            )
        }
        Some(_) => {}
    }
}

/// MSDN: IoQueueWorkItem. IRQL <= DISPATCH_LEVEL; not while it is queued.
#[unsafe(no_mangle)]
pub extern "system" fn IoQueueWorkItem(
    item: *mut c_void,
    routine: Option<IO_WORKITEM_ROUTINE>,
    kind: i32,
    context: *mut c_void,
) {
    let api = "IoQueueWorkItem";
    irql::require_max_rule(Rule::IrqlIoDispatch, api, irql::DISPATCH_LEVEL);
    let Some(routine) = routine else {
        violate!(Rule::LabBadParameter, "{api}: no routine");
    };
    if !(0..=2).contains(&kind) {
        violate!(Rule::LabBadParameter, "{api}: queue type {kind}");
    }
    let key = item as usize;
    let device = match items().get_mut(&key) {
        None => violate!(
            Rule::LabWorkItemFreed,
            "{api}: {item:?} is no live work item"
        ),
        Some(found) if found.queued => {
            violate!(Rule::LabWorkItemQueued, "{api}: {item:?} is queued already")
        }
        Some(found) => {
            found.queued = true;
            found.device
        }
    };
    let context = context as usize;
    submit(move || {
        // From here on the routine may queue it again, or free it.
        if let Some(found) = items().get_mut(&key) {
            found.queued = false;
        }
        callout::call_at(
            "WorkItemRoutine",
            routine as usize,
            irql::PASSIVE_LEVEL,
            || {
                // SAFETY: the driver's routine, with the device and context it gave.
                unsafe { routine(device as *mut DEVICE_OBJECT, context as *mut c_void) }
            },
        );
    });
}

/// One line for each work item not freed, and for routines still running.
pub fn leaks() -> Vec<String> {
    let mut all: Vec<String> = items()
        .iter()
        .map(|(h, i)| {
            format!(
                "work item {h:#x}{} by driver+0x{:x}",
                if i.queued { " (queued)" } else { "" },
                i.caller
            )
        })
        .collect();
    let running = RUNNING.load(Ordering::SeqCst);
    if running > 0 {
        all.push(format!(
            "{running} work item routine(s) of {} still running",
            session::name()
        ));
    }
    all
}
