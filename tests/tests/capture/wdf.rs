//! What the files under test use of KMDF: requests, their cancellation, and the
//! context of a file object. As strict as the framework with its verifier on.

use std::ffi::CStr;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::status::{NtStatus, Result};
use crate::handle::Handle;
use crate::ntoskrnl;

#[expect(clippy::upper_case_acronyms, reason = "the framework's name")]
pub(crate) type WDFREQUEST = *const UserCall;
#[expect(clippy::upper_case_acronyms, reason = "the framework's name")]
pub(crate) type WDFFILEOBJECT = *const UserFile;
type Cancel = unsafe extern "C" fn(WDFREQUEST);

/// An open handle of user mode.
pub(crate) struct UserFile {
    pub(crate) handle: Handle,
}

impl UserFile {
    pub(crate) fn open() -> Self {
        // SAFETY: atomics, for which zeroes are good; so does the framework.
        let handle = unsafe { std::mem::zeroed() };
        UserFile { handle }
    }
}

/// What came of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) status: NtStatus,
    pub(crate) len: usize,
}

#[derive(Default)]
struct State {
    cancel: Option<Cancel>,
    cancel_requested: bool,
    outcome: Option<Outcome>,
    /// What the buffer held when the read was completed.
    bytes: Vec<u8>,
}

/// One ReadFile or DeviceIoControl of user mode.
pub(crate) struct UserCall {
    file: WDFFILEOBJECT,
    memory: *mut u8,
    allocated: usize,
    input_len: usize,
    len: usize,
    state: Mutex<State>,
    done: Condvar,
}

// SAFETY: the memory belongs to this read; everything else is shared safely.
unsafe impl Send for UserCall {}
// SAFETY: as above.
unsafe impl Sync for UserCall {}

/// What memory holds before anything is written to it, and after the read has
/// been completed.
const NOT_WRITTEN: u8 = 0xAA;
const NOT_YOURS: u8 = 0xDD;

