//! WDFLDR.SYS: bind and unbind, and the function table.

use std::ffi::c_void;
use std::sync::OnceLock;

use super::abi::{BindInfo, Globals};
use super::world::lock;
use super::{buffer, device, driver, file, object, queue, request, sync, timer};
use crate::core::{Rule, irql, session};
use crate::nt::arg;
use crate::nt::types::{DRIVER_OBJECT, UNICODE_STRING, status, unicode};

/// Index, name and prototype of every function of KMDF 1.31.
const FUNCTIONS: &str = include_str!("../../../kit/kmdf-1.31.csv");
/// Entries of the table of KMDF 1.31 and 1.33.
const COUNT: usize = 458;
/// Up to this many entries the library fills the driver's own array; above it
/// stores a pointer to its table (KMDF 1.15 and later).
const COPIED: usize = 438;
/// Sizes of the tables that were released (KMDF 1.0 to 1.33).
const RELEASED: [usize; 13] = [
    383, 386, 387, 396, 432, 438, 444, 446, 448, 451, 453, 454, 458,
];

/// The function table under construction.
pub struct Table {
    names: Vec<&'static str>,
    entries: Vec<usize>,
}

impl Table {
    /// Puts a function at its name's index.
    pub fn set(&mut self, name: &str, function: *const c_void) {
        match self.names.iter().position(|n| *n == name) {
            Some(index) => self.entries[index] = function as usize,
            None => violate!(Rule::LabUnimplemented, "the table has no {name}"),
        }
    }
}

// One small entry for each index: it puts the index where the first argument
// was and jumps on, so that the report can name the function.
std::arch::global_asm!(
    ".p2align 4",
    ".globl lab_wdf_stubs",
    "lab_wdf_stubs:",
    ".set lab_wdf_index, 0",
    ".rept 458",
    "mov ecx, lab_wdf_index",
    "jmp {report}",
    ".p2align 4",
    ".set lab_wdf_index, lab_wdf_index + 1",
    ".endr",
    report = sym unimplemented,
);

unsafe extern "C" {
    static lab_wdf_stubs: [u8; COUNT * 16];
}

extern "system" fn unimplemented(index: u32) -> ! {
    let name = names().get(index as usize).copied().unwrap_or("?");
    violate!(
        Rule::LabUnimplemented,
        "{name} (index {index} of the KMDF function table)"
    )
}

fn names() -> Vec<&'static str> {
    FUNCTIONS
        .lines()
        .skip(1)
        .filter_map(|l| l.split(',').nth(1))
        .collect()
}

fn table() -> &'static [usize] {
    static TABLE: OnceLock<Vec<usize>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let stubs = (&raw const lab_wdf_stubs) as usize;
        let mut table = Table {
            names: names(),
            entries: (0..COUNT).map(|i| stubs + i * 16).collect(),
        };
        object::register(&mut table);
        driver::register(&mut table);
        device::register(&mut table);
        file::register(&mut table);
        queue::register(&mut table);
        request::register(&mut table);
        buffer::register(&mut table);
        sync::register(&mut table);
        timer::register(&mut table);
        table.entries
    })
}

/// The service's name: last part of the registry path.
fn service_name(path: *const UNICODE_STRING) -> String {
    unicode(path).rsplit('\\').next().unwrap_or("?").to_owned()
}

fn component(info: &BindInfo) -> String {
    let mut chars = Vec::new();
    if !info.component.is_null() {
        for at in 0..32 {
            // SAFETY: inside a terminated string, by the loader's contract.
            match unsafe { info.component.wrapping_add(at).read() } {
                0 => break,
                c => chars.push(c),
            }
        }
    }
    String::from_utf16_lossy(&chars)
}

