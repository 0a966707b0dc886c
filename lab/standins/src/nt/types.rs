//! Kernel structures (x64), as far as the lab reads or writes them.
//!
//! Offsets are those of Windows' public headers; Wine lays them out the same
//! way. Field names are the documentation's.

use std::ffi::c_void;

/// NTSTATUS.
pub type NTSTATUS = i32;

/// NTSTATUS values the lab returns; `[MS-ERREF] 2.3`.
pub mod status {
    #![allow(missing_docs)]
    pub const SUCCESS: i32 = 0;
    pub const WAIT_0: i32 = 0;
    pub const TIMEOUT: i32 = 0x102;
    pub const PENDING: i32 = 0x103;
    pub const NO_MORE_ENTRIES: i32 = hex(0x8000_001A);
    pub const UNSUCCESSFUL: i32 = hex(0xC000_0001);
    pub const NOT_IMPLEMENTED: i32 = hex(0xC000_0002);
    pub const INFO_LENGTH_MISMATCH: i32 = hex(0xC000_0004);
    pub const INVALID_HANDLE: i32 = hex(0xC000_0008);
    pub const INVALID_PARAMETER: i32 = hex(0xC000_000D);
    pub const INVALID_DEVICE_REQUEST: i32 = hex(0xC000_0010);
    pub const MORE_PROCESSING_REQUIRED: i32 = hex(0xC000_0016);
    pub const ACCESS_DENIED: i32 = hex(0xC000_0022);
    pub const BUFFER_TOO_SMALL: i32 = hex(0xC000_0023);
    pub const OBJECT_TYPE_MISMATCH: i32 = hex(0xC000_0024);
    pub const OBJECT_NAME_COLLISION: i32 = hex(0xC000_0035);
    pub const INSUFFICIENT_RESOURCES: i32 = hex(0xC000_009A);
    pub const DEVICE_NOT_READY: i32 = hex(0xC000_00A3);
    pub const NOT_SUPPORTED: i32 = hex(0xC000_00BB);
    pub const INTERNAL_ERROR: i32 = hex(0xC000_00E5);
    pub const CANCELLED: i32 = hex(0xC000_0120);
    pub const FILE_CLOSED: i32 = hex(0xC000_0128);
    pub const INVALID_DEVICE_STATE: i32 = hex(0xC000_0184);
    pub const DEVICE_BUSY: i32 = hex(0x8000_0011);
    pub const DRIVER_INTERNAL_ERROR: i32 = hex(0xC000_0183);
    pub const OBJECT_NAME_EXISTS: i32 = 0x4000_0000;
    pub const WDF_BUSY: i32 = hex(0xC020_0204);
    pub const NO_SUCH_DEVICE: i32 = hex(0xC000_000E);
    pub const DELETE_PENDING: i32 = hex(0xC000_0056);
    pub const WDF_PAUSED: i32 = hex(0xC020_0203);

    /// An NTSTATUS as the headers write it.
    #[allow(clippy::cast_possible_wrap)]
    pub const fn hex(value: u32) -> i32 {
        value as i32
    }
}

/// Asserts a structure's size and field offsets.
macro_rules! layout_of {
    ($type:ty, $size:expr $(, $field:ident = $offset:expr)* $(,)?) => {
        const _: () = assert!(size_of::<$type>() == $size);
        $(const _: () = assert!(std::mem::offset_of!($type, $field) == $offset);)*
    };
}
pub(crate) use layout_of as layout;

/// Doubly linked list entry.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct LIST_ENTRY {
    /// Next entry.
    pub Flink: *mut LIST_ENTRY,
    /// Previous entry.
    pub Blink: *mut LIST_ENTRY,
}
layout_of!(LIST_ENTRY, 16, Blink = 8);

/// Counted UTF-16 string; lengths in bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct UNICODE_STRING {
    /// Bytes in use.
    pub Length: u16,
    /// Bytes available.
    pub MaximumLength: u16,
    /// The characters, not always terminated.
    pub Buffer: *mut u16,
}
layout_of!(UNICODE_STRING, 16, MaximumLength = 2, Buffer = 8);

/// Header of what can be waited for.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DISPATCHER_HEADER {
    /// Object type.
    pub Type: u8,
    /// Signalling.
    pub Signalling: u8,
    /// Size in 32-bit words.
    pub Size: u8,
    /// Reserved.
    pub Reserved: u8,
    /// Not zero = signalled.
    pub SignalState: i32,
    /// Threads that wait.
    pub WaitListHead: LIST_ENTRY,
}
layout_of!(
    DISPATCHER_HEADER,
    24,
    Size = 2,
    SignalState = 4,
    WaitListHead = 8
);

