//! What an adapter would do to a frame that is to be sent, done here: checksums
//! filled in, and a frame with more payload than fits cut into segments.
//!
//! A diverted frame comes back as it was sent, with what was left to the adapter
//! still to be done. Asking the adapter for it would trust user mode with what
//! adapters don't check, and a frame can come back to another adapter than the
//! one that said it could.

use weir_engine::wire::checksum::verify_runs;
use weir_engine::wire::{self, Network, Transport};

/// The least payload of a segment of TCP: what keeps a frame from becoming
/// thousands. UDP's are what was sent, each a datagram, and stay as long as they
/// were; how many there can be the memory under way limits (`budget.rs`).
const MIN_TCP_SEGMENT: usize = 64;

/// Offsets into headers.
const IPV4_TOTAL_LEN: usize = 2;
const IPV4_ID: usize = 4;
const IPV4_CHECKSUM: usize = 10;
const IPV6_PAYLOAD_LEN: usize = 4;
const IPV6_HEADER_LEN: usize = 40;
const TCP_SEQ: usize = 4;
const TCP_FLAGS: usize = 13;
const TCP_CHECKSUM: usize = 16;
const UDP_LEN: usize = 4;
const UDP_CHECKSUM: usize = 6;
const UDP_HEADER_LEN: usize = 8;
/// FIN and PSH: of the last segment only. CWR: of the first only.
const TCP_LAST: u8 = 0x01 | 0x08;
const TCP_FIRST: u8 = 0x80;

/// Fills in the checksums of IPv4, TCP and UDP, where all that they cover is
/// here; leaves others as they are.
pub(super) fn checksums(frame: &mut [u8]) {
    // A UDP checksum of zero says that there is none, and would be passed over.
    let udp = with(frame, |headers| match headers.transport {
        Transport::Udp(udp) if udp.checksum() == 0 => headers.transport_offset(),
        _ => None,
    });
    let none = udp.and_then(|at| at.checked_add(UDP_CHECKSUM));
    if let Some(field) = none {
        put(frame, field, &[0xff, 0xff]);
    }
    if let Some((field, checksum)) = with(frame, ipv4) {
        put(frame, field, &checksum.to_be_bytes());
    }
    if let Some((field, checksum)) = transport(frame) {
        put(frame, field, &checksum.to_be_bytes());
    } else if let Some(field) = none {
        // Not all of it is here (a first fragment): it still has none.
        put(frame, field, &[0, 0]);
    }
}

/// Where the header checksum of IPv4 is, and what it should be.
fn ipv4(headers: &wire::Dissected<'_>) -> Option<(usize, u16)> {
    let Network::Ipv4(ip) = &headers.network else {
        return None;
    };
    let mut sum = wire::checksum::Sum::new();
    let (before, rest) = ip.fixed().split_at_checked(IPV4_CHECKSUM)?;
    sum.add(before);
    sum.add(rest.get(2..)?);
    sum.add(ip.options());
    let field = headers.network_offset()?.checked_add(IPV4_CHECKSUM)?;
    Some((field, sum.checksum()))
}

/// Where the checksum of TCP or UDP is, and what it should be.
fn transport(frame: &[u8]) -> Option<(usize, u16)> {
    let len = u32::try_from(frame.len()).ok()?;
    let headers = wire::dissect(frame, len);
    let (within, udp) = match headers.transport {
        Transport::Tcp(_) => (TCP_CHECKSUM, false),
        Transport::Udp(_) => (UDP_CHECKSUM, true),
        _ => return None,
    };
    let field = headers.transport_offset()?.checked_add(within)?;
    let mut found = None;
    // It knows what is covered, and comes here with the pseudo-header added.
    let _unused = verify_runs(&headers, frame, |start, len, sum| {
        let covered = frame.get(start..).and_then(|rest| rest.get(..len));
        let Some((before, rest)) = covered.and_then(|bytes| bytes.split_at_checked(within)) else {
            return false;
        };
        sum.add(before);
        sum.add(rest.get(2..).unwrap_or_default());
        found = Some(sum.checksum());
        true
    });
    // RFC 768: a sum of zero is sent as all ones.
    let checksum = found.map(|sum| if udp && sum == 0 { 0xffff } else { sum })?;
    Some((field, checksum))
}

/// Bytes of payload in each of the datagrams that an adapter has put together to
/// one of `payload` bytes, by what it says beside the frame (MSDN,
/// "NDIS_UDP_RSC_OFFLOAD_NET_BUFFER_LIST_INFO": `SegCount` in the low 16 bits,
/// `SegSize` in the next). 0: it is one datagram, or what it says can't be.
pub(super) fn datagram_size(beside: usize, payload: usize) -> u16 {
    let (count, size) = (beside & 0xffff, beside >> 16 & 0xffff);
    let fits = |count: usize| payload <= count.saturating_mul(size);
    if count > 1 && fits(count) && !fits(count.saturating_sub(1)) {
        u16::try_from(size).unwrap_or(0)
    } else {
        0
    }
}

