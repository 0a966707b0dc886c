//! A list that stands in for another of which a part goes on.
//!
//! A list whose frames don't all go on can't be handed on as it is, and what
//! belongs to its originator isn't the filter's to change. So those of its
//! frames that go on get a list of the filter's own, with buffers of its own
//! over the same MDLs and data. The original, its parent, stays with the filter
//! until the part is back, and is then completed or returned with its status.

use core::ptr::{self, NonNull};

use weir_abi::Direction;

use super::adapter::Module;
use super::nbl;
use super::sys::{self, NET_BUFFER, NET_BUFFER_LIST};

/// The bits above `Reserved` in `LsoV2TransmitComplete`, and above `TcpPayload`
/// in `LsoV1TransmitComplete`.
const LSO_TYPE: usize = 0xC000_0000;

/// A part of a list, not handed on. Dropping it frees it, not the parent.
pub(super) struct Part {
    list: NonNull<NET_BUFFER_LIST>,
    last: *mut NET_BUFFER,
}

impl Part {
    /// A part of `parent` without frames; `None` if there is no memory.
    /// `IRQL <= DISPATCH_LEVEL`.
    ///
    /// # Safety
    /// `parent` is valid, the filter's, and stays so until the part is dropped.
    pub(super) unsafe fn try_new(
        module: &Module,
        parent: NonNull<NET_BUFFER_LIST>,
        direction: Direction,
    ) -> Option<Self> {
        // SAFETY: the module's pool of lists without buffers.
        let list = unsafe {
            sys::NdisAllocateNetBufferList(module.pools.parts(), 0, module.context_back_fill())
        };
        let mut list = NonNull::new(list)?;
        let copy_info = match direction {
            Direction::Out => sys::NdisCopySendNetBufferListInfo,
            Direction::In => sys::NdisCopyReceiveNetBufferListInfo,
        };
        // SAFETY: both are valid, the filter's, and different lists.
        unsafe { copy_info(list.as_ptr(), parent.as_ptr()) };
        // SAFETY: valid and the filter's by contract.
        let &NET_BUFFER_LIST {
            NblFlags, Status, ..
        } = unsafe { parent.as_ref() };
        // SAFETY: just made, nobody else knows it.
        let own = unsafe { list.as_mut() };
        own.SourceHandle = module.handle();
        own.ParentNetBufferList = parent.as_ptr();
        own.NblFlags = NblFlags;
        own.Status = Status;
        Some(Self {
            list,
            last: ptr::null_mut(),
        })
    }

    /// Adds a frame of the parent's; says whether there was memory for it.
    /// `IRQL <= DISPATCH_LEVEL`.
    ///
    /// # Safety
    /// `buffer` is one of the parent's.
    pub(super) unsafe fn push(&mut self, module: &Module, buffer: NonNull<NET_BUFFER>) -> bool {
        // SAFETY: a buffer of the parent's, which is the filter's.
        let from = unsafe { buffer.as_ref() };
        let Ok(len) = usize::try_from(from.DataLength) else {
            return false;
        };
        // SAFETY: the module's pool of buffers; an MDL chain which has these
        // bytes behind this offset, and stays while the parent does.
        let made = unsafe {
            sys::NdisAllocateNetBuffer(module.pools.buffers(), from.MdlChain, from.DataOffset, len)
        };
        let Some(mut made) = NonNull::new(made) else {
            return false;
        };
        // SAFETY: just made, nobody else knows it.
        let own = unsafe { made.as_mut() };
        own.ChecksumBias = from.ChecksumBias;
        own.DataPhysicalAddress = from.DataPhysicalAddress;
        own.SharedMemoryInfo = from.SharedMemoryInfo;
        if self.last.is_null() {
            // SAFETY: the filter's own list, not handed on.
            unsafe { self.list.as_mut() }.FirstNetBuffer = made.as_ptr();
        } else {
            // SAFETY: a buffer pushed before; no reference to it is live.
            unsafe { (*self.last).Next = made.as_ptr() };
        }
        self.last = made.as_ptr();
        true
    }

    /// The list, to hand on: whoever gets it back calls [`Part::from_raw`].
    pub(super) fn into_raw(self) -> NonNull<NET_BUFFER_LIST> {
        let list = self.list;
        core::mem::forget(self);
        list
    }

    /// Takes back what [`Part::into_raw`] gave.
    ///
    /// # Safety
    /// `list` is from `into_raw`, is the filter's, and is taken back once.
    pub(super) unsafe fn from_raw(list: NonNull<NET_BUFFER_LIST>) -> Self {
        Self {
            list,
            last: ptr::null_mut(),
        }
    }

    /// Ends the part and gives the parent, with what became of it: the status,
    /// and on a send what the adapter says of its large sends.
    pub(super) fn finish(self, direction: Direction) -> Option<NonNull<NET_BUFFER_LIST>> {
        // SAFETY: the filter's own list, back or not handed on.
        let own = unsafe { self.list.as_ref() };
        let parent = NonNull::new(own.ParentNetBufferList)?;
        if direction == Direction::Out {
            // SAFETY: the parent is the filter's until it is handed back.
            unsafe { nbl::set_status(parent, own.Status) };
            let index = sys::TCP_LARGE_SEND_NET_BUFFER_LIST_INFO;
            // SAFETY: as above.
            unsafe { nbl::set_info(parent, index, nbl::info(own, index)) };
        }
        Some(parent)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // SAFETY: the filter's own list, back or not handed on; no reference to
        // it is live.
        let list = unsafe { self.list.as_mut() };
        let mut next = core::mem::replace(&mut list.FirstNetBuffer, ptr::null_mut());
        while let Some(buffer) = NonNull::new(next) {
            // SAFETY: a buffer of the part's, not freed yet.
            next = unsafe { buffer.as_ref() }.Next;
            // SAFETY: from the module's pool of buffers, in no list any more.
            unsafe { sys::NdisFreeNetBuffer(buffer.as_ptr()) };
        }
        // SAFETY: from the module's pool of parts, without buffers, freed once.
        unsafe { sys::NdisFreeNetBufferList(self.list.as_ptr()) };
    }
}

/// Marks a send that the filter completes itself, with success, as an adapter
/// marks what it has segmented (MSDN, "Offloading the Segmentation of Large TCP
/// Packets": `LsoV2TransmitComplete.Reserved` is zero). Version 1 reports the
/// payload that was sent: none was.
///
/// # Safety
/// `list` is valid and the filter's.
pub(super) unsafe fn complete_large_send(list: NonNull<NET_BUFFER_LIST>) {
    let index = sys::TCP_LARGE_SEND_NET_BUFFER_LIST_INFO;
    // SAFETY: valid and the filter's by contract.
    let info = nbl::info(unsafe { list.as_ref() }, index);
    if info != 0 {
        // SAFETY: as above.
        unsafe { nbl::set_info(list, index, info & LSO_TYPE) };
    }
}
