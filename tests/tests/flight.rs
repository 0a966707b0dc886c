//! Who completes a request that is in the air, in every order in which submitter,
//! end, cancel callback and other cancellers can come: somebody, and once.

#[path = "../../driver/src/socket/flight.rs"]
mod flight;

use std::collections::BTreeSet;

use flight::{Flight, Submitted};

/// What each of those concerned has done so far, beside the flight itself, and
/// what the framework knows of the request.
#[derive(Clone, Debug)]
struct World {
    flight: Flight,
    /// The submitter: 0 in its call, 1 told to cancel, 2 done.
    submitter: u8,
    /// The provider's operation has ended.
    ended: bool,
    /// It may end only by a cancel.
    stuck: bool,
    /// The provider's operation has been asked to end.
    asked: bool,
    /// The framework: the request is marked; it has been cancelled.
    marked: bool,
    user_cancelled: bool,
    /// The callback: 0 not called, 1 about to cancel, 2 done.
    callback: u8,
    /// Another canceller (a handle that is closed): likewise.
    other: u8,
    completions: u32,
}

impl World {
    fn new(stuck: bool) -> Self {
        World {
            flight: Flight::new(),
            submitter: 0,
            ended: false,
            stuck,
            asked: false,
            marked: true,
            user_cancelled: false,
            callback: 0,
            other: 0,
            completions: 0,
        }
    }

    fn land(&mut self, over: bool) {
        if over {
            self.completions += 1;
        }
    }

    /// Every world that one step of somebody makes of this one.
    fn next(&self) -> Vec<World> {
        let mut all = Vec::new();
        let mut with = |step: fn(&mut World)| {
            let mut world = self.clone();
            step(&mut world);
            all.push(world);
        };
        // Once it has been submitted or while it is, it may end; one that is stuck
        // only once it has been asked to.
        if !self.ended && (!self.stuck || self.asked) {
            with(|w| {
                w.ended = true;
                let marked = &mut w.marked;
                let unmark = || std::mem::take(marked);
                let over = w.flight.ended(unmark);
                w.land(over);
            });
        }
        if self.submitter == 0 {
            with(|w| match w.flight.submitted() {
                Submitted::Flying => w.submitter = 2,
                Submitted::Cancel => w.submitter = 1,
                Submitted::Over => {
                    w.submitter = 2;
                    w.land(true);
                }
            });
        }
        if self.submitter == 1 && !self.asked {
            with(|w| w.asked = true);
        }
        if self.submitter == 1 && self.asked {
            with(|w| {
                w.submitter = 2;
                let over = w.flight.cancelled();
                w.land(over);
            });
        }
        // The user cancels: if the request is marked, its callback will come.
        if !self.user_cancelled && self.marked {
            with(|w| {
                w.user_cancelled = true;
                w.marked = false;
            });
        }
        if self.user_cancelled && self.callback == 0 {
            with(|w| {
                let cancels = w.flight.cancel();
                let over = w.flight.came();
                w.callback = if cancels { 1 } else { 2 };
                w.land(over);
            });
        }
        if self.callback == 1 {
            with(|w| {
                w.asked = true;
                w.callback = 2;
                let over = w.flight.cancelled();
                w.land(over);
            });
        }
        // Somebody else cancels while it is known, that is, until it is over.
        if self.other == 0 && self.completions == 0 {
            with(|w| w.other = if w.flight.cancel() { 1 } else { 2 });
        }
        if self.other == 1 {
            with(|w| {
                w.asked = true;
                w.other = 2;
                let over = w.flight.cancelled();
                w.land(over);
            });
        }
        all
    }
}

#[test]
fn a_request_is_completed_once_in_every_order() {
    let mut seen = BTreeSet::new();
    let mut open = vec![World::new(false), World::new(true)];
    let mut ends = 0;
    while let Some(world) = open.pop() {
        if !seen.insert(format!("{world:?}")) {
            continue;
        }
        assert!(world.completions <= 1, "completed twice: {world:?}");
        if world.completions == 1 {
            // Whoever completes it is the last: nobody is at it any more.
            assert!(world.ended && world.submitter == 2, "{world:?}");
            assert!(world.callback != 1 && world.other != 1, "{world:?}");
            assert!(
                !world.marked && (!world.user_cancelled || world.callback == 2),
                "completed before its cancel callback came: {world:?}"
            );
        }
        let next = world.next();
        if next.is_empty() {
            ends += 1;
            assert_eq!(world.completions, 1, "never completed: {world:?}");
        }
        open.extend(next);
    }
    assert!(
        ends >= 4 && seen.len() > 100,
        "{ends} ends of {}",
        seen.len()
    );
}

#[test]
fn a_cancel_that_comes_too_early_is_not_forgotten() {
    let mut flight = Flight::new();
    assert!(!flight.cancel(), "there is nothing to cancel yet");
    assert!(!flight.came());
    assert_eq!(flight.submitted(), Submitted::Cancel);
    assert!(!flight.ended(|| unreachable!("the callback has come")));
    assert!(flight.cancelled(), "the canceller is the last");
}

#[test]
fn an_end_within_the_call_is_left_to_the_submitter() {
    let mut flight = Flight::new();
    assert!(!flight.ended(|| true));
    assert_eq!(flight.submitted(), Submitted::Over);
    let mut flight = Flight::new();
    assert!(!flight.ended(|| false), "the callback is coming");
    assert_eq!(flight.submitted(), Submitted::Flying);
    assert!(!flight.cancel(), "too late");
    assert!(flight.came());
}
