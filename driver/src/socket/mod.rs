//! Kernel sockets as handles: the roles TCP stream, TCP listener and UDP socket.
//!
//! # Who calls what, at which IRQL
//!
//! | call | from | IRQL |
//! |---|---|---|
//! | [`start`], [`stop`] | load, unload | `PASSIVE_LEVEL` |
//! | [`open`], [`accept`], [`resolve`], [`shutdown`], options, [`info`], [`list`] | IOCTLs | `PASSIVE_LEVEL` |
//! | [`read`], [`write`] | `EvtIoRead`, `EvtIoWrite` | `PASSIVE_LEVEL` |
//! | [`close`], [`forget`] | the handle's clean-up and close | `PASSIVE_LEVEL` |
//! | ends of operations, the accept and inspect events | the provider | `<= DISPATCH_LEVEL` |
//! | cancel callbacks | whoever cancels | `<= DISPATCH_LEVEL` |
//! | tasks of sockets and look-ups that are being opened, of sockets that have failed | the pump's work items | `PASSIVE_LEVEL` |
//!
//! # How data moves
//! A read or a write is direct I/O: its locked pages go to the provider as they
//! are, described by the request's own MDL, and the provider's completion
//! completes the request. Nothing is copied and nothing waits in between; a
//! datagram's header alone is written by way of a mapping of the pages.
//!
//! # Backpressure, and memory
//! Nothing is received that no read has asked for: what comes meanwhile is the
//! transport's, as much of it as `SO_RCVBUF` says (SOCKET_OPEN's receive limit),
//! and then TCP's window stops the peer, and UDP drops. The other way, WSK
//! buffers no sends: a write completes when the transport has done with its
//! bytes, and a client that waits for its writes is held up by a slow peer. A
//! socket has up to 64 reads and 64 writes in the air; beyond, they are refused.
//! So the driver has for each socket a few hundred bytes, two IRPs (a listener
//! three), and an IRP and a few hundred bytes for each operation that was ever in the
//! air at once, of which there are no more than may be; a listener a place for each
//! connection of its backlog: what comes when it is full is given up (reset). A listener whose connections are asked for has no places;
//! what nobody has asked for waits in the transport, as much of it as that takes.
//!
//! # Cancelling
//! A request in the air is cancelable, and is completed exactly once, by whoever
//! is the last to leave it: [`flight`] says how. Cancelling it cancels the
//! provider's operation and waits for its end, so its pages aren't anybody's when
//! it is completed, and what had been received by then is its result.
//!
//! # What keeps what alive
//! A socket is counted. References are held by its handle, by each operation in
//! the air, by a listener's line of acceptors, by the steps of its tasks, and by
//! calls that work with it. The last one to go frees it. [`LIVE`] is held by each
//! socket and each look-up until it is freed; unload waits for it.
//!
//! A handle shows its socket from the moment the socket begins to be opened; a
//! reference is counted from there under the list's lock, so that an opening that
//! fails can take the socket back without another call being left with a
//! dangling pointer. Once a handle has the role, it shows its socket until the
//! file object is closed, which is after every request of it has been completed.
//!
//! # How a socket is closed
//! By the handle's clean-up, by an opening that fails, by its task if the provider
//! gives it up, or at unload; once.
//! [`Sock::shut`](sock::Sock) says so in the socket's marks, sends away who waits
//! for its connections, waits for the calls that are being made on it (a rundown),
//! has the provider close it, and waits for that: the provider ends everything
//! that is pending, each with what it came to, or `STATUS_CANCELLED`. A connection
//! that both sides had shut down ends in order; any other is reset, as WSK has it.
//! A process that is killed has its handles closed by the system: the same. A
//! socket that the provider has given up (`STATUS_FILE_FORCED_CLOSED`, or an event of
//! a listener's without a connection) is closed by its task, at once, whatever its
//! handle does: the handle is left with a socket that says so, and so do the requests
//! that end with it. And an accept that waits in the transport is cancelled, as it is the listener's call.
//!
//! # Locks
//! | lock | guards | may be taken under it |
//! |---|---|---|
//! | the list's | links, what handles show | those below |
//! | a listener's queue | connections and acceptors that wait | an opening's |
//! | a socket's operations | their flights, the lists of them | none |
//! | an opening's | its request and result | none |
//! | a socket's addresses | these | none |
//! | the look-ups' | all of them | none |
//!
//! Requests are marked cancelable and unmarked under the lock that guards them,
//! and completed under none. The provider is called under none.
//!
//! # Unload
//! Windows doesn't unload a driver whose device has open handles; should it
//! happen all the same, [`stop`] shuts [`GATE`], so that no handle's request,
//! clean-up or close comes in here any more, closes every socket itself, gives up
//! the reference of its handle, and waits.

