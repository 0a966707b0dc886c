//! A UDP service: a socket and a fixed number of buffers, each with one datagram
//! on its way in or out. What a relay has beside them is in [`relay`](super::relay).

use core::cell::Cell;
use core::ffi::c_void;
use core::net::SocketAddr;
use core::ptr::{self, NonNull};

use weir_abi::{SocketInfo, SocketKind, SocketState, status};

use super::relay::{Clients, Known, Route};
use super::state::{self, DatagramAction, DatagramEvent, Failure, Fate};
use crate::kernel::log;
use crate::kernel::pool::KBox;
use crate::kernel::rundown::Rundown;
use crate::kernel::status::{NtStatus, Result};
use crate::kernel::timer::Timer;
use crate::service::TAG;
use crate::service::counters::Counters;
use crate::service::health::Health;
use crate::service::sockets;
use crate::service::tcp::state::Kind;
use crate::wsk::pump::{self, Next, Task};
use crate::wsk::{Client, Control, Datagram, Endpoint as _, IoBuffer, Op, Outcome, Peer, Received};

/// Datagrams on their way at once. While all buffers are busy, the transport
/// keeps what arrives in the socket's own receive buffer, and drops what
/// doesn't fit there, as UDP may.
const BUFFERS: usize = 16;

/// Bytes of a buffer: more than any datagram that isn't a jumbogram (RFC 768
/// has 16 bits for the length). 1 MiB for each service.
pub(super) const BUFFER_LEN: u32 = 64 * 1024;

/// How often a relay looks for clients of whom nothing was heard for long.
const SWEEP_MS: u32 = 10_000;

/// How long a buffer pauses after too many failures.
const PAUSE_MS: u32 = 100;

mod signal {
    pub(super) const START: u32 = 1;
    pub(super) const STOP: u32 = 2;
    pub(super) const ENDED: u32 = 4;
    pub(super) const RESUME: u32 = 8;
}

/// A UDP service. Its address is in its buffers' hands.
pub(in crate::service) struct UdpService {
    kind: Kind,
    pub(super) counters: Counters,
    /// A relay's.
    pub(super) relay: Option<Clients>,
    /// Lets a relay forget its clients.
    sweep: Option<Timer>,
    /// Its parts are the buffers.
    health: Health,
    /// Set before the buffers are started, and not changed afterwards.
    pub(super) socket: Option<Datagram>,
    /// Set with the socket, to close it.
    control: Option<Control>,
    /// The port it is bound to.
    port: u16,
    /// Held by steps that may call the socket or set the timer.
    pub(super) calls: Rundown,
    /// Held by each buffer until it has retired, and by each client of a relay.
    pub(super) live: Rundown,
    timer: Option<Timer>,
    buffers: [Option<KBox<Slot>>; BUFFERS],
    /// Keeps the provider captured.
    pub(super) client: Client,
}

// SAFETY: its parts are atomics and rundowns, what is set before the service is
// shared, and buffers that are touched by their own steps only.
unsafe impl Sync for UdpService {}
// SAFETY: as above.
unsafe impl Send for UdpService {}

/// A buffer with its operation. Touched by its own step only, but for `task`.
struct Slot {
    task: Task,
    service: *const UdpService,
    /// Which of the service's buffers it is.
    number: u32,
    /// The client by whose socket it sends, in a relay.
    via: Cell<Option<NonNull<Known>>>,
    /// The length of a datagram whose client's socket isn't there yet.
    waiting: Cell<Option<u32>>,
    state: Cell<state::Datagram>,
    /// The status of the last operation that failed.
    failure: Cell<NtStatus>,
    transfer: Op,
    buffer: IoBuffer,
    peer: Peer,
}

