//! What each fuzz target does with its bytes.
//!
//! A target is a function of bytes which returns, or panics where something is
//! wrong. It depends on nothing but them: the same bytes always do the same.
#![forbid(unsafe_code)]

mod bytes;
mod dissect;
mod flow;
mod frames;
mod machine;
mod path;
mod rule_compile;
mod rule_run;
mod rule_verify;
mod rules;

pub use dissect::dissect;
pub use flow::flow;
pub use path::path;
pub use rule_compile::rule_compile;
pub use rule_run::rule_run;
pub use rule_verify::rule_verify;

/// A target.
pub type Target = fn(&[u8]);

/// All of them, by the name that their fuzzer and their corpus have.
pub const TARGETS: [(&str, Target); 6] = [
    ("dissect", dissect),
    ("flow", flow),
    ("rule_compile", rule_compile),
    ("rule_verify", rule_verify),
    ("rule_run", rule_run),
    ("path", path),
];
