//! Frames from user mode onto an adapter, or up into the host.
//!
//! A frame is copied into memory of the filter's and handed on at once, in the
//! call that brings it; the list comes back later, and is freed then. Until it
//! is back it is inside the module's gate, so Pausing waits for it. It goes past
//! the filter: no rule decides on it, and it is not diverted (again).
//!
//! What a frame that was sent had left to the adapter is done here before it goes
//! on (`finish.rs`); what an adapter vouched for when it was received is said
//! again.

use weir_abi::Direction;
use weir_engine::wire;

use super::adapter::{self, Module};
use super::finish::{self, Cut};
use super::own::{Data, Frame, Frames};
use super::{back, checksum, sys, tag};

/// The least a frame has: an Ethernet header.
pub(crate) const MIN_FRAME: u32 = 14;
/// The most: an IP packet of the largest size behind two tags.
pub(crate) const MAX_FRAME: u32 = 14 + 2 * 4 + 65_535;
/// Link header with two tags.
const LINK_HEADER: u32 = 14 + 2 * 4;

/// A frame to be handed on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Injection {
    /// Id of the adapter.
    pub(crate) adapter: u32,
    /// Down to the adapter or up to the host.
    pub(crate) direction: Direction,
    /// Bytes it has, link header included: [`MIN_FRAME`] to [`MAX_FRAME`].
    pub(crate) len: u32,
    /// `RecordFlags::CHECKSUM_OFFLOAD`. Down: the checksums are to be filled in.
    /// Up: they are vouched for.
    pub(crate) checksum_offload: bool,
    /// Down, with `checksum_offload`: bytes of payload in each of the segments
    /// it is to be cut into; 0 if it isn't.
    pub(crate) segment_size: u16,
    /// Whether an 802.1Q tag right behind the addresses goes beside the frame.
    /// `None`: as the adapter takes them.
    pub(crate) tag_beside: Option<bool>,
}

/// Why a frame was not handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InjectError {
    /// No adapter has this id.
    NoSuchAdapter,
    /// The adapter is paused, or about to be.
    NotRunning,
    /// Shorter than a link header, or longer than the adapter sends.
    Length,
    /// Whoever was to write the bytes didn't.
    Source,
    /// No memory, or NDIS had none.
    NoMemory,
}

/// Hands a frame on. `fill` is called once, with `len` zeroed bytes, and says
/// whether it has written them; they are the filter's own copy from then on.
/// What becomes of the frame further on isn't known when this returns.
/// `IRQL <= DISPATCH_LEVEL`, no spin lock held.
pub(crate) fn inject(
    injection: &Injection,
    fill: &mut dyn FnMut(&mut [u8]) -> bool,
) -> Result<(), InjectError> {
    adapter::with(injection.adapter, |module| {
        let result = inject_on(module, injection, fill);
        module.injected(injection.direction, result.is_ok());
        result
    })
    .unwrap_or(Err(InjectError::NoSuchAdapter))
}

fn inject_on(
    module: &Module,
    injection: &Injection,
    fill: &mut dyn FnMut(&mut [u8]) -> bool,
) -> Result<(), InjectError> {
    if !(MIN_FRAME..=MAX_FRAME).contains(&injection.len) {
        return Err(InjectError::Length);
    }
    // Until the call that hands the frames on has returned, and ...
    let _inside = module.gate.acquire().ok_or(InjectError::NotRunning)?;
    let mut data = Data::try_new(module, injection.len).map_err(|_| InjectError::NoMemory)?;
    if !fill(data.bytes()) {
        return Err(InjectError::Source);
    }
    let frames = match injection.direction {
        Direction::In => up(module, injection, data)?,
        Direction::Out => down(module, injection, data)?,
    };
    // ... until each of them is back: see `back.rs`.
    hold(module, frames.count())?;
    let count = frames.count();
    let lists = frames.into_raw();
    let handle = module.handle();
    match injection.direction {
        Direction::Out => {
            let flags = sys::NDIS_SEND_FLAGS_CHECK_FOR_LOOPBACK;
            // SAFETY: the filter's own lists with its SourceHandle, handed on
            // once; the module is Running, and Pausing waits for _inside.
            // Without the flag nobody on this host would see it who would see
            // the same frame of a protocol's.
            unsafe { sys::NdisFSendNetBufferLists(handle, lists, 0, flags) };
        }
        Direction::In => {
            // SAFETY: as above.
            unsafe { sys::NdisFIndicateReceiveNetBufferLists(handle, lists, 0, count, 0) };
        }
    }
    Ok(())
}

/// A hold of the gate for each of so many lists.
fn hold(module: &Module, lists: u32) -> Result<(), InjectError> {
    for held in 0..lists {
        if !module.gate.acquire_raw() {
            back::release(module, held);
            return Err(InjectError::NotRunning);
        }
    }
    Ok(())
}

fn up(module: &Module, injection: &Injection, mut data: Data) -> Result<Frames, InjectError> {
    let vouched = if injection.checksum_offload {
        checksum::vouched(&wire::dissect(data.bytes(), injection.len))
    } else {
        0
    };
    let mut frame = finish_frame(module, injection, data)?;
    frame.set_info(sys::TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO, vouched);
    let mut frames = Frames::new();
    frames.push(frame);
    Ok(frames)
}

fn down(module: &Module, injection: &Injection, mut data: Data) -> Result<Frames, InjectError> {
    let longest = longest(module);
    let mut frames = Frames::new();
    let cut = (injection.checksum_offload && injection.segment_size != 0)
        .then(|| Cut::of(data.bytes(), injection.segment_size));
    let Some(cut) = cut.flatten() else {
        if injection.len > longest {
            return Err(InjectError::Length);
        }
        if injection.checksum_offload {
            finish::checksums(data.bytes());
        }
        frames.push(finish_frame(module, injection, data)?);
        return Ok(frames);
    };
    for index in 0..cut.count() {
        let len = u32::try_from(cut.len(index)).unwrap_or(u32::MAX);
        if len > longest {
            return Err(InjectError::Length);
        }
        let mut segment = Data::try_new(module, len).map_err(|_| InjectError::NoMemory)?;
        if !cut.write(data.bytes(), index, segment.bytes()) {
            return Err(InjectError::Length);
        }
        frames.push(finish_frame(module, injection, segment)?);
    }
    Ok(frames)
}

/// Makes a frame of its bytes, the tag where it belongs.
fn finish_frame(
    module: &Module,
    injection: &Injection,
    mut data: Data,
) -> Result<Frame, InjectError> {
    let beside = injection.tag_beside.unwrap_or(module.takes_tags());
    let tag = if beside { data.take_tag() } else { None };
    let mut frame = Frame::try_new(module, data).map_err(|_| InjectError::NoMemory)?;
    if let Some(tag) = tag {
        frame.set_info(sys::IEEE_8021Q_NET_BUFFER_LIST_INFO, tag::beside(tag));
    }
    Ok(frame)
}

/// The longest frame that the adapter sends.
fn longest(module: &Module) -> u32 {
    match module.mtu() {
        0 => MAX_FRAME,
        mtu => mtu.saturating_add(LINK_HEADER).min(MAX_FRAME),
    }
}
