//! The commands that need no driver: what the engine says of capture files, and
//! what the compiler says of rules. They run wherever Rust does.
//!
//! | module | what |
//! |---|---|
//! | `files` | the frames of all files that were named, one behind the other |
//! | `inspect` | `weirctl inspect`: each frame takes the engine's one way |
//! | `totals`, `top` | what is added up meanwhile |
//! | `summary`, `packets` | how it is shown |
//! | `layers` | the words for what a frame is made of |
//! | `matching` | `weirctl match` |
//! | `rules` | `weirctl rules check` and `explain`; rule files |

mod direction;
mod files;
mod inspect;
mod layers;
mod matching;
mod packets;
mod progress;
mod rules;
mod summary;
mod top;
mod totals;

pub(crate) use rules::{check, explain, rule_file};

use crate::cli::{InspectArgs, MatchArgs};
use crate::error::CtlError;
use crate::output::Output;

/// `weirctl inspect`.
pub(crate) fn inspect(args: &InspectArgs, out: &mut Output<'_>) -> Result<(), CtlError> {
    unless_unread(inspect::inspect(args, out))
}

/// `weirctl match`.
pub(crate) fn matching(args: &MatchArgs, out: &mut Output<'_>) -> Result<(), CtlError> {
    unless_unread(matching::matching(args, out))
}

/// Whoever reads the lines may have enough of them, as `head` does: no failure.
fn unless_unread(result: Result<(), CtlError>) -> Result<(), CtlError> {
    match result {
        Err(CtlError::Output(e)) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
