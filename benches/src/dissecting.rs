//! Dissecting, beside etherparse.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use etherparse::{LaxSlicedPacket, SlicedPacket};
use weir_engine::wire;

use crate::frames::Frames;
use crate::table::{Table, ratio};
use crate::time::CpuTime;

const GROUP: &str = "dissect";

pub(crate) fn measure(criterion: &mut Criterion<CpuTime>, frames: &Frames) {
    let mut group = criterion.benchmark_group(GROUP);
    group.throughput(Throughput::Elements(frames.len() as u64));
    group.bench_function("weir", |bencher| {
        bencher.iter(|| {
            for frame in frames.iter() {
                let window = frame.bytes.get(..wire::HEADER_WINDOW);
                black_box(wire::dissect(window.unwrap_or(frame.bytes), frame.len));
            }
        });
    });
    // As Weir does: whatever can be read, is.
    group.bench_function("etherparse-lax", |bencher| {
        bencher.iter(|| {
            for frame in frames.iter() {
                black_box(LaxSlicedPacket::from_ethernet(frame.bytes)).ok();
            }
        });
    });
    group.bench_function("etherparse-strict", |bencher| {
        bencher.iter(|| {
            for frame in frames.iter() {
                black_box(SlicedPacket::from_ethernet(frame.bytes)).ok();
            }
        });
    });
    group.finish();
}

pub(crate) fn tell(table: &mut Table, frames: usize) {
    table.heading("Dissecting a frame");
    let weir = table.each(GROUP, "weir", frames);
    table.row("Weir", weir, "");
    for (name, what) in [
        ("etherparse-lax", "etherparse, LaxSlicedPacket"),
        ("etherparse-strict", "etherparse, SlicedPacket"),
    ] {
        let other = table.each(GROUP, name, frames);
        table.row(what, other, &ratio(other, weir, "times Weir's"));
    }
}
