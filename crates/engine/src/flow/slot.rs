//! The memory of one flow: 128 bytes, whatever it is.
//!
//! Counters of packets and bytes have their low words here, and their high ones
//! in [`super::spill`] once they need them. Times are kept as they are used: the
//! last frame's in forty bits (a flow is forgotten long before that wraps), the
//! others as ages that stop at a limit, past which nobody asks how old.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::key::Key;
use super::time::{Age, widen};
use super::{State, TcpTags};

/// Room for one flow. What is in it does not matter until a table uses it.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Slot {
    key: [u64; 5],
    /// What each end sent, in the order of the key.
    pub(super) sides: [Side; 2],
    id_low: u32,
    first_low: u32,
    last_low: u32,
    first_high: u16,
    /// Age of the last frame from the end which did not send the very last.
    pub(super) other_age: u16,
    /// Initial round trip: [`super::time::Short`]; 0 not known.
    pub(super) initial_rtt: u16,
    pub(super) retransmissions: u16,
    pub(super) duplicate_acks: u16,
    /// Every tag that was given.
    pub(super) seen: u16,
    /// Two counts of 12 bits: fast retransmissions, out of order.
    counts: [u8; 3],
    id_high: u8,
    last_high: u8,
    /// State + 1, and [`INITIATOR`] to [`SYN_TIMED`]; 0 is an empty slot.
    state: u8,
    /// What is kept of the sequence number each end began with.
    pub(super) base: [u8; 2],
}

/// What is known of one direction.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Side {
    /// Low words of what it sent.
    pub(super) packets: u32,
    pub(super) bytes: u32,
    /// The sequence number after the furthest byte it sent; 0 not known.
    pub(super) next_seq: u32,
    /// Up to where it sent without a hole; 0 not known.
    pub(super) contiguous: u32,
    /// The last acknowledgment it sent.
    pub(super) last_ack: u32,
    /// The last window it sent, not scaled.
    pub(super) window: u16,
    /// [`super::tcp::Flags`].
    pub(super) flags: u16,
    /// Age of the segment that set `next_seq`.
    pub(super) next_seq_age: u16,
    /// Smoothed time until what it sent is acknowledged: [`super::time::Short`].
    pub(super) rtt: u16,
}

const _: () = assert!(size_of::<Slot>() == 128, "a flow takes 128 bytes");

const STATE: u8 = 0x0f;
/// The second end began.
const INITIATOR: u8 = 0x80;
/// The second end sent the last frame.
const LAST_SIDE: u8 = 0x40;
/// Some count has a high part.
const SPILLED: u8 = 0x20;
/// The two `rtt` hold the time of the last SYN instead.
const SYN_TIMED: u8 = 0x10;

/// Bits of the last frame's time: thirty hours.
pub(super) const LAST_BITS: u32 = 40;
/// Bits of the first frame's time: 325 days.
pub(super) const FIRST_BITS: u32 = 48;
/// Bits of a flow's number.
const ID_BITS: u32 = 40;

impl Slot {
    /// An empty slot.
    pub const EMPTY: Self = Self {
        key: [0; 5],
        sides: [Side::ZERO; 2],
        id_low: 0,
        first_low: 0,
        last_low: 0,
        first_high: 0,
        other_age: 0,
        initial_rtt: 0,
        retransmissions: 0,
        duplicate_acks: 0,
        seen: 0,
        counts: [0; 3],
        id_high: 0,
        last_high: 0,
        state: 0,
        base: [0; 2],
    };

    /// A flow that begins with a frame from one end.
    pub(super) fn begin(&mut self, key: Key, id: u64, now: u64, state: State, initiator: bool) {
        *self = Self {
            key: key.0,
            id_low: id as u32,
            id_high: (id >> 32) as u8,
            first_low: now as u32,
            first_high: (now >> 32) as u16,
            last_low: now as u32,
            last_high: (now >> 32) as u8,
            other_age: Age::OLD.0,
            state: if initiator { INITIATOR } else { 0 },
            ..Self::EMPTY
        };
        self.set_state(state);
    }

    pub(super) fn key(&self) -> Key {
        Key(self.key)
    }

    /// The flow's number, which is at most `newest`.
    pub(super) fn id(&self, newest: u64) -> u64 {
        let low = u64::from(self.id_high) << 32 | u64::from(self.id_low);
        widen(low, ID_BITS, newest)
    }

    pub(super) fn first(&self, clock: u64) -> u64 {
        let low = u64::from(self.first_high) << 32 | u64::from(self.first_low);
        widen(low, FIRST_BITS, clock)
    }

    pub(super) fn set_first(&mut self, time: u64) {
        self.first_low = time as u32;
        self.first_high = (time >> 32) as u16;
    }

    #[inline]
    pub(super) fn last(&self, clock: u64) -> u64 {
        let low = u64::from(self.last_high) << 32 | u64::from(self.last_low);
        widen(low, LAST_BITS, clock)
    }

