//! The envelope of each message, and the check every request passes first.

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{ABI_VERSION, AddressError, Ioctl, Message, status};

message! {
    /// First field of every request.
    pub struct RequestHeader [8] {
        /// [`ABI_VERSION`] of the sender.
        0 => version: u32,
        /// Size of the whole request.
        4 => size: u32,
    }
}

message! {
    /// First field of every reply.
    pub struct ReplyHeader [8] {
        /// [`ABI_VERSION`] of the driver.
        0 => version: u32,
        /// Size of the whole reply, the entries of a list included. Equal to
        /// the number of bytes the I/O manager reports.
        4 => size: u32,
    }
}

/// Why bytes are not the request they should be. In the order of the checks:
/// length, size field, version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// Fewer bytes than the request has.
    TooShort {
        /// Bytes given.
        got: usize,
        /// Bytes the request has.
        want: usize,
    },
    /// More bytes than the request has.
    TooLong {
        /// Bytes given.
        got: usize,
        /// Bytes the request has.
        want: usize,
    },
    /// The header's size field is not the length of the request.
    SizeField {
        /// What the field says.
        got: u32,
        /// Bytes the request has.
        want: usize,
    },
    /// The header states another version of the contract.
    Version(u32),
}

impl HeaderError {
    /// The NTSTATUS that says so.
    #[must_use]
    pub const fn status(self) -> i32 {
        match self {
            HeaderError::TooShort { .. } => status::INFO_LENGTH_MISMATCH,
            HeaderError::TooLong { .. } | HeaderError::SizeField { .. } => {
                status::INVALID_BUFFER_SIZE
            }
            HeaderError::Version(_) => status::REVISION_MISMATCH,
        }
    }
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeaderError::TooShort { got, want } => {
                write!(f, "{got} bytes, shorter than the {want} of this request")
            }
            HeaderError::TooLong { got, want } => {
                write!(f, "{got} bytes, longer than the {want} of this request")
            }
            HeaderError::SizeField { got, want } => {
                write!(f, "size field says {got}, the request has {want} bytes")
            }
            HeaderError::Version(v) => {
                write!(f, "contract version {v}, this side speaks {ABI_VERSION}")
            }
        }
    }
}

impl core::error::Error for HeaderError {}

/// Size of `T` as the 32 bits of a header.
const fn size32<T>() -> u32 {
    const {
        assert!(size_of::<T>() <= 0xffff, "a message fits in 64 KiB");
        size_of::<T>() as u32
    }
}

impl RequestHeader {
    /// The header of a request of type `T` in this version.
    #[must_use]
    pub const fn of<T>() -> Self {
        RequestHeader {
            version: ABI_VERSION,
            size: size32::<T>(),
        }
    }

    /// Whether `bytes` are a request of `expected_len` bytes in this version.
    pub fn check(bytes: &[u8], expected_len: usize) -> Result<(), HeaderError> {
        let header = Self::check_size(bytes, expected_len)?;
        if header.version != ABI_VERSION {
            return Err(HeaderError::Version(header.version));
        }
        Ok(())
    }

    /// Whether `bytes` are a request of `expected_len` bytes, of any version.
    pub fn check_size(bytes: &[u8], expected_len: usize) -> Result<Self, HeaderError> {
        let got = bytes.len();
        let short = HeaderError::TooShort {
            got,
            want: expected_len,
        };
        if got < expected_len {
            return Err(short);
        }
        if got > expected_len {
            return Err(HeaderError::TooLong {
                got,
                want: expected_len,
            });
        }
        let (header, _) = Self::read_from_prefix(bytes).map_err(|_| short)?;
        if usize::try_from(header.size) != Ok(expected_len) {
            return Err(HeaderError::SizeField {
                got: header.size,
                want: expected_len,
            });
        }
        Ok(header)
    }
}

impl ReplyHeader {
    /// The header of a reply of type `T` with nothing after it.
    #[must_use]
    pub const fn of<T>() -> Self {
        ReplyHeader {
            version: ABI_VERSION,
            size: size32::<T>(),
        }
    }

    /// The header of a list reply: `T` followed by `count` entries of type `E`.
    /// `None` if that is 4 GiB or more.
    #[must_use]
    pub fn of_list<T, E>(count: u32) -> Option<Self> {
        let size = size32::<E>()
            .checked_mul(count)?
            .checked_add(size32::<T>())?;
        Some(ReplyHeader {
            version: ABI_VERSION,
            size,
        })
    }
}

/// A type that starts a request, and what answers it.
pub trait Request: Message + FromBytes + IntoBytes + Immutable + KnownLayout {
    /// The IOCTL it is sent with.
    const IOCTL: Ioctl;
    /// What the reply starts with.
    type Reply: Message + FromBytes + IntoBytes + Immutable + KnownLayout;
    /// Whether it is taken whatever version its header states.
    const ANY_VERSION: bool = false;
    /// Bytes of any content that may follow it, at most.
    const MAX_TAIL: u32 = 0;

    /// A checked copy of the request in `bytes`, which may change afterwards
    /// without changing what was checked. Alignment doesn't matter. What follows
    /// the request has been looked at as far as its length goes.
    fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let fixed = size_of::<Self>();
        let tail = usize::try_from(Self::MAX_TAIL).unwrap_or(usize::MAX);
        let want = bytes.len().clamp(fixed, fixed.saturating_add(tail));
        if Self::ANY_VERSION {
            RequestHeader::check_size(bytes, want)?;
        } else {
            RequestHeader::check(bytes, want)?;
        }
        let short = HeaderError::TooShort {
            got: bytes.len(),
            want,
        };
        Self::read_from_prefix(bytes)
            .map(|(request, _)| request)
            .map_err(|_| short)
    }
}

/// Why a request with a good header can't be done as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// A reserved field isn't 0.
    Reserved,
    /// Field `n` after the header (from 1) is out of its range.
    Field {
        /// Which field.
        n: u8,
        /// Its name.
        name: &'static str,
        /// Its value.
        value: u32,
    },
    /// The address is not one to listen on.
    Address(AddressError),
}

impl RequestError {
    /// The NTSTATUS that says so.
    #[must_use]
    pub const fn status(self) -> i32 {
        match self {
            RequestError::Address(e) => e.status(),
            RequestError::Field { n: 1, .. } => status::INVALID_PARAMETER_1,
            RequestError::Field { n: 2, .. } => status::INVALID_PARAMETER_2,
            RequestError::Field { n: 3, .. } => status::INVALID_PARAMETER_3,
            RequestError::Field { n: 4, .. } => status::INVALID_PARAMETER_4,
            RequestError::Field { n: 5, .. } => status::INVALID_PARAMETER_5,
            RequestError::Field { n: 6, .. } => status::INVALID_PARAMETER_6,
            RequestError::Reserved | RequestError::Field { .. } => status::INVALID_PARAMETER,
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestError::Reserved => f.write_str("a reserved field isn't 0"),
            RequestError::Field { name, value, .. } => {
                write!(f, "{name} is {value}, out of its range")
            }
            RequestError::Address(e) => e.fmt(f),
        }
    }
}

impl core::error::Error for RequestError {}

impl From<AddressError> for RequestError {
    fn from(e: AddressError) -> Self {
        RequestError::Address(e)
    }
}
