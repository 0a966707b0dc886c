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
mod rules;
mod service;

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
pub use rules::{
    RuleHits, RulesLoadReply, RulesLoadRequest, RulesReadReply, RulesReadRequest, RulesStatsReply,
    RulesStatsRequest,
};
pub use service::{
    ConditionError, ServiceInfo, ServiceListReply, ServiceListRequest, ServiceSpec,
    ServiceStartReply, ServiceStartRequest, ServiceStopReply, ServiceStopRequest,
};

use crate::{FrameRecord, Layout, Message, ServiceAddress};

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
    ServiceAddress::LAYOUT,
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
];
