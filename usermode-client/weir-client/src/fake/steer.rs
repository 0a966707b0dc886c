//! Rules, flows, alarms, and frames that are written: what the fake driver
//! keeps of them. It decides on nothing; tests say what there is.

use std::num::NonZeroU64;

use weir_abi::{
    ABI_VERSION, AlarmInfo, AlarmListReply, Direction, FlowInfo, FlowListReply, FlowStats,
    FlowStatsReply, ReplyHeader, RuleHits, RulesLoadReply, RulesReadReply, RulesStatsReply, status,
    writes,
};
use zerocopy::{FromZeros, Immutable, IntoBytes};

use super::{FakeDriver, Role, State, meta};

/// A frame that somebody wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Where to.
    pub adapter: u32,
    /// Which way.
    pub direction: Direction,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

#[derive(Default)]
pub(super) struct Steering {
    generation: u64,
    program: Vec<u8>,
    hits: Vec<RuleHits>,
    default_hits: Option<RuleHits>,
    flows: Vec<FlowInfo>,
    alarms: Vec<AlarmInfo>,
    written: Vec<Written>,
}

impl FakeDriver {
    /// Says what the rules in force have done.
    pub fn set_hits(&self, hits: &[(u64, u64)], default: (u64, u64)) {
        let hit = |&(frames, bytes): &(u64, u64)| RuleHits { frames, bytes };
        let mut state = self.lock();
        state.steering.hits = hits.iter().map(hit).collect();
        state.steering.default_hits = Some(hit(&default));
    }

    /// Puts a flow into its adapter's table.
    pub fn add_flow(&self, flow: FlowInfo) {
        self.lock().steering.flows.push(flow);
    }

    /// Raises an alarm; its number is given by the driver.
    pub fn raise(&self, mut alarm: AlarmInfo) {
        let mut state = self.lock();
        alarm.number = state.steering.alarms.len() as u64 + 1;
        state.steering.alarms.push(alarm);
    }

    /// Takes a frame to the readers in the divert role, in place of its way.
    pub fn divert(&self, adapter: u32, direction: Direction, time: u64, frame: &[u8]) {
        let meta = meta(adapter, direction, time, frame);
        let mut state = self.lock();
        for reader in state.readers.values_mut() {
            if reader.role == Role::Divert {
                reader.take(&meta, frame);
            }
        }
        drop(state);
        self.0.changed.notify_all();
    }

    /// The frames that were written so far.
    #[must_use]
    pub fn written(&self) -> Vec<Written> {
        self.lock().steering.written.clone()
    }
}

impl State {
    /// A write on a handle: checked whole, then done.
    pub(super) fn write(&mut self, id: u32, buffer: &[u8]) -> Result<usize, i32> {
        let frames = writes(buffer)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| e.status())?;
        for frame in &frames {
            self.knows(std::num::NonZeroU32::new(frame.adapter))?;
        }
        let reader = self
            .readers
            .get_mut(&id)
            .ok_or(status::INVALID_DEVICE_STATE)?;
        match reader.role {
            Role::Capture => return Err(status::INVALID_DEVICE_STATE),
            Role::Divert
                if !frames
                    .iter()
                    .all(|f| reader.outstanding.contains(&f.sequence)) =>
            {
                reader.stats.refused += 1;
                return Err(status::INVALID_PARAMETER_6);
            }
            Role::Divert | Role::Inject => {}
        }
        for frame in frames {
            if reader.outstanding.remove(&frame.sequence) {
                reader.stats.outstanding -= 1;
            }
            reader.stats.returned += 1;
            self.steering.written.push(Written {
                adapter: frame.adapter,
                direction: frame.direction,
                bytes: frame.bytes.to_vec(),
            });
        }
        Ok(buffer.len())
    }
}

fn list<H: IntoBytes + Immutable, E: IntoBytes + Immutable>(
    page: &[E],
    head: impl FnOnce(ReplyHeader, u32) -> H,
) -> Vec<u8> {
    let header = ReplyHeader {
        version: ABI_VERSION,
        size: (size_of::<H>() + size_of_val(page)) as u32,
    };
    let mut bytes = head(header, page.len() as u32).as_bytes().to_vec();
    bytes.extend_from_slice(page.as_bytes());
    bytes
}

/// As many entries as there is room for.
fn fit<H, E>(all: &[E], start: usize, room: usize) -> &[E] {
    let page = all.get(start..).unwrap_or(&[]);
    &page[..page.len().min((room - size_of::<H>()) / size_of::<E>())]
}

