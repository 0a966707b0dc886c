//! An open handle of the device.

use std::io;
use std::os::windows::io::{AsRawHandle, OwnedHandle};
use std::ptr::{null, null_mut};
use std::sync::Arc;

use windows_sys::Wdk::Storage::FileSystem::{NtReadFile, NtWriteFile};
use windows_sys::Wdk::System::IO::NtDeviceIoControlFile;
use windows_sys::Win32::System::IO::{CancelIoEx, IO_STATUS_BLOCK, OVERLAPPED};

use super::op::{Flight, Operation, PendingIo};
use super::port::Port;
use crate::channel::{Channel, Pending};
use crate::error::Failure;

// The first two words of an OVERLAPPED are the status block of its operation
// (MSDN "OVERLAPPED structure": Internal, InternalHigh).
const _: () = assert!(size_of::<IO_STATUS_BLOCK>() == 16);
const _: () = assert!(std::mem::offset_of!(OVERLAPPED, InternalHigh) == 8);

/// A handle whose completions come to a port.
pub(super) struct DeviceHandle {
    handle: OwnedHandle,
    flight: Arc<Flight>,
    // Keeps the port and its worker until this handle is closed.
    _port: Arc<Port>,
}

impl DeviceHandle {
    /// `handle`, opened for overlapped I/O, with its completions on `port`.
    pub(super) fn new(handle: OwnedHandle, port: Arc<Port>) -> io::Result<Self> {
        port.associate(&handle)?;
        Ok(DeviceHandle {
            handle,
            flight: Arc::default(),
            _port: port,
        })
    }
}

impl Channel for DeviceHandle {
    fn control(&self, code: u32, input: &[u8], room: usize) -> Result<Vec<u8>, Failure> {
        let op = Operation::new(input.to_vec(), vec![0; room], &self.flight);
        let slot = op.start(|parts| {
            // SAFETY: (1) the handle is open; (2) status block and buffers
            // belong to the operation, which lives until its completion;
            // (3) the lengths are those of the buffers; (4) no event and no
            // APC: the context makes a packet that names the operation.
            unsafe {
                NtDeviceIoControlFile(
                    self.handle.as_raw_handle(),
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
        let completion = loop {
            // Without a time limit this returns with the completion.
            if let Some(completion) = slot.wait(None) {
                break completion;
            }
        };
        let len = completion.result?;
        let mut reply = completion.buffer;
        reply.truncate(len);
        Ok(reply)
    }

    fn read(&self, buffer: Vec<u8>) -> Result<Box<dyn Pending>, Failure> {
        let op = Operation::new(Vec::new(), buffer, &self.flight);
        // A handle for overlapped I/O wants an offset; a device ignores it.
        let offset = 0_i64;
        let slot = op.start(|parts| {
            // SAFETY: (1) the handle is open; (2) status block and buffer
            // belong to the operation, which lives until its completion;
            // (3) the length is the buffer's; (4) the offset is read before
            // the call returns; (5) as above, a packet names the operation.
            unsafe {
                NtReadFile(
                    self.handle.as_raw_handle(),
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
        Ok(Box::new(PendingIo(slot)))
    }

    fn write(&self, buffer: Vec<u8>) -> Result<Box<dyn Pending>, Failure> {
        let op = Operation::new(Vec::new(), buffer, &self.flight);
        let offset = 0_i64;
        let slot = op.start(|parts| {
            // SAFETY: as for a read; the kernel only reads the buffer.
            unsafe {
                NtWriteFile(
                    self.handle.as_raw_handle(),
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
        Ok(Box::new(PendingIo(slot)))
    }

    fn cancel(&self) {
        // SAFETY: the handle is open; no OVERLAPPED asks for all its I/O.
        let found = unsafe { CancelIoEx(self.handle.as_raw_handle(), null()) };
        tracing::trace!(found = found != 0, "cancel");
    }
}

impl Drop for DeviceHandle {
    fn drop(&mut self) {
        self.cancel();
        // Only then may the handle close: what is in flight writes to memory
        // that its completion gives back.
        self.flight.wait_none();
    }
}
