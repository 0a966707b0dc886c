//! MDLs: descriptions of a range of memory.
//!
//! The lab has one address space, so the system address of a page is the
//! page's own, and an MDL needs no page frames; its size counts them anyway.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::types::{IRP, MDL};
use super::{active, arg};
use crate::core::{Rule, fault, irql, pool, session, stack};

/// `MDL::MdlFlags`.
pub mod flags {
    #![allow(missing_docs)]
    pub const MAPPED_TO_SYSTEM_VA: i16 = 0x0001;
    pub const PAGES_LOCKED: i16 = 0x0002;
    pub const SOURCE_IS_NONPAGED_POOL: i16 = 0x0004;
    pub const PARTIAL: i16 = 0x0010;
    pub const PARTIAL_HAS_BEEN_MAPPED: i16 = 0x0020;
}

const PAGE: usize = 4096;

struct Record {
    /// Keeps the memory.
    _memory: Box<MDL>,
    caller: u32,
    maker: &'static str,
}

// SAFETY: the MDL is only reached through its address, under MDLS.
unsafe impl Send for Record {}

static MDLS: Mutex<BTreeMap<usize, Record>> = Mutex::new(BTreeMap::new());

fn mdls() -> MutexGuard<'static, BTreeMap<usize, Record>> {
    MDLS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Address of the first byte an MDL describes.
pub fn system_address(mdl: *const MDL) -> *mut u8 {
    // SAFETY: a caller passes a live MDL or faults here, as in the kernel.
    let m = unsafe { &*mdl };
    m.StartVa.cast::<u8>().wrapping_add(m.ByteOffset as usize)
}

/// Makes an MDL for a range, not yet built. Not counted as an allocation: the
/// exported functions do that under their own names.
pub fn allocate(address: *mut u8, length: u32, maker: &'static str) -> *mut MDL {
    let at = address as usize;
    let offset = at % PAGE;
    let pages = (offset + length as usize).div_ceil(PAGE);
    let mut memory = Box::new(MDL {
        Next: std::ptr::null_mut(),
        Size: i16::try_from(size_of::<MDL>() + pages * 8).unwrap_or(i16::MAX),
        MdlFlags: 0,
        Reserved: 0,
        Process: std::ptr::null_mut(),
        MappedSystemVa: std::ptr::null_mut(),
        StartVa: (at - offset) as *mut c_void,
        ByteCount: length,
        ByteOffset: u32::try_from(offset).unwrap_or(0),
    });
    let mdl = &raw mut *memory;
    mdls().insert(
        mdl as usize,
        Record {
            _memory: memory,
            caller: stack::caller_rva(),
            maker,
        },
    );
    mdl
}

/// Frees an MDL made by the same maker.
pub fn free(mdl: *mut MDL, maker: &'static str, api: &str) {
    if let Some((rule, what)) = active::inside(mdl as usize, size_of::<MDL>()) {
        violate!(rule, "{api} of {mdl:?}, which is {what}");
    }
    match mdls().remove(&(mdl as usize)) {
        None => violate!(Rule::IoAllocateFree, "{api}: {mdl:?} is no live MDL"),
        Some(record) if record.maker != maker => {
            violate!(
                Rule::IoAllocateFree,
                "{api}: {mdl:?} was made by {}",
                record.maker
            )
        }
        Some(_) => {}
    }
}

/// Describes non-paged memory: locked and mapped from now on.
pub fn build_nonpaged(mdl: *mut MDL, api: &str) {
    // SAFETY: a live MDL by the exported function's contract.
    let m = unsafe { arg(mdl, api, "Mdl") };
    if m.MdlFlags & (flags::SOURCE_IS_NONPAGED_POOL | flags::PAGES_LOCKED | flags::PARTIAL) != 0 {
        violate!(
            Rule::LabMdl,
            "{api}: MDL {mdl:?} is built already (flags {:#x})",
            m.MdlFlags
        );
    }
    let start = system_address(mdl) as usize;
    let end = start + m.ByteCount as usize;
    if pool::is_freed(start) {
        violate!(Rule::LabMdl, "{api}: {start:#x} lies in freed pool");
    }
    if let Some((block, size)) = pool::find(start)
        && end > block + size
    {
        violate!(
            Rule::LabMdl,
            "{api}: {} bytes at {start:#x} reach {} bytes behind their pool block",
            m.ByteCount,
            end - block - size
        );
    }
    m.MdlFlags |= flags::SOURCE_IS_NONPAGED_POOL;
    m.MappedSystemVa = start as *mut c_void;
}

fn require_live(mdl: *mut MDL, api: &str) {
    if !mdls().contains_key(&(mdl as usize)) {
        violate!(
            Rule::IoAllocateFree,
            "{api}: {mdl:?} is no live MDL of IoAllocateMdl"
        );
    }
}

/// MSDN: IoAllocateMdl. IRQL <= DISPATCH_LEVEL. Not for associating with an
/// IRP here: the driver's IRPs have no chain.
#[unsafe(no_mangle)]
pub extern "system" fn IoAllocateMdl(
    address: *mut c_void,
    length: u32,
    _secondary: u8,
    _charge_quota: u8,
    irp: *mut IRP,
) -> *mut MDL {
    let api = "IoAllocateMdl";
    irql::require_max_rule(Rule::IrqlIoDispatch, api, irql::DISPATCH_LEVEL);
    if !irp.is_null() {
        violate!(
            Rule::LabUnimplemented,
            "{api} with an IRP to attach the MDL to"
        );
    }
    if fault::alloc_should_fail_named(api) {
        return std::ptr::null_mut();
    }
    allocate(address.cast(), length, api)
}

