//! What the driver keeps for each open handle: its role.
//!
//! A handle starts as control. One IOCTL gives it a role, once; from then on its
//! reads belong to that role. The role is an atomic state machine, because two
//! threads may ask for a role on the same handle at once, and a third may close
//! it meanwhile:
//!
//! ```text
//! CONTROL -> CHANGING -> CAPTURE -> CLOSED
//!    ^----------'  (opening the role failed)
//! ```
//!
//! `CLOSED` is reached from every state, by the handle's clean-up. Who changes
//! to `CAPTURE` too late finds `CLOSED` there and undoes what it opened.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::capture::Ticket;
use crate::error::Error;
use crate::kernel::wdf::{self, ContextType, Request, WDFFILEOBJECT};

const CONTROL: u32 = 0;
const CHANGING: u32 = 1;
const CAPTURE: u32 = 2;
const CLOSED: u32 = 3;

/// The context of a file object. The framework makes it of zeroes, which is a
/// control handle.
#[repr(C)]
pub(crate) struct Handle {
    role: AtomicU32,
    /// In and after the capture role: [`Ticket::pack`].
    ticket: AtomicU64,
}

/// How the framework knows this type.
pub(crate) static HANDLE_TYPE: ContextType =
    ContextType::new::<Handle>(c"WeirHandle", &raw const HANDLE_TYPE);

/// Handles that are open.
static OPEN: AtomicU32 = AtomicU32::new(0);

/// How many handles are open.
pub(crate) fn count() -> u32 {
    OPEN.load(Ordering::Relaxed)
}

/// Counts one more handle.
pub(crate) fn opened() {
    OPEN.fetch_add(1, Ordering::Relaxed);
}

/// Counts one handle less.
pub(crate) fn closed() {
    OPEN.fetch_sub(1, Ordering::Relaxed);
}

/// The handle a request came through. `None` if the request has no file object,
/// which nothing from user mode lacks.
pub(crate) fn of_request(request: &Request) -> Option<&Handle> {
    let handle = of_file(request.file())?;
    // SAFETY: the file object and its context live until every request of it
    // has been completed, so longer than the borrow of this one.
    Some(unsafe { &*handle })
}

/// The context of a file object of the control device.
pub(crate) fn of_file(file: WDFFILEOBJECT) -> Option<*const Handle> {
    if file.is_null() {
        return None;
    }
    let context = wdf::file_context::<Handle>(file, &HANDLE_TYPE);
    (!context.is_null()).then_some(context.cast_const())
}

impl Handle {
    /// Takes the right to give this handle a role.
    pub(crate) fn begin_role(&self) -> Result<(), Error> {
        match self.change(CONTROL, CHANGING) {
            Ok(()) => Ok(()),
            Err(CLOSED) => Err(Error::Closing),
            Err(_) => Err(Error::WrongRole),
        }
    }

    /// Gives the right back: the role could not be opened.
    pub(crate) fn abandon_role(&self) {
        // CLOSED meanwhile stays CLOSED.
        let _ = self.change(CHANGING, CONTROL);
    }

    /// Gives the capture role. False if the handle was closed meanwhile: then
    /// the caller closes the reader.
    #[must_use]
    pub(crate) fn give_capture(&self, ticket: Ticket) -> bool {
        self.ticket.store(ticket.pack(), Ordering::Relaxed);
        self.change(CHANGING, CAPTURE).is_ok()
    }

    /// The reader of a handle in the capture role.
    pub(crate) fn reader(&self) -> Result<Ticket, Error> {
        match self.role.load(Ordering::Acquire) {
            CAPTURE => Ok(self.ticket()),
            CLOSED => Err(Error::Closing),
            _ => Err(Error::WrongRole),
        }
    }

    /// The reader the handle has or had; for a request that reader accepted.
    pub(crate) fn ticket(&self) -> Ticket {
        Ticket::unpack(self.ticket.load(Ordering::Relaxed))
    }

    /// Ends the handle's role for good; the reader to close, if it had one.
    pub(crate) fn close(&self) -> Option<Ticket> {
        (self.role.swap(CLOSED, Ordering::AcqRel) == CAPTURE).then(|| self.ticket())
    }

    fn change(&self, from: u32, to: u32) -> Result<(), u32> {
        self.role
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .map(|_| ())
    }
}
