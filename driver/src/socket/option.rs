//! SOCKET_SET_OPTION and SOCKET_GET_OPTION. Each call has an IRP of its own, so
//! any number of them can be made at once.

use core::net::{IpAddr, Ipv4Addr};

use weir_abi::{AddressError, Group, SocketFlags, SocketOption, SocketSetting};

use super::sock::{Sock, SockRef, Transport};
use super::{GATE, of_role};
use crate::error::Error;
use crate::handle::Handle;
use crate::kernel::status::NtStatus;
use crate::wsk::{self, Control, Family, Number};

/// SOCKET_SET_OPTION. `PASSIVE_LEVEL`.
pub(crate) fn set_option(handle: &Handle, setting: &SocketSetting) -> Result<(), Error> {
    with_socket(handle, setting.option(), |sock, transport, control| {
        if let Some(group) = setting.group() {
            let group = group_of(sock, group)?;
            let join = setting.option() == SocketOption::JoinGroup;
            // SAFETY: `calls` is held, so the socket isn't closed; and below.
            unsafe { transport.socket().member(control, group, join) }?;
            return Ok(());
        }
        // Too late once the socket is bound, and every socket here is.
        let option = setting.option();
        let wanted = match option {
            SocketOption::ReuseAddress => None,
            option => number(option, family(sock)),
        };
        let wanted = wanted.ok_or(Error::System(NtStatus::NOT_SUPPORTED))?;
        let value = u32::try_from(setting.value()).unwrap_or(u32::MAX);
        // SAFETY: as above.
        unsafe { transport.socket().set(control, wanted, value) }?;
        if !sock.flags.contains(SocketFlags::DUAL_STACK) {
            return Ok(());
        }
        // What IPv6's options say isn't said of the IPv4 packets of the socket.
        let Some(other) = number(option, Family::V4).filter(|other| *other != wanted) else {
            return Ok(());
        };
        // SAFETY: as above.
        match unsafe { transport.socket().set(control, other, value) } {
            // As on a machine without IPv4, where nothing is to be said of it (MSDN
            // "Dual-Stack Sockets for IPv6 Winsock Applications").
            Err(NtStatus::INVALID_PARAMETER) => Ok(()),
            set => set.map_err(Error::System),
        }
    })
}

/// SOCKET_GET_OPTION. `PASSIVE_LEVEL`.
pub(crate) fn get_option(handle: &Handle, option: SocketOption) -> Result<u64, Error> {
    with_socket(handle, option, |sock, transport, control| {
        let number = number(option, family(sock)).ok_or(Error::System(NtStatus::NOT_SUPPORTED))?;
        // SAFETY: `calls` is held, so the socket isn't closed.
        let value = unsafe { transport.socket().get(control, number) }?;
        Ok(u64::from(value))
    })
}

fn with_socket<T>(
    handle: &Handle,
    option: SocketOption,
    go: impl FnOnce(&SockRef, &Transport, &Control) -> Result<T, Error>,
) -> Result<T, Error> {
    let _open = GATE.acquire().ok_or(Error::Unloading)?;
    let sock = of_role(handle)?;
    if !option.applies_to(sock.kind) {
        return Err(Error::System(NtStatus::NOT_SUPPORTED));
    }
    let control = Control::try_new()?;
    let _calls = sock.calls.acquire().ok_or(Error::Closing)?;
    let transport = sock.transport().ok_or(Error::Closing)?;
    go(&sock, transport, &control)
}

fn family(sock: &Sock) -> Family {
    if sock.addresses.lock().local.family == weir_abi::address::FAMILY_V4 {
        Family::V4
    } else {
        Family::V6
    }
}

/// What the provider calls an option. A dual-stack socket has those of the network
/// layer twice; what it is asked for is IPv6's.
fn number(option: SocketOption, family: Family) -> Option<Number> {
    Some(match option {
        SocketOption::NoDelay => Number::NoDelay,
        SocketOption::KeepAlive => Number::KeepAlive,
        SocketOption::KeepAliveIdle => Number::KeepAliveIdle,
        SocketOption::KeepAliveInterval => Number::KeepAliveInterval,
        SocketOption::KeepAliveCount => Number::KeepAliveCount,
        SocketOption::ReuseAddress => Number::ReuseAddress,
        SocketOption::ReceiveBuffer => Number::ReceiveBuffer,
        SocketOption::SendBuffer => Number::SendBuffer,
        SocketOption::Ttl => Number::HopLimit(family),
        SocketOption::MulticastTtl => Number::MulticastHopLimit(family),
        SocketOption::MulticastInterface => Number::MulticastInterface(family),
        SocketOption::MulticastLoop => Number::MulticastLoop(family),
        SocketOption::Broadcast => Number::Broadcast,
        SocketOption::JoinGroup | SocketOption::LeaveGroup => return None,
    })
}

/// A group as the provider has it, of the socket's family.
fn group_of(sock: &Sock, group: Group) -> Result<wsk::Group, Error> {
    match (group.address, family(sock)) {
        (IpAddr::V4(address), Family::V4) => Ok(wsk::Group::V4 {
            group: address,
            // An index is an address of 0.0.0.0/8 (MSDN "IP_MREQ").
            interface: Ipv4Addr::from_bits(group.interface),
        }),
        (IpAddr::V6(address), Family::V6) => Ok(wsk::Group::V6 {
            group: address,
            interface: group.interface,
        }),
        _ => Err(Error::Datagram(AddressError::Families.into())),
    }
}
