//! What tuples look at: the fields of a frame, of a tuple and of a shape, all in
//! the same words, so that a frame is compared with a tuple by masks alone.
//!
//! Word 0 holds both addresses where they have 32 bits (source first); words 0
//! to 3 where they have 128. Word 4 holds protocol and ports.

use super::bpf::header_len;
use super::format::{
    CLASS_ARP, CLASS_IPV4, CLASS_IPV6, CLASS_RARP, FIELD_DST_PORT, FIELD_PROTOCOL, FIELD_SRC_PORT,
    TupleEntry,
};
use super::program::Shape;
use super::view::View;

/// Fields as words.
pub(super) type Words = [u64; 5];

/// TCP, UDP and SCTP: what has ports as pcap-filter sees it.
const WITH_PORTS: [u8; 3] = [6, 17, 132];

/// Bits of IPv4's fragment field that are not 0 in later fragments.
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// A class of tuples, by what it has to do with frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Ipv4,
    Ipv6,
    Arp,
    Rarp,
}

/// How many classes there are.
pub(super) const CLASSES: usize = 4;

impl Class {
    pub(super) const fn from_format(class: u8) -> Option<Self> {
        match class {
            CLASS_IPV4 => Some(Self::Ipv4),
            CLASS_IPV6 => Some(Self::Ipv6),
            CLASS_ARP => Some(Self::Arp),
            CLASS_RARP => Some(Self::Rarp),
            _ => None,
        }
    }

    const fn of_ethertype(ethertype: u16) -> Option<Self> {
        match ethertype {
            0x0800 => Some(Self::Ipv4),
            0x86dd => Some(Self::Ipv6),
            0x0806 => Some(Self::Arp),
            0x8035 => Some(Self::Rarp),
            _ => None,
        }
    }

    /// Whether its addresses have 128 bits.
    pub(super) const fn is_wide(self) -> bool {
        matches!(self, Self::Ipv6)
    }

    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

/// A set of fields: those a frame has at hand, or those a shape needs. One bit
/// for each 32 bits of either address, since code loads them so: what is at hand
/// of half an address may be all that a prefix needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fields(u32);

impl Fields {
    const NONE: Self = Fields(0);
    const PROTOCOL: Self = Fields(1 << 8);
    const SRC_PORT: Self = Fields(1 << 9);
    const DST_PORT: Self = Fields(1 << 10);
    const PORTS: Self = Self::SRC_PORT.and(Self::DST_PORT);
    /// Both addresses of 32 bits.
    const NARROW: Self = Self::source_word(0).and(Self::destination_word(0));
    /// Both addresses of 128 bits.
    const WIDE: Self = Fields(0xff);

    const fn source_word(index: u32) -> Self {
        Fields(1u32.wrapping_shl(index & 3))
    }

    const fn destination_word(index: u32) -> Self {
        Fields(0x10u32.wrapping_shl(index & 3))
    }

    const fn and(self, more: Self) -> Self {
        Fields(self.0 | more.0)
    }

    /// Whether `self` has all that `needed` has.
    pub(super) const fn cover(self, needed: Self) -> bool {
        needed.0 & !self.0 == 0
    }

    pub(super) const fn to_bits(self) -> u32 {
        self.0
    }

    pub(super) const fn from_bits(bits: u32) -> Self {
        Fields(bits)
    }

    /// What a frame must have at hand to match any tuple of a shape.
    pub(super) fn needed(shape: Shape) -> Self {
        let mut needed = Self::NONE;
        for index in 0..4u32 {
            let bits_before = index.wrapping_mul(32);
            if u32::from(shape.src_prefix) > bits_before {
                needed = needed.and(Self::source_word(index));
            }
            if u32::from(shape.dst_prefix) > bits_before {
                needed = needed.and(Self::destination_word(index));
            }
        }
        for (bit, field) in [
            (FIELD_PROTOCOL, Self::PROTOCOL),
            (FIELD_SRC_PORT, Self::SRC_PORT),
            (FIELD_DST_PORT, Self::DST_PORT),
        ] {
            if shape.fields & bit != 0 {
                needed = needed.and(field);
            }
        }
        needed
    }
}

/// What tuples can see of a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    pub(super) class: Class,
    pub(super) words: Words,
    pub(super) fields: Fields,
    /// Whether all the frame's fields are at hand, so that what a tuple says
    /// needs no code to confirm it.
    pub(super) whole: bool,
}

