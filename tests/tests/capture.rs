//! The driver's capture, its own source, on any host: over a stand-in of the
//! kernel that panics at a broken rule. Deterministic cases first; then many
//! threads at once: frames, reads, cancellations, the flush timer, and closing.

#[path = "../../driver/src/capture/mod.rs"]
#[allow(dead_code, reason = "the driver uses more of it than the test")]
mod capture;
#[path = "../../driver/src/error.rs"]
#[allow(dead_code, reason = "the driver uses more of it than the test")]
mod error;
#[path = "../../driver/src/handle.rs"]
#[allow(dead_code, reason = "the driver uses more of it than the test")]
mod handle;
#[path = "capture/kernel.rs"]
#[allow(dead_code, reason = "the driver uses more of it than the test")]
mod kernel;
/// A handle may show one.
mod socket {
    pub(crate) struct Sock;
}
#[path = "capture/ntoskrnl.rs"]
mod ntoskrnl;

/// A frame's bytes.
struct Bytes<'a>(&'a [u8]);

impl Far for Bytes<'_> {
    fn copy_to(&self, offset: u32, out: &mut [u8]) -> usize {
        let from = &self.0[offset as usize..];
        let len = from.len().min(out.len());
        out[..len].copy_from_slice(&from[..len]);
        len
    }
}

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use capture::{Frame, Ticket};
use error::Error;
use handle::Role;
use kernel::status::NtStatus;
use kernel::wdf::{Outcome, UserCall, UserFile};
use weir_abi::limits::{MAX_BACKLOG, MAX_READERS, MAX_SNAPLEN, MAX_TOTAL_BACKLOG, MIN_BACKLOG};
use weir_abi::{
    CaptureOptions, CaptureSource, Direction, Directions, DivertOptions, ReaderStats, RecordFlags,
    record_size, records,
};
use weir_engine::rule::Far;

/// The readers' slots are statics of the driver: one test at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The driver between load and unload.
struct Loaded {
    _alone: MutexGuard<'static, ()>,
}

impl Loaded {
    fn new() -> Self {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(ntoskrnl::live_allocations(), 0, "left by another test");
        capture::start();
        Loaded { _alone: alone }
    }

    /// The lock is kept: what comes after belongs to the same test.
    fn unload(&self) {
        capture::stop();
        assert!(!capture::any_reader());
        assert_eq!(ntoskrnl::live_allocations(), 0, "pool left at unload");
    }
}

fn options(snaplen: u32, flush_ms: u32) -> CaptureOptions {
    CaptureOptions {
        adapter: None,
        snaplen,
        backlog: MIN_BACKLOG,
        flush_ms,
        directions: Directions::all(),
        source: CaptureSource::All,
    }
}

/// OPEN_CAPTURE, as its handler does it.
fn open(options: &CaptureOptions) -> Result<(UserFile, Ticket), Error> {
    let file = UserFile::open();
    file.handle.begin_role()?;
    let ticket = capture::open(options)?;
    assert!(file.handle.give(Role::Capture(ticket)));
    Ok((file, ticket))
}

/// OPEN_DIVERT, likewise.
fn open_divert(adapter: u32) -> Result<(UserFile, Ticket), Error> {
    let file = UserFile::open();
    file.handle.begin_role()?;
    let ticket = capture::open_divert(&DivertOptions {
        adapter: std::num::NonZeroU32::new(adapter),
        backlog: MIN_BACKLOG,
        flush_ms: 0,
    })?;
    assert!(file.handle.give(Role::Divert(ticket)));
    Ok((file, ticket))
}

/// ReadFile, as the queue's callback does it.
fn read(file: &UserFile, len: usize) -> &'static UserCall {
    let read = UserCall::new(file, len);
    submit(file, read);
    read
}

fn submit(file: &UserFile, read: &'static UserCall) {
    let request = read.request();
    match file.handle.reader() {
        Ok(ticket) => capture::read(ticket, request, read.len()),
        Err(error) => request.complete(error.status(), 0),
    }
}

