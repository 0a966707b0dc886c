//! What the filter originates: frames of its own, and parts of lists of others.
//!
//! Both are `NET_BUFFER_LIST`s from pools of the module's, with the module's
//! handle as `SourceHandle`, which is how they are known again when they come
//! back (MSDN, "Sending Data from a Filter Driver"): they are freed then, and
//! never go on to a neighbour.

use core::ptr::{self, NonNull};

use super::TAG;
use super::adapter::Module;
use super::budget::Share;
use super::nbl::{self, Queue};
use super::sys::{self, NDIS_HANDLE, NDIS_OBJECT_HEADER, NET_BUFFER, NET_BUFFER_LIST};
use crate::kernel::pool::KBuf;
use crate::kernel::status::{NtStatus, Result};

/// `MEMORY_ALLOCATION_ALIGNMENT`
const ALIGNMENT: u32 = 16;
/// The most room before a frame that drivers below are given: no adapter asks
/// for more than some headers.
const MOST_BACK_FILL: u32 = 512;

/// The pools of a module.
pub(super) struct Pools {
    /// Lists that come with one buffer: frames.
    frames: NDIS_HANDLE,
    /// Lists without any: parts.
    parts: NDIS_HANDLE,
    /// Buffers of parts.
    buffers: NDIS_HANDLE,
}

impl Pools {
    /// `PASSIVE_LEVEL`; the module's `handle`.
    pub(super) fn try_new(handle: NDIS_HANDLE) -> Result<Self> {
        // Dropped on the way out, which frees what was made: null is none.
        let mut pools = Self {
            frames: ptr::null_mut(),
            parts: ptr::null_mut(),
            buffers: ptr::null_mut(),
        };
        pools.frames = list_pool(handle, true)?;
        pools.parts = list_pool(handle, false)?;
        let parameters = sys::NET_BUFFER_POOL_PARAMETERS {
            Header: header(size_of::<sys::NET_BUFFER_POOL_PARAMETERS>() as u16),
            PoolTag: TAG.raw(),
            DataSize: 0,
        };
        // SAFETY: the handle of this attach; the parameters live for the call.
        pools.buffers = unsafe { sys::NdisAllocateNetBufferPool(handle, &raw const parameters) };
        made(pools.buffers)?;
        Ok(pools)
    }
}

impl Pools {
    /// Lists without buffers.
    pub(super) fn parts(&self) -> NDIS_HANDLE {
        self.parts
    }

    /// Buffers for them.
    pub(super) fn buffers(&self) -> NDIS_HANDLE {
        self.buffers
    }
}

impl Drop for Pools {
    fn drop(&mut self) {
        for pool in [self.frames, self.parts] {
            if !pool.is_null() {
                // SAFETY: made by list_pool, freed once; all lists of a module
                // are back before it goes (mod.rs, "Pausing").
                unsafe { sys::NdisFreeNetBufferListPool(pool) };
            }
        }
        if !self.buffers.is_null() {
            // SAFETY: as above.
            unsafe { sys::NdisFreeNetBufferPool(self.buffers) };
        }
    }
}

fn list_pool(handle: NDIS_HANDLE, with_buffer: bool) -> Result<NDIS_HANDLE> {
    let parameters = sys::NET_BUFFER_LIST_POOL_PARAMETERS {
        Header: header(size_of::<sys::NET_BUFFER_LIST_POOL_PARAMETERS>() as u16),
        // NDIS_PROTOCOL_ID_DEFAULT
        ProtocolId: 0,
        fAllocateNetBuffer: u8::from(with_buffer),
        ContextSize: 0,
        PoolTag: TAG.raw(),
        DataSize: 0,
    };
    // SAFETY: the handle of this attach; the parameters live for the call.
    let pool = unsafe { sys::NdisAllocateNetBufferListPool(handle, &raw const parameters) };
    made(pool)
}

fn made(pool: NDIS_HANDLE) -> Result<NDIS_HANDLE> {
    if pool.is_null() {
        return Err(NtStatus::INSUFFICIENT_RESOURCES);
    }
    Ok(pool)
}

fn header(size: u16) -> NDIS_OBJECT_HEADER {
    NDIS_OBJECT_HEADER {
        Type: sys::NDIS_OBJECT_TYPE_DEFAULT,
        Revision: 1,
        Size: size,
    }
}

/// What a list of the filter's own is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Own {
    /// A frame: list, buffer, MDL and data are the filter's.
    Frame,
    /// A part of another's list, which stands in for it: see `part.rs`.
    Part,
}

