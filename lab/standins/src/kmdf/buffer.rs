//! A request's buffers: as memory, as MDL, as WDFMEMORY.

use std::ffi::c_void;

use super::abi::{Globals, Handle, MdlOut, major};
use super::loader::Table;
use super::object;
use super::world::{Data, Kind, Request, World, enter, lock};
use crate::core::{Rule, fault, irql};
use crate::nt::types::status;
use crate::nt::{arg, mdl};

/// Puts this file's functions into the table.
pub fn register(table: &mut Table) {
    let functions: [(&str, *const c_void); 7] = [
        (
            "WdfRequestRetrieveInputBuffer",
            WdfRequestRetrieveInputBuffer as _,
        ),
        (
            "WdfRequestRetrieveOutputBuffer",
            WdfRequestRetrieveOutputBuffer as _,
        ),
        (
            "WdfRequestRetrieveInputWdmMdl",
            WdfRequestRetrieveInputWdmMdl as _,
        ),
        (
            "WdfRequestRetrieveOutputWdmMdl",
            WdfRequestRetrieveOutputWdmMdl as _,
        ),
        (
            "WdfRequestRetrieveInputMemory",
            WdfRequestRetrieveInputMemory as _,
        ),
        (
            "WdfRequestRetrieveOutputMemory",
            WdfRequestRetrieveOutputMemory as _,
        ),
        ("WdfMemoryGetBuffer", WdfMemoryGetBuffer as _),
    ];
    for (name, function) in functions {
        table.set(name, function);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Input,
    Output,
}

/// Where a buffer is.
struct Found {
    address: *mut u8,
    length: usize,
    /// The request's own MDL, with direct I/O.
    mdl: *mut mdl_type::MDL,
}

use crate::nt::types as mdl_type;

/// The buffer of one side, by type of request and transfer method.
fn find(r: &Request, side: Side) -> Result<Found, i32> {
    // SAFETY: the IRP of a request the driver owns.
    let irp = unsafe { &*r.irp };
    let low = |n: usize| r.parameters[n] & 0xFFFF_FFFF;
    let buffered = irp.SystemBuffer.cast::<u8>();
    let (length, direct) = match (r.major, side) {
        (major::READ, Side::Output) | (major::WRITE, Side::Input) => {
            (low(0), !irp.MdlAddress.is_null())
        }
        (major::DEVICE_CONTROL, _) if low(2) & 3 == 3 => {
            return Err(status::INVALID_DEVICE_REQUEST);
        }
        (major::DEVICE_CONTROL, Side::Input) => (low(1), false),
        (major::DEVICE_CONTROL, Side::Output) => (low(0), low(2) & 3 != 0),
        _ => return Err(status::INVALID_DEVICE_REQUEST),
    };
    if direct && !irp.MdlAddress.is_null() {
        let address = mdl::system_address(irp.MdlAddress);
        return Ok(Found {
            address,
            length,
            mdl: irp.MdlAddress,
        });
    }
    Ok(Found {
        address: buffered,
        length,
        mdl: std::ptr::null_mut(),
    })
}

fn owned<'a>(world: &'a mut World, handle: Handle, api: &str) -> &'a mut Request {
    irql::require_max_rule(Rule::IrqlKmdf, api, irql::DISPATCH_LEVEL);
    world.owned(handle, api)
}

/// # Safety
/// `buffer` is writable, `length` writable or null.
unsafe fn retrieve(
    globals: *mut Globals,
    handle: Handle,
    minimum: usize,
    buffer: *mut *mut u8,
    length: *mut usize,
    side: Side,
    api: &str,
) -> i32 {
    // SAFETY: by contract.
    let out = unsafe { arg(buffer, api, "Buffer") };
    *out = std::ptr::null_mut();
    // SAFETY: by contract.
    unsafe { object::store(length, 0) };
    let mut world = enter(globals, api);
    match find(owned(&mut world, handle, api), side) {
        Err(status) => status,
        Ok(found) if found.length == 0 || found.length < minimum => status::BUFFER_TOO_SMALL,
        Ok(found) => {
            *out = found.address;
            // SAFETY: by contract.
            unsafe { object::store(length, found.length) };
            status::SUCCESS
        }
    }
}

unsafe extern "system" fn WdfRequestRetrieveInputBuffer(
    globals: *mut Globals,
    handle: Handle,
    minimum: usize,
    buffer: *mut *mut u8,
    length: *mut usize,
) -> i32 {
    let api = "WdfRequestRetrieveInputBuffer";
    // SAFETY: by the function's contract.
    unsafe { retrieve(globals, handle, minimum, buffer, length, Side::Input, api) }
}