/// CloseHandle, as the file's clean-up callback does it.
fn close(file: &UserFile) {
    match file.handle.close() {
        Some(Role::Capture(ticket) | Role::Divert(ticket)) => capture::close(ticket),
        Some(Role::Inject(_) | Role::Socket) | None => {}
    }
}

fn frame<'a>(adapter: u32, bytes: &'a Bytes<'a>) -> Frame<'a> {
    Frame {
        adapter,
        direction: Direction::In,
        timestamp_100ns: kernel::time::system_time_100ns(),
        len: u32::try_from(bytes.0.len()).unwrap(),
        flags: RecordFlags::empty(),
        rule: None,
        logged: None,
        segment_size: 0,
        bytes,
    }
}

fn send(bytes: &[u8]) {
    let bytes = Bytes(bytes);
    ntoskrnl::at_dispatch(|| capture::on_frame(&frame(1, &bytes)));
}

/// A frame of a divert rule: whether it is a reader's.
fn divert(adapter: u32, bytes: &[u8]) -> bool {
    let bytes = Bytes(bytes);
    ntoskrnl::at_dispatch(|| capture::divert(&frame(adapter, &bytes)))
}

fn stats(ticket: Ticket) -> ReaderStats {
    let stats = capture::stats(ticket).expect("an open reader");
    assert!(stats.is_balanced(), "{stats:?}");
    stats
}

/// The sequence numbers of the frames in a completed read.
fn sequences(bytes: &[u8]) -> Vec<u64> {
    records(bytes)
        .map(|r| r.expect("a good record").0.sequence)
        .collect()
}

fn outcome(read: &UserCall) -> Option<Outcome> {
    read.completed().map(|(outcome, _)| outcome)
}

fn frames_of(read: &UserCall) -> Vec<u64> {
    let (outcome, bytes) = read.completed().expect("a completed read");
    assert_eq!(outcome.status, NtStatus::SUCCESS);
    sequences(&bytes)
}

const EMPTY: NtStatus = NtStatus::CANCELLED;

#[test]
fn without_a_flush_time_each_frame_completes_a_read() {
    let driver = Loaded::new();
    let (file, ticket) = open(&options(64, 0)).unwrap();
    let (a, b) = (read(&file, 4096), read(&file, 4096));
    send(b"one");
    assert_eq!(frames_of(a), [0]);
    assert_eq!(outcome(b), None);
    send(b"two");
    assert_eq!(frames_of(b), [1]);
    assert_eq!(stats(ticket).delivered, 2);
    assert_eq!(stats(ticket).reads, 2);
    close(&file);
    driver.unload();
}

#[test]
fn frames_fill_a_read_until_the_next_does_not_fit() {
    let driver = Loaded::new();
    let (file, ticket) = open(&options(64, 1000)).unwrap();
    let one = record_size(64).unwrap() as usize;
    let (a, b) = (read(&file, 2 * one + one - 1), read(&file, 4096));
    for _ in 0..3 {
        assert_eq!(outcome(a), None);
        send(&[7; 64]);
    }
    assert_eq!(frames_of(a), [0, 1]);
    assert_eq!(outcome(b), None);
    assert_eq!((stats(ticket).delivered, stats(ticket).queued), (2, 1));
    assert_eq!(ntoskrnl::timers_set(), [1000]);
    ntoskrnl::fire_timers();
    assert_eq!(frames_of(b), [2]);
    ntoskrnl::fire_timers();
    close(&file);
    driver.unload();
}

