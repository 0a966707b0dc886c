//! Rules on five-tuples: as a program of Weir's, and as code of libpcap's.

use std::fmt::Write;

use weir_engine::rule::{Program, RuleSet};
use weir_rules::RuleFile;

use crate::frames::{Addresses, FiveTuple, Frames};
use crate::libpcap::{Libpcap, Valid};

/// A built set of rules.
pub(crate) type Rules = RuleSet<Vec<u8>, Vec<u32>>;

/// As many five-tuples as are asked for, every second one of a flow that is in
/// the frames while there are such, the others of flows that are not: whoever
/// writes rules does not know which of them the next frames will meet.
pub(crate) fn five_tuples(frames: &Frames, count: usize) -> Vec<FiveTuple> {
    let mut met = frames.five_tuples();
    shuffle(&mut met);
    let mut met = met.into_iter().cycle();
    let mut absent = 0u16;
    let mut rules = Vec::with_capacity(count);
    let mut known = std::collections::HashSet::new();
    while rules.len() < count {
        let mut tuple = met.next().expect("there are flows");
        if rules.len() % 2 == 1 || known.contains(&tuple) {
            tuple = elsewhere(tuple, absent);
            absent += 1;
        }
        if known.insert(tuple) {
            rules.push(tuple);
        }
    }
    rules
}

/// The same between hosts that are in no frame.
fn elsewhere(tuple: FiveTuple, number: u16) -> FiveTuple {
    let [high, low] = number.to_be_bytes();
    let addresses = match tuple.addresses {
        Addresses::V4(_, b) => Addresses::V4([172, 16, high, low].into(), b),
        Addresses::V6(_, b) => Addresses::V6([0xfd99, 0, 0, 0, 0, 0, 0, number].into(), b),
    };
    FiveTuple { addresses, ..tuple }
}

/// The order of the file has nothing to do with that of the frames. The same
/// each time.
fn shuffle(items: &mut [FiveTuple]) {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    for last in (1..items.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let among = u64::try_from(last).expect("few") + 1;
        items.swap(last, usize::try_from(state % among).expect("among them"));
    }
}

/// The rules as Weir loads them, out of the text of a rule file: `drop`,
/// whichever way a frame goes.
pub(crate) fn weir(rules: &[FiveTuple]) -> Rules {
    let mut text = String::new();
    for (number, rule) in rules.iter().enumerate() {
        writeln!(text, "rule r{number} drop any {}", rule.expression()).expect("memory");
    }
    let file = RuleFile::parse(&text, "bench").unwrap_or_else(|errors| panic!("{errors}"));
    let bytes = file.compile();
    let program = Program::verify(&bytes).expect("a program");
    let looked_up = program.rules().filter(|rule| !rule.is_linear()).count();
    assert_eq!(looked_up, rules.len(), "a five-tuple is looked up");
    let words = program.index_len();
    RuleSet::build(bytes, vec![0; words]).expect("a set of rules")
}

/// Each rule as a program of its own, for libpcap's machine: run one after the
/// other until one matches.
pub(crate) fn one_by_one(libpcap: &Libpcap, rules: &[FiveTuple]) -> Vec<Valid> {
    let each = rules.iter().map(|rule| {
        let code = libpcap.compile(&rule.expression(), true);
        libpcap.valid(code.expect("an expression"))
    });
    each.collect()
}

/// All rules or-ed into one program, which only says whether any matches.
/// `optimize`: as libpcap's optimizer leaves it.
pub(crate) fn or_ed(libpcap: &Libpcap, rules: &[FiveTuple], optimize: bool) -> Valid {
    let each: Vec<_> = rules
        .iter()
        .map(|rule| format!("({})", rule.expression()))
        .collect();
    let code = libpcap.compile(&each.join(" or "), optimize);
    libpcap.valid(code.expect("an expression"))
}
