//! Numbers that are computed. `%` and `^` have no precedence in pcap-filter's
//! grammar: all that stands right of one is its right side.

use super::{Parsed, Parser};
use crate::build::Value;
use crate::lex::{Kind, Op, Proto, Word};

/// How tight signs bind.
const SIGN: u8 = 6;

fn precedence(op: Op) -> Option<u8> {
    match op {
        Op::Or => Some(1),
        Op::And => Some(2),
        Op::Shl | Op::Shr => Some(3),
        Op::Add | Op::Sub => Some(4),
        Op::Mul | Op::Div => Some(5),
        Op::Mod | Op::Xor => None,
    }
}

impl Parser<'_> {
    /// A number whose operators bind at least as tight as `least`.
    pub(super) fn arithmetic(&mut self, least: u8) -> Parsed<Value> {
        let left = self.unary()?;
        self.arithmetic_after(left, least)
    }

    /// The same, behind its first operand.
    pub(super) fn arithmetic_after(&mut self, mut left: Value, least: u8) -> Parsed<Value> {
        while let Kind::Op(op) = *self.peek() {
            let next = match precedence(op) {
                Some(its) if its < least => break,
                Some(its) => its + 1,
                None => 0,
            };
            let start = self.span().start;
            self.take();
            let right = self.nested(|parser| parser.arithmetic(next))?;
            let span = self.since(start);
            left = self.refusing(span, |_| left.binary(op, right))?;
        }
        Ok(left)
    }

    /// One operand with its signs.
    pub(super) fn unary(&mut self) -> Parsed<Value> {
        let start = self.span().start;
        match *self.peek() {
            Kind::Op(Op::Sub) => {
                self.take();
                let value = self.nested(|parser| parser.arithmetic(SIGN))?;
                let span = self.since(start);
                self.refusing(span, |_| value.negate())
            }
            Kind::Punct(b'(') => {
                self.take();
                let value = self.nested(|parser| parser.arithmetic(0))?;
                self.expect(b')', ")")?;
                Ok(value)
            }
            Kind::Number(value) => {
                self.take();
                Ok(Value::number(value))
            }
            Kind::Word(Word::Len) => {
                self.take();
                Ok(Value::length())
            }
            Kind::Word(Word::Proto(proto)) => {
                self.take();
                self.load(proto, start)
            }
            _ => self.unexpected(&["a number", "len", "a protocol with ["]),
        }
    }

    /// `[ index : size ]` behind a protocol.
    pub(super) fn load(&mut self, proto: Proto, start: usize) -> Parsed<Value> {
        self.expect(b'[', "[")?;
        let index = self.nested(|parser| parser.arithmetic(0))?;
        let mut size = 1;
        if self.takes(&Kind::Punct(b':')) {
            let Kind::Number(value) = *self.peek() else {
                return self.unexpected(&["1", "2", "4"]);
            };
            size = value;
            self.take();
        }
        if !self.takes(&Kind::Punct(b']')) {
            return self.unexpected(&["]", ":", "an operator"]);
        }
        let span = self.since(start);
        self.refusing(span, |build| build.load(proto, index, size))
    }

    /// A number in any number of parentheses.
    pub(super) fn plain_number(&mut self) -> Parsed<u32> {
        match *self.peek() {
            Kind::Number(value) => {
                self.take();
                Ok(value)
            }
            Kind::Punct(b'(') => {
                self.take();
                let value = self.nested(Self::plain_number)?;
                self.expect(b')', ")")?;
                Ok(value)
            }
            _ => self.unexpected(&["a number"]),
        }
    }

    /// A number without parentheses.
    pub(super) fn bare_number(&mut self) -> Parsed<u32> {
        match *self.peek() {
            Kind::Number(value) => {
                self.take();
                Ok(value)
            }
            _ => self.unexpected(&["a number"]),
        }
    }
}
