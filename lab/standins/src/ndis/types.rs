//! NDIS 6 structures on x64, laid out as a driver built with the WDK sees them.
//!
//! Only what the filter engine reads or writes. Every size and offset that
//! matters is asserted at compile time, so a wrong field order can't be built.
//! Field names follow the C ones in snake case; the "ndis.h", "nblapi.h" and
//! "ntddndis.h" pages of the DDI reference are the source of their meaning.

use core::ffi::c_void;
use core::mem::{offset_of, size_of};

pub(crate) use crate::nt::types::{
    DRIVER_OBJECT as DriverObject, MDL as Mdl, UNICODE_STRING as UnicodeString,
};

/// `NDIS_HANDLE`: opaque. The lab hands out numbers, never addresses.
pub(crate) type Handle = *mut c_void;
/// `NDIS_STATUS`, which is an `NTSTATUS` in NDIS 6.
pub(crate) type Status = i32;

/// `NDIS_OBJECT_HEADER`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ObjectHeader {
    pub(crate) kind: u8,
    pub(crate) revision: u8,
    pub(crate) size: u16,
}

/// `NET_BUFFER`.
#[repr(C, align(16))]
#[derive(Clone, Copy)]
pub(crate) struct NetBuffer {
    pub(crate) next: *mut NetBuffer,
    pub(crate) current_mdl: *mut Mdl,
    pub(crate) current_mdl_offset: u32,
    pub(crate) data_length: usize,
    pub(crate) mdl_chain: *mut Mdl,
    pub(crate) data_offset: u32,
    pub(crate) padding: u32,
    pub(crate) checksum_bias: u16,
    pub(crate) reserved: u16,
    pub(crate) pool_handle: Handle,
    pub(crate) ndis_reserved: [*mut c_void; 2],
    pub(crate) protocol_reserved: [*mut c_void; 6],
    pub(crate) miniport_reserved: [*mut c_void; 4],
    pub(crate) data_physical_address: i64,
    pub(crate) shared_memory_info: *mut c_void,
}

/// How many entries `NetBufferListInfo` has in ndis.sys itself.
pub(crate) const NBL_INFO_COUNT: usize = 29;

/// `NET_BUFFER_LIST`.
#[repr(C, align(16))]
#[derive(Clone, Copy)]
pub(crate) struct NetBufferList {
    pub(crate) next: *mut NetBufferList,
    pub(crate) first_net_buffer: *mut NetBuffer,
    pub(crate) context: *mut c_void,
    pub(crate) parent: *mut NetBufferList,
    pub(crate) pool_handle: Handle,
    pub(crate) reserved_align: u64,
    pub(crate) ndis_reserved: [*mut c_void; 2],
    pub(crate) protocol_reserved: [*mut c_void; 4],
    pub(crate) miniport_reserved: [*mut c_void; 2],
    pub(crate) scratch: *mut c_void,
    pub(crate) source_handle: Handle,
    pub(crate) nbl_flags: u32,
    pub(crate) child_ref_count: i32,
    pub(crate) flags: u32,
    pub(crate) status: Status,
    pub(crate) info: [*mut c_void; NBL_INFO_COUNT],
}

/// `NET_BUFFER_LIST_CONTEXT`, without its data.
#[repr(C, align(16))]
pub(crate) struct NblContext {
    pub(crate) next: *mut NblContext,
    pub(crate) size: u16,
    pub(crate) offset: u16,
}

/// `NET_BUFFER_LIST_POOL_PARAMETERS`, revision 1 fields.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct NblPoolParameters {
    pub(crate) header: ObjectHeader,
    pub(crate) protocol_id: u8,
    pub(crate) allocate_net_buffer: u8,
    pub(crate) context_size: u16,
    pub(crate) pool_tag: u32,
    pub(crate) data_size: u32,
}

/// `NET_BUFFER_POOL_PARAMETERS`, revision 1 fields.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct NbPoolParameters {
    pub(crate) header: ObjectHeader,
    pub(crate) pool_tag: u32,
    pub(crate) data_size: u32,
}

/// `FILTER_ATTACH`.
pub(crate) type AttachFn =
    unsafe extern "system" fn(Handle, Handle, *mut AttachParameters) -> Status;