#[test]
fn the_backlog_goes_first_and_keeps_order() {
    let driver = Loaded::new();
    let (file, ticket) = open(&options(8, 1000)).unwrap();
    for n in 0..5u8 {
        send(&[n]);
    }
    assert_eq!(stats(ticket).queued, 5);
    let one = record_size(8).unwrap() as usize;
    let a = read(&file, 2 * one);
    assert_eq!(frames_of(a), [0, 1]);
    let b = read(&file, 4096);
    assert_eq!(outcome(b), None, "the flush time has not passed yet");
    assert!(
        ntoskrnl::timers_set()[0] <= 1000,
        "only the rest of the flush time is left"
    );
    send(&[5]);
    ntoskrnl::fire_timers();
    assert_eq!(frames_of(b), [2, 3, 4, 5]);
    close(&file);
    driver.unload();
}

#[test]
fn what_the_backlog_has_no_room_for_is_counted_as_lost() {
    let driver = Loaded::new();
    let (file, ticket) = open(&options(MAX_SNAPLEN, 0)).unwrap();
    let frame = vec![1u8; 1000];
    for _ in 0..100 {
        send(&frame);
    }
    let fits = u64::from(MIN_BACKLOG / record_size(1000).unwrap());
    let full = stats(ticket);
    assert_eq!((full.queued, full.lost_backlog), (fits, 100 - fits));
    let a = read(&file, 1 << 20);
    assert_eq!(frames_of(a), (0..fits).collect::<Vec<_>>());
    let b = read(&file, 1 << 20);
    send(&frame);
    assert_eq!(frames_of(b), [100], "the gap tells how many were lost");
    close(&file);
    driver.unload();
}

#[test]
fn a_read_must_hold_one_whole_record() {
    let driver = Loaded::new();
    let (file, _) = open(&options(64, 0)).unwrap();
    let least = record_size(64).unwrap() as usize;
    for len in [0, 1, least - 1] {
        let small = read(&file, len);
        assert_eq!(
            outcome(small),
            Some(Outcome {
                status: NtStatus::BUFFER_TOO_SMALL,
                len: 0
            })
        );
    }
    let enough = read(&file, least);
    assert_eq!(outcome(enough), None);
    close(&file);
    assert_eq!(
        outcome(enough),
        Some(Outcome {
            status: EMPTY,
            len: 0
        })
    );
    driver.unload();
}

#[test]
fn a_handle_has_one_role_once() {
    let driver = Loaded::new();
    let control = UserFile::open();
    let early = read(&control, 4096);
    assert_eq!(
        outcome(early).unwrap().status,
        NtStatus::INVALID_DEVICE_STATE
    );
    let (file, _) = open(&options(64, 0)).unwrap();
    assert_eq!(file.handle.begin_role(), Err(Error::WrongRole));
    close(&file);
    assert_eq!(file.handle.begin_role(), Err(Error::Closing));
    let late = read(&file, 4096);
    assert_eq!(outcome(late).unwrap().status, NtStatus::FILE_CLOSED);

    let retried = UserFile::open();
    retried.handle.begin_role().unwrap();
    retried.handle.abandon_role();
    retried.handle.begin_role().unwrap();
    close(&retried);
    let ticket = capture::open(&options(64, 0)).unwrap();
    assert!(
        !retried.handle.give(Role::Capture(ticket)),
        "closed meanwhile"
    );
    capture::close(ticket);
    driver.unload();
}

#[test]
fn cancelling_gives_back_what_a_read_holds() {
    let driver = Loaded::new();
    let (file, ticket) = open(&options(64, 1000)).unwrap();
    let (a, b, c) = (read(&file, 4096), read(&file, 4096), read(&file, 4096));
    send(b"one");
    b.cancel();
    assert_eq!(
        outcome(b),
        Some(Outcome {
            status: EMPTY,
            len: 0
        })
    );
    a.cancel();
    assert_eq!(frames_of(a), [0]);
    send(b"two");
    ntoskrnl::fire_timers();
    assert_eq!(frames_of(c), [1]);
    assert_eq!(stats(ticket).delivered, 2);

    let early = UserCall::new(&file, 4096);
    early.cancel();
    submit(&file, early);
    assert_eq!(
        outcome(early),
        Some(Outcome {
            status: EMPTY,
            len: 0
        })
    );
    close(&file);
    driver.unload();
}

