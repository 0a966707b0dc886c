//! Who waits for the operations of a socket: tasks, and threads, which sleep
//! until they are woken as a task is.
//!
//! An operation belongs to its socket, not to who waits. When it ends it wakes
//! the [`Waiters`], and these wake whom it may concern: a place in the queue
//! that is given up passes on what it was woken for.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use crate::lock::lock;
use crate::wake::wake;

/// Whom the end of an operation wakes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wakes {
    /// The first that waits: each operation brings something for one of them.
    First,
    /// All that wait: which of them can go on isn't known.
    All,
}

/// The queue of a socket.
pub(crate) struct Waiters {
    wakes: Wakes,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    /// Places given out so far.
    given: u64,
    /// Places there are.
    places: usize,
    /// Those that are to be woken, the oldest first.
    asleep: Vec<(u64, Waker)>,
}

/// The place of the task of a trait without futures of its own, such as
/// `AsyncRead`: there is one, and who came last has it.
const TASK: u64 = 0;

impl Queue {
    fn sleep(&mut self, number: u64, waker: &Waker) {
        match self.asleep.iter_mut().find(|(n, _)| *n == number) {
            Some((_, known)) => known.clone_from(waker),
            None => {
                let at = self.asleep.partition_point(|(n, _)| *n < number);
                self.asleep.insert(at, (number, waker.clone()));
            }
        }
    }
}

impl Waiters {
    pub(crate) fn new(wakes: Wakes) -> Arc<Waiters> {
        Arc::new(Waiters {
            wakes,
            queue: Mutex::default(),
        })
    }

    /// A place at the end of the queue.
    pub(crate) fn place(&self) -> Place<'_> {
        let mut queue = lock(&self.queue);
        queue.given += 1;
        queue.places += 1;
        Place {
            number: queue.given,
            served: false,
            waiters: self,
        }
    }

    /// Places there are.
    pub(crate) fn places(&self) -> usize {
        lock(&self.queue).places
    }

    /// The task that came last is to be woken.
    pub(crate) fn sleep_task(&self, cx: &Context<'_>) {
        lock(&self.queue).sleep(TASK, cx.waker());
    }

    /// Is not to be woken any more; whether it was to be.
    fn leave(&self, number: u64) -> bool {
        let mut queue = lock(&self.queue);
        let at = queue.asleep.iter().position(|(n, _)| *n == number);
        at.map(|at| queue.asleep.remove(at)).is_some()
    }

    /// Wakes whom it may concern.
    pub(crate) fn ring(&self) {
        let woken: Vec<(u64, Waker)> = {
            let mut queue = lock(&self.queue);
            let many = match self.wakes {
                Wakes::First => queue.asleep.len().min(1),
                Wakes::All => queue.asleep.len(),
            };
            queue.asleep.drain(..many).collect()
        };
        // Not under the lock: a waker may run the task at once.
        for (_, waker) in woken {
            wake(waker);
        }
    }
}

impl Wake for Waiters {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

/// A place in the queue. Dropping it passes on what it was woken for and has not
/// taken.
pub(crate) struct Place<'a> {
    number: u64,
    served: bool,
    waiters: &'a Waiters,
}

impl Place<'_> {
    /// Is to be woken. To be said before looking whether there is something:
    /// what comes after that look wakes it then.
    pub(crate) fn sleep(&self, cx: &Context<'_>) {
        lock(&self.waiters.queue).sleep(self.number, cx.waker());
    }

    /// It has got what it waited for. If it was woken since it went to sleep last,
    /// that may have been for something else, which is for the next then.
    pub(crate) fn served(&mut self) {
        self.served = true;
        if !self.waiters.leave(self.number) {
            self.waiters.ring();
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        lock(&self.waiters.queue).places -= 1;
        if !self.served {
            self.waiters.leave(self.number);
            self.waiters.ring();
        }
    }
}

/// Wakes a thread.
#[derive(Default)]
struct Alarm {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        *lock(&self.rung) = true;
        self.changed.notify_one();
    }
}

