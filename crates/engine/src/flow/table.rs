//! The table of flows.

use core::fmt;

use super::{Alarm, Config, Flow, Slot, Stats, Tracked};
use crate::Meta;
use crate::wire::Dissected;

/// Flows in memory that somebody else gave.
#[derive(Debug)]
pub struct Table<S, I> {
    slots: S,
    index: I,
    config: Config,
    stats: Stats,
}

/// Why there is no table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// No slots, or more than [`MAX_SLOTS`].
    Slots {
        /// How many were given.
        given: usize,
    },
    /// The index is shorter than [`Table::index_len`] says.
    Index {
        /// Words given.
        given: usize,
        /// Words needed.
        needed: usize,
    },
    /// A time or a threshold of [`Config`] is out of its range.
    Config {
        /// The field.
        field: &'static str,
    },
}

/// Most slots a table can have: 2^24 - 2.
pub const MAX_SLOTS: usize = 0x00ff_fffe;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slots { given } => write!(
                f,
                "a flow table of {given} slots: it must have 1 to {MAX_SLOTS}"
            ),
            Self::Index { given, needed } => write!(
                f,
                "a flow table's index of {given} words: it needs {needed}"
            ),
            Self::Config { field } => write!(f, "flow table: {field} is out of range"),
        }
    }
}

impl core::error::Error for Error {}

impl<S, I> Table<S, I>
where
    S: AsRef<[Slot]> + AsMut<[Slot]>,
    I: AsRef<[u32]> + AsMut<[u32]>,
{
    /// How many words the index of a table of so many slots needs.
    #[must_use]
    pub fn index_len(slots: usize) -> usize {
        slots
    }

    /// An empty table. What is in the memory does not matter.
    ///
    /// # Errors
    /// [`Error`], by what is wrong.
    pub fn new(slots: S, index: I, config: Config) -> Result<Self, Error> {
        Ok(Self {
            slots,
            index,
            config,
            stats: Stats::default(),
        })
    }

    /// Counts a frame in its flow, which it may begin. None: it has no IP
    /// header, or [`Stats::untracked`] says why.
    pub fn track(&mut self, frame: &Dissected<'_>, meta: &Meta) -> Option<Tracked> {
        let _ = (frame, meta, &self.index, &self.config);
        None
    }

    /// Forgets flows whose idle time is over, as of `now_100ns` (100 ns since
    /// 1601-01-01 UTC). Call it about once a second; [`Table::track`] ages too,
    /// by its frames' times. The work of a call is bounded: what it doesn't get
    /// to, the next one does.
    pub fn tick(&mut self, now_100ns: u64) {
        let _ = now_100ns;
    }

    /// The flow in this slot, if there is one.
    #[must_use]
    pub fn get(&self, slot: u32) -> Option<Flow> {
        self.slots.as_ref().get(usize::try_from(slot).ok()?)?;
        None
    }

    /// The first flow at `slot` or behind it, and where it is. To list all:
    /// begin with 0, go on behind the last.
    #[must_use]
    pub fn next_from(&self, slot: u32) -> Option<(u32, Flow)> {
        self.get(slot).map(|flow| (slot, flow))
    }

    /// What was counted.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// The oldest alarm that was not taken yet.
    pub fn take_alarm(&mut self) -> Option<Alarm> {
        None
    }
}
