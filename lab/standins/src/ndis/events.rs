//! Status indications (from below, up) and Plug and Play events (network ones
//! up, device ones down) through a filter.

use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

use super::adapter::Adapter;
use super::consts::{
    DUPLEX_FULL, INDICATE_LINK_STATE, MEDIA_CONNECTED, MEDIA_DISCONNECTED, STATUS_SUCCESS, object,
};
use super::engine::{State, call, dispatch, module, passive};
use super::frame::read;
use super::types::{
    DevicePnpEvent, Handle, LinkState, NetPnpNotification, ObjectHeader, Status, StatusIndication,
};
use crate::core::{Rule, callout, irql};

/// States in which status may be indicated.
const STATUS_STATES: &[State] = &[
    State::Paused,
    State::Restarting,
    State::Running,
    State::Pausing,
];

fn default_header(size: usize) -> ObjectHeader {
    ObjectHeader {
        kind: object::DEFAULT,
        revision: 1,
        size: size as u16,
    }
}

/// The miniport indicates a status; true if it arrived above.
pub(crate) fn indicate(adapter: &Arc<Adapter>, code: u32, up: bool) -> bool {
    let mut link = LinkState {
        header: default_header(size_of::<LinkState>()),
        media_connect_state: if up {
            MEDIA_CONNECTED
        } else {
            MEDIA_DISCONNECTED
        },
        media_duplex_state: DUPLEX_FULL,
        xmit_link_speed: 1_000_000_000,
        rcv_link_speed: 1_000_000_000,
        pause_functions: 1,
        auto_negotiation_flags: 0,
    };
    let with_link = code == INDICATE_LINK_STATE;
    let mut indication = StatusIndication {
        header: ObjectHeader {
            kind: object::STATUS_INDICATION,
            revision: 1,
            size: size_of::<StatusIndication>() as u16,
        },
        source_handle: ptr::without_provenance_mut(adapter.source),
        port_number: 0,
        status_code: code,
        flags: 0,
        destination_handle: ptr::null_mut(),
        request_id: ptr::null_mut(),
        status_buffer: if with_link {
            ptr::from_mut(&mut link).cast::<c_void>()
        } else {
            ptr::null_mut()
        },
        status_buffer_size: if with_link {
            size_of::<LinkState>() as u32
        } else {
            0
        },
        guid: [0; 4],
        ndis_reserved: [ptr::null_mut(); 4],
    };
    let key = format!("status_{code:08x}");
    let before = adapter.arrivals_of(&key);
    let handler = adapter
        .module()
        .and_then(|m| Some((Arc::clone(&m), m.driver.handlers.status?)));
    let Some((module, handler)) = handler else {
        adapter.arrived(&key);
        return true;
    };
    let Some(_inside) = module.calls.enter() else {
        return false;
    };
    let level = if adapter.draw(|rng| rng.percent(50)) {
        irql::DISPATCH_LEVEL
    } else {
        irql::PASSIVE_LEVEL
    };
    call("FilterStatus", level, handler as *const (), || {
        // SAFETY: the handler is the driver's; the indication lives through the call.
        unsafe { handler(module.context(), &raw mut indication) }
    });
    adapter.arrivals_of(&key) > before
}

/// NdisFIndicateStatus.
///
/// # Safety
/// Called by a filter driver with an indication it owns or was given.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn NdisFIndicateStatus(
    handle: Handle,
    indication: *mut StatusIndication,
) {
    let api = "NdisFIndicateStatus";
    dispatch(Rule::IrqlStatusIndicationFunction, api);
    let module = module(api, handle);
    module.require_state(api, STATUS_STATES);
    if indication.is_null() {
        violate!(Rule::LabBadParameter, "{api}: a null pointer");
    }
    // SAFETY: the caller passes a live indication, checked for null.
    let given = unsafe { &*indication };
    if given.header.kind != object::STATUS_INDICATION
        || usize::from(given.header.size) < size_of::<StatusIndication>()
    {
        violate!(Rule::LabBadParameter, "{api}: header {:?}", given.header);
    }
    let source = given.source_handle.addr();
    if source != module.adapter.source && source != module.handle {
        violate!(
            Rule::LabNdisSourceHandle,
            "{api}: SourceHandle {source:#x} is neither the indication's own nor this filter's handle"
        );
    }
    if (given.status_buffer_size > 0) == given.status_buffer.is_null() {
        violate!(
            Rule::LabBadParameter,
            "{api}: StatusBuffer and StatusBufferSize disagree"
        );
    }
    module
        .adapter
        .arrived(&format!("status_{:08x}", given.status_code));
}

