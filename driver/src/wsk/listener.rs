//! Listening sockets. A connection comes to its owner in one of two ways, which
//! the socket is opened for: by the accept event, or by the call [`Listener::accept`].
//!
//! # By event
//! The event is enabled for each socket by `SO_WSK_EVENT_CALLBACK` once it is
//! bound, not for all of them by `WSK_SET_STATIC_EVENT_CALLBACKS`: a static
//! callback can never be disabled again, and comes from the moment of binding,
//! before the service behind it is complete; and sockets that accept by IRP
//! couldn't exist beside it.
//!
//! # By call
//! One `WskAccept` is one IRP, which pends until there is a connection; what
//! comes meanwhile waits in the transport. The accept event is never enabled
//! there: with both, a connection may come by the event though an IRP waits (MSDN
//! "PFN_WSK_ACCEPT"). The pages say where the socket is (`IoStatus.Information`,
//! with success alone), that the address buffers stay until the IRP is completed,
//! and that closing the listener cancels and completes the IRPs that wait. They
//! say nothing of a cancel that meets an arrival; but an IRP is completed once,
//! and with one status. So the status decides: with success there is a socket,
//! which is the caller's to use or to close, whether the IRP was cancelled or not;
//! with anything else there is none, and the connection, if one was coming, is
//! the next call's. That the listening socket has failed is known by
//! `STATUS_FILE_FORCED_CLOSED` here, as by an event without a socket there.
//!
//! # Refusing a peer before the handshake is answered
//! A listener opened with [`Options::conditional`] has `SO_CONDITIONAL_ACCEPT`
//! set before it is bound. For each SYN the provider then calls `WskInspectEvent`
//! with both addresses, and answers the handshake only when that accepts: a
//! refused peer's request is dropped, and it has never been connected (MSDN
//! "PFN_WSK_INSPECT_EVENT", "SO_CONDITIONAL_ACCEPT"). The decision is
//! [`Accept::inspect`]'s and is made at once. Nothing is kept of who was asked
//! about, so `WskAbortEvent`, which says that a peer has gone before it was
//! connected, has nothing to do. It goes with either way of accepting.
//!
//! It isn't free: with it the transport's protection against floods of SYNs is off
//! for this socket, and its backlog counts for nothing (MSDN "SO_CONDITIONAL_ACCEPT
//! socket option", Remarks, of the option Winsock has by the same name).

use core::ffi::c_void;
use core::marker::PhantomData;
use core::net::SocketAddr;
use core::num::NonZeroU32;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, Ordering};

use super::addr::SockAddr;
use super::client::Client;
use super::events::Ear;
use super::irp::Outcome;
use super::op::{Control, Op};
use super::options::{Number, Socket};
use super::socket::{self, Category};
use super::stream::Stream;
use super::sys;
use crate::kernel::status::{NtStatus, Result};

const CATEGORY: Category = Category {
    socket_type: sys::SOCK_STREAM,
    protocol: sys::IPPROTO_TCP,
    flags: sys::WSK_FLAG_LISTEN_SOCKET,
};

/// A connection was not taken; the provider closes it.
pub(crate) struct Refused;

/// The two ends of a connection.
#[derive(Clone, Copy)]
pub(crate) struct Ends {
    /// This machine's.
    pub(crate) local: SockAddr,
    /// The peer's.
    pub(crate) remote: SockAddr,
}

impl Ends {
    /// # Safety
    /// Both are null, or `SOCKADDR`s of the length their family has.
    unsafe fn read(local: *const c_void, remote: *const c_void) -> Self {
        // SAFETY: the caller's.
        let local = unsafe { SockAddr::read(local) };
        // SAFETY: the caller's.
        let remote = unsafe { SockAddr::read(remote) };
        Self { local, remote }
    }
}

