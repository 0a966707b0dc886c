//! NET_BUFFER_LIST pools, and the lists, clones and MDLs a filter makes. Lists
//! and buffers made apart are in `parts.rs`.
//!
//! All of it comes from the lab's pool, under the tag of the NDIS pool, so it
//! is counted, can be made to fail, and shows as a leak when it stays.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::ptr;
use std::sync::Mutex;

use super::consts::{CLONE_USE_ORIGINAL_MDLS, object};
use super::engine::{HandleKind, dispatch, driver, lock, new_handle, tables};
use super::frame::{aligned, buffers, read};
use super::parts::NbPool;
use super::track;
use super::types::{Handle, Mdl, NblContext, NblPoolParameters, NetBuffer, NetBufferList};
use crate::core::{Rule, fault, pool};
use crate::nt::mdl::{flags, system_address};

/// Tag of MDLs that NDIS allocates.
const TAG_MDL: u32 = u32::from_le_bytes(*b"NDmd");
/// x64 page size.
const PAGE: usize = 4096;

#[derive(Clone, Copy, Debug)]
pub(super) struct NblPool {
    with_net_buffer: bool,
    context: usize,
    data: usize,
    tag: u32,
    lists: usize,
}

/// How a list of the driver's was made, and so how it must be freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Made {
    /// NdisAllocateNetBufferAndNetBufferList, from this pool.
    Whole(usize),
    /// NdisAllocateNetBufferList, from this pool.
    Bare(usize),
    /// NdisAllocateCloneNetBufferList with these flags.
    Clone(u32),
}

impl Made {
    /// The pool it came from, if it came from one.
    fn pool(self) -> Option<usize> {
        match self {
            Self::Whole(pool) | Self::Bare(pool) => Some(pool),
            Self::Clone(_) => None,
        }
    }
}

pub(super) struct Store {
    pools: BTreeMap<usize, NblPool>,
    lists: BTreeMap<usize, (Made, u32)>,
    mdls: BTreeMap<usize, usize>,
    /// NET_BUFFER pools, and buffers with the pool each is from (`parts.rs`).
    pub(super) nb_pools: BTreeMap<usize, NbPool>,
    pub(super) buffers: BTreeMap<usize, usize>,
}

pub(super) static STORE: Mutex<Store> = Mutex::new(Store {
    pools: BTreeMap::new(),
    lists: BTreeMap::new(),
    mdls: BTreeMap::new(),
    nb_pools: BTreeMap::new(),
    buffers: BTreeMap::new(),
});

/// Whether a handle names a registered filter or an attached module.
pub(super) fn known(handle: Handle) -> bool {
    driver(handle).is_some() || tables().modules.contains_key(&handle.addr())
}

/// NdisAllocateNetBufferListPool.
///
/// # Safety
/// Called by a driver with its parameters.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn NdisAllocateNetBufferListPool(
    handle: Handle,
    parameters: *const NblPoolParameters,
) -> Handle {
    let api = "NdisAllocateNetBufferListPool";
    dispatch(Rule::IrqlNetBufferFunction, api);
    if !handle.is_null() && !known(handle) {
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
        || usize::from(header.size) < size_of::<NblPoolParameters>()
    {
        violate!(Rule::LabBadParameter, "{api}: header {header:?}");
    }
    if given.pool_tag == 0 {
        violate!(Rule::LabBadParameter, "{api}: no pool tag");
    }
    if fault::take("ndis.NdisAllocateNetBufferListPool").is_some()
        || fault::alloc_should_fail_named("NdisAllocateNetBufferListPool")
    {
        return ptr::null_mut();
    }
    let number = new_handle(HandleKind::NblPool);
    let entry = NblPool {
        with_net_buffer: given.allocate_net_buffer != 0,
        context: usize::from(given.context_size),
        data: given.data_size as usize,
        tag: given.pool_tag,
        lists: 0,
    };
    lock(&STORE).pools.insert(number, entry);
    ptr::without_provenance_mut(number)
}

/// NdisFreeNetBufferListPool.
///
/// # Safety
/// Called by a driver with a pool of its own.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn NdisFreeNetBufferListPool(handle: Handle) {
    let api = "NdisFreeNetBufferListPool";
    dispatch(Rule::IrqlNetBufferFunction, api);
    match lock(&STORE).pools.remove(&handle.addr()) {
        None => violate!(
            Rule::LabNdisPool,
            "{api}: {handle:p} is no pool (freed twice?)"
        ),
        Some(entry) if entry.lists > 0 => {
            violate!(
                Rule::LabNdisPool,
                "{api}: {} list(s) of the pool are not freed",
                entry.lists
            );
        }
        Some(_) => {}
    }
}

