//! Flows and alarms in the words of the contract.

use core::net::IpAddr;

use weir_abi::{
    AlarmInfo, AlarmKind, FlowInfo, FlowPorts, FlowState, FlowStats, NO_VLAN, TAG_COUNTERS,
};
use weir_engine::flow::{Alarm, Cause, Flow, Ports, State, Stats};

/// Version of IP, and the address in network order.
fn address(of: IpAddr) -> (u8, [u8; 16]) {
    match of {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            (4, [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        }
        IpAddr::V6(v6) => (6, v6.octets()),
    }
}

fn state(of: State) -> FlowState {
    match of {
        State::Active => FlowState::Active,
        State::SynSent => FlowState::SynSent,
        State::SynReceived => FlowState::SynReceived,
        State::Established => FlowState::Established,
        State::FinWait => FlowState::FinWait,
        State::HalfClosed => FlowState::HalfClosed,
        State::Closing => FlowState::Closing,
        State::LastAck => FlowState::LastAck,
        State::TimeWait => FlowState::TimeWait,
        State::Reset => FlowState::Reset,
    }
}

/// A time that was measured is told as at least 1.
fn measured(time: Option<u64>) -> u64 {
    time.map_or(0, |time| time.max(1))
}

pub(super) fn flow(slot: u32, flow: &Flow) -> FlowInfo {
    let (family, initiator) = address(flow.initiator.address);
    let (_, responder) = address(flow.responder.address);
    let health = flow.health;
    FlowInfo {
        id: flow.id,
        first_100ns: flow.first_100ns,
        last_100ns: flow.last_100ns,
        frames: [flow.sent.packets, flow.received.packets],
        bytes: [flow.sent.bytes, flow.received.bytes],
        initiator,
        responder,
        initiator_port: flow.initiator.port,
        responder_port: flow.responder.port,
        vlan: flow.vlan.unwrap_or(NO_VLAN),
        family,
        protocol: flow.protocol.0,
        adapter: flow.adapter,
        state: state(flow.state).into(),
        initial_rtt_100ns: measured(flow.initial_rtt_100ns),
        initiator_rtt_100ns: measured(flow.initiator_rtt_100ns),
        responder_rtt_100ns: measured(flow.responder_rtt_100ns),
        retransmissions: health.retransmissions.into(),
        fast_retransmissions: health.fast_retransmissions.into(),
        out_of_order: health.out_of_order.into(),
        duplicate_acks: health.duplicate_acks.into(),
        tags: health.seen.bits().into(),
        ports: match flow.ports {
            Ports::None => FlowPorts::None,
            Ports::Ports => FlowPorts::Ports,
            Ports::EchoId => FlowPorts::EchoId,
        }
        .into(),
        slot,
        reserved: 0,
    }
}

pub(super) fn stats(from: &Stats, capacity: usize, memory: u64) -> FlowStats {
    let mut tags = [0; TAG_COUNTERS];
    for (to, (_, count)) in tags.iter_mut().zip(from.tags.iter()) {
        *to = count;
    }
    FlowStats {
        capacity: u64::try_from(capacity).unwrap_or(u64::MAX),
        active: from.active.into(),
        half_open: from.half_open.into(),
        peak: from.peak.into(),
        created: from.created,
        expired: from.expired,
        evicted_over: from.evicted_over,
        evicted_half_open: from.evicted_half_open,
        evicted_other: from.evicted_other,
        untracked: from.untracked,
        segments: from.segments,
        alarms: from.alarms,
        alarms_lost: from.alarms_lost,
        memory,
        tags,
    }
}

/// An alarm without its number. Of `adapter`, whose table raised it.
pub(super) fn alarm(adapter: u32, alarm: &Alarm) -> AlarmInfo {
    let mut info = AlarmInfo {
        time_100ns: alarm.time_100ns,
        adapter,
        ..super::alarms::NONE
    };
    match alarm.cause {
        Cause::SynFlood {
            listener,
            half_open,
            syns,
        } => {
            let (family, octets) = address(listener.address);
            info.kind = AlarmKind::SynFlood.into();
            info.address = octets;
            info.family = family.into();
            info.port = listener.port;
            info.count = half_open;
            info.syns = syns;
        }
        Cause::PortScan {
            source,
            ports,
            target,
        } => {
            let (family, octets) = address(source);
            info.kind = AlarmKind::PortScan.into();
            info.address = octets;
            info.family = family.into();
            (_, info.peer) = address(target.address);
            info.port = target.port;
            info.count = ports;
        }
    }
    info
}
