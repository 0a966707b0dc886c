//! SOCKET_OPEN, and what SOCKET_ACCEPT has in common with it: from a control handle
//! to a socket.
//!
//! Binding and listening are over when the IOCTL's handler returns. Connecting
//! and accepting are waited for by nobody: the request pends, and when the
//! connection is there, or won't be, the socket's task does the rest in a work
//! item, since completion routines may not make calls to the provider. It waits
//! there for the transport to say its addresses, which it does at once.

use core::ffi::c_void;
use core::net::SocketAddr;

use weir_abi::{ReplyHeader, SocketFlags, SocketKind, SocketOpenReply, SocketSpec};
use zerocopy::IntoBytes;

use super::flow;
use super::listen::Queued;
use super::marks::mark;
use super::sock::{Addresses, PassesOn, Plan, Sock, SockRef, Transport};
use super::work::Work;
use super::{GATE, accept, list, udp};
use crate::error::Error;
use crate::handle::{self, Handle, Role};
use crate::kernel::lock::SpinLock;
use crate::kernel::status::{NtStatus, Result};
use crate::kernel::wdf::Request;
use crate::wsk::pump::{self, Next};
use crate::wsk::{Datagram, Endpoint as _, Listener, Number, Options, Outcome, SockAddr, Stream};

/// The signal of a socket's tasks, each of which gets it once at most.
const NOW: u32 = 1;

/// What is asked for while a socket is being opened.
pub(super) struct Opening {
    state: SpinLock<State>,
}

struct State {
    request: Option<Request>,
    /// What came of connecting, or of waiting for a connection.
    result: Result<Option<Queued>>,
    /// The listener whose connection is wanted.
    listener: Option<SockRef>,
}

impl Opening {
    pub(super) const fn new() -> Self {
        Self {
            state: SpinLock::new(State {
                request: None,
                result: Err(NtStatus::UNSUCCESSFUL),
                listener: None,
            }),
        }
    }

    pub(super) fn set_request(&self, request: Request) {
        self.state.lock().request = Some(request);
    }

    /// Unmarks the request that waits; false if its cancel callback is coming.
    pub(super) fn unmark(&self) -> bool {
        let state = self.state.lock();
        let request = state.request.as_ref();
        request.is_some_and(|request| request.unmark_cancelable().is_ok())
    }

    pub(super) fn listener(&self) -> Option<SockRef> {
        self.state.lock().listener.clone()
    }

    pub(super) fn set_listener(&self, listener: SockRef) {
        self.state.lock().listener = Some(listener);
    }

    /// The listener isn't waited for.
    pub(super) fn forget_listener(&self) {
        let listener = self.state.lock().listener.take();
        // Not under the lock: it may be the last reference.
        drop(listener);
    }

    fn set_result(&self, result: Result<Option<Queued>>) {
        self.state.lock().result = result;
    }

    fn take(&self) -> (Option<Request>, Result<Option<Queued>>, Option<SockRef>) {
        let mut state = self.state.lock();
        let result = core::mem::replace(&mut state.result, Err(NtStatus::UNSUCCESSFUL));
        (state.request.take(), result, state.listener.take())
    }
}

/// SOCKET_OPEN. Completes the request, sooner or later. `PASSIVE_LEVEL`.
pub(crate) fn open(request: Request, spec: &SocketSpec) {
    let plan = Plan {
        kind: spec.kind,
        flags: spec.flags,
        owner: 0,
        addresses: Addresses {
            local: spec.local.into(),
            remote: spec.remote.into(),
        },
        backlog: spec.backlog,
    };
    begin(request, plan, |sock, request| {
        if let Err(status) = make(sock, spec) {
            return Err((request, Error::System(status)));
        }
        match spec.remote {
            Some(remote) if spec.kind == SocketKind::TcpStream => {
                connect(sock, request, remote).map(|()| None)
            }
            _ => Ok(Some(request)),
        }
    });
}

/// Makes a socket on the request's handle and has `go` open it: the request comes
/// back if that is done or has failed, and not if it pends.
pub(super) fn begin(
    request: Request,
    plan: Plan,
    go: impl FnOnce(&SockRef, Request) -> core::result::Result<Option<Request>, (Request, Error)>,
) {
    let Some(_open) = GATE.acquire() else {
        return request.complete(Error::Unloading.status(), 0);
    };
    let sock = {
        let Some(handle) = handle::of_request(&request) else {
            return request.complete(Error::WrongRole.status(), 0);
        };
        if let Err(error) = handle.begin_role() {
            return request.complete(error.status(), 0);
        }
        let owner = handle.owner();
        match SockRef::try_new(&Plan { owner, ..plan }) {
            Ok(sock) => {
                list::add(&sock, handle);
                // Either its clean-up sees the socket now, or this sees that
                // the clean-up has begun.
                let closed = matches!(handle.role(), Err(Error::Closing));
                Ok((sock, closed))
            }
            Err(status) => {
                handle.abandon_role();
                Err(status)
            }
        }
    };
    let (sock, closed) = match sock {
        Ok(sock) => sock,
        Err(status) => return request.complete(status, 0),
    };
    if closed {
        return conclude(&sock, request, Err(Error::Closing));
    }
    match go(&sock, request) {
        Ok(None) => {}
        Ok(Some(request)) => conclude(&sock, request, Ok(())),
        Err((request, error)) => conclude(&sock, request, Err(error)),
    }
}

