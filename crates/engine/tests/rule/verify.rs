//! What is no program is refused, saying what is wrong and where; what is one,
//! however wicked, does no harm.

use proptest::prelude::*;
use weir_engine::rule::bpf::*;
use weir_engine::rule::format::*;
use weir_engine::rule::{
    Action, Counted, InsnFault, Program, ProgramError, RuleFault, RuleSet, TupleFault, View,
};

use super::assemble::{Draft, Parts, build, code_of, insn, jump, tuple};
use super::frames::frame;

fn source_net() -> TupleEntry {
    let mut made = tuple(CLASS_IPV4);
    made.src_prefix = 8;
    made.src[0] = 10;
    made
}

fn web() -> TupleEntry {
    let mut made = tuple(CLASS_IPV6);
    made.fields = FIELD_PROTOCOL | FIELD_DST_PORT;
    made.protocol = 6;
    made.dst_port = 80;
    made.dst_prefix = 128;
    made.dst = [0xfd; 16];
    made
}

/// Three rules: one by a tuple, one linear, one by two tuples.
fn good() -> Parts {
    let by_tuples = |name: &str, tuples: Vec<TupleEntry>| Draft {
        code: code_of(&tuples, None, false),
        tuples,
        ..Draft::linear(name, ACTION_DROP, Vec::new())
    };
    Parts::new(
        ACTION_PASS,
        &[
            by_tuples("net", vec![source_net()]),
            Draft::linear("all", ACTION_LOG, vec![insn(RET | K, 1)]),
            by_tuples("web.6", vec![web(), source_net()]),
        ],
    )
}

fn refused(bytes: &[u8]) -> ProgramError {
    Program::verify(bytes).expect_err("no program")
}

fn spoiled(spoil: impl FnOnce(&mut Parts)) -> ProgramError {
    let mut parts = good();
    spoil(&mut parts);
    refused(&parts.bytes())
}

fn rule(rule: u32, fault: RuleFault) -> ProgramError {
    ProgramError::Rule { rule, fault }
}

#[test]
fn a_good_program_tells_what_is_in_it() {
    let bytes = good().bytes();
    let program = Program::verify(&bytes).unwrap();
    assert_eq!(program.default_action(), Action::Pass);
    assert_eq!((program.rule_count(), program.tuple_count()), (3, 3));
    assert_eq!(program.size() as usize, bytes.len());
    assert_eq!(program.name(2), Some("web.6"));
    assert_eq!(program.expression(1), Some("the expression of all"));
    assert_eq!(program.name(3), None);
    let rules: Vec<_> = program.rules().collect();
    assert_eq!(rules[1].action(), Action::Log);
    assert_eq!(rules[2].line(), 3);
    assert_eq!(rules[2].tuples().collect::<Vec<_>>(), [web(), source_net()]);
    assert!(rules[1].is_linear() && !rules[0].is_linear());
    // From any address: a request may carry it anywhere.
    let mut shifted = vec![0];
    shifted.extend(&bytes);
    Program::verify(&shifted[1..]).unwrap();
}

#[test]
fn the_header_is_checked() {
    assert_eq!(refused(&[]), ProgramError::TooShort { have: 0 });
    assert_eq!(refused(&[0; 31]), ProgramError::TooShort { have: 31 });
    assert_eq!(refused(&[0; 32]), ProgramError::Magic(0));
    assert_eq!(spoiled(|p| p.header.version = 2), ProgramError::Version(2));
    for action in [ACTION_DIVERT, ACTION_LOG, ACTION_COUNT, 5, u32::MAX] {
        assert_eq!(
            spoiled(|p| p.header.default_action = action),
            ProgramError::Default(action)
        );
    }
}

/// Offsets of `u32`s in the header.
const SIZE: usize = 8;
const RULES: usize = 16;
const TUPLES: usize = 20;
const INSNS: usize = 24;
const TEXT: usize = 28;

fn header_says(at: usize, value: u32) -> ProgramError {
    let mut bytes = good().bytes();
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    refused(&bytes)
}

