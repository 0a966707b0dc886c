//! One operation, owned by the kernel while it is in flight.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use windows_sys::Win32::Foundation::{NTSTATUS, RtlNtStatusToDosError};
use windows_sys::Win32::System::IO::OVERLAPPED;

use crate::channel::{Completion, Pending};
use crate::error::{Failure, NtStatus};

/// The failure Windows reports as `status`.
pub(super) fn failure(status: NTSTATUS) -> Failure {
    Failure {
        status: NtStatus(status),
        // SAFETY: takes any NTSTATUS by value and touches no memory of ours.
        win32: unsafe { RtlNtStatusToDosError(status) },
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while holding these locks; the values are whole anyway.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the result of an operation is put.
#[derive(Default)]
pub(super) struct Slot {
    done: Mutex<Option<Completion>>,
    changed: Condvar,
}

impl Slot {
    /// Waits for the completion, at most for `timeout`.
    pub(super) fn wait(&self, timeout: Option<Duration>) -> Option<Completion> {
        let deadline = timeout.map(|t| Instant::now() + t);
        let mut done = lock(&self.done);
        loop {
            if done.is_some() {
                return done.take();
            }
            done = match deadline {
                None => self
                    .changed
                    .wait(done)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return None;
                    }
                    self.changed
                        .wait_timeout(done, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
    }

    fn put(&self, completion: Completion) {
        *lock(&self.done) = Some(completion);
        self.changed.notify_all();
    }
}

/// How many operations of a handle are in flight.
#[derive(Default)]
pub(super) struct Flight {
    count: Mutex<usize>,
    landed: Condvar,
}

impl Flight {
    /// Waits until there is none.
    pub(super) fn wait_none(&self) {
        let mut count = lock(&self.count);
        while *count != 0 {
            count = self
                .landed
                .wait(count)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn take_off(&self) {
        *lock(&self.count) += 1;
    }

    fn land(&self) {
        *lock(&self.count) -= 1;
        self.landed.notify_all();
    }
}

/// An operation. `overlapped` comes first, so its address is the operation's.
#[repr(C)]
pub(super) struct Operation {
    overlapped: OVERLAPPED,
    input: Vec<u8>,
    buffer: Vec<u8>,
    slot: Arc<Slot>,
    flight: Arc<Flight>,
}

const _: () = assert!(std::mem::offset_of!(Operation, overlapped) == 0);

/// What the kernel is given of an operation. Valid until it completes.
pub(super) struct Parts {
    /// The operation's `OVERLAPPED`: status block, and what the packet names.
    pub(super) overlapped: *mut OVERLAPPED,
    /// The request's bytes.
    pub(super) input: *const u8,
    /// How many.
    pub(super) input_len: u32,
    /// Where the result goes.
    pub(super) buffer: *mut u8,
    /// How much room there is.
    pub(super) buffer_len: u32,
}

impl Operation {
    /// An operation with these buffers, for a handle with this count.
    pub(super) fn new(input: Vec<u8>, buffer: Vec<u8>, flight: &Arc<Flight>) -> Box<Self> {
        Box::new(Operation {
            overlapped: OVERLAPPED::default(),
            input,
            buffer,
            slot: Arc::default(),
            flight: Arc::clone(flight),
        })
    }

    /// Gives the operation to the kernel with `start`. On success it is in
    /// flight and its result will be in the slot; on failure it is over.
    pub(super) fn start(
        self: Box<Self>,
        start: impl FnOnce(&Parts) -> NTSTATUS,
    ) -> Result<Arc<Slot>, Failure> {
        let slot = Arc::clone(&self.slot);
        let flight = Arc::clone(&self.flight);
        let len = |v: &Vec<u8>| u32::try_from(v.len()).unwrap_or(u32::MAX);
        let raw = Box::into_raw(self);
        // SAFETY: `raw` came from a Box just now, so it is valid and nobody
        // else has it; the reference ends before the kernel sees the operation.
        let this = unsafe { &mut *raw };
        this.overlapped.Internal = weir_abi::status::PENDING as usize;
        let parts = Parts {
            overlapped: raw.cast(),
            input: this.input.as_ptr(),
            input_len: len(&this.input),
            buffer: this.buffer.as_mut_ptr(),
            buffer_len: len(&this.buffer),
        };
        flight.take_off();
        let status = start(&parts);
        if weir_abi::status::is_error(status) {
            // SAFETY: an NT_ERROR status means that no completion packet comes
            // (MSDN "I/O Completion Ports"; warnings and informational statuses
            // queue one), so the kernel is done with it and it is ours again.
            let over = unsafe { Box::from_raw(raw) };
            over.flight.land();
            return Err(failure(status));
        }
        Ok(slot)
    }

    /// Takes an operation back from its completion packet and files the result.
    ///
    /// # Safety
    /// `overlapped` is from a packet of the port, of an operation that
    /// [`Operation::start`] gave to the kernel, and no other packet has it.
    pub(super) unsafe fn finish(overlapped: *mut OVERLAPPED) {
        // SAFETY: by the contract above this is the pointer `start` made with
        // Box::into_raw (OVERLAPPED is the first field of a repr(C) struct),
        // and its one completion gives the ownership back once.
        let op = unsafe { Box::from_raw(overlapped.cast::<Operation>()) };
        let Operation {
            overlapped,
            buffer,
            slot,
            flight,
            ..
        } = *op;
        // Internal holds the NTSTATUS, 32 bits in a pointer's width.
        let status = overlapped.Internal as u32 as NTSTATUS;
        let result = if NtStatus(status).is_success() {
            Ok(overlapped.InternalHigh.min(buffer.len()))
        } else {
            Err(failure(status))
        };
        slot.put(Completion { result, buffer });
        flight.land();
    }
}

/// A read or a write in flight.
pub(super) struct PendingIo(pub(super) Arc<Slot>);

impl Pending for PendingIo {
    fn wait(&mut self, timeout: Option<Duration>) -> Option<Completion> {
        self.0.wait(timeout)
    }
}