impl Steering {
    pub(super) fn rules(&self) -> u32 {
        self.hits.len() as u32
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn flows(&self) -> u64 {
        self.flows.len() as u64
    }

    pub(super) fn alarms(&self) -> u64 {
        self.alarms.len() as u64
    }

    pub(super) fn load(&mut self, program: &[u8]) -> Vec<u8> {
        self.generation += 1;
        self.program = program.to_vec();
        // How many rules a program has, its header says: the fifth word.
        let word = |n: usize| {
            let bytes = program.get(4 * n..)?.first_chunk()?;
            Some(u32::from_le_bytes(*bytes))
        };
        let rules = word(4).unwrap_or(0);
        self.hits = vec![RuleHits::new_zeroed(); rules as usize];
        RulesLoadReply {
            header: ReplyHeader::of::<RulesLoadReply>(),
            generation: self.generation,
            memory: program.len() as u64,
            program_len: program.len() as u32,
            rules,
            tuples: word(5).unwrap_or(0),
            insns: word(6).unwrap_or(0),
            default_action: word(3).unwrap_or(0),
            reserved: 0,
        }
        .as_bytes()
        .to_vec()
    }

    fn in_force(&self, generation: Option<NonZeroU64>) -> Result<(), i32> {
        match generation {
            Some(wanted) if wanted.get() != self.generation => Err(status::NOT_FOUND),
            _ => Ok(()),
        }
    }

    pub(super) fn read(
        &self,
        generation: Option<NonZeroU64>,
        offset: u32,
        room: usize,
    ) -> Result<Vec<u8>, i32> {
        self.in_force(generation)?;
        let part = fit::<RulesReadReply, u8>(&self.program, offset as usize, room);
        Ok(list(part, |header, count| RulesReadReply {
            header,
            generation: self.generation,
            loaded_100ns: 0,
            total: self.program.len() as u32,
            count,
        }))
    }

    pub(super) fn stats(
        &self,
        generation: Option<NonZeroU64>,
        start: u32,
        room: usize,
    ) -> Result<Vec<u8>, i32> {
        self.in_force(generation)?;
        let default = self.default_hits.unwrap_or(RuleHits::new_zeroed());
        let part = fit::<RulesStatsReply, RuleHits>(&self.hits, start as usize, room);
        Ok(list(part, |header, count| RulesStatsReply {
            header,
            generation: self.generation,
            loaded_100ns: 0,
            memory: self.program.len() as u64,
            seen: RuleHits {
                frames: self.hits.iter().map(|h| h.frames).sum::<u64>() + default.frames,
                bytes: self.hits.iter().map(|h| h.bytes).sum::<u64>() + default.bytes,
            },
            default,
            default_action: 0,
            total: self.hits.len() as u32,
            count,
            reserved: 0,
        }))
    }

    pub(super) fn list_flows(&self, adapter: u32, cursor: u64, room: usize) -> Vec<u8> {
        let all: Vec<FlowInfo> = self
            .flows
            .iter()
            .filter(|f| f.adapter == adapter)
            .copied()
            .collect();
        let part = fit::<FlowListReply, FlowInfo>(&all, cursor as usize, room);
        let next = cursor + part.len() as u64;
        list(part, |header, count| FlowListReply {
            header,
            adapter,
            count,
            next: if next < all.len() as u64 { next } else { 0 },
            active: all.len() as u64,
        })
    }

    pub(super) fn flow_stats(&self, adapter: u32) -> Vec<u8> {
        let flows = self.flows.iter().filter(|f| f.adapter == adapter).count() as u64;
        let mut stats = FlowStats::new_zeroed();
        stats.capacity = 16_384;
        stats.active = flows;
        stats.created = flows;
        stats.alarms = self.alarms();
        FlowStatsReply {
            header: ReplyHeader::of::<FlowStatsReply>(),
            adapter,
            reserved: 0,
            stats,
        }
        .as_bytes()
        .to_vec()
    }

    pub(super) fn list_alarms(&self, since: u64, room: usize) -> Vec<u8> {
        let start = since.saturating_sub(1) as usize;
        let part = fit::<AlarmListReply, AlarmInfo>(&self.alarms, start, room);
        let next = start as u64 + part.len() as u64 + 1;
        list(part, |header, count| AlarmListReply {
            header,
            next,
            count,
            more: u32::from(next <= self.alarms.len() as u64),
        })
    }
}
