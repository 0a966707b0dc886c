//! Lists and buffers that a filter makes apart from each other, and puts
//! together: `NET_BUFFER` pools, lists without buffers, out-of-band information.

use std::ptr;

use super::consts::object;
use super::engine::{HandleKind, dispatch, lock, new_handle};
use super::frame::{aligned, read};
use super::pools::{self, Made, STORE};
use super::track;
use super::types::{Handle, Mdl, NbPoolParameters, NetBuffer, NetBufferList};
use crate::core::{Rule, fault, pool};

/// A pool of `NET_BUFFER`s.
#[derive(Clone, Copy, Debug)]
pub(super) struct NbPool {
    tag: u32,
    buffers: usize,
}

/// NdisAllocateNetBufferPool.
///
/// # Safety
/// Called by a driver with its parameters.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn NdisAllocateNetBufferPool(
    handle: Handle,
    parameters: *const NbPoolParameters,
) -> Handle {
    let api = "NdisAllocateNetBufferPool";
    dispatch(Rule::IrqlNetBufferFunction, api);
    if !handle.is_null() && !pools::known(handle) {
        violate!(
            Rule::LabNdisHandle,
            "{api}: {handle:p} is no NDIS handle of this driver"
        );
    }
    if parameters.is_null() {
        violate!(Rule::LabBadParameter, "{api}: a null pointer");
    }
    let given = read(parameters);
    let header = given.header;
    if header.kind != object::DEFAULT
        || header.revision == 0
        || usize::from(header.size) < size_of::<NbPoolParameters>()
        || given.pool_tag == 0
    {
        violate!(
            Rule::LabBadParameter,
            "{api}: header {header:?}, pool tag {:#x}",
            given.pool_tag
        );
    }
    if given.data_size != 0 {
        violate!(Rule::LabUnimplemented, "{api} with DataSize");
    }
    if fault::take("ndis.NdisAllocateNetBufferPool").is_some()
        || fault::alloc_should_fail_named("NdisAllocateNetBufferPool")
    {
        return ptr::null_mut();
    }
    let number = new_handle(HandleKind::NbPool);
    let entry = NbPool {
        tag: given.pool_tag,
        buffers: 0,
    };
    lock(&STORE).nb_pools.insert(number, entry);
    ptr::without_provenance_mut(number)
}

/// NdisFreeNetBufferPool.
///
/// # Safety
/// Called by a driver with a pool of its own.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn NdisFreeNetBufferPool(handle: Handle) {
    let api = "NdisFreeNetBufferPool";
    dispatch(Rule::IrqlNetBufferFunction, api);
    let entry = lock(&STORE).nb_pools.remove(&handle.addr());
    match entry {
        None => violate!(
            Rule::LabNdisPool,
            "{api}: {handle:p} is no NET_BUFFER pool (freed twice?)"
        ),
        Some(entry) if entry.buffers > 0 => violate!(
            Rule::LabNdisPool,
            "{api}: {} buffer(s) of the pool are not freed",
            entry.buffers
        ),
        Some(_) => {}
    }
}

/// NdisAllocateNetBuffer.
///
/// # Safety
/// Called by a driver with a pool of its own and an MDL chain.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn NdisAllocateNetBuffer(
    handle: Handle,
    mdls: *mut Mdl,
    data_offset: u32,
    data_length: usize,
) -> *mut NetBuffer {
    let api = "NdisAllocateNetBuffer";
    dispatch(Rule::IrqlNetBufferFunction, api);
    let Some(entry) = lock(&STORE).nb_pools.get(&handle.addr()).copied() else {
        violate!(Rule::LabNdisPool, "{api}: {handle:p} is no NET_BUFFER pool");
    };
    if fault::take("ndis.NdisAllocateNetBuffer").is_some() {
        return ptr::null_mut();
    }
    let nb = aligned::<NetBuffer>(pool::alloc(size_of::<NetBuffer>(), entry.tag, true));
    if nb.is_null() {
        return nb;
    }
    pools::describe_data(nb, handle, mdls, data_offset, data_length);
    let mut store = lock(&STORE);
    store.buffers.insert(nb.expose_provenance(), handle.addr());
    if let Some(entry) = store.nb_pools.get_mut(&handle.addr()) {
        entry.buffers += 1;
    }
    nb
}

