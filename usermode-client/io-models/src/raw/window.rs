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

/// A message: something happened to a socket.
const NETWORK: u32 = WM_APP;
/// A message: look for what other threads want.
const WAKE: u32 = WM_APP + 1;

const CLASS: PCWSTR = w!("weir-io-models");

/// What the pump is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// This happened, one thing at a time, to the socket of this number, or to one that had the number before.
    Network {
        /// The socket's number.
        socket: u64,
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
    /// wait.
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

    /// Has these network events of the socket posted as messages. The socket
    /// doesn't block from now on.
    pub(crate) fn watch(&self, socket: &impl AsRawSocket, events: u32) -> io::Result<()> {
        let events = events.cast_signed();
        // SAFETY: socket and window are borrowed; no pointer is passed.
        let done = unsafe { WSAAsyncSelect(number(socket), self.handle, NETWORK, events) };
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
            match message.message {
                // WSAGETSELECTEVENT is the low half of lParam, WSAGETSELECTERROR
                // its high half.
                NETWORK => {
                    let both = message.lParam as u32;
                    return Ok(Message::Network {
                        socket: message.wParam as u64,
                        event: Happened::new(both & 0xffff, (both >> 16).cast_signed()),
                    });
                }
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
