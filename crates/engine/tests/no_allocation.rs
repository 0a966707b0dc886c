//! The way of a frame allocates nothing: dissected, its checksums verified,
//! counted, tracked, decided on by 1,000 rules, and written for a reader.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::frames_of;
use common::program::Program;
use weir_abi::record::FrameMeta;
use weir_abi::{CaptureOptions, CaptureSource, Direction, Directions};
use weir_engine::Meta;
use weir_engine::flow::{Config, Slot, Table};
use weir_engine::path::inspect;
use weir_engine::rule::format::{
    ACTION_COUNT, ACTION_DROP, ACTION_LOG, ACTION_PASS, CLASS_IPV4, DIRECTION_IN, DIRECTION_OUT,
    FIELD_DST_PORT, FIELD_PROTOCOL, FIELD_SRC_PORT, TUPLE_CONFIRM, TupleEntry,
};
use weir_engine::rule::hits::Hits;
use weir_engine::rule::{RuleSet, View};
use weir_engine::stats::{Counters, Verdict};
use weir_engine::tap::{Drained, Fill, Tap, Wrote};
use weir_engine::wire::checksum::verify;
use zerocopy::FromZeros;

/// The system's allocator, and how often this thread called it.
struct Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    CALLS.with(|calls| calls.set(calls.get() + 1));
}

