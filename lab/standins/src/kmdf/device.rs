//! Control devices: WDFDEVICE_INIT, creation over Wine's IoCreateDevice,
//! symbolic links, deletion.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::abi::{Attributes, FileConfig, Globals, Handle, consts};
use super::cancel;
use super::loader::Table;
use super::object::{self, ParentRule, apply, check_size, template};
use super::world::{Data, Device, Kind, Place, Template, World, enter, lock, wait_for};
use crate::core::{Rule, event, fault, irql, session, stack};
use crate::nt::types::{DEVICE_OBJECT, UNICODE_STRING, do_flags, status};
use crate::nt::{arg, wine};

/// Puts this file's functions into the table.
pub fn register(table: &mut Table) {
    let functions: [(&str, *const c_void); 14] = [
        (
            "WdfControlDeviceInitAllocate",
            WdfControlDeviceInitAllocate as _,
        ),
        (
            "WdfControlFinishInitializing",
            WdfControlFinishInitializing as _,
        ),
        ("WdfDeviceInitFree", WdfDeviceInitFree as _),
        ("WdfDeviceInitAssignName", WdfDeviceInitAssignName as _),
        ("WdfDeviceInitSetIoType", WdfDeviceInitSetIoType as _),
        ("WdfDeviceInitSetExclusive", WdfDeviceInitSetExclusive as _),
        (
            "WdfDeviceInitSetFileObjectConfig",
            WdfDeviceInitSetFileObjectConfig as _,
        ),
        (
            "WdfDeviceInitSetRequestAttributes",
            WdfDeviceInitSetRequestAttributes as _,
        ),
        (
            "WdfDeviceInitSetDeviceType",
            WdfDeviceInitSetDeviceType as _,
        ),
        (
            "WdfDeviceInitSetCharacteristics",
            WdfDeviceInitSetCharacteristics as _,
        ),
        (
            "WdfDeviceInitAssignSDDLString",
            WdfDeviceInitAssignSDDLString as _,
        ),
        ("WdfDeviceCreate", WdfDeviceCreate as _),
        (
            "WdfDeviceCreateSymbolicLink",
            WdfDeviceCreateSymbolicLink as _,
        ),
        (
            "WdfDeviceWdmGetDeviceObject",
            WdfDeviceWdmGetDeviceObject as _,
        ),
    ];
    for (name, function) in functions {
        table.set(name, function);
    }
}

/// What WDFDEVICE_INIT collects.
struct Init {
    name: Option<Vec<u16>>,
    io_type: u32,
    exclusive: bool,
    kind: u32,
    characteristics: u32,
    files: Option<FileConfig>,
    file_attributes: Option<Template>,
    request_attributes: Option<Template>,
    caller: u32,
}

static INITS: Mutex<BTreeMap<usize, Init>> = Mutex::new(BTreeMap::new());

/// All links that exist, apart from the devices that own them: Wine keeps a
/// link when the process of its driver is gone, so a violation removes them.
static LINKS: Mutex<Vec<Vec<u16>>> = Mutex::new(Vec::new());

fn remove_links() {
    if let Ok(links) = LINKS.try_lock() {
        for link in links.iter() {
            delete_link(link.clone());
        }
    }
}

fn delete_link(mut link: Vec<u16>) {
    let mut link = counted(&mut link);
    // SAFETY: Wine's own function; the string outlives the call.
    unsafe { wine::IoDeleteSymbolicLink(&raw mut link) };
}

fn inits() -> MutexGuard<'static, BTreeMap<usize, Init>> {
    INITS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Works on a live WDFDEVICE_INIT.
fn with_init<R>(
    globals: *mut Globals,
    init: usize,
    api: &str,
    f: impl FnOnce(&mut Init) -> R,
) -> R {
    drop(enter(globals, api));
    irql::require_exact_rule(Rule::IrqlKmdf, api, irql::PASSIVE_LEVEL);
    match inits().get_mut(&init) {
        Some(init) => f(init),
        None => violate!(
            Rule::DeviceInitAPI,
            "{api}: {init:#x} is no live WDFDEVICE_INIT (freed, or consumed by WdfDeviceCreate)"
        ),
    }
}

/// A device-init left over is a leak of the framework's memory.
pub fn check_inits() {
    if let Some(init) = inits().values().next() {
        violate!(
            Rule::InitFreeDeviceCreate,
            "a WDFDEVICE_INIT of {}+0x{:x} was neither consumed nor freed",
            session::name(),
            init.caller
        );
    }
}

