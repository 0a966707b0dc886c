//! What is known of a frame: bits of its first bytes, and ports.

use crate::node::{Alu, Compare, Node, Operand, Size, Step, Test};

/// Bytes from the start of a frame whose bits are kept track of.
pub(crate) const TRACKED: usize = 80;
/// Where IPv4's header starts in a frame without VLAN tag.
pub(crate) const HEADER: u32 = 14;

/// Ports from a first to a last.
pub(crate) type Range = (u16, u16);
pub(crate) const ANY_PORT: Range = (0, u16::MAX);

/// All of these hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Bits that are known.
    pub(crate) mask: [u8; TRACKED],
    /// Their values; bits that aren't known are 0.
    pub(crate) value: [u8; TRACKED],
    /// Bytes that were loaded, one bit each: a frame has them.
    pub(crate) seen: u128,
    /// Halves behind an IPv4 header at [`HEADER`]: source and destination port.
    pub(crate) ports4: [Range; 2],
    /// Halves at 54 and 56, behind IPv6's fixed header.
    pub(crate) ports6: [Range; 2],
    /// Whether nothing was left out: what fulfils the rest fulfils the test.
    pub(crate) exact: bool,
}

impl Facts {
    /// Nothing is known.
    pub(crate) fn none() -> Self {
        Self {
            mask: [0; TRACKED],
            value: [0; TRACKED],
            seen: 0,
            ports4: [ANY_PORT; 2],
            ports6: [ANY_PORT; 2],
            exact: true,
        }
    }

    fn inexact() -> Self {
        Self {
            exact: false,
            ..Self::none()
        }
    }

    /// Both hold; `None` if they can't.
    pub(crate) fn and(&self, other: &Self) -> Option<Self> {
        let mut both = self.clone();
        for at in 0..TRACKED {
            if (self.value[at] ^ other.value[at]) & self.mask[at] & other.mask[at] != 0 {
                return None;
            }
            both.mask[at] |= other.mask[at];
            both.value[at] |= other.value[at];
        }
        for (mine, its) in both.ports4.iter_mut().zip(other.ports4) {
            *mine = common(*mine, its)?;
        }
        for (mine, its) in both.ports6.iter_mut().zip(other.ports6) {
            *mine = common(*mine, its)?;
        }
        both.seen |= other.seen;
        both.exact &= other.exact;
        Some(both)
    }

    /// One of them holds: what both have in common.
    pub(crate) fn or(&self, other: &Self) -> Self {
        let mut either = self.clone();
        for at in 0..TRACKED {
            let same = !(self.value[at] ^ other.value[at]) & self.mask[at] & other.mask[at];
            either.mask[at] = same;
            either.value[at] &= same;
        }
        for (mine, its) in either.ports4.iter_mut().zip(other.ports4) {
            *mine = (mine.0.min(its.0), mine.1.max(its.1));
        }
        for (mine, its) in either.ports6.iter_mut().zip(other.ports6) {
            *mine = (mine.0.min(its.0), mine.1.max(its.1));
        }
        either.seen &= other.seen;
        either.exact &= other.exact;
        either
    }

    /// The bytes from `at` on, if all their bits are known.
    pub(crate) fn known(&self, at: usize, count: usize) -> Option<u32> {
        let range = at..at + count;
        let whole = self.mask[range.clone()].iter().all(|mask| *mask == 0xff);
        whole.then(|| {
            self.value[range]
                .iter()
                .fold(0, |all, byte| all << 8 | u32::from(*byte))
        })
    }

    /// What a load and a mask being a number says.
    fn bits(size: Size, at: u32, mask: u32, value: u32) -> Self {
        let mut facts = Self::none();
        let count = size.bytes() as usize;
        let Some(start) = usize::try_from(at).ok().filter(|at| at + count <= TRACKED) else {
            return Self::inexact();
        };
        facts.seen = ((1 << count) - 1) << start;
        let first = 4 - count;
        facts.mask[start..start + count].copy_from_slice(&mask.to_be_bytes()[first..]);
        facts.value[start..start + count].copy_from_slice(&(value & mask).to_be_bytes()[first..]);
        facts
    }
}

fn common(one: Range, other: Range) -> Option<Range> {
    let both = (one.0.max(other.0), one.1.min(other.1));
    (both.0 <= both.1).then_some(both)
}

/// A number of a frame that facts can be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Bits {
        size: Size,
        at: u32,
        mask: u32,
    },
    /// Behind IPv4's header; which of the ports.
    Port4(usize),
    Port6(usize),
}

fn field(steps: &[Step]) -> Option<Field> {
    Some(match *steps {
        [
            Step::Load {
                size: Size::Half,
                at: at @ (54 | 56),
            },
        ] => Field::Port6((at as usize - 54) / 2),
        [Step::Load { size, at }] => Field::Bits {
            size,
            at,
            mask: size.mask(),
        },
        [Step::Load { size, at }, Step::AluK(Alu::And, mask)] => Field::Bits {
            size,
            at,
            mask: mask & size.mask(),
        },
        [
            Step::HeaderLen { at: HEADER },
            Step::LoadX {
                size: Size::Half,
                at: at @ (14 | 16),
            },
        ] => Field::Port4((at as usize - 14) / 2),
        _ => return None,
    })
}

