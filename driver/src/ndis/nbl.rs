//! Chains of `NET_BUFFER_LIST`s: walking them, taking them apart and putting
//! them together. A list may be touched while it is the filter's, and no longer;
//! the functions here are told that it is.

use core::ptr::{self, NonNull};

use super::sys::{self, NDIS_STATUS, NET_BUFFER, NET_BUFFER_LIST};
use super::tag;

/// How many frames a list has.
pub(super) fn frames_of(list: &NET_BUFFER_LIST) -> u64 {
    buffers(list).fold(0, |n, _| n.saturating_add(1))
}

/// Whether a list has more than one.
pub(super) fn has_several(list: &NET_BUFFER_LIST) -> bool {
    buffers(list).nth(1).is_some()
}

/// The 802.1Q tag beside the frames of a list, as it is on the wire.
pub(super) fn tag(list: &NET_BUFFER_LIST) -> Option<[u8; 4]> {
    tag::on_wire(info(list, sys::IEEE_8021Q_NET_BUFFER_LIST_INFO))
}

/// A chain being put together from lists that are the filter's.
pub(super) struct Queue {
    head: *mut NET_BUFFER_LIST,
    tail: *mut NET_BUFFER_LIST,
    len: u32,
}

impl Queue {
    pub(super) const fn new() -> Self {
        Self {
            head: ptr::null_mut(),
            tail: ptr::null_mut(),
            len: 0,
        }
    }

    /// Appends a list. `Next` of the last one is set by [`Queue::finish`]; one
    /// that is right already isn't written, so a chain that stays as it is costs
    /// no writes.
    ///
    /// # Safety
    /// `list` is valid, the filter's, and in no other chain that is still used.
    pub(super) unsafe fn push(&mut self, list: NonNull<NET_BUFFER_LIST>) {
        let list = list.as_ptr();
        if self.tail.is_null() {
            self.head = list;
        } else {
            // SAFETY: a list pushed before, the filter's still.
            unsafe { set_next(self.tail, list) };
        }
        self.tail = list;
        self.len = self.len.saturating_add(1);
    }

    /// How many lists it has.
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// The first list of the finished chain and the number of its lists; `None`
    /// if there is none.
    pub(super) fn finish(self) -> Option<(*mut NET_BUFFER_LIST, u32)> {
        if self.tail.is_null() {
            return None;
        }
        // SAFETY: a list pushed before, the filter's still.
        unsafe { set_next(self.tail, ptr::null_mut()) };
        Some((self.head, self.len))
    }
}

/// # Safety
/// `list` is valid and the filter's.
pub(super) unsafe fn set_next(list: *mut NET_BUFFER_LIST, next: *mut NET_BUFFER_LIST) {
    // SAFETY: valid by contract.
    let place = unsafe { &raw mut (*list).Next };
    // SAFETY: as above.
    if unsafe { place.read() } != next {
        // SAFETY: as above; `Next` is the current owner's to write.
        unsafe { place.write(next) };
    }
}

/// The lists of a chain, one after the other; each may be handed on, or put
/// into another chain, before the next one is asked for.
///
/// # Safety
/// `head` is null or the first of a chain of valid lists which are the filter's,
/// each until it is yielded at least.
pub(super) unsafe fn drain(
    head: *mut NET_BUFFER_LIST,
) -> impl Iterator<Item = NonNull<NET_BUFFER_LIST>> {
    let mut next = head;
    core::iter::from_fn(move || {
        let list = NonNull::new(next)?;
        // SAFETY: not yielded yet, so valid and the filter's.
        next = unsafe { list.as_ref() }.Next;
        Some(list)
    })
}

/// Sets the completion status of a list.
///
/// # Safety
/// `list` is valid and the filter's.
pub(super) unsafe fn set_status(list: NonNull<NET_BUFFER_LIST>, status: NDIS_STATUS) {
    // SAFETY: valid and the filter's by contract.
    unsafe { (*list.as_ptr()).Status = status };
}

/// Sets one entry of what goes beside the frames of a list.
///
/// # Safety
/// `list` is valid and the filter's, and no reference to it is live.
pub(super) unsafe fn set_info(mut list: NonNull<NET_BUFFER_LIST>, index: usize, value: usize) {
    // SAFETY: valid, the filter's and unborrowed by contract.
    let list = unsafe { list.as_mut() };
    if let Some(entry) = list.NetBufferListInfo.get_mut(index) {
        *entry = ptr::without_provenance_mut(value);
    }
}

/// The buffers of a list, in order.
pub(super) fn buffers<'a>(
    list: &'a NET_BUFFER_LIST,
) -> impl Iterator<Item = NonNull<NET_BUFFER>> + use<'a> {
    let mut next = list.FirstNetBuffer;
    core::iter::from_fn(move || {
        let nb = NonNull::new(next)?;
        // SAFETY: a NET_BUFFER of an NBL that is the filter's for 'a.
        next = unsafe { (*nb.as_ptr()).Next };
        Some(nb)
    })
}

/// One entry of what goes beside the frames of a list.
pub(super) fn info(list: &NET_BUFFER_LIST, index: usize) -> usize {
    list.NetBufferListInfo
        .get(index)
        .map_or(0, |info| info.addr())
}
