//! Whether a peer's handshake is to be answered, by the rules in force.
//!
//! The filter sees every SYN that comes over an adapter, and has dropped those
//! the rules drop before a listener hears of them; but what a machine sends to
//! itself passes no adapter. A listener with conditional accept asks the same
//! rules about the SYN it would have been, of which only a part is known: the
//! protocols, the addresses and ports of both ends, that it is a SYN. A peer is
//! refused when that much decides for `drop`. Where a rule that has a say asks for
//! more (the link's addresses, hops, options, the length), the peer is let in: if
//! there was a frame, the filter knew all of it and let it pass. `divert` lets in,
//! too: there is no frame to divert.

use core::net::{IpAddr, SocketAddr};
use core::ops::Range;

use weir_abi::Direction;
use weir_engine::rule::sketch::{self, Sketch};
use weir_engine::rule::{Action, NoFar, View};
use weir_engine::{Meta, path};

use crate::kernel::time;
use crate::rules;
use crate::wsk::Ends;

const ETHERNET: usize = 14;
const V4: usize = 20;
const V6: usize = 40;
const TCP: usize = 20;
/// The longest of the frames made here.
const LONGEST: usize = ETHERNET + V6 + TCP;

const TYPE_V4: [u8; 2] = [0x08, 0x00];
const PROTOCOL_TCP: u8 = 6;
/// What is known of an IPv4 frame: its type; version and header's length; that it
/// is no fragment; protocol; addresses and ports; flags of TCP.
const KNOWN_V4: [Range<u32>; 6] = [12..14, 14..15, 20..22, 23..24, 26..38, 47..48];
/// Of IPv6: type; version; next header; addresses and ports; flags.
const KNOWN_V6: [Range<u32>; 5] = [12..14, 14..15, 20..21, 22..58, 67..68];
/// IPv4's "don't fragment", and the flags beside SYN of a peer that asks for ECN
/// (RFC 3168, 6.1.1): single bits that aren't known in bytes that else are.
const DONT_FRAGMENT: u8 = 0x40;
const ECN: u8 = 0xC0;
/// Where they are: of IPv4, and from the end of a SYN without options.
const FRAGMENT_AT: usize = 20;
const FLAGS_FROM_END: usize = 7;

/// Data offset of a header without options; SYN.
const OFFSET_AND_SYN: [u8; 2] = [0x50, 0x02];

/// Whether a peer may connect. `IRQL <= DISPATCH_LEVEL`.
pub(crate) fn peer(ends: &Ends) -> bool {
    let Some(rules) = rules::current() else {
        return true;
    };
    let (Ok(to), Ok(from)) = (
        SocketAddr::try_from(&ends.local),
        SocketAddr::try_from(&ends.remote),
    ) else {
        return true;
    };
    let mut frame = [0u8; LONGEST];
    let Some((len, known)) = syn(&mut frame, from, to) else {
        return true;
    };
    let bytes = frame.get(..len).unwrap_or_default();
    let frame_len = u32::try_from(len).unwrap_or(0);
    let meta = Meta {
        adapter: 0,
        direction: Some(Direction::In),
        time_100ns: time::system_time_100ns(),
        frame_len,
    };
    let seen = path::inspect(
        &View::new(bytes, frame_len, frame_len, &NoFar),
        &meta,
        Some(rules.rules()),
        |_, _| None,
        |_| {},
    );
    if seen.decision.action != Action::Drop {
        return true;
    }
    // Few get here: only now is it worth going through the rules one by one.
    let program = rules.rules().program();
    // IPv6 has the next header there.
    let is_v4 = bytes.get(12..14) == Some(&TYPE_V4[..]);
    let dropped = |fragment: u8, flags: u8| {
        let mut frame = frame;
        if let Some(byte) = frame.get_mut(FRAGMENT_AT).filter(|_| is_v4) {
            *byte |= fragment;
        }
        let at = len.saturating_sub(FLAGS_FROM_END);
        if let Some(byte) = frame.get_mut(at) {
            *byte |= flags;
        }
        let bytes = frame.get(..len).unwrap_or_default();
        let syn = Sketch { bytes, known };
        sketch::decide(&program, syn, Some(Direction::In))
            .is_some_and(|decision| decision.action == Action::Drop)
    };
    // Refused only if it would be dropped whatever those bits are.
    let all = [(0, 0), (DONT_FRAGMENT, 0), (0, ECN), (DONT_FRAGMENT, ECN)];
    !all.into_iter()
        .all(|(fragment, flags)| dropped(fragment, flags))
}

/// Writes bytes one after another, as far as there is room.
struct Writer<'a> {
    room: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.at.checked_add(bytes.len())?;
        self.room.get_mut(self.at..end)?.copy_from_slice(bytes);
        self.at = end;
        Some(())
    }
}

/// A SYN from `from` to `to`: its length, and what of it is known. Addresses of an
/// IPv4 peer on a dual-stack socket are IPv4's.
fn syn(
    room: &mut [u8],
    from: SocketAddr,
    to: SocketAddr,
) -> Option<(usize, &'static [Range<u32>])> {
    let mut frame = Writer { room, at: 0 };
    // Link addresses of zeroes.
    frame.put(&[0; 12])?;
    let known: &[_] = match (from.ip().to_canonical(), to.ip().to_canonical()) {
        (IpAddr::V4(source), IpAddr::V4(target)) => {
            frame.put(&TYPE_V4)?;
            // Version and length, service, total length; identification, flags;
            // hops, protocol, checksum.
            let total = u16::try_from(V4.checked_add(TCP)?).ok()?.to_be_bytes();
            frame.put(&[0x45, 0])?;
            frame.put(&total)?;
            frame.put(&[0, 0, 0, 0, 64, PROTOCOL_TCP, 0, 0])?;
            frame.put(&source.octets())?;
            frame.put(&target.octets())?;
            &KNOWN_V4
        }
        (IpAddr::V6(source), IpAddr::V6(target)) => {
            frame.put(&[0x86, 0xDD])?;
            // Version, class, flow label; payload length; next header, hops.
            frame.put(&[0x60, 0, 0, 0])?;
            frame.put(&u16::try_from(TCP).ok()?.to_be_bytes())?;
            frame.put(&[PROTOCOL_TCP, 64])?;
            frame.put(&source.octets())?;
            frame.put(&target.octets())?;
            &KNOWN_V6
        }
        _ => return None,
    };
    frame.put(&from.port().to_be_bytes())?;
    frame.put(&to.port().to_be_bytes())?;
    // Sequence, acknowledgement; offset and flags; window, checksum, urgent.
    frame.put(&[0; 8])?;
    frame.put(&OFFSET_AND_SYN)?;
    frame.put(&[0xFF, 0xFF, 0, 0, 0, 0])?;
    Some((frame.at, known))
}
