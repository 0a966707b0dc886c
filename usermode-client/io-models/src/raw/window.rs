//! A window nobody sees, for the messages of `WSAAsyncSelect`.

use std::io;
use std::marker::PhantomData;
use std::os::windows::io::AsRawSocket;

use windows_sys::Win32::Foundation::HWND;
use windows_sys::Win32::Networking::WinSock::WSAAsyncSelect;
use windows_sys::Win32::System::LibraryLoader::GetModuleHandleW;
use windows_sys::Win32::UI::WindowsAndMessaging::{
    CreateWindowExW, DefWindowProcW, DestroyWindow, DispatchMessageW, GetMessageW, HWND_MESSAGE,
    MSG, PostMessageW, RegisterClassW, WM_APP, WNDCLASSW,
};
use windows_sys::core::PCWSTR;
use windows_sys::w;

use super::event::Happened;
use super::{last_error, number};

/// A message: look for what other threads want.
const WAKE: u32 = WM_APP;
/// The first of the messages that say what happened to a socket. A program's own
/// go up to 0xBFFF (MSDN "WM_APP").
const NETWORK: u32 = WM_APP + 1;
/// How many of those there are: one for each [`Name`].
pub(crate) const NAMES: u16 = (0xBFFF - NETWORK + 1) as u16;

/// Which of a window's sockets a message is about, below [`NAMES`]. A socket's
/// number will not do: it is given again as soon as the socket is closed, and
/// messages about the closed one may still be in the queue.
pub(crate) type Name = u16;

const CLASS: PCWSTR = w!("weir-io-models");

/// What the pump is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// This happened, one thing at a time, to the socket watched by this name. It
    /// may be closed by now.
    Network {
        /// Its name.
        name: Name,
        /// What happened.
        event: Happened,
    },
    /// Somebody called [`Waker::wake`].
    Wake,
}

/// A message-only window of the thread that made it.
pub(crate) struct Window {
    handle: HWND,
    // Messages go to the queue of the thread that made the window.
    _of_this_thread: PhantomData<*const ()>,
}

/// Wakes the pump from any thread.
#[derive(Clone, Copy)]
pub(crate) struct Waker(isize);

impl Waker {
    /// Posts a message to the window. If it is gone already, so is its thread's
    /// wait; if its queue is full, there is no wait to be ended.
    pub(crate) fn wake(self) {
        // SAFETY: no pointer is passed; a number that is no window is refused.
        unsafe { PostMessageW(self.0 as HWND, WAKE, 0, 0) };
    }
}

impl Window {
    /// A window on the queue of this thread.
    pub(crate) fn new() -> io::Result<Window> {
        // SAFETY: no name asks for this program's own module.
        let module = unsafe { GetModuleHandleW(std::ptr::null()) };
        let class = WNDCLASSW {
            lpfnWndProc: Some(DefWindowProcW),
            hInstance: module,
            lpszClassName: CLASS,
            ..WNDCLASSW::default()
        };
        // Fails for every window but the first: the class is there then. Should
        // it not be, making the window fails.
        // SAFETY: `class` is whole: a procedure, a module and a static name.
        unsafe { RegisterClassW(&class) };
        // SAFETY: the class's name is static, and no other pointer is passed.
        let handle = unsafe {
            CreateWindowExW(
                0,
                CLASS,
                CLASS,
                0,
                0,
                0,
                0,
                0,
                HWND_MESSAGE,
                std::ptr::null_mut(),
                module,
                std::ptr::null(),
            )
        };
        if handle.is_null() {
            return Err(io::Error::last_os_error());
        }
        Ok(Window {
            handle,
            _of_this_thread: PhantomData,
        })
    }

    /// What wakes its pump.
    pub(crate) fn waker(&self) -> Waker {
        Waker(self.handle as isize)
    }

    /// Has these network events of the socket posted as messages with this name.
    /// The socket doesn't block from now on.
    pub(crate) fn watch(
        &self,
        socket: &impl AsRawSocket,
        name: Name,
        events: u32,
    ) -> io::Result<()> {
        let events = events.cast_signed();
        let message = NETWORK + u32::from(name % NAMES);
        // SAFETY: socket and window are borrowed; no pointer is passed.
        let done = unsafe { WSAAsyncSelect(number(socket), self.handle, message, events) };
        if done == 0 { Ok(()) } else { Err(last_error()) }
    }

    /// The pump: waits for the next message that is for us. The system's own go
    /// to the window procedure, as every pump has to see to.
    pub(crate) fn next(&self) -> io::Result<Message> {
        loop {
            let mut message = MSG::default();
            // SAFETY: `message` is ours through the call.
            let got = unsafe { GetMessageW(&mut message, std::ptr::null_mut(), 0, 0) };
            if got < 0 {
                return Err(io::Error::last_os_error());
            }
            let name = message.message.checked_sub(NETWORK);
            let name = name.and_then(|name| Name::try_from(name).ok());
            if let Some(name) = name.filter(|name| *name < NAMES) {
                // WSAGETSELECTEVENT is the low half of lParam, WSAGETSELECTERROR
                // its high half. wParam is the socket, see `Name`.
                let both = message.lParam as u32;
                return Ok(Message::Network {
                    name,
                    event: Happened::new(both & 0xffff, (both >> 16).cast_signed()),
                });
            }
            match message.message {
                // Nobody posts WM_QUIT to us; if somebody does, look.
                WAKE => return Ok(Message::Wake),
                _ if got == 0 => return Ok(Message::Wake),
                _ => {
                    // SAFETY: a message as GetMessageW gave it.
                    unsafe { DispatchMessageW(&message) };
                }
            }
        }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: our window, on the thread that made it: Window is not Send.
        unsafe { DestroyWindow(self.handle) };
    }
}
