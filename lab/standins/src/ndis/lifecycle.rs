//! A filter module's life: attach, restart, pause, detach, and the functions a
//! filter calls about it.
//!
//! Context. The caller of each operation holds the adapter's `pnp` lock: NDIS
//! starts no other operation while one is under way (Pausing a Filter Module).
//! All handlers here are called at PASSIVE_LEVEL.

pub(crate) mod calls;

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use super::adapter::Adapter;
use super::consts::{
    DUPLEX_FULL, MAC_OPTION_8021P_PRIORITY, MAC_OPTION_8021Q_VLAN, MEDIA_CONNECTED, MEDIUM_802_3,
    PAUSE_RESTART_STACK, PHYSICAL_MEDIUM_802_3, STATUS_PENDING, STATUS_SUCCESS, object,
    oid as oids,
};
use super::engine::{FilterDriver, Module, State, Transition, call, lock, tables, wait_until};
use super::oid::{self, Spec};
use super::types::{
    AttachParameters, Handle, ObjectHeader, PauseParameters, RestartAttributes, RestartGeneral,
    RestartParameters, Status, UnicodeString,
};
use super::{ends, track};
use crate::core::{Rule, event_log, fault, irql};

/// How long code inside a data handler may take to come out of it.
const DRAIN: Duration = Duration::from_secs(10);
/// 1 Gbit/s, in bits a second.
const LINK_SPEED: u64 = 1_000_000_000;

/// UTF-16 text with its UNICODE_STRING, at one place as long as it lives.
struct Text {
    _chars: Vec<u16>,
    header: Box<UnicodeString>,
}

impl Text {
    fn new(text: &str) -> Self {
        let mut chars: Vec<u16> = text.encode_utf16().collect();
        let bytes = u16::try_from(chars.len() * 2).unwrap_or(u16::MAX);
        let header = Box::new(UnicodeString {
            Length: bytes,
            MaximumLength: bytes,
            Buffer: chars.as_mut_ptr(),
        });
        Self {
            _chars: chars,
            header,
        }
    }

    fn at(&mut self) -> *mut UnicodeString {
        ptr::from_mut(&mut *self.header)
    }
}

/// The `NetLuid` of an interface: type 6 (Ethernet), its index.
fn luid(index: u32) -> u64 {
    6 << 48 | u64::from(index) << 24
}

/// Attaches a module of `driver` to an adapter and starts it.
pub(crate) fn attach(adapter: &Arc<Adapter>, driver: &Arc<FilterDriver>) {
    let _pnp = lock(&adapter.pnp);
    if adapter.module().is_some() || fault::take("ndis.attach").is_some() {
        event_log(json!({ "event": "ndis.attach", "adapter": adapter.name, "refused": true }));
        return;
    }
    let Some(handler) = driver.handlers.attach else {
        return;
    };
    let module = Module::new(Arc::clone(driver), Arc::clone(adapter));
    let status = call_attach(adapter, &module, handler);
    if status != STATUS_SUCCESS {
        module.set_state(State::Detached);
        tables().modules.remove(&module.handle);
        event_log(json!({
            "event": "ndis.attach", "adapter": adapter.name, "status": format!("0x{status:08X}")
        }));
        return;
    }
    if !module.attributes_set.load(Ordering::SeqCst) {
        violate!(
            Rule::LabNdisSetAttributes,
            "FilterAttach for adapter {} succeeded without NdisFSetAttributes",
            adapter.name
        );
    }
    module.set_state(State::Paused);
    module.calls.open();
    adapter.set_module(Some(Arc::clone(&module)));
    event_log(json!({ "event": "ndis.attach", "adapter": adapter.name, "status": "0x00000000" }));
    if adapter.shape.restart_oids {
        oid::run(adapter, Spec::query(oids::IEEE_802_3_CURRENT_ADDRESS, 6));
    }
    restart(&module);
}

