//! Exceptions inside driver code end the run as a violation, with the place.

use std::sync::Once;

use windows_sys::Win32::System::Diagnostics::Debug::{
    AddVectoredExceptionHandler, EXCEPTION_POINTERS,
};

use crate::core::event::violation_at;
use crate::core::{Rule, session, stack};

const CONTINUE_SEARCH: i32 = 0;
/// Exceptions that nothing recovers from: access violation, breakpoint,
/// misalignment, illegal and privileged instruction, division, overflow,
/// stack overflow, stack-buffer overrun (fast fail).
const FATAL: [u32; 9] = [
    0xC000_0005,
    0x8000_0003,
    0x8000_0002,
    0xC000_001D,
    0xC000_0096,
    0xC000_0094,
    0xC000_0095,
    0xC000_00FD,
    0xC000_0409,
];

static INSTALL: Once = Once::new();

/// Watches exceptions of the process, from the first session on.
pub fn install() {
    INSTALL.call_once(|| {
        super::mem::resolve_handler();
        // SAFETY: `handler` has the prototype and stays for ever: lab.sys is
        // pinned.
        unsafe { AddVectoredExceptionHandler(1, Some(handler)) };
    });
}

unsafe extern "system" fn handler(pointers: *mut EXCEPTION_POINTERS) -> i32 {
    // SAFETY: the system passes valid pointers.
    let record = unsafe { (*pointers).ExceptionRecord };
    // SAFETY: the record belongs to them.
    let record = unsafe { &*record };
    let code = record.ExceptionCode.cast_unsigned();
    let address = record.ExceptionAddress as usize;
    if !FATAL.contains(&code) || !(session::in_image(address) || stack::in_lab(address)) {
        return CONTINUE_SEARCH;
    }
    violation_at(
        Rule::LabException,
        address,
        format_args!(
            "exception {code:#x} at {}, parameters {:#x?}",
            stack::describe(address),
            &record.ExceptionInformation[..record.NumberParameters.min(2) as usize]
        ),
    )
}
