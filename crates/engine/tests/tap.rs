//! A reader against a model of it: a queue of frames, and byte counts.

use std::collections::VecDeque;

use proptest::prelude::*;
use weir_abi::record::FrameMeta;
use weir_abi::{
    CaptureOptions, CaptureSource, Direction, Directions, FrameRecord, RecordFlags, records,
};
use weir_engine::tap::{Drained, Fill, Tap};

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
    assert!(tap.write(
        &mut fill,
        &mut buffer,
        record,
        copy_from(&[1, 2, 3, 4, 5, 6])
    ));
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
    assert!(!tap.write(&mut fill, &mut buffer, record, copy_from(&[9; 8])));
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
    assert!(tap.write(&mut fill, &mut buffer, record, |out| {
        out[..3].copy_from_slice(&[1, 2, 3]);
        3
    }));
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
        assert!(tap.write(&mut fill, &mut buffer, record, copy_from(&[1])));
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
            if self.tap.write(fill, buffer, record, copy_from(bytes)) {
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
