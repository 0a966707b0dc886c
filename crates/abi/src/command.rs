//! Everything the driver can be asked for, checked as far as the bytes go.
//!
//! [`Command::decode`] is the one door for what user mode sends. It looks, in
//! this order, at the IOCTL code, the length of the request, its size field,
//! its version, the room for the reply, and the fields. What needs the
//! driver's state (is there such an adapter, has the handle this role) comes
//! after it, in the handler.

use core::fmt;

use crate::{
    AdapterListRequest, AdapterStatsRequest, CaptureOptions, HeaderError, Ioctl,
    OpenCaptureRequest, ReaderStatsRequest, Request, RequestError, ServiceListRequest, ServiceSpec,
    ServiceStartRequest, ServiceStopRequest, StatusRequest, VersionRequest, status,
};

/// A request that makes sense in itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// What the driver speaks.
    GetVersion,
    /// How the driver is.
    GetStatus,
    /// The adapters after the first `start`.
    ListAdapters {
        /// How many to pass over.
        start: u32,
    },
    /// The statistics of one adapter.
    GetAdapterStats {
        /// Its id.
        adapter: u32,
    },
    /// The capture role for this handle.
    OpenCapture(CaptureOptions),
    /// The balance of this handle's reader.
    GetReaderStats,
    /// A service to start.
    ServiceStart(ServiceSpec),
    /// The services after the first `start`.
    ServiceList {
        /// How many to pass over.
        start: u32,
    },
    /// A service to stop.
    ServiceStop {
        /// Its id.
        id: u32,
    },
}

/// Why there is no [`Command`] in what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// No IOCTL has this code.
    UnknownIoctl(u32),
    /// The bytes are not the request of this IOCTL.
    Header(HeaderError),
    /// The output buffer has no room for the fixed part of the reply.
    OutputTooSmall {
        /// Bytes of room.
        got: usize,
        /// Bytes of the reply's fixed part.
        want: usize,
    },
    /// A field is not what it should be.
    Request(RequestError),
}

impl CommandError {
    /// The NTSTATUS that says so.
    #[must_use]
    pub const fn status(self) -> i32 {
        match self {
            CommandError::UnknownIoctl(_) => status::INVALID_DEVICE_REQUEST,
            CommandError::Header(e) => e.status(),
            CommandError::OutputTooSmall { .. } => status::BUFFER_TOO_SMALL,
            CommandError::Request(e) => e.status(),
        }
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CommandError::UnknownIoctl(code) => write!(f, "there is no IOCTL {code:#010x}"),
            CommandError::Header(e) => e.fmt(f),
            CommandError::OutputTooSmall { got, want } => {
                write!(f, "room for {got} bytes, the reply has {want}")
            }
            CommandError::Request(e) => e.fmt(f),
        }
    }
}

impl core::error::Error for CommandError {}

impl From<HeaderError> for CommandError {
    fn from(e: HeaderError) -> Self {
        CommandError::Header(e)
    }
}

impl From<RequestError> for CommandError {
    fn from(e: RequestError) -> Self {
        CommandError::Request(e)
    }
}

/// The request in `input`, if there is room for its reply in `output_len` bytes.
fn admit<R: Request>(input: &[u8], output_len: usize) -> Result<R, CommandError> {
    let request = R::decode(input)?;
    let want = size_of::<R::Reply>();
    if output_len < want {
        return Err(CommandError::OutputTooSmall {
            got: output_len,
            want,
        });
    }
    Ok(request)
}

impl Command {
    /// The command that was sent: IOCTL `code` with the request `input`, and
    /// `output_len` bytes of room for the reply.
    pub fn decode(code: u32, input: &[u8], output_len: usize) -> Result<Command, CommandError> {
        let ioctl = Ioctl::from_code(code).ok_or(CommandError::UnknownIoctl(code))?;
        Ok(match ioctl {
            Ioctl::GetVersion => {
                admit::<VersionRequest>(input, output_len)?;
                Command::GetVersion
            }
            Ioctl::GetStatus => {
                admit::<StatusRequest>(input, output_len)?;
                Command::GetStatus
            }
            Ioctl::ListAdapters => Command::ListAdapters {
                start: admit::<AdapterListRequest>(input, output_len)?.start()?,
            },
            Ioctl::GetAdapterStats => Command::GetAdapterStats {
                adapter: admit::<AdapterStatsRequest>(input, output_len)?.adapter()?,
            },
            Ioctl::OpenCapture => {
                let request = admit::<OpenCaptureRequest>(input, output_len)?;
                Command::OpenCapture(CaptureOptions::try_from(&request)?)
            }
            Ioctl::GetReaderStats => {
                admit::<ReaderStatsRequest>(input, output_len)?;
                Command::GetReaderStats
            }
            Ioctl::ServiceStart => {
                let request = admit::<ServiceStartRequest>(input, output_len)?;
                Command::ServiceStart(ServiceSpec::try_from(&request)?)
            }
            Ioctl::ServiceList => Command::ServiceList {
                start: admit::<ServiceListRequest>(input, output_len)?.start()?,
            },
            Ioctl::ServiceStop => Command::ServiceStop {
                id: admit::<ServiceStopRequest>(input, output_len)?.id()?,
            },
        })
    }
}
