//! The index says what the rules say, one by one: same decision, same hits, in
//! the same order.

use std::collections::HashSet;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use weir_abi::Direction;
use weir_engine::rule::bpf::*;
use weir_engine::rule::format::*;
use weir_engine::rule::{Action, Decision, Program, RuleSet, Shape, View, reference};

use super::assemble::{Draft, Parts, build, code_of, insn, jump, tuple};
use super::frames::{self, Frame, frame};

/// A tuple of few possible shapes and values.
fn any_tuple() -> impl Strategy<Value = TupleEntry> {
    let narrow = prop_oneof![
        6 => Just(CLASS_IPV4),
        1 => Just(CLASS_ARP),
        1 => Just(CLASS_RARP),
    ];
    let narrow_prefix = || prop_oneof![3 => Just(0u8), 3 => Just(32), 1 => Just(8), 1 => Just(24)];
    let wide_prefix =
        || prop_oneof![3 => Just(0u8), 2 => Just(128), 1 => Just(64), 1 => Just(32), 1 => Just(10)];
    let narrow = (
        narrow,
        (narrow_prefix(), frames::v4()),
        (narrow_prefix(), frames::v4()),
    )
        .prop_map(|(class, source, destination)| {
            let mut made = tuple(class);
            made.src_prefix = source.0;
            made.dst_prefix = destination.0;
            made.src[..4].copy_from_slice(&source.1);
            made.dst[..4].copy_from_slice(&destination.1);
            made
        });
    let wide = ((wide_prefix(), frames::v6()), (wide_prefix(), frames::v6())).prop_map(
        |(source, destination)| {
            let mut made = tuple(CLASS_IPV6);
            made.src_prefix = source.0;
            made.dst_prefix = destination.0;
            made.src = source.1;
            made.dst = destination.1;
            made
        },
    );
    let fields = prop_oneof![3 => Just(0u8), 4 => 0u8..8];
    let made = (
        prop_oneof![2 => narrow, 1 => wide],
        (fields, frames::protocol(), frames::port(), frames::port()),
    );
    made.prop_map(|(mut made, (fields, protocol, source, destination))| {
        if matches!(made.class, CLASS_IPV4 | CLASS_IPV6) {
            made.fields = fields;
        }
        let counts = |field| made.fields & field != 0;
        made.protocol = if counts(FIELD_PROTOCOL) { protocol } else { 0 };
        made.src_port = if counts(FIELD_SRC_PORT) { source } else { 0 };
        made.dst_port = if counts(FIELD_DST_PORT) {
            destination
        } else {
            0
        };
        mask(&mut made.src, made.src_prefix);
        mask(&mut made.dst, made.dst_prefix);
        made
    })
}

fn mask(address: &mut [u8; 16], prefix: u8) {
    let bits = u128::MAX.checked_shr(prefix.into()).unwrap_or(0);
    *address = (u128::from_be_bytes(*address) & !bits).to_be_bytes();
}

prop_compose! {
    /// Tuples and the code they stand for, or code alone.
    fn draft()(
        action in 0u32..5,
        directions in prop_oneof![4 => Just(3u32), 1 => Just(1), 1 => Just(2)],
        mut tuples in proptest::collection::vec(any_tuple(), 1..5),
        also in proptest::option::weighted(0.3, (0u32..70, 1u32..256)),
        linear in proptest::bool::weighted(0.2),
        cautious: bool,
        backwards: bool,
    ) -> Draft {
        let code = code_of(&tuples, also, backwards);
        for tuple in &mut tuples {
            // What has more conditions needs its code; others may ask for it.
            if also.is_some() || cautious {
                tuple.flags = TUPLE_CONFIRM;
            }
        }
        if linear {
            tuples.clear();
        }
        Draft { name: String::new(), action, directions, code, tuples }
    }
}

fn program() -> impl Strategy<Value = (u32, Vec<Draft>)> {
    let drafts = proptest::collection::vec(draft(), 0..40);
    (0u32..2, drafts).prop_map(|(default, mut drafts)| {
        let mut shapes = HashSet::new();
        for (number, draft) in drafts.iter_mut().enumerate() {
            draft.name = format!("r{number}");
            shapes.extend(draft.tuples.iter().map(Shape::of));
            if shapes.len() > MAX_SHAPES as usize {
                draft.tuples.clear();
            }
        }
        (default, drafts)
    })
}

fn direction() -> impl Strategy<Value = Option<Direction>> {
    prop_oneof![
        Just(None),
        Just(Some(Direction::In)),
        Just(Some(Direction::Out))
    ]
}

type Set = RuleSet<Vec<u8>, Vec<u32>>;

