//! Events, and sockets that set them.

use std::io;
use std::os::windows::io::{AsRawHandle, AsRawSocket, FromRawHandle, OwnedHandle};
use std::sync::Arc;
use std::time::Duration;

use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::Networking::WinSock::{
    FD_CLOSE_BIT, WSA_MAXIMUM_WAIT_EVENTS, WSA_WAIT_FAILED, WSA_WAIT_IO_COMPLETION,
    WSA_WAIT_TIMEOUT, WSAEVENT, WSAEnumNetworkEvents, WSAEventSelect, WSANETWORKEVENTS,
    WSAResetEvent, WSASetEvent, WSAWaitForMultipleEvents,
};
use windows_sys::Win32::System::Threading::{CreateEventW, INFINITE};

pub(crate) use windows_sys::Win32::Networking::WinSock::{FD_ACCEPT, FD_CLOSE, FD_READ, FD_WRITE};

use super::{last_error, number};

/// Events one thread can wait for at once.
pub(crate) const MOST_EVENTS: usize = WSA_MAXIMUM_WAIT_EVENTS as usize;

/// An event that stays set until it is reset.
#[derive(Debug)]
pub(crate) struct Event(OwnedHandle);

impl Event {
    /// One that is not set. `WSACreateEvent` makes the same kind.
    pub(crate) fn new() -> io::Result<Event> {
        // SAFETY: no descriptor and no name: no pointer is passed.
        let raw = unsafe { CreateEventW(std::ptr::null(), 1, 0, std::ptr::null()) };
        if raw.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call above succeeded, so this handle is open, and nobody
        // else closes it.
        Ok(Event(unsafe { OwnedHandle::from_raw_handle(raw) }))
    }

    /// Sets it. That an event of ours can't be set doesn't happen.
    pub(crate) fn set(&self) {
        // SAFETY: the handle is open: it is ours.
        unsafe { WSASetEvent(self.raw()) };
    }

    /// Resets it.
    pub(crate) fn reset(&self) {
        // SAFETY: the handle is open: it is ours.
        unsafe { WSAResetEvent(self.raw()) };
    }

    pub(super) fn handle(&self) -> HANDLE {
        self.0.as_raw_handle()
    }

    fn raw(&self) -> WSAEVENT {
        self.handle() as WSAEVENT
    }
}

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// The event at this place is set, none before it was.
    Event(usize),
    /// Completion routines were called.
    Routine,
    /// None is set.
    None,
}

/// How long a wait may last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// Until an event is set.
    Event,
    /// Until an event is set or a completion routine of this thread was called.
    EventOrRoutine,
    /// The same, but no longer than this.
    EventOrRoutineFor(Duration),
    /// Not at all: is one set?
    Now,
}

/// Waits for events. Of several that are set it names the first.
pub(crate) fn wait(events: &[Arc<Event>], until: Until) -> io::Result<Woken> {
    let mut handles = [std::ptr::null_mut(); MOST_EVENTS];
    let Some(slots) = handles.get_mut(..events.len()) else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a thread can wait for 64 events at once",
        ));
    };
    for (slot, event) in slots.iter_mut().zip(events) {
        *slot = event.handle();
    }
    let count = u32::try_from(events.len()).unwrap_or(0);
    let (timeout, alertable) = match until {
        Until::Event => (INFINITE, false),
        Until::EventOrRoutine => (INFINITE, true),
        Until::EventOrRoutineFor(time) => {
            // Never INFINITE, which is u32::MAX.
            let most = time.as_millis().min(u128::from(INFINITE - 1));
            (u32::try_from(most).unwrap_or(INFINITE - 1), true)
        }
        Until::Now => (0, false),
    };
    let alertable = i32::from(alertable);
    // SAFETY: `handles` has at least `count` handles, which stay open through the
    // call because their events are borrowed.
    let woken = unsafe { WSAWaitForMultipleEvents(count, handles.as_ptr(), 0, timeout, alertable) };
    match woken {
        WSA_WAIT_FAILED => Err(last_error()),
        WSA_WAIT_TIMEOUT => Ok(Woken::None),
        woken if woken == WSA_WAIT_IO_COMPLETION.cast_unsigned() => Ok(Woken::Routine),
        at => Ok(Woken::Event(at as usize)),
    }
}

/// Has `event` set on these network events of the socket, which doesn't block
/// from now on.
pub(crate) fn watch(socket: &impl AsRawSocket, event: &Event, events: u32) -> io::Result<()> {
    let events = events.cast_signed();
    // SAFETY: the socket is borrowed, the event too; no pointer is passed. The
    // socket keeps its own reference to the event.
    let done = unsafe { WSAEventSelect(number(socket), event.raw(), events) };
    if done == 0 { Ok(()) } else { Err(last_error()) }
}

/// What happened to a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Happened {
    events: u32,
    /// What `FD_CLOSE` came with: 0, or why the connection is gone.
    close_error: i32,
}

impl Happened {
    /// Of `events`, the closing with this error.
    pub(super) fn new(events: u32, close_error: i32) -> Happened {
        Happened {
            events,
            close_error,
        }
    }

    /// Whether any of these did.
    pub(crate) fn any(self, events: u32) -> bool {
        self.events & events != 0
    }

    /// Whether the peer closed; if so, with which error, if with one.
    pub(crate) fn closed(self) -> Option<Option<io::Error>> {
        let error = io::Error::from_raw_os_error(self.close_error);
        self.any(FD_CLOSE)
            .then(|| Some(error).filter(|_| self.close_error != 0))
    }
}

/// What happened to a socket since this was last asked; resets the event in the
/// same step, so that nothing which happens in between is lost.
pub(crate) fn happened(socket: &impl AsRawSocket, event: &Event) -> io::Result<Happened> {
    let mut events = WSANETWORKEVENTS::default();
    // SAFETY: socket and event are borrowed, `events` is ours through the call.
    let done = unsafe { WSAEnumNetworkEvents(number(socket), event.raw(), &mut events) };
    if done == 0 {
        let close_error = events.iErrorCode.get(FD_CLOSE_BIT as usize);
        Ok(Happened::new(
            events.lNetworkEvents.cast_unsigned(),
            close_error.copied().unwrap_or(0),
        ))
    } else {
        Err(last_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_65th_event_is_refused() {
        let made = || Arc::new(Event::new().expect("made"));
        let mut events: Vec<_> = (0..MOST_EVENTS).map(|_| made()).collect();
        assert_eq!(wait(&events, Until::Now).expect("waits"), Woken::None);
        events[MOST_EVENTS - 1].set();
        let last = Woken::Event(MOST_EVENTS - 1);
        assert_eq!(wait(&events, Until::Event).expect("waits"), last);
        events.push(made());
        let error = wait(&events, Until::Event).expect_err("too many");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
