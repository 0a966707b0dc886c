//! The table of flows.

use core::fmt;

use super::index::{self, Layout, MAX_ADAPTERS, MAX_SLOTS};
use super::key::{Hasher, Key};
use super::slot::Slot;
use super::tcp::{Segment, analysis, state};
use super::time::SECOND;
use super::{Config, Flow, State, Stats, TcpTags, Tracked, spill};
use crate::Meta;
use crate::wire::{Dissected, Protocol};

/// Flows in memory that somebody else gave.
pub struct Table<S, I> {
    pub(super) slots: S,
    pub(super) index: I,
    pub(super) layout: Layout,
    pub(super) hasher: Hasher,
    pub(super) config: Config,
    pub(super) stats: Stats,
    /// The latest time heard of.
    pub(super) clock: u64,
    /// When the next second of the wheel is due.
    pub(super) due: u64,
    /// The second the wheel is at.
    pub(super) second: u64,
    /// Slots that were used once; those behind them were not.
    pub(super) used: u32,
    /// Begins the list of those which are free again; 0 none.
    pub(super) free: u32,
    /// Where the search for flows to give up goes on.
    pub(super) hand: u32,
    /// Number of the newest flow.
    pub(super) newest: u64,
    /// Adapters seen, and the last of them with its number.
    adapters: usize,
    last_adapter: Option<(u32, u8)>,
    /// Number of the last alarm that was taken or lost.
    pub(super) taken: u64,
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
            Self::Config { field } => {
                write!(f, "a flow table's configuration: {field} is out of range")
            }
        }
    }
}

impl core::error::Error for Error {}

/// What a flow was before a frame, to see what the frame changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) class: Class,
    /// TCP whose handshake is not complete.
    pub(super) half_open: bool,
}

/// What a flow is worth in a full table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Nothing more is expected.
    Over,
    /// Half open, or heard from one end only.
    HalfOpen,
    /// In use.
    Other,
}

impl Standing {
    #[inline]
    pub(super) fn of(slot: &Slot) -> Self {
        Self::from_parts((slot.progress(), slot.is_one_way()))
    }

    /// Of [`Slot::progress`] and [`Slot::is_one_way`].
    fn from_parts((progress, is_one_way): (u8, bool)) -> Self {
        let state = Slot::state_of(progress);
        let half_open = state.is_half_open();
        let class = if state.is_over() {
            Class::Over
        } else if half_open || is_one_way {
            Class::HalfOpen
        } else {
            Class::Other
        };
        Self { class, half_open }
    }
}