fn both(set: &Set, view: &View<'_>, direction: Option<Direction>) -> [(Decision, Vec<u32>); 2] {
    let mut by_index = Vec::new();
    let fast = set.decide(view, direction, |rule| by_index.push(rule));
    let mut one_by_one = Vec::new();
    let program = Program::verify(set.bytes()).unwrap();
    let naive = reference::decide(&program, view, direction, |rule| one_by_one.push(rule));
    [(fast, by_index), (naive, one_by_one)]
}

proptest! {
    #![proptest_config(Config::with_cases(if cfg!(miri) { 2 } else { 600 }))]
    #[test]
    fn the_index_says_what_the_rules_say(
        (default, drafts) in program(),
        frames in proptest::collection::vec((frame(), direction()), 1..60),
    ) {
        let set = build(Parts::new(default, &drafts).bytes());
        for (frame, direction) in &frames {
            let [fast, naive] = frame.with_view(|view| both(&set, view, *direction));
            prop_assert_eq!(fast, naive, "{:?} {:?}", frame, direction);
        }
    }
}

/// The property above would hold for frames that match nothing: most of these
/// match something, and in every way there is.
#[test]
fn the_frames_of_the_property_meet_its_rules() {
    if cfg!(miri) {
        // It is about the property's frames, of which few are tried there.
        return;
    }
    let mut runner = TestRunner::deterministic();
    let mut decided = [0u32; 3];
    let mut noted = 0;
    let mut cut = 0;
    for _ in 0..60 {
        let (default, drafts) = program().new_tree(&mut runner).unwrap().current();
        let set = build(Parts::new(default, &drafts).bytes());
        for _ in 0..60 {
            let frame = frame().new_tree(&mut runner).unwrap().current();
            let [(decision, hits), _] = frame.with_view(|view| both(&set, view, None));
            if let Some(rule) = decision.rule {
                let draft = &drafts[rule as usize];
                let kind = match draft.tuples.first() {
                    None => 0,
                    Some(tuple) if tuple.flags == 0 => 1,
                    Some(_) => 2,
                };
                decided[kind] += 1;
                cut += u32::from(frame.captured < frame.bytes.len());
            }
            noted += u32::from(hits.len() > 1);
        }
    }
    assert!(decided.iter().all(|count| *count > 200), "{decided:?}");
    assert!(noted > 200, "{noted}");
    assert!(cut > 20, "{cut}");
}

fn whole(bytes: Vec<u8>) -> Frame {
    Frame {
        captured: bytes.len(),
        prefix: bytes.len(),
        bytes,
    }
}

