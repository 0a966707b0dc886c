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
        /// Drops what it receives (RFC 863).
        Discard = 2 "discard",
        /// Passes it on to another address, and what comes back from there.
        Relay = 3 "relay",
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

wire_enum! {
    /// Which frames a reader in the capture role gets.
    pub enum CaptureSource {
        /// Every frame, whatever becomes of it.
        All = 0 "all",
        /// Those that a `log` rule matched.
        Logged = 1 "logged",
    }
}

wire_enum! {
    /// What a rule does with a frame, or what becomes of one that no rule
    /// decides on (then pass or drop).
    pub enum RuleAction {
        /// The frame goes on.
        Pass = 0 "pass",
        /// The frame goes nowhere.
        Drop = 1 "drop",
        /// The frame goes to the reader in the divert role.
        Divert = 2 "divert",
        /// A record of the frame, and on to the next rule.
        Log = 3 "log",
        /// Counted, and on to the next rule.
        Count = 4 "count",
    }
}

wire_enum! {
    /// How far a flow has come, as an observer between its ends can tell.
    pub enum FlowState {
        /// UDP, ICMP and whatever has no beginning and end of its own.
        Active = 0 "active",
        /// A SYN was seen.
        SynSent = 1 "syn_sent",
        /// A SYN was seen from both ends, the last ACK of the handshake not.
        SynReceived = 2 "syn_received",
        /// Data may flow; a connection whose start was not seen too.
        Established = 3 "established",
        /// One end sent its FIN.
        FinWait = 4 "fin_wait",
        /// One end's FIN was acknowledged; the other may still send.
        HalfClosed = 5 "half_closed",
        /// Both sent their FIN before either was acknowledged.
        Closing = 6 "closing",
        /// Both sent their FIN, the last is not acknowledged yet.
        LastAck = 7 "last_ack",
        /// Both FINs were acknowledged; late segments may come.
        TimeWait = 8 "time_wait",
        /// Reset by one end.
        Reset = 9 "reset",
    }
}

wire_enum! {
    /// What the numbers at a flow's ends are.
    pub enum FlowPorts {
        /// None: the protocol has no ports, or they were not seen.
        None = 0 "none",
        /// Ports of TCP or UDP.
        Ports = 1 "ports",
        /// The identifier of ICMP echoes, at both ends.
        EchoId = 2 "echo_id",
    }
}

wire_enum! {
    /// What TCP analysis says of a segment. The number is the bit in a set of
    /// tags, and the index of the tag's counter.
    pub enum TcpTag {
        /// Bytes that were sent before.
        Retransmission = 0 "retransmission",
        /// After duplicate ACKs, soon.
        FastRetransmission = 1 "fast_retransmission",
        /// Of bytes that had been acknowledged.
        SpuriousRetransmission = 2 "spurious_retransmission",
        /// Overtaken on the way.
        OutOfOrder = 3 "out_of_order",
        /// The same acknowledgement again.
        DuplicateAck = 4 "duplicate_ack",
        /// Bytes before it were not seen.
        LostSegment = 5 "lost_segment",
        /// Acknowledges bytes that were not seen.
        AckLostSegment = 6 "ack_lost_segment",
        /// The receiver takes no more.
        ZeroWindow = 7 "zero_window",
        /// The window changed, and nothing else.
        WindowUpdate = 8 "window_update",
        /// Uses the receiver's window up.
        WindowFull = 9 "window_full",
        /// A byte against a window of zero.
        ZeroWindowProbe = 10 "zero_window_probe",
        /// Its answer.
        ZeroWindowProbeAck = 11 "zero_window_probe_ack",
        /// A keep-alive.
        KeepAlive = 12 "keep_alive",
        /// Its answer.
        KeepAliveAck = 13 "keep_alive_ack",
        /// A new connection with the ports of an old one.
        ReusedPorts = 14 "reused_ports",
    }
}

wire_enum! {
    /// What an alarm is about.
    pub enum AlarmKind {
        /// Too many half-open connections to one listener.
        SynFlood = 1 "syn_flood",
        /// One host tries too many ports.
        PortScan = 2 "port_scan",
    }
}

wire_enum! {
    /// What a socket is.
    pub enum SocketKind {
        /// One end of a TCP connection.
        TcpStream = 1 "tcp_stream",
        /// Takes TCP connections.
        TcpListener = 2 "tcp_listener",
        /// Sends and receives datagrams.
        Udp = 3 "udp",
    }
}

wire_enum! {
    /// How a socket is.
    pub enum SocketState {
        /// It has its address; UDP.
        Bound = 1 "bound",
        /// It takes connections.
        Listening = 2 "listening",
        /// The handshake is under way.
        Connecting = 3 "connecting",
        /// Bytes may go both ways.
        Connected = 4 "connected",
        /// The peer has sent all it had to send; this side may still send.
        PeerClosed = 5 "peer_closed",
        /// This side has sent all it had to send; the peer may still send.
        ShutDown = 6 "shut_down",
        /// Both have, or the handle is closed and the socket about to be.
        Closing = 7 "closing",
        /// The connection was reset or lost, or the provider gave the socket up.
        Failed = 8 "failed",
    }
}

