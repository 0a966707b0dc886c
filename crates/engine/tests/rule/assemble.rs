//! Programs by hand: rules with tuples and code, put together as bytes.

use weir_engine::rule::bpf::*;
use weir_engine::rule::format::*;
use weir_engine::rule::{Program, RuleSet};
use zerocopy::IntoBytes;

/// A rule to be.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) name: String,
    pub(crate) action: u32,
    pub(crate) directions: u32,
    pub(crate) code: Vec<Insn>,
    pub(crate) tuples: Vec<TupleEntry>,
}

impl Draft {
    pub(crate) fn linear(name: &str, action: u32, code: Vec<Insn>) -> Self {
        Draft {
            name: name.into(),
            action,
            directions: DIRECTION_IN | DIRECTION_OUT,
            code,
            tuples: Vec::new(),
        }
    }
}

/// The parts of a program, so that tests can spoil any of them.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pub(crate) header: ProgramHeader,
    pub(crate) rules: Vec<RuleEntry>,
    pub(crate) tuples: Vec<TupleEntry>,
    pub(crate) insns: Vec<Insn>,
    pub(crate) text: Vec<u8>,
}

impl Parts {
    pub(crate) fn new(default_action: u32, drafts: &[Draft]) -> Self {
        let mut parts = Parts {
            header: ProgramHeader {
                magic: MAGIC,
                version: VERSION,
                size: 0,
                default_action,
                rule_count: 0,
                tuple_count: 0,
                insn_count: 0,
                text_len: 0,
            },
            rules: Vec::new(),
            tuples: Vec::new(),
            insns: Vec::new(),
            text: Vec::new(),
        };
        for (line, draft) in (1..).zip(drafts) {
            let expression = format!("the expression of {}", draft.name);
            parts.rules.push(RuleEntry {
                action: draft.action,
                directions: draft.directions,
                insn_start: len(&parts.insns),
                insn_count: len(&draft.code),
                tuple_start: len(&parts.tuples),
                tuple_count: len(&draft.tuples),
                name_start: len(&parts.text),
                name_len: len(draft.name.as_bytes()),
                expr_start: len(&parts.text) + len(draft.name.as_bytes()),
                expr_len: len(expression.as_bytes()),
                line,
                reserved: 0,
            });
            parts.insns.extend(&draft.code);
            parts.tuples.extend(&draft.tuples);
            parts.text.extend(draft.name.as_bytes());
            parts.text.extend(expression.as_bytes());
        }
        parts
    }

    /// The bytes; the header counts what is there.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut header = self.header;
        header.rule_count = len(&self.rules);
        header.tuple_count = len(&self.tuples);
        header.insn_count = len(&self.insns);
        header.text_len = len(&self.text);
        let body = [
            self.rules.as_bytes(),
            self.tuples.as_bytes(),
            self.insns.as_bytes(),
            &self.text,
        ]
        .concat();
        header.size = u32::try_from(size_of::<ProgramHeader>() + body.len()).unwrap();
        [header.as_bytes(), &body].concat()
    }
}

fn len<T>(items: &[T]) -> u32 {
    items.len().try_into().unwrap()
}

pub(crate) fn build(bytes: Vec<u8>) -> RuleSet<Vec<u8>, Vec<u32>> {
    let words = Program::verify(&bytes).unwrap().index_len();
    // What the memory held before must not matter.
    RuleSet::build(bytes, vec![0xa5a5_a5a5; words]).unwrap()
}

pub(crate) fn insn(code: u16, k: u32) -> Insn {
    jump(code, k, 0, 0)
}

pub(crate) fn jump(code: u16, k: u32, jt: u16, jf: u16) -> Insn {
    let reserved = 0;
    Insn {
        code,
        jt,
        jf,
        reserved,
        k,
    }
}

/// A tuple of a class in which nothing counts.
pub(crate) fn tuple(class: u8) -> TupleEntry {
    TupleEntry {
        class,
        fields: 0,
        src_prefix: 0,
        dst_prefix: 0,
        protocol: 0,
        flags: 0,
        src_port: 0,
        dst_port: 0,
        reserved: 0,
        src: [0; 16],
        dst: [0; 16],
    }
}

/// One test of the code of a tuple: loads, and what the last one must be.
enum Check {
    Equal(Vec<Insn>, u32),
    AnyOf(Vec<Insn>, Vec<u32>),
    NoBits(Vec<Insn>, u32),
}

