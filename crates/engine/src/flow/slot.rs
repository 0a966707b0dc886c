//! The memory of one flow: 128 bytes, whatever it is.
//!
//! What does not fit is told apart by how long it matters. Counters of packets
//! and bytes have their low words here, and a place in [`super::spill`] once
//! they need more. Times are kept as they are used: the last frame's in full,
//! the others as ages that stop at a limit, past which nobody asks how old.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Room for one flow. All zeros is an empty one.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Slot {
    /// Addresses, ports, VLAN, protocol, adapter: [`super::key::Key`].
    pub(super) key: [u64; 5],
    /// What each end sent; the end with the smaller address and port first.
    pub(super) sides: [Side; 2],
    /// Low words of the flow's number, of the first frame's time, of the last.
    pub(super) id_low: u32,
    pub(super) first_low: u32,
    pub(super) last_low: u32,
    pub(super) first_high: u16,
    /// Age of the last frame of the end which did not send the last one.
    pub(super) other_age: u16,
    /// Initial round trip: [`super::time::Short`].
    pub(super) initial_rtt: u16,
    pub(super) retransmissions: u16,
    pub(super) duplicate_acks: u16,
    /// Every tag that was given.
    pub(super) seen: u16,
    /// Two counts of 12 bits: fast retransmissions, out of order.
    pub(super) counts: [u8; 3],
    pub(super) id_high: u8,
    pub(super) last_high: u8,
    /// State, and which end began.
    pub(super) state: u8,
    /// What is left of the sequence number each end began with.
    pub(super) base: [u8; 2],
}

/// What is known of one direction.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
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
    /// [`super::tcp::flags`].
    pub(super) flags: u16,
    /// Age of the segment that set `next_seq`.
    pub(super) next_seq_age: u16,
    /// Smoothed time until what it sent is acknowledged: [`super::time::Short`].
    pub(super) rtt: u16,
}

const _: () = assert!(size_of::<Slot>() == 128, "a flow takes 128 bytes");
const _: () = assert!(size_of::<Side>() == 28, "28 bytes a direction");
