//! What the driver's replies mean to a user-mode program.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use weir_abi::{
    AdapterInfo, AdapterState, AddressError, ConditionError, Media, RuleAction, ServiceFlags,
    ServiceInfo, ServiceKind, ServiceState, StatusFlags, StatusReply, Transport, UnknownValue,
    VersionReply,
};

use crate::NtStatus;

/// Times of the contract: 100 ns since 1601-01-01 UTC, as Windows' FILETIME.
pub mod filetime {
    use std::time::{Duration, SystemTime};

    /// From 1601-01-01 to 1970-01-01, in 100 ns.
    pub const UNIX_EPOCH: u64 = 116_444_736_000_000_000;

    /// 100 ns since 1970-01-01 UTC; 0 for a time before that.
    #[must_use]
    pub const fn to_unix_100ns(filetime: u64) -> u64 {
        filetime.saturating_sub(UNIX_EPOCH)
    }

    /// The time as the standard library has it.
    #[must_use]
    pub fn to_system_time(filetime: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + ticks(to_unix_100ns(filetime))
    }

    /// The time now.
    #[must_use]
    pub fn now() -> u64 {
        of(SystemTime::now())
    }

    /// The standard library's time; one before 1970 as 1970.
    #[must_use]
    pub fn of(time: SystemTime) -> u64 {
        let since = time
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let ticks = since.as_nanos() / 100;
        UNIX_EPOCH.saturating_add(u64::try_from(ticks).unwrap_or(u64::MAX))
    }

    /// A span of so many 100 ns.
    #[must_use]
    pub const fn ticks(n: u64) -> Duration {
        Duration::new(n / 10_000_000, (n % 10_000_000) as u32 * 100)
    }
}

/// Release of a driver and the contract it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DriverVersion {
    /// The contract's version.
    pub abi: u32,
    /// The release, `major.minor.patch`.
    pub release: (u32, u32, u32),
}

impl fmt::Display for DriverVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor, patch) = self.release;
        write!(f, "{major}.{minor}.{patch}")
    }
}

impl From<VersionReply> for DriverVersion {
    fn from(reply: VersionReply) -> Self {
        DriverVersion {
            abi: reply.abi_version,
            release: (reply.driver_major, reply.driver_minor, reply.driver_patch),
        }
    }
}

/// How the driver is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverStatus {
    /// Since it was loaded.
    pub uptime: Duration,
    /// When it was loaded.
    pub started: SystemTime,
    /// Adapters the filter is attached to.
    pub adapters: u32,
    /// Open handles of the device, the asking one included.
    pub handles: u32,
    /// Handles in the capture role.
    pub readers: u32,
    /// Handles in the divert role.
    pub diverters: u32,
    /// Handles in the inject role.
    pub writers: u32,
    /// Kernel memory of the backlogs of all readers, in bytes.
    pub backlog_memory: u64,
    /// Rules in force.
    pub rules: u32,
    /// The number of these rules; 0: none were ever loaded.
    pub rules_generation: u64,
    /// Kernel memory they occupy, in bytes.
    pub rules_memory: u64,
    /// What happens to frames no rule decides on; an unknown action as its number.
    pub default_action: Result<RuleAction, u32>,
    /// Flows in the tables of all adapters.
    pub flows: u64,
    /// Kernel memory of these tables, in bytes.
    pub flow_memory: u64,
    /// Alarms since the driver was loaded.
    pub alarms: u64,
    /// Services.
    pub services: u32,
    /// Connections of all services.
    pub connections: u32,
    /// Handles in the role of a socket.
    pub sockets: u32,
    /// Which parts are up.
    pub flags: StatusFlags,
    /// NDIS version of the filter (major, minor), once it is registered.
    pub ndis: Option<(u32, u32)>,
}

impl From<StatusReply> for DriverStatus {
    fn from(reply: StatusReply) -> Self {
        let ndis = reply.ndis_version;
        DriverStatus {
            uptime: filetime::ticks(reply.uptime_100ns),
            started: filetime::to_system_time(reply.started_100ns),
            adapters: reply.adapters,
            handles: reply.handles,
            readers: reply.readers,
            diverters: reply.diverters,
            writers: reply.writers,
            backlog_memory: reply.backlog_memory,
            rules: reply.rules,
            rules_generation: reply.rules_generation,
            rules_memory: reply.rules_memory,
            default_action: RuleAction::try_from(reply.default_action).map_err(|e| e.value),
            flows: reply.flows,
            flow_memory: reply.flow_memory,
            alarms: reply.alarms,
            services: reply.services,
            connections: reply.connections,
            sockets: reply.sockets,
            flags: StatusFlags::from_bits_truncate(reply.flags),
            ndis: (ndis != 0).then_some((ndis >> 16, ndis & 0xffff)),
        }
    }
}