#[test]
fn there_is_an_end_to_reads_and_readers() {
    let driver = Loaded::new();
    let (file, _) = open(&options(64, 0)).unwrap();
    let reads: Vec<_> = (0..64).map(|_| read(&file, 4096)).collect();
    assert!(reads.iter().all(|read| outcome(read).is_none()));
    let refused = read(&file, 4096);
    assert_eq!(outcome(refused).unwrap().status, NtStatus::QUOTA_EXCEEDED);
    send(b"frees a place");
    assert_eq!(frames_of(reads[0]), [0]);
    assert_eq!(outcome(read(&file, 4096)), None);

    let more: Vec<_> = (1..MAX_READERS)
        .map(|_| open(&options(64, 0)).unwrap())
        .collect();
    assert_eq!(capture::count() as usize, MAX_READERS);
    assert!(matches!(open(&options(64, 0)), Err(Error::TooMany)));
    close(&more[0].0);
    let (last, _) = open(&options(64, 0)).unwrap();
    close(&last);
    // The others, and the reads, are left to the unload.
    driver.unload();
    for read in &reads[1..] {
        assert_eq!(
            outcome(read),
            Some(Outcome {
                status: EMPTY,
                len: 0
            })
        );
    }
    close(&file);
}

#[test]
fn unloading_completes_reads_and_refuses_new_ones() {
    let driver = Loaded::new();
    let (file, ticket) = open(&options(64, 1000)).unwrap();
    let (a, b) = (read(&file, 4096), read(&file, 4096));
    send(b"one");
    driver.unload();
    assert_eq!(frames_of(a), [0]);
    assert_eq!(
        outcome(b),
        Some(Outcome {
            status: EMPTY,
            len: 0
        })
    );
    let late = read(&file, 4096);
    assert_eq!(outcome(late).unwrap().status, NtStatus::FILE_CLOSED);
    assert_eq!(capture::stats(ticket), Err(Error::Closing));
    assert!(matches!(open(&options(64, 0)), Err(Error::Unloading)));
    close(&file);
}

#[test]
fn each_allocation_may_fail() {
    let driver = Loaded::new();
    let mut n = 0;
    loop {
        ntoskrnl::fail_allocation(Some(n));
        let opened = open(&options(64, 0));
        ntoskrnl::fail_allocation(None);
        match opened {
            Ok((file, _)) => {
                close(&file);
                break;
            }
            Err(error) => assert_eq!(error.status(), NtStatus::INSUFFICIENT_RESOURCES),
        }
        assert_eq!(
            ntoskrnl::live_allocations(),
            0,
            "after allocation {n} failed"
        );
        assert!(!capture::any_reader());
        n += 1;
    }
    assert!(n >= 3, "only {n} allocations were seen");
    driver.unload();
}

#[test]
fn diverted_frames_are_one_readers_and_come_back_once() {
    let driver = Loaded::new();
    assert!(!divert(1, &[1; 60]), "nobody is there");
    let (file, ticket) = open_divert(1).unwrap();
    assert!(matches!(open_divert(1), Err(Error::Taken)));
    assert!(matches!(open_divert(0), Err(Error::Taken)));
    let (other, _) = open_divert(2).unwrap();
    assert!(!divert(3, &[1; 60]), "nobody's adapter");
    let least = record_size(MAX_SNAPLEN).unwrap() as usize;
    let a = read(&file, least);
    assert!(divert(1, &[1; 60]));
    assert_eq!(frames_of(a), [0]);
    assert!(divert(1, &[2; 60]), "waits");
    send(&[9; 60]);
    let now = stats(ticket);
    assert_eq!((now.seen, now.queued, now.outstanding), (2, 1, 1));

    let returning = capture::give_back(ticket).unwrap();
    assert!(returning.is_for(1) && !returning.is_for(2));
    assert!(!returning.claim(1), "not delivered yet");
    assert!(returning.claim(0));
    assert!(!returning.claim(0));
    drop(returning);
    let b = read(&file, least);
    assert_eq!(frames_of(b), [1]);
    let now = stats(ticket);
    assert!(now.is_divert_balanced(), "{now:?}");
    assert_eq!((now.returned, now.outstanding), (1, 1));
    close(&file);
    assert!(!divert(1, &[1; 60]), "closed: frames pass");
    let (again, _) = open_divert(1).unwrap();
    close(&again);
    close(&other);
    driver.unload();
}

