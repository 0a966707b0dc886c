//! Programs written by hand, for tests that need rules and no compiler.

use weir_engine::rule::Program as Verified;
use weir_engine::rule::RuleSet;
use weir_engine::rule::format::{Insn, MAGIC, ProgramHeader, RuleEntry, TupleEntry, VERSION};
use zerocopy::IntoBytes;

/// Rules in the making.
pub(crate) struct Program {
    default_action: u32,
    rules: Vec<RuleEntry>,
    tuples: Vec<TupleEntry>,
    insns: Vec<Insn>,
    text: Vec<u8>,
}

/// `ldh [k]`, `ldb [k]`, `jeq #k`, `ret #k` of libpcap's `bpf.h`.
const LDH: u16 = 0x28;
const LDB: u16 = 0x30;
const JEQ: u16 = 0x15;
const RET: u16 = 0x06;

impl Program {
    pub(crate) fn new(default_action: u32) -> Self {
        Self {
            default_action,
            rules: Vec::new(),
            tuples: Vec::new(),
            insns: Vec::new(),
            text: Vec::new(),
        }
    }

    /// A rule without tuples. Each test: an offset and the value there, 16 bits, but
    /// for IPv4's protocol at 23, a byte.
    pub(crate) fn linear(
        &mut self,
        name: &str,
        action: u32,
        directions: u32,
        tests: &[(u32, u32)],
    ) {
        self.rule(name, action, directions, tests, &[]);
    }

    pub(crate) fn rule(
        &mut self,
        name: &str,
        action: u32,
        directions: u32,
        tests: &[(u32, u32)],
        tuples: &[TupleEntry],
    ) {
        let number = |n: usize| u32::try_from(n).unwrap();
        let mut entry = RuleEntry {
            action,
            directions,
            insn_start: number(self.insns.len()),
            insn_count: 0,
            tuple_start: number(self.tuples.len()),
            tuple_count: number(tuples.len()),
            name_start: number(self.text.len()),
            name_len: number(name.len()),
            expr_start: number(self.text.len() + name.len()),
            expr_len: 0,
            line: number(self.rules.len() + 1),
            reserved: 0,
        };
        let insn = |code, jf, k| Insn {
            code,
            jt: 0,
            jf,
            reserved: 0,
            k,
        };
        let mut left = u16::try_from(tests.len()).unwrap() * 2;
        for &(at, value) in tests {
            let load = if at == 23 { LDB } else { LDH };
            left -= 2;
            self.insns.push(insn(load, 0, at));
            // To the last instruction, over the one that matches.
            self.insns.push(insn(JEQ, left + 1, value));
        }
        self.insns.push(insn(RET, 0, 1));
        if !tests.is_empty() {
            self.insns.push(insn(RET, 0, 0));
        }
        entry.insn_count = number(self.insns.len()) - entry.insn_start;
        self.text.extend(name.as_bytes());
        self.tuples.extend(tuples);
        self.rules.push(entry);
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let number = |n: usize| u32::try_from(n).unwrap();
        let mut header = ProgramHeader {
            magic: MAGIC,
            version: VERSION,
            size: 0,
            default_action: self.default_action,
            rule_count: number(self.rules.len()),
            tuple_count: number(self.tuples.len()),
            insn_count: number(self.insns.len()),
            text_len: number(self.text.len()),
        };
        let body = [
            self.rules.as_bytes(),
            self.tuples.as_bytes(),
            self.insns.as_bytes(),
            &self.text,
        ]
        .concat();
        header.size = number(size_of_val(&header) + body.len());
        [header.as_bytes(), &body].concat()
    }

    pub(crate) fn build(&self) -> RuleSet<Vec<u8>, Vec<u32>> {
        let bytes = self.bytes();
        let len = RuleSet::<Vec<u8>, Vec<u32>>::index_len(&Verified::verify(&bytes).unwrap());
        RuleSet::build(bytes, vec![0; len]).unwrap()
    }
}
