//! Who called: stack frames as `module+0xRVA`.

use std::cell::Cell;

use windows_sys::Win32::System::Diagnostics::Debug::RtlCaptureStackBackTrace;
use windows_sys::Win32::System::LibraryLoader::{
    GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS, GET_MODULE_HANDLE_EX_FLAG_PIN,
    GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT, GetModuleFileNameW, GetModuleHandleExW,
};

use super::session;

const FRAMES: usize = 48;

/// Within so many frames the driver is found nearly always. Those further out are
/// Wine's own, and walking through them costs many times as much.
const NEAR: usize = 12;

/// Return addresses of this thread, innermost first, without `skip` of them.
fn capture(skip: u32, frames: &mut [*mut std::ffi::c_void]) -> usize {
    let count = u32::try_from(frames.len()).unwrap_or(u32::MAX);
    // SAFETY: the buffer holds `count` pointers; the hash is optional.
    let got =
        unsafe { RtlCaptureStackBackTrace(skip, count, frames.as_mut_ptr(), std::ptr::null_mut()) };
    usize::from(got).min(frames.len())
}

/// `module+0xRVA` of an address, or the bare address outside of any module.
pub fn describe(address: usize) -> String {
    if let Some((name, rva)) = session::locate(address) {
        return format!("{name}+0x{rva:x}");
    }
    let mut module = std::ptr::null_mut();
    // SAFETY: with FROM_ADDRESS the second argument is only looked up, not read.
    let found = unsafe {
        GetModuleHandleExW(
            GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT,
            address as *const u16,
            &raw mut module,
        )
    };
    if found == 0 || module.is_null() {
        return format!("0x{address:x}");
    }
    let mut path = [0u16; 260];
    // SAFETY: the buffer and its length in characters belong together.
    let len = unsafe { GetModuleFileNameW(module, path.as_mut_ptr(), 260) } as usize;
    let path = String::from_utf16_lossy(&path[..len.min(260)]);
    let name = path.rsplit('\\').next().unwrap_or("?");
    format!("{name}+0x{:x}", address.wrapping_sub(module as usize))
}

/// The whole stack, innermost first.
pub fn trace() -> Vec<String> {
    let mut frames = [std::ptr::null_mut(); FRAMES];
    let count = capture(1, &mut frames);
    frames[..count]
        .iter()
        .map(|f| describe(*f as usize))
        .collect()
}

thread_local! {
    static BLAMED: Cell<usize> = const { Cell::new(0) };
}

/// Says which callback of the driver this thread called last: what is found
/// wrong when it has returned, with no driver code on the stack, is its doing.
pub fn blame(address: usize) {
    BLAMED.set(address);
}

/// Address of the innermost frame in the driver's image, if there is one; else
/// the callback to [`blame`].
pub fn driver_frame() -> Option<usize> {
    within(NEAR)
        .or_else(|| within(FRAMES))
        .or_else(|| Some(BLAMED.get()).filter(|f| session::in_image(*f)))
}

/// The innermost frame in the driver's image among the innermost so many.
fn within(most: usize) -> Option<usize> {
    let mut frames = [std::ptr::null_mut(); FRAMES];
    let count = capture(1, &mut frames[..most]);
    let mut frames = frames[..count].iter().map(|f| *f as usize);
    frames.find(|f| session::in_image(*f))
}

/// [`driver_frame`] as RVA in the driver's image; 0 when there is none.
pub fn caller_rva() -> u32 {
    driver_frame()
        .and_then(session::rva)
        .map_or(0, |rva| u32::try_from(rva).unwrap_or(0))
}

/// Whether an address lies in lab.sys itself.
pub fn in_lab(address: usize) -> bool {
    let module = |at: usize| {
        let mut module = std::ptr::null_mut();
        // SAFETY: with FROM_ADDRESS the second argument is only looked up.
        let found = unsafe {
            GetModuleHandleExW(
                GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS
                    | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT,
                at as *const u16,
                &raw mut module,
            )
        };
        (found != 0).then_some(module as usize)
    };
    module(address).is_some_and(|m| Some(m) == module(in_lab as *const () as usize))
}

/// Keeps lab.sys in the process for good: its threads outlive the driver that
/// brought it in.
pub fn pin() {
    let mut module = std::ptr::null_mut();
    // SAFETY: with FROM_ADDRESS the second argument is only looked up.
    unsafe {
        GetModuleHandleExW(
            GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_PIN,
            pin as *const () as *const u16,
            &raw mut module,
        );
    }
}
