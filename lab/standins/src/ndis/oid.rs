//! OID requests on their way through a filter: from the host above as the
//! original, below as the filter's clone, and back.
//!
//! Context. The host issues one regular request at a time to a module, direct
//! ones as they come (Filter Module OID Requests). A request is known by its
//! address; originals that are over stay allocated for a while, so that a late
//! second completion is recognised. The tables here are leaves.

pub(crate) mod calls;

use std::collections::{HashMap, VecDeque};
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::adapter::{Adapter, Later};
use super::consts::{STATUS_PENDING, object, request};
use super::engine::{Module, State, call, lock, wait_until};
use super::frame::read;
use super::miniport::execute;
use super::types::{ObjectHeader, OidData, OidRequest, Status};
use crate::core::{Rule, irql};

pub(crate) use calls::finish;

/// States in which requests may be made and passed on.
const OID_STATES: &[State] = &[
    State::Paused,
    State::Restarting,
    State::Running,
    State::Pausing,
];
/// How long a cancellation waits for its request to come down.
const PASSED_ON: Duration = Duration::from_secs(1);
/// How many finished originals are remembered.
const REMEMBERED: usize = 64;

/// What the host asks for.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) kind: u32,
    pub(crate) oid: u32,
    /// Input, and room for output.
    pub(crate) buffer: Vec<u8>,
    /// For a method request: bytes of `buffer` that are input.
    pub(crate) input: u32,
    pub(crate) method: u32,
    pub(crate) direct: bool,
    /// The miniport keeps the request until it is cancelled, after this time.
    pub(crate) cancel_after: Option<Duration>,
}

impl Spec {
    pub(crate) fn query(oid: u32, room: usize) -> Self {
        Self {
            kind: request::QUERY,
            oid,
            buffer: vec![0; room],
            input: 0,
            method: 0,
            direct: false,
            cancel_after: None,
        }
    }

    pub(crate) fn set(oid: u32, bytes: &[u8]) -> Self {
        Self {
            kind: request::SET,
            buffer: bytes.to_vec(),
            ..Self::query(oid, 0)
        }
    }
}

/// How a request ended.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) status: Status,
    pub(crate) bytes: u32,
    pub(crate) needed: u32,
    pub(crate) buffer: Vec<u8>,
    /// Whether the miniport saw it.
    pub(crate) reached_miniport: bool,
}

/// What the miniport wrote into the clone, which must show in the original.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    status: Status,
    counts: [u32; 5],
    revision: u8,
}

#[derive(Default)]
struct Slot {
    done: Mutex<Option<Status>>,
    signal: Condvar,
}