impl Key {
    /// `None`: no tuple can match this frame.
    #[inline(always)]
    pub(super) fn of(view: &View<'_>) -> Option<Self> {
        let prefix = view.prefix();
        if let Some(bytes) = prefix.first_chunk::<38>() {
            // The usual IPv4 header, without options.
            if (bytes[12], bytes[13], bytes[14] & 0x0f) == (0x08, 0x00, 5) {
                return Some(Self::of_ipv4(bytes));
            }
            if let Some(bytes) = prefix.first_chunk::<58>()
                && (bytes[12], bytes[13]) == (0x86, 0xdd)
            {
                return Some(Self::of_ipv6(bytes));
            }
        }
        Self::of_any(view)
    }

    #[inline(always)]
    fn of_ipv4(bytes: &[u8; 38]) -> Self {
        let b = bytes;
        let addresses = [b[26], b[27], b[28], b[29], b[30], b[31], b[32], b[33]];
        let ports = [b[34], b[35], b[36], b[37]];
        let fragment = u16::from_be_bytes([b[20], b[21]]);
        let has_ports = WITH_PORTS.contains(&b[23]) && fragment & FRAGMENT_OFFSET == 0;
        let fields = Fields::NARROW.and(Fields::PROTOCOL);
        Key {
            class: Class::Ipv4,
            words: [
                u64::from_be_bytes(addresses),
                0,
                0,
                0,
                rest(b[23], has_ports, ports),
            ],
            fields: if has_ports {
                fields.and(Fields::PORTS)
            } else {
                fields
            },
            whole: true,
        }
    }

    #[inline(always)]
    fn of_ipv6(bytes: &[u8; 58]) -> Self {
        let address = |at: usize| {
            let word = bytes.get(at..).and_then(<[u8]>::first_chunk);
            word.copied().map_or(0, u64::from_be_bytes)
        };
        let ports = [bytes[54], bytes[55], bytes[56], bytes[57]];
        let has_ports = WITH_PORTS.contains(&bytes[20]);
        let fields = Fields::WIDE.and(Fields::PROTOCOL);
        let rest = rest(bytes[20], has_ports, ports);
        Key {
            class: Class::Ipv6,
            words: [address(22), address(30), address(38), address(46), rest],
            fields: if has_ports {
                fields.and(Fields::PORTS)
            } else {
                fields
            },
            whole: true,
        }
    }

    /// Of any frame, however it is cut or spread.
    #[cold]
    fn of_any(view: &View<'_>) -> Option<Self> {
        let class = Class::of_ethertype(u16::from_be_bytes(view.load(12)?))?;
        let mut key = Key {
            class,
            words: [0; 5],
            fields: Fields::NONE,
            whole: true,
        };
        match class {
            Class::Ipv4 => {
                key.narrow_addresses(view, 26, 30);
                let fragment = view.load(20).map(u16::from_be_bytes);
                let later = fragment.is_none_or(|field| field & FRAGMENT_OFFSET != 0);
                let first = view.load(14).map(|[byte]: [u8; 1]| u32::from(byte));
                let header = first.map(header_len);
                key.whole &= fragment.is_some() && header.is_some();
                let ports = header.filter(|_| !later);
                key.upper(view, 23, ports.and_then(|len| len.checked_add(14)));
            }
            Class::Ipv6 => {
                key.wide_addresses(view);
                key.upper(view, 20, Some(54));
            }
            Class::Arp | Class::Rarp => key.narrow_addresses(view, 28, 38),
        }
        Some(key)
    }

    fn narrow_addresses(&mut self, view: &View<'_>, source: u32, destination: u32) {
        let source = self.loaded(view, source, Fields::source_word(0));
        let destination = self.loaded(view, destination, Fields::destination_word(0));
        let [word, ..] = &mut self.words;
        *word = high_low(source, destination);
    }

