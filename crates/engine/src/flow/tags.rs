//! What the analysis says of one TCP segment.

use bitflags::bitflags;

bitflags! {
    /// What one TCP segment is, besides being a segment: the facts that
    /// Wireshark names in `tcp.analysis`, under the same conditions
    /// (docs/tcp-analysis.md).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct TcpTags: u16 {
        /// Sent again, for whatever reason. Alone, without the next two: after a
        /// time-out.
        const RETRANSMISSION = 1 << 0;
        /// Sent again because duplicate ACKs asked for it.
        const FAST_RETRANSMISSION = 1 << 1;
        /// Sent again although it had been acknowledged.
        const SPURIOUS_RETRANSMISSION = 1 << 2;
        /// Arrived behind a later one, too soon to be a retransmission.
        const OUT_OF_ORDER = 1 << 3;
        /// Repeats the last ACK, with nothing else in it.
        const DUPLICATE_ACK = 1 << 4;
        /// Something before it was not seen here.
        const LOST_SEGMENT = 1 << 5;
        /// Acknowledges what was not seen here.
        const ACK_LOST_SEGMENT = 1 << 6;
        /// Its sender has no room.
        const ZERO_WINDOW = 1 << 7;
        /// Changes the window only.
        const WINDOW_UPDATE = 1 << 8;
        /// Fills the receiver's window to the last byte.
        const WINDOW_FULL = 1 << 9;
        /// One byte into a window of zero.
        const ZERO_WINDOW_PROBE = 1 << 10;
        /// The answer to such a byte: still no room.
        const ZERO_WINDOW_PROBE_ACK = 1 << 11;
        /// Repeats the last byte, or none, to see whether the peer is there.
        const KEEP_ALIVE = 1 << 12;
        /// The answer to that.
        const KEEP_ALIVE_ACK = 1 << 13;
        /// A new connection with the addresses and ports of an earlier one.
        const REUSED_PORTS = 1 << 14;
    }
}

/// How many tags there are.
pub const TAGS: usize = 15;

/// Each tag's name, in the order of the bits.
const NAMES: [&str; TAGS] = [
    "retransmission",
    "fast_retransmission",
    "spurious_retransmission",
    "out_of_order",
    "duplicate_ack",
    "lost_segment",
    "ack_lost_segment",
    "zero_window",
    "window_update",
    "window_full",
    "zero_window_probe",
    "zero_window_probe_ack",
    "keep_alive",
    "keep_alive_ack",
    "reused_ports",
];

impl TcpTags {
    /// The names of the tags that are set, in the order of the bits.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES
            .into_iter()
            .zip(0u32..)
            .filter_map(move |(name, bit)| (self.bits() >> bit & 1 != 0).then_some(name))
    }

    /// The tag with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        NAMES
            .into_iter()
            .zip(Self::all().iter())
            .find_map(|(known, tag)| (known == name).then_some(tag))
    }
}

/// How many segments had each tag. They wrap, after some ages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TagCounts([u64; TAGS]);

impl TagCounts {
    /// No segments.
    pub const ZERO: Self = Self([0; TAGS]);

    /// Counts a segment once in each of its tags.
    pub fn count(&mut self, tags: TcpTags) {
        let mut rest = tags.bits();
        while rest != 0 {
            let bit = usize::try_from(rest.trailing_zeros()).unwrap_or(TAGS);
            if let Some(count) = self.0.get_mut(bit) {
                *count = count.wrapping_add(1);
            }
            rest &= rest.wrapping_sub(1);
        }
    }

    /// Segments with this tag; of several tags, the sum of theirs.
    #[must_use]
    pub fn of(&self, tags: TcpTags) -> u64 {
        self.iter()
            .filter(|(tag, _)| tags.contains(*tag))
            .fold(0, |sum, (_, count)| sum.wrapping_add(count))
    }

    /// Each tag with its count, in the order of the bits.
    pub fn iter(&self) -> impl Iterator<Item = (TcpTags, u64)> + '_ {
        TcpTags::all().iter().zip(self.0)
    }
}