/// An adapter the filter is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adapter {
    /// Its id, as long as the driver is loaded.
    pub id: u32,
    /// Its `NET_IFINDEX`.
    pub if_index: u32,
    /// Its name.
    pub name: String,
    /// Its MAC address.
    pub mac: Vec<u8>,
    /// Largest payload of a frame, in bytes.
    pub mtu: u32,
    /// Kind of its frames; an unknown `NDIS_MEDIUM` as its number.
    pub media: Result<Media, u32>,
    /// State of the filter module; an unknown one as its number.
    pub state: Result<AdapterState, u32>,
    /// Bits per second, if known.
    pub link_speed: Option<u64>,
}

impl From<&AdapterInfo> for Adapter {
    fn from(info: &AdapterInfo) -> Self {
        Adapter {
            id: info.id,
            if_index: info.if_index,
            name: String::from_utf16_lossy(info.name_units()),
            mac: info.mac_bytes().to_vec(),
            mtu: info.mtu,
            media: Media::try_from(info.media).map_err(|e| e.value),
            state: AdapterState::try_from(info.state).map_err(|e| e.value),
            link_speed: (info.link_speed != 0).then_some(info.link_speed),
        }
    }
}

/// A service the driver just started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartedService {
    /// Its id.
    pub id: u32,
    /// Where it listens, with the port as it was chosen.
    pub address: SocketAddr,
}

/// How connections of a service ended; a stop of the service is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// In order: both sides had sent all they had.
    pub finished: u64,
    /// Relay: the target refused or could not be reached.
    pub target_refused: u64,
    /// The client reset it.
    pub reset_by_client: u64,
    /// Relay: the target reset it.
    pub reset_by_target: u64,
    /// TCP: one side didn't answer any more; UDP: nothing came for long.
    pub timed_out: u64,
    /// For any other reason.
    pub failed: u64,
}

/// A service of the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its id.
    pub id: u32,
    /// What it does.
    pub kind: ServiceKind,
    /// Over which transport.
    pub transport: Transport,
    /// Where it listens.
    pub address: SocketAddr,
    /// Connections now.
    pub connections: u32,
    /// TCP: connections accepted; UDP: datagrams received.
    pub accepted: u64,
    /// Bytes of payload received.
    pub bytes_in: u64,
    /// Bytes of payload sent.
    pub bytes_out: u64,
    /// Socket operations that failed.
    pub errors: u64,
    /// Connections refused or datagrams not answered for want of room, and
    /// connections refused by a rule.
    pub dropped: u64,
    /// Where a relay connects or sends to.
    pub target: Option<SocketAddr>,
    /// How its connections ended.
    pub ended: Ended,
    /// How it was started.
    pub flags: ServiceFlags,
    /// What it failed with, none while it runs. A service that failed is to be
    /// stopped: it takes nothing new, and holds its address until then.
    pub failure: Option<NtStatus>,
}

/// Why an entry of the service list makes no sense.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadService {
    #[error(transparent)]
    Value(#[from] UnknownValue),
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error(transparent)]
    Condition(#[from] ConditionError),
}

impl Service {
    pub(crate) fn from_info(info: &ServiceInfo) -> Result<Self, BadService> {
        Ok(Service {
            id: info.id,
            kind: info.kind.try_into()?,
            transport: info.transport.try_into()?,
            address: info.address.socket_addr()?,
            connections: info.connections,
            accepted: info.accepted,
            bytes_in: info.bytes_in,
            bytes_out: info.bytes_out,
            errors: info.errors,
            dropped: info.dropped,
            target: info.target.optional()?,
            ended: Ended {
                finished: info.finished,
                target_refused: info.target_refused,
                reset_by_client: info.reset_by_client,
                reset_by_target: info.reset_by_target,
                timed_out: info.timed_out,
                failed: info.failed,
            },
            flags: ServiceFlags::from_bits_truncate(info.flags),
            failure: info.failure()?.map(NtStatus),
        })
    }

    /// Whether it runs.
    #[must_use]
    pub fn state(&self) -> ServiceState {
        match self.failure {
            None => ServiceState::Running,
            Some(_) => ServiceState::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_converted() {
        // 2026-07-28 00:00:00 UTC, from both epochs by hand.
        let unix = 1_785_196_800_u64;
        let time = filetime::UNIX_EPOCH + unix * 10_000_000 + 1;
        assert_eq!(filetime::to_unix_100ns(time), unix * 10_000_000 + 1);
        assert_eq!(
            filetime::to_system_time(time),
            SystemTime::UNIX_EPOCH + Duration::from_secs(unix) + Duration::from_nanos(100)
        );
        assert_eq!(filetime::to_unix_100ns(5), 0);
        assert_eq!(
            filetime::ticks(12_345_678),
            Duration::from_nanos(1_234_567_800)
        );
    }

    #[test]
    fn now_is_after_this_was_written() {
        assert!(filetime::now() > filetime::UNIX_EPOCH + 1_785_000_000 * 10_000_000);
    }
}
