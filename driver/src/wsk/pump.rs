//! Where socket work is done: at `PASSIVE_LEVEL`, never inside a completion
//! routine.
//!
//! # Why
//! A provider may complete an IRP inside the call that was given it. A
//! completion routine that makes the next call therefore recurses, as deep as
//! data keeps arriving; and one that runs at `DISPATCH_LEVEL` and keeps making
//! calls starves everybody else on its processor. For both reasons MSDN "Using
//! IRPs with Winsock Kernel Functions" wants no new WSK call in the context of a
//! completion routine. So completion routines here only *signal*, and the calls
//! are made by a handful of work items that drain a queue of tasks: no
//! recursion, a bounded number of steps before others get their turn, and calls
//! for one task never overlap. The price is a work item's latency (tens of
//! microseconds) for each operation that an idle connection has to go on after;
//! under load the queue is drained in batches, by no more workers than it takes.
//!
//! To pay that price once a message and not twice, a step says which signals it
//! has to be woken for. The end of a send, say, with a receive pending beside
//! it, changes nothing that can't be seen to when the next data come: its signal
//! is kept until then.
//!
//! # Tasks
//! A [`Task`] is a part of whatever it works for (a connection, say). Signals
//! are bits; a signalled task is put in the queue once, and its step is given
//! all bits that have been raised since the last step. Steps of one task never
//! run at the same time. A step that returns [`Next::Gone`] has given up its
//! task: the pump doesn't touch it again, so the step may have freed it.
//!
//! # Steps that wait
//! A connection's steps don't wait, and several of them take less time than waking
//! a thread does, so a few share a worker. Those that open a socket for a handle, or
//! close one that has failed, wait for the provider: their tasks are said to
//! ([`Task::that_waits`]), and while such a step runs its worker isn't counted, so
//! that what comes behind it gets another, as long as there is one.
//!
//! # Locks
//! One spin lock, [`QUEUE`], holds the queue and the state of every task.
//! Raising a bit and putting the task in the queue are one critical section,
//! and so are taking the task and its bits. That is what makes freeing safe: a
//! step that has been given a bit knows that whoever raised it has left the
//! task alone. It is the innermost lock of the driver's socket code: it may be
//! taken under a service's lock, and nothing is taken under it.

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr;

use crate::kernel::cpu;
use crate::kernel::lock::SpinLock;
use crate::kernel::rundown::Rundown;
use crate::kernel::status::Result;
use crate::kernel::workitem::WorkItem;

/// Most work items that drain the queue at once. They share their threads with
/// all other work items of the system.
const MAX_WORKERS: usize = 8;

/// Fewest, on however few processors: one may be waiting in a step.
const MIN_WORKERS: usize = 2;

/// Tasks in the queue for each worker that runs before one more is woken.
const TASKS_A_WORKER: usize = 4;

/// Steps a work item takes before it queues itself again, so that work items of
/// others get their turn.
const STEPS_IN_A_ROW: usize = 256;

/// What becomes of a task after its step.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// It waits for one of these signals. Others that are raised meanwhile are
    /// kept, and given to the step with the first of these.
    Keep { waking: u32 },
    /// It is not the pump's any more; it may be freed already. Signals raised
    /// on it from now on do nothing.
    Gone,
}

/// Every signal, for [`Next::Keep`].
pub(crate) const ALL: u32 = u32::MAX;

/// A step: the owner given to [`Task::bind`], and the bits raised.
pub(crate) type Step = unsafe fn(owner: *mut c_void, signals: u32) -> Next;

/// Something to be worked on. Stays at its address once bound.
pub(crate) struct Task {
    owner: *mut c_void,
    step: Step,
    /// Its step may wait.
    waits: bool,
    state: UnsafeCell<State>,
}

/// Guarded by [`QUEUE`].
struct State {
    /// The next task in the queue.
    next: *const Task,
    /// Raised, and not yet given to a step.
    signals: u32,
    /// Those that put the task in the queue.
    waking: u32,
    /// In the queue, or its step is running, or gone.
    busy: bool,
}