#[test]
fn a_full_divert_backlog_loses_the_frame_and_says_so() {
    let driver = Loaded::new();
    let (file, ticket) = open_divert(0).unwrap();
    for _ in 0..100 {
        assert!(
            divert(7, &[1; 1000]),
            "the reader's, whatever becomes of it"
        );
    }
    let fits = u64::from(MIN_BACKLOG / record_size(1000).unwrap());
    let full = stats(ticket);
    assert_eq!((full.queued, full.lost_backlog), (fits, 100 - fits));
    assert!(full.is_divert_balanced());
    close(&file);
    driver.unload();
}

#[test]
fn all_backlogs_together_have_a_limit() {
    let driver = Loaded::new();
    let large = CaptureOptions {
        backlog: MAX_BACKLOG,
        ..options(64, 0)
    };
    let most = MAX_TOTAL_BACKLOG / MAX_BACKLOG;
    let readers: Vec<_> = (0..most).map(|_| open(&large).unwrap().0).collect();
    assert_eq!(capture::backlog_memory(), u64::from(MAX_TOTAL_BACKLOG));
    let refused = open(&options(64, 0)).err().expect("no memory is left");
    assert_eq!(refused.status(), NtStatus::QUOTA_EXCEEDED);
    close(&readers[0]);
    let (small, _) = open(&options(64, 0)).unwrap();
    close(&small);
    for reader in &readers[1..] {
        close(reader);
    }
    assert_eq!(capture::backlog_memory(), 0);
    driver.unload();
}

#[test]
fn readers_of_logged_frames_get_no_others() {
    let driver = Loaded::new();
    let (file, ticket) = open(&CaptureOptions {
        source: CaptureSource::Logged,
        ..options(64, 0)
    })
    .unwrap();
    let a = read(&file, 4096);
    send(b"nobody logs this");
    let bytes = Bytes(b"this one");
    let logged = Frame {
        rule: Some(4),
        logged: Some(2),
        flags: RecordFlags::DROPPED,
        ..frame(1, &bytes)
    };
    ntoskrnl::at_dispatch(|| capture::on_frame(&logged));
    let (_, got) = a.completed().expect("a completed read");
    let (record, bytes) = records(&got).next().unwrap().unwrap();
    assert_eq!((record.rule, bytes), (3, &b"this one"[..]));
    assert_eq!(record.flags(), RecordFlags::DROPPED | RecordFlags::LOGGED);
    assert_eq!(stats(ticket).filtered, 1);
    close(&file);
    driver.unload();
}

/// Frames, reads that are cancelled, and two threads that give the same frames
/// back: each is given back by one of them.
#[test]
fn diverting_from_many_threads() {
    for _ in 0..6 {
        let driver = Loaded::new();
        let (file, ticket) = open_divert(0).unwrap();
        let stop = AtomicBool::new(false);
        let claimed = AtomicU64::new(0);
        let least = record_size(MAX_SNAPLEN).unwrap() as usize;
        std::thread::scope(|threads| {
            threads.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    divert(1, &[5; 70]);
                }
            });
            for _ in 0..2 {
                threads.spawn(|| {
                    let mut sequence = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let returning = capture::give_back(ticket).unwrap();
                        if returning.claim(sequence) {
                            if sequence.is_multiple_of(5) {
                                returning.unclaim(sequence);
                            } else {
                                claimed.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                        sequence = (sequence + 1) % (stats(ticket).seen + 1);
                    }
                });
            }
            for n in 0..200 {
                let next = read(&file, least);
                if n % 7 == 0 {
                    next.cancel();
                }
                next.wait();
            }
            stop.store(true, Ordering::Relaxed);
        });
        let last = stats(ticket);
        assert!(last.is_divert_balanced(), "{last:?}");
        assert_eq!(last.returned, claimed.load(Ordering::Relaxed));
        assert!(last.returned > 0);
        close(&file);
        driver.unload();
    }
}

