//! Frames of a small world, so that rules and frames often meet.

use proptest::prelude::*;
use weir_engine::rule::{Far, View};

pub(crate) const V4: [[u8; 4]; 5] = [
    [10, 0, 0, 1],
    [10, 0, 0, 2],
    [10, 0, 1, 2],
    [10, 128, 0, 1],
    [192, 168, 0, 1],
];
pub(crate) const V6: [[u8; 16]; 4] = [
    [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
    [0x20, 1, 0xd, 0xb8, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1],
    [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0xff, 0xfe, 0, 0, 1],
];
pub(crate) const PORTS: [u16; 4] = [53, 80, 443, 50_000];
pub(crate) const PROTOCOLS: [u8; 6] = [6, 17, 132, 1, 58, 44];

fn pick<T: Copy + std::fmt::Debug + 'static, const N: usize>(
    all: [T; N],
) -> impl Strategy<Value = T> + Clone {
    (0..N).prop_map(move |at| all[at])
}

pub(crate) fn v4() -> impl Strategy<Value = [u8; 4]> + Clone {
    pick(V4)
}

pub(crate) fn v6() -> impl Strategy<Value = [u8; 16]> + Clone {
    pick(V6)
}

pub(crate) fn port() -> impl Strategy<Value = u16> + Clone {
    pick(PORTS)
}

pub(crate) fn protocol() -> impl Strategy<Value = u8> + Clone {
    pick(PROTOCOLS)
}

/// A frame, how much of it is at hand, and where its first piece ends.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) bytes: Vec<u8>,
    pub(crate) captured: usize,
    pub(crate) prefix: usize,
}

pub(crate) struct Rest<'a>(&'a [u8]);

impl Far for Rest<'_> {
    fn copy_to(&self, offset: u32, dst: &mut [u8]) -> usize {
        let from = self.0.get(offset as usize..).unwrap_or_default();
        let count = from.len().min(dst.len());
        dst[..count].copy_from_slice(&from[..count]);
        count
    }
}

impl Frame {
    pub(crate) fn with_view<T>(&self, use_it: impl FnOnce(&View<'_>) -> T) -> T {
        let captured = &self.bytes[..self.captured];
        let prefix = &captured[..self.prefix];
        let lengths = [captured.len(), self.bytes.len()].map(|n| n.try_into().unwrap());
        use_it(&View::new(prefix, lengths[0], lengths[1], &Rest(captured)))
    }
}

pub(crate) fn frame() -> impl Strategy<Value = Frame> {
    let bytes = prop_oneof![
        6 => ipv4(),
        4 => ipv6(),
        2 => arp(),
        1 => ipv4().prop_map(tagged),
        1 => proptest::collection::vec(any::<u8>(), 0..80),
    ];
    // Most are whole and in one piece; others are cut or spread anywhere.
    (bytes, any::<(u8, u8, bool, bool)>()).prop_map(|(bytes, (cut, split, cuts, splits))| {
        let captured = if cuts && cut % 2 == 0 {
            bytes.len() * usize::from(cut) / 255
        } else {
            bytes.len()
        };
        let prefix = if splits && split % 2 == 0 {
            captured * usize::from(split) / 255
        } else {
            captured
        };
        Frame {
            bytes,
            captured,
            prefix,
        }
    })
}

fn ethernet(ethertype: u16) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    bytes.extend(ethertype.to_be_bytes());
    bytes
}

fn upper() -> impl Strategy<Value = Vec<u8>> {
    (port(), port(), 0usize..24).prop_map(|(source, destination, more)| {
        let mut bytes = [source.to_be_bytes(), destination.to_be_bytes()].concat();
        bytes.resize(4 + more, 0x5a);
        bytes
    })
}

prop_compose! {
    fn ipv4()(
        source in v4(),
        destination in v4(),
        protocol in protocol(),
        header_words in prop_oneof![6 => Just(5u8), 2 => 6u8..16, 1 => 0u8..5],
        fragment in prop_oneof![6 => Just(0u16), 1 => Just(0x2000), 1 => Just(0x00b9), 1 => Just(0x4000)],
        upper in upper(),
    ) -> Vec<u8> {
        let mut bytes = ethernet(0x0800);
        bytes.extend([0x40 | header_words, 0, 0, 60, 0, 1]);
        bytes.extend(fragment.to_be_bytes());
        bytes.extend([64, protocol, 0, 0]);
        bytes.extend(source);
        bytes.extend(destination);
        bytes.resize(14 + usize::from(header_words.max(5)) * 4, 1);
        bytes.extend(upper);
        bytes
    }
}

prop_compose! {
    fn ipv6()(
        source in v6(),
        destination in v6(),
        protocol in protocol(),
        upper in upper(),
    ) -> Vec<u8> {
        let mut bytes = ethernet(0x86dd);
        bytes.extend([0x60, 0, 0, 0, 0, 20, protocol, 64]);
        bytes.extend(source);
        bytes.extend(destination);
        bytes.extend(upper);
        bytes
    }
}

prop_compose! {
    fn arp()(reverse: bool, sender in v4(), target in v4()) -> Vec<u8> {
        let mut bytes = ethernet(if reverse { 0x8035 } else { 0x0806 });
        bytes.extend([0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 2]);
        bytes.extend(sender);
        bytes.extend([0; 6]);
        bytes.extend(target);
        bytes
    }
}

fn tagged(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.splice(12..12, [0x81, 0, 0, 7]);
    bytes
}
