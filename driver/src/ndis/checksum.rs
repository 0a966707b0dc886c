//! Which checksums of a frame are whose business, and whether they are right.
//!
//! An adapter may verify the checksums of what it receives and compute those of
//! what it sends (MSDN, "NDIS_TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO"). What it
//! says it has done, or is asked to do, is believed; the rest is looked at here.
//! A wrong checksum is counted and remarked, never acted on: that is the host's
//! business.
//!
//! Not looked at: on the way in the transport checksum of what the adapter has
//! put together of several segments, and of what was never on a wire (loopback);
//! on the way out those of frames the adapter is to cut into segments; both ways
//! fragments.

use weir_abi::{Direction, RecordFlags};
use weir_engine::wire::checksum::{Check, Checksums, Sum, verify_runs};
use weir_engine::wire::{Dissected, Transport};

use super::finish::datagram_size;
use super::nb::NbBytes;
use super::nbl;
use super::sys::{self, NET_BUFFER_LIST};

/// `Receive` in `NDIS_TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO`.
mod receive {
    pub(super) const TCP_FAILED: usize = 1 << 0;
    pub(super) const UDP_FAILED: usize = 1 << 1;
    pub(super) const IP_FAILED: usize = 1 << 2;
    pub(super) const TCP_SUCCEEDED: usize = 1 << 3;
    pub(super) const UDP_SUCCEEDED: usize = 1 << 4;
    pub(super) const IP_SUCCEEDED: usize = 1 << 5;
    pub(super) const LOOPBACK: usize = 1 << 6;
    pub(super) const TCP_INVALID: usize = 1 << 7;
    pub(super) const IP_INVALID: usize = 1 << 8;
}

/// `Transmit` in the same.
mod transmit {
    pub(super) const TCP: usize = 1 << 2;
    pub(super) const UDP: usize = 1 << 3;
    pub(super) const IP_HEADER: usize = 1 << 4;
}

/// `MSS` in `NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO` and in
/// `NDIS_UDP_SEGMENTATION_OFFLOAD_NET_BUFFER_LIST_INFO`.
const SEGMENT_SIZE: usize = (1 << 20) - 1;

/// What the adapter does, or has done, about the frames of a list.
#[derive(Clone, Copy)]
pub(super) struct Offload {
    direction: Direction,
    /// The list's checksum information.
    checksums: usize,
    /// Sent: bytes of payload in each segment the adapter is to make; 0 for none.
    segment_size: u16,
    /// Received: what the adapter says of datagrams it has put together.
    datagrams: usize,
    /// Received: it may be several segments in one.
    coalesced: bool,
}

impl Offload {
    /// Of the frames of this list.
    pub(super) fn of(list: &NET_BUFFER_LIST, direction: Direction) -> Self {
        let info = |index| nbl::info(list, index);
        let checksums = info(sys::TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO);
        // One entry for both: it depends on the direction which it is.
        let shared = info(sys::TCP_RECV_SEG_COALESCE_INFO);
        match direction {
            Direction::In => Self {
                direction,
                checksums,
                segment_size: 0,
                datagrams: info(sys::UDP_RECV_SEG_COALESCE_INFO),
                coalesced: shared != 0 || info(sys::UDP_RECV_SEG_COALESCE_INFO) != 0,
            },
            Direction::Out => {
                let tcp = info(sys::TCP_LARGE_SEND_NET_BUFFER_LIST_INFO) & SEGMENT_SIZE;
                let size = if tcp != 0 { tcp } else { shared & SEGMENT_SIZE };
                Self {
                    direction,
                    checksums,
                    segment_size: u16::try_from(size).unwrap_or(u16::MAX),
                    datagrams: 0,
                    coalesced: false,
                }
            }
        }
    }

    /// Bytes of payload in each segment that the adapter is to make; 0: none.
    pub(super) fn segment_size(&self) -> u16 {
        self.segment_size
    }

    /// The same, or of a received frame bytes of payload in each of the datagrams
    /// that the adapter has put together: what it is to be cut into if it is
    /// handed up by itself.
    pub(super) fn segment_size_of(&self, frame: &Dissected<'_>) -> u16 {
        match frame.transport {
            Transport::Udp(_) if self.datagrams != 0 => {
                datagram_size(self.datagrams, frame.payload.on_wire())
            }
            _ => self.segment_size,
        }
    }

