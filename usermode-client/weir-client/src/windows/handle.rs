//! An open handle of the device.

use std::io;
use std::os::windows::io::{AsRawHandle, OwnedHandle};
use std::ptr::{null, null_mut};
use std::sync::Arc;

use windows_sys::Wdk::Storage::FileSystem::{NtReadFile, NtWriteFile};
use windows_sys::Wdk::System::IO::NtDeviceIoControlFile;
use windows_sys::Win32::System::IO::{CancelIoEx, IO_STATUS_BLOCK, OVERLAPPED};

use super::op::{Flight, Operation};
use super::port::{Port, on_worker};
use crate::channel::{Channel, Pending};
use crate::error::Failure;

// The first two words of an OVERLAPPED are the status block of its operation
// (MSDN "OVERLAPPED structure": Internal, InternalHigh).
const _: () = assert!(size_of::<IO_STATUS_BLOCK>() == 16);
const _: () = assert!(std::mem::offset_of!(OVERLAPPED, InternalHigh) == 8);

/// The handle and what its operations share. Closed when the last of its owner
/// and its operations lets go of it.
pub(super) struct Shared {
    handle: OwnedHandle,
    pub(super) flight: Arc<Flight>,
    // Keeps the port and its workers until this handle is closed.
    _port: Arc<Port>,
}

impl Shared {
    /// Asks for the end of the operation with this `OVERLAPPED`, which is only
    /// compared; of all of them if it is null.
    pub(super) fn cancel_one(&self, overlapped: *const OVERLAPPED) {
        // SAFETY: the handle is open; the address is not followed.
        let found = unsafe { CancelIoEx(self.handle.as_raw_handle(), overlapped) };
        tracing::trace!(found = found != 0, "cancel");
    }
}

/// A handle whose completions come to a port.
pub(super) struct DeviceHandle {
    shared: Arc<Shared>,
    /// Whether dropping it ends what is outstanding.
    ends_all: bool,
}

impl DeviceHandle {
    /// `handle`, opened for overlapped I/O, with its completions on `port`.
    pub(super) fn new(handle: OwnedHandle, port: Arc<Port>) -> io::Result<Self> {
        port.associate(&handle)?;
        Ok(DeviceHandle {
            shared: Arc::new(Shared {
                handle,
                flight: Arc::default(),
                _port: port,
            }),
            ends_all: true,
        })
    }
}

impl Channel for DeviceHandle {
    fn start_control(
        &self,
        code: u32,
        input: &[u8],
        room: usize,
    ) -> Result<Box<dyn Pending>, Failure> {
        let op = Operation::new(input.to_vec(), vec![0; room], &self.shared);
        let pending = op.start(|shared, parts| {
            // SAFETY: (1) the handle is open; (2) status block and buffers
            // belong to the operation, which lives until its completion;
            // (3) the lengths are those of the buffers; (4) no event and no
            // APC: the context makes a packet that names the operation.
            unsafe {
                NtDeviceIoControlFile(
                    shared.handle.as_raw_handle(),
                    null_mut(),
                    None,
                    parts.overlapped.cast(),
                    parts.overlapped.cast(),
                    code,
                    parts.input.cast(),
                    parts.input_len,
                    parts.buffer.cast(),
                    parts.buffer_len,
                )
            }
        })?;
        Ok(Box::new(pending))
    }

    fn read(&self, buffer: Vec<u8>) -> Result<Box<dyn Pending>, Failure> {
        let op = Operation::new(Vec::new(), buffer, &self.shared);
        // A handle for overlapped I/O wants an offset; a device ignores it.
        let offset = 0_i64;
        let pending = op.start(|shared, parts| {
            // SAFETY: (1) the handle is open; (2) status block and buffer
            // belong to the operation, which lives until its completion;
            // (3) the length is the buffer's; (4) the offset is read before
            // the call returns; (5) as above, a packet names the operation.
            unsafe {
                NtReadFile(
                    shared.handle.as_raw_handle(),
                    null_mut(),
                    None,
                    parts.overlapped.cast(),
                    parts.overlapped.cast(),
                    parts.buffer.cast(),
                    parts.buffer_len,
                    &offset,
                    null(),
                )
            }
        })?;
        Ok(Box::new(pending))
    }

    fn write(&self, buffer: Vec<u8>) -> Result<Box<dyn Pending>, Failure> {
        let op = Operation::new(Vec::new(), buffer, &self.shared);
        let offset = 0_i64;
        let pending = op.start(|shared, parts| {
            // SAFETY: as for a read; the kernel only reads the buffer.
            unsafe {
                NtWriteFile(
                    shared.handle.as_raw_handle(),
                    null_mut(),
                    None,
                    parts.overlapped.cast(),
                    parts.overlapped.cast(),
                    parts.buffer.cast(),
                    parts.buffer_len,
                    &offset,
                    null(),
                )
            }
        })?;
        Ok(Box::new(pending))
    }

    fn cancel(&self) {
        self.shared.cancel_one(null());
    }

    fn close_soon(mut self: Box<Self>) {
        self.ends_all = false;
    }
}

impl Drop for DeviceHandle {
    fn drop(&mut self) {
        if self.ends_all {
            self.cancel();
            // What is in flight writes to memory that its completion gives
            // back; who drops a handle may count on that being over. But for a
            // task that runs on a worker: the completions may be this thread's
            // to take, and own their memory anyway.
            if !on_worker() {
                self.shared.flight.wait_none();
            }
        }
    }
}