fn chars(string: *const UNICODE_STRING, api: &str, name: &str) -> Vec<u16> {
    // SAFETY: by the functions' contract.
    let s = unsafe { arg(string.cast_mut(), api, name) };
    if s.Length % 2 != 0 || s.Length > s.MaximumLength || (s.Buffer.is_null() && s.Length > 0) {
        violate!(
            Rule::LabBadParameter,
            "{api}: {name} is not a well-formed UNICODE_STRING"
        );
    }
    if s.Length == 0 {
        return Vec::new();
    }
    // SAFETY: Length bytes at Buffer are the string, by its contract.
    unsafe { std::slice::from_raw_parts(s.Buffer, usize::from(s.Length) / 2) }.to_vec()
}

/// A security descriptor string must hold a protected DACL; one without it
/// would leave the device to everyone.
fn check_sddl(string: *const UNICODE_STRING, api: &str) {
    let text = String::from_utf16_lossy(&chars(string, api, "SDDLString"));
    let dacl = text.find("D:P").map(|at| &text[at + 3..]);
    let entries = dacl.map(|d| d.split(')').filter(|e| e.contains('(')).count());
    let shaped = entries.is_some_and(|n| n > 0)
        && text.matches('(').count() == text.matches(')').count()
        && text
            .split('(')
            .skip(1)
            .all(|e| e.split(')').next().is_some_and(ace));
    if !shaped {
        violate!(
            Rule::LabBadParameter,
            "{api}: SDDL {text:?} is not D:P(...)..."
        );
    }
}

/// An access control entry: type;flags;rights;object;inherited object;SID.
fn ace(text: &str) -> bool {
    let fields: Vec<&str> = text.split(';').collect();
    fields.len() == 6
        && matches!(fields[0], "A" | "D")
        && !fields[2].is_empty()
        && !fields[5].is_empty()
}

unsafe extern "system" fn WdfControlDeviceInitAllocate(
    globals: *mut Globals,
    driver: Handle,
    sddl: *const UNICODE_STRING,
) -> usize {
    let api = "WdfControlDeviceInitAllocate";
    enter(globals, api).object(driver, Kind::Driver, api);
    irql::require_exact_rule(Rule::IrqlKmdf, api, irql::PASSIVE_LEVEL);
    check_sddl(sddl, api);
    if fault::alloc_should_fail_named(api) {
        return 0;
    }
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let number = NEXT.fetch_add(0x10, std::sync::atomic::Ordering::Relaxed);
    let handle = 0xFFFF_A000_0000_0000 + number;
    let init = Init {
        name: None,
        io_type: consts::IO_BUFFERED,
        exclusive: false,
        kind: 0x22,
        characteristics: 0x100,
        files: None,
        file_attributes: None,
        request_attributes: None,
        caller: stack::caller_rva(),
    };
    inits().insert(handle, init);
    handle
}

unsafe extern "system" fn WdfDeviceInitFree(globals: *mut Globals, init: usize) {
    let api = "WdfDeviceInitFree";
    drop(enter(globals, api));
    irql::require_exact_rule(Rule::IrqlKmdf, api, irql::PASSIVE_LEVEL);
    if inits().remove(&init).is_none() {
        violate!(
            Rule::InitFreeDeviceCreate,
            "{api}: {init:#x} was freed or consumed before"
        );
    }
}

unsafe extern "system" fn WdfDeviceInitAssignName(
    globals: *mut Globals,
    init: usize,
    name: *const UNICODE_STRING,
) -> i32 {
    let api = "WdfDeviceInitAssignName";
    let name = chars(name, api, "DeviceName");
    let fail = fault::alloc_should_fail_named(api);
    with_init(globals, init, api, |init| {
        if fail {
            return status::INSUFFICIENT_RESOURCES;
        }
        init.name = Some(name);
        status::SUCCESS
    })
}

unsafe extern "system" fn WdfDeviceInitSetIoType(globals: *mut Globals, init: usize, kind: u32) {
    let api = "WdfDeviceInitSetIoType";
    if !(consts::IO_NEITHER..=consts::IO_DIRECT).contains(&kind) {
        violate!(Rule::LabBadParameter, "{api}: type {kind}");
    }
    with_init(globals, init, api, |init| init.io_type = kind);
}

unsafe extern "system" fn WdfDeviceInitSetExclusive(globals: *mut Globals, init: usize, yes: u8) {
    with_init(globals, init, "WdfDeviceInitSetExclusive", |init| {
        init.exclusive = yes != 0
    });
}

unsafe extern "system" fn WdfDeviceInitSetFileObjectConfig(
    globals: *mut Globals,
    init: usize,
    config: *const FileConfig,
    attributes: *const Attributes,
) {
    let api = "WdfDeviceInitSetFileObjectConfig";
    // SAFETY: by the function's contract.
    let config = *unsafe { arg(config.cast_mut(), api, "FileObjectConfig") };
    check_size::<FileConfig>(config.size as usize, api, "WDF_FILEOBJECT_CONFIG");
    if !(1..=4).contains(&(config.class & !consts::FILE_OPTIONAL)) {
        violate!(
            Rule::LabBadParameter,
            "{api}: FileObjectClass {:#x}",
            config.class
        );
    }
    // SAFETY: by the function's contract.
    let attributes = unsafe { template(attributes, ParentRule::None, api) };
    with_init(globals, init, api, |init| {
        init.files = Some(config);
        init.file_attributes = Some(attributes);
    });
}

