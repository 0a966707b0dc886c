//! Weir's rule language: pcap-filter expressions and rule files, compiled to
//! programs for `weir-engine`.
#![forbid(unsafe_code)]
