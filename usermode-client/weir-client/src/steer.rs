//! Rules, flows and alarms of the driver.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, SystemTime};

use weir_abi::{
    AlarmInfo, AlarmKind, AlarmListReply, AlarmListRequest, FlowInfo, FlowListReply,
    FlowListRequest, FlowPorts, FlowState, FlowStats, FlowStatsRequest, Ioctl, NO_VLAN, Request,
    RuleAction, RuleHits, RulesLoadRequest, RulesReadReply, RulesReadRequest, RulesStatsReply,
    RulesStatsRequest, TcpTag, limits,
};
use zerocopy::{FromBytes, IntoBytes};

use crate::device::{Device, bad_reply, call, check_header, checked_reply, raw_bytes, raw_call};
use crate::error::Error;
use crate::model::filetime;

/// Bytes of a program that one request asks for.
const PART: usize = 256 * 1024;
/// Entries one request leaves room for.
const ENTRIES: usize = 512;
/// How often a list is read again because the rules changed in the middle.
const TRIES: usize = 4;

/// Rules that were just put in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadedRules {
    /// Their number: one more than that of those before.
    pub generation: u64,
    /// Kernel memory they occupy, in bytes.
    pub memory: u64,
    /// How many rules.
    pub rules: u32,
    /// How many tuples, which are looked up by hash.
    pub tuples: u32,
    /// How many instructions.
    pub insns: u32,
    /// What happens to frames no rule decides on.
    pub default_action: RuleAction,
}

/// The program in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RulesInForce {
    /// The number of these rules; 0: none were ever loaded.
    pub generation: u64,
    /// When they were loaded.
    pub loaded: Option<SystemTime>,
    /// The program as it was loaded; empty: there are no rules.
    pub program: Vec<u8>,
}

/// What the rules in force have done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleCounters {
    /// The number of these rules.
    pub generation: u64,
    /// When they were loaded.
    pub loaded: Option<SystemTime>,
    /// Kernel memory they occupy, in bytes.
    pub memory: u64,
    /// Frames decided on since then.
    pub seen: RuleHits,
    /// Those that no rule decided on.
    pub default: RuleHits,
    /// What happens to these.
    pub default_action: RuleAction,
    /// Hits of each rule, in the rules' order.
    pub rules: Vec<RuleHits>,
}

/// A flow of the driver's table. The arrays of two are by the side the frames
/// came from: 0 the initiator's, 1 the responder's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Its number in its adapter's table.
    pub id: u64,
    /// Id of the adapter.
    pub adapter: u32,
    /// The outermost VLAN id.
    pub vlan: Option<u16>,
    /// The protocol over IP, by its IANA number.
    pub protocol: u8,
    /// Who sent the first frame. The port of ICMP echo is its identifier.
    pub initiator: SocketAddr,
    /// The other.
    pub responder: SocketAddr,
    /// What the numbers at its ends are.
    pub ports: FlowPorts,
    /// How it is.
    pub state: FlowState,
    /// Frames from each side.
    pub frames: [u64; 2],
    /// Bytes of these, link header included.
    pub bytes: [u64; 2],
    /// When its first frame was seen: 100 ns since 1601-01-01 UTC.
    pub first_100ns: u64,
    /// When its last frame was seen.
    pub last_100ns: u64,
    /// Round-trip time of the handshake, if it was measured.
    pub initial_rtt: Option<Duration>,
    /// Smoothed time from the adapter to the initiator and back.
    pub initiator_rtt: Option<Duration>,
    /// Smoothed time from the adapter to the responder and back.
    pub responder_rtt: Option<Duration>,
    /// TCP: segments tagged as retransmissions of any kind.
    pub retransmissions: u32,
    /// Of these the fast ones.
    pub fast_retransmissions: u32,
    /// Segments out of order.
    pub out_of_order: u32,
    /// Duplicate ACKs.
    pub duplicate_acks: u32,
    /// Every tag that any segment had, in order.
    pub tags: Vec<TcpTag>,
}

/// Something that wants to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// Its number, from 1, over all adapters.
    pub number: u64,
    /// When it was raised.
    pub time: SystemTime,
    /// Id of the adapter.
    pub adapter: u32,
    /// What it is about.
    pub kind: AlarmKind,
    /// SYN flood: the listener. Port scan: the scanner.
    pub address: IpAddr,
    /// Port scan: whose port was tried last.
    pub peer: Option<IpAddr>,
    /// SYN flood: the listener's port. Port scan: the port tried last.
    pub port: u16,
    /// SYN flood: half-open connections. Port scan: different ports.
    pub count: u32,
    /// SYN flood: SYNs that came there in the running window.
    pub syns: u32,
}

