//! Chains of `NET_BUFFER_LIST`s: walking them, and marking them.

use core::marker::PhantomData;
use core::ptr::NonNull;

use super::nb::NbBytes;
use super::sys::{self, NDIS_STATUS, NET_BUFFER, NET_BUFFER_LIST};

/// A chain of NBLs that NDIS has handed to the filter and that the filter has
/// not handed on yet: while that is so, it is nobody else's.
pub(super) struct Chain<'a> {
    head: *mut NET_BUFFER_LIST,
    owned: PhantomData<&'a NET_BUFFER_LIST>,
}

/// One frame of a chain.
pub(super) struct Frame<'a> {
    /// Its bytes.
    pub(super) bytes: NbBytes<'a>,
    /// The adapter holds a VLAN tag for it out of band.
    pub(super) tag_beside: bool,
}

impl<'a> Chain<'a> {
    /// # Safety
    /// `head` is null or the first of a chain of valid NBLs which are the
    /// filter's for `'a`: that is, `'a` ends before they are handed on.
    pub(super) unsafe fn new(head: *mut NET_BUFFER_LIST) -> Self {
        Self {
            head,
            owned: PhantomData,
        }
    }

    fn lists(&self) -> impl Iterator<Item = &'a NET_BUFFER_LIST> + use<'a> {
        let mut next = self.head;
        core::iter::from_fn(move || {
            // SAFETY: null or a valid NBL of the chain, the filter's for 'a.
            let list: &'a NET_BUFFER_LIST = unsafe { next.as_ref() }?;
            next = list.Next;
            Some(list)
        })
    }

    /// Each frame of the chain: one for each `NET_BUFFER`.
    pub(super) fn frames(&self) -> impl Iterator<Item = Frame<'a>> + use<'a> {
        self.lists().flat_map(|list| {
            let tag_beside = has_tag(list);
            buffers(list).map(move |nb| Frame {
                // SAFETY: a NET_BUFFER of an NBL that is the filter's for 'a,
                // MDLs and data included.
                bytes: unsafe { NbBytes::new(nb) },
                tag_beside,
            })
        })
    }

    /// How many frames the chain has.
    pub(super) fn count(&self) -> u64 {
        self.lists()
            .flat_map(buffers)
            .fold(0u64, |n, _| n.saturating_add(1))
    }

    /// Sets the completion status of each NBL.
    pub(super) fn set_status(self, status: NDIS_STATUS) {
        let mut next = self.head;
        while let Some(list) = NonNull::new(next) {
            let list = list.as_ptr();
            // SAFETY: a valid NBL of the chain, the filter's; the chain is
            // consumed, so no reference to it is live.
            unsafe { (*list).Status = status };
            // SAFETY: as above.
            next = unsafe { (*list).Next };
        }
    }
}

fn buffers<'a>(list: &'a NET_BUFFER_LIST) -> impl Iterator<Item = NonNull<NET_BUFFER>> + use<'a> {
    let mut next = list.FirstNetBuffer;
    core::iter::from_fn(move || {
        let nb = NonNull::new(next)?;
        // SAFETY: a NET_BUFFER of an NBL that is the filter's for 'a.
        next = unsafe { (*nb.as_ptr()).Next };
        Some(nb)
    })
}

/// Whether the NBL carries 802.1Q information: a VLAN id or a priority other
/// than 0 (MSDN, "NDIS_NET_BUFFER_LIST_8021Q_INFO").
fn has_tag(list: &NET_BUFFER_LIST) -> bool {
    let info = list
        .NetBufferListInfo
        .get(sys::IEEE_8021Q_NET_BUFFER_LIST_INFO);
    info.is_some_and(|info| info.addr() & 0xffff != 0)
}
