//! Options of the handle's socket.

use core::net::IpAddr;

use super::{ReplyHeader, Request, RequestError, RequestHeader};
use crate::{Ioctl, SocketAddress, SocketOption, limits};

message! {
    /// Sets an option.
    pub struct SocketSetOptionRequest [56] {
        /// Version and size.
        0 => header: RequestHeader,
        /// Field 1: [`SocketOption`].
        8 => option: u32,
        /// Field 2: of a group, the index of the interface, 0 for the one the
        /// routes name; else 0.
        12 => interface: u32,
        /// Field 3: its value; 0 for a group.
        16 => value: u64,
        /// Field 4: the group, with port 0; else no address.
        24 => group: SocketAddress,
    }
}

message! {
    /// The option is set.
    pub struct SocketSetOptionReply [8] {
        /// Version and size.
        0 => header: ReplyHeader,
    }
}

/// A multicast group on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its address, a multicast one.
    pub address: IpAddr,
    /// The interface's index; 0: the one the routes name.
    pub interface: u32,
}

/// An option with its value, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketSetting {
    /// [`SocketOption::NoDelay`].
    NoDelay(bool),
    /// [`SocketOption::KeepAlive`].
    KeepAlive(bool),
    /// Seconds, from 1 to [`MAX_KEEP_ALIVE_S`](limits::MAX_KEEP_ALIVE_S).
    KeepAliveIdle(u32),
    /// Seconds, from 1 to [`MAX_KEEP_ALIVE_S`](limits::MAX_KEEP_ALIVE_S).
    KeepAliveInterval(u32),
    /// Probes, from 1 to 255.
    KeepAliveCount(u32),
    /// [`SocketOption::ReuseAddress`]: always refused with `STATUS_NOT_SUPPORTED`, as
    /// each socket of the driver is bound; there is
    /// [`SocketFlags::REUSE_ADDRESS`](crate::SocketFlags::REUSE_ADDRESS).
    ReuseAddress(bool),
    /// Bytes, up to [`MAX_SOCKET_BUFFER`](limits::MAX_SOCKET_BUFFER).
    ReceiveBuffer(u32),
    /// Bytes, up to [`MAX_SOCKET_BUFFER`](limits::MAX_SOCKET_BUFFER).
    SendBuffer(u32),
    /// Hops, from 1 to 255.
    Ttl(u32),
    /// Hops, up to 255; with 0, multicasts stay on this machine.
    MulticastTtl(u32),
    /// The interface's index; 0: the routes decide.
    MulticastInterface(u32),
    /// [`SocketOption::MulticastLoop`].
    MulticastLoop(bool),
    /// [`SocketOption::JoinGroup`]: a group of the family the socket is bound with. A
    /// dual-stack socket is one of IPv6 here.
    JoinGroup(Group),
    /// [`SocketOption::LeaveGroup`].
    LeaveGroup(Group),
    /// [`SocketOption::Broadcast`].
    Broadcast(bool),
}

impl SocketSetting {
    /// The option that is set.
    #[must_use]
    pub const fn option(&self) -> SocketOption {
        match self {
            SocketSetting::NoDelay(_) => SocketOption::NoDelay,
            SocketSetting::KeepAlive(_) => SocketOption::KeepAlive,
            SocketSetting::KeepAliveIdle(_) => SocketOption::KeepAliveIdle,
            SocketSetting::KeepAliveInterval(_) => SocketOption::KeepAliveInterval,
            SocketSetting::KeepAliveCount(_) => SocketOption::KeepAliveCount,
            SocketSetting::ReuseAddress(_) => SocketOption::ReuseAddress,
            SocketSetting::ReceiveBuffer(_) => SocketOption::ReceiveBuffer,
            SocketSetting::SendBuffer(_) => SocketOption::SendBuffer,
            SocketSetting::Ttl(_) => SocketOption::Ttl,
            SocketSetting::MulticastTtl(_) => SocketOption::MulticastTtl,
            SocketSetting::MulticastInterface(_) => SocketOption::MulticastInterface,
            SocketSetting::MulticastLoop(_) => SocketOption::MulticastLoop,
            SocketSetting::JoinGroup(_) => SocketOption::JoinGroup,
            SocketSetting::LeaveGroup(_) => SocketOption::LeaveGroup,
            SocketSetting::Broadcast(_) => SocketOption::Broadcast,
        }
    }

