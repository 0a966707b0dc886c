//! Threads that hold so many connections each, for the models with a limit a
//! thread.

use std::collections::VecDeque;
use std::io;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::counters::Counters;

/// Ends the wait of a thread.
pub(crate) type Wake = Box<dyn Fn() + Send>;

/// What a thread is told: new connections, and to stop.
#[derive(Default)]
pub(crate) struct Inbox {
    streams: Mutex<VecDeque<TcpStream>>,
    /// Connections it has, those in `streams` too.
    load: AtomicUsize,
    /// It was woken and has not looked yet: no second wake-up is needed.
    rung: AtomicBool,
    stop: AtomicBool,
}

impl Inbox {
    /// The next new connection.
    pub(crate) fn next(&self) -> Option<TcpStream> {
        // Before looking: what comes after that wakes again.
        self.rung.store(false, Ordering::SeqCst);
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.pop_front()
    }

    /// Whether there may be new connections. To be asked at every turn by a thread
    /// whose wake-up may get lost.
    #[cfg(windows)]
    pub(crate) fn rung(&self) -> bool {
        self.rung.load(Ordering::SeqCst)
    }

    /// One of its connections ended: there is room for another.
    pub(crate) fn left(&self) {
        self.load.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether the thread is to end.
    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

struct Member {
    inbox: Arc<Inbox>,
    wake: Wake,
    thread: JoinHandle<()>,
}

/// The threads. Begins a further one when all are full; one that is empty stays
/// for the next connections.
pub(crate) struct Crew<B> {
    limit: usize,
    members: Vec<Member>,
    begin: B,
    counters: Arc<Counters>,
}

impl<B: Fn(Arc<Inbox>) -> io::Result<(Wake, JoinHandle<()>)>> Crew<B> {
    /// No threads yet. Each is begun by `begin` and gets at most `limit`
    /// connections.
    pub(crate) fn new(limit: usize, counters: &Arc<Counters>, begin: B) -> Self {
        Crew {
            limit,
            members: Vec::new(),
            begin,
            counters: Arc::clone(counters),
        }
    }

    /// Gives a connection to the first thread with room.
    ///
    /// # Errors
    /// No thread has room, and no further one can be begun. The connection is
    /// closed.
    pub(crate) fn give(&mut self, stream: TcpStream) -> io::Result<()> {
        let room = |m: &&Member| m.inbox.load.load(Ordering::Acquire) < self.limit;
        let member = match self.members.iter().position(|m| room(&m)) {
            Some(at) => &self.members[at],
            None => {
                let inbox = Arc::new(Inbox::default());
                let (wake, thread) = (self.begin)(Arc::clone(&inbox))?;
                self.counters.thread();
                self.members.push(Member {
                    inbox,
                    wake,
                    thread,
                });
                self.counters.room(self.limit * self.members.len());
                &self.members[self.members.len() - 1]
            }
        };
        member.inbox.load.fetch_add(1, Ordering::AcqRel);
        let mut streams = member
            .inbox
            .streams
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        streams.push_back(stream);
        drop(streams);
        if !member.inbox.rung.swap(true, Ordering::SeqCst) {
            (member.wake)();
        }
        Ok(())
    }
}

impl<B> Drop for Crew<B> {
    /// Ends the threads and waits for them.
    fn drop(&mut self) {
        for member in &self.members {
            member.inbox.stop.store(true, Ordering::Release);
            (member.wake)();
        }
        for member in self.members.drain(..) {
            // One that panicked has said so; the others end all the same.
            let _panicked = member.thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::sync::mpsc;

    #[test]
    fn a_full_thread_is_joined_by_another_and_used_again() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
        let address = listener.local_addr().expect("has an address");
        let (inboxes, given) = mpsc::channel();
        let counters = Arc::new(Counters::default());
        let begin = |inbox: Arc<Inbox>| {
            inboxes.send(Arc::clone(&inbox)).expect("taken");
            let (wake, woken) = mpsc::channel();
            let thread = std::thread::spawn(move || {
                let mut streams = Vec::new();
                while !inbox.stopped() {
                    woken.recv().expect("the crew is there");
                    streams.extend(std::iter::from_fn(|| inbox.next()));
                }
            });
            let wake = move || wake.send(()).expect("the thread is there");
            Ok((Box::new(wake) as Wake, thread))
        };
        let mut crew = Crew::new(2, &counters, begin);
        let mut give = || crew.give(TcpStream::connect(address).expect("connects"));
        for _ in 0..3 {
            give().expect("has room");
        }
        assert_eq!((counters.now().threads, counters.now().room), (2, 4));
        let first = given.recv().expect("begun");
        first.left();
        give().expect("has room");
        give().expect("has room");
        assert_eq!(counters.now().threads, 2);
        assert_eq!(first.load.load(Ordering::Relaxed), 2);
        give().expect("has room");
        assert_eq!(counters.now().threads, 3);
        drop(crew);
        assert!(first.stopped());
    }
}
