//! Why bytes are no program.

use core::fmt;

/// What a program has a bounded number of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counted {
    /// Rules.
    Rules,
    /// Tuples.
    Tuples,
    /// Instructions.
    Instructions,
    /// Bytes of text.
    TextBytes,
    /// Bytes of the whole program.
    ProgramBytes,
    /// Instructions of all linear rules.
    LinearInstructions,
    /// Shapes of tuples.
    Shapes,
    /// Instructions that one frame could make run, linear rules and those of
    /// one hash look-up in each shape together.
    FrameInstructions,
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rules => "rules",
            Self::Tuples => "tuples",
            Self::Instructions => "instructions",
            Self::TextBytes => "bytes of text",
            Self::ProgramBytes => "bytes",
            Self::LinearInstructions => "instructions of linear rules",
            Self::Shapes => "shapes of tuples",
            Self::FrameInstructions => "instructions that one frame could make run",
        })
    }
}

/// What is wrong with bytes that should be a program, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProgramError {
    /// Not even a header.
    TooShort {
        /// Bytes there are.
        have: usize,
    },
    /// It doesn't start with [`MAGIC`](super::format::MAGIC).
    Magic(u32),
    /// A version that isn't [`VERSION`](super::format::VERSION).
    Version(u32),
    /// More of something than a program may have.
    TooMany {
        /// Of what.
        what: Counted,
        /// How many.
        have: u64,
        /// At most this many.
        most: u32,
    },
    /// The header's size is not that of the bytes.
    Size {
        /// What the header says.
        stated: u32,
        /// Bytes there are.
        have: usize,
    },
    /// The header's size is not that of what it counts.
    Parts {
        /// What the header says.
        stated: u32,
        /// Header, rules, tuples, instructions and text together.
        parts: u64,
    },
    /// The default is neither pass nor drop.
    Default(u32),
    /// The text is not UTF-8 from this byte of it on.
    Text {
        /// Offset in the text.
        at: usize,
    },
    /// The rules use fewer tuples or instructions than there are.
    Unused {
        /// Of what.
        what: Counted,
        /// How many the rules use.
        used: u32,
        /// How many there are.
        have: u32,
    },
    /// A rule is wrong.
    Rule {
        /// Its index.
        rule: u32,
        /// How.
        fault: RuleFault,
    },
    /// An instruction is wrong.
    Insn {
        /// Index of the rule.
        rule: u32,
        /// Index of the instruction in the rule's code.
        insn: u32,
        /// How.
        fault: InsnFault,
    },
    /// A tuple is wrong.
    Tuple {
        /// Index of the rule.
        rule: u32,
        /// Index of the tuple among the rule's.
        tuple: u32,
        /// How.
        fault: TupleFault,
    },
    /// The memory for the index is too small.
    Memory {
        /// Words of 32 bits there are.
        have: usize,
        /// Words needed.
        need: usize,
    },
    /// The tuples fall on so few places of the hash table that a look-up would
    /// not be bounded. Tuples that weren't chosen for it don't do this.
    Collisions,
}

/// What is wrong with a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RuleFault {
    /// An action that doesn't exist.
    Action(u32),
    /// No direction, or one that doesn't exist.
    Directions(u32),
    /// Something reserved is not 0.
    Reserved,
    /// Its code doesn't start where the code of the rule before ended.
    CodeStart {
        /// Where it says it starts.
        stated: u32,
        /// Where it has to.
        expected: u32,
    },
    /// It has no code, too much, or more than there is.
    CodeLen(u32),
    /// The last instruction doesn't end the code.
    NoReturn,
    /// Its tuples don't start where those of the rule before ended.
    TupleStart {
        /// Where it says they start.
        stated: u32,
        /// Where they have to.
        expected: u32,
    },
    /// Too many tuples, or more than there are.
    TupleCount(u32),
    /// The name is not in the text, is too long, empty, or has other characters
    /// than `A-Z a-z 0-9 _ - .`.
    Name,
    /// The name is that of an earlier rule.
    NameTaken {
        /// Index of that rule.
        by: u32,
    },
    /// The expression is not in the text, or not between whole characters of it.
    Expression,
}