#[test]
fn sizes_and_counts_are_those_of_the_bytes() {
    let bytes = good().bytes();
    let have = bytes.len();
    let size = u32::try_from(have).unwrap();
    for stated in [0, 31, size - 1, size + 1, u32::MAX] {
        let expected = ProgramError::Size { stated, have };
        assert_eq!(header_says(SIZE, stated), expected);
    }
    for (at, what, most) in [
        (RULES, Counted::Rules, MAX_RULES),
        (TUPLES, Counted::Tuples, MAX_TUPLES),
        (INSNS, Counted::Instructions, MAX_INSNS),
        (TEXT, Counted::TextBytes, MAX_TEXT),
    ] {
        for value in [most + 1, u32::MAX] {
            let have = u64::from(value);
            let expected = ProgramError::TooMany { what, have, most };
            assert_eq!(header_says(at, value), expected);
        }
        let error = header_says(at, most);
        assert!(matches!(error, ProgramError::Parts { stated, .. } if stated == size));
        let error = header_says(at, 0);
        assert!(matches!(error, ProgramError::Parts { stated, .. } if stated == size));
    }
    for len in 0..have {
        Program::verify(&bytes[..len]).expect_err("cut");
    }
    let long = [&bytes[..], &[0]].concat();
    let have = have + 1;
    assert_eq!(refused(&long), ProgramError::Size { stated: size, have });
}

#[test]
fn a_program_may_not_be_larger_than_all_its_parts_may_be() {
    let mut bytes = good().bytes();
    bytes.resize(MAX_PROGRAM as usize + 1, 0);
    let size = u32::try_from(bytes.len()).unwrap();
    bytes[SIZE..SIZE + 4].copy_from_slice(&size.to_le_bytes());
    let expected = ProgramError::TooMany {
        what: Counted::ProgramBytes,
        have: size.into(),
        most: MAX_PROGRAM,
    };
    assert_eq!(refused(&bytes), expected);
}

#[test]
fn text_names_and_expressions_are_checked() {
    let mut at = 0;
    let error = spoiled(|p| {
        at = p.text.len();
        p.text.extend([0xc3, 0x28]);
    });
    assert_eq!(error, ProgramError::Text { at });

    let name =
        |start, len| spoiled(|p| (p.rules[1].name_start, p.rules[1].name_len) = (start, len));
    let wrong = rule(1, RuleFault::Name);
    assert_eq!(name(0, 0), wrong);
    assert_eq!(name(0, MAX_NAME + 1), wrong);
    assert_eq!(name(0, 7), wrong); // "netthe ", whose last is no letter
    assert_eq!(name(10_000, 1), wrong);
    assert_eq!(name(u32::MAX, u32::MAX), wrong);

    let expression = |start, len| {
        spoiled(|p| {
            p.text.extend("é".as_bytes());
            (p.rules[2].expr_start, p.rules[2].expr_len) = (start, len);
        })
    };
    let wrong = rule(2, RuleFault::Expression);
    let end = u32::try_from(good().text.len()).unwrap();
    assert_eq!(expression(end + 2, 1), wrong);
    assert_eq!(expression(end, 1), wrong); // half of the é
    assert_eq!(expression(end + 1, 1), wrong);
    assert_eq!(expression(u32::MAX, 2), wrong);
}

#[test]
fn two_rules_of_one_name_are_refused_when_the_index_is_built() {
    let all = |name| Draft::linear(name, ACTION_DROP, vec![insn(RET | K, 1)]);
    let drafts = ["b", "x", "a", "x", "b"].map(all);
    let bytes = Parts::new(ACTION_PASS, &drafts).bytes();
    let words = Program::verify(&bytes).unwrap().index_len();
    let error = RuleSet::build(bytes, vec![0; words]).unwrap_err();
    assert_eq!(error, rule(3, RuleFault::NameTaken { by: 1 }));
}

