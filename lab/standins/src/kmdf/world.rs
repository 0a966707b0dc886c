//! All framework objects, and the checks on their handles.
//!
//! A handle is a number that no other object ever gets, so a stale one is
//! always found out. One lock guards all objects; it is never held while
//! driver code runs. Driver-visible context memory lies outside of it and
//! stays where it is until the object is destroyed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::c_void;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::abi::{
    ContextType, FileConfig, Globals, Handle, ObjectCallback, QueueConfig, QueueState,
};
use crate::core::{Rule, session, stack};
use crate::nt::types::{DEVICE_OBJECT, DRIVER_OBJECT, FILE_OBJECT, IRP, KDPC, KTIMER, MDL};

/// What an object is, for checks and messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    Driver,
    Device,
    Queue,
    Request,
    File,
    Memory,
    SpinLock,
    WaitLock,
    Timer,
    WorkItem,
    Generic,
}

/// One context of an object.
pub struct Context {
    /// Canonical type; 0 for the callbacks of attributes without a type.
    pub kind: usize,
    /// 16-byte aligned memory, address stable.
    pub memory: Box<[u128]>,
    /// EvtCleanupCallback.
    pub cleanup: Option<ObjectCallback>,
    /// EvtDestroyCallback.
    pub destroy: Option<ObjectCallback>,
}

/// Everything about an object.
pub struct Object {
    /// Its type.
    pub kind: Kind,
    /// Parent, 0 for the driver.
    pub parent: Handle,
    /// Children, oldest first.
    pub children: Vec<Handle>,
    /// Contexts and callbacks.
    pub contexts: Vec<Context>,
    /// References by WdfObjectReference.
    pub references: u32,
    /// Cleanup has begun.
    pub deleted: bool,
    /// Callbacks run at PASSIVE_LEVEL.
    pub passive: bool,
    /// Made by.
    pub caller: u32,
    /// By type.
    pub data: Data,
}

/// Where a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Handed to its file's thread, not yet in a queue.
    Arriving,
    /// Waiting in a queue.
    Queued(Handle),
    /// With the driver, which got it from this queue (0: none).
    Driver(Handle),
    /// Completed; the object lives on because the driver references it.
    Completed,
}

/// A request.
pub struct Request {
    /// Wine's IRP; null for a synthetic one.
    pub irp: *mut IRP,
    /// Its device.
    pub device: Handle,
    /// Its file object, 0 without.
    pub file: Handle,
    /// Now.
    pub place: Place,
    /// The driver has had it before.
    pub seen: bool,
    /// User mode cancelled it.
    pub canceled: bool,
    /// Marked cancelable.
    pub cancel: Option<ObjectCallback>,
    /// EvtRequestCancel was (or will be) called.
    pub cancel_called: bool,
    /// Result bytes set so far.
    pub information: usize,
    /// Copies of the stack location's fields.
    pub major: u8,
    /// Minor function.
    pub minor: u8,
    /// Parameters.
    pub parameters: [usize; 4],
    /// WDFMEMORY of input and output, when asked for.
    pub memory: [Handle; 2],
    /// MDLs the framework built for buffered requests.
    pub mdls: Vec<*mut MDL>,
}

/// A queue.
pub struct Queue {
    /// Its device.
    pub device: Handle,
    /// As configured.
    pub config: QueueConfig,
    /// Takes new requests.
    pub accepting: bool,
    /// Presents requests.
    pub dispatching: bool,
    /// Waiting, oldest first.
    pub waiting: VecDeque<Handle>,
    /// With the driver.
    pub owned: BTreeSet<Handle>,
    /// Callbacks that are running.
    pub callbacks: u32,
    /// Cancelled while callbacks ran, and to be told once one of them is over.
    pub cancelled: VecDeque<(Handle, ObjectCallback, bool)>,
    /// Called once when drained (true: `waiting` counts too) and idle.
    pub notify: Option<(Option<QueueState>, usize, bool)>,
}

/// A control device.
pub struct Device {
    /// Wine's.
    pub wdm: *mut DEVICE_OBJECT,
    /// Its name.
    pub name: Option<Vec<u16>>,
    /// Its symbolic links.
    pub links: Vec<Vec<u16>>,
    /// WdfControlFinishInitializing was called.
    pub finished: bool,
    /// One handle at a time.
    pub exclusive: bool,
    /// File object callbacks.
    pub files: Option<FileConfig>,
    /// Attributes for file objects' contexts.
    pub file_attributes: Option<Template>,
    /// Attributes for requests' contexts.
    pub request_attributes: Option<Template>,
    /// Queue for what has no queue of its own.
    pub default_queue: Handle,
    /// Queues by major function.
    pub dispatch: BTreeMap<u8, Handle>,
}