/// Whether `list` is one of the module's own, and which kind.
pub(super) fn own(module: &Module, list: &NET_BUFFER_LIST) -> Option<Own> {
    if list.SourceHandle != module.handle() {
        return None;
    }
    if list.NdisPoolHandle == module.pools.frames {
        Some(Own::Frame)
    } else if list.NdisPoolHandle == module.pools.parts {
        Some(Own::Part)
    } else {
        None
    }
}

/// A frame of the filter's own, not handed on.
pub(super) struct Frame<'a> {
    list: NonNull<NET_BUFFER_LIST>,
    module: &'a Module,
}

impl<'a> Frame<'a> {
    /// A frame with these bytes. `IRQL <= DISPATCH_LEVEL`.
    pub(super) fn try_new(module: &'a Module, mut data: Data<'a>) -> Result<Self> {
        let (start, len, offset) = (data.buffer.as_mut_ptr(), data.buffer.len(), data.offset);
        let mdl_len = u32::try_from(len).map_err(|_| NtStatus::INVALID_PARAMETER)?;
        let frame_len = mdl_len.saturating_sub(offset);
        // SAFETY: non-paged memory that lives until the MDL is freed: `Data` is
        // freed on failure below, and by `free` after the MDL otherwise.
        let mdl = unsafe { sys::NdisAllocateMdl(module.handle(), start.cast(), mdl_len) };
        if mdl.is_null() {
            return Err(NtStatus::INSUFFICIENT_RESOURCES);
        }
        // SAFETY: the module's pool, made with a buffer for each list and no
        // data; an MDL chain with frame_len bytes behind the offset.
        let list = unsafe {
            sys::NdisAllocateNetBufferAndNetBufferList(
                module.pools.frames,
                0,
                module.context_back_fill(),
                mdl,
                offset,
                usize::try_from(frame_len).unwrap_or(0),
            )
        };
        let Some(list) = NonNull::new(list) else {
            // SAFETY: from NdisAllocateMdl above, in no list.
            unsafe { sys::NdisFreeMdl(mdl) };
            return Err(NtStatus::INSUFFICIENT_RESOURCES);
        };
        // SAFETY: the list just made, which nobody else knows.
        unsafe { (*list.as_ptr()).SourceHandle = module.handle() };
        // The MDL knows where they are, and what they cost.
        core::mem::forget(data);
        Ok(Self { list, module })
    }

    /// The list, to hand on: whoever gets it back calls [`Frame::from_raw`].
    pub(super) fn into_raw(self) -> NonNull<NET_BUFFER_LIST> {
        let list = self.list;
        core::mem::forget(self);
        list
    }

    /// Takes back what [`Frame::into_raw`] gave.
    ///
    /// # Safety
    /// `list` is from `into_raw` of a frame of this module's, is the filter's,
    /// and is taken back once.
    pub(super) unsafe fn from_raw(module: &'a Module, list: NonNull<NET_BUFFER_LIST>) -> Self {
        Self { list, module }
    }

    /// Sets one entry of what goes beside the frame.
    pub(super) fn set_info(&mut self, index: usize, value: usize) {
        // SAFETY: the filter's own list, not handed on; no reference to it is live.
        unsafe { nbl::set_info(self.list, index, value) };
    }

    /// Its one buffer.
    fn buffer(&self) -> Option<NonNull<NET_BUFFER>> {
        // SAFETY: the filter's own list, not handed on.
        let list = unsafe { self.list.as_ref() };
        NonNull::new(list.FirstNetBuffer)
    }
}

impl Drop for Frame<'_> {
    fn drop(&mut self) {
        // Whoever had the list has put its buffer and MDL back as they were.
        let mdl = self.buffer().map(|buffer| {
            // SAFETY: the buffer of a list that is the filter's.
            unsafe { buffer.as_ref() }.MdlChain
        });
        // SAFETY: from the pool of frames, the filter's, freed once.
        unsafe { sys::NdisFreeNetBufferList(self.list.as_ptr()) };
        let Some(mdl) = mdl.and_then(NonNull::new) else {
            return;
        };
        // SAFETY: the MDL that try_new made.
        let sys::MDL {
            StartVa,
            ByteOffset,
            ByteCount,
            ..
        } = unsafe { mdl.read() };
        // SAFETY: from NdisAllocateMdl, in no list any more, freed once.
        unsafe { sys::NdisFreeMdl(mdl.as_ptr()) };
        let (Ok(offset), Ok(len)) = (usize::try_from(ByteOffset), usize::try_from(ByteCount))
        else {
            return;
        };
        // What MmGetMdlVirtualAddress does.
        let start = StartVa.cast::<u8>().wrapping_add(offset);
        if let Some(start) = NonNull::new(start) {
            // SAFETY: the block that try_new put under the MDL, from a KBuf of
            // this length and tag, given up there and taken back once.
            drop(unsafe { KBuf::from_raw(start, len, TAG) });
            drop(self.module.budget.forgotten(ByteCount));
        }
    }
}

