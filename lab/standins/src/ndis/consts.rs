//! NDIS constants this engine uses, with the values of ndis.h and ntddndis.h.

use super::types::Status;

pub(crate) const STATUS_SUCCESS: Status = 0;
pub(crate) const STATUS_PENDING: Status = 0x103;
pub(crate) const STATUS_FAILURE: Status = 0xC000_0001_u32 as i32;
pub(crate) const STATUS_RESOURCES: Status = 0xC000_009A_u32 as i32;
pub(crate) const STATUS_NOT_SUPPORTED: Status = 0xC000_00BB_u32 as i32;
pub(crate) const STATUS_INVALID_PARAMETER: Status = 0xC000_000D_u32 as i32;
#[cfg(test)]
pub(crate) const STATUS_PAUSED: Status = 0xC023_002A_u32 as i32;
pub(crate) const STATUS_SEND_ABORTED: Status = 0xC023_000C_u32 as i32;
pub(crate) const STATUS_BAD_VERSION: Status = 0xC001_0004_u32 as i32;
pub(crate) const STATUS_BAD_CHARACTERISTICS: Status = 0xC001_0005_u32 as i32;
pub(crate) const STATUS_REQUEST_ABORTED: Status = 0xC001_000C_u32 as i32;
pub(crate) const STATUS_INVALID_LENGTH: Status = 0xC001_0014_u32 as i32;
pub(crate) const STATUS_BUFFER_TOO_SHORT: Status = 0xC001_0016_u32 as i32;

/// Status codes of indications (`NDIS_STATUS_INDICATION::StatusCode`).
pub(crate) const INDICATE_LINK_STATE: u32 = 0x4001_0017;

/// `NDIS_OBJECT_TYPE_*`.
pub(crate) mod object {
    pub(crate) const DEFAULT: u8 = 0x80;
    pub(crate) const FILTER_DRIVER_CHARACTERISTICS: u8 = 0x8B;
    pub(crate) const FILTER_PARTIAL_CHARACTERISTICS: u8 = 0x8C;
    pub(crate) const FILTER_ATTRIBUTES: u8 = 0x8D;
    pub(crate) const OID_REQUEST: u8 = 0x96;
    pub(crate) const STATUS_INDICATION: u8 = 0x98;
    pub(crate) const FILTER_ATTACH_PARAMETERS: u8 = 0x99;
    pub(crate) const FILTER_PAUSE_PARAMETERS: u8 = 0x9A;
    pub(crate) const FILTER_RESTART_PARAMETERS: u8 = 0x9B;
    pub(crate) const RESTART_GENERAL_ATTRIBUTES: u8 = 0xA2;
}

/// Bit 0 of send, send-complete, receive and return flags alike.
pub(crate) const FLAG_DISPATCH_LEVEL: u32 = 1;
/// `NDIS_SEND_FLAGS_CHECK_FOR_LOOPBACK`.
pub(crate) const SEND_CHECK_FOR_LOOPBACK: u32 = 2;
/// `NDIS_RECEIVE_FLAGS_RESOURCES`.
pub(crate) const RECEIVE_RESOURCES: u32 = 2;
/// `NDIS_RECEIVE_FLAGS_SINGLE_ETHER_TYPE`.
pub(crate) const RECEIVE_SINGLE_ETHER_TYPE: u32 = 0x100;
/// `NDIS_CLONE_FLAGS_USE_ORIGINAL_MDLS`.
pub(crate) const CLONE_USE_ORIGINAL_MDLS: u32 = 2;

/// `NDIS_MAC_OPTION_*`.
pub(crate) const MAC_OPTION_8021P_PRIORITY: u32 = 0x40;
pub(crate) const MAC_OPTION_8021Q_VLAN: u32 = 0x200;

/// `NDIS_PAUSE_*`.
pub(crate) const PAUSE_DETACH_FILTER: u32 = 0x20;
pub(crate) const PAUSE_RESTART_STACK: u32 = 0x40;

/// Indexes into `NetBufferListInfo`.
pub(crate) mod info {
    pub(crate) const CHECKSUM: usize = 0;
    pub(crate) const LARGE_SEND: usize = 2;
    pub(crate) const IEEE_8021Q: usize = 4;
    pub(crate) const CANCEL_ID: usize = 5;
    pub(crate) const FRAME_TYPE: usize = 7;
    pub(crate) const HASH_VALUE: usize = 8;
    pub(crate) const HASH_INFO: usize = 9;
    pub(crate) const WFP: usize = 10;
    pub(crate) const CORRELATION_ID: usize = 13;
    pub(crate) const FILTERING_INFO: usize = 14;
    pub(crate) const UDP_RSC: usize = 17;
    pub(crate) const RSC: usize = 22;
}

/// `NDIS_REQUEST_TYPE`.
pub(crate) mod request {
    pub(crate) const QUERY: u32 = 0;
    pub(crate) const SET: u32 = 1;
    pub(crate) const QUERY_STATISTICS: u32 = 2;
    pub(crate) const METHOD: u32 = 12;
}

/// OIDs which the virtual miniport answers.
pub(crate) mod oid {
    pub(crate) const GEN_HARDWARE_STATUS: u32 = 0x0001_0102;
    pub(crate) const GEN_MAXIMUM_FRAME_SIZE: u32 = 0x0001_0106;
    pub(crate) const GEN_CURRENT_PACKET_FILTER: u32 = 0x0001_010E;
    pub(crate) const GEN_CURRENT_LOOKAHEAD: u32 = 0x0001_010F;
    pub(crate) const GEN_MEDIA_CONNECT_STATUS: u32 = 0x0001_0114;
    pub(crate) const GEN_STATISTICS: u32 = 0x0002_0106;
    pub(crate) const IEEE_802_3_CURRENT_ADDRESS: u32 = 0x0101_0102;
    pub(crate) const GEN_RECEIVE_SCALE_PARAMETERS: u32 = 0x0001_0204;
    /// No such OID: what the miniport must refuse.
    pub(crate) const UNKNOWN: u32 = 0xFF5A_5A01;
}

/// `NdisMedium802_3` and `NdisPhysicalMedium802_3`.
pub(crate) const MEDIUM_802_3: u32 = 0;
pub(crate) const PHYSICAL_MEDIUM_802_3: u32 = 14;
/// `MediaConnectStateConnected` / `Disconnected`, `MediaDuplexStateFull`.
pub(crate) const MEDIA_CONNECTED: u32 = 1;
pub(crate) const MEDIA_DISCONNECTED: u32 = 2;
pub(crate) const DUPLEX_FULL: u32 = 2;
