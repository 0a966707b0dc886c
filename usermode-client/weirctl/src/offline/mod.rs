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

pub(crate) use inspect::inspect;
pub(crate) use matching::matching;
pub(crate) use rules::{check, explain, rule_file};