mod accept;
mod admit;
mod flight;
mod flow;
mod io;
mod line;
mod list;
mod listen;
mod marks;
mod open;
mod option;
mod resolve;
mod sock;
mod stream;
mod tree;
mod udp;
mod work;

use core::sync::atomic::{AtomicU64, Ordering};

use weir_abi::{ReplyHeader, ShutdownHow, SocketInfo, SocketKind, SocketShutdownReply};
use zerocopy::IntoBytes;

use crate::error::Error;
use crate::handle::{self, Handle};
use crate::kernel::pool::Tag;
use crate::kernel::rundown::Rundown;
use crate::kernel::wdf::{self, Request, WDFREQUEST};
use sock::SockRef;

pub(crate) use accept::accept;
pub(crate) use admit::peer as admits;
pub(crate) use open::open;
pub(crate) use option::{get_option, set_option};
pub(crate) use resolve::resolve;
pub(crate) use sock::Sock;

const TAG: Tag = Tag::new(*b"WrSo");

/// Open while handles may have sockets; [`stop`] shuts it.
static GATE: Rundown = Rundown::new();

/// Held by each socket and each look-up until it is freed.
static LIVE: Rundown = Rundown::new();

/// The id the last socket got.
static LAST_ID: AtomicU64 = AtomicU64::new(0);

/// An id no socket has had: from 1. There are enough of them.
pub(crate) fn next_id() -> u64 {
    LAST_ID.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
}

/// Makes ready. Before the device exists.
pub(crate) fn start() {
    GATE.init();
    LIVE.init();
}

/// Closes every socket and ends every look-up. `PASSIVE_LEVEL`; no IOCTL runs any
/// more, and the provider is still there.
pub(crate) fn stop() {
    GATE.wait();
    resolve::cancel_all();
    while let Some(sock) = list::first() {
        sock.shut();
        give_up_opening(&sock);
        list::remove(&sock, None);
        drop(sock.release_from_handle());
    }
    LIVE.wait();
}

/// How many handles are in the role of a socket, or about to be.
pub(crate) fn count() -> u32 {
    list::count()
}

/// The clean-up of a handle: closes its socket, or what is being opened on it.
/// `PASSIVE_LEVEL`.
pub(crate) fn close(handle: &Handle) {
    let Some(_open) = GATE.acquire() else { return };
    let Some(sock) = list::of_handle(handle) else {
        return;
    };
    sock.shut();
    give_up_opening(&sock);
}

/// The close of a handle: no request of it is left, and it gives up its socket.
/// `PASSIVE_LEVEL`.
pub(crate) fn forget(handle: &Handle) {
    let Some(_open) = GATE.acquire() else { return };
    if let Some(sock) = list::of_handle(handle) {
        list::remove(&sock, Some(handle.socket()));
        drop(sock.release_from_handle());
    }
}

/// Lets a SOCKET_ACCEPT that waits on this socket's handle wait no longer. After
/// [`Sock::shut`](sock::Sock), which keeps one that is just coming from waiting.
fn give_up_opening(sock: &SockRef) {
    if let Some(listener) = sock.opening.listener()
        && let Some(listening) = &listener.listening
    {
        listening.give_up(sock);
    }
}

