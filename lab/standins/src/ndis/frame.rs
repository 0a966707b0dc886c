//! The lab's own frames: NET_BUFFER_LISTs of every shape the documentation
//! allows, in memory that is the lab's and not the driver's pool, with a record
//! of what they looked like when they were handed out.
//!
//! Context: an NBL built here is alive from [`build`] until its [`LabNbl`] is
//! dropped; [`super::track`] keeps it while it travels and for a while after,
//! so that a late touch by the driver meets poisoned memory and not a stranger's.

mod build;

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr;

use super::consts::info;
use super::types::{NetBuffer, NetBufferList};
use crate::nt::mdl;

pub(crate) use build::{Info, build};

/// What headroom and tail bytes hold.
const FILLER: u8 = 0xDB;
/// What freed frames hold.
const POISON: u8 = 0xDD;
/// x64 page size, for `StartVa` and `ByteOffset`.
const PAGE: usize = 4096;

/// The bits of large-send information that its completion leaves.
const LARGE_SEND_KEPT: usize = 0xC000_0000;

/// What a filter may have changed of a list that it hands on.
#[derive(Clone, Copy)]
pub(crate) struct Terms {
    /// The bytes of its frames.
    pub(crate) allow_modify: bool,
    /// What goes with its completion: it is a send that goes back up.
    pub(crate) completing: bool,
}

/// Which way a frame goes through the filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Dir {
    /// From the host above to the wire below.
    Down,
    /// From the wire below to the host above.
    Up,
}

impl Dir {
    /// The direction's name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Up => "up",
        }
    }
}

/// One zeroed allocation, poisoned before it is given back.
struct Block {
    at: *mut u8,
    layout: Layout,
}

// SAFETY: a `Block` is the only owner of its memory; which thread frees it does not matter.
unsafe impl Send for Block {}

impl Block {
    fn new(size: usize) -> Self {
        let layout =
            Layout::from_size_align(size.max(1), 16).unwrap_or_else(|_| Layout::new::<u128>());
        // SAFETY: the layout's size is at least 1.
        let at = unsafe { alloc_zeroed(layout) };
        if at.is_null() {
            std::alloc::handle_alloc_error(layout);
        }
        Self { at, layout }
    }

    /// Its start, as that of a structure: blocks are aligned to 16 bytes.
    fn start<T>(&self) -> *mut T {
        aligned(self.at)
    }

    /// The whole of it.
    fn bytes(&self) -> &[u8] {
        // SAFETY: `at` is valid for `layout.size()` initialised bytes while `self` lives. The
        // driver may write to it only while it owns the frame, and the lab looks when it does not.
        unsafe { std::slice::from_raw_parts(self.at, self.layout.size()) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: the allocation is `layout.size()` bytes long.
        unsafe { ptr::write_bytes(self.at, POISON, self.layout.size()) };
        // SAFETY: it came from `alloc_zeroed` with this very layout, and is freed once, here.
        unsafe { dealloc(self.at, self.layout) };
    }
}

/// A NET_BUFFER_LIST of the lab with all that hangs from it.
pub(crate) struct LabNbl {
    nbl: *mut NetBufferList,
    blocks: Vec<Block>,
    /// Which of `blocks` hold frame bytes, and their digest at hand-out.
    data: Vec<(usize, u64)>,
    nbl_then: NetBufferList,
    nbs_then: Vec<(*mut NetBuffer, NetBuffer)>,
    frames: Vec<(u64, u32)>,
}

// SAFETY: the pointers inside point into `blocks`, which move with it.
unsafe impl Send for LabNbl {}

impl LabNbl {
    /// The list itself.
    pub(crate) fn nbl(&self) -> *mut NetBufferList {
        self.nbl
    }

    /// Digest and length of each frame in it, in order.
    pub(crate) fn frames(&self) -> &[(u64, u32)] {
        &self.frames
    }