/// MSDN: IoFreeMdl. IRQL <= DISPATCH_LEVEL.
#[unsafe(no_mangle)]
pub extern "system" fn IoFreeMdl(mdl: *mut MDL) {
    let api = "IoFreeMdl";
    irql::require_max_rule(Rule::IrqlIoDispatch, api, irql::DISPATCH_LEVEL);
    free(mdl, "IoAllocateMdl", api);
}

/// MSDN: MmBuildMdlForNonPagedPool. IRQL <= DISPATCH_LEVEL.
#[unsafe(no_mangle)]
pub extern "system" fn MmBuildMdlForNonPagedPool(mdl: *mut MDL) {
    let api = "MmBuildMdlForNonPagedPool";
    irql::require_max_rule(Rule::IrqlMmDispatch, api, irql::DISPATCH_LEVEL);
    require_live(mdl, api);
    build_nonpaged(mdl, api);
}

/// MSDN: IoBuildPartialMdl. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// `source` points to a built MDL.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn IoBuildPartialMdl(
    source: *mut MDL,
    target: *mut MDL,
    address: *mut c_void,
    length: u32,
) {
    let api = "IoBuildPartialMdl";
    irql::require_max_rule(Rule::IrqlIoDispatch, api, irql::DISPATCH_LEVEL);
    require_live(target, api);
    // SAFETY: by contract.
    let from = unsafe { arg(source, api, "SourceMdl") };
    // SAFETY: live, as just seen.
    let to = unsafe { arg(target, api, "TargetMdl") };
    let start = address as usize;
    let first = system_address(from) as usize;
    let end = first + from.ByteCount as usize;
    let count = if length == 0 {
        end.saturating_sub(start)
    } else {
        length as usize
    };
    if start < first || start + count > end {
        violate!(
            Rule::LabMdl,
            "{api}: {count} bytes at {start:#x} are not in {first:#x}..{end:#x}"
        );
    }
    let offset = start % PAGE;
    let needed = size_of::<MDL>() + (offset + count).div_ceil(PAGE) * 8;
    if needed > usize::from(to.Size.unsigned_abs()) {
        violate!(
            Rule::LabMdl,
            "{api}: TargetMdl is too small ({} bytes, {needed} needed)",
            to.Size
        );
    }
    to.StartVa = (start - offset) as *mut c_void;
    to.ByteOffset = u32::try_from(offset).unwrap_or(0);
    to.ByteCount = u32::try_from(count).unwrap_or(u32::MAX);
    to.MdlFlags = (to.MdlFlags & !flags::MAPPED_TO_SYSTEM_VA) | flags::PARTIAL;
    let mapped = from.MdlFlags & (flags::SOURCE_IS_NONPAGED_POOL | flags::MAPPED_TO_SYSTEM_VA) != 0;
    if from.MdlFlags & flags::SOURCE_IS_NONPAGED_POOL != 0 {
        to.MdlFlags |= flags::SOURCE_IS_NONPAGED_POOL;
    }
    to.MappedSystemVa = if mapped {
        address
    } else {
        std::ptr::null_mut()
    };
}

/// MSDN: MmMapLockedPagesSpecifyCache. KernelMode: IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// `mdl` points to an MDL whose pages are locked.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn MmMapLockedPagesSpecifyCache(
    mdl: *mut MDL,
    mode: i8,
    cache: i32,
    _address: *mut c_void,
    _bug_check: u32,
    _priority: u32,
) -> *mut c_void {
    let api = "MmMapLockedPagesSpecifyCache";
    irql::require_max_rule(Rule::IrqlMmDispatch, api, irql::DISPATCH_LEVEL);
    if mode != 0 || cache != 1 {
        violate!(
            Rule::LabUnimplemented,
            "{api}: mode {mode}, cache type {cache}"
        );
    }
    // SAFETY: by contract.
    let m = unsafe { arg(mdl, api, "Mdl") };
    if m.MdlFlags & (flags::MAPPED_TO_SYSTEM_VA | flags::SOURCE_IS_NONPAGED_POOL) != 0 {
        violate!(
            Rule::LabMdl,
            "{api}: MDL {mdl:?} is mapped already (flags {:#x})",
            m.MdlFlags
        );
    }
    if fault::alloc_should_fail_named(api) {
        return std::ptr::null_mut();
    }
    m.MdlFlags |= flags::MAPPED_TO_SYSTEM_VA;
    m.MappedSystemVa = system_address(mdl).cast();
    m.MappedSystemVa
}

/// MSDN: MmUnmapLockedPages. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// `mdl` points to a mapped MDL.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn MmUnmapLockedPages(address: *mut c_void, mdl: *mut MDL) {
    let api = "MmUnmapLockedPages";
    irql::require_max_rule(Rule::IrqlMmDispatch, api, irql::DISPATCH_LEVEL);
    // SAFETY: by contract.
    let m = unsafe { arg(mdl, api, "Mdl") };
    if m.MdlFlags & flags::MAPPED_TO_SYSTEM_VA == 0 || address != m.MappedSystemVa {
        violate!(
            Rule::LabMdl,
            "{api}: MDL {mdl:?} is not mapped at {address:?}"
        );
    }
    m.MdlFlags &= !flags::MAPPED_TO_SYSTEM_VA;
    m.MappedSystemVa = std::ptr::null_mut();
}

/// One line for each MDL that was not freed.
pub fn leaks() -> Vec<String> {
    mdls()
        .iter()
        .map(|(a, r)| {
            format!(
                "MDL {a:#x} of {} by {}+0x{:x}",
                r.maker,
                session::name(),
                r.caller
            )
        })
        .collect()
}