/// Allocates a list and, after it, a NET_BUFFER in one block.
pub(super) fn allocate(tag: u32, context: usize) -> *mut NetBufferList {
    let context_bytes = if context > 0 {
        size_of::<NblContext>() + context
    } else {
        0
    };
    let size = size_of::<NetBufferList>() + size_of::<NetBuffer>() + context_bytes;
    let nbl = aligned::<NetBufferList>(pool::alloc(size, tag, true));
    if nbl.is_null() || context_bytes == 0 {
        return nbl;
    }
    let at = aligned::<NblContext>(nbl.cast::<u8>().wrapping_add(size - context_bytes));
    let head = NblContext {
        next: ptr::null_mut(),
        size: context as u16,
        offset: context as u16,
    };
    // SAFETY: the block has room for the context behind list and buffer.
    unsafe { at.write(head) };
    // SAFETY: the block begins with the list.
    unsafe { (*nbl).context = at.cast() };
    nbl
}

/// NdisAllocateNetBufferAndNetBufferList.
///
/// # Safety
/// Called by a driver with a pool of its own and an MDL chain.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn NdisAllocateNetBufferAndNetBufferList(
    handle: Handle,
    context_size: u16,
    context_back_fill: u16,
    mdls: *mut Mdl,
    data_offset: u32,
    data_length: usize,
) -> *mut NetBufferList {
    let api = "NdisAllocateNetBufferAndNetBufferList";
    dispatch(Rule::IrqlNetBufferFunction, api);
    let (tag, context) = context_of(
        api,
        handle,
        context_size,
        context_back_fill,
        |with_buffer, data| {
            if !with_buffer || data != 0 {
                violate!(
                    Rule::LabNdisPool,
                    "{api}: the pool needs fAllocateNetBuffer and DataSize 0"
                );
            }
        },
    );
    if fault::take("ndis.NdisAllocateNetBufferAndNetBufferList").is_some() {
        return ptr::null_mut();
    }
    let nbl = allocate(tag, context);
    if nbl.is_null() {
        return nbl;
    }
    let nb = nbl.wrapping_add(1).cast::<NetBuffer>();
    describe_data(nb, handle, mdls, data_offset, data_length);
    // SAFETY: the block begins with the list.
    let list = unsafe { &mut *nbl };
    list.first_net_buffer = nb;
    list.pool_handle = handle;
    keep(nbl, Made::Whole(handle.addr()), tag);
    nbl
}

/// Tag and bytes of context of a list from this pool. `check` looks at what the
/// pool was made for: with a buffer or not, bytes of data.
pub(super) fn context_of(
    api: &str,
    handle: Handle,
    size: u16,
    back_fill: u16,
    check: impl Fn(bool, usize),
) -> (u32, usize) {
    let Some(entry) = lock(&STORE).pools.get(&handle.addr()).copied() else {
        violate!(Rule::LabNdisPool, "{api}: {handle:p} is no pool");
    };
    check(entry.with_net_buffer, entry.data);
    if !size.is_multiple_of(16) || !back_fill.is_multiple_of(16) {
        violate!(
            Rule::LabBadParameter,
            "{api}: context sizes are multiples of MEMORY_ALLOCATION_ALIGNMENT"
        );
    }
    let context = entry.context + usize::from(size) + usize::from(back_fill);
    (entry.tag, context)
}

