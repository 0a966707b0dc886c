//! Text to tokens, by the rules of pcap-filter's scanner: the longest match
//! wins, and of equally long ones the first kind in [`next_kind`]'s order.

mod address;
mod words;

use std::net::Ipv6Addr;
use std::ops::Range;

pub(crate) use words::{Proto, Word};

/// One token and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) span: Range<usize>,
}

/// What a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A word of the language.
    Word(Word),
    /// A number, or a word that stands for one, as `tcp-syn` does.
    Number(u32),
    /// Two to four numbers with dots between.
    Dotted,
    /// An IPv6 address.
    Ipv6(Ipv6Addr),
    /// A MAC address.
    Mac([u8; 6]),
    /// Any other name; of an escaped one the text behind the backslash.
    Name(String),
    /// `( ) [ ] :`
    Punct(u8),
    /// An operator of arithmetic.
    Op(Op),
    /// A comparison.
    Compare(Compare),
    /// Nothing that could be a token, and why.
    Bad(String),
    /// The end of the text.
    End,
}

/// Operators between numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    And,
    Or,
    Xor,
    Shl,
    Shr,
}

/// Comparisons of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    Equal,
    NotEqual,
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
}

/// Splits a text into its tokens; the last is [`Kind::End`].
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let bytes = text.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if matches!(byte, b' ' | b'\r' | b'\n' | b'\t') {
            at += 1;
            continue;
        }
        let (kind, len) = next_kind(text, at);
        tokens.push(Token {
            kind,
            span: at..at + len,
        });
        at += len;
    }
    tokens.push(Token {
        kind: Kind::End,
        span: text.len()..text.len(),
    });
    tokens
}

/// The token that starts at a byte which is no blank, and its length.
fn next_kind(text: &str, at: usize) -> (Kind, usize) {
    let rest = &text[at..];
    let bytes = rest.as_bytes();
    if let Some(found) = punctuation(bytes) {
        // `::1` starts with what could be a colon.
        if address::ipv6_len(bytes) <= found.1 {
            return found;
        }
    }
    let name = name_len(bytes);
    let candidates = [
        (address::mac_len(bytes), 0),
        (number_len(bytes), 1),
        (address::dotted_len(bytes), 2),
        (address::ipv6_len(bytes), 3),
        (address::broken_mac_len(bytes), 4),
        (name, 5),
    ];
    let mut best = (0, 5);
    for candidate in candidates {
        if candidate.0 > best.0 {
            best = candidate;
        }
    }
    let (len, which) = best;
    let part = rest.get(..len).unwrap_or("");
    if len == name
        && let Some(word) = words::find(part)
    {
        return (word, len);
    }
    match which {
        _ if len == 0 => other(rest),
        0 => (Kind::Mac(address::mac(part)), len),
        1 => (number(part), len),
        2 => (Kind::Dotted, len),
        3 => match part.parse() {
            Ok(address) => (Kind::Ipv6(address), len),
            Err(_) => (Kind::Bad(format!("{part} is not an IPv6 address")), len),
        },
        4 => (
            Kind::Bad(format!("{part} is not a MAC address: it has six parts")),
            len,
        ),
        _ => (Kind::Name(part.to_owned()), len),
    }
}

/// An escaped name, or what is no token at all.
fn other(rest: &str) -> (Kind, usize) {
    if let Some(behind) = rest.strip_prefix('\\') {
        let end = |c: char| matches!(c, ' ' | '!' | '(' | ')' | '\n' | '\t');
        let name = &behind[..behind.find(end).unwrap_or(behind.len())];
        if !name.is_empty() {
            return (Kind::Name(name.to_owned()), name.len() + 1);
        }
        return (
            Kind::Bad("there is no name behind the backslash".to_owned()),
            1,
        );
    }
    let c = rest.chars().next().unwrap_or(' ');
    let shown = if c.is_control() {
        c.escape_default().to_string()
    } else {
        c.to_string()
    };
    let what = if c == '$' && rest.as_bytes().get(1).is_some_and(u8::is_ascii_hexdigit) {
        "addresses of ARCnet ($12) are left out: Weir sees Ethernet".to_owned()
    } else {
        format!("{shown} has no meaning in an expression")
    };
    (Kind::Bad(what), c.len_utf8())
}

fn punctuation(bytes: &[u8]) -> Option<(Kind, usize)> {
    let two = match bytes {
        [b'&', b'&', ..] => Some(Kind::Word(Word::And)),
        [b'|', b'|', ..] => Some(Kind::Word(Word::Or)),
        [b'>', b'=', ..] => Some(Kind::Compare(Compare::GreaterEqual)),
        [b'<', b'=', ..] => Some(Kind::Compare(Compare::LessEqual)),
        [b'!', b'=', ..] => Some(Kind::Compare(Compare::NotEqual)),
        [b'=', b'=', ..] => Some(Kind::Compare(Compare::Equal)),
        [b'<', b'<', ..] => Some(Kind::Op(Op::Shl)),
        [b'>', b'>', ..] => Some(Kind::Op(Op::Shr)),
        _ => None,
    };
    if let Some(kind) = two {
        return Some((kind, 2));
    }
    let one = match bytes.first()? {
        b'+' => Kind::Op(Op::Add),
        b'-' => Kind::Op(Op::Sub),
        b'*' => Kind::Op(Op::Mul),
        b'/' => Kind::Op(Op::Div),
        b'%' => Kind::Op(Op::Mod),
        b'&' => Kind::Op(Op::And),
        b'|' => Kind::Op(Op::Or),
        b'^' => Kind::Op(Op::Xor),
        b'=' => Kind::Compare(Compare::Equal),
        b'<' => Kind::Compare(Compare::Less),
        b'>' => Kind::Compare(Compare::Greater),
        b'!' => Kind::Word(Word::Not),
        byte @ (b':' | b'[' | b']' | b'(' | b')') => Kind::Punct(*byte),
        _ => return None,
    };
    Some((one, 1))
}

