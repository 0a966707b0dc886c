//! The last alarms of all adapters.

use weir_abi::AlarmInfo;
use weir_abi::limits::MAX_ALARMS;

use crate::kernel::lock::SpinLock;

/// Alarms that are kept.
const KEPT: usize = MAX_ALARMS as usize;

/// An alarm about nothing.
pub(super) const NONE: AlarmInfo = AlarmInfo {
    number: 0,
    time_100ns: 0,
    adapter: 0,
    kind: 0,
    address: [0; 16],
    peer: [0; 16],
    port: 0,
    reserved0: 0,
    family: 0,
    count: 0,
    syns: 0,
    reserved1: 0,
};

struct Ring {
    /// Alarm `n` lies at `n` modulo the length.
    alarms: [AlarmInfo; KEPT],
    /// The number of the next one; they start at 1.
    next: u64,
}

static RING: SpinLock<Ring> = SpinLock::new(Ring {
    alarms: [NONE; KEPT],
    next: 1,
});

impl Ring {
    fn place(&mut self, number: u64) -> Option<&mut AlarmInfo> {
        let index = number.checked_rem(u64::from(MAX_ALARMS))?;
        self.alarms.get_mut(usize::try_from(index).ok()?)
    }

    fn oldest(&self) -> u64 {
        self.next.saturating_sub(u64::from(MAX_ALARMS)).max(1)
    }
}

/// Adds an alarm, whose number is given here; the oldest goes if there are too
/// many. `IRQL <= DISPATCH_LEVEL`.
pub(super) fn add(alarm: &AlarmInfo) {
    let mut ring = RING.lock();
    let number = ring.next;
    ring.next = number.wrapping_add(1);
    if let Some(place) = ring.place(number) {
        *place = AlarmInfo { number, ..*alarm };
    }
}

/// The first alarm with this number or a higher one, if it has been raised.
pub(crate) fn from(number: u64) -> Option<AlarmInfo> {
    let mut ring = RING.lock();
    let number = number.max(ring.oldest());
    if number >= ring.next {
        return None;
    }
    ring.place(number).copied()
}

/// The number the next alarm will have: one more than there were.
pub(crate) fn next() -> u64 {
    RING.lock().next
}
