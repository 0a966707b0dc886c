//! One expression, compiled.

use weir_engine::rule::format::{Insn, MAX_RULE_INSNS, TupleEntry};

use crate::blocks::Blocks;
use crate::{Error, facts, optimize, parse, tuples};

/// An expression and what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expression {
    text: String,
    code: Vec<Insn>,
    tuples: Vec<TupleEntry>,
    never: bool,
}

impl Expression {
    /// The expression as it was written, without blanks around it.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its meaning: a BPF program that returns 0 for frames that don't match.
    #[must_use]
    pub fn code(&self) -> &[Insn] {
        &self.code
    }

    /// A necessary condition: frames that match, match one of these. Empty: none
    /// is known, the code is run for each frame.
    #[must_use]
    pub fn tuples(&self) -> &[TupleEntry] {
        &self.tuples
    }

    /// Whether it is certain that no frame matches, as with `tcp and udp`.
    #[must_use]
    pub fn never_matches(&self) -> bool {
        self.never
    }
}

/// Compiles a pcap-filter expression. An empty one matches every frame.
///
/// # Errors
/// What is wrong with it, or what of pcap-filter(7) this language leaves out.
pub fn compile_expression(text: &str) -> Result<Expression, Error> {
    let node = parse::parse(text)?;
    let cover = facts::cover(&node, true);
    let node = if cover.is_empty() {
        crate::node::Node::Const(false)
    } else {
        node
    };
    let mut blocks = Blocks::new(node);
    let stops = optimize::thread(&mut blocks);
    blocks.prune();
    optimize::reuse(&mut blocks);
    let len = blocks.code_len();
    if len > MAX_RULE_INSNS as usize {
        let message = format!(
            "this takes {len} instructions, and a rule has at most {MAX_RULE_INSNS}; make several \
             rules of it"
        );
        return Err(Error::new(text, "", 0..text.len(), message, vec![]));
    }
    Ok(Expression {
        text: text.trim().to_owned(),
        code: blocks.code(),
        tuples: tuples::tuples(&cover, &stops),
        never: cover.is_empty(),
    })
}
