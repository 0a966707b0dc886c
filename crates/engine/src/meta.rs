//! What is known of a frame beside its bytes.

use weir_abi::Direction;

/// What is known of a frame beside its bytes, wherever it comes from: an
/// adapter's data path, or a capture file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Id of the adapter (or of the file's interface) it was seen at.
    pub adapter: u32,
    /// Which way it goes, seen from the host; `None` where a file doesn't say.
    pub direction: Option<Direction>,
    /// When it was seen: 100 ns since 1601-01-01 UTC.
    pub time_100ns: u64,
    /// Bytes the frame has, no FCS, whatever part of it is at hand.
    pub frame_len: u32,
}