/// `FILTER_DETACH`.
pub(crate) type DetachFn = unsafe extern "system" fn(Handle);
/// `FILTER_RESTART`.
pub(crate) type RestartFn = unsafe extern "system" fn(Handle, *mut RestartParameters) -> Status;
/// `FILTER_PAUSE`.
pub(crate) type PauseFn = unsafe extern "system" fn(Handle, *mut PauseParameters) -> Status;
/// `SET_OPTIONS` and `FILTER_SET_FILTER_MODULE_OPTIONS`; the first also gets the driver context.
pub(crate) type SetOptionsFn = unsafe extern "system" fn(Handle, Handle) -> Status;
/// `FILTER_SET_FILTER_MODULE_OPTIONS`.
pub(crate) type SetModuleOptionsFn = unsafe extern "system" fn(Handle) -> Status;
/// `FILTER_SEND_NET_BUFFER_LISTS`.
pub(crate) type SendFn = unsafe extern "system" fn(Handle, *mut NetBufferList, u32, u32);
/// `FILTER_SEND_NET_BUFFER_LISTS_COMPLETE` and `FILTER_RETURN_NET_BUFFER_LISTS`.
pub(crate) type ReturnFn = unsafe extern "system" fn(Handle, *mut NetBufferList, u32);
/// `FILTER_CANCEL_SEND_NET_BUFFER_LISTS` and the OID cancel handlers.
pub(crate) type CancelFn = unsafe extern "system" fn(Handle, *mut c_void);
/// `FILTER_RECEIVE_NET_BUFFER_LISTS`.
pub(crate) type ReceiveFn = unsafe extern "system" fn(Handle, *mut NetBufferList, u32, u32, u32);
/// `FILTER_OID_REQUEST` and `FILTER_DIRECT_OID_REQUEST`.
pub(crate) type OidFn = unsafe extern "system" fn(Handle, *mut OidRequest) -> Status;
/// `FILTER_OID_REQUEST_COMPLETE` and its direct form.
pub(crate) type OidCompleteFn = unsafe extern "system" fn(Handle, *mut OidRequest, Status);
/// `FILTER_DEVICE_PNP_EVENT_NOTIFY`.
pub(crate) type DevicePnpFn = unsafe extern "system" fn(Handle, *mut DevicePnpEvent);
/// `FILTER_NET_PNP_EVENT`.
pub(crate) type NetPnpFn = unsafe extern "system" fn(Handle, *mut NetPnpNotification) -> Status;
/// `FILTER_STATUS`.
pub(crate) type StatusFn = unsafe extern "system" fn(Handle, *mut StatusIndication);

/// `NDIS_FILTER_DRIVER_CHARACTERISTICS`, revision 3. A revision 1 or 2 caller
/// supplies a prefix of it.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct FilterCharacteristics {
    pub(crate) header: ObjectHeader,
    pub(crate) major_ndis_version: u8,
    pub(crate) minor_ndis_version: u8,
    pub(crate) major_driver_version: u8,
    pub(crate) minor_driver_version: u8,
    pub(crate) flags: u32,
    pub(crate) friendly_name: UnicodeString,
    pub(crate) unique_name: UnicodeString,
    pub(crate) service_name: UnicodeString,
    pub(crate) set_options: Option<SetOptionsFn>,
    pub(crate) set_module_options: Option<SetModuleOptionsFn>,
    pub(crate) attach: Option<AttachFn>,
    pub(crate) detach: Option<DetachFn>,
    pub(crate) restart: Option<RestartFn>,
    pub(crate) pause: Option<PauseFn>,
    pub(crate) send: Option<SendFn>,
    pub(crate) send_complete: Option<ReturnFn>,
    pub(crate) cancel_send: Option<CancelFn>,
    pub(crate) receive: Option<ReceiveFn>,
    pub(crate) return_nbls: Option<ReturnFn>,
    pub(crate) oid_request: Option<OidFn>,
    pub(crate) oid_request_complete: Option<OidCompleteFn>,
    pub(crate) cancel_oid_request: Option<CancelFn>,
    pub(crate) device_pnp_event: Option<DevicePnpFn>,
    pub(crate) net_pnp_event: Option<NetPnpFn>,
    pub(crate) status: Option<StatusFn>,
    pub(crate) direct_oid_request: Option<OidFn>,
    pub(crate) direct_oid_request_complete: Option<OidCompleteFn>,
    pub(crate) cancel_direct_oid_request: Option<CancelFn>,
    pub(crate) synchronous_oid_request: Option<OidFn>,
    pub(crate) synchronous_oid_request_complete: Option<OidCompleteFn>,
}

/// `NDIS_FILTER_PARTIAL_CHARACTERISTICS`: the data handlers a module may change.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct PartialCharacteristics {
    pub(crate) header: ObjectHeader,
    pub(crate) flags: u32,
    pub(crate) send: Option<SendFn>,
    pub(crate) send_complete: Option<ReturnFn>,
    pub(crate) cancel_send: Option<CancelFn>,
    pub(crate) receive: Option<ReceiveFn>,
    pub(crate) return_nbls: Option<ReturnFn>,
}

