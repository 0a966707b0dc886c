//! What a program does, for people.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;
use weir_engine::rule::format::{
    CLASS_ARP, CLASS_IPV4, CLASS_IPV6, DIRECTION_IN, DIRECTION_OUT, FIELD_DST_PORT, FIELD_PROTOCOL,
    FIELD_SRC_PORT, TUPLE_CONFIRM, TupleEntry,
};
use weir_engine::rule::{Program, Rule, Shape};

use crate::tuples::under;
use crate::{Action, Directions, listing};

/// Bytes that are not a program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not a program of rules: {0}")]
pub struct ExplainError(pub(crate) String);

/// A program, explained. Its `Display` is the text `weirctl rules explain` shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// What happens to frames no rule decides on.
    pub default_action: Action,
    /// Its rules, in order.
    pub rules: Vec<RuleExplanation>,
    /// The hash look-ups made for a frame, in the order of their first rule.
    pub lookups: Vec<Lookup>,
}

/// One rule of a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleExplanation {
    /// Its name.
    pub name: String,
    /// Line of the file, from 1.
    pub line: u32,
    /// What it does.
    pub action: Action,
    /// For which frames.
    pub directions: Directions,
    /// As it was written.
    pub expression: String,
    /// Its code, one instruction an entry: `(000) ldh [12]`.
    pub code: Vec<String>,
    /// Its tuples; empty: its code is run for each frame that gets that far.
    pub tuples: Vec<TupleExplanation>,
    /// Why it can never match or have an effect.
    pub never: Option<Never>,
}

/// One tuple of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TupleExplanation {
    /// As text: `ipv4 tcp src 10.0.0.0/8 dst port 80`.
    pub text: String,
    /// Index in [`Explanation::lookups`].
    pub lookup: usize,
    /// Whether a match is confirmed by the code.
    pub confirm: bool,
}

/// One hash look-up: what tuples of one shape became.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lookup {
    /// As text: `ipv4: protocol, dst/32, dst port`.
    pub shape: String,
    /// Rules with tuples in it.
    pub rules: usize,
    /// Tuples in it.
    pub tuples: usize,
}

/// Why a rule never takes effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Never {
    /// No frame can match its expression.
    Contradiction,
    /// Every frame it matches, whose headers are whole, is decided by earlier
    /// rules, of these names.
    Covered {
        /// Names of the earlier rules, in their order.
        by: Vec<String>,
    },
}

impl fmt::Display for Never {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Contradiction => f.write_str("no frame can match its expression"),
            Self::Covered { by } => {
                let verb = if by.len() == 1 { "decides" } else { "decide" };
                write!(f, "{} before it {verb} about all its frames", by.join(", "))
            }
        }
    }
}

/// Explains a program.
///
/// # Errors
/// The bytes are not a program of this version.
pub fn explain(program: &[u8]) -> Result<Explanation, ExplainError> {
    let program = Program::verify(program).map_err(|error| ExplainError(error.to_string()))?;
    let mut lookups: Vec<Lookup> = Vec::new();
    let mut by_shape: HashMap<Shape, usize> = HashMap::new();
    let mut last_rule: Vec<Option<u32>> = Vec::new();
    let mut earlier = Earlier::default();
    let mut rules = Vec::new();
    for rule in program.rules() {
        let mut tuples = Vec::new();
        for tuple in rule.tuples() {
            let lookup = *by_shape.entry(Shape::of(&tuple)).or_insert_with(|| {
                lookups.push(Lookup {
                    shape: shape(&tuple),
                    rules: 0,
                    tuples: 0,
                });
                last_rule.push(None);
                lookups.len() - 1
            });
            lookups[lookup].tuples += 1;
            if last_rule[lookup].replace(rule.index()) != Some(rule.index()) {
                lookups[lookup].rules += 1;
            }
            let confirm = tuple.flags & TUPLE_CONFIRM != 0;
            tuples.push(TupleExplanation {
                text: text(&tuple),
                lookup,
                confirm,
            });
        }
        let never = if listing::accepts(rule.code()) {
            earlier.cover(&rule).map(|by| Never::Covered {
                by: by
                    .iter()
                    .filter_map(|index| program.name(*index))
                    .map(Into::into)
                    .collect(),
            })
        } else {
            Some(Never::Contradiction)
        };
        if never.is_none() && Action::from(rule.action()).is_terminal() {
            earlier.add(&rule);
        }
        rules.push(RuleExplanation {
            name: rule.name().to_owned(),
            line: rule.line(),
            action: rule.action().into(),
            directions: directions(rule.directions()),
            expression: rule.expression().to_owned(),
            code: listing::lines(rule.code()),
            tuples,
            never,
        });
    }
    Ok(Explanation {
        default_action: program.default_action().into(),
        rules,
        lookups,
    })
}

