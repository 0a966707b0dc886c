//! What tuples are compared with.

/// Whether no bit of an address behind its first `prefix` ones is set.
pub(super) fn is_masked(address: &[u8; 16], prefix: u8) -> bool {
    let host_bits = u128::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
    u128::from_be_bytes(*address) & host_bits == 0
}
