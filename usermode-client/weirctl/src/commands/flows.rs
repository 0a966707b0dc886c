//! `weirctl flows`: the flows in the driver's tables, with their owners, and
//! its alarms.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::SocketAddr;

use serde::Serialize;
use weir_abi::{AlarmKind, FlowPorts, FlowState, FlowStats};
use weir_client::owners::{Owner, SocketKind, SocketTable, process_name};
use weir_client::{Adapter, Device, Error, Service};
use weir_engine::flow::{self, Endpoint, Health, Ports, Sent, State, TcpTags};
use weir_engine::wire::Protocol;

use super::find_adapter;
use crate::cli::{FlowOrder, FlowsArgs};
use crate::error::CtlError;
use crate::output::{Output, View, columns};
use crate::views::{AlarmView, FlowView, TagMap, bytes, duration_us};

#[derive(Serialize)]
struct Flows {
    flows: Vec<Line>,
    /// Flows that are not shown because of `--limit`.
    more: usize,
    adapters: Vec<Table>,
    alarms: Vec<AlarmView>,
}

/// One flow, and who has it.
#[derive(Serialize)]
struct Line {
    #[serde(flatten)]
    flow: FlowView,
    initiator_port_class: Option<&'static str>,
    responder_port_class: Option<&'static str>,
    owner: OwnerView,
}

#[derive(Serialize)]
struct OwnerView {
    pid: Option<u32>,
    process: Option<String>,
    /// The end of the flow that is this machine's.
    local: Option<SocketAddr>,
    /// The driver's own service, if it is one of these.
    service: Option<u32>,
    /// `certain`, `likely` or `unknown`.
    certainty: &'static str,
    /// What keeps it from being certain.
    why: Option<&'static str>,
}

/// The flow table of one adapter.
#[derive(Serialize)]
struct Table {
    adapter: String,
    capacity: u64,
    active: u64,
    half_open: u64,
    created: u64,
    expired: u64,
    evicted_half_open: u64,
    evicted_other: u64,
    untracked: u64,
    alarms: u64,
    alarms_lost: u64,
    memory_bytes: u64,
    /// Segments with each tag.
    tcp: TagMap,
}

impl View for Flows {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let header = [
            "flow",
            "adapter",
            "protocol",
            "initiator",
            "responder",
            "service",
            "state",
            "packets",
            "bytes",
            "rtt",
            "resent",
            "owner",
        ];
        let rows: Vec<Vec<String>> = self.flows.iter().map(Line::row).collect();
        columns(out, &header, &[1, 2, 3, 4, 5, 6, 11], &rows)?;
        if self.more > 0 {
            writeln!(out, "and {} more (--limit)", self.more)?;
        }
        for table in &self.adapters {
            writeln!(
                out,
                "{}: {} flows of {}, {} half open; {} created, {} expired, {} evicted ({} half open)",
                table.adapter,
                table.active,
                table.capacity,
                table.half_open,
                table.created,
                table.expired,
                table.evicted_half_open + table.evicted_other,
                table.evicted_half_open
            )?;
            if table.untracked > 0 || table.alarms_lost > 0 {
                writeln!(
                    out,
                    "{}: {} frames untracked, {} alarms lost",
                    table.adapter, table.untracked, table.alarms_lost
                )?;
            }
        }
        for alarm in &self.alarms {
            writeln!(out, "alarm: {alarm}")?;
        }
        Ok(())
    }
}

impl Line {
    fn row(&self) -> Vec<String> {
        let flow = &self.flow;
        let rtt = flow.smoothed_rtt_us.or(flow.initial_rtt_us);
        let resent = flow.tcp.as_ref().filter(|t| t.retransmissions > 0);
        vec![
            flow.id.to_string(),
            flow.adapter.clone(),
            flow.protocol.clone(),
            flow.initiator.text(),
            flow.responder.text(),
            flow.responder.service.unwrap_or_default().to_owned(),
            flow.state.to_owned(),
            flow.sent
                .packets
                .saturating_add(flow.received.packets)
                .to_string(),
            bytes(flow.sent.bytes.saturating_add(flow.received.bytes)),
            rtt.map_or_else(String::new, duration_us),
            resent.map_or_else(String::new, |t| t.retransmissions.to_string()),
            self.owner.text(),
        ]
    }
}

impl OwnerView {
    fn text(&self) -> String {
        if let Some(id) = self.service {
            return format!("weir service {id}");
        }
        let Some(pid) = self.pid else {
            return "unknown".to_owned();
        };
        let name = self.process.as_deref().unwrap_or("?");
        let mark = if self.certainty == "certain" {
            ""
        } else {
            " (likely)"
        };
        format!("{name} {pid}{mark}")
    }
}