/// Event.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct KEVENT {
    /// Header.
    pub Header: DISPATCHER_HEADER,
}
layout_of!(KEVENT, 24, Header = 0);

/// Timer.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct KTIMER {
    /// Header.
    pub Header: DISPATCHER_HEADER,
    /// Absolute due time, 100 ns.
    pub DueTime: u64,
    /// Entry in the timer table.
    pub TimerListEntry: LIST_ENTRY,
    /// DPC to queue when due.
    pub Dpc: *mut KDPC,
    /// Processor.
    pub Processor: u32,
    /// Period in milliseconds; 0 = once.
    pub Period: u32,
}
layout_of!(
    KTIMER,
    64,
    DueTime = 24,
    TimerListEntry = 32,
    Dpc = 48,
    Processor = 56,
    Period = 60
);

/// Deferred procedure call.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct KDPC {
    /// 0x13 once initialised.
    pub Type: u8,
    /// Importance.
    pub Importance: u8,
    /// Processor number.
    pub Number: u16,
    /// Entry in the DPC queue.
    pub DpcListEntry: LIST_ENTRY,
    /// The routine.
    pub DeferredRoutine: Option<KDEFERRED_ROUTINE>,
    /// Its context.
    pub DeferredContext: *mut c_void,
    /// First argument of the queueing call.
    pub SystemArgument1: *mut c_void,
    /// Second argument of the queueing call.
    pub SystemArgument2: *mut c_void,
    /// Not null while queued.
    pub DpcData: *mut c_void,
}
layout_of!(
    KDPC,
    64,
    Importance = 1,
    Number = 2,
    DpcListEntry = 8,
    DeferredRoutine = 24,
    DeferredContext = 32,
    SystemArgument1 = 40,
    SystemArgument2 = 48,
    DpcData = 56,
);

/// A DPC's routine: (dpc, context, argument 1, argument 2).
pub type KDEFERRED_ROUTINE =
    unsafe extern "system" fn(*mut KDPC, *mut c_void, *mut c_void, *mut c_void);

/// Result of an I/O request.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct IO_STATUS_BLOCK {
    /// NTSTATUS in the low half.
    pub Status: i32,
    /// Padding of the union with a pointer.
    pub StatusHigh: i32,
    /// Bytes moved, or what the function defines.
    pub Information: usize,
}
layout_of!(IO_STATUS_BLOCK, 16, Information = 8);

/// Memory descriptor list; an array of page frames follows.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MDL {
    /// Next MDL of the chain.
    pub Next: *mut MDL,
    /// Size of this structure and its page array.
    pub Size: i16,
    /// `MDL_*`.
    pub MdlFlags: i16,
    /// Padding.
    pub Reserved: u32,
    /// Owning process.
    pub Process: *mut c_void,
    /// System address, when mapped.
    pub MappedSystemVa: *mut c_void,
    /// First page.
    pub StartVa: *mut c_void,
    /// Bytes described.
    pub ByteCount: u32,
    /// Offset of the first byte in the first page.
    pub ByteOffset: u32,
}
layout_of!(
    MDL,
    48,
    Next = 0,
    Size = 8,
    MdlFlags = 10,
    Process = 16,
    MappedSystemVa = 24,
    StartVa = 32,
    ByteCount = 40,
    ByteOffset = 44,
);

/// Cancel routine: (device, irp); releases the cancel spin lock.
pub type DRIVER_CANCEL = unsafe extern "system" fn(*mut DEVICE_OBJECT, *mut IRP);
/// Completion routine: (device, irp, context).
pub type IO_COMPLETION_ROUTINE =
    unsafe extern "system" fn(*mut DEVICE_OBJECT, *mut IRP, *mut c_void) -> i32;
/// Dispatch routine: (device, irp).
pub type DRIVER_DISPATCH = unsafe extern "system" fn(*mut DEVICE_OBJECT, *mut IRP) -> i32;
/// Unload routine.
pub type DRIVER_UNLOAD = unsafe extern "system" fn(*mut DRIVER_OBJECT);

