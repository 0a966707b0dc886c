//! What changes about a socket, and how it comes to its end.

use super::addr::RawAddr;
use super::datagram::Arrived;
use super::host::{self, Fd};
use super::inspect::Inspections;
use super::lists::Lists;
use super::op::Op;
use super::socket::{Category, Socket};
use super::status;
use super::todo::Todo;
use super::types::{
    NtStatus, WskClientConnectionDispatch, WskClientDatagramDispatch, WskClientListenDispatch,
    WskDataIndication, WskDatagramIndication, WskInspectId,
};
use std::collections::VecDeque;
use std::ffi::c_void;
use std::sync::{Arc, Weak};

/// How far a socket has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Created,
    Bound,
    Connecting,
    Connected,
    Listening,
    /// Abortively disconnected, or told to be no longer functional.
    Dead,
}

/// The event callback functions a client gave.
#[derive(Clone, Copy)]
pub(super) enum Dispatch {
    None,
    Listen(WskClientListenDispatch),
    Datagram(WskClientDatagramDispatch),
    Connection(WskClientConnectionDispatch),
}

/// What changes about a socket.
pub(super) struct State {
    pub(super) handle: Fd,
    pub(super) phase: Phase,
    pub(super) local: Option<RawAddr>,
    pub(super) remote: Option<RawAddr>,
    pub(super) reuse: bool,
    pub(super) exclusive: bool,
    pub(super) closing: Option<Arc<Op>>,
    /// Closing has begun (stays true when `closing` has been taken).
    pub(super) closed: bool,
    /// The client has it (or had it).
    pub(super) born: bool,
    /// Operations begun and not ended.
    pub(super) outstanding: usize,
    /// Event callback functions that are running or about to.
    pub(super) callbacks: usize,
    pub(super) context: *mut c_void,
    pub(super) dispatch: Dispatch,
    /// Enabled event callbacks, and those of them that can't be disabled.
    pub(super) enabled: u32,
    pub(super) fixed: u32,
    /// IRPs of disabling calls that wait for running callbacks.
    pub(super) disabling: Vec<Arc<Op>>,

    pub(super) receives: VecDeque<Arc<Op>>,
    pub(super) receiving: Option<Arc<Op>>,
    pub(super) sends: VecDeque<Arc<Op>>,
    pub(super) sending: Option<Arc<Op>>,
    pub(super) connecting: Option<Arc<Op>>,
    /// Data received and not yet given to the client.
    pub(super) buffered: VecDeque<u8>,
    /// The other side has sent its last byte.
    pub(super) eof: bool,
    /// The connection has failed.
    pub(super) failed: Option<NtStatus>,
    /// This side has sent its last byte.
    pub(super) shut: bool,
    /// The receive callback runs or is about to.
    pub(super) indicating: bool,
    /// The client refused data: no receive callbacks until it asks.
    pub(super) paused: bool,
    /// How often it has asked: a callback that refuses data while the client
    /// asks for it does not stop the callbacks.
    pub(super) asked: u64,
    /// The watch saw data: no further watch until some was received.
    pub(super) watched: bool,
    pub(super) disconnect_told: bool,
    /// Lists the client has.
    pub(super) retained: Lists<WskDataIndication>,
    pub(super) retained_datagrams: Lists<WskDatagramIndication>,

    pub(super) accepts: VecDeque<Arc<Op>>,
    /// A connection under inspection: the listening socket, and which one.
    pub(super) inspected: Option<(Weak<Socket>, WskInspectId)>,
    /// Requests that wait for the host's addresses to change, and the
    /// descriptor that tells.
    pub(super) changes: Vec<Arc<Op>>,
    pub(super) changed: Fd,
    /// The ideal send backlog as last told.
    pub(super) backlog: usize,
    /// Connections nobody has asked for yet.
    pub(super) ready: VecDeque<Arc<Socket>>,
    pub(super) inspections: Inspections,

    /// SIO_WSK_SET_REMOTE_ADDRESS, SIO_WSK_SET_SENDTO_ADDRESS.
    pub(super) fixed_remote: Option<RawAddr>,
    pub(super) fixed_sendto: Option<RawAddr>,
    /// Datagrams not yet given to the client.
    pub(super) datagrams: VecDeque<Arrived>,
    /// Control information the client wants with datagrams: IP_PKTINFO and the
    /// hop limit.
    pub(super) packet_info: bool,
    /// It gets no multicasts that this machine has sent.
    pub(super) no_loop: bool,
    pub(super) hop_limit: bool,
}

