//! libpcap is the judge: the same expressions are refused, and the others match
//! the same frames, those that are cut short included.
//!
//! `WEIR_EXPRESSIONS` and `WEIR_SEED` make a longer run of other expressions.

#[path = "common/bpf.rs"]
mod bpf;
#[path = "common/frames.rs"]
mod frames;
#[path = "common/grammar.rs"]
mod grammar;
#[path = "common/pcap.rs"]
mod pcap;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use frames::Frame;
use pcap::Pcap;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use weir_rules::compile_expression;

/// What libpcap refuses, and the language doesn't: each is in docs/rules.md.
const ACCEPTED_HERE: &[&str] = &[
    // libpcap looks at the first number of what divides or shifts, and takes it
    // for the whole.
    "division by zero",
    "modulus by zero",
    "shift by more than 31 bits",
];

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().expect("a number"))
}

#[derive(Default)]
struct Tally {
    compared: Cell<u64>,
    refused_by_both: Cell<u64>,
    accepted_here: Cell<u64>,
    matched: Cell<u64>,
    /// Expressions of which libpcap's optimizer changes the meaning.
    optimizer: Cell<u64>,
    /// The same, on a frame of 60 bytes and more.
    optimizer_whole: Cell<u64>,
    insns: Cell<(u64, u64, u64)>,
    refusals: RefCell<BTreeMap<String, u64>>,
}

fn add(cell: &Cell<u64>, count: u64) {
    cell.set(cell.get() + count);
}

fn compare(pcap: &Pcap, frames: &[Frame], text: &str, tally: &Tally) -> Result<(), String> {
    let judged = pcap.compile(text, false);
    let ours = compile_expression(text);
    let (judged, ours) = match (judged, ours) {
        (Ok(judged), Ok(ours)) => (judged, ours),
        (Err(_), Err(error)) => {
            add(&tally.refused_by_both, 1);
            let first = error
                .message
                .split_whitespace()
                .take(6)
                .collect::<Vec<_>>()
                .join(" ");
            *tally.refusals.borrow_mut().entry(first).or_default() += 1;
            return Ok(());
        }
        (Err(error), Ok(_)) if ACCEPTED_HERE.contains(&error.as_str()) => {
            add(&tally.accepted_here, 1);
            return Ok(());
        }
        (Err(error), Ok(_)) => return Err(format!("libpcap refuses: {error}")),
        (Ok(_), Err(error)) => return Err(format!("refused here:\n{error}")),
    };
    let optimized = pcap.compile(text, true);
    let (mut differs, mut whole_differs) = (false, false);
    for frame in frames {
        let expected = judged.matches(&frame.bytes, frame.len);
        let found = bpf::run(ours.code(), &frame.bytes, frame.len) != 0;
        if expected != found {
            return Err(format!(
                "libpcap says {expected}, we say {found}, of {} ({} of {} bytes: {:02x?})",
                frame.from,
                frame.bytes.len(),
                frame.len,
                frame.bytes
            ));
        }
        add(&tally.matched, u64::from(found));
        if let Ok(optimized) = &optimized {
            let changed = optimized.matches(&frame.bytes, frame.len) != expected;
            differs |= changed;
            whole_differs |= changed && frame.bytes.len() >= 60;
        }
    }
    add(&tally.optimizer, u64::from(differs));
    add(&tally.optimizer_whole, u64::from(whole_differs));
    let (mine, plain, best) = tally.insns.get();
    let count = |len: usize| len as u64;
    tally.insns.set((
        mine + count(ours.code().len()),
        plain + count(judged.len()),
        best + optimized
            .as_ref()
            .map_or(0, |optimized| count(optimized.len())),
    ));
    add(&tally.compared, 1);
    Ok(())
}

#[test]
fn random_expressions_match_the_frames_libpcap_matches() {
    let count = number("WEIR_EXPRESSIONS").unwrap_or(5_000);
    let seed = number("WEIR_SEED").unwrap_or(3);
    let pcap = Pcap::open();
    let frames = frames::all();
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases: u32::try_from(count).expect("a count"),
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let tally = Tally::default();
    let result = runner.run(&grammar::expression(), |text| {
        compare(&pcap, &frames, &text, &tally).map_err(TestCaseError::fail)
    });
    println!(
        "{}: {} expressions on {} frames agree, {} matches; both refuse {}; accepted here only {}; \
         changed by libpcap's optimizer {}, on frames of 60 bytes {}; instructions here, of libpcap, optimized: {:?}",
        pcap.version,
        tally.compared.get(),
        frames.len(),
        tally.matched.get(),
        tally.refused_by_both.get(),
        tally.accepted_here.get(),
        tally.optimizer.get(),
        tally.optimizer_whole.get(),
        tally.insns.get(),
    );
    for (refusal, count) in tally.refusals.borrow().iter() {
        println!("{count:6} {refusal}");
    }
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, text)) => panic!("{text}\n{why}"),
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
    assert!(
        tally.compared.get() > 2 * count / 5,
        "too many expressions have no meaning"
    );
    assert!(
        tally.matched.get() > tally.compared.get(),
        "too few frames match"
    );
}
