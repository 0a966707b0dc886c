//! Counting frames: the closed balance, and what the frames were.
//!
//! # The balance
//! `seen = passed + dropped + diverted + lost`, for each adapter and direction,
//! at any time. A frame is counted in `seen` when it reaches the filter and in
//! exactly one of the other terms when its verdict is given. The two are
//! counted by different calls ([`Balance::see`], [`Balance::enter`]) on
//! purpose: a path that forgets a frame, or decides on it twice, opens the
//! balance and is found out.
//!
//! # Who adds up
//! The counters are plain numbers. The data path counts one batch of frames in
//! a local [`Counters`], which nobody else sees, and merges it into the cell of
//! its processor in one step under that cell's lock. A batch is merged only
//! when each of its frames has its verdict, so each cell is closed whenever its
//! lock is free, and so is the sum that a reader makes of all cells.

use crate::wire::checksum::{Check, Checksums};
use crate::wire::{Defect, Dissected, Network, Transport};

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Goes on, unchanged.
    Pass,
    /// Dropped by a rule.
    Drop,
    /// Taken to a reader instead of going on.
    Divert,
    /// Neither: it could not go on.
    Lost(Loss),
}

/// Why a frame could not go on, through nobody's decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Loss {
    /// The filter was paused.
    Paused,
    /// No memory.
    Resources,
    /// Anything else.
    Other,
}

/// Counts of frames of one direction; bytes are of whole frames without FCS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Frames that reached the filter.
    pub seen: u64,
    /// Frames given on.
    pub passed: u64,
    /// Frames dropped by a rule.
    pub dropped: u64,
    /// Frames taken to a reader.
    pub diverted: u64,
    /// Frames refused because the filter was paused.
    pub lost_paused: u64,
    /// Frames lost for want of memory.
    pub lost_resources: u64,
    /// Frames lost for another reason.
    pub lost_other: u64,
    /// Bytes of `seen`.
    pub seen_bytes: u64,
    /// Bytes of `passed`.
    pub passed_bytes: u64,
}

impl Balance {
    /// A frame of `len` bytes reached the filter.
    pub fn see(&mut self, len: u32) {
        bump(&mut self.seen);
        add(&mut self.seen_bytes, u64::from(len));
    }

    /// The verdict on a frame of `len` bytes, once for each frame seen.
    pub fn enter(&mut self, verdict: Verdict, len: u32) {
        let term = match verdict {
            Verdict::Pass => {
                add(&mut self.passed_bytes, u64::from(len));
                &mut self.passed
            }
            Verdict::Drop => &mut self.dropped,
            Verdict::Divert => &mut self.diverted,
            Verdict::Lost(Loss::Paused) => &mut self.lost_paused,
            Verdict::Lost(Loss::Resources) => &mut self.lost_resources,
            Verdict::Lost(Loss::Other) => &mut self.lost_other,
        };
        bump(term);
    }

    /// Frames lost, for whatever reason.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost_paused
            .saturating_add(self.lost_resources)
            .saturating_add(self.lost_other)
    }

    /// Whether each frame seen is in exactly one term.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        let terms = [self.passed, self.dropped, self.diverted, self.lost()];
        self.seen == terms.into_iter().fold(0u64, u64::saturating_add)
    }

    fn merge(&mut self, other: &Self) {
        add(&mut self.seen, other.seen);
        add(&mut self.passed, other.passed);
        add(&mut self.dropped, other.dropped);
        add(&mut self.diverted, other.diverted);
        add(&mut self.lost_paused, other.lost_paused);
        add(&mut self.lost_resources, other.lost_resources);
        add(&mut self.lost_other, other.lost_other);
        add(&mut self.seen_bytes, other.seen_bytes);
        add(&mut self.passed_bytes, other.passed_bytes);
    }
}

/// What the frames of one direction were. A frame is counted once in each
/// layer's counter that it has: a TCP segment in `frames`, `ipv4` and `tcp`. A
/// layer counts when its header was there and sound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Protocols {
    /// Frames looked at.
    pub frames: u64,
    /// Frames with a VLAN tag, in their bytes or beside them.
    pub vlan: u64,
    /// ARP.
    pub arp: u64,
    /// IPv4.
    pub ipv4: u64,
    /// IPv6.
    pub ipv6: u64,
    /// ICMP.
    pub icmp: u64,
    /// ICMPv6.
    pub icmpv6: u64,
    /// UDP.
    pub udp: u64,
    /// TCP.
    pub tcp: u64,
    /// Parts of IPv4 packets sent in several, the first part included.
    pub ipv4_fragments: u64,
    /// Parts of IPv6 packets sent in several, the first part included.
    pub ipv6_fragments: u64,
    /// Frames that end before their headers, or the lengths in them, do.
    pub truncated: u64,
    /// Frames whose headers contradict themselves.
    pub malformed: u64,
    /// Sound frames with a protocol that is not looked into, or whose headers
    /// go on past the bytes that were gathered.
    pub other: u64,
    /// IPv4 headers whose checksum was verified here and is wrong.
    pub bad_network_checksum: u64,
    /// TCP, UDP, ICMP and ICMPv6 whose checksum was verified here and is wrong.
    pub bad_transport_checksum: u64,
}

