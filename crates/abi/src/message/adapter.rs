//! The adapters the filter is attached to, and their balance.

use super::{ReplyHeader, Request, RequestError, RequestHeader};
use crate::{Direction, Ioctl, limits};

message! {
    /// Asks for the adapters.
    pub struct AdapterListRequest [16] {
        /// Version and size.
        0 => header: RequestHeader,
        /// How many adapters to pass over.
        8 => start: u32,
        /// 0.
        12 => reserved: u32,
    }
}

message! {
    /// Start of the list of adapters; `count` times [`AdapterInfo`] follow.
    pub struct AdapterListReply [16] {
        /// Version and size, the entries included.
        0 => header: ReplyHeader,
        /// How many adapters there are, those passed over included.
        8 => total: u32,
        /// How many entries follow: as many as there are, or as fit.
        12 => count: u32,
    }
}

message! {
    /// One adapter.
    pub struct AdapterInfo [176] {
        /// Its id: from 1, never used again while the driver is loaded.
        0 => id: u32,
        /// Its `NET_IFINDEX`.
        4 => if_index: u32,
        /// Its current MAC address, in the first `mac_len` bytes.
        8 => mac: [u8; 8],
        /// Length of the MAC address: at most 8.
        16 => mac_len: u32,
        /// Largest payload of a frame, in bytes.
        20 => mtu: u32,
        /// [`Media`](crate::Media), or another `NDIS_MEDIUM`.
        24 => media: u32,
        /// [`AdapterState`](crate::AdapterState).
        28 => state: u32,
        /// Speed of the link, in bits per second; 0 if unknown.
        32 => link_speed: u64,
        /// Length of the name in UTF-16 units: at most
        /// [`ADAPTER_NAME_UNITS`](limits::ADAPTER_NAME_UNITS).
        40 => name_len: u32,
        /// 0.
        44 => reserved: u32,
        /// The adapter's name, UTF-16; units after `name_len` are 0.
        48 => name: [u16; 64],
    }
}

const _: () = assert!(limits::ADAPTER_NAME_UNITS == 64);

impl AdapterInfo {
    /// The UTF-16 units of the name that are in use.
    #[must_use]
    pub fn name_units(&self) -> &[u16] {
        let len = usize::try_from(self.name_len).unwrap_or(usize::MAX);
        self.name.get(..len).unwrap_or(&self.name)
    }

    /// The bytes of the MAC address that are in use.
    #[must_use]
    pub fn mac_bytes(&self) -> &[u8] {
        let len = usize::try_from(self.mac_len).unwrap_or(usize::MAX);
        self.mac.get(..len).unwrap_or(&self.mac)
    }
}

impl AdapterListRequest {
    /// A request for the adapters after the first `start`.
    #[must_use]
    pub const fn new(start: u32) -> Self {
        AdapterListRequest {
            header: RequestHeader::of::<Self>(),
            start,
            reserved: 0,
        }
    }

    /// Its start index.
    pub const fn start(&self) -> Result<u32, RequestError> {
        if self.reserved != 0 {
            return Err(RequestError::Reserved);
        }
        Ok(self.start)
    }
}

impl Request for AdapterListRequest {
    const IOCTL: Ioctl = Ioctl::ListAdapters;
    type Reply = AdapterListReply;
}

message! {
    /// Asks for the statistics of one adapter.
    pub struct AdapterStatsRequest [16] {
        /// Version and size.
        0 => header: RequestHeader,
        /// The adapter's id.
        8 => adapter: u32,
        /// 0.
        12 => reserved: u32,
    }
}

message! {
    /// The statistics of one adapter.
    pub struct AdapterStatsReply [464] {
        /// Version and size.
        0 => header: ReplyHeader,
        /// The adapter's id.
        8 => adapter: u32,
        /// 0.
        12 => reserved: u32,
        /// The counters.
        16 => stats: AdapterStats,
    }
}

impl AdapterStatsRequest {
    /// A request for the statistics of the adapter with this id.
    #[must_use]
    pub const fn new(adapter: u32) -> Self {
        AdapterStatsRequest {
            header: RequestHeader::of::<Self>(),
            adapter,
            reserved: 0,
        }
    }

    /// Its adapter id.
    pub const fn adapter(&self) -> Result<u32, RequestError> {
        if self.reserved != 0 {
            return Err(RequestError::Reserved);
        }
        Ok(self.adapter)
    }
}

