//! A program that was verified, and its parts.

use zerocopy::{FromBytes, Unalign};

use super::bpf;
use super::error::ProgramError;
use super::format::{
    ACTION_PASS, FIELD_DST_PORT, FIELD_SRC_PORT, Insn, MAGIC, ProgramHeader, RuleEntry,
    TUPLE_CONFIRM, TupleEntry, VERSION,
};
use super::index::Sizes;
use super::verify;
use super::view::View;
use super::{Action, direction_bits};
use weir_abi::Direction;

/// A verified program: a view of its bytes.
#[derive(Clone, Copy)]
pub struct Program<'a> {
    pub(super) header: ProgramHeader,
    pub(super) rules: &'a [Unalign<RuleEntry>],
    pub(super) tuples: &'a [Unalign<TupleEntry>],
    pub(super) insns: &'a [Unalign<Insn>],
    pub(super) text: &'a [u8],
}

impl core::fmt::Debug for Program<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.header.fmt(f)
    }
}

impl<'a> Program<'a> {
    /// No rules; everything passes.
    pub(super) const EMPTY: Self = Program {
        header: ProgramHeader {
            magic: MAGIC,
            version: VERSION,
            size: size_of::<ProgramHeader>() as u32,
            default_action: ACTION_PASS,
            rule_count: 0,
            tuple_count: 0,
            insn_count: 0,
            text_len: 0,
        },
        rules: &[],
        tuples: &[],
        insns: &[],
        text: &[],
    };

    /// Checks `bytes` from end to end, in a time that grows with their number
    /// alone. What is left to [`RuleSet::build`](super::RuleSet::build), which has
    /// memory to sort in: that no two rules have one name, and that one frame
    /// can't make more than
    /// [`MAX_FRAME_INSNS`](super::format::MAX_FRAME_INSNS) instructions run.
    ///
    /// # Errors
    /// The first thing that is wrong, and where.
    pub fn verify(bytes: &'a [u8]) -> Result<Self, ProgramError> {
        verify::program(bytes)
    }

    /// The parts of `bytes`, not looked into. `None` if they aren't there.
    #[inline]
    pub(super) fn split(bytes: &'a [u8]) -> Option<Self> {
        let (header, rest) = ProgramHeader::read_from_prefix(bytes).ok()?;
        let (rules, rest) = part(rest, header.rule_count)?;
        let (tuples, rest) = part(rest, header.tuple_count)?;
        let (insns, rest) = part(rest, header.insn_count)?;
        let text = rest.get(..usize::try_from(header.text_len).ok()?)?;
        Some(Program {
            header,
            rules,
            tuples,
            insns,
            text,
        })
    }

    /// How many rules there are.
    #[must_use]
    pub const fn rule_count(&self) -> u32 {
        self.header.rule_count
    }

    /// How many tuples all rules have.
    #[must_use]
    pub const fn tuple_count(&self) -> u32 {
        self.header.tuple_count
    }

    /// How many instructions all rules have.
    #[must_use]
    pub const fn insn_count(&self) -> u32 {
        self.header.insn_count
    }

    /// Bytes of the program.
    #[must_use]
    pub const fn size(&self) -> u32 {
        self.header.size
    }

    /// What happens to frames no rule decides on: pass or drop.
    #[must_use]
    pub const fn default_action(&self) -> Action {
        match Action::from_format(self.header.default_action) {
            Some(action) => action,
            None => Action::Pass,
        }
    }

    /// Words of 32 bits that its index needs, for
    /// [`RuleSet::build`](super::RuleSet::build).
    #[must_use]
    pub fn index_len(&self) -> usize {
        Sizes::of(self).total()
    }

    /// The rule with this index.
    #[must_use]
    pub fn rule(&self, index: u32) -> Option<Rule<'a>> {
        let entry = self.rules.get(usize::try_from(index).ok()?)?.get();
        Some(Rule {
            index,
            entry,
            program: *self,
        })
    }

    /// The rules, in order.
    pub fn rules(&self) -> impl Iterator<Item = Rule<'a>> + use<'a> {
        let program = *self;
        (0..self.rule_count()).map_while(move |index| program.rule(index))
    }

    /// The name of a rule.
    #[must_use]
    pub fn name(&self, index: u32) -> Option<&'a str> {
        self.rule(index).map(|rule| rule.name())
    }

    /// The expression of a rule, as it was written.
    #[must_use]
    pub fn expression(&self, index: u32) -> Option<&'a str> {
        self.rule(index).map(|rule| rule.expression())
    }

    pub(super) fn tuple(&self, index: u32) -> Option<TupleEntry> {
        let tuple = self.tuples.get(usize::try_from(index).ok()?)?;
        Some(tuple.get())
    }

    pub(super) fn text(&self, start: u32, len: u32) -> Option<&'a str> {
        core::str::from_utf8(range(self.text, start, len)?).ok()
    }
}