    /// Its value as an integer; 0 for a group.
    #[must_use]
    pub fn value(&self) -> u64 {
        match *self {
            SocketSetting::NoDelay(on)
            | SocketSetting::KeepAlive(on)
            | SocketSetting::ReuseAddress(on)
            | SocketSetting::MulticastLoop(on)
            | SocketSetting::Broadcast(on) => u64::from(on),
            SocketSetting::KeepAliveIdle(n)
            | SocketSetting::KeepAliveInterval(n)
            | SocketSetting::KeepAliveCount(n)
            | SocketSetting::ReceiveBuffer(n)
            | SocketSetting::SendBuffer(n)
            | SocketSetting::Ttl(n)
            | SocketSetting::MulticastTtl(n)
            | SocketSetting::MulticastInterface(n) => u64::from(n),
            SocketSetting::JoinGroup(_) | SocketSetting::LeaveGroup(_) => 0,
        }
    }

    /// The option with this value; `None` for a value it can't have, and for a
    /// group, which is no integer.
    #[must_use]
    pub fn of(option: SocketOption, value: u64) -> Option<Self> {
        let on = || match value {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        };
        let n = |low: u32, high: u32| {
            let value = u32::try_from(value).ok()?;
            (low..=high).contains(&value).then_some(value)
        };
        let seconds = || n(1, limits::MAX_KEEP_ALIVE_S);
        let bytes = || n(0, limits::MAX_SOCKET_BUFFER);
        Some(match option {
            SocketOption::NoDelay => SocketSetting::NoDelay(on()?),
            SocketOption::KeepAlive => SocketSetting::KeepAlive(on()?),
            SocketOption::KeepAliveIdle => SocketSetting::KeepAliveIdle(seconds()?),
            SocketOption::KeepAliveInterval => SocketSetting::KeepAliveInterval(seconds()?),
            SocketOption::KeepAliveCount => SocketSetting::KeepAliveCount(n(1, 255)?),
            SocketOption::ReuseAddress => SocketSetting::ReuseAddress(on()?),
            SocketOption::ReceiveBuffer => SocketSetting::ReceiveBuffer(bytes()?),
            SocketOption::SendBuffer => SocketSetting::SendBuffer(bytes()?),
            SocketOption::Ttl => SocketSetting::Ttl(n(1, 255)?),
            SocketOption::MulticastTtl => SocketSetting::MulticastTtl(n(0, 255)?),
            SocketOption::MulticastInterface => SocketSetting::MulticastInterface(n(0, u32::MAX)?),
            SocketOption::MulticastLoop => SocketSetting::MulticastLoop(on()?),
            SocketOption::Broadcast => SocketSetting::Broadcast(on()?),
            SocketOption::JoinGroup | SocketOption::LeaveGroup => return None,
        })
    }

    /// Its group.
    #[must_use]
    pub const fn group(&self) -> Option<Group> {
        match self {
            SocketSetting::JoinGroup(group) | SocketSetting::LeaveGroup(group) => Some(*group),
            _ => None,
        }
    }
}

fn unknown_option(value: u32) -> RequestError {
    RequestError::Field {
        n: 1,
        name: "socket option",
        value,
    }
}

impl TryFrom<&SocketSetOptionRequest> for SocketSetting {
    type Error = RequestError;

    fn try_from(request: &SocketSetOptionRequest) -> Result<Self, RequestError> {
        let bad = |n, name, value| RequestError::Field { n, name, value };
        let option = SocketOption::try_from(request.option).map_err(|e| unknown_option(e.value))?;
        let low = u32::try_from(request.value).unwrap_or(u32::MAX);
        let wrong_value = bad(3, "value of the option", low);
        if matches!(option, SocketOption::JoinGroup | SocketOption::LeaveGroup) {
            if request.value != 0 {
                return Err(wrong_value);
            }
            let group = Group {
                address: request.group.group()?,
                interface: request.interface,
            };
            return Ok(if option == SocketOption::JoinGroup {
                SocketSetting::JoinGroup(group)
            } else {
                SocketSetting::LeaveGroup(group)
            });
        }
        if request.interface != 0 {
            return Err(bad(2, "interface", request.interface));
        }
        if request.group != SocketAddress::NONE {
            return Err(bad(4, "group", request.group.family));
        }
        SocketSetting::of(option, request.value).ok_or(wrong_value)
    }
}

impl From<&SocketSetting> for SocketSetOptionRequest {
    fn from(setting: &SocketSetting) -> Self {
        let group = setting.group();
        SocketSetOptionRequest {
            header: RequestHeader::of::<Self>(),
            option: setting.option().into(),
            interface: group.map_or(0, |group| group.interface),
            value: setting.value(),
            group: group
                .map(|group| core::net::SocketAddr::new(group.address, 0))
                .into(),
        }
    }
}

impl Request for SocketSetOptionRequest {
    const IOCTL: Ioctl = Ioctl::SocketSetOption;
    type Reply = SocketSetOptionReply;
}

message! {
    /// Asks for the value of an option.
    pub struct SocketGetOptionRequest [16] {
        /// Version and size.
        0 => header: RequestHeader,
        /// Field 1: [`SocketOption`].
        8 => option: u32,
        /// 0.
        12 => reserved: u32,
    }
}