/// `NDIS_FILTER_ATTRIBUTES`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct FilterAttributes {
    pub(crate) header: ObjectHeader,
    pub(crate) flags: u32,
}

/// `NDIS_FILTER_ATTACH_PARAMETERS`, revision 4.
#[repr(C)]
pub(crate) struct AttachParameters {
    pub(crate) header: ObjectHeader,
    pub(crate) if_index: u32,
    pub(crate) net_luid: u64,
    pub(crate) filter_module_guid_name: *mut UnicodeString,
    pub(crate) base_miniport_if_index: u32,
    pub(crate) base_miniport_instance_name: *mut UnicodeString,
    pub(crate) base_miniport_name: *mut UnicodeString,
    pub(crate) media_connect_state: u32,
    pub(crate) media_duplex_state: u32,
    pub(crate) xmit_link_speed: u64,
    pub(crate) rcv_link_speed: u64,
    pub(crate) miniport_media_type: u32,
    pub(crate) miniport_physical_media_type: u32,
    pub(crate) media_specific_attributes: Handle,
    pub(crate) default_offload_configuration: *mut c_void,
    pub(crate) mac_address_length: u16,
    pub(crate) current_mac_address: [u8; 32],
    pub(crate) base_miniport_net_luid: u64,
    pub(crate) lower_if_index: u32,
    pub(crate) lower_if_net_luid: u64,
    pub(crate) flags: u32,
    pub(crate) hd_split_current_config: *mut c_void,
    pub(crate) receive_filter_capabilities: *mut c_void,
    pub(crate) miniport_physical_device_object: *mut c_void,
    pub(crate) nic_switch_capabilities: *mut c_void,
    pub(crate) base_miniport_if_connector_present: u8,
    pub(crate) sriov_capabilities: *mut c_void,
    pub(crate) nic_switch_array: *mut c_void,
}

/// `NDIS_FILTER_RESTART_PARAMETERS`.
#[repr(C)]
pub(crate) struct RestartParameters {
    pub(crate) header: ObjectHeader,
    pub(crate) miniport_media_type: u32,
    pub(crate) miniport_physical_media_type: u32,
    pub(crate) restart_attributes: *mut RestartAttributes,
    pub(crate) lower_if_index: u32,
    pub(crate) lower_if_net_luid: u64,
    pub(crate) flags: u32,
}

/// `NDIS_RESTART_ATTRIBUTES` with room for one general attributes block.
#[repr(C, align(16))]
pub(crate) struct RestartAttributes {
    pub(crate) next: *mut RestartAttributes,
    pub(crate) oid: u32,
    pub(crate) data_length: u32,
    pub(crate) data: RestartGeneral,
}

/// `NDIS_RESTART_GENERAL_ATTRIBUTES`, revision 2.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct RestartGeneral {
    pub(crate) header: ObjectHeader,
    pub(crate) mtu_size: u32,
    pub(crate) max_xmit_link_speed: u64,
    pub(crate) max_rcv_link_speed: u64,
    pub(crate) lookahead_size: u32,
    pub(crate) mac_options: u32,
    pub(crate) supported_packet_filters: u32,
    pub(crate) max_multicast_list_size: u32,
    pub(crate) recv_scale_capabilities: *mut c_void,
    pub(crate) access_type: u32,
    pub(crate) flags: u32,
    pub(crate) connection_type: u32,
    pub(crate) supported_statistics: u32,
    pub(crate) data_back_fill_size: u32,
    pub(crate) context_back_fill_size: u32,
    pub(crate) supported_oid_list: *mut u32,
    pub(crate) supported_oid_list_length: u32,
    pub(crate) max_lookahead_size_accessed: u32,
}

/// `NDIS_FILTER_PAUSE_PARAMETERS`.
#[repr(C)]
pub(crate) struct PauseParameters {
    pub(crate) header: ObjectHeader,
    pub(crate) flags: u32,
    pub(crate) pause_reason: u32,
}

/// The `DATA` union of `NDIS_OID_REQUEST`, by its largest member
/// (`METHOD_INFORMATION`); query and set share the first words of it.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct OidData {
    pub(crate) oid: u32,
    pub(crate) information_buffer: *mut c_void,
    /// Query and set: `InformationBufferLength`. Method: `InputBufferLength`.
    pub(crate) length: u32,
    /// Query: `BytesWritten`. Set: `BytesRead`. Method: `OutputBufferLength`.
    pub(crate) word1: u32,
    /// Query and set: `BytesNeeded`. Method: `MethodId`.
    pub(crate) word2: u32,
    /// Method only: `BytesWritten`.
    pub(crate) method_written: u32,
    /// Method only: `BytesRead`.
    pub(crate) method_read: u32,
    /// Method only: `BytesNeeded`.
    pub(crate) method_needed: u32,
}

