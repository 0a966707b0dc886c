//! Weir's rule language: pcap-filter expressions and rule files, compiled to
//! programs for `weir-engine`.
#![forbid(unsafe_code)]

mod error;
mod explain;
mod expression;
mod file;
pub mod services;

pub use error::{Error, Errors};
pub use explain::{
    ExplainError, Explanation, Lookup, Never, RuleExplanation, TupleExplanation, explain,
};
pub use expression::{Expression, compile_expression};
pub use file::{Action, Directions, Rule, RuleFile};
