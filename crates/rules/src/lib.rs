//! Weir's rule language: pcap-filter expressions and rule files, compiled to
//! programs for `weir-engine`.
#![forbid(unsafe_code)]

mod blocks;
mod build;
mod error;
mod explain;
mod expression;
mod facts;
mod file;
mod lex;
mod listing;
mod names;
mod node;
mod optimize;
mod parse;
mod program;
pub mod services;
mod tuples;

pub use error::{Error, Errors};
pub use explain::{
    ExplainError, Explanation, Lookup, Never, RuleExplanation, TupleExplanation, explain,
};
pub use expression::{Expression, compile_expression};
pub use file::{Action, Directions, Rule, RuleFile};
