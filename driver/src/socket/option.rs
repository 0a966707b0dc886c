//! SOCKET_SET_OPTION and SOCKET_GET_OPTION. Each call has an IRP of its own, so
//! any number of them can be made at once.

use core::net::{IpAddr, Ipv4Addr};

use weir_abi::{AddressError, Group, SocketFlags, SocketKind, SocketOption, SocketSetting};

use super::sock::{Sock, SockRef, Transport};
use super::{GATE, of_role};
use crate::error::Error;
use crate::handle::Handle;
use crate::kernel::log;
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
        if let Some(flag) = passed_on(sock, option) {
            // The transport has one of the two for its listening sockets.
            if wanted == Number::KeepAlive {
                // SAFETY: as above.
                unsafe { transport.socket().set(control, wanted, value) }?;
            }
            sock.passes_on.set(flag, value != 0);
            return Ok(());
        }
        // What IPv6's options say isn't said of the IPv4 packets of the socket.
        let dual = sock.flags.contains(SocketFlags::DUAL_STACK);
        let other = number(option, Family::V4).filter(|other| dual && *other != wanted);
        let Some(other) = other else {
            // SAFETY: as above.
            return Ok(unsafe { transport.socket().set(control, wanted, value) }?);
        };
        // SAFETY: as above.
        let before = unsafe { transport.socket().get(control, wanted) }?;
        // SAFETY: as above.
        unsafe { transport.socket().set(control, wanted, value) }?;
        // SAFETY: as above.
        match unsafe { transport.socket().set(control, other, value) } {
            // As on a machine without IPv4, where nothing is to be said of it (MSDN
            // "Dual-Stack Sockets for IPv6 Winsock Applications").
            Ok(()) | Err(NtStatus::INVALID_PARAMETER) => Ok(()),
            Err(status) => {
                // Both or none, as far as the transport goes along.
                // SAFETY: as above.
                if let Err(status) = unsafe { transport.socket().set(control, wanted, before) } {
                    log::status(c"putting an option back", status);
                }
                Err(Error::System(status))
            }
        }
    })
}

/// SOCKET_GET_OPTION. `PASSIVE_LEVEL`.
pub(crate) fn get_option(handle: &Handle, option: SocketOption) -> Result<u64, Error> {
    with_socket(handle, option, |sock, transport, control| {
        if let Some(flag) = passed_on(sock, option) {
            return Ok(sock.passes_on.on().contains(flag).into());
        }
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
    let _calls = sock.begin_call()?;
    let transport = sock.transport().ok_or(Error::Closing)?;
    let done = go(&sock, transport, &control);
    if let Err(Error::System(NtStatus::FILE_FORCED_CLOSED)) = done {
        sock.forced_closed();
    }
    done
}

/// The flag of an option that a listener has for its connections.
fn passed_on(sock: &Sock, option: SocketOption) -> Option<SocketFlags> {
    match (sock.kind, option) {
        (SocketKind::TcpListener, SocketOption::NoDelay) => Some(SocketFlags::NO_DELAY),
        (SocketKind::TcpListener, SocketOption::KeepAlive) => Some(SocketFlags::KEEP_ALIVE),
        _ => None,
    }
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
