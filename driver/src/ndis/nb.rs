//! The bytes of one frame: a `NET_BUFFER`'s data, spread over its MDL chain, with
//! the 802.1Q tag that the adapter keeps beside it put back behind the addresses.
//!
//! Bytes are only ever copied out, never borrowed: a sender's buffers can be
//! pages of a user process, which may change them while they are on the way.
//! Whoever decides on bytes decides on its own copy.

use core::marker::PhantomData;
use core::ptr::NonNull;

use weir_engine::rule::Far;

use super::sys::{self, MDL};

/// The bytes of one frame, for as long as its `NET_BUFFER` is the filter's.
#[derive(Clone, Copy)]
pub(crate) struct NbBytes<'a> {
    first: *mut MDL,
    /// Where the frame starts in `first`.
    offset: u32,
    len: u32,
    tag: Option<[u8; TAG_LEN as usize]>,
    of_buffer: PhantomData<&'a sys::NET_BUFFER>,
}

/// Where the tag belongs: behind the two addresses.
const TAG_AT: u32 = 12;
const TAG_LEN: u32 = 4;

/// A run of the frame's bytes that is contiguous in system space.
#[derive(Clone, Copy)]
struct Run {
    start: NonNull<u8>,
    len: usize,
}

impl<'a> NbBytes<'a> {
    /// # Safety
    /// `nb` is a valid `NET_BUFFER` that is the caller's for `'a`, MDLs and
    /// data included.
    pub(super) unsafe fn new(nb: NonNull<sys::NET_BUFFER>, tag: Option<[u8; 4]>) -> Self {
        // SAFETY: valid and the caller's, so nobody writes its members now.
        let nb: &'a sys::NET_BUFFER = unsafe { nb.as_ref() };
        Self {
            first: nb.CurrentMdl,
            offset: nb.CurrentMdlOffset,
            len: nb.DataLength,
            // A frame that ends within its addresses has no place for it.
            tag: tag.filter(|_| nb.DataLength >= TAG_AT),
            of_buffer: PhantomData,
        }
    }

    /// Length of the frame in bytes, link header and tag included, FCS not. Can
    /// be far above the MTU: segmentation and coalescing happen in the adapter.
    pub(crate) fn len(&self) -> u32 {
        match self.tag {
            Some(_) => self.len.saturating_add(TAG_LEN),
            None => self.len,
        }
    }

    /// Copies the frame's bytes from `offset` on into `dst`, as many as there
    /// are and fit. Says how many; fewer only if the frame ends or a part of it
    /// can't be mapped (no memory for page tables). `IRQL <= DISPATCH_LEVEL`.
    pub(crate) fn copy_to(&self, offset: u32, dst: &mut [u8]) -> usize {
        let Some(tag) = &self.tag else {
            return self.copy_data(offset, dst);
        };
        let behind = TAG_AT.saturating_add(TAG_LEN);
        let mut copied = 0usize;
        let mut rest = dst;
        let mut at = offset;
        while !rest.is_empty() {
            let (got, wanted) = if at < TAG_AT {
                let (here, _) = split_at(rest, TAG_AT.saturating_sub(at));
                (self.copy_data(at, here), here.len())
            } else if at < behind {
                let from = tag.get(to_usize(at.saturating_sub(TAG_AT))..);
                let from = from.unwrap_or_default();
                let (here, _) = split_at(rest, behind.saturating_sub(at));
                for (to, byte) in here.iter_mut().zip(from) {
                    *to = *byte;
                }
                (here.len(), here.len())
            } else {
                let got = self.copy_data(at.saturating_sub(TAG_LEN), rest);
                return copied.saturating_add(got);
            };
            copied = copied.saturating_add(got);
            if got < wanted {
                break;
            }
            at = at.saturating_add(u32::try_from(got).unwrap_or(u32::MAX));
            rest = core::mem::take(&mut rest)
                .get_mut(got..)
                .unwrap_or_default();
        }
        copied
    }

