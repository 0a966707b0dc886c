//! Names, numbers and addresses, as the words before them say what they are.

use std::net::Ipv6Addr;

use super::{Fault, Parsed, Parser, Part};
use crate::build::{Builder, Qualifiers, Refusal, Result, Transports, What};
use crate::lex::{Kind, Op, Proto, Word};
use crate::names;
use crate::node::Node;
use crate::services::{self, Transport};

impl Parser<'_> {
    /// The name, number or address that words are about, or several of them in
    /// parentheses.
    pub(super) fn id(&mut self, words: Qualifiers) -> Parsed<Node> {
        let mut nots = 0;
        while self.takes_word(Word::Not) {
            nots += 1;
        }
        let node = self.positive_id(words)?;
        Ok(if nots % 2 == 1 { node.negate() } else { node })
    }

    fn positive_id(&mut self, words: Qualifiers) -> Parsed<Node> {
        let span = self.span();
        match self.peek().clone() {
            Kind::Number(value) => {
                self.take();
                self.refusing(span, |build| number(build, value, words))
            }
            Kind::Name(name) => {
                self.take();
                self.refusing(span, |build| named(build, &name, words))
            }
            Kind::Mac(mac) => {
                self.take();
                self.refusing(span, |_| Builder::mac(mac, words))
            }
            Kind::Ipv6(address) => self.address6(address, words),
            Kind::Dotted => self.address4(words),
            Kind::Punct(b'(') => {
                self.take();
                let part = self.nested(|parser| parser.sequence(Some(words)))?;
                if matches!(part, Part::Term(..)) {
                    let refusal = Refusal::new(
                        "behind host, net, port and the like only names and numbers stand in \
                         parentheses",
                    );
                    return Err(Fault {
                        span: self.since(span.start),
                        refusal,
                    });
                }
                let node = self.id_of(part, Some(words))?;
                if *self.peek() == Kind::End {
                    return Err(Fault {
                        span,
                        refusal: Refusal::new("this ( is never closed"),
                    });
                }
                self.expect(b')', ")")?;
                Ok(node)
            }
            Kind::Word(Word::Proto(_)) if words.what == What::Proto => {
                let refusal = Refusal::new(
                    "a protocol that is also a word of the language is written with a backslash \
                     here: proto \\tcp",
                );
                Err(Fault { span, refusal })
            }
            _ => self.unexpected(match words.what {
                What::Port => &["a port's number or name"],
                What::PortRange => &["two ports with - between"],
                What::Proto => &["a protocol's number or name"],
                What::Net => &["an address, as in 10.0.0.0/8"],
                What::Host | What::Default if words.proto == Some(Proto::Link) => {
                    &["a MAC address"]
                }
                What::Default => &["host", "net", "port", "portrange", "an address"],
                What::Host => &["an address"],
            }),
        }
    }

    fn address6(&mut self, address: Ipv6Addr, words: Qualifiers) -> Parsed<Node> {
        let start = self.span().start;
        self.take();
        let mut len = 128;
        if self.takes(&Kind::Op(Op::Div)) {
            len = self.bare_number()?;
        }
        let span = self.since(start);
        self.refusing(span, |build| build.net6(address, len, words))
    }

    fn address4(&mut self, words: Qualifiers) -> Parsed<Node> {
        let start = self.span().start;
        let (address, bits) = self.dotted()?;
        let mask = if self.takes(&Kind::Op(Op::Div)) {
            let len_span = self.span();
            let len = self.bare_number()?;
            if len > 32 {
                let refusal = Refusal::new(format!("an IPv4 address has 32 bits, and not {len}"));
                return Err(Fault {
                    span: len_span,
                    refusal,
                });
            }
            Some(prefix_mask(len))
        } else if self.takes_word(Word::Mask) {
            if *self.peek() != Kind::Dotted {
                return self.unexpected(&["a mask, as in 255.255.0.0"]);
            }
            Some(self.dotted()?.0)
        } else {
            None
        };
        let span = self.since(start);
        self.refusing(span, |build| match mask {
            Some(mask) => build.net4(address, mask, words),
            None => match words.what {
                What::Default | What::Host | What::Net => {
                    build.host4(address, prefix_mask(bits), words)
                }
                What::Port | What::PortRange | What::Proto => {
                    Err(Refusal::new("this is an address, and no number"))
                }
            },
        })
    }

    /// The next token, which is [`Kind::Dotted`], as an address and the bits
    /// that were written: `10.1` is 10.1.0.0 and 16.
    fn dotted(&mut self) -> Parsed<(u32, u32)> {
        let span = self.span();
        let text = self.text.get(span.clone()).unwrap_or("").to_owned();
        self.take();
        let mut address = 0u32;
        let mut bits = 0;
        for part in text.split('.') {
            // Decimal, even behind a 0.
            let octet = part
                .bytes()
                .all(|b| b.is_ascii_digit())
                .then(|| part.trim_start_matches('0'))
                .and_then(|digits| {
                    if digits.is_empty() {
                        Some(0)
                    } else {
                        digits.parse().ok()
                    }
                })
                .filter(|octet| *octet <= 255u32);
            let Some(octet) = octet else {
                let message = format!("{part} is no part of an IPv4 address: they go up to 255");
                return Err(Fault {
                    span,
                    refusal: Refusal::new(message),
                });
            };
            address = address << 8 | octet;
            bits += 8;
        }
        Ok((address << (32 - bits), bits))
    }
}