/// The socket a request's handle shows.
///
/// # Safety
/// The request has not been completed, and is not before this has returned.
unsafe fn of_raw(request: WDFREQUEST) -> Option<SockRef> {
    let handle = handle::of_file(wdf::file_of(request))?;
    // SAFETY: the file object and its context live until every request of it
    // has been completed (caller).
    list::of_handle(unsafe { &*handle })
}

/// The socket of a handle that has the role.
fn of_role(handle: &Handle) -> Result<SockRef, Error> {
    handle.require_socket()?;
    list::of_handle(handle).ok_or(Error::Closing)
}

/// Takes a read of `length` bytes, and completes it, sooner or later.
pub(crate) fn read(request: Request, length: usize) {
    transfer(request, |sock, request| match sock.kind {
        SocketKind::TcpStream => stream::read(sock, request, length),
        SocketKind::Udp => udp::read(sock, request, length),
        SocketKind::TcpListener => request.complete(Error::WrongRole.status(), 0),
    });
}

/// Takes a write of `length` bytes, and completes it, sooner or later.
pub(crate) fn write(request: Request, length: usize) {
    transfer(request, |sock, request| match sock.kind {
        SocketKind::TcpStream => stream::write(sock, request, length),
        SocketKind::Udp => udp::write(sock, request, length),
        SocketKind::TcpListener => request.complete(Error::WrongRole.status(), 0),
    });
}

/// Finds the socket of the request's handle for `go`, which completes the request.
fn transfer(request: Request, go: impl FnOnce(&SockRef, Request)) {
    let Some(_open) = GATE.acquire() else {
        return request.complete(Error::Unloading.status(), 0);
    };
    let sock = handle::of_request(&request)
        .ok_or(Error::WrongRole)
        .and_then(of_role);
    match sock {
        Ok(sock) => go(&sock, request),
        Err(error) => request.complete(error.status(), 0),
    }
}

/// SOCKET_SHUTDOWN. Completes the request, sooner or later.
pub(crate) fn shutdown(request: Request, how: ShutdownHow) {
    transfer(request, |sock, request| {
        if let Err((request, error)) = stream::shutdown(sock, request, how) {
            request.complete(error.status(), 0);
        }
    });
}

/// Writes the reply of SOCKET_SHUTDOWN; its length.
fn shut_reply(request: &Request) -> usize {
    let reply = SocketShutdownReply {
        header: ReplyHeader::of::<SocketShutdownReply>(),
    };
    put(request, reply.as_bytes())
}

/// Writes a reply where its request was, for which there is room (it was looked
/// at when the request came); its length.
fn put(request: &Request, reply: &[u8]) -> usize {
    let Ok((to, _)) = request.output(reply.len()) else {
        return 0;
    };
    // SAFETY: at least as many bytes as asked for, until the request is completed.
    unsafe { core::ptr::copy_nonoverlapping(reply.as_ptr(), to, reply.len()) };
    reply.len()
}

/// SOCKET_INFO.
pub(crate) fn info(handle: &Handle) -> Result<SocketInfo, Error> {
    let _open = GATE.acquire().ok_or(Error::Unloading)?;
    Ok(of_role(handle)?.info())
}

/// The sockets with ids from `id` on, in their order, until `each` returns false;
/// the id of the one it was then, `None` if those were all.
pub(crate) fn list(id: u64, mut each: impl FnMut(&SocketInfo) -> bool) -> Option<u64> {
    let mut after = id.saturating_sub(1);
    let mut stopped = None;
    loop {
        let next = list::walk(after, |sock| {
            let fits = each(&sock.info());
            if !fits {
                stopped = Some(sock.id);
            }
            fits
        });
        if stopped.is_some() {
            return stopped;
        }
        after = next?;
    }
}
