//! Datagrams, as they lie in a read and in a write of a UDP socket.
//!
//! A read gets one datagram and a write is one: a [`DatagramRecord`], then the
//! bytes. A read without room for a byte behind the record is refused; a datagram
//! longer than that room is cut, and says so. A datagram may have no bytes.

use core::fmt;
use core::net::SocketAddr;

use zerocopy::FromBytes;

use crate::{AddressError, DatagramFlags, SocketAddress, limits, status};

message! {
    /// What precedes the bytes of a datagram.
    pub struct DatagramRecord [48] {
        /// Size of the whole record: this header and the bytes.
        0 => size: u32,
        /// Bytes of the datagram that follow.
        4 => length: u32,
        /// [`DatagramFlags`]; 0 in a write.
        8 => flags: u32,
        /// Size of this header: where the bytes start.
        12 => header_len: u32,
        /// Read: who sent it. Write: where to send it, no address for the peer
        /// of a connected socket.
        16 => address: SocketAddress,
    }
}

/// Size of [`DatagramRecord`], as its `header_len` says it.
pub const DATAGRAM_HEADER_LEN: u32 = 48;
const _: () = assert!(DATAGRAM_HEADER_LEN as usize == size_of::<DatagramRecord>());

impl DatagramRecord {
    /// The header of a datagram of `length` bytes. `None` if its size doesn't fit
    /// 32 bits.
    #[must_use]
    pub fn new(length: u32, flags: DatagramFlags, address: Option<SocketAddr>) -> Option<Self> {
        Some(DatagramRecord {
            size: length.checked_add(DATAGRAM_HEADER_LEN)?,
            length,
            flags: flags.bits(),
            header_len: DATAGRAM_HEADER_LEN,
            address: address.into(),
        })
    }
}

/// Why bytes are not a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatagramError {
    /// Fewer bytes than the header has.
    TooShort(usize),
    /// More bytes than a datagram can have.
    TooLong(usize),
    /// The sizes in the header disagree with each other or with the length.
    Sizes {
        /// Bytes there are.
        got: usize,
        /// What the header says of them.
        size: u32,
    },
    /// Flags where there may be none.
    Flags(u32),
    /// The address is none, or not one to send to.
    Address(AddressError),
}

impl DatagramError {
    /// The NTSTATUS that says so.
    #[must_use]
    pub const fn status(self) -> i32 {
        match self {
            DatagramError::TooLong(_) => status::INVALID_BUFFER_SIZE,
            DatagramError::TooShort(_) | DatagramError::Sizes { .. } | DatagramError::Flags(_) => {
                status::INVALID_USER_BUFFER
            }
            DatagramError::Address(e) => e.status(),
        }
    }
}

impl fmt::Display for DatagramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DatagramError::TooShort(got) => {
                write!(
                    f,
                    "{got} bytes, shorter than a header of {DATAGRAM_HEADER_LEN}"
                )
            }
            DatagramError::TooLong(got) => write!(
                f,
                "a datagram of {got} bytes, at most {}",
                limits::MAX_DATAGRAM
            ),
            DatagramError::Sizes { got, size } => {
                write!(f, "{got} bytes with a header that says {size}")
            }
            DatagramError::Flags(flags) => write!(f, "flags {flags:#x} can't be written"),
            DatagramError::Address(e) => e.fmt(f),
        }
    }
}

impl core::error::Error for DatagramError {}

impl From<AddressError> for DatagramError {
    fn from(e: AddressError) -> Self {
        DatagramError::Address(e)
    }
}

/// The header of a write of `len` bytes: where to send what follows it, `None`
/// for the peer of a connected socket. Whether the socket can send there is not
/// known here.
pub fn datagram_write(header: &[u8], len: usize) -> Result<Option<SocketAddr>, DatagramError> {
    let record = sizes(header, len)?;
    if record.length > limits::MAX_DATAGRAM {
        return Err(DatagramError::TooLong(len));
    }
    if record.flags != 0 {
        return Err(DatagramError::Flags(record.flags));
    }
    if record.address == SocketAddress::NONE {
        return Ok(None);
    }
    Ok(Some(record.address.send_addr()?))
}

