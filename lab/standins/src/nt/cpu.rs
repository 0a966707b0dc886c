//! Time and processors.

use windows_sys::Win32::System::Performance::{QueryPerformanceCounter, QueryPerformanceFrequency};
use windows_sys::Win32::System::SystemInformation::{
    GetSystemInfo, GetSystemTimePreciseAsFileTime, SYSTEM_INFO,
};
use windows_sys::Win32::System::Threading::GetCurrentProcessorNumber;

use super::arg;
use crate::core::{Rule, irql};

/// MSDN: KeQueryPerformanceCounter. Any IRQL.
///
/// # Safety
/// `frequency` points to a LARGE_INTEGER or is null.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn KeQueryPerformanceCounter(frequency: *mut i64) -> i64 {
    if !frequency.is_null() {
        // SAFETY: not null, so writable by contract.
        unsafe { QueryPerformanceFrequency(frequency) };
    }
    let mut now = 0;
    // SAFETY: a local variable.
    unsafe { QueryPerformanceCounter(&raw mut now) };
    now
}

/// MSDN: KeQuerySystemTimePrecise. Any IRQL. 100 ns since 1601, UTC.
///
/// # Safety
/// `time` points to a LARGE_INTEGER.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn KeQuerySystemTimePrecise(time: *mut u64) {
    // SAFETY: FILETIME is plain data.
    let mut now = unsafe { std::mem::zeroed::<windows_sys::Win32::Foundation::FILETIME>() };
    // SAFETY: a local variable.
    unsafe { GetSystemTimePreciseAsFileTime(&raw mut now) };
    // SAFETY: by contract.
    let time = unsafe { arg(time, "KeQuerySystemTimePrecise", "CurrentTime") };
    *time = u64::from(now.dwHighDateTime) << 32 | u64::from(now.dwLowDateTime);
}

fn processors() -> u32 {
    // SAFETY: SYSTEM_INFO is plain data.
    let mut info = unsafe { std::mem::zeroed::<SYSTEM_INFO>() };
    // SAFETY: a local variable.
    unsafe { GetSystemInfo(&raw mut info) };
    info.dwNumberOfProcessors.max(1)
}

fn group(api: &str, group: u16) -> u32 {
    if group != 0 && group != 0xFFFF {
        violate!(
            Rule::LabBadParameter,
            "{api}: group {group}, there is one group"
        );
    }
    processors()
}

/// MSDN: KeQueryActiveProcessorCountEx. IRQL <= DISPATCH_LEVEL.
#[unsafe(no_mangle)]
pub extern "system" fn KeQueryActiveProcessorCountEx(number: u16) -> u32 {
    irql::require_max("KeQueryActiveProcessorCountEx", irql::DISPATCH_LEVEL);
    group("KeQueryActiveProcessorCountEx", number)
}

/// MSDN: KeQueryMaximumProcessorCountEx. Any IRQL.
#[unsafe(no_mangle)]
pub extern "system" fn KeQueryMaximumProcessorCountEx(number: u16) -> u32 {
    group("KeQueryMaximumProcessorCountEx", number)
}

/// PROCESSOR_NUMBER.
#[repr(C)]
pub struct PROCESSOR_NUMBER {
    /// Group.
    pub Group: u16,
    /// Number in the group.
    pub Number: u8,
    /// Zero.
    pub Reserved: u8,
}

/// MSDN: KeGetCurrentProcessorNumberEx. Any IRQL.
///
/// # Safety
/// `number` points to a PROCESSOR_NUMBER or is null.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn KeGetCurrentProcessorNumberEx(number: *mut PROCESSOR_NUMBER) -> u32 {
    // SAFETY: takes no argument.
    let now = unsafe { GetCurrentProcessorNumber() } % processors();
    if !number.is_null() {
        let value = PROCESSOR_NUMBER {
            Group: 0,
            Number: now.to_le_bytes()[0],
            Reserved: 0,
        };
        // SAFETY: not null, so writable by contract.
        unsafe { number.write(value) };
    }
    now
}
