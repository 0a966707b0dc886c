//! The echo service: what comes in goes out again (RFC 862).

mod connection;
mod counters;
mod list;
mod state;
mod tcp;
mod udp;

pub(super) use counters::Counts;
pub(super) use tcp::TcpEcho;
pub(super) use udp::UdpEcho;

use crate::kernel::pool::Tag;

/// The pool tag of everything a service allocates itself.
const TAG: Tag = Tag::new(*b"WrSv");
