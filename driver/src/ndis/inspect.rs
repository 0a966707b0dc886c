//! What happens to each frame on its way: its headers are dissected out of a
//! copy, it is counted, and shown to the readers. Once, in the call that brings
//! it; nothing is kept, nothing is allocated.

use weir_abi::Direction;
use weir_engine::stats::{Counters, Verdict};
use weir_engine::wire::{self, HEADER_WINDOW};

use super::adapter::Module;
use super::nbl::Chain;
use crate::capture;
use crate::kernel::time;

/// Looks at each frame of a chain and enters them all under `verdict`. Says how
/// many they are. `IRQL <= DISPATCH_LEVEL`.
///
/// Readers are shown frames that pass: what they get is what was on the wire or
/// reached the host, not what a paused filter turned away.
pub(super) fn inspect(
    module: &Module,
    chain: &Chain<'_>,
    direction: Direction,
    verdict: Verdict,
) -> u64 {
    let mut batch = Counters::ZERO;
    let mut window = [0u8; HEADER_WINDOW];
    // One clock reading does for a chain: NDIS hands over together what came
    // together.
    let seen_at = (verdict == Verdict::Pass && capture::any_reader()).then(time::system_time_100ns);
    for frame in chain.frames() {
        let len = frame.bytes.len();
        let got = frame.bytes.copy_to(0, &mut window);
        let headers = wire::dissect(window.get(..got).unwrap_or_default(), len);
        batch.balance.see(len);
        batch.protocols.count(&headers, frame.tag_beside);
        if let Some(timestamp_100ns) = seen_at {
            capture::on_frame(&capture::Frame {
                adapter: module.id(),
                direction,
                timestamp_100ns,
                len,
                bytes: &frame.bytes,
            });
        }
        batch.balance.enter(verdict, len);
    }
    module.enter(direction, &batch);
    batch.balance.seen
}

/// A number of frames as a difference.
pub(super) fn signed(frames: u64) -> i64 {
    i64::try_from(frames).unwrap_or(i64::MAX)
}
