use weir_engine::rule::format::{Insn, MAGIC, ProgramHeader, RuleEntry, TupleEntry, VERSION};
use weir_engine::rule::{Program, RuleSet, View};
use weir_rules::explain;
use zerocopy::{FromBytes, IntoBytes};

use crate::bytes::Bytes;
use crate::frames::frame;
use crate::machine;

/// A program; with a first byte that is odd, its header is made to fit, so that
/// what lies behind is reached.
pub fn rule_verify(input: &[u8]) {
    let mut from = Bytes::new(input);
    let fit = from.u8() & 1 != 0;
    let mut bytes = from.rest().to_vec();
    if fit {
        fit_header(&mut bytes);
    }
    let Ok(program) = Program::verify(&bytes) else {
        return;
    };
    // Whatever was verified can be told about.
    for rule in program.rules() {
        assert!((1..=32).contains(&rule.name().len()));
        assert!(!rule.code().is_empty());
        let _ = (rule.expression(), rule.tuples().count());
    }
    let _ = explain(&bytes);
    // Code ends, and does what it says.
    let mut seed = Bytes::new(&bytes);
    for _ in 0..2 {
        let frame = frame(&mut seed);
        let len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let view = View::contiguous(&frame, len);
        for rule in program.rules() {
            let expected = machine::run(rule.code(), &frame, len);
            assert_eq!(weir_engine::rule::bpf::run(rule.code(), &view), expected);
        }
        decide(&bytes, &program, &view);
    }
}

/// The set may still be refused; if not, each rule that takes effect is one that
/// there is, in order.
fn decide(bytes: &[u8], program: &Program<'_>, view: &View<'_>) {
    type Set<'a> = RuleSet<&'a [u8], Vec<u32>>;
    let len = Set::index_len(program);
    let Ok(rules) = Set::build(bytes, vec![0x5555_5555; len]) else {
        return;
    };
    assert!(Set::build(bytes, vec![0; len.saturating_sub(1)]).is_err() || len == 0);
    let mut last = None;
    let decision = rules.decide(view, None, |rule| {
        assert!(rule < program.rule_count());
        assert!(last.is_none_or(|last| last < rule));
        last = Some(rule);
    });
    assert!(decision.action.is_terminal());
    if let Some(rule) = decision.rule {
        assert_eq!(last, Some(rule));
    }
}

fn fit_header(bytes: &mut [u8]) {
    let size = bytes.len();
    let Ok((header, _)) = ProgramHeader::mut_from_prefix(bytes) else {
        return;
    };
    let mut left = size - size_of::<ProgramHeader>();
    let mut fit = |count: u32, each: usize, most: u32| {
        let count = (count % most).min(u32::try_from(left / each).unwrap_or(0));
        left -= count as usize * each;
        count
    };
    *header = ProgramHeader {
        magic: MAGIC,
        version: VERSION,
        size: u32::try_from(size).unwrap_or(0),
        default_action: header.default_action & 1,
        rule_count: fit(header.rule_count, size_of::<RuleEntry>(), 8),
        tuple_count: fit(header.tuple_count, size_of::<TupleEntry>(), 16),
        insn_count: fit(header.insn_count, size_of::<Insn>(), 64),
        text_len: 0,
    };
    header.text_len = u32::try_from(left).unwrap_or(0);
    debug_assert!(!header.as_bytes().is_empty());
}
