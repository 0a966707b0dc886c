//! What `wdm.h` has for IRPs and MDLs.
//!
//! Declared here because `IRP` and `IO_STACK_LOCATION` are nests of anonymous unions
//! in the generated bindings, numbered differently from one release of the headers
//! to the next.

use core::ffi::c_void;
use core::mem::offset_of;

/// `IRP`, the fields a WSK application may look at. Made by `IoAllocateIrp`
/// only; it is never built here, and what follows the last field is padding.
#[repr(C)]
pub(in crate::wsk) struct Irp {
    before_status: [u8; 48],
    pub(in crate::wsk) status: IoStatusBlock,
    between: [u8; 120],
    /// `Tail.Overlay.CurrentStackLocation`.
    pub(in crate::wsk) current_stack_location: *mut IoStackLocation,
    after: [u8; 16],
}

const _: () = assert!(size_of::<Irp>() == 0xD0);
const _: () = assert!(offset_of!(Irp, status) == 48);
const _: () = assert!(offset_of!(Irp, current_stack_location) == 184);

/// `IO_STATUS_BLOCK`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(in crate::wsk) struct IoStatusBlock {
    /// `Status`, in a union with a pointer.
    pub(in crate::wsk) status: i32,
    reserved: u32,
    pub(in crate::wsk) information: usize,
}

const _: () = assert!(size_of::<IoStatusBlock>() == 0x10);
const _: () = assert!(offset_of!(IoStatusBlock, information) == 8);

/// `IO_STACK_LOCATION`, the fields `IoSetCompletionRoutine` writes.
#[repr(C)]
pub(in crate::wsk) struct IoStackLocation {
    before: [u8; 3],
    pub(in crate::wsk) control: u8,
    parameters: [u64; 6],
    /// After `Parameters`, `DeviceObject` and `FileObject`.
    pub(in crate::wsk) completion_routine: IoCompletionRoutine,
    pub(in crate::wsk) context: *mut c_void,
}

const _: () = assert!(size_of::<IoStackLocation>() == 72);
const _: () = assert!(offset_of!(IoStackLocation, control) == 3);
const _: () = assert!(offset_of!(IoStackLocation, completion_routine) == 56);
const _: () = assert!(offset_of!(IoStackLocation, context) == 64);

/// `IO_COMPLETION_ROUTINE`, called at `IRQL <= DISPATCH_LEVEL`.
pub(in crate::wsk) type IoCompletionRoutine =
    unsafe extern "system" fn(device: *mut c_void, irp: *mut Irp, context: *mut c_void) -> i32;

/// `SL_INVOKE_ON_CANCEL | SL_INVOKE_ON_SUCCESS | SL_INVOKE_ON_ERROR`, which is
/// what `IoSetCompletionRoutine` makes of TRUE, TRUE, TRUE.
pub(in crate::wsk) const SL_INVOKE_ALWAYS: u8 = 0xE0;

/// `MDL`, opaque.
#[repr(C)]
pub(in crate::wsk) struct Mdl {
    opaque: [u64; 6],
}

const _: () = assert!(size_of::<Mdl>() == 0x30);

unsafe extern "system" {
    pub(in crate::wsk) fn IoAllocateIrp(stack_size: i8, charge_quota: u8) -> *mut Irp;
    pub(in crate::wsk) fn IoFreeIrp(irp: *mut Irp);
    pub(in crate::wsk) fn IoReuseIrp(irp: *mut Irp, status: i32);
    pub(in crate::wsk) fn IoCancelIrp(irp: *mut Irp) -> u8;

    pub(in crate::wsk) fn IoAllocateMdl(
        virtual_address: *mut c_void,
        length: u32,
        secondary_buffer: u8,
        charge_quota: u8,
        irp: *mut Irp,
    ) -> *mut Mdl;
    pub(in crate::wsk) fn IoFreeMdl(mdl: *mut Mdl);
    pub(in crate::wsk) fn MmBuildMdlForNonPagedPool(mdl: *mut Mdl);
}
