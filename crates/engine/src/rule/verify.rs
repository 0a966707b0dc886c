//! What a program has to be, checked before anything of it is used.
//!
//! Whoever sent it may lie about everything. Each check relies on those before
//! it; one pass over each part, so the time is bounded by the size.

use zerocopy::{FromBytes, Unalign};

use super::bpf::{SCRATCH_WORDS, op};
use super::error::{Counted, InsnFault, ProgramError, RuleFault, TupleFault};
use super::format::{
    ACTION_DROP, ACTION_PASS, CLASS_ARP, CLASS_IPV4, CLASS_IPV6, CLASS_RARP, DIRECTION_IN,
    DIRECTION_OUT, FIELD_DST_PORT, FIELD_PROTOCOL, FIELD_SRC_PORT, Insn, MAGIC, MAX_INSNS,
    MAX_LINEAR_INSNS, MAX_NAME, MAX_PROGRAM, MAX_RULE_INSNS, MAX_RULES, MAX_SHAPES, MAX_TEXT,
    MAX_TUPLES, MAX_TUPLES_PER_RULE, ProgramHeader, RuleEntry, TUPLE_CONFIRM, TupleEntry, VERSION,
};
use super::program::{Program, Shape, range};
use super::{Action, key};

pub(super) fn program(bytes: &[u8]) -> Result<Program<'_>, ProgramError> {
    let header = header(bytes)?;
    let program = Program::split(bytes).ok_or(ProgramError::TooShort { have: bytes.len() })?;
    if !matches!(header.default_action, ACTION_PASS | ACTION_DROP) {
        return Err(ProgramError::Default(header.default_action));
    }
    let text = core::str::from_utf8(program.text).map_err(|error| ProgramError::Text {
        at: error.valid_up_to(),
    })?;

    let mut used = Used::default();
    for (index, entry) in (0u32..).zip(program.rules) {
        used.rule(&program, text, index, &entry.get())?;
    }
    left_over(Counted::Tuples, used.tuples, header.tuple_count)?;
    left_over(Counted::Instructions, used.insns, header.insn_count)?;
    at_most(Counted::LinearInstructions, used.linear, MAX_LINEAR_INSNS)?;
    Ok(program)
}

fn header(bytes: &[u8]) -> Result<ProgramHeader, ProgramError> {
    let have = bytes.len();
    let (header, _) =
        ProgramHeader::read_from_prefix(bytes).map_err(|_| ProgramError::TooShort { have })?;
    if header.magic != MAGIC {
        return Err(ProgramError::Magic(header.magic));
    }
    if header.version != VERSION {
        return Err(ProgramError::Version(header.version));
    }
    let stated = header.size;
    if usize::try_from(stated).ok() != Some(have) {
        return Err(ProgramError::Size { stated, have });
    }
    at_most(Counted::ProgramBytes, stated, MAX_PROGRAM)?;
    at_most(Counted::Rules, header.rule_count, MAX_RULES)?;
    at_most(Counted::Tuples, header.tuple_count, MAX_TUPLES)?;
    at_most(Counted::Instructions, header.insn_count, MAX_INSNS)?;
    at_most(Counted::TextBytes, header.text_len, MAX_TEXT)?;
    let parts = size_of_all::<RuleEntry>(header.rule_count)
        .saturating_add(size_of_all::<TupleEntry>(header.tuple_count))
        .saturating_add(size_of_all::<Insn>(header.insn_count))
        .saturating_add(u64::from(header.text_len))
        .saturating_add(size_of_all::<ProgramHeader>(1));
    if parts != u64::from(stated) {
        return Err(ProgramError::Parts { stated, parts });
    }
    Ok(header)
}

fn size_of_all<T>(count: u32) -> u64 {
    u64::from(count).saturating_mul(u64::try_from(size_of::<T>()).unwrap_or(u64::MAX))
}

fn at_most(what: Counted, have: u32, most: u32) -> Result<(), ProgramError> {
    if have <= most {
        return Ok(());
    }
    let have = u64::from(have);
    Err(ProgramError::TooMany { what, have, most })
}

