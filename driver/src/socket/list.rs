//! Every socket of a handle, in the order of their ids, and how one is found.
//!
//! One lock guards the links of all sockets and the pointer each handle has to
//! its socket while that is being opened. It may be taken alone or before a
//! socket's own locks, never under one of them. However many sockets there are, it
//! is held for a bounded time: a few dozen steps to find one, and so often no more
//! than [`IN_A_ROW`] times.

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use weir_abi::SocketKind;

use super::sock::{Sock, SockRef};
use super::tree::{Keyed, Links, Tree};
use crate::handle::Handle;
use crate::kernel::lock::SpinLock;

/// Sockets that a walk shows before it lets go of the lock for a moment.
const IN_A_ROW: usize = 64;

impl Keyed for Sock {
    fn key(&self) -> u64 {
        self.id
    }

    fn links(&self) -> &Links<Self> {
        &self.links
    }
}

static LIST: SpinLock<Tree<Sock>> = SpinLock::new(Tree::new());

static COUNT: AtomicU32 = AtomicU32::new(0);

/// How many there are.
pub(super) fn count() -> u32 {
    COUNT.load(Ordering::Relaxed)
}

/// Adds a socket that is being opened on `handle`, which shows it from now on.
pub(super) fn add(sock: &SockRef, handle: &Handle) {
    let own: *const Sock = &raw const **sock;
    sock.hold_by_handle();
    let mut list = LIST.lock();
    handle.socket().store(own.cast_mut(), Ordering::Release);
    // SAFETY: in no list, with an id of its own; taken out before it is freed.
    unsafe { list.insert(own) };
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
    if sock.links.is_linked() {
        // SAFETY: in the list.
        unsafe { list.remove(own) };
        COUNT.fetch_sub(1, Ordering::Relaxed);
    }
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
    let sock = list.get(id)?;
    (sock.kind == SocketKind::TcpListener).then(|| sock.reference())
}

/// The socket with the lowest id.
pub(super) fn first() -> Option<SockRef> {
    LIST.lock().above(None).map(Sock::reference)
}

/// Hands the sockets with ids above `id` to `each`, until it returns false or some
/// have been handed over. The id to go on after, `None` if those were all.
/// `each` runs under the list's lock.
pub(super) fn walk(id: u64, mut each: impl FnMut(&Sock) -> bool) -> Option<u64> {
    let list = LIST.lock();
    let mut last = id;
    for _ in 0..IN_A_ROW {
        let sock = list.above(Some(last))?;
        if !each(sock) {
            break;
        }
        last = sock.id;
    }
    Some(last)
}
