//! What is counted beside the flows to give alarm: half-open connections by
//! listener, ports tried by source. The memory is fixed; when all of it is in
//! use, who matters least is forgotten.

use super::alarm::{self, Alarm};
use super::index;
use super::key::Key;
use super::slot::Slot;
use super::table::{Table, seconds};
use super::tcp::Segment;
use super::{AlarmConfig, Cause, Endpoint, Ports};
use crate::wire::Protocol;

/// Places in a set; a listener or a source has its set by its hash.
const WAYS: usize = 4;
const LISTENER_SETS: usize = 256;
const SOURCE_SETS: usize = 64;
/// Alarms that wait to be taken.
pub(super) const RING: usize = 32;

/// Hash (0 is free), half-open connections, SYNs in the window, its start in
/// seconds, whether alarm was given in it.
const LISTENER: usize = 5;
/// Bits for the ports that a source tried: more than can be asked for.
const PORT_WORDS: usize = 64;
/// Hash (0 is free), start of the window in seconds, ports tried, whether alarm
/// was given, then a bit for each of 2,048 classes of ports.
const SOURCE: usize = 4 + PORT_WORDS;

const LISTENER_WORDS: usize = LISTENER_SETS * WAYS * LISTENER;
const SOURCE_WORDS: usize = SOURCE_SETS * WAYS * SOURCE;

pub(super) const WORDS: usize = LISTENER_WORDS + SOURCE_WORDS + RING * alarm::WORDS;

/// Hashes of ports, to the bits that there are.
const PORT_SHIFT: u32 = u32::BITS - (PORT_WORDS as u32 * 32).ilog2();

/// Ports that IANA calls dynamic or private: a question's source, not its target.
const FIRST_DYNAMIC: u16 = 49_152;
/// System ports of IANA: whoever sends from one answers.
const LAST_SYSTEM: u16 = 1023;

const _: () = assert!(AlarmConfig::MAX_SCAN_PORTS as usize <= PORT_WORDS * 32 / 2);

/// The memory.
pub(super) struct Watch<'a> {
    listeners: &'a mut [[[u32; LISTENER]; WAYS]],
    sources: &'a mut [[[u32; SOURCE]; WAYS]],
    ring: &'a mut [[u32; alarm::WORDS]],
}

impl<'a> Watch<'a> {
    pub(super) fn new(words: &'a mut [u32]) -> Self {
        let (listeners, rest) = words
            .split_at_mut_checked(LISTENER_WORDS)
            .unwrap_or_default();
        let (sources, ring) = rest.split_at_mut_checked(SOURCE_WORDS).unwrap_or_default();
        let (listeners, _) = listeners.as_chunks_mut::<LISTENER>();
        let (sources, _) = sources.as_chunks_mut::<SOURCE>();
        Self {
            listeners: listeners.as_chunks_mut().0,
            sources: sources.as_chunks_mut().0,
            ring: ring.as_chunks_mut().0,
        }
    }

    /// A connection became half open at a listener, at a second. When that is
    /// cause for alarm: connections half open there, SYNs in the window.
    pub(super) fn opened(
        &mut self,
        hash: u32,
        second: u32,
        config: &AlarmConfig,
    ) -> Option<(u32, u32)> {
        let mask = self.listeners.len().wrapping_sub(1);
        let set = self.listeners.get_mut(hash as usize & mask)?;
        // Those nobody waits at go first, then those least waited at.
        let entry = place(set, hash, |[_, half_open, _, start, _]| {
            (*half_open, *start)
        })?;
        let [tag, half_open, syns, start, told] = entry;
        if *tag != tag_of(hash) {
            [*tag, *half_open] = [tag_of(hash), 0];
            [*syns, *start, *told] = [0, second, 0];
        }
        if second.wrapping_sub(*start) >= config.window {
            [*syns, *start, *told] = [0, second, 0];
        }
        *half_open = half_open.saturating_add(1);
        *syns = syns.saturating_add(1);
        let many = config.half_open != 0 && *half_open >= config.half_open;
        let fast = config.syn_rate != 0 && *syns >= config.syn_rate;
        if *told != 0 || !(many || fast) {
            return None;
        }
        *told = 1;
        Some((*half_open, *syns))
    }

    /// A connection is no longer half open: the handshake was completed, or it
    /// won't be.
    pub(super) fn closed(&mut self, hash: u32, completed: bool) {
        let mask = self.listeners.len().wrapping_sub(1);
        let entry = self
            .listeners
            .get_mut(hash as usize & mask)
            .and_then(|set| set.iter_mut().find(|[tag, ..]| *tag == tag_of(hash)));
        if let Some([_, half_open, syns, ..]) = entry {
            *half_open = half_open.saturating_sub(1);
            *syns = syns.saturating_sub(u32::from(completed));
        }
    }

    /// No connection is half open any more.
    pub(super) fn forget_half_open(&mut self) {
        for [_, half_open, ..] in self.listeners.as_flattened_mut() {
            *half_open = 0;
        }
    }