/// `NDIS_OID_REQUEST`, revision 2.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct OidRequest {
    pub(crate) header: ObjectHeader,
    pub(crate) request_type: u32,
    pub(crate) port_number: u32,
    pub(crate) timeout: u32,
    pub(crate) request_id: *mut c_void,
    pub(crate) request_handle: Handle,
    pub(crate) data: OidData,
    pub(crate) ndis_reserved: [u8; 128],
    pub(crate) miniport_reserved: [u8; 16],
    pub(crate) source_reserved: [u8; 16],
    pub(crate) supported_revision: u8,
    pub(crate) reserved1: u8,
    pub(crate) reserved2: u16,
    pub(crate) switch_id: u32,
    pub(crate) vport_id: u32,
    pub(crate) flags: u32,
}

/// `NDIS_STATUS_INDICATION`.
#[repr(C)]
pub(crate) struct StatusIndication {
    pub(crate) header: ObjectHeader,
    pub(crate) source_handle: Handle,
    pub(crate) port_number: u32,
    pub(crate) status_code: u32,
    pub(crate) flags: u32,
    pub(crate) destination_handle: Handle,
    pub(crate) request_id: *mut c_void,
    pub(crate) status_buffer: *mut c_void,
    pub(crate) status_buffer_size: u32,
    pub(crate) guid: [u32; 4],
    pub(crate) ndis_reserved: [*mut c_void; 4],
}

/// `NDIS_LINK_STATE`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct LinkState {
    pub(crate) header: ObjectHeader,
    pub(crate) media_connect_state: u32,
    pub(crate) media_duplex_state: u32,
    pub(crate) xmit_link_speed: u64,
    pub(crate) rcv_link_speed: u64,
    pub(crate) pause_functions: u32,
    pub(crate) auto_negotiation_flags: u32,
}

/// `NET_PNP_EVENT_NOTIFICATION`, revision 2, with its `NET_PNP_EVENT` spread out.
#[repr(C)]
pub(crate) struct NetPnpNotification {
    pub(crate) header: ObjectHeader,
    pub(crate) port_number: u32,
    pub(crate) net_event: u32,
    pub(crate) buffer: *mut c_void,
    pub(crate) buffer_length: u32,
    pub(crate) reserved: [usize; 16],
    pub(crate) flags: u32,
    pub(crate) switch_id: u32,
    pub(crate) vport_id: u32,
}

/// `NET_DEVICE_PNP_EVENT`.
#[repr(C)]
pub(crate) struct DevicePnpEvent {
    pub(crate) header: ObjectHeader,
    pub(crate) port_number: u32,
    pub(crate) event: u32,
    pub(crate) information_buffer: *mut c_void,
    pub(crate) information_buffer_length: u32,
    pub(crate) ndis_reserved: [u8; 16],
}

macro_rules! layout {
    ($ty:ty, $size:expr $(, $field:ident = $at:expr)* $(,)?) => {
        const _: () = {
            assert!(size_of::<$ty>() == $size);
            $(assert!(offset_of!($ty, $field) == $at);)*
        };
    };
}