/// How a frame is to be cut.
#[derive(Clone, Copy)]
pub(super) struct Cut {
    network: usize,
    ipv4: bool,
    transport: usize,
    tcp: bool,
    /// Bytes before the payload.
    headers: usize,
    /// Payload bytes in each segment but the last.
    size: usize,
    payload: usize,
}

impl Cut {
    /// How to cut a frame of TCP or UDP over IP into segments of `size` bytes of
    /// payload, one if it has no more; `None` if it can't be cut.
    pub(super) fn of(frame: &[u8], size: u16) -> Option<Self> {
        let (network, ipv4, transport, tcp, header_len) = with(frame, |headers| {
            if headers.is_fragment() {
                return None;
            }
            let ipv4 = matches!(headers.network, Network::Ipv4(_));
            let (tcp, header_len) = match headers.transport {
                Transport::Tcp(tcp) => (true, tcp.header_len()),
                Transport::Udp(_) => (false, UDP_HEADER_LEN),
                _ => return None,
            };
            let (network, transport) = (headers.network_offset()?, headers.transport_offset()?);
            Some((network, ipv4, transport, tcp, header_len))
        })?;
        let least = if tcp { MIN_TCP_SEGMENT } else { 1 };
        let size = usize::from(size).max(least);
        let headers = transport.checked_add(header_len)?;
        // All of it: a length in a header that is left to the adapter is no guide.
        let payload = frame.len().checked_sub(headers)?;
        Some(Self {
            network,
            ipv4,
            transport,
            tcp,
            headers,
            size,
            payload,
        })
    }

    /// How many segments it makes.
    pub(super) fn count(&self) -> usize {
        self.payload.div_ceil(self.size.max(1)).max(1)
    }

    /// Length of segment `index` as a frame.
    pub(super) fn len(&self, index: usize) -> usize {
        let before = index.saturating_mul(self.size);
        let left = self.payload.saturating_sub(before);
        self.headers.saturating_add(left.min(self.size))
    }

    /// Writes segment `index` of `frame` to `to`, which has its length.
    pub(super) fn write(&self, frame: &[u8], index: usize, to: &mut [u8]) -> bool {
        let before = index.saturating_mul(self.size);
        let from = self.headers.saturating_add(before);
        let payload = to.len().checked_sub(self.headers);
        let payload = payload.and_then(|len| frame.get(from..)?.get(..len));
        let (Some(headers), Some(payload)) = (frame.get(..self.headers), payload) else {
            return false;
        };
        let last = from.saturating_add(payload.len()) >= frame.len();
        put(to, 0, headers);
        put(to, self.headers, payload);
        let network_len = to.len().saturating_sub(self.network);
        if self.ipv4 {
            put16(to, self.network.saturating_add(IPV4_TOTAL_LEN), network_len);
            let id = self.network.saturating_add(IPV4_ID);
            let first = get16(headers, id);
            put16(to, id, usize::from(first).wrapping_add(index));
        } else {
            let len = network_len.saturating_sub(IPV6_HEADER_LEN);
            put16(to, self.network.saturating_add(IPV6_PAYLOAD_LEN), len);
        }
        if self.tcp {
            self.write_tcp(headers, before, index == 0, last, to);
        } else {
            let len = to.len().saturating_sub(self.transport);
            put16(to, self.transport.saturating_add(UDP_LEN), len);
        }
        checksums(to);
        true
    }

    fn write_tcp(&self, headers: &[u8], before: usize, first: bool, last: bool, to: &mut [u8]) {
        let seq = self.transport.saturating_add(TCP_SEQ);
        let whole = headers.get(seq..).and_then(|rest| rest.first_chunk());
        if let Some(&whole) = whole {
            let before = u32::try_from(before).unwrap_or(0);
            let own = u32::from_be_bytes(whole).wrapping_add(before);
            put(to, seq, &own.to_be_bytes());
        }
        let flags = self.transport.saturating_add(TCP_FLAGS);
        if let Some(flags) = to.get_mut(flags) {
            *flags &= if last { 0xff } else { !TCP_LAST };
            *flags &= if first { 0xff } else { !TCP_FIRST };
        }
    }
}

/// Looks at a frame's headers.
fn with<R>(frame: &[u8], look: impl FnOnce(&wire::Dissected<'_>) -> Option<R>) -> Option<R> {
    look(&wire::dissect(frame, u32::try_from(frame.len()).ok()?))
}

/// Writes bytes at a place, if there is room.
fn put(to: &mut [u8], at: usize, bytes: &[u8]) {
    let place = to
        .get_mut(at..)
        .and_then(|rest| rest.get_mut(..bytes.len()));
    for (to, from) in place.unwrap_or_default().iter_mut().zip(bytes) {
        *to = *from;
    }
}

fn put16(to: &mut [u8], at: usize, value: usize) {
    let low = u16::try_from(value & 0xffff).unwrap_or(0);
    put(to, at, &low.to_be_bytes());
}

fn get16(from: &[u8], at: usize) -> u16 {
    let bytes = from.get(at..).and_then(|rest| rest.first_chunk());
    bytes.copied().map_or(0, u16::from_be_bytes)
}
