//! Rules on five-tuples, beside libpcap's machine.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use weir_engine::rule::View;

use crate::frames::{Frame, Frames};
use crate::libpcap::{Libpcap, Machine, Valid};
use crate::rules::{Rules, five_tuples, one_by_one, or_ed, weir};
use crate::table::{Table, ratio, target};
use crate::time::CpuTime;

const GROUP: &str = "rules";
const COUNTS: [usize; 5] = [1, 10, 100, 1_000, 10_000];

/// The most rules that libpcap or-s into one program in bearable time.
const MOST_OPTIMIZED: usize = 100;
const MOST_OR_ED: usize = 1_000;

/// Frames libpcap's machine is tried on where it takes microseconds for each:
/// every so many of all.
fn stride(rules: usize) -> usize {
    (rules / 10).max(1)
}

pub(crate) fn measure(criterion: &mut Criterion<CpuTime>, frames: &Frames, libpcap: &Libpcap) {
    let machine = libpcap.machine();
    let mut group = criterion.benchmark_group(GROUP);
    for count in COUNTS {
        let tuples = five_tuples(frames, count);
        let set = weir(&tuples);
        let ours = matched(&set, frames.iter());
        group.throughput(Throughput::Elements(frames.len() as u64));
        group.bench_function(format!("weir-{count}"), |bencher| {
            bencher.iter(|| matched(&set, frames.iter()));
        });

        let each = one_by_one(libpcap, &tuples);
        let theirs = frames.iter().step_by(stride(count));
        // Nothing is compared that does not do the same.
        let same = theirs
            .clone()
            .filter(|frame| any(&machine, &each, frame))
            .count();
        assert_eq!(same, matched(&set, theirs.clone()), "{ours} matched in all");
        group.throughput(Throughput::Elements(theirs.len() as u64));
        group.bench_function(format!("libpcap-each-{count}"), |bencher| {
            bencher.iter(|| {
                for frame in theirs.clone() {
                    black_box(any(&machine, &each, &frame));
                }
            });
        });
        for (optimize, most) in [(true, MOST_OPTIMIZED), (false, MOST_OR_ED)] {
            if count > most {
                continue;
            }
            let one = or_ed(libpcap, &tuples, optimize);
            let run = |frame: &Frame<'_>| machine.run(&one, frame.bytes, frame.len) != 0;
            assert_eq!(theirs.clone().filter(run).count(), same);
            let name = if optimize { "optimized" } else { "or-ed" };
            group.bench_function(format!("libpcap-{name}-{count}"), |bencher| {
                bencher.iter(|| {
                    for frame in theirs.clone() {
                        black_box(run(&frame));
                    }
                });
            });
        }
    }
    group.finish();
}

/// How many frames any rule decides on.
fn matched<'a>(set: &Rules, frames: impl Iterator<Item = Frame<'a>>) -> usize {
    let decided = frames.filter(|frame| {
        let view = View::contiguous(frame.bytes, frame.len);
        let decision = set.decide(&view, None, |rule| {
            black_box(rule);
        });
        decision.rule.is_some()
    });
    decided.count()
}

/// Whether any of the programs matches: the first that does ends it.
fn any(machine: &Machine<'_>, programs: &[Valid], frame: &Frame<'_>) -> bool {
    let matches = |program| machine.run(program, frame.bytes, frame.len) != 0;
    programs.iter().any(matches)
}

pub(crate) fn tell(table: &mut Table, frames: usize) {
    table.heading("Deciding on a frame, by rules on five-tuples");
    let one = table.each(GROUP, "weir-1", frames);
    for count in COUNTS {
        let weir = table.each(GROUP, &format!("weir-{count}"), frames);
        let rules = if count == 1 { "rule" } else { "rules" };
        let remark = ratio(weir, one, "times one rule");
        table.row(&format!("Weir, {count} {rules}"), weir, &remark);
        let fewer = frames.div_ceil(stride(count));
        for (name, what) in [
            ("each", "a program each"),
            ("or-ed", "or-ed, as compiled"),
            ("optimized", "or-ed, optimized"),
        ] {
            let other = table.each(GROUP, &format!("libpcap-{name}-{count}"), fewer);
            if other.is_some() {
                let remark = ratio(other, weir, "times Weir's");
                table.row(&format!("  libpcap, {what}"), other, &remark);
            }
        }
    }
    let thousand = table.each(GROUP, "weir-1000", frames);
    let reached = thousand.zip(one).map(|(a, b)| a <= 1.2 * b);
    let remark = target(reached, "1,000 rules at most 1.2 times one");
    table.row("1,000 rules", thousand, &remark);
    let fewer = frames.div_ceil(stride(1_000));
    let best = ["each", "or-ed", "optimized"]
        .iter()
        .filter_map(|name| table.each(GROUP, &format!("libpcap-{name}-1000"), fewer))
        .reduce(f64::min);
    let reached = thousand.zip(best).map(|(a, b)| 10.0 * a <= b);
    let remark = target(reached, "1,000 rules at least 10 times less than libpcap");
    table.row("libpcap's best at 1,000 rules", best, &remark);
}
