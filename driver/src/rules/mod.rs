//! The rules in force.
//!
//! # Who calls what, at which IRQL
//!
//! | call | from | IRQL |
//! |---|---|---|
//! | [`start`], [`stop`] | load, unload | `PASSIVE_LEVEL` |
//! | [`load`], [`clear`] | RULES_LOAD | `PASSIVE_LEVEL` |
//! | [`version_of`], [`InForce`]'s `rules`, `totals`, `hits` | RULES_READ, RULES_STATS, GET_STATUS | `PASSIVE_LEVEL` |
//! | [`current`] and what is done with it | `ndis`, on the data path; `socket`, of peers that ask to connect | `<= DISPATCH_LEVEL` |
//!
//! # Swapping
//! A set of rules lies in one of a few slots; [`CURRENT`] says in which. Whoever
//! wants the rules looks there and enters the slot's rundown protection, which
//! costs one interlocked operation and never waits. A load fills a free slot,
//! opens its protection, makes it the current one in one step, and then waits
//! until nobody is inside the one before, which it frees. So a frame is decided
//! on by the old rules or by the new ones, whole; and who finds a slot closed
//! finds another one in [`CURRENT`] when it looks again, because the slot was
//! closed after that had changed.
//!
//! Everything that can fail (memory, the check of the program) is done before
//! the swap: a load that fails has changed nothing.
//!
//! # The rules' balance
//! Of the rules that take effect on a frame exactly one decides on it, by passing,
//! dropping or diverting it, or the default does. Counted apart from each other,
//! since these rules were loaded, in frames and in bytes:
//!
//! ```text
//! sum of the hits of rules that decide + default = seen by the rules
//! seen by the rules = sum over adapters and directions of (seen - lost_paused)
//! ```
//!
//! `lost_paused` are the frames that came while the adapter was about to pause:
//! no rule was asked about them. Every other frame was decided on, once, whatever
//! became of it then: a frame of a `divert` rule passes where nobody diverts, and
//! one that was to pass may be lost for want of memory. What is injected is in
//! none of these sums. Each processor counts for itself and adapters count a
//! chain of frames at a time, so the sums are exact when no frame is under way.
//! Adapters' counters begin when the adapter is attached, the rules' when they
//! are loaded: the second line is about differences since both.
//!
//! # Who trusts what
//! The program is copied out of the request before it is looked at, and verified
//! in that copy, which nobody can change any more.

mod hits;
mod slot;

use core::num::NonZeroU64;
use core::sync::atomic::{AtomicU64, Ordering};

use weir_abi::RuleHits;
use weir_engine::rule::{Action, Decision, Program, RuleSet};

use crate::error::Error;
use crate::kernel::lock::SpinLock;
use crate::kernel::pool::{KBox, KBuf, KSlice, Tag};
use crate::kernel::rundown::Rundown;
use crate::kernel::{log, time};
use hits::Counters;

pub(crate) use slot::{InForce, current};

const TAG: Tag = Tag::new(*b"WrRu");

/// Open while rules may be loaded.
static GATE: Rundown = Rundown::new();

/// Which rules were loaded last. Taken around the swap, so that the numbers are
/// in its order.
static LAST: SpinLock<Version> = SpinLock::new(Version {
    generation: 0,
    loaded_100ns: 0,
});

/// Which rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    /// From 1; 0: none were ever loaded.
    pub(crate) generation: u64,
    /// When: 100 ns since 1601-01-01 UTC.
    pub(crate) loaded_100ns: u64,
}

/// A verified program in memory of its own.
pub(crate) type Rules = RuleSet<KBuf, KSlice<u32>>;

/// Rules with their counters.
struct Set {
    rules: Rules,
    counters: Counters,
    /// Bytes of pool.
    memory: u64,
    generation: AtomicU64,
    loaded_100ns: AtomicU64,
}

/// What was put in force.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loaded {
    pub(crate) generation: u64,
    pub(crate) memory: u64,
    pub(crate) program_len: u32,
    pub(crate) rules: u32,
    pub(crate) tuples: u32,
    pub(crate) insns: u32,
    pub(crate) default_action: Action,
}

/// Makes ready. Before anything else here is called.
pub(crate) fn start() {
    slot::start();
    GATE.init();
}

/// Frees the rules in force and lets none be loaded again. No frame is under
/// way any more.
pub(crate) fn stop() {
    GATE.wait();
    drop(slot::replace(None));
}

