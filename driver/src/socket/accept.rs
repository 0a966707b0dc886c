//! SOCKET_ACCEPT: from a control handle to a connection of a listener's.
//!
//! A listener has its connections in one of two ways. As they come: the driver
//! has been given them by the provider's event, and holds those nobody has asked
//! for ([`listen`](super::listen)). Or by request: each SOCKET_ACCEPT is one
//! `WskAccept`, whose IRP pends as long as the request. The IRP belongs to the
//! socket that is being opened and the call to the listener, so closing either has
//! to end it: closing a listener does, as the provider completes what is pending
//! on it; and a socket that is closed while it waits cancels it
//! ([`flow::cancel_accept`]).
//!
//! A request that is cancelled as its connection comes is completed by what the IRP
//! says: with the connection, which the handle has then, or with `STATUS_CANCELLED`,
//! and then the connection is still the transport's. A connection whose handle is
//! closed by then is closed.

use core::net::SocketAddr;
use core::sync::atomic::Ordering;

use weir_abi::{SocketAddress, SocketFlags, SocketKind};

use super::flow;
use super::list;
use super::listen::{Queued, close_stream};
use super::marks::mark;
use super::open::{self, begin, set_stream_flags};
use super::sock::{Addresses, Plan, Sock, SockRef, Transport};
use super::work::Work;
use crate::error::Error;
use crate::kernel::log;
use crate::kernel::status::{NtStatus, Result};
use crate::kernel::wdf::Request;
use crate::wsk::{Accept, Ends, Listener, Outcome};

/// SOCKET_ACCEPT. Completes the request, sooner or later. `PASSIVE_LEVEL`.
pub(crate) fn accept(request: Request, listener: u64) {
    let Some(listener) = list::listener(listener) else {
        return request.complete(NtStatus::NOT_FOUND, 0);
    };
    let plan = Plan {
        kind: SocketKind::TcpStream,
        flags: listener
            .flags
            .intersection(SocketFlags::DUAL_STACK)
            .union(listener.passes_on.on()),
        owner: 0,
        addresses: Addresses {
            local: listener.addresses.lock().local,
            remote: SocketAddress::NONE,
        },
        backlog: 0,
    };
    begin(request, plan, |sock, request| {
        sock.opening.set_listener(listener.clone());
        let asked = match &listener.listening {
            Some(listening) => listening.ask(sock, request),
            None => ask_transport(sock, &listener, request).map(|()| None),
        };
        if !matches!(asked, Ok(None)) {
            // Or the listener would be kept as long as its connection.
            sock.opening.forget_listener();
        }
        match asked? {
            None => Ok(None),
            Some((request, queued)) => match take_connection(sock, queued, &listener) {
                Ok(()) => Ok(Some(request)),
                Err(error) => Err((request, error)),
            },
        }
    });
}

/// Has the transport look for a connection of `listener` for `sock`: one call, which
/// ends with `request`.
fn ask_transport(
    sock: &SockRef,
    listener: &SockRef,
    request: Request,
) -> core::result::Result<(), (Request, Error)> {
    if let Some(status) = listener.failure() {
        return Err((request, Error::System(status)));
    }
    listener.counters.asking.fetch_add(1, Ordering::Relaxed);
    let submitted = flow::submit(sock, request, Work::Accept, |_, io| {
        // The call is the listener's. Closed meanwhile: as if it had been later.
        let Some(_calls) = listener.calls.acquire() else {
            return Err(NtStatus::CANCELLED);
        };
        let Some(Transport::Listener(transport)) = listener.transport() else {
            return Err(NtStatus::NOT_FOUND);
        };
        // SAFETY: not submitted yet.
        let (local, remote) = unsafe { io.ends_room() };
        // SAFETY: `calls` of the listener is held over this, so it isn't being
        // closed; the addresses are the operation's own.
        unsafe { transport.accept(&io.op, local, remote) }
    });
    if submitted.is_err() {
        listener.counters.asking.fetch_sub(1, Ordering::Relaxed);
    }
    submitted
}

/// The call has ended, and the request is unmarked or its cancel callback has come.
/// `IRQL <= DISPATCH_LEVEL`.
pub(super) fn ended(sock: SockRef, request: Request, outcome: Outcome, ends: Ends) {
    sock.opening.set_request(request);
    let taken = Listener::accepted(outcome).map(|stream| Queued { stream, ends });
    // Its own reference, until the socket's task has run.
    let Some(listener) = sock.opening.listener() else {
        return found(sock, taken);
    };
    listener.counters.asking.fetch_sub(1, Ordering::Relaxed);
    let taken = taken.map_err(|status| {
        if status == NtStatus::FILE_FORCED_CLOSED {
            listener.listener_failed();
        }
        if let Some(failure) = listener.failure() {
            failure
        } else if listener.is(mark::CLOSING) {
            // What the listener's end is called, whatever ended the call.
            NtStatus::CONNECTION_ABORTED
        } else {
            status
        }
    });
    if taken.is_ok() {
        listener.counters.reads.fetch_add(1, Ordering::Relaxed);
    }
    found(sock, taken);
}

/// Waiting for a connection has ended, and the request is unmarked or its cancel
/// callback has come: the socket's task goes on. `IRQL <= DISPATCH_LEVEL`.
pub(super) fn found(sock: SockRef, result: Result<Queued>) {
    open::go_on(sock, result.map(Some));
}

/// Closes a connection that isn't to be this socket's. `PASSIVE_LEVEL`.
pub(super) fn give_up(sock: &Sock, queued: &Queued) {
    close_stream(&queued.stream, &sock.opener);
}

/// Makes a listener's connection this socket's.
pub(super) fn take_connection(
    sock: &Sock,
    queued: Queued,
    listener: &Sock,
) -> core::result::Result<(), Error> {
    let _calls = match sock.begin_call() {
        Ok(calls) => calls,
        Err(error) => {
            give_up(sock, &queued);
            return Err(error);
        }
    };
    let Queued { stream, ends } = queued;
    // SAFETY: the opener's one call of this.
    unsafe { sock.set_transport(Transport::Stream(stream)) };
    *sock.addresses.lock() = Addresses {
        local: SocketAddr::try_from(&ends.local).ok().into(),
        remote: SocketAddr::try_from(&ends.remote).ok().into(),
    };
    sock.mark(mark::CONNECTED);
    // The connection is there, whatever comes of its options.
    if let Err(status) = set_stream_flags(sock, &listener.passes_on) {
        log::status(c"options of an accepted connection", status);
    }
    Ok(())
}
