//! TCP services: a listener and its connections.

mod connection;
mod hearing;
mod io;
mod seen;
mod service;
mod signal;
pub(super) mod state;

pub(super) use service::TcpService;