wire_enum! {
    /// How a TCP stream is ended by SOCKET_SHUTDOWN.
    pub enum ShutdownHow {
        /// After what is written already, FIN; bytes may still come (half close).
        Send = 1 "send",
        /// At once, with RST; what is under way is lost.
        Abort = 2 "abort",
    }
}

wire_enum! {
    /// An option of a socket. [`SocketSetting`](crate::SocketSetting) says what
    /// values each can have.
    pub enum SocketOption {
        /// Small segments are not held back (`TCP_NODELAY`).
        NoDelay = 1 "no_delay",
        /// Probes when nothing was heard for long (`SO_KEEPALIVE`).
        KeepAlive = 2 "keep_alive",
        /// Seconds until the first probe (`TCP_KEEPIDLE`).
        KeepAliveIdle = 3 "keep_alive_idle",
        /// Seconds between probes (`TCP_KEEPINTVL`).
        KeepAliveInterval = 4 "keep_alive_interval",
        /// Probes without an answer that end the connection (`TCP_KEEPCNT`).
        KeepAliveCount = 5 "keep_alive_count",
        /// The address may be in use (`SO_REUSEADDR`): set by
        /// [`SocketFlags::REUSE_ADDRESS`] only, before the socket is bound.
        ReuseAddress = 6 "reuse_address",
        /// Bytes the transport holds for a reader (`SO_RCVBUF`).
        ReceiveBuffer = 7 "receive_buffer",
        /// Bytes the transport holds of a sender (`SO_SNDBUF`).
        SendBuffer = 8 "send_buffer",
        /// Hops of unicast packets (`IP_TTL`, `IPV6_UNICAST_HOPS`). Of a dual-stack
        /// socket, this and the multicast options are set for both of its
        /// protocols, and read of IPv6.
        Ttl = 9 "ttl",
        /// Hops of multicast packets (`IP_MULTICAST_TTL`,
        /// `IPV6_MULTICAST_HOPS`).
        MulticastTtl = 10 "multicast_ttl",
        /// Index of the interface multicasts are sent on (`IP_MULTICAST_IF`); 0:
        /// the routes decide.
        MulticastInterface = 11 "multicast_interface",
        /// It receives multicasts that this machine has sent
        /// (`IP_MULTICAST_LOOP`, which on Windows is of the receiving socket).
        MulticastLoop = 12 "multicast_loop",
        /// Receives what is sent to a group (`IP_ADD_MEMBERSHIP`). Can't be read.
        JoinGroup = 13 "join_group",
        /// Receives it no longer (`IP_DROP_MEMBERSHIP`). Can't be read.
        LeaveGroup = 14 "leave_group",
        /// May send to broadcast addresses (`SO_BROADCAST`).
        Broadcast = 15 "broadcast",
    }
}

impl SocketOption {
    /// Whether sockets of this kind have this option. A listener's no-delay and
    /// keep-alive, from its flags or set since, are for the connections it takes
    /// from then on; its other options are the listening socket's, and what its
    /// connections have of them is the transport's matter.
    #[must_use]
    pub const fn applies_to(self, kind: SocketKind) -> bool {
        match self {
            SocketOption::NoDelay
            | SocketOption::KeepAlive
            | SocketOption::KeepAliveIdle
            | SocketOption::KeepAliveInterval
            | SocketOption::KeepAliveCount => !matches!(kind, SocketKind::Udp),
            SocketOption::ReuseAddress
            | SocketOption::ReceiveBuffer
            | SocketOption::SendBuffer
            | SocketOption::Ttl => true,
            SocketOption::MulticastTtl
            | SocketOption::MulticastInterface
            | SocketOption::MulticastLoop
            | SocketOption::JoinGroup
            | SocketOption::LeaveGroup
            | SocketOption::Broadcast => matches!(kind, SocketKind::Udp),
        }
    }
}

bitflags::bitflags! {
    /// How a socket is to be opened.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct SocketFlags: u32 {
        /// The address may be in use by another socket that allows it too.
        const REUSE_ADDRESS = 0x01;
        /// Only for a listener: the rules in force may refuse a peer before its
        /// handshake is answered.
        ///
        /// It has a price: the transport's protection against floods of SYNs is
        /// off for this listener, and its backlog has no effect, since the
        /// decision is the driver's for each SYN (MSDN "SO_CONDITIONAL_ACCEPT
        /// socket option", Remarks). For a listener that strangers reach, rules on
        /// an adapter refuse them as well and cost neither.
        const CONDITIONAL_ACCEPT = 0x02;
        /// Only for UDP: may send to broadcast addresses.
        const BROADCAST = 0x04;
        /// Only with an IPv6 address: IPv4 too, as IPv4-mapped addresses.
        const DUAL_STACK = 0x08;
        /// Not for UDP: small segments are not held back.
        const NO_DELAY = 0x10;
        /// Not for UDP: probes when nothing was heard for long.
        const KEEP_ALIVE = 0x20;
        /// Only for a listener: each SOCKET_ACCEPT asks the transport for one
        /// connection. What no SOCKET_ACCEPT waits for stays in the transport's
        /// own backlog, of its own size; the driver holds none. Without it the
        /// driver takes every connection as it comes and holds those nobody has
        /// asked for, up to the backlog of SOCKET_OPEN.
        const ACCEPT_BY_REQUEST = 0x40;
    }
}

