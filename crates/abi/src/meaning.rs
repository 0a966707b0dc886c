//! What the integers of the contract mean.

use core::fmt;

/// An integer that stands for nothing in the enum it was to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownValue {
    /// The enum's name.
    pub of: &'static str,
    /// The integer.
    pub value: u32,
}

impl fmt::Display for UnknownValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not a value of {}", self.value, self.of)
    }
}

impl core::error::Error for UnknownValue {}

wire_enum! {
    /// Which way a frame goes, seen from the host.
    pub enum Direction {
        /// Received: from the network towards the host.
        In = 0 "in",
        /// Sent: from the host towards the network.
        Out = 1 "out",
    }
}

impl Direction {
    /// The index of this direction in the arrays of `AdapterStats`.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Direction::In => 0,
            Direction::Out => 1,
        }
    }

    /// The bit of this direction in a [`Directions`] set.
    #[must_use]
    pub const fn mask(self) -> Directions {
        match self {
            Direction::In => Directions::IN,
            Direction::Out => Directions::OUT,
        }
    }
}

wire_enum! {
    /// What a kernel service does with what it receives.
    pub enum ServiceKind {
        /// Sends back what it receives (RFC 862).
        Echo = 1 "echo",
    }
}

wire_enum! {
    /// How a service is. A service that failed keeps its place, and what other
    /// sockets it has, until it is stopped.
    pub enum ServiceState {
        /// It takes connections or datagrams.
        Running = 1 "running",
        /// Its listening socket, or everything that receives datagrams for it,
        /// doesn't work any more.
        Failed = 2 "failed",
    }
}

wire_enum! {
    /// The transport protocol of a service.
    pub enum Transport {
        /// TCP.
        Tcp = 1 "tcp",
        /// UDP.
        Udp = 2 "udp",
    }
}

wire_enum! {
    /// The kind of frames an adapter carries (`NDIS_MEDIUM` of `NdisMedium...`).
    pub enum Media {
        /// `NdisMedium802_3`: Ethernet frames.
        Ethernet = 0 "ethernet",
        /// `NdisMediumWan`.
        Wan = 3 "wan",
        /// `NdisMediumIP`: raw IP packets without a link header.
        Ip = 19 "ip",
    }
}

wire_enum! {
    /// State of a filter module (MSDN "Filter Module States and Operations").
    pub enum AdapterState {
        /// Between attach and its end.
        Attaching = 1 "attaching",
        /// Attached; no frames pass.
        Paused = 2 "paused",
        /// On the way to running.
        Restarting = 3 "restarting",
        /// Frames pass.
        Running = 4 "running",
        /// Waiting for outstanding frames.
        Pausing = 5 "pausing",
    }
}

bitflags::bitflags! {
    /// A set of directions; at least one must be set in a request.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Directions: u32 {
        /// Frames received.
        const IN = 1;
        /// Frames sent.
        const OUT = 2;
    }
}

bitflags::bitflags! {
    /// Which parts of the driver are up.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct StatusFlags: u32 {
        /// The NDIS filter is registered.
        const FILTER_REGISTERED = 1;
        /// The WSK provider is captured: services can be started.
        const WSK_READY = 2;
        /// The driver is unloading.
        const STOPPING = 4;
    }
}

bitflags::bitflags! {
    /// Remarks about a captured frame. Unknown bits are to be ignored.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct RecordFlags: u8 {
        /// The frame is longer than what was captured of it.
        const TRUNCATED = 1;
    }
}

/// The enums of the contract, for the contract check.
pub const ENUMS: &[crate::EnumLayout] = &[
    Direction::LAYOUT,
    ServiceKind::LAYOUT,
    ServiceState::LAYOUT,
    Transport::LAYOUT,
    Media::LAYOUT,
    AdapterState::LAYOUT,
];

/// The bit sets of the contract, each bit with its name, for the contract check.
pub const BIT_SETS: &[(&str, &[(&str, u32)])] = &[
    (
        "Directions",
        &[
            ("IN", Directions::IN.bits()),
            ("OUT", Directions::OUT.bits()),
        ],
    ),
    (
        "StatusFlags",
        &[
            ("FILTER_REGISTERED", StatusFlags::FILTER_REGISTERED.bits()),
            ("WSK_READY", StatusFlags::WSK_READY.bits()),
            ("STOPPING", StatusFlags::STOPPING.bits()),
        ],
    ),
    (
        "RecordFlags",
        &[("TRUNCATED", RecordFlags::TRUNCATED.bits() as u32)],
    ),
];
