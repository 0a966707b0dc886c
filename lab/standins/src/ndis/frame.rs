//! The lab's own frames: NET_BUFFER_LISTs of every shape the documentation
//! allows, in memory that is the lab's and not the driver's pool, with a record
//! of what they looked like when they were handed out.
//!
//! Context: an NBL built here is alive from [`build`] until its [`LabNbl`] is
//! dropped; [`super::track`] keeps it while it travels and for a while after,
//! so that a late touch by the driver meets poisoned memory and not a stranger's.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr;

use super::consts::info;
use super::prng::Prng;
use super::shape::Shape;
use super::types::{NBL_INFO_COUNT, NetBuffer, NetBufferList};
use crate::nt::mdl;
use crate::nt::types::{MDL_MAPPED_TO_SYSTEM_VA, MDL_SOURCE_IS_NONPAGED_POOL, Mdl};

/// What headroom and tail bytes hold.
const FILLER: u8 = 0xDB;
/// What freed frames hold.
const POISON: u8 = 0xDD;
/// x64 page size, for `StartVa` and `ByteOffset`.
const PAGE: usize = 4096;

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

    /// 0 for down, 1 for up.
    pub(crate) fn index(self) -> usize {
        self as usize
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
        let layout = Layout::from_size_align(size.max(1), 16).unwrap_or_else(|_| Layout::new::<u128>());
        // SAFETY: the layout's size is at least 1.
        let at = unsafe { alloc_zeroed(layout) };
        if at.is_null() {
            std::alloc::handle_alloc_error(layout);
        }
        Self { at, layout }
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
    pub(crate) fn verify(&self, allow_modify: bool) -> Result<(), String> {
        let now = read(self.nbl);
        let then = &self.nbl_then;
        let same = [
            ("FirstNetBuffer", now.first_net_buffer == then.first_net_buffer),
            ("Context", now.context == then.context),
            ("ParentNetBufferList", now.parent == then.parent),
            ("NdisPoolHandle", now.pool_handle == then.pool_handle),
            ("NdisReserved", now.ndis_reserved == then.ndis_reserved),
            ("ProtocolReserved", now.protocol_reserved == then.protocol_reserved),
            ("MiniportReserved", now.miniport_reserved == then.miniport_reserved),
            ("SourceHandle", now.source_handle == then.source_handle),
            ("NblFlags", now.nbl_flags == then.nbl_flags),
            ("ChildRefCount", now.child_ref_count == then.child_ref_count),
            ("Flags", now.flags == then.flags),
        ];
        if let Some((field, _)) = same.iter().find(|(_, same)| !same) {
            return Err(format!("NET_BUFFER_LIST.{field} was changed"));
        }
        for (index, (a, b)) in now.info.iter().zip(&then.info).enumerate() {
            if a != b {
                return Err(format!("NetBufferListInfo[{index}] was {b:p} and is {a:p}"));
            }
        }
        for (position, (at, then)) in self.nbs_then.iter().enumerate() {
            nb_same(&read(*at), then).map_err(|field| format!("NET_BUFFER {position}: {field} was changed"))?;
        }
        if !allow_modify {
            for (block, digest) in &self.data {
                if self.blocks.get(*block).is_some_and(|b| digest_of(b.bytes()) != *digest) {
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
        ("CurrentMdlOffset", now.current_mdl_offset == then.current_mdl_offset),
        ("DataLength", now.data_length == then.data_length),
        ("MdlChain", now.mdl_chain == then.mdl_chain),
        ("DataOffset", now.data_offset == then.data_offset),
        ("ChecksumBias", now.checksum_bias == then.checksum_bias),
        ("NdisPoolHandle", now.pool_handle == then.pool_handle),
        ("NdisReserved", now.ndis_reserved == then.ndis_reserved),
        ("ProtocolReserved", now.protocol_reserved == then.protocol_reserved),
        ("MiniportReserved", now.miniport_reserved == then.miniport_reserved),
        ("SharedMemoryInfo", now.shared_memory_info == then.shared_memory_info),
    ];
    same.iter().find(|(_, same)| !same).map_or(Ok(()), |(field, _)| Err(*field))
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
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x9FB2_1C65_1E98_DF25).rotate_left(29);
    }
    for &byte in chunks.remainder() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3).rotate_left(11);
    }
    hash ^ (hash >> 32)
}

