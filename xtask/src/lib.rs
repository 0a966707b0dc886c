//! What `cargo xtask` does, as a library: the tests use parts of it too.

pub mod bench;
pub mod checks;
pub mod demo;
pub mod driver;
pub mod image;
pub mod kit;
pub mod licences;
pub mod parts;
pub mod play;
pub mod setup;
pub mod speakeasy;
pub mod wdk_build;
