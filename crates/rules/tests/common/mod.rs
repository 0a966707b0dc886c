//! What the tests of this crate share.

pub(crate) mod bpf;
pub(crate) mod frames;
pub(crate) mod grammar;
pub(crate) mod pcap;