#[test]
fn rules_are_checked() {
    let spoiled_rule = |spoil: fn(&mut RuleEntry)| spoiled(|p| spoil(&mut p.rules[1]));
    let is = |fault| rule(1, fault);
    assert_eq!(spoiled_rule(|r| r.action = 5), is(RuleFault::Action(5)));
    for directions in [0, 4, 7] {
        let error = spoiled(|p| p.rules[1].directions = directions);
        assert_eq!(error, is(RuleFault::Directions(directions)));
    }
    assert_eq!(spoiled_rule(|r| r.reserved = 1), is(RuleFault::Reserved));
    assert_eq!(
        spoiled_rule(|r| r.insn_count = 0),
        is(RuleFault::CodeLen(0))
    );
    let fault = RuleFault::CodeLen(u32::MAX);
    assert_eq!(spoiled_rule(|r| r.insn_count = u32::MAX), is(fault));
    let fault = RuleFault::TupleCount(65);
    assert_eq!(spoiled_rule(|r| r.tuple_count = 65), is(fault));
    // The third rule doesn't find its own any more.
    let error = spoiled_rule(|r| r.tuple_count = 1);
    assert!(matches!(
        error,
        ProgramError::Rule {
            rule: 2,
            fault: RuleFault::TupleStart {
                stated: 1,
                expected: 2
            }
        }
    ));
    let error = spoiled_rule(|r| r.insn_start = 0);
    assert!(matches!(
        error,
        ProgramError::Rule {
            rule: 1,
            fault: RuleFault::CodeStart { stated: 0, .. }
        }
    ));
    assert!(matches!(
        spoiled(|p| p.insns.push(insn(RET | K, 0))),
        ProgramError::Unused {
            what: Counted::Instructions,
            ..
        }
    ));
    assert_eq!(
        spoiled(|p| p.tuples.push(source_net())),
        ProgramError::Unused {
            what: Counted::Tuples,
            used: 3,
            have: 4
        }
    );
}

fn code(code: Vec<Insn>) -> Result<(), ProgramError> {
    let draft = Draft::linear("r", ACTION_DROP, code);
    Program::verify(&Parts::new(ACTION_PASS, &[draft]).bytes()).map(|_| ())
}

fn insn_error(insn: u32, fault: InsnFault) -> Result<(), ProgramError> {
    Err(ProgramError::Insn {
        rule: 0,
        insn,
        fault,
    })
}

#[test]
fn jumps_stay_in_the_rule() {
    let ret = insn(RET | K, 0);
    let out = |at| insn_error(at, InsnFault::Jump);
    assert_eq!(code(vec![insn(JMP | JA, 0), ret]), Ok(()));
    assert_eq!(code(vec![insn(JMP | JA, 1), ret]), out(0));
    assert_eq!(code(vec![insn(JMP | JA, u32::MAX), ret]), out(0));
    for op in [JEQ, JGT, JGE, JSET] {
        for operand in [K, X] {
            let op = JMP | op | operand;
            assert_eq!(code(vec![jump(op, 0, 1, 1), ret, ret]), Ok(()));
            assert_eq!(code(vec![ret, jump(op, 0, 1, 0), ret]), out(1));
            assert_eq!(code(vec![ret, jump(op, 0, 0, 1), ret]), out(1));
            assert_eq!(code(vec![jump(op, 0, u16::MAX, 0), ret]), out(0));
        }
    }
    // The last instruction has nothing to jump to.
    assert_eq!(code(vec![ret, insn(JMP | JA, 0)]), out(1));
    let no_return = Err(rule(0, RuleFault::NoReturn));
    assert_eq!(code(vec![ret, insn(LD | IMM, 0)]), no_return);
}

#[test]
fn operations_are_those_of_the_machine() {
    let ret = insn(RET | K, 0);
    for op in (0..0x200).chain([0x8006, u16::MAX]) {
        let result = code(vec![insn(op, 1), ret, ret, ret]);
        let known = result != insn_error(0, InsnFault::Code(op));
        assert!(!known || op < 0x100, "{op:#x}");
        let libpcaps = matches!(
            op,
            0x06 | 0x16 // ret
            | 0x00 | 0x01 | 0x20 | 0x28 | 0x30 | 0x40 | 0x48 | 0x50 | 0x60 | 0x61 | 0x80 | 0x81
            | 0xb1 | 0x02 | 0x03 // loads and stores
            | 0x04 | 0x14 | 0x24 | 0x34 | 0x44 | 0x54 | 0x64 | 0x74 | 0x84 | 0x94 | 0xa4
            | 0x0c | 0x1c | 0x2c | 0x3c | 0x4c | 0x5c | 0x6c | 0x7c | 0x9c | 0xac // arithmetic
            | 0x05 | 0x15 | 0x25 | 0x35 | 0x45 | 0x1d | 0x2d | 0x3d | 0x4d // jumps
            | 0x07 | 0x87 // between registers
        );
        assert_eq!(known, libpcaps, "{op:#x}");
    }
    for op in [LD | MEM, LDX | MEM, ST, STX] {
        assert_eq!(code(vec![insn(op, 15), ret]), Ok(()));
        for k in [16, u32::MAX] {
            let expected = insn_error(0, InsnFault::Scratch(k));
            assert_eq!(code(vec![insn(op, k), ret]), expected);
        }
    }
    for op in [ALU | DIV | K, ALU | MOD | K] {
        let expected = insn_error(1, InsnFault::DivideByZero);
        assert_eq!(code(vec![ret, insn(op, 0), ret]), expected);
    }
    let mut reserved = ret;
    reserved.reserved = 1;
    let expected = insn_error(0, InsnFault::Reserved);
    assert_eq!(code(vec![reserved, ret]), expected);
}

