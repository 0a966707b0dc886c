//! Raw `ndis.sys`: what the filter uses of it, under its C names.
//!
//! The structures are this file's own views of the documented ones (MSDN, the
//! page of each name), with 64-bit layouts that the assertions at the end keep
//! honest. Members which the filter has no business with are reserved bytes.

// C names, to be looked up by.
#![allow(non_snake_case, non_camel_case_types, clippy::upper_case_acronyms)]

use core::ffi::c_void;

use wdk_sys::{DRIVER_OBJECT, UNICODE_STRING};

pub(crate) type NDIS_HANDLE = *mut c_void;
pub(crate) type NDIS_STATUS = i32;

/// `NDIS_STATUS` codes (ndis.h); many are `NTSTATUS` codes by value.
pub(crate) const NDIS_STATUS_SUCCESS: NDIS_STATUS = 0;
pub(crate) const NDIS_STATUS_PENDING: NDIS_STATUS = 0x103;
pub(crate) const NDIS_STATUS_RESOURCES: NDIS_STATUS = 0xC000_009Au32.cast_signed();
pub(crate) const NDIS_STATUS_FAILURE: NDIS_STATUS = 0xC000_0001u32.cast_signed();
pub(crate) const NDIS_STATUS_UNSUPPORTED_MEDIA: NDIS_STATUS = 0xC001_0019u32.cast_signed();
pub(crate) const NDIS_STATUS_PAUSED: NDIS_STATUS = 0xC023_002Au32.cast_signed();
/// `NDIS_STATUS_LINK_STATE`, a status indication.
pub(crate) const NDIS_STATUS_LINK_STATE: NDIS_STATUS = 0x4001_0017;

/// `NDIS_OBJECT_TYPE_*`
pub(crate) const NDIS_OBJECT_TYPE_DEFAULT: u8 = 0x80;
pub(crate) const NDIS_OBJECT_TYPE_FILTER_DRIVER_CHARACTERISTICS: u8 = 0x8B;
pub(crate) const NDIS_OBJECT_TYPE_FILTER_ATTRIBUTES: u8 = 0x8D;

/// `NDIS_SIZEOF_FILTER_DRIVER_CHARACTERISTICS_REVISION_n`
pub(crate) const NDIS_SIZEOF_FILTER_CHARACTERISTICS: [u16; 3] = [0xC8, 0xE0, 0xF0];

/// `NDIS_MEDIUM`: `NdisMedium802_3`.
pub(crate) const NDIS_MEDIUM_802_3: u32 = 0;

/// `OID_GEN_MINIPORT_RESTART_ATTRIBUTES`
pub(crate) const OID_GEN_MINIPORT_RESTART_ATTRIBUTES: u32 = 0x0001_021D;

/// `NDIS_REQUEST_TYPE`
pub(crate) const NDIS_REQUEST_QUERY_INFORMATION: u32 = 0;
pub(crate) const NDIS_REQUEST_SET_INFORMATION: u32 = 1;
pub(crate) const NDIS_REQUEST_QUERY_STATISTICS: u32 = 2;
pub(crate) const NDIS_REQUEST_METHOD: u32 = 12;

/// `NDIS_SEND_FLAGS_DISPATCH_LEVEL`, and by the same value that of completing,
/// receiving and returning.
pub(crate) const NDIS_FLAGS_DISPATCH_LEVEL: u32 = 1;
/// `NDIS_SEND_FLAGS_CHECK_FOR_LOOPBACK`
pub(crate) const NDIS_SEND_FLAGS_CHECK_FOR_LOOPBACK: u32 = 2;
/// `NDIS_RECEIVE_FLAGS_RESOURCES`
pub(crate) const NDIS_RECEIVE_FLAGS_RESOURCES: u32 = 2;

/// Indexes into `NetBufferListInfo` (`NDIS_NET_BUFFER_LIST_INFO`).
pub(crate) const TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO: usize = 0;
pub(crate) const TCP_LARGE_SEND_NET_BUFFER_LIST_INFO: usize = 2;
pub(crate) const IEEE_8021Q_NET_BUFFER_LIST_INFO: usize = 4;
pub(crate) const NET_BUFFER_LIST_FRAME_TYPE: usize = 7;
pub(crate) const UDP_RECV_SEG_COALESCE_INFO: usize = 17;
/// On a send it is `UdpSegmentationOffloadInfo`.
pub(crate) const TCP_RECV_SEG_COALESCE_INFO: usize = 22;
/// Entries of `NetBufferListInfo` that the filter looks at; there are more, how
/// many depends on the version.
pub(crate) const NET_BUFFER_LIST_INFO_COUNT: usize = TCP_RECV_SEG_COALESCE_INFO + 1;