layout!(ObjectHeader, 4, revision = 1, size = 2);
layout!(
    NetBuffer,
    176,
    current_mdl = 8,
    current_mdl_offset = 16,
    data_length = 24,
    mdl_chain = 32,
    data_offset = 40,
    checksum_bias = 48,
    pool_handle = 56,
    ndis_reserved = 64,
    protocol_reserved = 80,
    miniport_reserved = 128,
    data_physical_address = 160,
    shared_memory_info = 168
);
layout!(
    NetBufferList,
    384,
    first_net_buffer = 8,
    context = 16,
    parent = 24,
    pool_handle = 32,
    ndis_reserved = 48,
    protocol_reserved = 64,
    miniport_reserved = 96,
    scratch = 112,
    source_handle = 120,
    nbl_flags = 128,
    child_ref_count = 132,
    flags = 136,
    status = 140,
    info = 144
);
layout!(NblContext, 16, size = 8, offset = 10);
layout!(
    NblPoolParameters,
    16,
    protocol_id = 4,
    allocate_net_buffer = 5,
    context_size = 6,
    pool_tag = 8,
    data_size = 12
);
layout!(NbPoolParameters, 12, pool_tag = 4, data_size = 8);
layout!(
    FilterCharacteristics,
    240,
    flags = 8,
    friendly_name = 16,
    unique_name = 32,
    service_name = 48,
    set_options = 64,
    set_module_options = 72,
    attach = 80,
    detach = 88,
    restart = 96,
    pause = 104,
    send = 112,
    send_complete = 120,
    cancel_send = 128,
    receive = 136,
    return_nbls = 144,
    oid_request = 152,
    oid_request_complete = 160,
    cancel_oid_request = 168,
    device_pnp_event = 176,
    net_pnp_event = 184,
    status = 192,
    direct_oid_request = 200,
    direct_oid_request_complete = 208,
    cancel_direct_oid_request = 216,
    synchronous_oid_request = 224,
    synchronous_oid_request_complete = 232
);
layout!(
    PartialCharacteristics,
    48,
    flags = 4,
    send = 8,
    send_complete = 16,
    cancel_send = 24,
    receive = 32,
    return_nbls = 40
);
layout!(FilterAttributes, 8, flags = 4);
layout!(
    AttachParameters,
    224,
    if_index = 4,
    net_luid = 8,
    filter_module_guid_name = 16,
    base_miniport_if_index = 24,
    base_miniport_instance_name = 32,
    base_miniport_name = 40,
    media_connect_state = 48,
    media_duplex_state = 52,
    xmit_link_speed = 56,
    rcv_link_speed = 64,
    miniport_media_type = 72,
    miniport_physical_media_type = 76,
    media_specific_attributes = 80,
    default_offload_configuration = 88,
    mac_address_length = 96,
    current_mac_address = 98,
    base_miniport_net_luid = 136,
    lower_if_index = 144,
    lower_if_net_luid = 152,
    flags = 160,
    hd_split_current_config = 168,
    receive_filter_capabilities = 176,
    miniport_physical_device_object = 184,
    nic_switch_capabilities = 192,
    base_miniport_if_connector_present = 200,
    sriov_capabilities = 208,
    nic_switch_array = 216
);
layout!(
    RestartParameters,
    48,
    miniport_media_type = 4,
    miniport_physical_media_type = 8,
    restart_attributes = 16,
    lower_if_index = 24,
    lower_if_net_luid = 32,
    flags = 40
);
layout!(RestartAttributes, 112, oid = 8, data_length = 12, data = 16);
layout!(
    RestartGeneral,
    88,
    mtu_size = 4,
    max_xmit_link_speed = 8,
    max_rcv_link_speed = 16,
    lookahead_size = 24,
    mac_options = 28,
    supported_packet_filters = 32,
    max_multicast_list_size = 36,
    recv_scale_capabilities = 40,
    access_type = 48,
    flags = 52,
    connection_type = 56,
    supported_statistics = 60,
    data_back_fill_size = 64,
    context_back_fill_size = 68,
    supported_oid_list = 72,
    supported_oid_list_length = 80,
    max_lookahead_size_accessed = 84
);
layout!(PauseParameters, 12, flags = 4, pause_reason = 8);
layout!(
    OidData,
    40,
    information_buffer = 8,
    length = 16,
    word1 = 20,
    word2 = 24,
    method_written = 28,
    method_read = 32,
    method_needed = 36
);
layout!(
    OidRequest,
    248,
    request_type = 4,
    port_number = 8,
    timeout = 12,
    request_id = 16,
    request_handle = 24,
    data = 32,
    ndis_reserved = 72,
    miniport_reserved = 200,
    source_reserved = 216,
    supported_revision = 232,
    switch_id = 236,
    vport_id = 240,
    flags = 244
);
layout!(
    StatusIndication,
    112,
    source_handle = 8,
    port_number = 16,
    status_code = 20,
    flags = 24,
    destination_handle = 32,
    request_id = 40,
    status_buffer = 48,
    status_buffer_size = 56,
    guid = 60,
    ndis_reserved = 80
);
layout!(
    LinkState,
    40,
    media_connect_state = 4,
    media_duplex_state = 8,
    xmit_link_speed = 16,
    rcv_link_speed = 24,
    pause_functions = 32,
    auto_negotiation_flags = 36
);
layout!(
    NetPnpNotification,
    176,
    port_number = 4,
    net_event = 8,
    buffer = 16,
    buffer_length = 24,
    reserved = 32,
    flags = 160,
    switch_id = 164,
    vport_id = 168
);
layout!(
    DevicePnpEvent,
    48,
    port_number = 4,
    event = 8,
    information_buffer = 16,
    information_buffer_length = 24,
    ndis_reserved = 28
);
