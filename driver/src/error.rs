//! What can be wrong with a request, and the status that says so.
//!
//! The driver's own code speaks of causes; an `NTSTATUS` is made of one at the
//! edge, when the request is completed. What each status means to a client is
//! written in `weir_abi::status`.

use weir_abi::command::CommandError;
use weir_abi::{DatagramError, WriteError, status};
use weir_engine::rule::ProgramError;

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
    /// The bytes of a write make no sense.
    Write(WriteError),
    /// The bytes of a datagram make no sense, or it can't go where it is to.
    Datagram(DatagramError),
    /// What was to be loaded is no rule program.
    Program(ProgramError),
    /// The rules in force are others than those asked about.
    OtherRules,
    /// The offset is beyond the end of the program.
    BeyondProgram,
    /// As many readers, reads of one reader, writers or loads as are allowed.
    TooMany,
    /// Another reader diverts the frames of this adapter.
    Taken,
    /// A frame that was written back isn't with the writer.
    NotOutstanding,
    /// The adapter is not running.
    NotRunning,
    /// A frame that was written is longer than the adapter sends, or can't be cut.
    FrameLength,
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
            Self::Write(error) => NtStatus(error.status()),
            Self::Datagram(error) => NtStatus(error.status()),
            Self::Program(error) => NtStatus(program_status(error)),
            Self::OtherRules => NtStatus(status::RETRY),
            Self::BeyondProgram => NtStatus(status::INVALID_PARAMETER_2),
            Self::Taken => NtStatus::SHARING_VIOLATION,
            Self::NotOutstanding => NtStatus::NOT_FOUND,
            Self::FrameLength => NtStatus(status::INVALID_PARAMETER_3),
            Self::NotRunning => NtStatus::DEVICE_NOT_READY,
            Self::TooMany => NtStatus::QUOTA_EXCEEDED,
            Self::TooSmall => NtStatus::BUFFER_TOO_SMALL,
            Self::Unloading => NtStatus::DELETE_PENDING,
            Self::System(status) => status,
        }
    }
}

/// What user mode is told of a program: that it is for another driver, that it is
/// too large, or that it is none.
fn program_status(error: ProgramError) -> i32 {
    match error {
        ProgramError::Version(_) => status::UNKNOWN_REVISION,
        ProgramError::TooMany { .. } => status::ALLOTTED_SPACE_EXCEEDED,
        _ => status::INVALID_IMAGE_FORMAT,
    }
}

impl From<WriteError> for Error {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}

impl From<ProgramError> for Error {
    fn from(error: ProgramError) -> Self {
        Self::Program(error)
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
