//! How fast the engine is: `cargo xtask bench [--quick]`.
//!
//! Criterion measures; at the end one table says what a frame costs, and the
//! ratios. All numbers of one table are of one run, on the same frames.

mod dissecting;
mod frames;
#[path = "../../crates/engine/tests/rule/libpcap.rs"]
#[allow(dead_code, reason = "the engine's tests use the rest of it")]
mod libpcap;
mod rules;
mod ruling;
mod table;
mod time;
mod tracking;
mod whole;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use criterion::Criterion;

use frames::Frames;
use libpcap::Libpcap;
use table::Table;
use time::CpuTime;

fn main() -> Result<()> {
    let quick = std::env::args().any(|arg| arg == "--quick");
    let results = results();
    let mut criterion = Criterion::default()
        .with_measurement(CpuTime)
        .output_directory(&results)
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    let frames = Frames::mixed();
    let libpcap = Libpcap::load();
    let mut table = Table::new(results);

    dissecting::measure(&mut criterion, &frames);
    ruling::measure(&mut criterion, &frames, &libpcap);
    whole::measure(&mut criterion, &frames, &libpcap);
    tracking::measure(&mut criterion, &mut table, quick);
    criterion.final_summary();

    table.describe(&frames);
    dissecting::tell(&mut table, frames.len());
    ruling::tell(&mut table, frames.len());
    whole::tell(&mut table, frames.len());
    tracking::tell(&mut table, quick);
    print!("{}", table.text());
    Ok(())
}

/// Where criterion keeps what it measured.
fn results() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target"),
        PathBuf::from,
    );
    target.join("criterion")
}
