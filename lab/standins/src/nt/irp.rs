//! IRPs the driver allocates, and their way through a provider.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::types::{DEVICE_OBJECT, IO_STACK_LOCATION, IRP, sl, status};
use crate::core::{Rule, callout, fault, irql, stack};

struct Record {
    stack: i8,
    /// Provider function that owns it now.
    pending: Option<&'static str>,
    caller: u32,
    /// Keeps the memory: the IRP and its stack locations.
    memory: Box<[u64]>,
}

static IRPS: Mutex<BTreeMap<usize, Record>> = Mutex::new(BTreeMap::new());

fn with<R>(f: impl FnOnce(&mut BTreeMap<usize, Record>) -> R) -> R {
    let mut irps = IRPS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    f(&mut irps)
}

/// Bytes of an IRP with `stack` stack locations.
pub fn size_of_irp(stack: i8) -> usize {
    size_of::<IRP>() + usize::from(stack.max(0).unsigned_abs()) * size_of::<IO_STACK_LOCATION>()
}

/// First stack location behind an IRP.
pub fn first_location(irp: *mut IRP) -> *mut IO_STACK_LOCATION {
    irp.wrapping_add(1).cast()
}

/// Whether the lab allocated this IRP for the driver.
pub fn is_ours(irp: *mut IRP) -> bool {
    with(|irps| irps.contains_key(&(irp as usize)))
}

/// A provider takes an IRP from the driver: until it completes it, reuse and
/// free are violations. Checks that it is idle and has a stack location left,
/// and makes that the current one, as IoCallDriver does.
pub fn mark_pending(irp: *mut IRP, owner: &'static str) -> *mut IO_STACK_LOCATION {
    let known = with(|irps| {
        irps.get_mut(&(irp as usize)).map(|record| record.pending.replace(owner))
    });
    match known {
        None => violate!(Rule::IoAllocateFree, "{owner}: {irp:?} is not an IRP of IoAllocateIrp"),
        Some(Some(other)) => {
            violate!(Rule::IoReuseIrp, "{owner}: IRP {irp:?} is still pending in {other}")
        }
        Some(None) => {}
    }
    // SAFETY: a live IRP of ours, idle, so nobody else changes it.
    let packet = unsafe { &mut *irp };
    if packet.CurrentLocation <= 1 {
        violate!(Rule::LabIrpStack, "{owner}: IRP {irp:?} has no stack location left (IoReuseIrp?)");
    }
    packet.CurrentLocation -= 1;
    packet.CurrentStackLocation = packet.CurrentStackLocation.wrapping_sub(1);
    packet.CurrentStackLocation
}

/// Completes a driver-allocated IRP as its provider: sets the result, runs the
/// completion routine at `level`, and honours what it returns.
pub fn complete_at(irp: *mut IRP, result: i32, information: usize, level: u8) {
    let owner = with(|irps| irps.get_mut(&(irp as usize)).map(|record| record.pending.take()));
    match owner {
        None => violate!(Rule::IoAllocateFree, "completion of {irp:?}, which is no live IRP"),
        Some(None) => violate!(Rule::DoubleCompletion, "IRP {irp:?} completed while not pending"),
        Some(Some(_)) => {}
    }
    // SAFETY: a live IRP that was pending, so the provider owns it.
    let packet = unsafe { &mut *irp };
    packet.IoStatus.Status = result;
    packet.IoStatus.Information = information;
    packet.CancelRoutine = None;
    run_completion(packet, level);
}

fn run_completion(packet: &mut IRP, level: u8) {
    let irp = std::ptr::from_mut(packet);
    // SAFETY: the current location is one of the IRP's own.
    let location = unsafe { &*packet.CurrentStackLocation };
    let (routine, context, control) =
        (location.CompletionRoutine, location.Context, location.Control);
    packet.PendingReturned = u8::from(control & sl::PENDING_RETURNED != 0);
    packet.CurrentLocation += 1;
    packet.CurrentStackLocation = packet.CurrentStackLocation.wrapping_add(1);
    let wanted = (packet.IoStatus.Status >= 0 && control & sl::INVOKE_ON_SUCCESS != 0)
        || (packet.IoStatus.Status < 0 && control & sl::INVOKE_ON_ERROR != 0)
        || (packet.Cancel != 0 && control & sl::INVOKE_ON_CANCEL != 0);
    let Some(routine) = routine.filter(|_| wanted) else {
        violate!(Rule::LabIrpSetup, "IRP {irp:?} completed without a completion routine to run");
    };
    let answer = callout::call("IoCompletionRoutine", level, || {
        // SAFETY: the driver's routine, with what IoSetCompletionRoutine promised.
        unsafe { routine(std::ptr::null_mut::<DEVICE_OBJECT>(), irp, context) }
    });
    if answer != status::MORE_PROCESSING_REQUIRED {
        violate!(
            Rule::IoAllocateFree,
            "completion routine of IRP {irp:?}, which the driver allocated, returned {answer:#x} \
             instead of STATUS_MORE_PROCESSING_REQUIRED"
        );
    }
}

/// Allocates an IRP (IoAllocateIrp); null when out of memory or injected.
pub fn allocate(stack_size: i8) -> *mut IRP {
    irql::require_max_rule(Rule::IrqlIoDispatch, "IoAllocateIrp", irql::DISPATCH_LEVEL);
    if stack_size < 1 {
        violate!(Rule::LabIrpStack, "IoAllocateIrp with {stack_size} stack locations");
    }
    if fault::alloc_should_fail_named("IoAllocateIrp") {
        return std::ptr::null_mut();
    }
    let mut memory = vec![0u64; size_of_irp(stack_size) / 8].into_boxed_slice();
    let irp = memory.as_mut_ptr().cast::<IRP>();
    initialize(irp, stack_size);
    let record = Record { stack: stack_size, pending: None, caller: stack::caller_rva(), memory };
    with(|irps| irps.insert(irp as usize, record));
    irp
}

fn initialize(irp: *mut IRP, stack_size: i8) {
    let size = size_of_irp(stack_size);
    // SAFETY: the memory is `size` bytes, made for this IRP.
    unsafe { std::ptr::write_bytes(irp.cast::<u8>(), 0, size) };
    // SAFETY: just zeroed, and zero is a valid IRP.
    let packet = unsafe { &mut *irp };
    packet.Type = 6;
    packet.Size = u16::try_from(size).unwrap_or(u16::MAX);
    packet.StackCount = stack_size;
    packet.CurrentLocation = stack_size + 1;
    packet.CurrentStackLocation =
        first_location(irp).wrapping_add(usize::from(stack_size.unsigned_abs()));
}

/// One line for each IRP that was not freed.
pub fn leaks() -> Vec<String> {
    with(|irps| {
        irps.iter()
            .map(|(a, r)| {
                format!(
                    "IRP {a:#x} ({} stack, {} bytes) by driver+0x{:x}{}",
                    r.stack,
                    r.memory.len() * 8,
                    r.caller,
                    r.pending.map_or(String::new(), |p| format!(", pending in {p}"))
                )
            })
            .collect()
    })
}
