//! Blocks of pcapng files.
//!
//! Source: draft-ietf-opsawg-pcapng. Frames are in enhanced, simple and (from
//! old writers) obsolete packet blocks; all other blocks are stepped over.

use std::io::Read;

use weir_abi::Direction;

use super::bytes::Order;
use super::clock::Clock;
use super::error::Fault;
use super::window::{CAPACITY, Window};
use super::{Found, Interface, MAX_FRAME};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;

/// Type and length before a block's body.
const HEADER: usize = 8;
/// The length again, after it.
const TRAILER: usize = 4;

/// Interfaces of a section, at most: a file of descriptions alone must not
/// fill the memory.
const MAX_INTERFACES: usize = 65_536;
/// Bytes of an interface's name that are kept.
const MAX_NAME: usize = 256;

/// The section being read.
#[derive(Debug)]
pub(super) struct Pcapng {
    order: Order,
    /// From 1; 0 before the first.
    pub(super) section: u32,
    pub(super) interfaces: Vec<Interface>,
}

impl Pcapng {
    pub(super) fn is_start(start: &[u8]) -> bool {
        Order::Big.u32_at(start, 0) == Some(SECTION_HEADER)
    }

    pub(super) fn open() -> Self {
        Pcapng {
            order: Order::Little,
            section: 0,
            interfaces: Vec::new(),
        }
    }

    /// The next frame, from the window's start on; `None` at the end of the file.
    pub(super) fn next<R: Read>(&mut self, window: &mut Window<R>) -> Result<Option<Found>, Fault> {
        loop {
            let Some(block) = self.block(window)? else {
                return Ok(None);
            };
            let body = &window.shown(block.body_end)[HEADER..];
            let found = match block.kind {
                SECTION_HEADER => self.section_header(body, &block)?,
                INTERFACE_DESCRIPTION => self.interface(body, &block)?,
                ENHANCED_PACKET => Some(self.enhanced(body, &block)?),
                SIMPLE_PACKET => Some(self.simple(body, &block)?),
                PACKET => Some(self.obsolete(body, &block)?),
                _ => None,
            };
            if let Some(found) = found {
                return Ok(Some(found));
            }
            step_over(window, block.len.into(), block.trailer())?;
        }
    }

    /// The block at the window's start, shown whole if it fits.
    fn block<R: Read>(&mut self, window: &mut Window<R>) -> Result<Option<Block>, Fault> {
        let start = window.peek(HEADER + TRAILER);
        if start.is_empty() {
            return Ok(None);
        }
        if start.len() < HEADER + TRAILER {
            return Err(Fault::Cut {
                what: "a block's header",
                wanted: (HEADER + TRAILER) as u64,
                there: start.len() as u64,
            });
        }
        // A section header reads the same both ways, and then tells the order.
        if Order::Big.u32(start, 0) == SECTION_HEADER {
            let word = Order::Big.u32(start, 8);
            self.order = match word {
                BYTE_ORDER_MAGIC => Order::Big,
                _ if word.swap_bytes() == BYTE_ORDER_MAGIC => Order::Little,
                _ => return Err(Fault::ByteOrder(word)),
            };
        }
        let (kind, len) = (self.order.u32(start, 0), self.order.u32(start, 4));
        if (len as usize) < HEADER + TRAILER || !len.is_multiple_of(4) {
            return Err(Fault::BlockLength(len));
        }
        let shown = (len as usize).min(CAPACITY);
        let there = window.peek(shown).len();
        if there < shown {
            return Err(Fault::Cut {
                what: "a block",
                wanted: len.into(),
                there: there as u64,
            });
        }
        let whole = len as usize <= CAPACITY;
        let mut block = Block {
            kind,
            len,
            body_end: shown,
            order: self.order,
            checked: whole,
        };
        if whole {
            block.body_end = shown - TRAILER;
            check_trailer(self.order, len, &window.shown(shown)[block.body_end..])?;
        }
        Ok(Some(block))
    }

    fn section_header(&mut self, body: &[u8], block: &Block) -> Result<Option<Found>, Fault> {
        let version = self.order.u16_at(body, 4).zip(self.order.u16_at(body, 6));
        let (major, minor) = version.ok_or(block.short("a section header"))?;
        // 1.2 is what some writers call 1.0.
        if major != 1 || !matches!(minor, 0 | 2) {
            return Err(Fault::Version {
                format: "pcapng",
                major,
                minor,
                known: "1.0",
            });
        }
        self.section = self.section.saturating_add(1);
        self.interfaces.clear();
        Ok(None)
    }

    fn interface(&mut self, body: &[u8], block: &Block) -> Result<Option<Found>, Fault> {
        if body.len() < 8 {
            return Err(block.short("an interface description"));
        }
        if self.interfaces.len() >= MAX_INTERFACES {
            return Err(Fault::TooManyInterfaces(MAX_INTERFACES));
        }
        let mut interface = Interface {
            link_type: self.order.u16(body, 0).into(),
            name: None,
            snaplen: self.order.u32(body, 4),
            clock: Clock::MICROSECONDS,
        };
        for option in options(self.order, &body[8..]) {
            let (code, value) = option?;
            match (code, value) {
                (IF_NAME, name) => {
                    let name = &name[..name.len().min(MAX_NAME)];
                    interface.name = Some(String::from_utf8_lossy(name).into_owned());
                }
                (IF_TSRESOL, [resolution]) => {
                    interface.clock = interface.clock.with_resolution(*resolution);
                }
                (IF_TSOFFSET, seconds) => {
                    if let Ok(seconds) = seconds.try_into() {
                        interface.clock = interface.clock.with_offset(self.order.i64(seconds));
                    }
                }
                _ => {}
            }
        }
        self.interfaces.push(interface);
        Ok(None)
    }

