//! What can be wrong with a request, and the status that says so.
//!
//! The driver's own code speaks of causes; an `NTSTATUS` is made of one at the
//! edge, when the request is completed. What each status means to a client is
//! written in `weir_abi::status`.

use weir_abi::command::CommandError;

use crate::kernel::status::NtStatus;

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Error {
    /// The bytes of the request make no sense.
    Command(CommandError),
    /// The handle hasn't the role this needs, or has one already.
    WrongRole,
    /// The handle is being closed.
    Closing,
    /// No adapter has this id.
    NoSuchAdapter,
    /// As many readers, or reads of one reader, as are allowed.
    TooMany,
    /// A buffer too small for the least it has to hold.
    TooSmall,
    /// The driver is unloading.
    Unloading,
    /// What the system, or another part of the driver, answered.
    System(NtStatus),
}

impl Error {
    /// The status to complete the request with.
    pub(crate) fn status(self) -> NtStatus {
        match self {
            Self::Command(error) => NtStatus(error.status()),
            Self::WrongRole => NtStatus::INVALID_DEVICE_STATE,
            Self::Closing => NtStatus::FILE_CLOSED,
            Self::NoSuchAdapter => NtStatus::NO_SUCH_DEVICE,
            Self::TooMany => NtStatus::QUOTA_EXCEEDED,
            Self::TooSmall => NtStatus::BUFFER_TOO_SMALL,
            Self::Unloading => NtStatus::DELETE_PENDING,
            Self::System(status) => status,
        }
    }
}

impl From<NtStatus> for Error {
    fn from(status: NtStatus) -> Self {
        Self::System(status)
    }
}

impl From<CommandError> for Error {
    fn from(error: CommandError) -> Self {
        Self::Command(error)
    }
}
