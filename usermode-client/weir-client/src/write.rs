//! Frames on their way back: the divert and the inject role.

use std::time::Duration;

use weir_abi::{
    Direction, FrameRecord, ReaderStats, ReaderStatsRequest, RecordFlags, RequestHeader, limits,
    record, record_size,
};
use zerocopy::IntoBytes;

use crate::capture::{Batch, Capture, Frame};
use crate::channel::Channel;
use crate::device::call;
use crate::error::Error;

/// Frames to write, in order.
#[derive(Clone, Debug, Default)]
pub struct Outgoing {
    bytes: Vec<u8>,
    frames: usize,
}

/// Why a frame can't be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a frame of {len} bytes can't be written: {} to {} are taken",
    limits::MIN_WRITE_FRAME,
    limits::MAX_SNAPLEN
)]
pub struct FrameLen {
    /// Bytes it has.
    pub len: usize,
}

impl Outgoing {
    /// None yet.
    #[must_use]
    pub const fn new() -> Outgoing {
        Outgoing {
            bytes: Vec::new(),
            frames: 0,
        }
    }

    /// How many frames there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.frames
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.frames == 0
    }

    /// Forgets them, and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.frames = 0;
    }

    /// A diverted frame, as it came and the way it was going.
    pub fn give_back(&mut self, frame: &Frame<'_>) -> Result<(), FrameLen> {
        let direction = frame.record.direction().unwrap_or(Direction::In);
        let keep = RecordFlags::CHECKSUM_OFFLOAD | RecordFlags::TAG_BESIDE;
        let record = FrameRecord {
            flags: (frame.record.flags() & keep).bits(),
            direction: direction as u8,
            ..frame.record
        };
        self.push(record, frame.bytes)
    }

    /// A diverted frame, with other bytes or another way. Its checksums are to
    /// be right: nobody computes them any more.
    pub fn give_back_changed(
        &mut self,
        frame: &Frame<'_>,
        direction: Direction,
        bytes: &[u8],
    ) -> Result<(), FrameLen> {
        let record = FrameRecord {
            flags: (frame.record.flags() & RecordFlags::TAG_BESIDE).bits(),
            segment_size: 0,
            direction: direction as u8,
            ..frame.record
        };
        self.push(record, bytes)
    }

    /// A frame of one's own, for the inject role. Its checksums are to be right.
    pub fn inject(
        &mut self,
        adapter: u32,
        direction: Direction,
        bytes: &[u8],
    ) -> Result<(), FrameLen> {
        let record = FrameRecord {
            size: 0,
            captured_len: 0,
            original_len: 0,
            adapter,
            timestamp_100ns: 0,
            sequence: 0,
            direction: direction as u8,
            header_len: record::HEADER_LEN,
            flags: 0,
            rule: 0,
            segment_size: 0,
        };
        self.push(record, bytes)
    }

    fn push(&mut self, record: FrameRecord, bytes: &[u8]) -> Result<(), FrameLen> {
        let refused = FrameLen { len: bytes.len() };
        let len = u32::try_from(bytes.len()).map_err(|_| refused)?;
        if !(limits::MIN_WRITE_FRAME..=limits::MAX_SNAPLEN).contains(&len) {
            return Err(refused);
        }
        let size = record_size(len).ok_or(refused)?;
        let record = FrameRecord {
            size,
            captured_len: len,
            original_len: len,
            header_len: record::HEADER_LEN,
            rule: 0,
            ..record
        };
        let end = self.bytes.len() + size as usize;
        self.bytes.extend_from_slice(record.as_bytes());
        self.bytes.extend_from_slice(bytes);
        self.bytes.resize(end, 0);
        self.frames += 1;
        Ok(())
    }

    /// Whole records of at most [`limits::MAX_WRITE_LEN`] bytes together, from
    /// `start` on.
    fn part(&self, start: usize) -> &[u8] {
        let rest = self.bytes.get(start..).unwrap_or_default();
        let mut end = 0;
        for (record, _) in weir_abi::records(rest).flatten() {
            let next = end + record.size as usize;
            if next > limits::MAX_WRITE_LEN as usize {
                break;
            }
            end = next;
        }
        rest.get(..end).unwrap_or_default()
    }

    /// Writes them all, and forgets those that were taken.
    fn write(&mut self, channel: &dyn Channel, operation: &'static str) -> Result<usize, Error> {
        let mut done = 0;
        let result = loop {
            let part = self.part(done).to_vec();
            if part.is_empty() {
                break Ok(());
            }
            match write_part(channel, part) {
                Ok(0) => {
                    break Err(Error::Reply {
                        operation,
                        problem: "a write of nothing".to_owned(),
                    });
                }
                Ok(len) => done += len,
                Err(failure) => break Err(Error::Refused { operation, failure }),
            }
        };
        let taken = weir_abi::records(self.bytes.get(..done).unwrap_or_default()).count();
        self.bytes.drain(..done);
        self.frames -= taken;
        tracing::trace!(frames = taken, "written");
        result.map(|()| taken)
    }
}

