//! Flows and alarms.

use super::{ReplyHeader, Request, RequestError, RequestHeader};
use crate::{Ioctl, TcpTag};

/// [`FlowInfo::vlan`] of a flow without a VLAN tag.
pub const NO_VLAN: u16 = 0xffff;

/// Room for a counter of each [`TcpTag`].
pub const TAG_COUNTERS: usize = 16;
const _: () = assert!(TcpTag::ALL.len() <= TAG_COUNTERS);

message! {
    /// Asks for flows of one adapter.
    pub struct FlowListRequest [24] {
        /// Version and size.
        0 => header: RequestHeader,
        /// The adapter's id.
        8 => adapter: u32,
        /// 0.
        12 => reserved: u32,
        /// Where to go on: 0 first, then what the reply before said.
        16 => cursor: u64,
    }
}

message! {
    /// Start of a part of the flows; `count` times [`FlowInfo`] follow. The
    /// table changes between two parts: a flow that was there all the time is in
    /// exactly one of them.
    pub struct FlowListReply [32] {
        /// Version and size, the entries included.
        0 => header: ReplyHeader,
        /// The adapter's id.
        8 => adapter: u32,
        /// How many entries follow.
        12 => count: u32,
        /// Where to go on; 0: that was all.
        16 => next: u64,
        /// Flows the table holds now.
        24 => active: u64,
    }
}

message! {
    /// One flow. The arrays of two are indexed by the side the frames came
    /// from: 0 the initiator's, 1 the responder's.
    pub struct FlowInfo [160] {
        /// Its number in its adapter's table: from 1, never used again.
        0 => id: u64,
        /// When its first frame was seen: 100 ns since 1601-01-01 UTC.
        8 => first_100ns: u64,
        /// When its last frame was seen.
        16 => last_100ns: u64,
        /// Frames from each side.
        24 => frames: [u64; 2],
        /// Bytes of these, link header included.
        40 => bytes: [u64; 2],
        /// Address of who began, in network order; IPv4 in the first four
        /// bytes, the rest 0.
        56 => initiator: [u8; 16],
        /// Address of the other, likewise.
        72 => responder: [u8; 16],
        /// The initiator's number, as `ports` says.
        88 => initiator_port: u16,
        /// The responder's number.
        90 => responder_port: u16,
        /// The outermost VLAN id, or [`NO_VLAN`].
        92 => vlan: u16,
        /// 4 or 6: the version of IP.
        94 => family: u8,
        /// The protocol over IP, by its IANA number.
        95 => protocol: u8,
        /// Id of the adapter.
        96 => adapter: u32,
        /// [`FlowState`](crate::FlowState).
        100 => state: u32,
        /// Round-trip time of the handshake, in 100 ns; 0: not measured.
        104 => initial_rtt_100ns: u64,
        /// Smoothed time (RFC 6298) from here to the initiator and back, in
        /// 100 ns; 0: not measured.
        112 => initiator_rtt_100ns: u64,
        /// The same to the responder and back.
        120 => responder_rtt_100ns: u64,
        /// TCP: segments tagged as retransmission, of whatever kind. This and
        /// the next three stop at their largest value.
        128 => retransmissions: u32,
        /// Of these the fast ones.
        132 => fast_retransmissions: u32,
        /// Segments out of order.
        136 => out_of_order: u32,
        /// Duplicate ACKs.
        140 => duplicate_acks: u32,
        /// Every [`TcpTag`] that any segment had: bit n is tag n.
        144 => tags: u32,
        /// [`FlowPorts`](crate::FlowPorts).
        148 => ports: u32,
        /// The slot of the table it lies in.
        152 => slot: u32,
        /// 0.
        156 => reserved: u32,
    }
}

impl FlowListRequest {
    /// A request for the flows of this adapter from `cursor` on.
    #[must_use]
    pub const fn new(adapter: u32, cursor: u64) -> Self {
        FlowListRequest {
            header: RequestHeader::of::<Self>(),
            adapter,
            reserved: 0,
            cursor,
        }
    }

    /// Its adapter's id and its cursor.
    pub const fn part(&self) -> Result<(u32, u64), RequestError> {
        if self.reserved != 0 {
            return Err(RequestError::Reserved);
        }
        Ok((self.adapter, self.cursor))
    }
}

impl Request for FlowListRequest {
    const IOCTL: Ioctl = Ioctl::FlowList;
    type Reply = FlowListReply;
}

message! {
    /// Asks for what the flow table of one adapter has counted.
    pub struct FlowStatsRequest [16] {
        /// Version and size.
        0 => header: RequestHeader,
        /// The adapter's id.
        8 => adapter: u32,
        /// 0.
        12 => reserved: u32,
    }
}

