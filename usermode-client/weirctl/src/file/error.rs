//! What is wrong with a capture file.

use std::io;

/// Where a capture file can't be read any further, and why. All frames before
/// have been given out.
#[derive(Debug, thiserror::Error)]
#[error("at byte {offset}{}: {fault}", if *.unpacked { " of the decompressed data" } else { "" })]
pub(crate) struct Damage {
    /// Byte of the file, or of what was packed in it.
    pub(crate) offset: u64,
    /// Whether the file was compressed, so that `offset` is of its contents.
    pub(crate) unpacked: bool,
    pub(crate) fault: Fault,
}

/// What is wrong there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("the file is empty: not even a header of pcap or pcapng is there")]
    Empty,
    #[error("this is no pcap or pcapng file: it starts with {start}{hint}")]
    NotACapture { start: String, hint: &'static str },
    #[error("{format} version {major}.{minor} is not known; {known} is")]
    Version {
        format: &'static str,
        major: u16,
        minor: u16,
        known: &'static str,
    },
    #[error("the file is cut off: {what} of {wanted} bytes, and {there} are there")]
    Cut {
        what: &'static str,
        wanted: u64,
        there: u64,
    },
    #[error("a frame of {claimed} bytes, and none has more than {most}: the file is damaged")]
    FrameLength { claimed: u32, most: u32 },
    #[error("a block of {0} bytes: the length is damaged")]
    BlockLength(u32),
    #[error("a block starts with length {start} and ends with length {end}: it is damaged")]
    Trailer { start: u32, end: u32 },
    #[error("a section's byte order is {0:#010x}, which is none")]
    ByteOrder(u32),
    #[error("{what} block of {len} bytes is too short for its fields")]
    ShortBlock { what: &'static str, len: u32 },
    #[error("a frame of {claimed} bytes in a block with room for {room}: it is damaged")]
    FrameInBlock { claimed: u32, room: usize },
    #[error("a frame of interface {id}, and this section has described {known} so far")]
    Interface { id: u32, known: usize },
    #[error("the options of an interface go on past their block")]
    Options,
    #[error("more than {0} interfaces in a section")]
    TooManyInterfaces(usize),
    #[error("reading failed: {0}")]
    Io(#[from] io::Error),
    #[error("the gzip data is damaged or cut off: {0}")]
    Gzip(io::Error),
}

/// What files that are no captures start with, and what to do about it.
const HINTS: &[(&[u8], &str)] = &[
    (b"\x28\xb5\x2f\xfd", " (zstd: decompress it first)"),
    (b"\x04\x22\x4d\x18", " (lz4: decompress it first)"),
    (b"\xfd7zXZ", " (xz: decompress it first)"),
    (b"BZh", " (bzip2: decompress it first)"),
    (b"PK\x03\x04", " (zip: unpack it first)"),
    (b"snoop\0", " (snoop: convert it, as with editcap)"),
    (b"GMBU", " (Network Monitor: convert it, as with editcap)"),
    (b"RTSS", " (Network Monitor: convert it, as with editcap)"),
];

impl Fault {
    /// For a file that starts with these bytes.
    pub(super) fn not_a_capture(start: &[u8]) -> Fault {
        let bytes: Vec<String> = start.iter().take(4).map(|b| format!("{b:02x}")).collect();
        let hint = HINTS.iter().find(|(magic, _)| start.starts_with(magic));
        Fault::NotACapture {
            start: bytes.join(" "),
            hint: hint.map_or("", |(_, hint)| hint),
        }
    }
}
