//! MDLs: descriptions of a range of memory.

use super::types::MDL;

/// `MDL::MdlFlags`.
pub mod flags {
    #![allow(missing_docs)]
    pub const MAPPED_TO_SYSTEM_VA: i16 = 0x0001;
    pub const PAGES_LOCKED: i16 = 0x0002;
    pub const SOURCE_IS_NONPAGED_POOL: i16 = 0x0004;
    pub const PARTIAL: i16 = 0x0010;
    pub const PARTIAL_HAS_BEEN_MAPPED: i16 = 0x0020;
}

/// Address of the first byte an MDL describes. The lab has one address space,
/// so the system address of a page is the page's own.
pub fn system_address(mdl: *const MDL) -> *mut u8 {
    // SAFETY: a caller passes a live MDL or faults here, as in the kernel.
    let m = unsafe { &*mdl };
    m.StartVa.cast::<u8>().wrapping_add(m.ByteOffset as usize)
}

/// One line for each MDL that was not freed.
pub fn leaks() -> Vec<String> {
    Vec::new()
}
