use std::collections::HashSet;

use weir_engine::Meta;
use weir_engine::flow::{Config, Flow, Slot, Table};
use weir_engine::wire::dissect;
use zerocopy::FromZeros;

use crate::bytes::Bytes;
use crate::frames::frame;

/// 2023-11-14, in 100 ns since 1601.
const START: u64 = 133_444_736_000_000_000;

/// Slots of the table; few, so that it is full soon.
const SLOTS: usize = 6;

type Flows = Table<Vec<Slot>, Vec<u32>>;

/// Frames and ticks of the clock. A byte says which, and how much time passes
/// before it; sometimes the clock is set back.
pub fn flow(input: &[u8]) {
    let mut from = Bytes::new(input);
    let config = Config {
        seed: u64::from(from.u8()),
        ..Config::default()
    };
    let mut table = table(config);
    let mut seen = Seen::default();
    let mut now = START;
    while !from.is_empty() {
        let step = from.u8();
        now = match step & 0x1f {
            0 => now.saturating_sub(u64::from(from.u32())),
            1 => now + u64::from(from.u8()) * 600_000_000,
            2 => now + u64::from(from.u16()) * 10_000_000,
            ms => now + u64::from(ms) * 10_000,
        };
        if step & 0xe0 == 0 {
            table.tick(now);
        } else {
            let frame = frame(&mut from);
            let meta = Meta {
                adapter: u32::from(step >> 7),
                direction: None,
                time_100ns: now,
                frame_len: u32::try_from(frame.len()).unwrap_or(u32::MAX),
            };
            seen.track(&mut table, &frame, &meta);
        }
        while table.take_alarm().is_some() {}
        seen.check(&table);
    }
    // Two days later there is nobody left.
    let mut calls = 0;
    while table.stats().active != 0 {
        table.tick(now + 2 * 86_400 * 10_000_000);
        calls += 1;
        assert!(
            calls < 1_000_000,
            "flows that don't age: {:?}",
            table.stats()
        );
    }
    seen.check(&table);
}

fn table(config: Config) -> Flows {
    let slots = (0..SLOTS).map(|_| Slot::new_zeroed()).collect();
    let index = vec![0xffff_ffff; Flows::index_len(SLOTS)];
    Table::new(slots, index, config).expect("a table of a few slots")
}

/// What was seen of the table so far.
#[derive(Default)]
struct Seen {
    newest: u64,
    tracked: u64,
}

impl Seen {
    fn track(&mut self, table: &mut Flows, frame: &[u8], meta: &Meta) {
        let dissected = dissect(frame, meta.frame_len);
        let before = table.stats();
        let Some(tracked) = table.track(&dissected, meta) else {
            assert!(
                dissected.ip_addresses().is_none() || table.stats().untracked > before.untracked,
                "a frame that was forgotten"
            );
            return;
        };
        self.tracked += 1;
        assert!(dissected.ip_addresses().is_some());
        assert_eq!(tracked.is_new, tracked.flow > self.newest, "{tracked:?}");
        self.newest = self.newest.max(tracked.flow);
        let flow = table.get(tracked.slot).expect("its flow is there");
        assert_eq!(flow.id, tracked.flow);
        assert_eq!(flow.adapter, meta.adapter);
        let (source, _) = dissected.ip_addresses().expect("it has addresses");
        let sender = if tracked.from_initiator {
            flow.initiator
        } else {
            flow.responder
        };
        assert_eq!(sender.address, source);
        let sent = if tracked.from_initiator {
            flow.sent
        } else {
            flow.received
        };
        assert!(sent.packets >= 1 && sent.bytes >= u64::from(meta.frame_len));
        assert!(flow.health.seen.contains(tracked.tags));
        if dissected.transport_offset().is_none() {
            assert!(tracked.tags.is_empty());
        }
    }

    /// What is listed is what is counted.
    fn check(&self, table: &Flows) {
        let stats = table.stats();
        let gone = stats.expired + stats.evicted();
        assert_eq!(u64::from(stats.active) + gone, stats.created);
        assert_eq!(self.newest, stats.created);
        assert!(stats.half_open <= stats.active && stats.active <= stats.peak);
        let mut listed: Vec<Flow> = Vec::new();
        let mut at = 0;
        while let Some((slot, flow)) = table.next_from(at) {
            assert!(slot >= at);
            assert_eq!(table.get(slot), Some(flow));
            listed.push(flow);
            at = slot + 1;
        }
        assert_eq!(listed.len(), stats.active as usize);
        let half_open = listed.iter().filter(|f| f.state.is_half_open()).count();
        assert_eq!(half_open, stats.half_open as usize);
        let ids: HashSet<u64> = listed.iter().map(|f| f.id).collect();
        assert_eq!(ids.len(), listed.len());
        let packets: u64 = listed
            .iter()
            .map(|f| f.sent.packets + f.received.packets)
            .sum();
        assert!(packets <= self.tracked);
        if gone == 0 {
            assert_eq!(packets, self.tracked);
        }
    }
}