impl Device {
    /// Puts a program in force in place of the one before. If the driver refuses
    /// it, the one before stays.
    pub fn load_rules(&self, program: &[u8]) -> Result<LoadedRules, Error> {
        let request = u32::try_from(program.len())
            .ok()
            .and_then(RulesLoadRequest::new)
            .ok_or(Error::ProgramTooLong {
                len: program.len(),
                most: limits::MAX_PROGRAM,
            })?;
        let mut bytes = request.as_bytes().to_vec();
        bytes.extend_from_slice(program);
        let room = size_of::<<RulesLoadRequest as Request>::Reply>();
        let reply = raw_bytes::<RulesLoadRequest>(self.channel(), &bytes, room)?;
        let reply = checked_reply::<RulesLoadRequest>(&reply)?;
        tracing::info!(
            generation = reply.generation,
            rules = reply.rules,
            "rules in force"
        );
        Ok(LoadedRules {
            generation: reply.generation,
            memory: reply.memory,
            rules: reply.rules,
            tuples: reply.tuples,
            insns: reply.insns,
            default_action: action(Ioctl::RulesLoad, reply.default_action)?,
        })
    }

    /// Takes the rules away: every frame passes.
    pub fn clear_rules(&self) -> Result<LoadedRules, Error> {
        self.load_rules(&[])
    }

    /// The program in force.
    pub fn rules(&self) -> Result<RulesInForce, Error> {
        again(|| self.try_rules())
    }

    fn try_rules(&self) -> Result<RulesInForce, Interrupted> {
        let operation = Ioctl::RulesRead.name();
        let mut rules = RulesInForce {
            generation: 0,
            loaded: None,
            program: Vec::new(),
        };
        loop {
            let first = rules.program.is_empty();
            let offset = u32::try_from(rules.program.len())
                .map_err(|_| bad_reply(operation, "the program doesn't end".to_owned()))?;
            let request = RulesReadRequest::new(rules.generation, offset);
            let room = size_of::<RulesReadReply>() + PART;
            let bytes =
                raw_call(self.channel(), &request, room).map_err(|e| Interrupted::of(e, !first))?;
            let (reply, rest) = RulesReadReply::read_from_prefix(&bytes)
                .map_err(|_| bad_reply(operation, format!("{} bytes", bytes.len())))?;
            check_header(operation, reply.header, bytes.len())?;
            if rest.len() != reply.count as usize {
                let problem = format!("{} bytes of a program in {}", reply.count, rest.len());
                return Err(bad_reply(operation, problem).into());
            }
            rules.generation = reply.generation;
            rules.loaded = time(reply.loaded_100ns);
            rules.program.extend_from_slice(rest);
            if reply.count == 0 || rules.program.len() >= reply.total as usize {
                return Ok(rules);
            }
        }
    }

    /// What the rules in force have done.
    pub fn rule_stats(&self) -> Result<RuleCounters, Error> {
        again(|| self.try_rule_stats())
    }

    fn try_rule_stats(&self) -> Result<RuleCounters, Interrupted> {
        let operation = Ioctl::RulesStats.name();
        let mut rules: Vec<RuleHits> = Vec::new();
        let mut generation = 0;
        loop {
            let start = u32::try_from(rules.len())
                .map_err(|_| bad_reply(operation, "the list doesn't end".to_owned()))?;
            let request = RulesStatsRequest::new(generation, start);
            let (reply, mut part) = self
                .part::<RulesStatsRequest, RuleHits>(&request, |r: &RulesStatsReply| {
                    (r.header, r.count)
                })
                .map_err(|e| Interrupted::of(e, !rules.is_empty()))?;
            generation = reply.generation;
            let ended = part.is_empty();
            rules.append(&mut part);
            if ended || rules.len() >= reply.total as usize {
                return Ok(RuleCounters {
                    generation,
                    loaded: time(reply.loaded_100ns),
                    memory: reply.memory,
                    seen: reply.seen,
                    default: reply.default,
                    default_action: action(Ioctl::RulesStats, reply.default_action)?,
                    rules,
                });
            }
        }
    }

    /// The flows of one adapter, as many as it holds. The table changes while it
    /// is read: what was there all the time is in the list once.
    pub fn flows(&self, adapter: u32) -> Result<Vec<Flow>, Error> {
        let operation = Ioctl::FlowList.name();
        let mut flows = Vec::new();
        let mut cursor = 0;
        loop {
            let (reply, part) = self.part::<FlowListRequest, FlowInfo>(
                &FlowListRequest::new(adapter, cursor),
                |r: &FlowListReply| (r.header, r.count),
            )?;
            for info in &part {
                flows.push(flow(info).map_err(|problem| bad_reply(operation, problem))?);
            }
            if reply.next == 0 {
                return Ok(flows);
            }
            if reply.next <= cursor {
                return Err(bad_reply(operation, "the list doesn't go on".to_owned()));
            }
            cursor = reply.next;
        }
    }

    /// What the flow table of one adapter has counted.
    pub fn flow_stats(&self, adapter: u32) -> Result<FlowStats, Error> {
        Ok(call(self.channel(), &FlowStatsRequest::new(adapter))?.stats)
    }

