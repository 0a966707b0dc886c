//! Rules: programs, verified and run.

pub mod format;
