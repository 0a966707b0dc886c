//! How fast somebody may speak: a token bucket of lines and one of bytes
//! (RFC 3290, section 5.1.3, "Token Bucket").

use std::time::{Duration, Instant};

/// Seconds' worth that may be said at once, after a silence.
const BURST: f64 = 5.0;

/// What a member may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    /// Lines a second.
    pub(super) lines: u32,
    /// Bytes a second.
    pub(super) bytes: u32,
}

/// What a member may say yet.
pub(super) struct Allowance {
    rate: Rate,
    lines: f64,
    bytes: f64,
    at: Instant,
}

impl Allowance {
    /// All of it.
    pub(super) fn new(rate: Rate, now: Instant) -> Allowance {
        Allowance {
            rate,
            lines: BURST * f64::from(rate.lines),
            bytes: BURST * f64::from(rate.bytes),
            at: now,
        }
    }

    /// Takes a line of so many bytes. If that is more than there is, gives the
    /// time after which there will be as much: the line is to wait for so long.
    pub(super) fn take(&mut self, bytes: usize, now: Instant) -> Option<Duration> {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        let refill = |there: f64, rate: u32| {
            let rate = f64::from(rate);
            (there + passed * rate).min(BURST * rate)
        };
        self.lines = refill(self.lines, self.rate.lines) - 1.0;
        // A line's end is a byte of it.
        self.bytes = refill(self.bytes, self.rate.bytes) - (bytes as f64 + 1.0);
        let owed = (-self.lines / f64::from(self.rate.lines))
            .max(-self.bytes / f64::from(self.rate.bytes));
        (owed > 0.0).then(|| Duration::from_secs_f64(owed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        lines: 10,
        bytes: 1000,
    };

    #[test]
    fn a_burst_is_said_at_once_and_what_follows_at_the_rate() {
        let start = Instant::now();
        let mut allowance = Allowance::new(RATE, start);
        for _ in 0..50 {
            assert_eq!(allowance.take(1, start), None);
        }
        let wait = allowance.take(1, start).expect("too fast");
        assert!((0.09..0.11).contains(&wait.as_secs_f64()), "{wait:?}");
        let mut now = start + wait;
        for _ in 0..100 {
            let wait = allowance.take(1, now).expect("too fast still");
            assert!(wait.as_secs_f64() < 0.11, "{wait:?}");
            now += wait;
        }
        // A silence gives it all back, and no more.
        now += Duration::from_secs(3600);
        let at_once = (0..100).filter(|_| allowance.take(1, now).is_none());
        assert_eq!(at_once.count(), 50);
    }

    #[test]
    fn few_long_lines_are_too_many_as_well() {
        let start = Instant::now();
        let mut allowance = Allowance::new(RATE, start);
        for _ in 0..5 {
            assert_eq!(allowance.take(999, start), None);
        }
        let wait = allowance.take(999, start).expect("too fast");
        assert!((0.99..1.01).contains(&wait.as_secs_f64()), "{wait:?}");
        // The clock doesn't go back; if it seems to, nothing is given for that.
        assert!(allowance.take(0, start).is_some());
    }
}
