//! What a service has done. Counters are read while they change; each is exact,
//! and they need not be of the same moment.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::tcp::state::End;
use super::udp::state::Tally;

/// Counters of one service.
#[derive(Default)]
pub(super) struct Counters {
    /// Connections now; of a UDP relay, clients that are known.
    pub(super) connections: AtomicU32,
    /// TCP: connections taken; UDP: datagrams received.
    pub(super) accepted: AtomicU64,
    pub(super) bytes_in: AtomicU64,
    pub(super) bytes_out: AtomicU64,
    /// Operations that failed.
    pub(super) errors: AtomicU64,
    /// Connections refused, or datagrams not answered or passed on.
    pub(super) dropped: AtomicU64,
    pub(super) ends: Ends,
}

/// How connections have ended.
#[derive(Default)]
pub(super) struct Ends {
    finished: AtomicU64,
    target_refused: AtomicU64,
    reset_by_client: AtomicU64,
    reset_by_target: AtomicU64,
    timed_out: AtomicU64,
    failed: AtomicU64,
}

/// The values of [`Counters`].
#[derive(Clone, Copy)]
pub(super) struct Counts {
    pub(super) connections: u32,
    pub(super) accepted: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) errors: u64,
    pub(super) dropped: u64,
    pub(super) finished: u64,
    pub(super) target_refused: u64,
    pub(super) reset_by_client: u64,
    pub(super) reset_by_target: u64,
    pub(super) timed_out: u64,
    pub(super) failed: u64,
}

impl Counters {
    /// Counts what became of a datagram.
    pub(super) fn add(&self, tally: Tally) {
        bump(&self.accepted, u64::from(tally.datagram));
        bump(&self.bytes_in, u64::from(tally.received));
        bump(&self.bytes_out, u64::from(tally.sent));
        bump(&self.errors, u64::from(tally.failed));
        bump(&self.dropped, u64::from(tally.dropped));
    }

    /// Counts a connection that has ended.
    pub(super) fn ended(&self, end: End) {
        let ends = &self.ends;
        let counter = match end {
            End::Finished => &ends.finished,
            End::TargetRefused => &ends.target_refused,
            End::ResetByClient => &ends.reset_by_client,
            End::ResetByTarget => &ends.reset_by_target,
            End::TimedOut => &ends.timed_out,
            End::Failed => &ends.failed,
            End::Stopped => return,
        };
        bump(counter, 1);
        if end != End::Finished {
            bump(&self.errors, 1);
        }
    }

    /// Counts clients of a UDP relay of whom nothing was heard for long.
    pub(super) fn timed_out(&self, clients: u64) {
        bump(&self.ends.timed_out, clients);
    }

    /// Counts a datagram that the target's side has said didn't arrive.
    pub(super) fn target_unreachable(&self) {
        bump(&self.ends.target_refused, 1);
    }

    pub(super) fn read(&self) -> Counts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            connections: self.connections.load(Ordering::Relaxed),
            accepted: of(&self.accepted),
            bytes_in: of(&self.bytes_in),
            bytes_out: of(&self.bytes_out),
            errors: of(&self.errors),
            dropped: of(&self.dropped),
            finished: of(&self.ends.finished),
            target_refused: of(&self.ends.target_refused),
            reset_by_client: of(&self.ends.reset_by_client),
            reset_by_target: of(&self.ends.reset_by_target),
            timed_out: of(&self.ends.timed_out),
            failed: of(&self.ends.failed),
        }
    }
}

/// Adds, unless there is nothing to add.
pub(super) fn bump(counter: &AtomicU64, by: u64) {
    if by != 0 {
        counter.fetch_add(by, Ordering::Relaxed);
    }
}
