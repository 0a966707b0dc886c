//! ExAllocatePool2, ExFreePool, ExFreePoolWithTag.

use std::ffi::c_void;

use crate::core::{Rule, irql, pool};

const UNINITIALIZED: u64 = 0x02;
const NON_PAGED: u64 = 0x40;
const NON_PAGED_EXECUTE: u64 = 0x80;
const PAGED: u64 = 0x100;
/// USE_QUOTA, UNINITIALIZED, SESSION, CACHE_ALIGNED, RAISE_ON_FAILURE and the
/// three kinds of memory.
const KNOWN: u64 =
    0x01 | UNINITIALIZED | 0x04 | 0x08 | 0x20 | NON_PAGED | NON_PAGED_EXECUTE | PAGED;

/// MSDN: ExAllocatePool2. IRQL <= DISPATCH_LEVEL; paged pool <= APC_LEVEL.
#[unsafe(no_mangle)]
pub extern "system" fn ExAllocatePool2(flags: u64, bytes: usize, tag: u32) -> *mut c_void {
    let kinds = flags & (NON_PAGED | NON_PAGED_EXECUTE | PAGED);
    if flags & u64::from(u32::MAX) & !KNOWN != 0 || kinds.count_ones() != 1 {
        violate!(Rule::LabBadParameter, "ExAllocatePool2: flags {flags:#x}");
    }
    if kinds == NON_PAGED_EXECUTE {
        violate!(
            Rule::LabBadParameter,
            "ExAllocatePool2: executable pool (HVCI refuses it)"
        );
    }
    if kinds == PAGED {
        irql::require_max_rule(
            Rule::IrqlExAllocatePool,
            "ExAllocatePool2(paged)",
            irql::APC_LEVEL,
        );
    }
    pool::alloc(bytes, tag, flags & UNINITIALIZED == 0).cast()
}

/// MSDN: ExFreePoolWithTag. IRQL <= DISPATCH_LEVEL. Tag 0 matches any.
#[unsafe(no_mangle)]
pub extern "system" fn ExFreePoolWithTag(block: *mut c_void, tag: u32) {
    pool::free(block.cast(), (tag != 0).then_some(tag));
}

/// MSDN: ExFreePool. IRQL <= DISPATCH_LEVEL.
#[unsafe(no_mangle)]
pub extern "system" fn ExFreePool(block: *mut c_void) {
    pool::free(block.cast(), None);
}
