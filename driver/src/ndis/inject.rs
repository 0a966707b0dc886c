//! Frames from user mode onto an adapter, or up into the host.
//!
//! A frame is copied into memory of the filter's and handed on at once, in the
//! call that brings it; the list comes back later, and is freed then. Until it
//! is back it is inside the module's gate, so Pausing waits for it. It goes past
//! the filter: no rule decides on it, and it is not diverted (again).

use weir_abi::Direction;

use super::adapter::{self, Module};
use super::own::{Data, Frame};
use super::sys;
use crate::kernel::status::NtStatus;

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

impl InjectError {
    /// The status that says so.
    pub(crate) fn status(self) -> NtStatus {
        match self {
            Self::NoSuchAdapter => NtStatus::NO_SUCH_DEVICE,
            Self::NotRunning => NtStatus::INVALID_DEVICE_STATE,
            Self::Length | Self::Source => NtStatus::INVALID_PARAMETER,
            Self::NoMemory => NtStatus::INSUFFICIENT_RESOURCES,
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
    if !(MIN_FRAME..=longest(module, injection.direction)).contains(&injection.len) {
        return Err(InjectError::Length);
    }
    // Until the call that hands it on has returned, and ...
    let _inside = module.gate.acquire().ok_or(InjectError::NotRunning)?;
    let frame = make(module, injection, fill)?;
    // ... until the frame is back. See give_back in `back.rs`.
    if !module.gate.acquire_raw() {
        return Err(InjectError::NotRunning);
    }
    let list = frame.into_raw().as_ptr();
    match injection.direction {
        Direction::Out => {
            // SAFETY: the filter's own list with its SourceHandle, handed on
            // once; the module is Running, and Pausing waits for _inside.
            // Without the flag nobody on this host would see it who would see
            // the same frame of a protocol's.
            unsafe {
                sys::NdisFSendNetBufferLists(
                    module.handle(),
                    list,
                    0,
                    sys::NDIS_SEND_FLAGS_CHECK_FOR_LOOPBACK,
                );
            }
        }
        Direction::In => {
            // SAFETY: as above; one list.
            unsafe { sys::NdisFIndicateReceiveNetBufferLists(module.handle(), list, 0, 1, 0) };
        }
    }
    Ok(())
}

fn make(
    module: &Module,
    injection: &Injection,
    fill: &mut dyn FnMut(&mut [u8]) -> bool,
) -> Result<Frame, InjectError> {
    let mut data = Data::try_new(module, injection.len).map_err(|_| InjectError::NoMemory)?;
    if !fill(data.bytes()) {
        return Err(InjectError::Source);
    }
    let beside = injection.tag_beside.unwrap_or(module.takes_tags());
    let tag = if beside { data.take_tag() } else { None };
    let mut frame = Frame::try_new(module, data).map_err(|_| InjectError::NoMemory)?;
    if let Some(tag) = tag {
        frame.set_info(
            sys::IEEE_8021Q_NET_BUFFER_LIST_INFO,
            super::tag::beside(tag),
        );
    }
    Ok(frame)
}

/// The longest frame that goes this way. The host takes what adapters coalesce;
/// an adapter sends what its MTU allows.
fn longest(module: &Module, direction: Direction) -> u32 {
    match (direction, module.mtu()) {
        (Direction::In, _) | (_, 0) => MAX_FRAME,
        (Direction::Out, mtu) => mtu.saturating_add(LINK_HEADER).min(MAX_FRAME),
    }
}