/// `NDIS_MAC_OPTION_8021P_PRIORITY` and `NDIS_MAC_OPTION_8021Q_VLAN`: the adapter
/// takes tags beside the frame.
pub(crate) const NDIS_MAC_OPTION_8021Q: u32 = 0x0000_0040 | 0x0000_0200;

/// `MdlFlags` that say `MappedSystemVa` is good.
pub(crate) const MDL_MAPPED_TO_SYSTEM_VA: i16 = 0x0001;
pub(crate) const MDL_SOURCE_IS_NONPAGED_POOL: i16 = 0x0004;
/// `MEMORY_CACHING_TYPE`: `MmCached`.
pub(crate) const MM_CACHED: i32 = 1;
/// `NormalPagePriority` with `MdlMappingNoExecute`.
pub(crate) const NORMAL_PRIORITY_NO_EXECUTE: u32 = 16 | 0x4000_0000;
/// `KernelMode`
pub(crate) const KERNEL_MODE: i8 = 0;

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct NDIS_OBJECT_HEADER {
    pub(crate) Type: u8,
    pub(crate) Revision: u8,
    pub(crate) Size: u16,
}

/// Handlers the filter leaves out are null.
type NoHandler = *const c_void;

pub(crate) type FILTER_ATTACH = unsafe extern "system" fn(
    NDIS_HANDLE,
    NDIS_HANDLE,
    *mut NDIS_FILTER_ATTACH_PARAMETERS,
) -> NDIS_STATUS;
pub(crate) type FILTER_DETACH = unsafe extern "system" fn(NDIS_HANDLE);
pub(crate) type FILTER_RESTART =
    unsafe extern "system" fn(NDIS_HANDLE, *mut NDIS_FILTER_RESTART_PARAMETERS) -> NDIS_STATUS;
pub(crate) type FILTER_PAUSE = unsafe extern "system" fn(NDIS_HANDLE, *mut c_void) -> NDIS_STATUS;
pub(crate) type FILTER_SEND_NET_BUFFER_LISTS =
    unsafe extern "system" fn(NDIS_HANDLE, *mut NET_BUFFER_LIST, u32, u32);
/// `FILTER_SEND_NET_BUFFER_LISTS_COMPLETE` and `FILTER_RETURN_NET_BUFFER_LISTS`.
pub(crate) type FILTER_GIVE_BACK =
    unsafe extern "system" fn(NDIS_HANDLE, *mut NET_BUFFER_LIST, u32);
/// `FILTER_CANCEL_SEND_NET_BUFFER_LISTS`, `FILTER_CANCEL_OID_REQUEST` and the direct one.
pub(crate) type FILTER_CANCEL = unsafe extern "system" fn(NDIS_HANDLE, *mut c_void);
pub(crate) type FILTER_RECEIVE_NET_BUFFER_LISTS =
    unsafe extern "system" fn(NDIS_HANDLE, *mut NET_BUFFER_LIST, u32, u32, u32);
/// `FILTER_OID_REQUEST` and the direct one.
pub(crate) type FILTER_OID_REQUEST =
    unsafe extern "system" fn(NDIS_HANDLE, *mut NDIS_OID_REQUEST) -> NDIS_STATUS;
/// `FILTER_OID_REQUEST_COMPLETE` and the direct one.
pub(crate) type FILTER_OID_REQUEST_COMPLETE =
    unsafe extern "system" fn(NDIS_HANDLE, *mut NDIS_OID_REQUEST, NDIS_STATUS);
pub(crate) type FILTER_STATUS = unsafe extern "system" fn(NDIS_HANDLE, *mut NDIS_STATUS_INDICATION);
pub(crate) type FILTER_NET_PNP_EVENT =
    unsafe extern "system" fn(NDIS_HANDLE, *mut c_void) -> NDIS_STATUS;
pub(crate) type FILTER_DEVICE_PNP_EVENT_NOTIFY =
    unsafe extern "system" fn(NDIS_HANDLE, *mut c_void);

