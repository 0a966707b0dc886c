//! The balances of a capture, in words: what the comment in its file says.

use std::fmt;

use weir_abi::{AdapterStats, Balance, Direction, ReaderStats};

/// What became of the frames of one adapter since the start, and of those that
/// the reader was to have.
pub(super) struct Account<'a> {
    /// At the start; none for an adapter that came later.
    pub(super) before: Option<&'a AdapterStats>,
    /// At the end; none for one that is gone, with its counters.
    pub(super) now: Option<&'a AdapterStats>,
    pub(super) reader: Option<&'a ReaderStats>,
    /// Whether the reader read no other adapter.
    pub(super) only: bool,
}

/// The term of one direction since the start.
struct Since<'a> {
    before: Option<&'a Balance>,
    now: &'a Balance,
}

impl Since<'_> {
    fn of(&self, term: fn(&Balance) -> u64) -> u64 {
        let before = self.before.map_or(0, term);
        term(self.now).saturating_sub(before)
    }
}

impl fmt::Display for Since<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lost = |b: &Balance| b.lost_paused + b.lost_resources + b.lost_other;
        write!(
            f,
            "seen {} = passed {} + dropped {} + diverted {} + lost {}",
            self.of(|b| b.seen),
            self.of(|b| b.passed),
            self.of(|b| b.dropped),
            self.of(|b| b.diverted),
            self.of(lost)
        )?;
        if self.of(lost) > 0 {
            write!(
                f,
                " (paused {}, resources {}, other {})",
                self.of(|b| b.lost_paused),
                self.of(|b| b.lost_resources),
                self.of(|b| b.lost_other)
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Account<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.now {
            Some(now) => {
                for direction in [Direction::In, Direction::Out] {
                    let since = Since {
                        before: self.before.map(|before| before.balance(direction)),
                        now: now.balance(direction),
                    };
                    writeln!(f, "{}: {since}", direction.as_str())?;
                }
            }
            None => writeln!(f, "the adapter is gone, and its counters with it")?,
        }
        let Some(reader) = self.reader else {
            return write!(f, "reader: not known");
        };
        let whose = if self.only {
            "reader"
        } else {
            "reader, all adapters"
        };
        write!(
            f,
            "{whose}: seen {} = delivered {} + queued {} + lost {}",
            reader.seen,
            reader.delivered,
            reader.queued,
            reader.lost()
        )
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros as _;

    use super::*;

    #[test]
    fn each_term_counts_from_the_start() {
        let mut before = AdapterStats::new_zeroed();
        let mut now = AdapterStats::new_zeroed();
        before.balance[0].seen = 5;
        before.balance[0].passed = 5;
        now.balance[0].seen = 25;
        now.balance[0].passed = 15;
        now.balance[0].dropped = 4;
        now.balance[0].diverted = 3;
        now.balance[0].lost_paused = 1;
        now.balance[0].lost_resources = 2;
        let mut reader = ReaderStats::new_zeroed();
        reader.seen = 20;
        reader.delivered = 20;
        let account = Account {
            before: Some(&before),
            now: Some(&now),
            reader: Some(&reader),
            only: true,
        };
        assert_eq!(
            account.to_string(),
            "in: seen 20 = passed 10 + dropped 4 + diverted 3 + lost 3 \
             (paused 1, resources 2, other 0)\n\
             out: seen 0 = passed 0 + dropped 0 + diverted 0 + lost 0\n\
             reader: seen 20 = delivered 20 + queued 0 + lost 0"
        );
        let gone = Account {
            now: None,
            only: false,
            ..account
        };
        assert_eq!(
            gone.to_string(),
            "the adapter is gone, and its counters with it\n\
             reader, all adapters: seen 20 = delivered 20 + queued 0 + lost 0"
        );
    }
}
