//! Reading capture files: pcap and pcapng, gzip of both, from a file or from
//! standard input, in constant memory.
//!
//! # Why not a crate
//! The two crates of this field were tried, and each is wrong on files that
//! people have:
//!
//! - `pcap-file` 2.0 (which writes ours) refuses a pcap record whose frame was
//!   longer than the snap length, which is what a snapped file consists of; it
//!   refuses an `if_tzone` of the right length and any comment that isn't UTF-8,
//!   keeps a simple packet's padding as data, and ends a file at the first block
//!   past its 8 MB buffer.
//! - `pcap-parser` 0.17 knows no `if_tsresol` in powers of two, reads
//!   `if_tsoffset` as little endian in big-endian sections and as unsigned, has
//!   no obsolete packet block, and can't step over a block larger than its
//!   buffer without growing that by the length that the file claims.
//!
//! Neither tells where in the file it stopped. What is needed of the formats is
//! small; here no length of the file is believed beyond [`MAX_FRAME`] or the
//! window, and nothing is allocated for a frame.

mod bytes;
mod clock;
mod error;
mod pcap;
mod pcapng;
mod source;
#[cfg(test)]
mod tests;
mod window;

use std::io::Read;
use std::ops::Range;

use pcap_file::DataLink;
use weir_abi::Direction;

use clock::Clock;
pub(crate) use error::{Damage, Fault};
use pcap::Pcap;
use pcapng::{Pcapng, Trailer};
pub(crate) use source::{Position, Source};
use window::Window;

/// Bytes of a frame that a file may hold: libpcap's MAXIMUM_SNAPLEN, the
/// contract's largest snap length too.
pub(crate) const MAX_FRAME: u32 = 262_144;

/// LINKTYPE_ETHERNET.
pub(crate) const ETHERNET: u32 = 1;

/// What a file says of where frames were captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    /// LINKTYPE_*, as registered.
    pub(crate) link_type: u32,
    /// `if_name`, at most 256 bytes of it.
    pub(crate) name: Option<String>,
    /// Bytes kept of each frame; 0 is all.
    snaplen: u32,
    clock: Clock,
}

/// The name of a link type in the registry, as far as it is known here.
pub(crate) fn link_type_name(link_type: u32) -> String {
    match DataLink::from(link_type) {
        DataLink::Unknown(n) => format!("link type {n}"),
        known => format!("{known:?} (link type {link_type})"),
    }
}

/// One frame of a file.
#[derive(Debug)]
pub(crate) struct Record<'a> {
    /// Its number in the file, from 1, frames of every link type counted.
    pub(crate) number: u64,
    /// Number of its section, from 1 in pcapng, 0 in pcap; interfaces are the section's own.
    pub(crate) section: u32,
    /// Its interface: an index into `interfaces`.
    pub(crate) interface: usize,
    /// What the section has described so far.
    pub(crate) interfaces: &'a [Interface],
    /// 100 ns since 1601-01-01 UTC, rounded down; `None` where the file has no time for it.
    pub(crate) time_100ns: Option<u64>,
    /// Which way it went, where the file says.
    pub(crate) direction: Option<Direction>,
    /// Bytes it had. A file that claims fewer than it holds is not believed.
    pub(crate) frame_len: u32,
    /// The bytes that the file holds.
    pub(crate) bytes: &'a [u8],
}

impl Record<'_> {
    pub(crate) fn link_type(&self) -> u32 {
        self.interfaces
            .get(self.interface)
            .map_or(u32::MAX, |i| i.link_type)
    }
}

/// Where in the window a frame is, and what is known of it.
struct Found {
    data: Range<usize>,
    /// Bytes from the window's start to what comes next.
    step: u64,
    /// What is still to be checked at the end of these.
    trailer: Option<Trailer>,
    interface: usize,
    ticks: Option<u64>,
    direction: Option<Direction>,
    original: u32,
}

#[derive(Debug)]
enum Format {
    Pcap(Pcap, [Interface; 1]),
    Pcapng(Pcapng),
}

