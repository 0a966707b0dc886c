//! Flows: looked up and inserted, beside hashbrown with the same keys.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkGroup, Criterion};
use hashbrown::HashMap;
use weir_engine::Meta;
use weir_engine::flow::{Config, Slot, Table as Flows};
use weir_engine::wire::{self, Dissected};
use zerocopy::FromZeros;

use crate::table::{Table, ratio};
use crate::time::{CpuTime, now};

const GROUP: &str = "flows";
const COUNTS: [usize; 3] = [10_000, 1_000_000, 10_000_000];
/// More flows than these are inserted a few times only: criterion's ten samples
/// would take many minutes.
const MOST_SAMPLED: usize = 1_000_000;
/// How often.
const TIMES: usize = 3;
/// Look-ups in an iteration.
const LOOK_UPS: usize = 10_000;
/// A second after 1601 and no tick later: nothing ages while it is measured.
const NOW: u64 = 10_000_000;

fn counts(quick: bool) -> &'static [usize] {
    COUNTS.get(..if quick { 2 } else { 3 }).unwrap_or(&COUNTS)
}

/// A UDP datagram over IPv4: of flow `number`, from either end.
fn frame(number: usize, back: bool) -> [u8; 60] {
    let mut bytes = [0; 60];
    bytes[12..24].copy_from_slice(&[8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17]);
    let [_, a, b, c] = u32::try_from(number).expect("below 2^24").to_be_bytes();
    let (client, server) = ([10, a, b, c], [192, 0, 2, c]);
    let (from, to) = if back {
        (server, client)
    } else {
        (client, server)
    };
    bytes[26..30].copy_from_slice(&from);
    bytes[30..34].copy_from_slice(&to);
    let (client, server) = ([0xc0 | c & 0x3f, b], [0, 53]);
    let (from, to) = if back {
        (server, client)
    } else {
        (client, server)
    };
    bytes[34..36].copy_from_slice(&from);
    bytes[36..38].copy_from_slice(&to);
    bytes[38..40].copy_from_slice(&[0, 26]);
    bytes
}

/// The numbers below `count`, each once, in an order no prefetcher knows.
fn scattered(count: usize) -> impl Iterator<Item = usize> + Clone {
    // An odd multiplier permutes the numbers below a power of two.
    let wide = count.next_power_of_two();
    let all = (0..wide).map(move |n| n.wrapping_mul(0x9e37_79b1).wrapping_add(7) & (wide - 1));
    all.filter(move |n| *n < count)
}

fn with_frame<T>(number: usize, back: bool, then: impl FnOnce(&Dissected<'_>) -> T) -> T {
    let bytes = frame(number, back);
    then(&wire::dissect(black_box(&bytes), 60))
}

fn meta() -> Meta {
    Meta {
        adapter: 1,
        direction: None,
        time_100ns: NOW,
        frame_len: 60,
    }
}

/// What hashbrown finds a flow by: both directions the same.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    lower: (u128, u16),
    higher: (u128, u16),
    protocol: u8,
}

/// As large as what Weir keeps of a flow beside its key.
type Value = [u64; 11];

fn key(frame: &Dissected<'_>) -> Option<Key> {
    let (from, to) = frame.ip_addresses()?;
    let (source, destination) = frame.ports()?;
    let bits = |address| match address {
        std::net::IpAddr::V4(v4) => u128::from(u32::from(v4)),
        std::net::IpAddr::V6(v6) => u128::from(v6),
    };
    let (a, b) = ((bits(from), source), (bits(to), destination));
    Some(Key {
        lower: a.min(b),
        higher: a.max(b),
        protocol: 17,
    })
}

type Weir<'a> = Flows<&'a mut [Slot], &'a mut [u32]>;

fn weir_table<'a>(slots: &'a mut [Slot], index: &'a mut [u32]) -> Weir<'a> {
    Flows::new(slots, index, Config::default()).expect("a table")
}

fn weir_memory(count: usize) -> (Vec<Slot>, Vec<u32>) {
    // Written to, so that no page is missing while it is measured.
    let mut slots = vec![Slot::new_zeroed(); count];
    black_box(&mut slots).fill(Slot::new_zeroed());
    (slots, vec![1; Weir::index_len(count)])
}

pub(crate) fn measure(criterion: &mut Criterion<CpuTime>, table: &mut Table, quick: bool) {
    let mut group = criterion.benchmark_group(GROUP);
    group.sample_size(10);
    for count in counts(quick) {
        if *count > MOST_SAMPLED {
            by_hand(table, *count);
            continue;
        }
        weir(&mut group, *count);
        hashbrown(&mut group, *count);
        group.bench_function(format!("frames-{count}"), |bencher| {
            let mut numbers = scattered(*count).cycle();
            bencher.iter(|| {
                for number in numbers.by_ref().take(LOOK_UPS) {
                    with_frame(number, true, |frame| {
                        black_box(key(frame));
                    });
                }
            });
        });
    }
    group.finish();
}

fn weir(group: &mut BenchmarkGroup<'_, CpuTime>, count: usize) {
    let (mut slots, mut index) = weir_memory(count);
    group.bench_function(format!("weir-insert-{count}"), |bencher| {
        bencher.iter_custom(|times| {
            let mut spent = Duration::ZERO;
            for _ in 0..times {
                let mut flows = weir_table(&mut slots, &mut index);
                let start = now();
                insert(&mut flows, count);
                spent += now() - start;
                assert_eq!(usize::try_from(flows.stats().active), Ok(count));
            }
            spent
        });
    });
    let mut flows = weir_table(&mut slots, &mut index);
    insert(&mut flows, count);
    group.bench_function(format!("weir-look-up-{count}"), |bencher| {
        let mut numbers = scattered(count).cycle();
        bencher.iter(|| {
            for number in numbers.by_ref().take(LOOK_UPS) {
                with_frame(number, true, |frame| {
                    black_box(flows.track(frame, &meta()));
                });
            }
        });
    });
    assert_eq!(flows.stats().created, count as u64, "all were found");
}

