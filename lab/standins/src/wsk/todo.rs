//! What is to be done once a socket's lock has been released: IRPs to complete,
//! callbacks to make.

use super::engine;
use super::inspect::{self, Candidate};
use super::op::Op;
use super::socket::Socket;
use super::status;
use super::types::{NtStatus, WskInspectId};
use std::collections::VecDeque;
use std::sync::Arc;

/// What is to be done when a socket's lock has been released.
#[derive(Default)]
pub(super) struct Todo {
    /// Requests with their final results.
    pub(super) finished: VecDeque<(Arc<Op>, NtStatus, usize)>,
    /// The receive callback (stream or datagram) is to run; counted.
    pub(super) indicate: bool,
    /// WskSendBacklogEvent with this ideal backlog; counted.
    pub(super) backlog: Option<usize>,
    /// WskDisconnectEvent with these flags; counted.
    pub(super) disconnect: Option<u32>,
    /// Candidates for WskInspectEvent; each counted.
    pub(super) inspect: Vec<Candidate>,
    /// Inspections of which WskAbortEvent is to tell.
    pub(super) aborts: Vec<WskInspectId>,
    /// Connections for WskAcceptEvent; each counted.
    pub(super) accepted: Vec<Arc<Socket>>,
    /// Connections handed out, whose own events may begin.
    pub(super) started: Vec<Arc<Socket>>,
}

impl Todo {
    pub(super) fn finish(&mut self, op: Arc<Op>, status: NtStatus, information: usize) {
        self.finished.push_back((op, status, information));
    }

    /// Does it all, on a worker.
    pub(super) fn run(mut self, socket: &Arc<Socket>) {
        loop {
            while let Some((op, status, information)) = self.finished.pop_front() {
                if op.finish(status, information) {
                    op.socket.after(&op, &mut self);
                }
            }
            for id in std::mem::take(&mut self.aborts) {
                inspect::aborted(socket, id);
            }
            for candidate in std::mem::take(&mut self.inspect) {
                inspect::inspect_event(socket, candidate, &mut self);
            }
            for accepted in std::mem::take(&mut self.accepted) {
                super::listen::accept_event(socket, accepted, &mut self);
            }
            for started in std::mem::take(&mut self.started) {
                let mut todo = Self::default();
                started.state().pump(&started, &mut todo);
                todo.post(&started);
            }
            if std::mem::take(&mut self.indicate) {
                super::events::indicate(socket, &mut self);
            }
            if let Some(ideal) = self.backlog.take() {
                super::events::send_backlog(socket, ideal, &mut self);
            }
            if let Some(flags) = self.disconnect.take() {
                super::events::disconnect(socket, flags, &mut self);
            }
            if self.is_empty() {
                return;
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.finished.is_empty()
            && !self.indicate
            && self.backlog.is_none()
            && self.disconnect.is_none()
            && self.inspect.is_empty()
            && self.aborts.is_empty()
            && self.accepted.is_empty()
            && self.started.is_empty()
    }

    /// Leaves it to a worker.
    pub(super) fn post(self, socket: &Arc<Socket>) {
        if !self.is_empty() {
            let socket = socket.clone();
            engine::post(move || self.run(&socket));
        }
    }

    /// The end of a client's call `own`: its own result now or later, the rest
    /// on a worker. What the call is to return.
    pub(super) fn settle(mut self, own: &Arc<Op>) -> NtStatus {
        let mine = self
            .finished
            .iter()
            .position(|(op, _, _)| Arc::ptr_eq(op, own))
            .and_then(|at| self.finished.remove(at));
        self.post(&own.socket);
        match mine {
            Some((op, status, information)) => op.deliver(status, information),
            None => status::PENDING,
        }
    }
}