    fn known(&self, id: u32) -> Result<usize, Fault> {
        usize::try_from(id)
            .ok()
            .filter(|id| *id < self.interfaces.len())
            .ok_or(Fault::Interface {
                id,
                known: self.interfaces.len(),
            })
    }

    fn enhanced(&self, body: &[u8], block: &Block) -> Result<Found, Fault> {
        if body.len() < 20 {
            return Err(block.short("an enhanced packet"));
        }
        let interface = self.known(self.order.u32(body, 0))?;
        self.packet(body, block, interface)
    }

    fn obsolete(&self, body: &[u8], block: &Block) -> Result<Found, Fault> {
        if body.len() < 20 {
            return Err(block.short("a packet"));
        }
        // The other half of the word counts drops.
        let interface = self.known(self.order.u16(body, 0).into())?;
        self.packet(body, block, interface)
    }

    /// What enhanced and obsolete packet blocks share.
    fn packet(&self, body: &[u8], block: &Block, interface: usize) -> Result<Found, Fault> {
        let field = |at| self.order.u32(body, at);
        let captured = block.captured(field(12), body.len() - 20)?;
        let padded = captured.next_multiple_of(4);
        // What is wrong with the options takes nothing from the frame.
        let flags = options(self.order, body.get(20 + padded..).unwrap_or_default())
            .map_while(Result::ok)
            .find_map(|(code, value)| match code {
                PACKET_FLAGS => self.order.u32_at(value, 0),
                _ => None,
            });
        Ok(Found {
            data: HEADER + 20..HEADER + 20 + captured,
            step: block.len.into(),
            trailer: block.trailer(),
            interface,
            ticks: Some(u64::from(field(4)) << 32 | u64::from(field(8))),
            direction: match flags.map(|f| f & 3) {
                Some(1) => Some(Direction::In),
                Some(2) => Some(Direction::Out),
                _ => None,
            },
            original: field(16),
        })
    }

    /// A simple packet is of the first interface, has no time, and as many
    /// bytes as there were and the snap length left of them.
    fn simple(&self, body: &[u8], block: &Block) -> Result<Found, Fault> {
        let original = self
            .order
            .u32_at(body, 0)
            .ok_or(block.short("a simple packet"))?;
        let interface = self.known(0)?;
        let captured = match self.interfaces[interface].snaplen {
            0 => original,
            snaplen => original.min(snaplen),
        };
        let captured = block.captured(captured, body.len() - 4)?;
        Ok(Found {
            data: HEADER + 4..HEADER + 4 + captured,
            step: block.len.into(),
            trailer: block.trailer(),
            interface,
            ticks: None,
            direction: None,
            original,
        })
    }
}

/// Steps over a block; the length at its end is checked if it wasn't.
pub(super) fn step_over<R: Read>(
    window: &mut Window<R>,
    len: u64,
    trailer: Option<Trailer>,
) -> Result<(), Fault> {
    let Some(trailer) = trailer else {
        window.skip(len);
        return Ok(());
    };
    let body = len - TRAILER as u64;
    let there = window.skip(body);
    let end = window.peek(TRAILER);
    if end.len() < TRAILER {
        return Err(Fault::Cut {
            what: "a block",
            wanted: len,
            there: there + end.len() as u64,
        });
    }
    check_trailer(trailer.order, trailer.len, end)?;
    window.skip(TRAILER as u64);
    Ok(())
}

fn check_trailer(order: Order, len: u32, end: &[u8]) -> Result<(), Fault> {
    match order.u32(end, 0) {
        again if again == len => Ok(()),
        end => Err(Fault::Trailer { start: len, end }),
    }
}

/// What the end of a block larger than the window has to say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trailer {
    order: Order,
    len: u32,
}

/// A block whose header has been read.
struct Block {
    kind: u32,
    len: u32,
    /// Where what is shown of its body ends in the window.
    body_end: usize,
    order: Order,
    /// Whether the length at its end has been seen to be right.
    checked: bool,
}

impl Block {
    fn trailer(&self) -> Option<Trailer> {
        (!self.checked).then_some(Trailer {
            order: self.order,
            len: self.len,
        })
    }

    fn short(&self, what: &'static str) -> Fault {
        Fault::ShortBlock {
            what,
            len: self.len,
        }
    }

    /// A frame's length, if the block has room for it.
    fn captured(&self, claimed: u32, room: usize) -> Result<usize, Fault> {
        if claimed as usize > room {
            return Err(Fault::FrameInBlock { claimed, room });
        }
        if claimed > MAX_FRAME {
            return Err(Fault::FrameLength {
                claimed,
                most: MAX_FRAME,
            });
        }
        Ok(claimed as usize)
    }
}

const IF_NAME: u16 = 2;
const IF_TSRESOL: u16 = 9;
const IF_TSOFFSET: u16 = 14;
/// `epb_flags` and `pack_flags`.
const PACKET_FLAGS: u16 = 2;

/// Codes and values of a block's options; an error, and the end, where one goes
/// on past the block.
fn options(order: Order, mut bytes: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8]), Fault>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let (code, len) = (order.u16_at(bytes, 0)?, order.u16_at(bytes, 2));
        if code == 0 {
            return None;
        }
        let len = usize::from(len.unwrap_or(u16::MAX));
        let Some(value) = bytes.get(4..4 + len) else {
            bytes = &[];
            return Some(Err(Fault::Options));
        };
        // Padding that is left out at the very end is not missed.
        bytes = bytes.get(4 + len.next_multiple_of(4)..).unwrap_or_default();
        Some(Ok((code, value)))
    })
}