/// How a socket is to be before it is bound.
#[derive(Clone, Copy, Default)]
pub(crate) struct Options {
    /// The address may be another socket's, too.
    pub(crate) reuse_address: bool,
    /// An IPv6 socket that serves IPv4 as well. Without it none does.
    pub(crate) dual_stack: bool,
    /// Peers are put to [`Accept::inspect`] before the handshake is answered.
    pub(crate) conditional: bool,
    /// Connections come by [`Listener::accept`], and none by the event.
    pub(crate) by_call: bool,
    /// Idle connections are probed: those a listener takes have it from there (MSDN
    /// "SO_KEEPALIVE").
    pub(crate) keep_alive: bool,
    /// Bytes the transport keeps for a socket that doesn't receive; of a listener,
    /// for each connection, which may have come by the time it is opened.
    pub(crate) receive_buffer: Option<NonZeroU32>,
}

impl Options {
    /// Sets them on a socket that isn't bound. `PASSIVE_LEVEL`.
    ///
    /// # Safety
    /// The socket is open, and nobody is closing it.
    pub(crate) unsafe fn set_on(
        self,
        socket: &impl Socket,
        control: &Control,
        address: &SocketAddr,
    ) -> Result<()> {
        let set = |wanted: bool, option, value| {
            if !wanted {
                return Ok(());
            }
            // SAFETY: open (caller).
            unsafe { socket.set(control, option, value) }
        };
        set(self.reuse_address, Number::ReuseAddress, 1)?;
        set(address.is_ipv6() && self.dual_stack, Number::V6Only, 0)?;
        set(self.keep_alive, Number::KeepAlive, 1)?;
        let bytes = self.receive_buffer.map_or(0, NonZeroU32::get);
        set(bytes != 0, Number::ReceiveBuffer, bytes)?;
        set(self.conditional, Number::ConditionalAccept, 1)
    }
}

/// What becomes of connections. Called at `IRQL <= DISPATCH_LEVEL`, from several
/// processors at once; must not wait.
pub(crate) trait Accept {
    /// Takes the connection, or refuses it; says who is to be told of its events, if
    /// [`Listener::enable`] was asked for them. They may come as soon as this has
    /// returned; whom it names must be good until the connection is closed.
    fn accept(&self, connection: Stream, ends: &Ends) -> core::result::Result<Ear, Refused>;

    /// Whether a peer's handshake is to be answered; asked of listeners opened
    /// with [`Options::conditional`] only.
    fn inspect(&self, _ends: &Ends) -> bool {
        true
    }

    /// The listening socket doesn't work any more and is to be closed soon, but
    /// not from within this call, and not before [`Listener::enable`] has
    /// returned: this call may come while that one runs.
    fn listener_failed(&self);
}

/// A bound TCP socket that listens.
pub(crate) struct Listener {
    /// Null once somebody has begun to close it.
    socket: AtomicPtr<sys::WskSocket>,
    control: Control,
    /// Its connections come by [`Listener::accept`].
    by_call: bool,
}

// SAFETY: a socket may be used from anywhere; `control` is used by `open` and by
// the one closer only.
unsafe impl Sync for Listener {}
// SAFETY: as above.
unsafe impl Send for Listener {}

impl Socket for Listener {
    fn raw(&self) -> Result<NonNull<sys::WskSocket>> {
        self.socket()
    }
}

impl Listener {
    /// A socket bound to `address` whose connections will go to `handler`, once
    /// [`Listener::enable`] is called, or to [`Listener::accept`], as `options` say.
    /// `PASSIVE_LEVEL`.
    ///
    /// # Errors
    /// `STATUS_ADDRESS_ALREADY_EXISTS` if the port is taken,
    /// `STATUS_INVALID_ADDRESS` if the address isn't this machine's, or whatever
    /// else the provider says: of an option, `STATUS_NOT_SUPPORTED`.
    ///
    /// # Safety
    /// `handler` is good until [`Listener::close`] has returned.
    pub(crate) unsafe fn open<H: Accept>(
        client: &Client,
        address: SocketAddr,
        options: Options,
        handler: *const H,
    ) -> Result<Self> {
        let control = Control::try_new()?;
        let bind_to = SockAddr::from(address);
        // Callbacks that are never enabled are null in the table.
        let events = if options.by_call {
            &Events::<H>::BY_CALL
        } else {
            &Events::<H>::BY_EVENT
        };
        let dispatch = ptr::from_ref(events).cast::<c_void>();
        let context = handler.cast_mut().cast::<c_void>();
        // SAFETY: a constant table of this category, whose functions expect this
        // context; it is good until the socket is closed (caller).
        let socket = unsafe {
            socket::open(
                client,
                &control,
                &CATEGORY,
                bind_to.family(),
                context,
                dispatch,
            )
        }?;
        let listener = Self {
            socket: AtomicPtr::new(socket.as_ptr()),
            control,
            by_call: options.by_call,
        };
        // SAFETY: just opened, and nobody else has it.
        let ready = unsafe { options.set_on(&listener, &listener.control, &address) };
        let bound = ready.and_then(|()| {
            // SAFETY: a listening socket, just opened.
            let table = unsafe { socket::table::<sys::WskProviderListenDispatch>(socket) };
            // SAFETY: an open socket and its own function.
            unsafe { socket::bind(socket, &listener.control, table.bind, &bind_to) }
        });
        if let Err(status) = bound {
            listener.close();
            return Err(status);
        }
        Ok(listener)
    }