struct Original {
    module: usize,
    slot: Arc<Slot>,
    answer: Option<Answer>,
    reached: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum At {
    /// With the filter, not yet sent.
    Filter,
    /// With the miniport.
    Below,
    /// Back with the filter.
    Back,
}

struct CloneEntry {
    module: usize,
    original: usize,
    tag: u32,
    at: At,
}

struct Below {
    module: usize,
    direct: bool,
    id: usize,
    aborted: bool,
}

#[derive(Default)]
struct Requests {
    originals: HashMap<usize, Original>,
    over: VecDeque<(usize, Box<OidRequest>)>,
    clones: HashMap<usize, CloneEntry>,
    below: HashMap<usize, Below>,
}

// SAFETY: the requests kept in `over` are plain memory of the lab; the pointers in them are not
// followed any more.
unsafe impl Send for Requests {}

static REQUESTS: LazyLock<Mutex<Requests>> = LazyLock::new(Mutex::default);
static NEXT_ID: AtomicUsize = AtomicUsize::new(0x5245_0000_0001);
/// The miniport keeps the next request with this ID.
static HOLD: AtomicUsize = AtomicUsize::new(0);

/// The fields a miniport fills, whatever the request's kind.
fn counts(data: &OidData, kind: u32) -> [u32; 5] {
    if kind == request::METHOD {
        [
            data.method_written,
            data.method_read,
            data.method_needed,
            0,
            0,
        ]
    } else {
        [data.word1, data.word2, 0, 0, 0]
    }
}

/// Issues one request from above and waits for its end.
pub(crate) fn run(adapter: &Arc<Adapter>, mut spec: Spec) -> Outcome {
    let _one_at_a_time = (!spec.direct).then(|| lock(&adapter.oid));
    let id = NEXT_ID.fetch_add(1, Ordering::SeqCst);
    let mut original = Box::new(new_request(&mut spec, id));
    let Some(module) = adapter.module() else {
        return straight(adapter, original, spec);
    };
    let handlers = &module.driver.handlers;
    let (handler, api) = if spec.direct {
        (handlers.direct_oid_request, "FilterDirectOidRequest")
    } else {
        (handlers.oid_request, "FilterOidRequest")
    };
    let Some(handler) = handler else {
        return straight(adapter, original, spec);
    };
    let Some(_inside) = module.calls.enter() else {
        return straight(adapter, original, spec);
    };
    let at: *mut OidRequest = ptr::from_mut(&mut *original);
    let slot = Arc::new(Slot::default());
    let entry = Original {
        module: module.handle,
        slot: Arc::clone(&slot),
        answer: None,
        reached: false,
    };
    lock(&REQUESTS)
        .originals
        .insert(at.expose_provenance(), entry);
    let canceller = spec.cancel_after.map(|after| {
        HOLD.store(id, Ordering::SeqCst);
        cancel_later(Arc::clone(&module), at.addr(), id, after, spec.direct)
    });
    let level = if spec.direct && adapter.draw(|rng| rng.percent(50)) {
        irql::DISPATCH_LEVEL
    } else {
        irql::PASSIVE_LEVEL
    };
    let begun = Instant::now();
    let immediate = call(api, level, handler as *const (), || {
        // SAFETY: the handler is the driver's; `at` is a request that lives until its end is known.
        unsafe { handler(module.context(), at) }
    });
    let status = conclude(&module, api, &slot, immediate, begun, spec.oid);
    if let Some(canceller) = canceller {
        let _ = canceller.join();
    }
    let now = read(at);
    let entry = lock(&REQUESTS).originals.remove(&at.addr());
    let Some(entry) = entry else {
        violate!(Rule::LabNdisOidResult, "request {at:p} vanished")
    };
    check_result(&entry, &now, status, spec.kind, id);
    let seen = counts(&now.data, spec.kind);
    let outcome = Outcome {
        status,
        bytes: seen[0],
        needed: if spec.kind == request::METHOD {
            seen[2]
        } else {
            seen[1]
        },
        buffer: spec.buffer,
        reached_miniport: entry.reached,
    };
    let mut requests = lock(&REQUESTS);
    requests.over.push_back((at.addr(), original));
    if requests.over.len() > REMEMBERED {
        requests.over.pop_front();
    }
    outcome
}

/// The final status of a request, after what the handler returned.
fn conclude(
    module: &Module,
    api: &str,
    slot: &Slot,
    immediate: Status,
    begun: Instant,
    oid: u32,
) -> Status {
    let limit = module.adapter.shape.oid_timeout();
    let mut done = lock(&slot.done);
    if immediate != STATUS_PENDING {
        if let Some(status) = *done {
            violate!(
                Rule::DoubleComplete,
                "{api} for OID {oid:#010x} returned {immediate:#x} after the request was completed with {status:#x}"
            );
        }
        *done = Some(immediate);
        return immediate;
    }
    loop {
        if let Some(status) = *done {
            return status;
        }
        let Some(left) = limit.checked_sub(begun.elapsed()) else {
            violate!(
                Rule::NdisTimedOidComplete,
                "OID {oid:#010x}: {api} returned NDIS_STATUS_PENDING, not completed within {} ms",
                limit.as_millis()
            );
        };
        done = slot
            .signal
            .wait_timeout(done, left)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
    }
}

/// What the miniport answered must show in the original.
fn check_result(entry: &Original, now: &OidRequest, status: Status, kind: u32, id: usize) {
    if now.request_id.addr() != id || now.source_reserved != [0xA6; 16] {
        violate!(
            Rule::LabNdisOidResult,
            "RequestId or SourceReserved of the original OID request was changed; they belong to its originator"
        );
    }
    let Some(answer) = entry.answer else { return };
    let shown = Answer {
        status,
        counts: counts(&now.data, kind),
        revision: now.supported_revision,
    };
    if shown != answer {
        violate!(
            Rule::LabNdisOidResult,
            "OID {:#010x}: the miniport answered {answer:x?}, the original shows {shown:x?} (copy status, \
             BytesWritten/Read/Needed and SupportedRevision from the clone)",
            now.data.oid
        );
    }
}

fn new_request(spec: &mut Spec, id: usize) -> OidRequest {
    let method = spec.kind == request::METHOD;
    let room = u32::try_from(spec.buffer.len()).unwrap_or(u32::MAX);
    OidRequest {
        header: ObjectHeader {
            kind: object::OID_REQUEST,
            revision: 2,
            size: size_of::<OidRequest>() as u16,
        },
        request_type: spec.kind,
        port_number: 0,
        timeout: 0,
        request_id: ptr::without_provenance_mut(id),
        request_handle: ptr::without_provenance_mut(id | 1),
        data: OidData {
            oid: spec.oid,
            information_buffer: if room == 0 {
                ptr::null_mut()
            } else {
                spec.buffer.as_mut_ptr().cast::<c_void>()
            },
            length: if method { spec.input } else { room },
            word1: if method { room } else { 0 },
            word2: if method { spec.method } else { 0 },
            method_written: 0,
            method_read: 0,
            method_needed: 0,
        },
        ndis_reserved: [0; 128],
        miniport_reserved: [0; 16],
        source_reserved: [0xA6; 16],
        supported_revision: 0,
        reserved1: 0,
        reserved2: 0,
        switch_id: 0,
        vport_id: 0,
        flags: 0,
    }
}

/// No filter in the way: the miniport answers at once.
fn straight(adapter: &Adapter, mut original: Box<OidRequest>, spec: Spec) -> Outcome {
    let status = execute(adapter, &mut original);
    let seen = counts(&original.data, spec.kind);
    Outcome {
        status,
        bytes: seen[0],
        needed: seen[1],
        buffer: spec.buffer,
        reached_miniport: true,
    }
}

fn cancel_later(
    module: Arc<Module>,
    original: usize,
    id: usize,
    after: Duration,
    direct: bool,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        // Not before it can be found, as long as a filter may take to pass it on.
        wait_until(PASSED_ON, || {
            let requests = lock(&REQUESTS);
            let below = |b: &Below| b.module == module.handle && b.id == id;
            requests.below.values().any(below) || !requests.originals.contains_key(&original)
        });
        std::thread::sleep(after);
        let handlers = &module.driver.handlers;
        let handler = if direct {
            handlers.cancel_direct_oid_request
        } else {
            handlers.cancel_oid_request
        };
        if let Some(handler) = handler {
            call(
                "FilterCancelOidRequest",
                irql::PASSIVE_LEVEL,
                handler as *const (),
                || {
                    // SAFETY: the handler is the driver's for this module; the ID is only a number.
                    unsafe { handler(module.context(), ptr::without_provenance_mut(id)) }
                },
            );
        } else {
            cancel_below(&module, id, direct);
        }
    })
}

