//! UDP services: a socket and a fixed number of buffers.

mod relay;
mod service;
pub(super) mod state;

pub(super) use service::UdpService;
