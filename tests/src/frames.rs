//! Frames of capture files: pcap and pcapng, gzip too.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use flate2::read::GzDecoder;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};
use pcap_file::pcapng::{Block, PcapNgReader};
use pcap_file::{DataLink, TsResolution};

/// One frame of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What the file says, in the file's units.
    pub time: Duration,
    /// Its length on the wire.
    pub original: u32,
    /// Its bytes.
    pub data: Vec<u8>,
}

impl Frame {
    /// One of no time.
    ///
    /// # Panics
    /// When it is too long to be one.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self {
            time: Duration::ZERO,
            original: u32::try_from(bytes.len()).expect("a frame"),
            data: bytes.to_vec(),
        }
    }
}

/// Magic number of gzip, RFC 1952 section 2.3.1.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Block type of a pcapng section header, in either byte order.
const PCAPNG: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// The frames of a file.
///
/// # Panics
/// When it can't be read whole.
#[must_use]
pub fn of(file: &Path) -> Vec<Frame> {
    let mut bytes = std::fs::read(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    if bytes.starts_with(&GZIP) {
        let mut whole = Vec::new();
        GzDecoder::new(&bytes[..])
            .read_to_end(&mut whole)
            .unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        bytes = whole;
    }
    let mut frames = Vec::new();
    if bytes.starts_with(&PCAPNG) {
        let mut reader = PcapNgReader::new(&bytes[..]).expect("a pcapng file");
        while let Some(block) = reader.next_block() {
            if let Block::EnhancedPacket(packet) = block.expect("a whole pcapng file") {
                frames.push(Frame {
                    time: packet.timestamp,
                    original: packet.original_len,
                    data: packet.data.into_owned(),
                });
            }
        }
    } else {
        let mut reader = PcapReader::new(&bytes[..]).expect("a pcap file");
        let units = match reader.header().ts_resolution {
            TsResolution::MicroSecond => 1_000,
            TsResolution::NanoSecond => 1,
        };
        // Raw: the reader refuses frames that were longer than the snap length.
        while let Some(packet) = reader.next_raw_packet() {
            let packet = packet.expect("a whole pcap file");
            let part = Duration::from_nanos(u64::from(packet.ts_frac) * units);
            frames.push(Frame {
                time: Duration::from_secs(packet.ts_sec.into()) + part,
                original: packet.orig_len,
                data: packet.data.into_owned(),
            });
        }
    }
    frames
}

/// Writes frames to a pcap file, in this order, as if they had been no longer
/// than what there is of them.
///
/// # Panics
/// When it can't be written.
pub fn save(file: &Path, frames: &[Frame]) {
    let header = PcapHeader {
        datalink: DataLink::ETHERNET,
        ..PcapHeader::default()
    };
    let out = File::create(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let mut writer = PcapWriter::with_header(out, header).expect("a pcap file");
    for frame in frames {
        let len = u32::try_from(frame.data.len()).expect("a frame");
        let packet = PcapPacket::new(frame.time, len, &frame.data);
        writer.write_packet(&packet).expect("written");
    }
}