/// Completes as aborted the request with this ID that is below.
fn cancel_below(module: &Module, id: usize, direct: bool) {
    let mut requests = lock(&REQUESTS);
    let found = requests
        .below
        .iter_mut()
        .find(|(_, b)| b.module == module.handle && b.id == id && b.direct == direct)
        .map(|(at, below)| {
            below.aborted = true;
            *at
        });
    // Found, it is in the queue already or was held and goes there now. Not found,
    // it is over, or the cancellation was faster than the filter: then nobody cancels
    // the request any more, and the miniport is not to keep it until somebody does.
    let _held_another = HOLD.compare_exchange(id, 0, Ordering::SeqCst, Ordering::SeqCst);
    drop(requests);
    match found {
        Some(at) => {
            module.adapter.below.push(Instant::now(), Later::Oid(at));
        }
        None => module.adapter.arrived("cancel_oid_unmatched"),
    }
}

/// Clones a module has not freed.
pub(crate) fn clones_of(module: usize) -> usize {
    lock(&REQUESTS)
        .clones
        .values()
        .filter(|c| c.module == module)
        .count()
}

/// Forgets everything: the session is over.
pub(crate) fn clear() {
    *lock(&REQUESTS) = Requests::default();
    HOLD.store(0, Ordering::SeqCst);
}
