//! The outstanding reads of one reader, oldest first.

use weir_engine::tap::Fill;

use super::TAG;
use super::slot::Inside;
use crate::kernel::pool::KSlice;
use crate::kernel::status::{NtStatus, Result};
use crate::kernel::wdf::{Request, WDFREQUEST};

/// Reads of one reader that may be outstanding at once.
pub(super) const MAX_READS: usize = 64;

/// An accepted read: the request, its memory, what is in it, and its entry into
/// the reader's slot.
pub(super) struct Read {
    request: Request,
    memory: *mut u8,
    len: usize,
    pub(super) fill: Fill,
    /// The cancel callback is on its way: no more frames, and not ours to
    /// complete.
    cancelled: bool,
    inside: Inside,
}

// SAFETY: the memory belongs to the request, which may be used on any thread.
unsafe impl Send for Read {}

impl Read {
    /// # Safety
    /// `memory` is writable for `len` bytes until `request` is completed.
    pub(super) const unsafe fn new(
        request: Request,
        memory: *mut u8,
        len: usize,
        inside: Inside,
    ) -> Self {
        Self {
            request,
            memory,
            len,
            fill: Fill::new(),
            cancelled: false,
            inside,
        }
    }

    /// The read's memory, and what is in it.
    pub(super) fn memory(&mut self) -> (&mut [u8], &mut Fill) {
        // SAFETY: writable until the request is completed (condition of `new`),
        // which takes `self`. The process may look at these pages, or write
        // them, at any time: they are only written here, nothing is decided by
        // what is in them.
        let memory = unsafe { core::slice::from_raw_parts_mut(self.memory, self.len) };
        (memory, &mut self.fill)
    }

    /// Completes the read, with no lock held: with its frames, or with `empty`
    /// if it has none. Its entry into the slot ends after that.
    pub(super) fn complete(self, empty: NtStatus) {
        let Self {
            request,
            fill,
            inside,
            ..
        } = self;
        let status = if fill.is_empty() {
            empty
        } else {
            NtStatus::SUCCESS
        };
        request.complete(status, fill.used());
        drop(inside);
    }
}

/// Up to [`MAX_READS`] reads; the used entries are the first `len`.
pub(super) struct Reads {
    entries: KSlice<Option<Read>>,
    len: usize,
}

/// The place of the next read.
pub(super) struct Vacancy<'a> {
    entry: &'a mut Option<Read>,
    len: &'a mut usize,
}

impl Vacancy<'_> {
    /// Puts the newest read there.
    pub(super) fn fill(self, read: Read) {
        *self.entry = Some(read);
        *self.len = self.len.saturating_add(1);
    }
}

impl Reads {
    pub(super) fn try_new() -> Result<Self> {
        Ok(Self {
            entries: KSlice::try_from_fn(MAX_READS, TAG, |_| None)?,
            len: 0,
        })
    }

    /// Room for one more, if there is any.
    pub(super) fn vacancy(&mut self) -> Option<Vacancy<'_>> {
        let entry = self.entries.get_mut(self.len)?;
        Some(Vacancy {
            entry,
            len: &mut self.len,
        })
    }

    /// The read to fill: the oldest that isn't being cancelled.
    pub(super) fn front(&mut self) -> Option<&mut Read> {
        self.entries
            .iter_mut()
            .take(self.len)
            .flatten()
            .find(|read| !read.cancelled)
    }

    /// Takes the read to fill off the list, to be completed by the caller.
    /// `None` if there is none, or if it turns out to be cancelled: then it is
    /// the cancel callback's, and the next one is the read to fill.
    pub(super) fn take_front(&mut self) -> Option<Read> {
        let front = self.front()?;
        if front.request.unmark_cancelable().is_err() {
            front.cancelled = true;
            return None;
        }
        let request = front.request.raw();
        self.remove(request)
    }

    /// Takes this request's read off the list.
    pub(super) fn remove(&mut self, request: WDFREQUEST) -> Option<Read> {
        let used = self.entries.get_mut(..self.len)?;
        let is_it = |entry: &Option<Read>| {
            entry
                .as_ref()
                .is_some_and(|read| read.request.raw() == request)
        };
        let index = used.iter().position(is_it)?;
        let tail = used.get_mut(index..)?;
        let read = tail.first_mut()?.take();
        // Closes the gap; the entry that became free goes to the end.
        tail.rotate_left(1);
        self.len = self.len.saturating_sub(1);
        read
    }
}
