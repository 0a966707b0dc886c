//! Registration, and the state machine of a filter module.
//!
//! NDIS walks each module through its states (MSDN, "Filter Module States and
//! Operations"), one step at a time, at `PASSIVE_LEVEL`:
//!
//! ```text
//!            attach                restart
//!  Detached ---------> Attaching            Restarting
//!      ^               |                    ^        |
//!      | detach        v     restart        |        v
//!      +------------ Paused ----------------+     Running
//!                      ^                             |
//!                      +-------- Pausing <-----------+ pause
//! ```
//!
//! | state | frames | OID requests, status, events |
//! |---|---|---|
//! | Attaching | none | none |
//! | Paused, Restarting | new ones turned away, old ones let back | passed on |
//! | Running | passed on | passed on |
//! | Pausing | as Paused, once the calls under way have ended | passed on |
//!
//! A restart or a pause ends within its callback; nothing is ever pending.

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use wdk_sys::{DRIVER_OBJECT, UNICODE_STRING};
use weir_abi::{AdapterState, SERVICE_NAME};

use super::adapter::{self, Module, Place};
use super::sys::{self, NDIS_HANDLE, NDIS_OBJECT_HEADER, NDIS_STATUS};
use super::{TAG, oid, receive, send, status, view};
use crate::kernel::log;
use crate::kernel::pool::KBox;
use crate::kernel::status::{NtStatus, Result};

/// The newest NDIS this driver knows about: 6.89. What later versions added,
/// NDIS keeps from filters that declare an earlier one.
const NEWEST_MINOR: u8 = 89;
/// First minor version with revision 2 and revision 3 of the characteristics.
const REVISION_2_SINCE: u8 = 1;
const REVISION_3_SINCE: u8 = 80;

/// Must equal `NetCfgInstanceId` in the INF.
const UNIQUE_NAME: &str = "{5F7C3A52-8B0E-4C1D-9A37-2D6E1B94C0A8}";
const FRIENDLY_NAME: &str = "Weir Frame Filter";

static FRIENDLY_NAME_UTF16: [u16; FRIENDLY_NAME.len()] = utf16(FRIENDLY_NAME);
static UNIQUE_NAME_UTF16: [u16; UNIQUE_NAME.len()] = utf16(UNIQUE_NAME);
static SERVICE_NAME_UTF16: [u16; SERVICE_NAME.len()] = utf16(SERVICE_NAME);

/// NDIS's handle of the driver; null while it is not registered.
static DRIVER: AtomicPtr<core::ffi::c_void> = AtomicPtr::new(ptr::null_mut());

/// The version registered with: major and minor in the high and the low half.
static VERSION: AtomicU32 = AtomicU32::new(0);

/// Registers the filter. Its callbacks may run before this returns.
/// `PASSIVE_LEVEL`.
pub(super) fn register(driver_object: *mut DRIVER_OBJECT) -> Result<()> {
    // SAFETY: no arguments; callable at any IRQL.
    let minor = choose_minor(unsafe { sys::NdisGetVersion() })?;
    let characteristics = characteristics(minor);
    VERSION.store(0x0006_0000 | u32::from(minor), Ordering::Relaxed);
    // SAFETY: the characteristics live for the call and the strings in them for
    // ever; the handle goes to a static; everything that callbacks use has been
    // made ready by the caller.
    let status = unsafe {
        sys::NdisFRegisterFilterDriver(
            driver_object,
            driver_object.cast(),
            &raw const characteristics,
            DRIVER.as_ptr(),
        )
    };
    if status != sys::NDIS_STATUS_SUCCESS {
        DRIVER.store(ptr::null_mut(), Ordering::Release);
        log::status(c"NdisFRegisterFilterDriver", NtStatus(status));
        return Err(NtStatus(status));
    }
    log::number(c"filter registered, NDIS 6.", u64::from(minor));
    Ok(())
}

/// Deregisters: NDIS pauses and detaches every module before this returns.
/// Does nothing if the filter is not registered. `PASSIVE_LEVEL`.
pub(super) fn deregister() {
    let handle = DRIVER.swap(ptr::null_mut(), Ordering::AcqRel);
    if handle.is_null() {
        return;
    }
    // SAFETY: the handle of a successful registration, given up once.
    unsafe { sys::NdisFDeregisterFilterDriver(handle) };
    log::line(c"filter deregistered");
}

/// Whether the filter is registered with NDIS.
pub(super) fn is_registered() -> bool {
    !DRIVER.load(Ordering::Acquire).is_null()
}

/// The NDIS version the filter declares, `0x0006_00mm`; 0 before registration.
pub(super) fn version() -> u32 {
    VERSION.load(Ordering::Relaxed)
}

/// The minor version to declare, from what `NdisGetVersion` says. The highest
/// that both sides know: a filter that declares less makes NDIS turn off
/// offloads of the adapter that came later (UDP segment coalescing, for one),
/// and this filter is to turn off none.
fn choose_minor(system: u32) -> Result<u8> {
    let (major, minor) = (system >> 16, system & 0xffff);
    match major {
        0..6 => Err(NtStatus::NOT_SUPPORTED),
        6 => Ok(u8::try_from(minor)
            .unwrap_or(NEWEST_MINOR)
            .min(NEWEST_MINOR)),
        _ => Ok(NEWEST_MINOR),
    }
}

