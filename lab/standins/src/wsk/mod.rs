//! Winsock Kernel over the host's sockets: TCP and UDP, IPv4 and IPv6.
//!
//! [`registration`] exports `WskRegister` and its kin; [`provider`] is the
//! dispatch table they hand out; [`dispatch`] holds the tables of the socket
//! categories, whose functions are in [`stream`], [`receive`], [`listen`],
//! [`datagram`], [`events`] and [`options`]. Each request is an [`op`], each
//! socket's state is in [`state`], threads and chance in [`engine`], the host's calls in
//! [`host`].
//!
//! Documented behaviour the host cannot give is left out, never faked:
//! - a peer refused by conditional accept sees a reset, not a refusal, where the
//!   host gives no raw sockets, and from an IPv6 link-local address (see
//!   [`inspect`]);
//! - stream sockets (WSK_FLAG_STREAM_SOCKET) and raw sockets, control
//!   information of connections, SIO_ADDRESS_LIST_SORT: STATUS_NOT_SUPPORTED;
//! - a graceful `WskDisconnect` completes when the host has the last byte, not
//!   when the other side has acknowledged it, and closing after it is orderly;
//!   a `WskSend` completes when the host has its last byte;
//! - a `WskConnect` that is cancelled leaves a socket that can only be closed;
//! - the ideal send backlog is the host's send buffer: WskSendBacklogEvent is
//!   called when a send finds that the host has changed it;
//! - a datagram that its buffer cuts off ends with STATUS_BUFFER_OVERFLOW, as
//!   user mode's would, and MSG_TRUNC; the documentation names only the flag;
//! - MSG_BCAST is said of what was sent to another IPv4 address than the
//!   host's own on that interface;
//! - keep-alive times are rounded up to whole seconds;
//! - a wildcard and a specific address of one port can't be bound together
//!   where the host refuses that; a listening socket may always have an address
//!   whose last connections still linger.

mod addr;
mod admit;
mod buffer;
mod counts;
mod datagram;
mod dispatch;
mod engine;
mod events;
mod host;
mod inspect;
mod irp;
mod listen;
mod lists;
mod mdlcopy;
mod names;
mod op;
mod options;
mod other;
mod provider;
mod receive;
mod registration;
mod sharing;
mod socket;
mod state;
mod status;
mod stream;
#[cfg(test)]
mod tests;
mod todo;
mod types;

use crate::core::{Rule, control};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

/// The status injected for the next passage of the function `name`, if any:
/// the fault point `wsk.NAME`.
fn fault(name: &str) -> Option<i32> {
    crate::core::fault::take(&format!("wsk.{name}"))
}

/// Flags that are not among `known` are a mistake: reserved, or of another
/// function.
fn check_flags(name: &str, flags: u32, known: u32) {
    if flags & !known != 0 {
        violate!(
            Rule::LabWskFlags,
            "{name} with flags {flags:#x}; {}",
            if known == 0 {
                "reserved, must be zero".to_owned()
            } else {
                format!("known are {known:#x}")
            }
        );
    }
}

/// Called when a driver has bound to the framework, before its `DriverEntry`.
pub fn session_begin() {
    engine::begin();
    counts::begin();
    control::register("sockets", |_| Ok(sockets()));
    control::register("wsk", |_| Ok(summary()));
}

/// Called when the driver has unloaded, after the leaks were collected.
pub fn session_end() {
    socket::end_session();
    registration::end_session();
    provider::end_session();
    names::end_session();
}

/// What happened since the session began: see [`counts`].
pub fn summary() -> Value {
    counts::summary()
}

/// What the driver still holds: one line for each object, with its maker.
pub fn leaks() -> Vec<String> {
    let mut leaks: Vec<_> = socket::all().iter().map(|one| describe(one)).collect();
    leaks.extend(registration::leaks());
    leaks.extend(provider::leaks());
    leaks.extend(names::leaks());
    leaks
}

fn describe(socket: &socket::Socket) -> String {
    format!(
        "WSK {:?} socket {} made by driver+0x{:x}",
        socket.category, socket.id, socket.caller
    )
}

/// The open sockets in one line.
fn describe_sockets() -> String {
    let all = socket::all();
    let some: Vec<_> = all.iter().take(8).map(|one| describe(one)).collect();
    format!("open: {}", some.join(", "))
}

/// The control command `sockets`.
fn sockets() -> Value {
    let list: Vec<_> = socket::all()
        .iter()
        .map(|socket| {
            let state = socket.state();
            let address = |address: Option<addr::RawAddr>| {
                address.map(|address| address.to_std().to_string())
            };
            json!({
                "id": socket.id,
                "category": format!("{:?}", socket.category).to_lowercase(),
                "family": if socket.family == types::AF_INET { 4 } else { 6 },
                "protocol": if host::is_tcp(socket.protocol) { "tcp" } else { "udp" },
                "local": address(state.local),
                "remote": address(state.remote),
                "state": format!("{:?}", state.phase).to_lowercase(),
                "pending": state.outstanding,
                "received": socket.received.load(Ordering::Relaxed),
                "sent": socket.sent.load(Ordering::Relaxed),
                "caller": format!("0x{:x}", socket.caller),
            })
        })
        .collect();
    Value::Array(list)
}
