//! Rule files.

use weir_engine::rule::format;

use crate::{Errors, Expression};

/// What a rule does with a frame that matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u32)]
pub enum Action {
    /// It goes on.
    Pass = format::ACTION_PASS,
    /// It goes nowhere.
    Drop = format::ACTION_DROP,
    /// It goes to the reader in the divert role.
    Divert = format::ACTION_DIVERT,
    /// A record of it, and on.
    Log = format::ACTION_LOG,
    /// Counted, and on.
    Count = format::ACTION_COUNT,
}

impl Action {
    /// Whether it decides about a frame.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Pass | Self::Drop | Self::Divert)
    }
}

/// The frames a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u32)]
pub enum Directions {
    /// Received.
    In = format::DIRECTION_IN,
    /// Sent.
    Out = format::DIRECTION_OUT,
    /// Both.
    Any = format::DIRECTION_IN | format::DIRECTION_OUT,
}

/// One rule of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name, unique in the file.
    pub name: String,
    /// What it does.
    pub action: Action,
    /// For which frames.
    pub directions: Directions,
    /// Which of them match.
    pub expression: Expression,
    /// Line it stands in, from 1.
    pub line: u32,
}

/// A rule file without errors, whose program is within all bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleFile {
    rules: Vec<Rule>,
    default_action: Action,
}

impl RuleFile {
    /// Reads a rule file. `file_name` is what errors call it.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn parse(_text: &str, _file_name: &str) -> Result<Self, Errors> {
        Ok(Self {
            rules: vec![],
            default_action: Action::Pass,
        })
    }

    /// Its rules, in order.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// What happens to frames no rule decides on: pass or drop.
    #[must_use]
    pub fn default_action(&self) -> Action {
        self.default_action
    }

    /// The program, in the format of `weir_engine::rule::format`.
    #[must_use]
    pub fn compile(&self) -> Vec<u8> {
        Vec::new()
    }
}