impl UdpService {
    /// Starts one on `address`, a relay to `target`; the address it has got, too.
    /// `PASSIVE_LEVEL`.
    pub(in crate::service) fn start(
        kind: Kind,
        address: SocketAddr,
        target: Option<SocketAddr>,
    ) -> Result<(KBox<Self>, SocketAddr)> {
        let client = Client::acquire()?;
        let relay = target.map(Clients::try_new).transpose()?;
        let mut service = KBox::try_new(
            Self {
                kind,
                relay,
                sweep: None,
                counters: Counters::default(),
                health: Health::new(BUFFERS),
                socket: None,
                control: None,
                port: 0,
                calls: Rundown::new(),
                live: Rundown::new(),
                timer: None,
                buffers: [const { None }; BUFFERS],
                client,
            },
            TAG,
        )?;
        service.calls.init();
        service.live.init();
        let own = service.as_ptr();
        // SAFETY: the timer is a part of the service, and dropped with it.
        service.timer = Some(unsafe { Timer::try_new(resume, own.cast::<c_void>()) }?);
        if service.relay.is_some() {
            // SAFETY: as above.
            service.sweep = Some(unsafe { Timer::try_new(sweep, own.cast::<c_void>()) }?);
        }
        for (buffer, number) in service.buffers.iter_mut().zip(0..) {
            // SAFETY: buffers are parts of the service, and dropped with it.
            *buffer = Some(unsafe { Slot::try_new(own.cast_const(), number) }?);
        }
        let control = Control::try_new()?;
        let socket = Datagram::open(&service.client, &control, &address)?;
        // SAFETY: just opened.
        let bound = unsafe { socket.bind(&control, address) }.and_then(|()| {
            // SAFETY: as above.
            unsafe { socket.local_address(&control) }
        });
        let bound = match bound {
            Ok(bound) => bound,
            Err(status) => {
                // SAFETY: open, and nothing is in progress or will be.
                let _closed = unsafe { socket.close_and_wait(&control) };
                return Err(status);
            }
        };
        service.control = Some(control);
        service.port = bound.port();
        service.socket = Some(socket);
        for slot in service.buffers.iter().flatten() {
            // Always granted: nobody waits yet.
            if service.live.acquire_raw() {
                // SAFETY: bound in Slot::try_new; `live` keeps the service, and
                // so the buffer, until its step has let go of it.
                unsafe { pump::signal(&raw const slot.task, signal::START) };
            }
        }
        if let Some(sweep) = &service.sweep {
            sweep.set_ms(SWEEP_MS);
        }
        Ok((service, bound))
    }

    /// Ends the service and frees all of it. Answers that are on their way may
    /// be lost. `PASSIVE_LEVEL`.
    pub(in crate::service) fn stop(service: KBox<Self>) {
        // No step is in a call from here on, nor will be.
        service.calls.wait();
        if let Some(timer) = &service.timer {
            timer.cancel_and_flush();
        }
        if let Some(sweep) = &service.sweep {
            sweep.cancel_and_flush();
        }
        if let (Some(socket), Some(control)) = (&service.socket, &service.control) {
            // SAFETY: once, and with no calls in progress or to come (`calls`).
            if let Err(status) = unsafe { socket.close_and_wait(control) } {
                log::status(c"closing a datagram socket", status);
            }
        }
        for slot in service.buffers.iter().flatten() {
            // SAFETY: bound; the buffer is freed below, and a task that is gone
            // ignores signals.
            unsafe { pump::signal(&raw const slot.task, signal::STOP) };
        }
        if let Some(clients) = &service.relay {
            clients.forget_all();
        }
        service.live.wait();
        drop(service);
    }

    /// Signals the buffers of these numbers, a bit for each, that they can go on.
    pub(super) fn wake(&self, numbers: u32) {
        for (slot, number) in self.buffers.iter().flatten().zip(0..) {
            if numbers & 1u32.checked_shl(number).unwrap_or(0) != 0 {
                // SAFETY: bound, and freed with the service only.
                unsafe { pump::signal(ptr::from_ref(&slot.task), signal::RESUME) };
            }
        }
    }

    /// Has all that pause resumed after a while, unless the service stops.
    pub(super) fn pause(&self) {
        let Some(_call) = self.calls.acquire() else {
            return;
        };
        if let Some(timer) = &self.timer {
            timer.set_ms(PAUSE_MS);
        }
    }

    /// Holds the service, unless it is being stopped.
    pub(in crate::service) fn hold(&self) -> bool {
        self.live.acquire_raw()
    }

    /// Undoes [`UdpService::hold`].
    pub(in crate::service) fn let_go(&self) {
        self.live.release_raw();
    }

    /// Shows its sockets from the one with this number on, until `each` returns
    /// false; whether it never did.
    pub(in crate::service) fn show(
        &self,
        id: u32,
        bound: SocketAddr,
        from: u64,
        each: &mut impl FnMut(&SocketInfo) -> bool,
    ) -> bool {
        if from == sockets::OWN {
            let (state, failure) = match self.health.failure() {
                None => (SocketState::Bound, status::SUCCESS),
                Some(failure) => (SocketState::Failed, failure),
            };
            let counts = self.counters.read();
            let info = SocketInfo {
                local: bound.into(),
                bytes_in: counts.bytes_in,
                bytes_out: counts.bytes_out,
                reads: counts.accepted,
                status: failure,
                ..sockets::blank(id, sockets::OWN, SocketKind::Udp, state)
            };
            if !each(&info) {
                return false;
            }
        }
        let clients = self.relay.as_ref();
        clients.is_none_or(|clients| clients.show(id, from, each))
    }

    pub(in crate::service) fn health(&self) -> &Health {
        &self.health
    }

