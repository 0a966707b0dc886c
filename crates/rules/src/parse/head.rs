//! Terms: what starts with words of its own.

use super::{Fault, Parsed, Parser, Part};
use crate::build::{Builder, Dir, Qualifiers, Refusal, What};
use crate::lex::{Compare, Kind, Proto, Word};
use crate::names::suggestion;
use crate::node::Node;

/// What an operand can start with.
const TERMS: &[&str] = &[
    "a protocol",
    "host",
    "net",
    "port",
    "portrange",
    "src",
    "dst",
    "vlan",
    "len",
    "not",
    "(",
];

impl Parser<'_> {
    /// A term that starts with the next word.
    pub(super) fn term(&mut self) -> Parsed<Part> {
        let start = self.span().start;
        let Kind::Word(word) = *self.peek() else {
            return self.unexpected(TERMS);
        };
        let node = match word {
            Word::Proto(proto) => {
                self.take();
                return self.after_proto(proto, start);
            }
            Word::Src
            | Word::Dst
            | Word::Host
            | Word::Net
            | Word::Port
            | Word::PortRange
            | Word::ProtoQualifier => return self.head(None),
            Word::Broadcast | Word::Multicast => self.cast(None, start)?,
            Word::Less => {
                self.take();
                Builder::less(self.bare_number()?)
            }
            Word::Greater => {
                self.take();
                Builder::greater(self.bare_number()?)
            }
            Word::Byte => self.byte(start)?,
            Word::Vlan => {
                self.take();
                let tagged = matches!(self.peek(), Kind::Number(_) | Kind::Punct(b'('));
                let id = if tagged {
                    Some(self.plain_number()?)
                } else {
                    None
                };
                let span = self.since(start);
                self.refusing(span, |build| build.vlan(id))?
            }
            Word::Llc => self.llc(start)?,
            Word::Pppoed => {
                self.take();
                self.build.pppoed()
            }
            _ => return self.unexpected(TERMS),
        };
        Ok(Part::Term(node, None))
    }

    /// Behind a protocol's name: bytes of it, an address or port in it, or it
    /// stands alone.
    fn after_proto(&mut self, proto: Proto, start: usize) -> Parsed<Part> {
        match self.peek() {
            Kind::Punct(b'[') => {
                let value = self.load(proto, start)?;
                Ok(Part::Value(value, self.since(start)))
            }
            Kind::Word(
                Word::Src
                | Word::Dst
                | Word::Host
                | Word::Net
                | Word::Port
                | Word::PortRange
                | Word::ProtoQualifier,
            ) => self.head(Some(proto)),
            Kind::Word(Word::Broadcast | Word::Multicast) => {
                Ok(Part::Term(self.cast(Some(proto), start)?, None))
            }
            Kind::Word(Word::LeftOut(_)) => self.unexpected(&[]),
            _ => {
                let span = self.since(start);
                let node = self.refusing(span, |build| build.word(proto))?;
                Ok(Part::Term(node, None))
            }
        }
    }

    fn cast(&mut self, proto: Option<Proto>, start: usize) -> Parsed<Node> {
        let is_broadcast = *self.peek() == Kind::Word(Word::Broadcast);
        self.take();
        let span = self.since(start);
        self.refusing(span, |build| {
            if is_broadcast {
                build.broadcast(proto)
            } else {
                build.multicast(proto)
            }
        })
    }

    /// `byte 5 = 6`.
    fn byte(&mut self, start: usize) -> Parsed<Node> {
        self.take();
        let at = self.bare_number()?;
        let compare = match *self.peek() {
            Kind::Compare(compare @ (Compare::Equal | Compare::Less | Compare::Greater)) => compare,
            Kind::Op(crate::lex::Op::And | crate::lex::Op::Or) => {
                let refusal = Refusal::new(format!(
                    "byte with & or | is left out, for libpcap makes a test of it that looks at \
                     another byte; write ether[{at}] & … != 0"
                ));
                return Err(Fault {
                    span: self.span(),
                    refusal,
                });
            }
            _ => return self.unexpected(&["=", "<", ">"]),
        };
        self.take();
        let value = self.bare_number()?;
        let span = self.since(start);
        self.refusing(span, |_| Builder::byte(at, compare, value))
    }

    fn llc(&mut self, start: usize) -> Parsed<Node> {
        self.take();
        let kind = match self.peek() {
            Kind::Name(name) => Some(name.clone()),
            Kind::Word(Word::Rnr) => Some("rnr".to_owned()),
            _ => None,
        };
        if kind.is_some() {
            self.take();
        }
        let span = self.since(start);
        self.refusing(span, |build| build.llc(kind.as_deref()))
    }

    /// Direction and kind, then the name or number they are about.
    fn head(&mut self, proto: Option<Proto>) -> Parsed<Part> {
        let dir = self.direction()?;
        let what = match self.peek() {
            Kind::Word(Word::Host) => What::Host,
            Kind::Word(Word::Net) => What::Net,
            Kind::Word(Word::Port) => What::Port,
            Kind::Word(Word::PortRange) => What::PortRange,
            Kind::Word(Word::ProtoQualifier) if dir.is_none() => What::Proto,
            Kind::Word(Word::ProtoQualifier) => {
                let refusal = Refusal::new("a protocol has no direction: leave src and dst out");
                return Err(Fault {
                    span: self.span(),
                    refusal,
                });
            }
            _ => What::Default,
        };
        if what != What::Default {
            self.take();
        }
        let words = Qualifiers {
            proto,
            dir: dir.unwrap_or(Dir::Either),
            what,
        };
        Ok(Part::Term(self.id(words)?, Some(words)))
    }

    /// `src`, `dst`, `src or dst`, `src and dst`.
    fn direction(&mut self) -> Parsed<Option<Dir>> {
        let (dir, other) = match self.peek() {
            Kind::Word(Word::Src) => (Dir::Src, Word::Dst),
            Kind::Word(Word::Dst) => (Dir::Dst, Word::Src),
            _ => return Ok(None),
        };
        self.take();
        let joined = match self.peek() {
            Kind::Word(Word::Or) => Dir::Either,
            Kind::Word(Word::And) => Dir::Both,
            _ => return Ok(Some(dir)),
        };
        self.take();
        if !self.takes_word(other) {
            let expected = if other == Word::Dst { "dst" } else { "src" };
            return self.unexpected(&[expected]);
        }
        Ok(Some(joined))
    }

    /// A name, number or address where no word says what it is.
    pub(super) fn without_words(&mut self) -> Parsed<Part> {
        let (shown, expected): (String, &[&str]) = match self.peek() {
            Kind::Name(name) => match suggestion(name) {
                Some(word) => {
                    let message = format!("there is no word {name}; did you mean {word}?");
                    return Err(Fault {
                        span: self.span(),
                        refusal: Refusal::new(message),
                    });
                }
                None => (format!("there is no word {name}"), TERMS),
            },
            Kind::Mac(_) => (
                "a MAC address".to_owned() + NOT_SAID,
                &["ether host", "ether src", "ether dst"],
            ),
            _ => (
                "an address".to_owned() + NOT_SAID,
                &["host", "net", "src", "dst"],
            ),
        };
        let expected = expected.iter().map(|&word| word.to_owned()).collect();
        Err(Fault {
            span: self.span(),
            refusal: Refusal {
                message: shown,
                expected,
            },
        })
    }
}

const NOT_SAID: &str = " stands here without a word that says of what";
