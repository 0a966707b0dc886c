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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::RequestHeader;
    use zerocopy::IntoBytes;

    proptest! {
        /// Nothing user mode sends is more than a command or an error.
        #[test]
        fn any_bytes_are_a_command_or_an_error(
            which in 0..9_usize,
            good_header: bool,
            mut bytes in prop::collection::vec(any::<u8>(), 0..64),
            room in 0..512_usize,
        ) {
            let ioctl = Ioctl::ALL[which];
            if good_header && bytes.len() >= 8 {
                let size = bytes.len() as u32;
                let header = RequestHeader { version: crate::ABI_VERSION, size };
                bytes[..8].copy_from_slice(header.as_bytes());
            }
            match Command::decode(ioctl.code(), &bytes, room) {
                Ok(_) => prop_assert!(good_header || bytes.len() == 8),
                Err(e) => prop_assert!(status::is_error(e.status()), "{e}"),
            }
        }

        #[test]
        fn unknown_codes_are_refused(code: u32) {
            prop_assume!(Ioctl::from_code(code).is_none());
            let error = Command::decode(code, &[], 0).expect_err("unknown");
            prop_assert_eq!(error.status(), status::INVALID_DEVICE_REQUEST);
        }
    }

    #[test]
    fn the_length_is_looked_at_before_what_it_holds() {
        let code = Ioctl::ServiceStop.code();
        let good = ServiceStopRequest::new(1);
        let mut bytes = good.as_bytes().to_vec();
        bytes[0] = 9;
        let status_of = |bytes: &[u8], room| {
            Command::decode(code, bytes, room)
                .expect_err("bad")
                .status()
        };
        assert_eq!(status_of(&bytes[..15], 0), status::INFO_LENGTH_MISMATCH);
        assert_eq!(status_of(&bytes, 0), status::REVISION_MISMATCH);
        assert_eq!(status_of(good.as_bytes(), 7), status::BUFFER_TOO_SMALL);
        assert_eq!(
            Command::decode(code, good.as_bytes(), 8),
            Ok(Command::ServiceStop { id: 1 })
        );
    }
}
