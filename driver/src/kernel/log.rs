//! Lines in the kernel debugger's log, for the driver's life cycle and its
//! errors. Nothing a user or the network supplied is ever printed.
//!
//! The formats are fixed here, so a caller can't mismatch one: each line is a
//! constant text and at most one number. `DbgPrint` with these formats may be
//! called at any IRQL the driver runs at.

use core::ffi::CStr;

use super::status::NtStatus;
use super::sys;

/// `weir: TEXT`
pub(crate) fn line(text: &'static CStr) {
    // SAFETY: the format takes one C string, which `text` is.
    unsafe { sys::DbgPrint(c"weir: %s\n".as_ptr(), text.as_ptr()) };
}

/// `weir: TEXT NUMBER`
pub(crate) fn number(text: &'static CStr, value: u64) {
    // SAFETY: the format takes one C string and one 64-bit integer.
    unsafe { sys::DbgPrint(c"weir: %s %llu\n".as_ptr(), text.as_ptr(), value) };
}

/// `weir: TEXT: status 0xXXXXXXXX`
pub(crate) fn status(text: &'static CStr, status: NtStatus) {
    // SAFETY: the format takes one C string and one 32-bit integer.
    unsafe {
        sys::DbgPrint(
            c"weir: %s: status 0x%08x\n".as_ptr(),
            text.as_ptr(),
            status.0,
        )
    };
}
