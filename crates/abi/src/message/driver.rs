//! What the driver is, and how it is.

use super::{ReplyHeader, Request, RequestHeader};
use crate::Ioctl;

message! {
    /// Asks what the driver speaks.
    pub struct VersionRequest [8] {
        /// Any version is accepted.
        0 => header: RequestHeader,
    }
}

message! {
    /// What the driver speaks.
    pub struct VersionReply [24] {
        /// Version and size.
        0 => header: ReplyHeader,
        /// The driver's [`ABI_VERSION`](crate::ABI_VERSION).
        8 => abi_version: u32,
        /// Release of the driver: its first number.
        12 => driver_major: u32,
        /// Release of the driver: its second number.
        16 => driver_minor: u32,
        /// Release of the driver: its third number.
        20 => driver_patch: u32,
    }
}

impl Request for VersionRequest {
    const IOCTL: Ioctl = Ioctl::GetVersion;
    const ANY_VERSION: bool = true;
    type Reply = VersionReply;
}

message! {
    /// Asks how the driver is.
    pub struct StatusRequest [8] {
        /// Version and size.
        0 => header: RequestHeader,
    }
}

message! {
    /// How the driver is.
    pub struct StatusReply [120] {
        /// Version and size.
        0 => header: ReplyHeader,
        /// Time since the driver was loaded, in 100 ns.
        8 => uptime_100ns: u64,
        /// When it was loaded: 100 ns since 1601-01-01 UTC.
        16 => started_100ns: u64,
        /// Adapters the filter is attached to.
        24 => adapters: u32,
        /// Open handles of the control device.
        28 => handles: u32,
        /// Handles in the capture role.
        32 => readers: u32,
        /// Services.
        36 => services: u32,
        /// Connections of all services.
        40 => connections: u32,
        /// [`StatusFlags`](crate::StatusFlags).
        44 => flags: u32,
        /// NDIS version the filter registered with: major in the upper 16
        /// bits, minor in the lower; 0 before that.
        48 => ndis_version: u32,
        /// Handles in the divert role.
        52 => diverters: u32,
        /// Handles in the inject role.
        56 => writers: u32,
        /// Rules in force.
        60 => rules: u32,
        /// The number of the rules in force; 0 if none were ever loaded.
        64 => rules_generation: u64,
        /// Kernel memory the rules occupy, in bytes.
        72 => rules_memory: u64,
        /// Kernel memory of all readers' backlogs, in bytes.
        80 => backlog_memory: u64,
        /// Flows in the tables of all adapters.
        88 => flows: u64,
        /// Kernel memory of these tables, in bytes.
        96 => flow_memory: u64,
        /// Alarms since the driver was loaded.
        104 => alarms: u64,
        /// What happens to frames no rule decides on:
        /// [`RuleAction`](crate::RuleAction).
        112 => default_action: u32,
        /// Handles in the role of a socket.
        116 => sockets: u32,
    }
}

impl Request for StatusRequest {
    const IOCTL: Ioctl = Ioctl::GetStatus;
    type Reply = StatusReply;
}
