//! What a driver without sin does: a tour through the functions the stand-ins
//! have, every answer checked. A wrong answer is a bug check that names the
//! step, so a lab that forbids what is allowed, or does it wrongly, is found as
//! surely as one that lets a sin pass.

pub(crate) mod kmdf;
mod nt;

use core::ffi::c_void;

use crate::raw::nt::KeBugCheckEx;

/// The bug check of a tour that saw something wrong; its first argument is the
/// line of the check.
const WRONG: u32 = 0x7042;

/// Checks an answer.
#[track_caller]
pub(crate) fn check(right: bool) {
    if !right {
        let line = core::panic::Location::caller().line() as usize;
        // SAFETY: a bug check ends the system; its code and arguments are free.
        unsafe { KeBugCheckEx(WRONG, line, 0, 0, 0) }
    }
}

/// The part at load.
///
/// # Safety
/// At PASSIVE_LEVEL in `DriverEntry`, once, with the driver's device.
pub(crate) unsafe fn load(device: *mut c_void) {
    // SAFETY: as the caller's.
    unsafe { nt::visit(device) };
    // SAFETY: as the caller's.
    unsafe { kmdf::visit(device) };
}
