//! `bcryptprimitives.dll`, as much of it as Rust's standard library uses:
//! `ProcessPrng`, on `SystemFunction036` (RtlGenRandom) of advapi32. Windows 10
//! has the real one; Wine 8.0 lacks it.
#![cfg(windows)]
#![no_std]

#[link(name = "advapi32.dll", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "system" {
    fn SystemFunction036(buffer: *mut u8, length: u32) -> u8;
}

/// Fills `length` bytes at `buffer` with random ones and returns TRUE. As the
/// real one, it has no way to fail.
///
/// # Safety
/// `buffer` is writable for `length` bytes.
// SAFETY: the name is this function's in the DLL it stands for, and nothing
// else here has it.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn ProcessPrng(buffer: *mut u8, length: usize) -> i32 {
    let mut done = 0;
    while done < length {
        let part = u32::try_from(length - done).unwrap_or(u32::MAX);
        // SAFETY: `done` is below `length`, for which the caller vouches.
        let at = unsafe { buffer.add(done) };
        // SAFETY: `part` bytes from `at` are within the caller's buffer.
        unsafe { SystemFunction036(at, part) };
        done += part as usize;
    }
    1
}

/// The loader's notice of processes and threads: nothing to do for either.
// SAFETY: the linker looks for this name, and nothing else here has it.
#[unsafe(no_mangle)]
extern "system" fn DllMainCRTStartup(_module: usize, _reason: u32, _reserved: usize) -> i32 {
    1
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
