//! Times as text.

use std::fmt;
use std::time::SystemTime;

use serde::{Serialize, Serializer};
use time::OffsetDateTime;
use weir_client::filetime;

/// A time of the contract (100 ns since 1601-01-01 UTC), shown as RFC 3339 with
/// seven decimals: `2026-07-28T00:00:00.1234567Z`. After the year 9999 its end
/// is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timestamp(pub(crate) u64);

impl Timestamp {
    /// Seconds since 1970, and 100 ns of a second.
    fn parts(self) -> (i64, u32) {
        const UNITS: u64 = 10_000_000;
        // The contract's zero is a whole second too.
        let seconds = (self.0 / UNITS) as i64 - (filetime::UNIX_EPOCH / UNITS) as i64;
        (seconds, (self.0 % UNITS) as u32)
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        Timestamp(filetime::of(time))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, fraction) = self.parts();
        let Ok(at) = OffsetDateTime::from_unix_timestamp(seconds) else {
            return f.write_str("9999-12-31T23:59:59.9999999Z");
        };
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{fraction:07}Z",
            at.year(),
            u8::from(at.month()),
            at.day(),
            at.hour(),
            at.minute(),
            at.second()
        )
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Seconds from one time of the contract to another; 0 if it goes backwards.
pub(crate) fn seconds_between(first_100ns: u64, last_100ns: u64) -> f64 {
    last_100ns.saturating_sub(first_100ns) as f64 / 1e7
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_text() {
        for (time, want) in [
            (0, "1601-01-01T00:00:00.0000000Z"),
            (filetime::UNIX_EPOCH, "1970-01-01T00:00:00.0000000Z"),
            (
                filetime::UNIX_EPOCH + 1_785_196_800 * 10_000_000 + 1_234_567,
                "2026-07-28T00:00:00.1234567Z",
            ),
            (u64::MAX, "9999-12-31T23:59:59.9999999Z"),
        ] {
            assert_eq!(Timestamp(time).to_string(), want);
        }
        assert_eq!(
            serde_json::to_string(&Timestamp(0)).expect("JSON"),
            "\"1601-01-01T00:00:00.0000000Z\""
        );
    }

    #[test]
    fn spans_never_run_backwards() {
        assert_eq!(seconds_between(5, 15_000_005), 1.5);
        assert_eq!(seconds_between(6, 5), 0.0);
    }
}
