//! RESOLVE: the addresses of a name.
//!
//! The resolver may take as long as DNS does, so the request pends. One lock
//! guards all look-ups under way and their [`Flight`]s; there are
//! [`MAX_LOOKUPS`] at most. What was found is copied by the look-up's task, at
//! `PASSIVE_LEVEL`, as the provider wants it.

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr;

use weir_abi::ReplyHeader;
use weir_abi::limits::MAX_RESOLVED;
use weir_abi::{IpVersion, Request as _, ResolveReply, ResolveRequest, SocketAddress};
use zerocopy::IntoBytes;

use super::flight::{Flight, Submitted};
use super::{GATE, LIVE, TAG};
use crate::error::Error;
use crate::kernel::lock::SpinLock;
use crate::kernel::pool::KBox;
use crate::kernel::status::NtStatus;
use crate::kernel::wdf::{Request, WDFREQUEST};
use crate::wsk::pump::{self, Next, Task};
use crate::wsk::{Client, Family, Lookup, Op, Outcome};

/// Look-ups under way at once, of all handles together.
const MAX_LOOKUPS: u32 = 64;

/// A look-up.
struct Resolving {
    lookup: Lookup,
    op: Op,
    client: Client,
    task: Task,
    state: UnsafeCell<State>,
}

/// Guarded by [`ALL`].
struct State {
    next: *mut Resolving,
    flight: Flight,
    request: Option<Request>,
    outcome: Outcome,
    /// Has been cancelled because the driver stops.
    stopped: bool,
}

/// The state of a look-up. No reference to the whole of one is ever made while others
/// may be at its parts.
///
/// # Safety
/// `raw` isn't freed, and the lock of [`ALL`] is held as long as the reference is.
unsafe fn state<'a>(raw: *mut Resolving) -> &'a mut State {
    // SAFETY: alive (caller).
    let state = unsafe { &raw const (*raw).state };
    // SAFETY: as above; guarded by the lock; one reference at a time.
    unsafe { &mut *UnsafeCell::raw_get(state) }
}

struct All {
    first: *mut Resolving,
    count: u32,
}

// SAFETY: pointers to look-ups that are taken off before they are freed.
unsafe impl Send for All {}

static ALL: SpinLock<All> = SpinLock::new(All {
    first: ptr::null_mut(),
    count: 0,
});

impl All {
    /// The look-up of this request.
    fn find(&self, request: WDFREQUEST) -> Option<*mut Resolving> {
        let mut at = self.first;
        while !at.is_null() {
            // SAFETY: in the list, so alive; its lock is held.
            let state = unsafe { state(at) };
            if state.request.as_ref().is_some_and(|r| r.raw() == request) {
                return Some(at);
            }
            at = state.next;
        }
        None
    }

    fn unlink(&mut self, resolving: *mut Resolving) {
        // SAFETY: not freed before it is off the list; its lock is held.
        let after = unsafe { state(resolving) }.next;
        let mut at = self.first;
        if at == resolving {
            self.first = after;
            self.count = self.count.saturating_sub(1);
            return;
        }
        while !at.is_null() {
            // SAFETY: in the list, so alive; its lock is held.
            let state = unsafe { state(at) };
            if state.next == resolving {
                state.next = after;
                self.count = self.count.saturating_sub(1);
                return;
            }
            at = state.next;
        }
    }
}

/// RESOLVE. Completes the request, sooner or later. `PASSIVE_LEVEL`.
pub(crate) fn resolve(request: Request) {
    let Some(_open) = GATE.acquire() else {
        return request.complete(Error::Unloading.status(), 0);
    };
    match prepare(&request) {
        Ok(resolving) => start(resolving, request),
        Err(error) => request.complete(error.status(), 0),
    }
}

