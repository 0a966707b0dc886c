//! What the engine knows: filter drivers, their modules, virtual adapters.
//!
//! Context. Handles are numbers that the tables here translate, so a stale or
//! invented one is recognised. No lock of this module is held while driver code
//! runs: every function takes what it needs (an `Arc`, a copy of the handlers)
//! and lets go first. Lock order, where two are held: `PNP` of an adapter, then
//! any one table; tables are leaves.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::adapter::Adapter;
use super::types::{FilterCharacteristics, Handle, PartialCharacteristics, Status};
use crate::core::{Rule, callout, irql, stack};

/// Takes a lock whether or not a thread died holding it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// State of a filter module (Filter Module States and Operations).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum State {
    Detached,
    Attaching,
    Paused,
    Restarting,
    Running,
    Pausing,
}

impl State {
    const ALL: [Self; 6] = [
        Self::Detached,
        Self::Attaching,
        Self::Paused,
        Self::Restarting,
        Self::Running,
        Self::Pausing,
    ];
}

/// A registered filter driver.
pub(crate) struct FilterDriver {
    pub(crate) handle: usize,
    pub(crate) context: usize,
    pub(crate) handlers: FilterCharacteristics,
    pub(crate) service: String,
}

// SAFETY: the raw pointers in `handlers` are code addresses and the caller's
// strings, which are copied to `service` and not looked at again.
unsafe impl Send for FilterDriver {}
// SAFETY: as above; nothing in it changes after registration.
unsafe impl Sync for FilterDriver {}

/// Whether an asynchronous pause or restart is expected and how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transition {
    /// No operation is under way.
    Idle,
    /// The handler is running or has returned pending.
    Open,
    /// The driver called the completion function.
    Done(Status),
}

/// An instance of a filter driver over one adapter.
pub(crate) struct Module {
    pub(crate) handle: usize,
    pub(crate) driver: Arc<FilterDriver>,
    pub(crate) adapter: Arc<Adapter>,
    context: AtomicUsize,
    state: AtomicU32,
    pub(crate) attributes_set: AtomicBool,
    /// Inside FilterSetModuleOptions, the only place for partial characteristics.
    pub(crate) in_set_options: AtomicBool,
    pub(crate) data_handlers: Mutex<PartialCharacteristics>,
    /// Open while frames may be offered.
    pub(crate) gate: Gate,
    /// Open from attach to detach: every other callback passes here.
    pub(crate) calls: Gate,
    /// FilterPause has returned; frames offered from now on must be refused.
    pub(crate) pause_returned: AtomicBool,
    transition: Mutex<Transition>,
    transition_done: Condvar,
    /// NBLs of the lab that have been offered and are not yet home.
    pub(crate) outstanding: AtomicUsize,
    /// NBLs of the filter's own that are above or below.
    pub(crate) own_outstanding: AtomicUsize,
}

impl Module {
    pub(crate) fn new(driver: Arc<FilterDriver>, adapter: Arc<Adapter>) -> Arc<Self> {
        let handlers = driver.handlers;
        let module = Arc::new(Self {
            handle: new_handle(HandleKind::Module),
            context: AtomicUsize::new(0),
            state: AtomicU32::new(State::Attaching as u32),
            attributes_set: AtomicBool::new(false),
            in_set_options: AtomicBool::new(false),
            data_handlers: Mutex::new(default_data_handlers(&handlers)),
            gate: Gate::new(),
            calls: Gate::new(),
            pause_returned: AtomicBool::new(false),
            transition: Mutex::new(Transition::Idle),
            transition_done: Condvar::new(),
            outstanding: AtomicUsize::new(0),
            own_outstanding: AtomicUsize::new(0),
            driver,
            adapter,
        });
        lock(&TABLES)
            .modules
            .insert(module.handle, Arc::clone(&module));
        module
    }

    pub(crate) fn state(&self) -> State {
        let now = self.state.load(Ordering::SeqCst);
        State::ALL
            .into_iter()
            .find(|s| *s as u32 == now)
            .unwrap_or(State::Detached)
    }

    pub(crate) fn set_state(&self, state: State) {
        self.state.store(state as u32, Ordering::SeqCst);
    }

    /// The context the driver set, for its handlers.
    pub(crate) fn context(&self) -> Handle {
        std::ptr::with_exposed_provenance_mut(self.context.load(Ordering::SeqCst))
    }

    pub(crate) fn set_context(&self, context: Handle) {
        self.context
            .store(context.expose_provenance(), Ordering::SeqCst);
        self.attributes_set.store(true, Ordering::SeqCst);
    }

    /// The data handlers in force (Data Bypass Mode).
    pub(crate) fn data(&self) -> PartialCharacteristics {
        *lock(&self.data_handlers)
    }

    /// Fails the run unless the module is in one of `allowed`.
    pub(crate) fn require_state(&self, api: &str, allowed: &[State]) {
        let now = self.state();
        if !allowed.contains(&now) {
            violate!(
                Rule::LabNdisFilterState,
                "{api} on adapter {} in state {now:?}; allowed in {allowed:?}",
                self.adapter.name
            );
        }
    }

    /// Begins an operation which the driver may finish later.
    pub(crate) fn open_transition(&self) {
        *lock(&self.transition) = Transition::Open;
    }

    /// Ends it without waiting (the handler returned its final status).
    pub(crate) fn close_transition(&self) -> Transition {
        std::mem::replace(&mut *lock(&self.transition), Transition::Idle)
    }