/// Puts a program in force, in place of what was. On an error everything is as
/// it was.
pub(crate) fn load(program: KBuf) -> Result<Loaded, Error> {
    let _open = GATE.acquire().ok_or(Error::Unloading)?;
    let place = slot::Place::claim().ok_or(Error::TooMany)?;
    let set = Set::try_new(program)?;
    let program = set.rules.program();
    let mut loaded = Loaded {
        generation: 0,
        memory: set.memory,
        program_len: program.size(),
        rules: program.rule_count(),
        tuples: program.tuple_count(),
        insns: program.insn_count(),
        default_action: program.default_action(),
    };
    let filled = place.fill(set);
    let old = {
        let mut last = LAST.lock();
        *last = next(*last);
        loaded.generation = last.generation;
        filled.number(*last);
        slot::replace(Some(filled))
    };
    // Waits for who is inside, which is why the lock is not held any more.
    drop(old);
    log::number(c"rules in force, generation", loaded.generation);
    Ok(loaded)
}

/// Takes the rules in force away, if there are any: everything passes, and
/// nothing is counted. The number of that.
pub(crate) fn clear() -> Result<u64, Error> {
    let _open = GATE.acquire().ok_or(Error::Unloading)?;
    let (old, generation) = {
        let mut last = LAST.lock();
        *last = next(*last);
        (slot::replace(None), last.generation)
    };
    drop(old);
    log::number(c"no rules in force, generation", generation);
    Ok(generation)
}

/// Which rules these are, which [`current`] gave; without any, which absence of
/// rules. An error if it isn't the `wanted` one.
pub(crate) fn version_of(
    current: Option<&InForce>,
    wanted: Option<NonZeroU64>,
) -> Result<Version, Error> {
    let version = match current {
        Some(rules) => rules.version(),
        None => *LAST.lock(),
    };
    match wanted {
        Some(wanted) if wanted.get() != version.generation => Err(Error::OtherRules),
        _ => Ok(version),
    }
}

fn next(last: Version) -> Version {
    Version {
        // 2^64 loads don't happen.
        generation: last.generation.wrapping_add(1),
        loaded_100ns: time::system_time_100ns(),
    }
}

impl Set {
    /// Rules out of bytes that nobody has looked at yet.
    fn try_new(program: KBuf) -> Result<KBox<Self>, Error> {
        let program_len = program.len();
        let (index_len, rules) = {
            let program = Program::verify(&program)?;
            (Rules::index_len(&program), program.rule_count())
        };
        // Programs of rules that need no index have none; pool has no blocks of
        // no bytes.
        let index = KSlice::try_from_fn(index_len.max(1), TAG, |_| 0u32)?;
        let index_bytes = size_of_val::<[u32]>(&index);
        let rules_set = RuleSet::build(program, index)?;
        let counters = Counters::try_new(rules)?;
        let memory = program_len
            .saturating_add(index_bytes)
            .saturating_add(counters.memory())
            .saturating_add(size_of::<Self>());
        let set = Self {
            rules: rules_set,
            counters,
            memory: u64::try_from(memory).unwrap_or(u64::MAX),
            generation: AtomicU64::new(0),
            loaded_100ns: AtomicU64::new(0),
        };
        Ok(KBox::try_new(set, TAG)?)
    }

    fn version(&self) -> Version {
        Version {
            generation: self.generation.load(Ordering::Relaxed),
            loaded_100ns: self.loaded_100ns.load(Ordering::Relaxed),
        }
    }
}

impl InForce {
    /// The rules.
    pub(crate) fn rules(&self) -> &Rules {
        &self.set().rules
    }

    /// Counts a frame of `len` bytes that rule `rule` took effect on: for each
    /// call of [`weir_engine::path::inspect`]'s `hit`. `IRQL <= DISPATCH_LEVEL`.
    pub(crate) fn hit(&self, rule: u32, len: u32) {
        self.set().counters.hit(rule, len);
    }

    /// Counts a frame of `len` bytes that was decided on, once for each frame.
    /// `IRQL <= DISPATCH_LEVEL`.
    pub(crate) fn decided(&self, decision: &Decision, len: u32) {
        self.set().counters.decided(decision.rule.is_none(), len);
    }

    /// Which these are.
    pub(crate) fn version(&self) -> Version {
        self.set().version()
    }

    /// Bytes of pool.
    pub(crate) fn memory(&self) -> u64 {
        self.set().memory
    }

    /// Frames that were decided on, and those that no rule decided on.
    pub(crate) fn totals(&self) -> (RuleHits, RuleHits) {
        self.set().counters.totals()
    }

    /// What one rule did.
    pub(crate) fn hits(&self, rule: u32) -> RuleHits {
        self.set().counters.of(rule)
    }
}
