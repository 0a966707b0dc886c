//! The whole way of a frame: dissected, tracked, decided on by 1,000 rules, and
//! 128 bytes of it written for a reader. Beside it libpcap's machine with one
//! clause.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use weir_abi::record::FrameMeta;
use weir_abi::{CaptureOptions, CaptureSource, Direction, Directions};
use weir_engine::flow::{Config, Slot, Table as Flows};
use weir_engine::rule::View;
use weir_engine::rule::hits::HitCell;
use weir_engine::tap::{Fill, Tap, Wrote};
use weir_engine::{Meta, path, wire};
use zerocopy::FromZeros;

use crate::frames::{Frame, Frames};
use crate::libpcap::Libpcap;
use crate::rules::{Rules, five_tuples, or_ed, weir};
use crate::table::{Table, ratio, target};
use crate::time::CpuTime;

const GROUP: &str = "whole";

/// Flows the table has room for: more than there are.
const SLOTS: usize = 65_536;

/// Bytes of a frame that the reader gets.
const SNAPLEN: u32 = 128;

/// Bytes of one read.
const READ: usize = 1 << 20;

/// What people ask libpcap beside five-tuples: one clause each.
const CLAUSES: [(&str, &str); 3] = [
    ("libpcap-host", "host 10.77.0.1"),
    ("libpcap-port", "tcp port 443"),
    ("libpcap-portrange", "portrange 1024-2047"),
];

/// All that a frame meets on its way.
struct Way {
    flows: Flows<Vec<Slot>, Vec<u32>>,
    rules: Rules,
    hits: Vec<HitCell>,
    tap: Tap<Vec<u8>>,
    read: Vec<u8>,
    fill: Fill,
}

impl Way {
    fn new(frames: &Frames) -> Self {
        let rules = weir(&five_tuples(frames, 1_000));
        let count = rules.program().rule_count();
        let slots = vec![Slot::new_zeroed(); SLOTS];
        let index = vec![0; Flows::<Vec<Slot>, Vec<u32>>::index_len(SLOTS)];
        let options = CaptureOptions {
            adapter: None,
            snaplen: SNAPLEN,
            backlog: 0,
            flush_ms: 0,
            directions: Directions::IN | Directions::OUT,
            source: CaptureSource::All,
        };
        Way {
            flows: Flows::new(slots, index, Config::default()).expect("a table"),
            rules,
            hits: (0..count).map(|_| HitCell::default()).collect(),
            tap: Tap::new(options, Vec::new()),
            read: vec![0; READ],
            fill: Fill::new(),
        }
    }

    #[inline]
    fn take(&mut self, frame: &Frame<'_>) {
        let meta = Meta {
            adapter: 1,
            direction: Some(Direction::In),
            time_100ns: frame.time_100ns,
            frame_len: frame.len,
        };
        let view = View::contiguous(frame.bytes, frame.len);
        let inspected = path::inspect(
            &view,
            &meta,
            Some(&self.rules),
            |dissected, meta| self.flows.track(dissected, meta),
            |rule| {
                let cell = usize::try_from(rule).ok().and_then(|i| self.hits.get(i));
                if let Some(cell) = cell {
                    cell.add(frame.len);
                }
            },
        );
        black_box(&inspected);
        self.record(frame);
    }

    /// Gives the frame to the reader; a read that is full is done, and the next
    /// begins.
    #[inline]
    fn record(&mut self, frame: &Frame<'_>) {
        let meta = FrameMeta::new(frame.len, 1, frame.time_100ns, Direction::In);
        let Some(record) = self.tap.admit(&meta) else {
            return;
        };
        let copy = |to: &mut [u8]| {
            let from = frame.bytes.get(..to.len()).unwrap_or(frame.bytes);
            if let Some(to) = to.get_mut(..from.len()) {
                to.copy_from_slice(from);
            }
            from.len()
        };
        while self.tap.write(&mut self.fill, &mut self.read, record, copy) == Wrote::NoRoom {
            self.tap.finish(&self.fill);
            self.fill = Fill::new();
        }
    }
}

