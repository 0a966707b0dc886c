//! Flows as objects and as a table.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};

use serde::{Serialize, Serializer};
use weir_engine::flow::{Endpoint, Flow, Ports, Sent, TcpTags};
use weir_engine::wire::Protocol;
use weir_rules::services;

use super::{Timestamp, bytes, duration_us, seconds_between};
use crate::output::columns;

/// A flow.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct FlowView {
    /// Number of the flow in its table, from 1.
    pub(crate) id: u64,
    /// Name of the adapter or of the file's interface.
    pub(crate) adapter: String,
    /// Id of the outermost VLAN tag.
    pub(crate) vlan: Option<u16>,
    /// A name, or the number of the protocol.
    pub(crate) protocol: String,
    pub(crate) state: &'static str,
    pub(crate) initiator: EndView,
    pub(crate) responder: EndView,
    /// Identifier of ICMP echoes.
    pub(crate) echo_id: Option<u16>,
    /// By the initiator.
    pub(crate) sent: SentView,
    /// By the responder.
    pub(crate) received: SentView,
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
    pub(crate) duration_seconds: f64,
    /// Of the handshake.
    pub(crate) initial_rtt_us: Option<f64>,
    /// Both halves, smoothed.
    pub(crate) smoothed_rtt_us: Option<f64>,
    /// From the place of capture to the initiator and back, smoothed.
    pub(crate) initiator_rtt_us: Option<f64>,
    /// From the place of capture to the responder and back, smoothed.
    pub(crate) responder_rtt_us: Option<f64>,
    /// TCP only.
    pub(crate) tcp: Option<HealthView>,
}

/// One end of a flow.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct EndView {
    pub(crate) address: IpAddr,
    pub(crate) port: Option<u16>,
    /// IANA's name of the port.
    pub(crate) service: Option<&'static str>,
}

/// What one end sent.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct SentView {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

/// How well a TCP flow does.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct HealthView {
    /// Of every kind.
    pub(crate) retransmissions: u16,
    /// Of these, the fast ones.
    pub(crate) fast_retransmissions: u16,
    pub(crate) out_of_order: u16,
    pub(crate) duplicate_acks: u16,
    /// The name of each fact that was true of any segment.
    pub(crate) seen: Vec<&'static str>,
}

/// How many segments had each TCP tag, by the tags' names.
pub(crate) struct TagMap(pub(crate) Vec<(&'static str, u64)>);

impl Serialize for TagMap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, count)| (name, count)))
    }
}

/// The word for an IP protocol, or its number.
pub(crate) fn protocol_name(protocol: Protocol) -> String {
    match protocol {
        Protocol::TCP => "tcp".to_owned(),
        Protocol::UDP => "udp".to_owned(),
        Protocol::ICMP => "icmp".to_owned(),
        Protocol::ICMPV6 => "icmpv6".to_owned(),
        Protocol::ESP => "esp".to_owned(),
        Protocol::AH => "ah".to_owned(),
        Protocol(132) => "sctp".to_owned(),
        Protocol(47) => "gre".to_owned(),
        Protocol(2) => "igmp".to_owned(),
        Protocol(n) => n.to_string(),
    }
}

impl EndView {
    fn new(end: &Endpoint, protocol: Protocol, ports: Ports) -> Self {
        let port = matches!(ports, Ports::Ports).then_some(end.port);
        let transport = match protocol {
            Protocol::TCP => Some(services::Transport::Tcp),
            Protocol::UDP => Some(services::Transport::Udp),
            _ => None,
        };
        EndView {
            address: end.address,
            port,
            service: transport
                .zip(port)
                .and_then(|(transport, port)| services::name(transport, port)),
        }
    }

    /// `10.0.0.1:80`, `[::1]:80`, or the bare address.
    pub(crate) fn text(&self) -> String {
        match self.port {
            Some(port) => SocketAddr::new(self.address, port).to_string(),
            None => self.address.to_string(),
        }
    }
}

impl From<&Sent> for SentView {
    fn from(sent: &Sent) -> Self {
        SentView {
            packets: sent.packets,
            bytes: sent.bytes,
        }
    }
}

impl HealthView {
    pub(crate) fn names(seen: TcpTags) -> Vec<&'static str> {
        seen.names().collect()
    }
}

impl FlowView {
    /// A flow of a table; `adapter` is what its adapter is called.
    pub(crate) fn new(flow: &Flow, adapter: &str) -> Self {
        let us = |rtt: Option<u64>| rtt.map(|units| units as f64 / 10.0);
        let end = |end| EndView::new(end, flow.protocol, flow.ports);
        FlowView {
            id: flow.id,
            adapter: adapter.to_owned(),
            vlan: flow.vlan,
            protocol: protocol_name(flow.protocol),
            state: flow.state.name(),
            initiator: end(&flow.initiator),
            responder: end(&flow.responder),
            echo_id: matches!(flow.ports, Ports::EchoId).then_some(flow.initiator.port),
            sent: (&flow.sent).into(),
            received: (&flow.received).into(),
            first: Timestamp(flow.first_100ns),
            last: Timestamp(flow.last_100ns),
            duration_seconds: seconds_between(flow.first_100ns, flow.last_100ns),
            initial_rtt_us: us(flow.initial_rtt_100ns),
            smoothed_rtt_us: us(flow.smoothed_rtt_100ns()),
            initiator_rtt_us: us(flow.initiator_rtt_100ns),
            responder_rtt_us: us(flow.responder_rtt_100ns),
            tcp: (flow.protocol == Protocol::TCP).then(|| HealthView {
                retransmissions: flow.health.retransmissions,
                fast_retransmissions: flow.health.fast_retransmissions,
                out_of_order: flow.health.out_of_order,
                duplicate_acks: flow.health.duplicate_acks,
                seen: HealthView::names(flow.health.seen),
            }),
        }
    }