/// What is known when a test holds, or doesn't; `None` if that can't be.
pub(crate) fn of_test(test: &Test, holds: bool) -> Option<Facts> {
    let (Some(field), Operand::K(k)) = (field(&test.steps), test.operand) else {
        return Some(Facts::inexact());
    };
    match field {
        Field::Bits { size, at, mask } => of_bits(size, at, mask, test.compare, k, holds),
        Field::Port4(which) => of_port(test.compare, k, holds).map(|(range, exact)| {
            let mut facts = Facts {
                exact,
                ..Facts::none()
            };
            facts.ports4[which] = range;
            facts
        }),
        Field::Port6(which) => of_port(test.compare, k, holds).map(|(range, exact)| {
            let mut facts = Facts {
                exact,
                ..Facts::none()
            };
            facts.ports6[which] = range;
            facts
        }),
    }
}

fn of_bits(size: Size, at: u32, mask: u32, compare: Compare, k: u32, holds: bool) -> Option<Facts> {
    let never = |impossible: bool| {
        if impossible {
            None
        } else {
            Some(Facts::none())
        }
    };
    match (compare, holds) {
        (Compare::Equal, true) if k & !mask != 0 => None,
        (Compare::Equal, true) => Some(Facts::bits(size, at, mask, k)),
        (Compare::Equal, false) if k & !mask != 0 => Some(Facts::none()),
        (Compare::Equal, false) if mask == 0 => None,
        (Compare::Equal, false) if mask.is_power_of_two() => {
            Some(Facts::bits(size, at, mask, !k & mask))
        }
        (Compare::Equal, false) => Some(Facts::inexact()),
        (Compare::AnyBit, _) if k & mask == 0 => never(holds),
        (Compare::AnyBit, true) if (k & mask).is_power_of_two() => {
            Some(Facts::bits(size, at, k & mask, k & mask))
        }
        (Compare::AnyBit, true) => Some(Facts::inexact()),
        (Compare::AnyBit, false) => Some(Facts::bits(size, at, k & mask, 0)),
        // The largest value is the mask.
        (Compare::GreaterEqual, _) if k == 0 => never(!holds),
        (Compare::GreaterEqual, _) if k > mask => never(holds),
        (Compare::GreaterEqual, holds) => Some(at_least(size, at, mask, k, holds)),
        (Compare::Greater, _) if k >= mask => never(holds),
        (Compare::Greater, holds) => Some(at_least(size, at, mask, k + 1, holds)),
    }
}

/// At least `k`, or less; exact where that is a question of leading bits.
fn at_least(size: Size, at: u32, mask: u32, k: u32, holds: bool) -> Facts {
    let whole = size.mask();
    if mask != whole {
        return Facts::inexact();
    }
    if holds {
        // 224 and more: the top three bits are set.
        let above = whole - k;
        if (above + 1).is_power_of_two() {
            return Facts::bits(size, at, whole & !above, whole);
        }
    } else if k.is_power_of_two() {
        return Facts::bits(size, at, whole & !(k - 1), 0);
    }
    Facts::inexact()
}

/// The ports a comparison leaves, and whether it leaves exactly those.
fn of_port(compare: Compare, k: u32, holds: bool) -> Option<(Range, bool)> {
    let Ok(port) = u16::try_from(k) else {
        // No port is that large.
        let any = match compare {
            Compare::Equal | Compare::Greater | Compare::GreaterEqual => !holds,
            Compare::AnyBit => return Some((ANY_PORT, false)),
        };
        return any.then_some((ANY_PORT, true));
    };
    let below = port.checked_sub(1);
    let above = port.checked_add(1);
    match (compare, holds) {
        (Compare::Equal, true) => Some(((port, port), true)),
        (Compare::Equal, false) | (Compare::AnyBit, _) => Some((ANY_PORT, false)),
        (Compare::GreaterEqual, true) => Some(((port, u16::MAX), true)),
        (Compare::GreaterEqual, false) => below.map(|last| ((0, last), true)),
        (Compare::Greater, true) => above.map(|first| ((first, u16::MAX), true)),
        (Compare::Greater, false) => Some(((0, port), true)),
    }
}

/// Alternatives, at most, that a cover is made of; what would need more, is
/// taken to match anything.
const MAX_COVER: usize = 512;

/// Facts of which one set at least holds for each frame that a node matches
/// (or, where `holds` is false, doesn't match). None: no frame.
pub(crate) fn cover(node: &Node, holds: bool) -> Vec<Facts> {
    match (node, holds) {
        (Node::Const(value), _) if *value == holds => vec![Facts::none()],
        (Node::Const(_), _) => Vec::new(),
        (Node::Test(test), _) => of_test(test, holds).into_iter().collect(),
        (Node::Not(inner), _) => cover(inner, !holds),
        (Node::And(nodes), true) | (Node::Or(nodes), false) => {
            let mut all = vec![Facts::none()];
            for node in nodes {
                let next = cover(node, holds);
                if all.len() * next.len() > MAX_COVER {
                    // Leaving a condition out keeps the rest necessary.
                    all.iter_mut().for_each(|facts| facts.exact = false);
                    continue;
                }
                all = all
                    .iter()
                    .flat_map(|a| next.iter().filter_map(|b| a.and(b)))
                    .collect();
            }
            all
        }
        (Node::Or(nodes), true) | (Node::And(nodes), false) => {
            let mut any = Vec::new();
            for node in nodes {
                any.extend(cover(node, holds));
                if any.len() > MAX_COVER {
                    return vec![Facts::inexact()];
                }
            }
            any
        }
    }
}
