//! A program with an index over its tuples, and what it decides.

use super::{Action, Program, ProgramError, View, reference};
use weir_abi::Direction;

/// What the rules say of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Decision {
    /// Pass, drop or divert.
    pub action: Action,
    /// Index of the rule that decided; `None`: it is the default.
    pub rule: Option<u32>,
    /// Index of the first rule that logs and matched, before the one that decided.
    pub log: Option<u32>,
}

/// A verified program and the index built from it: `P` is the program's bytes,
/// `I` the memory of the index.
#[derive(Debug)]
pub struct RuleSet<P, I> {
    bytes: P,
    index: I,
}

impl<P: AsRef<[u8]>, I: AsRef<[u32]>> RuleSet<P, I> {
    /// Words the index of a program needs.
    #[must_use]
    pub fn index_len(program: &Program<'_>) -> usize {
        usize::try_from(program.tuple_count()).unwrap_or(usize::MAX)
    }

    /// Verifies `bytes` and builds the index in `index`, of at least
    /// [`RuleSet::index_len`] words; what they hold does not matter. The bytes
    /// must not change while the set exists.
    ///
    /// # Errors
    /// What is wrong with the program, and where; or that the memory is too small.
    pub fn build(bytes: P, index: I) -> Result<Self, ProgramError>
    where
        I: AsMut<[u32]>,
    {
        let program = Program::verify(bytes.as_ref())?;
        let need = Self::index_len(&program);
        let have = index.as_ref().len();
        if have < need {
            return Err(ProgramError::Memory { have, need });
        }
        Ok(RuleSet { bytes, index })
    }

    /// The program.
    #[must_use]
    pub fn program(&self) -> Program<'_> {
        Program::split(self.bytes.as_ref()).unwrap_or(Program::EMPTY)
    }

    /// The program's bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// Words of the index.
    #[must_use]
    pub fn index_words(&self) -> usize {
        self.index.as_ref().len()
    }

    /// What happens to a frame. `direction`: `None` where it is not known; rules
    /// of both directions are tried then. `hit` is called with the index of each
    /// rule that takes effect, in order: those that log or count, then the one
    /// that decides. Where it isn't called for a deciding rule, the default is.
    pub fn decide(
        &self,
        view: &View<'_>,
        direction: Option<Direction>,
        hit: impl FnMut(u32),
    ) -> Decision {
        reference::decide(&self.program(), view, direction, hit)
    }
}