/// Makes a zeroed NET_BUFFER describe data in a chain of MDLs.
pub(super) fn describe_data(
    nb: *mut NetBuffer,
    pool: Handle,
    mdls: *mut Mdl,
    offset: u32,
    length: usize,
) {
    let (current_mdl, current_mdl_offset) = locate(mdls, offset as usize);
    let mut head = read(nb);
    head.pool_handle = pool;
    head.mdl_chain = mdls;
    head.current_mdl = current_mdl;
    head.current_mdl_offset = current_mdl_offset as u32;
    head.data_offset = offset;
    head.data_length = length;
    // SAFETY: callers pass a block with room for a NET_BUFFER.
    unsafe { nb.write(head) };
}

/// The MDL in which byte `offset` of a chain lies, and where in it.
fn locate(chain: *mut Mdl, mut offset: usize) -> (*mut Mdl, usize) {
    let mut mdl = chain;
    while !mdl.is_null() {
        let head = read(mdl);
        let count = head.ByteCount as usize;
        if offset < count || head.Next.is_null() {
            return (mdl, offset);
        }
        offset -= count;
        mdl = head.Next;
    }
    (mdl, offset)
}

pub(super) fn keep(nbl: *mut NetBufferList, made: Made, tag: u32) {
    let mut store = lock(&STORE);
    store.lists.insert(nbl.expose_provenance(), (made, tag));
    if let Some(handle) = made.pool()
        && let Some(entry) = store.pools.get_mut(&handle)
    {
        entry.lists += 1;
    }
    drop(store);
    track::adopt(0, nbl);
}

/// Takes a list out of the store, if it was made by a matching function.
fn unkeep(api: &str, nbl: *mut NetBufferList, fits: impl Fn(Made) -> bool) -> u32 {
    track::release(api, nbl);
    let mut store = lock(&STORE);
    let Some((made, tag)) = store.lists.remove(&nbl.addr()) else {
        violate!(
            Rule::LabNdisNblFree,
            "{api}: NBL {nbl:p} is not the driver's"
        );
    };
    if !fits(made) {
        violate!(
            Rule::LabNdisNblFree,
            "{api}: NBL {nbl:p} was made by another function ({made:?})"
        );
    }
    if let Some(handle) = made.pool()
        && let Some(entry) = store.pools.get_mut(&handle)
    {
        entry.lists -= 1;
    }
    tag
}

/// NdisFreeNetBufferList.
///
/// # Safety
/// Called by a driver with a list of its own.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn NdisFreeNetBufferList(nbl: *mut NetBufferList) {
    let api = "NdisFreeNetBufferList";
    dispatch(Rule::IrqlNetBufferFunction, api);
    let buffers: Vec<*mut NetBuffer> = if track::place(nbl).is_some() {
        buffers(nbl).collect()
    } else {
        Vec::new()
    };
    let left = buffers
        .iter()
        .find(|nb| lock(&STORE).buffers.contains_key(&nb.addr()));
    if let Some(nb) = left {
        violate!(
            Rule::LabNdisNblFree,
            "{api}: NBL {nbl:p} still holds NET_BUFFER {nb:p}, which is freed by NdisFreeNetBuffer"
        );
    }
    let tag = unkeep(api, nbl, |made| !matches!(made, Made::Clone(_)));
    pool::free(nbl.cast(), Some(tag));
}