impl State {
    pub(super) fn new(handle: Fd, phase: Phase, context: *mut c_void, dispatch: Dispatch) -> Self {
        Self {
            handle,
            phase,
            local: None,
            remote: None,
            reuse: false,
            exclusive: false,
            closing: None,
            closed: false,
            born: false,
            outstanding: 0,
            callbacks: 0,
            context,
            dispatch,
            enabled: 0,
            fixed: 0,
            disabling: Vec::new(),
            receives: VecDeque::new(),
            receiving: None,
            sends: VecDeque::new(),
            sending: None,
            connecting: None,
            buffered: VecDeque::new(),
            eof: false,
            failed: None,
            shut: false,
            indicating: false,
            paused: false,
            asked: 0,
            watched: false,
            disconnect_told: false,
            retained: Lists::new(),
            retained_datagrams: Lists::new(),
            accepts: VecDeque::new(),
            inspected: None,
            changes: Vec::new(),
            changed: host::NONE,
            backlog: 0,
            ready: VecDeque::new(),
            inspections: Inspections::default(),
            fixed_remote: None,
            fixed_sendto: None,
            datagrams: VecDeque::new(),
            packet_info: false,
            no_loop: false,
            hop_limit: false,
        }
    }

    /// Data indication lists the client has kept and not released.
    pub(super) fn kept(&self) -> usize {
        self.retained.kept() + self.retained_datagrams.kept()
    }

    /// Starts whatever can be started.
    pub(super) fn pump(&mut self, socket: &Arc<Socket>, todo: &mut Todo) {
        if self.closed {
            return;
        }
        match socket.category {
            Category::Connection => {
                self.pump_send(todo);
                self.pump_receive(socket, todo);
            }
            Category::Datagram => {
                self.pump_send_to(todo);
                self.pump_receive_from(socket, todo);
            }
            Category::Listen => self.pump_accept(socket, todo),
            Category::Basic => {}
        }
    }

    /// Ends what only waits, as cancelled.
    pub(super) fn drop_waiting(&mut self, todo: &mut Todo) {
        let receives = std::mem::take(&mut self.receives);
        let sends = std::mem::take(&mut self.sends);
        let accepts = std::mem::take(&mut self.accepts);
        let changes = std::mem::take(&mut self.changes);
        let queued = receives.into_iter().chain(sends).chain(accepts);
        for op in queued.chain(changes) {
            todo.finish(op, status::CANCELLED, 0);
        }
        for op in [&self.receiving, &self.sending, &self.connecting] {
            if let Some(op) = op
                && op.take_waiting()
            {
                todo.finish(op.clone(), status::CANCELLED, 0);
            }
        }
        self.inspections.refuse_all();
        for socket in std::mem::take(&mut self.ready) {
            socket.state().release_handle(true);
        }
    }

    /// When a closing socket has nothing under way any more, it goes away.
    pub(super) fn check_closed(&mut self, todo: &mut Todo) {
        if self.closed && self.outstanding == 0 && self.callbacks == 0 {
            if let Some(close) = self.closing.take() {
                // "Always performs an abortive disconnect of the socket unless
                // the socket is already fully disconnected in both
                // directions." After a graceful disconnect of this side alone
                // the host would throw away what it has not sent yet, where
                // Windows has seen it acknowledged: there the end stays
                // orderly, and the reset comes when the other side sends.
                let abortive = self.phase == Phase::Connected && !self.shut;
                self.release_handle(abortive);
                close.socket.withdraw();
                todo.finish(close, status::SUCCESS, 0);
            }
        } else if self.callbacks == 0 {
            for op in std::mem::take(&mut self.disabling) {
                todo.finish(op, status::SUCCESS, 0);
            }
        }
    }

    /// Gives the host's socket back.
    pub(super) fn release_handle(&mut self, abortive: bool) {
        self.inspections.gate = None;
        if self.changed != host::NONE {
            host::close(std::mem::replace(&mut self.changed, host::NONE));
        }
        if self.handle != host::NONE {
            let handle = std::mem::replace(&mut self.handle, host::NONE);
            if abortive {
                host::close_abortive(handle);
            } else {
                host::close(handle);
            }
        }
    }
}
