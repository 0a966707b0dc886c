//! System threads, handles and references to them.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use windows_sys::Win32::Foundation::CloseHandle;
use windows_sys::Win32::System::Threading::{CreateThread, ExitThread, GetCurrentProcessId};

use super::types::{DISPATCHER_HEADER, LIST_ENTRY, status};
use super::{arg, dispatcher};
use crate::core::{Rule, callout, fault, irql, stack};

/// A system thread's routine: (context).
pub type KSTART_ROUTINE = unsafe extern "system" fn(*mut c_void);

/// What a driver sees of a thread: something to wait for.
struct Thread {
    header: Box<DISPATCHER_HEADER>,
    running: bool,
    handles: u32,
    references: u32,
    caller: u32,
    routine: KSTART_ROUTINE,
    context: usize,
}

// SAFETY: the pointers in it are addresses; all access is under THREADS.
unsafe impl Send for Thread {}

struct State {
    /// By address of the header.
    threads: BTreeMap<usize, Thread>,
    /// Handle to header.
    handles: BTreeMap<usize, usize>,
}

static STATE: Mutex<State> = Mutex::new(State {
    threads: BTreeMap::new(),
    handles: BTreeMap::new(),
});
static NEXT: AtomicUsize = AtomicUsize::new(0x8000_1000);

thread_local! {
    static ME: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

fn lock() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn collect(state: &mut State, key: usize) {
    let gone = state
        .threads
        .get(&key)
        .is_some_and(|t| !t.running && t.handles == 0 && t.references == 0);
    if gone {
        state.threads.remove(&key);
    }
}

fn finish() {
    let key = ME.get();
    let mut state = lock();
    if let Some(thread) = state.threads.get_mut(&key) {
        thread.running = false;
        dispatcher::signal(&raw mut *thread.header, 1);
    }
    collect(&mut state, key);
}

unsafe extern "system" fn entry(parameter: *mut c_void) -> u32 {
    let key = parameter as usize;
    ME.set(key);
    let found = lock().threads.get(&key).map(|t| (t.routine, t.context));
    if let Some((routine, context)) = found {
        callout::call_at(
            "ThreadStartRoutine",
            routine as usize,
            irql::PASSIVE_LEVEL,
            || {
                // SAFETY: the driver's routine with the driver's context.
                unsafe { routine(context as *mut c_void) }
            },
        );
        finish();
    }
    0
}

/// MSDN: PsCreateSystemThread. IRQL = PASSIVE_LEVEL.
///
/// # Safety
/// `handle` points to a HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn PsCreateSystemThread(
    handle: *mut usize,
    _access: u32,
    _attributes: *const c_void,
    _process: *const c_void,
    _client: *mut c_void,
    routine: Option<KSTART_ROUTINE>,
    context: *mut c_void,
) -> i32 {
    let api = "PsCreateSystemThread";
    irql::require_exact_rule(Rule::IrqlPsPassive, api, irql::PASSIVE_LEVEL);
    // SAFETY: by contract.
    let out = unsafe { arg(handle, api, "ThreadHandle") };
    let Some(routine) = routine else {
        violate!(Rule::LabBadParameter, "{api}: no routine");
    };
    if fault::alloc_should_fail_named(api) {
        return status::INSUFFICIENT_RESOURCES;
    }
    let none = LIST_ENTRY {
        Flink: std::ptr::null_mut(),
        Blink: std::ptr::null_mut(),
    };
    let mut header = Box::new(DISPATCHER_HEADER {
        Type: 0,
        Signalling: 0,
        Size: 0,
        Reserved: 0,
        SignalState: 0,
        WaitListHead: none,
    });
    dispatcher::initialize(&mut header, dispatcher::kind::THREAD, false);
    let key = &raw const *header as usize;
    let number = NEXT.fetch_add(4, Ordering::Relaxed);
    {
        let mut state = lock();
        let thread = Thread {
            header,
            running: true,
            handles: 1,
            references: 0,
            caller: stack::caller_rva(),
            routine,
            context: context as usize,
        };
        state.threads.insert(key, thread);
        state.handles.insert(number, key);
    }
    // SAFETY: `entry` has the prototype of a thread routine; its parameter is
    // the key of a thread in the table, not a pointer it would follow.
    let native = unsafe {
        CreateThread(
            std::ptr::null(),
            0,
            Some(entry),
            key as *const c_void,
            0,
            std::ptr::null_mut(),
        )
    };
    if native.is_null() {
        let mut state = lock();
        state.handles.remove(&number);
        state.threads.remove(&key);
        return status::INSUFFICIENT_RESOURCES;
    }
    // SAFETY: our own handle; the thread runs on without it.
    unsafe { CloseHandle(native) };
    *out = number;
    status::SUCCESS
}

