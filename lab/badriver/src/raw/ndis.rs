//! The little of NDIS that the sins need: functions, and structures by offset.
//!
//! Structures are arrays of words here, written and read at the offsets of
//! ndis.h, because a driver this small needs three fields of each.

use core::ffi::c_void;

pub(crate) type Handle = *mut c_void;
/// A NET_BUFFER_LIST, NET_BUFFER, MDL or NDIS_OID_REQUEST, by address.
pub(crate) type Thing = *mut u64;

#[link(name = "lab.sys", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "system" {
    pub(crate) fn NdisFRegisterFilterDriver(
        driver: *mut c_void,
        context: Handle,
        chars: *const u64,
        handle: *mut Handle,
    ) -> i32;
    pub(crate) fn NdisFDeregisterFilterDriver(handle: Handle);
    pub(crate) fn NdisFSetAttributes(
        handle: Handle,
        context: Handle,
        attributes: *const u32,
    ) -> i32;
    pub(crate) fn NdisFPauseComplete(handle: Handle);
    pub(crate) fn NdisFRestartComplete(handle: Handle, status: i32);
    pub(crate) fn NdisFRestartFilter(handle: Handle) -> i32;
    pub(crate) fn NdisSetOptionalHandlers(handle: Handle, handlers: *const u64) -> i32;
    pub(crate) fn NdisFSendNetBufferLists(handle: Handle, nbls: Thing, port: u32, flags: u32);
    pub(crate) fn NdisFSendNetBufferListsComplete(handle: Handle, nbls: Thing, flags: u32);
    pub(crate) fn NdisFIndicateReceiveNetBufferLists(
        handle: Handle,
        nbls: Thing,
        port: u32,
        count: u32,
        flags: u32,
    );
    pub(crate) fn NdisFReturnNetBufferLists(handle: Handle, nbls: Thing, flags: u32);
    pub(crate) fn NdisFOidRequest(handle: Handle, request: Thing) -> i32;
    pub(crate) fn NdisFOidRequestComplete(handle: Handle, request: Thing, status: i32);
    pub(crate) fn NdisAllocateCloneOidRequest(
        handle: Handle,
        request: Thing,
        tag: u32,
        clone: *mut Thing,
    ) -> i32;
    pub(crate) fn NdisFreeCloneOidRequest(handle: Handle, clone: Thing);
    pub(crate) fn NdisFIndicateStatus(handle: Handle, indication: Thing);
    pub(crate) fn NdisFNetPnPEvent(handle: Handle, event: Thing) -> i32;
    pub(crate) fn NdisAllocateNetBufferListPool(handle: Handle, parameters: *const u32) -> Handle;
    pub(crate) fn NdisFreeNetBufferListPool(pool: Handle);
    pub(crate) fn NdisAllocateNetBufferAndNetBufferList(
        pool: Handle,
        context: u16,
        back_fill: u16,
        mdl: Thing,
        offset: u32,
        length: usize,
    ) -> Thing;
    pub(crate) fn NdisFreeNetBufferList(nbl: Thing);
    pub(crate) fn NdisAllocateNetBufferPool(handle: Handle, parameters: *const u32) -> Handle;
    pub(crate) fn NdisFreeNetBufferPool(pool: Handle);
    pub(crate) fn NdisAllocateNetBuffer(
        pool: Handle,
        mdl: Thing,
        offset: u32,
        length: usize,
    ) -> Thing;
    pub(crate) fn NdisFreeNetBuffer(buffer: Thing);
    pub(crate) fn NdisAllocateNetBufferList(pool: Handle, context: u16, back_fill: u16) -> Thing;
    pub(crate) fn NdisAllocateMdl(handle: Handle, at: *mut c_void, length: u32) -> Thing;
    pub(crate) fn NdisFreeMdl(mdl: Thing);
}

/// The word at byte `offset` of a structure.
pub(crate) fn get(at: Thing, offset: usize) -> u64 {
    // SAFETY: callers name fields of the structure that is there.
    unsafe { at.wrapping_byte_add(offset).read() }
}

/// Writes the word at byte `offset` of a structure.
pub(crate) fn put(at: Thing, offset: usize, value: u64) {
    // SAFETY: callers name fields of the structure that is there.
    unsafe { at.wrapping_byte_add(offset).write(value) };
}

/// A pointer kept in a word.
pub(crate) fn pointer(word: u64) -> Thing {
    core::ptr::with_exposed_provenance_mut(word as usize)
}

/// Offsets of what is touched.
pub(crate) mod at {
    /// NDIS_FILTER_DRIVER_CHARACTERISTICS.SendNetBufferListsCompleteHandler.
    pub(crate) const CHARACTERISTICS_SEND_COMPLETE: usize = 120;
    pub(crate) const NBL_NEXT: usize = 0;
    pub(crate) const NBL_FIRST_NB: usize = 8;
    pub(crate) const NBL_PARENT: usize = 24;
    pub(crate) const NBL_SOURCE: usize = 120;
    pub(crate) const NB_CURRENT_MDL: usize = 8;
    pub(crate) const NB_MDL_OFFSET: usize = 16;
    pub(crate) const NB_MDL_CHAIN: usize = 32;
    pub(crate) const MDL_START: usize = 32;
    /// ByteCount in the low half, ByteOffset in the high half.
    pub(crate) const MDL_COUNT: usize = 40;
    pub(crate) const OID_SOURCE_RESERVED: usize = 216;
    pub(crate) const OID_SUPPORTED_REVISION: usize = 232;
}
