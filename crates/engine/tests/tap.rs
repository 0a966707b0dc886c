//! A reader against a model of it: a queue of frames, and byte counts.

use std::collections::VecDeque;

use proptest::prelude::*;
use weir_abi::record::FrameMeta;
use weir_abi::{
    CaptureOptions, CaptureSource, Direction, Directions, FrameRecord, RecordFlags, records,
};
use weir_engine::tap::{Drained, Fill, Tap, Wrote};

fn options(snaplen: u32) -> CaptureOptions {
    CaptureOptions {
        adapter: None,
        snaplen,
        backlog: 0,
        flush_ms: 0,
        directions: Directions::all(),
        source: CaptureSource::All,
    }
}

fn meta(len: usize) -> FrameMeta {
    FrameMeta::new(u32::try_from(len).unwrap(), 7, 1_000, Direction::In)
}

/// A frame of `len` bytes that differs from its neighbours.
fn frame(seed: u64, len: usize) -> Vec<u8> {
    (0..len)
        .map(|i| (seed as usize).wrapping_mul(31).wrapping_add(i) as u8)
        .collect()
}

fn copy_from(frame: &[u8]) -> impl Fn(&mut [u8]) -> usize + '_ {
    |out| {
        let n = out.len().min(frame.len());
        out[..n].copy_from_slice(&frame[..n]);
        n
    }
}

fn read_back(read: &[u8]) -> Vec<(FrameRecord, Vec<u8>)> {
    records(read)
        .map(|r| r.map(|(h, b)| (h, b.to_vec())).expect("a good record"))
        .collect()
}

#[test]
fn a_frame_lies_in_the_read_as_the_contract_says() {
    let mut tap = Tap::new(options(4), vec![0u8; 256]);
    let mut buffer = [0xAAu8; 256];
    let mut fill = Fill::new();
    let record = tap.admit(&meta(6)).unwrap();
    let wrote = tap.write(
        &mut fill,
        &mut buffer,
        record,
        copy_from(&[1, 2, 3, 4, 5, 6]),
    );
    assert_eq!(wrote, Wrote::Yes);
    assert_eq!(fill.used(), 48);
    let got = read_back(&buffer[..fill.used()]);
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].1, [1, 2, 3, 4]);
    assert_eq!(got[0].0.original_len, 6);
    assert_eq!(got[0].0.adapter, 7);
    assert_eq!(got[0].0.flags(), RecordFlags::TRUNCATED);
    assert_eq!(
        &buffer[44..48],
        [0; 4],
        "padding is zero, not what was there"
    );
    assert!(
        buffer[48..].iter().all(|b| *b == 0xAA),
        "nothing past the record is touched"
    );
}

#[test]
fn a_record_that_does_not_fit_changes_nothing() {
    let mut tap = Tap::new(options(64), vec![0u8; 256]);
    let mut buffer = [0xAAu8; 47];
    let mut fill = Fill::new();
    let record = tap.admit(&meta(8)).unwrap();
    let wrote = tap.write(&mut fill, &mut buffer, record, copy_from(&[9; 8]));
    assert_eq!(wrote, Wrote::NoRoom);
    assert!(fill.is_empty());
    assert_eq!(buffer, [0xAA; 47]);
    assert_eq!(tap.stats().queued, 0);
}

#[test]
fn unreadable_frame_memory_makes_a_shorter_record() {
    let mut tap = Tap::new(options(64), vec![0u8; 256]);
    let mut buffer = [0xAAu8; 128];
    let mut fill = Fill::new();
    let record = tap.admit(&meta(20)).unwrap();
    let wrote = tap.write(&mut fill, &mut buffer, record, |out| {
        out[..3].copy_from_slice(&[1, 2, 3]);
        3
    });
    assert_eq!(wrote, Wrote::Yes);
    let got = read_back(&buffer[..fill.used()]);
    assert_eq!(got[0].1, [1, 2, 3]);
    assert_eq!(got[0].0.original_len, 20);
    assert_eq!(got[0].0.flags(), RecordFlags::TRUNCATED);
}