#[repr(C)]
pub(crate) struct NDIS_FILTER_DRIVER_CHARACTERISTICS {
    pub(crate) Header: NDIS_OBJECT_HEADER,
    pub(crate) MajorNdisVersion: u8,
    pub(crate) MinorNdisVersion: u8,
    pub(crate) MajorDriverVersion: u8,
    pub(crate) MinorDriverVersion: u8,
    pub(crate) Flags: u32,
    pub(crate) FriendlyName: UNICODE_STRING,
    pub(crate) UniqueName: UNICODE_STRING,
    pub(crate) ServiceName: UNICODE_STRING,
    pub(crate) SetOptionsHandler: NoHandler,
    pub(crate) SetFilterModuleOptionsHandler: NoHandler,
    pub(crate) AttachHandler: FILTER_ATTACH,
    pub(crate) DetachHandler: FILTER_DETACH,
    pub(crate) RestartHandler: FILTER_RESTART,
    pub(crate) PauseHandler: FILTER_PAUSE,
    pub(crate) SendNetBufferListsHandler: FILTER_SEND_NET_BUFFER_LISTS,
    pub(crate) SendNetBufferListsCompleteHandler: FILTER_GIVE_BACK,
    pub(crate) CancelSendNetBufferListsHandler: FILTER_CANCEL,
    pub(crate) ReceiveNetBufferListsHandler: FILTER_RECEIVE_NET_BUFFER_LISTS,
    pub(crate) ReturnNetBufferListsHandler: FILTER_GIVE_BACK,
    pub(crate) OidRequestHandler: FILTER_OID_REQUEST,
    pub(crate) OidRequestCompleteHandler: FILTER_OID_REQUEST_COMPLETE,
    pub(crate) CancelOidRequestHandler: FILTER_CANCEL,
    pub(crate) DevicePnPEventNotifyHandler: FILTER_DEVICE_PNP_EVENT_NOTIFY,
    pub(crate) NetPnPEventHandler: FILTER_NET_PNP_EVENT,
    pub(crate) StatusHandler: FILTER_STATUS,
    pub(crate) DirectOidRequestHandler: FILTER_OID_REQUEST,
    pub(crate) DirectOidRequestCompleteHandler: FILTER_OID_REQUEST_COMPLETE,
    pub(crate) CancelDirectOidRequestHandler: FILTER_CANCEL,
    pub(crate) SynchronousOidRequestHandler: NoHandler,
    pub(crate) SynchronousOidRequestCompleteHandler: NoHandler,
}

#[repr(C)]
pub(crate) struct NDIS_FILTER_ATTRIBUTES {
    pub(crate) Header: NDIS_OBJECT_HEADER,
    pub(crate) Flags: u32,
}

/// As far as revision 1 goes, which every NDIS 6 gives.
#[repr(C)]
pub(crate) struct NDIS_FILTER_ATTACH_PARAMETERS {
    pub(crate) Header: NDIS_OBJECT_HEADER,
    pub(crate) IfIndex: u32,
    pub(crate) NetLuid: u64,
    pub(crate) FilterModuleGuidName: *const UNICODE_STRING,
    pub(crate) BaseMiniportIfIndex: u32,
    pub(crate) BaseMiniportInstanceName: *const UNICODE_STRING,
    pub(crate) BaseMiniportName: *const UNICODE_STRING,
    pub(crate) MediaConnectState: u32,
    pub(crate) MediaDuplexState: u32,
    pub(crate) XmitLinkSpeed: u64,
    pub(crate) RcvLinkSpeed: u64,
    pub(crate) MiniportMediaType: u32,
    pub(crate) MiniportPhysicalMediaType: u32,
    pub(crate) MiniportMediaSpecificAttributes: NDIS_HANDLE,
    pub(crate) DefaultOffloadConfiguration: *const c_void,
    pub(crate) MacAddressLength: u16,
    pub(crate) CurrentMacAddress: [u8; 32],
}

#[repr(C)]
pub(crate) struct NDIS_FILTER_RESTART_PARAMETERS {
    pub(crate) Header: NDIS_OBJECT_HEADER,
    pub(crate) MiniportMediaType: u32,
    pub(crate) MiniportPhysicalMediaType: u32,
    pub(crate) RestartAttributes: *const NDIS_RESTART_ATTRIBUTES,
}

