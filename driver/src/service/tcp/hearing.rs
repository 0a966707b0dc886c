//! Who is told of the events of a connection's socket.

use core::ptr;
use core::sync::atomic::Ordering;

use super::io::Meters;
use super::signal;
use super::state::{BULK, Gate, HELD, Kind, Look};
use crate::kernel::lock::SpinLock;
use crate::wsk::pump::{self, Task};
use crate::wsk::{Answer, Hear, Indication, Retained};

/// A part of a connection's block.
pub(super) struct Hearing {
    /// Nothing else is taken under its lock.
    gate: SpinLock<Gate<Retained>>,
    /// Whatever comes is done with at once.
    discards: bool,
    task: *const Task,
    signal: u32,
    meters: Meters,
}

impl Hearing {
    /// One that isn't bound yet.
    pub(super) const fn new() -> Self {
        Self {
            gate: SpinLock::new(Gate::new(BULK)),
            discards: false,
            task: ptr::null(),
            signal: 0,
            meters: [ptr::null(); 2],
        }
    }

    /// Says whom to tell, and where to count.
    ///
    /// # Safety
    /// `task` and `meters` are good as long as events may come, and `task` for as
    /// long after that as its step hasn't been given the signals.
    pub(super) unsafe fn bind(
        &mut self,
        kind: Kind,
        pipe: usize,
        task: *const Task,
        meters: Meters,
    ) {
        self.discards = kind == Kind::Discard;
        self.task = task;
        self.signal = signal::HEARD.get(pipe).copied().unwrap_or(0);
        self.meters = meters;
    }

    /// What is new since the last time.
    pub(super) fn take(&self) -> ([Option<(Retained, u32)>; HELD], Look) {
        self.gate.lock().take()
    }

    /// Lets data be retained, unless some have been refused.
    pub(super) fn open(&self) -> bool {
        self.gate.lock().open()
    }

    /// Lets none be retained any more.
    pub(super) fn shut(&self) {
        self.gate.lock().shut();
    }

    /// So many bytes have been released.
    pub(super) fn released(&self, bytes: u32) {
        self.gate.lock().released(bytes);
    }

    fn count(&self, bytes: usize) {
        for meter in self.meters {
            // SAFETY: null, or good as long as events come (bind).
            if let Some(meter) = unsafe { meter.as_ref() } {
                // usize has 64 bits here.
                meter.fetch_add(bytes as u64, Ordering::Relaxed);
            }
        }
    }

    fn tell(&self) {
        // SAFETY: bound before the socket had this for an ear. The socket's close
        // waits for the event that this is in, and the task isn't gone before that
        // has ended (state machine).
        unsafe { pump::signal(self.task, self.signal) };
    }

    fn look(&self, look: Look) {
        let tell = self.gate.lock().close(look);
        if tell {
            self.tell();
        }
    }
}

impl Hear for Hearing {
    fn data(&self, data: Indication) -> Answer {
        let length = data.len();
        if self.discards || length == 0 {
            self.count(length);
            return data.accept();
        }
        let bytes = u32::try_from(length).unwrap_or(u32::MAX);
        let mut gate = self.gate.lock();
        let (answer, tell) = if gate.admits(bytes, data.is_hasty()) {
            let (retained, answer) = data.retain();
            gate.keep(retained, bytes);
            self.count(length);
            (answer, true)
        } else {
            (data.refuse(), gate.close(Look::More))
        };
        drop(gate);
        if tell {
            self.tell();
        }
        answer
    }

    fn disconnected(&self, abortive: bool) {
        self.look(if abortive { Look::Gone } else { Look::End });
    }

    fn failed(&self) {
        self.look(Look::Gone);
    }
}
