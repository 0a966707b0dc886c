//! What the driver keeps for each open handle: its role.
//!
//! A handle starts as control. One IOCTL gives it a role, once; from then on its
//! reads and writes belong to that role. The role is an atomic state machine,
//! because two threads may ask for a role on the same handle at once, and a third
//! may close it meanwhile:
//!
//! ```text
//!                      +-> CAPTURE --+
//! CONTROL -> CHANGING -+-> DIVERT  --+-> CLOSED
//!    ^----------'      +-> INJECT  --+
//!  (opening the role   +-> SOCKET  --+
//!   failed)
//! ```
//!
//! `CLOSED` is reached from every state, by the handle's clean-up. Who gives a
//! role too late finds `CLOSED` there and undoes what it opened.

use core::num::NonZeroU32;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use crate::capture::Ticket;
use crate::error::Error;
use crate::kernel::wdf::{self, ContextType, Request, WDFFILEOBJECT};
use crate::socket::Sock;

const CONTROL: u32 = 0;
const CHANGING: u32 = 1;
const CAPTURE: u32 = 2;
const DIVERT: u32 = 3;
const INJECT: u32 = 4;
const SOCKET: u32 = 5;
const CLOSED: u32 = 6;

/// The context of a file object. The framework makes it of zeroes, which is a
/// control handle.
#[repr(C)]
pub(crate) struct Handle {
    role: AtomicU32,
    /// In the inject role: the one adapter frames may go to; 0 for any.
    adapter: AtomicU32,
    /// In and after the capture or the divert role: [`Ticket::pack`].
    ticket: AtomicU64,
    /// In the inject role: frames that were written.
    written: AtomicU64,
    /// In the inject role: writes that were refused, or of which a part was.
    refused: AtomicU64,
    /// The process that opened it.
    owner: AtomicU32,
    /// In the role of a socket, or while one is being opened: which. It belongs to
    /// `socket`, which says when it may be followed.
    socket: AtomicPtr<Sock>,
}

/// A role, and what belongs to it.
#[derive(Clone, Copy)]
pub(crate) enum Role {
    /// The reader.
    Capture(Ticket),
    /// The reader, which gives frames back as well.
    Divert(Ticket),
    /// The one adapter frames may go to; `None` for any.
    Inject(Option<NonZeroU32>),
    /// The socket is the one the handle shows.
    Socket,
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

    /// Gives a control handle a role for good: opens what it stands for, and
    /// closes that again if the handle's clean-up ran meanwhile and found nothing.
    /// If it can't be opened, the handle is a control handle as before.
    pub(crate) fn assume<T: Copy>(
        &self,
        open: impl FnOnce() -> Result<T, Error>,
        role: impl FnOnce(T) -> Role,
        close: impl FnOnce(T),
    ) -> Result<T, Error> {
        self.begin_role()?;
        let opened = open().inspect_err(|_| self.abandon_role())?;
        if self.give(role(opened)) {
            return Ok(opened);
        }
        close(opened);
        Err(Error::Closing)
    }

    /// Gives a role. False if the handle was closed meanwhile: then the caller
    /// closes what belongs to the role.
    #[must_use]
    pub(crate) fn give(&self, role: Role) -> bool {
        let state = match role {
            Role::Capture(ticket) => {
                self.ticket.store(ticket.pack(), Ordering::Relaxed);
                CAPTURE
            }
            Role::Divert(ticket) => {
                self.ticket.store(ticket.pack(), Ordering::Relaxed);
                DIVERT
            }
            Role::Inject(adapter) => {
                let id = adapter.map_or(0, NonZeroU32::get);
                self.adapter.store(id, Ordering::Relaxed);
                INJECT
            }
            Role::Socket => SOCKET,
        };
        self.change(CHANGING, state).is_ok()
    }

    /// The handle's role.
    pub(crate) fn role(&self) -> Result<Role, Error> {
        let state = self.role.load(Ordering::Acquire);
        if state == CLOSED {
            return Err(Error::Closing);
        }
        self.of_state(state).ok_or(Error::WrongRole)
    }

    fn of_state(&self, state: u32) -> Option<Role> {
        match state {
            CAPTURE => Some(Role::Capture(self.ticket())),
            DIVERT => Some(Role::Divert(self.ticket())),
            INJECT => {
                let id = self.adapter.load(Ordering::Relaxed);
                Some(Role::Inject(NonZeroU32::new(id)))
            }
            SOCKET => Some(Role::Socket),
            _ => None,
        }
    }

    /// The reader of a handle in the capture or the divert role.
    pub(crate) fn reader(&self) -> Result<Ticket, Error> {
        match self.role()? {
            Role::Capture(ticket) | Role::Divert(ticket) => Ok(ticket),
            Role::Inject(_) | Role::Socket => Err(Error::WrongRole),
        }
    }

    /// Whether the handle is in the role of a socket.
    pub(crate) fn require_socket(&self) -> Result<(), Error> {
        match self.role()? {
            Role::Socket => Ok(()),
            _ => Err(Error::WrongRole),
        }
    }

    /// What the handle shows of a socket.
    pub(crate) fn socket(&self) -> &AtomicPtr<Sock> {
        &self.socket
    }

    /// Notes which process opened the handle.
    pub(crate) fn set_owner(&self, process: u32) {
        self.owner.store(process, Ordering::Relaxed);
    }

    /// The process that opened the handle.
    pub(crate) fn owner(&self) -> u32 {
        self.owner.load(Ordering::Relaxed)
    }

    /// The reader the handle has or had; for a request that reader accepted.
    pub(crate) fn ticket(&self) -> Ticket {
        Ticket::unpack(self.ticket.load(Ordering::Relaxed))
    }

    /// Ends the handle's role for good; what it had, to be closed.
    pub(crate) fn close(&self) -> Option<Role> {
        self.of_state(self.role.swap(CLOSED, Ordering::AcqRel))
    }

    /// Counts a frame that was written in the inject role.
    pub(crate) fn count_written(&self) {
        self.written.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a write in the inject role that was refused, or partly so.
    pub(crate) fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Frames written, and writes refused.
    pub(crate) fn written(&self) -> (u64, u64) {
        (
            self.written.load(Ordering::Relaxed),
            self.refused.load(Ordering::Relaxed),
        )
    }

    fn change(&self, from: u32, to: u32) -> Result<(), u32> {
        self.role
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .map(|_| ())
    }
}