message! {
    /// What the flow table of one adapter has counted.
    pub struct FlowStatsReply [256] {
        /// Version and size.
        0 => header: ReplyHeader,
        /// The adapter's id.
        8 => adapter: u32,
        /// 0.
        12 => reserved: u32,
        /// The counters.
        16 => stats: FlowStats,
    }
}

message! {
    /// What a flow table holds and has counted since the filter was attached:
    /// `created = active + expired + evicted_over + evicted_half_open +
    /// evicted_other`.
    pub struct FlowStats [240] {
        /// Flows there is room for.
        0 => capacity: u64,
        /// Flows it holds.
        8 => active: u64,
        /// Of these, half open.
        16 => half_open: u64,
        /// Most flows it ever held.
        24 => peak: u64,
        /// Flows begun.
        32 => created: u64,
        /// Flows forgotten after their idle time, or because a new connection
        /// took their addresses and ports.
        40 => expired: u64,
        /// Flows that made room for others: over already.
        48 => evicted_over: u64,
        /// Likewise, half open.
        56 => evicted_half_open: u64,
        /// Likewise, any other.
        64 => evicted_other: u64,
        /// Frames of IP that no flow was kept for.
        72 => untracked: u64,
        /// TCP segments that were analysed.
        80 => segments: u64,
        /// Alarms.
        88 => alarms: u64,
        /// Alarms that were lost before they reached the list of alarms.
        96 => alarms_lost: u64,
        /// Bytes of kernel memory.
        104 => memory: u64,
        /// How many segments had each [`TcpTag`], by its number.
        112 => tags: [u64; 16],
    }
}

impl FlowStatsRequest {
    /// A request for the flow table of this adapter.
    #[must_use]
    pub const fn new(adapter: u32) -> Self {
        FlowStatsRequest {
            header: RequestHeader::of::<Self>(),
            adapter,
            reserved: 0,
        }
    }

    /// Its adapter's id.
    pub const fn adapter(&self) -> Result<u32, RequestError> {
        if self.reserved != 0 {
            return Err(RequestError::Reserved);
        }
        Ok(self.adapter)
    }
}

impl Request for FlowStatsRequest {
    const IOCTL: Ioctl = Ioctl::FlowStats;
    type Reply = FlowStatsReply;
}

message! {
    /// Asks for alarms.
    pub struct AlarmListRequest [16] {
        /// Version and size.
        0 => header: RequestHeader,
        /// The number of the first alarm that is wanted; 0 for the oldest kept.
        8 => since: u64,
    }
}

message! {
    /// Start of a list of alarms, oldest first; `count` times [`AlarmInfo`]
    /// follow. A gap in their numbers is as many that are not kept any more.
    pub struct AlarmListReply [24] {
        /// Version and size, the entries included.
        0 => header: ReplyHeader,
        /// What to ask for next: the number after the last one that follows.
        8 => next: u64,
        /// How many entries follow: as many as there are, or as fit.
        16 => count: u32,
        /// Whether there are more.
        20 => more: u32,
    }
}

message! {
    /// One alarm.
    pub struct AlarmInfo [80] {
        /// Its number: from 1, over all adapters.
        0 => number: u64,
        /// When it was raised: 100 ns since 1601-01-01 UTC.
        8 => time_100ns: u64,
        /// Id of the adapter.
        16 => adapter: u32,
        /// [`AlarmKind`](crate::AlarmKind).
        20 => kind: u32,
        /// SYN flood: the listener's address. Port scan: the scanner's. In
        /// network order; IPv4 in the first four bytes, the rest 0.
        24 => address: [u8; 16],
        /// Port scan: whose port was tried last. Else 0.
        40 => peer: [u8; 16],
        /// SYN flood: the listener's port. Port scan: the port tried last.
        56 => port: u16,
        /// 0.
        58 => reserved0: u16,
        /// 4 or 6: the version of IP.
        60 => family: u32,
        /// SYN flood: connections half open at the listener. Port scan:
        /// different ports tried in the running window, estimated.
        64 => count: u32,
        /// SYN flood: SYNs that came there in the running window. Else 0.
        68 => syns: u32,
        /// 0.
        72 => reserved1: u64,
    }
}

impl AlarmListRequest {
    /// A request for the alarms from this number on.
    #[must_use]
    pub const fn new(since: u64) -> Self {
        AlarmListRequest {
            header: RequestHeader::of::<Self>(),
            since,
        }
    }
}

impl Request for AlarmListRequest {
    const IOCTL: Ioctl = Ioctl::AlarmList;
    type Reply = AlarmListReply;
}
