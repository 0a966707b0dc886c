//! The sockets of services, as SOCKET_LIST shows them: after those of handles,
//! by service, and within a service its listener first and then its connections,
//! the youngest first. What is opened while somebody lists isn't met any more.

use weir_abi::{SocketAddress, SocketInfo, SocketKind, SocketState, status};

/// Ids of services' sockets have this bit; those of handles never get so far.
const OF_A_SERVICE: u64 = 1 << 62;
/// Bits of the number of a socket within its service.
const NUMBER_BITS: u32 = 34;
/// The last number: that of the first connection's last socket.
const LAST: u64 = (1 << NUMBER_BITS) - 1;
/// Bits of the service's id that fit.
const SERVICE: u64 = (1 << (62 - NUMBER_BITS)) - 1;

/// Number of a service's own socket.
pub(super) const OWN: u64 = 0;

/// The number of a socket (`side`: 0 or 1) of the `count`th connection; it is
/// the smaller the later that came.
pub(super) fn number(count: u32, side: usize) -> u64 {
    let back = u64::from(count).saturating_mul(2);
    let side = u64::from(side == 0);
    LAST.saturating_sub(back).saturating_sub(side)
}

/// The id of a service's socket.
pub(super) fn id(service: u32, number: u64) -> u64 {
    let service = u64::from(service) & SERVICE;
    OF_A_SERVICE | service.wrapping_shl(NUMBER_BITS) | (number & LAST)
}

/// Of the sockets from `id` on: the service they begin with, and the number of
/// the first in it.
pub(super) fn place(id: u64) -> (u32, u64) {
    if id < OF_A_SERVICE {
        return (0, OWN);
    }
    let service = (id & !OF_A_SERVICE).wrapping_shr(NUMBER_BITS) & SERVICE;
    (u32::try_from(service).unwrap_or(u32::MAX), id & LAST)
}

/// What is shown of a socket nothing is known of.
pub(super) fn blank(service: u32, number: u64, kind: SocketKind, state: SocketState) -> SocketInfo {
    SocketInfo {
        id: id(service, number),
        kind: kind.into(),
        state: state.into(),
        local: SocketAddress::NONE,
        remote: SocketAddress::NONE,
        bytes_in: 0,
        bytes_out: 0,
        reads: 0,
        writes: 0,
        queued: 0,
        refused: 0,
        opened_100ns: 0,
        owner: 0,
        service,
        flags: 0,
        status: status::SUCCESS,
        pending_reads: 0,
        pending_writes: 0,
    }
}
