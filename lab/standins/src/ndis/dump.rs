//! Capture files: what is replayed, and what came out of a filter.

use std::fs::File;
use std::io::BufWriter;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};
use pcap_file::pcapng::{Block, PcapNgReader};
use pcap_file::{DataLink, TsResolution};

/// A capture file being written: classic pcap, nanoseconds, Ethernet.
pub(crate) struct Dump(PcapWriter<BufWriter<File>>);

impl std::fmt::Debug for Dump {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dump")
    }
}

impl Dump {
    pub(crate) fn create(path: &str) -> Result<Self, String> {
        let file = File::create(path).map_err(|e| format!("{path}: {e}"))?;
        let header = PcapHeader {
            datalink: DataLink::ETHERNET,
            ts_resolution: TsResolution::NanoSecond,
            snaplen: 262_144,
            ..PcapHeader::default()
        };
        PcapWriter::with_header(BufWriter::new(file), header)
            .map(Self)
            .map_err(|e| format!("{path}: {e}"))
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.0
            .write_packet(&PcapPacket::new(now, len, bytes))
            .map(|_| ())
            .map_err(|e| e.to_string())
    }
}

/// One frame of a capture: when, and its bytes.
#[derive(Debug)]
pub(crate) struct Captured {
    /// Since the Unix epoch; only differences matter.
    pub(crate) time: Duration,
    pub(crate) bytes: Vec<u8>,
}

/// Reads a pcap or pcapng file whole.
pub(crate) fn read_capture(path: &str) -> Result<Vec<Captured>, String> {
    let open = || File::open(path).map_err(|e| format!("{path}: {e}"));
    let bad = |e: pcap_file::PcapError| format!("{path}: {e}");
    let mut frames = Vec::new();
    match PcapReader::new(open()?) {
        Ok(mut reader) => {
            while let Some(packet) = reader.next_packet() {
                let packet = packet.map_err(bad)?;
                frames.push(Captured {
                    time: packet.timestamp,
                    bytes: packet.data.into_owned(),
                });
            }
        }
        Err(_) => {
            let mut reader = PcapNgReader::new(open()?).map_err(bad)?;
            while let Some(block) = reader.next_block() {
                match block.map_err(bad)? {
                    Block::EnhancedPacket(packet) => {
                        frames.push(Captured {
                            time: packet.timestamp,
                            bytes: packet.data.into_owned(),
                        });
                    }
                    Block::SimplePacket(packet) => {
                        frames.push(Captured {
                            time: Duration::ZERO,
                            bytes: packet.data.into_owned(),
                        });
                    }
                    _ => {}
                }
            }
        }
    }
    Ok(frames)
}
