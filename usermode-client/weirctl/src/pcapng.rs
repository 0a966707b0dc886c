//! Writing captured frames as a pcapng file.
//!
//! Source: draft-ietf-opsawg-pcapng (section header, interface description,
//! enhanced packet and interface statistics blocks).

use std::borrow::Cow;
use std::io::{self, Write};
use std::time::Duration;

use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::interface_statistics::{
    InterfaceStatisticsBlock, InterfaceStatisticsOption,
};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::pcapng::{PcapNgBlock, PcapNgWriter};
use pcap_file::{DataLink, Endianness, PcapError};
use weir_abi::{Direction, Media, RecordFlags};
use weir_client::{Adapter, Frame, filetime};

/// `if_tsresol`: 10 to the power of -7 seconds, the driver's own unit.
const RESOLUTION_100NS: u8 = 7;

/// What is known of an interface at the end of a capture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct InterfaceStatistics {
    /// Start and end of the capture, 100 ns since 1601.
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Frames the adapter's filter saw since the start.
    pub(crate) received: Option<u64>,
    /// Frames the filter itself lost since the start.
    pub(crate) dropped: Option<u64>,
    /// Frames the capture asked for.
    pub(crate) accepted: Option<u64>,
    /// Frames that found no room on the way to this program.
    pub(crate) lost: Option<u64>,
    /// Frames that were written.
    pub(crate) delivered: u64,
    pub(crate) comment: Option<String>,
}

/// A pcapng file being written: one section, little endian.
pub(crate) struct Writer<W: Write> {
    inner: PcapNgWriter<W>,
    snaplen: u32,
    interfaces: Vec<u32>,
}

/// The writer only fails where the file does: the blocks are ours.
fn io_error(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(e) => e,
        other => io::Error::other(other),
    }
}

/// A time of the contract in the units of `if_tsresol`.
const fn ticks(time: u64) -> u64 {
    filetime::to_unix_100ns(time)
}

/// A time as the statistics block stores it: the upper 32 bits come first,
/// whatever the byte order. The block's writer writes a plain little-endian
/// number, hence the swap.
const fn high_word_first(ticks: u64) -> u64 {
    ticks.rotate_left(32)
}

impl<W: Write> Writer<W> {
    /// Starts the file.
    pub(crate) fn new(out: W, snaplen: u32) -> io::Result<Self> {
        let text = |s: &'static str| Cow::Borrowed(s);
        let section = SectionHeaderBlock {
            endianness: Endianness::Little,
            options: vec![
                SectionHeaderOption::Hardware(text(std::env::consts::ARCH)),
                SectionHeaderOption::OS(text(std::env::consts::OS)),
                SectionHeaderOption::UserApplication(text(concat!(
                    "weirctl ",
                    env!("CARGO_PKG_VERSION")
                ))),
            ],
            ..SectionHeaderBlock::default()
        };
        let inner = PcapNgWriter::with_section_header(out, section).map_err(io_error)?;
        Ok(Writer {
            inner,
            snaplen,
            interfaces: Vec::new(),
        })
    }

    /// Whether frames of this adapter can be written.
    pub(crate) fn knows(&self, adapter: u32) -> bool {
        self.interfaces.contains(&adapter)
    }

    /// Describes an adapter; before its first frame.
    pub(crate) fn interface(&mut self, adapter: &Adapter) -> io::Result<()> {
        let mut options = vec![
            InterfaceDescriptionOption::IfName(Cow::Borrowed(&adapter.name)),
            InterfaceDescriptionOption::IfDescription(Cow::Owned(format!(
                "Weir adapter {}, interface index {}",
                adapter.id, adapter.if_index
            ))),
            InterfaceDescriptionOption::IfTsResol(RESOLUTION_100NS),
        ];
        if adapter.mac.len() == 6 {
            options.push(InterfaceDescriptionOption::IfMacAddr(Cow::Borrowed(
                &adapter.mac,
            )));
        }
        if let Some(speed) = adapter.link_speed {
            options.push(InterfaceDescriptionOption::IfSpeed(speed));
        }
        let block = InterfaceDescriptionBlock {
            // NDIS gives frames of WAN media an Ethernet header.
            linktype: match adapter.media {
                Ok(Media::Ethernet | Media::Wan) => DataLink::ETHERNET,
                Ok(Media::Ip) => DataLink::RAW,
                Err(_) => DataLink::USER0,
            },
            snaplen: self.snaplen,
            options,
        };
        self.inner
            .write_block(&block.into_block())
            .map_err(io_error)?;
        self.interfaces.push(adapter.id);
        Ok(())
    }