#[test]
fn tuples_are_in_their_normal_form() {
    let of = |spoil: &dyn Fn(&mut TupleEntry)| spoiled(|p| spoil(&mut p.tuples[2]));
    let is = |fault| ProgramError::Tuple {
        rule: 2,
        tuple: 1,
        fault,
    };
    for class in [0, 5, 10, 255] {
        assert_eq!(of(&|t| t.class = class), is(TupleFault::Class(class)));
    }
    assert_eq!(of(&|t| t.fields = 8), is(TupleFault::Fields(8)));
    for class in [CLASS_ARP, CLASS_RARP] {
        let error = of(&|t| (t.class, t.fields) = (class, FIELD_PROTOCOL));
        assert_eq!(error, is(TupleFault::Fields(FIELD_PROTOCOL)));
    }
    assert_eq!(of(&|t| t.flags = 2), is(TupleFault::Flags(2)));
    assert_eq!(of(&|t| t.dst_prefix = 33), is(TupleFault::Prefix(33)));
    let six = of(&|t| (t.class, t.src_prefix) = (CLASS_IPV6, 129));
    assert_eq!(six, is(TupleFault::Prefix(129)));
    let unclean: [&dyn Fn(&mut TupleEntry); 7] = [
        &|t| t.protocol = 6,
        &|t| t.src_port = 1,
        &|t| t.dst_port = 1,
        &|t| t.reserved = 1,
        &|t| t.src[1] = 1,
        &|t| t.src[4] = 1,
        &|t| t.dst[0] = 0x80,
    ];
    for spoil in unclean {
        assert_eq!(of(spoil), is(TupleFault::NotNormal));
    }
}

#[test]
fn what_one_frame_can_cost_is_bounded() {
    // Linear rules: 17 of the longest are more than a frame may run.
    let longest = || vec![insn(RET | K, 0); MAX_RULE_INSNS as usize];
    let linear = |count: u32| {
        let drafts: Vec<_> = (0..count)
            .map(|n| Draft::linear(&format!("r{n}"), ACTION_DROP, longest()))
            .collect();
        Parts::new(ACTION_PASS, &drafts).bytes()
    };
    let most = MAX_LINEAR_INSNS / MAX_RULE_INSNS;
    build(linear(most));
    assert!(matches!(
        refused(&linear(most + 1)),
        ProgramError::TooMany {
            what: Counted::LinearInstructions,
            most: MAX_LINEAR_INSNS,
            ..
        }
    ));
    // Rules that one look-up finds: a frame could have to run them all.
    let one_run = |count: u32| {
        let drafts: Vec<_> = (0..count)
            .map(|n| Draft {
                tuples: vec![source_net()],
                ..Draft::linear(&format!("r{n}"), ACTION_DROP, longest())
            })
            .collect();
        let bytes = Parts::new(ACTION_PASS, &drafts).bytes();
        let words = Program::verify(&bytes).unwrap().index_len();
        RuleSet::build(bytes, vec![0; words]).map(|_| ())
    };
    let most = MAX_FRAME_INSNS / MAX_RULE_INSNS;
    assert_eq!(one_run(most), Ok(()));
    let expected = ProgramError::TooMany {
        what: Counted::FrameInstructions,
        have: u64::from((most + 1) * MAX_RULE_INSNS),
        most: MAX_FRAME_INSNS,
    };
    assert_eq!(one_run(most + 1), Err(expected));
}

