//! Readiness: one epoll instance, and a descriptor that wakes its waiters.

use super::Fd;
use super::sys::{self, EpollEvent, call, plain};
use std::sync::atomic::{AtomicBool, Ordering};

const IN: u32 = 1;
const OUT: u32 = 4;
const ERR: u32 = 8;
const HUP: u32 = 0x10;
const RDHUP: u32 = 0x2000;
const EDGE: u32 = 1 << 31;
const CTL_ADD: usize = 1;
const CLOEXEC: usize = 0o2_000_000;
const NONBLOCK: usize = 0o4000;
/// The name of the descriptor that wakes.
const WAKE: u64 = u64::MAX;

/// Reading may get on.
pub(in crate::wsk) const READ: u32 = IN | ERR | HUP | RDHUP;
/// Writing may get on.
pub(in crate::wsk) const WRITE: u32 = OUT | ERR | HUP;
/// The connection is gone.
pub(in crate::wsk) const RESET: u32 = ERR | HUP;

/// What a descriptor is ready for.
#[derive(Clone, Copy, Default)]
pub(in crate::wsk) struct Event {
    /// The name it was added with.
    pub(in crate::wsk) name: u64,
    /// Bits of [`READ`], [`WRITE`], [`RESET`].
    pub(in crate::wsk) ready: u32,
}

/// See the module's documentation.
pub(in crate::wsk) struct Poll {
    epoll: Fd,
    wake: Fd,
    /// It has been woken and nobody has noticed yet.
    woken: AtomicBool,
}

impl Poll {
    pub(in crate::wsk) fn new() -> Option<Self> {
        let epoll = plain(sys::EPOLL_CREATE1, CLOEXEC, 0, 0).ok()? as Fd;
        let wake = plain(sys::EVENTFD2, 0, CLOEXEC | NONBLOCK, 0).ok()? as Fd;
        let this = Self {
            epoll,
            wake,
            woken: AtomicBool::new(false),
        };
        this.add(wake, WAKE).ok()?;
        Some(this)
    }

    /// Watches a descriptor, for good: each time it becomes ready is told once.
    /// Closing it ends the watch.
    pub(in crate::wsk) fn add(&self, fd: Fd, name: u64) -> Result<(), i32> {
        let event = EpollEvent {
            events: IN | OUT | RDHUP | EDGE,
            data: name,
        };
        let at = &raw const event as usize;
        // SAFETY: the call reads one event.
        unsafe {
            call(
                sys::EPOLL_CTL,
                [sys::fd(self.epoll), CTL_ADD, sys::fd(fd), at, 0, 0],
            )
        }
        .map(drop)
    }

    /// What has become ready; with `wait`, waits until something has. How many
    /// of `events` were filled in; a wake-up fills in none.
    pub(in crate::wsk) fn ready<const N: usize>(
        &self,
        events: &mut [Event; N],
        wait: bool,
    ) -> usize {
        let mut got = [EpollEvent::default(); N];
        // -1 is for ever.
        let timeout = if wait { usize::MAX } else { 0 };
        let at = got.as_mut_ptr() as usize;
        // SAFETY: room for N events.
        let count = unsafe { call(sys::EPOLL_WAIT, [sys::fd(self.epoll), at, N, timeout, 0, 0]) };
        let mut filled = 0;
        for event in got.iter().take(count.unwrap_or(0)) {
            let (name, ready) = (event.data, event.events);
            if name == WAKE {
                self.woken.store(false, Ordering::SeqCst);
                self.drain();
            } else if let Some(slot) = events.get_mut(filled) {
                *slot = Event { name, ready };
                filled += 1;
            }
        }
        filled
    }

    fn drain(&self) {
        let mut count = 0u64;
        let at = &raw mut count as usize;
        // SAFETY: an event counter is read as eight bytes.
        let _empty = unsafe { call(sys::READ, [sys::fd(self.wake), at, 8, 0, 0, 0]) };
    }

    /// Makes one waiter return.
    pub(in crate::wsk) fn wake(&self) {
        if self.woken.swap(true, Ordering::SeqCst) {
            return;
        }
        let one = 1u64;
        let at = &raw const one as usize;
        // SAFETY: an event counter is written as eight bytes.
        let _full = unsafe { call(sys::WRITE, [sys::fd(self.wake), at, 8, 0, 0, 0]) };
    }
}