unsafe extern "system" fn WdfDeviceInitSetRequestAttributes(
    globals: *mut Globals,
    init: usize,
    attributes: *const Attributes,
) {
    let api = "WdfDeviceInitSetRequestAttributes";
    // SAFETY: by the function's contract.
    let attributes = unsafe { template(attributes, ParentRule::None, api) };
    with_init(globals, init, api, |init| {
        init.request_attributes = Some(attributes)
    });
}

unsafe extern "system" fn WdfDeviceInitSetDeviceType(
    globals: *mut Globals,
    init: usize,
    kind: u32,
) {
    with_init(globals, init, "WdfDeviceInitSetDeviceType", |init| {
        init.kind = kind
    });
}

unsafe extern "system" fn WdfDeviceInitSetCharacteristics(
    globals: *mut Globals,
    init: usize,
    characteristics: u32,
    or_in: u8,
) {
    with_init(globals, init, "WdfDeviceInitSetCharacteristics", |init| {
        let kept = if or_in == 0 { 0 } else { init.characteristics };
        init.characteristics = kept | characteristics;
    });
}

unsafe extern "system" fn WdfDeviceInitAssignSDDLString(
    globals: *mut Globals,
    init: usize,
    sddl: *const UNICODE_STRING,
) -> i32 {
    let api = "WdfDeviceInitAssignSDDLString";
    if !sddl.is_null() {
        check_sddl(sddl, api);
    }
    with_init(globals, init, api, |_| status::SUCCESS)
}

/// A counted string over characters.
fn counted(chars: &mut Vec<u16>) -> UNICODE_STRING {
    let bytes = u16::try_from(chars.len() * 2).unwrap_or(u16::MAX - 1);
    chars.push(0);
    UNICODE_STRING {
        Length: bytes,
        MaximumLength: bytes + 2,
        Buffer: chars.as_mut_ptr(),
    }
}

unsafe extern "system" fn WdfDeviceCreate(
    globals: *mut Globals,
    init: *mut usize,
    attributes: *const Attributes,
    out: *mut Handle,
) -> i32 {
    let api = "WdfDeviceCreate";
    // SAFETY: by the function's contract.
    let init = unsafe { arg(init, api, "DeviceInit") };
    // SAFETY: by the function's contract.
    let out = unsafe { arg(out, api, "Device") };
    // SAFETY: by the function's contract.
    let template = unsafe { template(attributes, ParentRule::None, api) };
    let (kind, characteristics, exclusive, io_type, name) = with_init(globals, *init, api, |i| {
        (
            i.kind,
            i.characteristics,
            i.exclusive,
            i.io_type,
            i.name.clone(),
        )
    });
    if fault::alloc_should_fail_named(api) {
        return status::INSUFFICIENT_RESOURCES;
    }
    let wdm = match create_wdm(kind, characteristics, exclusive, name.clone()) {
        Ok(wdm) => wdm,
        Err(status) => return status,
    };
    // SAFETY: just made by Wine, and not yet in use.
    let object = unsafe { arg(wdm, api, "device object") };
    object.Flags |= match io_type {
        consts::IO_DIRECT => do_flags::DIRECT_IO,
        consts::IO_BUFFERED => do_flags::BUFFERED_IO,
        _ => 0,
    };
    let Some(taken) = inits().remove(init) else {
        violate!(
            Rule::InitFreeDeviceCreate,
            "{api}: the device-init went away meanwhile"
        );
    };
    *init = 0;
    let mut world = lock();
    let driver = world.driver;
    let device = Device {
        wdm,
        name,
        links: Vec::new(),
        finished: false,
        exclusive,
        files: taken.files,
        file_attributes: taken.file_attributes,
        request_attributes: taken.request_attributes,
        default_queue: 0,
        dispatch: BTreeMap::new(),
    };
    let handle = world.insert(Kind::Device, driver, Data::Device(Box::new(device)));
    apply(world.any(handle, api), &template);
    *out = handle;
    status::SUCCESS
}

fn create_wdm(
    kind: u32,
    characteristics: u32,
    exclusive: bool,
    name: Option<Vec<u16>>,
) -> Result<*mut DEVICE_OBJECT, i32> {
    let mut wdm = std::ptr::null_mut();
    let mut name = name.unwrap_or_default();
    let mut string = counted(&mut name);
    let unnamed = string.Length == 0;
    let string = if unnamed {
        std::ptr::null_mut()
    } else {
        &raw mut string
    };
    // SAFETY: Wine's own function; the driver object is the session's, strings
    // and variables outlive the call.
    let result = unsafe {
        wine::IoCreateDevice(
            session::driver_object(),
            0,
            string,
            kind,
            characteristics & !0x80,
            u8::from(exclusive),
            &raw mut wdm,
        )
    };
    if result < 0 { Err(result) } else { Ok(wdm) }
}

