//! Rules to bytes: the format of `weir_engine::rule::format`, within its bounds.

use std::collections::{BTreeMap, BTreeSet};

use weir_engine::rule::format::{
    CLASS_IPV6, Insn, MAGIC, MAX_FRAME_INSNS, MAX_INSNS, MAX_LINEAR_INSNS, MAX_PROGRAM, MAX_SHAPES,
    MAX_TEXT, MAX_TUPLES, ProgramHeader, RuleEntry, TUPLE_CONFIRM, TupleEntry, VERSION,
};
use weir_engine::rule::{Counted, Program, ProgramError, RuleSet, Shape};
use zerocopy::IntoBytes;

use crate::tuples::{minimal, under};
use crate::{Action, Rule};

/// What a file has too much of.
pub(crate) struct Excess {
    pub(crate) message: String,
    /// The line it becomes too much at, where that is one.
    pub(crate) line: Option<u32>,
}

/// The program of rules.
pub(crate) fn build(rules: &[Rule], default_action: Action) -> Result<Vec<u8>, Excess> {
    let tuples = looked_up(rules);
    check_linear(rules, &tuples)?;
    let mut parts = Parts::default();
    for (rule, tuples) in rules.iter().zip(&tuples) {
        parts.add(rule, tuples)?;
    }
    let bytes = parts.bytes(default_action)?;
    verified(&bytes)
        .map(|()| bytes)
        .map_err(|error| excess(error, rules))
}

/// What the kernel does before it takes a program.
fn verified(bytes: &[u8]) -> Result<(), ProgramError> {
    let program = Program::verify(bytes)?;
    let index = vec![0u32; program.index_len()];
    RuleSet::build(bytes, index).map(drop)
}

fn excess(error: ProgramError, rules: &[Rule]) -> Excess {
    let message = match error {
        ProgramError::TooMany {
            what: Counted::FrameInstructions,
            have,
            ..
        } => format!(
            "one frame could make {have} instructions of these rules run, and at most \
             {MAX_FRAME_INSNS} may; many rules are looked up by the same fields and tell frames \
             apart by others: join such rules, or name addresses and ports in them"
        ),
        other => format!("the rules make no program: {other}"),
    };
    Excess {
        message,
        line: rules.last().map(|rule| rule.line),
    }
}

/// The tuples of each rule, with no more shapes and tuples together than a
/// program has. Where there are too many shapes, prefixes are cut to fewer
/// lengths; then the code tells apart what the look-up doesn't.
fn looked_up(rules: &[Rule]) -> Vec<Vec<TupleEntry>> {
    let mut all = Vec::new();
    for step in [1, 2, 4, 8] {
        all = rules
            .iter()
            .map(|rule| coarse(rule.expression.tuples(), step))
            .collect();
        if shapes(&all).len() <= MAX_SHAPES as usize {
            break;
        }
    }
    // What is left over is looked up nowhere, the rarest shape first.
    loop {
        let users = shapes(&all);
        if users.len() <= MAX_SHAPES as usize {
            break;
        }
        let rarest = users
            .values()
            .min_by_key(|rules| rules.len())
            .cloned()
            .unwrap_or_default();
        for rule in rarest {
            all[rule].clear();
        }
    }
    let mut count: usize = all.iter().map(Vec::len).sum();
    while count > MAX_TUPLES as usize {
        let Some(largest) = all.iter_mut().max_by_key(|tuples| tuples.len()) else {
            break;
        };
        count -= largest.len();
        largest.clear();
    }
    all
}

/// The rules that each shape is of.
fn shapes(all: &[Vec<TupleEntry>]) -> BTreeMap<Shape, BTreeSet<usize>> {
    let mut users: BTreeMap<Shape, BTreeSet<usize>> = BTreeMap::new();
    for (rule, tuples) in all.iter().enumerate() {
        for tuple in tuples {
            users.entry(Shape::of(tuple)).or_default().insert(rule);
        }
    }
    users
}

