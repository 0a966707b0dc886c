//! How a server is told to stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

type Waker = Box<dyn Fn() + Send>;

/// Ends a server from any thread. Clones end the same one.
#[derive(Clone, Default)]
pub struct Stop(Arc<Inner>);

#[derive(Default)]
struct Inner {
    asked: AtomicBool,
    wakers: Mutex<Vec<Waker>>,
}

impl Stop {
    /// Tells the server to stop. It closes its listener and connections, and
    /// its `run` returns. Asking again does nothing.
    pub fn stop(&self) {
        if self.0.asked.swap(true, Ordering::AcqRel) {
            return;
        }
        let wakers = self.0.wakers.lock();
        for wake in wakers.unwrap_or_else(PoisonError::into_inner).iter() {
            wake();
        }
    }

    /// Whether it was asked.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.0.asked.load(Ordering::Acquire)
    }

    /// Has `wake` called when it is asked: at once, if it was. Each model waits
    /// in a call of its own, and each such call is woken in its own way.
    #[cfg(any(windows, test))]
    pub(crate) fn on_stop(&self, wake: impl Fn() + Send + 'static) {
        let mut wakers = self.0.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: `stop` either finds the waker in the list, or has set
        // the flag before this looks at it.
        if self.is_asked() {
            wake();
        }
        wakers.push(Box::new(wake));
    }
}

impl std::fmt::Debug for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Stop").field(&self.is_asked()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn each_waker_is_called_once_whenever_it_came() {
        let (early, late) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let stop = Stop::default();
        let count = |calls: &Arc<AtomicU32>| {
            let calls = Arc::clone(calls);
            move || {
                calls.fetch_add(1, Ordering::Relaxed);
            }
        };
        stop.on_stop(count(&early));
        stop.stop();
        stop.on_stop(count(&late));
        stop.clone().stop();
        let called = |n: &AtomicU32| n.load(Ordering::Relaxed);
        assert_eq!((called(&early), called(&late)), (1, 1));
        assert!(stop.is_asked());
    }
}
