//! How far an address goes that starts at the first byte: the longest match, 0
//! for none.

use super::number_len;

/// Hexadecimal digits at the start, `most` at most.
fn hex_len(bytes: &[u8], most: usize) -> usize {
    bytes
        .iter()
        .take(most)
        .take_while(|b| b.is_ascii_hexdigit())
        .count()
}

/// A MAC address: six parts with one of `:`, `-`, `.` between, three parts of
/// four digits with dots between, or twelve digits.
pub(super) fn mac_len(bytes: &[u8]) -> usize {
    let parts = |separator: u8, count: usize, least: usize, most: usize| {
        let mut at = 0;
        for part in 0..count {
            if part > 0 {
                if bytes.get(at) != Some(&separator) {
                    return 0;
                }
                at += 1;
            }
            let len = hex_len(&bytes[at..], most);
            if len < least {
                return 0;
            }
            at += len;
        }
        at
    };
    let plain = if hex_len(bytes, 12) == 12 { 12 } else { 0 };
    [
        parts(b':', 6, 1, 2),
        parts(b'-', 6, 1, 2),
        parts(b'.', 6, 1, 2),
        parts(b'.', 3, 4, 4),
        plain,
    ]
    .into_iter()
    .max()
    .unwrap_or(0)
}

/// The bytes of what [`mac_len`] found.
pub(super) fn mac(text: &str) -> [u8; 6] {
    let mut mac = [0; 6];
    let mut rest = text.as_bytes();
    for byte in &mut mac {
        if let [b':' | b'-' | b'.', behind @ ..] = rest {
            rest = behind;
        }
        let (digits, behind) = rest.split_at(hex_len(rest, 2));
        *byte = std::str::from_utf8(digits)
            .ok()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
            .unwrap_or(0);
        rest = behind;
    }
    mac
}

/// Parts of a MAC address with a colon behind each: at least two.
pub(super) fn broken_mac_len(bytes: &[u8]) -> usize {
    let mut at = 0;
    let mut parts = 0;
    loop {
        let digits = hex_len(&bytes[at..], 2);
        let colons = bytes[at + digits..]
            .iter()
            .take_while(|b| **b == b':')
            .count();
        if digits == 0 || colons == 0 {
            return if parts >= 2 { at } else { 0 };
        }
        at += digits + colons;
        parts += 1;
    }
}

/// Two to four numbers with dots between.
pub(super) fn dotted_len(bytes: &[u8]) -> usize {
    let mut at = number_len(bytes);
    if at == 0 {
        return 0;
    }
    let mut parts = 1;
    while parts < 4 && bytes.get(at) == Some(&b'.') {
        let len = number_len(&bytes[at + 1..]);
        if len == 0 {
            break;
        }
        at += 1 + len;
        parts += 1;
    }
    if parts > 1 { at } else { 0 }
}

/// Exactly four numbers with dots between.
fn quad_len(bytes: &[u8]) -> usize {
    let len = dotted_len(bytes);
    let dots = bytes[..len].iter().filter(|b| **b == b'.').count();
    if dots == 3 { len } else { 0 }
}

/// An IPv6 address: eight groups, or up to seven with `::` somewhere; the last
/// two may be an IPv4 address.
pub(super) fn ipv6_len(bytes: &[u8]) -> usize {
    let mut best = 0;
    let mut at = 0;
    let mut groups = 0;
    let mut gap = false;
    if bytes.starts_with(b"::") {
        gap = true;
        at = 2;
        best = 2;
    }
    loop {
        if groups == 6 && !gap || groups <= 5 && gap {
            let quad = quad_len(&bytes[at..]);
            if quad > 0 {
                best = best.max(at + quad);
            }
        }
        let digits = hex_len(&bytes[at..], 4);
        if digits == 0 || groups == 8 || groups == 7 && gap {
            return best;
        }
        at += digits;
        groups += 1;
        if gap || groups == 8 {
            best = best.max(at);
        }
        if bytes[at..].starts_with(b"::") && !gap && groups <= 7 {
            gap = true;
            at += 2;
            best = best.max(at);
        } else if bytes.get(at) == Some(&b':') {
            at += 1;
        } else {
            return best;
        }
    }
}