impl Task {
    /// A task that isn't bound yet and must not be signalled.
    pub(crate) fn new(step: Step) -> Self {
        Self {
            owner: ptr::null_mut(),
            step,
            waits: false,
            state: UnsafeCell::new(State {
                next: ptr::null(),
                signals: 0,
                waking: ALL,
                busy: false,
            }),
        }
    }

    /// As [`Task::new`], of a step that may wait.
    pub(crate) fn that_waits(step: Step) -> Self {
        Self {
            waits: true,
            ..Self::new(step)
        }
    }

    /// Says what the step is given.
    ///
    /// # Safety
    /// From here on the task stays where it is, and it and `owner` stay good
    /// for the step until the step has returned [`Next::Gone`] (or, if it is
    /// never signalled, for ever).
    pub(crate) unsafe fn bind(&mut self, owner: *mut c_void) {
        self.owner = owner;
    }
}

/// The queue, and who drains it.
struct Queue {
    first: *const Task,
    last: *const Task,
    /// Tasks in the queue.
    length: usize,
    /// Workers that are queued or running, those in a step that waits left out.
    running: usize,
    workers: [Worker; MAX_WORKERS],
}

struct Worker {
    item: Option<WorkItem>,
    /// Queued or running; holds [`RUNNING`].
    running: bool,
}

// SAFETY: the raw pointers are to tasks whose owners keep them alive (bind);
// they carry no affinity to a thread.
unsafe impl Send for Queue {}

static QUEUE: SpinLock<Queue> = SpinLock::new(Queue {
    first: ptr::null(),
    last: ptr::null(),
    length: 0,
    running: 0,
    workers: [const {
        Worker {
            item: None,
            running: false,
        }
    }; MAX_WORKERS],
});

/// Held by each running worker.
static RUNNING: Rundown = Rundown::new();

impl Queue {
    /// Puts `task` at the end and wakes an idle worker, if there is one.
    ///
    /// # Safety
    /// `task` is bound and alive, and isn't in the queue.
    unsafe fn push(&mut self, task: *const Task) {
        if self.last.is_null() {
            self.first = task;
        } else {
            // SAFETY: tasks in the queue are alive (bind), and the lock that
            // guards their state is held.
            let state = unsafe { (*self.last).state.get() };
            // SAFETY: as above; nobody else has a reference to the state.
            unsafe { (*state).next = task };
        }
        self.last = task;
        self.length = self.length.saturating_add(1);
        self.wake();
    }

    /// Wakes one more worker, unless those that run will soon be done with what
    /// there is: steps that don't wait are shorter than waking a thread takes, so a
    /// worker for each task would cost more time than it saves.
    fn wake(&mut self) {
        if self.length <= self.running.saturating_mul(TASKS_A_WORKER) {
            return;
        }
        let idle = self
            .workers
            .iter_mut()
            .find(|worker| !worker.running && worker.item.is_some());
        let Some(worker) = idle else { return };
        let Some(item) = &worker.item else { return };
        // Refused once stop has begun; by then no task is left.
        if !RUNNING.acquire_raw() {
            return;
        }
        worker.running = true;
        self.running = self.running.saturating_add(1);
        // SAFETY: not queued: `running` was clear, which only the item's own
        // callback does.
        unsafe { item.queue() };
    }

    /// The first task with its signals, out of the queue.
    fn pop(&mut self) -> Option<(*const Task, u32)> {
        let task = self.first;
        if task.is_null() {
            return None;
        }
        // SAFETY: tasks in the queue are alive, and the lock is held.
        let state = unsafe { (*task).state.get() };
        // SAFETY: the lock is held, so this is the one reference to the state.
        let state = unsafe { &mut *state };
        self.length = self.length.saturating_sub(1);
        self.first = state.next;
        if self.first.is_null() {
            self.last = ptr::null();
        }
        state.next = ptr::null();
        Some((task, core::mem::take(&mut state.signals)))
    }
}