    /// The same without the tag.
    fn copy_data(&self, offset: u32, dst: &mut [u8]) -> usize {
        let mut skip = usize::try_from(offset).unwrap_or(usize::MAX);
        let mut rest = dst;
        let mut copied = 0usize;
        let mut runs = self.runs();
        // In this order: a run that isn't wanted would be mapped for nothing.
        while !rest.is_empty()
            && let Some(run) = runs.next()
        {
            let Some(len) = run.len.checked_sub(skip) else {
                skip = skip.saturating_sub(run.len);
                continue;
            };
            let len = len.min(rest.len());
            let Some((here, after)) = core::mem::take(&mut rest).split_at_mut_checked(len) else {
                break;
            };
            // SAFETY: skip <= run.len, so the result is within the run or at its end.
            let from = unsafe { run.start.add(skip) };
            // SAFETY: `len` bytes from there lie in the run, which stays mapped
            // while the frame is the filter's; `here` is as long and elsewhere.
            unsafe { core::ptr::copy_nonoverlapping(from.as_ptr(), here.as_mut_ptr(), len) };
            rest = after;
            copied = copied.saturating_add(len);
            skip = 0;
        }
        copied
    }

    fn runs(&self) -> Runs<'a> {
        Runs {
            mdl: self.first,
            offset: self.offset,
            left: self.len,
            of_buffer: PhantomData,
        }
    }
}

fn to_usize(n: u32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// The first `n` bytes, or as many as there are, and the rest.
fn split_at(bytes: &mut [u8], n: u32) -> (&mut [u8], &mut [u8]) {
    let n = to_usize(n).min(bytes.len());
    bytes.split_at_mut_checked(n).unwrap_or_default()
}

/// The runs of a frame, in order. Ends early at a part that can't be mapped.
struct Runs<'a> {
    mdl: *mut MDL,
    offset: u32,
    left: u32,
    of_buffer: PhantomData<&'a sys::NET_BUFFER>,
}

impl Iterator for Runs<'_> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        while self.left != 0 {
            let mdl = NonNull::new(self.mdl)?;
            // SAFETY: an MDL of a chain that is the filter's now (NbBytes::new).
            let MDL {
                Next, ByteCount, ..
            } = unsafe { mdl.read() };
            self.mdl = Next;
            let offset = core::mem::take(&mut self.offset);
            // An MDL may be empty, and the first one may lie wholly before the data.
            let len = ByteCount.saturating_sub(offset).min(self.left);
            if len == 0 {
                continue;
            }
            self.left = self.left.saturating_sub(len);
            let base = system_address(mdl)?;
            // SAFETY: offset < ByteCount, so the address is within the mapping.
            let start = unsafe { base.add(usize::try_from(offset).ok()?) };
            let len = usize::try_from(len).ok()?;
            return Some(Run { start, len });
        }
        None
    }
}

/// What the macro `MmGetSystemAddressForMdlSafe` does: the system address of an
/// MDL's first byte, mapping the pages if nobody has yet. The mapping belongs
/// to the MDL and goes with it.
fn system_address(mdl: NonNull<MDL>) -> Option<NonNull<u8>> {
    // SAFETY: an MDL of a chain that is the filter's now.
    let MDL {
        MdlFlags,
        MappedSystemVa,
        ..
    } = unsafe { mdl.read() };
    if MdlFlags & (sys::MDL_MAPPED_TO_SYSTEM_VA | sys::MDL_SOURCE_IS_NONPAGED_POOL) != 0 {
        return NonNull::new(MappedSystemVa.cast());
    }
    // SAFETY: the pages of a frame on its way are locked and described by this
    // MDL; a mapping for kernel mode without a bugcheck on failure (NULL
    // instead) is allowed at IRQL <= DISPATCH_LEVEL.
    let mapped = unsafe {
        sys::MmMapLockedPagesSpecifyCache(
            mdl.as_ptr(),
            sys::KERNEL_MODE,
            sys::MM_CACHED,
            core::ptr::null_mut(),
            0,
            sys::NORMAL_PRIORITY_NO_EXECUTE,
        )
    };
    NonNull::new(mapped.cast())
}

impl Far for NbBytes<'_> {
    fn copy_to(&self, offset: u32, dst: &mut [u8]) -> usize {
        NbBytes::copy_to(self, offset, dst)
    }
}
