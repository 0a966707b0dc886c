//! Winsock Kernel (WSK), made safe: the files here own everything that is raw
//! about it, in [`sys`], and hand the services registration, sockets, buffers
//! and a place to work.
//!
//! # What runs where
//! | code | IRQL | may wait |
//! |---|---|---|
//! | `start`, `stop`, opening, binding, `close` of listeners and datagram sockets | `PASSIVE_LEVEL` | yes |
//! | steps of the [pump](pump)'s tasks: receive, send, disconnect, close of connections | `PASSIVE_LEVEL`, in a work item | no: others queue behind them; but the one that closes a failed listener does |
//! | completion routines ([`Op`], `Control`) | `<= DISPATCH_LEVEL`, possibly inside the call that was given the IRP | no; they signal and return |
//! | the accept event | `<= DISPATCH_LEVEL`, several at once | no |
//!
//! # Who owns an IRP
//! The driver allocates every IRP it uses and keeps it as long as the thing it
//! works for. It is either idle, and ours, or armed, and the provider's: from
//! the call until its completion routine has run. The provider completes it
//! whatever the call returns, so returned statuses are not looked at. The
//! routine leaves it untouched, stops the I/O manager from doing more with it,
//! and signals; whoever gets the signal takes the outcome and with it the IRP.
//! An IRP that is armed can be neither armed again nor freed.
//!
//! # Who owns a buffer
//! With an armed IRP, its buffer, MDL, `WSK_BUF`, address and flags are the
//! provider's. All of them are in the same pool block as the IRP's owner, which
//! isn't freed before the signal.
//!
//! # How a socket is closed
//! `WskCloseSocket` must not meet another call on the same socket, but it may
//! meet pending IRPs: it cancels and completes them. So nothing here ever calls
//! `IoCancelIrp`, which would race with the completion and the next use of the
//! same IRP. That no call is in progress is known differently for each kind of
//! socket: calls on a connection are made by its one task, steps of which never
//! overlap; calls on a listener are made by the start of its service, the last of
//! them enables its event, and nobody closes it before that has returned; and
//! those who make calls on a datagram socket hold a rundown which its closer
//! waits for.
//!
//! # Locks
//! The pump's queue lock, and no other. It is innermost.
//!
//! # Order of unload
//! Services first (they hold a [`Client`] each), then [`stop`]: it waits for the
//! last client, releases the provider, deregisters, and ends the work items.

mod addr;
mod buf;
mod client;
mod datagram;
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
pub(crate) use irp::Outcome;
pub(crate) use listener::{Accept, Ends, Listener, Options, Place, Refused};
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