impl<S, I> Table<S, I>
where
    S: AsRef<[Slot]> + AsMut<[Slot]>,
    I: AsRef<[u32]> + AsMut<[u32]>,
{
    /// How many words the index of a table of so many slots needs: about eleven
    /// bytes a slot, and a hundred kilobytes for what does not grow.
    #[must_use]
    pub fn index_len(slots: usize) -> usize {
        Layout::new(slots.min(MAX_SLOTS)).words()
    }

    /// An empty table. What is in the memory does not matter.
    ///
    /// # Errors
    /// [`Error`], by what is wrong.
    pub fn new(slots: S, index: I, config: Config) -> Result<Self, Error> {
        let given = slots.as_ref().len();
        if given == 0 || given > MAX_SLOTS {
            return Err(Error::Slots { given });
        }
        if let Some(field) = config.out_of_range() {
            return Err(Error::Config { field });
        }
        let layout = Layout::new(given);
        let mut index = index;
        let words = index.as_mut();
        let (given, needed) = (words.len(), layout.words());
        words
            .get_mut(..needed)
            .ok_or(Error::Index { given, needed })?
            .fill(0);
        Ok(Self {
            slots,
            index,
            layout,
            hasher: Hasher::new(config.seed),
            config,
            stats: Stats::default(),
            clock: 0,
            due: 0,
            second: 0,
            used: 0,
            free: 0,
            hand: 0,
            newest: 0,
            adapters: 0,
            last_adapter: None,
            taken: 0,
        })
    }

    /// Counts a frame in its flow, which it may begin. None: it has no IP
    /// header, or [`Stats::untracked`] says why.
    pub fn track(&mut self, frame: &Dissected<'_>, meta: &Meta) -> Option<Tracked> {
        frame.ip_addresses()?;
        self.advance(meta.time_100ns);
        let Some(adapter) = self.adapter(meta.adapter) else {
            self.stats.untracked = self.stats.untracked.wrapping_add(1);
            return None;
        };
        let (key, second) = Key::of(frame, adapter)?;
        let segment = Segment::of(frame);
        let hash = self.hasher.key(&key);
        let found = self.find(&key, hash);
        let restart = found.and_then(|slot| self.restart(slot, second, segment.as_ref(), meta));
        let (slot, is_new, reused) = match (found, restart) {
            (Some(slot), None) => (slot, false, TcpTags::empty()),
            (Some(slot), Some(reused)) => {
                self.end_in_place(slot);
                (slot, true, reused)
            }
            (None, _) => (self.allocate(hash)?, true, TcpTags::empty()),
        };
        if is_new {
            self.begin(slot, key, second, segment.as_ref(), meta);
        }
        let tags = self.enter(slot, second, segment, meta, reused);
        let newest = self.newest;
        let entry = self.slots.as_ref().get(slot as usize)?;
        Some(Tracked {
            flow: entry.id(newest),
            slot,
            is_new,
            from_initiator: second == entry.initiator(),
            tags,
        })
    }

    #[inline]
    fn find(&self, key: &Key, hash: u32) -> Option<u32> {
        let slots = self.slots.as_ref();
        let is_it = |slot: u32| slots.get(slot as usize).is_some_and(|s| s.key() == *key);
        index::find(self.index.as_ref(), &self.layout, hash, is_it)
    }

    /// Whether a frame with a flow's key does not belong to it any more, and
    /// what its first segment is tagged with then.
    #[inline]
    fn restart(
        &self,
        slot: u32,
        second: bool,
        segment: Option<&Segment>,
        meta: &Meta,
    ) -> Option<TcpTags> {
        let entry = self.slots.as_ref().get(slot as usize)?;
        let opening = segment.filter(|s| s.is_opening());
        let is_other = opening.is_some_and(|s| {
            let sent = self.bytes_of(slot, second);
            analysis::is_other_connection(entry, second, s.seq, sent)
        });
        if is_other {
            return Some(TcpTags::REUSED_PORTS);
        }
        self.is_idle(entry, meta.time_100ns)
            .then_some(TcpTags::empty())
    }

    fn begin(&mut self, slot: u32, key: Key, second: bool, segment: Option<&Segment>, meta: &Meta) {
        self.newest = self.newest.wrapping_add(1);
        self.stats.created = self.stats.created.wrapping_add(1);
        self.stats.active = self.stats.active.saturating_add(1);
        self.stats.peak = self.stats.peak.max(self.stats.active);
        let (state, from_initiator) = segment.map_or((State::Active, true), state::first);
        let initiator = second == from_initiator;
        let id = self.newest;
        if let Some(entry) = self.slots.as_mut().get_mut(slot as usize) {
            entry.begin(key, id, meta.time_100ns, state, initiator);
            let standing = Standing::of(entry);
            self.enlist(slot, standing);
        }
        self.watch_begin(slot, second, segment);
    }

    /// Counts the frame in its flow, and takes in what it says.
    #[inline]
    fn enter(
        &mut self,
        slot: u32,
        second: bool,
        segment: Option<Segment>,
        meta: &Meta,
        reused: TcpTags,
    ) -> TcpTags {
        let clock = self.clock;
        let Some(entry) = self.slots.as_mut().get_mut(slot as usize) else {
            return TcpTags::empty();
        };
        let before = (entry.progress(), entry.is_one_way());
        let last = entry.last(clock);
        // Frames of several adapters may come a little out of their order.
        let now = meta.time_100ns.max(last);
        let other_age = entry.note_frame(second, last, now);
        let (fwd, _) = entry.split(second);
        let packets = fwd.packets.checked_add(1);
        let bytes = fwd.bytes.checked_add(meta.frame_len);
        if let (Some(packets), Some(bytes)) = (packets, bytes) {
            fwd.packets = packets;
            fwd.bytes = bytes;
        } else {
            spill::count(
                entry,
                index::part_mut(self.index.as_mut(), &self.layout.spill),
                slot,
                second,
                meta.frame_len,
            );
        }
        let mut tags = TcpTags::empty();
        if let Some(segment) = segment {
            if entry.is(State::Active) {
                // It began with a fragment, which says less.
                entry.set_state(State::Established);
            }
            let times = (last, now, meta.time_100ns < last);
            let verdict = analysis::analyse(entry, second, &segment, times, other_age, reused);
            if !segment.is_cut {
                tags = verdict.tags;
            }
            state::advance(entry, second, &segment);
            self.stats.segments = self.stats.segments.wrapping_add(1);
            if !tags.is_empty() {
                entry.note_tags(tags);
                self.stats.tags.count(tags);
            }
            super::rtt::note(
                entry,
                || index::part_mut(self.index.as_mut(), &self.layout.timers),
                slot,
                second,
                &segment,
                &verdict,
                now,
            );
        }
        let after = (entry.progress(), entry.is_one_way());
        if before != after {
            let [before, after] = [before, after].map(Standing::from_parts);
            self.changed(slot, before, after);
        }
        tags
    }

    /// The table's number of an adapter; none when there are too many.
    #[inline]
    fn adapter(&mut self, id: u32) -> Option<u8> {
        if let Some((last, number)) = self.last_adapter
            && last == id
        {
            return Some(number);
        }
        let known = index::part_mut(self.index.as_mut(), &self.layout.adapters);
        let at = known
            .iter()
            .take(self.adapters)
            .position(|adapter| *adapter == id);
        let at = match at {
            Some(at) => at,
            None => {
                *known.get_mut(self.adapters)? = id;
                let at = self.adapters;
                self.adapters = at.saturating_add(1).min(MAX_ADAPTERS);
                at
            }
        };
        let number = u8::try_from(at).ok()?;
        self.last_adapter = Some((id, number));
        Some(number)
    }

    pub(super) fn adapter_id(&self, number: u8) -> u32 {
        let known = index::part(self.index.as_ref(), &self.layout.adapters);
        known.get(usize::from(number)).copied().unwrap_or(0)
    }

    fn bytes_of(&self, slot: u32, second: bool) -> u64 {
        let spill = index::part(self.index.as_ref(), &self.layout.spill);
        self.slots
            .as_ref()
            .get(slot as usize)
            .map_or(0, |entry| spill::sent(entry, spill, slot, second).bytes)
    }

    /// The flow in this slot, if there is one.
    #[must_use]
    pub fn get(&self, slot: u32) -> Option<Flow> {
        if slot >= self.used {
            return None;
        }
        let entry = self.slots.as_ref().get(slot as usize)?;
        (!entry.is_empty()).then(|| self.snapshot(slot, entry))
    }

    /// The first flow at `slot` or behind it, and where it is. To list all:
    /// begin with 0, go on behind the last.
    #[must_use]
    pub fn next_from(&self, slot: u32) -> Option<(u32, Flow)> {
        (slot..self.used).find_map(|slot| Some((slot, self.get(slot)?)))
    }

    /// What was counted.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }
}

impl<S, I> fmt::Debug for Table<S, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("config", &self.config)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

/// Seconds since 1601, in the bits that the wheel and the alarms count in.
pub(super) fn seconds(time_100ns: u64) -> u64 {
    time_100ns / SECOND
}

/// Idle time of a flow by what it is, in seconds.
pub(super) fn idle_seconds(slot: &Slot, config: &Config) -> u32 {
    let idle = &config.idle;
    let key = slot.key();
    let state = slot.state();
    match key.protocol() {
        Protocol::TCP if state.is_half_open() => idle.half_open,
        Protocol::TCP if state.is_over() => idle.closed,
        Protocol::TCP if state != State::Active => idle.established,
        Protocol::UDP if key.ports() != super::Ports::None => idle.udp,
        Protocol::ICMP | Protocol::ICMPV6 => idle.icmp,
        _ => idle.other,
    }
}
