//! Receiving on connections: `WskReceive`, and the provider's own receives for
//! `WskReceiveEvent` and `WskDisconnectEvent`.

use super::buffer::{Buffer, Way};
use super::host::{self, IoVec, Started};
use super::op::{Body, Op};
use super::socket::{Category, Socket, enter};
use super::state::{Phase, State};
use super::todo::Todo;
use super::types::{
    Irp, NtStatus, WSK_EVENT_DISCONNECT, WSK_EVENT_RECEIVE, WSK_FLAG_ABORTIVE, WSK_FLAG_DRAIN,
    WSK_FLAG_WAITALL, WskBuf, WskSocket,
};
use super::{check_flags, fault, status};
use crate::core::Rule;
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Bytes the provider receives at a time for WskReceiveEvent, and throws away
/// at a time for WSK_FLAG_DRAIN.
const SCRATCH: usize = 16 * 1024;

thread_local! {
    /// Where the provider's own receives go first.
    static OWN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// `WskReceive`.
pub(super) unsafe extern "system" fn receive(
    socket: *mut WskSocket,
    buffer: *mut WskBuf,
    flags: u32,
    irp: *mut Irp,
) -> NtStatus {
    const NAME: &str = "WskReceive";
    let call = enter(NAME, socket, &[Category::Connection]);
    check_flags(NAME, flags, WSK_FLAG_WAITALL | WSK_FLAG_DRAIN);
    if flags == WSK_FLAG_WAITALL | WSK_FLAG_DRAIN {
        violate!(
            Rule::LabWskFlags,
            "{NAME} with both WSK_FLAG_WAITALL and WSK_FLAG_DRAIN, which exclude each other"
        );
    }
    // SAFETY: the client's WSK_BUF, under the contract of WskReceive.
    let buffer = unsafe { Buffer::new(NAME, buffer, Way::ToClient) };
    let body = if flags & WSK_FLAG_DRAIN != 0 {
        if buffer.len() != 0 {
            violate!(
                Rule::LabWskFlags,
                "{NAME} with WSK_FLAG_DRAIN and a buffer of {} bytes, which must be empty",
                buffer.len()
            );
        }
        Body::Drain
    } else {
        Body::Receive {
            buffer,
            wait_all: flags & WSK_FLAG_WAITALL != 0,
        }
    };
    let op = call.socket.begin(NAME, irp, body);
    if let Some(status) = fault(NAME) {
        return op.deliver(status, 0);
    }
    let mut todo = Todo::default();
    {
        let mut state = call.socket.state();
        state.paused = false;
        state.asked += 1;
        let empty = matches!(&op.body, Body::Receive { buffer, .. } if buffer.len() == 0);
        match state.may_receive() {
            Err(status) => todo.finish(op.clone(), status, 0),
            // "Specifying a zero length ... re-enabling WskReceiveEvent".
            Ok(()) if empty => todo.finish(op.clone(), status::SUCCESS, 0),
            Ok(()) => state.receives.push_back(op.clone()),
        }
        state.pump_receive(&call.socket, &mut todo);
    }
    todo.settle(&op)
}

impl State {
    /// Data that a callback did not take is the first to come again.
    pub(super) fn put_back(&mut self, data: &[u8]) {
        for byte in data.iter().rev() {
            self.buffered.push_front(*byte);
        }
    }

    fn may_receive(&self) -> Result<(), NtStatus> {
        match self.phase {
            Phase::Connected => Ok(()),
            Phase::Dead => Err(self.failed.unwrap_or(status::CONNECTION_ABORTED)),
            _ => Err(status::INVALID_CONNECTION),
        }
    }

    /// Starts the next receive: of the client first, else one for its events.
    pub(super) fn pump_receive(&mut self, socket: &Arc<Socket>, todo: &mut Todo) {
        if self.closed || self.phase != Phase::Connected {
            return;
        }
        self.tell_disconnect(todo);
        // Data that are being indicated are no receive's before the event has
        // answered, and may be the next one's then: those that come later are not.
        if self.receiving.is_some() || self.indicating {
            return;
        }
        if let Some(op) = self.receives.pop_front() {
            self.receiving = Some(op.clone());
            if let Some((status, bytes)) = self.start_receive(&op) {
                self.tell_disconnect(todo);
                todo.finish(op, status, bytes);
            }
            return;
        }
        let over = self.eof || self.failed.is_some();
        if self.enabled & WSK_EVENT_RECEIVE != 0 && !self.paused {
            if !self.buffered.is_empty() {
                self.indicating = true;
                self.callbacks += 1;
                todo.indicate = true;
            } else if !over {
                self.start_own(socket, todo, false);
            }
        } else if self.enabled & (WSK_EVENT_RECEIVE | WSK_EVENT_DISCONNECT) == WSK_EVENT_DISCONNECT
            && !over
            && !self.watched
            && self.buffered.is_empty()
        {
            self.start_own(socket, todo, true);
        }
    }

    /// A receive of the provider's own: of data, or only a look.
    fn start_own(&mut self, socket: &Arc<Socket>, todo: &mut Todo, watch: bool) {
        let body = if watch { Body::Watch } else { Body::Fill };
        let op = Op::own(socket, body);
        self.outstanding += 1;
        self.receiving = Some(op.clone());
        if let Some((status, bytes)) = self.start_receive(&op) {
            // An own operation has no IRP; ending it makes the pump go on.
            todo.finish(op, status, bytes);
        }
    }

    /// Goes on with a receive until it has its result or has to wait.
    fn start_receive(&mut self, op: &Arc<Op>) -> Option<(NtStatus, usize)> {
        loop {
            if op.cancelled.load(Ordering::SeqCst) && op.received() == 0 {
                return Some((status::CANCELLED, 0));
            }
            if !self.buffered.is_empty() && self.take_buffered(op) {
                return Some((status::SUCCESS, op.received()));
            }
            if let Some(status) = self.failed {
                return Some((status, 0));
            }
            if self.eof {
                return Some((status::SUCCESS, op.received()));
            }
            let started = self.receive_now(op);
            op.waits(&started);
            let (status, bytes) = match started {
                Started::Later => return None,
                Started::Done(bytes) => (status::SUCCESS, bytes),
                Started::Failed(error) => (status::from_host(error), 0),
            };
            if let Some(result) = self.received(op, status, bytes) {
                return Some(result);
            }
        }
    }

    /// Receives into the client's memory, or into the provider's.
    fn receive_now(&mut self, op: &Arc<Op>) -> Started {
        let handle = self.handle;
        if let Body::Receive { buffer, .. } = &op.body {
            let mut segments = buffer.segments(op.progress());
            // SAFETY: the client lends the memory until its IRP completes.
            return unsafe { host::receive(handle, &mut segments, false) };
        }
        let peek = matches!(op.body, Body::Watch);
        OWN.with_borrow_mut(|scratch| {
            scratch.resize(SCRATCH, 0);
            let mut segment = [IoVec {
                base: scratch.as_mut_ptr(),
                len: if peek { 1 } else { SCRATCH },
            }];
            // SAFETY: this thread's own memory.
            let started = unsafe { host::receive(handle, &mut segment, peek) };
            if let (Started::Done(bytes), Body::Fill) = (&started, &op.body) {
                self.buffered.extend(scratch.iter().take(*bytes));
            }
            started
        })
    }

    /// There may be something to receive.
    pub(super) fn resume_receive(&mut self, todo: &mut Todo) {
        let Some(op) = self.receiving.clone() else {
            return;
        };
        if !op.take_waiting() {
            return;
        }
        let result = if matches!(op.body, Body::ReceiveFrom { .. } | Body::FillFrom) {
            self.start_receive_from(&op)
        } else {
            self.start_receive(&op)
        };
        if let Some((status, bytes)) = result {
            self.tell_disconnect(todo);
            todo.finish(op, status, bytes);
        }
    }

    /// Gives buffered data to a client's receive; true when that ends it.
    fn take_buffered(&mut self, op: &Arc<Op>) -> bool {
        match &op.body {
            Body::Receive { buffer, wait_all } => {
                let data: Vec<u8> = self.buffered.iter().copied().collect();
                let at = op.progress();
                let taken = buffer.fill(at, &data);
                self.buffered.drain(..taken);
                op.done.store(at + taken, Ordering::Relaxed);
                !wait_all || at + taken == buffer.len()
            }
            Body::Drain => {
                self.buffered.clear();
                false
            }
            _ => false,
        }
    }

    /// What came of a receive; `None` when it has to go on.
    fn received(
        &mut self,
        op: &Arc<Op>,
        status: NtStatus,
        bytes: usize,
    ) -> Option<(NtStatus, usize)> {
        self.watched = false;
        if !status::is_success(status) {
            if status != status::CANCELLED && self.failed.is_none() {
                self.failed = Some(status);
            }
            return Some((self.failed.unwrap_or(status), 0));
        }
        if !matches!(op.body, Body::Watch) {
            op.socket
                .received
                .fetch_add(bytes as u64, Ordering::Relaxed);
        }
        if bytes == 0 {
            if !self.shut && host::was_reset(self.handle) {
                self.failed = Some(status::CONNECTION_RESET);
                return Some((status::CONNECTION_RESET, 0));
            }
            self.eof = true;
            return Some((status::SUCCESS, op.received()));
        }
        match &op.body {
            Body::Receive { buffer, wait_all } => {
                let all = op.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
                (!wait_all || all >= buffer.len()).then_some((status::SUCCESS, all))
            }
            Body::Drain => None,
            // The data is with the rest already.
            Body::Fill => Some((status::SUCCESS, bytes)),
            _ => {
                self.watched = true;
                Some((status::SUCCESS, 0))
            }
        }
    }

    /// The host says that the connection is gone, and no receive is there to
    /// find out: because data waits that the client has not taken.
    pub(super) fn notice_reset(&mut self, todo: &mut Todo) {
        if self.phase != Phase::Connected
            || self.enabled & WSK_EVENT_DISCONNECT == 0
            || self.receiving.is_some()
            || self.failed.is_some()
            || self.eof
        {
            return;
        }
        match host::options::take_error(self.handle) {
            Err(error) => self.failed = Some(status::from_host(error)),
            Ok(()) if !self.shut && host::was_reset(self.handle) => {
                self.failed = Some(status::CONNECTION_RESET);
            }
            Ok(()) => return,
        }
        self.tell_disconnect(todo);
    }

    /// Notes that WskDisconnectEvent is due: once, after all data; of a reset
    /// at once, since "no further data will be received from the socket".
    fn tell_disconnect(&mut self, todo: &mut Todo) {
        let over = self.eof || self.failed.is_some();
        if over
            && !self.disconnect_told
            && !self.closed
            && !self.indicating
            && self.enabled & WSK_EVENT_DISCONNECT != 0
            && (self.buffered.is_empty() || self.failed.is_some())
            && self.phase == Phase::Connected
        {
            self.disconnect_told = true;
            self.callbacks += 1;
            if self.failed.is_some() {
                self.buffered.clear();
            }
            todo.disconnect = Some(if self.failed.is_some() {
                WSK_FLAG_ABORTIVE
            } else {
                0
            });
        }
    }
}

impl Op {
    /// Bytes a client's receive has so far.
    fn received(&self) -> usize {
        match &self.body {
            Body::Receive { .. } => self.progress(),
            _ => 0,
        }
    }

    /// What a cancelled operation ends with: data that a receive has got
    /// already is not lost.
    pub(super) fn cut_short(&self) -> (NtStatus, usize) {
        match self.received() {
            0 => (status::CANCELLED, 0),
            bytes => (status::SUCCESS, bytes),
        }
    }
}
