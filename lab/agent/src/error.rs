//! What a Win32 call that failed leaves.

use windows_sys::Win32::Foundation::GetLastError;

/// A Win32 call that failed: which one, and its code.
#[derive(Debug)]
pub(crate) struct CallError {
    pub(crate) what: &'static str,
    pub(crate) code: u32,
}

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = std::io::Error::from_raw_os_error(self.code.cast_signed());
        write!(f, "{}: {text}", self.what)
    }
}

impl CallError {
    /// The error of the call just made.
    pub(crate) fn last(what: &'static str) -> Self {
        // SAFETY: GetLastError reads a thread-local value and has no preconditions.
        let code = unsafe { GetLastError() };
        Self { what, code }
    }
}