fn insert(flows: &mut Weir<'_>, count: usize) {
    for number in scattered(count) {
        with_frame(number, false, |frame| {
            black_box(flows.track(frame, &meta()));
        });
    }
}

fn fill(flows: &mut HashMap<Key, Value>, count: usize) {
    for number in scattered(count) {
        with_frame(number, false, |frame| {
            let value = flows.entry(key(frame).expect("UDP")).or_insert([0; 11]);
            count_in(value);
        });
    }
}

/// A few times, the memory having been touched before; look-ups of a million
/// that no cache has seen of late.
fn by_hand(table: &mut Table, count: usize) {
    let timed = |times: &mut Vec<Duration>, what: &mut dyn FnMut()| {
        let start = now();
        what();
        times.push(now() - start);
    };
    let look_ups = count.min(MOST_SAMPLED);
    let (mut slots, mut index) = weir_memory(count);
    let (mut inserts, mut finds) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        let mut flows = weir_table(&mut slots, &mut index);
        timed(&mut inserts, &mut || insert(&mut flows, count));
        assert_eq!(usize::try_from(flows.stats().active), Ok(count));
        timed(&mut finds, &mut || {
            for number in scattered(count).take(look_ups) {
                with_frame(number, true, |frame| {
                    black_box(flows.track(frame, &meta()));
                });
            }
        });
        assert_eq!(flows.stats().created, count as u64, "all were found");
    }
    table.note(GROUP, &format!("weir-insert-{count}"), &mut inserts, count);
    table.note(
        GROUP,
        &format!("weir-look-up-{count}"),
        &mut finds,
        look_ups,
    );
    drop((slots, index));

    let mut flows: HashMap<Key, Value> = HashMap::with_capacity(count);
    fill(&mut flows, count);
    let (mut inserts, mut finds) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        flows.clear();
        timed(&mut inserts, &mut || fill(&mut flows, count));
        timed(&mut finds, &mut || {
            for number in scattered(count).take(look_ups) {
                with_frame(number, true, |frame| {
                    let value = flows.get_mut(&key(frame).expect("UDP")).expect("a flow");
                    count_in(value);
                });
            }
        });
    }
    table.note(
        GROUP,
        &format!("hashbrown-insert-{count}"),
        &mut inserts,
        count,
    );
    table.note(
        GROUP,
        &format!("hashbrown-look-up-{count}"),
        &mut finds,
        look_ups,
    );
    let mut frames = Vec::new();
    for _ in 0..TIMES {
        timed(&mut frames, &mut || {
            for number in scattered(count).take(look_ups) {
                with_frame(number, true, |frame| {
                    black_box(key(frame));
                });
            }
        });
    }
    table.note(GROUP, &format!("frames-{count}"), &mut frames, look_ups);
}

fn hashbrown(group: &mut BenchmarkGroup<'_, CpuTime>, count: usize) {
    // Filled once before it is measured, so that its memory was touched too.
    let mut flows: HashMap<Key, Value> = HashMap::with_capacity(count);
    let fill = |flows: &mut HashMap<Key, Value>| fill(flows, count);
    fill(&mut flows);
    group.bench_function(format!("hashbrown-insert-{count}"), |bencher| {
        bencher.iter_custom(|times| {
            let mut spent = Duration::ZERO;
            for _ in 0..times {
                flows.clear();
                let start = now();
                fill(&mut flows);
                spent += now() - start;
                assert_eq!(flows.len(), count);
            }
            spent
        });
    });
    group.bench_function(format!("hashbrown-look-up-{count}"), |bencher| {
        let mut numbers = scattered(count).cycle();
        bencher.iter(|| {
            for number in numbers.by_ref().take(LOOK_UPS) {
                with_frame(number, true, |frame| {
                    let value = flows.get_mut(&key(frame).expect("UDP")).expect("a flow");
                    count_in(value);
                });
            }
        });
    });
}

/// The least that a table of flows does: packets, bytes, the time.
fn count_in(value: &mut Value) {
    value[0] += 1;
    value[1] += 60;
    value[2] = NOW;
    black_box(value);
}

pub(crate) fn tell(table: &mut Table, quick: bool) {
    table.heading("A flow, its frame made and dissected before");
    for count in counts(quick) {
        let frames = table.each(GROUP, &format!("frames-{count}"), LOOK_UPS);
        table.row(
            &format!("{count} flows: making and dissecting alone"),
            frames,
            "",
        );
        for (what, of) in [("look-up", LOOK_UPS), ("insert", *count)] {
            let weir = table.each(GROUP, &format!("weir-{what}-{count}"), of);
            let theirs = table.each(GROUP, &format!("hashbrown-{what}-{count}"), of);
            let remark = ratio(weir, theirs, "times hashbrown's");
            table.row(&format!("  {what}, Weir"), weir, &remark);
            table.row(&format!("  {what}, hashbrown"), theirs, "");
        }
    }
    let words = Weir::index_len(10_000_000);
    let bytes = 10_000_000 * size_of::<Slot>() + words * size_of::<u32>();
    #[allow(clippy::cast_precision_loss, reason = "an amount of memory")]
    let gib = bytes as f64 / f64::from(1 << 30);
    table.heading(&format!(
        "10,000,000 flows take {gib:.3} GiB, {} bytes each in a slot",
        size_of::<Slot>()
    ));
}