/// The segments of memory that hold one frame, and where its data begins.
struct Cut {
    segments: Vec<Vec<u8>>,
    headroom: usize,
}

/// Cuts one frame into the byte content of its MDLs.
fn cut(bytes: &[u8], rng: &mut Prng, shape: &Shape) -> Cut {
    let headroom = if rng.percent(50) { rng.range(0, shape.headroom_max) } else { 0 };
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    if rng.percent(shape.split_percent) && shape.max_mdls > 1 {
        let mut rest = bytes;
        for _ in 1..rng.range(2, shape.max_mdls) {
            let take = if rng.percent(30) { 1 } else { rng.range(0, rest.len()) }.min(rest.len());
            let (piece, tail) = rest.split_at(take);
            pieces.push(piece.to_vec());
            rest = tail;
        }
        pieces.push(rest.to_vec());
        if rng.percent(30) {
            let at = rng.range(0, pieces.len());
            pieces.insert(at, Vec::new());
        }
    } else {
        pieces.push(bytes.to_vec());
    }
    // The unused bytes before the data lie in MDLs of their own or at the
    // front of the first one with data.
    if headroom > 0 {
        if rng.percent(40) {
            pieces.insert(0, vec![FILLER; headroom]);
        } else if let Some(first) = pieces.first_mut() {
            first.splice(0..0, std::iter::repeat_n(FILLER, headroom));
        }
    }
    if rng.percent(40) {
        if let Some(last) = pieces.last_mut() {
            last.extend(std::iter::repeat_n(FILLER, rng.range(1, 24)));
        }
    }
    Cut { segments: pieces, headroom }
}

/// Builds one NET_BUFFER_LIST that holds `frames`, one NET_BUFFER each.
///
/// `source` becomes its `SourceHandle`. Offload information is chosen to suit
/// the direction, as the OS or a NIC would set it.
pub(crate) fn build(frames: &[&[u8]], dir: Dir, source: usize, rng: &mut Prng, shape: &Shape) -> LabNbl {
    let mut blocks = Vec::new();
    let mut data = Vec::new();
    let mut nbs: Vec<*mut NetBuffer> = Vec::new();
    for bytes in frames {
        let cut = cut(bytes, rng, shape);
        let mut mdls: Vec<*mut Mdl> = Vec::new();
        let mut lengths = Vec::new();
        for segment in &cut.segments {
            let block = Block::new(segment.len());
            // SAFETY: the block is at least `segment.len()` bytes long and freshly allocated.
            unsafe { ptr::copy_nonoverlapping(segment.as_ptr(), block.at, segment.len()) };
            mdls.push(describe(block.at, segment.len(), !rng.percent(shape.unmapped_percent), &mut blocks));
            lengths.push(segment.len());
            data.push((blocks.len(), digest_of(block.bytes())));
            blocks.push(block);
        }
        for pair in mdls.windows(2) {
            if let [a, b] = pair {
                mdl::set_next(*a, *b);
            }
        }
        nbs.push(net_buffer(&mdls, &lengths, cut.headroom, bytes.len(), rng, &mut blocks));
    }
    for pair in nbs.windows(2) {
        if let [a, b] = pair {
            // SAFETY: both are NET_BUFFERs allocated above, alive in `blocks`.
            unsafe { (**a).next = *b };
        }
    }
    let block = Block::new(size_of::<NetBufferList>());
    let nbl = block.at.cast::<NetBufferList>();
    blocks.push(block);
    let mut head = read(nbl);
    head.first_net_buffer = nbs.first().copied().unwrap_or(ptr::null_mut());
    head.source_handle = ptr::without_provenance_mut(source);
    head.pool_handle = ptr::without_provenance_mut(source | 1);
    head.protocol_reserved = [mark(rng), mark(rng), mark(rng), mark(rng)];
    head.miniport_reserved = [mark(rng), mark(rng)];
    head.ndis_reserved = [mark(rng), mark(rng)];
    head.scratch = mark(rng);
    head.flags = flags_of(frames.first().copied().unwrap_or(&[]));
    if shape.offload {
        head.info = out_of_band(frames.first().copied().unwrap_or(&[]), dir, rng);
    }
    // SAFETY: `nbl` points at a zeroed block of this type's size and alignment.
    unsafe { nbl.write(head) };
    LabNbl {
        nbl,
        data,
        nbl_then: head,
        nbs_then: nbs.iter().map(|nb| (*nb, read(*nb))).collect(),
        frames: frames.iter().map(|f| (digest_of(f), u32::try_from(f.len()).unwrap_or(u32::MAX))).collect(),
        blocks,
    }
}