bitflags::bitflags! {
    /// How a service is to be started.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct ServiceFlags: u32 {
        /// Only over TCP: the rules in force may refuse a peer before its
        /// handshake is answered. Without it every peer is connected, for the
        /// service at least, and rules on an adapter are what keeps one out.
        ///
        /// It has the price of [`SocketFlags::CONDITIONAL_ACCEPT`]: the
        /// transport's protection against floods of SYNs is off for this service.
        const CONDITIONAL_ACCEPT = 0x01;
    }
}

bitflags::bitflags! {
    /// Remarks about a datagram that was received. In a write there is none.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct DatagramFlags: u32 {
        /// The datagram was longer than the read; the rest is lost.
        const TRUNCATED = 1;
        /// Received as a multicast.
        const MULTICAST = 2;
        /// Received as a broadcast.
        const BROADCAST = 4;
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
    /// Remarks about a frame. In a read, unknown bits are to be ignored; in a
    /// write there may be none.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct RecordFlags: u16 {
        /// The frame is longer than what was captured of it. Not in a write.
        const TRUNCATED = 0x01;
        /// A rule dropped it.
        const DROPPED = 0x02;
        /// A rule took it to a reader in the divert role.
        const DIVERTED = 0x04;
        /// A log rule matched it: the record's `rule` is the first that did.
        const LOGGED = 0x08;
        /// It came from a handle in the divert or the inject role. No rule was
        /// asked about it, and it is not in the adapter's balance.
        const INJECTED = 0x10;
        /// A checksum of it is wrong.
        const BAD_CHECKSUM = 0x20;
        /// The checksums of IP, TCP or UDP are the adapter's business. Sent:
        /// it has yet to compute them, those in the bytes are not final.
        /// Received: it has found them good. A write with this bit leaves them
        /// to the adapter (or the driver) again; whoever changes the bytes of a
        /// received frame and doesn't clear it vouches for them.
        const CHECKSUM_OFFLOAD = 0x40;
        /// It was to go on, and could not: there was no memory. Not diverted
        /// frames: what a reader of those loses is in its own balance.
        const LOST = 0x80;
        /// Its 802.1Q tag was beside it, not in its bytes, where it is here. In
        /// a write: the tag is to go beside it again. Without this bit the
        /// adapter's own way is taken.
        const TAG_BESIDE = 0x100;
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
    CaptureSource::LAYOUT,
    RuleAction::LAYOUT,
    FlowState::LAYOUT,
    FlowPorts::LAYOUT,
    TcpTag::LAYOUT,
    AlarmKind::LAYOUT,
    SocketKind::LAYOUT,
    SocketState::LAYOUT,
    ShutdownHow::LAYOUT,
    SocketOption::LAYOUT,
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
        &[
            ("TRUNCATED", RecordFlags::TRUNCATED.bits() as u32),
            ("DROPPED", RecordFlags::DROPPED.bits() as u32),
            ("DIVERTED", RecordFlags::DIVERTED.bits() as u32),
            ("LOGGED", RecordFlags::LOGGED.bits() as u32),
            ("INJECTED", RecordFlags::INJECTED.bits() as u32),
            ("BAD_CHECKSUM", RecordFlags::BAD_CHECKSUM.bits() as u32),
            (
                "CHECKSUM_OFFLOAD",
                RecordFlags::CHECKSUM_OFFLOAD.bits() as u32,
            ),
            ("LOST", RecordFlags::LOST.bits() as u32),
            ("TAG_BESIDE", RecordFlags::TAG_BESIDE.bits() as u32),
        ],
    ),
    (
        "SocketFlags",
        &[
            ("REUSE_ADDRESS", SocketFlags::REUSE_ADDRESS.bits()),
            ("CONDITIONAL_ACCEPT", SocketFlags::CONDITIONAL_ACCEPT.bits()),
            ("BROADCAST", SocketFlags::BROADCAST.bits()),
            ("DUAL_STACK", SocketFlags::DUAL_STACK.bits()),
            ("NO_DELAY", SocketFlags::NO_DELAY.bits()),
            ("KEEP_ALIVE", SocketFlags::KEEP_ALIVE.bits()),
            ("ACCEPT_BY_REQUEST", SocketFlags::ACCEPT_BY_REQUEST.bits()),
        ],
    ),
    (
        "ServiceFlags",
        &[(
            "CONDITIONAL_ACCEPT",
            ServiceFlags::CONDITIONAL_ACCEPT.bits(),
        )],
    ),
    (
        "DatagramFlags",
        &[
            ("TRUNCATED", DatagramFlags::TRUNCATED.bits()),
            ("MULTICAST", DatagramFlags::MULTICAST.bits()),
            ("BROADCAST", DatagramFlags::BROADCAST.bits()),
        ],
    ),
];
