//! Winsock Kernel (WSK), made safe: the files here own everything that is raw
//! about it, in [`sys`], and hand the services registration, sockets, buffers
//! and a place to work.
//!
//! # What runs where
//! | code | IRQL | may wait |
//! |---|---|---|
//! | `start`, `stop`; whatever takes a [`Control`]: opening, binding, options, addresses, `close_and_wait` | `PASSIVE_LEVEL` | yes |
//! | whatever takes an [`Op`]: it starts one operation | `<= DISPATCH_LEVEL`; looking up names `PASSIVE_LEVEL` | no |
//! | steps of the [pump](pump)'s tasks | `PASSIVE_LEVEL`, in a work item | those that are said to: opening for a handle, closing what has failed; others don't, as tasks queue behind them |
//! | completion routines ([`Op`], [`Control`]), and what [`Op::bind_call`] has them run | `<= DISPATCH_LEVEL`, possibly inside the call that was given the IRP | no; they call nothing of the provider's |
//! | the accept and the inspect event | `<= DISPATCH_LEVEL`, several at once | no |
//! | the receive and the disconnect event of a connection | `<= DISPATCH_LEVEL` | no; they keep or count data and signal a task |
//!
//! # Who owns an IRP
//! The driver allocates every IRP it uses and keeps it as long as the thing it
//! works for. It is either idle, and ours, or armed, and the provider's: from
//! the call until its completion routine has run. The provider completes it
//! whatever the call returns, so returned statuses are not looked at. The
//! routine stops the I/O manager from doing more with it and tells whoever
//! waits, and with that the IRP is ours again. An IRP that is armed can be
//! neither armed again nor freed. It may be cancelled, and why that is sound is
//! said in `irp.rs`: while `IoCancelIrp` is at it, nobody learns that it has
//! ended, and so nobody uses it again or frees it.
//!
//! # Who owns a buffer
//! With an armed IRP, the memory its [`Span`] is of, the MDL, the `WSK_BUF` (a
//! part of the [`Op`]), address and flags are the provider's. Memory of the
//! driver's own is in the same pool block as the IRP's owner, which isn't freed
//! before the end is told; a requester's is locked until its request is completed,
//! which is later.
//!
//! What a receive event retains is the transport's memory, lent until it is released
//! (`events.rs`). A send may be given it as it is, and then it is released after the
//! send has ended, by the task, before it closes the socket the data came from.
//!
//! # How a socket is closed
//! `WskCloseSocket` must not meet another call on the same socket, but it may
//! meet pending IRPs: it cancels and completes them. That no call is in progress
//! is known differently for each kind of socket: calls on a service's connection
//! are made by its one task, steps of which never overlap; calls on a listener are
//! made by the start of its service, the last of them enables its event, and
//! nobody closes it before that has returned; and all others who make calls hold
//! a rundown, or are counted, for each call, which their closer waits for.
//!
//! # Refusing peers
//! A listener may be asked about each peer before the handshake is answered
//! (`listener.rs`); it is its owner who decides.
//!
//! # What isn't used
//! `WskReceiveFromEvent`, because every datagram has an IRP and a place before it
//! comes, and so the bound on what waits is the number of these; `WskReceiveEvent` on
//! the sockets of handles, because a read has a place of the requester's, into which a
//! receive copies as an event would, and without reads nothing is to be taken.
//! `WskSendBacklogEvent`, because nobody here chooses how much to send at once.
//!
//! # Locks
//! The pump's queue lock, and no other. It is innermost.
//!
//! # Order of unload
//! Services and sockets first (they hold a [`Client`] each), then [`stop`]: it
//! waits for the last client, releases the provider, deregisters, and ends the
//! work items.

mod addr;
mod buf;
mod client;
mod datagram;
mod endpoint;
mod events;
mod irp;
mod listener;
mod op;
mod options;
pub(crate) mod pump;
mod resolve;
mod socket;
mod stream;
mod sys;

pub(crate) use addr::SockAddr;
pub(crate) use buf::{IoBuffer, Span};
pub(crate) use client::Client;
pub(crate) use datagram::{Datagram, Peer, Received};
pub(crate) use endpoint::Endpoint;
pub(crate) use events::{Answer, Ear, Hear, Indication, Retained};
pub(crate) use irp::Outcome;
pub(crate) use listener::{Accept, Ends, Listener, Options, Refused};
pub(crate) use op::{Control, Op};
pub(crate) use options::{Family, Group, Number, Socket};
pub(crate) use resolve::Lookup;
pub(crate) use stream::Stream;

use crate::kernel::status::Result;

/// Makes the driver a WSK application. `PASSIVE_LEVEL`, after the control device
/// has been created (work items hang on it).
pub(crate) fn start() -> Result<()> {
    client::start()?;
    if let Err(status) = pump::start() {
        client::stop();
        return Err(status);
    }
    Ok(())
}

/// Undoes [`start`], and does nothing if that failed or wasn't called.
/// `PASSIVE_LEVEL`; every socket is closed or being closed.
pub(crate) fn stop() {
    if client::stop() {
        pump::stop();
    }
}

/// Whether a socket could be made without waiting for the provider.
pub(crate) fn is_ready() -> bool {
    client::is_ready()
}