fn directions(bits: u32) -> Directions {
    match bits {
        DIRECTION_IN => Directions::In,
        DIRECTION_OUT => Directions::Out,
        _ => Directions::Any,
    }
}

/// What the rules so far decide, for each of the two directions.
#[derive(Default)]
struct Earlier {
    /// A rule that matches every frame.
    all: [Option<u32>; 2],
    /// Tuples that suffice, under their shapes.
    tuples: HashMap<Shape, [HashMap<Fields, u32>; 2]>,
    /// Code of rules, whole.
    code: HashMap<Vec<[u8; 12]>, [Option<u32>; 2]>,
}

/// What a tuple compares: protocol, ports and addresses.
type Fields = (u8, u16, u16, [u8; 16], [u8; 16]);

fn fields(tuple: &TupleEntry, shape: Shape) -> Fields {
    let kept = |bit: u8| shape.fields & bit != 0;
    (
        if kept(FIELD_PROTOCOL) {
            tuple.protocol
        } else {
            0
        },
        if kept(FIELD_SRC_PORT) {
            tuple.src_port
        } else {
            0
        },
        if kept(FIELD_DST_PORT) {
            tuple.dst_port
        } else {
            0
        },
        under(tuple.src, shape.src_prefix),
        under(tuple.dst, shape.dst_prefix),
    )
}

fn sides(rule: &Rule<'_>) -> impl Iterator<Item = usize> + use<> {
    let bits = rule.directions();
    [DIRECTION_IN, DIRECTION_OUT]
        .into_iter()
        .enumerate()
        .filter(move |(_, bit)| bits & bit != 0)
        .map(|(side, _)| side)
}

impl Earlier {
    fn add(&mut self, rule: &Rule<'_>) {
        for side in sides(rule) {
            if listing::always(rule.code()) {
                self.all[side].get_or_insert(rule.index());
            }
            let code = self.code.entry(listing::bytes(rule.code())).or_default();
            code[side].get_or_insert(rule.index());
            for tuple in rule
                .tuples()
                .filter(|tuple| tuple.flags & TUPLE_CONFIRM == 0)
            {
                let shape = Shape::of(&tuple);
                let known = self.tuples.entry(shape).or_default();
                known[side]
                    .entry(fields(&tuple, shape))
                    .or_insert(rule.index());
            }
        }
    }

    /// Rules that decide about all frames of this one.
    fn cover(&self, rule: &Rule<'_>) -> Option<Vec<u32>> {
        let mut by = Vec::new();
        let same_code = self.code.get(&listing::bytes(rule.code()));
        for side in sides(rule) {
            let whole = self.all[side].or_else(|| same_code.and_then(|code| code[side]));
            if let Some(earlier) = whole {
                by.push(earlier);
                continue;
            }
            if rule.is_linear() {
                return None;
            }
            for tuple in rule.tuples() {
                by.push(self.tuple(&tuple, side)?);
            }
        }
        by.sort_unstable();
        by.dedup();
        Some(by)
    }

    /// The first rule with a tuple that contains this one.
    fn tuple(&self, tuple: &TupleEntry, side: usize) -> Option<u32> {
        self.tuples
            .iter()
            .filter(|(shape, _)| {
                shape.class == tuple.class
                    && shape.fields & !tuple.fields == 0
                    && shape.src_prefix <= tuple.src_prefix
                    && shape.dst_prefix <= tuple.dst_prefix
            })
            .filter_map(|(shape, known)| known[side].get(&fields(tuple, *shape)))
            .min()
            .copied()
    }
}

