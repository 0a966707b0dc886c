//! Connection requests under conditional accept, before the handshake: what
//! comes to the gate of a listening socket, and what becomes of it.
//!
//! A request is asked about once, however often its peer repeats it; a peer that
//! begins anew, or says that it has no such connection, ends what there was. A
//! peer that gives up without a word is found out when it answers the host's
//! answer with a reset, or not at all.

use super::host::gate::{self, Arrival, Ends, Gate, Request};
use super::inspect::{Candidate, Inspections};
use super::socket::Socket;
use super::state::State;
use super::todo::Todo;
use super::types::WskInspectId;
use super::{engine, host};
use crate::core::event_log;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use windows_sys::Win32::Networking::WinSock as ws;

/// Requests and connections of a listening socket that the client has not
/// taken, at a time; further requests wait unread.
const MOST: usize = 4096;
/// The host gives up a handshake after about a minute.
const HANDSHAKE: Duration = Duration::from_secs(75);
/// Decided requests that are remembered.
const DECIDED: usize = 256;

/// An accepted request whose connection is not made yet.
pub(super) struct Admitted {
    id: WskInspectId,
    sequence: u32,
    since: Instant,
}

impl Inspections {
    /// Carries out a decision.
    pub(super) fn answer(&mut self, id: WskInspectId, request: &Request, accepted: bool) {
        let Some(gate) = &self.gate else { return };
        let sequence = request.sequence;
        if accepted {
            let since = Instant::now();
            let admitted = Admitted {
                id,
                sequence,
                since,
            };
            self.admitted.insert(request.ends, admitted);
            gate.admit(request);
        } else {
            gate.refuse(request);
        }
        self.decided.push_back((request.ends, sequence, !accepted));
        if self.decided.len() > DECIDED {
            self.decided.pop_front();
        }
    }

    /// Takes out an accepted request that comes to nothing.
    pub(super) fn take_admitted(&mut self, id: WskInspectId) -> bool {
        let before = self.admitted.len();
        self.admitted.retain(|_, one| one.id != id);
        self.admitted.len() < before
    }

    /// Whether a connection that the host has made was let in; it is once.
    pub(super) fn was_admitted(&mut self, ends: &Ends) -> bool {
        self.admitted.remove(ends).is_some()
    }

    /// What ends with the connection requests of these ends before this one.
    fn replaced(&mut self, ends: &Ends, todo: &mut Todo) {
        let pending = self.gone(ends);
        let admitted = self.admitted.get(ends).map(|one| one.id);
        todo.aborts.extend(pending.into_iter().chain(admitted));
    }

    /// Whether a request has been seen before, and nothing is to be done now.
    fn repeated(&self, request: &Request) -> bool {
        let Request { ends, sequence, .. } = request;
        if self.pending(ends) == Some(*sequence) {
            return true;
        }
        let seen = |(old, number, _): &&(Ends, u32, bool)| old == ends && number == sequence;
        let Some((_, _, refused)) = self.decided.iter().find(seen) else {
            return false;
        };
        if let (true, Some(gate)) = (refused, &self.gate) {
            gate.refuse(request);
        }
        true
    }

    /// Accepted requests of which nothing was heard.
    fn expired(&self) -> impl Iterator<Item = WskInspectId> {
        let now = Instant::now();
        self.admitted
            .values()
            .filter(move |one| now.duration_since(one.since) > HANDSHAKE)
            .map(|one| one.id)
    }
}

impl State {
    /// Puts the gate before a bound listening socket in conditional accept mode.
    /// Without one it is asked about connections that are made already.
    pub(super) fn close_gate(&mut self, listener: &Arc<Socket>) {
        if !self.inspections.on || !engine::GATE.load(Ordering::Relaxed) {
            return;
        }
        let Some(local) = self.local else { return };
        let only = host::options::get(self.handle, ws::IPPROTO_IPV6, ws::IPV6_V6ONLY);
        let both = matches!(only.as_deref(), Ok([0, ..]));
        let watched = Gate::new(self.handle, local, both).and_then(|gate| {
            gate.descriptors()
                .try_for_each(|fd| engine::watch(listener, fd))?;
            Ok(gate)
        });
        match watched {
            Ok(gate) => self.inspections.gate = Some(gate),
            Err(error) => {
                gate::passed(self.handle);
                say_once(error);
            }
        }
    }

    /// Takes in what has come to the gate.
    pub(super) fn pump_gate(&mut self, todo: &mut Todo) {
        if self.inspections.gate.is_none() {
            return;
        }
        todo.aborts.extend(self.inspections.expired());
        while self.inspections.count() + self.inspections.admitted.len() + self.ready.len() < MOST {
            let arrival = self.inspections.gate.as_ref().and_then(Gate::next);
            match arrival {
                None => return,
                Some(Arrival::Request(request)) => {
                    if self.inspections.repeated(&request) {
                        continue;
                    }
                    self.inspections.replaced(&request.ends, todo);
                    self.callbacks += 1;
                    self.inspections.asked();
                    todo.inspect.push(Candidate::Request(request));
                }
                Some(Arrival::Reset { ends, sequence }) => self.reset_came(&ends, sequence, todo),
            }
        }
    }

    /// A reset, perhaps of a peer that is being inspected or was let in.
    fn reset_came(&mut self, ends: &Ends, sequence: u32, todo: &mut Todo) {
        let admitted = self.inspections.admitted.get(ends);
        let began = admitted.map(|one| one.sequence);
        // Of something before, if it isn't of this request or its first byte.
        let is_its = |began: u32| [began, began.wrapping_add(1)].contains(&sequence);
        if began.or(self.inspections.pending(ends)).is_some_and(is_its) {
            self.inspections.replaced(ends, todo);
        }
    }
}

/// That refused peers see a reset instead is said once in the lab's log.
fn say_once(error: i32) {
    static SAID: AtomicBool = AtomicBool::new(false);
    if !SAID.swap(true, Ordering::Relaxed) {
        event_log(json!({
            "event": "wsk",
            "conditional": "peers are inspected after the handshake: the host allows no gate \
                            before a listening socket (CAP_NET_RAW, CAP_NET_ADMIN)",
            "errno": error,
        }));
    }
}
