//! From what must hold of a frame to the tuples it is looked up by.

use weir_engine::rule::format::{
    CLASS_ARP, CLASS_IPV4, CLASS_IPV6, CLASS_RARP, FIELD_DST_PORT, FIELD_PROTOCOL, FIELD_SRC_PORT,
    MAX_TUPLES_PER_RULE, TUPLE_CONFIRM, TupleEntry,
};

use crate::facts::{ANY_PORT, Facts, Range, TRACKED};
use crate::optimize::Stops;

const TRANSPORTS: [u8; 3] = [6, 17, 132];

/// Frames that stop a program, at most, that tuples are compared with.
const MAX_STOPS: usize = 64;

/// The tuples of a cover, or none if it can't be looked up.
pub(crate) fn tuples(cover: &[Facts], stops: &Stops) -> Vec<TupleEntry> {
    let mut all = Vec::new();
    for facts in cover {
        let stopped = stops.len() > MAX_STOPS || stops.iter().any(|stop| stop.and(facts).is_some());
        let Some(found) = of_facts(facts, facts.exact && !stopped) else {
            return Vec::new();
        };
        all.extend(found);
        if all.len() > 16 * MAX_TUPLES_PER_RULE as usize {
            return Vec::new();
        }
    }
    let all = minimal(any_transport(all));
    if all.len() > MAX_TUPLES_PER_RULE as usize {
        Vec::new()
    } else {
        all
    }
}

/// Bits of [`Facts`] that a tuple has taken over.
struct Rest<'a> {
    facts: &'a Facts,
    mask: [u8; TRACKED],
}

impl Rest<'_> {
    /// Leading bits that are known from byte `at` on, of `count` bytes. Only words
    /// that were loaded whole count: of a frame that ends within one, the engine
    /// sees none of it.
    fn prefix(&mut self, at: usize, count: usize) -> (u8, [u8; 16]) {
        let mut address = [0; 16];
        let mut bits = 0;
        for (byte, known) in (at..at + count).zip(&mut address) {
            let word = at + (byte - at) / 4 * 4;
            if self.facts.seen >> word & 0xf != 0xf {
                break;
            }
            let leading = self.facts.mask[byte].leading_ones();
            let mask = !0xffu8.checked_shr(leading).unwrap_or(0);
            *known = self.facts.value[byte] & mask;
            self.mask[byte] &= !mask;
            bits += leading as u8;
            if leading < 8 {
                break;
            }
        }
        (bits, address)
    }

    fn byte(&mut self, at: usize) -> Option<u8> {
        let value = self.facts.known(at, 1)?;
        self.mask[at] = 0;
        u8::try_from(value).ok()
    }

    fn is_empty(&self) -> bool {
        self.mask.iter().all(|mask| *mask == 0)
    }
}

fn of_facts(facts: &Facts, exact: bool) -> Option<Vec<TupleEntry>> {
    let mut rest = Rest {
        facts,
        mask: facts.mask,
    };
    let class = match facts.known(12, 2)? {
        0x0800 => CLASS_IPV4,
        0x86dd => CLASS_IPV6,
        0x0806 => CLASS_ARP,
        0x8035 => CLASS_RARP,
        _ => return None,
    };
    rest.mask[12..14].fill(0);
    let mut tuple = TupleEntry {
        class,
        fields: 0,
        src_prefix: 0,
        dst_prefix: 0,
        protocol: 0,
        flags: 0,
        src_port: 0,
        dst_port: 0,
        reserved: 0,
        src: [0; 16],
        dst: [0; 16],
    };
    let (protocol_at, src, dst, len) = match class {
        CLASS_IPV4 => (Some(23), 26, 30, 4),
        CLASS_IPV6 => (Some(20), 22, 38, 16),
        _ => (None, 28, 38, 4),
    };
    if let Some(protocol) = protocol_at.and_then(|at| rest.byte(at)) {
        tuple.fields |= FIELD_PROTOCOL;
        tuple.protocol = protocol;
    }
    (tuple.src_prefix, tuple.src) = rest.prefix(src, len);
    (tuple.dst_prefix, tuple.dst) = rest.prefix(dst, len);
    let known_transport =
        tuple.fields & FIELD_PROTOCOL != 0 && TRANSPORTS.contains(&tuple.protocol);
    let (mut ports, others) = match class {
        CLASS_IPV6 => (facts.ports6, facts.ports4),
        _ => (facts.ports4, facts.ports6),
    };
    let mut exact = exact && others == [ANY_PORT; 2];
    let has_ports = match class {
        CLASS_IPV4 => {
            let first = facts.mask[20] & 0x1f == 0x1f
                && facts.value[20] & 0x1f == 0
                && facts.known(21, 1) == Some(0);
            known_transport && first
        }
        CLASS_IPV6 => known_transport,
        _ => false,
    };
    if !has_ports && ports != [ANY_PORT; 2] {
        ports = [ANY_PORT; 2];
        exact = false;
    }
    let size = |range: Range| {
        if range == ANY_PORT {
            1
        } else {
            u32::from(range.1 - range.0) + 1
        }
    };
    while size(ports[0]).saturating_mul(size(ports[1])) > MAX_TUPLES_PER_RULE {
        let wider = usize::from(size(ports[1]) > size(ports[0]));
        ports[wider] = ANY_PORT;
        exact = false;
    }
    if class == CLASS_IPV4 && ports != [ANY_PORT; 2] {
        // That it is no later fragment is said by its having ports.
        rest.mask[20] &= !0x1f;
        rest.mask[21] = 0;
    }
    if !exact || !rest.is_empty() {
        tuple.flags |= TUPLE_CONFIRM;
    }
    let mut tuples = Vec::new();
    for src_port in each(ports[0]) {
        for dst_port in each(ports[1]) {
            let mut tuple = tuple;
            if let Some(port) = src_port {
                tuple.fields |= FIELD_SRC_PORT;
                tuple.src_port = port;
            }
            if let Some(port) = dst_port {
                tuple.fields |= FIELD_DST_PORT;
                tuple.dst_port = port;
            }
            tuples.push(tuple);
        }
    }
    Some(tuples)
}

