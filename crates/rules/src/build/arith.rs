//! Arithmetic: `ip[2:2] - 20 > 100`.

use super::{Builder, Refusal, Result, proto_name};
use crate::lex::{self, Op, Proto};
use crate::node::{Alu, Compare, Node, Operand, Size, Step, Test};

/// Numbers that libpcap can hold while it computes.
const MAX_HELD: u32 = 16;
/// Operators, loads and numbers on one side of a comparison.
const MAX_SIZE: u32 = 256;

/// A number that is computed from a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Arith {
    Const(u32),
    Len,
    Neg(Box<Arith>),
    Binary(Alu, Box<Arith>, Box<Arith>),
    /// Bytes at an offset and an index.
    Load {
        size: Size,
        at: u32,
        index: Box<Arith>,
    },
    /// Bytes behind an IPv4 header that starts at an offset.
    Behind {
        size: Size,
        header: u32,
        index: Box<Arith>,
    },
}

/// A number, and what has to hold before it can be computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Value {
    arith: Arith,
    gate: Option<Node>,
    /// Numbers held at once to compute it, as libpcap counts.
    held: u32,
    size: u32,
}

impl Value {
    fn leaf(arith: Arith) -> Self {
        Self {
            arith,
            gate: None,
            held: 1,
            size: 1,
        }
    }

    pub(crate) fn number(value: u32) -> Self {
        Self::leaf(Arith::Const(value))
    }

    pub(crate) fn length() -> Self {
        Self::leaf(Arith::Len)
    }

    pub(crate) fn negate(self) -> Result<Self> {
        let size = self.size + 1;
        Self {
            arith: Arith::Neg(Box::new(self.arith)),
            size,
            ..self
        }
        .bounded()
    }

    pub(crate) fn binary(self, op: Op, other: Self) -> Result<Self> {
        let op = match (op, &other.arith) {
            (Op::Div, Arith::Const(0)) => return Err(Refusal::new("this divides by zero")),
            (Op::Mod, Arith::Const(0)) => return Err(Refusal::new("this divides by zero")),
            (Op::Shl | Op::Shr, Arith::Const(32..)) => {
                return Err(Refusal::new("numbers have 32 bits: a shift goes up to 31"));
            }
            (Op::Add, _) => Alu::Add,
            (Op::Sub, _) => Alu::Sub,
            (Op::Mul, _) => Alu::Mul,
            (Op::Div, _) => Alu::Div,
            (Op::Mod, _) => Alu::Mod,
            (Op::And, _) => Alu::And,
            (Op::Or, _) => Alu::Or,
            (Op::Xor, _) => Alu::Xor,
            (Op::Shl, _) => Alu::Shl,
            (Op::Shr, _) => Alu::Shr,
        };
        let held = self.held.max(other.held + 1);
        let size = self.size + other.size + 1;
        let arith = Arith::Binary(op, Box::new(self.arith), Box::new(other.arith));
        // What the right side asks of a frame is not asked: libpcap forgets it.
        Self {
            arith,
            gate: self.gate,
            held,
            size,
        }
        .bounded()
    }

    fn bounded(self) -> Result<Self> {
        if self.size > MAX_SIZE {
            return Err(Refusal::new(format!(
                "this takes more than {MAX_SIZE} operators and numbers to compute; split it"
            )));
        }
        if self.held > MAX_HELD {
            return Err(Refusal::new(format!(
                "this has to hold more than {MAX_HELD} numbers at once; use fewer parentheses"
            )));
        }
        Ok(self)
    }
}

impl Builder {
    /// `proto [ index : size ]`.
    pub(crate) fn load(&self, proto: Proto, index: Value, size: u32) -> Result<Value> {
        let size = match size {
            1 => Size::Byte,
            2 => Size::Half,
            4 => Size::Word,
            _ => {
                return Err(Refusal {
                    message: format!("{size} bytes can't be loaded at once"),
                    expected: ["1", "2", "4"].map(Into::into).to_vec(),
                });
            }
        };
        let after = |gate: Option<Node>, node: Node| gate.map_or(node.clone(), |g| g.and(node));
        let at_payload = |at: u32, index: Arith| Arith::Load {
            size,
            at: self.payload + at,
            index: Box::new(index),
        };
        let held = index.held.max(2);
        let total = index.size + 1;
        let (arith, gate) = match proto {
            Proto::Link => (
                Arith::Load {
                    size,
                    at: 0,
                    index: Box::new(index.arith),
                },
                index.gate,
            ),
            Proto::Ip
            | Proto::Ip6
            | Proto::Arp
            | Proto::Rarp
            | Proto::Atalk
            | Proto::Decnet
            | Proto::Sca
            | Proto::Lat
            | Proto::Moprc
            | Proto::Mopdl => {
                let gate = after(index.gate, self.word(proto)?);
                (at_payload(0, index.arith), Some(gate))
            }
            Proto::Tcp
            | Proto::Udp
            | Proto::Sctp
            | Proto::Icmp
            | Proto::Igmp
            | Proto::Igrp
            | Proto::Pim
            | Proto::Vrrp
            | Proto::Carp => {
                let ip = self.ethertype(0x0800);
                let gate = match index.gate {
                    Some(gate) => ip.and(gate),
                    None => ip,
                };
                let gate = gate.and(self.word(proto)?).and(self.first_fragment());
                let arith = Arith::Behind {
                    size,
                    header: self.payload,
                    index: Box::new(index.arith),
                };
                (arith, Some(gate))
            }
            Proto::Icmp6 => {
                let gate = after(index.gate, self.ethertype(0x86dd));
                let next = self.payload(Size::Byte, 6, Compare::Equal, 58);
                (at_payload(40, index.arith), Some(gate.and(next)))
            }
            _ => {
                let name = proto_name(proto);
                return Err(Refusal::new(format!(
                    "bytes of {name} can't be loaded; use ether[…], whose offsets count from \
                     the start of the frame"
                )));
            }
        };
        Value {
            arith,
            gate,
            held,
            size: total,
        }
        .bounded()
    }
}

