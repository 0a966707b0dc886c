//! What the tests of this crate share.

pub mod bpf;
pub mod frames;
pub mod grammar;
pub mod pcap;