    fn row(&self) -> Vec<String> {
        let rtt = self.smoothed_rtt_us.or(self.initial_rtt_us);
        let resent = self.tcp.as_ref().filter(|t| t.retransmissions > 0);
        vec![
            self.id.to_string(),
            match self.vlan {
                Some(vlan) => format!("{} vlan {vlan}", self.protocol),
                None => self.protocol.clone(),
            },
            self.initiator.text(),
            self.responder.text(),
            self.responder.service.unwrap_or_default().to_owned(),
            self.state.to_owned(),
            self.sent
                .packets
                .saturating_add(self.received.packets)
                .to_string(),
            bytes(self.sent.bytes),
            bytes(self.received.bytes),
            format!("{:.3} s", self.duration_seconds),
            rtt.map_or_else(String::new, duration_us),
            resent.map_or_else(String::new, |t| {
                format!("{} ({} fast)", t.retransmissions, t.fast_retransmissions)
            }),
        ]
    }
}

/// Writes flows as a table, one a line.
pub(crate) fn flow_table<'a>(
    out: &mut dyn Write,
    flows: impl IntoIterator<Item = &'a FlowView>,
) -> io::Result<()> {
    let header = [
        "flow",
        "protocol",
        "initiator",
        "responder",
        "service",
        "state",
        "packets",
        "sent",
        "received",
        "duration",
        "rtt",
        "retransmitted",
    ];
    let rows: Vec<Vec<String>> = flows.into_iter().map(FlowView::row).collect();
    columns(out, &header, &[1, 2, 3, 4, 5, 11], &rows)
}

#[cfg(test)]
mod tests {
    use weir_engine::flow::{Health, State};

    use super::*;

    fn flow() -> Flow {
        let end = |last, port| Endpoint {
            address: IpAddr::from([10, 0, 0, last]),
            port,
        };
        Flow {
            id: 7,
            adapter: 0,
            vlan: Some(5),
            protocol: Protocol::TCP,
            ports: Ports::Ports,
            initiator: end(1, 49152),
            responder: end(2, 9),
            sent: Sent {
                packets: 3,
                bytes: 1500,
            },
            received: Sent {
                packets: 4,
                bytes: 90,
            },
            first_100ns: 10_000_000,
            last_100ns: 25_000_000,
            state: State::Established,
            initial_rtt_100ns: Some(12_500),
            responder_rtt_100ns: None,
            initiator_rtt_100ns: Some(15),
            health: Health {
                retransmissions: 2,
                fast_retransmissions: 1,
                seen: TcpTags::FAST_RETRANSMISSION | TcpTags::ZERO_WINDOW,
                ..Health::default()
            },
        }
    }

    #[test]
    fn a_flow_as_an_object() {
        let object = serde_json::to_value(FlowView::new(&flow(), "lab0")).expect("JSON");
        for (pointer, want) in [
            ("/id", serde_json::json!(7)),
            ("/adapter", "lab0".into()),
            ("/vlan", 5.into()),
            ("/protocol", "tcp".into()),
            ("/state", "established".into()),
            ("/initiator/address", "10.0.0.1".into()),
            ("/responder/port", 9.into()),
            ("/echo_id", serde_json::Value::Null),
            ("/sent/bytes", 1500.into()),
            ("/received/packets", 4.into()),
            ("/last", "1601-01-01T00:00:02.5000000Z".into()),
            ("/duration_seconds", 1.5.into()),
            ("/initial_rtt_us", 1250.0.into()),
            ("/smoothed_rtt_us", serde_json::Value::Null),
            ("/initiator_rtt_us", 1.5.into()),
            ("/tcp/retransmissions", 2.into()),
            ("/tcp/seen/1", "zero_window".into()),
        ] {
            assert_eq!(object.pointer(pointer), Some(&want), "{pointer}: {object}");
        }
    }

    #[test]
    fn an_echo_has_no_ports() {
        let echo = Flow {
            protocol: Protocol::ICMP,
            ports: Ports::EchoId,
            ..flow()
        };
        let view = FlowView::new(&echo, "lab0");
        assert_eq!((view.echo_id, view.initiator.port), (Some(49152), None));
        assert!(view.tcp.is_none());
        assert_eq!(view.initiator.text(), "10.0.0.1");
    }

    #[test]
    fn the_table() {
        let mut text = Vec::new();
        flow_table(&mut text, &[FlowView::new(&flow(), "lab0")]).expect("writes");
        let text = String::from_utf8(text).expect("UTF-8");
        let row = text.lines().nth(1).expect("a row");
        for want in [
            "tcp vlan 5",
            "10.0.0.1:49152",
            "10.0.0.2:9",
            "established",
            "1.5 kB",
            "1.500 s",
            "1.25 ms",
            "2 (1 fast)",
        ] {
            assert!(row.contains(want), "{want}: {text}");
        }
    }
}
