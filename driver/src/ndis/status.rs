//! Status indications and Plug and Play events: all are passed on; what an
//! indication says about the adapter is noted.

use core::ffi::c_void;

use super::sys::{self, NDIS_HANDLE, NDIS_LINK_STATE, NDIS_STATUS, NDIS_STATUS_INDICATION};
use super::view;

/// `FilterStatus`. `IRQL <= DISPATCH_LEVEL`, in every state but Attaching.
pub(super) unsafe extern "system" fn status(
    context: NDIS_HANDLE,
    indication: *mut NDIS_STATUS_INDICATION,
) {
    // SAFETY: NDIS passes the context that attach set.
    let module = unsafe { super::module(context) };
    // SAFETY: NDIS passes a valid indication, for the call.
    if let Some(link) = unsafe { link_state(indication) } {
        module.update_info(|info| info.link_speed = view::link_speed(link.XmitLinkSpeed));
    }
    // SAFETY: the indication NDIS passed, passed on as it is.
    unsafe { sys::NdisFIndicateStatus(module.handle(), indication) };
}

/// The link state that an indication carries, if it is one that does.
///
/// # Safety
/// `indication` is valid.
unsafe fn link_state(indication: *const NDIS_STATUS_INDICATION) -> Option<NDIS_LINK_STATE> {
    // SAFETY: valid by contract; no reference outlives this function.
    let indication = unsafe { &*indication };
    let size = usize::try_from(indication.StatusBufferSize).unwrap_or(0);
    if indication.StatusCode != sys::NDIS_STATUS_LINK_STATE
        || size < size_of::<NDIS_LINK_STATE>()
        || indication.StatusBuffer.is_null()
    {
        return None;
    }
    let state = indication.StatusBuffer.cast::<NDIS_LINK_STATE>();
    // SAFETY: StatusBufferSize bytes are there, enough for the structure; read
    // without relying on their alignment.
    Some(unsafe { state.read_unaligned() })
}

/// `FilterNetPnPEvent`. `PASSIVE_LEVEL`.
pub(super) unsafe extern "system" fn net_pnp_event(
    context: NDIS_HANDLE,
    event: *mut c_void,
) -> NDIS_STATUS {
    // SAFETY: NDIS passes the context that attach set.
    let module = unsafe { super::module(context) };
    // SAFETY: the event NDIS passed, passed on as it is.
    unsafe { sys::NdisFNetPnPEvent(module.handle(), event) }
}

/// `FilterDevicePnPEventNotify`. `PASSIVE_LEVEL`.
pub(super) unsafe extern "system" fn device_pnp_event(context: NDIS_HANDLE, event: *mut c_void) {
    // SAFETY: NDIS passes the context that attach set.
    let module = unsafe { super::module(context) };
    // SAFETY: the event NDIS passed, passed on as it is.
    unsafe { sys::NdisFDevicePnPEventNotify(module.handle(), event) };
}