fn characteristics(minor: u8) -> sys::NDIS_FILTER_DRIVER_CHARACTERISTICS {
    let [first, second, third] = sys::NDIS_SIZEOF_FILTER_CHARACTERISTICS;
    let (revision, size) = match minor {
        REVISION_3_SINCE.. => (3, third),
        REVISION_2_SINCE.. => (2, second),
        _ => (1, first),
    };
    sys::NDIS_FILTER_DRIVER_CHARACTERISTICS {
        Header: NDIS_OBJECT_HEADER {
            Type: sys::NDIS_OBJECT_TYPE_FILTER_DRIVER_CHARACTERISTICS,
            Revision: revision,
            Size: size,
        },
        MajorNdisVersion: 6,
        MinorNdisVersion: minor,
        MajorDriverVersion: 0,
        MinorDriverVersion: 1,
        // Optional, and no objection to any offload.
        Flags: 0,
        FriendlyName: string(&FRIENDLY_NAME_UTF16),
        UniqueName: string(&UNIQUE_NAME_UTF16),
        ServiceName: string(&SERVICE_NAME_UTF16),
        // No optional services, and no handlers that change while running.
        SetOptionsHandler: ptr::null(),
        SetFilterModuleOptionsHandler: ptr::null(),
        AttachHandler: attach,
        DetachHandler: detach,
        RestartHandler: restart,
        PauseHandler: pause,
        SendNetBufferListsHandler: send::send,
        SendNetBufferListsCompleteHandler: send::send_complete,
        CancelSendNetBufferListsHandler: send::cancel_send,
        ReceiveNetBufferListsHandler: receive::receive,
        ReturnNetBufferListsHandler: receive::give_back,
        OidRequestHandler: oid::request,
        OidRequestCompleteHandler: oid::request_complete,
        CancelOidRequestHandler: oid::cancel,
        DevicePnPEventNotifyHandler: status::device_pnp_event,
        NetPnPEventHandler: status::net_pnp_event,
        StatusHandler: status::status,
        DirectOidRequestHandler: oid::direct_request,
        DirectOidRequestCompleteHandler: oid::direct_request_complete,
        CancelDirectOidRequestHandler: oid::cancel_direct,
        // Without these NDIS takes synchronous requests past the filter.
        SynchronousOidRequestHandler: ptr::null(),
        SynchronousOidRequestCompleteHandler: ptr::null(),
    }
}

/// `FilterAttach`.
unsafe extern "system" fn attach(
    handle: NDIS_HANDLE,
    _driver_context: NDIS_HANDLE,
    parameters: *mut sys::NDIS_FILTER_ATTACH_PARAMETERS,
) -> NDIS_STATUS {
    // SAFETY: NDIS passes valid parameters, for the call.
    let parameters = unsafe { &*parameters };
    // SAFETY: as NDIS passed them.
    match unsafe { try_attach(handle, parameters) } {
        Ok(id) => {
            log::number(c"attached to adapter", u64::from(id));
            sys::NDIS_STATUS_SUCCESS
        }
        Err(status) => {
            log::status(c"attach", NtStatus(status));
            status
        }
    }
}

/// Makes a module and hands it to NDIS; leaves nothing behind on failure.
///
/// Only Ethernet is taken (which is also what wireless adapters show to a
/// filter of this kind): what it counts and captures are Ethernet frames, and of
/// anything else it could say nothing true. The filter is optional, so an
/// adapter that it declines works on without it.
///
/// # Safety
/// `parameters` is what NDIS passed to `FilterAttach`.
unsafe fn try_attach(
    handle: NDIS_HANDLE,
    parameters: &sys::NDIS_FILTER_ATTACH_PARAMETERS,
) -> core::result::Result<u32, NDIS_STATUS> {
    if parameters.MiniportMediaType != sys::NDIS_MEDIUM_802_3 {
        return Err(sys::NDIS_STATUS_UNSUPPORTED_MEDIA);
    }
    let place = Place::claim().map_err(ndis_status)?;
    let id = adapter::next_id().map_err(ndis_status)?;
    // SAFETY: the strings of valid parameters.
    let info = unsafe { view::adapter_info(id, parameters) };
    let module = KBox::into_raw(Module::try_new(handle, info).map_err(ndis_status)?);
    let attributes = sys::NDIS_FILTER_ATTRIBUTES {
        Header: NDIS_OBJECT_HEADER {
            Type: sys::NDIS_OBJECT_TYPE_FILTER_ATTRIBUTES,
            Revision: 1,
            Size: size_of::<sys::NDIS_FILTER_ATTRIBUTES>() as u16,
        },
        Flags: 0,
    };
    // SAFETY: the handle of this attach, a context that stays where it is until
    // detach, and attributes that live for the call.
    let status = unsafe { sys::NdisFSetAttributes(handle, module.cast(), &raw const attributes) };
    if status != sys::NDIS_STATUS_SUCCESS {
        // SAFETY: from into_raw above; NDIS did not take it, nobody else has it.
        drop(unsafe { KBox::from_raw(module, TAG) });
        return Err(status);
    }
    // SAFETY: live: NDIS detaches no module whose attach has not returned.
    unsafe { &*module }.set_state(AdapterState::Paused);
    place.publish(module);
    Ok(id)
}