/// I/O request packet; `StackCount` stack locations follow.
#[repr(C)]
pub struct IRP {
    /// 6.
    pub Type: i16,
    /// Whole size, stack locations included.
    pub Size: u16,
    /// Padding.
    pub Reserved: u32,
    /// Locked pages of direct I/O.
    pub MdlAddress: *mut MDL,
    /// `IRP_*`.
    pub Flags: u32,
    /// Padding.
    pub Reserved2: u32,
    /// Buffer of buffered I/O (`AssociatedIrp.SystemBuffer`).
    pub SystemBuffer: *mut c_void,
    /// Entry in the issuing thread's list.
    pub ThreadListEntry: LIST_ENTRY,
    /// Result.
    pub IoStatus: IO_STATUS_BLOCK,
    /// 0 kernel, 1 user.
    pub RequestorMode: i8,
    /// A lower driver returned pending.
    pub PendingReturned: u8,
    /// Stack locations.
    pub StackCount: i8,
    /// Current one, from StackCount + 1 (none) down to 1.
    pub CurrentLocation: i8,
    /// Cancelled.
    pub Cancel: u8,
    /// IRQL at which the cancel lock was taken.
    pub CancelIrql: u8,
    /// APC environment.
    pub ApcEnvironment: i8,
    /// How it was allocated.
    pub AllocationFlags: u8,
    /// Where the caller wants its result.
    pub UserIosb: *mut IO_STATUS_BLOCK,
    /// Event to set.
    pub UserEvent: *mut KEVENT,
    /// `Overlay`.
    pub Overlay: [usize; 2],
    /// Cancel routine.
    pub CancelRoutine: Option<DRIVER_CANCEL>,
    /// Caller's buffer.
    pub UserBuffer: *mut c_void,
    /// For the driver that holds the IRP (`Tail.Overlay.DriverContext`).
    pub DriverContext: [*mut c_void; 4],
    /// Issuing thread.
    pub Thread: *mut c_void,
    /// Auxiliary buffer.
    pub AuxiliaryBuffer: *mut c_void,
    /// For the driver that holds the IRP.
    pub ListEntry: LIST_ENTRY,
    /// Current stack location.
    pub CurrentStackLocation: *mut IO_STACK_LOCATION,
    /// File object of the request.
    pub OriginalFileObject: *mut FILE_OBJECT,
    /// Rest of the tail union.
    pub TailRest: usize,
}
layout_of!(
    IRP,
    208,
    MdlAddress = 8,
    Flags = 16,
    SystemBuffer = 24,
    ThreadListEntry = 32,
    IoStatus = 48,
    RequestorMode = 64,
    PendingReturned = 65,
    StackCount = 66,
    CurrentLocation = 67,
    Cancel = 68,
    CancelIrql = 69,
    AllocationFlags = 71,
    UserIosb = 72,
    UserEvent = 80,
    CancelRoutine = 104,
    UserBuffer = 112,
    DriverContext = 120,
    Thread = 152,
    ListEntry = 168,
    CurrentStackLocation = 184,
    OriginalFileObject = 192,
);

/// One driver's part of an IRP.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct IO_STACK_LOCATION {
    /// `IRP_MJ_*`.
    pub MajorFunction: u8,
    /// Minor function.
    pub MinorFunction: u8,
    /// Flags.
    pub Flags: u8,
    /// `SL_*`.
    pub Control: u8,
    /// Padding.
    pub Reserved: u32,
    /// Four arguments; their meaning depends on the major function.
    pub Parameters: [usize; 4],
    /// Device the request is for.
    pub DeviceObject: *mut DEVICE_OBJECT,
    /// File of the request.
    pub FileObject: *mut FILE_OBJECT,
    /// Set by the driver above.
    pub CompletionRoutine: Option<IO_COMPLETION_ROUTINE>,
    /// Its context.
    pub Context: *mut c_void,
}
layout_of!(
    IO_STACK_LOCATION,
    72,
    Control = 3,
    Parameters = 8,
    DeviceObject = 40,
    FileObject = 48,
    CompletionRoutine = 56,
    Context = 64,
);

/// Bits of `IO_STACK_LOCATION::Control`.
pub mod sl {
    #![allow(missing_docs)]
    pub const PENDING_RETURNED: u8 = 0x01;
    pub const INVOKE_ON_CANCEL: u8 = 0x20;
    pub const INVOKE_ON_SUCCESS: u8 = 0x40;
    pub const INVOKE_ON_ERROR: u8 = 0x80;
}