/// NdisAllocateCloneNetBufferList.
///
/// # Safety
/// Called by a driver with a list it owns.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn NdisAllocateCloneNetBufferList(
    original: *mut NetBufferList,
    nbl_pool: Handle,
    _nb_pool: Handle,
    clone_flags: u32,
) -> *mut NetBufferList {
    let api = "NdisAllocateCloneNetBufferList";
    dispatch(Rule::IrqlNetBufferFunction, api);
    if original.is_null() || track::place(original) != Some(track::Place::Filter) {
        violate!(
            Rule::LabNdisNblNotOwned,
            "{api}: NBL {original:p} is not with the filter"
        );
    }
    let tag = match lock(&STORE).pools.get(&nbl_pool.addr()) {
        Some(entry) => entry.tag,
        None if nbl_pool.is_null() => u32::from_le_bytes(*b"NDnb"),
        None => violate!(Rule::LabNdisPool, "{api}: {nbl_pool:p} is no pool"),
    };
    let nbl = allocate(tag, 0);
    if nbl.is_null() {
        return nbl;
    }
    let shared = clone_flags & CLONE_USE_ORIGINAL_MDLS != 0;
    let mut made: Vec<*mut NetBuffer> = Vec::new();
    for nb in buffers(original) {
        let new = if made.is_empty() {
            nbl.wrapping_add(1).cast::<NetBuffer>()
        } else {
            aligned::<NetBuffer>(pool::alloc(size_of::<NetBuffer>(), tag, true))
        };
        if new.is_null() || !clone_buffer(new, nb, shared) {
            let extra = if made.is_empty() || new.is_null() {
                ptr::null_mut()
            } else {
                new
            };
            unmake(nbl, &made, extra, shared, tag);
            return ptr::null_mut();
        }
        if let Some(last) = made.last() {
            // SAFETY: `last` is a NET_BUFFER made just now.
            unsafe { (**last).next = new };
        }
        made.push(new);
    }
    let info = read(original).info;
    // SAFETY: the block begins with the list.
    let list = unsafe { &mut *nbl };
    list.first_net_buffer = made.first().copied().unwrap_or(ptr::null_mut());
    list.parent = original;
    list.pool_handle = nbl_pool;
    list.info = info;
    keep(nbl, Made::Clone(clone_flags), tag);
    nbl
}

/// Makes `new` describe the same data as `nb`; false when out of memory.
fn clone_buffer(new: *mut NetBuffer, nb: *mut NetBuffer, shared: bool) -> bool {
    let from = read(nb);
    let mut head = read(new);
    head.data_length = from.data_length;
    if shared {
        head.mdl_chain = from.mdl_chain;
        head.current_mdl = from.current_mdl;
        head.current_mdl_offset = from.current_mdl_offset;
        head.data_offset = from.data_offset;
    } else {
        // A clone starts at the used data (NdisAllocateCloneNetBufferList page).
        let (mut mdl, mut skip, mut left) = (
            from.current_mdl,
            from.current_mdl_offset as usize,
            from.data_length,
        );
        let mut last: *mut Mdl = ptr::null_mut();
        while left > 0 && !mdl.is_null() {
            let here = read(mdl);
            let take = (here.ByteCount as usize).saturating_sub(skip).min(left);
            if take > 0 {
                let copy = new_mdl(system_address(mdl).wrapping_add(skip), take);
                if copy.is_null() {
                    free_mdls(head.mdl_chain);
                    return false;
                }
                if last.is_null() {
                    head.mdl_chain = copy;
                } else {
                    // SAFETY: `last` is an MDL made just now.
                    unsafe { (*last).Next = copy };
                }
                last = copy;
                left -= take;
            }
            (mdl, skip) = (here.Next, 0);
        }
        head.current_mdl = head.mdl_chain;
    }
    // SAFETY: `new` is a zeroed NET_BUFFER of the clone.
    unsafe { new.write(head) };
    true
}

/// Undoes an unfinished clone.
fn unmake(
    nbl: *mut NetBufferList,
    made: &[*mut NetBuffer],
    extra: *mut NetBuffer,
    shared: bool,
    tag: u32,
) {
    for (index, nb) in made.iter().enumerate() {
        if !shared {
            free_mdls(read(*nb).mdl_chain);
        }
        if index > 0 {
            pool::free(nb.cast(), Some(tag));
        }
    }
    if !extra.is_null() {
        pool::free(extra.cast(), Some(tag));
    }
    pool::free(nbl.cast(), Some(tag));
}

