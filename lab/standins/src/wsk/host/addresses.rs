//! The host's own addresses, and the news that they have changed: by netlink.

use super::super::addr::RawAddr;
use super::super::types::{AF_INET, AF_INET6};
use super::sys::{self, Fd, call, plain};
use super::{NONBLOCK_CLOEXEC, close};

const AF_NETLINK: usize = 16;
const SOCK_RAW: usize = 3;
const HOST_INET6: u8 = 10;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// RTMGRP_IPV4_IFADDR and RTMGRP_IPV6_IFADDR.
const GROUPS: u32 = 0x10 | 0x100;
const LINK_LOCAL: u8 = 253;

fn netlink(groups: u32) -> Result<Fd, i32> {
    let kind = SOCK_RAW | NONBLOCK_CLOEXEC;
    let fd = plain(sys::SOCKET, AF_NETLINK, kind, 0)? as Fd;
    // struct sockaddr_nl: family, padding, port, groups.
    let mut address = [0u8; 12];
    address[0] = AF_NETLINK as u8;
    address[8..].copy_from_slice(&groups.to_ne_bytes());
    let at = address.as_ptr() as usize;
    // SAFETY: an address of this length.
    match unsafe { call(sys::BIND, [sys::fd(fd), at, 12, 0, 0, 0]) } {
        Ok(_) => Ok(fd),
        Err(error) => {
            close(fd);
            Err(error)
        }
    }
}

/// A descriptor that becomes readable when the host's addresses change.
pub(in crate::wsk) fn watch_addresses() -> Result<Fd, i32> {
    netlink(GROUPS)
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The address in an RTM_NEWADDR message, as a SOCKADDR without a port.
fn address_of(message: &[u8]) -> Option<RawAddr> {
    // struct ifaddrmsg: family, prefix, flags, scope, index.
    let (family, scope) = (*message.get(16)?, *message.get(19)?);
    let index = word(message, 20)?;
    let mut found: Option<&[u8]> = None;
    let mut rest = message.get(24..)?;
    while let (Some(len), Some(kind)) = (half(rest, 0), half(rest, 2)) {
        let data = rest.get(4..usize::from(len))?;
        // The local one of a point-to-point link goes before the other.
        if kind == IFA_LOCAL || (kind == IFA_ADDRESS && found.is_none()) {
            found = Some(data);
        }
        rest = rest
            .get(usize::from(len).next_multiple_of(4)..)
            .unwrap_or_default();
    }
    let found = found?;
    let mut bytes = [0u8; 28];
    if family == HOST_INET6 {
        bytes[..2].copy_from_slice(&AF_INET6.to_ne_bytes());
        bytes.get_mut(8..24)?.copy_from_slice(found.get(..16)?);
        if scope == LINK_LOCAL {
            bytes[24..].copy_from_slice(&index.to_ne_bytes());
        }
    } else {
        bytes[..2].copy_from_slice(&AF_INET.to_ne_bytes());
        bytes.get_mut(4..8)?.copy_from_slice(found.get(..4)?);
    }
    RawAddr::from_bytes(&bytes)
}

/// The host's addresses of a family.
pub(in crate::wsk) fn local_addresses(family: u16) -> Result<Vec<RawAddr>, i32> {
    let fd = netlink(0)?;
    let result = ask(fd, family);
    close(fd);
    result
}

fn ask(fd: Fd, family: u16) -> Result<Vec<RawAddr>, i32> {
    // struct nlmsghdr, struct ifaddrmsg.
    let mut request = [0u8; 24];
    request[..4].copy_from_slice(&24u32.to_ne_bytes());
    request[4..6].copy_from_slice(&RTM_GETADDR.to_ne_bytes());
    request[6..8].copy_from_slice(&NLM_F_REQUEST_DUMP.to_ne_bytes());
    request[16] = if family == AF_INET6 {
        HOST_INET6
    } else {
        AF_INET as u8
    };
    let at = request.as_ptr() as usize;
    // SAFETY: 24 readable bytes.
    unsafe { call(sys::WRITE, [sys::fd(fd), at, request.len(), 0, 0, 0]) }?;
    let mut addresses = Vec::new();
    let mut answer = vec![0u8; 32 * 1024];
    loop {
        let at = answer.as_mut_ptr() as usize;
        // The answer is there when the question has been asked.
        // SAFETY: writable bytes, and how many.
        let got = unsafe { call(sys::READ, [sys::fd(fd), at, answer.len(), 0, 0, 0]) }?;
        let mut rest = answer.get(..got).unwrap_or_default();
        while let (Some(len), Some(kind)) = (word(rest, 0), half(rest, 4)) {
            let len = len as usize;
            if kind == NLMSG_DONE || len < 16 {
                return Ok(addresses);
            }
            if kind == RTM_NEWADDR {
                let message = rest.get(..len).unwrap_or_default();
                addresses.extend(address_of(message).filter(|one| one.family() == family));
            }
            rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}
