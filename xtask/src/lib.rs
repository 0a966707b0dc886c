//! What `cargo xtask` does, as a library: the tests use parts of it too.

pub mod driver;
pub mod kit;
pub mod wdk_build;