    /// The driver calls the completion function; false if nothing was open.
    pub(crate) fn finish_transition(&self, status: Status) -> bool {
        let mut transition = lock(&self.transition);
        let open = *transition == Transition::Open;
        if open {
            *transition = Transition::Done(status);
        }
        self.transition_done.notify_all();
        open
    }

    /// Waits for the completion function; `None` after `limit`.
    pub(crate) fn await_transition(&self, limit: Duration) -> Option<Status> {
        let deadline = Instant::now() + limit;
        let mut transition = lock(&self.transition);
        loop {
            if let Transition::Done(status) = *transition {
                *transition = Transition::Idle;
                return Some(status);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            transition = self
                .transition_done
                .wait_timeout(transition, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

/// The data handlers a module has until it changes them.
pub(crate) fn default_data_handlers(handlers: &FilterCharacteristics) -> PartialCharacteristics {
    PartialCharacteristics {
        header: handlers.header,
        flags: 0,
        send: handlers.send,
        send_complete: handlers.send_complete,
        cancel_send: handlers.cancel_send,
        receive: handlers.receive,
        return_nbls: handlers.return_nbls,
    }
}

/// Lets callers into the filter's data handlers while it is open, and waits
/// for those inside when it closes.
pub(crate) struct Gate {
    open: AtomicBool,
    inside: AtomicUsize,
}

/// Proof of being inside a [`Gate`].
pub(crate) struct Inside<'a>(&'a Gate);

impl Gate {
    /// A closed gate.
    pub(crate) fn new() -> Self {
        Self {
            open: AtomicBool::new(false),
            inside: AtomicUsize::new(0),
        }
    }

    pub(crate) fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
    }

    /// A pass in, or nothing when the gate is closed.
    pub(crate) fn enter(&self) -> Option<Inside<'_>> {
        self.inside.fetch_add(1, Ordering::SeqCst);
        let pass = Inside(self);
        self.open.load(Ordering::SeqCst).then_some(pass)
    }

    /// Closes, and waits until nobody is inside; false after `limit`.
    pub(crate) fn close(&self, limit: Duration) -> bool {
        self.open.store(false, Ordering::SeqCst);
        wait_until(limit, || self.inside.load(Ordering::SeqCst) == 0)
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Polls `done` until it holds; false after `limit`.
pub(crate) fn wait_until(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !done() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    true
}

/// What a handle stands for; part of its number, so that a mix-up is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandleKind {
    Driver = 1,
    Module = 2,
    NblPool = 3,
    /// `SourceHandle` of frames from the host above or the miniport below.
    Lab = 4,
    NbPool = 5,
}

static NEXT_HANDLE: AtomicU64 = AtomicU64::new(1);

/// A new handle: never an address, never used before, odd bits tell its kind.
pub(crate) fn new_handle(kind: HandleKind) -> usize {
    let number = NEXT_HANDLE.fetch_add(1, Ordering::SeqCst) as usize;
    0x4E44_0000_0000_0000 | (kind as usize) << 40 | number << 4
}

pub(crate) struct Tables {
    pub(crate) drivers: BTreeMap<usize, Arc<FilterDriver>>,
    pub(crate) modules: BTreeMap<usize, Arc<Module>>,
    pub(crate) adapters: Vec<Arc<Adapter>>,
}

static TABLES: Mutex<Tables> = Mutex::new(Tables {
    drivers: BTreeMap::new(),
    modules: BTreeMap::new(),
    adapters: Vec::new(),
});

/// The tables, for a moment.
pub(crate) fn tables() -> MutexGuard<'static, Tables> {
    lock(&TABLES)
}

/// The module `handle` names; an unknown handle ends the run.
pub(crate) fn module(api: &str, handle: Handle) -> Arc<Module> {
    let found = tables().modules.get(&handle.addr()).cloned();
    let Some(module) = found else {
        violate!(
            Rule::LabNdisHandle,
            "{api}: {handle:p} is no handle of an attached filter module"
        );
    };
    module
}

/// The registered driver `handle` names, if it is one.
pub(crate) fn driver(handle: Handle) -> Option<Arc<FilterDriver>> {
    tables().drivers.get(&handle.addr()).cloned()
}

/// The adapter called `name`; the first one if no name is given.
pub(crate) fn adapter(name: Option<&str>) -> Result<Arc<Adapter>, String> {
    let tables = tables();
    let found = match name {
        Some(name) => tables.adapters.iter().find(|a| a.name == name),
        None => tables.adapters.first(),
    };
    found.cloned().ok_or_else(|| {
        let names: Vec<&str> = tables.adapters.iter().map(|a| a.name.as_str()).collect();
        format!(
            "no adapter {name:?}; there are {names:?} (adapters exist while a filter is registered)"
        )
    })
}

/// Fails the run unless IRQL is PASSIVE_LEVEL (rule of filter functions).
pub(crate) fn passive(rule: Rule, api: &str) {
    irql::require_exact_rule(rule, api, irql::PASSIVE_LEVEL);
}

/// Fails the run unless IRQL is at most DISPATCH_LEVEL.
pub(crate) fn dispatch(rule: Rule, api: &str) {
    irql::require_max_rule(rule, api, irql::DISPATCH_LEVEL);
}

/// Calls `f`, which calls the driver's `handler`; what it leaves wrong behind
/// is reported as the handler's.
pub(crate) fn call<R>(
    name: &'static str,
    level: u8,
    handler: *const (),
    f: impl FnOnce() -> R,
) -> R {
    stack::blame(handler.addr());
    let result = callout::call(name, level, f);
    stack::blame(handler.addr());
    result
}