/// Frames of the filter's own in a chain, not handed on.
pub(super) struct Frames<'a> {
    chain: Queue,
    module: &'a Module,
}

impl<'a> Frames<'a> {
    /// None yet.
    pub(super) const fn new(module: &'a Module) -> Self {
        Self {
            chain: Queue::new(),
            module,
        }
    }

    /// Appends one, of the same module.
    pub(super) fn push(&mut self, frame: Frame<'a>) {
        // SAFETY: the filter's own list, in no other chain.
        unsafe { self.chain.push(frame.into_raw()) };
    }

    /// How many there are.
    pub(super) fn count(&self) -> u32 {
        self.chain.len()
    }

    /// The chain, to hand on: each list that comes back is taken back by
    /// [`Frame::from_raw`]. Null if there is none.
    pub(super) fn into_raw(mut self) -> *mut NET_BUFFER_LIST {
        let chain = core::mem::replace(&mut self.chain, Queue::new());
        chain.finish().map_or(ptr::null_mut(), |(head, _)| head)
    }
}

impl Drop for Frames<'_> {
    fn drop(&mut self) {
        let chain = core::mem::replace(&mut self.chain, Queue::new());
        let Some((head, _)) = chain.finish() else {
            return;
        };
        // SAFETY: the filter's own lists, each until it is yielded.
        for list in unsafe { nbl::drain(head) } {
            // SAFETY: from into_raw in push, not handed on.
            drop(unsafe { Frame::from_raw(self.module, list) });
        }
    }
}

/// The bytes of a frame to be, with room before them.
pub(super) struct Data<'a> {
    buffer: KBuf,
    offset: u32,
    /// After the memory, which is freed before it is given back.
    _share: Share<'a>,
}

impl<'a> Data<'a> {
    /// Room for `len` bytes, zero. `QUOTA_EXCEEDED`: too much is under way on
    /// the adapter, or on all. `IRQL <= DISPATCH_LEVEL`.
    pub(super) fn try_new(module: &'a Module, len: u32) -> Result<Self> {
        let offset = module.data_back_fill();
        let size = len.saturating_add(offset);
        let share = module.budget.take(size).ok_or(NtStatus::QUOTA_EXCEEDED)?;
        Ok(Self {
            buffer: KBuf::try_zeroed(usize::try_from(size).unwrap_or(0), TAG)?,
            offset,
            _share: share,
        })
    }

    /// The frame's bytes.
    pub(super) fn bytes(&mut self) -> &mut [u8] {
        let offset = usize::try_from(self.offset).unwrap_or(usize::MAX);
        self.buffer.get_mut(offset..).unwrap_or_default()
    }

    /// Takes the 802.1Q tag behind the addresses out of the bytes, if there is
    /// one, and gives its two bytes. Not one of which nothing would be left
    /// beside the frame: all its bits are 0; nor from a frame that would end
    /// before its type.
    pub(super) fn take_tag(&mut self) -> Option<u16> {
        let bytes = self.bytes();
        let [0x81, 0x00, high, low, _, _] = *bytes.get(12..)?.first_chunk::<6>()? else {
            return None;
        };
        let tag = u16::from_be_bytes([high, low]);
        if tag == 0 {
            return None;
        }
        bytes.copy_within(..12, 4);
        self.offset = self.offset.saturating_add(4);
        Some(tag)
    }
}

/// Rounds what an adapter wants before the context up to what NDIS allows.
pub(super) fn context_back_fill(wanted: u32) -> u16 {
    let rounded = wanted
        .min(MOST_BACK_FILL)
        .checked_next_multiple_of(ALIGNMENT);
    rounded.and_then(|n| u16::try_from(n).ok()).unwrap_or(0)
}

/// Bounds what an adapter wants before the data.
pub(super) fn data_back_fill(wanted: u32) -> u32 {
    wanted.min(MOST_BACK_FILL)
}