    pub(in crate::service) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What becomes of a datagram. An echo doesn't answer one that didn't fit; one
    /// sent to many, whose answers would add up; one from a port that can't be
    /// answered; and one from its own port number, because two echoes would never
    /// stop answering each other.
    fn fate(&self, received: Received) -> Fate {
        let port = received.address.port();
        let to_many = received.broadcast || received.multicast;
        match self.kind {
            Kind::Discard => Fate::Discard,
            _ if received.truncated || to_many || port == 0 || port == self.port => Fate::Drop,
            _ => Fate::Send,
        }
    }
}

impl Slot {
    /// A buffer that hasn't been started.
    ///
    /// # Safety
    /// `service` outlives the buffer.
    unsafe fn try_new(service: *const UdpService, number: u32) -> Result<KBox<Self>> {
        let mut slot = KBox::try_new(
            Self {
                task: Task::new(step),
                service,
                number,
                via: Cell::new(None),
                waiting: Cell::new(None),
                state: Cell::new(state::Datagram::new()),
                failure: Cell::new(NtStatus::UNSUCCESSFUL),
                transfer: Op::try_new()?,
                buffer: IoBuffer::try_new(BUFFER_LEN, TAG)?,
                peer: Peer::new(),
            },
            TAG,
        )?;
        let own = slot.as_ptr();
        // SAFETY: the block stays at its address until the service is freed,
        // which waits for the step to return Gone.
        unsafe { slot.task.bind(own.cast::<c_void>()) };
        // SAFETY: `own` is the live block; no reference is made.
        let task = unsafe { &raw const (*own).task };
        // SAFETY: operation and task are in one block, which isn't freed while
        // the operation is pending (state machine).
        unsafe { slot.transfer.bind(task, signal::ENDED) };
        Ok(slot)
    }

    /// Does what follows from `event`; true if the buffer has retired. `open`
    /// says that calls may be made.
    fn handle(&self, service: &UdpService, open: bool, mut event: DatagramEvent) -> bool {
        loop {
            let mut state = self.state.get();
            let (action, tally) = state.on(event);
            self.state.set(state);
            service.counters.add(tally);
            if !state.is_sending() {
                self.let_go(service);
            }
            let socket = service.socket.as_ref().filter(|_| open);
            let started = match (action, socket) {
                (DatagramAction::Wait, _) => return false,
                (DatagramAction::Retire, _) => return true,
                (_, None) => Err(NtStatus::DEVICE_NOT_READY),
                (DatagramAction::Pause, Some(_)) => {
                    service.pause();
                    return false;
                }
                (DatagramAction::Receive, Some(socket)) => {
                    // SAFETY: `open`: not being closed; no other operation uses
                    // this buffer, and it stays until this one has ended.
                    unsafe { socket.receive_from(&self.transfer, self.buffer.whole(), &self.peer) }
                }
                (DatagramAction::Send { length }, Some(socket)) => self.send(socket, length),
            };
            let Err(status) = started else {
                return false;
            };
            self.failure.set(status);
            event = DatagramEvent::Failed(Failure::Final);
        }
    }

    /// Sends its datagram: back, or by its client's socket.
    fn send(&self, socket: &Datagram, length: u32) -> Result<()> {
        let span = self.buffer.span(0, length)?;
        let Some(client) = self.via.get() else {
            let to = self.peer.address();
            // SAFETY: not being closed (`calls`, held by the step); no other
            // operation uses this buffer and peer, and both stay until this one
            // has ended.
            return unsafe { socket.send_to(&self.transfer, span, to) };
        };
        // SAFETY: a user keeps it alive: this, until `let_go`.
        let client = unsafe { client.as_ref() };
        // SAFETY: as above.
        let socket = unsafe { client.socket() }.ok_or(NtStatus::INVALID_DEVICE_STATE)?;
        // SAFETY: not being closed while it has users; connected, so without an
        // address; the rest as above.
        unsafe { socket.send_to(&self.transfer, span, ptr::null()) }
    }

    /// Is no user of a client any more.
    fn let_go(&self, service: &UdpService) {
        if let (Some(client), Some(clients)) = (self.via.take(), &service.relay) {
            clients.sent(client);
        }
    }

    /// What the operation that has ended was; none if its datagram has to wait.
    fn ended(&self, service: &UdpService, open: bool) -> Option<DatagramEvent> {
        let was_send = self.state.get().is_sending();
        match length(self.transfer.finish()) {
            Err((failure, status)) => {
                self.failure.set(status);
                Some(DatagramEvent::Failed(failure))
            }
            Ok(length) if was_send => {
                if let Some(client) = self.via.get() {
                    // SAFETY: a user keeps it alive: this, until `let_go`.
                    unsafe { client.as_ref() }.count_sent(length);
                }
                Some(DatagramEvent::Sent(length))
            }
            Ok(length) => {
                // SAFETY: the operation has ended.
                let received = unsafe { self.peer.last() };
                if received.truncated || service.relay.is_none() {
                    let fate = service.fate(received);
                    return Some(DatagramEvent::Received { length, fate });
                }
                self.route(service, length, open)
            }
        }
    }