#[test]
fn only_what_was_asked_for_is_numbered() {
    let mut asked = options(64);
    asked.adapter = std::num::NonZeroU32::new(7);
    asked.directions = Directions::IN;
    let mut tap = Tap::new(asked, vec![0u8; 64]);
    let other_adapter = FrameMeta {
        adapter: 8,
        ..meta(1)
    };
    let other_way = FrameMeta {
        direction: Direction::Out,
        ..meta(1)
    };
    assert!(tap.admit(&other_adapter).is_none());
    assert!(tap.admit(&other_way).is_none());
    assert_eq!(tap.admit(&meta(1)).unwrap().sequence, 0);
    assert_eq!((tap.stats().seen, tap.stats().filtered), (1, 2));
}

#[test]
fn the_flush_time_runs_from_the_first_frame() {
    let mut tap = Tap::new(options(64), vec![0u8; 64]);
    let mut buffer = [0u8; 512];
    let mut fill = Fill::new();
    for timestamp_100ns in [5_000_000, 9_000_000] {
        let record = tap
            .admit(&FrameMeta {
                timestamp_100ns,
                ..meta(1)
            })
            .unwrap();
        let wrote = tap.write(&mut fill, &mut buffer, record, copy_from(&[1]));
        assert_eq!(wrote, Wrote::Yes);
    }
    assert_eq!(fill.due_in_ms(5_000_000, 200), 200);
    assert_eq!(fill.due_in_ms(6_000_000, 200), 100);
    assert_eq!(fill.due_in_ms(99_000_000, 200), 0);
    assert_eq!(
        fill.due_in_ms(0, 200),
        200,
        "a clock set back waits no longer than asked"
    );
    assert_eq!(fill.due_in_ms(u64::MAX, u32::MAX), 0);
}

#[test]
fn what_waits_at_close_is_lost_and_counted() {
    let mut tap = Tap::new(options(64), vec![0u8; 4096]);
    for _ in 0..5 {
        let record = tap.admit(&meta(10)).unwrap();
        assert!(tap.set_aside(record, copy_from(&[0; 10])));
    }
    assert!(tap.must_wait());
    tap.close();
    assert!(!tap.must_wait());
    assert_eq!((tap.stats().lost_closed, tap.stats().queued), (5, 0));
    assert!(tap.stats().is_balanced());
}

#[derive(Clone, Debug)]
enum Step {
    /// A frame of this length arrives.
    Frame(usize),
    /// A read with a buffer of this length arrives.
    Read(usize),
    /// The flush timer fires.
    Flush,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0usize..200).prop_map(Step::Frame),
        2 => (128usize..600).prop_map(Step::Read),
        1 => Just(Step::Flush),
    ];
    prop::collection::vec(step, 0..400)
}

/// The driver's use of a tap, with at most one read at a time.
struct Reader {
    tap: Tap<Vec<u8>>,
    read: Option<(Vec<u8>, Fill)>,
    completed: Vec<Vec<u8>>,
}

impl Reader {
    fn complete(&mut self) {
        if let Some((buffer, fill)) = self.read.take() {
            self.tap.finish(&fill);
            self.completed.push(buffer[..fill.used()].to_vec());
        }
    }

    fn on_frame(&mut self, bytes: &[u8]) {
        let Some(record) = self.tap.admit(&meta(bytes.len())) else {
            return;
        };
        if !self.tap.must_wait()
            && let Some((buffer, fill)) = &mut self.read
        {
            if self.tap.write(fill, buffer, record, copy_from(bytes)) == Wrote::Yes {
                return;
            }
            self.complete();
        }
        self.tap.set_aside(record, copy_from(bytes));
    }