impl Alarm {
    /// Sleeps until it is woken; false when the time is over.
    fn sleep(&self, deadline: Option<Instant>) -> bool {
        let mut rung = lock(&self.rung);
        while !std::mem::take(&mut *rung) {
            rung = match deadline {
                None => self
                    .changed
                    .wait(rung)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return false;
                    }
                    self.changed
                        .wait_timeout(rung, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
        true
    }
}

/// Polls until it is ready, at most for `timeout`, and lets the thread sleep in
/// between. `None` when the time is over.
pub(crate) fn wait_for<T>(
    timeout: Option<Duration>,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> Option<T> {
    // A time limit past what an Instant can say is none.
    let deadline = timeout.and_then(|t| Instant::now().checked_add(t));
    let alarm = Arc::<Alarm>::default();
    let waker = Waker::from(Arc::clone(&alarm));
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(done) = poll(&mut cx) {
            return Some(done);
        }
        if !alarm.sleep(deadline) {
            // What came at the last moment is not to be told as late.
            return match poll(&mut cx) {
                Poll::Ready(done) => Some(done),
                Poll::Pending => None,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn sleeper(place: &Place<'_>) -> Arc<Count> {
        let count = Arc::<Count>::default();
        place.sleep(&Context::from_waker(&Waker::from(Arc::clone(&count))));
        count
    }

    fn woken(count: &Count) -> usize {
        count.0.load(Ordering::Relaxed)
    }

    #[test]
    fn the_first_is_woken_and_passes_on_what_it_does_not_take() {
        let waiters = Waiters::new(Wakes::First);
        let (one, mut two, three) = (waiters.place(), waiters.place(), waiters.place());
        let [a, b, c] = [&one, &two, &three].map(sleeper);
        waiters.ring();
        assert_eq!([&a, &b, &c].map(|n| woken(n)), [1, 0, 0]);
        drop(one);
        assert_eq!([&a, &b, &c].map(|n| woken(n)), [1, 1, 0]);
        // It looks again, and takes what it was woken for.
        let b = sleeper(&two);
        two.served();
        waiters.ring();
        assert_eq!((woken(&b), woken(&c)), (0, 1), "what comes is for the next");
        drop(two);
        let c = sleeper(&three);
        assert_eq!(waiters.places(), 1);
        drop(three);
        waiters.ring();
        assert_eq!(woken(&c), 0, "who has left is not woken");
    }

    #[test]
    fn who_is_woken_twice_and_takes_once_passes_on_the_other() {
        let waiters = Waiters::new(Wakes::First);
        let (mut one, two) = (waiters.place(), waiters.place());
        let [a, b] = [&one, &two].map(sleeper);
        waiters.ring();
        // It is up already, and looks, when the second comes.
        let again = sleeper(&one);
        waiters.ring();
        assert_eq!([&a, &again, &b].map(|n| woken(n)), [1, 1, 0]);
        one.served();
        assert_eq!(woken(&b), 1);
    }

    #[test]
    fn all_are_woken_where_it_is_not_known_whom_it_concerns() {
        let waiters = Waiters::new(Wakes::All);
        let (one, two) = (waiters.place(), waiters.place());
        let [a, b] = [&one, &two].map(sleeper);
        waiters.ring();
        waiters.ring();
        assert_eq!([&a, &b].map(|n| woken(n)), [1, 1]);
    }

    struct Panics;

    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("as a task might that is run at once");
        }
    }

    #[test]
    fn a_waker_that_panics_keeps_no_other_asleep() {
        let waiters = Waiters::new(Wakes::All);
        let (one, two) = (waiters.place(), waiters.place());
        one.sleep(&Context::from_waker(&Waker::from(Arc::new(Panics))));
        let b = sleeper(&two);
        waiters.ring();
        assert_eq!(woken(&b), 1);
    }

    #[test]
    fn a_thread_sleeps_until_it_is_woken_or_late() {
        let before = Instant::now();
        let time = Duration::from_millis(30);
        assert!(wait_for::<()>(Some(time), |_| Poll::Pending).is_none());
        assert!(before.elapsed() >= time);
        let mut asked = 0;
        let got = wait_for(Some(Duration::MAX), |cx| {
            asked += 1;
            let waker = cx.waker().clone();
            if asked < 3 {
                std::thread::spawn(move || waker.wake());
                return Poll::Pending;
            }
            Poll::Ready(asked)
        });
        assert_eq!(got, Some(3));
    }

    /// What may happen to those that wait for things, of which each is for one.
    #[derive(Clone, Debug)]
    enum Step {
        Comes,
        Waits,
        /// One looks, woken or not; and meanwhile, so many things come.
        Looks(usize, u8),
        GivesUp(usize),
    }

    /// Somebody who waits, and how often it was woken when it looked last.
    struct Waiting<'a> {
        place: Place<'a>,
        count: Arc<Count>,
        seen: usize,
    }

    impl Waiting<'_> {
        fn is_woken(&self) -> bool {
            woken(&self.count) > self.seen
        }

        /// As a future does it; whether it took a thing.
        fn looks(&mut self, waiters: &Waiters, things: &mut u32, meanwhile: u8) -> bool {
            self.seen = woken(&self.count);
            let waker = Waker::from(Arc::clone(&self.count));
            self.place.sleep(&Context::from_waker(&waker));
            for _ in 0..meanwhile {
                *things += 1;
                waiters.ring();
            }
            if *things == 0 {
                return false;
            }
            *things -= 1;
            self.place.served();
            true
        }
    }

    proptest::proptest! {
        #[test]
        fn nobody_sleeps_while_there_is_something(
            steps in proptest::collection::vec(step(), 0..200)
        ) {
            let waiters = Waiters::new(Wakes::First);
            let mut things = 0;
            let mut all: Vec<Waiting<'_>> = Vec::new();
            for step in steps {
                match step {
                    Step::Comes => {
                        things += 1;
                        waiters.ring();
                    }
                    Step::Waits => {
                        let mut new = Waiting {
                            place: waiters.place(),
                            count: Arc::default(),
                            seen: 0,
                        };
                        if !new.looks(&waiters, &mut things, 0) {
                            all.push(new);
                        }
                    }
                    Step::Looks(at, meanwhile) if at < all.len() => {
                        if all[at].looks(&waiters, &mut things, meanwhile) {
                            all.remove(at);
                        }
                    }
                    Step::GivesUp(at) if at < all.len() => drop(all.remove(at)),
                    Step::Looks(..) | Step::GivesUp(_) => {}
                }
                let somebody_looks = all.is_empty() || all.iter().any(Waiting::is_woken);
                proptest::prop_assert!(things == 0 || somebody_looks, "{} sleep", all.len());
            }
            // Who is woken looks, until nobody is.
            while let Some(at) = all.iter().position(Waiting::is_woken) {
                if all[at].looks(&waiters, &mut things, 0) {
                    all.remove(at);
                }
            }
            proptest::prop_assert!(things == 0 || all.is_empty());
            proptest::prop_assert_eq!(waiters.places(), all.len());
        }
    }

    fn step() -> impl proptest::strategy::Strategy<Value = Step> {
        use proptest::prelude::*;
        prop_oneof![
            Just(Step::Comes),
            Just(Step::Waits),
            (0..6_usize, 0..3_u8).prop_map(|(at, meanwhile)| Step::Looks(at, meanwhile)),
            (0..6_usize).prop_map(Step::GivesUp),
        ]
    }
}
