//! Weir's engine: what a frame is, how it is counted, and where it goes.
//!
//! The crate knows nothing of Windows, allocates nothing on the way of a frame
//! and has no input that makes it panic: a frame that makes no sense is a kind
//! of frame, and is counted as one.
#![no_std]
#![forbid(unsafe_code)]
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects
)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::arithmetic_side_effects,
        reason = "a test that fails is meant to panic"
    )
)]

pub mod flow;
mod meta;
pub mod path;
pub mod rule;
pub mod stats;
pub mod tap;
pub mod wire;

pub use meta::Meta;
