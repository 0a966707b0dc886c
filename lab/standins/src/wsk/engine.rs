//! The provider's engine: what tells readiness, a few worker threads, and the
//! seeded choices that make every client see both ways of everything.
//!
//! Whatever a WSK function may do at once, it sometimes does at once (the IRP
//! completes inside the call) and sometimes from a worker (the call returns
//! STATUS_PENDING); completions and event callbacks run at DISPATCH_LEVEL, and
//! sometimes at PASSIVE_LEVEL. Both are within the contract, so a client has
//! to be right for both.
//!
//! Locks: a socket's state ([`super::state::State`]) is the only lock held
//! around the host's calls. No lock of any kind is held while client code runs.

use super::host::{Event, Fd, Poll};
use super::socket::Socket;
use crate::core::{Rule, callout, config, irql};
use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

const WORKERS: usize = 4;
/// Completions nested this deep in one thread go through a worker.
const INLINE_DEPTH: u32 = 4;
/// What is ready and taken from the host at a time.
const BATCH: usize = 16;
/// Pieces of work a worker does before it asks the host what else is ready.
const TURN: usize = 16;

static RANDOM: AtomicU64 = AtomicU64::new(1);
/// Per cent of the calls that could complete at once and do.
static INLINE: AtomicU32 = AtomicU32::new(50);
/// Per cent of the callbacks that run at DISPATCH_LEVEL.
static DISPATCH: AtomicU32 = AtomicU32::new(75);
/// Per cent of the receive callbacks with WSK_FLAG_RELEASE_ASAP.
static ASAP: AtomicU32 = AtomicU32::new(50);
/// Most bytes in one call of `WskReceiveEvent`.
static INDICATION: AtomicU32 = AtomicU32::new(u32::MAX);
/// Most bytes in one element of its list; 0 leaves it to the seed.
static ELEMENT: AtomicU32 = AtomicU32::new(0);

/// Whether connection requests are inspected before the handshake, where the
/// host allows it.
pub(super) static GATE: AtomicBool = AtomicBool::new(true);

type Task = Box<dyn FnOnce() + Send>;

/// Takes a lock. The workspace aborts on panic, so none is ever poisoned.
pub(super) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a session: the choices begin anew from the configured seed.
///
/// `lab.json`: `"shape": {"seed": N}`, and for this provider
/// `"wsk": {"inline": percent, "dispatch": percent, "asap": percent,
/// "indication": bytes, "element": bytes, "gate": bool}`.
pub(super) fn begin() {
    let config = config::get();
    let seed = config.shape.get("seed").and_then(serde_json::Value::as_u64);
    RANDOM.store(seed.unwrap_or(1), Ordering::SeqCst);
    let wsk = config.extra.get("wsk");
    let number = |name: &str, default: u32| {
        wsk.and_then(|section| section.get(name))
            .and_then(serde_json::Value::as_u64)
            .and_then(|value| u32::try_from(value).ok())
            .unwrap_or(default)
    };
    INLINE.store(number("inline", 50), Ordering::SeqCst);
    DISPATCH.store(number("dispatch", 75), Ordering::SeqCst);
    ASAP.store(number("asap", 50), Ordering::SeqCst);
    INDICATION.store(number("indication", u32::MAX).max(1), Ordering::SeqCst);
    let gate = wsk.and_then(|section| section.get("gate"));
    let gate = gate.and_then(serde_json::Value::as_bool);
    GATE.store(gate.unwrap_or(true), Ordering::SeqCst);
    ELEMENT.store(number("element", 0), Ordering::SeqCst);
}

