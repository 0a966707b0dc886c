//! Non-paged pool with an owner: [`KBox`], [`KBuf`], [`KSlice`].
//!
//! Every allocation can fail and says so with
//! `STATUS_INSUFFICIENT_RESOURCES`. All of it is `POOL_FLAG_NON_PAGED`, zeroed
//! by `ExAllocatePool2`, and may be made and freed at `IRQL <= DISPATCH_LEVEL`
//! (the value's own `Drop` may want less). Each part of the driver has its own
//! [`Tag`], so a leak found at unload names who made it.

use core::ffi::c_void;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

use super::status::{NtStatus, Result};
use super::sys;

/// What `ExAllocatePool2` aligns to on 64-bit Windows (page-sized requests are
/// aligned to a page, which nothing here relies on).
const POOL_ALIGN: usize = 16;

/// A pool tag: four ASCII letters in the order a debugger shows them.
#[derive(Clone, Copy)]
pub(crate) struct Tag(u32);

impl Tag {
    /// A tag such as `Tag::new(*b"WrNd")`.
    pub(crate) const fn new(letters: [u8; 4]) -> Self {
        Self(u32::from_le_bytes(letters))
    }

    /// The tag as DDIs that take one want it.
    pub(crate) const fn raw(self) -> u32 {
        self.0
    }
}

/// `len` zeroed bytes of non-paged pool; a length of 0 is an error, as it is
/// for `ExAllocatePool2`.
fn allocate(len: usize, tag: Tag) -> Result<NonNull<u8>> {
    if len == 0 {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    // SAFETY: IRQL <= DISPATCH_LEVEL is this module's condition of use; the
    // flags and the (non-zero) length are valid, and null is handled below.
    let pool = unsafe { sys::ExAllocatePool2(sys::POOL_FLAG_NON_PAGED, len, tag.raw()) };
    NonNull::new(pool.cast::<u8>()).ok_or(NtStatus::INSUFFICIENT_RESOURCES)
}

/// Gives back what [`allocate`] returned.
///
/// # Safety
/// `pool` came from [`allocate`] with the same tag, is freed once, and nobody
/// uses it afterwards.
unsafe fn release(pool: NonNull<u8>, tag: Tag) {
    // SAFETY: the caller guarantees origin, tag and single ownership.
    unsafe { sys::ExFreePoolWithTag(pool.as_ptr().cast::<c_void>(), tag.raw()) }
}

/// One value in non-paged pool. Its address never changes.
pub(crate) struct KBox<T> {
    value: NonNull<T>,
    tag: Tag,
    owns: PhantomData<T>,
}

// SAFETY: a KBox owns its value alone, as a Box does.
unsafe impl<T: Send> Send for KBox<T> {}
// SAFETY: a shared KBox gives out shared references to its value only.
unsafe impl<T: Sync> Sync for KBox<T> {}

impl<T> KBox<T> {
    /// The pool cannot promise more than [`POOL_ALIGN`].
    const ALIGNED: () = assert!(align_of::<T>() <= POOL_ALIGN && size_of::<T>() > 0);

    /// Moves `value` into the pool. It is on the (small) kernel stack before:
    /// large arrays belong into a [`KSlice`].
    pub(crate) fn try_new(value: T, tag: Tag) -> Result<Self> {
        let () = Self::ALIGNED;
        let place = allocate(size_of::<T>(), tag)?.cast::<T>();
        // SAFETY: `place` is size_of::<T>() bytes, aligned (ALIGNED), unshared.
        unsafe { place.write(value) };
        Ok(Self {
            value: place,
            tag,
            owns: PhantomData,
        })
    }

    /// Gives up ownership, for a context pointer; [`KBox::from_raw`] takes it
    /// back with the same tag.
    pub(crate) fn into_raw(this: Self) -> *mut T {
        let raw = this.value.as_ptr();
        core::mem::forget(this);
        raw
    }

    /// Takes back what [`KBox::into_raw`] gave up.
    ///
    /// # Safety
    /// `raw` came from `into_raw` of a box made with `tag`, and is taken back
    /// once.
    pub(crate) unsafe fn from_raw(raw: *mut T, tag: Tag) -> Self {
        // SAFETY: into_raw never returns null.
        let value = unsafe { NonNull::new_unchecked(raw) };
        Self {
            value,
            tag,
            owns: PhantomData,
        }
    }

    /// The value's address, which stays good while the box lives.
    pub(crate) fn as_ptr(&self) -> *mut T {
        self.value.as_ptr()
    }
}

impl<T> Deref for KBox<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the value is initialised and lives as long as the box.
        unsafe { self.value.as_ref() }
    }
}