/// NdisFreeNetBuffer.
///
/// # Safety
/// Called by a driver with a buffer of its own.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn NdisFreeNetBuffer(nb: *mut NetBuffer) {
    let api = "NdisFreeNetBuffer";
    dispatch(Rule::IrqlNetBufferFunction, api);
    if let Some((nbl, place)) = track::away_with(nb) {
        violate!(
            Rule::LabNdisNetBufferFree,
            "{api}: NET_BUFFER {nb:p} is in NBL {nbl:#x}, which is {place:?}"
        );
    }
    let mut store = lock(&STORE);
    let pool = store.buffers.remove(&nb.addr());
    let entry = pool.and_then(|pool| store.nb_pools.get_mut(&pool));
    let Some(entry) = entry else {
        drop(store);
        violate!(
            Rule::LabNdisNetBufferFree,
            "{api}: NET_BUFFER {nb:p} did not come from NdisAllocateNetBuffer, or was freed"
        );
    };
    entry.buffers -= 1;
    let tag = entry.tag;
    drop(store);
    pool::free(nb.cast(), Some(tag));
}

/// NdisAllocateNetBufferList.
///
/// # Safety
/// Called by a driver with a pool of its own.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn NdisAllocateNetBufferList(
    handle: Handle,
    context_size: u16,
    context_back_fill: u16,
) -> *mut NetBufferList {
    let api = "NdisAllocateNetBufferList";
    dispatch(Rule::IrqlNetBufferFunction, api);
    let (tag, context) = pools::context_of(
        api,
        handle,
        context_size,
        context_back_fill,
        |with_buffer, _| {
            if with_buffer {
                violate!(
                    Rule::LabUnimplemented,
                    "{api} from a pool with fAllocateNetBuffer"
                );
            }
        },
    );
    if fault::take("ndis.NdisAllocateNetBufferList").is_some() {
        return ptr::null_mut();
    }
    let nbl = pools::allocate(tag, context);
    if nbl.is_null() {
        return nbl;
    }
    // SAFETY: the block begins with the list.
    unsafe { (*nbl).pool_handle = handle };
    pools::keep(nbl, Made::Bare(handle.addr()), tag);
    nbl
}

/// NdisGetPoolFromNetBufferList.
///
/// # Safety
/// Called by a driver with a list it owns.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn NdisGetPoolFromNetBufferList(nbl: *const NetBufferList) -> Handle {
    let api = "NdisGetPoolFromNetBufferList";
    dispatch(Rule::IrqlNetBufferFunction, api);
    require_with_filter(api, nbl);
    read(nbl).pool_handle
}

/// NdisCopySendNetBufferListInfo.
///
/// # Safety
/// Called by a driver with two lists it owns.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn NdisCopySendNetBufferListInfo(
    to: *mut NetBufferList,
    from: *const NetBufferList,
) {
    copy_info("NdisCopySendNetBufferListInfo", to, from);
}

/// NdisCopyReceiveNetBufferListInfo.
///
/// # Safety
/// Called by a driver with two lists it owns.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn NdisCopyReceiveNetBufferListInfo(
    to: *mut NetBufferList,
    from: *const NetBufferList,
) {
    copy_info("NdisCopyReceiveNetBufferListInfo", to, from);
}

fn copy_info(api: &str, to: *mut NetBufferList, from: *const NetBufferList) {
    dispatch(Rule::IrqlNetBufferFunction, api);
    require_with_filter(api, to);
    require_with_filter(api, from);
    // Which entries NDIS leaves out is its own affair; those the lab sets are
    // among the copied ones.
    let info = read(from).info;
    // SAFETY: a list with the filter, as was just seen.
    unsafe { (*to).info = info };
}

fn require_with_filter(api: &str, nbl: *const NetBufferList) {
    if track::place(nbl.cast_mut()) != Some(track::Place::Filter) {
        violate!(
            Rule::LabNdisNblNotOwned,
            "{api}: NBL {nbl:p} is not with the filter"
        );
    }
}
