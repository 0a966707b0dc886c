//! The contract between `weir.sys` and user mode.
//!
//! Both sides compile this crate, and nothing crosses the boundary that is not
//! declared here: IOCTL codes ([`ioctl`]), requests and replies ([`message`]),
//! the records of frames ([`record`], [`write`](mod@write)) and of datagrams
//! ([`datagram`]), and the NTSTATUS values that
//! say what was wrong ([`status`]).
//!
//! On the wire there are integers only, in the machine's byte order (x86-64:
//! little endian). What an integer *means* is an enum or a bit set of
//! [`meaning`], reached through a checked conversion. What user mode sends is
//! an allegation until [`Command::decode`] has accepted it; it lives here so
//! that the checks the kernel makes are tested on any host.
//!
//! A change to any name, size, offset, type or code here is a change of the
//! contract: raise [`ABI_VERSION`] (a test in `tests/` fails otherwise).
#![no_std]
#![forbid(unsafe_code)]
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects
)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::arithmetic_side_effects,
        reason = "a test that fails is meant to panic"
    )
)]

#[cfg(test)]
extern crate std;

#[macro_use]
mod layout;
pub mod address;
pub mod command;
pub mod datagram;
pub mod ioctl;
pub mod limits;
pub mod meaning;
pub mod message;
pub mod record;
pub mod status;
pub mod write;

pub use address::{AddressError, SocketAddress};
pub use command::{Command, CommandError};
pub use datagram::{DatagramError, DatagramRecord, datagram_read, datagram_write};
pub use ioctl::Ioctl;
pub use layout::{EnumLayout, FieldLayout, Layout, Message};
pub use meaning::{
    AdapterState, AlarmKind, CaptureSource, DatagramFlags, Direction, Directions, FlowPorts,
    FlowState, Media, RecordFlags, RuleAction, ServiceFlags, ServiceKind, ServiceState,
    ShutdownHow, SocketFlags, SocketKind, SocketOption, SocketState, StatusFlags, TcpTag,
    Transport, UnknownValue,
};
pub use message::{
    AdapterInfo, AdapterListReply, AdapterListRequest, AdapterStats, AdapterStatsReply,
    AdapterStatsRequest, AlarmInfo, AlarmListReply, AlarmListRequest, Balance, CaptureOptions,
    ConditionError, DivertOptions, FlowInfo, FlowListReply, FlowListRequest, FlowStats,
    FlowStatsReply, FlowStatsRequest, Group, HeaderError, IpVersion, NO_VLAN, OpenCaptureReply,
    OpenCaptureRequest, OpenDivertReply, OpenDivertRequest, OpenInjectReply, OpenInjectRequest,
    ProtocolCounters, ReaderStats, ReaderStatsReply, ReaderStatsRequest, ReplyHeader, Request,
    RequestError, RequestHeader, ResolveQuery, ResolveReply, ResolveRequest, RuleHits,
    RulesLoadReply, RulesLoadRequest, RulesReadReply, RulesReadRequest, RulesStatsReply,
    RulesStatsRequest, ServiceInfo, ServiceListReply, ServiceListRequest, ServiceSpec,
    ServiceStartReply, ServiceStartRequest, ServiceStopReply, ServiceStopRequest,
    SocketAcceptRequest, SocketGetOptionReply, SocketGetOptionRequest, SocketInfo, SocketInfoReply,
    SocketInfoRequest, SocketListReply, SocketListRequest, SocketOpenReply, SocketOpenRequest,
    SocketSetOptionReply, SocketSetOptionRequest, SocketSetting, SocketShutdownReply,
    SocketShutdownRequest, SocketSpec, StatusReply, StatusRequest, TAG_COUNTERS, VersionReply,
    VersionRequest,
};
pub use record::{FrameRecord, RecordError, record_size, records};
pub use write::{WriteError, WriteFrame, writes};

/// The version of the contract. Every request carries it, and a driver refuses
/// any other with [`status::REVISION_MISMATCH`], except in
/// [`Ioctl::GetVersion`], which is how a client learns what the driver speaks.
pub const ABI_VERSION: u32 = 1;

/// The kernel's name of the control device.
pub const DEVICE_NAME: &str = "\\Device\\Weir";
/// The kernel's name of the link that makes the device visible to user mode.
pub const LINK_NAME: &str = "\\DosDevices\\Weir";
/// The path user mode opens.
pub const WIN32_PATH: &str = "\\\\.\\Weir";
/// The name of the driver's service.
pub const SERVICE_NAME: &str = "weir";