/// A capture file being read.
pub(crate) struct Reader<R> {
    window: Window<R>,
    format: Format,
    packed: bool,
    number: u64,
    /// What of the window has been given out: its length, and what to check.
    given: (u64, Option<Trailer>),
    ended: bool,
}

impl<R: Read> Reader<R> {
    /// Reads as far as it takes to know the format. `packed`: `stream` is what
    /// a compressed file holds.
    pub(crate) fn new(stream: R, packed: bool) -> Result<Self, Damage> {
        let mut window = Window::new(stream);
        let start = window.peek(8);
        let format = if Pcap::is_start(start) {
            Pcap::open(&mut window).map(|(pcap, interface)| Format::Pcap(pcap, [interface]))
        } else if Pcapng::is_start(start) {
            Ok(Format::Pcapng(Pcapng::open()))
        } else if start.is_empty() {
            Err(Fault::Empty)
        } else {
            Err(Fault::not_a_capture(start))
        };
        let format = format.map_err(|fault| damage(&mut window, packed, fault))?;
        Ok(Reader {
            window,
            format,
            packed,
            number: 0,
            given: (0, None),
            ended: false,
        })
    }

    /// pcap or pcapng.
    pub(crate) fn format(&self) -> &'static str {
        match &self.format {
            Format::Pcap(..) => "pcap",
            Format::Pcapng(_) => "pcapng",
        }
    }

    /// The next frame; `None` at the end, and after an error.
    pub(crate) fn next(&mut self) -> Result<Option<Record<'_>>, Damage> {
        if self.ended {
            return Ok(None);
        }
        let found = match self.find() {
            Ok(Some(found)) => found,
            Ok(None) => {
                self.ended = true;
                return match self.window.take_failure() {
                    None => Ok(None),
                    Some(e) => Err(failed(&self.window, self.packed, e)),
                };
            }
            Err(fault) => {
                self.ended = true;
                return Err(damage(&mut self.window, self.packed, fault));
            }
        };
        self.number += 1;
        self.given = (found.step, found.trailer);
        let (section, interfaces) = match &self.format {
            Format::Pcap(_, interface) => (0, interface.as_slice()),
            Format::Pcapng(pcapng) => (pcapng.section, pcapng.interfaces.as_slice()),
        };
        let clock = interfaces.get(found.interface).map(|i| i.clock);
        let bytes = &self.window.shown(found.data.end)[found.data.start..];
        Ok(Some(Record {
            number: self.number,
            section,
            interface: found.interface,
            interfaces,
            time_100ns: found.ticks.zip(clock).map(|(t, clock)| clock.time(t)),
            direction: found.direction,
            // No frame of MAX_FRAME bytes has a length that doesn't fit.
            frame_len: found.original.max(bytes.len() as u32),
            bytes,
        }))
    }

    fn find(&mut self) -> Result<Option<Found>, Fault> {
        let (len, trailer) = std::mem::take(&mut self.given);
        pcapng::step_over(&mut self.window, len, trailer)?;
        match &mut self.format {
            Format::Pcap(pcap, _) => pcap.next(&mut self.window),
            Format::Pcapng(pcapng) => pcapng.next(&mut self.window),
        }
    }
}

/// A fault with its place. A stream that failed looks like one that is cut off:
/// the failure is told then.
fn damage<R: Read>(window: &mut Window<R>, packed: bool, fault: Fault) -> Damage {
    if matches!(fault, Fault::Cut { .. } | Fault::Empty)
        && let Some(e) = window.take_failure()
    {
        return failed(window, packed, e);
    }
    Damage {
        offset: window.offset(),
        unpacked: packed,
        fault,
    }
}

fn failed<R: Read>(window: &Window<R>, packed: bool, error: std::io::Error) -> Damage {
    Damage {
        offset: window.offset(),
        unpacked: packed,
        fault: match packed {
            true => Fault::Gzip(error),
            false => Fault::Io(error),
        },
    }
}