    fn on_read(&mut self, len: usize, budget: usize) {
        if self.read.is_none() {
            self.read = Some((vec![0xAA; len], Fill::new()));
        }
        let Some((buffer, fill)) = &mut self.read else {
            return;
        };
        loop {
            match self.tap.drain(fill, buffer, budget) {
                Drained::Budget => {}
                Drained::Empty => break,
                Drained::Full => {
                    self.complete();
                    break;
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn the_balance_closes_and_order_is_kept(
        steps in steps(),
        backlog in 0usize..1500,
        snaplen in 1u32..80,
        budget in 1usize..300,
    ) {
        let mut reader = Reader {
            tap: Tap::new(options(snaplen), vec![0u8; backlog]),
            read: None,
            completed: Vec::new(),
        };
        let mut frames: Vec<Vec<u8>> = Vec::new();
        for step in steps {
            match step {
                Step::Frame(len) => {
                    let bytes = frame(frames.len() as u64, len);
                    reader.on_frame(&bytes);
                    frames.push(bytes);
                }
                Step::Read(len) => reader.on_read(len, budget),
                Step::Flush => {
                    if reader.read.as_ref().is_some_and(|(_, fill)| !fill.is_empty()) {
                        reader.complete();
                    }
                }
            }
            prop_assert!(reader.tap.stats().is_balanced(), "{:?}", reader.tap.stats());
        }
        reader.complete();
        while reader.tap.must_wait() {
            reader.on_read(600, budget);
            reader.complete();
        }
        reader.tap.close();
        let stats = reader.tap.stats();
        prop_assert!(stats.is_balanced());
        prop_assert_eq!(stats.queued, 0);
        prop_assert_eq!(stats.lost_closed, 0);
        prop_assert_eq!(stats.seen, frames.len() as u64);

        let mut last = None;
        let mut delivered = 0u64;
        for read in &reader.completed {
            for (header, bytes) in read_back(read) {
                prop_assert!(last.is_none_or(|l| header.sequence > l), "order");
                last = Some(header.sequence);
                let whole = &frames[usize::try_from(header.sequence).unwrap()];
                let want = whole.len().min(snaplen as usize);
                prop_assert_eq!(&bytes[..], &whole[..want]);
                prop_assert_eq!(header.original_len as usize, whole.len());
                delivered += 1;
            }
        }
        prop_assert_eq!(stats.delivered, delivered);
        prop_assert_eq!(stats.seen, delivered + stats.lost_backlog);
    }

    #[test]
    fn the_backlog_is_a_queue_that_loses_only_when_full(
        ops in prop::collection::vec(prop_oneof![(0usize..120).prop_map(Some), Just(None)], 0..500),
        size in 64usize..2000,
    ) {
        let mut tap = Tap::new(options(200), vec![0u8; size]);
        let mut model: VecDeque<(u64, usize)> = VecDeque::new();
        for op in ops {
            match op {
                Some(len) => {
                    let record = tap.admit(&meta(len)).unwrap();
                    let bytes = frame(record.sequence, len);
                    let need = record.size as usize;
                    let used: usize = model.iter().map(|(_, s)| s).sum();
                    let kept = tap.set_aside(record, copy_from(&bytes));
                    if kept {
                        prop_assert!(used + need <= size);
                        model.push_back((record.sequence, need));
                    } else {
                        // A record stays in one piece, so at most one record's
                        // worth is wasted at each of the two ends.
                        prop_assert!(used + need + 2 * 160 > size || need > size);
                    }
                }
                None => {
                    let mut buffer = [0u8; 160];
                    let mut fill = Fill::new();
                    let outcome = tap.drain(&mut fill, &mut buffer, 1);
                    match model.pop_front() {
                        None => prop_assert_eq!(outcome, Drained::Empty),
                        Some((sequence, need)) => {
                            prop_assert_eq!(fill.used(), need);
                            let got = read_back(&buffer[..need]);
                            prop_assert_eq!(got[0].0.sequence, sequence);
                            prop_assert_eq!(&got[0].1, &frame(sequence, got[0].1.len()));
                        }
                    }
                    tap.finish(&fill);
                }
            }
            prop_assert_eq!(tap.must_wait(), !model.is_empty());
            prop_assert_eq!(tap.stats().queued, model.len() as u64);
            prop_assert!(tap.stats().is_balanced());
        }
    }
}

/// A divert reader against a model of it: a set of numbers for each place a
/// frame can be in.
mod divert {
    use std::collections::BTreeSet;

    use weir_abi::DivertOptions;
    use weir_abi::limits::MAX_OUTSTANDING;
    use weir_engine::tap::MARKS_LEN;

    use super::*;

    fn reader(backlog: usize) -> Tap<Vec<u8>> {
        let options = DivertOptions {
            adapter: None,
            backlog: 0,
            flush_ms: 0,
        };
        Tap::divert(&options, vec![0; backlog], vec![0; MARKS_LEN])
    }

    /// One frame, straight into a read that is completed.
    fn deliver(tap: &mut Tap<Vec<u8>>) -> u64 {
        let mut buffer = [0; 64];
        let mut fill = Fill::new();
        let record = tap.admit(&meta(4)).expect("a number");
        let wrote = tap.write(&mut fill, &mut buffer, record, copy_from(&[1; 4]));
        assert_eq!(wrote, Wrote::Yes);
        tap.finish(&fill);
        record.sequence
    }

    fn balanced(tap: &Tap<Vec<u8>>) -> weir_abi::ReaderStats {
        let stats = tap.stats();
        assert!(stats.is_divert_balanced(), "{stats:?}");
        stats
    }

    #[test]
    fn each_frame_is_given_back_once() {
        let mut tap = reader(256);
        let first = deliver(&mut tap);
        let second = deliver(&mut tap);
        assert!(!tap.claim(second + 1), "not seen yet");
        assert!(!tap.claim(u64::MAX));
        assert!(tap.claim(second));
        assert!(!tap.claim(second), "given back already");
        assert_eq!(balanced(&tap).outstanding, 1);
        tap.unclaim(second);
        assert_eq!(balanced(&tap).outstanding, 2);
        assert!(tap.claim(first) && tap.claim(second));
        let stats = balanced(&tap);
        assert_eq!((stats.returned, stats.outstanding), (2, 0));
    }

    #[test]
    fn what_still_waits_can_not_be_given_back() {
        let mut tap = reader(256);
        let record = tap.admit(&meta(4)).expect("a number");
        assert!(tap.set_aside(record, copy_from(&[1; 4])));
        assert!(!tap.claim(record.sequence));
        let mut buffer = [0; 64];
        let mut fill = Fill::new();
        assert_eq!(tap.drain(&mut fill, &mut buffer, 64), Drained::Empty);
        assert!(!tap.claim(record.sequence), "the read isn't complete");
        tap.finish(&fill);
        assert!(tap.claim(record.sequence));
        balanced(&tap);
    }

    #[test]
    fn a_frame_that_is_not_whole_is_lost() {
        let mut tap = reader(256);
        let long = weir_abi::limits::MAX_SNAPLEN as usize + 1;
        assert_eq!(tap.admit(&meta(long)), None);
        let mut buffer = [0; 128];
        let mut fill = Fill::new();
        let record = tap.admit(&meta(20)).expect("a number");
        let wrote = tap.write(&mut fill, &mut buffer, record, |_| 3);
        assert_eq!(wrote, Wrote::Lost);
        let record = tap.admit(&meta(20)).expect("a number");
        assert!(!tap.set_aside(record, |_| 3));
        let stats = balanced(&tap);
        assert_eq!((stats.seen, stats.lost_backlog), (3, 3));
        assert_eq!(fill, Fill::new());
    }

    #[test]
    fn the_oldest_is_given_up_for_one_too_many() {
        if cfg!(miri) {
            // As many frames as that take an hour.
            return;
        }
        let mut tap = reader(256);
        let first = deliver(&mut tap);
        for _ in 1..MAX_OUTSTANDING {
            deliver(&mut tap);
        }
        assert_eq!(balanced(&tap).outstanding, u64::from(MAX_OUTSTANDING));
        assert!(tap.claim(first));
        // Its number is needed for another one, so that it can't come back.
        deliver(&mut tap);
        tap.unclaim(first);
        assert_eq!(balanced(&tap).unreturned, 1);
        deliver(&mut tap);
        assert!(!tap.claim(first + 1), "given up");
        let stats = balanced(&tap);
        assert_eq!((stats.unreturned, stats.returned), (2, 0));
        tap.close();
        let stats = balanced(&tap);
        assert_eq!(stats.unreturned, u64::from(MAX_OUTSTANDING) + 2);
    }

    /// A reader that stood still while more frames were lost than there are
    /// places gets those that waited, and can give them back; the lost ones it
    /// can't, though a place of theirs is in use.
    #[test]
    fn what_waited_through_a_flood_can_be_given_back() {
        let mut tap = reader(100);
        let waits: Vec<_> = (0..2)
            .map(|_| {
                let record = tap.admit(&meta(4)).expect("a number");
                assert!(tap.set_aside(record, copy_from(&[1; 4])));
                record.sequence
            })
            .collect();
        let many = u64::from(MAX_OUTSTANDING);
        let flood = if cfg!(miri) { 100 } else { 2 * many };
        for _ in 0..flood {
            if let Some(record) = tap.admit(&meta(4)) {
                assert!(!tap.set_aside(record, copy_from(&[1; 4])));
            }
        }
        let mut buffer = [0; 100];
        let mut fill = Fill::new();
        assert_eq!(tap.drain(&mut fill, &mut buffer, 1000), Drained::Empty);
        tap.finish(&fill);
        assert_eq!(balanced(&tap).outstanding, 2);
        assert_eq!(balanced(&tap).lost_backlog, flood);
        for sequence in &waits {
            assert!(!tap.claim(sequence + many), "this one was lost");
        }
        for sequence in waits {
            assert!(tap.claim(sequence), "{sequence}");
            tap.unclaim(sequence);
            assert!(tap.claim(sequence), "{sequence}");
        }
        let stats = balanced(&tap);
        assert_eq!((stats.returned, stats.outstanding), (2, 0));
    }

    proptest! {
        #[test]
        fn frames_are_where_the_model_says(steps in prop::collection::vec((0..5u8, any::<u8>()), 0..300)) {
            let mut tap = reader(400);
            let mut buffer = vec![0; 300];
            let mut fill = Fill::new();
            let (mut in_read, mut with_reader) = (BTreeSet::new(), BTreeSet::new());
            let mut returned = 0;
            for (step, pick) in steps {
                match step {
                    0 | 1 => {
                        let record = tap.admit(&meta(usize::from(pick))).expect("a number");
                        let bytes = vec![0; usize::from(pick)];
                        if tap.must_wait()
                            || tap.write(&mut fill, &mut buffer, record, copy_from(&bytes)) != Wrote::Yes
                        {
                            tap.set_aside(record, copy_from(&bytes));
                        } else {
                            in_read.insert(record.sequence);
                        }
                    }
                    2 => {
                        tap.drain(&mut fill, &mut buffer, 1000);
                        in_read = read_back(&buffer[..fill.used()]).iter().map(|(r, _)| r.sequence).collect();
                        tap.finish(&fill);
                        fill = Fill::new();
                        with_reader.append(&mut in_read);
                    }
                    _ => {
                        let sequence = u64::from(pick) % (tap.stats().seen + 1);
                        let there = with_reader.remove(&sequence);
                        prop_assert_eq!(tap.claim(sequence), there);
                        returned += u64::from(there);
                        if there && step == 4 {
                            tap.unclaim(sequence);
                            with_reader.insert(sequence);
                            returned -= 1;
                        }
                    }
                }
                let stats = tap.stats();
                prop_assert!(stats.is_divert_balanced());
                prop_assert_eq!(stats.outstanding, with_reader.len() as u64);
                prop_assert_eq!(stats.returned, returned);
            }
        }
    }
}

#[test]
fn a_reader_of_logged_frames_gets_those_only() {
    let mut asked = options(64);
    asked.source = CaptureSource::Logged;
    let mut tap = Tap::new(asked, vec![0u8; 64]);
    assert_eq!(tap.admit(&FrameMeta { rule: 3, ..meta(1) }), None);
    let logged = FrameMeta {
        rule: 3,
        logged: 2,
        flags: RecordFlags::DROPPED,
        ..meta(1)
    };
    let record = tap.admit(&logged).expect("logged");
    assert_eq!(record.rule, 2);
    assert_eq!(record.flags(), RecordFlags::DROPPED | RecordFlags::LOGGED);
    assert_eq!((tap.stats().seen, tap.stats().filtered), (1, 1));
}
