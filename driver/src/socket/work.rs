//! What requests ask of a socket, and what that comes to.

use crate::kernel::status::NtStatus;

/// What a request asks for.
#[derive(Clone, Copy)]
pub(super) enum Work {
    /// Bytes of a stream, into so much room.
    Receive { room: u32 },
    /// So many bytes to a stream.
    Send { len: u32 },
    /// One datagram into so much room, its header at this address.
    ReceiveFrom { header: *mut u8, room: u32 },
    /// One datagram of so many bytes, header left out.
    SendTo { len: u32 },
    /// The end of a stream's sending direction.
    Disconnect,
    /// The reset of a stream; whether that is what it has failed with.
    Abort { failed: bool },
    /// A connection, for a socket that is being opened.
    Connect,
    /// A connection of a listener's, for a socket that is being opened.
    Accept,
}

impl Work {
    pub(super) fn is_read(self) -> bool {
        matches!(self, Self::Receive { .. } | Self::ReceiveFrom { .. })
    }

    pub(super) fn is_write(self) -> bool {
        matches!(self, Self::Send { .. } | Self::SendTo { .. })
    }

    /// Bytes it can have moved: what the provider says is believed up to that, as
    /// no more than that was locked.
    pub(super) fn moved(self, said: usize) -> usize {
        match self {
            Self::Receive { room: most }
            | Self::ReceiveFrom { room: most, .. }
            | Self::Send { len: most }
            | Self::SendTo { len: most } => said.min(usize::try_from(most).unwrap_or(0)),
            _ => 0,
        }
    }

    /// Bytes it gives to the transport.
    pub(super) fn queued(self) -> u64 {
        match self {
            Self::Send { len } | Self::SendTo { len } => u64::from(len),
            _ => 0,
        }
    }
}

/// Whether nothing more can come of a stream that has ended an operation so.
pub(super) fn is_final(status: NtStatus) -> bool {
    !matches!(
        status,
        NtStatus::CANCELLED
            | NtStatus::INSUFFICIENT_RESOURCES
            | NtStatus::NOT_SUPPORTED
            | NtStatus::INVALID_PARAMETER
            | NtStatus::INVALID_DEVICE_STATE
    )
}