pub(crate) fn measure(criterion: &mut Criterion<CpuTime>, frames: &Frames, libpcap: &Libpcap) {
    let mut group = criterion.benchmark_group(GROUP);
    group.throughput(Throughput::Elements(frames.len() as u64));

    let clause = or_ed(libpcap, &five_tuples(frames, 1), true);
    let machine = libpcap.machine();
    group.bench_function("libpcap-one-clause", |bencher| {
        bencher.iter(|| {
            for frame in frames.iter() {
                black_box(machine.run(&clause, frame.bytes, frame.len));
            }
        });
    });
    let unoptimized = or_ed(libpcap, &five_tuples(frames, 1), false);
    group.bench_function("libpcap-one-clause-unoptimized", |bencher| {
        bencher.iter(|| {
            for frame in frames.iter() {
                black_box(machine.run(&unoptimized, frame.bytes, frame.len));
            }
        });
    });

    for (name, expression) in CLAUSES {
        let code = libpcap.compile(expression, true).expect("an expression");
        let clause = libpcap.valid(code);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for frame in frames.iter() {
                    black_box(machine.run(&clause, frame.bytes, frame.len));
                }
            });
        });
    }

    // Flows live through all the copies of the capture; the time of one run
    // begins where that of the run before ended.
    let mut way = Way::new(frames);
    let span = frames.iter().last().map_or(0, |frame| frame.time_100ns) - frames.start_100ns();
    let mut later = 0;
    group.bench_function("weir", |bencher| {
        bencher.iter(|| {
            for mut frame in frames.iter() {
                frame.time_100ns += later;
                way.take(&frame);
            }
            later += span;
        });
    });
    let stats = way.flows.stats();
    assert!(stats.active > 0, "{stats:?}");
    group.finish();
    steps(criterion, frames);
}

/// What the steps of the way cost, each alone after the dissection.
fn steps(criterion: &mut Criterion<CpuTime>, frames: &Frames) {
    let mut group = criterion.benchmark_group("steps");
    group.throughput(Throughput::Elements(frames.len() as u64));
    group.bench_function("walk", |bencher| {
        bencher.iter(|| {
            for frame in frames.iter() {
                black_box(
                    frame
                        .bytes
                        .get(..wire::HEADER_WINDOW)
                        .map(|window| window[13]),
                );
            }
        });
    });
    let mut way = Way::new(frames);
    let span = frames.iter().last().map_or(0, |frame| frame.time_100ns) - frames.start_100ns();
    let mut later = 0;
    group.bench_function("dissect-track", |bencher| {
        bencher.iter(|| {
            for frame in frames.iter() {
                let meta = Meta {
                    adapter: 1,
                    direction: Some(Direction::In),
                    time_100ns: frame.time_100ns + later,
                    frame_len: frame.len,
                };
                let window = frame
                    .bytes
                    .get(..wire::HEADER_WINDOW)
                    .unwrap_or(frame.bytes);
                let dissected = wire::dissect(window, frame.len);
                black_box(way.flows.track(&dissected, &meta));
            }
            later += span;
        });
    });
    group.bench_function("tap", |bencher| {
        bencher.iter(|| {
            for frame in frames.iter() {
                way.record(&frame);
            }
        });
    });
    group.finish();
}

pub(crate) fn tell(table: &mut Table, frames: usize) {
    table.heading("The whole way of a frame: dissect, flow, 1,000 rules, 128 bytes to a reader");
    let whole = table.each(GROUP, "weir", frames);
    let clause = table.each(GROUP, "libpcap-one-clause", frames);
    let unoptimized = table.each(GROUP, "libpcap-one-clause-unoptimized", frames);
    table.row("Weir", whole, "");
    for (what, group, name) in [
        ("  of it reading the frame's memory", "steps", "walk"),
        ("  of it dissecting", "dissect", "weir"),
        ("  of it dissecting and the flow", "steps", "dissect-track"),
        ("  of it 1,000 rules", "rules", "weir-1000"),
        ("  of it the reader", "steps", "tap"),
    ] {
        table.row(what, table.each(group, name, frames), "");
    }
    let remark = ratio(whole, unoptimized, "times as much for Weir's whole way");
    table.row("libpcap, one clause, as compiled", unoptimized, &remark);
    let remark = ratio(whole, clause, "times as much for Weir's whole way");
    table.row("libpcap, one clause, optimized", clause, &remark);
    for (name, expression) in CLAUSES {
        let other = table.each(GROUP, name, frames);
        let remark = ratio(whole, other, "times as much for Weir's whole way");
        table.row(&format!("libpcap, {expression}"), other, &remark);
    }
    let reached = whole.zip(clause).map(|(a, b)| a <= b);
    let remark = target(reached, "at most libpcap's machine with one clause");
    table.row("the whole way", whole, &remark);
}