/// RFC 6335 section 6.
pub(crate) const fn port_class(port: u16) -> &'static str {
    match port {
        0..=1023 => "well-known",
        1024..=49_151 => "registered",
        49_152.. => "dynamic",
    }
}

/// What knows the owners: the sockets of processes, and the driver's services.
struct Owners {
    sockets: Result<SocketTable, Error>,
    services: Vec<Service>,
    names: HashMap<u32, Option<String>>,
}

impl Owners {
    fn read(device: &Device) -> Result<Owners, CtlError> {
        Ok(Owners {
            sockets: SocketTable::read(),
            services: device.services()?,
            names: HashMap::new(),
        })
    }

    fn of(&mut self, flow: &weir_client::Flow) -> OwnerView {
        let (kind, transport) = match flow.protocol {
            6 => (SocketKind::Tcp, weir_abi::Transport::Tcp),
            17 => (SocketKind::Udp, weir_abi::Transport::Udp),
            _ => return OwnerView::unknown("only TCP and UDP have sockets"),
        };
        if flow.ports != FlowPorts::Ports {
            return OwnerView::unknown("fragments without their ports");
        }
        let ends = [flow.initiator, flow.responder];
        let service = self.services.iter().find_map(|service| {
            let local = ends.into_iter().find(|end| {
                let any = service.address.ip().is_unspecified();
                service.transport == transport
                    && service.address.port() == end.port()
                    && (any || service.address.ip() == end.ip())
            })?;
            Some((service.id, local))
        });
        if let Some((id, local)) = service {
            return OwnerView {
                pid: None,
                process: None,
                local: Some(local),
                service: Some(id),
                // A process can have a socket on another address of this port.
                certainty: "likely",
                why: Some("a service of the driver has this port"),
            };
        }
        let owner = match &self.sockets {
            Ok(table) => table.owner(kind, ends, flow.last_100ns),
            Err(_) => return OwnerView::unknown("the system's table of sockets can't be read"),
        };
        let process = owner.pid.and_then(|pid| self.name(pid));
        OwnerView::new(&owner, process)
    }

    fn name(&mut self, pid: u32) -> Option<String> {
        self.names
            .entry(pid)
            .or_insert_with(|| process_name(pid))
            .clone()
    }
}

impl OwnerView {
    fn new(owner: &Owner, process: Option<String>) -> Self {
        OwnerView {
            pid: owner.pid,
            process,
            local: owner.local,
            service: None,
            certainty: owner.certainty.as_str(),
            why: owner.certainty.why(),
        }
    }

    const fn unknown(why: &'static str) -> Self {
        OwnerView {
            pid: None,
            process: None,
            local: None,
            service: None,
            certainty: "unknown",
            why: Some(why),
        }
    }
}

/// Shows the flows of one adapter or all.
pub(crate) fn flows(
    device: &Device,
    args: &FlowsArgs,
    out: &mut Output<'_>,
) -> Result<(), CtlError> {
    let all = device.adapters()?;
    let chosen = match &args.interface {
        Some(asked) => vec![find_adapter(&all, asked)?],
        None => all.clone(),
    };
    let mut owners = Owners::read(device)?;
    let mut found = Vec::new();
    let mut tables = Vec::new();
    for adapter in &chosen {
        for flow in device.flows(adapter.id)? {
            found.push((adapter, flow));
        }
        tables.push(Table::new(adapter, &device.flow_stats(adapter.id)?));
    }
    sort(&mut found, args.sort);
    let more = found.len().saturating_sub(args.limit);
    let flows = found
        .iter()
        .take(args.limit)
        .map(|(adapter, flow)| line(adapter, flow, owners.of(flow)))
        .collect();
    let (alarms, _) = device.alarms(0)?;
    let alarms = alarms
        .iter()
        .filter(|alarm| args.interface.is_none() || chosen.iter().any(|a| a.id == alarm.adapter))
        .map(|alarm| {
            let adapter = all.iter().find(|a| a.id == alarm.adapter);
            let name = adapter.map_or_else(|| alarm.adapter.to_string(), |a| a.name.clone());
            AlarmView::new(&engine_alarm(alarm), &name)
        })
        .collect();
    out.show(&Flows {
        flows,
        more,
        adapters: tables,
        alarms,
    })?;
    Ok(())
}

fn sort(flows: &mut [(&Adapter, weir_client::Flow)], order: FlowOrder) {
    let sum = |pair: [u64; 2]| pair.into_iter().fold(0, u64::saturating_add);
    match order {
        FlowOrder::Bytes => flows.sort_by_key(|(_, f)| std::cmp::Reverse(sum(f.bytes))),
        FlowOrder::Packets => flows.sort_by_key(|(_, f)| std::cmp::Reverse(sum(f.frames))),
        FlowOrder::Recent => flows.sort_by_key(|(_, f)| std::cmp::Reverse(f.last_100ns)),
        FlowOrder::Id => flows.sort_by_key(|(a, f)| (a.id, f.id)),
    }
}