    fn socket(&self) -> Result<NonNull<sys::WskSocket>> {
        NonNull::new(self.socket.load(Ordering::Acquire)).ok_or(NtStatus::DEVICE_NOT_READY)
    }

    /// Where it listens. `PASSIVE_LEVEL`, before [`Listener::enable`].
    pub(crate) fn local_address(&self) -> Result<SocketAddr> {
        let socket = self.socket()?;
        // SAFETY: a listening socket, which nobody else can be closing before
        // events come.
        let table = unsafe { socket::table::<sys::WskProviderListenDispatch>(socket) };
        // SAFETY: an open socket and its own function.
        unsafe { socket::address(socket, &self.control, table.get_local_address) }
    }

    /// Lets connections come in by the event. They may do so before this returns.
    /// If `with_events`, the events of each are enabled from its first moment on.
    pub(crate) fn enable(&self, with_events: bool) -> Result<()> {
        if self.by_call {
            return Err(NtStatus::INVALID_DEVICE_STATE);
        }
        let socket = self.socket()?;
        let events = if with_events {
            // Of the connections it accepts (MSDN "SO_WSK_EVENT_CALLBACK").
            sys::WSK_EVENT_ACCEPT | sys::WSK_EVENT_RECEIVE | sys::WSK_EVENT_DISCONNECT
        } else {
            sys::WSK_EVENT_ACCEPT
        };
        // SAFETY: open, bound, and opened with a table that has the accept event;
        // the others are enabled on connections, whose tables `accept` names.
        unsafe { socket::enable_events(socket, events) }
    }

    /// Starts to take one connection; when `op` has ended well,
    /// [`Listener::accepted`] has it, and its ends are in `local` and `remote`.
    /// Cancellable. Several may be pending at once, each with its own `op`.
    /// `IRQL <= DISPATCH_LEVEL`.
    ///
    /// # Safety
    /// The socket isn't closed, nor being closed, while this runs. `local` and
    /// `remote` stay, untouched by others, until `op` has ended.
    pub(crate) unsafe fn accept(
        &self,
        op: &Op,
        local: *mut SockAddr,
        remote: *mut SockAddr,
    ) -> Result<()> {
        if !self.by_call {
            return Err(NtStatus::INVALID_DEVICE_STATE);
        }
        let socket = self.socket()?;
        // SAFETY: a listening socket, open (caller).
        let table = unsafe { socket::table::<sys::WskProviderListenDispatch>(socket) };
        let accept = table.accept.ok_or(NtStatus::NOT_SUPPORTED)?;
        op.issue(|irp| {
            // SAFETY: an open listening socket and its own function; no flags, no
            // context and no callbacks on the connection; room for an address of
            // either family in memory that isn't paged and stays (caller).
            unsafe {
                accept(
                    socket.as_ptr(),
                    0,
                    ptr::null_mut(),
                    ptr::null(),
                    local.cast(),
                    remote.cast(),
                    irp,
                )
            };
        })
    }

    /// The connection that an operation of [`Listener::accept`] has ended with, to
    /// be called once for each: it is to be closed by whoever calls this.
    pub(crate) fn accepted(outcome: Outcome) -> Result<Stream> {
        socket::made_by(outcome.value()?).map(Stream::new)
    }

