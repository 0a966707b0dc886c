//! What can go wrong, with the codes it came with.

use std::fmt;

use weir_abi::{ABI_VERSION, RecordError, status};

use crate::DriverVersion;
use crate::kind::Doing;

/// An NTSTATUS. Shown by name where the contract gives it a meaning.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct NtStatus(pub i32);

impl NtStatus {
    /// What the contract says about it, if anything.
    #[must_use]
    pub fn info(self) -> Option<&'static status::StatusInfo> {
        status::info(self.0)
    }

    /// Its name in ntstatus.h, if the contract uses it.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        self.info().map(|info| info.name)
    }

    /// `NT_SUCCESS`.
    #[must_use]
    pub const fn is_success(self) -> bool {
        self.0 >= 0
    }
}

impl fmt::Display for NtStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = self.name() {
            write!(f, "{name} ")?;
        }
        write!(f, "{:#010x}", self.0)
    }
}

impl fmt::Debug for NtStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An operation the driver or the I/O manager ended with a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The status it ended with.
    pub status: NtStatus,
    /// The Win32 code Windows makes of that status; 0 where there is no Windows.
    pub win32: u32,
}

impl Failure {
    /// Whether it ended because that was asked for.
    #[must_use]
    pub const fn is_cancelled(&self) -> bool {
        self.status.0 == status::CANCELLED
    }
}

/// Why a call failed. Each message says what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no control device.
    #[error(
        "there is no Weir device (Win32 error {win32}): the driver isn't running; \
         start it with `sc start weir`, or install it first"
    )]
    NotPresent {
        /// The error of the attempt to open it.
        win32: u32,
    },
    /// The caller may not open the device.
    #[error(
        "access to the Weir device was denied: it is open to SYSTEM and Administrators only; \
         run this as administrator (elevated)"
    )]
    AccessDenied,
    /// This is not Windows.
    #[error(
        "the Weir driver runs on Windows only; run this command on the machine with the driver"
    )]
    Unsupported,
    /// Driver and client are of different releases.
    #[error(
        "driver {driver} speaks contract version {}, this client {ABI_VERSION}; \
         use client and driver of the same release", driver.abi
    )]
    Version {
        /// What the driver says it is.
        driver: DriverVersion,
    },
    /// The driver, or the I/O manager in its place, refused an operation.
    #[error("{}", refusal(operation, failure))]
    Refused {
        /// The IOCTL or call, by name.
        operation: &'static str,
        /// With which status.
        failure: Failure,
    },
    /// An operation of a socket failed.
    #[error("{}", socket_refusal(doing, failure))]
    Socket {
        /// What was being done.
        doing: Doing,
        /// How it ended.
        failure: Failure,
    },
    /// The time an operation was given is over.
    #[error(
        "{doing}: nothing happened for {:.1} seconds; see whether the peer is up and reachable, \
         or give it more time", after.as_secs_f64()
    )]
    TimedOut {
        /// What was being done.
        doing: Doing,
        /// How long it was given.
        after: std::time::Duration,
    },
    /// A write after the end of what this side sends.
    #[error("this side of the connection was shut down; write nothing after that")]
    AfterShutdown,
    /// A datagram longer than any.
    #[error(
        "a datagram of {len} bytes can't be sent: at most {} go into one; send less at once",
        weir_abi::limits::MAX_DATAGRAM
    )]
    DatagramTooLong {
        /// Bytes it has.
        len: usize,
    },
    /// A name that can't be one.
    #[error("\"{name}\" can't be looked up: {why}")]
    BadName {
        /// The name.
        name: String,
        /// What is wrong with it, and what to do.
        why: &'static str,
    },
    /// A name without an address.
    #[error("{name} has no address; look at the name, or give an address")]
    NoAddress {
        /// The name.
        name: String,
    },
    /// A rule program longer than any driver takes.
    #[error("the rule program has {len} bytes, at most {most} are taken; use fewer rules")]
    ProgramTooLong {
        /// Bytes it has.
        len: usize,
        /// Bytes there may be.
        most: u32,
    },
    /// Windows failed at something that doesn't reach the driver.
    #[error("{what} failed: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Windows' own error.
        source: std::io::Error,
    },
    /// The driver's answer contradicts the contract.
    #[error(
        "{operation}: the driver's reply contradicts the contract: {problem}; \
             use client and driver of the same release, and report it if they are"
    )]
    Reply {
        /// The IOCTL, by name.
        operation: &'static str,
        /// How.
        problem: String,
    },
    /// A read holds something that is not a capture record.
    #[error("a capture read contradicts the contract: {0}")]
    Record(#[from] RecordError),
}