fn call_attach(adapter: &Adapter, module: &Module, handler: super::types::AttachFn) -> Status {
    let mut guid = Text::new(&format!(
        "{{{:08X}-4C41-4231-8000-{:012X}}}-{{5CBF81BD-5055-47CD-9055-A76B2B4E3697}}-0000",
        adapter.if_index,
        module.handle & 0xFFFF_FFFF
    ));
    let mut instance = Text::new(&adapter.name);
    let mut miniport = Text::new(&format!(
        "\\DEVICE\\{{{:08X}-4C41-4231-8000-000000000000}}",
        adapter.if_index
    ));
    let mut mac = [0; 32];
    for (to, from) in mac.iter_mut().zip(adapter.mac) {
        *to = from;
    }
    let mut parameters = AttachParameters {
        header: ObjectHeader {
            kind: object::FILTER_ATTACH_PARAMETERS,
            revision: 4,
            size: size_of::<AttachParameters>() as u16,
        },
        if_index: adapter.if_index + 0x1000,
        net_luid: luid(adapter.if_index + 0x1000),
        filter_module_guid_name: guid.at(),
        base_miniport_if_index: adapter.if_index,
        base_miniport_instance_name: instance.at(),
        base_miniport_name: miniport.at(),
        media_connect_state: MEDIA_CONNECTED,
        media_duplex_state: DUPLEX_FULL,
        xmit_link_speed: LINK_SPEED,
        rcv_link_speed: LINK_SPEED,
        miniport_media_type: MEDIUM_802_3,
        miniport_physical_media_type: PHYSICAL_MEDIUM_802_3,
        media_specific_attributes: ptr::null_mut(),
        default_offload_configuration: ptr::null_mut(),
        mac_address_length: 6,
        current_mac_address: mac,
        base_miniport_net_luid: luid(adapter.if_index),
        lower_if_index: adapter.if_index,
        lower_if_net_luid: luid(adapter.if_index),
        flags: 0,
        hd_split_current_config: ptr::null_mut(),
        receive_filter_capabilities: ptr::null_mut(),
        miniport_physical_device_object: ptr::null_mut(),
        nic_switch_capabilities: ptr::null_mut(),
        base_miniport_if_connector_present: 1,
        sriov_capabilities: ptr::null_mut(),
        nic_switch_array: ptr::null_mut(),
    };
    let context: Handle = ptr::with_exposed_provenance_mut(module.driver.context);
    let handle: Handle = ptr::without_provenance_mut(module.handle);
    call(
        "FilterAttach",
        irql::PASSIVE_LEVEL,
        handler as *const (),
        || {
            // SAFETY: the handler is the driver's; the parameters and what they point at live through the call.
            unsafe { handler(handle, context, &raw mut parameters) }
        },
    )
}

/// Starts a paused module. A module that fails to start is detached.
pub(crate) fn restart(module: &Arc<Module>) {
    let adapter = &module.adapter;
    if let Some(handler) = module.driver.handlers.set_module_options {
        module.in_set_options.store(true, Ordering::SeqCst);
        let status = call(
            "FilterSetModuleOptions",
            irql::PASSIVE_LEVEL,
            handler as *const (),
            || {
                // SAFETY: the handler is the driver's for this module.
                unsafe { handler(module.context()) }
            },
        );
        module.in_set_options.store(false, Ordering::SeqCst);
        if status != STATUS_SUCCESS {
            fail_restart(module, status);
            return;
        }
    }
    let Some(handler) = module.driver.handlers.restart else {
        return;
    };
    let mut attributes = restart_attributes(adapter);
    let absent = adapter.draw(|rng| rng.percent(adapter.shape.restart_attributes_null_percent));
    let mut parameters = RestartParameters {
        header: ObjectHeader {
            kind: object::FILTER_RESTART_PARAMETERS,
            revision: 1,
            size: 0x2C,
        },
        miniport_media_type: MEDIUM_802_3,
        miniport_physical_media_type: PHYSICAL_MEDIUM_802_3,
        restart_attributes: if absent {
            ptr::null_mut()
        } else {
            &raw mut attributes
        },
        lower_if_index: adapter.if_index,
        lower_if_net_luid: luid(adapter.if_index),
        flags: 0,
    };
    module.open_transition();
    module.set_state(State::Restarting);
    let returned = call(
        "FilterRestart",
        irql::PASSIVE_LEVEL,
        handler as *const (),
        || {
            // SAFETY: the handler is the driver's; the parameters live through the call.
            unsafe { handler(module.context(), &raw mut parameters) }
        },
    );
    let status = settle(
        module,
        "FilterRestart",
        returned,
        adapter.shape.restart_timeout(),
        Rule::LabNdisRestart,
    );
    if status != STATUS_SUCCESS {
        fail_restart(module, status);
        return;
    }
    module.pause_returned.store(false, Ordering::SeqCst);
    module.set_state(State::Running);
    module.gate.open();
    event_log(json!({ "event": "ndis.restart", "adapter": adapter.name }));
    if adapter.shape.restart_oids {
        oid::run(
            adapter,
            Spec::set(oids::GEN_CURRENT_PACKET_FILTER, &0x2F_u32.to_le_bytes()),
        );
        oid::run(adapter, Spec::query(oids::GEN_STATISTICS, 0x98));
        oid::run(adapter, Spec::query(oids::GEN_STATISTICS, 4));
        oid::run(adapter, Spec::query(oids::UNKNOWN, 16));
    }
}

