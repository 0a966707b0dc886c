//! The completion port and the threads that serve it.

use std::cell::Cell;
use std::io;
use std::num::NonZeroUsize;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::sync::Arc;
use std::thread::JoinHandle;

use windows_sys::Win32::Foundation::INVALID_HANDLE_VALUE;
use windows_sys::Win32::System::IO::{
    CreateIoCompletionPort, GetQueuedCompletionStatusEx, OVERLAPPED_ENTRY,
    PostQueuedCompletionStatus,
};

use super::op::Operation;

/// Key of the packets of device handles.
const KEY_DEVICE: usize = 0;
/// Key of the packet that ends a worker.
const KEY_STOP: usize = 1;
/// No time limit (MSDN "GetQueuedCompletionStatusEx function").
const INFINITE: u32 = u32::MAX;
/// Packets taken at once. Few, where several workers share them.
const BATCH: usize = 16;

thread_local! {
    /// Whether this thread is a worker of some port.
    static WORKER: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is a worker, which may not wait for a completion: it may
/// be the one to take it.
pub(super) fn on_worker() -> bool {
    WORKER.get()
}

/// A completion port with its workers. Dropped when no handle uses it any more.
pub(super) struct Port {
    handle: Arc<OwnedHandle>,
    workers: Vec<JoinHandle<()>>,
}

impl Port {
    /// A port with nothing on it, served by so many workers.
    pub(super) fn new(workers: NonZeroUsize) -> io::Result<Port> {
        let threads = u32::try_from(workers.get()).unwrap_or(u32::MAX);
        // SAFETY: INVALID_HANDLE_VALUE and no existing port ask for a new
        // port; no pointer is passed.
        let raw = unsafe {
            CreateIoCompletionPort(
                INVALID_HANDLE_VALUE,
                std::ptr::null_mut(),
                KEY_DEVICE,
                threads,
            )
        };
        if raw.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call above succeeded, so this is a handle that is open
        // and that nobody else closes.
        let handle = Arc::new(unsafe { OwnedHandle::from_raw_handle(raw) });
        let mut port = Port {
            handle,
            workers: Vec::new(),
        };
        for _ in 0..workers.get() {
            let served = Arc::clone(&port.handle);
            let worker = std::thread::Builder::new()
                .name("weir-completions".to_owned())
                .spawn(move || serve(&served))?;
            port.workers.push(worker);
        }
        Ok(port)
    }

    /// Makes the completions of `device` come to this port.
    pub(super) fn associate(&self, device: &OwnedHandle) -> io::Result<()> {
        // SAFETY: both handles are open: they are borrowed from their owners.
        let port = unsafe {
            CreateIoCompletionPort(
                device.as_raw_handle(),
                self.handle.as_raw_handle(),
                KEY_DEVICE,
                0,
            )
        };
        if port.is_null() {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

/// Tells one worker to end, whichever takes it; whether that went.
fn post_stop(port: &OwnedHandle) -> bool {
    // SAFETY: the port is open, and this key's packets carry no pointer.
    let posted =
        unsafe { PostQueuedCompletionStatus(port.as_raw_handle(), 0, KEY_STOP, std::ptr::null()) };
    if posted == 0 {
        tracing::error!(error = %io::Error::last_os_error(), "a completion worker stays");
    }
    posted != 0
}

impl Drop for Port {
    fn drop(&mut self) {
        if !self.workers.iter().all(|_| post_stop(&self.handle)) {
            // The workers keep their own reference to the port and sleep on.
            return;
        }
        let here = std::thread::current().id();
        for worker in self.workers.drain(..) {
            // A worker that closed the last handle can't wait for itself; it
            // ends after this.
            if worker.thread().id() != here {
                // It can't have panicked: it would have ended the process.
                let _ = worker.join();
            }
        }
    }
}

/// Takes packets off the port until told to stop.
fn serve(port: &OwnedHandle) {
    WORKER.set(true);
    let mut entries = [OVERLAPPED_ENTRY::default(); BATCH];
    loop {
        let mut count = 0;
        // SAFETY: `entries` has room for BATCH packets and `count` for their
        // number, both live through the call; the port is open.
        let ok = unsafe {
            GetQueuedCompletionStatusEx(
                port.as_raw_handle(),
                entries.as_mut_ptr(),
                BATCH as u32,
                &mut count,
                INFINITE,
                0,
            )
        };
        if ok == 0 {
            // The port is ours and open, so this doesn't happen. If it does,
            // every wait for an operation would last for ever and the kernel
            // would write to memory nobody takes back: end the process.
            tracing::error!(error = %io::Error::last_os_error(), "the completion port failed");
            std::process::abort();
        }
        let mut stops = 0;
        for entry in entries.iter().take(count as usize) {
            if entry.lpCompletionKey == KEY_STOP {
                stops += 1;
                continue;
            }
            // SAFETY: handles are associated with this port only by
            // DeviceHandle, which starts I/O only through Operation::start, and
            // the kernel queues one packet for each operation.
            unsafe { Operation::finish(entry.lpOverlapped) };
        }
        if stops > 0 {
            // One packet ends one worker: what was taken for others goes back.
            for _ in 1..stops {
                post_stop(port);
            }
            return;
        }
    }
}