fn left_over(what: Counted, used: u32, have: u32) -> Result<(), ProgramError> {
    if used == have {
        return Ok(());
    }
    Err(ProgramError::Unused { what, used, have })
}

/// What the rules so far have used.
#[derive(Default)]
struct Used {
    tuples: u32,
    insns: u32,
    /// Instructions of linear rules.
    linear: u32,
    shapes: Shapes,
}

impl Used {
    fn rule(
        &mut self,
        program: &Program<'_>,
        text: &str,
        rule: u32,
        entry: &RuleEntry,
    ) -> Result<(), ProgramError> {
        let wrong = |fault| ProgramError::Rule { rule, fault };
        described(text, entry).map_err(wrong)?;

        if entry.insn_start != self.insns {
            return Err(wrong(RuleFault::CodeStart {
                stated: entry.insn_start,
                expected: self.insns,
            }));
        }
        let len = entry.insn_count;
        let code = range(program.insns, self.insns, len)
            .filter(|_| (1..=MAX_RULE_INSNS).contains(&len))
            .ok_or(wrong(RuleFault::CodeLen(len)))?;
        for (insn, at) in (0u32..).zip(code) {
            // Instructions that are left behind this one.
            let behind = len.saturating_sub(insn).saturating_sub(1);
            instruction(&at.get(), behind).map_err(|fault| ProgramError::Insn {
                rule,
                insn,
                fault,
            })?;
        }
        // Jumps go forward and stay inside: what falls off the end is all that
        // could be without a return.
        let ends = |last: &Unalign<Insn>| matches!(last.get().code, op::RET_K | op::RET_A);
        if !code.last().is_some_and(ends) {
            return Err(wrong(RuleFault::NoReturn));
        }
        self.insns = self.insns.saturating_add(len);

        if entry.tuple_start != self.tuples {
            return Err(wrong(RuleFault::TupleStart {
                stated: entry.tuple_start,
                expected: self.tuples,
            }));
        }
        let count = entry.tuple_count;
        let tuples = range(program.tuples, self.tuples, count)
            .filter(|_| count <= MAX_TUPLES_PER_RULE)
            .ok_or(wrong(RuleFault::TupleCount(count)))?;
        for (index, entry) in (0u32..).zip(tuples) {
            let entry = entry.get();
            tuple(&entry).map_err(|fault| ProgramError::Tuple {
                rule,
                tuple: index,
                fault,
            })?;
            self.shapes.add(Shape::of(&entry))?;
        }
        if count == 0 {
            self.linear = self.linear.saturating_add(len);
        }
        self.tuples = self.tuples.saturating_add(count);
        Ok(())
    }
}

/// Action, directions, name and expression.
fn described(text: &str, entry: &RuleEntry) -> Result<(), RuleFault> {
    if Action::from_format(entry.action).is_none() {
        return Err(RuleFault::Action(entry.action));
    }
    if entry.directions == 0 || entry.directions & !(DIRECTION_IN | DIRECTION_OUT) != 0 {
        return Err(RuleFault::Directions(entry.directions));
    }
    if entry.reserved != 0 {
        return Err(RuleFault::Reserved);
    }
    let name = part(text, entry.name_start, entry.name_len).ok_or(RuleFault::Name)?;
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.');
    if !(1..=MAX_NAME).contains(&entry.name_len) || !name.bytes().all(plain) {
        return Err(RuleFault::Name);
    }
    part(text, entry.expr_start, entry.expr_len).ok_or(RuleFault::Expression)?;
    Ok(())
}

fn part(text: &str, start: u32, len: u32) -> Option<&str> {
    let end = usize::try_from(start.checked_add(len)?).ok()?;
    text.get(usize::try_from(start).ok()?..end)
}

