//! Whether a service still works. Knows nothing of sockets or the kernel, so
//! that it runs in tests on any host.

use core::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

use weir_abi::status;

/// How many of the parts that take in connections or datagrams still work, and
/// what the last of them failed with.
pub(super) struct Health {
    working: AtomicUsize,
    /// An NTSTATUS; `STATUS_SUCCESS` while one works.
    failure: AtomicI32,
}

impl Health {
    /// A service with so many such parts, all of which work.
    pub(super) const fn new(parts: usize) -> Self {
        Self {
            working: AtomicUsize::new(parts),
            failure: AtomicI32::new(status::SUCCESS),
        }
    }

    /// A part has ended for good, with this NTSTATUS; true if the service has
    /// failed by it. At most once for each part, except for the last, which may
    /// say so again. Any IRQL.
    pub(super) fn part_failed(&self, with: i32) -> bool {
        let fewer = |working: usize| working.checked_sub(1);
        let before = self
            .working
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, fewer);
        if before != Ok(1) {
            return false;
        }
        // A success wouldn't tell a failed service from one that runs.
        let with = if status::is_error(with) {
            with
        } else {
            status::UNSUCCESSFUL
        };
        self.failure.store(with, Ordering::Release);
        true
    }

    /// The NTSTATUS the service failed with, none while it runs. Any IRQL.
    pub(super) fn failure(&self) -> Option<i32> {
        let failure = self.failure.load(Ordering::Acquire);
        (failure != status::SUCCESS).then_some(failure)
    }
}