/// MSDN: PsTerminateSystemThread. IRQL = PASSIVE_LEVEL, in a system thread.
#[unsafe(no_mangle)]
pub extern "system" fn PsTerminateSystemThread(_status: i32) -> i32 {
    let api = "PsTerminateSystemThread";
    irql::require_exact_rule(Rule::IrqlPsPassive, api, irql::PASSIVE_LEVEL);
    if ME.get() == 0 {
        violate!(Rule::LabThreadExit, "{api} outside of a system thread");
    }
    if super::spinlock::held_count() > 0 {
        violate!(Rule::SpinLockReturn, "{api} with a spin lock held");
    }
    finish();
    // SAFETY: ends this thread; the lab keeps nothing on its stack.
    unsafe { ExitThread(0) }
}

/// MSDN: ObReferenceObjectByHandle. IRQL <= APC_LEVEL. Thread handles only.
///
/// # Safety
/// `object` points to a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn ObReferenceObjectByHandle(
    handle: usize,
    _access: u32,
    _kind: *const c_void,
    _mode: i8,
    object: *mut *mut c_void,
    _information: *mut c_void,
) -> i32 {
    let api = "ObReferenceObjectByHandle";
    irql::require_max_rule(Rule::IrqlObPassive, api, irql::APC_LEVEL);
    // SAFETY: by contract.
    let out = unsafe { arg(object, api, "Object") };
    let mut state = lock();
    let Some(key) = state.handles.get(&handle).copied() else {
        violate!(Rule::LabHandle, "{api}: {handle:#x} is no open handle");
    };
    if let Some(thread) = state.threads.get_mut(&key) {
        thread.references += 1;
    }
    *out = key as *mut c_void;
    status::SUCCESS
}

/// MSDN: ObDereferenceObject (its x64 function). IRQL <= DISPATCH_LEVEL.
#[unsafe(no_mangle)]
pub extern "system" fn ObfDereferenceObject(object: *mut c_void) -> isize {
    let api = "ObfDereferenceObject";
    irql::require_max_rule(Rule::IrqlObPassive, api, irql::DISPATCH_LEVEL);
    let mut state = lock();
    let key = object as usize;
    let Some(thread) = state.threads.get_mut(&key).filter(|t| t.references > 0) else {
        violate!(
            Rule::LabHandle,
            "{api}: {object:?} is not a referenced object"
        );
    };
    thread.references -= 1;
    let left = thread.references + thread.handles;
    collect(&mut state, key);
    isize::try_from(left).unwrap_or(isize::MAX)
}

/// MSDN: ObReferenceObject (its x64 function). IRQL <= DISPATCH_LEVEL.
#[unsafe(no_mangle)]
pub extern "system" fn ObfReferenceObject(object: *mut c_void) -> isize {
    let api = "ObfReferenceObject";
    irql::require_max_rule(Rule::IrqlObPassive, api, irql::DISPATCH_LEVEL);
    let mut state = lock();
    let Some(thread) = state.threads.get_mut(&(object as usize)) else {
        violate!(
            Rule::LabHandle,
            "{api}: {object:?} is not an object of the lab"
        );
    };
    thread.references += 1;
    isize::try_from(thread.references + thread.handles).unwrap_or(isize::MAX)
}

/// MSDN: ZwClose. IRQL = PASSIVE_LEVEL.
#[unsafe(no_mangle)]
pub extern "system" fn ZwClose(handle: usize) -> i32 {
    irql::require_exact_rule(Rule::IrqlZwPassive, "ZwClose", irql::PASSIVE_LEVEL);
    let mut state = lock();
    let Some(key) = state.handles.remove(&handle) else {
        violate!(Rule::LabHandle, "ZwClose: {handle:#x} is no open handle");
    };
    if let Some(thread) = state.threads.get_mut(&key) {
        thread.handles -= 1;
    }
    collect(&mut state, key);
    status::SUCCESS
}

thread_local! {
    /// The process this thread does something for.
    static PROCESS: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Runs `work` in the context of a process, as its thread does in the system.
pub fn within<T>(process: usize, work: impl FnOnce() -> T) -> T {
    let before = PROCESS.replace(Some(process));
    let done = work();
    PROCESS.set(before);
    done
}

/// MSDN: PsGetCurrentProcessId. Any IRQL. Outside of what is done for a process,
/// the one drivers run in.
#[unsafe(no_mangle)]
pub extern "system" fn PsGetCurrentProcessId() -> usize {
    PROCESS.get().unwrap_or_else(|| {
        // SAFETY: takes no argument.
        unsafe { GetCurrentProcessId() as usize }
    })
}

/// One line for each thread that runs, handle that is open, reference held.
/// A thread that still runs in an image about to go away is a violation.
pub fn leaks() -> Vec<String> {
    let state = lock();
    for thread in state.threads.values() {
        if thread.running {
            violate!(
                Rule::LabThreadExit,
                "a system thread made by driver+0x{:x} still runs at unload",
                thread.caller
            );
        }
    }
    state
        .threads
        .values()
        .map(|t| {
            format!(
                "thread object by driver+0x{:x}: {} handle(s), {} reference(s)",
                t.caller, t.handles, t.references
            )
        })
        .collect()
}