/// `Data` of `DataLength` bytes begins where this view ends.
#[repr(C, align(16))]
pub(crate) struct NDIS_RESTART_ATTRIBUTES {
    pub(crate) Next: *const NDIS_RESTART_ATTRIBUTES,
    pub(crate) Oid: u32,
    pub(crate) DataLength: u32,
}

/// The head of `NDIS_RESTART_GENERAL_ATTRIBUTES`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct NDIS_RESTART_GENERAL_ATTRIBUTES {
    pub(crate) Header: NDIS_OBJECT_HEADER,
    pub(crate) MtuSize: u32,
    pub(crate) MaxXmitLinkSpeed: u64,
    pub(crate) MaxRcvLinkSpeed: u64,
    pub(crate) LookaheadSize: u32,
    pub(crate) MacOptions: u32,
    pub(crate) SupportedPacketFilters: u32,
    pub(crate) MaxMulticastListSize: u32,
    pub(crate) RecvScaleCapabilities: *const c_void,
    pub(crate) AccessType: u32,
    pub(crate) Flags: u32,
    pub(crate) ConnectionType: u32,
    pub(crate) SupportedStatistics: u32,
    pub(crate) DataBackFillSize: u32,
    pub(crate) ContextBackFillSize: u32,
}

#[repr(C)]
pub(crate) struct NDIS_STATUS_INDICATION {
    pub(crate) Header: NDIS_OBJECT_HEADER,
    pub(crate) SourceHandle: NDIS_HANDLE,
    pub(crate) PortNumber: u32,
    pub(crate) StatusCode: NDIS_STATUS,
    pub(crate) Flags: u32,
    pub(crate) DestinationHandle: NDIS_HANDLE,
    pub(crate) RequestId: *mut c_void,
    pub(crate) StatusBuffer: *const c_void,
    pub(crate) StatusBufferSize: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct NDIS_LINK_STATE {
    pub(crate) Header: NDIS_OBJECT_HEADER,
    pub(crate) MediaConnectState: u32,
    pub(crate) MediaDuplexState: u32,
    pub(crate) XmitLinkSpeed: u64,
    pub(crate) RcvLinkSpeed: u64,
    pub(crate) PauseFunctions: u32,
    pub(crate) AutoNegotiationFlags: u32,
}

/// `DATA.QUERY_INFORMATION`, and by layout `DATA.SET_INFORMATION`, where
/// `BytesWritten` is `BytesRead`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct OID_INFORMATION {
    pub(crate) Oid: u32,
    pub(crate) InformationBuffer: *mut c_void,
    pub(crate) InformationBufferLength: u32,
    pub(crate) BytesDone: u32,
    pub(crate) BytesNeeded: u32,
}

/// `DATA.METHOD_INFORMATION`
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct OID_METHOD_INFORMATION {
    pub(crate) Oid: u32,
    pub(crate) InformationBuffer: *mut c_void,
    pub(crate) InputBufferLength: u32,
    pub(crate) OutputBufferLength: u32,
    pub(crate) MethodId: u32,
    pub(crate) BytesWritten: u32,
    pub(crate) BytesRead: u32,
    pub(crate) BytesNeeded: u32,
}

#[repr(C)]
pub(crate) union OID_DATA {
    pub(crate) Information: OID_INFORMATION,
    pub(crate) Method: OID_METHOD_INFORMATION,
}

/// As far as revision 1 goes.
#[repr(C)]
pub(crate) struct NDIS_OID_REQUEST {
    pub(crate) Header: NDIS_OBJECT_HEADER,
    pub(crate) RequestType: u32,
    pub(crate) PortNumber: u32,
    pub(crate) Timeout: u32,
    pub(crate) RequestId: *mut c_void,
    pub(crate) RequestHandle: NDIS_HANDLE,
    pub(crate) DATA: OID_DATA,
    pub(crate) NdisReserved: [u8; 128],
    pub(crate) MiniportReserved: [u8; 16],
    /// Bytes in C, to the driver that sends the request; the filter keeps one
    /// pointer in the first eight.
    pub(crate) SourceReserved: [*mut c_void; 2],
    pub(crate) SupportedRevision: u8,
}

