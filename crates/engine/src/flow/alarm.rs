//! What a table noticed that somebody should hear of.

use super::Endpoint;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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

/// Words of an alarm in a table's memory.
pub(super) const WORDS: usize = 16;

const SYN_FLOOD: u32 = 1;
const PORT_SCAN: u32 = 2;

impl Alarm {
    pub(super) fn to_words(self) -> [u32; WORDS] {
        let (kind, source, target, a, b) = match self.cause {
            Cause::SynFlood {
                listener,
                half_open,
                syns,
            } => (SYN_FLOOD, listener.address, listener, half_open, syns),
            Cause::PortScan {
                source,
                ports,
                target,
            } => (PORT_SCAN, source, target, ports, 0),
        };
        let family = u32::from(source.is_ipv6()) << 8;
        let [s0, s1, s2, s3] = words_of(source);
        let [t0, t1, t2, t3] = words_of(target.address);
        let [sequence_high, sequence] = halves(self.sequence);
        let [time_high, time] = halves(self.time_100ns);
        let kind = u32::from(target.port) << 16 | family | kind;
        [
            sequence_high,
            sequence,
            time_high,
            time,
            self.adapter,
            kind,
            s0,
            s1,
            s2,
            s3,
            t0,
            t1,
            t2,
            t3,
            a,
            b,
        ]
    }

    pub(super) fn from_words(words: &[u32; WORDS]) -> Option<Self> {
        let &[
            sequence_high,
            sequence,
            time_high,
            time,
            adapter,
            kind,
            s0,
            s1,
            s2,
            s3,
            t0,
            t1,
            t2,
            t3,
            a,
            b,
        ] = words;
        let v6 = kind >> 8 & 1 != 0;
        let source = address_of([s0, s1, s2, s3], v6);
        let target = Endpoint {
            address: address_of([t0, t1, t2, t3], v6),
            port: (kind >> 16) as u16,
        };
        let cause = match kind & 0xff {
            SYN_FLOOD => Cause::SynFlood {
                listener: target,
                half_open: a,
                syns: b,
            },
            PORT_SCAN => Cause::PortScan {
                source,
                ports: a,
                target,
            },
            _ => return None,
        };
        Some(Self {
            sequence: u64::from(sequence_high) << 32 | u64::from(sequence),
            time_100ns: u64::from(time_high) << 32 | u64::from(time),
            adapter,
            cause,
        })
    }
}

fn halves(word: u64) -> [u32; 2] {
    [(word >> 32) as u32, word as u32]
}

/// An address in four words; IPv4 in the last.
pub(super) fn words_of(address: IpAddr) -> [u32; 4] {
    let bits = match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    let [a, b] = halves((bits >> 64) as u64);
    let [c, d] = halves(bits as u64);
    [a, b, c, d]
}

fn address_of([a, b, c, d]: [u32; 4], v6: bool) -> IpAddr {
    if !v6 {
        return Ipv4Addr::from_bits(d).into();
    }
    let bits = [a, b, c, d]
        .into_iter()
        .fold(0u128, |bits, word| bits << 32 | u128::from(word));
    Ipv6Addr::from_bits(bits).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_alarm_comes_out_as_it_went_in(
            sequence: u64,
            time_100ns: u64,
            adapter: u32,
            source: IpAddr,
            address: IpAddr,
            port: u16,
            a: u32,
            b: u32,
            scan: bool,
        ) {
            // Both ends of a scan are of one family.
            let address = if scan && source.is_ipv4() != address.is_ipv4() { source } else { address };
            let target = Endpoint { address, port };
            let cause = if scan {
                Cause::PortScan { source, ports: a, target }
            } else {
                Cause::SynFlood { listener: target, half_open: a, syns: b }
            };
            let alarm = Alarm { sequence, time_100ns, adapter, cause };
            prop_assert_eq!(Alarm::from_words(&alarm.to_words()), Some(alarm));
        }
    }
}