/// Tuples whose prefixes are whole addresses or of multiples of `step` bits.
fn coarse(tuples: &[TupleEntry], step: u8) -> Vec<TupleEntry> {
    let cut = |prefix: u8, class: u8| {
        let whole = if class == CLASS_IPV6 { 128 } else { 32 };
        if prefix == whole {
            prefix
        } else {
            prefix / step * step
        }
    };
    let cut_tuple = |tuple: &TupleEntry| {
        let src_prefix = cut(tuple.src_prefix, tuple.class);
        let dst_prefix = cut(tuple.dst_prefix, tuple.class);
        let shorter = (src_prefix, dst_prefix) != (tuple.src_prefix, tuple.dst_prefix);
        TupleEntry {
            src_prefix,
            dst_prefix,
            src: under(tuple.src, src_prefix),
            dst: under(tuple.dst, dst_prefix),
            flags: tuple.flags | if shorter { TUPLE_CONFIRM } else { 0 },
            ..*tuple
        }
    };
    minimal(tuples.iter().map(cut_tuple).collect())
}

fn check_linear(rules: &[Rule], tuples: &[Vec<TupleEntry>]) -> Result<(), Excess> {
    let mut linear = 0;
    for (rule, tuples) in rules.iter().zip(tuples) {
        if tuples.is_empty() {
            linear += rule.expression.code().len();
        }
        if linear > MAX_LINEAR_INSNS as usize {
            let message = format!(
                "up to this rule, those that name no address, port or protocol to look up take \
                 more than {MAX_LINEAR_INSNS} instructions, and all are run for each frame; join \
                 such rules, or add what can be looked up, as in tcp and …"
            );
            return Err(Excess {
                message,
                line: Some(rule.line),
            });
        }
    }
    Ok(())
}

#[derive(Default)]
struct Parts {
    rules: Vec<RuleEntry>,
    tuples: Vec<TupleEntry>,
    insns: Vec<Insn>,
    text: String,
}

fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

impl Parts {
    fn add(&mut self, rule: &Rule, tuples: &[TupleEntry]) -> Result<(), Excess> {
        let expression = rule.expression.text();
        let code = rule.expression.code();
        let name_start = number(self.text.len());
        self.text.push_str(&rule.name);
        let expr_start = number(self.text.len());
        self.text.push_str(expression);
        self.rules.push(RuleEntry {
            action: rule.action as u32,
            directions: rule.directions as u32,
            insn_start: number(self.insns.len()),
            insn_count: number(code.len()),
            tuple_start: number(self.tuples.len()),
            tuple_count: number(tuples.len()),
            name_start,
            name_len: number(rule.name.len()),
            expr_start,
            expr_len: number(expression.len()),
            line: rule.line,
            reserved: 0,
        });
        self.tuples.extend(tuples);
        self.insns.extend(code);
        for (what, have, most) in [
            ("instructions", self.insns.len(), MAX_INSNS),
            ("bytes of names and expressions", self.text.len(), MAX_TEXT),
        ] {
            if number(have) > most {
                let message = format!("up to this rule, the file has more than {most} {what}");
                return Err(Excess {
                    message,
                    line: Some(rule.line),
                });
            }
        }
        Ok(())
    }

    fn bytes(&self, default_action: Action) -> Result<Vec<u8>, Excess> {
        let size = size_of::<ProgramHeader>()
            + self.rules.as_bytes().len()
            + self.tuples.as_bytes().len()
            + self.insns.as_bytes().len()
            + self.text.len();
        if number(size) > MAX_PROGRAM {
            let message = format!("the program has {size} bytes, and at most {MAX_PROGRAM}");
            return Err(Excess {
                message,
                line: None,
            });
        }
        let header = ProgramHeader {
            magic: MAGIC,
            version: VERSION,
            size: number(size),
            default_action: default_action as u32,
            rule_count: number(self.rules.len()),
            tuple_count: number(self.tuples.len()),
            insn_count: number(self.insns.len()),
            text_len: number(self.text.len()),
        };
        let mut bytes = Vec::with_capacity(size);
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(self.rules.as_bytes());
        bytes.extend_from_slice(self.tuples.as_bytes());
        bytes.extend_from_slice(self.insns.as_bytes());
        bytes.extend_from_slice(self.text.as_bytes());
        Ok(bytes)
    }
}
