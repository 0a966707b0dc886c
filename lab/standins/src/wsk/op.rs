//! One request under way: a client's IRP with what it asked for, or an
//! operation of the provider's own (receives for event callback functions).
//!
//! Life of a client's request: [`Op::new`] takes the IRP; the operation is
//! queued or started under its socket's lock; its result becomes final there;
//! then, with no lock held, [`Op::finish`] gives the IRP back, once. In
//! between the client may cancel the IRP; the cancel routine only asks the
//! socket to end the operation, which then finishes as any other does.

use super::addr::RawAddr;
use super::buffer::Buffer;
use super::engine::{self, lock};
use super::host::Started;
use super::irp::Request;
use super::socket::Socket;
use super::status;
use super::todo::Todo;
use super::types::{NtStatus, WskClientConnectionDispatch};
use crate::core::{Rule, stack};
use crate::nt::active;
use crate::nt::types::{DEVICE_OBJECT, IRP};
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

/// What an operation is to do, with the memory it needs until it is done.
pub(super) enum Body {
    /// Nothing asynchronous: bind, control, addresses.
    Simple,
    /// `WskCloseSocket`.
    Close,
    /// `WskSocket`.
    Create,
    /// `WskConnect`, or the connecting part of `WskSocketConnect`.
    Connect {
        create: bool,
    },
    Send(Buffer),
    /// A graceful disconnect: what is still to be sent, then the end.
    Disconnect(Option<Buffer>),
    Receive {
        buffer: Buffer,
        wait_all: bool,
    },
    /// A receive that throws away what comes.
    Drain,
    /// `WskSendTo`, `WskSendMessages`: one datagram for each buffer.
    SendTo {
        messages: Vec<Buffer>,
        to: RawAddr,
        control: Vec<u8>,
    },
    ReceiveFrom {
        buffer: Buffer,
        out: ReceiveFromOut,
    },
    /// A client's `WskAccept`.
    Accept {
        context: Pointer,
        dispatch: Option<WskClientConnectionDispatch>,
        local: OutAddr,
        remote: OutAddr,
    },
    /// SIO_ADDRESS_LIST_CHANGE.
    AddressChange,
    /// The provider's own receive, for `WskReceiveEvent`.
    Fill,
    /// The provider's own look for the end of the connection, for
    /// `WskDisconnectEvent`: takes no data.
    Watch,
    /// The provider's own receive, for `WskReceiveFromEvent`.
    FillFrom,
}

impl Body {
    /// Addresses of the client's memory, besides its buffer, that will be
    /// written at completion.
    fn places(&self) -> impl Iterator<Item = usize> {
        let places = match self {
            Self::Accept { local, remote, .. } => [local.0 as usize, remote.0 as usize, 0],
            Self::ReceiveFrom { out, .. } => [
                out.remote.0 as usize,
                out.control_length as usize,
                out.control_flags as usize,
            ],
            _ => [0; 3],
        };
        places.into_iter().filter(|place| *place != 0)
    }
}

/// An opaque pointer of the client's.
#[derive(Clone, Copy)]
pub(super) struct Pointer(pub(super) *mut c_void);
// SAFETY: never dereferenced by the provider; handed back as it came.
unsafe impl Send for Pointer {}
// SAFETY: as above.
unsafe impl Sync for Pointer {}

/// Where a client wants an address, or null.
#[derive(Clone, Copy)]
pub(super) struct OutAddr(pub(super) *mut c_void);
// SAFETY: written once, at completion, by the thread that completes.
unsafe impl Send for OutAddr {}
// SAFETY: as above.
unsafe impl Sync for OutAddr {}

impl OutAddr {
    /// Writes the address, if the client wants it.
    pub(super) fn write(self, address: Option<RawAddr>) {
        if let (false, Some(address)) = (self.0.is_null(), address) {
            // SAFETY: "must also be large enough to contain the specific
            // SOCKADDR structure" and valid until completion: the client's
            // part of WskAccept and WskReceiveFrom.
            unsafe { address.write(self.0) };
        }
    }
}

/// The further out-parameters of `WskReceiveFrom`.
pub(super) struct ReceiveFromOut {
    pub(super) remote: OutAddr,
    pub(super) control: *mut u8,
    pub(super) control_length: *mut u32,
    pub(super) control_flags: *mut u32,
}
// SAFETY: written once, at completion, by the thread that completes.
unsafe impl Send for ReceiveFromOut {}
// SAFETY: as above.
unsafe impl Sync for ReceiveFromOut {}

#[derive(Default)]
struct Stage {
    /// The cancel routine has run to its end.
    cancel_ran: bool,
    /// The result, when it has to wait for the cancel routine.
    result: Option<(NtStatus, usize)>,
}

/// See the module's documentation.
pub(super) struct Op {
    pub(super) socket: Arc<Socket>,
    request: Option<Request>,
    cancellable: bool,
    pub(super) body: Body,
    /// The client wants it to end; checked before each call is started.
    pub(super) cancelled: AtomicBool,
    /// It waits for its descriptor to become ready. Whoever takes this away,
    /// under the socket's lock, goes on with it or ends it.
    waiting: AtomicBool,
    /// Bytes (of a list of datagrams: datagrams) that are through so far.
    pub(super) done: AtomicUsize,
    /// The cancel routine was taken back (or never armed): it will not run.
    disarmed: AtomicBool,
    stage: Mutex<Stage>,
    /// Who made the request: an address in the driver.
    caller: usize,
}