/// NDIS tells the stack of a network PnP event; true if it arrived above, and
/// the filter's answer.
pub(crate) fn net_pnp(adapter: &Arc<Adapter>, event: u32) -> (bool, Status) {
    let mut notification = NetPnpNotification {
        header: ObjectHeader {
            kind: object::DEFAULT,
            revision: 2,
            size: 0xAC,
        },
        port_number: 0,
        net_event: event,
        buffer: ptr::null_mut(),
        buffer_length: 0,
        reserved: [0; 16],
        flags: 0,
        switch_id: 0,
        vport_id: 0,
    };
    let key = format!("net_pnp_{event}");
    let before = adapter.arrivals_of(&key);
    let handler = adapter
        .module()
        .and_then(|m| Some((Arc::clone(&m), m.driver.handlers.net_pnp_event?)));
    let Some((module, handler)) = handler else {
        adapter.arrived(&key);
        return (true, STATUS_SUCCESS);
    };
    let Some(_inside) = module.calls.enter() else {
        return (false, STATUS_SUCCESS);
    };
    let status = call(
        "FilterNetPnPEvent",
        irql::PASSIVE_LEVEL,
        handler as *const (),
        || {
            // SAFETY: the handler is the driver's; the notification lives through the call.
            unsafe { handler(module.context(), &raw mut notification) }
        },
    );
    (adapter.arrivals_of(&key) > before, status)
}

/// NdisFNetPnPEvent.
///
/// # Safety
/// Called by a filter driver from FilterNetPnPEvent.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn NdisFNetPnPEvent(
    handle: Handle,
    notification: *const NetPnpNotification,
) -> Status {
    let api = "NdisFNetPnPEvent";
    passive(Rule::IrqlFilterDriverFunction, api);
    let module = module(api, handle);
    if notification.is_null() {
        violate!(Rule::LabBadParameter, "{api}: a null pointer");
    }
    if callout::names().contains(&"FilterOidRequest") {
        violate!(
            Rule::NdisMNetPnPEventInOIDRequest,
            "{api} from within FilterOidRequest"
        );
    }
    let event = read(notification.wrapping_byte_add(8).cast::<u32>());
    module.adapter.arrived(&format!("net_pnp_{event}"));
    STATUS_SUCCESS
}

/// NDIS tells the stack of a device PnP event; true if it arrived below.
pub(crate) fn device_pnp(adapter: &Arc<Adapter>, event: u32) -> bool {
    let mut notification = DevicePnpEvent {
        header: default_header(size_of::<DevicePnpEvent>()),
        port_number: 0,
        event,
        information_buffer: ptr::null_mut(),
        information_buffer_length: 0,
        ndis_reserved: [0; 16],
    };
    let key = format!("device_pnp_{event}");
    let before = adapter.arrivals_of(&key);
    let handler = adapter
        .module()
        .and_then(|m| Some((Arc::clone(&m), m.driver.handlers.device_pnp_event?)));
    let Some((module, handler)) = handler else {
        adapter.arrived(&key);
        return true;
    };
    let Some(_inside) = module.calls.enter() else {
        return false;
    };
    call(
        "FilterDevicePnPEventNotify",
        irql::PASSIVE_LEVEL,
        handler as *const (),
        || {
            // SAFETY: the handler is the driver's; the notification lives through the call.
            unsafe { handler(module.context(), &raw mut notification) }
        },
    );
    adapter.arrivals_of(&key) > before
}

/// NdisFDevicePnPEventNotify.
///
/// # Safety
/// Called by a filter driver from FilterDevicePnPEventNotify.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn NdisFDevicePnPEventNotify(
    handle: Handle,
    notification: *const DevicePnpEvent,
) {
    let api = "NdisFDevicePnPEventNotify";
    passive(Rule::IrqlFilterDriverFunction, api);
    let module = module(api, handle);
    if notification.is_null() {
        violate!(Rule::LabBadParameter, "{api}: a null pointer");
    }
    let event = read(notification.wrapping_byte_add(8).cast::<u32>());
    module.adapter.arrived(&format!("device_pnp_{event}"));
}