impl<T> DerefMut for KBox<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in deref, and the box is borrowed exclusively.
        unsafe { self.value.as_mut() }
    }
}

impl<T> Drop for KBox<T> {
    fn drop(&mut self) {
        // SAFETY: the value is initialised and dropped only here.
        unsafe { self.value.drop_in_place() };
        // SAFETY: allocated with this tag in try_new, freed once.
        unsafe { release(self.value.cast::<u8>(), self.tag) };
    }
}

/// A run of bytes in non-paged pool, zeroed when made.
pub(crate) struct KBuf {
    bytes: NonNull<u8>,
    len: usize,
    tag: Tag,
}

// SAFETY: a KBuf owns plain bytes alone.
unsafe impl Send for KBuf {}
// SAFETY: a shared KBuf gives out shared bytes only.
unsafe impl Sync for KBuf {}

impl KBuf {
    /// `len` zeroed bytes (`len` > 0), aligned to 16.
    pub(crate) fn try_zeroed(len: usize, tag: Tag) -> Result<Self> {
        Ok(Self {
            bytes: allocate(len, tag)?,
            len,
            tag,
        })
    }

    /// Takes back the bytes of a buffer that was forgotten while their address
    /// was kept elsewhere.
    ///
    /// # Safety
    /// `bytes` and `len` are those of a `KBuf` made with `tag`, which was
    /// forgotten and is taken back once.
    pub(crate) unsafe fn from_raw(bytes: NonNull<u8>, len: usize, tag: Tag) -> Self {
        Self { bytes, len, tag }
    }
}

impl Deref for KBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `len` initialised bytes, owned by the buffer.
        unsafe { core::slice::from_raw_parts(self.bytes.as_ptr(), self.len) }
    }
}

impl DerefMut for KBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in deref, and the buffer is borrowed exclusively.
        unsafe { core::slice::from_raw_parts_mut(self.bytes.as_ptr(), self.len) }
    }
}

impl Drop for KBuf {
    fn drop(&mut self) {
        // SAFETY: allocated with this tag in try_zeroed, freed once.
        unsafe { release(self.bytes, self.tag) };
    }
}

impl AsRef<[u8]> for KBuf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl AsMut<[u8]> for KBuf {
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}

/// A fixed number of values in non-paged pool.
pub(crate) struct KSlice<T> {
    first: NonNull<T>,
    len: usize,
    tag: Tag,
    owns: PhantomData<T>,
}

// SAFETY: a KSlice owns its values alone.
unsafe impl<T: Send> Send for KSlice<T> {}
// SAFETY: a shared KSlice gives out shared references to its values only.
unsafe impl<T: Sync> Sync for KSlice<T> {}

impl<T> KSlice<T> {
    const ALIGNED: () = assert!(align_of::<T>() <= POOL_ALIGN && size_of::<T>() > 0);

    /// `len` values (`len` > 0), each made in turn by `make` from its index, one
    /// at a time on the stack.
    pub(crate) fn try_from_fn(
        len: usize,
        tag: Tag,
        mut make: impl FnMut(usize) -> T,
    ) -> Result<Self> {
        let () = Self::ALIGNED;
        let bytes = len
            .checked_mul(size_of::<T>())
            .ok_or(NtStatus::INSUFFICIENT_RESOURCES)?;
        let first = allocate(bytes, tag)?.cast::<T>();
        for index in 0..len {
            // SAFETY: index < len, so within the allocation.
            let place = unsafe { first.add(index) };
            // SAFETY: aligned (ALIGNED), unshared, not initialised before.
            unsafe { place.write(make(index)) };
        }
        Ok(Self {
            first,
            len,
            tag,
            owns: PhantomData,
        })
    }
}

impl<T> Deref for KSlice<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `len` initialised values, owned by the slice.
        unsafe { core::slice::from_raw_parts(self.first.as_ptr(), self.len) }
    }
}

impl<T> DerefMut for KSlice<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in deref, and the slice is borrowed exclusively.
        unsafe { core::slice::from_raw_parts_mut(self.first.as_ptr(), self.len) }
    }
}

impl<T> AsRef<[T]> for KSlice<T> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

impl<T> AsMut<[T]> for KSlice<T> {
    fn as_mut(&mut self) -> &mut [T] {
        self
    }
}

impl<T> Drop for KSlice<T> {
    fn drop(&mut self) {
        let values: *mut [T] = &raw mut **self;
        // SAFETY: initialised, and dropped only here.
        unsafe { values.drop_in_place() };
        // SAFETY: allocated with this tag in try_from_fn, freed once.
        unsafe { release(self.first.cast::<u8>(), self.tag) };
    }
}