    /// What becomes of a relay's datagram: none if it has to wait.
    fn route(&self, service: &UdpService, length: u32, may: bool) -> Option<DatagramEvent> {
        let clients = service.relay.as_ref()?;
        // SAFETY: no operation with this peer is pending.
        let received = unsafe { self.peer.last() };
        // SAFETY: the service and its clients; `may` only while `calls` is held.
        let route = unsafe { clients.route(service, &received.address, self.number, may) };
        let fate = match route {
            Route::Send(client) => {
                self.via.set(Some(client));
                Fate::Send
            }
            Route::Wait => {
                self.waiting.set(Some(length));
                return None;
            }
            Route::Drop => Fate::Drop,
        };
        Some(DatagramEvent::Received { length, fate })
    }
}

/// The step of a buffer's task.
///
/// # Safety
/// `owner` is a live [`Slot`] of a started service, and its steps don't overlap.
unsafe fn step(owner: *mut c_void, signals: u32) -> Next {
    // SAFETY: live until the service is freed, which waits for `live`.
    let slot = unsafe { &*owner.cast::<Slot>() };
    // SAFETY: as above.
    let service = unsafe { &*slot.service };
    let calls = service.calls.acquire();
    let open = calls.is_some();
    let mut retired = false;
    if signals & signal::ENDED != 0
        && let Some(event) = slot.ended(service, open)
    {
        retired |= slot.handle(service, open, event);
    }
    if signals & signal::RESUME != 0
        && let Some(length) = slot.waiting.take()
        && let Some(event) = slot.route(service, length, false)
    {
        retired |= slot.handle(service, open, event);
    }
    if signals & signal::STOP != 0 && slot.waiting.take().is_some() {
        // Nothing is pending that would end.
        retired |= slot.handle(service, open, DatagramEvent::Failed(Failure::Final));
    }
    if signals & signal::START != 0 {
        retired |= slot.handle(service, open, DatagramEvent::Start);
    }
    if signals & signal::RESUME != 0 {
        retired |= slot.handle(service, open, DatagramEvent::Resume);
    }
    if signals & signal::STOP != 0 && !retired {
        retired |= slot.handle(service, open, DatagramEvent::Stop);
    }
    if !retired {
        return Next::Keep { waking: pump::ALL };
    }
    // While the socket is open, buffers retire only by an error.
    let failure = slot.failure.get();
    if open && service.health.part_failed(failure.0) {
        log::status(c"udp service: its socket has failed", failure);
    }
    drop(calls);
    // The last use of the service: stop may free it, and this buffer with it.
    service.live.release_raw();
    Next::Gone
}

/// The sweep timer's callback, at `DISPATCH_LEVEL`.
///
/// # Safety
/// `context` is a live [`UdpService`].
unsafe fn sweep(context: *mut c_void) {
    // SAFETY: `stop` waits for this callback before it frees the service.
    let service = unsafe { &*context.cast::<UdpService>() };
    let Some(_call) = service.calls.acquire() else {
        return;
    };
    if let Some(clients) = &service.relay {
        service.counters.timed_out(clients.forget_idle());
    }
    if let Some(sweep) = &service.sweep {
        sweep.set_ms(SWEEP_MS);
    }
}

/// The timer's callback, at `DISPATCH_LEVEL`.
///
/// # Safety
/// `context` is a live [`UdpService`].
unsafe fn resume(context: *mut c_void) {
    // SAFETY: `stop` waits for this callback before it frees the service.
    let service = unsafe { &*context.cast::<UdpService>() };
    for slot in service.buffers.iter().flatten() {
        // SAFETY: bound, and freed with the service only.
        unsafe { pump::signal(ptr::from_ref(&slot.task), signal::RESUME) };
    }
    if let Some(clients) = &service.relay {
        clients.resume();
    }
}

/// The length of a transfer. A cancelled one means that the socket is being
/// closed, `STATUS_FILE_FORCED_CLOSED` that it doesn't work any more. A failure
/// comes with its status.
pub(super) fn length(outcome: Outcome) -> core::result::Result<u32, (Failure, NtStatus)> {
    match outcome.value() {
        Ok(length) => u32::try_from(length).map_err(|_| (Failure::Final, NtStatus::UNSUCCESSFUL)),
        Err(status @ (NtStatus::FILE_FORCED_CLOSED | NtStatus::CANCELLED)) => {
            Err((Failure::Final, status))
        }
        Err(status) => Err((Failure::Once, status)),
    }
}
