//! Cutting frames into NET_BUFFER_LISTs, NET_BUFFERs and MDLs.

use std::ptr;

use super::super::consts::info;
use super::super::prng::Prng;
use super::super::shape::Shape;
use super::super::types::{Mdl, NBL_INFO_COUNT, NetBuffer, NetBufferList};
use super::{Block, Dir, FILLER, LabNbl, PAGE, digest_of, read};
use crate::nt::mdl::flags;

/// The longest frame of an adapter with the usual MTU.
const LONGEST_SENT: usize = 1514;

/// The segments of memory that hold one frame, and where its data begins.
struct Cut {
    segments: Vec<Vec<u8>>,
    headroom: usize,
}

/// Cuts one frame into the byte content of its MDLs.
fn cut(bytes: &[u8], rng: &mut Prng, shape: &Shape) -> Cut {
    let headroom = if rng.percent(50) {
        rng.range(0, shape.headroom_max)
    } else {
        0
    };
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    if rng.percent(shape.split_percent) && shape.max_mdls > 1 {
        let mut rest = bytes;
        for _ in 1..rng.range(2, shape.max_mdls) {
            let take = if rng.percent(30) {
                1
            } else {
                rng.range(0, rest.len())
            }
            .min(rest.len());
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
    if rng.percent(40)
        && let Some(last) = pieces.last_mut()
    {
        last.extend(std::iter::repeat_n(FILLER, rng.range(1, 24)));
    }
    Cut {
        segments: pieces,
        headroom,
    }
}

/// One entry of `NetBufferListInfo`: its index, and its value.
pub(crate) type Info = (usize, usize);

/// Builds one NET_BUFFER_LIST that holds `frames`, one NET_BUFFER each.
///
/// `source` becomes its `SourceHandle`. Offload information is chosen to suit
/// the direction, as the OS or a NIC would set it, except for what `info` says.
pub(crate) fn build(
    frames: &[&[u8]],
    dir: Dir,
    source: usize,
    info: &[Info],
    rng: &mut Prng,
    shape: &Shape,
) -> LabNbl {
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
            mdls.push(describe(
                block.at,
                segment.len(),
                !rng.percent(shape.unmapped_percent),
                &mut blocks,
            ));
            lengths.push(segment.len());
            data.push((blocks.len(), digest_of(block.bytes())));
            blocks.push(block);
        }
        for pair in mdls.windows(2) {
            if let [a, b] = pair {
                // SAFETY: both are MDLs allocated above, alive in `blocks`.
                unsafe { (**a).Next = *b };
            }
        }
        nbs.push(net_buffer(
            &mdls,
            &lengths,
            cut.headroom,
            bytes.len(),
            rng,
            &mut blocks,
        ));
    }
    for pair in nbs.windows(2) {
        if let [a, b] = pair {
            // SAFETY: both are NET_BUFFERs allocated above, alive in `blocks`.
            unsafe { (**a).next = *b };
        }
    }
    let block = Block::new(size_of::<NetBufferList>());
    let nbl = block.start::<NetBufferList>();
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
        head.info = out_of_band(frames.first().copied().unwrap_or(&[]), dir, rng, shape);
    }
    for (index, value) in info {
        if let Some(entry) = head.info.get_mut(*index) {
            *entry = ptr::without_provenance_mut(*value);
        }
    }
    // SAFETY: `nbl` points at a zeroed block of this type's size and alignment.
    unsafe { nbl.write(head) };
    LabNbl {
        nbl,
        data,
        nbl_then: head,
        nbs_then: nbs.iter().map(|nb| (*nb, read(*nb))).collect(),
        frames: frames
            .iter()
            .map(|f| (digest_of(f), u32::try_from(f.len()).unwrap_or(u32::MAX)))
            .collect(),
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
    let mdl = block.start::<Mdl>();
    blocks.push(block);
    let mut head = read(mdl);
    head.Size = i16::try_from(size).unwrap_or(i16::MAX);
    head.MdlFlags = if mapped {
        flags::SOURCE_IS_NONPAGED_POOL | flags::MAPPED_TO_SYSTEM_VA
    } else {
        flags::PAGES_LOCKED
    };
    if mapped {
        head.MappedSystemVa = at.cast();
    }
    head.StartVa = at.wrapping_sub(offset).cast();
    head.ByteOffset = offset as u32;
    head.ByteCount = len as u32;
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
    let mut current = (
        mdls.last().copied().unwrap_or(ptr::null_mut()),
        lengths.last().copied().unwrap_or(0),
    );
    for (mdl, length) in mdls.iter().zip(lengths) {
        if before + length > headroom {
            current = (*mdl, headroom - before);
            break;
        }
        before += length;
    }
    let block = Block::new(size_of::<NetBuffer>());
    let nb = block.start::<NetBuffer>();
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
fn out_of_band(
    frame: &[u8],
    dir: Dir,
    rng: &mut Prng,
    shape: &Shape,
) -> [*mut core::ffi::c_void; NBL_INFO_COUNT] {
    let flags = flags_of(frame);
    let (v4, tcp, udp) = (flags & 0x200 != 0, flags & 0x800 != 0, flags & 0x1000 != 0);
    let ip = usize::from(v4) | usize::from(flags & 0x400 != 0) << 1;
    let mut values = [0_usize; NBL_INFO_COUNT];
    // A tag beside the frame means a VLAN or a priority; the bits above it mean
    // neither, and must come through as well.
    if rng.percent(shape.tag_percent) {
        values[info::IEEE_8021Q] = rng.range(0, 7) | rng.range(1, 4094) << 4;
    } else if rng.percent(25) {
        values[info::IEEE_8021Q] = rng.range(1, 15) << 16;
    }
    let checksums =
        ip != 0 && (shape.checksum_percent >= 100 || rng.percent(shape.checksum_percent));
    match dir {
        Dir::Down => {
            if checksums {
                values[info::CHECKSUM] = ip
                    | usize::from(tcp) << 2
                    | usize::from(udp) << 3
                    | usize::from(v4) << 4
                    | if tcp { 34 << 16 } else { 0 };
            }
            // What no adapter sends in one piece it has to cut.
            let large = frame.len() > LONGEST_SENT || rng.percent(50);
            if checksums && tcp && frame.len() > 1400 && large {
                // LSO version 2: MSS in bits 0-19, header offset from 20, type in 30, IPv6 in 31.
                values[info::LARGE_SEND] = 1460 | 34 << 20 | 1 << 30 | usize::from(!v4) << 31;
            }
            values[info::CANCEL_ID] = if rng.percent(20) {
                rng.range(1, 1 << 20)
            } else {
                0
            };
            values[info::WFP] = if rng.percent(10) {
                rng.next() as usize & !7
            } else {
                0
            };
        }
        Dir::Up => {
            if checksums {
                values[info::CHECKSUM] =
                    usize::from(tcp) << 3 | usize::from(udp) << 4 | usize::from(v4) << 5;
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
            // Behind the headers of Ethernet, IPv4 without options, and UDP.
            let payload = frame.len().saturating_sub(14 + 20 + 8);
            if v4 && udp && shape.datagrams != 0 && payload > shape.datagrams {
                // Their number, and the bytes of payload in each.
                values[info::UDP_RSC] = payload.div_ceil(shape.datagrams) | shape.datagrams << 16;
            }
        }
    }
    values[info::CORRELATION_ID] = rng.next() as u32 as usize;
    values.map(ptr::without_provenance_mut)
}
