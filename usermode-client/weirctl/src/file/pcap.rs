//! Records of pcap files.
//!
//! Source: draft-ietf-opsawg-pcap ("PCAP Capture File Format"); what older
//! versions differ in: libpcap's savefile(5).

use std::io::Read;

use super::bytes::Order;
use super::clock::Clock;
use super::error::Fault;
use super::window::Window;
use super::{Found, Interface, MAX_FRAME};

const FILE_HEADER: usize = 24;

/// Microseconds.
const MAGIC: u32 = 0xa1b2_c3d4;
/// Nanoseconds.
const MAGIC_NANOSECONDS: u32 = 0xa1b2_3c4d;
/// Microseconds, and longer record headers: a patched libpcap of 1999.
const MAGIC_PATCHED: u32 = 0xa1b2_cd34;

/// How the records of a pcap file are read.
#[derive(Debug)]
pub(super) struct Pcap {
    order: Order,
    header_len: usize,
    ticks_per_second: u64,
    lengths: Lengths,
}

/// In which order a record tells its two lengths.
#[derive(Clone, Copy, Debug)]
enum Lengths {
    CapturedFirst,
    OriginalFirst,
    /// Version 2.3: some writers had changed, some had not.
    SmallerIsCaptured,
}

/// The byte order and the magic number, if these are a pcap file's first bytes.
fn magic(start: &[u8]) -> Option<(Order, u32)> {
    [Order::Little, Order::Big].into_iter().find_map(|order| {
        let word = order.u32_at(start, 0)?;
        matches!(word, MAGIC | MAGIC_NANOSECONDS | MAGIC_PATCHED).then_some((order, word))
    })
}

impl Pcap {
    pub(super) fn is_start(start: &[u8]) -> bool {
        magic(start).is_some()
    }

    /// Reads the file's header.
    pub(super) fn open<R: Read>(window: &mut Window<R>) -> Result<(Self, Interface), Fault> {
        let header = window.peek(FILE_HEADER);
        let cut = Fault::Cut {
            what: "a file header",
            wanted: FILE_HEADER as u64,
            there: header.len() as u64,
        };
        let Some(header) = header.first_chunk::<FILE_HEADER>() else {
            return Err(cut);
        };
        let Some((order, magic)) = magic(header) else {
            return Err(Fault::not_a_capture(header));
        };
        let (major, minor) = (order.u16(header, 4), order.u16(header, 6));
        let lengths = match (major, minor) {
            (2, 0..=2) => Lengths::OriginalFirst,
            (2, 3) => Lengths::SmallerIsCaptured,
            // 2.543 is written by AIX.
            (2, 4 | 543) => Lengths::CapturedFirst,
            _ => {
                return Err(Fault::Version {
                    format: "pcap",
                    major,
                    minor,
                    known: "2.0 to 2.4",
                });
            }
        };
        let pcap = Pcap {
            order,
            header_len: if magic == MAGIC_PATCHED { 24 } else { 16 },
            ticks_per_second: match magic {
                MAGIC_NANOSECONDS => 1_000_000_000,
                _ => 1_000_000,
            },
            lengths,
        };
        let interface = Interface {
            // The upper bits say whether there is an FCS, and how long.
            link_type: order.u32(header, 20) & 0x03ff_ffff,
            name: None,
            snaplen: order.u32(header, 16),
            clock: match magic {
                MAGIC_NANOSECONDS => Clock::MICROSECONDS.with_resolution(9),
                _ => Clock::MICROSECONDS,
            },
        };
        window.skip(FILE_HEADER as u64);
        Ok((pcap, interface))
    }

    /// The record at the window's start; `None` at the end of the file.
    pub(super) fn next<R: Read>(&self, window: &mut Window<R>) -> Result<Option<Found>, Fault> {
        let header = window.peek(self.header_len);
        if header.is_empty() {
            return Ok(None);
        }
        if header.len() < self.header_len {
            return Err(Fault::Cut {
                what: "a record's header",
                wanted: self.header_len as u64,
                there: header.len() as u64,
            });
        }
        let field = |at| self.order.u32(header, at);
        let ticks = u64::from(field(0)) * self.ticks_per_second + u64::from(field(4));
        let (first, second) = (field(8), field(12));
        let (captured, original) = match self.lengths {
            Lengths::CapturedFirst => (first, second),
            Lengths::OriginalFirst => (second, first),
            Lengths::SmallerIsCaptured => (first.min(second), first.max(second)),
        };
        if captured > MAX_FRAME {
            return Err(Fault::FrameLength {
                claimed: captured,
                most: MAX_FRAME,
            });
        }
        let whole = self.header_len + captured as usize;
        let there = window.peek(whole).len();
        if there < whole {
            return Err(Fault::Cut {
                what: "a record",
                wanted: whole as u64,
                there: there as u64,
            });
        }
        Ok(Some(Found {
            data: self.header_len..whole,
            step: whole as u64,
            trailer: None,
            interface: 0,
            ticks: Some(ticks),
            direction: None,
            original,
        }))
    }
}