unsafe extern "system" fn WdfRequestRetrieveOutputBuffer(
    globals: *mut Globals,
    handle: Handle,
    minimum: usize,
    buffer: *mut *mut u8,
    length: *mut usize,
) -> i32 {
    let api = "WdfRequestRetrieveOutputBuffer";
    // SAFETY: by the function's contract.
    unsafe { retrieve(globals, handle, minimum, buffer, length, Side::Output, api) }
}

/// # Safety
/// `out` is writable.
unsafe fn wdm_mdl(
    globals: *mut Globals,
    handle: Handle,
    out: MdlOut,
    side: Side,
    api: &str,
) -> i32 {
    // SAFETY: by contract.
    let out = unsafe { arg(out, api, "Mdl") };
    *out = std::ptr::null_mut();
    let mut world = enter(globals, api);
    let r = owned(&mut world, handle, api);
    let found = match find(r, side) {
        Err(status) => return status,
        Ok(found) if found.length == 0 => return status::BUFFER_TOO_SMALL,
        Ok(found) => found,
    };
    if !found.mdl.is_null() {
        *out = found.mdl;
        return status::SUCCESS;
    }
    if fault::alloc_should_fail_named(api) {
        return status::INSUFFICIENT_RESOURCES;
    }
    // A buffered request: the framework describes the system buffer, and frees
    // the description when the request is completed.
    let length = u32::try_from(found.length).unwrap_or(u32::MAX);
    let made = mdl::allocate(found.address, length, "the framework");
    mdl::build_nonpaged(made, api);
    r.mdls.push(made);
    *out = made;
    status::SUCCESS
}

unsafe extern "system" fn WdfRequestRetrieveInputWdmMdl(
    globals: *mut Globals,
    handle: Handle,
    out: MdlOut,
) -> i32 {
    // SAFETY: by the function's contract.
    unsafe {
        wdm_mdl(
            globals,
            handle,
            out,
            Side::Input,
            "WdfRequestRetrieveInputWdmMdl",
        )
    }
}

unsafe extern "system" fn WdfRequestRetrieveOutputWdmMdl(
    globals: *mut Globals,
    handle: Handle,
    out: MdlOut,
) -> i32 {
    // SAFETY: by the function's contract.
    unsafe {
        wdm_mdl(
            globals,
            handle,
            out,
            Side::Output,
            "WdfRequestRetrieveOutputWdmMdl",
        )
    }
}

/// # Safety
/// `out` is writable.
unsafe fn memory(
    globals: *mut Globals,
    handle: Handle,
    out: *mut Handle,
    side: Side,
    api: &str,
) -> i32 {
    // SAFETY: by contract.
    let out = unsafe { arg(out, api, "Memory") };
    *out = 0;
    let mut world = enter(globals, api);
    let r = owned(&mut world, handle, api);
    let slot = usize::from(side == Side::Output);
    if r.memory[slot] != 0 {
        *out = r.memory[slot];
        return status::SUCCESS;
    }
    let found = match find(r, side) {
        Err(status) => return status,
        Ok(found) if found.length == 0 => return status::BUFFER_TOO_SMALL,
        Ok(found) => found,
    };
    let data = Data::Memory {
        buffer: found.address.cast(),
        length: found.length,
        owned: false,
    };
    let made = world.insert(Kind::Memory, handle, data);
    world.owned(handle, api).memory[slot] = made;
    *out = made;
    status::SUCCESS
}

unsafe extern "system" fn WdfRequestRetrieveInputMemory(
    globals: *mut Globals,
    handle: Handle,
    out: *mut Handle,
) -> i32 {
    // SAFETY: by the function's contract.
    unsafe {
        memory(
            globals,
            handle,
            out,
            Side::Input,
            "WdfRequestRetrieveInputMemory",
        )
    }
}

unsafe extern "system" fn WdfRequestRetrieveOutputMemory(
    globals: *mut Globals,
    handle: Handle,
    out: *mut Handle,
) -> i32 {
    // SAFETY: by the function's contract.
    unsafe {
        memory(
            globals,
            handle,
            out,
            Side::Output,
            "WdfRequestRetrieveOutputMemory",
        )
    }
}

unsafe extern "system" fn WdfMemoryGetBuffer(
    globals: *mut Globals,
    handle: Handle,
    length: *mut usize,
) -> *mut c_void {
    let api = "WdfMemoryGetBuffer";
    drop(enter(globals, api));
    let (buffer, size) = match lock().object(handle, Kind::Memory, api).data {
        Data::Memory { buffer, length, .. } => (buffer, length),
        _ => (std::ptr::null_mut(), 0),
    };
    // SAFETY: the driver's variable, or null.
    unsafe { object::store(length, size) };
    buffer
}
