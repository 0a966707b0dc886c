//! What every stand-in shares: the rules and what happens when one is broken,
//! IRQL, calls into the driver, pool, fault injection, configuration, the
//! control channel, and the session of one loaded driver.
//!
//! Only `session` names KMDF, NDIS and WSK: it tells each that a driver is there,
//! and asks each what is left of it.

/// Ends the run: `violate!(Rule::X, "format {}", args)`.
#[macro_export]
macro_rules! violate {
    ($rule:expr, $($arg:tt)+) => {
        $crate::core::violation($rule, format_args!($($arg)+))
    };
}

pub mod callout;
pub mod config;
pub mod control;
pub mod event;
pub mod fault;
pub mod irql;
pub mod pool;
pub mod rules;
pub mod session;
pub mod stack;

pub use event::{event_log, violation};
pub use rules::Rule;
