//! The C library's memory functions, which a driver imports from ntoskrnl.
//!
//! Written with string instructions, because a loop here would be compiled
//! into a call of the very function.

use std::arch::{asm, naked_asm};

/// C: memcpy.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    // SAFETY: copies `count` bytes forward, between ranges the caller vouches for.
    unsafe {
        asm!(
            "rep movsb",
            inout("rcx") count => _, inout("rdi") to => _, inout("rsi") from => _,
            options(nostack, preserves_flags)
        );
    }
    to
}

/// C: memmove.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= count {
        // SAFETY: the destination does not start inside the source, so a
        // forward copy reads each byte before it is overwritten.
        return unsafe { memcpy(to, from, count) };
    }
    let last = count.wrapping_sub(1);
    // SAFETY: copies `count` bytes backward; the direction flag is restored.
    unsafe {
        asm!(
            "std", "rep movsb", "cld",
            inout("rcx") count => _,
            inout("rdi") to.wrapping_add(last) => _,
            inout("rsi") from.wrapping_add(last) => _,
            options(nostack)
        );
    }
    to
}

/// C: memset.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memset(to: *mut u8, value: i32, count: usize) -> *mut u8 {
    // SAFETY: fills `count` bytes the caller vouches for.
    unsafe {
        asm!(
            "rep stosb",
            inout("rcx") count => _, inout("rdi") to => _, in("al") value.to_le_bytes()[0],
            options(nostack, preserves_flags)
        );
    }
    to
}

/// C: memcmp.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
    let mut at = 0;
    while at < count {
        // SAFETY: inside the range the caller vouches for.
        let a = unsafe { left.wrapping_add(at).read_volatile() };
        // SAFETY: inside the range the caller vouches for.
        let b = unsafe { right.wrapping_add(at).read_volatile() };
        if a != b {
            return i32::from(a) - i32::from(b);
        }
        at += 1;
    }
    0
}

/// C: strlen.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut at = 0;
    // SAFETY: inside a terminated string.
    while unsafe { text.wrapping_add(at).read_volatile() } != 0 {
        at += 1;
    }
    at
}

static mut HANDLER: usize = 0;

/// Finds ntdll's `__C_specific_handler`; called when a driver binds.
pub fn resolve_handler() {
    use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleA, GetProcAddress};
    // SAFETY: a terminated name; ntdll is always loaded.
    let ntdll = unsafe { GetModuleHandleA(c"ntdll.dll".as_ptr().cast()) };
    // SAFETY: a module handle and a terminated name.
    let found = unsafe { GetProcAddress(ntdll, c"__C_specific_handler".as_ptr().cast()) };
    // SAFETY: written before any driver code runs, read only by the jump below.
    unsafe { HANDLER = found.map_or(0, |f| f as usize) };
}

/// The language handler of structured exceptions: ntdll's.
///
/// # Safety
/// Called by the system's unwinder only.
#[unsafe(naked)]
#[unsafe(export_name = "__C_specific_handler")]
pub unsafe extern "C" fn c_specific_handler() {
    naked_asm!("jmp qword ptr [rip + {}]", sym HANDLER)
}