/// NdisFreeCloneNetBufferList.
///
/// # Safety
/// Called by a driver with a clone of its own.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn NdisFreeCloneNetBufferList(
    nbl: *mut NetBufferList,
    clone_flags: u32,
) {
    let api = "NdisFreeCloneNetBufferList";
    dispatch(Rule::IrqlNetBufferFunction, api);
    let tag = unkeep(api, nbl, |made| made == Made::Clone(clone_flags));
    let all: Vec<*mut NetBuffer> = buffers(nbl).collect();
    unmake(
        nbl,
        &all,
        ptr::null_mut(),
        clone_flags & CLONE_USE_ORIGINAL_MDLS != 0,
        tag,
    );
}

/// An MDL of NDIS over non-paged memory, or null.
fn new_mdl(at: *mut u8, len: usize) -> *mut Mdl {
    let offset = at.addr() % PAGE;
    let size = size_of::<Mdl>() + (offset + len).div_ceil(PAGE).max(1) * size_of::<usize>();
    let mdl = aligned::<Mdl>(pool::alloc(size, TAG_MDL, true));
    if mdl.is_null() {
        return mdl;
    }
    let mut head = read(mdl);
    head.Size = i16::try_from(size).unwrap_or(i16::MAX);
    head.MdlFlags = flags::SOURCE_IS_NONPAGED_POOL | flags::MAPPED_TO_SYSTEM_VA;
    head.MappedSystemVa = at.cast();
    head.StartVa = at.wrapping_sub(offset).cast();
    head.ByteOffset = offset as u32;
    head.ByteCount = len as u32;
    // SAFETY: the pool block has room for the MDL.
    unsafe { mdl.write(head) };
    mdl
}

fn free_mdls(mut mdl: *mut Mdl) {
    while !mdl.is_null() {
        let next = read(mdl).Next;
        pool::free(mdl.cast(), Some(TAG_MDL));
        mdl = next;
    }
}

/// NdisAllocateMdl.
///
/// # Safety
/// Called by a driver with memory it owns.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn NdisAllocateMdl(
    handle: Handle,
    at: *mut c_void,
    length: u32,
) -> *mut Mdl {
    let api = "NdisAllocateMdl";
    dispatch(Rule::IrqlNetBufferFunction, api);
    if !known(handle) {
        violate!(
            Rule::LabNdisHandle,
            "{api}: {handle:p} is no NDIS handle of this driver"
        );
    }
    if at.is_null() {
        violate!(Rule::LabBadParameter, "{api}: a null pointer");
    }
    if fault::take("ndis.NdisAllocateMdl").is_some() {
        return ptr::null_mut();
    }
    let mdl = new_mdl(at.cast(), length as usize);
    if !mdl.is_null() {
        lock(&STORE)
            .mdls
            .insert(mdl.expose_provenance(), length as usize);
    }
    mdl
}

/// NdisFreeMdl.
///
/// # Safety
/// Called by a driver with an MDL from NdisAllocateMdl.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn NdisFreeMdl(mdl: *mut Mdl) {
    let api = "NdisFreeMdl";
    dispatch(Rule::IrqlNetBufferFunction, api);
    if lock(&STORE).mdls.remove(&mdl.addr()).is_none() {
        violate!(
            Rule::NdisAllocateMdl,
            "{api}: MDL {mdl:p} did not come from NdisAllocateMdl, or was freed"
        );
    }
    pool::free(mdl.cast(), Some(TAG_MDL));
}

/// What is left of what the driver made.
pub(crate) struct Left {
    pub(crate) pools: usize,
    pub(crate) lists: usize,
    pub(crate) buffers: usize,
    pub(crate) mdls: usize,
}

/// What is left now.
pub(crate) fn left() -> Left {
    let store = lock(&STORE);
    Left {
        pools: store.pools.len() + store.nb_pools.len(),
        lists: store.lists.len(),
        buffers: store.buffers.len(),
        mdls: store.mdls.len(),
    }
}

/// Forgets everything: the session is over.
pub(crate) fn clear() {
    let mut store = lock(&STORE);
    store.pools.clear();
    store.lists.clear();
    store.mdls.clear();
    store.nb_pools.clear();
    store.buffers.clear();
}