impl Protocols {
    /// Counts one frame. `tag_beside`: the adapter holds a VLAN tag of this
    /// frame out of band (802.1Q offload).
    pub fn count(&mut self, frame: &Dissected<'_>, tag_beside: bool) {
        bump(&mut self.frames);
        let tagged = frame.link.is_some_and(|link| !link.tags.is_empty());
        if tagged || tag_beside {
            bump(&mut self.vlan);
        }
        let mut known = self.count_network(frame);
        known &= self.count_transport(frame);
        match frame.fault.map(|fault| fault.defect) {
            Some(Defect::Truncated) => bump(&mut self.truncated),
            Some(defect) if defect.is_malformed() => bump(&mut self.malformed),
            Some(_) => bump(&mut self.other),
            None if !known => bump(&mut self.other),
            None => {}
        }
    }

    /// Counts what verifying one frame's checksums showed, where somebody did:
    /// a file's reader for each frame, the data path where no adapter has.
    pub fn count_checksums(&mut self, checks: Checksums) {
        if checks.network == Check::Bad {
            bump(&mut self.bad_network_checksum);
        }
        if checks.transport == Check::Bad {
            bump(&mut self.bad_transport_checksum);
        }
    }

    fn count_network(&mut self, frame: &Dissected<'_>) -> bool {
        match &frame.network {
            Network::Arp(_) => bump(&mut self.arp),
            Network::Ipv4(_) => {
                bump(&mut self.ipv4);
                if frame.is_fragment() {
                    bump(&mut self.ipv4_fragments);
                }
            }
            Network::Ipv6(..) => {
                bump(&mut self.ipv6);
                if frame.is_fragment() {
                    bump(&mut self.ipv6_fragments);
                }
            }
            Network::None => return false,
        }
        true
    }

    fn count_transport(&mut self, frame: &Dissected<'_>) -> bool {
        match &frame.transport {
            Transport::Tcp(_) => bump(&mut self.tcp),
            Transport::Udp(_) => bump(&mut self.udp),
            Transport::Icmp(_) => bump(&mut self.icmp),
            Transport::Icmpv6(_) => bump(&mut self.icmpv6),
            Transport::Other(_) => return false,
            Transport::None | Transport::LaterFragment(_) => {}
        }
        true
    }

    fn merge(&mut self, other: &Self) {
        add(&mut self.frames, other.frames);
        add(&mut self.vlan, other.vlan);
        add(&mut self.arp, other.arp);
        add(&mut self.ipv4, other.ipv4);
        add(&mut self.ipv6, other.ipv6);
        add(&mut self.icmp, other.icmp);
        add(&mut self.icmpv6, other.icmpv6);
        add(&mut self.udp, other.udp);
        add(&mut self.tcp, other.tcp);
        add(&mut self.ipv4_fragments, other.ipv4_fragments);
        add(&mut self.ipv6_fragments, other.ipv6_fragments);
        add(&mut self.truncated, other.truncated);
        add(&mut self.malformed, other.malformed);
        add(&mut self.other, other.other);
        add(&mut self.bad_network_checksum, other.bad_network_checksum);
        add(
            &mut self.bad_transport_checksum,
            other.bad_transport_checksum,
        );
    }
}

/// All that is counted for one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Where the frames went.
    pub balance: Balance,
    /// What they were.
    pub protocols: Protocols,
}

impl Counters {
    /// Nothing counted yet.
    pub const ZERO: Self = Self {
        balance: Balance {
            seen: 0,
            passed: 0,
            dropped: 0,
            diverted: 0,
            lost_paused: 0,
            lost_resources: 0,
            lost_other: 0,
            seen_bytes: 0,
            passed_bytes: 0,
        },
        protocols: Protocols {
            frames: 0,
            vlan: 0,
            arp: 0,
            ipv4: 0,
            ipv6: 0,
            icmp: 0,
            icmpv6: 0,
            udp: 0,
            tcp: 0,
            ipv4_fragments: 0,
            ipv6_fragments: 0,
            truncated: 0,
            malformed: 0,
            other: 0,
            bad_network_checksum: 0,
            bad_transport_checksum: 0,
        },
    };

    /// Adds what another batch or cell counted.
    pub fn merge(&mut self, other: &Self) {
        self.balance.merge(&other.balance);
        self.protocols.merge(&other.protocols);
    }
}

/// At a frame a nanosecond a counter lasts for 584 years; a byte counter at
/// 400 Gbit/s for 11 years. Wrapping keeps differences right even then.
fn add(counter: &mut u64, n: u64) {
    *counter = counter.wrapping_add(n);
}

fn bump(counter: &mut u64) {
    add(counter, 1);
}
