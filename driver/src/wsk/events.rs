//! The events of a connection: data that come without a receive having been made,
//! and the end of the peer.
//!
//! # What a receive event may do with its data
//! It is given an [`Indication`], a list of buffers of the transport's own, and
//! answers in one of three ways (MSDN "PFN_WSK_RECEIVE_EVENT"):
//!
//! | answer | status | then |
//! |---|---|---|
//! | [`Indication::accept`] | `STATUS_SUCCESS` | all of it is dealt with, the list is the provider's again |
//! | [`Indication::retain`] | `STATUS_PENDING` | the list is ours, as a [`Retained`], until [`Stream::release`](super::Stream::release); the event comes again when more comes |
//! | [`Indication::refuse`] | `STATUS_DATA_NOT_ACCEPTED` | the transport holds the data; the event doesn't come again before a receive has been made |
//!
//! An indication that is marked [hasty](Indication::is_hasty) should not be
//! retained: its memory is short.
//!
//! # What holds for retained data
//! A list is released once, whole, and before its socket is closed: closing
//! releases nothing (MSDN "WskRelease"). It may be released before the event that
//! retained it has returned, as nobody can know when that is. As long as it is
//! retained its buffers may be given to sends as they are.
//!
//! # Beside receives
//! A pending receive takes precedence, but an event may come all the same. Whoever
//! uses both has to refuse in the event while a receive is pending, or loses the
//! order of the data.

use core::ffi::c_void;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ptr::{self, NonNull};

use super::buf::Span;
use super::sys;
use crate::kernel::log;
use crate::kernel::status::NtStatus;

/// Who hears of the events of a connection. Called at `IRQL <= DISPATCH_LEVEL`;
/// must not wait. After the connection has been closed, no call is in progress.
pub(crate) trait Hear {
    /// Data have come.
    fn data(&self, data: Indication) -> Answer;

    /// The peer has shut its side down, or (`abortive`) has reset the connection:
    /// no more data come than those there are.
    fn disconnected(&self, abortive: bool);

    /// The socket doesn't work any more and is to be closed soon.
    fn failed(&self);
}

/// What a socket is given to tell somebody of its events.
#[derive(Clone, Copy)]
pub(crate) struct Ear {
    pub(super) context: *mut c_void,
    /// Null, or a `WSK_CLIENT_CONNECTION_DISPATCH` that fits the context.
    pub(super) dispatch: *const c_void,
}

impl Ear {
    /// Nobody's.
    pub(crate) const NONE: Self = Self {
        context: ptr::null_mut(),
        dispatch: ptr::null(),
    };

    /// That of `handler`.
    ///
    /// # Safety
    /// It stays good until the socket has been closed whose ear this is to be.
    pub(crate) unsafe fn of<H: Hear>(handler: *const H) -> Self {
        Self {
            context: handler.cast_mut().cast::<c_void>(),
            dispatch: ptr::from_ref(&Events::<H>::TABLE).cast::<c_void>(),
        }
    }
}

/// Data that have come, to be answered for before the event returns.
pub(crate) struct Indication {
    list: NonNull<sys::WskDataIndication>,
    length: usize,
    flags: u32,
}

/// What became of an [`Indication`].
pub(crate) struct Answer(NtStatus);

impl Indication {
    /// Its bytes.
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Whether it should not be retained: `WSK_FLAG_RELEASE_ASAP`.
    pub(crate) fn is_hasty(&self) -> bool {
        self.flags & sys::WSK_FLAG_RELEASE_ASAP != 0
    }

    /// All of it is dealt with.
    pub(crate) fn accept(self) -> Answer {
        Answer(NtStatus::SUCCESS)
    }

    /// None of it is: a receive will get it.
    pub(crate) fn refuse(self) -> Answer {
        Answer(NtStatus::DATA_NOT_ACCEPTED)
    }

