//! What is added up over all frames.

use serde::Serialize;
use weir_abi::Direction;
use weir_engine::rule::{Action, Decision};
use weir_engine::stats::{Balance, Counters, Verdict};
use weir_engine::wire::Dissected;
use weir_engine::wire::checksum::{Check, Checksums};

use super::layers::{Layer, Layers};

/// Frames and their bytes on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Amount {
    pub(super) frames: u64,
    pub(super) bytes: u64,
}

impl Amount {
    fn add(&mut self, len: u32) {
        self.frames += 1;
        self.bytes += u64::from(len);
    }
}

/// What verifying one layer's checksums showed, in frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Checks {
    pub(super) good: u64,
    pub(super) bad: u64,
    /// Not to be told: cut short, a fragment, or left to the adapter.
    pub(super) unknown: u64,
}

impl Checks {
    fn count(&mut self, check: Check) {
        match check {
            Check::None => {}
            Check::Good => self.good += 1,
            Check::Bad => self.bad += 1,
            Check::Unknown => self.unknown += 1,
        }
    }
}

/// Received, sent, and those of which it isn't known.
pub(super) const DIRECTIONS: usize = 3;

/// All sums.
#[derive(Debug)]
pub(super) struct Totals {
    /// The engine's own counters, as the driver has them for each adapter.
    pub(super) counters: [Counters; DIRECTIONS],
    layers: [Amount; Layer::ALL.len()],
    pub(super) network: Checks,
    pub(super) transport: Checks,
    pub(super) first: Option<u64>,
    pub(super) last: Option<u64>,
}

impl Totals {
    pub(super) fn new() -> Self {
        Totals {
            counters: [Counters::ZERO; DIRECTIONS],
            layers: [Amount::default(); Layer::ALL.len()],
            network: Checks::default(),
            transport: Checks::default(),
            first: None,
            last: None,
        }
    }

    fn of(&mut self, direction: Option<Direction>) -> &mut Counters {
        let [received, sent, unknown] = &mut self.counters;
        match direction {
            Some(Direction::In) => received,
            Some(Direction::Out) => sent,
            None => unknown,
        }
    }

    /// A frame comes; before it takes its way.
    pub(super) fn see(&mut self, direction: Option<Direction>, len: u32, time_100ns: u64) {
        self.of(direction).balance.see(len);
        let time = time_100ns;
        self.first = Some(self.first.map_or(time, |first| first.min(time)));
        self.last = Some(self.last.map_or(time, |last| last.max(time)));
    }

    /// What it was, and what is decided about it.
    pub(super) fn enter(
        &mut self,
        direction: Option<Direction>,
        len: u32,
        frame: &Dissected<'_>,
        checks: Checksums,
        decision: &Decision,
    ) {
        let counters = self.of(direction);
        counters.balance.enter(verdict(decision.action), len);
        counters.protocols.count(frame, false);
        counters.protocols.count_checksums(checks);
        self.network.count(checks.network);
        self.transport.count(checks.transport);
        for layer in Layers::of(frame).iter() {
            self.layers[layer as usize].add(len);
        }
    }

    /// The sum over all directions.
    pub(super) fn all(&self) -> Counters {
        let mut all = Counters::ZERO;
        for counters in &self.counters {
            all.merge(counters);
        }
        all
    }

    /// The layers that any frame had, in their order.
    pub(super) fn layers(&self) -> impl Iterator<Item = (Layer, Amount)> + '_ {
        Layer::ALL
            .into_iter()
            .zip(self.layers)
            .filter(|(_, amount)| amount.frames > 0)
    }

    /// Whether each frame is in exactly one term, in each direction.
    pub(super) fn is_closed(&self) -> bool {
        self.counters.iter().all(|c| c.balance.is_closed())
    }
}

fn verdict(action: Action) -> Verdict {
    match action {
        Action::Drop => Verdict::Drop,
        Action::Divert => Verdict::Divert,
        // Rules that log or count decide nothing.
        Action::Pass | Action::Log | Action::Count => Verdict::Pass,
    }
}

/// One direction's balance.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct BalanceView {
    pub(super) seen: u64,
    pub(super) passed: u64,
    pub(super) dropped: u64,
    pub(super) diverted: u64,
    pub(super) lost: u64,
    pub(super) seen_bytes: u64,
    pub(super) passed_bytes: u64,
    pub(super) balanced: bool,
}

impl From<&Balance> for BalanceView {
    fn from(b: &Balance) -> Self {
        BalanceView {
            seen: b.seen,
            passed: b.passed,
            dropped: b.dropped,
            diverted: b.diverted,
            lost: b.lost(),
            seen_bytes: b.seen_bytes,
            passed_bytes: b.passed_bytes,
            balanced: b.is_closed(),
        }
    }
}
