//! The device on Windows: overlapped I/O on a completion port with workers.
//!
//! Who owns what: an [`op::Operation`] (its `OVERLAPPED`, buffers, and the slot
//! for its result) belongs to the kernel from the moment it is started until
//! its completion packet is taken off the port; nobody else holds a reference
//! to it. A worker takes it back from the packet, puts the result in the
//! slot, and frees it. An operation holds its handle open, so a handle is
//! closed only when none is outstanding; the port outlives every handle.
//!
//! Calls go to `NtDeviceIoControlFile` and `NtReadFile` (MSDN, winternl.h)
//! because `DeviceIoControl` and `ReadFile` fold an immediate failure's NTSTATUS
//! into a Win32 code, and several statuses of the contract share one.

mod handle;
mod op;
mod port;
pub(crate) mod sockets;
#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::OwnedHandle;
use std::sync::Arc;

use windows_sys::Win32::Storage::FileSystem::FILE_FLAG_OVERLAPPED;

use crate::channel::{Channel, Connector};
use crate::error::{Error, open_error};
use handle::DeviceHandle;
use port::Port;

/// Opens handles of the device and serves them all with one completion port.
pub(crate) struct WindowsConnector {
    port: Arc<Port>,
}

impl WindowsConnector {
    /// A connector with its port and so many workers; opens nothing yet.
    pub(crate) fn new(workers: NonZeroUsize) -> Result<Self, Error> {
        let port = Port::new(workers).map_err(|source| Error::System {
            what: "making a completion port",
            source,
        })?;
        Ok(WindowsConnector {
            port: Arc::new(port),
        })
    }
}

impl Connector for WindowsConnector {
    fn connect(&self) -> Result<Box<dyn Channel>, Error> {
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(FILE_FLAG_OVERLAPPED)
            .open(weir_abi::WIN32_PATH)
            .map_err(open_error)?;
        let handle = DeviceHandle::new(OwnedHandle::from(file), Arc::clone(&self.port)).map_err(
            |source| Error::System {
                what: "associating the device with a completion port",
                source,
            },
        )?;
        Ok(Box::new(handle))
    }
}