unsafe extern "system" fn WdfDeviceCreateSymbolicLink(
    globals: *mut Globals,
    device: Handle,
    link: *const UNICODE_STRING,
) -> i32 {
    let api = "WdfDeviceCreateSymbolicLink";
    irql::require_exact_rule(Rule::IrqlKmdf, api, irql::PASSIVE_LEVEL);
    let mut link = chars(link, api, "SymbolicLinkName");
    let name = enter(globals, api).device(device, api).name.clone();
    let Some(mut name) = name else {
        return status::INVALID_DEVICE_STATE;
    };
    if fault::alloc_should_fail_named(api) {
        return status::INSUFFICIENT_RESOURCES;
    }
    let kept = link.clone();
    let mut link = counted(&mut link);
    let mut target = counted(&mut name);
    // SAFETY: Wine's own function; both strings outlive the call.
    let result = unsafe { wine::IoCreateSymbolicLink(&raw mut link, &raw mut target) };
    if result >= 0 {
        event::at_end(remove_links);
        LINKS
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(kept.clone());
        lock().device(device, api).links.push(kept);
    }
    result
}

unsafe extern "system" fn WdfDeviceWdmGetDeviceObject(
    globals: *mut Globals,
    device: Handle,
) -> *mut DEVICE_OBJECT {
    let api = "WdfDeviceWdmGetDeviceObject";
    enter(globals, api).device(device, api).wdm
}

unsafe extern "system" fn WdfControlFinishInitializing(globals: *mut Globals, device: Handle) {
    let api = "WdfControlFinishInitializing";
    irql::require_exact_rule(Rule::IrqlKmdf, api, irql::PASSIVE_LEVEL);
    let mut world = enter(globals, api);
    if std::mem::replace(&mut world.device(device, api).finished, true) {
        violate!(
            Rule::CtlDeviceFinishInitDrEntry,
            "{api} called twice for {device:#x}"
        );
    }
}

/// A device that was never finished has refused every open: a driver that
/// loads does not leave it so.
pub fn require_finished(world: &World) {
    let unfinished = |o: &Data| matches!(o, Data::Device(d) if !d.finished);
    if let Some((handle, object)) = world.objects.iter().find(|(_, o)| unfinished(&o.data)) {
        violate!(
            Rule::CtlDeviceFinishInitDrEntry,
            "WdfControlFinishInitializing was never called for {handle:#x}, made by {}+0x{:x}",
            session::name(),
            object.caller
        );
    }
}

/// Deletes a device: its queues are purged, its requests must come to an end,
/// then links and Wine's device go, and the object.
pub fn delete(handle: Handle) {
    let api = "device deletion";
    let (queues, links, wdm) = {
        let mut world = lock();
        let Some(object) = world.objects.get_mut(&handle) else {
            return;
        };
        if object.deleted {
            return;
        }
        let Data::Device(device) = &mut object.data else {
            return;
        };
        device.finished = false;
        let links = std::mem::take(&mut device.links);
        let wdm = device.wdm;
        let queues: Vec<Handle> = world
            .objects
            .iter()
            .filter(|(_, o)| matches!(&o.data, Data::Queue(q) if q.device == handle))
            .map(|(h, _)| *h)
            .collect();
        (queues, links, wdm)
    };
    for queue in queues {
        cancel::purge(queue);
    }
    wait_for_requests(handle);
    for link in links {
        LINKS
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|l| *l != link);
        delete_link(link);
    }
    object::delete(handle, api);
    // SAFETY: Wine's device, made by WdfDeviceCreate and deleted once, here.
    unsafe { wine::IoDeleteDevice(wdm) };
}

/// Requests of a device that goes away must end soon, or never will.
fn wait_for_requests(device: Handle) {
    let start = Instant::now();
    let mut world = lock();
    loop {
        let left: Vec<String> = world
            .objects
            .iter()
            .filter_map(|(h, o)| match &o.data {
                Data::Request(r) if r.device == device && r.place != Place::Completed => {
                    Some(format!("{h:#x} (IRP_MJ {}, {:?})", r.major, r.place))
                }
                _ => None,
            })
            .collect();
        let Some(first) = left.first() else { return };
        if start.elapsed() > Duration::from_secs(5) {
            violate!(
                Rule::RequestCompleted,
                "{} request(s) never completed when the device was deleted, first: {first}",
                left.len()
            );
        }
        world = wait_for(world, Duration::from_millis(20));
    }
}
