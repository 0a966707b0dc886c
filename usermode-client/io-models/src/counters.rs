//! What a server has done.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer had shut its side down, and has everything back.
    Finished,
    /// The peer, or something on the way, reset it.
    Reset,
    /// Another error.
    Failed,
}

impl From<&io::Error> for End {
    fn from(error: &io::Error) -> End {
        match error.kind() {
            // An accept may find nobody connected any more.
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::NotConnected
            | io::ErrorKind::BrokenPipe => End::Reset,
            _ => End::Failed,
        }
    }
}

/// Counts of one server, kept by its threads.
#[derive(Debug, Default)]
pub struct Counters {
    accepted: AtomicU64,
    ended: AtomicU64,
    finished: AtomicU64,
    reset: AtomicU64,
    failed: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    accept_errors: AtomicU64,
    threads: AtomicU64,
    room: AtomicU64,
}

/// The counts at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections there are.
    pub connections: u64,
    /// Connections there have been.
    pub accepted: u64,
    /// Of those: ended after the peer had shut its side down.
    pub finished: u64,
    /// Ended by a reset.
    pub reset: u64,
    /// Ended by another error.
    pub failed: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Times a connection could not be accepted.
    pub accept_errors: u64,
    /// Threads that wait for sockets.
    pub threads: u64,
    /// Connections there is room for before the model has to grow: by another
    /// set of 64, by another thread; 0 where it has no such step.
    pub room: u64,
}

impl Counters {
    /// The counts now.
    #[must_use]
    pub fn now(&self) -> Counts {
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        // A connection ends after it was accepted: in this order the difference
        // is not negative.
        let ended = get(&self.ended);
        let accepted = get(&self.accepted);
        Counts {
            connections: accepted.saturating_sub(ended),
            accepted,
            finished: get(&self.finished),
            reset: get(&self.reset),
            failed: get(&self.failed),
            bytes_in: get(&self.bytes_in),
            bytes_out: get(&self.bytes_out),
            accept_errors: get(&self.accept_errors),
            threads: get(&self.threads),
            room: get(&self.room),
        }
    }
}

#[cfg(any(windows, test))]
impl Counters {
    /// Counts bytes that were received.
    pub(crate) fn received(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts bytes that were sent.
    pub(crate) fn sent(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts a connection that was accepted.
    pub(crate) fn accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection that ended. Those still there when the server stops
    /// have no reason.
    pub(crate) fn ended(&self, end: Option<End>) {
        match end {
            Some(End::Finished) => self.finished.fetch_add(1, Ordering::Relaxed),
            Some(End::Reset) => self.reset.fetch_add(1, Ordering::Relaxed),
            Some(End::Failed) => self.failed.fetch_add(1, Ordering::Relaxed),
            None => 0,
        };
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an accept that failed.
    pub(crate) fn accept_error(&self) {
        self.accept_errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a thread that began to wait for sockets.
    pub(crate) fn thread(&self) {
        self.threads.fetch_add(1, Ordering::Relaxed);
    }

    /// Sets how many connections there is room for.
    pub(crate) fn room(&self, connections: usize) {
        self.room.store(connections as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_counted_by_reason() {
        let counters = Counters::default();
        for _ in 0..5 {
            counters.accepted();
        }
        for error in [
            io::ErrorKind::ConnectionReset,
            io::ErrorKind::BrokenPipe,
            io::ErrorKind::OutOfMemory,
        ] {
            counters.ended(Some(End::from(&error.into())));
        }
        counters.ended(Some(End::Finished));
        counters.accept_error();
        let now = counters.now();
        assert_eq!((now.accepted, now.connections), (5, 1));
        assert_eq!((now.reset, now.failed, now.finished), (2, 1, 1));
        counters.ended(None);
        assert_eq!((counters.now().connections, counters.now().failed), (0, 1));
        assert_eq!(counters.now().accept_errors, 1);
    }
}
