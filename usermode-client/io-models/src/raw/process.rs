//! What a process costs, as Windows counts it.

use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::time::Duration;

use windows_sys::Win32::Foundation::{FILETIME, HANDLE, INVALID_HANDLE_VALUE};
use windows_sys::Win32::System::Diagnostics::ToolHelp::{
    CreateToolhelp32Snapshot, PROCESSENTRY32W, Process32FirstW, Process32NextW, TH32CS_SNAPPROCESS,
};
use windows_sys::Win32::System::ProcessStatus::{
    K32GetProcessMemoryInfo, PROCESS_MEMORY_COUNTERS, PROCESS_MEMORY_COUNTERS_EX,
};
use windows_sys::Win32::System::Threading::{
    GetProcessTimes, OpenProcess, PROCESS_QUERY_LIMITED_INFORMATION,
};

/// All processes there are, with the names of their programs.
pub(crate) fn all() -> io::Result<Vec<(u32, String)>> {
    // SAFETY: no pointer is passed.
    let raw = unsafe { CreateToolhelp32Snapshot(TH32CS_SNAPPROCESS, 0) };
    if raw == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so the handle is open, and nobody else closes it.
    let list = unsafe { OwnedHandle::from_raw_handle(raw) };
    let mut entry = PROCESSENTRY32W {
        dwSize: size_of::<PROCESSENTRY32W>() as u32,
        ..PROCESSENTRY32W::default()
    };
    let mut found = Vec::new();
    // SAFETY: the list is open; the entry is ours and says its size.
    let mut more = unsafe { Process32FirstW(list.as_raw_handle(), &mut entry) };
    while more != 0 {
        let name = entry.szExeFile.split(|unit| *unit == 0).next();
        let name = String::from_utf16_lossy(name.unwrap_or(&[]));
        found.push((entry.th32ProcessID, name));
        // SAFETY: as above.
        more = unsafe { Process32NextW(list.as_raw_handle(), &mut entry) };
    }
    Ok(found)
}

/// A process that may be asked.
pub(crate) struct Process(OwnedHandle);

impl Process {
    /// The process with this id.
    pub(crate) fn open(id: u32) -> io::Result<Process> {
        // SAFETY: no pointer is passed.
        let raw = unsafe { OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, 0, id) };
        if raw.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded, so the handle is open, and nobody else
        // closes it.
        Ok(Process(unsafe { OwnedHandle::from_raw_handle(raw) }))
    }

    fn raw(&self) -> HANDLE {
        self.0.as_raw_handle()
    }

    /// Processor time of all its threads, in user mode and in the kernel.
    pub(crate) fn cpu(&self) -> io::Result<Duration> {
        let mut times = [FILETIME::default(); 4];
        let [created, exited, kernel, user] = &mut times;
        // SAFETY: the handle is open with the right to query; all four are ours
        // through the call.
        let ok = unsafe { GetProcessTimes(self.raw(), created, exited, kernel, user) };
        if ok == 0 {
            return Err(io::Error::last_os_error());
        }
        // In units of 100 ns.
        let ticks = |t: &FILETIME| u64::from(t.dwHighDateTime) << 32 | u64::from(t.dwLowDateTime);
        Ok(Duration::from_nanos((ticks(kernel) + ticks(user)) * 100))
    }

    /// Bytes of memory only it has; where those are not told (Wine), what of it is
    /// in memory.
    pub(crate) fn memory(&self) -> io::Result<u64> {
        let mut counters = PROCESS_MEMORY_COUNTERS_EX {
            cb: size_of::<PROCESS_MEMORY_COUNTERS_EX>() as u32,
            ..PROCESS_MEMORY_COUNTERS_EX::default()
        };
        let into: *mut PROCESS_MEMORY_COUNTERS = (&raw mut counters).cast();
        // SAFETY: the handle is open with the right to query; the larger
        // structure may be passed in place of the smaller, with its own size
        // (MSDN "PROCESS_MEMORY_COUNTERS_EX structure").
        let ok = unsafe { K32GetProcessMemoryInfo(self.raw(), into, counters.cb) };
        if ok == 0 {
            return Err(io::Error::last_os_error());
        }
        let bytes = match counters.PrivateUsage {
            0 => counters.WorkingSetSize,
            private => private,
        };
        Ok(bytes as u64)
    }
}
