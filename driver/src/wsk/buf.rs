//! Memory that the provider reads and writes: non-paged pool with an MDL over
//! it, or a requester's locked pages; described to each call by a `WSK_BUF`.

use core::ffi::c_void;
use core::ptr::NonNull;

use super::sys;
use crate::kernel::pool::{KBuf, Tag};
use crate::kernel::status::{NtStatus, Result};

/// A part of memory that an MDL describes, for one call. Bounded by the MDL
/// when it is made; says nothing about how long the memory stays.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    mdl: NonNull<sys::Mdl>,
    offset: u32,
    length: u32,
}

impl Span {
    /// `length` bytes from `offset` of an MDL (or a chain of them) that
    /// describes `total` bytes.
    ///
    /// # Errors
    /// `STATUS_INVALID_PARAMETER` if they aren't within it.
    ///
    /// # Safety
    /// `mdl` is the address of an `MDL`, built and with its pages locked, whose
    /// chain describes at least `total` bytes.
    pub(crate) unsafe fn of_mdl(
        mdl: NonNull<c_void>,
        total: u32,
        offset: u32,
        length: u32,
    ) -> Result<Self> {
        Self::within(mdl.cast::<sys::Mdl>(), total, offset, length)
    }

    fn within(mdl: NonNull<sys::Mdl>, total: u32, offset: u32, length: u32) -> Result<Self> {
        let end = offset.checked_add(length);
        if end.is_none_or(|end| end > total) {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        Ok(Self {
            mdl,
            offset,
            length,
        })
    }

    /// What the provider itself has described; none if it is no memory, or more
    /// than one call moves.
    pub(super) fn of_provider(buffer: &sys::WskBuf) -> Option<Self> {
        Some(Self {
            mdl: NonNull::new(buffer.mdl)?,
            offset: buffer.offset,
            length: u32::try_from(buffer.length).ok()?,
        })
    }

    /// Its bytes.
    pub(crate) fn len(self) -> u32 {
        self.length
    }

    pub(super) fn raw(self) -> sys::WskBuf {
        sys::WskBuf {
            mdl: self.mdl.as_ptr(),
            offset: self.offset,
            // usize has 64 bits here.
            length: self.length as usize,
        }
    }
}

/// A buffer of the driver's own. The driver itself never looks at the bytes:
/// while a call is pending they are the provider's.
pub(crate) struct IoBuffer {
    mdl: NonNull<sys::Mdl>,
    len: u32,
    /// Held to be freed, after the MDL that describes it (see Drop: fields are
    /// dropped after it has run).
    _bytes: KBuf,
}

// SAFETY: nothing here changes once it is made; the bytes are the provider's.
unsafe impl Sync for IoBuffer {}
// SAFETY: pool and MDLs may be freed on any thread.
unsafe impl Send for IoBuffer {}

impl IoBuffer {
    /// A buffer of `len` bytes. `IRQL <= DISPATCH_LEVEL`.
    pub(crate) fn try_new(len: u32, tag: Tag) -> Result<Self> {
        let size = usize::try_from(len).map_err(|_| NtStatus::INVALID_PARAMETER)?;
        let mut bytes = KBuf::try_zeroed(size, tag)?;
        let start = bytes.as_mut_ptr().cast::<c_void>();
        // SAFETY: `start` and `len` are a live pool allocation; no IRP and no
        // quota; null is handled below.
        let mdl = unsafe { sys::IoAllocateMdl(start, len, 0, 0, core::ptr::null_mut()) };
        let mdl = NonNull::new(mdl).ok_or(NtStatus::INSUFFICIENT_RESOURCES)?;
        // SAFETY: a fresh MDL over non-paged pool.
        unsafe { sys::MmBuildMdlForNonPagedPool(mdl.as_ptr()) };
        Ok(Self {
            mdl,
            len,
            _bytes: bytes,
        })
    }

    /// `length` bytes from `offset`; `STATUS_INVALID_PARAMETER` if they aren't
    /// within the buffer.
    pub(crate) fn span(&self, offset: u32, length: u32) -> Result<Span> {
        Span::within(self.mdl, self.len, offset, length)
    }

    /// All of it.
    pub(crate) fn whole(&self) -> Span {
        Span {
            mdl: self.mdl,
            offset: 0,
            length: self.len,
        }
    }
}

impl Drop for IoBuffer {
    fn drop(&mut self) {
        // SAFETY: allocated in try_new, freed once. An MDL of non-paged pool was
        // never locked or mapped, so there is nothing to undo first.
        unsafe { sys::IoFreeMdl(self.mdl.as_ptr()) };
    }
}