/// Makes the workers. `PASSIVE_LEVEL`; the control device exists.
pub(super) fn start() -> Result<()> {
    RUNNING.init();
    let count = usize::try_from(cpu::count()).unwrap_or(MAX_WORKERS);
    for index in 0..count.clamp(MIN_WORKERS, MAX_WORKERS) {
        let number = ptr::without_provenance_mut::<c_void>(index);
        // SAFETY: the context is a number, which is good for ever.
        let item = unsafe { WorkItem::try_new(run, number) };
        let item = match item {
            Ok(item) => item,
            // One worker is enough to go on with.
            Err(_) if index > 0 => break,
            Err(status) => return Err(status),
        };
        if let Some(worker) = QUEUE.lock().workers.get_mut(index) {
            worker.item = Some(item);
        }
    }
    Ok(())
}

/// Waits for the workers to end and frees them. `PASSIVE_LEVEL`; every task is
/// gone, and [`start`] has been called.
pub(super) fn stop() {
    RUNNING.wait();
    for index in 0..MAX_WORKERS {
        let item = QUEUE
            .lock()
            .workers
            .get_mut(index)
            .and_then(|worker| worker.item.take());
        // Here, outside the lock, and not queued: its worker has ended.
        drop(item);
    }
}

/// Raises `signals` on a task, and puts it in the queue unless it is there.
/// `IRQL <= DISPATCH_LEVEL`.
///
/// # Safety
/// The task is bound, and alive for as long as its step has not been given
/// these signals.
pub(crate) unsafe fn signal(task: *const Task, signals: u32) {
    let mut queue = QUEUE.lock();
    // SAFETY: alive by the caller's promise; the lock is held.
    let state = unsafe { (*task).state.get() };
    // SAFETY: the lock is held, so this is the one reference to the state.
    let state = unsafe { &mut *state };
    state.signals |= signals;
    if !state.busy && state.signals & state.waking != 0 {
        state.busy = true;
        // SAFETY: bound and alive by the caller's promise; wasn't busy, so it
        // isn't in the queue.
        unsafe { queue.push(task) };
    }
}

/// A work item's callback; the context is the worker's index.
unsafe fn run(context: *mut c_void) {
    let index = context.addr();
    for _ in 0..STEPS_IN_A_ROW {
        let Some((task, signals)) = take(index) else {
            RUNNING.release_raw();
            return;
        };
        let (step, owner, waits) = {
            // SAFETY: a task stays alive until its step returns Gone (bind).
            let task = unsafe { &*task };
            (task.step, task.owner, task.waits)
        };
        if waits {
            let mut queue = QUEUE.lock();
            queue.running = queue.running.saturating_sub(1);
            queue.wake();
        }
        // SAFETY: bind's caller keeps the owner good for the step; `busy` keeps
        // a second step of this task away.
        let next = unsafe { step(owner, signals) };
        if waits {
            let mut queue = QUEUE.lock();
            queue.running = queue.running.saturating_add(1);
        }
        if let Next::Keep { waking } = next {
            // SAFETY: the step kept its task.
            unsafe { put_back(task, waking) };
        }
    }
    again(index);
}

/// The next task; or none, and then this worker has stopped running.
fn take(index: usize) -> Option<(*const Task, u32)> {
    let mut queue = QUEUE.lock();
    let taken = queue.pop();
    if taken.is_none() {
        queue.running = queue.running.saturating_sub(1);
        if let Some(worker) = queue.workers.get_mut(index) {
            worker.running = false;
        }
    }
    taken
}

/// After a step: into the queue again if there are new signals, idle otherwise.
///
/// # Safety
/// The task's step has just returned [`Next::Keep`] to the caller.
unsafe fn put_back(task: *const Task, waking: u32) {
    let mut queue = QUEUE.lock();
    // SAFETY: kept, so alive; the lock is held.
    let state = unsafe { (*task).state.get() };
    // SAFETY: the lock is held, so this is the one reference to the state.
    let state = unsafe { &mut *state };
    state.waking = waking;
    if state.signals & waking == 0 {
        state.busy = false;
    } else {
        // SAFETY: alive, bound, and popped before its step.
        unsafe { queue.push(task) };
    }
}

/// Queues this worker's item once more, without letting go of its turn.
fn again(index: usize) {
    let queue = QUEUE.lock();
    let item = queue
        .workers
        .get(index)
        .and_then(|worker| worker.item.as_ref());
    if let Some(item) = item {
        // SAFETY: this is the item's callback, which has begun; `running` stays
        // set, so nobody else queues it.
        unsafe { item.queue() };
    }
}
