//! `WSK_BUF`s: what a client hands over for a transfer, checked when it is
//! handed over and again when it is given back.
//!
//! "The MDL chain must remain locked in memory until the IRP is completed": so
//! each MDL's header is kept and compared at completion, and for a send a
//! digest of the first bytes too. The transfer goes straight between the
//! socket and the memory that the MDLs describe.

use super::host::IoVec;
use super::types::WskBuf;
use crate::core::Rule;
use crate::nt::active;
use crate::nt::mdl::{self, flags};
use crate::nt::types::MDL;
use std::hash::{DefaultHasher, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};

const HEADER: usize = size_of::<MDL>();
/// Longest part of a send that is digested.
const DIGEST: usize = 4096;
/// An MDL chain longer than this is a loop.
const CHAIN_MAX: usize = 4096;
/// Any of these makes an MDL's pages stay.
const LOCKED: i16 = flags::MAPPED_TO_SYSTEM_VA
    | flags::PAGES_LOCKED
    | flags::SOURCE_IS_NONPAGED_POOL
    | flags::PARTIAL
    | flags::PARTIAL_HAS_BEEN_MAPPED;

/// Which way the bytes go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    FromClient,
    ToClient,
}

/// A checked `WSK_BUF`.
pub(super) struct Buffer {
    name: &'static str,
    segments: Vec<(*mut u8, usize)>,
    length: usize,
    mdls: Vec<(*const MDL, [u8; HEADER])>,
    digest: Option<u64>,
    released: AtomicBool,
}

// SAFETY: the memory is lent by the client until the IRP completes; the
// provider touches it from one thread at a time.
unsafe impl Send for Buffer {}
// SAFETY: shared access only reads the description, never the memory.
unsafe impl Sync for Buffer {}

/// A copy of an MDL's header.
///
/// # Safety
/// `mdl` must be readable, as the client of the call promises.
unsafe fn header(mdl: *const MDL) -> [u8; HEADER] {
    let mut copy = [0; HEADER];
    // SAFETY: the caller vouches for the source; the copy is as long.
    unsafe { std::ptr::copy_nonoverlapping(mdl.cast::<u8>(), copy.as_mut_ptr(), HEADER) };
    copy
}

impl Buffer {
    /// Reads and checks the client's `WSK_BUF`.
    ///
    /// # Safety
    /// `buffer` must be null or a readable WSK_BUF whose MDLs describe live
    /// memory: the client's part of the contract.
    pub(super) unsafe fn new(name: &'static str, buffer: *const WskBuf, way: Way) -> Self {
        if buffer.is_null() {
            violate!(Rule::LabWskNullArgument, "{name} without a WSK_BUF");
        }
        // SAFETY: not null; the client vouches for the rest.
        let WskBuf {
            mdl: first,
            offset,
            length,
        } = unsafe { buffer.read() };
        let mut this = Self {
            name,
            segments: Vec::new(),
            length,
            mdls: Vec::new(),
            digest: None,
            released: AtomicBool::new(false),
        };
        if length == 0 {
            return this;
        }
        let (mut mdl, mut skip, mut left) = (first.cast_const(), offset as usize, length);
        while left > 0 {
            if mdl.is_null() {
                violate!(
                    Rule::LabWskBuffer,
                    "{name}: WSK_BUF of {length} bytes at offset {offset} ends {left} bytes \
                     beyond its MDL chain"
                );
            }
            if this.mdls.len() >= CHAIN_MAX {
                violate!(
                    Rule::LabWskBuffer,
                    "{name}: the MDL chain of the WSK_BUF has no end"
                );
            }
            // SAFETY: not null, of the client's chain.
            let now = unsafe { &*mdl };
            if now.MdlFlags & LOCKED == 0 {
                violate!(
                    Rule::LabWskBuffer,
                    "{name}: MDL {mdl:?} was never built or locked (flags {:#x})",
                    now.MdlFlags
                );
            }
            let count = now.ByteCount as usize;
            if this.mdls.is_empty() && skip > count {
                violate!(
                    Rule::LabWskBuffer,
                    "{name}: offset {skip} of the WSK_BUF is beyond its first MDL ({count} bytes)"
                );
            }
            active::add(
                mdl as usize,
                Rule::LabWskBufferChanged,
                "an MDL of a pending WSK call",
            );
            // SAFETY: as above.
            this.mdls.push((mdl, unsafe { header(mdl) }));
            let part = count.saturating_sub(skip).min(left);
            if part > 0 {
                let start = mdl::system_address(mdl).wrapping_add(skip);
                active::add(
                    start as usize,
                    Rule::LabWskBufferChanged,
                    "buffer of a pending WSK call",
                );
                this.segments.push((start, part));
            }
            left -= part;
            skip = 0;
            mdl = now.Next;
        }
        if way == Way::FromClient {
            this.digest = Some(this.digest_now());
        }
        this
    }

    fn digest_now(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let mut left = DIGEST;
        for (start, len) in &self.segments {
            let part = (*len).min(left);
            // SAFETY: a part of what a checked MDL describes, lent to us.
            hasher.write(unsafe { std::slice::from_raw_parts(*start, part) });
            left -= part;
        }
        hasher.finish()
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// The memory from `done` bytes on, for the host.
    pub(super) fn segments(&self, done: usize) -> Vec<IoVec> {
        let mut skip = done;
        let mut out = Vec::with_capacity(self.segments.len());
        for (start, len) in &self.segments {
            let hidden = skip.min(*len);
            skip -= hidden;
            if *len > hidden {
                out.push(IoVec {
                    base: start.wrapping_add(hidden),
                    len: *len - hidden,
                });
            }
        }
        out
    }

    /// Copies into the client's memory from `done` bytes on; the bytes that
    /// fitted.
    pub(super) fn fill(&self, done: usize, data: &[u8]) -> usize {
        let mut rest = data;
        for to in self.segments(done) {
            let part = rest.len().min(to.len);
            if part == 0 {
                break;
            }
            let (now, later) = rest.split_at(part);
            // SAFETY: `to` is client memory lent for writing; `now` is ours.
            unsafe { std::ptr::copy_nonoverlapping(now.as_ptr(), to.base, part) };
            rest = later;
        }
        data.len() - rest.len()
    }

    /// To be called before the IRP completes: was everything left alone?
    pub(super) fn verify(&self) {
        for (mdl, before) in &self.mdls {
            // SAFETY: the client keeps its MDLs until the IRP completes; if it
            // did not, the allocator's poison is what is read here.
            if unsafe { header(*mdl) } != *before {
                violate!(
                    Rule::LabWskBufferChanged,
                    "{}: MDL {mdl:?} was changed or freed while its \
                     IRP was pending",
                    self.name
                );
            }
        }
        if self
            .digest
            .is_some_and(|before| self.digest_now() != before)
        {
            violate!(
                Rule::LabWskBufferChanged,
                "{}: the data to send was changed while its IRP was \
                 pending",
                self.name
            );
        }
        self.release();
    }
}

impl Buffer {
    /// The memory is the client's again.
    fn release(&self) {
        if self.released.swap(true, Ordering::SeqCst) {
            return;
        }
        for (start, _) in &self.segments {
            active::remove(*start as usize);
        }
        for (mdl, _) in &self.mdls {
            active::remove(*mdl as usize);
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.release();
    }
}