    /// Fails with what the filter changed that it must not, if it did.
    ///
    /// `Next`, `Scratch` and `Status` are the current owner's; all else belongs
    /// to the originator (NET_BUFFER_LIST structure page).
    pub(crate) fn verify(&self, terms: Terms) -> Result<(), String> {
        let now = read(self.nbl);
        let then = &self.nbl_then;
        let same = [
            (
                "FirstNetBuffer",
                now.first_net_buffer == then.first_net_buffer,
            ),
            ("Context", now.context == then.context),
            ("ParentNetBufferList", now.parent == then.parent),
            ("NdisPoolHandle", now.pool_handle == then.pool_handle),
            ("NdisReserved", now.ndis_reserved == then.ndis_reserved),
            (
                "ProtocolReserved",
                now.protocol_reserved == then.protocol_reserved,
            ),
            (
                "MiniportReserved",
                now.miniport_reserved == then.miniport_reserved,
            ),
            ("SourceHandle", now.source_handle == then.source_handle),
            ("NblFlags", now.nbl_flags == then.nbl_flags),
            ("ChildRefCount", now.child_ref_count == then.child_ref_count),
            ("Flags", now.flags == then.flags),
        ];
        if let Some((field, _)) = same.iter().find(|(_, same)| !same) {
            return Err(format!("NET_BUFFER_LIST.{field} was changed"));
        }
        for (index, (a, b)) in now.info.iter().zip(&then.info).enumerate() {
            // Who completes a large send clears its transmit half (MSDN,
            // "NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO").
            let cleared = terms.completing
                && index == info::LARGE_SEND
                && a.addr() == b.addr() & LARGE_SEND_KEPT;
            if a != b && !cleared {
                return Err(format!("NetBufferListInfo[{index}] was {b:p} and is {a:p}"));
            }
        }
        for (position, (at, then)) in self.nbs_then.iter().enumerate() {
            nb_same(&read(*at), then)
                .map_err(|field| format!("NET_BUFFER {position}: {field} was changed"))?;
        }
        if !terms.allow_modify {
            for (block, digest) in &self.data {
                if self
                    .blocks
                    .get(*block)
                    .is_some_and(|b| digest_of(b.bytes()) != *digest)
                {
                    return Err("the bytes of the frame were changed".into());
                }
            }
        }
        Ok(())
    }
}

fn nb_same(now: &NetBuffer, then: &NetBuffer) -> Result<(), &'static str> {
    let same = [
        ("Next", now.next == then.next),
        ("CurrentMdl", now.current_mdl == then.current_mdl),
        (
            "CurrentMdlOffset",
            now.current_mdl_offset == then.current_mdl_offset,
        ),
        ("DataLength", now.data_length == then.data_length),
        ("MdlChain", now.mdl_chain == then.mdl_chain),
        ("DataOffset", now.data_offset == then.data_offset),
        ("ChecksumBias", now.checksum_bias == then.checksum_bias),
        ("NdisPoolHandle", now.pool_handle == then.pool_handle),
        ("NdisReserved", now.ndis_reserved == then.ndis_reserved),
        (
            "ProtocolReserved",
            now.protocol_reserved == then.protocol_reserved,
        ),
        (
            "MiniportReserved",
            now.miniport_reserved == then.miniport_reserved,
        ),
        (
            "SharedMemoryInfo",
            now.shared_memory_info == then.shared_memory_info,
        ),
    ];
    same.iter()
        .find(|(_, same)| !same)
        .map_or(Ok(()), |(field, _)| Err(*field))
}

/// The start of an allocation aligned to 16 bytes, as that of a structure.
pub(crate) fn aligned<T>(at: *mut u8) -> *mut T {
    at.cast::<core::ffi::c_void>().cast()
}

/// A copy of what a pointer to a plain structure points at.
pub(crate) fn read<T: Copy>(at: *const T) -> T {
    // SAFETY: callers pass pointers to structures that the lab built or that the driver handed
    // over as such; a bad one of the driver's faults here, which is what it would do in NDIS.
    unsafe { at.read() }
}

/// A 64-bit digest of bytes: not for adversaries, but no accident leaves it the same.
pub(crate) fn digest_of(bytes: &[u8]) -> u64 {
    let mut hash = 0x9AE1_6A3B_2F90_404F ^ bytes.len() as u64;
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        hash = (hash ^ u64::from_le_bytes(word))
            .wrapping_mul(0x9FB2_1C65_1E98_DF25)
            .rotate_left(29);
    }
    for &byte in chunks.remainder() {
        hash = (hash ^ u64::from(byte))
            .wrapping_mul(0x0000_0100_0000_01B3)
            .rotate_left(11);
    }
    hash ^ (hash >> 32)
}

/// The bytes of a NET_BUFFER, or how its MDL chain falls short of its length.
pub(crate) fn gather(nb: *const NetBuffer) -> Result<Vec<u8>, String> {
    let nb = read(nb);
    let mut bytes = Vec::with_capacity(nb.data_length.min(1 << 20));
    let (mut mdl, mut offset) = (nb.current_mdl, nb.current_mdl_offset as usize);
    while bytes.len() < nb.data_length {
        if mdl.is_null() {
            return Err(format!(
                "the MDL chain ends after {} of {} bytes",
                bytes.len(),
                nb.data_length
            ));
        }
        let head = read(mdl);
        let Some(there) = (head.ByteCount as usize).checked_sub(offset) else {
            return Err(format!(
                "CurrentMdlOffset {offset} lies past an MDL of {} bytes",
                head.ByteCount
            ));
        };
        let take = there.min(nb.data_length - bytes.len());
        if take > 0 {
            let at = mdl::system_address(mdl).wrapping_add(offset);
            // SAFETY: the MDL describes `byte_count` bytes at its system address, and
            // `offset + take` is no more than that.
            bytes.extend_from_slice(unsafe { std::slice::from_raw_parts(at, take) });
        }
        (mdl, offset) = (head.Next, 0);
    }
    Ok(bytes)
}

/// The NET_BUFFERs of a NET_BUFFER_LIST, in order.
pub(crate) fn buffers(nbl: *const NetBufferList) -> impl Iterator<Item = *mut NetBuffer> {
    std::iter::successors(non_null(read(nbl).first_net_buffer), |nb| {
        non_null(read(*nb).next)
    })
}

/// The NET_BUFFER_LISTs of a chain, in order.
pub(crate) fn lists(first: *mut NetBufferList) -> impl Iterator<Item = *mut NetBufferList> {
    std::iter::successors(non_null(first), |nbl| non_null(read(*nbl).next))
}

fn non_null<T>(at: *mut T) -> Option<*mut T> {
    (!at.is_null()).then_some(at)
}

/// Links lists into one chain, and gives its head.
pub(crate) fn link(nbls: &[*mut NetBufferList]) -> *mut NetBufferList {
    let mut next = ptr::null_mut();
    for &nbl in nbls.iter().rev() {
        // SAFETY: the lab owns these lists at this moment, so nobody else touches `Next`.
        unsafe { (*nbl).next = next };
        next = nbl;
    }
    next
}

/// Sets the completion status of a list the lab owns.
pub(crate) fn set_status(nbl: *mut NetBufferList, status: i32) {
    // SAFETY: the lab owns the list at this moment.
    unsafe { (*nbl).status = status };
}
