//! Frames from user mode onto an adapter, or up into the host.
//!
//! A frame is copied into memory of the filter's and handed on at once, in the
//! call that brings it; the list comes back later, and is freed then. Until it
//! is back it is inside the module's gate, so Pausing waits for it. It goes past
//! the filter: no rule decides on it, and it is not diverted (again).
//!
//! Readers in the capture role are shown it as it is handed on, marked as
//! injected, so that what they have is what was on the wire or reached the host.
//! It is in no balance and in no flow: a diverted frame that comes back was in
//! both when it came the first time. `injected` counts it.
//!
//! What a frame that was sent had left to the adapter is done here before it goes
//! on (`finish.rs`); what an adapter vouched for when it was received is said
//! again.

use weir_abi::limits::MAX_SNAPLEN;
use weir_abi::{Direction, RecordFlags};
use weir_engine::wire::{self, HEADER_WINDOW};

use super::adapter::{self, Module};
use super::checksum::Offload;
use super::finish::{self, Cut};
use super::inspect::remark_tag;
use super::nb::NbBytes;
use super::own::{Data, Frame, Frames};
use super::sys::{self, NET_BUFFER_LIST};
use super::{back, checksum, nbl, tag};
use crate::capture;
use crate::kernel::status::NtStatus;
use crate::kernel::time;

/// The least a frame has: an Ethernet header.
pub(crate) const MIN_FRAME: u32 = 14;
/// The most of one that goes as it is: an IP packet of the largest size behind two
/// tags.
pub(crate) const MAX_FRAME: u32 = 14 + 2 * 4 + 65_535;
/// The most of one that is to be cut: a large send can be longer than any packet.
const MAX_UNCUT: u32 = MAX_SNAPLEN;
/// A link header, and each tag in it.
const LINK_HEADER: u32 = 14;
const TAG: u32 = 4;

/// A frame to be handed on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Injection {
    /// Id of the adapter.
    pub(crate) adapter: u32,
    /// Down to the adapter or up to the host.
    pub(crate) direction: Direction,
    /// Bytes it has, link header included: [`MIN_FRAME`] to [`MAX_FRAME`], or more
    /// if it is to be cut.
    pub(crate) len: u32,
    /// `RecordFlags::CHECKSUM_OFFLOAD`. Down: the checksums are to be filled in.
    /// Up: they are vouched for.
    pub(crate) checksum_offload: bool,
    /// With `checksum_offload`: bytes of payload in each of the segments it is to
    /// be cut into; 0 if it isn't. Up: the datagrams an adapter has put together.
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
    /// As much as is allowed is under way, on this adapter or on all: see
    /// `budget.rs`.
    UnderWay,
}

impl Injection {
    /// Whether it is to be cut, if it can be.
    fn is_large(&self) -> bool {
        self.checksum_offload && self.segment_size != 0
    }
}

impl From<NtStatus> for InjectError {
    /// Why a frame couldn't be made.
    fn from(status: NtStatus) -> Self {
        if status == NtStatus::QUOTA_EXCEEDED {
            Self::UnderWay
        } else {
            Self::NoMemory
        }
    }
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
    let most = if injection.is_large() {
        MAX_UNCUT
    } else {
        MAX_FRAME
    };
    if !(MIN_FRAME..=most).contains(&injection.len) {
        return Err(InjectError::Length);
    }
    // Until the call that hands the frames on has returned, and ...
    let _inside = module.gate.acquire().ok_or(InjectError::NotRunning)?;
    let mut data = Data::try_new(module, injection.len)?;
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
    if capture::any_reader() {
        // SAFETY: the filter's own chain, not handed on.
        unsafe { show(module, injection.direction, lists) };
    }
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

/// Shows readers frames that are about to be handed on.
///
/// # Safety
/// `lists` is a chain of valid lists that are the filter's.
unsafe fn show(module: &Module, direction: Direction, lists: *mut NET_BUFFER_LIST) {
    let timestamp_100ns = time::system_time_100ns();
    // SAFETY: the contract is the same.
    for list in unsafe { nbl::drain(lists) } {
        // SAFETY: a list of the chain.
        let list = unsafe { list.as_ref() };
        let (tag, offload) = (nbl::tag(list), Offload::of(list, direction));
        for buffer in nbl::buffers(list) {
            // SAFETY: a buffer of that list, MDLs and data included.
            let bytes = unsafe { NbBytes::new(buffer, tag) };
            let len = bytes.len();
            let mut window = [0u8; HEADER_WINDOW];
            let got = bytes.copy_to(0, &mut window);
            let window = window.get(..got).unwrap_or_default();
            let checks = offload.verify(&wire::dissect(window, len), window, &bytes);
            capture::on_frame(&capture::Frame {
                adapter: module.id(),
                direction,
                timestamp_100ns,
                len,
                flags: RecordFlags::INJECTED | offload.remarks(checks) | remark_tag(tag),
                rule: None,
                logged: None,
                segment_size: 0,
                bytes: &bytes,
            });
        }
    }
}

fn up<'a>(
    module: &'a Module,
    injection: &Injection,
    mut data: Data<'a>,
) -> Result<Frames<'a>, InjectError> {
    let vouched = if injection.checksum_offload {
        checksum::vouched(&wire::dissect(data.bytes(), injection.len))
    } else {
        0
    };
    let mut frames = Frames::new(module);
    let mut push = |data| {
        let mut frame = finish_frame(module, injection, data)?;
        frame.set_info(sys::TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO, vouched);
        frames.push(frame);
        Ok(())
    };
    if let Some(cut) = cut(injection, &mut data) {
        segments(module, &mut data, &cut, MAX_FRAME, push)?;
    } else if injection.len > MAX_FRAME {
        return Err(InjectError::Length);
    } else {
        push(data)?;
    }
    Ok(frames)
}