    /// A source tried a port, told by a hash of it, at a second. When that is
    /// cause for alarm: ports it tried in the window, at least.
    pub(super) fn tried(
        &mut self,
        hash: u32,
        port: u32,
        second: u32,
        config: &AlarmConfig,
    ) -> Option<u32> {
        let mask = self.sources.len().wrapping_sub(1);
        let set = self.sources.get_mut(hash as usize & mask)?;
        // Those whose window is over go first, then those that tried least.
        let entry = place(set, hash, |[_, start, ports, ..]| {
            let over = second.wrapping_sub(*start) >= config.scan_window;
            (if over { 0 } else { *ports }, *start)
        })?;
        let [tag, start, ports, told, bits @ ..] = entry;
        if *tag != tag_of(hash) || second.wrapping_sub(*start) >= config.scan_window {
            *tag = tag_of(hash);
            [*start, *ports, *told] = [second, 0, 0];
            *bits = [0; PORT_WORDS];
        }
        let word = bits.get_mut((port >> 5) as usize & PORT_WORDS.wrapping_sub(1))?;
        let bit = 1u32 << (port & 31);
        if *word & bit != 0 {
            return None;
        }
        *word |= bit;
        *ports = ports.saturating_add(1);
        if *told != 0 || config.scan_ports == 0 || *ports < config.scan_ports {
            return None;
        }
        *told = 1;
        Some(*ports)
    }

    /// Puts an alarm where its number says.
    pub(super) fn give(&mut self, alarm: &Alarm) {
        let at = (alarm.sequence as usize) & RING.wrapping_sub(1);
        if let Some(words) = self.ring.get_mut(at) {
            *words = alarm.to_words();
        }
    }

    /// The alarm of this number, which was given and not overwritten.
    pub(super) fn alarm(&self, sequence: u64) -> Option<Alarm> {
        let at = (sequence as usize) & RING.wrapping_sub(1);
        self.ring.get(at).and_then(Alarm::from_words)
    }
}

/// Told from a free place.
fn tag_of(hash: u32) -> u32 {
    hash | 1
}

/// The entry of a hash in its set; or else a free one, or that of least worth.
fn place<const N: usize, W: Ord>(
    set: &mut [[u32; N]; WAYS],
    hash: u32,
    worth: impl Fn(&[u32; N]) -> W,
) -> Option<&mut [u32; N]> {
    let tag = |entry: &[u32; N]| entry.first().copied().unwrap_or(0);
    let at = set
        .iter()
        .position(|entry| tag(entry) == tag_of(hash))
        .or_else(|| set.iter().position(|entry| tag(entry) == 0));
    match at {
        Some(at) => set.get_mut(at),
        None => set.iter_mut().min_by_key(|entry| worth(entry)),
    }
}

impl<S, I> Table<S, I>
where
    S: AsRef<[Slot]> + AsMut<[Slot]>,
    I: AsRef<[u32]> + AsMut<[u32]>,
{
    pub(super) fn watch(&mut self) -> Watch<'_> {
        Watch::new(index::part_mut(self.index.as_mut(), &self.layout.watch))
    }

    fn hash_of(&self, key: &Key, end: Endpoint, port: bool) -> u32 {
        let [a, b, c, d] = alarm::words_of(end.address);
        let vlan = key.vlan().map_or(0, |id| u32::from(id) | 0x1_0000);
        let port = if port { u32::from(end.port) } else { 0 };
        self.hasher
            .words(&[a, b, c, d, port, vlan, u32::from(key.adapter())])
    }

    /// A flow began with a frame from one end.
    pub(super) fn watch_begin(&mut self, slot: u32, second: bool, segment: Option<&Segment>) {
        let Some(entry) = self.slots.as_ref().get(slot as usize) else {
            return;
        };
        let key = entry.key();
        let half_open = entry.state().is_half_open();
        let listener = key.end(!entry.initiator());
        let (source, target) = (key.end(second), key.end(!second));
        let tries = match segment {
            Some(segment) => segment.is_opening(),
            None => {
                // An answer of which the question wasn't seen tries no port.
                key.protocol() == Protocol::UDP
                    && key.ports() == Ports::Ports
                    && target.port < FIRST_DYNAMIC
                    && source.port > LAST_SYSTEM
            }
        };
        let config = self.config.alarm;
        let now = seconds(self.clock) as u32;
        if half_open {
            let hash = self.hash_of(&key, listener, true);
            if let Some((half_open, syns)) = self.watch().opened(hash, now, &config) {
                let cause = Cause::SynFlood {
                    listener,
                    half_open,
                    syns,
                };
                self.give_alarm(&key, cause);
            }
        }
        if tries {
            let hash = self.hash_of(&key, source, false);
            let port = self.hasher.words(&[u32::from(target.port)]) >> PORT_SHIFT;
            if let Some(ports) = self.watch().tried(hash, port, now, &config) {
                let cause = Cause::PortScan {
                    source: source.address,
                    ports,
                    target,
                };
                self.give_alarm(&key, cause);
            }
        }
    }

    /// A flow is no longer half open.
    pub(super) fn watch_end(&mut self, slot: u32, completed: bool) {
        let Some(entry) = self.slots.as_ref().get(slot as usize) else {
            return;
        };
        let key = entry.key();
        let hash = self.hash_of(&key, key.end(!entry.initiator()), true);
        self.watch().closed(hash, completed);
    }

    fn give_alarm(&mut self, key: &Key, cause: Cause) {
        self.stats.alarms = self.stats.alarms.wrapping_add(1);
        let alarm = Alarm {
            sequence: self.stats.alarms,
            time_100ns: self.clock,
            adapter: self.adapter_id(key.adapter()),
            cause,
        };
        self.watch().give(&alarm);
        if self.stats.alarms.saturating_sub(self.taken) > RING as u64 {
            self.taken = self.taken.saturating_add(1);
            self.stats.alarms_lost = self.stats.alarms_lost.wrapping_add(1);
        }
    }

    /// The oldest alarm that was not taken yet. The last thirty-two wait; of
    /// more, the oldest are lost.
    pub fn take_alarm(&mut self) -> Option<Alarm> {
        if self.taken >= self.stats.alarms {
            return None;
        }
        self.taken = self.taken.saturating_add(1);
        let sequence = self.taken;
        self.watch().alarm(sequence)
    }
}