#[repr(C, align(16))]
pub(crate) struct NET_BUFFER_LIST {
    pub(crate) Next: *mut NET_BUFFER_LIST,
    pub(crate) FirstNetBuffer: *mut NET_BUFFER,
    pub(crate) Context: *mut c_void,
    pub(crate) ParentNetBufferList: *mut NET_BUFFER_LIST,
    pub(crate) NdisPoolHandle: NDIS_HANDLE,
    pub(crate) Reserved: [u8; 80],
    pub(crate) SourceHandle: NDIS_HANDLE,
    pub(crate) NblFlags: u32,
    pub(crate) ChildRefCount: i32,
    pub(crate) Flags: u32,
    pub(crate) Status: NDIS_STATUS,
    pub(crate) NetBufferListInfo: [*mut c_void; NET_BUFFER_LIST_INFO_COUNT],
}

#[repr(C, align(16))]
pub(crate) struct NET_BUFFER {
    pub(crate) Next: *mut NET_BUFFER,
    pub(crate) CurrentMdl: *mut MDL,
    pub(crate) CurrentMdlOffset: u32,
    pub(crate) Reserved: u32,
    /// The low half of `stDataLength`.
    pub(crate) DataLength: u32,
    pub(crate) DataLengthHigh: u32,
    pub(crate) MdlChain: *mut MDL,
    pub(crate) DataOffset: u32,
    pub(crate) Reserved2: u32,
    pub(crate) ChecksumBias: u16,
    pub(crate) Reserved3: u16,
    pub(crate) NdisPoolHandle: NDIS_HANDLE,
    pub(crate) NdisReserved: [*mut c_void; 2],
    pub(crate) ProtocolReserved: [*mut c_void; 6],
    pub(crate) MiniportReserved: [*mut c_void; 4],
    pub(crate) DataPhysicalAddress: u64,
    pub(crate) SharedMemoryInfo: *mut c_void,
}

/// Revision 1.
#[repr(C)]
pub(crate) struct NET_BUFFER_LIST_POOL_PARAMETERS {
    pub(crate) Header: NDIS_OBJECT_HEADER,
    pub(crate) ProtocolId: u8,
    pub(crate) fAllocateNetBuffer: u8,
    pub(crate) ContextSize: u16,
    pub(crate) PoolTag: u32,
    pub(crate) DataSize: u32,
}

/// Revision 1.
#[repr(C)]
pub(crate) struct NET_BUFFER_POOL_PARAMETERS {
    pub(crate) Header: NDIS_OBJECT_HEADER,
    pub(crate) PoolTag: u32,
    pub(crate) DataSize: u32,
}

#[repr(C)]
pub(crate) struct MDL {
    pub(crate) Next: *mut MDL,
    pub(crate) Size: i16,
    pub(crate) MdlFlags: i16,
    pub(crate) Process: *mut c_void,
    pub(crate) MappedSystemVa: *mut c_void,
    pub(crate) StartVa: *mut c_void,
    pub(crate) ByteCount: u32,
    pub(crate) ByteOffset: u32,
}

