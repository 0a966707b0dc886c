//! Operations of the fake sockets.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use super::FakeSocket;
use crate::channel::{Completion, Pending};
use crate::error::{Failure, NtStatus};
use crate::slot::Slot;

/// An operation the socket has.
pub(in crate::fake) struct Op {
    pub(super) id: u64,
    slot: Arc<Slot>,
    pub(super) buffer: Vec<u8>,
    /// Bytes of it that are done.
    pub(super) done: usize,
}

impl Op {
    /// An operation with this buffer, and what waits for it.
    pub(in crate::fake) fn new(
        buffer: Vec<u8>,
        socket: Option<&Arc<FakeSocket>>,
    ) -> (Op, Box<FakeOp>) {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let slot = Arc::new(Slot::default());
        let pending = FakeOp {
            id,
            slot: Arc::clone(&slot),
            socket: socket.map_or_else(Weak::new, Arc::downgrade),
        };
        let op = Op {
            id,
            slot,
            buffer,
            done: 0,
        };
        (op, Box::new(pending))
    }

    /// Ends it.
    pub(in crate::fake) fn complete(self, result: Result<usize, i32>) {
        let result = result.map_err(|status| Failure {
            status: NtStatus(status),
            win32: 0,
        });
        let buffer = self.buffer;
        self.slot.put(Completion { result, buffer }, || ());
    }

    /// Ends it with a reply.
    pub(in crate::fake) fn reply(mut self, reply: &[u8]) {
        self.buffer = reply.to_vec();
        self.complete(Ok(reply.len()));
    }
}

/// Waits for an operation.
pub(in crate::fake) struct FakeOp {
    id: u64,
    slot: Arc<Slot>,
    /// Where it may be cancelled; nowhere for one that was over at once.
    socket: Weak<FakeSocket>,
}

impl Pending for FakeOp {
    fn wait(&mut self, timeout: Option<Duration>) -> Option<Completion> {
        self.slot.wait(timeout)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Completion> {
        self.slot.poll(cx)
    }

    fn cancel(&self) {
        if let Some(socket) = self.socket.upgrade() {
            socket.cancel(Some(self.id));
        }
    }
}
