//! TCP, as somebody sees it who hears both ends and can ask neither.

pub(super) mod analysis;
pub(super) mod state;

use super::slot::Side;
use crate::wire::tcp::{Flags, Header, MIN_HEADER_LEN, Options};
use crate::wire::{Defect, Dissected, Fault, Layer, Network, Protocol, Transport};

/// What the analysis needs of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) seq: u32,
    pub(super) ack: u32,
    /// Bytes of payload.
    pub(super) len: u32,
    pub(super) flags: Flags,
    pub(super) window: u16,
    /// Of the option, where there is one; none where the options can't be
    /// read, or there is no SYN.
    pub(super) window_scale: Option<Option<u8>>,
    /// The options are not all at hand: it moves the state on, but nothing is
    /// said of it.
    pub(super) is_cut: bool,
}

/// The fixed part of a TCP header whose options are not all at hand.
#[cold]
pub(super) fn cut_header<'a>(frame: &Dissected<'a>) -> Option<&'a [u8; MIN_HEADER_LEN]> {
    let (protocol, later) = match &frame.network {
        Network::Ipv4(ip) => (ip.protocol(), ip.fragment_offset() != 0),
        Network::Ipv6(_, chain) => (chain.upper, chain.is_later_fragment()),
        Network::None | Network::Arp(_) => return None,
    };
    let snapped = Fault {
        layer: Layer::Transport,
        defect: Defect::Snapped,
    };
    if protocol != Protocol::TCP || later || frame.fault != Some(snapped) {
        return None;
    }
    frame.payload.bytes().first_chunk()
}

impl Segment {
    /// The segment in a frame; none when the frame has no TCP header, or one
    /// fragment only, whose length is not the segment's.
    #[inline]
    pub(super) fn of(frame: &Dissected<'_>) -> Option<Self> {
        match &frame.transport {
            _ if frame.is_fragment() => None,
            Transport::Tcp(header) => Some(Self::whole(header, frame.payload.on_wire())),
            Transport::None => Self::cut(frame),
            _ => None,
        }
    }

    #[inline]
    fn whole(header: &Header<'_>, payload: usize) -> Self {
        let flags = header.flags();
        let scale = flags
            .has(Flags::SYN)
            .then(|| Options::window_scale(header.options()));
        Self {
            seq: header.seq(),
            ack: header.ack(),
            len: payload as u32,
            flags,
            window: header.window(),
            window_scale: scale,
            is_cut: false,
        }
    }

    /// A capture's snap length may end among the options: what the analysis
    /// needs comes before them.
    #[cold]
    fn cut(frame: &Dissected<'_>) -> Option<Self> {
        let fixed = cut_header(frame)?;
        let &[_, _, _, _, s0, s1, s2, s3, a0, a1, a2, a3, ..] = fixed;
        let &[.., offset, flags, w0, w1, _, _, _, _] = fixed;
        let header_len = usize::from(offset >> 4).saturating_mul(4);
        Some(Self {
            seq: u32::from_be_bytes([s0, s1, s2, s3]),
            ack: u32::from_be_bytes([a0, a1, a2, a3]),
            len: frame.payload.on_wire().checked_sub(header_len)? as u32,
            flags: Flags(flags),
            window: u16::from_be_bytes([w0, w1]),
            window_scale: None,
            is_cut: true,
        })
    }

    /// Any of these bits is set.
    #[inline]
    pub(super) fn any(&self, mask: u8) -> bool {
        self.flags.0 & mask != 0
    }

    /// The sequence number behind it; SYN and FIN take one, but not two.
    #[inline]
    pub(super) fn end(&self) -> u32 {
        self.seq
            .wrapping_add(self.len)
            .wrapping_add(u32::from(self.any(Flags::SYN | Flags::FIN)))
    }

    /// A SYN without ACK: somebody wants a connection.
    #[inline]
    pub(super) fn is_opening(&self) -> bool {
        self.flags.0 & (Flags::SYN | Flags::ACK) == Flags::SYN
    }