/// Driver object.
#[repr(C)]
pub struct DRIVER_OBJECT {
    /// 4.
    pub Type: i16,
    /// Size.
    pub Size: i16,
    /// Padding.
    pub Reserved: u32,
    /// First device.
    pub DeviceObject: *mut DEVICE_OBJECT,
    /// Flags.
    pub Flags: u32,
    /// Padding.
    pub Reserved2: u32,
    /// Image base.
    pub DriverStart: *mut c_void,
    /// Image size.
    pub DriverSize: u32,
    /// Padding.
    pub Reserved3: u32,
    /// Loader entry.
    pub DriverSection: *mut c_void,
    /// Extension.
    pub DriverExtension: *mut c_void,
    /// Name.
    pub DriverName: UNICODE_STRING,
    /// Hardware database.
    pub HardwareDatabase: *mut UNICODE_STRING,
    /// Fast I/O.
    pub FastIoDispatch: *mut c_void,
    /// Entry point.
    pub DriverInit: *mut c_void,
    /// StartIo.
    pub DriverStartIo: *mut c_void,
    /// Unload routine.
    pub DriverUnload: Option<DRIVER_UNLOAD>,
    /// Dispatch routines by major function.
    pub MajorFunction: [Option<DRIVER_DISPATCH>; 28],
}
layout_of!(
    DRIVER_OBJECT,
    336,
    DeviceObject = 8,
    DriverStart = 24,
    DriverSize = 32,
    DriverSection = 40,
    DriverExtension = 48,
    DriverName = 56,
    DriverInit = 88,
    DriverUnload = 104,
    MajorFunction = 112,
);

/// Device object.
#[repr(C)]
pub struct DEVICE_OBJECT {
    /// 3.
    pub Type: i16,
    /// Size.
    pub Size: u16,
    /// References.
    pub ReferenceCount: i32,
    /// Its driver.
    pub DriverObject: *mut DRIVER_OBJECT,
    /// Next device of the driver.
    pub NextDevice: *mut DEVICE_OBJECT,
    /// Device attached above.
    pub AttachedDevice: *mut DEVICE_OBJECT,
    /// Current IRP.
    pub CurrentIrp: *mut IRP,
    /// Timer.
    pub Timer: *mut c_void,
    /// `DO_*`.
    pub Flags: u32,
    /// `FILE_*` characteristics.
    pub Characteristics: u32,
    /// Volume parameter block.
    pub Vpb: *mut c_void,
    /// The driver's extension.
    pub DeviceExtension: *mut c_void,
    /// `FILE_DEVICE_*`.
    pub DeviceType: u32,
    /// IRP stack locations needed.
    pub StackSize: i8,
    /// Padding.
    pub Reserved: [u8; 3],
    /// Queue, alignment, device queue, DPC, locks: not touched by the lab.
    pub Rest: [usize; 31],
}
layout_of!(
    DEVICE_OBJECT,
    328,
    DriverObject = 8,
    NextDevice = 16,
    Flags = 48,
    Characteristics = 52,
    DeviceExtension = 64,
    DeviceType = 72,
    StackSize = 76,
    Rest = 80,
);

/// `DEVICE_OBJECT::Flags`.
pub mod do_flags {
    #![allow(missing_docs)]
    pub const BUFFERED_IO: u32 = 0x04;
    pub const EXCLUSIVE: u32 = 0x08;
    pub const DIRECT_IO: u32 = 0x10;
    pub const DEVICE_INITIALIZING: u32 = 0x80;
}

/// File object.
#[repr(C)]
pub struct FILE_OBJECT {
    /// 5.
    pub Type: i16,
    /// Size.
    pub Size: i16,
    /// Padding.
    pub Reserved: u32,
    /// Its device.
    pub DeviceObject: *mut DEVICE_OBJECT,
    /// Volume parameter block.
    pub Vpb: *mut c_void,
    /// Driver's context.
    pub FsContext: *mut c_void,
    /// Driver's second context.
    pub FsContext2: *mut c_void,
    /// Everything else.
    pub Rest: [usize; 22],
}
layout_of!(
    FILE_OBJECT,
    216,
    DeviceObject = 8,
    FsContext = 24,
    FsContext2 = 32
);

/// Rundown protection: twice the count of holders, bit 0 = run down.
#[repr(C)]
pub struct EX_RUNDOWN_REF {
    /// Count.
    pub Count: usize,
}
layout_of!(EX_RUNDOWN_REF, 8, Count = 0);

/// Text of a counted string; empty for a null one.
pub fn unicode(string: *const UNICODE_STRING) -> String {
    if string.is_null() {
        return String::new();
    }
    // SAFETY: not null; a caller passes a UNICODE_STRING or faults here, as it
    // would in the kernel.
    let s = unsafe { string.read_unaligned() };
    if s.Buffer.is_null() {
        return String::new();
    }
    // SAFETY: Length bytes at Buffer are the string, by its contract.
    let chars = unsafe { std::slice::from_raw_parts(s.Buffer, usize::from(s.Length) / 2) };
    String::from_utf16_lossy(chars)
}
