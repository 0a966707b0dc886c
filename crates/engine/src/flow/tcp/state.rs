//! The state of a connection, from what both ends were heard to say: RFC 9293
//! section 3.3.2, seen from between. Where the ends differ (one is in
//! CLOSE-WAIT while the other is in FIN-WAIT-2) it is one state with one name.

use super::{Segment, after, bits};
use crate::flow::State;
use crate::flow::slot::{Side, Slot};
use crate::wire::tcp::Flags;

/// The state that a flow begins in with its first segment, and whether that
/// segment's sender began the connection.
pub(in crate::flow) fn first(segment: &Segment) -> (State, bool) {
    if segment.is_opening() {
        (State::SynSent, true)
    } else if segment.is_syn_ack() {
        (State::SynReceived, false)
    } else {
        (State::Established, true)
    }
}

/// Moves the state on by a segment which was analysed just before.
#[inline]
pub(in crate::flow) fn advance(slot: &mut Slot, second: bool, segment: &Segment) {
    let control = segment.any(Flags::SYN | Flags::FIN | Flags::RST);
    if slot.is(State::Established) && !control {
        return;
    }
    let state = slot.state();
    let (fwd, rev) = slot.split(second);
    let next = step(state, fwd, rev, segment);
    if next != state {
        slot.set_state(next);
    }
}

fn step(state: State, fwd: &mut Side, rev: &mut Side, segment: &Segment) -> State {
    if segment.any(Flags::RST) {
        return if state != State::TimeWait && is_believed(rev, segment) {
            State::Reset
        } else {
            state
        };
    }
    if state == State::Reset {
        return state;
    }
    if segment.any(Flags::SYN) {
        // A late duplicate of the handshake changes nothing.
        if !state.is_half_open() {
            return state;
        }
        fwd.put(bits::SYN, true);
    }
    if segment.any(Flags::FIN) && !fwd.has(bits::FIN) {
        fwd.put(bits::FIN, true);
        fwd.put(bits::ACKED, false);
    }
    // SYN and FIN are each the last that their sender sent so far, or have been
    // acknowledged with what came after them.
    let acks = segment.any(Flags::ACK) && rev.next_seq != 0 && !after(rev.next_seq, segment.ack);
    if acks && (rev.has(bits::FIN) || state.is_half_open()) {
        rev.put(bits::ACKED, true);
    }
    if state.is_half_open() && !fwd.has(bits::FIN) && !rev.has(bits::FIN) {
        return opening(fwd, rev, segment);
    }
    closing(state, fwd, rev)
}

/// Towards an established connection, from either end or both at once.
fn opening(fwd: &Side, rev: &Side, segment: &Segment) -> State {
    let both = fwd.has(bits::SYN) && rev.has(bits::SYN);
    let acked = fwd.has(bits::ACKED) && rev.has(bits::ACKED);
    // One end's SYN was not seen here, but what it sends now would not come
    // without.
    let unseen = !segment.any(Flags::SYN)
        && segment.any(Flags::ACK)
        && if fwd.has(bits::SYN) {
            segment.len > 0 || rev.packets != 0 && rev.has(bits::ACKED)
        } else {
            rev.has(bits::ACKED)
        };
    if both && acked || unseen {
        State::Established
    } else if both || segment.is_syn_ack() || !fwd.has(bits::SYN) && rev.packets != 0 {
        State::SynReceived
    } else if fwd.has(bits::SYN) {
        State::SynSent
    } else {
        State::SynReceived
    }
}

fn closing(state: State, fwd: &Side, rev: &Side) -> State {
    let acked = |side: &Side| side.has(bits::FIN | bits::ACKED);
    match (fwd.has(bits::FIN), rev.has(bits::FIN)) {
        (false, false) => state,
        (true, true) if acked(fwd) && acked(rev) => State::TimeWait,
        (true, true) if acked(fwd) || acked(rev) => State::LastAck,
        (true, true) => State::Closing,
        _ if acked(fwd) || acked(rev) => State::HalfClosed,
        _ => State::FinWait,
    }
}

/// Whether a receiver would take this RST: RFC 9293 section 3.5.3, from outside.
/// Somebody who guesses must not close a flow here that goes on at its ends.
fn is_believed(rev: &Side, segment: &Segment) -> bool {
    let rev_silent = !rev.has(bits::WINDOW_KNOWN);
    // What it answers to.
    let answers = segment.any(Flags::ACK) && rev.next_seq != 0 && segment.ack == rev.next_seq;
    let shift = rev.window_shift().unwrap_or(0);
    let window = u32::from(rev.window) << shift;
    let in_window = segment.seq.wrapping_sub(rev.last_ack) <= window;
    rev_silent || answers || in_window
}