/// Bytes of a name: alphanumeric, with `-`, `_` and `.` inside, but neither
/// `-` nor `_` at its end.
fn name_len(bytes: &[u8]) -> usize {
    if !bytes.first().is_some_and(u8::is_ascii_alphanumeric) {
        return 0;
    }
    let inside = |b: &&u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let run = bytes.iter().take_while(inside).count();
    let end = bytes
        .iter()
        .take(run)
        .rposition(|b| !matches!(b, b'-' | b'_'));
    end.map_or(0, |last| last + 1)
}

/// Bytes of a number: decimal or octal digits, or `0x` and hexadecimal ones.
pub(super) fn number_len(bytes: &[u8]) -> usize {
    if let [b'0', b'x' | b'X', digits @ ..] = bytes {
        let count = digits.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        if count > 0 {
            return count + 2;
        }
    }
    bytes.iter().take_while(|b| b.is_ascii_digit()).count()
}

/// The value of a number: octal behind a 0, hexadecimal behind 0x.
fn number(text: &str) -> Kind {
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&text[2..], 16),
        [b'0', _, ..] => (&text[1..], 8),
        _ => (text, 10),
    };
    if radix == 8 && digits.contains(['8', '9']) {
        let without = digits.trim_start_matches('0');
        return Kind::Bad(format!(
            "{text} is octal, for it starts with 0; write {without}"
        ));
    }
    match u32::from_str_radix(digits, radix) {
        Ok(value) => Kind::Number(value),
        Err(_) => Kind::Bad(format!(
            "{text} is too large: numbers go up to {}",
            u32::MAX
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Kind> {
        let mut all: Vec<Kind> = tokens(text).into_iter().map(|t| t.kind).collect();
        assert_eq!(all.pop(), Some(Kind::End));
        all
    }

    fn name(text: &str) -> Kind {
        Kind::Name(text.to_owned())
    }

    #[test]
    fn the_longest_match_wins() {
        assert_eq!(kinds("80-90"), [name("80-90")]);
        assert_eq!(kinds("len-5"), [name("len-5")]);
        assert_eq!(
            kinds("5- 3"),
            [Kind::Number(5), Kind::Op(Op::Sub), Kind::Number(3)]
        );
        assert_eq!(kinds("1.2.3.4"), [Kind::Dotted]);
        assert_eq!(kinds("1.2.3.4.5"), [name("1.2.3.4.5")]);
        assert_eq!(
            kinds("0011.2233.4455"),
            [Kind::Mac([0, 0x11, 0x22, 0x33, 0x44, 0x55])]
        );
        assert_eq!(
            kinds("001122334455"),
            [Kind::Mac([0, 0x11, 0x22, 0x33, 0x44, 0x55])]
        );
        assert_eq!(kinds("1:2:3:4:5:a"), [Kind::Mac([1, 2, 3, 4, 5, 10])]);
        assert_eq!(kinds("0x"), [name("0x")]);
        assert_eq!(kinds("tcp-syn"), [Kind::Number(2)]);
        assert_eq!(kinds("tcp-syns"), [name("tcp-syns")]);
        assert_eq!(kinds("\\tcp"), [name("tcp")]);
    }

    #[test]
    fn numbers_have_three_bases_and_32_bits() {
        assert_eq!(kinds("010 0x1F 10"), [8, 31, 10].map(Kind::Number));
        assert_eq!(kinds("4294967295"), [Kind::Number(u32::MAX)]);
        assert!(matches!(&kinds("4294967296")[..], [Kind::Bad(_)]));
        assert!(matches!(&kinds("08")[..], [Kind::Bad(why)] if why.contains("octal")));
    }

    #[test]
    fn addresses_of_ipv6() {
        for text in [
            "::",
            "::1",
            "fe80::",
            "1:2:3:4:5:6:7:8",
            "::ffff:1.2.3.4",
            "1::2:3",
        ] {
            assert_eq!(
                kinds(text),
                [Kind::Ipv6(text.parse().expect("an address"))],
                "{text}"
            );
        }
        assert_eq!(
            kinds("[0:2]"),
            [
                Kind::Punct(b'['),
                Kind::Number(0),
                Kind::Punct(b':'),
                Kind::Number(2),
                Kind::Punct(b']')
            ]
        );
        assert!(matches!(&kinds("1:2:")[..], [Kind::Bad(_)]));
    }

    #[test]
    fn spans_are_bytes_of_the_text() {
        let all = tokens("tcp  é");
        assert_eq!(all[0].span, 0..3);
        assert_eq!(all[1].span, 5..7);
        assert!(matches!(all[1].kind, Kind::Bad(_)));
    }
}