/// TCP from 10.0.0.1 to 10.0.0.2, these ports.
fn tcp(source: u16, destination: u16) -> Frame {
    let mut bytes = vec![0; 60];
    bytes[12..15].copy_from_slice(&[8, 0, 0x45]);
    bytes[23] = 6;
    bytes[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    bytes[34..36].copy_from_slice(&source.to_be_bytes());
    bytes[36..38].copy_from_slice(&destination.to_be_bytes());
    whole(bytes)
}

fn to_port(port: u16) -> TupleEntry {
    let mut made = tuple(CLASS_IPV4);
    made.fields = FIELD_PROTOCOL | FIELD_DST_PORT;
    made.protocol = 6;
    made.dst_port = port;
    made
}

fn by_tuples(name: &str, action: u32, tuples: Vec<TupleEntry>) -> Draft {
    let code = code_of(&tuples, None, false);
    Draft {
        tuples,
        ..Draft::linear(name, action, code)
    }
}

fn says(set: &Set, frame: &Frame) -> (Decision, Vec<u32>) {
    let [fast, naive] = frame.with_view(|view| both(set, view, None));
    assert_eq!(fast, naive);
    fast
}

#[test]
fn no_rules_leave_all_to_the_default() {
    for (default, action) in [(ACTION_PASS, Action::Pass), (ACTION_DROP, Action::Drop)] {
        let set = build(Parts::new(default, &[]).bytes());
        let decision = Decision {
            action,
            rule: None,
            log: None,
        };
        assert_eq!(says(&set, &tcp(1, 2)), (decision, vec![]));
        assert_eq!(says(&set, &whole(vec![])), (decision, vec![]));
    }
}

#[test]
fn notes_before_the_deciding_rule_are_hits_and_those_behind_are_none() {
    let all = vec![insn(RET | K, 1)];
    let set = build(
        Parts::new(
            ACTION_PASS,
            &[
                by_tuples("count", ACTION_COUNT, vec![to_port(80)]),
                Draft::linear("log-all", ACTION_LOG, all.clone()),
                by_tuples("log-too", ACTION_LOG, vec![to_port(80)]),
                by_tuples("other", ACTION_DROP, vec![to_port(81)]),
                by_tuples("web", ACTION_DIVERT, vec![to_port(80), to_port(82)]),
                by_tuples("late", ACTION_LOG, vec![to_port(80)]),
                Draft::linear("rest", ACTION_DROP, all),
            ],
        )
        .bytes(),
    );
    let decision = |action, rule| Decision {
        action,
        rule: Some(rule),
        log: Some(1),
    };
    let web = (decision(Action::Divert, 4), vec![0, 1, 2, 4]);
    assert_eq!(says(&set, &tcp(9, 80)), web);
    let other = (decision(Action::Drop, 3), vec![1, 3]);
    assert_eq!(says(&set, &tcp(9, 81)), other);
    let rest = (decision(Action::Drop, 6), vec![1, 6]);
    assert_eq!(says(&set, &tcp(9, 83)), rest);
}

/// `src host` on a frame that ends behind the source address: the tuple finds
/// it, and the code confirms.
#[test]
fn a_cut_frame_is_confirmed_by_code() {
    let mut from = tuple(CLASS_IPV4);
    from.src_prefix = 32;
    from.src[..4].copy_from_slice(&[10, 0, 0, 1]);
    let mut liar = by_tuples("liar", ACTION_DROP, vec![from]);
    // Not what the tuple says: whole frames go by the tuple, others by code.
    liar.code = vec![insn(RET | K, 0)];
    let honest = by_tuples("honest", ACTION_DIVERT, vec![from]);
    let set = build(Parts::new(ACTION_PASS, &[liar, honest]).bytes());
    let mut frame = tcp(1, 2);
    let decide = |frame: &Frame| frame.with_view(|view| set.decide(view, None, |_| ()).rule);
    assert_eq!(decide(&frame), Some(0));
    // The whole header behind the first piece is as good as in it.
    frame.prefix = 20;
    assert_eq!(decide(&frame), Some(0));
    for captured in [30, 33, 36, 37] {
        (frame.captured, frame.prefix) = (captured, captured);
        assert_eq!(decide(&frame), Some(1), "{captured} bytes");
    }
    (frame.captured, frame.prefix) = (29, 29);
    assert_eq!(decide(&frame), None);
}

/// As many tuples as a program may have, all of one shape: none is lost.
#[test]
fn the_largest_table_finds_every_tuple() {
    let drafts: Vec<_> = (0..MAX_RULES)
        .map(|rule| {
            let tuples = (0..MAX_TUPLES / MAX_RULES).map(|n| {
                let mut made = to_port(80);
                made.src_prefix = 32;
                let number = rule * (MAX_TUPLES / MAX_RULES) + n;
                made.src[..4].copy_from_slice(&number.to_be_bytes());
                made
            });
            let mut draft = by_tuples(&format!("r{rule}"), ACTION_DROP, tuples.collect());
            draft.code = vec![insn(RET | K, 1)];
            draft
        })
        .collect();
    let set = build(Parts::new(ACTION_PASS, &drafts).bytes());
    let mut frame = tcp(9, 80);
    for number in (0..MAX_TUPLES).step_by(7) {
        frame.bytes[26..30].copy_from_slice(&number.to_be_bytes());
        let rule = frame.with_view(|view| set.decide(view, None, |_| ()).rule);
        assert_eq!(rule, Some(number / (MAX_TUPLES / MAX_RULES)));
    }
    for number in (MAX_TUPLES..2 * MAX_TUPLES).step_by(7) {
        frame.bytes[26..30].copy_from_slice(&number.to_be_bytes());
        let rule = frame.with_view(|view| set.decide(view, None, |_| ()).rule);
        assert_eq!(rule, None);
    }
}

/// A rule that jumps over another is not stopped by what comes later.
#[test]
fn a_linear_rule_before_the_tuple_decides() {
    let short = vec![
        insn(LD | W | LEN, 0),
        jump(JMP | JGT | K, 59, 0, 1),
        insn(RET | K, 1),
        insn(RET | K, 0),
    ];
    let set = build(
        Parts::new(
            ACTION_PASS,
            &[
                Draft::linear("long", ACTION_DROP, short),
                by_tuples("web", ACTION_DIVERT, vec![to_port(80)]),
            ],
        )
        .bytes(),
    );
    let mut frame = tcp(9, 80);
    assert_eq!(says(&set, &frame).0.rule, Some(0));
    frame.bytes.truncate(59);
    (frame.captured, frame.prefix) = (59, 59);
    assert_eq!(says(&set, &frame).0.rule, Some(1));
}