fn prepare(request: &Request) -> Result<KBox<Resolving>, Error> {
    let (bytes, len) = request.input(size_of::<ResolveRequest>())?;
    // SAFETY: `len` bytes of the system's copy, which stays until the request is
    // completed and which nobody writes before.
    let bytes = unsafe { core::slice::from_raw_parts(bytes, len) };
    let wanted = ResolveRequest::decode(bytes).map_err(|e| Error::Command(e.into()))?;
    let query = wanted.query().map_err(|e| Error::Command(e.into()))?;
    // Without the zero behind them.
    let text = |units: &[u16]| units.len().saturating_sub(1);
    let name = query.name.get(..text(query.name)).unwrap_or_default();
    let service = query.service.unwrap_or_default();
    let service = service.get(..text(service)).unwrap_or_default();
    let family = query.family.map(|family| match family {
        IpVersion::V4 => Family::V4,
        IpVersion::V6 => Family::V6,
    });
    let mut resolving = KBox::try_new(
        Resolving {
            lookup: Lookup::try_new(name, service, family, TAG)?,
            op: Op::try_new()?,
            client: Client::acquire()?,
            task: Task::new(step),
            state: UnsafeCell::new(State {
                next: ptr::null_mut(),
                flight: Flight::new(),
                request: None,
                outcome: Outcome {
                    status: NtStatus::UNSUCCESSFUL,
                    information: 0,
                },
                stopped: false,
            }),
        },
        TAG,
    )?;
    let raw = resolving.as_ptr().cast::<c_void>();
    // SAFETY: in pool, where it stays until its step frees it, which comes after
    // the end of the operation.
    unsafe { resolving.op.bind_call(ended, raw) };
    // SAFETY: as above; the step gives it up.
    unsafe { resolving.task.bind(raw) };
    Ok(resolving)
}

fn start(mut resolving: KBox<Resolving>, request: Request) {
    if !LIVE.acquire_raw() {
        return request.complete(Error::Unloading.status(), 0);
    }
    let begun = {
        let mut all = ALL.lock();
        if all.count >= MAX_LOOKUPS {
            Err((resolving, request, Error::TooMany))
        } else if let Err(status) = request.mark_cancelable(Some(evt_cancel)) {
            Err((resolving, request, Error::System(status)))
        } else {
            all.count = all.count.saturating_add(1);
            let state = resolving.state.get_mut();
            state.request = Some(request);
            state.next = all.first;
            all.first = KBox::into_raw(resolving);
            Ok(all.first)
        }
    };
    let raw = match begun {
        Ok(raw) => raw,
        Err((resolving, request, error)) => {
            drop(resolving);
            LIVE.release_raw();
            return request.complete(error.status(), 0);
        }
    };
    {
        // SAFETY: being submitted, so not over and alive.
        let lookup = unsafe { &(*raw).lookup };
        // SAFETY: as above.
        let client = unsafe { &(*raw).client };
        // SAFETY: as above.
        let op = unsafe { &(*raw).op };
        // SAFETY: started once; it stays in pool until its step.
        if let Err(status) = unsafe { lookup.start(client, op) } {
            let outcome = Outcome {
                status,
                information: 0,
            };
            note_end(raw, outcome);
        }
    }
    let mut all = ALL.lock();
    // SAFETY: alive, and its lock is held.
    match unsafe { state(raw) }.flight.submitted() {
        Submitted::Flying => {}
        Submitted::Over => {
            all.unlink(raw);
            drop(all);
            signal(raw);
        }
        Submitted::Cancel => {
            drop(all);
            cancel_now(raw);
        }
    }
}

/// Notes how the operation has ended; true if the look-up is over, and then it is
/// off the list.
fn note_end(raw: *mut Resolving, outcome: Outcome) -> bool {
    let mut all = ALL.lock();
    // SAFETY: not over, so alive; its lock is held.
    let state = unsafe { state(raw) };
    state.outcome = outcome;
    let request = state.request.as_ref();
    let unmark = || request.is_some_and(|request| request.unmark_cancelable().is_ok());
    let over = state.flight.ended(unmark);
    if over {
        all.unlink(raw);
    }
    over
}

/// The provider's operation has ended.
unsafe fn ended(context: *mut c_void, outcome: Outcome) {
    let raw = context.cast::<Resolving>();
    if note_end(raw, outcome) {
        signal(raw);
    }
}

/// The framework's cancel callback.
unsafe extern "C" fn evt_cancel(request: WDFREQUEST) {
    let mut all = ALL.lock();
    let Some(raw) = all.find(request) else {
        return;
    };
    // SAFETY: in the list, so alive; its lock is held.
    let flight = unsafe { &mut state(raw).flight };
    let cancels = flight.cancel();
    let over = flight.came();
    if over {
        all.unlink(raw);
    }
    drop(all);
    if over {
        signal(raw);
    } else if cancels {
        cancel_now(raw);
    }
}