    /// The alarms from number `since` on (0: the oldest kept), and the number to
    /// ask for next.
    pub fn alarms(&self, since: u64) -> Result<(Vec<Alarm>, u64), Error> {
        let operation = Ioctl::AlarmList.name();
        let mut alarms = Vec::new();
        let mut next = since;
        loop {
            let (reply, part) = self.part::<AlarmListRequest, AlarmInfo>(
                &AlarmListRequest::new(next),
                |r: &AlarmListReply| (r.header, r.count),
            )?;
            for info in &part {
                alarms.push(alarm(info).map_err(|problem| bad_reply(operation, problem))?);
            }
            let stuck = reply.next <= next;
            next = reply.next.max(next);
            if reply.more == 0 || part.is_empty() || stuck {
                return Ok((alarms, next));
            }
        }
    }

    /// One part of a list.
    fn part<R, E>(
        &self,
        request: &R,
        head: impl Fn(&R::Reply) -> (weir_abi::ReplyHeader, u32),
    ) -> Result<(R::Reply, Vec<E>), Error>
    where
        R: Request,
        E: FromBytes,
    {
        let room = size_of::<R::Reply>() + ENTRIES * size_of::<E>();
        let bytes = raw_call(self.channel(), request, room)?;
        crate::device::list_part(R::IOCTL.name(), &bytes, head)
    }
}

/// A list that was read in several parts, and changed between two.
enum Interrupted {
    Changed(Error),
    Failed(Error),
}

impl Interrupted {
    /// A part refused after others were given: what they belong to is gone.
    fn of(error: Error, later: bool) -> Self {
        match error {
            error @ Error::Refused { .. } if later => Interrupted::Changed(error),
            error => Interrupted::Failed(error),
        }
    }
}

impl From<Error> for Interrupted {
    fn from(error: Error) -> Self {
        Interrupted::Failed(error)
    }
}

/// Tries again while the rules change in the middle.
fn again<T>(mut read: impl FnMut() -> Result<T, Interrupted>) -> Result<T, Error> {
    let mut tries = 0;
    loop {
        match read() {
            Ok(value) => return Ok(value),
            Err(Interrupted::Changed(_)) if tries < TRIES => tries += 1,
            Err(Interrupted::Changed(error) | Interrupted::Failed(error)) => return Err(error),
        }
    }
}

fn time(at_100ns: u64) -> Option<SystemTime> {
    (at_100ns != 0).then(|| filetime::to_system_time(at_100ns))
}

fn action(ioctl: Ioctl, value: u32) -> Result<RuleAction, Error> {
    RuleAction::try_from(value).map_err(|e| bad_reply(ioctl.name(), e.to_string()))
}

fn address(bytes: [u8; 16], family: u32) -> Result<IpAddr, String> {
    let [a, b, c, d, ..] = bytes;
    match family {
        4 => Ok(Ipv4Addr::new(a, b, c, d).into()),
        6 => Ok(Ipv6Addr::from(bytes).into()),
        other => Err(format!("version {other} of IP")),
    }
}

fn rtt(ticks: u64) -> Option<Duration> {
    (ticks != 0).then(|| filetime::ticks(ticks))
}

fn flow(info: &FlowInfo) -> Result<Flow, String> {
    let family = u32::from(info.family);
    Ok(Flow {
        id: info.id,
        adapter: info.adapter,
        vlan: (info.vlan != NO_VLAN).then_some(info.vlan),
        protocol: info.protocol,
        initiator: SocketAddr::new(address(info.initiator, family)?, info.initiator_port),
        responder: SocketAddr::new(address(info.responder, family)?, info.responder_port),
        ports: FlowPorts::try_from(info.ports).map_err(|e| e.to_string())?,
        state: FlowState::try_from(info.state).map_err(|e| e.to_string())?,
        frames: info.frames,
        bytes: info.bytes,
        first_100ns: info.first_100ns,
        last_100ns: info.last_100ns,
        initial_rtt: rtt(info.initial_rtt_100ns),
        initiator_rtt: rtt(info.initiator_rtt_100ns),
        responder_rtt: rtt(info.responder_rtt_100ns),
        retransmissions: info.retransmissions,
        fast_retransmissions: info.fast_retransmissions,
        out_of_order: info.out_of_order,
        duplicate_acks: info.duplicate_acks,
        tags: (0..u32::BITS)
            .filter(|bit| info.tags & (1 << bit) != 0)
            .filter_map(|bit| TcpTag::try_from(bit).ok())
            .collect(),
    })
}

fn alarm(info: &AlarmInfo) -> Result<Alarm, String> {
    let kind = AlarmKind::try_from(info.kind).map_err(|e| e.to_string())?;
    let peer = match kind {
        AlarmKind::PortScan => Some(address(info.peer, info.family)?),
        AlarmKind::SynFlood => None,
    };
    Ok(Alarm {
        number: info.number,
        time: filetime::to_system_time(info.time_100ns),
        adapter: info.adapter,
        kind,
        address: address(info.address, info.family)?,
        peer,
        port: info.port,
        count: info.count,
        syns: info.syns,
    })
}