impl Error {
    /// The NTSTATUS, if one came with the error.
    #[must_use]
    pub fn status(&self) -> Option<NtStatus> {
        match self {
            Error::Refused { failure, .. } | Error::Socket { failure, .. } => Some(failure.status),
            _ => None,
        }
    }

    /// The Win32 code, if one came with the error.
    #[must_use]
    pub fn win32(&self) -> Option<u32> {
        match self {
            Error::NotPresent { win32 } => Some(*win32),
            Error::AccessDenied => Some(5),
            Error::Refused { failure, .. } | Error::Socket { failure, .. }
                if failure.win32 != 0 =>
            {
                Some(failure.win32)
            }
            Error::System { source, .. } => source
                .raw_os_error()
                .and_then(|code| u32::try_from(code).ok()),
            _ => None,
        }
    }
}

fn codes(failure: &Failure) -> String {
    match failure.win32 {
        0 => failure.status.to_string(),
        win32 => format!("{}, Win32 error {win32}", failure.status),
    }
}

fn socket_refusal(doing: &Doing, failure: &Failure) -> String {
    match doing.meaning(failure.status.0) {
        Some((meaning, advice)) => {
            format!("{doing}: {meaning} ({}); {advice}", codes(failure))
        }
        None => refusal(&doing.to_string(), failure),
    }
}

fn refusal(operation: &str, failure: &Failure) -> String {
    let codes = codes(failure);
    match failure.status.info() {
        Some(info) => format!("{operation}: {} ({codes}); {}", info.meaning, info.advice),
        None => format!(
            "{operation}: failed ({codes}), a status Weir gives no meaning of its own; \
             the driver's log may say more"
        ),
    }
}

/// What an error of opening the device means. 2, 3 and 20 are what Windows says
/// when nothing has the name, 5 when the security descriptor forbids it
/// (MSDN "System Error Codes").
#[cfg_attr(
    not(any(windows, test)),
    expect(dead_code, reason = "only Windows opens a device")
)]
pub(crate) fn open_error(source: std::io::Error) -> Error {
    match source.raw_os_error() {
        Some(code @ (2 | 3 | 20)) => Error::NotPresent {
            win32: code.unsigned_abs(),
        },
        Some(5) => Error::AccessDenied,
        _ => Error::System {
            what: "opening the Weir device",
            source,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: i32, win32: u32) -> Error {
        Error::Refused {
            operation: "SERVICE_START",
            failure: Failure {
                status: NtStatus(status),
                win32,
            },
        }
    }

    #[test]
    fn a_refusal_says_what_it_means_its_codes_and_what_to_do() {
        let error = refused(status::ADDRESS_ALREADY_EXISTS, 183);
        assert_eq!(
            error.to_string(),
            "SERVICE_START: another socket of this machine has the port \
             (STATUS_ADDRESS_ALREADY_EXISTS 0xc000020a, Win32 error 183); \
             choose another port, or 0 to let the driver choose"
        );
        assert_eq!(
            error.status(),
            Some(NtStatus(status::ADDRESS_ALREADY_EXISTS))
        );
        assert_eq!(error.win32(), Some(183));
    }

    #[test]
    fn an_unknown_status_keeps_its_number() {
        let error = refused(0xC023_0002_u32.cast_signed(), 0);
        assert!(error.to_string().contains("(0xc0230002)"), "{error}");
        assert_eq!(error.win32(), None);
    }

    #[test]
    fn every_status_has_its_own_message() {
        let messages: std::collections::BTreeSet<String> = status::TABLE
            .iter()
            .map(|info| refused(info.code, 0).to_string())
            .collect();
        assert_eq!(messages.len(), status::TABLE.len());
    }

    #[test]
    fn errors_of_opening_are_told_apart() {
        let open = |code| open_error(std::io::Error::from_raw_os_error(code));
        assert!(matches!(open(2), Error::NotPresent { win32: 2 }));
        assert!(matches!(open(3), Error::NotPresent { win32: 3 }));
        assert!(matches!(open(5), Error::AccessDenied));
        assert!(matches!(open(31), Error::System { .. }));
        assert_eq!(open(31).win32(), Some(31));
    }
}
