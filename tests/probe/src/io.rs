//! Overlapped calls on a handle of the device, each with its NTSTATUS.

use std::ffi::c_void;
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::AsRawHandle;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use windows_sys::Wdk::Storage::FileSystem::{NtReadFile, NtWriteFile};
use windows_sys::Wdk::System::IO::NtDeviceIoControlFile;
use windows_sys::Win32::Foundation::{CloseHandle, HANDLE, WAIT_OBJECT_0};
use windows_sys::Win32::Storage::FileSystem::FILE_FLAG_OVERLAPPED;
use windows_sys::Win32::System::IO::{CancelIoEx, IO_STATUS_BLOCK, OVERLAPPED};
use windows_sys::Win32::System::Threading::{CreateEventW, WaitForSingleObject};

/// How long a call may take that is to end by itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// An open handle of the device.
#[derive(Clone)]
pub(crate) struct Handle(Arc<std::fs::File>);

impl Handle {
    /// A control handle.
    pub(crate) fn open() -> Handle {
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(FILE_FLAG_OVERLAPPED)
            .open(weir_abi::WIN32_PATH);
        Handle(Arc::new(file.expect("the device opens")))
    }

    fn raw(&self) -> HANDLE {
        self.0.as_raw_handle().cast()
    }
}

/// What the kernel writes to. Its address is what a call is cancelled by.
#[repr(C)]
struct Block {
    overlapped: OVERLAPPED,
}

/// A call that has been made.
pub(crate) struct Call {
    handle: Handle,
    block: Box<Block>,
    /// The kernel's while the call is pending.
    buffer: Vec<u8>,
    event: HANDLE,
    /// The status the call ended with at once, if it did without a completion.
    refused: Option<i32>,
}

/// How a call ended: its status, and the bytes it left.
#[derive(Clone)]
pub(crate) struct Ended {
    pub(crate) status: i32,
    pub(crate) bytes: Vec<u8>,
    pub(crate) length: usize,
}

impl Ended {
    /// The bytes of a call that was to succeed.
    #[track_caller]
    pub(crate) fn good(self, what: &str) -> Vec<u8> {
        assert_eq!(self.status, 0, "{what}: {}", name(self.status));
        self.bytes
    }

    /// A call that was to end so.
    #[track_caller]
    pub(crate) fn with(self, status: i32, what: &str) {
        assert!(
            self.status == status,
            "{what}: {} in place of {}",
            name(self.status),
            name(status)
        );
    }
}

/// The name of a status.
pub(crate) fn name(status: i32) -> String {
    weir_abi::status::info(status).map_or_else(
        || format!("{status:#010x}"),
        |info| format!("{} ({})", info.name, info.meaning),
    )
}

impl Call {
    fn make(
        handle: &Handle,
        buffer: Vec<u8>,
        call: impl FnOnce(HANDLE, HANDLE, *mut IO_STATUS_BLOCK, *mut c_void, u32) -> i32,
    ) -> Call {
        // SAFETY: no attributes and no name: a new manual-reset event.
        let event = unsafe { CreateEventW(ptr::null(), 1, 0, ptr::null()) };
        assert!(!event.is_null(), "an event can be made");
        let mut this = Call {
            handle: handle.clone(),
            block: Box::new(Block {
                overlapped: OVERLAPPED::default(),
            }),
            buffer,
            event,
            refused: None,
        };
        this.block.overlapped.Internal = weir_abi::status::PENDING as usize;
        let length = u32::try_from(this.buffer.len()).expect("a short buffer");
        let memory = this.buffer.as_mut_ptr().cast();
        // An OVERLAPPED starts with what the native calls know as status block.
        let block = (&raw mut this.block.overlapped).cast::<IO_STATUS_BLOCK>();
        let status = call(handle.raw(), event, block, memory, length);
        if weir_abi::status::is_error(status) {
            this.refused = Some(status);
        }
        this
    }

    /// ReadFile of so many bytes.
    pub(crate) fn read(handle: &Handle, length: usize) -> Call {
        Call::make(handle, vec![0xEE; length], |file, event, block, to, len| {
            let offset = 0i64;
            // SAFETY: an open handle, an event, a status block and a buffer that
            // stay until the call has ended (Drop waits).
            unsafe {
                NtReadFile(
                    file,
                    event,
                    None,
                    ptr::null(),
                    block,
                    to,
                    len,
                    &raw const offset,
                    ptr::null(),
                )
            }
        })
    }

