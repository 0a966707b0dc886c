//! Requests and replies.
//!
//! A request starts with a [`RequestHeader`], a reply with a [`ReplyHeader`].
//! A list reply is its fixed part followed by `count` entries, without a gap; a
//! request has nothing after it but in `RULES_LOAD`.
//! All sizes are in bytes, all counters count since the driver was loaded or,
//! for an adapter, since the filter was attached to it.

mod adapter;
mod capture;
mod divert;
mod driver;
mod flow;
mod header;
mod option;
mod resolve;
mod rules;
mod service;
mod socket;

pub use adapter::{
    AdapterInfo, AdapterListReply, AdapterListRequest, AdapterStats, AdapterStatsReply,
    AdapterStatsRequest, Balance, ProtocolCounters,
};
pub use capture::{
    CaptureOptions, OpenCaptureReply, OpenCaptureRequest, ReaderStats, ReaderStatsReply,
    ReaderStatsRequest,
};
pub use divert::{
    DivertOptions, OpenDivertReply, OpenDivertRequest, OpenInjectReply, OpenInjectRequest,
};
pub use driver::{StatusReply, StatusRequest, VersionReply, VersionRequest};
pub use flow::{
    AlarmInfo, AlarmListReply, AlarmListRequest, FlowInfo, FlowListReply, FlowListRequest,
    FlowStats, FlowStatsReply, FlowStatsRequest, NO_VLAN, TAG_COUNTERS,
};
pub use header::{HeaderError, ReplyHeader, Request, RequestError, RequestHeader};
pub use option::{
    Group, SocketGetOptionReply, SocketGetOptionRequest, SocketSetOptionReply,
    SocketSetOptionRequest, SocketSetting,
};
pub use resolve::{IpVersion, ResolveQuery, ResolveReply, ResolveRequest};
pub use rules::{
    RuleHits, RulesLoadReply, RulesLoadRequest, RulesReadReply, RulesReadRequest, RulesStatsReply,
    RulesStatsRequest,
};
pub use service::{
    ConditionError, ServiceInfo, ServiceListReply, ServiceListRequest, ServiceSpec,
    ServiceStartReply, ServiceStartRequest, ServiceStopReply, ServiceStopRequest,
};
pub use socket::{
    SocketAcceptRequest, SocketInfo, SocketInfoReply, SocketInfoRequest, SocketListReply,
    SocketListRequest, SocketOpenReply, SocketOpenRequest, SocketShutdownReply,
    SocketShutdownRequest, SocketSpec,
};

use crate::{DatagramRecord, FrameRecord, Layout, Message, SocketAddress};

/// Every type of the contract, for the contract check.
pub const MESSAGES: &[Layout] = &[
    RequestHeader::LAYOUT,
    ReplyHeader::LAYOUT,
    VersionRequest::LAYOUT,
    VersionReply::LAYOUT,
    StatusRequest::LAYOUT,
    StatusReply::LAYOUT,
    AdapterListRequest::LAYOUT,
    AdapterListReply::LAYOUT,
    AdapterInfo::LAYOUT,
    AdapterStatsRequest::LAYOUT,
    AdapterStatsReply::LAYOUT,
    AdapterStats::LAYOUT,
    Balance::LAYOUT,
    ProtocolCounters::LAYOUT,
    OpenCaptureRequest::LAYOUT,
    OpenCaptureReply::LAYOUT,
    ReaderStatsRequest::LAYOUT,
    ReaderStatsReply::LAYOUT,
    ReaderStats::LAYOUT,
    FrameRecord::LAYOUT,
    SocketAddress::LAYOUT,
    ServiceStartRequest::LAYOUT,
    ServiceStartReply::LAYOUT,
    ServiceListRequest::LAYOUT,
    ServiceListReply::LAYOUT,
    ServiceInfo::LAYOUT,
    ServiceStopRequest::LAYOUT,
    ServiceStopReply::LAYOUT,
    RulesLoadRequest::LAYOUT,
    RulesLoadReply::LAYOUT,
    RulesReadRequest::LAYOUT,
    RulesReadReply::LAYOUT,
    RulesStatsRequest::LAYOUT,
    RulesStatsReply::LAYOUT,
    RuleHits::LAYOUT,
    OpenDivertRequest::LAYOUT,
    OpenDivertReply::LAYOUT,
    OpenInjectRequest::LAYOUT,
    OpenInjectReply::LAYOUT,
    FlowListRequest::LAYOUT,
    FlowListReply::LAYOUT,
    FlowInfo::LAYOUT,
    FlowStatsRequest::LAYOUT,
    FlowStatsReply::LAYOUT,
    FlowStats::LAYOUT,
    AlarmListRequest::LAYOUT,
    AlarmListReply::LAYOUT,
    AlarmInfo::LAYOUT,
    SocketOpenRequest::LAYOUT,
    SocketOpenReply::LAYOUT,
    SocketAcceptRequest::LAYOUT,
    SocketShutdownRequest::LAYOUT,
    SocketShutdownReply::LAYOUT,
    SocketSetOptionRequest::LAYOUT,
    SocketSetOptionReply::LAYOUT,
    SocketGetOptionRequest::LAYOUT,
    SocketGetOptionReply::LAYOUT,
    SocketInfoRequest::LAYOUT,
    SocketInfoReply::LAYOUT,
    SocketInfo::LAYOUT,
    SocketListRequest::LAYOUT,
    SocketListReply::LAYOUT,
    ResolveRequest::LAYOUT,
    ResolveReply::LAYOUT,
    DatagramRecord::LAYOUT,
];
