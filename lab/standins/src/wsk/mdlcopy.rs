//! `RtlCopyMdlToBuffer` and `RtlCopyBufferToMdl` of netio.sys: copying between
//! an MDL chain and a flat buffer.

use super::status;
use super::types::{Mdl, NtStatus};
use crate::core::{Rule, irql};
use crate::nt::mdl;

/// Calls `part` for each stretch of `size` bytes from `offset` of the chain,
/// with its address and length; the bytes there were.
fn walk(
    name: &'static str,
    chain: *const Mdl,
    offset: usize,
    size: usize,
    mut part: impl FnMut(*mut u8, usize),
) -> usize {
    irql::require_max_rule(Rule::LabWskIrql, name, irql::DISPATCH_LEVEL);
    let (mut now, mut skip, mut left) = (chain, offset, size);
    while left > 0 && !now.is_null() {
        // SAFETY: the caller's chain of built MDLs.
        let this = unsafe { &*now };
        let (count, next) = (this.ByteCount as usize, this.Next);
        let hidden = skip.min(count);
        skip -= hidden;
        let length = (count - hidden).min(left);
        if length > 0 {
            part(mdl::system_address(now).wrapping_add(hidden), length);
            left -= length;
        }
        now = next;
    }
    size - left
}

fn finish(name: &str, size: usize, copied: usize, out: *mut usize) -> NtStatus {
    if out.is_null() {
        violate!(Rule::LabWskNullArgument, "{name} without BytesCopied");
    }
    // SAFETY: not null; the caller's variable.
    unsafe { out.write(copied) };
    if copied == size {
        status::SUCCESS
    } else {
        status::BUFFER_OVERFLOW
    }
}

/// Copies from an MDL chain to a buffer.
///
/// # Safety
/// `chain` must be a chain of built MDLs, `buffer` writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn RtlCopyMdlToBuffer(
    chain: *mut Mdl,
    offset: usize,
    buffer: *mut u8,
    size: usize,
    copied: *mut usize,
) -> NtStatus {
    const NAME: &str = "RtlCopyMdlToBuffer";
    let mut to = buffer;
    let count = walk(NAME, chain, offset, size, |from, length| {
        // SAFETY: `from` is described by the caller's MDL, `to` stays within
        // the caller's buffer since the stretches add up to `size` at most.
        unsafe { std::ptr::copy(from, to, length) };
        to = to.wrapping_add(length);
    });
    finish(NAME, size, count, copied)
}

/// Copies from a buffer to an MDL chain.
///
/// # Safety
/// `chain` must be a chain of built MDLs, `buffer` readable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn RtlCopyBufferToMdl(
    buffer: *const u8,
    chain: *mut Mdl,
    offset: usize,
    size: usize,
    copied: *mut usize,
) -> NtStatus {
    const NAME: &str = "RtlCopyBufferToMdl";
    let mut from = buffer;
    let count = walk(NAME, chain, offset, size, |to, length| {
        // SAFETY: as above, the other way.
        unsafe { std::ptr::copy(from, to, length) };
        from = from.wrapping_add(length);
    });
    finish(NAME, size, count, copied)
}