impl Request for AdapterStatsRequest {
    const IOCTL: Ioctl = Ioctl::GetAdapterStats;
    type Reply = AdapterStatsReply;
}

message! {
    /// The closed balance of one direction: every frame seen is in exactly one
    /// of the other terms, at any time:
    /// `seen = passed + dropped + diverted + lost_*`.
    pub struct Balance [72] {
        /// Frames that reached the filter.
        0 => seen: u64,
        /// Frames given on, unchanged.
        8 => passed: u64,
        /// Frames a rule dropped.
        16 => dropped: u64,
        /// Frames a rule took to a reader instead.
        24 => diverted: u64,
        /// Frames refused because the filter module was pausing or paused.
        32 => lost_paused: u64,
        /// Frames refused for want of memory.
        40 => lost_resources: u64,
        /// Frames refused for another reason.
        48 => lost_other: u64,
        /// Bytes of the frames seen, link header included.
        56 => seen_bytes: u64,
        /// Bytes of the frames passed, link header included.
        64 => passed_bytes: u64,
    }
}

impl Balance {
    /// Frames lost, for whatever reason.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost_paused
            .saturating_add(self.lost_resources)
            .saturating_add(self.lost_other)
    }

    /// Frames that left: the right-hand side of the equation.
    #[must_use]
    pub const fn accounted(&self) -> u64 {
        self.passed
            .saturating_add(self.dropped)
            .saturating_add(self.diverted)
            .saturating_add(self.lost())
    }

    /// Whether the equation holds.
    #[must_use]
    pub const fn is_balanced(&self) -> bool {
        self.seen == self.accounted()
    }
}

message! {
    /// What the frames of one direction were. A frame counts in each layer it
    /// has: an ordinary TCP segment in `frames`, `ipv4` and `tcp`.
    pub struct ProtocolCounters [128] {
        /// Frames whose headers were looked at.
        0 => frames: u64,
        /// Frames with at least one 802.1Q or 802.1ad tag.
        8 => vlan: u64,
        /// ARP.
        16 => arp: u64,
        /// IPv4.
        24 => ipv4: u64,
        /// IPv6.
        32 => ipv6: u64,
        /// ICMP.
        40 => icmp: u64,
        /// ICMPv6.
        48 => icmpv6: u64,
        /// UDP.
        56 => udp: u64,
        /// TCP.
        64 => tcp: u64,
        /// IPv4 fragments.
        72 => ipv4_fragments: u64,
        /// IPv6 fragments.
        80 => ipv6_fragments: u64,
        /// Frames that end before their headers do.
        88 => truncated: u64,
        /// Frames whose headers contradict themselves.
        96 => malformed: u64,
        /// Frames with a protocol this driver doesn't look into.
        104 => other: u64,
        /// Frames whose IPv4 header checksum was looked at and is wrong.
        112 => bad_network_checksum: u64,
        /// Frames whose TCP, UDP or ICMP checksum was looked at and is wrong.
        120 => bad_transport_checksum: u64,
    }
}

message! {
    /// The counters of one adapter. The arrays are indexed by
    /// [`Direction::index`]: 0 in, 1 out.
    pub struct AdapterStats [448] {
        /// The balance of each direction.
        0 => balance: [Balance; 2],
        /// What the frames of each direction were.
        144 => protocols: [ProtocolCounters; 2],
        /// Frames passed on that have not come back to the filter yet. They
        /// are counted in `passed` already.
        400 => in_flight: [u64; 2],
        /// Frames that handles in the divert or the inject role wrote, and that
        /// were handed on. They are not part of the balance: the filter did not
        /// see them come.
        416 => injected: [u64; 2],
        /// Frames that were written and could not be handed on, or were not
        /// sent in the end.
        432 => inject_failed: [u64; 2],
    }
}

impl AdapterStats {
    /// The balance of one direction.
    #[must_use]
    pub const fn balance(&self, direction: Direction) -> &Balance {
        let [incoming, outgoing] = &self.balance;
        match direction {
            Direction::In => incoming,
            Direction::Out => outgoing,
        }
    }

    /// The protocol counters of one direction.
    #[must_use]
    pub const fn protocols(&self, direction: Direction) -> &ProtocolCounters {
        let [incoming, outgoing] = &self.protocols;
        match direction {
            Direction::In => incoming,
            Direction::Out => outgoing,
        }
    }
}
