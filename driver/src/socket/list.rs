//! Every socket of a handle, in the order of their ids, and how one is found.
//!
//! One lock guards the links of all sockets and the pointer each handle has to
//! its socket while that is being opened. It may be taken alone or before a
//! socket's own locks, never under one of them.

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use weir_abi::SocketKind;

use super::sock::{Sock, SockRef};
use crate::handle::Handle;
use crate::kernel::lock::SpinLock;

/// Sockets that a walk passes before it lets go of the lock for a moment.
const IN_A_ROW: usize = 64;

/// A socket's neighbours.
pub(super) struct Links {
    before: *const Sock,
    after: *const Sock,
    /// The next listener, if it is one: they are few, and looked for often.
    next_listener: *const Sock,
    linked: bool,
}

impl Links {
    pub(super) const fn new() -> Self {
        Self {
            before: ptr::null(),
            after: ptr::null(),
            next_listener: ptr::null(),
            linked: false,
        }
    }
}

struct List {
    first: *const Sock,
    last: *const Sock,
    listeners: *const Sock,
}

// SAFETY: pointers to sockets that are unlinked before they are freed; they have
// no affinity to a thread.
unsafe impl Send for List {}

static LIST: SpinLock<List> = SpinLock::new(List {
    first: ptr::null(),
    last: ptr::null(),
    listeners: ptr::null(),
});

static COUNT: AtomicU32 = AtomicU32::new(0);

/// How many there are.
pub(super) fn count() -> u32 {
    COUNT.load(Ordering::Relaxed)
}

/// The links of a socket.
///
/// # Safety
/// `sock` is alive, and the list's lock is held for as long as the reference is.
unsafe fn links<'a>(sock: *const Sock) -> &'a mut Links {
    // SAFETY: alive (caller).
    let links = unsafe { (*sock).links.get() };
    // SAFETY: guarded by the list's lock, which the caller holds; one reference
    // at a time is used.
    unsafe { &mut *links }
}

/// For an assertion: whoever asks has the last reference.
pub(super) fn is_linked(sock: &Sock) -> bool {
    // SAFETY: nobody else has the socket any more.
    unsafe { (*sock.links.get()).linked }
}

/// Adds a socket that is being opened on `handle`, which shows it from now on.
/// Sockets are added in about the order of their ids; the place is looked for
/// from the end.
pub(super) fn add(sock: &SockRef, handle: &Handle) {
    let own: *const Sock = &raw const **sock;
    sock.hold_by_handle();
    let mut list = LIST.lock();
    handle.socket().store(own.cast_mut(), Ordering::Release);
    let mut before = list.last;
    // SAFETY: linked sockets are alive; ids don't change.
    while !before.is_null() && unsafe { (*before).id } > sock.id {
        // SAFETY: linked, and the lock is held.
        before = unsafe { links(before) }.before;
    }
    let after = if before.is_null() {
        list.first
    } else {
        // SAFETY: as above.
        unsafe { links(before) }.after
    };
    {
        // SAFETY: alive (caller), and the lock is held.
        let links = unsafe { links(own) };
        links.before = before;
        links.after = after;
        links.linked = true;
        if sock.kind == SocketKind::TcpListener {
            links.next_listener = list.listeners;
            list.listeners = own;
        }
    }
    if before.is_null() {
        list.first = own;
    } else {
        // SAFETY: linked.
        unsafe { links(before) }.after = own;
    }
    if after.is_null() {
        list.last = own;
    } else {
        // SAFETY: linked.
        unsafe { links(after) }.before = own;
    }
    COUNT.fetch_add(1, Ordering::Relaxed);
}

/// Takes a socket off the list, and off its handle if `handle` still shows it.
pub(super) fn remove(sock: &Sock, handle: Option<&AtomicPtr<Sock>>) {
    let own: *const Sock = sock;
    let mut list = LIST.lock();
    if let Some(handle) = handle {
        let _ = handle.compare_exchange(
            own.cast_mut(),
            ptr::null_mut(),
            Ordering::AcqRel,
            Ordering::Acquire,
        );
    }
    let (before, after, next_listener) = {
        // SAFETY: alive (caller), and the lock is held.
        let links = unsafe { links(own) };
        if !links.linked {
            return;
        }
        links.linked = false;
        (links.before, links.after, links.next_listener)
    };
    if before.is_null() {
        list.first = after;
    } else {
        // SAFETY: linked.
        unsafe { links(before) }.after = after;
    }
    if after.is_null() {
        list.last = before;
    } else {
        // SAFETY: linked.
        unsafe { links(after) }.before = before;
    }
    if sock.kind == SocketKind::TcpListener {
        if list.listeners == own {
            list.listeners = next_listener;
        } else {
            let mut at = list.listeners;
            while !at.is_null() {
                // SAFETY: linked, and the lock is held.
                let links = unsafe { links(at) };
                if links.next_listener == own {
                    links.next_listener = next_listener;
                    break;
                }
                at = links.next_listener;
            }
        }
    }
    COUNT.fetch_sub(1, Ordering::Relaxed);
}

/// The socket a handle shows.
pub(super) fn of_handle(handle: &Handle) -> Option<SockRef> {
    let _list = LIST.lock();
    let sock = handle.socket().load(Ordering::Acquire);
    // SAFETY: what a handle shows is alive: it is taken off under the lock before
    // the handle's reference is given up.
    unsafe { sock.as_ref() }.map(Sock::reference)
}

/// The listener with this id.
pub(super) fn listener(id: u64) -> Option<SockRef> {
    let list = LIST.lock();
    let mut at = list.listeners;
    // SAFETY: null, or linked and so alive while the lock is held.
    while let Some(sock) = unsafe { at.as_ref() } {
        if sock.id == id {
            return Some(sock.reference());
        }
        // SAFETY: linked, and the lock is held.
        at = unsafe { links(at) }.next_listener;
    }
    None
}

/// The first socket with an id above `id`.
pub(super) fn after(id: u64) -> Option<SockRef> {
    let list = LIST.lock();
    let mut at = list.first;
    // SAFETY: null, or linked and so alive while the lock is held.
    while let Some(sock) = unsafe { at.as_ref() } {
        if sock.id > id {
            return Some(sock.reference());
        }
        // SAFETY: linked, and the lock is held.
        at = unsafe { links(at) }.after;
    }
    None
}

/// Hands the sockets with ids above `id` to `each`, until it returns false or some
/// have been handed over. The id to go on after, `None` if those were all.
/// `each` runs under the list's lock.
pub(super) fn walk(id: u64, mut each: impl FnMut(&Sock) -> bool) -> Option<u64> {
    let list = LIST.lock();
    let mut at = list.first;
    let mut last = id;
    let mut seen: usize = 0;
    // SAFETY: null, or linked and so alive while the lock is held.
    while let Some(sock) = unsafe { at.as_ref() } {
        if sock.id > id {
            if seen >= IN_A_ROW || !each(sock) {
                return Some(last);
            }
            seen = seen.saturating_add(1);
            last = sock.id;
        }
        // SAFETY: linked, and the lock is held.
        at = unsafe { links(at) }.after;
    }
    None
}
