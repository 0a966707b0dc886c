//! TCP services: a listener and its connections.

mod connection;
mod service;
pub(super) mod state;

pub(super) use service::TcpService;