type Pending = Mutex<HashMap<usize, Arc<Op>>>;

/// Cancellable IRPs, by address.
static PENDING: LazyLock<[Pending; 16]> = LazyLock::new(Default::default);

fn shard(irp: usize) -> &'static Pending {
    &PENDING[(irp >> 5) % 16]
}

impl Op {
    /// A client's request. From here on the IRP is the provider's.
    pub(super) fn new(socket: &Arc<Socket>, request: Request, body: Body) -> Arc<Self> {
        let cancellable = !matches!(body, Body::Simple | Body::Close | Body::Create);
        let address = request.address();
        request.set_pending(true);
        let op = Self::build(socket, Some(request), cancellable, body);
        if cancellable {
            lock(shard(address)).insert(address, op.clone());
            if let Some(request) = &op.request
                && !request.arm_cancel(cancel)
            {
                op.disarmed.store(true, Ordering::SeqCst);
                op.cancelled.store(true, Ordering::SeqCst);
            }
        }
        op
    }

    /// An operation of the provider's own; the caller holds the socket's lock
    /// and has counted it.
    pub(super) fn own(socket: &Arc<Socket>, body: Body) -> Arc<Self> {
        Self::build(socket, None, false, body)
    }

    fn build(
        socket: &Arc<Socket>,
        request: Option<Request>,
        cancellable: bool,
        body: Body,
    ) -> Arc<Self> {
        let caller = if request.is_some() {
            stack::driver_frame().unwrap_or(0)
        } else {
            0
        };
        for place in body.places() {
            active::add(
                place,
                Rule::LabWskBufferChanged,
                "where a pending WSK call is to put its results",
            );
        }
        Arc::new(Self {
            socket: socket.clone(),
            request,
            cancellable,
            body,
            cancelled: AtomicBool::new(false),
            waiting: AtomicBool::new(false),
            done: AtomicUsize::new(0),
            disarmed: AtomicBool::new(false),
            stage: Mutex::default(),
            caller,
        })
    }

    /// Notes, with the socket's lock held, that the host said "later".
    pub(super) fn waits(&self, started: &Started) {
        self.waiting
            .store(matches!(started, Started::Later), Ordering::SeqCst);
    }

    /// Takes the operation away from the host, with the socket's lock held;
    /// false when it isn't there (any more).
    pub(super) fn take_waiting(&self) -> bool {
        self.waiting.swap(false, Ordering::SeqCst)
    }

    /// What is through so far.
    pub(super) fn progress(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    /// Ends a request inside the call that made it, or lets a worker do it:
    /// the seed decides. What the call is to return.
    pub(super) fn deliver(self: &Arc<Self>, status: NtStatus, information: usize) -> NtStatus {
        if engine::inline_now() {
            if let Some(request) = &self.request {
                request.set_pending(false);
            }
            self.end(status, information);
            return status;
        }
        let op = self.clone();
        engine::post(move || op.end(status, information));
        status::PENDING
    }

    /// Ends a request and goes on with what was waiting behind it.
    pub(super) fn end(self: &Arc<Self>, status: NtStatus, information: usize) {
        if self.finish(status, information) {
            let mut todo = Todo::default();
            self.socket.after(self, &mut todo);
            todo.run(&self.socket);
        }
    }

    /// Gives the IRP back. False when the cancel routine will do it instead.
    pub(super) fn finish(self: &Arc<Self>, status: NtStatus, information: usize) -> bool {
        if let Some(request) = &self.request
            && self.cancellable
            && !self.disarmed.load(Ordering::SeqCst)
            && !request.disarm_cancel()
        {
            let mut stage = lock(&self.stage);
            if !stage.cancel_ran {
                stage.result = Some((status, information));
                return false;
            }
        }
        self.conclude(status, information);
        true
    }

    fn conclude(&self, status: NtStatus, information: usize) {
        stack::blame(self.caller);
        self.verify();
        let Some(request) = &self.request else { return };
        if self.cancellable {
            lock(shard(request.address())).remove(&request.address());
        }
        request.complete(status, information, engine::level());
    }

    fn verify(&self) {
        match &self.body {
            Body::Send(buffer)
            | Body::Disconnect(Some(buffer))
            | Body::Receive { buffer, .. }
            | Body::ReceiveFrom { buffer, .. } => buffer.verify(),
            Body::SendTo { messages, .. } => {
                for buffer in messages {
                    buffer.verify();
                }
            }
            _ => {}
        }
        for place in self.body.places() {
            active::remove(place);
        }
    }
}

/// The cancel routine of every cancellable IRP.
unsafe extern "system" fn cancel(_device: *mut DEVICE_OBJECT, irp: *mut IRP) {
    let op = lock(shard(irp as usize)).get(&(irp as usize)).cloned();
    let Some(op) = op else { return };
    op.socket.cancel(&op);
    let result = {
        let mut stage = lock(&op.stage);
        stage.cancel_ran = true;
        stage.result.take()
    };
    if let Some((status, information)) = result {
        op.conclude(status, information);
        let mut todo = Todo::default();
        op.socket.after(&op, &mut todo);
        todo.post(&op.socket);
    }
}
