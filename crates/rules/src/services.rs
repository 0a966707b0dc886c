//! IANA's names of ports.

/// A transport that has ports with names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// IANA's name of a port.
#[must_use]
pub fn name(_transport: Transport, _port: u16) -> Option<&'static str> {
    None
}

/// The port a name stands for.
#[must_use]
pub fn port(_transport: Transport, _name: &str) -> Option<u16> {
    None
}