    fn index(&self, adapter: u32) -> io::Result<u32> {
        self.interfaces
            .iter()
            .position(|id| *id == adapter)
            .and_then(|i| u32::try_from(i).ok())
            .ok_or_else(|| io::Error::other(format!("adapter {adapter} was not described")))
    }

    /// Writes a frame. `lost` is how many frames of its interface were lost
    /// since the one before.
    pub(crate) fn frame(&mut self, frame: &Frame<'_>, lost: u64) -> io::Result<()> {
        let record = &frame.record;
        let mut options = Vec::new();
        // epb_flags, bits 0 and 1: 1 inbound, 2 outbound, 0 not known.
        match record.direction() {
            Some(Direction::In) => options.push(EnhancedPacketOption::Flags(1)),
            Some(Direction::Out) => options.push(EnhancedPacketOption::Flags(2)),
            None => {}
        }
        if lost > 0 {
            options.push(EnhancedPacketOption::DropCount(lost));
        }
        let remarks = remarks(record.flags());
        if !remarks.is_empty() {
            options.push(EnhancedPacketOption::Comment(remarks.into()));
        }
        let block = EnhancedPacketBlock {
            interface_id: self.index(record.adapter)?,
            // The block's writer stores the number of nanoseconds as the number
            // of units, whatever the interface's resolution.
            timestamp: Duration::from_nanos(ticks(record.timestamp_100ns)),
            original_len: record.original_len,
            data: Cow::Borrowed(frame.bytes),
            options,
        };
        self.inner
            .write_block(&block.into_block())
            .map_err(io_error)?;
        Ok(())
    }

    /// Writes what is known of an adapter at the end.
    pub(crate) fn statistics(
        &mut self,
        adapter: u32,
        stats: &InterfaceStatistics,
    ) -> io::Result<()> {
        use InterfaceStatisticsOption as Option_;
        let end = high_word_first(ticks(stats.end));
        let mut options = vec![
            Option_::IsbStartTime(high_word_first(ticks(stats.start))),
            Option_::IsbEndTime(end),
            Option_::IsbUsrDeliv(stats.delivered),
        ];
        options.extend(stats.received.map(Option_::IsbIfRecv));
        options.extend(stats.dropped.map(Option_::IsbIfDrop));
        options.extend(stats.accepted.map(Option_::IsbFilterAccept));
        options.extend(stats.lost.map(Option_::IsbOsDrop));
        if let Some(comment) = &stats.comment {
            options.push(Option_::Comment(Cow::Borrowed(comment)));
        }
        let block = InterfaceStatisticsBlock {
            interface_id: self.index(adapter)?,
            timestamp: end,
            options,
        };
        self.inner
            .write_block(&block.into_block())
            .map_err(io_error)?;
        Ok(())
    }

    /// Hands on what was written so far.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.inner.get_mut().flush()
    }
}

/// What became of a frame, and what is wrong with it, in words; nothing of one
/// that passed and is well.
fn remarks(flags: RecordFlags) -> String {
    let words = [
        (RecordFlags::DROPPED, "dropped"),
        (RecordFlags::DIVERTED, "diverted"),
        (RecordFlags::INJECTED, "injected"),
        (RecordFlags::LOST, "lost: no memory"),
        (RecordFlags::BAD_CHECKSUM, "bad checksum"),
    ];
    let said: Vec<&str> = words
        .into_iter()
        .filter(|(flag, _)| flags.contains(*flag))
        .map(|(_, word)| word)
        .collect();
    said.join(", ")
}

#[cfg(test)]
mod tests {
    use pcap_file::pcapng::{Block, PcapNgReader};
    use weir_abi::record::FrameMeta;

    use super::*;

    fn adapter() -> Adapter {
        Adapter {
            id: 7,
            if_index: 12,
            name: "lab é".to_owned(),
            mac: vec![2, 0, 0, 0, 0, 1],
            mtu: 1500,
            media: Ok(Media::Ethernet),
            state: Ok(weir_abi::AdapterState::Running),
            link_speed: Some(1_000_000_000),
        }
    }

    /// 2026-07-28 00:00:00.1234567 UTC.
    const TIME: u64 = filetime::UNIX_EPOCH + 1_785_196_800 * 10_000_000 + 1_234_567;