    /// It is kept, to be released later.
    pub(crate) fn retain(self) -> (Retained, Answer) {
        let retained = Retained {
            list: self.list,
            next: self.list.as_ptr().cast_const(),
        };
        (retained, Answer(NtStatus::PENDING))
    }
}

/// Data of a connection that are kept where the transport has put them.
pub(crate) struct Retained {
    list: NonNull<sys::WskDataIndication>,
    /// The first of its elements that hasn't been passed over; null after the last.
    next: *const sys::WskDataIndication,
}

// SAFETY: a list that is retained may be read and released from anywhere, and
// nobody changes it.
unsafe impl Send for Retained {}

impl Retained {
    /// The parts that are left, in order: each can be given to a send, as long as
    /// this isn't released before that has ended.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Span> + '_ {
        let mut next = self.next;
        core::iter::from_fn(move || {
            // SAFETY: of the list, which is retained.
            let element = unsafe { with_bytes(next) }?;
            next = element.next;
            Span::of_provider(&element.buffer)
        })
    }

    /// Passes over so many parts.
    pub(crate) fn advance(&mut self, parts: usize) {
        for _ in 0..parts {
            // SAFETY: as in parts.
            let Some(element) = (unsafe { with_bytes(self.next) }) else {
                return;
            };
            self.next = element.next;
        }
    }

    /// What is to be released now.
    pub(super) fn into_list(self) -> NonNull<sys::WskDataIndication> {
        ManuallyDrop::new(self).list
    }
}

/// The first element from `at` on that has bytes: one without may stand for no
/// memory (MSDN "WSK_BUF").
///
/// # Safety
/// Null, or an element of a list that stays as it is for `'a`.
unsafe fn with_bytes<'a>(
    mut at: *const sys::WskDataIndication,
) -> Option<&'a sys::WskDataIndication> {
    loop {
        // SAFETY: null, or an element of the list (caller).
        let element = unsafe { at.as_ref() }?;
        if element.buffer.length > 0 {
            return Some(element);
        }
        at = element.next;
    }
}

impl Drop for Retained {
    fn drop(&mut self) {
        // Not reachable while the rules above are kept. It takes the socket to
        // release it, so all that can be done here is to say so.
        log::line(c"data were retained and never released");
    }
}

/// The client dispatch table of connections with a handler of type `H`.
struct Events<H>(PhantomData<H>);

impl<H: Hear> Events<H> {
    const TABLE: sys::WskClientConnectionDispatch = sys::WskClientConnectionDispatch {
        receive_event: Some(receive_event::<H>),
        disconnect_event: Some(disconnect_event::<H>),
        send_backlog_event: ptr::null(),
    };
}

/// `WskReceiveEvent`. Without a list it says that the socket doesn't work any more.
unsafe extern "system" fn receive_event<H: Hear>(
    socket_context: *mut c_void,
    flags: u32,
    list: *mut sys::WskDataIndication,
    bytes_indicated: usize,
    _bytes_accepted: *mut usize,
) -> i32 {
    // SAFETY: the context is the handler of the socket's ear, good until the socket
    // is closed, which waits for this call.
    let handler = unsafe { &*socket_context.cast::<H>() };
    let Some(list) = NonNull::new(list) else {
        handler.failed();
        return NtStatus::SUCCESS.0;
    };
    // All or nothing is accepted, so the number that is is never to be said.
    let Answer(status) = handler.data(Indication {
        list,
        length: bytes_indicated,
        flags,
    });
    status.0
}

/// `WskDisconnectEvent`.
unsafe extern "system" fn disconnect_event<H: Hear>(
    socket_context: *mut c_void,
    flags: u32,
) -> i32 {
    // SAFETY: as in receive_event.
    let handler = unsafe { &*socket_context.cast::<H>() };
    handler.disconnected(flags & sys::WSK_FLAG_ABORTIVE != 0);
    NtStatus::SUCCESS.0
}