/// The next number of the seeded sequence (splitmix64).
pub(super) fn random() -> u64 {
    const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut z = RANDOM.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn chance(percent: u32) -> bool {
    random() % 100 < u64::from(percent)
}

/// Whether a call that could complete at once shall.
pub(super) fn inline_now() -> bool {
    super::irp::depth() < INLINE_DEPTH && chance(INLINE.load(Ordering::Relaxed))
}

/// The IRQL for client code called from here: never below the current one.
pub(super) fn level() -> u8 {
    if irql::current() >= irql::DISPATCH_LEVEL || chance(DISPATCH.load(Ordering::Relaxed)) {
        irql::DISPATCH_LEVEL
    } else {
        irql::PASSIVE_LEVEL
    }
}

/// Whether a receive callback is to say WSK_FLAG_RELEASE_ASAP.
pub(super) fn release_asap() -> bool {
    chance(ASAP.load(Ordering::Relaxed))
}

/// Most bytes in one call of `WskReceiveEvent`.
pub(super) fn most_indicated() -> usize {
    INDICATION.load(Ordering::Relaxed) as usize
}

/// Most bytes in one element of its list, when that is not the seed's to say.
pub(super) fn most_in_element() -> Option<usize> {
    Some(ELEMENT.load(Ordering::Relaxed) as usize).filter(|most| *most > 0)
}

/// Enters an event callback function, which must not wait for anything.
pub(super) fn callback<R>(
    name: &'static str,
    routine: usize,
    level: u8,
    f: impl FnOnce() -> R,
) -> R {
    callout::forbid_wait(Rule::LabWskWaitInCallback, || {
        callout::call_at(name, routine, level, f)
    })
}

/// A piece of work.
enum Work {
    Task(Task),
    /// A socket's descriptor has become ready.
    Ready(Event),
}

/// What is to be done, oldest first, whoever it is of: each socket gets its turn,
/// and what a worker has taken from the host doesn't wait for that worker.
struct Queue {
    work: VecDeque<Work>,
    /// How many of them are tasks.
    tasks: usize,
}

static QUEUE: Mutex<Queue> = Mutex::new(Queue {
    work: VecDeque::new(),
    tasks: 0,
});

type Watched = Mutex<HashMap<u64, Weak<Socket>>>;
/// Sockets by the name their descriptor is watched under.
static WATCHED: LazyLock<[Watched; 16]> = LazyLock::new(Default::default);

thread_local! {
    /// This thread is a worker, and looks for tasks when it is done.
    static WORKER: Cell<bool> = const { Cell::new(false) };
}

/// What tells readiness; `None` when the host has no more descriptors.
pub(super) fn poll() -> Option<&'static Poll> {
    static POLL: OnceLock<Option<&'static Poll>> = OnceLock::new();
    *POLL.get_or_init(|| {
        let poll: &'static Poll = Box::leak(Box::new(Poll::new()?));
        for number in 0..WORKERS {
            std::thread::Builder::new()
                .name(format!("lab-wsk-{number}"))
                .spawn(move || work(poll))
                .ok()?;
        }
        Some(poll)
    })
}

fn watched(name: u64) -> &'static Watched {
    &WATCHED[(name % 16) as usize]
}

/// From here on the socket is told when a descriptor of its own is ready.
pub(super) fn watch(socket: &Arc<Socket>, fd: Fd) -> Result<(), i32> {
    lock(watched(socket.id)).insert(socket.id, Arc::downgrade(socket));
    match poll() {
        Some(poll) => poll.add(fd, socket.id),
        None => Err(super::host::errno::EMFILE),
    }
}

/// The socket has no descriptors any more.
pub(super) fn unwatch(id: u64) {
    lock(watched(id)).remove(&id);
}

/// Runs `task` on a worker, at PASSIVE_LEVEL.
pub(super) fn post(task: impl FnOnce() + Send + 'static) {
    let waiting = {
        let mut queue = lock(&QUEUE);
        queue.work.push_back(Work::Task(Box::new(task)));
        queue.tasks += 1;
        queue.tasks
    };
    // A worker does it itself before it waits again, unless the client keeps it
    // or there is more than one thing to do.
    if (waiting > 1 || !WORKER.get() || callout::inside())
        && let Some(poll) = poll()
    {
        poll.wake();
    }
}

/// The oldest piece of work, and whether tasks are left for others.
fn take() -> Option<(Work, bool)> {
    let mut queue = lock(&QUEUE);
    let work = queue.work.pop_front()?;
    if matches!(work, Work::Task(_)) {
        queue.tasks -= 1;
    }
    Some((work, queue.tasks > 0))
}

fn work(poll: &'static Poll) {
    WORKER.set(true);
    let mut events = [Event::default(); BATCH];
    loop {
        let idle = lock(&QUEUE).work.is_empty();
        let count = poll.ready(&mut events, idle);
        if count > 0 {
            let ready = events.iter().take(count).copied();
            lock(&QUEUE).work.extend(ready.map(Work::Ready));
        }
        for _ in 0..TURN {
            let Some((work, more)) = take() else { break };
            if more {
                poll.wake();
            }
            match work {
                Work::Task(task) => task(),
                Work::Ready(event) => tell(event),
            }
        }
    }
}

fn tell(event: Event) {
    let socket = lock(watched(event.name)).get(&event.name).cloned();
    if let Some(socket) = socket.and_then(|socket| socket.upgrade()) {
        socket.ready(event.ready);
    }
}