/// The first `count` elements in `bytes`, and the bytes behind them.
#[inline]
fn part<T>(bytes: &[u8], count: u32) -> Option<(&[Unalign<T>], &[u8])>
where
    Unalign<T>: FromBytes + zerocopy::Immutable + zerocopy::KnownLayout,
{
    <[Unalign<T>]>::ref_from_prefix_with_elems(bytes, usize::try_from(count).ok()?).ok()
}

/// `len` elements from `start` on.
pub(super) fn range<T>(all: &[T], start: u32, len: u32) -> Option<&[T]> {
    let end = usize::try_from(start.checked_add(len)?).ok()?;
    all.get(usize::try_from(start).ok()?..end)
}

/// One rule of a verified program.
#[derive(Clone, Copy, Debug)]
pub struct Rule<'a> {
    index: u32,
    entry: RuleEntry,
    program: Program<'a>,
}

impl<'a> Rule<'a> {
    /// Its place among the rules, from 0.
    #[must_use]
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// What it does.
    #[must_use]
    pub const fn action(&self) -> Action {
        match Action::from_format(self.entry.action) {
            Some(action) => action,
            None => Action::Count,
        }
    }

    /// `format::DIRECTION_*`: on which frames it is tried.
    #[must_use]
    pub const fn directions(&self) -> u32 {
        self.entry.directions
    }

    /// Whether it is tried on a frame of this direction; on one of unknown
    /// direction every rule is.
    #[must_use]
    pub const fn applies_to(&self, direction: Option<Direction>) -> bool {
        self.entry.directions & direction_bits(direction) != 0
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'a str {
        let (start, len) = (self.entry.name_start, self.entry.name_len);
        self.program.text(start, len).unwrap_or_default()
    }

    /// Its expression, as it was written.
    #[must_use]
    pub fn expression(&self) -> &'a str {
        let (start, len) = (self.entry.expr_start, self.entry.expr_len);
        self.program.text(start, len).unwrap_or_default()
    }

    /// The line of the file it stands in, from 1.
    #[must_use]
    pub const fn line(&self) -> u32 {
        self.entry.line
    }

    /// Its code.
    #[must_use]
    pub fn code(&self) -> &'a [Unalign<Insn>] {
        let (start, len) = (self.entry.insn_start, self.entry.insn_count);
        range(self.program.insns, start, len).unwrap_or_default()
    }

    /// Its tuples; none: it is linear.
    pub fn tuples(&self) -> impl Iterator<Item = TupleEntry> + use<'a> {
        let (start, len) = (self.entry.tuple_start, self.entry.tuple_count);
        let tuples = range(self.program.tuples, start, len).unwrap_or_default();
        tuples.iter().map(|tuple| tuple.get())
    }

    /// Whether it has no tuples, so that its code is run for each frame.
    #[must_use]
    pub const fn is_linear(&self) -> bool {
        self.entry.tuple_count == 0
    }

    /// Whether its code matches a frame: the meaning of the rule.
    #[must_use]
    pub fn matches(&self, view: &View<'_>) -> bool {
        bpf::run(self.code(), view) != 0
    }
}

/// What tuples have in common that are looked up together: class, fields, and
/// leading bits of the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shape {
    /// `format::CLASS_*`.
    pub class: u8,
    /// `format::FIELD_*`.
    pub fields: u8,
    /// Leading bits of the source address.
    pub src_prefix: u8,
    /// Leading bits of the destination address.
    pub dst_prefix: u8,
}

impl Shape {
    /// The shape of a tuple.
    #[must_use]
    pub const fn of(tuple: &TupleEntry) -> Self {
        Shape {
            class: tuple.class,
            fields: tuple.fields,
            src_prefix: tuple.src_prefix,
            dst_prefix: tuple.dst_prefix,
        }
    }

    /// Whether it needs ports.
    #[must_use]
    pub const fn has_ports(self) -> bool {
        self.fields & (FIELD_SRC_PORT | FIELD_DST_PORT) != 0
    }

    pub(super) const fn to_bits(self) -> u32 {
        u32::from_be_bytes([self.class, self.fields, self.src_prefix, self.dst_prefix])
    }

    pub(super) const fn from_bits(bits: u32) -> Self {
        let [class, fields, src_prefix, dst_prefix] = bits.to_be_bytes();
        Shape {
            class,
            fields,
            src_prefix,
            dst_prefix,
        }
    }
}

/// Whether the rule's code has to confirm a match of this tuple.
pub(super) const fn confirms(tuple: &TupleEntry) -> bool {
    tuple.flags & TUPLE_CONFIRM != 0
}
