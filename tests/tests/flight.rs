//! Who completes a request that is in the air, in every order in which submitter,
//! end, cancel callback and other cancellers can come: somebody, and once.

#[path = "../../driver/src/socket/flight.rs"]
mod flight;
#[path = "../../driver/src/socket/line.rs"]
mod line;
#[path = "../../driver/src/socket/marks.rs"]
#[allow(dead_code, reason = "the driver uses more of it than the test")]
mod marks;

use std::collections::BTreeSet;

use flight::{Flight, Submitted};
use line::{Line, Place, Waits};
use marks::{Marks, mark};
use weir_abi::status;

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

/// The sending direction's end is under way, a reset takes its place and can't be
/// carried out: both may be asked for again.
#[test]
fn ends_that_fail_may_be_tried_again() {
    let marks = Marks::new();
    assert!(marks.begin_end() && !marks.begin_end(), "once");
    assert_eq!(marks.begin_reset(), Some(true));
    assert_eq!(marks.begin_reset(), None, "once");
    assert_eq!(marks.failure(), status::CONNECTION_ABORTED);
    // The end is cancelled for the reset.
    marks.take_back_end();
    assert!(marks.is(mark::SHUT) && !marks.begin_end(), "it is reset");
    marks.take_back_reset(true);
    assert_eq!((marks.failure(), marks.is(mark::SHUT)), (0, false));
    assert!(marks.begin_end(), "no FIN has been sent yet");
    // The reset alone fails: the end is still under way.
    assert_eq!(marks.begin_reset(), Some(true));
    marks.take_back_reset(true);
    assert!(marks.is(mark::SHUT) && !marks.begin_end());
}

#[test]
fn a_reset_that_fails_takes_back_no_failure_but_its_own() {
    let marks = Marks::new();
    assert!(marks.fail(status::CONNECTION_ABORTED));
    let failed = marks.begin_reset();
    assert_eq!(failed, Some(false));
    marks.take_back_reset(false);
    assert_eq!(marks.failure(), status::CONNECTION_ABORTED);
    assert!(!marks.fail(status::CONNECTION_RESET), "the first stays");
}

#[test]
fn a_socket_given_up_while_it_is_reset_says_so_when_the_reset_fails() {
    let marks = Marks::new();
    assert_eq!(marks.begin_reset(), Some(true));
    assert!(!marks.mark(mark::FAILED), "for the first time");
    assert!(
        !marks.fail(status::FILE_FORCED_CLOSED),
        "the reset was first"
    );
    marks.take_back_reset(true);
    assert_eq!(marks.failure(), status::FILE_FORCED_CLOSED);
}

/// One who waits, with a number.
struct Waiter(u32, Place<Waiter>);

impl Waits for Waiter {
    fn place(&self) -> &Place<Self> {
        &self.1
    }
}

/// Against a plain list, under any steps.
#[test]
fn whoever_leaves_the_line_the_others_keep_their_places() {
    let all: Vec<Waiter> = (0..6).map(|n| Waiter(n, Place::new())).collect();
    let mut line = Line::new();
    let mut model: Vec<u32> = Vec::new();
    let mut aside: BTreeSet<u32> = BTreeSet::new();
    let mut random: u32 = 1;
    for _ in 0..20_000 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let waiter = &all[(random >> 16) as usize % all.len()];
        let number = waiter.0;
        let is_in = model.contains(&number);
        assert_eq!(line.is_in(waiter), is_in);
        match (random >> 8) % 3 {
            0 if !is_in && !aside.contains(&number) => {
                // SAFETY: nowhere; all of them outlive the line.
                unsafe { line.push(waiter) };
                model.push(number);
            }
            1 => {
                // SAFETY: there is one line.
                let taken = unsafe { line.take(waiter) };
                assert_eq!(taken, is_in || aside.remove(&number));
                model.retain(|other| *other != number);
            }
            2 => {
                // SAFETY: there is one line.
                unsafe { line.set_aside(waiter) };
                if is_in {
                    model.retain(|other| *other != number);
                    aside.insert(number);
                }
            }
            _ => {}
        }
        assert_eq!(line.first().map(|first| first.0), model.first().copied());
        assert_eq!(line.count() as usize, model.len());
    }
    // From first to last.
    let mut left = Vec::new();
    while let Some(first) = line.first() {
        let number = first.0;
        left.push(number);
        // SAFETY: there is one line.
        assert!(unsafe { line.take(&all[number as usize]) });
    }
    assert_eq!(left, model);
}
