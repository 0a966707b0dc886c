//! Control information of datagrams: where a datagram was sent to, through
//! which interface, with what hop limit; as Windows writes it and as the host
//! does.
//!
//! Both have a header of a length, a level and a type (16 bytes) before the
//! data, each part at a multiple of eight; types and data differ.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use windows_sys::Win32::Networking::WinSock as ws;

/// Bytes for what the host says of a datagram.
pub(super) const ROOM: usize = 128;
const HEADER: usize = 16;
const IP: i32 = 0;
const IPV6: i32 = 41;
const HOST_IP_TTL: i32 = 2;
const HOST_IP_PKTINFO: i32 = 8;
const HOST_IPV6_PKTINFO: i32 = 50;
const HOST_IPV6_HOPLIMIT: i32 = 52;

/// See the module's documentation.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(in crate::wsk) struct Control {
    /// The address it was sent to, and the interface it came through.
    pub(in crate::wsk) to: Option<(IpAddr, u32)>,
    /// This host's address there.
    local: Option<Ipv4Addr>,
    pub(in crate::wsk) hop_limit: Option<i32>,
}

/// What the host writes to.
#[repr(C, align(8))]
pub(super) struct Room([u8; ROOM]);

fn word<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn number(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_ne_bytes(word(bytes, at)?))
}

/// The parts of control information: level, type, data. Ends at the first that
/// isn't whole.
fn parts(bytes: &[u8]) -> impl Iterator<Item = (i32, i32, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let len = usize::from_ne_bytes(word(rest, 0)?);
        let (level, kind) = (number(rest, 8)?, number(rest, 12)?);
        let data = rest.get(HEADER..len)?;
        rest = rest.get(len.next_multiple_of(8)..).unwrap_or_default();
        Some((level, kind, data))
    })
}

/// Appends a part.
fn push(out: &mut Vec<u8>, level: i32, kind: i32, data: &[&[u8]]) {
    let len: usize = HEADER + data.iter().map(|part| part.len()).sum::<usize>();
    out.extend(len.to_ne_bytes());
    out.extend(level.to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    for part in data {
        out.extend(*part);
    }
    out.resize(out.len().next_multiple_of(8), 0);
}

impl Room {
    pub(super) const fn new() -> Self {
        Self([0; ROOM])
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.0.as_mut_ptr()
    }

    /// What the host wrote.
    pub(super) fn read(&self, len: usize) -> Control {
        let mut control = Control::default();
        for (level, kind, data) in parts(self.0.get(..len).unwrap_or_default()) {
            match (level, kind) {
                (IP, HOST_IP_PKTINFO) => {
                    // Interface, local address, destination.
                    let index = number(data, 0).map(i32::cast_unsigned);
                    control.local = word::<4>(data, 4).map(Ipv4Addr::from);
                    let to = word::<4>(data, 8).map(|to| IpAddr::V4(Ipv4Addr::from(to)));
                    control.to = to.zip(index);
                }
                (IPV6, HOST_IPV6_PKTINFO) => {
                    let to = word::<16>(data, 0).map(|to| IpAddr::V6(Ipv6Addr::from(to)));
                    control.to = to.zip(number(data, 16).map(i32::cast_unsigned));
                }
                (IP, HOST_IP_TTL) | (IPV6, HOST_IPV6_HOPLIMIT) => {
                    control.hop_limit = number(data, 0);
                }
                _ => {}
            }
        }
        control
    }
}

impl Control {
    /// It was sent to a group.
    pub(in crate::wsk) fn multicast(&self) -> bool {
        self.to.is_some_and(|(to, _)| to.is_multicast())
    }

    /// It was sent to everybody: the address it was sent to is IPv4, no group,
    /// and not the one this host has there.
    pub(in crate::wsk) fn broadcast(&self) -> bool {
        match (self.to, self.local) {
            (Some((IpAddr::V4(to), _)), Some(local)) => !to.is_multicast() && to != local,
            _ => false,
        }
    }

    /// As Windows writes it, of what the client asked for.
    pub(in crate::wsk) fn windows(&self, packet_info: bool, hop_limit: bool) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some((to, index)) = self.to.filter(|_| packet_info) {
            let index = index.to_ne_bytes();
            match to {
                IpAddr::V4(to) => push(&mut out, IP, ws::IP_PKTINFO, &[&to.octets(), &index]),
                IpAddr::V6(to) => push(&mut out, IPV6, ws::IPV6_PKTINFO, &[&to.octets(), &index]),
            }
        }
        if let Some(limit) = self.hop_limit.filter(|_| hop_limit) {
            let (level, kind) = match self.to {
                Some((IpAddr::V6(_), _)) => (IPV6, ws::IPV6_HOPLIMIT),
                _ => (IP, ws::IP_TTL),
            };
            push(&mut out, level, kind, &[&limit.to_ne_bytes()]);
        }
        out
    }
}

/// A sender's control information, as the host wants it; `None` when it holds
/// something unknown or is no such thing.
pub(in crate::wsk) fn for_host(windows: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut seen = 0;
    for (level, kind, data) in parts(windows) {
        seen += (HEADER + data.len()).next_multiple_of(8);
        match (level, kind) {
            (IP, ws::IP_PKTINFO) => {
                let (from, index) = (word::<4>(data, 0)?, word::<4>(data, 4)?);
                push(&mut out, IP, HOST_IP_PKTINFO, &[&index, &from, &[0; 4]]);
            }
            (IPV6, ws::IPV6_PKTINFO) => {
                let (from, index) = (word::<16>(data, 0)?, word::<4>(data, 16)?);
                push(&mut out, IPV6, HOST_IPV6_PKTINFO, &[&from, &index]);
            }
            (IP, ws::IP_TTL) => push(&mut out, IP, HOST_IP_TTL, &[&word::<4>(data, 0)?]),
            (IPV6, ws::IPV6_HOPLIMIT) => {
                push(&mut out, IPV6, HOST_IPV6_HOPLIMIT, &[&word::<4>(data, 0)?]);
            }
            _ => return None,
        }
    }
    (seen >= windows.len()).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_windows_writes_the_host_is_told() {
        let control = Control {
            to: Some((IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3)), 7)),
            local: None,
            hop_limit: Some(9),
        };
        let host = for_host(&control.windows(true, true)).unwrap_or_default();
        let mut room = Room::new();
        room.0[..host.len()].copy_from_slice(&host);
        let back = room.read(host.len());
        // A sender's address goes where a receiver's own is told.
        assert_eq!(back.local, Some(Ipv4Addr::new(10, 1, 2, 3)));
        assert_eq!(back.hop_limit, Some(9));
        assert_eq!(back.to.map(|(_, index)| index), Some(7));
        assert_eq!(for_host(&[1, 2, 3]), None);
        assert_eq!(for_host(&[0; 16]), None);
    }
}
