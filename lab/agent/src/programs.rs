//! Ends what a person or a test left running, so that a driver can unload: it
//! stays as long as a program has its device open.

use windows_sys::Win32::Foundation::{CloseHandle, HANDLE, INVALID_HANDLE_VALUE};
use windows_sys::Win32::System::Diagnostics::ToolHelp::{
    CreateToolhelp32Snapshot, PROCESSENTRY32W, Process32FirstW, Process32NextW, TH32CS_SNAPPROCESS,
};
use windows_sys::Win32::System::Threading::{
    OpenProcess, PROCESS_QUERY_LIMITED_INFORMATION, PROCESS_TERMINATE, QueryFullProcessImageNameW,
    TerminateProcess,
};

use crate::error::CallError;

/// Where the system's own programs are; they stay.
const SYSTEM: &str = r"c:\windows\";

/// An open handle that is closed when dropped.
struct Handle(HANDLE);

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the handle was opened here and is closed nowhere else.
        unsafe { CloseHandle(self.0) };
    }
}

/// Ends every program that is neither the system's nor this one; how many.
pub(crate) fn end_all() -> Result<u32, CallError> {
    // SAFETY: flags and no process id.
    let snapshot = unsafe { CreateToolhelp32Snapshot(TH32CS_SNAPPROCESS, 0) };
    if snapshot == INVALID_HANDLE_VALUE {
        return Err(CallError::last("CreateToolhelp32Snapshot"));
    }
    let snapshot = Handle(snapshot);
    let mut entry = PROCESSENTRY32W {
        dwSize: size_of::<PROCESSENTRY32W>() as u32,
        ..PROCESSENTRY32W::default()
    };
    let mut ended = 0;
    // SAFETY: the snapshot is open and the entry's size is set.
    let mut more = unsafe { Process32FirstW(snapshot.0, &raw mut entry) };
    while more != 0 {
        if entry.th32ProcessID != std::process::id() && end(entry.th32ProcessID) {
            ended += 1;
        }
        // SAFETY: as above.
        more = unsafe { Process32NextW(snapshot.0, &raw mut entry) };
    }
    Ok(ended)
}

/// Ends one process, unless it is the system's or can't be looked at.
fn end(pid: u32) -> bool {
    let rights = PROCESS_QUERY_LIMITED_INFORMATION | PROCESS_TERMINATE;
    // SAFETY: plain values.
    let process = unsafe { OpenProcess(rights, 0, pid) };
    if process.is_null() {
        return false;
    }
    let process = Handle(process);
    let mut name = [0_u16; 1024];
    let mut length = name.len() as u32;
    // SAFETY: the handle is open and the buffer has the length it is said to have.
    let named =
        unsafe { QueryFullProcessImageNameW(process.0, 0, name.as_mut_ptr(), &raw mut length) };
    let path = String::from_utf16_lossy(name.get(..length as usize).unwrap_or_default());
    if named == 0 || path.to_lowercase().starts_with(SYSTEM) {
        return false;
    }
    // SAFETY: the handle is open with the right to terminate.
    unsafe { TerminateProcess(process.0, 1) != 0 }
}