/// Makes the provider's socket, as far as that doesn't take long.
fn make(sock: &SockRef, spec: &SocketSpec) -> Result<()> {
    let _calls = sock.calls.acquire().ok_or(NtStatus::FILE_CLOSED)?;
    let has = |flag| spec.flags.contains(flag);
    let options = Options {
        reuse_address: has(SocketFlags::REUSE_ADDRESS),
        dual_stack: has(SocketFlags::DUAL_STACK),
        conditional: has(SocketFlags::CONDITIONAL_ACCEPT),
        by_call: has(SocketFlags::ACCEPT_BY_REQUEST),
        // Of a stream it is set below, as it is of those a listener takes.
        keep_alive: spec.kind == SocketKind::TcpListener && has(SocketFlags::KEEP_ALIVE),
        receive_buffer: spec.receive_limit,
    };
    let transport = match spec.kind {
        SocketKind::TcpStream => {
            Transport::Stream(Stream::open(&sock.client, &sock.opener, &spec.local)?)
        }
        SocketKind::Udp => Transport::Udp(Datagram::open(&sock.client, &sock.opener, &spec.local)?),
        SocketKind::TcpListener => {
            let handler: *const Sock = &raw const **sock;
            // SAFETY: the socket is closed before it is freed.
            let listener = unsafe { Listener::open(&sock.client, spec.local, options, handler) }?;
            Transport::Listener(listener)
        }
    };
    // SAFETY: the opener's one call of this.
    unsafe { sock.set_transport(transport) };
    let Some(transport) = sock.transport() else {
        return Err(NtStatus::INVALID_DEVICE_STATE);
    };
    match transport {
        Transport::Stream(stream) => {
            // SAFETY: `calls` is held, so the socket isn't closed; and so below.
            unsafe { options.set_on(stream, &sock.opener, &spec.local) }?;
            set_stream_flags(sock, &sock.passes_on)?;
            // SAFETY: as above.
            unsafe { stream.bind(&sock.opener, spec.local) }
        }
        Transport::Udp(datagram) => {
            // SAFETY: as above.
            unsafe { options.set_on(datagram, &sock.opener, &spec.local) }?;
            if has(SocketFlags::BROADCAST) {
                let socket = transport.socket();
                // SAFETY: as above.
                unsafe { socket.set(&sock.opener, Number::Broadcast, 1) }?;
            }
            udp::set_up(sock, spec)
        }
        Transport::Listener(listener) => {
            let local = listener.local_address()?;
            sock.addresses.lock().local = local.into();
            if options.by_call {
                Ok(())
            } else {
                listener.enable(false)
            }
        }
    }
}

/// Sets on a stream what its flags, or its listener, say.
pub(super) fn set_stream_flags(sock: &Sock, says: &PassesOn) -> Result<()> {
    let Some(transport) = sock.transport() else {
        return Err(NtStatus::INVALID_DEVICE_STATE);
    };
    for (flag, option) in [
        (SocketFlags::NO_DELAY, Number::NoDelay),
        (SocketFlags::KEEP_ALIVE, Number::KeepAlive),
    ] {
        if let Some(on) = says.of(flag) {
            // SAFETY: `calls` is held by the caller, so the socket isn't closed.
            unsafe { transport.socket().set(&sock.opener, option, on.into()) }?;
        }
    }
    Ok(())
}

/// Starts to connect.
fn connect(
    sock: &SockRef,
    request: Request,
    remote: SocketAddr,
) -> core::result::Result<(), (Request, Error)> {
    flow::submit(sock, request, Work::Connect, |sock, io| {
        let Some(Transport::Stream(stream)) = sock.transport() else {
            return Err(NtStatus::INVALID_DEVICE_STATE);
        };
        // SAFETY: not submitted yet.
        let to = unsafe { io.set_to(SockAddr::from(remote)) };
        // SAFETY: `calls` is held over this, so the socket isn't closed; the
        // address is the operation's own.
        unsafe { stream.connect(&io.op, to) }
    })
}