fn check(info: &BindInfo) {
    let rule = Rule::LabWdfBind;
    if info.size as usize != size_of::<BindInfo>() {
        violate!(
            rule,
            "WDF_BIND_INFO.Size is {}, should be {}",
            info.size,
            size_of::<BindInfo>()
        );
    }
    if component(info) != "KmdfLibrary" {
        violate!(
            rule,
            "WDF_BIND_INFO.Component is {:?}, should be KmdfLibrary",
            component(info)
        );
    }
    if info.major != 1 || info.minor > 31 {
        violate!(
            rule,
            "version {}.{} (the lab is KMDF 1.31)",
            info.major,
            info.minor
        );
    }
    if !RELEASED.contains(&(info.func_count as usize)) {
        violate!(rule, "FuncCount {} is no released table's", info.func_count);
    }
    if info.func_table.is_null() {
        violate!(rule, "FuncTable is null");
    }
}

/// WDFLDR: WdfVersionBind. IRQL = PASSIVE_LEVEL.
///
/// # Safety
/// The driver object and registry path are those of the entry point, the bind
/// information is static.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn WdfVersionBind(
    driver: *mut DRIVER_OBJECT,
    path: *mut UNICODE_STRING,
    info: *mut BindInfo,
    globals: *mut *mut Globals,
) -> i32 {
    let api = "WdfVersionBind";
    irql::require_exact_rule(Rule::IrqlKmdf, api, irql::PASSIVE_LEVEL);
    // SAFETY: by contract.
    let object = unsafe { arg(driver, api, "DriverObject") };
    // SAFETY: by contract.
    let info = unsafe { arg(info, api, "BindInfo") };
    // SAFETY: by contract.
    let out = unsafe { arg(globals, api, "ComponentGlobals") };
    let name = service_name(path);
    let base = object.DriverStart as usize;
    if !session::begin(driver, base, object.DriverSize as usize, &name) {
        return status::DEVICE_BUSY;
    }
    check(info);
    let table = table();
    let count = info.func_count as usize;
    if count > COPIED {
        // SAFETY: FuncTable is the address of a pointer variable (see gotchas
        // of the bind at the top: more than 438 entries).
        unsafe { info.func_table.cast::<*const usize>().write(table.as_ptr()) };
    } else {
        // SAFETY: FuncTable is an array of `count` entries.
        unsafe {
            std::ptr::copy_nonoverlapping(table.as_ptr(), info.func_table.cast(), count);
        }
    }
    let mut text = [0u8; 32];
    for (to, from) in text.iter_mut().zip(name.bytes().take(31)) {
        *to = from;
    }
    let made = Box::into_raw(Box::new(Globals {
        driver: 0,
        flags: 0,
        tag: u32::from_le_bytes(*b"WdfD"),
        name: text,
        displace_unload: 1,
    }));
    lock().globals = made;
    *out = made;
    status::SUCCESS
}

/// WDFLDR: WdfVersionUnbind. IRQL = PASSIVE_LEVEL. The end of the session.
///
/// # Safety
/// With the globals of the bind.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn WdfVersionUnbind(
    _path: *mut UNICODE_STRING,
    _info: *mut BindInfo,
    globals: *mut Globals,
) -> i32 {
    let api = "WdfVersionUnbind";
    irql::require_exact_rule(Rule::IrqlKmdf, api, irql::PASSIVE_LEVEL);
    drop(super::world::enter(globals, api));
    // After a failed DriverEntry nothing was deleted yet.
    driver::delete_everything();
    session::end();
    let mut world = lock();
    world.globals = std::ptr::null_mut();
    world.unloading = false;
    // The globals stay: a late call through them must be caught, not fault.
    status::SUCCESS
}

/// WDFLDR: WdfVersionBindClass. The lab has no class extensions.
#[unsafe(no_mangle)]
pub extern "system" fn WdfVersionBindClass(
    _info: *mut BindInfo,
    _globals: *mut Globals,
    _class: *mut c_void,
) -> i32 {
    violate!(
        Rule::LabUnimplemented,
        "WdfVersionBindClass: the lab has no class extensions"
    )
}

/// WDFLDR: WdfVersionUnbindClass.
#[unsafe(no_mangle)]
pub extern "system" fn WdfVersionUnbindClass(
    _info: *mut BindInfo,
    _globals: *mut Globals,
    _class: *mut c_void,
) {
    violate!(
        Rule::LabUnimplemented,
        "WdfVersionUnbindClass: the lab has no class extensions"
    )
}
