//! Wine's own `ntoskrnl.exe`, for what must be Wine's.
//!
//! Looked up by name at run time: our exports have the same names, so an
//! import would resolve to ourselves.

use std::ffi::{CStr, c_void};

use windows_sys::Win32::System::LibraryLoader::{GetProcAddress, LoadLibraryW};

use crate::core::Rule;

/// Address of a function of Wine's ntoskrnl.exe; its absence ends the run.
pub fn resolve(name: &CStr) -> *const c_void {
    let library: Vec<u16> = "ntoskrnl.exe\0".encode_utf16().collect();
    // SAFETY: a terminated string; the module is loaded already.
    let module = unsafe { LoadLibraryW(library.as_ptr()) };
    // SAFETY: a module handle (or null, which fails) and a terminated string.
    match unsafe { GetProcAddress(module, name.as_ptr().cast()) } {
        Some(f) => f as *const c_void,
        None => violate!(
            Rule::LabUnimplemented,
            "Wine's ntoskrnl.exe has no {name:?}"
        ),
    }
}

/// A function of Wine's ntoskrnl.exe as `fn`: looked up once.
macro_rules! wine_fn {
    ($(#[$doc:meta])* $name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)?) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// As its MSDN page demands.
        pub unsafe fn $name($($arg: $ty),*) $(-> $ret)? {
            static ADDRESS: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
            let address = *ADDRESS.get_or_init(|| {
                resolve(
                    std::ffi::CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes())
                        .unwrap_or(c""),
                ) as usize
            });
            type Function = unsafe extern "system" fn($($ty),*) $(-> $ret)?;
            // SAFETY: the address is that of the function with this prototype.
            let f = unsafe { std::mem::transmute::<usize, Function>(address) };
            // SAFETY: the caller keeps the function's contract.
            unsafe { f($($arg),*) }
        }
    };
}

use super::types::{DEVICE_OBJECT, DRIVER_OBJECT, IRP, UNICODE_STRING};

wine_fn!(
    /// Creates a named device.
    IoCreateDevice(
        driver: *mut DRIVER_OBJECT, extension: u32, name: *mut UNICODE_STRING, kind: u32,
        characteristics: u32, exclusive: u8, device: *mut *mut DEVICE_OBJECT
    ) -> i32
);
wine_fn!(
    /// Deletes a device.
    IoDeleteDevice(device: *mut DEVICE_OBJECT)
);
wine_fn!(
    /// Makes a symbolic link in the object manager's name space.
    IoCreateSymbolicLink(link: *mut UNICODE_STRING, target: *mut UNICODE_STRING) -> i32
);
wine_fn!(
    /// Removes a symbolic link.
    IoDeleteSymbolicLink(link: *mut UNICODE_STRING) -> i32
);
wine_fn!(
    /// Completes an IRP that came from user mode.
    IofCompleteRequest(irp: *mut IRP, boost: i8)
);
wine_fn!(
    /// Frees an IRP that came from user mode.
    IoFreeIrp(irp: *mut IRP)
);
wine_fn!(
    /// Ends what IoCancelIrp began.
    IoReleaseCancelSpinLock(irql: u8)
);
wine_fn!(
    /// Keeps an object of Wine's.
    ObfReferenceObject(object: *mut c_void) -> isize
);
wine_fn!(
    /// Lets go of an object of Wine's.
    ObfDereferenceObject(object: *mut c_void) -> isize
);
wine_fn!(
    /// The process whose request this thread of Wine's serves, or its own.
    PsGetCurrentProcessId() -> usize
);
