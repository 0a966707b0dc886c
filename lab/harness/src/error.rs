//! What can go wrong on the host's side of the lab.

use std::path::PathBuf;

/// An error of the harness; the text says what to do where that is known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read, written or made.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the host said.
        source: std::io::Error,
    },
    /// A part of the lab has not been built.
    #[error("{path} is missing; `cargo xtask lab up` builds it")]
    Missing {
        /// The file that is not there.
        path: PathBuf,
    },
    /// A host program could not be run or failed.
    #[error("{program}: {why}")]
    Program {
        /// Its name.
        program: String,
        /// Its exit status or the host's error.
        why: String,
    },
    /// The image is not one whose imports can be redirected.
    #[error("the image can't be prepared for the lab: {0}")]
    Image(String),
    /// The agent in the prefix, or the stand-ins, refused a request.
    #[error("{what}: {why} (code {code})")]
    Refused {
        /// The request.
        what: String,
        /// The reason given.
        why: String,
        /// The Win32 code, 0 where there is none.
        code: i64,
    },
    /// No answer: the process at the other end is gone or hangs.
    #[error("{what} does not answer: {why}")]
    Silent {
        /// Who was asked.
        what: &'static str,
        /// What the socket said.
        why: String,
    },
    /// The lab is not up.
    #[error("the lab is not up; `cargo xtask lab up` starts it")]
    Down,
    /// The driver broke a rule, and the stand-ins ended the run.
    #[error("rule {rule} broken at {caller}: {detail}")]
    Violation {
        /// The rule's name, after Driver Verifier's where it has one.
        rule: String,
        /// `module+0xRVA` of the call.
        caller: String,
        /// What was wrong.
        detail: String,
    },
}

impl Error {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}