    pub(super) fn is_syn_ack(&self) -> bool {
        self.flags.has(Flags::SYN | Flags::ACK)
    }
}

/// `a` comes after `b`; modulo 2^32, as RFC 9293 section 3.4 compares.
#[inline]
pub(super) fn after(a: u32, b: u32) -> bool {
    (b.wrapping_sub(a) as i32) < 0
}

/// What a [`Side`] remembers in bits.
pub(super) mod bits {
    /// Window scale, 0..=14; 15: there is none.
    pub(in super::super) const SCALE: u16 = 0x000f;
    /// The scale, or that there is none, is known.
    pub(in super::super) const SCALE_KNOWN: u16 = 1 << 4;
    /// Duplicate ACKs it sent since its acknowledgment last changed: 0, 1, 2 for
    /// more; 3 for none after an ACK of what was not seen.
    pub(in super::super) const DUPLICATES: u16 = 3 << 5;
    pub(in super::super) const ONE_DUPLICATE: u16 = 1 << 5;
    pub(in super::super) const MANY_DUPLICATES: u16 = 2 << 5;
    pub(in super::super) const ACKED_UNSEEN: u16 = 3 << 5;
    /// It sent a window.
    pub(in super::super) const WINDOW_KNOWN: u16 = 1 << 7;
    /// Its last segment was a keep-alive.
    pub(in super::super) const KEPT_ALIVE: u16 = 1 << 8;
    /// Its last segment was a zero window probe.
    pub(in super::super) const PROBED: u16 = 1 << 9;
    /// Since its SYN it sent no ACK without: its window isn't scaled yet.
    pub(in super::super) const UNSCALED_YET: u16 = 1 << 10;
    /// The sequence number that it began with is known.
    pub(in super::super) const BASE_KNOWN: u16 = 1 << 11;
    /// It sent a SYN.
    pub(in super::super) const SYN: u16 = 1 << 12;
    /// It sent a FIN.
    pub(in super::super) const FIN: u16 = 1 << 13;
    /// Its SYN, or since its FIN that, was acknowledged.
    pub(in super::super) const ACKED: u16 = 1 << 14;
    /// One of its segments is being timed.
    pub(in super::super) const TIMED: u16 = 1 << 15;
}

impl Side {
    #[inline]
    pub(super) fn has(&self, mask: u16) -> bool {
        self.flags & mask == mask
    }

    #[inline]
    pub(super) fn put(&mut self, mask: u16, value: bool) {
        self.flags = self.flags & !mask | if value { mask } else { 0 };
    }

    #[inline]
    pub(super) fn duplicates(&self) -> u16 {
        self.flags & bits::DUPLICATES
    }

    #[inline]
    pub(super) fn set_duplicates(&mut self, duplicates: u16) {
        self.flags = self.flags & !bits::DUPLICATES | duplicates;
    }

    /// How far its windows are shifted; none when that isn't known.
    #[inline]
    pub(super) fn window_shift(&self) -> Option<u32> {
        if !self.has(bits::SCALE_KNOWN) {
            return None;
        }
        match self.flags & bits::SCALE {
            _ if self.has(bits::UNSCALED_YET) => Some(0),
            15 => Some(0),
            scale => Some(u32::from(scale)),
        }
    }

    /// Notes the scale of its windows; none: they are not scaled.
    pub(super) fn set_scale(&mut self, scale: Option<u8>) {
        let scale = u16::from(scale.unwrap_or(15)) & bits::SCALE;
        self.flags = self.flags & !bits::SCALE | scale | bits::SCALE_KNOWN;
    }

    pub(super) fn is_unscaled(&self) -> bool {
        self.has(bits::SCALE_KNOWN | bits::SCALE)
    }
}

/// Eight bits of a sequence number, for [`super::Slot`]'s `base`.
pub(super) fn fold(seq: u32) -> u8 {
    (seq.wrapping_mul(0x9e37_79b1) >> 24) as u8
}
