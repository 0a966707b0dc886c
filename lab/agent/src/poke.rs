//! One visit to a device, as any program might pay it: open, an IOCTL, a read
//! that is given up, close.

use std::fs::{File, OpenOptions};
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::AsRawHandle;
use std::time::Duration;

use windows_sys::Win32::Foundation::{ERROR_IO_PENDING, GetLastError, WAIT_TIMEOUT};
use windows_sys::Win32::Storage::FileSystem::{FILE_FLAG_OVERLAPPED, ReadFile};
use windows_sys::Win32::System::IO::{
    CancelIoEx, DeviceIoControl, GetOverlappedResult, OVERLAPPED,
};
use windows_sys::Win32::System::Threading::WaitForSingleObject;

use crate::error::CallError;

/// CTL_CODE(FILE_DEVICE_UNKNOWN, 0x800, METHOD_BUFFERED, read and write access).
const IOCTL: u32 = 0x0022_E000;

/// How long a request may take before it is given up.
const PATIENCE: Duration = Duration::from_millis(200);

/// What the kernel writes to while a request is under way: it lives on the heap
/// until the request has ended.
struct Operation {
    overlapped: OVERLAPPED,
    buffer: [u8; 64],
}

/// Visits the device of that name. What the driver answers is its own affair.
pub(crate) fn poke(device: &str) -> Result<(), CallError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(FILE_FLAG_OVERLAPPED)
        .open(format!(r"\\.\{device}"))
        .map_err(|e| CallError {
            what: "opening the device",
            code: e.raw_os_error().map_or(0, i32::cast_unsigned),
        })?;
    visit(&file, |handle, op| {
        let buffer = op.buffer.as_mut_ptr().cast();
        let overlapped = &raw mut op.overlapped;
        let none = std::ptr::null_mut();
        // SAFETY: the operation outlives the request, see `visit`.
        unsafe { DeviceIoControl(handle, IOCTL, buffer, 8, buffer, 64, none, overlapped) }
    })?;
    visit(&file, |handle, op| {
        let buffer = op.buffer.as_mut_ptr();
        let overlapped = &raw mut op.overlapped;
        // SAFETY: the operation outlives the request, see `visit`.
        unsafe { ReadFile(handle, buffer, 64, std::ptr::null_mut(), overlapped) }
    })
}

type Handle = *mut core::ffi::c_void;

/// Starts a request, waits a little, cancels it, and waits until it has ended.
/// One that doesn't even end then keeps its memory for good.
fn visit(file: &File, start: impl FnOnce(Handle, &mut Operation) -> i32) -> Result<(), CallError> {
    let handle: Handle = file.as_raw_handle();
    let operation = Operation {
        overlapped: OVERLAPPED::default(),
        buffer: [0; 64],
    };
    let operation = Box::leak(Box::new(operation));
    let ended = start(handle, operation) != 0 || {
        // SAFETY: GetLastError reads a thread-local value and has no preconditions.
        let code = unsafe { GetLastError() };
        code != ERROR_IO_PENDING
    };
    if !ended && !wait(handle) {
        let overlapped = &raw const operation.overlapped;
        // SAFETY: the handle is open and the operation is alive.
        unsafe { CancelIoEx(handle, overlapped) };
        if !wait(handle) {
            return Err(CallError {
                what: "cancelling a request",
                code: WAIT_TIMEOUT,
            });
        }
        let mut bytes = 0;
        // SAFETY: the request has ended; this only reads its outcome.
        unsafe { GetOverlappedResult(handle, overlapped, &raw mut bytes, 0) };
    }
    // SAFETY: it came from Box::leak, and the request, which alone used it, has ended.
    drop(unsafe { Box::from_raw(std::ptr::from_mut(operation)) });
    Ok(())
}

/// Whether the one request of this handle ends in time. A file handle is
/// signalled when its request is done.
fn wait(handle: Handle) -> bool {
    let milliseconds = PATIENCE.as_millis() as u32;
    // SAFETY: the handle is open.
    unsafe { WaitForSingleObject(handle, milliseconds) == 0 }
}
