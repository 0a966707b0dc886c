//! What the engine says.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use pcap_file::TsResolution;
use pcap_file::pcap::PcapReader;
use weir_engine::Meta;
use weir_engine::flow::{Config, Flow, Ports, Slot, Table};
use weir_engine::wire::{Protocol, dissect};
use zerocopy::FromZeros;

use super::{Answer, Stream};

/// One frame of a capture.
#[derive(Clone, Debug)]
pub struct Frame {
    /// What was kept of it.
    pub bytes: Vec<u8>,
    /// Bytes it has on the wire.
    pub len: u32,
    /// When: 100 ns since 1601-01-01 UTC.
    pub time_100ns: u64,
}

/// Seconds from 1601-01-01 to 1970-01-01.
const EPOCH_S: u64 = 11_644_473_600;

/// Flows that a capture may have at once here: none is given up for another.
const SLOTS: usize = 1 << 16;

/// A capture's frames: `pcap` of Ethernet, also packed by gzip.
///
/// # Errors
/// It isn't one.
pub fn frames(capture: &Path) -> io::Result<Vec<Frame>> {
    let wrong = |e| io::Error::other(format!("{}: {e}", capture.display()));
    let mut reader = PcapReader::new(super::open(capture)?).map_err(wrong)?;
    let per_unit = match reader.header().ts_resolution {
        TsResolution::MicroSecond => 1_000,
        TsResolution::NanoSecond => 1,
    };
    let mut frames = Vec::new();
    // Raw: the crate takes a frame that is longer than the snap length for a mistake.
    while let Some(packet) = reader.next_raw_packet() {
        let packet = packet.map_err(wrong)?;
        let since = u64::from(packet.ts_sec) + EPOCH_S;
        frames.push(Frame {
            len: packet.orig_len,
            time_100ns: since * 10_000_000 + u64::from(packet.ts_frac) * per_unit / 100,
            bytes: packet.data.into_owned(),
        });
    }
    Ok(frames)
}

/// What the engine says of a capture.
///
/// # Errors
/// The capture can't be read, or the table of flows says no.
pub fn by_engine(capture: &Path) -> io::Result<Answer> {
    let slots: Vec<Slot> = (0..SLOTS).map(|_| Slot::new_zeroed()).collect();
    let index = vec![0u32; Table::<Vec<Slot>, Vec<u32>>::index_len(SLOTS)];
    let mut table = Table::new(slots, index, Config::default()).map_err(io::Error::other)?;
    let mut answer = Answer {
        by: "weir-engine".to_owned(),
        ..Answer::default()
    };
    // Each flow as it was when its last frame had come.
    let mut flows: BTreeMap<u64, Flow> = BTreeMap::new();
    for (frame, number) in frames(capture)?.iter().zip(1u32..) {
        let meta = Meta {
            adapter: 1,
            direction: None,
            time_100ns: frame.time_100ns,
            frame_len: frame.len,
        };
        let dissected = dissect(&frame.bytes, frame.len);
        let Some(tracked) = table.track(&dissected, &meta) else {
            continue;
        };
        let flow = table
            .get(tracked.slot)
            .filter(|flow| flow.id == tracked.flow)
            .ok_or_else(|| io::Error::other(format!("frame {number}: {tracked:?} of no flow")))?;
        if flow.protocol == Protocol::TCP && flow.ports == Ports::Ports {
            answer.tcp += 1;
            flows.insert(flow.id, flow);
        }
        if !tracked.tags.is_empty() {
            answer.tags.insert(number, tracked.tags);
        }
    }
    answer.streams = flows.values().map(stream).collect();
    Ok(answer)
}

fn stream(flow: &Flow) -> Stream {
    let a = (flow.initiator.address, flow.initiator.port);
    let b = (flow.responder.address, flow.responder.port);
    let mut stream = Stream::between(a, b);
    let swapped = stream.ends[0] != a;
    let of = |initiator: u64, responder: u64| {
        if swapped {
            [responder, initiator]
        } else {
            [initiator, responder]
        }
    };
    stream.packets = of(flow.sent.packets, flow.received.packets);
    stream.bytes = of(flow.sent.bytes, flow.received.bytes);
    stream.initial_rtt_ns = flow.initial_rtt_100ns.unwrap_or(0) * 100;
    stream
}