    /// Closes the socket, if nobody has begun to; whoever has begun may still be
    /// at it. When the closer returns, every call of [`Listener::accept`] has ended,
    /// and no event comes any more. `PASSIVE_LEVEL`.
    pub(crate) fn close(&self) {
        let socket = self.socket.swap(ptr::null_mut(), Ordering::AcqRel);
        let Some(socket) = NonNull::new(socket) else {
            return;
        };
        // SAFETY: open, and taken out by the swap, so closed once; calls of open
        // and start-up are over: a handler closes a failed listener only after
        // `enable` has returned; and calls of `accept` don't meet this (there).
        let closed = unsafe { socket::close_and_wait(socket, &self.control) };
        if let Err(status) = closed {
            crate::kernel::log::status(c"closing a listening socket", status);
        }
    }
}

/// The client dispatch table of listeners with a handler of type `H`.
struct Events<H>(PhantomData<H>);

impl<H: Accept> Events<H> {
    const BY_EVENT: sys::WskClientListenDispatch = sys::WskClientListenDispatch {
        accept_event: Some(accept_event::<H>),
        inspect_event: Some(inspect_event::<H>),
        abort_event: Some(abort_event),
    };
    const BY_CALL: sys::WskClientListenDispatch = sys::WskClientListenDispatch {
        accept_event: None,
        ..Self::BY_EVENT
    };
}

/// `WskAcceptEvent`.
unsafe extern "system" fn accept_event<H: Accept>(
    socket_context: *mut c_void,
    _flags: u32,
    local_address: *const c_void,
    remote_address: *const c_void,
    accept_socket: *mut sys::WskSocket,
    accept_socket_context: *mut *mut c_void,
    accept_socket_dispatch: *mut *const c_void,
) -> i32 {
    // SAFETY: the context is the handler given to open, good until the socket is
    // closed, which waits for this call.
    let handler = unsafe { &*socket_context.cast::<H>() };
    let Some(socket) = NonNull::new(accept_socket) else {
        handler.listener_failed();
        return NtStatus::REQUEST_NOT_ACCEPTED.0;
    };
    // SAFETY: the provider's addresses, good for this call.
    let ends = unsafe { Ends::read(local_address, remote_address) };
    let taken = handler.accept(Stream::new(socket), &ends);
    let (ear, status) = match taken {
        Ok(ear) => (ear, NtStatus::SUCCESS),
        Err(Refused) => (Ear::NONE, NtStatus::REQUEST_NOT_ACCEPTED),
    };
    if !accept_socket_context.is_null() {
        // SAFETY: the provider's variable, for us to write.
        unsafe { *accept_socket_context = ear.context };
    }
    if !accept_socket_dispatch.is_null() {
        // SAFETY: the provider's variable, for us to write.
        unsafe { *accept_socket_dispatch = ear.dispatch };
    }
    status.0
}

/// `WskInspectEvent`, for each SYN to a socket with conditional accept. Without an
/// id it says, as `WskAcceptEvent` does without a socket, that the listening socket
/// doesn't work any more (MSDN "PFN_WSK_INSPECT_EVENT").
unsafe extern "system" fn inspect_event<H: Accept>(
    socket_context: *mut c_void,
    local_address: *const c_void,
    remote_address: *const c_void,
    inspect_id: *mut sys::WskInspectId,
) -> u32 {
    // SAFETY: as in accept_event.
    let handler = unsafe { &*socket_context.cast::<H>() };
    if inspect_id.is_null() {
        handler.listener_failed();
        return sys::WSK_INSPECT_REJECT;
    }
    // SAFETY: the provider's addresses, good for this call.
    let ends = unsafe { Ends::read(local_address, remote_address) };
    if handler.inspect(&ends) {
        sys::WSK_INSPECT_ACCEPT
    } else {
        sys::WSK_INSPECT_REJECT
    }
}

/// `WskAbortEvent`: a peer that was asked about has gone before it was connected.
unsafe extern "system" fn abort_event(
    _socket_context: *mut c_void,
    _inspect_id: *mut sys::WskInspectId,
) -> i32 {
    NtStatus::SUCCESS.0
}
