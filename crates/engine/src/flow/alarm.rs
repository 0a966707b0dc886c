//! What a table noticed that somebody should hear of.

use super::Endpoint;
use core::net::IpAddr;

/// An alarm. A cause that goes on is not told again before its window is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// Number of the alarm in its table, from 1: a gap is alarms that were lost.
    pub sequence: u64,
    /// When: 100 ns since 1601-01-01 UTC.
    pub time_100ns: u64,
    /// Adapter of the frame that set it off.
    pub adapter: u32,
    /// What it is about.
    pub cause: Cause,
}

/// What an alarm is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// More connections are half open at a listener than
    /// [`super::AlarmConfig::half_open`], or SYNs came faster than
    /// [`super::AlarmConfig::syn_rate`].
    SynFlood {
        /// Where the SYNs go.
        listener: Endpoint,
        /// Connections half open there now, as far as the table holds them.
        half_open: u32,
        /// SYNs that began a connection there in the running window.
        syns: u32,
    },
    /// One source tried more ports than [`super::AlarmConfig::scan_ports`].
    PortScan {
        /// Who tries.
        source: IpAddr,
        /// Different ports it tried in the running window, estimated.
        ports: u32,
        /// What it tried last.
        target: Endpoint,
    },
}

impl Cause {
    /// Its name in output: `syn_flood`, `port_scan`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::SynFlood { .. } => "syn_flood",
            Self::PortScan { .. } => "port_scan",
        }
    }
}