/// A value for a reserved field, to see that nobody touches it.
fn mark(rng: &mut Prng) -> *mut core::ffi::c_void {
    ptr::without_provenance_mut(rng.next() as usize | 1)
}

/// An MDL over `len` bytes at `at`.
fn describe(at: *mut u8, len: usize, mapped: bool, blocks: &mut Vec<Block>) -> *mut Mdl {
    let offset = at.addr() % PAGE;
    let pages = (offset + len).div_ceil(PAGE).max(1);
    let size = size_of::<Mdl>() + pages * size_of::<usize>();
    let block = Block::new(size);
    let mdl = block.at.cast::<Mdl>();
    blocks.push(block);
    let mut head = read(mdl);
    head.size = i16::try_from(size).unwrap_or(i16::MAX);
    head.mdl_flags = MDL_SOURCE_IS_NONPAGED_POOL | if mapped { MDL_MAPPED_TO_SYSTEM_VA } else { 0 };
    head.mapped_system_va = at.cast();
    head.start_va = at.wrapping_sub(offset).cast();
    head.byte_offset = offset as u32;
    head.byte_count = len as u32;
    // SAFETY: `mdl` points at a zeroed block at least as large and aligned as an MDL.
    unsafe { mdl.write(head) };
    mdl
}

/// A NET_BUFFER over a chain of MDLs of these lengths.
fn net_buffer(
    mdls: &[*mut Mdl],
    lengths: &[usize],
    headroom: usize,
    len: usize,
    rng: &mut Prng,
    blocks: &mut Vec<Block>,
) -> *mut NetBuffer {
    let mut before = 0;
    let mut current = (mdls.last().copied().unwrap_or(ptr::null_mut()), lengths.last().copied().unwrap_or(0));
    for (mdl, length) in mdls.iter().zip(lengths) {
        if before + length > headroom {
            current = (*mdl, headroom - before);
            break;
        }
        before += length;
    }
    let block = Block::new(size_of::<NetBuffer>());
    let nb = block.at.cast::<NetBuffer>();
    blocks.push(block);
    let mut head = read(nb);
    head.mdl_chain = mdls.first().copied().unwrap_or(ptr::null_mut());
    head.current_mdl = current.0;
    head.current_mdl_offset = current.1 as u32;
    head.data_offset = headroom as u32;
    head.data_length = len;
    head.protocol_reserved = std::array::from_fn(|_| mark(rng));
    head.miniport_reserved = std::array::from_fn(|_| mark(rng));
    // SAFETY: `nb` points at a zeroed block of this type's size and alignment.
    unsafe { nb.write(head) };
    nb
}

/// `NDIS_NBL_FLAGS_IS_*` for a frame.
fn flags_of(frame: &[u8]) -> u32 {
    match (frame.get(12..14), frame.get(23), frame.get(20)) {
        (Some([0x08, 0x00]), Some(6), _) => 0x200 | 0x800,
        (Some([0x08, 0x00]), Some(17), _) => 0x200 | 0x1000,
        (Some([0x08, 0x00]), ..) => 0x200,
        (Some([0x86, 0xDD]), _, Some(6)) => 0x400 | 0x800,
        (Some([0x86, 0xDD]), _, Some(17)) => 0x400 | 0x1000,
        (Some([0x86, 0xDD]), ..) => 0x400,
        _ => 0,
    }
}