    /// Notes a frame from one end at `now`, `last` having been the one before.
    /// Both ends' last frames are then at hand: the age of the other end's is
    /// returned and kept.
    #[inline]
    pub(super) fn note_frame(&mut self, second: bool, last: u64, now: u64) -> Age {
        let span = Age::between(last, now, OTHER_SHIFT);
        let other = if second == (self.state & LAST_SIDE != 0) {
            Age(self.other_age).plus(span)
        } else if self.other(second).packets == 0 {
            Age::OLD
        } else {
            span
        };
        self.other_age = other.0;
        self.last_low = now as u32;
        self.last_high = (now >> 32) as u8;
        self.state = self.state & !LAST_SIDE | if second { LAST_SIDE } else { 0 };
        other
    }

    pub(super) fn is_empty(&self) -> bool {
        self.state & STATE == 0
    }

    pub(super) fn clear(&mut self) {
        self.state = 0;
    }

    #[inline]
    pub(super) fn state(&self) -> State {
        Self::state_of(self.progress())
    }

    /// The state as it is kept, to be compared: 0 of an empty slot.
    #[inline]
    pub(super) fn progress(&self) -> u8 {
        self.state & STATE
    }

    /// What [`Slot::progress`] stands for.
    pub(super) fn state_of(progress: u8) -> State {
        match progress {
            2 => State::SynSent,
            3 => State::SynReceived,
            4 => State::Established,
            5 => State::FinWait,
            6 => State::HalfClosed,
            7 => State::Closing,
            8 => State::LastAck,
            9 => State::TimeWait,
            10 => State::Reset,
            _ => State::Active,
        }
    }

    pub(super) fn set_state(&mut self, state: State) {
        self.state = self.state & !STATE | progress_of(state);
    }

    #[inline]
    pub(super) fn is(&self, state: State) -> bool {
        self.progress() == progress_of(state)
    }

    /// Whether the second end began.
    #[inline]
    pub(super) fn initiator(&self) -> bool {
        self.state & INITIATOR != 0
    }

    pub(super) fn is_spilled(&self) -> bool {
        self.state & SPILLED != 0
    }

    pub(super) fn set_spilled(&mut self) {
        self.state |= SPILLED;
    }

    /// One end, and the other.
    #[inline]
    pub(super) fn split(&mut self, second: bool) -> (&mut Side, &mut Side) {
        let [a, b] = &mut self.sides;
        if second { (b, a) } else { (a, b) }
    }

    pub(super) fn side(&self, second: bool) -> &Side {
        let [a, b] = &self.sides;
        if second { b } else { a }
    }

    fn other(&self, second: bool) -> &Side {
        self.side(!second)
    }

    /// Whether only one end was heard.
    #[inline]
    pub(super) fn is_one_way(&self) -> bool {
        let [a, b] = &self.sides;
        a.packets == 0 || b.packets == 0
    }

    /// Low word of the last SYN's time, while the handshake is being timed.
    pub(super) fn syn_time(&self) -> Option<u32> {
        let [a, b] = &self.sides;
        (self.state & SYN_TIMED != 0).then(|| u32::from(a.rtt) << 16 | u32::from(b.rtt))
    }

    /// Begins to time a handshake, or ends it.
    pub(super) fn set_syn_time(&mut self, time: Option<u32>) {
        let [a, b] = &mut self.sides;
        let low = time.unwrap_or(0);
        a.rtt = (low >> 16) as u16;
        b.rtt = low as u16;
        self.state = self.state & !SYN_TIMED | if time.is_some() { SYN_TIMED } else { 0 };
    }

    /// Counts what a segment was said to be.
    #[inline]
    pub(super) fn note_tags(&mut self, tags: TcpTags) {
        self.seen |= tags.bits();
        if tags.contains(TcpTags::RETRANSMISSION) {
            self.retransmissions = self.retransmissions.saturating_add(1);
        }
        if tags.contains(TcpTags::DUPLICATE_ACK) {
            self.duplicate_acks = self.duplicate_acks.saturating_add(1);
        }
        let fast = tags.contains(TcpTags::FAST_RETRANSMISSION);
        let disordered = tags.contains(TcpTags::OUT_OF_ORDER);
        if fast || disordered {
            let (fasts, disorders) = self.counts();
            let fasts = fasts.saturating_add(u16::from(fast)).min(0xfff);
            let disorders = disorders.saturating_add(u16::from(disordered)).min(0xfff);
            self.counts = [
                fasts as u8,
                (fasts >> 8 | disorders << 4) as u8,
                (disorders >> 4) as u8,
            ];
        }
    }

    /// Fast retransmissions, and segments out of order.
    pub(super) fn counts(&self) -> (u16, u16) {
        let [a, b, c] = self.counts.map(u16::from);
        (a | (b & 0xf) << 8, b >> 4 | c << 4)
    }
}

const fn progress_of(state: State) -> u8 {
    (state as u8).wrapping_add(1) & STATE
}

/// Units of `other_age`: 0.8 µs, so that it goes to 52 ms.
pub(super) const OTHER_SHIFT: u32 = 3;

impl Side {
    const ZERO: Self = Self {
        packets: 0,
        bytes: 0,
        next_seq: 0,
        contiguous: 0,
        last_ack: 0,
        window: 0,
        flags: 0,
        next_seq_age: 0,
        rtt: 0,
    };
}