#[test]
fn many_threads_at_once() {
    for round in 0..12u32 {
        let driver = Loaded::new();
        storm(round);
        driver.unload();
    }
}

/// Frames from two threads, a reader with several reads outstanding whose
/// reads are cancelled at random, more reads on the same handle from another
/// thread, the flush timer, and a second handle that is opened and closed all
/// the time; in the end the reader is closed in the midst of it.
fn storm(round: u32) {
    let stop = AtomicBool::new(false);
    let sent = AtomicU64::new(0);
    let flush_ms = if round.is_multiple_of(3) { 0 } else { 5 };
    let (file, ticket) = open(&options(100, flush_ms)).unwrap();
    let first = read(&file, 1000);
    let submitted = Mutex::new(vec![first]);

    std::thread::scope(|threads| {
        for thread in 0..2u64 {
            let (stop, sent) = (&stop, &sent);
            threads.spawn(move || {
                let mut n = thread;
                while !stop.load(Ordering::Relaxed) {
                    let len = 1 + (n.wrapping_mul(2_654_435_761) % 150) as usize;
                    send(&vec![n as u8; len]);
                    sent.fetch_add(1, Ordering::Relaxed);
                    n += 2;
                }
            });
        }
        threads.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                ntoskrnl::fire_timers();
                std::thread::yield_now();
            }
        });
        threads.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let (other, _) = open(&options(50, 3)).unwrap();
                let pending = read(&other, 500);
                std::thread::yield_now();
                close(&other);
                pending.wait();
                pending.check_untouched();
            }
        });
        threads.spawn(|| {
            let mut n = round as usize;
            while !stop.load(Ordering::Relaxed) {
                let target = {
                    let reads = submitted.lock().unwrap();
                    reads[n % reads.len()]
                };
                target.cancel();
                n = n
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407)
                    >> 3;
                std::thread::yield_now();
            }
        });

        threads.spawn(|| {
            // Reads that come while the handle is being closed, and after.
            while !stop.load(Ordering::Relaxed) {
                let next = read(&file, 300);
                next.wait();
                next.check_untouched();
            }
        });

        // The reader's own thread: four reads at a time.
        let mut outstanding = vec![first];
        for n in 0..3000usize {
            while outstanding.len() < 4 {
                let next = UserCall::new(&file, 200 + n % 900);
                submitted.lock().unwrap().push(next);
                submit(&file, next);
                outstanding.push(next);
            }
            if n % 16 == 0 {
                stats(ticket);
            }
            let oldest = outstanding.remove(0);
            // With a flush time a lone frame needs the timer's thread: it runs.
            oldest.wait();
        }
        let last = stats(ticket);
        close(&file);
        stop.store(true, Ordering::Relaxed);
        assert!(last.seen <= sent.load(Ordering::Relaxed) + 2);
        assert!(last.delivered > 0);
    });

    // Every read was completed, none was touched afterwards, and no frame came
    // twice or out of its place within a read.
    let mut seen = std::collections::HashSet::new();
    for read in submitted.into_inner().unwrap() {
        let (outcome, bytes) = read.completed().expect("closing completes every read");
        read.check_untouched();
        if outcome.len == 0 {
            assert_ne!(outcome.status, NtStatus::SUCCESS);
            continue;
        }
        let sequences = sequences(&bytes);
        assert!(sequences.is_sorted(), "order within a read");
        for sequence in sequences {
            assert!(seen.insert(sequence), "frame {sequence} delivered twice");
        }
    }
}
