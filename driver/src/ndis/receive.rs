//! The data path from the network to the host. All callbacks here run at
//! `IRQL <= DISPATCH_LEVEL`, on many processors at once.

use core::ptr;

use weir_abi::Direction;

use super::adapter::Module;
use super::divide::{Outcome, divide};
use super::inspect::{self, Inspector, signed};
use super::nbl::{self, Queue};
use super::sys::{self, NDIS_HANDLE, NET_BUFFER_LIST};
use super::{back, part::Part};

/// `FilterReceiveNetBufferLists`.
pub(super) unsafe extern "system" fn receive(
    context: NDIS_HANDLE,
    lists: *mut NET_BUFFER_LIST,
    port: u32,
    _count: u32,
    flags: u32,
) {
    // SAFETY: NDIS passes the context that attach set.
    let module = unsafe { super::module(context) };
    let Some(_inside) = module.gate.acquire() else {
        // SAFETY: the chain is the filter's and goes back here, once.
        return unsafe { refuse(module, lists, flags) };
    };
    let to = Upwards {
        module,
        port,
        flags,
    };
    if flags & sys::NDIS_RECEIVE_FLAGS_RESOURCES != 0 {
        // SAFETY: a valid chain, the filter's until this callback returns; the
        // module is Running, and Pausing waits for _inside.
        unsafe { to.lend(lists) };
    } else {
        // SAFETY: a valid chain, the filter's until it hands it on; as above.
        unsafe { to.hand_over(lists) };
    }
}

/// Where a chain goes, and how it came.
struct Upwards<'a> {
    module: &'a Module,
    port: u32,
    /// They stay true of any part of the chain.
    flags: u32,
}

impl Upwards<'_> {
    /// A chain that is the filter's until it is handed on: up, or back.
    ///
    /// # Safety
    /// `lists` is a valid chain that is the filter's, and no longer afterwards;
    /// the caller is inside the module's gate.
    unsafe fn hand_over(&self, lists: *mut NET_BUFFER_LIST) {
        let mut inspector = Inspector::new(self.module, Direction::In);
        let (mut on, mut stopped) = (Queue::new(), Queue::new());
        // SAFETY: valid; each list is the filter's until the calls below.
        for list in unsafe { nbl::drain(lists) } {
            // SAFETY: the filter's until the calls below.
            match unsafe { divide(&mut inspector, list) } {
                // SAFETY: of the chain that is taken apart here.
                Outcome::On => unsafe { on.push(list) },
                // SAFETY: a list of the filter's own, in no chain.
                Outcome::PartOn(part) => unsafe { on.push(part.into_raw()) },
                // SAFETY: of the chain that is taken apart here.
                Outcome::Back(_) => unsafe { stopped.push(list) },
            }
        }
        // Before the calls: they may be returned from within them.
        inspector.enter();
        drop(inspector);
        if let Some((lists, count)) = on.finish() {
            // SAFETY: the filter's NBLs, handed on once, with the port and the
            // flags they came with; inside the gate by contract.
            unsafe { self.indicate(lists, count) };
        }
        if let Some((lists, _)) = stopped.finish() {
            let flags = self.flags & sys::NDIS_FLAGS_DISPATCH_LEVEL;
            // SAFETY: the filter's NBLs, returned once.
            unsafe { sys::NdisFReturnNetBufferLists(self.module.handle(), lists, flags) };
        }
    }

    /// A chain that the adapter has back when the callback returns
    /// (`NDIS_RECEIVE_FLAGS_RESOURCES`), and that has to be then what it is now.
    /// So it is lent on in runs of lists that go on, each cut out of the chain
    /// for the call and put back after it; what is not lent goes back with the
    /// rest, by the return.
    ///
    /// # Safety
    /// `lists` is a valid chain that is the filter's; the caller is inside the
    /// module's gate.
    unsafe fn lend(&self, lists: *mut NET_BUFFER_LIST) {
        let mut inspector = Inspector::new(self.module, Direction::In);
        let mut run = Run::EMPTY;
        // SAFETY: valid, and the filter's throughout: what is lent is back when
        // the call returns.
        for list in unsafe { nbl::drain(lists) } {
            // SAFETY: as above.
            match unsafe { divide(&mut inspector, list) } {
                Outcome::On => run.extend(list.as_ptr()),
                Outcome::Back(_) => {
                    // SAFETY: a run of the chain, followed by this list.
                    unsafe { self.lend_run(&mut inspector, &mut run, list.as_ptr()) };
                }
                Outcome::PartOn(part) => {
                    // SAFETY: as above.
                    unsafe { self.lend_run(&mut inspector, &mut run, list.as_ptr()) };
                    // SAFETY: a part of this list, not handed on.
                    unsafe { self.lend_part(&mut inspector, part) };
                }
            }
        }
        // SAFETY: the last run of the chain, followed by nothing.
        unsafe { self.lend_run(&mut inspector, &mut run, ptr::null_mut()) };
        // What none of these calls has entered: nothing of it goes on.
        inspector.enter();
    }

    /// Lends a run of the chain that is followed by `next`, and empties it.
    ///
    /// # Safety
    /// As [`Upwards::lend`], and the run is a stretch of that chain.
    unsafe fn lend_run(
        &self,
        inspector: &mut Inspector<'_>,
        run: &mut Run,
        next: *mut NET_BUFFER_LIST,
    ) {
        let Run { head, tail, count } = core::mem::replace(run, Run::EMPTY);
        if tail.is_null() {
            return;
        }
        let frames = inspector.enter();
        // SAFETY: a list of the chain, the filter's.
        unsafe { nbl::set_next(tail, ptr::null_mut()) };
        // SAFETY: the filter's NBLs, lent for the call; inside the gate.
        unsafe { self.indicate(head, count) };
        // SAFETY: the filter's again.
        unsafe { nbl::set_next(tail, next) };
        self.module
            .in_flight(Direction::In, signed(frames).saturating_neg());
    }

    /// Lends a part and ends it.
    ///
    /// # Safety
    /// As [`Upwards::lend`], and the part is of a list of that chain, with its
    /// hold of the gate.
    unsafe fn lend_part(&self, inspector: &mut Inspector<'_>, part: Part) {
        let frames = inspector.enter();
        let list = part.into_raw();
        // SAFETY: the filter's own list, lent for the call; inside the gate.
        unsafe { self.indicate(list.as_ptr(), 1) };
        // SAFETY: from into_raw above, and the filter's again. Its parent goes
        // back with its chain.
        drop(unsafe { Part::from_raw(list) });
        back::release(self.module, 1);
        self.module
            .in_flight(Direction::In, signed(frames).saturating_neg());
    }

    /// # Safety
    /// A chain of `count` lists that are the filter's to hand up now.
    unsafe fn indicate(&self, lists: *mut NET_BUFFER_LIST, count: u32) {
        let (handle, port) = (self.module.handle(), self.port);
        // SAFETY: the contract is the same.
        unsafe {
            sys::NdisFIndicateReceiveNetBufferLists(handle, lists, port, count, self.flags);
        }
    }
}

