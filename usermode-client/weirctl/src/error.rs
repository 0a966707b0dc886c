//! What ends a command, and the exit code it gets.

use std::io;

use weir_client::Error as ClientError;

/// Exit code of a command that a second Ctrl-C ended before its end: a capture before
/// its file was whole, a connection before its peer had all.
pub(crate) const INTERRUPTED: u8 = 130;

/// Why a command failed. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CtlError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("no adapter is called {asked}, and none has this id; there are: {known}")]
    NoAdapter { asked: String, known: String },
    #[error("the driver filters no adapter; is the filter bound to one?")]
    NoAdapters,
    #[error("{what} {path}: {source}")]
    File {
        what: &'static str,
        path: String,
        source: io::Error,
    },
    #[error("the driver ended the capture: it is unloading, or the handle was closed")]
    DriverEnded,
    #[error("writing the output failed: {0}")]
    Output(#[from] io::Error),
    #[error("reading standard input failed: {0}")]
    Input(io::Error),
    #[error("a thread can't be started: {0}; end other programs, or try again")]
    Thread(io::Error),
    #[error("catching Ctrl-C failed: {0}")]
    Signal(#[from] ctrlc::Error),
    /// One line each.
    #[error("{0}")]
    Captures(String),
    #[error("the expression is wrong\n{0}")]
    Expression(Box<weir_rules::Error>),
    #[error("{file} has {} error{}\n{errors}", errors.0.len(), if errors.0.len() == 1 { "" } else { "s" })]
    Rules {
        file: String,
        errors: weir_rules::Errors,
    },
    #[error("the program made of {file} is refused: {source}")]
    Program {
        file: String,
        source: weir_engine::rule::ProgramError,
    },
    #[error("{path}: {damage}")]
    Capture {
        path: String,
        damage: crate::file::Damage,
    },
    #[error(transparent)]
    FrameLen(weir_client::FrameLen),
    #[error("the rules changed while they were read; ask again")]
    RulesChanged,
    #[error("the program made of {file} can't be explained: {source}")]
    Explain {
        file: String,
        source: weir_rules::ExplainError,
    },
    #[error(transparent)]
    Model(#[from] weir_io_models::Error),
    #[error(transparent)]
    Load(#[from] weir_io_models::load::Error),
    #[error("--to is where relay goes to; give it with --against relay")]
    NoRelay,
    #[error("--connect measures one echo: name one with --against, or leave that out")]
    OneName,
    #[error("the server by `{command}`: {why}")]
    Server { command: String, why: String },
    #[error("what process {pid} costs can't be read: {source}")]
    Process { pid: u32, source: io::Error },
    #[error("no memory for {0}")]
    Memory(&'static str),
    #[error(transparent)]
    Flows(#[from] weir_engine::flow::Error),
    #[error("{0} is not a string of hex bytes")]
    Hex(String),
    #[error("{0} has no port: give HOST PORT or HOST:PORT, an IPv6 address as [::1]:7")]
    NoPort(String),
    #[error("{host} has no IPv{version} address; leave out -{version}, or give another host")]
    NoVersion { host: String, version: char },
    #[error(
        "{host} has no address of the version of IP that --source {from} is of; \
         leave --source out, or give one of the other version"
    )]
    SourceVersion {
        host: String,
        from: std::net::SocketAddr,
    },
    #[error(
        "--tls needs to know whom to believe: give --pin SHA256 (`weirctl tcp listen --tls` prints \
         it, or `openssl x509 -fingerprint -sha256`) or --ca FILE"
    )]
    Trust,
    #[error("{0} can't be the name in a certificate; give the right one with --server-name")]
    ServerName(String),
    #[error("{path}: {problem}; give a PEM file")]
    Pem { path: String, problem: String },
    #[error("TLS: {0}")]
    Tls(String),
    #[error("the stream failed: {0}")]
    Stream(io::Error),
    #[error("{0}")]
    Chat(String),
    #[error("{operation} ended with {status}")]
    Status {
        operation: &'static str,
        status: weir_client::NtStatus,
    },
}

impl CtlError {
    /// An error of a stream: one of the library's, or of what runs over it.
    pub(crate) fn stream(error: io::Error) -> CtlError {
        match ClientError::from_io(error) {
            Ok(error) => CtlError::Client(error),
            Err(other) => CtlError::Stream(other),
        }
    }

    /// An error of TLS outside of a handshake.
    pub(crate) fn tls(error: rustls::Error) -> CtlError {
        CtlError::Tls(format!("{error}; give another certificate or key"))
    }

    /// A certificate that couldn't be made.
    pub(crate) fn certificate(error: rcgen::Error) -> CtlError {
        CtlError::Tls(format!("{error}; give one with --cert and --key"))
    }

    /// Whether writing to standard output failed.
    pub(crate) fn is_of_output(&self) -> bool {
        matches!(self, CtlError::Output(_))
    }

    /// The exit code; the list is in `--help` and in README.md.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            // An argument of the command line.
            CtlError::Expression(_)
            | CtlError::NoRelay
            | CtlError::OneName
            | CtlError::NoPort(_)
            | CtlError::SourceVersion { .. }
            | CtlError::Trust
            | CtlError::ServerName(_) => 2,
            CtlError::Model(weir_io_models::Error::NotWindows { .. }) => 3,
            CtlError::Model(weir_io_models::Error::Bound { .. }) => 2,
            CtlError::Client(ClientError::NotPresent { .. } | ClientError::Unsupported) => 3,
            CtlError::Client(ClientError::AccessDenied) => 4,
            CtlError::Client(ClientError::Version { .. }) => 5,
            // Of a socket, not of the device.
            CtlError::Client(ClientError::Socket { .. }) => 1,
            CtlError::Client(e) if e.status().is_some_and(|s| s.0 == ACCESS_DENIED) => 4,
            CtlError::Client(e) if e.status().is_some_and(|s| s.0 == REVISION_MISMATCH) => 5,
            _ => 1,
        }
    }

    /// The NTSTATUS behind it, if there is one.
    pub(crate) fn status(&self) -> Option<weir_client::NtStatus> {
        match self {
            CtlError::Client(e) => e.status(),
            CtlError::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// The Win32 code behind it, if there is one.
    pub(crate) fn win32(&self) -> Option<u32> {
        match self {
            CtlError::Client(e) => e.win32(),
            _ => None,
        }
    }
}

impl CtlError {
    /// Whether it is only that nobody reads what is written any more.
    pub(crate) fn is_unread(&self) -> bool {
        matches!(self, CtlError::Output(error) if is_unread(error))
    }
}

/// Whether a write failed because the reader at the pipe's other end is gone.
pub(crate) fn is_unread(error: &io::Error) -> bool {
    // std has no kind for this one of Windows: a pipe whose other end was closed
    // before it was ever read from.
    const PIPE_NOT_CONNECTED: i32 = 233;
    error.kind() == io::ErrorKind::BrokenPipe
        || (cfg!(windows) && error.raw_os_error() == Some(PIPE_NOT_CONNECTED))
}

const ACCESS_DENIED: i32 = weir_abi::status::ACCESS_DENIED;
const REVISION_MISMATCH: i32 = weir_abi::status::REVISION_MISMATCH;

#[cfg(test)]
mod tests {
    use super::*;
    use weir_client::{Failure, NtStatus};

    #[test]
    fn each_kind_has_its_exit_code() {
        let refused = |status| {
            CtlError::Client(ClientError::Refused {
                operation: "test",
                failure: Failure {
                    status: NtStatus(status),
                    win32: 0,
                },
            })
        };
        for (error, code) in [
            (ClientError::Unsupported.into(), 3),
            (ClientError::NotPresent { win32: 2 }.into(), 3),
            (ClientError::AccessDenied.into(), 4),
            (refused(ACCESS_DENIED), 4),
            (refused(REVISION_MISMATCH), 5),
            (refused(weir_abi::status::NOT_FOUND), 1),
            (CtlError::NoAdapters, 1),
        ] {
            let error: CtlError = error;
            assert_eq!(error.exit_code(), code, "{error}");
        }
    }
}