/// Contexts to give to objects that the framework makes.
#[derive(Clone, Copy)]
pub struct Template {
    /// EvtCleanupCallback.
    pub cleanup: Option<ObjectCallback>,
    /// EvtDestroyCallback.
    pub destroy: Option<ObjectCallback>,
    /// Canonical context type, 0 without.
    pub kind: usize,
    /// Its size.
    pub size: usize,
    /// Execution level.
    pub execution_level: u32,
    /// Parent, 0 without.
    pub parent: Handle,
}

/// A file object.
pub struct File {
    /// Its device.
    pub device: Handle,
    /// Wine's.
    pub wdm: *mut FILE_OBJECT,
    /// Requests that are not completed yet.
    pub requests: u32,
    /// Its last handle is closed and EvtFileCleanup is done.
    pub closing: bool,
}

/// A lock a thread holds.
#[derive(Default)]
pub struct Held {
    /// Thread id, 0 = free.
    pub owner: u32,
}

/// A timer.
pub struct Timer {
    /// The kernel objects behind it; address stable.
    pub kernel: Box<(KTIMER, KDPC)>,
    /// EvtTimerFunc.
    pub func: ObjectCallback,
    /// Milliseconds, 0 = once.
    pub period: u32,
    /// Callbacks under way (passive ones are handed to a worker).
    pub running: u32,
}

/// A work item.
pub struct WorkItem {
    /// EvtWorkItemFunc.
    pub func: ObjectCallback,
    /// In the queue.
    pub queued: bool,
    /// Callbacks under way.
    pub running: u32,
}

/// Data by type.
#[allow(missing_docs)]
pub enum Data {
    Driver {
        unload: Option<ObjectCallback>,
        object: *mut DRIVER_OBJECT,
    },
    Device(Box<Device>),
    Queue(Box<Queue>),
    Request(Box<Request>),
    File(File),
    Memory {
        buffer: *mut c_void,
        length: usize,
        owned: bool,
    },
    SpinLock {
        word: Box<usize>,
        old_irql: u8,
    },
    WaitLock(Held),
    Timer(Timer),
    WorkItem(WorkItem),
    Generic,
}

/// The framework's state.
pub struct World {
    /// All live objects.
    pub objects: BTreeMap<Handle, Object>,
    /// Dead ones, for messages: type and what ended it.
    pub dead: VecDeque<(Handle, Kind, &'static str)>,
    next: Handle,
    /// The driver's globals; null when not bound.
    pub globals: *mut Globals,
    /// WDFDRIVER.
    pub driver: Handle,
    /// Requests by Wine's IRP.
    pub by_irp: BTreeMap<usize, Handle>,
    /// File objects by Wine's.
    pub by_file: BTreeMap<usize, Handle>,
    /// Unload has begun: no new opens.
    pub unloading: bool,
}

// SAFETY: the raw pointers in it are only followed by code that holds the lock
// or owns what they point at.
unsafe impl Send for World {}

static WORLD: Mutex<World> = Mutex::new(World {
    objects: BTreeMap::new(),
    dead: VecDeque::new(),
    next: 0xFFFF_9000_0000_1000,
    globals: std::ptr::null_mut(),
    driver: 0,
    by_irp: BTreeMap::new(),
    by_file: BTreeMap::new(),
    unloading: false,
});

/// Signalled whenever a request, callback or file object comes to its end.
static CHANGED: Condvar = Condvar::new();

const DEAD: usize = 4096;

/// Locks the world.
pub fn lock() -> MutexGuard<'static, World> {
    WORLD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes those who wait in [`wait_for`].
pub fn changed() {
    CHANGED.notify_all();
}

/// Gives up the lock until something has changed, or `limit` has passed.
pub fn wait_for(
    guard: MutexGuard<'static, World>,
    limit: std::time::Duration,
) -> MutexGuard<'static, World> {
    CHANGED
        .wait_timeout(guard, limit)
        .unwrap_or_else(PoisonError::into_inner)
        .0
}

impl World {
    /// A new object under `parent` (0: none).
    pub fn insert(&mut self, kind: Kind, parent: Handle, data: Data) -> Handle {
        let handle = self.next;
        self.next += 0x10;
        let passive = self.objects.get(&parent).is_some_and(|p| p.passive);
        if let Some(parent) = self.objects.get_mut(&parent) {
            parent.children.push(handle);
        }
        let object = Object {
            kind,
            parent,
            children: Vec::new(),
            contexts: Vec::new(),
            references: 0,
            deleted: false,
            passive,
            caller: stack::caller_rva(),
            data,
        };
        self.objects.insert(handle, object);
        handle
    }