/// Code that matches what any of the tuples does, and besides, where `also` is
/// given, has one of its bits in the byte there.
pub(crate) fn code_of(
    tuples: &[TupleEntry],
    also: Option<(u32, u32)>,
    backwards: bool,
) -> Vec<Insn> {
    let mut code = Vec::new();
    for tuple in tuples {
        let mut checks = checks_of(tuple, backwards);
        if let Some((at, bits)) = also {
            checks.push(Check::NoBits(
                // 1 when none of the bits is there.
                vec![
                    insn(LD | B | ABS, at),
                    jump(JMP | JSET | K, bits, 1, 0),
                    jump(JMP | JA, 1, 0, 0),
                    jump(JMP | JA, 1, 0, 0),
                    insn(LD | IMM, 1),
                    jump(JMP | JEQ | K, 1, 1, 0),
                    insn(LD | IMM, 0),
                ],
                1,
            ));
        }
        // Each check fails by jumping to the code of the next tuple.
        let mut blocks: Vec<Vec<Insn>> = Vec::new();
        for check in checks {
            let mut block = Vec::new();
            let (mut loads, values, bits) = match check {
                Check::Equal(loads, value) => (loads, vec![value], 0),
                Check::AnyOf(loads, values) => (loads, values, 0),
                Check::NoBits(loads, bits) => (loads, Vec::new(), bits),
            };
            block.append(&mut loads);
            let count = u16::try_from(values.len()).unwrap();
            for (at, value) in (1..).zip(values) {
                // Past the values left and the failing jump.
                block.push(jump(JMP | JEQ | K, value, count - at + 1, 0));
            }
            if bits != 0 {
                block.push(jump(JMP | JSET | K, bits, 0, 1));
            }
            // The failing jump; its distance is filled in below.
            block.push(insn(JMP | JA, 0));
            blocks.push(block);
        }
        let total: usize = blocks.iter().map(Vec::len).sum::<usize>() + 1;
        let mut done = 0;
        for mut block in blocks {
            done += block.len();
            block.last_mut().unwrap().k = u32::try_from(total - done).unwrap();
            code.append(&mut block);
        }
        code.push(insn(RET | K, 0x4_0000));
    }
    code.push(insn(RET | K, 0));
    code
}

fn checks_of(tuple: &TupleEntry, backwards: bool) -> Vec<Check> {
    let (ethertype, source, destination, words, protocol_at) = match tuple.class {
        CLASS_IPV4 => (0x0800, 26, 30, 1, 23),
        CLASS_IPV6 => (0x86dd, 22, 38, 4, 20),
        CLASS_ARP => (0x0806, 28, 38, 1, 0),
        CLASS_RARP => (0x8035, 28, 38, 1, 0),
        other => panic!("class {other}"),
    };
    let load = |size: u16, at: u32| vec![insn(LD | size | ABS, at)];
    let mut middle = Vec::new();
    for (at, prefix, address) in [
        (source, tuple.src_prefix, tuple.src),
        (destination, tuple.dst_prefix, tuple.dst),
    ] {
        for word in 0..words {
            let bits = u32::from(prefix).saturating_sub(32 * word).min(32);
            if bits == 0 {
                continue;
            }
            let start = usize::try_from(word * 4).unwrap();
            let value = u32::from_be_bytes(address[start..start + 4].try_into().unwrap());
            let mut loads = load(W, at + 4 * word);
            if bits < 32 {
                loads.push(insn(ALU | AND | K, !(u32::MAX >> bits)));
            }
            middle.push(Check::Equal(loads, value));
        }
    }
    if tuple.fields & FIELD_PROTOCOL != 0 {
        middle.push(Check::Equal(load(B, protocol_at), tuple.protocol.into()));
    }
    if backwards {
        middle.reverse();
    }
    let mut checks = vec![Check::Equal(load(H, 12), ethertype)];
    checks.append(&mut middle);
    if tuple.fields & (FIELD_SRC_PORT | FIELD_DST_PORT) != 0 {
        checks.push(Check::AnyOf(load(B, protocol_at), vec![6, 17, 132]));
        let mut base = Vec::new();
        if tuple.class == CLASS_IPV4 {
            let mut loads = load(H, 20);
            loads.push(insn(ALU | AND | K, 0x1fff));
            checks.push(Check::Equal(loads, 0));
            base.push(insn(LDX | B | MSH, 14));
        } else {
            base.push(insn(LDX | IMM, 40));
        }
        for (field, at, port) in [
            (FIELD_SRC_PORT, 14, tuple.src_port),
            (FIELD_DST_PORT, 16, tuple.dst_port),
        ] {
            if tuple.fields & field != 0 {
                let loads = [base.clone(), vec![insn(LD | H | IND, at)]].concat();
                checks.push(Check::Equal(loads, port.into()));
            }
        }
    }
    checks
}
