//! What a flow looks like from outside: copies, no part of the table.

use super::{TagCounts, TcpTags};
use crate::wire::Protocol;
use core::net::IpAddr;

/// One end of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Its address.
    pub address: IpAddr,
    /// Its port; the identifier of an ICMP echo, at both ends; 0 where there is
    /// neither ([`Flow::ports`] tells it from port 0).
    pub port: u16,
}

/// What one end sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Frames.
    pub packets: u64,
    /// Bytes of whole frames without FCS.
    pub bytes: u64,
}

/// What the numbers at a flow's ends are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// Ports of TCP or UDP.
    Ports,
    /// The identifier of ICMP echoes.
    EchoId,
    /// None: another protocol, or fragments without the transport header, which
    /// are one flow for each pair of addresses and protocol.
    None,
}

/// How far a flow has come, as somebody sees it who hears both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// UDP, ICMP and whatever has no beginning and end of its own.
    Active,
    /// A SYN was seen.
    SynSent,
    /// A SYN was seen from both ends; the handshake's last ACK was not.
    SynReceived,
    /// Data may flow both ways. A connection whose beginning was not seen starts here.
    Established,
    /// One end sent its FIN, which was not yet acknowledged.
    FinWait,
    /// One end's FIN was acknowledged; the other end may still send.
    HalfClosed,
    /// Both sent their FIN before either was acknowledged.
    Closing,
    /// Both sent their FIN, the last of them is not yet acknowledged.
    LastAck,
    /// Both FINs were acknowledged.
    TimeWait,
    /// Reset by one end.
    Reset,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Active,
        Self::SynSent,
        Self::SynReceived,
        Self::Established,
        Self::FinWait,
        Self::HalfClosed,
        Self::Closing,
        Self::LastAck,
        Self::TimeWait,
        Self::Reset,
    ];

    /// Its name in output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::SynSent => "syn_sent",
            Self::SynReceived => "syn_received",
            Self::Established => "established",
            Self::FinWait => "fin_wait",
            Self::HalfClosed => "half_closed",
            Self::Closing => "closing",
            Self::LastAck => "last_ack",
            Self::TimeWait => "time_wait",
            Self::Reset => "reset",
        }
    }

    /// Not yet answered, or the handshake is not complete.
    #[must_use]
    pub fn is_half_open(self) -> bool {
        matches!(self, Self::SynSent | Self::SynReceived)
    }

    /// Nothing more will come, but late segments.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::TimeWait | Self::Reset)
    }
}

/// How well a TCP flow does. Counts stop at their limits, they don't wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Segments tagged as retransmission of any of the three kinds, up to 65,535.
    pub retransmissions: u16,
    /// Of these the fast ones, up to 4,095.
    pub fast_retransmissions: u16,
    /// Segments out of order, up to 4,095.
    pub out_of_order: u16,
    /// Duplicate ACKs, up to 65,535.
    pub duplicate_acks: u16,
    /// Every tag that any segment of this flow had.
    pub seen: TcpTags,
}

/// A flow, copied out of its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Number of the flow in its table, from 1, never used again.
    pub id: u64,
    /// Adapter of its frames.
    pub adapter: u32,
    /// Id of the outermost VLAN tag, 0..=4095.
    pub vlan: Option<u16>,
    /// What it carries.
    pub protocol: Protocol,
    /// What the ends' numbers are.
    pub ports: Ports,
    /// Who began: the sender of the SYN; of the SYN-ACK the receiver; otherwise
    /// the sender of the first frame seen.
    pub initiator: Endpoint,
    /// The other end.
    pub responder: Endpoint,
    /// What the initiator sent.
    pub sent: Sent,
    /// What the responder sent.
    pub received: Sent,
    /// First frame: 100 ns since 1601-01-01 UTC. Of a flow older than 300 days,
    /// 300 days ago.
    pub first_100ns: u64,
    /// Last frame, likewise.
    pub last_100ns: u64,
    /// How far it has come.
    pub state: State,
    /// From the last SYN to the handshake's ACK, in 100 ns: both halves of the
    /// round trip, wherever between the ends one listens. To 1 part in 2,000.
    pub initial_rtt_100ns: Option<u64>,
    /// From what the initiator sends to its acknowledgment, smoothed as in
    /// RFC 6298 section 2, in 100 ns: the way from here to the responder and
    /// back, with the time the responder takes. Retransmitted segments are not
    /// measured. To 1 part in 2,000.
    pub responder_rtt_100ns: Option<u64>,
    /// The same for what the responder sends.
    pub initiator_rtt_100ns: Option<u64>,
    /// How well it does; zero unless TCP.
    pub health: Health,
}

impl Flow {
    /// Both halves of the round trip, where both were measured: from here to
    /// the responder and back, and from here to the initiator and back.
    #[must_use]
    pub fn smoothed_rtt_100ns(&self) -> Option<u64> {
        self.responder_rtt_100ns?
            .checked_add(self.initiator_rtt_100ns?)
    }
}

/// What became of a frame in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracked {
    /// Number of the flow in its table, from 1, never used again.
    pub flow: u64,
    /// Where the flow is in the table now.
    pub slot: u32,
    /// This frame began it.
    pub is_new: bool,
    /// Sent by the initiator.
    pub from_initiator: bool,
    /// What the TCP analysis says; empty for other protocols.
    pub tags: TcpTags,
}

/// What a table counts. Counters wrap, after some ages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Flows in the table now: `created - expired - evicted() = active`.
    pub active: u32,
    /// Of these, half open.
    pub half_open: u32,
    /// Most flows the table ever held at once.
    pub peak: u32,
    /// Flows begun.
    pub created: u64,
    /// Flows forgotten after their idle time, or because a new connection took
    /// their addresses and ports.
    pub expired: u64,
    /// Flows given up for new ones in a full table: over already.
    pub evicted_over: u64,
    /// Likewise, half open, or heard from one end only.
    pub evicted_half_open: u64,
    /// Likewise, any other.
    pub evicted_other: u64,
    /// Frames with IP addresses that no flow could be kept for: of more
    /// adapters than a table tells apart.
    pub untracked: u64,
    /// TCP segments that were analysed.
    pub segments: u64,
    /// How many of them had each tag.
    pub tags: TagCounts,
    /// Alarms given.
    pub alarms: u64,
    /// Alarms that nobody took in time.
    pub alarms_lost: u64,
}

impl Stats {
    /// Flows given up for new ones in a full table.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted_over
            .wrapping_add(self.evicted_half_open)
            .wrapping_add(self.evicted_other)
    }
}
