//! Socket options: Windows' levels, names and values as the host's.

use super::super::types::AF_INET6;
use super::sys::{self, Fd, call, errno};
use windows_sys::Win32::Networking::WinSock as ws;

const SOL_SOCKET: i32 = 1;
const IP: i32 = 0;
const TCP: i32 = 6;
const IPV6: i32 = 41;
const SO_REUSEADDR: i32 = 2;
const SO_LINGER: i32 = 13;
const IP_PKTINFO: i32 = 8;
const IP_MULTICAST_IF: i32 = 32;
const IP_ADD_MEMBERSHIP: i32 = 35;
const IP_DROP_MEMBERSHIP: i32 = 36;
const IPV6_RECVPKTINFO: i32 = 49;
const IPV6_V6ONLY: i32 = 26;
const SO_ERROR: i32 = 4;

/// How a value is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A number; Windows takes one byte or four.
    Number,
    /// A size that the host doubles.
    Size,
    /// Path MTU discovery instead of a flag.
    DontFragment,
    /// An interface by address, or by index as 0.x.x.x.
    InterfaceV4,
    /// `ip_mreq`, its interface as above.
    GroupV4,
    /// As it is: the two agree.
    Same,
}

/// Windows' level and name; the host's; how the value is written.
type Row = ((i32, i32), (i32, i32), Kind);

const TABLE: &[Row] = &[
    (
        (ws::SOL_SOCKET, ws::SO_BROADCAST),
        (SOL_SOCKET, 6),
        Kind::Number,
    ),
    (
        (ws::SOL_SOCKET, ws::SO_KEEPALIVE),
        (SOL_SOCKET, 9),
        Kind::Number,
    ),
    ((ws::SOL_SOCKET, ws::SO_RCVBUF), (SOL_SOCKET, 8), Kind::Size),
    ((ws::SOL_SOCKET, ws::SO_SNDBUF), (SOL_SOCKET, 7), Kind::Size),
    (
        (ws::SOL_SOCKET, ws::SO_REUSEADDR),
        (SOL_SOCKET, SO_REUSEADDR),
        Kind::Number,
    ),
    ((ws::IPPROTO_TCP, ws::TCP_NODELAY), (TCP, 1), Kind::Number),
    ((ws::IPPROTO_TCP, ws::TCP_KEEPIDLE), (TCP, 4), Kind::Number),
    ((ws::IPPROTO_TCP, ws::TCP_KEEPINTVL), (TCP, 5), Kind::Number),
    ((ws::IPPROTO_TCP, ws::TCP_KEEPCNT), (TCP, 6), Kind::Number),
    ((ws::IPPROTO_IP, ws::IP_TTL), (IP, 2), Kind::Number),
    ((ws::IPPROTO_IP, ws::IP_TOS), (IP, 1), Kind::Number),
    (
        (ws::IPPROTO_IP, ws::IP_DONTFRAGMENT),
        (IP, 10),
        Kind::DontFragment,
    ),
    (
        (ws::IPPROTO_IP, ws::IP_MULTICAST_IF),
        (IP, IP_MULTICAST_IF),
        Kind::InterfaceV4,
    ),
    (
        (ws::IPPROTO_IP, ws::IP_MULTICAST_TTL),
        (IP, 33),
        Kind::Number,
    ),
    (
        (ws::IPPROTO_IP, ws::IP_ADD_MEMBERSHIP),
        (IP, IP_ADD_MEMBERSHIP),
        Kind::GroupV4,
    ),
    (
        (ws::IPPROTO_IP, ws::IP_DROP_MEMBERSHIP),
        (IP, IP_DROP_MEMBERSHIP),
        Kind::GroupV4,
    ),
    ((ws::IPPROTO_IP, ws::IP_RECVTTL), (IP, 12), Kind::Number),
    (
        (ws::IPPROTO_IPV6, ws::IPV6_V6ONLY),
        (IPV6, IPV6_V6ONLY),
        Kind::Number,
    ),
    (
        (ws::IPPROTO_IPV6, ws::IPV6_UNICAST_HOPS),
        (IPV6, 16),
        Kind::Number,
    ),
    (
        (ws::IPPROTO_IPV6, ws::IPV6_MULTICAST_IF),
        (IPV6, 17),
        Kind::Number,
    ),
    (
        (ws::IPPROTO_IPV6, ws::IPV6_MULTICAST_HOPS),
        (IPV6, 18),
        Kind::Number,
    ),
    (
        (ws::IPPROTO_IPV6, ws::IPV6_ADD_MEMBERSHIP),
        (IPV6, 20),
        Kind::Same,
    ),
    (
        (ws::IPPROTO_IPV6, ws::IPV6_DROP_MEMBERSHIP),
        (IPV6, 21),
        Kind::Same,
    ),
    (
        (ws::IPPROTO_IPV6, ws::IPV6_HOPLIMIT),
        (IPV6, 51),
        Kind::Number,
    ),
];

fn row(level: i32, name: i32) -> Result<&'static Row, i32> {
    TABLE
        .iter()
        .find(|(windows, _, _)| *windows == (level, name))
        .ok_or(errno::ENOPROTOOPT)
}