fn class(class: u8) -> &'static str {
    match class {
        CLASS_IPV4 => "ipv4",
        CLASS_IPV6 => "ipv6",
        CLASS_ARP => "arp",
        _ => "rarp",
    }
}

fn shape(tuple: &TupleEntry) -> String {
    let mut parts = Vec::new();
    if tuple.fields & FIELD_PROTOCOL != 0 {
        parts.push("protocol".to_owned());
    }
    for (name, prefix) in [("src", tuple.src_prefix), ("dst", tuple.dst_prefix)] {
        if prefix > 0 {
            parts.push(format!("{name}/{prefix}"));
        }
    }
    for (name, bit) in [("src port", FIELD_SRC_PORT), ("dst port", FIELD_DST_PORT)] {
        if tuple.fields & bit != 0 {
            parts.push(name.to_owned());
        }
    }
    if parts.is_empty() {
        return class(tuple.class).to_owned();
    }
    format!("{}: {}", class(tuple.class), parts.join(", "))
}

fn text(tuple: &TupleEntry) -> String {
    let mut text = class(tuple.class).to_owned();
    if tuple.fields & FIELD_PROTOCOL != 0 {
        text.push(' ');
        match tuple.protocol {
            6 => text.push_str("tcp"),
            17 => text.push_str("udp"),
            132 => text.push_str("sctp"),
            other => text.push_str(&format!("protocol {other}")),
        }
    }
    let sides = [
        (
            "src",
            tuple.src_prefix,
            tuple.src,
            FIELD_SRC_PORT,
            tuple.src_port,
        ),
        (
            "dst",
            tuple.dst_prefix,
            tuple.dst,
            FIELD_DST_PORT,
            tuple.dst_port,
        ),
    ];
    for (name, prefix, address, bit, port) in sides {
        let [a, b, c, d, ..] = address;
        if prefix > 0 && tuple.class == CLASS_IPV6 {
            text.push_str(&format!(" {name} {}", std::net::Ipv6Addr::from(address)));
        } else if prefix > 0 {
            text.push_str(&format!(" {name} {}", std::net::Ipv4Addr::new(a, b, c, d)));
        }
        let whole = if tuple.class == CLASS_IPV6 { 128 } else { 32 };
        if prefix > 0 && prefix < whole {
            text.push_str(&format!("/{prefix}"));
        }
        if tuple.fields & bit != 0 {
            text.push_str(&format!(" {name} port {port}"));
        }
    }
    text
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for rule in &self.rules {
            let (action, directions) = (rule.action.name(), rule.directions.name());
            write!(f, "rule {} {action} {directions}", rule.name)?;
            if !rule.expression.is_empty() {
                write!(f, " {}", rule.expression)?;
            }
            writeln!(f, "    # line {}", rule.line)?;
            if let Some(never) = &rule.never {
                writeln!(f, "  never takes effect: {never}")?;
            }
            if rule.tuples.is_empty() {
                writeln!(
                    f,
                    "  is run for each frame that no rule before it decides on:"
                )?;
            } else {
                let confirms = rule.tuples.iter().any(|tuple| tuple.confirm);
                writeln!(f, "  is looked up:")?;
                for tuple in &rule.tuples {
                    let others = self.lookups.get(tuple.lookup).map_or(0, |l| l.rules - 1);
                    let then = if tuple.confirm {
                        ", then its code is run"
                    } else {
                        ""
                    };
                    let number = tuple.lookup + 1;
                    writeln!(
                        f,
                        "    {} (look-up {number}, with {others} other rules{then})",
                        tuple.text
                    )?;
                }
                let when = if confirms {
                    ""
                } else {
                    ", run only for frames that are cut short"
                };
                writeln!(f, "  code{when}:")?;
            }
            for line in &rule.code {
                writeln!(f, "    {line}")?;
            }
            writeln!(f)?;
        }
        writeln!(f, "default {}", self.default_action.name())?;
        if !self.lookups.is_empty() {
            writeln!(f, "\nlook-ups:")?;
        }
        for (number, lookup) in (1..).zip(&self.lookups) {
            let Lookup {
                shape,
                rules,
                tuples,
            } = lookup;
            writeln!(f, "  {number}. {shape} ({rules} rules, {tuples} tuples)")?;
        }
        Ok(())
    }
}