fn line(adapter: &Adapter, flow: &weir_client::Flow, owner: OwnerView) -> Line {
    let class = |end: SocketAddr| {
        let has = flow.ports == FlowPorts::Ports && matches!(flow.protocol, 6 | 17);
        has.then(|| port_class(end.port()))
    };
    Line {
        initiator_port_class: class(flow.initiator),
        responder_port_class: class(flow.responder),
        flow: FlowView::new(&engine_flow(flow), &adapter.name),
        owner,
    }
}

impl Table {
    fn new(adapter: &Adapter, stats: &FlowStats) -> Self {
        Table {
            adapter: adapter.name.clone(),
            capacity: stats.capacity,
            active: stats.active,
            half_open: stats.half_open,
            created: stats.created,
            expired: stats.expired,
            evicted_half_open: stats.evicted_half_open,
            evicted_other: stats.evicted_other,
            untracked: stats.untracked,
            alarms: stats.alarms,
            alarms_lost: stats.alarms_lost,
            memory_bytes: stats.memory,
            tcp: TagMap(
                weir_abi::TcpTag::ALL
                    .iter()
                    .zip(stats.tags)
                    .map(|(tag, count)| (tag.as_str(), count))
                    .collect(),
            ),
        }
    }
}

/// The driver's flow in the engine's words, which offline flows come in too.
fn engine_flow(flow: &weir_client::Flow) -> flow::Flow {
    let end = |at: SocketAddr| Endpoint {
        address: at.ip(),
        port: at.port(),
    };
    let [sent, received] = [0, 1].map(|side: usize| Sent {
        packets: flow.frames.get(side).copied().unwrap_or(0),
        bytes: flow.bytes.get(side).copied().unwrap_or(0),
    });
    let ticks = |rtt: Option<std::time::Duration>| {
        rtt.map(|rtt| u64::try_from(rtt.as_nanos() / 100).unwrap_or(u64::MAX))
    };
    let stop = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
    let seen = flow
        .tags
        .iter()
        .filter_map(|tag| TcpTags::named(tag.as_str()))
        .fold(TcpTags::empty(), TcpTags::union);
    flow::Flow {
        id: flow.id,
        adapter: flow.adapter,
        vlan: flow.vlan,
        protocol: Protocol(flow.protocol),
        ports: match flow.ports {
            FlowPorts::Ports => Ports::Ports,
            FlowPorts::EchoId => Ports::EchoId,
            FlowPorts::None => Ports::None,
        },
        initiator: end(flow.initiator),
        responder: end(flow.responder),
        sent,
        received,
        first_100ns: flow.first_100ns,
        last_100ns: flow.last_100ns,
        state: state(flow.state),
        initial_rtt_100ns: ticks(flow.initial_rtt),
        responder_rtt_100ns: ticks(flow.responder_rtt),
        initiator_rtt_100ns: ticks(flow.initiator_rtt),
        health: Health {
            retransmissions: stop(flow.retransmissions),
            fast_retransmissions: stop(flow.fast_retransmissions),
            out_of_order: stop(flow.out_of_order),
            duplicate_acks: stop(flow.duplicate_acks),
            seen,
        },
    }
}

fn state(of: FlowState) -> State {
    State::ALL
        .into_iter()
        .find(|state| state.name() == of.as_str())
        .unwrap_or(State::Active)
}

fn engine_alarm(alarm: &weir_client::Alarm) -> flow::Alarm {
    let end = |address| Endpoint {
        address,
        port: alarm.port,
    };
    flow::Alarm {
        sequence: alarm.number,
        time_100ns: weir_client::filetime::of(alarm.time),
        adapter: alarm.adapter,
        cause: match alarm.kind {
            AlarmKind::SynFlood => flow::Cause::SynFlood {
                listener: end(alarm.address),
                half_open: alarm.count,
                syns: alarm.syns,
            },
            AlarmKind::PortScan => flow::Cause::PortScan {
                source: alarm.address,
                ports: alarm.count,
                target: end(alarm.peer.unwrap_or(alarm.address)),
            },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_have_classes() {
        for (port, class) in [
            (0, "well-known"),
            (1023, "well-known"),
            (1024, "registered"),
            (49_151, "registered"),
            (49_152, "dynamic"),
            (65_535, "dynamic"),
        ] {
            assert_eq!(port_class(port), class, "{port}");
        }
    }

    #[test]
    fn each_state_of_the_contract_is_one_of_the_engine() {
        for of in FlowState::ALL {
            assert_eq!(state(*of).name(), of.as_str());
        }
    }
}