/// Cancels the provider's operation; the caller was told to.
fn cancel_now(raw: *mut Resolving) {
    // SAFETY: a canceller keeps it from being over, so it is alive.
    let op = unsafe { &(*raw).op };
    // SAFETY: as above.
    unsafe { op.cancel() };
    let mut all = ALL.lock();
    // SAFETY: as above; its lock is held.
    let over = unsafe { state(raw) }.flight.cancelled();
    if over {
        all.unlink(raw);
    }
    drop(all);
    if over {
        signal(raw);
    }
}

/// Cancels every look-up: the driver stops, and none is begun any more.
pub(super) fn cancel_all() {
    loop {
        let raw = {
            let all = ALL.lock();
            let mut at = all.first;
            loop {
                if at.is_null() {
                    return;
                }
                // SAFETY: in the list, so alive; its lock is held.
                let state = unsafe { state(at) };
                if !state.stopped && state.flight.cancel() {
                    state.stopped = true;
                    break at;
                }
                at = state.next;
            }
        };
        cancel_now(raw);
    }
}

fn signal(raw: *mut Resolving) {
    // SAFETY: over, and freed by its step alone.
    let task = unsafe { &raw const (*raw).task };
    // SAFETY: bound when it was made; alive until the step has had the signal.
    unsafe { pump::signal(task, 1) };
}

/// Completes the request with what was found, and frees the look-up.
///
/// # Safety
/// `owner` is a look-up that is over, off the list.
unsafe fn step(owner: *mut c_void, _signals: u32) -> Next {
    // SAFETY: into_raw of `start`, taken back once: it is over once.
    let mut resolving = unsafe { KBox::from_raw(owner.cast::<Resolving>(), TAG) };
    let mut found = [SocketAddress::NONE; MAX_RESOLVED];
    let mut total: usize = 0;
    let state = resolving.state.get_mut();
    let (outcome, request) = (state.outcome, state.request.take());
    // SAFETY: the operation has ended with this outcome; called once.
    let result = unsafe {
        resolving
            .lookup
            .finish(&resolving.client, outcome, |address| {
                let address = SocketAddress::from(address);
                // The resolver says each address once for each type of socket.
                if found.iter().take(total).any(|before| *before == address) {
                    return true;
                }
                let Some(place) = found.get_mut(total) else {
                    return false;
                };
                *place = address;
                total = total.saturating_add(1);
                true
            })
    };
    let total = u32::try_from(total).unwrap_or(u32::MAX);
    drop(resolving);
    if let Some(request) = request {
        let len = result.map(|()| reply(&request, &found, total));
        match len {
            Ok(0) => request.complete(NtStatus::BUFFER_TOO_SMALL, 0),
            Ok(len) => request.complete(NtStatus::SUCCESS, len),
            Err(status) => request.complete(status, 0),
        }
    }
    LIVE.release_raw();
    Next::Gone
}

fn reply(request: &Request, found: &[SocketAddress], total: u32) -> usize {
    let Ok((to, room)) = request.output(size_of::<ResolveReply>()) else {
        return 0;
    };
    // SAFETY: `room` bytes of the system's copy, until the request is completed;
    // the request's own bytes have been used.
    let to = unsafe { core::slice::from_raw_parts_mut(to, room) };
    let fits = room
        .saturating_sub(size_of::<ResolveReply>())
        .checked_div(size_of::<SocketAddress>())
        .unwrap_or(0);
    let count = total.min(u32::try_from(fits).unwrap_or(u32::MAX));
    let Some(header) = ReplyHeader::of_list::<ResolveReply, SocketAddress>(count) else {
        return 0;
    };
    let head = ResolveReply {
        header,
        total,
        count,
    };
    let taken = usize::try_from(count).unwrap_or(0);
    let Some(entries) = found.get(..taken) else {
        return 0;
    };
    let Ok(rest) = head.write_to_prefix(to).map(|()| size_of::<ResolveReply>()) else {
        return 0;
    };
    let Some(free) = to.get_mut(rest..) else {
        return 0;
    };
    if entries.write_to_prefix(free).is_err() {
        return 0;
    }
    rest.saturating_add(size_of_val(entries))
}
