//! What a service has done. Counters are read while they change; each is exact,
//! and they need not be of the same moment.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::state::Tally;

/// Counters of one service.
#[derive(Default)]
pub(in crate::service) struct Counters {
    /// Connections now.
    pub(super) connections: AtomicU32,
    /// TCP: connections taken; UDP: datagrams received.
    pub(super) accepted: AtomicU64,
    pub(super) bytes_in: AtomicU64,
    pub(super) bytes_out: AtomicU64,
    /// Operations that failed.
    pub(super) errors: AtomicU64,
    /// Connections refused, or datagrams not answered.
    pub(super) dropped: AtomicU64,
}

/// The values of [`Counters`].
#[derive(Clone, Copy)]
pub(in crate::service) struct Counts {
    pub(in crate::service) connections: u32,
    pub(in crate::service) accepted: u64,
    pub(in crate::service) bytes_in: u64,
    pub(in crate::service) bytes_out: u64,
    pub(in crate::service) errors: u64,
    pub(in crate::service) dropped: u64,
}

impl Counters {
    pub(super) fn add(&self, tally: Tally) {
        bump(&self.accepted, u64::from(tally.datagram));
        bump(&self.bytes_in, u64::from(tally.received));
        bump(&self.bytes_out, u64::from(tally.sent));
        bump(&self.errors, u64::from(tally.failed));
        bump(&self.dropped, u64::from(tally.dropped));
    }

    pub(in crate::service) fn read(&self) -> Counts {
        Counts {
            connections: self.connections.load(Ordering::Relaxed),
            accepted: self.accepted.load(Ordering::Relaxed),
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
        }
    }
}

/// Adds, unless there is nothing to add.
pub(super) fn bump(counter: &AtomicU64, by: u64) {
    if by != 0 {
        counter.fetch_add(by, Ordering::Relaxed);
    }
}