    fn wide_addresses(&mut self, view: &View<'_>) {
        let s = Fields::source_word;
        let d = Fields::destination_word;
        let [w0, w1, w2, w3, _] = [
            high_low(self.loaded(view, 22, s(0)), self.loaded(view, 26, s(1))),
            high_low(self.loaded(view, 30, s(2)), self.loaded(view, 34, s(3))),
            high_low(self.loaded(view, 38, d(0)), self.loaded(view, 42, d(1))),
            high_low(self.loaded(view, 46, d(2)), self.loaded(view, 50, d(3))),
            0,
        ];
        self.words = [w0, w1, w2, w3, 0];
    }

    /// 32 bits of an address, which become a field at hand if they are.
    fn loaded(&mut self, view: &View<'_>, at: u32, field: Fields) -> u32 {
        match view.load(at) {
            Some(bytes) => {
                self.fields = self.fields.and(field);
                u32::from_be_bytes(bytes)
            }
            None => {
                self.whole = false;
                0
            }
        }
    }

    /// Protocol and ports; `ports`: where they would be.
    fn upper(&mut self, view: &View<'_>, protocol: u32, ports: Option<u32>) {
        let Some([protocol]) = view.load(protocol) else {
            self.whole = false;
            return;
        };
        self.fields = self.fields.and(Fields::PROTOCOL);
        let mut found = [0; 4];
        if let Some(at) = ports.filter(|_| WITH_PORTS.contains(&protocol)) {
            let [source, destination] =
                [Some(at), at.checked_add(2)].map(|at| at.and_then(|at| view.load::<2>(at)));
            self.whole &= source.is_some() && destination.is_some();
            for (port, field) in [(source, Fields::SRC_PORT), (destination, Fields::DST_PORT)] {
                if port.is_some() {
                    self.fields = self.fields.and(field);
                }
            }
            let [s0, s1] = source.unwrap_or_default();
            let [d0, d1] = destination.unwrap_or_default();
            found = [s0, s1, d0, d1];
        }
        let [.., word] = &mut self.words;
        *word = rest(protocol, true, found);
    }
}

/// The fields of a tuple as words.
pub(super) fn of_tuple(tuple: &TupleEntry) -> Words {
    let [s0, s1] = tuple.src_port.to_be_bytes();
    let [d0, d1] = tuple.dst_port.to_be_bytes();
    let rest = rest(tuple.protocol, true, [s0, s1, d0, d1]);
    addresses(
        tuple.class,
        u128::from_be_bytes(tuple.src),
        u128::from_be_bytes(tuple.dst),
        rest,
    )
}

/// The bits of a frame's words that a shape looks at.
pub(super) fn mask(shape: Shape) -> Words {
    let leading = |bits: u8| !u128::MAX.checked_shr(u32::from(bits)).unwrap_or(0);
    let when = |field: u8, mask: u64| {
        if shape.fields & field != 0 { mask } else { 0 }
    };
    let rest = when(FIELD_PROTOCOL, 0xff << 32)
        | when(FIELD_SRC_PORT, 0xffff << 16)
        | when(FIELD_DST_PORT, 0xffff);
    addresses(
        shape.class,
        leading(shape.src_prefix),
        leading(shape.dst_prefix),
        rest,
    )
}

/// Words out of two addresses in the order of the wire, the narrow ones in the
/// first 32 bits, and word 4.
fn addresses(class: u8, source: u128, destination: u128, rest: u64) -> Words {
    let [s_high, s_low] = halves(source);
    let [d_high, d_low] = halves(destination);
    if class == CLASS_IPV6 {
        [s_high, s_low, d_high, d_low, rest]
    } else {
        let upper = 0xffff_ffff_0000_0000;
        [s_high & upper | d_high >> 32, 0, 0, 0, rest]
    }
}

const fn halves(address: u128) -> [u64; 2] {
    [(address >> 64) as u64, address as u64]
}

fn high_low(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

fn rest(protocol: u8, has_ports: bool, ports: [u8; 4]) -> u64 {
    let ports = if has_ports {
        u32::from_be_bytes(ports)
    } else {
        0
    };
    u64::from(protocol) << 32 | u64::from(ports)
}

/// Whether no bit of an address behind its first `prefix` ones is set.
pub(super) fn is_masked(address: &[u8; 16], prefix: u8) -> bool {
    let behind = u128::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
    u128::from_be_bytes(*address) & behind == 0
}