message! {
    /// The value of an option.
    pub struct SocketGetOptionReply [24] {
        /// Version and size.
        0 => header: ReplyHeader,
        /// [`SocketOption`].
        8 => option: u32,
        /// 0.
        12 => reserved: u32,
        /// Its value: 0 or 1, or a number of what the option counts.
        16 => value: u64,
    }
}

impl SocketGetOptionRequest {
    /// A request for this option.
    #[must_use]
    pub fn new(option: SocketOption) -> Self {
        SocketGetOptionRequest {
            header: RequestHeader::of::<Self>(),
            option: option.into(),
            reserved: 0,
        }
    }

    /// The option; a group can't be asked for.
    pub fn option(&self) -> Result<SocketOption, RequestError> {
        if self.reserved != 0 {
            return Err(RequestError::Reserved);
        }
        match SocketOption::try_from(self.option) {
            Err(_) | Ok(SocketOption::JoinGroup | SocketOption::LeaveGroup) => {
                Err(unknown_option(self.option))
            }
            Ok(option) => Ok(option),
        }
    }
}

impl Request for SocketGetOptionRequest {
    const IOCTL: Ioctl = Ioctl::SocketGetOption;
    type Reply = SocketGetOptionReply;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SocketKind, status};

    #[test]
    fn each_option_has_its_range() {
        use SocketOption::*;
        for (option, good, bad) in [
            (NoDelay, &[0, 1][..], &[2, u64::MAX][..]),
            (KeepAliveIdle, &[1, 32_767], &[0, 32_768]),
            (KeepAliveInterval, &[1, 32_767], &[0, 1 << 32]),
            (KeepAliveCount, &[1, 255], &[0, 256]),
            (ReceiveBuffer, &[0, 16 << 20], &[(16 << 20) + 1]),
            (Ttl, &[1, 255], &[0, 256]),
            (MulticastTtl, &[0, 255], &[256]),
            (MulticastInterface, &[0, 0xffff_ffff], &[1 << 32]),
            (Broadcast, &[0, 1], &[2]),
            (JoinGroup, &[], &[0, 1]),
        ] {
            for &value in good {
                let setting = SocketSetting::of(option, value).expect("in range");
                assert_eq!((setting.option(), setting.value()), (option, value));
                let request = SocketSetOptionRequest::from(&setting);
                assert_eq!(SocketSetting::try_from(&request), Ok(setting));
            }
            for &value in bad {
                assert_eq!(SocketSetting::of(option, value), None, "{option} {value}");
            }
        }
        // No option is forgotten, and each belongs to some socket.
        for option in SocketOption::ALL {
            assert!(SocketKind::ALL.iter().any(|kind| option.applies_to(*kind)));
            let can_be_read = SocketGetOptionRequest::new(*option).option().is_ok();
            assert_eq!(can_be_read, SocketSetting::of(*option, 1).is_some());
        }
    }

    #[test]
    fn bad_settings_have_their_status() {
        let group = SocketSetting::JoinGroup(Group {
            address: "224.0.0.9".parse().expect("an address"),
            interface: 3,
        });
        let good = SocketSetOptionRequest::from(&group);
        assert_eq!(SocketSetting::try_from(&good), Ok(group));
        let plain = SocketSetOptionRequest::from(&SocketSetting::Ttl(9));
        let unicast: core::net::SocketAddr = "10.0.0.1:0".parse().expect("an address");
        for (request, want) in [
            (
                SocketSetOptionRequest { option: 0, ..plain },
                status::INVALID_PARAMETER_1,
            ),
            (
                SocketSetOptionRequest {
                    option: 16,
                    ..plain
                },
                status::INVALID_PARAMETER_1,
            ),
            (
                SocketSetOptionRequest {
                    interface: 1,
                    ..plain
                },
                status::INVALID_PARAMETER_2,
            ),
            (
                SocketSetOptionRequest {
                    value: 256,
                    ..plain
                },
                status::INVALID_PARAMETER_3,
            ),
            (
                SocketSetOptionRequest { value: 1, ..good },
                status::INVALID_PARAMETER_3,
            ),
            (
                SocketSetOptionRequest {
                    group: good.group,
                    ..plain
                },
                status::INVALID_PARAMETER_4,
            ),
            (
                SocketSetOptionRequest {
                    group: unicast.into(),
                    ..good
                },
                status::INVALID_ADDRESS_COMPONENT,
            ),
            (
                SocketSetOptionRequest {
                    group: SocketAddress::NONE,
                    ..good
                },
                status::INVALID_ADDRESS_COMPONENT,
            ),
        ] {
            let error = SocketSetting::try_from(&request).expect_err("bad");
            assert_eq!(error.status(), want, "{request:?}: {error}");
        }
    }
}
