//! A time that several steps have together.

use std::time::{Duration, Instant};

/// When it is over; never without a limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    at: Option<Instant>,
    /// How long it was when it began.
    pub(crate) given: Duration,
}

impl Deadline {
    /// So long from now; a time past what an Instant can say is without an end.
    pub(crate) fn after(time: Option<Duration>) -> Deadline {
        Deadline {
            at: time.and_then(|time| Instant::now().checked_add(time)),
            given: time.unwrap_or_default(),
        }
    }

    /// The time that is left; `None`: without an end.
    pub(crate) fn left(&self) -> Option<Duration> {
        self.at
            .map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Whether it is over.
    pub(crate) fn is_over(&self) -> bool {
        self.left().is_some_and(|left| left.is_zero())
    }

    /// The time for one of so many steps that are left, the next one included:
    /// none of them takes the time of those after it.
    pub(crate) fn share(&self, steps: usize) -> Option<Duration> {
        let steps = u32::try_from(steps.max(1)).unwrap_or(u32::MAX);
        self.left().map(|left| left / steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_share_what_is_left() {
        let time = Duration::from_secs(60);
        let deadline = Deadline::after(Some(time));
        let share = deadline.share(3).expect("a limit");
        assert!(share <= time / 3 && share > time / 4, "{share:?}");
        assert!(deadline.share(0) <= Some(time));
        assert!(!deadline.is_over());
        assert!(Deadline::after(Some(Duration::ZERO)).is_over());
        for none in [None, Some(Duration::MAX)] {
            let deadline = Deadline::after(none);
            assert_eq!((deadline.share(2), deadline.is_over()), (None, false));
        }
    }
}