#[test]
fn shapes_are_bounded() {
    let of = |count: u8| {
        let tuples: Vec<_> = (0..count)
            .map(|prefix| {
                let mut made = tuple(CLASS_IPV6);
                made.src_prefix = prefix;
                made
            })
            .collect();
        let drafts = (0..)
            .zip(tuples.chunks(64))
            .map(|(n, chunk): (u32, _)| Draft {
                tuples: chunk.to_vec(),
                ..Draft::linear(&format!("r{n}"), ACTION_DROP, vec![insn(RET | K, 1)])
            });
        Parts::new(ACTION_PASS, &drafts.collect::<Vec<_>>()).bytes()
    };
    build(of(64));
    let expected = ProgramError::TooMany {
        what: Counted::Shapes,
        have: 65,
        most: MAX_SHAPES,
    };
    assert_eq!(refused(&of(65)), expected);
}

#[test]
fn too_little_memory_for_the_index_is_told() {
    let bytes = good().bytes();
    let need = Program::verify(&bytes).unwrap().index_len();
    for have in [0, 1, need - 1] {
        let error = RuleSet::build(bytes.clone(), vec![0; have]).unwrap_err();
        assert_eq!(error, ProgramError::Memory { have, need });
    }
    RuleSet::build(bytes, vec![0; need + 1]).unwrap();
}

#[test]
fn errors_say_where() {
    let error = spoiled(|p| p.insns.last_mut().unwrap().code = 0xff);
    let last = good().rules[2].insn_count - 1;
    let text = format!("rule 2, instruction {last}: no operation has the code 0x00ff");
    assert_eq!(error.to_string(), text);
    let error = spoiled(|p| p.tuples[0].class = 7);
    assert_eq!(
        error.to_string(),
        "rule 0, tuple 0: no class has the number 7"
    );
}

/// Whatever verification lets through can be built and asked, or is refused
/// when it is built.
fn use_it(bytes: Vec<u8>, frames: &[super::frames::Frame]) -> bool {
    let Ok(program) = Program::verify(&bytes) else {
        return false;
    };
    let words = program.index_len();
    let count = program.rule_count();
    let Ok(set) = RuleSet::build(bytes, vec![0; words]) else {
        return false;
    };
    for frame in frames {
        let ask = |view: &View<'_>| {
            let mut last = None;
            let decision = set.decide(view, None, |rule| {
                assert!(rule < count && last.is_none_or(|last| last < rule));
                last = Some(rule);
            });
            assert!(decision.action.is_terminal());
        };
        frame.with_view(ask);
    }
    true
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 4_000 }))]
    #[test]
    fn a_spoiled_program_is_refused_or_harmless(
        spoils in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        frames in proptest::collection::vec(frame(), 1..8),
    ) {
        let mut bytes = good().bytes();
        for (at, value) in &spoils {
            let at = at.index(bytes.len());
            bytes[at] = *value;
        }
        use_it(bytes, &frames);
    }

    /// Tuples and code that contradict each other are no harm either.
    #[test]
    fn a_program_that_lies_is_harmless(
        spoils in proptest::collection::vec((any::<prop::sample::Index>(), any::<u32>()), 0..6),
        frames in proptest::collection::vec(frame(), 1..8),
    ) {
        let mut parts = good();
        for (at, value) in &spoils {
            let [a, b, ..] = value.to_le_bytes();
            let tuple = at.get(&parts.tuples);
            let at = parts.tuples.iter().position(|other| other == tuple).unwrap();
            let tuple = &mut parts.tuples[at];
            match value >> 24 & 3 {
                0 => (tuple.fields, tuple.protocol) = (tuple.fields | FIELD_PROTOCOL, a),
                1 => tuple.flags ^= TUPLE_CONFIRM,
                2 => (tuple.src_prefix, tuple.src) = (8, [b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
                _ => {
                    let insn = at % parts.insns.len();
                    parts.insns[insn].k = u32::from(a);
                }
            }
        }
        use_it(parts.bytes(), &frames);
    }

    #[test]
    fn any_bytes_behind_a_header_are_refused_or_harmless(
        counts in (0u32..4, 0u32..4, 0u32..12),
        body in proptest::collection::vec(prop_oneof![3 => Just(0u8), 1 => any::<u8>()], 600),
        frames in proptest::collection::vec(frame(), 1..4),
    ) {
        let mut parts = Parts::new(ACTION_PASS, &[]);
        parts.text = body;
        let mut bytes = parts.bytes();
        let (rules, tuples, insns) = counts;
        let text = 600 - rules * 48 - tuples * 44 - insns * 12;
        for (at, value) in [(RULES, rules), (TUPLES, tuples), (INSNS, insns), (TEXT, text)] {
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        use_it(bytes, &frames);
    }
}