fn write_part(channel: &dyn Channel, part: Vec<u8>) -> Result<usize, crate::Failure> {
    let mut pending = channel.write(part)?;
    loop {
        // Without a time limit this returns with the completion.
        if let Some(completion) = pending.wait(None) {
            return completion.result;
        }
    }
}

/// A handle in the divert role: it reads the frames of `divert` rules, and
/// writes them back. A frame that is not written back goes nowhere.
#[derive(Debug)]
pub struct Divert {
    reads: Capture,
}

impl Divert {
    pub(crate) const fn new(reads: Capture) -> Divert {
        Divert { reads }
    }

    /// The reader's number in the driver.
    #[must_use]
    pub const fn reader(&self) -> u32 {
        self.reads.reader()
    }

    /// The reader's balance.
    pub fn stats(&self) -> Result<ReaderStats, Error> {
        self.reads.stats()
    }

    /// Waits up to `timeout` for diverted frames. `None` when the time is over.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Batch>, Error> {
        self.reads.next(timeout)
    }

    /// Gives a batch's memory back for another read.
    pub fn recycle(&mut self, batch: Batch) {
        self.reads.recycle(batch);
    }

    /// Writes frames back, and says how many were taken. After an error
    /// `frames` holds those that were not.
    pub fn write(&mut self, frames: &mut Outgoing) -> Result<usize, Error> {
        frames.write(self.reads.channel(), "divert write")
    }

    /// Ends: hands what waits to `sink`, whose answer is written back, and
    /// returns the final balance.
    pub fn finish<E: From<Error>>(
        self,
        mut sink: impl FnMut(&Batch, &mut Outgoing) -> Result<(), E>,
    ) -> Result<ReaderStats, E> {
        let mut reads = self.reads;
        let mut outgoing = Outgoing::new();
        reads.drain(|batch, channel| -> Result<(), E> {
            sink(&batch, &mut outgoing)?;
            outgoing.write(channel, "divert write")?;
            Ok(())
        })?;
        Ok(reads.stats()?)
    }
}

/// A handle in the inject role.
pub struct Injector {
    channel: Box<dyn Channel>,
    writer: u32,
}

impl std::fmt::Debug for Injector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Injector")
            .field("writer", &self.writer)
            .finish_non_exhaustive()
    }
}

impl Injector {
    pub(crate) const fn new(channel: Box<dyn Channel>, writer: u32) -> Injector {
        Injector { channel, writer }
    }

    /// The writer's number in the driver.
    #[must_use]
    pub const fn writer(&self) -> u32 {
        self.writer
    }

    /// What was written, and what was refused.
    pub fn stats(&self) -> Result<ReaderStats, Error> {
        let request = ReaderStatsRequest {
            header: RequestHeader::of::<ReaderStatsRequest>(),
        };
        Ok(call(&*self.channel, &request)?.stats)
    }

    /// Writes frames, and says how many were taken. After an error `frames`
    /// holds those that were not.
    pub fn write(&mut self, frames: &mut Outgoing) -> Result<usize, Error> {
        frames.write(&*self.channel, "inject write")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_every_length_are_records() {
        let mut out = Outgoing::new();
        for len in [14, 15, 21, 22, 60, 1514] {
            out.inject(3, Direction::Out, &vec![7; len]).expect("fits");
        }
        assert_eq!(out.len(), 6);
        let frames: Vec<_> = weir_abi::writes(&out.bytes)
            .map(|f| f.expect("a frame"))
            .collect();
        assert_eq!(frames.len(), 6);
        assert!(
            frames
                .iter()
                .all(|f| f.adapter == 3 && f.direction == Direction::Out)
        );
        assert_eq!(frames.last().map(|f| f.end), Some(out.bytes.len()));
    }

    #[test]
    fn lengths_no_frame_has_are_refused() {
        let mut out = Outgoing::new();
        let most = limits::MAX_SNAPLEN as usize;
        assert_eq!(
            out.inject(1, Direction::In, &[0; 13]),
            Err(FrameLen { len: 13 })
        );
        assert!(out.inject(1, Direction::In, &vec![0; most + 1]).is_err());
        assert!(out.is_empty() && out.bytes.is_empty());
        assert!(out.inject(1, Direction::In, &vec![0; most]).is_ok());
    }

    #[test]
    fn long_writes_are_cut_between_records() {
        let mut out = Outgoing::new();
        for _ in 0..1000 {
            out.inject(1, Direction::In, &[1; 1500]).expect("fits");
        }
        let (mut start, mut parts) = (0, 0);
        while start < out.bytes.len() {
            let part = out.part(start);
            assert!(part.len() <= limits::MAX_WRITE_LEN as usize);
            assert!(weir_abi::writes(part).all(|f| f.is_ok()));
            start += part.len();
            parts += 1;
        }
        assert_eq!(parts, 2);
    }
}