#[link(name = "ndis.sys", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "system" {
    pub(crate) fn NdisGetVersion() -> u32;
    pub(crate) fn NdisFRegisterFilterDriver(
        driver_object: *mut DRIVER_OBJECT,
        driver_context: NDIS_HANDLE,
        characteristics: *const NDIS_FILTER_DRIVER_CHARACTERISTICS,
        handle: *mut NDIS_HANDLE,
    ) -> NDIS_STATUS;
    pub(crate) fn NdisFDeregisterFilterDriver(handle: NDIS_HANDLE);
    pub(crate) fn NdisFSetAttributes(
        filter: NDIS_HANDLE,
        module_context: NDIS_HANDLE,
        attributes: *const NDIS_FILTER_ATTRIBUTES,
    ) -> NDIS_STATUS;

    pub(crate) fn NdisFSendNetBufferLists(
        filter: NDIS_HANDLE,
        lists: *mut NET_BUFFER_LIST,
        port: u32,
        flags: u32,
    );
    pub(crate) fn NdisFSendNetBufferListsComplete(
        filter: NDIS_HANDLE,
        lists: *mut NET_BUFFER_LIST,
        flags: u32,
    );
    pub(crate) fn NdisFIndicateReceiveNetBufferLists(
        filter: NDIS_HANDLE,
        lists: *mut NET_BUFFER_LIST,
        port: u32,
        count: u32,
        flags: u32,
    );
    pub(crate) fn NdisFReturnNetBufferLists(
        filter: NDIS_HANDLE,
        lists: *mut NET_BUFFER_LIST,
        flags: u32,
    );
    pub(crate) fn NdisFCancelSendNetBufferLists(filter: NDIS_HANDLE, cancel_id: *mut c_void);

    pub(crate) fn NdisAllocateNetBufferListPool(
        handle: NDIS_HANDLE,
        parameters: *const NET_BUFFER_LIST_POOL_PARAMETERS,
    ) -> NDIS_HANDLE;
    pub(crate) fn NdisFreeNetBufferListPool(pool: NDIS_HANDLE);
    pub(crate) fn NdisAllocateNetBufferPool(
        handle: NDIS_HANDLE,
        parameters: *const NET_BUFFER_POOL_PARAMETERS,
    ) -> NDIS_HANDLE;
    pub(crate) fn NdisFreeNetBufferPool(pool: NDIS_HANDLE);
    pub(crate) fn NdisAllocateNetBufferAndNetBufferList(
        pool: NDIS_HANDLE,
        context_size: u16,
        context_back_fill: u16,
        mdls: *mut MDL,
        data_offset: u32,
        data_length: usize,
    ) -> *mut NET_BUFFER_LIST;
    pub(crate) fn NdisAllocateNetBufferList(
        pool: NDIS_HANDLE,
        context_size: u16,
        context_back_fill: u16,
    ) -> *mut NET_BUFFER_LIST;
    pub(crate) fn NdisFreeNetBufferList(list: *mut NET_BUFFER_LIST);
    pub(crate) fn NdisAllocateNetBuffer(
        pool: NDIS_HANDLE,
        mdls: *mut MDL,
        data_offset: u32,
        data_length: usize,
    ) -> *mut NET_BUFFER;
    pub(crate) fn NdisFreeNetBuffer(buffer: *mut NET_BUFFER);
    pub(crate) fn NdisAllocateMdl(handle: NDIS_HANDLE, at: *mut c_void, length: u32) -> *mut MDL;
    pub(crate) fn NdisFreeMdl(mdl: *mut MDL);
    pub(crate) fn NdisCopySendNetBufferListInfo(
        to: *mut NET_BUFFER_LIST,
        from: *const NET_BUFFER_LIST,
    );
    pub(crate) fn NdisCopyReceiveNetBufferListInfo(
        to: *mut NET_BUFFER_LIST,
        from: *const NET_BUFFER_LIST,
    );

    pub(crate) fn NdisAllocateCloneOidRequest(
        filter: NDIS_HANDLE,
        request: *const NDIS_OID_REQUEST,
        tag: u32,
        clone: *mut *mut NDIS_OID_REQUEST,
    ) -> NDIS_STATUS;
    pub(crate) fn NdisFreeCloneOidRequest(filter: NDIS_HANDLE, clone: *mut NDIS_OID_REQUEST);
    pub(crate) fn NdisFOidRequest(
        filter: NDIS_HANDLE,
        request: *mut NDIS_OID_REQUEST,
    ) -> NDIS_STATUS;
    pub(crate) fn NdisFOidRequestComplete(
        filter: NDIS_HANDLE,
        request: *mut NDIS_OID_REQUEST,
        status: NDIS_STATUS,
    );
    pub(crate) fn NdisFCancelOidRequest(filter: NDIS_HANDLE, request_id: *mut c_void);
    pub(crate) fn NdisFDirectOidRequest(
        filter: NDIS_HANDLE,
        request: *mut NDIS_OID_REQUEST,
    ) -> NDIS_STATUS;
    pub(crate) fn NdisFDirectOidRequestComplete(
        filter: NDIS_HANDLE,
        request: *mut NDIS_OID_REQUEST,
        status: NDIS_STATUS,
    );
    pub(crate) fn NdisFCancelDirectOidRequest(filter: NDIS_HANDLE, request_id: *mut c_void);

    pub(crate) fn NdisFIndicateStatus(filter: NDIS_HANDLE, indication: *mut NDIS_STATUS_INDICATION);
    pub(crate) fn NdisFNetPnPEvent(filter: NDIS_HANDLE, event: *mut c_void) -> NDIS_STATUS;
    pub(crate) fn NdisFDevicePnPEventNotify(filter: NDIS_HANDLE, event: *mut c_void);
}

unsafe extern "system" {
    pub(crate) fn MmMapLockedPagesSpecifyCache(
        mdl: *mut MDL,
        mode: i8,
        cache: i32,
        requested: *mut c_void,
        bug_check: u32,
        priority: u32,
    ) -> *mut c_void;
}

