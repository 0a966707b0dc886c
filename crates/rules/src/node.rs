//! What an expression means: tests of a frame, joined by and, or and not, in
//! the order they are made. The order counts: a load behind the end of a frame
//! ends the whole expression with "no match".

/// Width of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    Byte,
    Half,
    Word,
}

impl Size {
    pub(crate) fn bytes(self) -> u32 {
        match self {
            Self::Byte => 1,
            Self::Half => 2,
            Self::Word => 4,
        }
    }

    /// All bits that a load of this width can set.
    pub(crate) fn mask(self) -> u32 {
        match self {
            Self::Byte => 0xff,
            Self::Half => 0xffff,
            Self::Word => u32::MAX,
        }
    }
}

/// Operations on the accumulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alu {
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

/// One step before a test: an instruction that doesn't jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A := bytes at an offset.
    Load { size: Size, at: u32 },
    /// A := bytes at X and an offset.
    LoadX { size: Size, at: u32 },
    /// X := 4 × the low half of the byte at an offset: IPv4's header length.
    HeaderLen { at: u32 },
    /// A := the frame's length.
    Len,
    /// A := a number.
    Imm(u32),
    /// A := a scratch word.
    Recall(u32),
    /// A scratch word := A.
    Store(u32),
    /// X := A.
    ToX,
    /// A := A and a number.
    AluK(Alu, u32),
    /// A := A and X.
    AluX(Alu),
    /// A := 0 - A.
    Neg,
}

/// How A is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    Equal,
    Greater,
    GreaterEqual,
    /// Any bit in common.
    AnyBit,
}

/// What A is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operand {
    K(u32),
    X,
}

/// Steps, and a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Test {
    pub(crate) steps: Vec<Step>,
    pub(crate) compare: Compare,
    pub(crate) operand: Operand,
}

/// An expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Const(bool),
    Test(Test),
    Not(Box<Node>),
    /// Each is tried until one is false.
    And(Vec<Node>),
    /// Each is tried until one is true.
    Or(Vec<Node>),
}

impl Node {
    /// A test of one load with a number.
    pub(crate) fn field(size: Size, at: u32, compare: Compare, k: u32) -> Self {
        let steps = vec![Step::Load { size, at }];
        Self::Test(Test {
            steps,
            compare,
            operand: Operand::K(k),
        })
    }

    /// Whether the bits of a mask in a load are those of a number.
    pub(crate) fn masked(size: Size, at: u32, mask: u32, k: u32) -> Self {
        let mut steps = vec![Step::Load { size, at }];
        if mask != u32::MAX {
            steps.push(Step::AluK(Alu::And, mask));
        }
        Self::Test(Test {
            steps,
            compare: Compare::Equal,
            operand: Operand::K(k),
        })
    }

    pub(crate) fn and(self, other: Self) -> Self {
        match self {
            Self::And(mut nodes) => {
                nodes.push(other);
                Self::And(nodes)
            }
            first => Self::And(vec![first, other]),
        }
    }

    pub(crate) fn or(self, other: Self) -> Self {
        match self {
            Self::Or(mut nodes) => {
                nodes.push(other);
                Self::Or(nodes)
            }
            first => Self::Or(vec![first, other]),
        }
    }

    pub(crate) fn negate(self) -> Self {
        match self {
            Self::Not(inner) => *inner,
            Self::Const(value) => Self::Const(!value),
            other => Self::Not(Box::new(other)),
        }
    }
}
