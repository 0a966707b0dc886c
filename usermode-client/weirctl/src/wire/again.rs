//! Whether to go on when a connection can't be taken, and when.

use std::time::Duration;

use weir_client::{Error, ErrorKind};

/// How long an accept that failed waits before the next, at first and at most;
/// each time twice as long.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// After so many in a row that is no passing trouble: 25 seconds.
const GIVE_UP: u32 = 10;

/// Accepts that failed in a row.
#[derive(Debug, Default)]
pub(crate) struct Again {
    failures: u32,
}

impl Again {
    /// One went well.
    pub(crate) fn well(&mut self) {
        self.failures = 0;
    }

    /// How long to wait after this failure; `None` if there is nothing to wait for.
    pub(crate) fn after(&mut self, error: &Error) -> Option<Duration> {
        let times = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        may_pass(error, self.failures).then(|| AGAIN.0.saturating_mul(times).min(AGAIN.1))
    }
}

/// Whether accepting will be possible again.
fn may_pass(error: &Error, failures: u32) -> bool {
    match error.kind() {
        // For as long as those who are in stay.
        ErrorKind::OutOfRoom => true,
        // The driver or the listener is gone.
        ErrorKind::NoDriver
        | ErrorKind::Version
        | ErrorKind::AccessDenied
        | ErrorKind::NotFound
        | ErrorKind::Cancelled
        | ErrorKind::InvalidInput
        | ErrorKind::Unsupported => false,
        _ => failures < GIVE_UP,
    }
}

#[cfg(test)]
mod tests {
    use weir_client::{Doing, Failure, NtStatus};

    use super::*;

    fn failed(status: i32) -> Error {
        let failure = Failure {
            status: NtStatus(status),
            win32: 0,
        };
        Error::Socket {
            doing: Doing::Accepting,
            failure,
        }
    }

    #[test]
    fn it_waits_ever_longer_and_for_ever_only_where_that_helps() {
        use weir_abi::status;
        let mut again = Again::default();
        let full = failed(status::QUOTA_EXCEEDED);
        let waits: Vec<_> = (0..40).filter_map(|_| again.after(&full)).collect();
        assert_eq!(waits.len(), 40);
        assert_eq!(waits.first(), Some(&AGAIN.0));
        assert_eq!(waits.get(1), Some(&(AGAIN.0 * 2)));
        assert_eq!(waits.last(), Some(&AGAIN.1));
        again.well();
        let other = failed(status::UNSUCCESSFUL);
        let some = (0..40).map_while(|_| again.after(&other)).count();
        assert_eq!(some as u32, GIVE_UP - 1);
        again.well();
        assert_eq!(again.after(&failed(status::CANCELLED)), None);
    }
}