/// One instruction, with `behind` others behind it.
fn instruction(insn: &Insn, behind: u32) -> Result<(), InsnFault> {
    if insn.reserved != 0 {
        return Err(InsnFault::Reserved);
    }
    match insn.code {
        op::LD_W_ABS
        | op::LD_H_ABS
        | op::LD_B_ABS
        | op::LD_W_IND
        | op::LD_H_IND
        | op::LD_B_IND
        | op::LDX_MSH
        | op::LD_LEN
        | op::LDX_LEN
        | op::LD_IMM
        | op::LDX_IMM
        | op::ADD_K
        | op::SUB_K
        | op::MUL_K
        | op::AND_K
        | op::OR_K
        | op::XOR_K
        | op::LSH_K
        | op::RSH_K
        | op::ADD_X
        | op::SUB_X
        | op::MUL_X
        | op::DIV_X
        | op::MOD_X
        | op::AND_X
        | op::OR_X
        | op::XOR_X
        | op::LSH_X
        | op::RSH_X
        | op::NEG_A
        | op::TAX_
        | op::TXA_
        | op::RET_K
        | op::RET_A => Ok(()),
        op::DIV_K | op::MOD_K if insn.k == 0 => Err(InsnFault::DivideByZero),
        op::DIV_K | op::MOD_K => Ok(()),
        op::LD_MEM | op::LDX_MEM | op::ST_MEM | op::STX_MEM if insn.k < SCRATCH_WORDS => Ok(()),
        op::LD_MEM | op::LDX_MEM | op::ST_MEM | op::STX_MEM => Err(InsnFault::Scratch(insn.k)),
        op::JA_K => lands(insn.k, behind),
        op::JEQ_K
        | op::JGT_K
        | op::JGE_K
        | op::JSET_K
        | op::JEQ_X
        | op::JGT_X
        | op::JGE_X
        | op::JSET_X => lands(u32::from(insn.jt.max(insn.jf)), behind),
        code => Err(InsnFault::Code(code)),
    }
}

fn lands(by: u32, behind: u32) -> Result<(), InsnFault> {
    if by < behind {
        return Ok(());
    }
    Err(InsnFault::Jump)
}

fn tuple(entry: &TupleEntry) -> Result<(), TupleFault> {
    let (address_bits, fields) = match entry.class {
        CLASS_IPV4 => (32, FIELD_PROTOCOL | FIELD_SRC_PORT | FIELD_DST_PORT),
        CLASS_IPV6 => (128, FIELD_PROTOCOL | FIELD_SRC_PORT | FIELD_DST_PORT),
        CLASS_ARP | CLASS_RARP => (32, 0),
        class => return Err(TupleFault::Class(class)),
    };
    if entry.fields & !fields != 0 {
        return Err(TupleFault::Fields(entry.fields));
    }
    if entry.flags & !TUPLE_CONFIRM != 0 {
        return Err(TupleFault::Flags(entry.flags));
    }
    for prefix in [entry.src_prefix, entry.dst_prefix] {
        if prefix > address_bits {
            return Err(TupleFault::Prefix(prefix));
        }
    }
    let zero_unless = |field, value: u16| entry.fields & field != 0 || value == 0;
    let normal = entry.reserved == 0
        && zero_unless(FIELD_PROTOCOL, u16::from(entry.protocol))
        && zero_unless(FIELD_SRC_PORT, entry.src_port)
        && zero_unless(FIELD_DST_PORT, entry.dst_port)
        && key::is_masked(&entry.src, entry.src_prefix)
        && key::is_masked(&entry.dst, entry.dst_prefix);
    if normal {
        Ok(())
    } else {
        Err(TupleFault::NotNormal)
    }
}

/// The different shapes seen so far.
struct Shapes {
    seen: [u32; MAX_SHAPES as usize],
    count: usize,
}

impl Default for Shapes {
    fn default() -> Self {
        Shapes {
            seen: [0; MAX_SHAPES as usize],
            count: 0,
        }
    }
}

impl Shapes {
    fn add(&mut self, shape: Shape) -> Result<(), ProgramError> {
        // No shape is 0: no class is.
        let bits = shape.to_bits();
        let known = self.seen.iter().take(self.count);
        if known.clone().any(|seen| *seen == bits) {
            return Ok(());
        }
        let have = u64::from(MAX_SHAPES).saturating_add(1);
        let place = self.seen.get_mut(self.count).ok_or(ProgramError::TooMany {
            what: Counted::Shapes,
            have,
            most: MAX_SHAPES,
        })?;
        *place = bits;
        self.count = self.count.saturating_add(1);
        Ok(())
    }
}