fn restart_attributes(adapter: &Adapter) -> RestartAttributes {
    RestartAttributes {
        next: ptr::null_mut(),
        // OID_GEN_MINIPORT_RESTART_ATTRIBUTES.
        oid: 0x0001_021D,
        data_length: size_of::<RestartGeneral>() as u32,
        data: RestartGeneral {
            header: ObjectHeader {
                kind: object::RESTART_GENERAL_ATTRIBUTES,
                revision: 2,
                size: size_of::<RestartGeneral>() as u16,
            },
            mtu_size: adapter.mtu,
            max_xmit_link_speed: LINK_SPEED,
            max_rcv_link_speed: LINK_SPEED,
            lookahead_size: adapter.mtu,
            mac_options: if adapter.shape.takes_tags {
                MAC_OPTION_8021P_PRIORITY | MAC_OPTION_8021Q_VLAN
            } else {
                0
            },
            supported_packet_filters: 0x2F,
            max_multicast_list_size: 32,
            recv_scale_capabilities: ptr::null_mut(),
            access_type: 2,
            flags: 0,
            connection_type: 1,
            supported_statistics: 0x3F,
            data_back_fill_size: 0,
            context_back_fill_size: 0,
            supported_oid_list: ptr::null_mut(),
            supported_oid_list_length: 0,
            max_lookahead_size_accessed: 0,
        },
    }
}

/// The final status of a handler that may return NDIS_STATUS_PENDING.
fn settle(module: &Module, api: &str, returned: Status, limit: Duration, rule: Rule) -> Status {
    if returned == STATUS_PENDING {
        let Some(status) = module.await_transition(limit) else {
            violate!(
                rule,
                "{api} returned NDIS_STATUS_PENDING, not completed within {} ms",
                limit.as_millis()
            );
        };
        return status;
    }
    if let Transition::Done(status) = module.close_transition() {
        violate!(
            rule,
            "{api} was completed with {status:#x} and returned {returned:#x} as well"
        );
    }
    returned
}

fn fail_restart(module: &Arc<Module>, status: Status) {
    module.set_state(State::Paused);
    event_log(json!({
        "event": "ndis.restart", "adapter": module.adapter.name, "status": format!("0x{status:08X}")
    }));
    detach(module);
}