macro_rules! layout {
    ($type:ident, size $size:literal $(, $field:ident at $offset:literal)* $(,)?) => {
        const _: () = assert!(size_of::<$type>() == $size);
        $(const _: () = assert!(core::mem::offset_of!($type, $field) == $offset);)*
    };
}

layout!(NDIS_OBJECT_HEADER, size 4, Revision at 1, Size at 2);
layout!(NDIS_FILTER_DRIVER_CHARACTERISTICS, size 0xF0,
    MajorNdisVersion at 4, Flags at 8, FriendlyName at 16, UniqueName at 32,
    ServiceName at 48, SetOptionsHandler at 64, AttachHandler at 80,
    SendNetBufferListsHandler at 112, ReceiveNetBufferListsHandler at 136,
    OidRequestHandler at 152, DevicePnPEventNotifyHandler at 176,
    StatusHandler at 192, DirectOidRequestHandler at 200,
    SynchronousOidRequestHandler at 224, SynchronousOidRequestCompleteHandler at 232);
layout!(NDIS_FILTER_ATTRIBUTES, size 8, Flags at 4);
// C has more members after the MAC address; nothing here depends on the size.
layout!(NDIS_FILTER_ATTACH_PARAMETERS, size 136,
    IfIndex at 4, NetLuid at 8, FilterModuleGuidName at 16, BaseMiniportIfIndex at 24,
    BaseMiniportInstanceName at 32, BaseMiniportName at 40, XmitLinkSpeed at 56,
    RcvLinkSpeed at 64, MiniportMediaType at 72, MacAddressLength at 96,
    CurrentMacAddress at 98);
layout!(NDIS_FILTER_RESTART_PARAMETERS, size 24, MiniportMediaType at 4, RestartAttributes at 16);
layout!(NDIS_RESTART_ATTRIBUTES, size 16, Oid at 8, DataLength at 12);
layout!(NDIS_RESTART_GENERAL_ATTRIBUTES, size 72,
    MtuSize at 4, MaxXmitLinkSpeed at 8, MaxRcvLinkSpeed at 16, MacOptions at 28,
    RecvScaleCapabilities at 40, DataBackFillSize at 64, ContextBackFillSize at 68);
layout!(NDIS_STATUS_INDICATION, size 64,
    SourceHandle at 8, StatusCode at 20, DestinationHandle at 32, RequestId at 40,
    StatusBuffer at 48, StatusBufferSize at 56);
layout!(NDIS_LINK_STATE, size 40, XmitLinkSpeed at 16, RcvLinkSpeed at 24);
layout!(OID_INFORMATION, size 32,
    InformationBuffer at 8, InformationBufferLength at 16, BytesDone at 20, BytesNeeded at 24);
layout!(OID_METHOD_INFORMATION, size 40,
    InputBufferLength at 16, OutputBufferLength at 20, MethodId at 24, BytesWritten at 28,
    BytesRead at 32, BytesNeeded at 36);
layout!(NDIS_OID_REQUEST, size 240,
    RequestType at 4, RequestId at 16, RequestHandle at 24, DATA at 32, NdisReserved at 72,
    MiniportReserved at 200, SourceReserved at 216, SupportedRevision at 232);
layout!(NET_BUFFER_LIST, size 336,
    FirstNetBuffer at 8, Context at 16, ParentNetBufferList at 24, NdisPoolHandle at 32,
    SourceHandle at 120, NblFlags at 128, Flags at 136, Status at 140,
    NetBufferListInfo at 144);
layout!(NET_BUFFER, size 176,
    CurrentMdl at 8, CurrentMdlOffset at 16, DataLength at 24, MdlChain at 32, DataOffset at 40,
    ChecksumBias at 48, NdisPoolHandle at 56, ProtocolReserved at 80, MiniportReserved at 128,
    DataPhysicalAddress at 160, SharedMemoryInfo at 168);
layout!(NET_BUFFER_LIST_POOL_PARAMETERS, size 16,
    ProtocolId at 4, fAllocateNetBuffer at 5, ContextSize at 6, PoolTag at 8, DataSize at 12);
layout!(NET_BUFFER_POOL_PARAMETERS, size 12, PoolTag at 4, DataSize at 8);
layout!(MDL, size 48,
    Size at 8, MdlFlags at 10, MappedSystemVa at 24, ByteCount at 40, ByteOffset at 44);