/// Connecting has ended: the socket's task goes on. `IRQL <= DISPATCH_LEVEL`.
pub(super) fn connected(sock: SockRef, request: Request, outcome: Outcome) {
    sock.opening.set_request(request);
    go_on(sock, outcome.value().map(|_| None));
}

/// Has the socket's task go on with what came of connecting or accepting.
pub(super) fn go_on(sock: SockRef, result: Result<Option<Queued>>) {
    sock.opening.set_result(result);
    let raw = sock.into_raw();
    // SAFETY: alive by the reference, which is the step's now.
    let task = unsafe { &raw const (*raw).opens };
    // SAFETY: bound when it was made; alive until the step has had the signal.
    unsafe { pump::signal(task, NOW) };
}

/// Has a socket that the provider has given up closed soon, as WSK wants it, and not
/// when its handle is: from a task, since it may not be closed from within an event
/// or a completion routine. That is another than the opening's, which runs but once.
/// To be called once. `IRQL <= DISPATCH_LEVEL`.
pub(super) fn close_failed(sock: SockRef) {
    let raw = sock.into_raw();
    // SAFETY: alive by the reference, which is the step's now.
    let task = unsafe { &raw const (*raw).closes };
    // SAFETY: bound when it was made; alive until the step has had the signal.
    unsafe { pump::signal(task, NOW) };
}

/// Closes a socket that has failed; once.
///
/// # Safety
/// `owner` is a socket, with a reference for this step.
pub(super) unsafe fn step_close(owner: *mut c_void, _signals: u32) -> Next {
    // SAFETY: the reference of `close_failed`.
    let sock = unsafe { SockRef::from_raw(owner.cast::<Sock>()) };
    // Waits for the calls on the socket, enabling its event among them.
    sock.shut();
    Next::Gone
}

/// Ends what is being opened; once.
///
/// # Safety
/// `owner` is a socket, with a reference for this step.
pub(super) unsafe fn step(owner: *mut c_void, _signals: u32) -> Next {
    // SAFETY: the reference of `go_on`.
    let sock = unsafe { SockRef::from_raw(owner.cast::<Sock>()) };
    let (request, result, listener) = sock.opening.take();
    let done = result
        .map_err(Error::System)
        .and_then(|queued| match (queued, &listener) {
            (Some(queued), Some(listener)) => accept::take_connection(&sock, queued, listener),
            // Only a listener has connections.
            (Some(queued), None) => {
                accept::give_up(&sock, &queued);
                Err(Error::Closing)
            }
            (None, _) => query_addresses(&sock),
        });
    if let Some(request) = request {
        conclude(&sock, request, done);
    }
    Next::Gone
}

/// Asks for the addresses of a stream that has been connected.
fn query_addresses(sock: &Sock) -> core::result::Result<(), Error> {
    let _calls = sock.calls.acquire().ok_or(Error::Closing)?;
    let Some(Transport::Stream(stream)) = sock.transport() else {
        return Err(Error::System(NtStatus::INVALID_DEVICE_STATE));
    };
    // SAFETY: `calls` is held, so the socket isn't closed.
    let local = unsafe { stream.local_address(&sock.opener) }?;
    // SAFETY: as above.
    let remote = unsafe { stream.remote_address(&sock.opener) }?;
    *sock.addresses.lock() = Addresses {
        local: local.into(),
        remote: remote.into(),
    };
    sock.mark(mark::CONNECTED);
    Ok(())
}

/// Gives the handle its role and completes the request, or undoes everything.
/// `PASSIVE_LEVEL`.
fn conclude(sock: &SockRef, request: Request, done: core::result::Result<(), Error>) {
    let Some(handle) = handle::of_request(&request) else {
        return request.complete(Error::WrongRole.status(), 0);
    };
    // Closed meanwhile: its clean-up may have come before there was a connection.
    let done = done.and_then(|()| {
        if handle.give(Role::Socket) {
            Ok(())
        } else {
            Err(Error::Closing)
        }
    });
    match done {
        Ok(()) => {
            let len = reply(sock, &request);
            request.complete(NtStatus::SUCCESS, len);
        }
        Err(error) => {
            undo(sock, handle);
            request.complete(error.status(), 0);
        }
    }
}

fn undo(sock: &SockRef, handle: &Handle) {
    list::remove(sock, Some(handle.socket()));
    sock.shut();
    drop(sock.release_from_handle());
    handle.abandon_role();
}

fn reply(sock: &Sock, request: &Request) -> usize {
    let Addresses { local, remote } = *sock.addresses.lock();
    let reply = SocketOpenReply {
        header: ReplyHeader::of::<SocketOpenReply>(),
        id: sock.id,
        local,
        remote,
    };
    super::put(request, reply.as_bytes())
}