/// Pauses a running module.
pub(crate) fn pause(module: &Arc<Module>, reason: u32) {
    if module.state() != State::Running {
        return;
    }
    let adapter = &module.adapter;
    let shape = &adapter.shape;
    let Some(handler) = module.driver.handlers.pause else {
        return;
    };
    if !shape.inflight_at_pause {
        module.gate.close(DRAIN);
        drain(module);
        module.gate.open();
    }
    if !shape.offer_while_pausing {
        module.gate.close(DRAIN);
    }
    let mut parameters = PauseParameters {
        header: ObjectHeader {
            kind: object::FILTER_PAUSE_PARAMETERS,
            revision: 1,
            size: size_of::<PauseParameters>() as u16,
        },
        flags: 0,
        pause_reason: reason,
    };
    module.open_transition();
    module.set_state(State::Pausing);
    let returned = call(
        "FilterPause",
        irql::PASSIVE_LEVEL,
        handler as *const (),
        || {
            // SAFETY: the handler is the driver's; the parameters live through the call.
            unsafe { handler(module.context(), &raw mut parameters) }
        },
    );
    module.pause_returned.store(true, Ordering::SeqCst);
    let rule = Rule::NdisFilterTimedPauseComplete;
    let status = settle(module, "FilterPause", returned, shape.pause_timeout(), rule);
    if status != STATUS_SUCCESS {
        violate!(rule, "FilterPause must not fail; status {status:#x}");
    }
    let own = module.own_outstanding.load(Ordering::SeqCst);
    if own > 0 {
        violate!(
            Rule::LabNdisPauseIncomplete,
            "the pause was completed while {own} NBL(s) that the filter originated were still above or below"
        );
    }
    if !module.gate.close(DRAIN) {
        violate!(
            rule,
            "a data handler of adapter {} does not return",
            adapter.name
        );
    }
    if let Some((nbl, dir)) = track::queued(module.handle) {
        violate!(
            Rule::LabNdisPauseIncomplete,
            "the pause was completed while the filter still held NBL {nbl:#x} ({})",
            dir.name()
        );
    }
    drain(module);
    module.set_state(State::Paused);
    event_log(json!({ "event": "ndis.pause", "adapter": adapter.name }));
}

/// Waits until every list of the lab is home.
fn drain(module: &Module) {
    let limit = module.adapter.shape.data_timeout();
    if !wait_until(limit, || module.outstanding.load(Ordering::SeqCst) == 0)
        && let Some((nbl, dir, _)) = track::held(module.handle).into_iter().next()
    {
        ends::held_violation(module, nbl, dir, "after it was completed or returned to it");
    }
}

/// Takes a module out of its stack: the protocols above let go of the adapter
/// (each sets its packet filter to nothing), then pause and detach.
pub(crate) fn take_out(module: &Arc<Module>, reason: u32) {
    if module.adapter.shape.restart_oids {
        let spec = Spec::set(oids::GEN_CURRENT_PACKET_FILTER, &0_u32.to_le_bytes());
        oid::run(&module.adapter, spec);
    }
    pause(module, reason);
    detach(module);
}

/// Detaches a paused module.
pub(crate) fn detach(module: &Arc<Module>) {
    let adapter = &module.adapter;
    let Some(handler) = module.driver.handlers.detach else {
        return;
    };
    adapter.set_module(None);
    if !module.calls.close(DRAIN) {
        violate!(
            Rule::LabNdisFilterState,
            "a callback of adapter {} does not return before detach",
            adapter.name
        );
    }
    let clones = oid::clones_of(module.handle);
    module.set_state(State::Detached);
    call(
        "FilterDetach",
        irql::PASSIVE_LEVEL,
        handler as *const (),
        || {
            // SAFETY: the handler is the driver's for this module.
            unsafe { handler(module.context()) }
        },
    );
    if clones > 0 {
        violate!(
            Rule::LabNdisOidClone,
            "{clones} clone(s) of OID requests not freed before FilterDetach"
        );
    }
    tables().modules.remove(&module.handle);
    event_log(json!({ "event": "ndis.detach", "adapter": adapter.report() }));
}

/// Pause and restart, if the module is running; the caller holds `pnp`.
pub(crate) fn cycle(module: &Arc<Module>) {
    if module.state() == State::Running {
        pause(module, PAUSE_RESTART_STACK);
    }
    if module.state() == State::Paused {
        restart(module);
    }
}
