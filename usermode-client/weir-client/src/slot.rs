//! Where the result of an operation is put, and who waits for it: a thread, or
//! a task.

use std::sync::{Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::channel::Completion;
use crate::lock::lock;
use crate::wake::wake;

/// The place of one result. It is put there once, and taken once.
#[derive(Default)]
pub(crate) struct Slot {
    place: Mutex<Place>,
    changed: Condvar,
}

#[derive(Default)]
struct Place {
    done: Option<Completion>,
    waker: Option<Waker>,
}

impl Slot {
    /// Waits for the completion, at most for `timeout`.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> Option<Completion> {
        // A time limit past what an Instant can say is none.
        let deadline = timeout.and_then(|t| Instant::now().checked_add(t));
        let mut place = lock(&self.place);
        loop {
            if place.done.is_some() {
                return place.done.take();
            }
            place = match deadline {
                None => self
                    .changed
                    .wait(place)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return None;
                    }
                    self.changed
                        .wait_timeout(place, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
    }

    /// The completion if it is there; else the task is woken when it comes.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Completion> {
        let mut place = lock(&self.place);
        if let Some(completion) = place.done.take() {
            return Poll::Ready(completion);
        }
        match &mut place.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Puts the completion there and wakes who waits. When it is there, but before
    /// a task is woken, calls `then`: a task that runs at once may wait for what
    /// that does.
    pub(crate) fn put(&self, completion: Completion, then: impl FnOnce()) {
        let waker = {
            let mut place = lock(&self.place);
            place.done = Some(completion);
            place.waker.take()
        };
        self.changed.notify_all();
        then();
        // Not under the lock: a waker may run the task at once.
        if let Some(waker) = waker {
            wake(waker);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn completion(len: usize) -> Completion {
        Completion {
            result: Ok(len),
            buffer: vec![7; len],
        }
    }

    #[test]
    fn a_task_is_woken_once_and_takes_the_result_once() {
        let slot = Slot::default();
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        let mut cx = Context::from_waker(&waker);
        assert!(slot.poll(&mut cx).is_pending());
        assert!(slot.poll(&mut cx).is_pending());
        slot.put(completion(3), || {
            assert_eq!(count.0.load(Ordering::Relaxed), 0, "not woken yet");
        });
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        let Poll::Ready(got) = slot.poll(&mut cx) else {
            panic!("it is there");
        };
        assert_eq!(got.buffer, [7; 3]);
        assert!(slot.wait(Some(Duration::ZERO)).is_none());
    }

    #[test]
    fn a_thread_waits_no_longer_than_it_said() {
        let slot = Arc::new(Slot::default());
        let before = Instant::now();
        assert!(slot.wait(Some(Duration::from_millis(30))).is_none());
        assert!(before.elapsed() >= Duration::from_millis(30));
        let other = Arc::clone(&slot);
        let thread = std::thread::spawn(move || other.wait(Some(Duration::MAX)));
        slot.put(completion(1), || ());
        let got = thread.join().expect("ends").expect("a completion");
        assert_eq!(got.buffer, [7]);
    }
}
