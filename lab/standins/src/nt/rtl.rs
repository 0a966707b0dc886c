//! Strings and comparisons.

use super::arg;
use super::types::UNICODE_STRING;

/// MSDN: RtlInitUnicodeString.
///
/// # Safety
/// `source` is null or a terminated string; `destination` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn RtlInitUnicodeString(
    destination: *mut UNICODE_STRING,
    source: *const u16,
) {
    let mut chars = 0usize;
    if !source.is_null() {
        // SAFETY: inside a terminated string, by contract.
        while chars < 0x7FFE && unsafe { source.wrapping_add(chars).read() } != 0 {
            chars += 1;
        }
    }
    // SAFETY: by contract.
    let out = unsafe { arg(destination, "RtlInitUnicodeString", "DestinationString") };
    let bytes = u16::try_from(chars * 2).unwrap_or(0xFFFC);
    *out = UNICODE_STRING {
        Length: bytes,
        MaximumLength: if source.is_null() { 0 } else { bytes + 2 },
        Buffer: source.cast_mut(),
    };
}

/// MSDN: RtlCopyUnicodeString: what fits, terminated when there is room.
///
/// # Safety
/// Both are valid strings, or `source` is null.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn RtlCopyUnicodeString(
    destination: *mut UNICODE_STRING,
    source: *const UNICODE_STRING,
) {
    // SAFETY: by contract.
    let out = unsafe { arg(destination, "RtlCopyUnicodeString", "DestinationString") };
    out.Length = 0;
    if source.is_null() {
        return;
    }
    // SAFETY: not null, so a string by contract.
    let from = unsafe { &*source };
    let bytes = from.Length.min(out.MaximumLength) & !1;
    // SAFETY: `bytes` fit both buffers; the kernel allows overlap, so copy.
    unsafe {
        std::ptr::copy(
            from.Buffer.cast::<u8>(),
            out.Buffer.cast::<u8>(),
            usize::from(bytes),
        )
    };
    out.Length = bytes;
    if usize::from(bytes) + 2 <= usize::from(out.MaximumLength) {
        let end = out.Buffer.wrapping_add(usize::from(bytes) / 2);
        // SAFETY: one more character fits.
        unsafe { end.write(0) };
    }
}

/// MSDN: RtlCompareMemory: how many bytes are equal from the start.
///
/// # Safety
/// Both point to `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn RtlCompareMemory(
    left: *const u8,
    right: *const u8,
    length: usize,
) -> usize {
    if length == 0 {
        return 0;
    }
    // SAFETY: by contract.
    let left = unsafe { std::slice::from_raw_parts(left, length) };
    // SAFETY: by contract.
    let right = unsafe { std::slice::from_raw_parts(right, length) };
    left.iter().zip(right).take_while(|(a, b)| a == b).count()
}