/// What is wrong with an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InsnFault {
    /// No such operation.
    Code(u16),
    /// Something reserved is not 0.
    Reserved,
    /// It jumps out of the rule's code.
    Jump,
    /// A scratch word that doesn't exist.
    Scratch(u32),
    /// It always divides by zero.
    DivideByZero,
}

/// What is wrong with a tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TupleFault {
    /// No such class.
    Class(u8),
    /// Fields that don't exist, or not in this class.
    Fields(u8),
    /// Flags that don't exist.
    Flags(u8),
    /// More leading bits than an address of the class has.
    Prefix(u8),
    /// A field or a bit that doesn't count, or something reserved, is not 0.
    NotNormal,
}

impl core::error::Error for ProgramError {}

impl fmt::Display for ProgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { have } => write!(f, "{have} bytes are too few for a program's header"),
            Self::Magic(magic) => write!(f, "not a rule program: it starts with {magic:#010x}"),
            Self::Version(version) => write!(
                f,
                "version {version} of the format; known is {}",
                super::format::VERSION
            ),
            Self::TooMany { what, have, most } => write!(f, "{have} {what}, at most {most}"),
            Self::Size { stated, have } => {
                write!(f, "the header says {stated} bytes, there are {have}")
            }
            Self::Parts { stated, parts } => {
                write!(
                    f,
                    "the header says {stated} bytes, what it counts has {parts}"
                )
            }
            Self::Default(action) => write!(f, "the default action {action} is not pass or drop"),
            Self::Text { at } => write!(f, "the text is not UTF-8 at byte {at}"),
            Self::Unused { what, used, have } => {
                write!(f, "the rules use {used} {what} of {have}")
            }
            Self::Rule { rule, fault } => write!(f, "rule {rule}: {fault}"),
            Self::Insn { rule, insn, fault } => {
                write!(f, "rule {rule}, instruction {insn}: {fault}")
            }
            Self::Tuple { rule, tuple, fault } => write!(f, "rule {rule}, tuple {tuple}: {fault}"),
            Self::Memory { have, need } => {
                write!(
                    f,
                    "the index needs {need} words of memory, it was given {have}"
                )
            }
            Self::Collisions => f.write_str("the tuples can't be spread over a hash table"),
        }
    }
}

impl fmt::Display for RuleFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Action(action) => write!(f, "no action has the number {action}"),
            Self::Directions(bits) => write!(f, "directions {bits:#x} are none, or unknown"),
            Self::Reserved => f.write_str("a reserved field is not 0"),
            Self::CodeStart { stated, expected } => {
                write!(
                    f,
                    "its code starts at {stated}, it has to start at {expected}"
                )
            }
            Self::CodeLen(len) => write!(f, "code of {len} instructions"),
            Self::NoReturn => f.write_str("its code doesn't end with a return"),
            Self::TupleStart { stated, expected } => {
                write!(
                    f,
                    "its tuples start at {stated}, they have to start at {expected}"
                )
            }
            Self::TupleCount(count) => write!(f, "{count} tuples"),
            Self::Name => f.write_str("its name is not one"),
            Self::NameTaken { by } => write!(f, "its name is that of rule {by}"),
            Self::Expression => f.write_str("its expression is not in the text"),
        }
    }
}

impl fmt::Display for InsnFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "no operation has the code {code:#06x}"),
            Self::Reserved => f.write_str("a reserved field is not 0"),
            Self::Jump => f.write_str("it jumps out of the code"),
            Self::Scratch(index) => write!(f, "there is no scratch word {index}"),
            Self::DivideByZero => f.write_str("it divides by zero"),
        }
    }
}

impl fmt::Display for TupleFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Class(class) => write!(f, "no class has the number {class}"),
            Self::Fields(bits) => write!(f, "fields {bits:#x} are unknown, or not of the class"),
            Self::Flags(bits) => write!(f, "unknown flags {bits:#x}"),
            Self::Prefix(bits) => write!(f, "no address has {bits} leading bits"),
            Self::NotNormal => f.write_str("what doesn't count is not 0"),
        }
    }
}
