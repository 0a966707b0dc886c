//! Rules: programs, verified and run.
//!
//! A [`Program`] is bytes that were checked once, by [`Program::verify`]; a
//! [`RuleSet`] owns such bytes and an index over their tuples, and answers
//! [`RuleSet::decide`] for each frame. Both live in memory of the caller's: no
//! part of this allocates, panics, or trusts what was not verified.
//!
//! | module | what |
//! |---|---|
//! | [`mod@format`] | the bytes of a program |
//! | [`bpf`] | the instructions, and the machine that runs them |
//! | [`hits`] | counters of what each rule did |
//! | [`reference`] | the meaning of a program, told rule by rule and without index |

pub mod bpf;
mod build;
mod error;
pub mod format;
pub mod hits;
mod index;
mod key;
mod program;
pub mod reference;
mod set;
pub mod sketch;
mod sort;
mod verify;
mod view;

pub use error::{Counted, InsnFault, ProgramError, RuleFault, TupleFault};
pub use program::{Program, Rule, Shape};
pub use set::{Decision, RuleSet};
pub use view::{Far, NoFar, View};

use weir_abi::Direction;

/// What a rule does with a frame that matches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The frame goes on. Terminal.
    Pass,
    /// The frame goes nowhere. Terminal.
    Drop,
    /// The frame goes to the reader in the divert role. Terminal.
    Divert,
    /// A record of the frame; the rules behind are tried.
    Log,
    /// Counted; the rules behind are tried.
    Count,
}

impl Action {
    /// From one of `format::ACTION_*`.
    #[must_use]
    pub const fn from_format(value: u32) -> Option<Self> {
        match value {
            format::ACTION_PASS => Some(Self::Pass),
            format::ACTION_DROP => Some(Self::Drop),
            format::ACTION_DIVERT => Some(Self::Divert),
            format::ACTION_LOG => Some(Self::Log),
            format::ACTION_COUNT => Some(Self::Count),
            _ => None,
        }
    }

    /// As one of `format::ACTION_*`.
    #[must_use]
    pub const fn to_format(self) -> u32 {
        match self {
            Self::Pass => format::ACTION_PASS,
            Self::Drop => format::ACTION_DROP,
            Self::Divert => format::ACTION_DIVERT,
            Self::Log => format::ACTION_LOG,
            Self::Count => format::ACTION_COUNT,
        }
    }

    /// The word that stands for it in a rule file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Drop => "drop",
            Self::Divert => "divert",
            Self::Log => "log",
            Self::Count => "count",
        }
    }

    /// Whether it ends the search.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Pass | Self::Drop | Self::Divert)
    }
}

/// The `format::DIRECTION_*` bits of the rules that are tried on a frame of this
/// direction; all of them where the direction is not known.
const fn direction_bits(direction: Option<Direction>) -> u32 {
    match direction {
        Some(Direction::In) => format::DIRECTION_IN,
        Some(Direction::Out) => format::DIRECTION_OUT,
        None => format::DIRECTION_IN | format::DIRECTION_OUT,
    }
}
