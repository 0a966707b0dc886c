//! What others may look at of a connection, while its step works on it.

use core::net::SocketAddr;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use weir_abi::{SocketInfo, SocketKind, SocketState};

use super::state::View;
use crate::service::sockets;
use crate::wsk::{Ends, SockAddr};

/// What others may look at, of one of a connection's sockets.
pub(super) struct Seen {
    local: SockAddr,
    remote: SockAddr,
    pub(super) bytes_in: AtomicU64,
    pub(super) bytes_out: AtomicU64,
    /// A [`View`], as its step left it.
    view: AtomicU8,
}

impl Seen {
    pub(super) fn new(ends: Ends) -> Self {
        Self {
            local: ends.local,
            remote: ends.remote,
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            view: AtomicU8::new(View::default() as u8),
        }
    }

    /// None while there is no such socket.
    fn state(&self) -> Option<SocketState> {
        const CONNECTING: u8 = View::Connecting as u8;
        const CONNECTED: u8 = View::Connected as u8;
        const PEER_CLOSED: u8 = View::PeerClosed as u8;
        const SHUT_DOWN: u8 = View::ShutDown as u8;
        const CLOSING: u8 = View::Closing as u8;
        match self.view.load(Ordering::Relaxed) {
            CONNECTING => Some(SocketState::Connecting),
            CONNECTED => Some(SocketState::Connected),
            PEER_CLOSED => Some(SocketState::PeerClosed),
            SHUT_DOWN => Some(SocketState::ShutDown),
            CLOSING => Some(SocketState::Closing),
            _ => None,
        }
    }

    /// Leaves how the socket is now.
    pub(super) fn leave(&self, view: View) {
        self.view.store(view as u8, Ordering::Relaxed);
    }

    /// What is shown of it, the socket with this number of this service; none if
    /// there is no such socket.
    pub(super) fn info(&self, service: u32, number: u64, opened_100ns: u64) -> Option<SocketInfo> {
        let state = self.state()?;
        let blank = sockets::blank(service, number, SocketKind::TcpStream, state);
        Some(SocketInfo {
            local: SocketAddr::try_from(&self.local).ok().into(),
            remote: SocketAddr::try_from(&self.remote).ok().into(),
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
            opened_100ns,
            ..blank
        })
    }
}
