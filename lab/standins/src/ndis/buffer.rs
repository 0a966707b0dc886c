//! Functions on the data of one NET_BUFFER.

use std::ffi::c_void;
use std::ptr;

use super::consts::{STATUS_RESOURCES, STATUS_SUCCESS};
use super::engine::dispatch;
use super::frame::read;
use super::types::{Mdl, NetBuffer, Status};
use crate::core::Rule;
use crate::nt::mdl::system_address;

/// NdisGetDataBuffer: the first `needed` bytes in one piece, copied to
/// `storage` if they are not; null if there are too few, or nowhere to copy to.
///
/// # Safety
/// Called by a driver with a NET_BUFFER it owns; `storage`, if given, has room
/// for `needed` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn NdisGetDataBuffer(
    nb: *mut NetBuffer,
    needed: u32,
    storage: *mut c_void,
    align_multiple: u32,
    align_offset: u32,
) -> *mut c_void {
    let api = "NdisGetDataBuffer";
    dispatch(Rule::IrqlNetBufferFunction, api);
    let head = read(nb);
    let needed = needed as usize;
    if needed == 0 || needed > head.data_length {
        return ptr::null_mut();
    }
    if align_multiple == 0 || !align_multiple.is_power_of_two() {
        violate!(
            Rule::LabBadParameter,
            "{api}: AlignMultiple {align_multiple} is no power of two"
        );
    }
    let (mut mdl, mut offset) = (head.current_mdl, head.current_mdl_offset as usize);
    let mut copied = 0;
    while copied < needed {
        if mdl.is_null() {
            violate!(
                Rule::LabNdisNetBuffer,
                "{api}: the MDL chain of {nb:p} is shorter than its DataLength"
            );
        }
        let here = read(mdl);
        let there = (here.ByteCount as usize).saturating_sub(offset);
        let at = system_address(mdl).wrapping_add(offset);
        let aligned =
            at.addr() % align_multiple as usize == align_offset as usize % align_multiple as usize;
        if copied == 0 && there >= needed && aligned {
            return at.cast();
        }
        if storage.is_null() && there > 0 {
            return ptr::null_mut();
        }
        let take = there.min(needed - copied);
        if take > 0 {
            let to = storage.cast::<u8>().wrapping_add(copied);
            // SAFETY: the MDL describes `there` bytes at `at`, and the caller gave `needed` bytes of storage.
            unsafe { ptr::copy_nonoverlapping(at, to, take) };
            copied += take;
        }
        (mdl, offset) = (here.Next, 0);
    }
    storage
}

/// NdisAdvanceNetBufferDataStart: the data starts `delta` bytes later.
///
/// # Safety
/// Called by a driver with a NET_BUFFER it owns.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn NdisAdvanceNetBufferDataStart(
    nb: *mut NetBuffer,
    delta: u32,
    free_mdl: u8,
    _handler: *mut c_void,
) {
    let api = "NdisAdvanceNetBufferDataStart";
    dispatch(Rule::IrqlNetBufferFunction, api);
    if free_mdl != 0 {
        violate!(
            Rule::LabUnimplemented,
            "{api} with FreeMdl TRUE (the lab's retreat never allocates one)"
        );
    }
    let mut head = read(nb);
    if delta as usize > head.data_length {
        violate!(
            Rule::LabNdisNetBuffer,
            "{api}: {delta} bytes of a NET_BUFFER with {}",
            head.data_length
        );
    }
    head.data_length -= delta as usize;
    head.data_offset += delta;
    settle(nb, head);
}

/// NdisRetreatNetBufferDataStart: the data starts `delta` bytes earlier, if
/// there is as much unused space before it.
///
/// # Safety
/// Called by a driver with a NET_BUFFER it owns.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn NdisRetreatNetBufferDataStart(
    nb: *mut NetBuffer,
    delta: u32,
    _back_fill: u32,
    _handler: *mut c_void,
) -> Status {
    dispatch(Rule::IrqlNetBufferFunction, "NdisRetreatNetBufferDataStart");
    let mut head = read(nb);
    // NDIS would allocate an MDL in front when the space is missing. The lab
    // says that there is no memory for one, which a driver must expect.
    if delta > head.data_offset {
        return STATUS_RESOURCES;
    }
    head.data_length += delta as usize;
    head.data_offset -= delta;
    settle(nb, head);
    STATUS_SUCCESS
}

/// Finds the current MDL for a new data offset and writes the NET_BUFFER back.
fn settle(nb: *mut NetBuffer, mut head: NetBuffer) {
    let mut mdl: *mut Mdl = head.mdl_chain;
    let mut offset = head.data_offset as usize;
    while !mdl.is_null() {
        let here = read(mdl);
        if offset < here.ByteCount as usize || here.Next.is_null() {
            break;
        }
        offset -= here.ByteCount as usize;
        mdl = here.Next;
    }
    head.current_mdl = mdl;
    head.current_mdl_offset = offset as u32;
    // SAFETY: the caller owns the NET_BUFFER.
    unsafe { nb.write(head) };
}