    fn write() -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), 100).expect("starts");
        writer.interface(&adapter()).expect("describes");
        let well = RecordFlags::empty();
        let other = RecordFlags::INJECTED | RecordFlags::BAD_CHECKSUM;
        for (sequence, direction, flags, lost) in
            [(0, Direction::In, well, 0), (5, Direction::Out, other, 4)]
        {
            let meta = FrameMeta {
                flags,
                ..FrameMeta::new(120, 7, TIME, direction)
            };
            let frame = Frame {
                record: meta.record(99, sequence).expect("a record"),
                bytes: &[0x5a; 99],
            };
            writer.frame(&frame, lost).expect("writes");
        }
        let stats = InterfaceStatistics {
            start: TIME - 10_000_000,
            end: TIME + 10_000_000,
            received: Some(10),
            dropped: Some(1),
            accepted: Some(6),
            lost: Some(4),
            delivered: 2,
            comment: Some("a remark".to_owned()),
        };
        writer.statistics(7, &stats).expect("writes");
        writer.inner.into_inner()
    }

    #[test]
    fn blocks_read_back() {
        let bytes = write();
        let mut reader = PcapNgReader::new(&bytes[..]).expect("a section");
        let mut packets = Vec::new();
        let mut statistics = Vec::new();
        while let Some(block) = reader.next_block() {
            match block.expect("a block").into_owned() {
                Block::EnhancedPacket(p) => packets.push(p),
                Block::InterfaceStatistics(s) => statistics.push(s),
                Block::InterfaceDescription(_) => {}
                other => panic!("{other:?}"),
            }
        }
        let interface = &reader.interfaces()[0];
        assert_eq!(
            (interface.linktype, interface.snaplen),
            (DataLink::ETHERNET, 100)
        );
        assert!(
            interface
                .options
                .contains(&InterfaceDescriptionOption::IfTsResol(7))
        );
        assert_eq!(packets.len(), 2);
        assert_eq!(packets[0].options, [EnhancedPacketOption::Flags(1)]);
        assert_eq!(
            packets[1].options,
            [
                EnhancedPacketOption::Flags(2),
                EnhancedPacketOption::DropCount(4),
                EnhancedPacketOption::Comment("injected, bad checksum".into()),
            ]
        );
        assert_eq!((packets[1].data.len(), packets[1].original_len), (99, 120));
        let options = &statistics[0].options;
        for want in [
            InterfaceStatisticsOption::IsbIfRecv(10),
            InterfaceStatisticsOption::IsbIfDrop(1),
            InterfaceStatisticsOption::IsbFilterAccept(6),
            InterfaceStatisticsOption::IsbOsDrop(4),
            InterfaceStatisticsOption::IsbUsrDeliv(2),
        ] {
            assert!(options.contains(&want), "{want:?}");
        }
    }

    #[test]
    fn times_lie_upper_word_first() {
        let bytes = write();
        let ticks = 1_785_196_800_u64 * 10_000_000 + 1_234_567;
        let stored = |t: u64| [((t >> 32) as u32).to_le_bytes(), (t as u32).to_le_bytes()].concat();
        let count = |t: u64| bytes.windows(8).filter(|w| *w == stored(t)).count();
        assert_eq!(count(ticks), 2, "one in each packet");
        assert_eq!(count(ticks - 10_000_000), 1, "isb_starttime");
        assert_eq!(
            count(ticks + 10_000_000),
            2,
            "the block's time and isb_endtime"
        );
    }

    #[test]
    fn frames_of_an_unknown_adapter_are_an_error() {
        let mut writer = Writer::new(Vec::new(), 0).expect("starts");
        let meta = FrameMeta::new(1, 8, TIME, Direction::In);
        let record = meta.record(1, 0).expect("a record");
        let bytes = &[0];
        assert!(writer.frame(&Frame { record, bytes }, 0).is_err());
        assert!(!writer.knows(8));
    }

    /// An independent reader, where one is installed.
    #[test]
    fn capinfos_reads_it() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), write()).expect("writes");
        let run = std::process::Command::new("capinfos")
            .arg("-M")
            .arg(file.path())
            .output();
        let Ok(run) = run else {
            eprintln!("capinfos isn't installed: not checked");
            return;
        };
        let text = String::from_utf8_lossy(&run.stdout);
        assert!(
            run.status.success(),
            "{text}{}",
            String::from_utf8_lossy(&run.stderr)
        );
        for want in [
            "Number of packets:   2",
            "Name = lab é",
            "Time resolution = 0x07",
            "Number of stat entries = 1",
            "00:00:00.123456",
        ] {
            assert!(text.contains(want), "{want}: {text}");
        }
    }
}
