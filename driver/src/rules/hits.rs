//! What rules did, counted by each processor for itself.

use weir_abi::RuleHits;
use weir_engine::rule::hits::{HitCell, Hits};

use super::TAG;
use crate::error::Error;
use crate::kernel::cpu;
use crate::kernel::pool::KSlice;

/// Processors that have counters of their own, at most; others share.
const MAX_PARTS: u32 = 32;

/// Entries before those of the rules.
const SEEN: usize = 0;
const DEFAULT: usize = 1;
const FIRST: usize = 2;

/// One row of counters for each processor: seen, default, then the rules.
pub(super) struct Counters {
    parts: KSlice<Option<KSlice<HitCell>>>,
    count: u32,
    row: usize,
}

impl Counters {
    /// Counters that are 0, for so many rules.
    pub(super) fn try_new(rules: u32) -> Result<Self, Error> {
        let row = usize::try_from(rules)
            .unwrap_or(usize::MAX)
            .saturating_add(FIRST);
        let count = cpu::count().clamp(1, MAX_PARTS);
        let len = usize::try_from(count).unwrap_or(1);
        let mut parts = KSlice::try_from_fn(len, TAG, |_| None)?;
        for part in parts.iter_mut() {
            *part = Some(KSlice::try_from_fn(row, TAG, |_| HitCell::default())?);
        }
        Ok(Self { parts, count, row })
    }

    /// Bytes of pool.
    pub(super) fn memory(&self) -> usize {
        self.row
            .saturating_mul(size_of::<HitCell>())
            .saturating_mul(self.parts.len())
    }

    /// A frame that a rule took effect on. `IRQL <= DISPATCH_LEVEL`.
    pub(super) fn hit(&self, rule: u32, len: u32) {
        let rule = usize::try_from(rule).unwrap_or(usize::MAX);
        self.add(rule.saturating_add(FIRST), len);
    }

    /// A frame that was decided on. `IRQL <= DISPATCH_LEVEL`.
    pub(super) fn decided(&self, by_default: bool, len: u32) {
        self.add(SEEN, len);
        if by_default {
            self.add(DEFAULT, len);
        }
    }

    /// Below `DISPATCH_LEVEL` the thread may be taken off its processor at any
    /// time, and another may count there: so the cells are raised interlocked,
    /// which is cheap where nobody else does at that moment.
    fn add(&self, entry: usize, len: u32) {
        let part = cpu::current().checked_rem(self.count).unwrap_or(0);
        let part = usize::try_from(part).unwrap_or(0);
        if let Some(Some(row)) = self.parts.get(part)
            && let Some(cell) = row.get(entry)
        {
            cell.add_shared(len);
        }
    }

    fn sum(&self, entry: usize) -> RuleHits {
        let sum = self
            .parts
            .iter()
            .flatten()
            .filter_map(|row| row.get(entry))
            .fold(Hits::default(), |sum, cell| sum.plus(cell.read()));
        RuleHits {
            frames: sum.frames,
            bytes: sum.bytes,
        }
    }

    /// Seen, and by default.
    pub(super) fn totals(&self) -> (RuleHits, RuleHits) {
        (self.sum(SEEN), self.sum(DEFAULT))
    }

    /// What a rule did.
    pub(super) fn of(&self, rule: u32) -> RuleHits {
        let rule = usize::try_from(rule).unwrap_or(usize::MAX);
        self.sum(rule.saturating_add(FIRST))
    }
}