/// A comparison of two numbers.
pub(crate) fn relation(left: Value, compare: lex::Compare, right: Value) -> Node {
    let (compare, negated) = match compare {
        lex::Compare::Equal => (Compare::Equal, false),
        lex::Compare::NotEqual => (Compare::Equal, true),
        lex::Compare::Greater => (Compare::Greater, false),
        lex::Compare::LessEqual => (Compare::Greater, true),
        lex::Compare::GreaterEqual => (Compare::GreaterEqual, false),
        lex::Compare::Less => (Compare::GreaterEqual, true),
    };
    let test = match (left.arith.constant(), right.arith.constant()) {
        (Some(left), Some(right)) => Node::Const(match compare {
            Compare::Equal => left == right,
            Compare::Greater => left > right,
            Compare::GreaterEqual => left >= right,
            Compare::AnyBit => left & right != 0,
        }),
        (_, Some(k)) => {
            let mut steps = Vec::new();
            left.arith.steps(0, &mut steps);
            Node::Test(Test {
                steps,
                compare,
                operand: Operand::K(k),
            })
        }
        _ => {
            let mut steps = Vec::new();
            pair(&left.arith, &right.arith, 0, &mut steps);
            Node::Test(Test {
                steps,
                compare,
                operand: Operand::X,
            })
        }
    };
    let test = if negated { test.negate() } else { test };
    [left.gate, right.gate, Some(test)]
        .into_iter()
        .flatten()
        .reduce(Node::and)
        .unwrap_or(Node::Const(true))
}

/// A comparison of the frame's length with a number.
pub(super) fn length(compare: Compare, k: u32) -> Node {
    Node::Test(Test {
        steps: vec![Step::Len],
        compare,
        operand: Operand::K(k),
    })
}

/// Leaves the first number in A and the second in X; uses scratch words from
/// `word` on.
fn pair(first: &Arith, second: &Arith, word: u32, steps: &mut Vec<Step>) {
    first.steps(word, steps);
    steps.push(Step::Store(word));
    second.steps(word + 1, steps);
    steps.push(Step::ToX);
    steps.push(Step::Recall(word));
}

impl Arith {
    /// Its value, where that is the same for all frames.
    fn constant(&self) -> Option<u32> {
        match self {
            Self::Const(value) => Some(*value),
            Self::Neg(inner) => inner.constant().map(u32::wrapping_neg),
            Self::Binary(op, left, right) => {
                let (left, right) = (left.constant()?, right.constant()?);
                match op {
                    Alu::Add => Some(left.wrapping_add(right)),
                    Alu::Sub => Some(left.wrapping_sub(right)),
                    Alu::Mul => Some(left.wrapping_mul(right)),
                    Alu::Div => left.checked_div(right),
                    Alu::Mod => left.checked_rem(right),
                    Alu::And => Some(left & right),
                    Alu::Or => Some(left | right),
                    Alu::Xor => Some(left ^ right),
                    Alu::Shl => Some(left.checked_shl(right).unwrap_or(0)),
                    Alu::Shr => Some(left.checked_shr(right).unwrap_or(0)),
                }
            }
            Self::Len | Self::Load { .. } | Self::Behind { .. } => None,
        }
    }

    /// Leaves its value in A; uses scratch words from `word` on.
    fn steps(&self, word: u32, steps: &mut Vec<Step>) {
        if let Some(value) = self.constant() {
            steps.push(Step::Imm(value));
            return;
        }
        match self {
            Self::Const(value) => steps.push(Step::Imm(*value)),
            Self::Len => steps.push(Step::Len),
            Self::Neg(inner) => {
                inner.steps(word, steps);
                steps.push(Step::Neg);
            }
            Self::Binary(op, left, right) => {
                let usable = |k: &u32| match op {
                    Alu::Div | Alu::Mod => *k != 0,
                    Alu::Shl | Alu::Shr => *k < 32,
                    _ => true,
                };
                if let Some(k) = right.constant().filter(usable) {
                    left.steps(word, steps);
                    steps.push(Step::AluK(*op, k));
                } else {
                    pair(left, right, word, steps);
                    steps.push(Step::AluX(*op));
                }
            }
            Self::Load { size, at, index } => match index.constant() {
                // What would be past the end of the numbers is past the end of
                // any frame.
                Some(index) => {
                    let at = at.checked_add(index).unwrap_or(u32::MAX);
                    steps.push(Step::Load { size: *size, at });
                }
                None => {
                    index.steps(word, steps);
                    steps.push(Step::ToX);
                    steps.push(Step::LoadX {
                        size: *size,
                        at: *at,
                    });
                }
            },
            Self::Behind {
                size,
                header,
                index,
            } => {
                // Index and header length are added first and wrap around, then
                // the header's offset, which doesn't.
                if let Some(index @ 0..0x1000_0000) = index.constant() {
                    steps.push(Step::HeaderLen { at: *header });
                    steps.push(Step::LoadX {
                        size: *size,
                        at: header + index,
                    });
                } else {
                    index.steps(word, steps);
                    steps.push(Step::HeaderLen { at: *header });
                    steps.push(Step::AluX(Alu::Add));
                    steps.push(Step::ToX);
                    steps.push(Step::LoadX {
                        size: *size,
                        at: *header,
                    });
                }
            }
        }
    }
}