    /// WriteFile of these bytes.
    pub(crate) fn write(handle: &Handle, bytes: &[u8]) -> Call {
        Call::make(handle, bytes.to_vec(), |file, event, block, from, len| {
            let offset = 0i64;
            // SAFETY: as in read.
            unsafe {
                NtWriteFile(
                    file,
                    event,
                    None,
                    ptr::null(),
                    block,
                    from,
                    len,
                    &raw const offset,
                    ptr::null(),
                )
            }
        })
    }

    /// DeviceIoControl of a request, with room for `room` bytes.
    pub(crate) fn control(handle: &Handle, code: u32, request: &[u8], room: usize) -> Call {
        // One piece of memory for both: the I/O manager copies.
        let mut memory = request.to_vec();
        memory.resize(request.len() + room, 0xEE);
        let input_len = u32::try_from(request.len()).expect("a short request");
        Call::make(handle, memory, |file, event, block, memory, len| {
            let room = len - input_len;
            // SAFETY: the reply's part of the buffer lies behind the request's.
            let output = unsafe { memory.cast::<u8>().add(input_len as usize) };
            // SAFETY: as in read.
            unsafe {
                NtDeviceIoControlFile(
                    file,
                    event,
                    None,
                    ptr::null(),
                    block,
                    code,
                    memory,
                    input_len,
                    output.cast(),
                    room,
                )
            }
        })
        .behind(request.len())
    }

    /// The result starts behind `skip` bytes.
    fn behind(mut self, skip: usize) -> Call {
        self.block.overlapped.Anonymous.Anonymous.OffsetHigh =
            u32::try_from(skip).expect("a short request");
        self
    }

    /// CancelIoEx. Whether there was something to cancel is not looked at.
    pub(crate) fn cancel(&self) {
        // SAFETY: an open handle; the address is compared, never followed.
        unsafe { CancelIoEx(self.handle.raw(), &raw const self.block.overlapped) };
    }

    /// For another thread to cancel this call by.
    pub(crate) fn canceller(&self) -> Canceller {
        Canceller {
            handle: self.handle.clone(),
            block: (&raw const self.block.overlapped).addr(),
        }
    }

    /// Whether it has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.refused.is_some() || self.settled(Duration::ZERO)
    }

    /// How it has ended, if it has.
    pub(crate) fn status(&self) -> Option<i32> {
        let over = self.is_over();
        let ended = self
            .refused
            .unwrap_or(self.block.overlapped.Internal as i32);
        over.then_some(ended)
    }

    fn settled(&self, patience: Duration) -> bool {
        let ms = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
        // SAFETY: an event of this call's own.
        unsafe { WaitForSingleObject(self.event, ms) == WAIT_OBJECT_0 }
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(mut self) -> Ended {
        if let Some(status) = self.refused {
            return Ended {
                status,
                bytes: Vec::new(),
                length: 0,
            };
        }
        assert!(self.settled(PATIENCE), "a call doesn't end");
        let status = self.block.overlapped.Internal as i32;
        let length = self.block.overlapped.InternalHigh;
        // SAFETY: the union holds two integers.
        let skip = unsafe { self.block.overlapped.Anonymous.Anonymous.OffsetHigh } as usize;
        let mut bytes = std::mem::take(&mut self.buffer);
        bytes.drain(..skip);
        bytes.truncate(length);
        Ended {
            status,
            bytes,
            length,
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.refused.is_none() && !self.settled(Duration::ZERO) {
            self.cancel();
            assert!(self.settled(PATIENCE), "a cancelled call doesn't end");
        }
        // SAFETY: this call's own event, closed once.
        unsafe { CloseHandle(self.event) };
    }
}

/// Cancels a call from another thread.
pub(crate) struct Canceller {
    handle: Handle,
    block: usize,
}

impl Canceller {
    /// CancelIoEx.
    pub(crate) fn cancel(&self) {
        let block = ptr::without_provenance::<OVERLAPPED>(self.block);
        // SAFETY: an open handle; the address is compared, never followed.
        unsafe { CancelIoEx(self.handle.raw(), block) };
    }
}