/// A datagram that was read: who sent it, what is to be said of it, its bytes.
pub fn datagram_read(read: &[u8]) -> Result<(SocketAddr, DatagramFlags, &[u8]), DatagramError> {
    let record = sizes(read, read.len())?;
    let bytes = read.get(size_of::<DatagramRecord>()..).unwrap_or(&[]);
    Ok((
        record.address.socket_addr()?,
        DatagramFlags::from_bits_truncate(record.flags),
        bytes,
    ))
}

/// The header at the start of `bytes`, if it speaks of `len` bytes in all.
fn sizes(bytes: &[u8], len: usize) -> Result<DatagramRecord, DatagramError> {
    let short = DatagramError::TooShort(bytes.len().min(len));
    let (record, _) = DatagramRecord::read_from_prefix(bytes).map_err(|_| short)?;
    let whole = DATAGRAM_HEADER_LEN.checked_add(record.length);
    if record.header_len != DATAGRAM_HEADER_LEN
        || whole != Some(record.size)
        || usize::try_from(record.size) != Ok(len)
    {
        return Err(DatagramError::Sizes {
            got: len,
            size: record.size,
        });
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    use super::*;

    fn bytes(record: &DatagramRecord, payload: &[u8]) -> Vec<u8> {
        [record.as_bytes(), payload].concat()
    }

    #[test]
    fn what_is_written_is_what_was_meant() {
        let to: SocketAddr = "[ff02::9%3]:7".parse().expect("an address");
        let record = DatagramRecord::new(3, DatagramFlags::empty(), Some(to)).expect("short");
        let whole = bytes(&record, b"abc");
        assert_eq!(datagram_write(&whole, 51), Ok(Some(to)));
        let peer = DatagramRecord::new(0, DatagramFlags::empty(), None).expect("short");
        assert_eq!(datagram_write(peer.as_bytes(), 48), Ok(None));
        let (from, flags, payload) = datagram_read(&whole).expect("good");
        assert_eq!(
            (from, flags, payload),
            (to, DatagramFlags::empty(), &b"abc"[..])
        );
    }

    #[test]
    fn bad_datagrams_have_their_status() {
        let to: SocketAddr = "127.0.0.1:7".parse().expect("an address");
        let good = DatagramRecord::new(3, DatagramFlags::empty(), Some(to)).expect("short");
        let status_of = |record: DatagramRecord, len| {
            datagram_write(record.as_bytes(), len)
                .expect_err("bad")
                .status()
        };
        let sizes = status::INVALID_USER_BUFFER;
        assert_eq!(status_of(good, 50), sizes);
        assert_eq!(status_of(DatagramRecord { size: 50, ..good }, 51), sizes);
        assert_eq!(status_of(DatagramRecord { length: 4, ..good }, 51), sizes);
        let length = u32::MAX;
        assert_eq!(status_of(DatagramRecord { length, ..good }, 51), sizes);
        let header_len = 40;
        assert_eq!(status_of(DatagramRecord { header_len, ..good }, 51), sizes);
        assert_eq!(status_of(DatagramRecord { flags: 1, ..good }, 51), sizes);
        let port = SocketAddress {
            port: 0,
            ..good.address
        };
        let nowhere = DatagramRecord {
            address: port,
            ..good
        };
        assert_eq!(status_of(nowhere, 51), status::INVALID_ADDRESS_COMPONENT);
        let long = limits::MAX_DATAGRAM + 1;
        let record = DatagramRecord::new(long, DatagramFlags::empty(), Some(to)).expect("fits");
        let whole = long as usize + 48;
        assert_eq!(status_of(record, whole), status::INVALID_BUFFER_SIZE);
        assert_eq!(
            DatagramRecord::new(u32::MAX, DatagramFlags::empty(), None),
            None
        );
        let error = datagram_write(&[0; 47], 47).expect_err("short");
        assert_eq!(error, DatagramError::TooShort(47));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_datagram_or_an_error(read in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Ok((_, _, payload)) = datagram_read(&read) {
                prop_assert_eq!(payload.len() + 48, read.len());
            }
            if let Err(e) = datagram_write(&read, read.len()) {
                prop_assert!(status::is_error(e.status()), "{e}");
            }
        }
    }
}
