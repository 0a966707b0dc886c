//! Alarms as objects and as lines.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;
use weir_engine::flow::{Alarm, Cause};

use super::Timestamp;

/// An alarm.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct AlarmView {
    /// Its number in its table, from 1: a gap is alarms that were lost.
    pub(crate) sequence: u64,
    pub(crate) time: Timestamp,
    /// Name of the adapter or of the file's interface.
    pub(crate) adapter: String,
    #[serde(flatten)]
    pub(crate) cause: AlarmCause,
}

/// What it is about.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "alarm", rename_all = "snake_case")]
pub(crate) enum AlarmCause {
    SynFlood {
        listener: SocketAddr,
        /// Connections half open there.
        half_open: u32,
        /// SYNs there in the running window.
        syns: u32,
    },
    PortScan {
        source: IpAddr,
        /// Different ports tried in the running window, estimated.
        ports: u32,
        /// What it tried last.
        target: SocketAddr,
    },
}

impl AlarmView {
    /// An alarm of a table; `adapter` is what its adapter is called.
    pub(crate) fn new(alarm: &Alarm, adapter: &str) -> Self {
        AlarmView {
            sequence: alarm.sequence,
            time: Timestamp(alarm.time_100ns),
            adapter: adapter.to_owned(),
            cause: match alarm.cause {
                Cause::SynFlood {
                    listener,
                    half_open,
                    syns,
                } => AlarmCause::SynFlood {
                    listener: SocketAddr::new(listener.address, listener.port),
                    half_open,
                    syns,
                },
                Cause::PortScan {
                    source,
                    ports,
                    target,
                } => AlarmCause::PortScan {
                    source,
                    ports,
                    target: SocketAddr::new(target.address, target.port),
                },
            },
        }
    }
}

impl fmt::Display for AlarmView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {}  ", self.time, self.adapter)?;
        match &self.cause {
            AlarmCause::SynFlood {
                listener,
                half_open,
                syns,
            } => write!(
                f,
                "SYN flood at {listener}: {half_open} connections half open, {syns} SYNs"
            ),
            AlarmCause::PortScan {
                source,
                ports,
                target,
            } => write!(
                f,
                "port scan by {source}: about {ports} ports, the last {target}"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_engine::flow::Endpoint;

    #[test]
    fn each_alarm() {
        let end = Endpoint {
            address: IpAddr::from([10, 0, 0, 1]),
            port: 80,
        };
        let view = |cause| {
            AlarmView::new(
                &Alarm {
                    sequence: 3,
                    time_100ns: 0,
                    adapter: 0,
                    cause,
                },
                "lab0",
            )
        };
        let flood = view(Cause::SynFlood {
            listener: end,
            half_open: 200,
            syns: 300,
        });
        assert_eq!(
            flood.to_string(),
            "1601-01-01T00:00:00.0000000Z  lab0  SYN flood at 10.0.0.1:80: \
             200 connections half open, 300 SYNs"
        );
        let object = serde_json::to_value(&flood).expect("JSON");
        assert_eq!(
            object,
            serde_json::json!({
                "sequence": 3, "time": "1601-01-01T00:00:00.0000000Z", "adapter": "lab0",
                "alarm": "syn_flood", "listener": "10.0.0.1:80", "half_open": 200, "syns": 300,
            })
        );
        let scan = view(Cause::PortScan {
            source: end.address,
            ports: 99,
            target: end,
        });
        assert!(
            scan.to_string()
                .ends_with("by 10.0.0.1: about 99 ports, the last 10.0.0.1:80")
        );
    }
}
