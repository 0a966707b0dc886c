//! What a program does, for people.

use std::fmt;

use serde::Serialize;

use crate::{Action, Directions};

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
    /// Every frame it matches is decided by an earlier rule, of this name.
    Covered {
        /// Name of the earlier rule.
        by: String,
    },
}

impl fmt::Display for Never {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Contradiction => f.write_str("no frame can match its expression"),
            Self::Covered { by } => write!(f, "rule {by} before it decides about all its frames"),
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for rule in &self.rules {
            writeln!(f, "rule {}", rule.name)?;
        }
        Ok(())
    }
}

/// Explains a program.
///
/// # Errors
/// The bytes are not a program of this version.
pub fn explain(program: &[u8]) -> Result<Explanation, ExplainError> {
    Err(ExplainError(format!("{} bytes", program.len())))
}