fn down<'a>(
    module: &'a Module,
    injection: &Injection,
    mut data: Data<'a>,
) -> Result<Frames<'a>, InjectError> {
    let longest = longest(module, data.bytes());
    let mut frames = Frames::new(module);
    let mut push = |data| {
        frames.push(finish_frame(module, injection, data)?);
        Ok(())
    };
    if let Some(cut) = cut(injection, &mut data) {
        segments(module, &mut data, &cut, longest, push)?;
    } else if injection.len > longest {
        return Err(InjectError::Length);
    } else {
        if injection.checksum_offload {
            finish::checksums(data.bytes());
        }
        push(data)?;
    }
    Ok(frames)
}

/// How a frame is to be cut, if it is and can be.
fn cut(injection: &Injection, data: &mut Data<'_>) -> Option<Cut> {
    let size = injection.segment_size;
    injection
        .is_large()
        .then(|| Cut::of(data.bytes(), size))
        .flatten()
}

/// Calls `push` with each segment of a frame, none longer than `longest`.
fn segments<'a>(
    module: &'a Module,
    data: &mut Data<'a>,
    cut: &Cut,
    longest: u32,
    mut push: impl FnMut(Data<'a>) -> Result<(), InjectError>,
) -> Result<(), InjectError> {
    for index in 0..cut.count() {
        let len = u32::try_from(cut.len(index)).unwrap_or(u32::MAX);
        if len > longest {
            return Err(InjectError::Length);
        }
        let mut segment = Data::try_new(module, len)?;
        if !cut.write(data.bytes(), index, segment.bytes()) {
            return Err(InjectError::Length);
        }
        push(segment)?;
    }
    Ok(())
}

/// Makes a frame of its bytes, the tag where it belongs.
fn finish_frame<'a>(
    module: &'a Module,
    injection: &Injection,
    mut data: Data<'a>,
) -> Result<Frame<'a>, InjectError> {
    let beside = injection.tag_beside.unwrap_or(module.takes_tags());
    let tag = if beside { data.take_tag() } else { None };
    // As an adapter gives it with what it has received: the two bytes behind the
    // addresses, in their order.
    let kind = data.bytes().get(12..).and_then(|rest| rest.first_chunk());
    let kind = kind.map_or(0, |&kind| usize::from(u16::from_ne_bytes(kind)));
    let mut frame = Frame::try_new(module, data)?;
    if injection.direction == Direction::In {
        frame.set_info(sys::NET_BUFFER_LIST_FRAME_TYPE, kind);
    }
    if let Some(tag) = tag {
        frame.set_info(sys::IEEE_8021Q_NET_BUFFER_LIST_INFO, tag::beside(tag));
    }
    Ok(frame)
}

/// The longest frame with this one's tags that the adapter sends: what it says is
/// the longest packet.
fn longest(module: &Module, frame: &[u8]) -> u32 {
    let mtu = module.mtu();
    if mtu == 0 {
        return MAX_FRAME;
    }
    let headers = wire::dissect(frame, u32::try_from(frame.len()).unwrap_or(u32::MAX));
    let tags = headers.link.map_or(0, |link| link.tags.len());
    let tags = u32::try_from(tags).unwrap_or(0).saturating_mul(TAG);
    let link_header = LINK_HEADER.saturating_add(tags);
    mtu.saturating_add(link_header).min(MAX_FRAME)
}