/// setsockopt(2).
fn host_set(fd: Fd, level: i32, name: i32, value: &[u8]) -> Result<(), i32> {
    let (level, name) = (
        level.cast_unsigned() as usize,
        name.cast_unsigned() as usize,
    );
    let (at, len) = (value.as_ptr() as usize, value.len());
    // SAFETY: `value` is readable for its length.
    unsafe { call(sys::SETSOCKOPT, [sys::fd(fd), level, name, at, len, 0]) }.map(drop)
}

fn host_set_number(fd: Fd, level: i32, name: i32, value: i32) -> Result<(), i32> {
    host_set(fd, level, name, &value.to_ne_bytes())
}

/// getsockopt(2); how many bytes there are.
fn host_get(fd: Fd, level: i32, name: i32, value: &mut [u8]) -> Result<usize, i32> {
    let mut len = value.len() as u32;
    let (level, name) = (
        level.cast_unsigned() as usize,
        name.cast_unsigned() as usize,
    );
    let (at, len_at) = (value.as_mut_ptr() as usize, &raw mut len as usize);
    // SAFETY: `value` is writable for its length, which is in `len`.
    unsafe { call(sys::GETSOCKOPT, [sys::fd(fd), level, name, at, len_at, 0]) }?;
    Ok(len as usize)
}

fn host_get_number(fd: Fd, level: i32, name: i32) -> Result<i32, i32> {
    let mut value = [0; 4];
    // Some options answer with a single byte when it is enough.
    host_get(fd, level, name, &mut value)?;
    Ok(i32::from_ne_bytes(value))
}

fn number(value: &[u8]) -> Result<i32, i32> {
    match value {
        [a, b, c, d, ..] => Ok(i32::from_ne_bytes([*a, *b, *c, *d])),
        [one, ..] => Ok(i32::from(*one)),
        [] => Err(errno::EINVAL),
    }
}

fn address(value: &[u8], at: usize) -> Result<[u8; 4], i32> {
    let bytes = value.get(at..at + 4).ok_or(errno::EINVAL)?;
    bytes.try_into().map_err(|_| errno::EINVAL)
}

/// `ip_mreqn`: group, interface by address, interface by index. Windows has an
/// index as the address 0.x.x.x, 0.0.0.0 being no choice.
fn mreqn(group: [u8; 4], interface: [u8; 4]) -> [u8; 12] {
    let mut out = [0; 12];
    out[..4].copy_from_slice(&group);
    if interface[0] == 0 {
        let index = u32::from_be_bytes(interface);
        out[8..].copy_from_slice(&index.to_ne_bytes());
    } else {
        out[4..8].copy_from_slice(&interface);
    }
    out
}

/// Sets an option as Windows writes it.
pub(in crate::wsk) fn set(fd: Fd, level: i32, name: i32, value: &[u8]) -> Result<(), i32> {
    let (_, (level, name), kind) = *row(level, name)?;
    match kind {
        Kind::Number | Kind::Size => host_set_number(fd, level, name, number(value)?),
        Kind::DontFragment => {
            // IP_PMTUDISC_DO, IP_PMTUDISC_DONT
            let discover = if number(value)? == 0 { 0 } else { 2 };
            host_set_number(fd, level, name, discover)
        }
        Kind::InterfaceV4 => host_set(fd, level, name, &mreqn([0; 4], address(value, 0)?)),
        Kind::GroupV4 => {
            let (group, interface) = (address(value, 0)?, address(value, 4)?);
            host_set(fd, level, name, &mreqn(group, interface))
        }
        Kind::Same => host_set(fd, level, name, value),
    }
}

/// Reads an option as Windows writes it.
pub(in crate::wsk) fn get(fd: Fd, level: i32, name: i32) -> Result<Vec<u8>, i32> {
    let (_, (level, name), kind) = *row(level, name)?;
    let value = match kind {
        Kind::Number => host_get_number(fd, level, name)?,
        Kind::Size => host_get_number(fd, level, name)? / 2,
        Kind::DontFragment => i32::from(host_get_number(fd, level, name)? == 2),
        Kind::InterfaceV4 => {
            let mut value = [0; 4];
            host_get(fd, level, name, &mut value)?;
            return Ok(value.to_vec());
        }
        Kind::GroupV4 | Kind::Same => return Err(errno::ENOPROTOOPT),
    };
    Ok(value.to_ne_bytes().to_vec())
}

pub(super) fn v6_only(fd: Fd) -> Result<(), i32> {
    host_set_number(fd, IPV6, IPV6_V6ONLY, 1)
}

pub(super) fn reuse(fd: Fd) -> Result<(), i32> {
    host_set_number(fd, SOL_SOCKET, SO_REUSEADDR, 1)
}

pub(super) fn receive_packet_info(fd: Fd, family: u16) -> Result<(), i32> {
    if family == AF_INET6 {
        host_set_number(fd, IPV6, IPV6_RECVPKTINFO, 1)
    } else {
        host_set_number(fd, IP, IP_PKTINFO, 1)
    }
}

pub(super) fn linger_none(fd: Fd) -> Result<(), i32> {
    // struct linger { on, 0 seconds }
    host_set(fd, SOL_SOCKET, SO_LINGER, &[1, 0, 0, 0, 0, 0, 0, 0])
}

/// The error a descriptor has to tell, which is then told.
pub(in crate::wsk) fn take_error(fd: Fd) -> Result<(), i32> {
    match host_get_number(fd, SOL_SOCKET, SO_ERROR)? {
        0 => Ok(()),
        error => Err(error),
    }
}