// SAFETY: each call goes on to the system's allocator as it came, so what holds
// for that holds here; counting neither allocates nor panics: the cell is
// initialised at compile time and has no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps `alloc`'s contract, which is the same there.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count();
        // SAFETY: the block came from the system's allocator, by `alloc` above.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as for `dealloc`; the size is the caller's to get right.
        unsafe { System.realloc(block, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `what` allocates, frees or resizes.
fn calls_of(what: impl FnOnce()) -> u64 {
    let before = CALLS.get();
    what();
    CALLS.get() - before
}

#[test]
fn allocations_are_seen() {
    assert_eq!(calls_of(|| drop(std::hint::black_box(vec![1u8]))), 2);
    assert_eq!(calls_of(|| ()), 0);
}

/// Rules that are looked up.
const RULES: u16 = if cfg!(miri) { 20 } else { 1000 };

/// So many rules of five fields, rules that log and count, and one for all.
fn rules() -> RuleSet<Vec<u8>, Vec<u32>> {
    const BOTH: u32 = DIRECTION_IN | DIRECTION_OUT;
    let mut program = Program::new(ACTION_PASS);
    program.linear("log-udp", ACTION_LOG, BOTH, &[(12, 0x0800), (23, 17)]);
    for number in 0..RULES {
        let tuple = TupleEntry {
            class: CLASS_IPV4,
            fields: FIELD_PROTOCOL | FIELD_SRC_PORT | FIELD_DST_PORT,
            src_prefix: 32,
            dst_prefix: 32,
            protocol: 6,
            flags: TUPLE_CONFIRM,
            src_port: 1000 + number,
            dst_port: 80,
            reserved: 0,
            src: [10, 77, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            dst: [10, 77, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        };
        let tests = [
            (12, 0x0800),
            (14, 0x4500),
            (20, 0x4000),
            (23, 6),
            (26, 0x0a4d),
            (28, 1),
            (30, 0x0a4d),
            (32, 2),
            (34, u32::from(1000 + number)),
            (36, 80),
        ];
        let name = format!("five-{number}");
        program.rule(&name, ACTION_DROP, DIRECTION_OUT, &tests, &[tuple]);
    }
    program.linear("count-tcp", ACTION_COUNT, DIRECTION_IN, &[(23, 6)]);
    program.linear("rest", ACTION_PASS, BOTH, &[]);
    program.build()
}

struct Way {
    rules: RuleSet<Vec<u8>, Vec<u32>>,
    hits: Vec<Hits>,
    flows: Table<Vec<Slot>, Vec<u32>>,
    counters: Counters,
    tap: Tap<Vec<u8>>,
    read: Vec<u8>,
    fill: Fill,
    now: u64,
}

impl Way {
    fn new(slots: usize) -> Self {
        let rules = rules();
        let memory = (0..slots).map(|_| Slot::new_zeroed()).collect();
        let index = vec![0; Table::<Vec<Slot>, Vec<u32>>::index_len(slots)];
        let options = CaptureOptions {
            adapter: None,
            snaplen: 128,
            backlog: 0,
            flush_ms: 0,
            directions: Directions::all(),
            source: CaptureSource::All,
        };
        Self {
            hits: vec![Hits::default(); rules.program().rule_count() as usize],
            rules,
            flows: Table::new(memory, index, Config::default()).unwrap(),
            counters: Counters::ZERO,
            tap: Tap::new(options, vec![0; 1000]),
            read: vec![0; 4096],
            fill: Fill::new(),
            now: 133_444_736_000_000_000,
        }
    }

    fn go(&mut self, frame: &[u8], direction: Direction) {
        self.now += 10_000;
        let frame_len = u32::try_from(frame.len()).unwrap();
        let meta = Meta {
            adapter: 1,
            direction: Some(direction),
            time_100ns: self.now,
            frame_len,
        };
        let view = View::contiguous(frame, frame_len);
        let (flows, hits) = (&mut self.flows, &mut self.hits);
        let inspected = inspect(
            &view,
            &meta,
            Some(&self.rules),
            |frame, meta| flows.track(frame, meta),
            |rule| hits[rule as usize].add(frame_len),
        );
        let checks = verify(&inspected.frame, frame);
        self.counters.protocols.count(&inspected.frame, false);
        self.counters.protocols.count_checksums(checks);
        self.counters.balance.see(frame_len);
        self.counters.balance.enter(Verdict::Pass, frame_len);
        self.show(frame, &FrameMeta::new(frame_len, 1, self.now, direction));
        if self.now.is_multiple_of(1_000_000) {
            self.flows.tick(self.now);
        }
        while self.flows.take_alarm().is_some() {}
    }

    /// Every other read is late, so that frames wait.
    fn show(&mut self, frame: &[u8], meta: &FrameMeta) {
        let copy = |out: &mut [u8]| {
            let len = out.len().min(frame.len());
            out[..len].copy_from_slice(&frame[..len]);
            len
        };
        let record = self.tap.admit(meta).unwrap();
        let fits = !self.tap.must_wait() && {
            self.tap.write(&mut self.fill, &mut self.read, record, copy) == Wrote::Yes
        };
        if !fits && !self.tap.set_aside(record, copy) {
            self.tap.finish(&self.fill);
            self.fill = Fill::new();
            let drained = self.tap.drain(&mut self.fill, &mut self.read, 1 << 20);
            assert_eq!(drained, Drained::Empty);
        }
    }
}

#[test]
fn the_way_of_a_frame_allocates_nothing() {
    let mut frames = frames_of("mixed.pcap");
    frames.extend(frames_of("odd.pcap"));
    // Room for all flows; and for so few that each new one costs another.
    for slots in [4096, 4] {
        let mut way = Way::new(slots);
        for frame in &frames {
            let out = frame.get(6..12) == Some(&[2, 0, 0, 0, 0, 1]);
            let direction = if out { Direction::Out } else { Direction::In };
            let calls = calls_of(|| way.go(frame, direction));
            assert_eq!(calls, 0, "{slots} slots, {frame:02x?}");
        }
        // It did go that way.
        let number = frames.len() as u64;
        assert_eq!(way.counters.protocols.frames, number);
        let stats = way.tap.stats();
        assert_eq!(stats.seen, number);
        assert!(stats.delivered > 0 && stats.lost_backlog > 0);
        let looked_up = usize::from(RULES);
        let decided: u64 = way.hits[1..=looked_up].iter().map(|h| h.frames).sum();
        assert_eq!(decided + way.hits[looked_up + 2].frames, number);
        assert!(way.flows.stats().created > 10);
        assert_eq!(slots < 10, way.flows.stats().evicted() > 0);
    }
}