/// The ports of a range; one `None` for any.
fn each(range: Range) -> impl Iterator<Item = Option<u16>> {
    let any = range == ANY_PORT;
    any.then_some(None)
        .into_iter()
        .chain((range.0..=range.1).filter(move |_| !any).map(Some))
}

/// Makes one tuple of three that differ in nothing but the transport: only TCP,
/// UDP and SCTP have ports.
fn any_transport(tuples: Vec<TupleEntry>) -> Vec<TupleEntry> {
    let plain = |tuple: &TupleEntry| TupleEntry {
        fields: tuple.fields & !FIELD_PROTOCOL,
        protocol: 0,
        flags: 0,
        ..*tuple
    };
    let ported = |tuple: &TupleEntry| {
        tuple.fields & FIELD_PROTOCOL != 0
            && tuple.fields & (FIELD_SRC_PORT | FIELD_DST_PORT) != 0
            && TRANSPORTS.contains(&tuple.protocol)
    };
    let mut result: Vec<TupleEntry> = Vec::with_capacity(tuples.len());
    for tuple in &tuples {
        let all = |flags: &mut u8| {
            TRANSPORTS.iter().all(|transport| {
                let same = tuples.iter().find(|other| {
                    ported(other) && other.protocol == *transport && plain(other) == plain(tuple)
                });
                *flags |= same.map_or(0, |other| other.flags);
                same.is_some()
            })
        };
        let mut flags = 0;
        if ported(tuple) && all(&mut flags) {
            result.push(TupleEntry {
                flags,
                ..plain(tuple)
            });
        } else {
            result.push(*tuple);
        }
    }
    result
}

/// Leaves out what another tuple says too; in a stable order.
pub(crate) fn minimal(tuples: Vec<TupleEntry>) -> Vec<TupleEntry> {
    let mut result: Vec<TupleEntry> = Vec::with_capacity(tuples.len());
    for (index, tuple) in tuples.iter().enumerate() {
        let covered = tuples.iter().enumerate().any(|(other_index, other)| {
            let says_as_much = other.flags & TUPLE_CONFIRM == 0 || tuple.flags & TUPLE_CONFIRM != 0;
            let equal = contains(tuple, other);
            other_index != index
                && says_as_much
                && contains(other, tuple)
                && (!equal || other.flags != tuple.flags || other_index < index)
        });
        if !covered {
            result.push(*tuple);
        }
    }
    result
}

/// Whether every frame that matches `inner` matches `outer`.
pub(crate) fn contains(outer: &TupleEntry, inner: &TupleEntry) -> bool {
    let field = |bit: u8, same: bool| outer.fields & bit == 0 || inner.fields & bit != 0 && same;
    outer.class == inner.class
        && field(FIELD_PROTOCOL, outer.protocol == inner.protocol)
        && field(FIELD_SRC_PORT, outer.src_port == inner.src_port)
        && field(FIELD_DST_PORT, outer.dst_port == inner.dst_port)
        && outer.src_prefix <= inner.src_prefix
        && outer.dst_prefix <= inner.dst_prefix
        && under(inner.src, outer.src_prefix) == outer.src
        && under(inner.dst, outer.dst_prefix) == outer.dst
}

/// The leading bits of an address.
pub(crate) fn under(address: [u8; 16], prefix: u8) -> [u8; 16] {
    let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
    (u128::from_be_bytes(address) & mask).to_be_bytes()
}