fn prefix_mask(len: u32) -> u32 {
    u32::MAX.checked_shl(32 - len).unwrap_or(0)
}

/// A number behind `words`.
pub(super) fn number(build: &mut Builder, value: u32, words: Qualifiers) -> Result<Node> {
    match words.what {
        What::Default | What::Host if words.proto == Some(Proto::Link) => {
            Err(Refusal::new("this number is no MAC address"))
        }
        What::Default | What::Host => build.host4(value, u32::MAX, words),
        // `net 10` is 10.0.0.0/8.
        What::Net => {
            let shift = if value == 0 {
                0
            } else {
                value.leading_zeros() / 8 * 8
            };
            build.host4(value << shift, u32::MAX << shift, words)
        }
        What::Port => build.ports(value, None, Transports::Any, words),
        What::PortRange => build.ports(value, Some(value), Transports::Any, words),
        What::Proto => build.proto(value, words.proto),
    }
}

/// A name behind `words`.
fn named(build: &mut Builder, name: &str, words: Qualifiers) -> Result<Node> {
    match words.what {
        What::Default | What::Host | What::Net => {
            if name.contains('/') {
                return Err(Refusal::new(format!("{name} is no address")));
            }
            Err(Refusal::new(format!(
                "{name} is a name, and names of hosts and networks are not looked up; write the \
                 address"
            )))
        }
        What::Port => {
            let (port, transports) = named_port(name)?;
            build.ports(port, None, transports, words)
        }
        What::PortRange => {
            let Some((first, last)) = name.split_once('-') else {
                return Err(Refusal::new(format!("{name} is no range; write 80-90")));
            };
            let (first, one) = named_port(first)?;
            let (last, other) = named_port(last)?;
            let transports = if one == other { one } else { Transports::Any };
            build.ports(first, Some(last), transports, words)
        }
        What::Proto => {
            let number = match words.proto {
                None | Some(Proto::Ip | Proto::Ip6) => names::ip_proto(name),
                Some(Proto::Link) => names::ether_proto(name),
                Some(Proto::Iso) => names::iso_proto(name),
                Some(Proto::Isis) => None,
                Some(_) => return build.proto(0, words.proto),
            };
            let number = number.ok_or_else(|| {
                Refusal::new(format!(
                    "{name} is no protocol's name here; write its number"
                ))
            })?;
            build.proto(number, words.proto)
        }
    }
}

/// The number of a port that is written as a name, or behind a backslash.
fn named_port(name: &str) -> Result<(u32, Transports)> {
    if !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit()) {
        let digits = name.trim_start_matches('0');
        let port = if digits.is_empty() {
            Ok(0)
        } else {
            digits.parse::<u32>()
        };
        return match port {
            Ok(port) => Ok((port, Transports::Any)),
            Err(_) => Err(Refusal::new(format!(
                "{name} is no port: they go up to 65535"
            ))),
        };
    }
    let tcp = services::port(Transport::Tcp, name);
    let udp = services::port(Transport::Udp, name);
    match (tcp, udp) {
        (Some(tcp), Some(udp)) if tcp == udp => Ok((tcp.into(), Transports::Any)),
        (Some(tcp), _) => Ok((tcp.into(), Transports::Tcp)),
        (None, Some(udp)) => Ok((udp.into(), Transports::Udp)),
        (None, None) => {
            let message = match services::suggestion(name) {
                Some(other) => format!("no port has the name {name}; did you mean {other}?"),
                None => format!("no port has the name {name}; write its number"),
            };
            Err(Refusal::new(message))
        }
    }
}