/// `FilterDetach`: from Paused, with no frame, request or indication under way.
unsafe extern "system" fn detach(context: NDIS_HANDLE) {
    let module = context.cast::<Module>();
    adapter::retire(module);
    // SAFETY: from into_raw in try_attach; NDIS uses the context no more, and
    // retire has waited for everyone else.
    let module = unsafe { KBox::from_raw(module, TAG) };
    log::number(c"detached from adapter", u64::from(module.id()));
}

/// `FilterRestart`.
unsafe extern "system" fn restart(
    context: NDIS_HANDLE,
    parameters: *mut sys::NDIS_FILTER_RESTART_PARAMETERS,
) -> NDIS_STATUS {
    // SAFETY: NDIS passes the context that attach set.
    let module = unsafe { super::module(context) };
    module.set_state(AdapterState::Restarting);
    // SAFETY: NDIS passes null or valid parameters, for the call.
    if let Some(attributes) = unsafe { general_attributes(parameters) } {
        module.set_wishes(&attributes);
        module.update_info(|info| {
            info.mtu = attributes.MtuSize;
            if info.link_speed == 0 {
                info.link_speed = view::link_speed(attributes.MaxXmitLinkSpeed);
            }
        });
    }
    // Attach and pause leave the gate shut, with nobody inside.
    module.gate.reinit();
    module.set_state(AdapterState::Running);
    sys::NDIS_STATUS_SUCCESS
}

/// The general attributes among those of a restart, if they are there: the list
/// may be null, and need not hold them.
///
/// # Safety
/// `parameters` is null or valid, its list included.
unsafe fn general_attributes(
    parameters: *const sys::NDIS_FILTER_RESTART_PARAMETERS,
) -> Option<sys::NDIS_RESTART_GENERAL_ATTRIBUTES> {
    // SAFETY: null or valid by contract.
    let mut next = unsafe { parameters.as_ref() }?.RestartAttributes;
    loop {
        // SAFETY: null or the next of a valid list.
        let entry = unsafe { next.as_ref() }?;
        let len = usize::try_from(entry.DataLength).unwrap_or(0);
        if entry.Oid == sys::OID_GEN_MINIPORT_RESTART_ATTRIBUTES
            && len >= size_of::<sys::NDIS_RESTART_GENERAL_ATTRIBUTES>()
        {
            // SAFETY: Data starts where this view of an entry ends.
            let data = unsafe { next.add(1) };
            // SAFETY: DataLength bytes are there, enough for what is read.
            return Some(unsafe {
                data.cast::<sys::NDIS_RESTART_GENERAL_ATTRIBUTES>()
                    .read_unaligned()
            });
        }
        next = entry.Next;
    }
}

/// `FilterPause`. Shuts the gate and waits for what is inside: calls that hand
/// frames on, and lists of the filter's own that are not back yet. See `mod.rs`,
/// "Pausing".
unsafe extern "system" fn pause(
    context: NDIS_HANDLE,
    _parameters: *mut core::ffi::c_void,
) -> NDIS_STATUS {
    // SAFETY: NDIS passes the context that attach set.
    let module = unsafe { super::module(context) };
    module.set_state(AdapterState::Pausing);
    module.gate.wait();
    module.set_state(AdapterState::Paused);
    sys::NDIS_STATUS_SUCCESS
}

/// The `NDIS_STATUS` that `FilterAttach` is documented to fail with.
fn ndis_status(status: NtStatus) -> NDIS_STATUS {
    if status == NtStatus::INSUFFICIENT_RESOURCES || status == NtStatus::QUOTA_EXCEEDED {
        sys::NDIS_STATUS_RESOURCES
    } else {
        sys::NDIS_STATUS_FAILURE
    }
}

/// A counted string over a static; NDIS doesn't write to it.
fn string(units: &'static [u16]) -> UNICODE_STRING {
    let bytes = u16::try_from(size_of_val(units)).unwrap_or(0);
    UNICODE_STRING {
        Length: bytes,
        MaximumLength: bytes,
        Buffer: units.as_ptr().cast_mut(),
    }
}

/// ASCII as UTF-16, at compile time.
const fn utf16<const N: usize>(text: &str) -> [u16; N] {
    let mut units = [0u16; N];
    let mut bytes = text.as_bytes();
    let mut rest: &mut [u16] = &mut units;
    while let (Some((byte, more)), Some((unit, after))) =
        (bytes.split_first(), rest.split_first_mut())
    {
        assert!(byte.is_ascii());
        *unit = *byte as u16;
        bytes = more;
        rest = after;
    }
    units
}