    /// Takes an object out; it is dead from now on, because of `why`.
    pub fn remove(&mut self, handle: Handle, why: &'static str) -> Option<Object> {
        let object = self.objects.remove(&handle)?;
        if let Some(parent) = self.objects.get_mut(&object.parent) {
            parent.children.retain(|c| *c != handle);
        }
        self.dead.push_back((handle, object.kind, why));
        if self.dead.len() > DEAD {
            self.dead.pop_front();
        }
        Some(object)
    }

    /// Says what is wrong with a handle that is no live object.
    fn complain(&self, handle: Handle, wanted: Option<Kind>, api: &str) -> ! {
        let wanted = wanted.map_or("object".to_owned(), |k| format!("WDF {k:?}"));
        if let Some((_, kind, why)) = self.dead.iter().rev().find(|d| d.0 == handle) {
            if *kind == Kind::Request {
                if api.starts_with("WdfRequestComplete") {
                    violate!(
                        Rule::DoubleCompletion,
                        "{api}: request {handle:#x} was {why}"
                    );
                }
                violate!(
                    Rule::InvalidReqAccess,
                    "{api}: request {handle:#x} was {why}"
                );
            }
            violate!(
                Rule::InvalidHandle,
                "{api}: {kind:?} {handle:#x} was {why}, needs a {wanted}"
            );
        }
        violate!(
            Rule::InvalidHandle,
            "{api}: {handle:#x} is no handle, needs a {wanted}"
        )
    }

    /// A live object of any type.
    pub fn any(&mut self, handle: Handle, api: &str) -> &mut Object {
        if !self.objects.contains_key(&handle) {
            self.complain(handle, None, api);
        }
        match self.objects.get_mut(&handle) {
            Some(object) => object,
            None => unreachable!("checked above, under the same lock"),
        }
    }

    /// A live object of this type.
    pub fn object(&mut self, handle: Handle, kind: Kind, api: &str) -> &mut Object {
        if !self.objects.contains_key(&handle) {
            self.complain(handle, Some(kind), api);
        }
        let object = self.any(handle, api);
        if object.kind != kind {
            violate!(
                Rule::InvalidHandle,
                "{api}: {handle:#x} is a WDF {:?}, needs a WDF {kind:?}",
                object.kind
            );
        }
        object
    }

    /// What is still there at unbind.
    pub fn leaks(&self) -> Vec<(Rule, String)> {
        let line = |(handle, o): (&Handle, &Object)| {
            let rule = if o.references > 0 {
                Rule::ObjectReference
            } else {
                Rule::LabLeak
            };
            let by = format!("{}+0x{:x}", session::name(), o.caller);
            let held = o.references;
            (
                rule,
                format!(
                    "WDF {:?} {handle:#x} by {by}, {held} reference(s) held",
                    o.kind
                ),
            )
        };
        self.objects.iter().map(line).collect()
    }
}

macro_rules! accessor {
    ($name:ident, $kind:ident, $type:ty) => {
        impl World {
            #[doc = concat!("The ", stringify!($kind), " behind a handle.")]
            pub fn $name(&mut self, handle: Handle, api: &str) -> &mut $type {
                match &mut self.object(handle, Kind::$kind, api).data {
                    Data::$kind(data) => data,
                    _ => unreachable!("an object's data is of its kind"),
                }
            }
        }
    };
}
accessor!(device, Device, Device);
accessor!(queue, Queue, Queue);
accessor!(request, Request, Request);
accessor!(file, File, File);
accessor!(timer, Timer, Timer);
accessor!(work_item, WorkItem, WorkItem);
accessor!(wait_lock, WaitLock, Held);

/// Every framework call passes here: bound, and with the driver's globals.
pub fn enter(globals: *mut Globals, api: &str) -> MutexGuard<'static, World> {
    let world = lock();
    if world.globals.is_null() {
        violate!(Rule::LabWdfUnbound, "{api} called while no driver is bound");
    }
    if world.globals != globals {
        violate!(
            Rule::LabWdfGlobals,
            "{api}: DriverGlobals is {globals:?}, the loader gave {:?}",
            world.globals
        );
    }
    world
}

/// What identifies a context type, and its size.
pub fn context_type(info: *const ContextType, api: &str) -> (usize, usize) {
    // SAFETY: a driver passes a type declared with the framework's macros.
    let declared = unsafe { crate::nt::arg(info.cast_mut(), api, "ContextTypeInfo") };
    if declared.size as usize != size_of::<ContextType>() {
        violate!(
            Rule::LabWdfStructSize,
            "{api}: WDF_OBJECT_CONTEXT_TYPE_INFO.Size is {}, should be {}",
            declared.size,
            size_of::<ContextType>()
        );
    }
    let unique = if let Some(get) = declared.get_unique {
        // SAFETY: the declaration's own function.
        unsafe { get(lock().globals) }
    } else if declared.unique.is_null() {
        info
    } else {
        declared.unique
    };
    (unique as usize, declared.context_size)
}
