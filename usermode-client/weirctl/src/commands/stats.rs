//! `weirctl stats`: the balance and the protocol counters.

use std::io::{self, Write};

use serde::Serialize;
use weir_abi::{AdapterStats, Direction};
use weir_client::Device;

use super::{find_adapter, rules};
use crate::error::CtlError;
use crate::output::{Output, View, columns};

#[derive(Serialize)]
struct Stats {
    adapters: Vec<Adapter>,
    /// The rules in force; null if there are none.
    rules: Option<rules::Stats>,
    /// Whether every balance is.
    balanced: bool,
}

#[derive(Serialize)]
struct Adapter {
    id: u32,
    name: String,
    r#in: Flow,
    out: Flow,
}

/// One direction of an adapter.
#[derive(Serialize)]
struct Flow {
    balance: Balance,
    protocols: Protocols,
    in_flight: u64,
    /// Frames that handles wrote, and that were handed on; no part of the balance.
    injected: u64,
    inject_failed: u64,
}

#[derive(Serialize)]
struct Balance {
    seen: u64,
    passed: u64,
    dropped: u64,
    diverted: u64,
    lost: u64,
    lost_paused: u64,
    lost_resources: u64,
    lost_other: u64,
    seen_bytes: u64,
    passed_bytes: u64,
    balanced: bool,
}

#[derive(Serialize)]
struct Protocols {
    frames: u64,
    vlan: u64,
    arp: u64,
    ipv4: u64,
    ipv6: u64,
    icmp: u64,
    icmpv6: u64,
    udp: u64,
    tcp: u64,
    ipv4_fragments: u64,
    ipv6_fragments: u64,
    truncated: u64,
    malformed: u64,
    other: u64,
    bad_network_checksum: u64,
    bad_transport_checksum: u64,
}

impl Protocols {
    /// Each counter by name, in the order of the layers.
    fn named(&self) -> [(&'static str, u64); 16] {
        [
            ("frames", self.frames),
            ("vlan", self.vlan),
            ("arp", self.arp),
            ("ipv4", self.ipv4),
            ("ipv6", self.ipv6),
            ("icmp", self.icmp),
            ("icmpv6", self.icmpv6),
            ("udp", self.udp),
            ("tcp", self.tcp),
            ("ipv4 fragments", self.ipv4_fragments),
            ("ipv6 fragments", self.ipv6_fragments),
            ("truncated", self.truncated),
            ("malformed", self.malformed),
            ("other", self.other),
            ("bad IP checksum", self.bad_network_checksum),
            ("bad TCP, UDP, ICMP checksum", self.bad_transport_checksum),
        ]
    }
}

impl Flow {
    fn new(stats: &AdapterStats, direction: Direction) -> Flow {
        let b = stats.balance(direction);
        let p = stats.protocols(direction);
        let of = |pair: [u64; 2]| pair.get(direction.index()).copied().unwrap_or(0);
        Flow {
            balance: Balance {
                seen: b.seen,
                passed: b.passed,
                dropped: b.dropped,
                diverted: b.diverted,
                lost: b.lost(),
                lost_paused: b.lost_paused,
                lost_resources: b.lost_resources,
                lost_other: b.lost_other,
                seen_bytes: b.seen_bytes,
                passed_bytes: b.passed_bytes,
                balanced: b.is_balanced(),
            },
            protocols: Protocols {
                frames: p.frames,
                vlan: p.vlan,
                arp: p.arp,
                ipv4: p.ipv4,
                ipv6: p.ipv6,
                icmp: p.icmp,
                icmpv6: p.icmpv6,
                udp: p.udp,
                tcp: p.tcp,
                ipv4_fragments: p.ipv4_fragments,
                ipv6_fragments: p.ipv6_fragments,
                truncated: p.truncated,
                malformed: p.malformed,
                other: p.other,
                bad_network_checksum: p.bad_network_checksum,
                bad_transport_checksum: p.bad_transport_checksum,
            },
            in_flight: of(stats.in_flight),
            injected: of(stats.injected),
            inject_failed: of(stats.inject_failed),
        }
    }
}

/// What is shown beside each balance.
pub(crate) fn verdict(balanced: bool) -> &'static str {
    if balanced { "balanced" } else { "NOT BALANCED" }
}