impl UserCall {
    /// A read of `len` bytes.
    pub(crate) fn new(file: &UserFile, len: usize) -> &'static Self {
        Self::make(file, &[], len)
    }

    /// An IOCTL with `METHOD_BUFFERED`: request and reply share their memory.
    pub(crate) fn ioctl(file: &UserFile, input: &[u8], output_len: usize) -> &'static Self {
        Self::make(file, input, output_len)
    }

    /// A write of these bytes.
    pub(crate) fn write(file: &UserFile, bytes: &[u8]) -> &'static Self {
        Self::make(file, bytes, bytes.len())
    }

    /// Lives as long as the test: a driver that uses it too late must find it.
    fn make(file: &UserFile, input: &[u8], len: usize) -> &'static Self {
        let mut memory = vec![NOT_WRITTEN; len.max(input.len())];
        memory[..input.len()].copy_from_slice(input);
        Box::leak(Box::new(UserCall {
            file,
            allocated: memory.len(),
            memory: Box::leak(memory.into_boxed_slice()).as_mut_ptr(),
            input_len: input.len(),
            len,
            state: Mutex::default(),
            done: Condvar::new(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn request(&'static self) -> Request {
        Request(self)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// CancelIoEx.
    pub(crate) fn cancel(&'static self) {
        let callback = {
            let mut state = self.state();
            state.cancel_requested = true;
            state.cancel.take()
        };
        if let Some(callback) = callback {
            // A window for whoever races with it.
            std::thread::yield_now();
            // SAFETY: the callback given for this request, called once.
            ntoskrnl::at_dispatch(|| unsafe { callback(self) });
        }
    }

    /// The outcome and the bytes, if the read has been completed.
    pub(crate) fn completed(&self) -> Option<(Outcome, Vec<u8>)> {
        let state = self.state();
        state.outcome.map(|outcome| (outcome, state.bytes.clone()))
    }

    /// Waits for the completion.
    pub(crate) fn wait(&self) -> (Outcome, Vec<u8>) {
        let state = self.state();
        let (state, late) = self
            .done
            .wait_timeout_while(state, Duration::from_secs(30), |s| s.outcome.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        assert!(!late.timed_out(), "a read was never completed");
        (state.outcome.expect("completed"), state.bytes.clone())
    }

    /// Nothing was written after the completion.
    pub(crate) fn check_untouched(&self) {
        // SAFETY: leaked memory of this length; the driver is done with it.
        let memory = unsafe { std::slice::from_raw_parts(self.memory, self.allocated) };
        assert!(
            memory.iter().all(|b| *b == NOT_YOURS),
            "written after its completion"
        );
    }
}

/// The size of a context, to check against.
pub(crate) struct ContextType(usize);

impl ContextType {
    pub(crate) const fn new<T>(_name: &'static CStr, _own: *const ContextType) -> Self {
        Self(size_of::<T>())
    }
}

pub(crate) fn file_of(request: WDFREQUEST) -> WDFFILEOBJECT {
    // SAFETY: leaked, so alive.
    let read = unsafe { &*request };
    assert!(
        read.state().outcome.is_none(),
        "a completed request was used"
    );
    read.file
}

pub(crate) fn file_context<T>(file: WDFFILEOBJECT, kind: &'static ContextType) -> *mut T {
    assert_eq!(size_of::<T>(), kind.0, "a context of another type");
    file.cast_mut().cast()
}

#[must_use]
pub(crate) struct Request(&'static UserCall);

impl Request {
    pub(crate) fn raw(&self) -> WDFREQUEST {
        self.0
    }

    pub(crate) fn file(&self) -> WDFFILEOBJECT {
        file_of(self.0)
    }

    pub(crate) fn input(&self, minimum: usize) -> Result<(*const u8, usize)> {
        assert!(
            self.0.state().outcome.is_none(),
            "a completed request was used"
        );
        if self.0.input_len < minimum {
            return Err(NtStatus::BUFFER_TOO_SMALL);
        }
        Ok((self.0.memory, self.0.input_len))
    }

    pub(crate) fn output(&self, minimum: usize) -> Result<(*mut u8, usize)> {
        assert!(
            self.0.state().outcome.is_none(),
            "a completed request was used"
        );
        if self.0.len < minimum {
            return Err(NtStatus::BUFFER_TOO_SMALL);
        }
        Ok((self.0.memory, self.0.len))
    }

    pub(crate) fn mark_cancelable(&self, cancel: Option<Cancel>) -> Result<()> {
        let mut state = self.0.state();
        assert!(
            state.outcome.is_none() && state.cancel.is_none(),
            "marked twice"
        );
        if state.cancel_requested {
            return Err(NtStatus::CANCELLED);
        }
        state.cancel = cancel;
        Ok(())
    }

    pub(crate) fn unmark_cancelable(&self) -> Result<()> {
        let mut state = self.0.state();
        assert!(state.outcome.is_none(), "a completed request was used");
        state.cancel.take().map(|_| ()).ok_or(NtStatus::CANCELLED)
    }

    pub(crate) fn complete(self, status: NtStatus, information: usize) {
        assert_eq!(ntoskrnl::locks_held(), 0, "completed under a spin lock");
        let mut state = self.0.state();
        assert!(state.outcome.is_none(), "completed twice");
        assert!(state.cancel.is_none(), "completed while cancelable");
        assert!(information <= self.0.len, "more than the buffer");
        // SAFETY: leaked memory of this length; the driver has just given it up.
        let memory = unsafe { std::slice::from_raw_parts_mut(self.0.memory, self.0.allocated) };
        state.bytes = memory[..information].to_vec();
        memory.fill(NOT_YOURS);
        state.outcome = Some(Outcome {
            status,
            len: information,
        });
        drop(state);
        self.0.done.notify_all();
    }
}
