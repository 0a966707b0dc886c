//! Everything the driver can be asked for, checked as far as the bytes go.
//!
//! [`Command::decode`] is the one door for what user mode sends. It looks, in
//! this order, at the IOCTL code, the length of the request, its size field,
//! its version, the room for the reply, and the fields. What needs the
//! driver's state (is there such an adapter, has the handle this role) comes
//! after it, in the handler.

use core::fmt;
use core::num::{NonZeroU32, NonZeroU64};

use crate::{
    AdapterListRequest, AdapterStatsRequest, AlarmListRequest, CaptureOptions, DivertOptions,
    FlowListRequest, FlowStatsRequest, HeaderError, Ioctl, OpenCaptureRequest, OpenDivertRequest,
    OpenInjectRequest, ReaderStatsRequest, Request, RequestError, ResolveRequest, RulesLoadRequest,
    RulesReadRequest, RulesStatsRequest, ServiceListRequest, ServiceSpec, ServiceStartRequest,
    ServiceStopRequest, ShutdownHow, SocketAcceptRequest, SocketGetOptionRequest,
    SocketInfoRequest, SocketListRequest, SocketOpenRequest, SocketOption, SocketSetOptionRequest,
    SocketSetting, SocketShutdownRequest, SocketSpec, StatusRequest, VersionRequest, status,
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
    /// The balance of this handle.
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
    /// Rules to put in force: [`RulesLoadRequest::program`] of the request.
    RulesLoad {
        /// Bytes of the program; 0: no rules.
        program_len: u32,
    },
    /// The program in force.
    RulesRead {
        /// The generation it must be; `None` for any.
        generation: Option<NonZeroU64>,
        /// How many bytes to pass over.
        offset: u32,
    },
    /// The counters of the rules in force.
    RulesStats {
        /// The generation it must be; `None` for any.
        generation: Option<NonZeroU64>,
        /// How many rules to pass over.
        start: u32,
    },
    /// The divert role for this handle.
    OpenDivert(DivertOptions),
    /// The inject role for this handle.
    OpenInject {
        /// The one adapter; `None` for any.
        adapter: Option<NonZeroU32>,
    },
    /// The flows of an adapter.
    FlowList {
        /// Its id.
        adapter: u32,
        /// Where to go on.
        cursor: u64,
    },
    /// The counters of an adapter's flow table.
    FlowStats {
        /// Its id.
        adapter: u32,
    },
    /// The alarms.
    AlarmList {
        /// From this number on.
        since: u64,
    },
    /// The role of a socket for this handle.
    SocketOpen(SocketSpec),
    /// The role of a TCP stream, with a connection of a listener.
    SocketAccept {
        /// The listener's id.
        listener: u64,
    },
    /// This handle's stream to be ended.
    SocketShutdown(ShutdownHow),
    /// An option of this handle's socket, with its new value.
    SocketSetOption(SocketSetting),
    /// An option of this handle's socket.
    SocketGetOption(SocketOption),
    /// This handle's socket.
    SocketInfo,
    /// The sockets.
    SocketList {
        /// Where to go on.
        cursor: u64,
    },
    /// The addresses of a name: [`ResolveRequest::query`] of the request.
    Resolve,
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
            Ioctl::RulesLoad => Command::RulesLoad {
                program_len: admit::<RulesLoadRequest>(input, output_len)?.program_len()?,
            },
            Ioctl::RulesRead => {
                let (generation, offset) = admit::<RulesReadRequest>(input, output_len)?.part()?;
                Command::RulesRead { generation, offset }
            }
            Ioctl::RulesStats => {
                let (generation, start) = admit::<RulesStatsRequest>(input, output_len)?.part()?;
                Command::RulesStats { generation, start }
            }
            Ioctl::OpenDivert => {
                let request = admit::<OpenDivertRequest>(input, output_len)?;
                Command::OpenDivert(DivertOptions::try_from(&request)?)
            }
            Ioctl::OpenInject => Command::OpenInject {
                adapter: admit::<OpenInjectRequest>(input, output_len)?.adapter()?,
            },
            Ioctl::FlowList => {
                let (adapter, cursor) = admit::<FlowListRequest>(input, output_len)?.part()?;
                Command::FlowList { adapter, cursor }
            }
            Ioctl::FlowStats => Command::FlowStats {
                adapter: admit::<FlowStatsRequest>(input, output_len)?.adapter()?,
            },
            Ioctl::AlarmList => Command::AlarmList {
                since: admit::<AlarmListRequest>(input, output_len)?.since,
            },
            Ioctl::SocketOpen => {
                let request = admit::<SocketOpenRequest>(input, output_len)?;
                Command::SocketOpen(SocketSpec::try_from(&request)?)
            }
            Ioctl::SocketAccept => Command::SocketAccept {
                listener: admit::<SocketAcceptRequest>(input, output_len)?.listener,
            },
            Ioctl::SocketShutdown => {
                let request = admit::<SocketShutdownRequest>(input, output_len)?;
                Command::SocketShutdown(request.how()?)
            }
            Ioctl::SocketSetOption => {
                let request = admit::<SocketSetOptionRequest>(input, output_len)?;
                Command::SocketSetOption(SocketSetting::try_from(&request)?)
            }
            Ioctl::SocketGetOption => {
                let request = admit::<SocketGetOptionRequest>(input, output_len)?;
                Command::SocketGetOption(request.option()?)
            }
            Ioctl::SocketInfo => {
                admit::<SocketInfoRequest>(input, output_len)?;
                Command::SocketInfo
            }
            Ioctl::SocketList => Command::SocketList {
                cursor: admit::<SocketListRequest>(input, output_len)?.cursor,
            },
            Ioctl::Resolve => {
                admit::<ResolveRequest>(input, output_len)?.query()?;
                Command::Resolve
            }
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
            which in 0..Ioctl::ALL.len(),
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

    /// RULES_LOAD is the one request with something behind it.
    #[test]
    fn a_tail_is_taken_where_there_may_be_one_and_no_longer_than_may_be() {
        let code = Ioctl::RulesLoad.code();
        let room = size_of::<crate::RulesLoadReply>();
        let decode = |bytes: &[u8]| Command::decode(code, bytes, room);
        for len in [0, 1, 32, 1000] {
            let mut bytes = RulesLoadRequest::new(len)
                .expect("short")
                .as_bytes()
                .to_vec();
            bytes.resize(bytes.len() + len as usize, 7);
            assert_eq!(decode(&bytes), Ok(Command::RulesLoad { program_len: len }));
            assert_eq!(RulesLoadRequest::program(&bytes).len(), len as usize);
            bytes.push(0);
            let status = decode(&bytes).expect_err("longer").status();
            assert_eq!(status, status::INVALID_BUFFER_SIZE);
            bytes.truncate(bytes.len().saturating_sub(2));
            let status = decode(&bytes).expect_err("shorter").status();
            let want = if len == 0 {
                status::INFO_LENGTH_MISMATCH
            } else {
                status::INVALID_BUFFER_SIZE
            };
            assert_eq!(status, want);
        }
        assert_eq!(RulesLoadRequest::new(crate::limits::MAX_PROGRAM + 1), None);
        let most = RulesLoadRequest::new(crate::limits::MAX_PROGRAM).expect("at most");
        let mut bytes = most.as_bytes().to_vec();
        bytes.resize(16 + crate::limits::MAX_PROGRAM as usize, 0);
        assert!(decode(&bytes).is_ok());
        bytes.push(0);
        let len = bytes.len() as u32;
        bytes[4..8].copy_from_slice(&len.to_le_bytes());
        let error = decode(&bytes).expect_err("longer than any program");
        assert_eq!(error.status(), status::INVALID_BUFFER_SIZE);
        assert!(matches!(
            error,
            CommandError::Header(HeaderError::TooLong { .. })
        ));
    }
}