/// `NetBufferListInfo` as the stack above or the NIC below would fill it.
fn out_of_band(frame: &[u8], dir: Dir, rng: &mut Prng) -> [*mut core::ffi::c_void; NBL_INFO_COUNT] {
    let flags = flags_of(frame);
    let (v4, tcp, udp) = (flags & 0x200 != 0, flags & 0x800 != 0, flags & 0x1000 != 0);
    let ip = usize::from(v4) | usize::from(flags & 0x400 != 0) << 1;
    let mut values = [0_usize; NBL_INFO_COUNT];
    // A priority, but no VLAN: what a capture file says of VLANs stays true.
    if rng.percent(25) {
        values[info::IEEE_8021Q] = rng.range(1, 7);
    }
    match dir {
        Dir::Down => {
            if ip != 0 {
                values[info::CHECKSUM] = ip
                    | usize::from(tcp) << 2
                    | usize::from(udp) << 3
                    | usize::from(v4) << 4
                    | if tcp { 34 << 16 } else { 0 };
            }
            if tcp && frame.len() > 1400 && rng.percent(50) {
                // LSO version 2: MSS in bits 0-19, header offset from 20, type in 30, IPv6 in 31.
                values[info::LARGE_SEND] = 1460 | 34 << 20 | 1 << 30 | usize::from(!v4) << 31;
            }
            values[info::CANCEL_ID] = if rng.percent(20) { rng.range(1, 1 << 20) } else { 0 };
            values[info::WFP] = if rng.percent(10) { rng.next() as usize & !7 } else { 0 };
        }
        Dir::Up => {
            if ip != 0 {
                values[info::CHECKSUM] = usize::from(tcp) << 3 | usize::from(udp) << 4 | usize::from(v4) << 5;
            }
            if let Some([a, b]) = frame.get(12..14) {
                values[info::FRAME_TYPE] = usize::from(u16::from_ne_bytes([*a, *b]));
            }
            if rng.percent(50) {
                values[info::HASH_VALUE] = rng.next() as u32 as usize;
                values[info::HASH_INFO] = 0x0000_0301;
            }
            values[info::FILTERING_INFO] = rng.range(0, 3) << 16;
            if tcp && rng.percent(10) {
                // Coalesced segment and duplicate-ACK counts.
                values[info::RSC] = 2 | 1 << 16;
            }
        }
    }
    values[info::CORRELATION_ID] = rng.next() as u32 as usize;
    values.map(ptr::without_provenance_mut)
}

/// The bytes of a NET_BUFFER, or how its MDL chain falls short of its length.
pub(crate) fn gather(nb: *const NetBuffer) -> Result<Vec<u8>, String> {
    let nb = read(nb);
    let mut bytes = Vec::with_capacity(nb.data_length.min(1 << 20));
    let (mut mdl, mut offset) = (nb.current_mdl, nb.current_mdl_offset as usize);
    while bytes.len() < nb.data_length {
        if mdl.is_null() {
            return Err(format!("the MDL chain ends after {} of {} bytes", bytes.len(), nb.data_length));
        }
        let head = read(mdl);
        let Some(there) = (head.byte_count as usize).checked_sub(offset) else {
            return Err(format!("CurrentMdlOffset {offset} lies past an MDL of {} bytes", head.byte_count));
        };
        let take = there.min(nb.data_length - bytes.len());
        if take > 0 {
            let at = mdl::system_address(mdl).wrapping_add(offset);
            // SAFETY: the MDL describes `byte_count` bytes at its system address, and
            // `offset + take` is no more than that.
            bytes.extend_from_slice(unsafe { std::slice::from_raw_parts(at, take) });
        }
        (mdl, offset) = (head.next, 0);
    }
    Ok(bytes)
}

/// The NET_BUFFERs of a NET_BUFFER_LIST, in order.
pub(crate) fn buffers(nbl: *const NetBufferList) -> impl Iterator<Item = *mut NetBuffer> {
    std::iter::successors(non_null(read(nbl).first_net_buffer), |nb| non_null(read(*nb).next))
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