fn balance_row(direction: &str, b: &Balance) -> Vec<String> {
    vec![
        direction.to_owned(),
        b.seen.to_string(),
        "=".to_owned(),
        b.passed.to_string(),
        "+".to_owned(),
        b.dropped.to_string(),
        "+".to_owned(),
        b.diverted.to_string(),
        "+".to_owned(),
        b.lost.to_string(),
        verdict(b.balanced).to_owned(),
        b.seen_bytes.to_string(),
    ]
}

impl View for Stats {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.adapters.is_empty() {
            return writeln!(out, "no adapters");
        }
        for (i, adapter) in self.adapters.iter().enumerate() {
            if i > 0 {
                writeln!(out)?;
            }
            adapter.text(out)?;
        }
        if let Some(rules) = &self.rules {
            writeln!(out)?;
            rules.text(out)?;
        }
        Ok(())
    }
}

impl Adapter {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "adapter {} {}", self.id, self.name)?;
        let header = [
            "",
            "seen",
            "=",
            "passed",
            "+",
            "dropped",
            "+",
            "diverted",
            "+",
            "lost",
            "",
            "bytes seen",
        ];
        let rows = [
            balance_row("in", &self.r#in.balance),
            balance_row("out", &self.out.balance),
        ];
        columns(out, &header, &[0, 10], &rows)?;
        for (direction, flow) in [("in", &self.r#in), ("out", &self.out)] {
            let b = &flow.balance;
            if b.lost > 0 {
                writeln!(
                    out,
                    "lost {direction}: {} paused, {} resources, {} other",
                    b.lost_paused, b.lost_resources, b.lost_other
                )?;
            }
            if flow.in_flight > 0 {
                writeln!(out, "in flight {direction}: {}", flow.in_flight)?;
            }
            if flow.injected > 0 || flow.inject_failed > 0 {
                writeln!(
                    out,
                    "injected {direction}: {}, failed {}",
                    flow.injected, flow.inject_failed
                )?;
            }
        }
        let rows: Vec<Vec<String>> = self
            .r#in
            .protocols
            .named()
            .into_iter()
            .zip(self.out.protocols.named())
            .filter(|((name, i), (_, o))| *name == "frames" || i + o > 0)
            .map(|((name, i), (_, o))| vec![name.to_owned(), i.to_string(), o.to_string()])
            .collect();
        columns(out, &["protocol", "in", "out"], &[0], &rows)
    }
}

/// The balance and the protocol counters of one adapter or all.
pub(crate) fn stats(
    device: &Device,
    asked: Option<&str>,
    out: &mut Output<'_>,
) -> Result<(), CtlError> {
    let all = device.adapters()?;
    let chosen = match asked {
        Some(asked) => vec![find_adapter(&all, asked)?],
        None => all,
    };
    let adapters = chosen
        .into_iter()
        .map(|adapter| {
            let stats = device.adapter_stats(adapter.id)?;
            Ok(Adapter {
                id: adapter.id,
                name: adapter.name,
                r#in: Flow::new(&stats, Direction::In),
                out: Flow::new(&stats, Direction::Out),
            })
        })
        .collect::<Result<Vec<_>, CtlError>>()?;
    let rules = rules::Stats::read(device)?;
    let balanced = adapters
        .iter()
        .all(|a| a.r#in.balance.balanced && a.out.balance.balanced)
        && rules.as_ref().is_none_or(rules::Stats::is_balanced);
    out.show(&Stats {
        adapters,
        rules,
        balanced,
    })?;
    Ok(())
}
