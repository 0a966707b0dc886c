//! One operation, owned by the kernel while it is in flight.

use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use windows_sys::Win32::Foundation::{NTSTATUS, RtlNtStatusToDosError};
use windows_sys::Win32::System::IO::OVERLAPPED;

use super::handle::Shared;
use crate::channel::{Completion, Pending};
use crate::error::{Failure, NtStatus};
use crate::lock::lock;
use crate::slot::Slot;

/// The failure Windows reports as `status`.
pub(super) fn failure(status: NTSTATUS) -> Failure {
    Failure {
        status: NtStatus(status),
        // SAFETY: takes any NTSTATUS by value and touches no memory of ours.
        win32: unsafe { RtlNtStatusToDosError(status) },
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

/// What an operation shares with who waits for it.
#[derive(Default)]
pub(super) struct Ticket {
    slot: Slot,
    /// The operation's address while the kernel may still know it by that.
    /// [`Operation::finish`] clears it before the memory can be anything else,
    /// so who holds the lock and finds an address can cancel by it.
    address: Mutex<Option<Address>>,
}

/// The address of an `OVERLAPPED`, to be compared and never followed.
#[derive(Clone, Copy)]
struct Address(usize);

/// An operation. `overlapped` comes first, so its address is the operation's.
#[repr(C)]
pub(super) struct Operation {
    overlapped: OVERLAPPED,
    input: Vec<u8>,
    buffer: Vec<u8>,
    ticket: Arc<Ticket>,
    // Keeps the handle open until the operation has ended.
    handle: Arc<Shared>,
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
    /// An operation with these buffers, on this handle.
    pub(super) fn new(input: Vec<u8>, buffer: Vec<u8>, handle: &Arc<Shared>) -> Box<Self> {
        Box::new(Operation {
            overlapped: OVERLAPPED::default(),
            input,
            buffer,
            ticket: Arc::default(),
            handle: Arc::clone(handle),
        })
    }

    /// Gives the operation to the kernel with `start`. On success it is in
    /// flight and its result will be in the slot; on failure it is over.
    pub(super) fn start(
        self: Box<Self>,
        start: impl FnOnce(&Shared, &Parts) -> NTSTATUS,
    ) -> Result<PendingIo, Failure> {
        let ticket = Arc::clone(&self.ticket);
        let handle = Arc::clone(&self.handle);
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
        *lock(&ticket.address) = Some(Address(parts.overlapped.addr()));
        handle.flight.take_off();
        let status = start(&handle, &parts);
        if weir_abi::status::is_error(status) {
            // SAFETY: an NT_ERROR status means that no completion packet comes
            // (MSDN "I/O Completion Ports"; warnings and informational statuses
            // queue one), so the kernel is done with it and it is ours again.
            let over = unsafe { Box::from_raw(raw) };
            drop(over);
            handle.flight.land();
            return Err(failure(status));
        }
        let handle = Arc::downgrade(&handle);
        Ok(PendingIo { ticket, handle })
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
        // Whoever cancels by this address holds the lock meanwhile, and the
        // memory isn't free yet.
        *lock(&op.ticket.address) = None;
        let Operation {
            overlapped,
            buffer,
            ticket,
            handle,
            ..
        } = *op;
        // Internal holds the NTSTATUS, 32 bits in a pointer's width.
        let status = overlapped.Internal as u32 as NTSTATUS;
        let result = if NtStatus(status).is_success() {
            Ok(overlapped.InternalHigh.min(buffer.len()))
        } else {
            Err(failure(status))
        };
        let flight = Arc::clone(&handle.flight);
        // First the handle, so that it is closed by the time its last owner's
        // last result is seen; the landing after the result, so that the results
        // are there when nothing is in flight, and before a task is woken, which
        // may run here and drop a handle that waits for the landing.
        drop(handle);
        let completion = Completion { result, buffer };
        ticket.slot.put(completion, || flight.land());
    }
}

/// An operation in flight.
pub(super) struct PendingIo {
    ticket: Arc<Ticket>,
    // Gone when the handle is: then there is nothing to cancel.
    handle: Weak<Shared>,
}

impl Pending for PendingIo {
    fn wait(&mut self, timeout: Option<Duration>) -> Option<Completion> {
        self.ticket.slot.wait(timeout)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Completion> {
        self.ticket.slot.poll(cx)
    }

    fn cancel(&self) {
        let Some(handle) = self.handle.upgrade() else {
            return;
        };
        let address = lock(&self.ticket.address);
        if let Some(Address(at)) = *address {
            handle.cancel_one(std::ptr::without_provenance(at));
        }
    }
}
