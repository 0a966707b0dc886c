//! GET_VERSION: what the driver speaks.

use weir_abi::{ABI_VERSION, ReplyHeader, VersionReply};

use super::reply::Reply;
use crate::error::Error;

pub(super) fn handle(reply: Reply<'_>) -> Result<usize, Error> {
    reply.one(&VersionReply {
        header: ReplyHeader::of::<VersionReply>(),
        abi_version: ABI_VERSION,
        driver_major: number(env!("CARGO_PKG_VERSION_MAJOR")),
        driver_minor: number(env!("CARGO_PKG_VERSION_MINOR")),
        driver_patch: number(env!("CARGO_PKG_VERSION_PATCH")),
    })
}

/// A part of the package's version, which is digits only.
fn number(digits: &str) -> u32 {
    digits.bytes().fold(0u32, |value, digit| {
        value
            .saturating_mul(10)
            .saturating_add(u32::from(digit.wrapping_sub(b'0')))
    })
}