/// A stretch of a chain.
struct Run {
    head: *mut NET_BUFFER_LIST,
    tail: *mut NET_BUFFER_LIST,
    count: u32,
}

impl Run {
    const EMPTY: Self = Self {
        head: ptr::null_mut(),
        tail: ptr::null_mut(),
        count: 0,
    };

    /// Takes in the list that follows.
    fn extend(&mut self, list: *mut NET_BUFFER_LIST) {
        if self.tail.is_null() {
            self.head = list;
        }
        self.tail = list;
        self.count = self.count.saturating_add(1);
    }
}

/// Gives a chain back to the adapter because the module is not running.
///
/// # Safety
/// `lists` is a valid chain that is the filter's, and no longer afterwards.
unsafe fn refuse(module: &Module, lists: *mut NET_BUFFER_LIST, flags: u32) {
    // SAFETY: valid and the filter's by contract.
    unsafe { inspect::refuse(module, Direction::In, lists) };
    if flags & sys::NDIS_RECEIVE_FLAGS_RESOURCES != 0 {
        // Back by returning: NdisFReturnNetBufferLists must not be called.
        return;
    }
    let flags = flags & sys::NDIS_FLAGS_DISPATCH_LEVEL;
    // SAFETY: the filter's NBLs, returned once (contract above).
    unsafe { sys::NdisFReturnNetBufferLists(module.handle(), lists, flags) };
}

/// `FilterReturnNetBufferLists`: what was indicated is back, in any state. The
/// filter's own ends here; the rest goes on down.
pub(super) unsafe extern "system" fn give_back(
    context: NDIS_HANDLE,
    lists: *mut NET_BUFFER_LIST,
    flags: u32,
) {
    // SAFETY: NDIS passes the context that attach set.
    let module = unsafe { super::module(context) };
    // SAFETY: a valid chain of lists that this module indicated.
    let (others, ended) = unsafe { back::sort(module, lists, Direction::In) };
    if let Some((lists, _)) = others.finish() {
        // SAFETY: the filter's NBLs, handed on once with their flags.
        unsafe { sys::NdisFReturnNetBufferLists(module.handle(), lists, flags) };
    }
    back::release(module, ended);
}