    /// Looks at the checksums of a frame that are nobody else's business, and
    /// takes over what the adapter says of the others. `window`: what `frame`
    /// was dissected from.
    pub(super) fn verify(
        &self,
        frame: &Dissected<'_>,
        window: &[u8],
        bytes: &NbBytes<'_>,
    ) -> Checksums {
        let (network, transport) = match self.direction {
            Direction::In => self.told(frame),
            Direction::Out => self.left_to_adapter(frame),
        };
        if let (Some(network), Some(transport)) = (network, transport) {
            return Checksums { network, transport };
        }
        let seen = verify_runs(frame, window, |start, len, sum| {
            transport.is_none() && add(bytes, start, len, sum)
        });
        Checksums {
            network: network.unwrap_or(seen.network),
            transport: transport.unwrap_or(seen.transport),
        }
    }

    /// What the adapter says of a received frame's checksums.
    fn told(&self, frame: &Dissected<'_>) -> (Option<Check>, Option<Check>) {
        let say = |failed, succeeded, untold| {
            if self.checksums & failed != 0 {
                Some(Check::Bad)
            } else if self.checksums & succeeded != 0 {
                Some(Check::Good)
            } else if self.checksums & untold != 0 {
                Some(Check::Unknown)
            } else {
                None
            }
        };
        let network = say(
            receive::IP_FAILED,
            receive::IP_SUCCEEDED,
            receive::LOOPBACK | receive::IP_INVALID,
        );
        let transport = match frame.transport {
            Transport::Tcp(_) => say(
                receive::TCP_FAILED,
                receive::TCP_SUCCEEDED,
                receive::LOOPBACK | receive::TCP_INVALID,
            ),
            Transport::Udp(_) => say(
                receive::UDP_FAILED,
                receive::UDP_SUCCEEDED,
                receive::LOOPBACK,
            ),
            _ => None,
        };
        let coalesced = self.coalesced.then_some(Check::Unknown);
        (network.or(coalesced), transport.or(coalesced))
    }

    /// Which checksums of a sent frame the adapter has yet to compute.
    fn left_to_adapter(&self, frame: &Dissected<'_>) -> (Option<Check>, Option<Check>) {
        if self.segment_size != 0 {
            return (Some(Check::Unknown), Some(Check::Unknown));
        }
        let left = |bit| (self.checksums & bit != 0).then_some(Check::Unknown);
        let transport = match frame.transport {
            Transport::Tcp(_) => left(transmit::TCP),
            Transport::Udp(_) => left(transmit::UDP),
            _ => None,
        };
        (left(transmit::IP_HEADER), transport)
    }

    /// What a record of the frame remarks about its checksums.
    pub(super) fn remarks(&self, found: Checksums) -> RecordFlags {
        let mut flags = RecordFlags::empty();
        if found.network == Check::Bad || found.transport == Check::Bad {
            flags |= RecordFlags::BAD_CHECKSUM;
        }
        let adapters = match self.direction {
            Direction::In => {
                receive::TCP_SUCCEEDED | receive::UDP_SUCCEEDED | receive::IP_SUCCEEDED
            }
            Direction::Out => transmit::TCP | transmit::UDP | transmit::IP_HEADER,
        };
        if self.checksums & adapters != 0 || self.segment_size != 0 || self.coalesced {
            flags |= RecordFlags::CHECKSUM_OFFLOAD;
        }
        flags
    }
}

/// The checksum information of a frame that goes up and whose checksums are
/// vouched for: the host needn't look.
pub(super) fn vouched(frame: &Dissected<'_>) -> usize {
    let ip = if frame.network_offset().is_some() {
        receive::IP_SUCCEEDED
    } else {
        0
    };
    match frame.transport {
        Transport::Tcp(_) => ip | receive::TCP_SUCCEEDED,
        Transport::Udp(_) => ip | receive::UDP_SUCCEEDED,
        _ => ip,
    }
}

/// Adds `len` bytes of the frame from `start` on; says whether they were there.
fn add(bytes: &NbBytes<'_>, start: usize, len: usize, sum: &mut Sum) -> bool {
    let mut at = start;
    let mut left = len;
    let mut piece = [0u8; 512];
    while left != 0 {
        let Some(here) = piece.get_mut(..left.min(512)) else {
            return false;
        };
        let Ok(offset) = u32::try_from(at) else {
            return false;
        };
        let wanted = here.len();
        if bytes.copy_to(offset, here) != wanted {
            return false;
        }
        sum.add(here);
        at = at.saturating_add(wanted);
        left = left.saturating_sub(wanted);
    }
    true
}
