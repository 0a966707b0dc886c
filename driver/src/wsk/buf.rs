//! Memory that the provider reads and writes: non-paged pool with an MDL over
//! it, described to each call by a `WSK_BUF`.

use core::cell::Cell;
use core::ffi::c_void;
use core::ptr::NonNull;

use super::sys;
use crate::kernel::pool::{KBuf, Tag};
use crate::kernel::status::{NtStatus, Result};

/// A buffer for one operation at a time. The driver itself never looks at the
/// bytes: while a call is pending they are the provider's.
pub(crate) struct IoBuffer {
    mdl: NonNull<sys::Mdl>,
    /// What the current call was given. It lives here, not on a stack, so that
    /// it is there until the call has ended.
    part: Cell<sys::WskBuf>,
    len: u32,
    /// Held to be freed, after the MDL that describes it (see Drop: fields are
    /// dropped after it has run).
    _bytes: KBuf,
}

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
            part: Cell::new(sys::WskBuf {
                mdl: mdl.as_ptr(),
                offset: 0,
                length: 0,
            }),
            len,
            _bytes: bytes,
        })
    }

    /// Bytes in the buffer.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// Describes `length` bytes from `offset` for one call. The description is
    /// good until the next one, and bounded by the buffer.
    pub(super) fn part(&self, offset: u32, length: u32) -> Result<*const sys::WskBuf> {
        let end = offset.checked_add(length);
        if end.is_none_or(|end| end > self.len) {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let length = usize::try_from(length).map_err(|_| NtStatus::INVALID_PARAMETER)?;
        self.part.set(sys::WskBuf {
            mdl: self.mdl.as_ptr(),
            offset,
            length,
        });
        Ok(self.part.as_ptr())
    }
}

impl Drop for IoBuffer {
    fn drop(&mut self) {
        // SAFETY: allocated in try_new, freed once. An MDL of non-paged pool was
        // never locked or mapped, so there is nothing to undo first.
        unsafe { sys::IoFreeMdl(self.mdl.as_ptr()) };
    }
}
