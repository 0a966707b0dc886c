//! IRPs the driver allocates, and their way through a provider.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::types::{DEVICE_OBJECT, DRIVER_CANCEL, IO_STACK_LOCATION, IRP, sl, status};
use super::{arg, wine};
use crate::core::{Rule, callout, fault, irql, stack};

const FREED: u64 = 0xDFDF_DFDF_DFDF_DFDF;
/// Freed IRPs kept to find late writes.
const QUARANTINE: usize = 512;

struct Record {
    stack: i8,
    /// Provider function that owns it now.
    pending: Option<&'static str>,
    caller: u32,
    /// Keeps the memory: the IRP and its stack locations.
    memory: Box<[u64]>,
}

static IRPS: Mutex<BTreeMap<usize, Record>> = Mutex::new(BTreeMap::new());
static DEAD: Mutex<VecDeque<Record>> = Mutex::new(VecDeque::new());

fn with<R>(f: impl FnOnce(&mut BTreeMap<usize, Record>) -> R) -> R {
    let mut irps = IRPS
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
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
        irps.get_mut(&(irp as usize))
            .map(|record| record.pending.replace(owner))
    });
    match known {
        None => violate!(
            Rule::IoAllocateFree,
            "{owner}: {irp:?} is not an IRP of IoAllocateIrp"
        ),
        Some(Some(other)) => {
            violate!(
                Rule::IoReuseIrp,
                "{owner}: IRP {irp:?} is still pending in {other}"
            )
        }
        Some(None) => {}
    }
    // SAFETY: a live IRP of ours, idle, so nobody else changes it.
    let packet = unsafe { &mut *irp };
    if packet.CurrentLocation <= 1 {
        violate!(
            Rule::LabIrpStack,
            "{owner}: IRP {irp:?} has no stack location left (IoReuseIrp?)"
        );
    }
    packet.CurrentLocation -= 1;
    packet.CurrentStackLocation = packet.CurrentStackLocation.wrapping_sub(1);
    packet.CurrentStackLocation
}

/// Completes a driver-allocated IRP as its provider: sets the result, runs the
/// completion routine at `level`, and honours what it returns.
pub fn complete_at(irp: *mut IRP, result: i32, information: usize, level: u8) {
    let owner = with(|irps| {
        irps.get_mut(&(irp as usize))
            .map(|record| record.pending.take())
    });
    match owner {
        None => violate!(
            Rule::IoAllocateFree,
            "completion of {irp:?}, which is no live IRP"
        ),
        Some(None) => violate!(
            Rule::DoubleCompletion,
            "IRP {irp:?} completed while not pending"
        ),
        Some(Some(_)) => {}
    }
    set_cancel_routine(irp, None);
    // SAFETY: a live IRP that was pending, so the provider owns it.
    let packet = unsafe { &mut *irp };
    packet.IoStatus.Status = result;
    packet.IoStatus.Information = information;
    run_completion(packet, level);
}

fn run_completion(packet: &mut IRP, level: u8) {
    let irp = std::ptr::from_mut(packet);
    // SAFETY: the current location is one of the IRP's own.
    let location = unsafe { &*packet.CurrentStackLocation };
    let (routine, context, control) = (
        location.CompletionRoutine,
        location.Context,
        location.Control,
    );
    packet.PendingReturned = u8::from(control & sl::PENDING_RETURNED != 0);
    packet.CurrentLocation += 1;
    packet.CurrentStackLocation = packet.CurrentStackLocation.wrapping_add(1);
    let wanted = (packet.IoStatus.Status >= 0 && control & sl::INVOKE_ON_SUCCESS != 0)
        || (packet.IoStatus.Status < 0 && control & sl::INVOKE_ON_ERROR != 0)
        || (packet.Cancel != 0 && control & sl::INVOKE_ON_CANCEL != 0);
    let Some(routine) = routine.filter(|_| wanted) else {
        violate!(
            Rule::LabIrpSetup,
            "IRP {irp:?} completed without a completion routine to run"
        );
    };
    // From the call on, the IRP is the driver's: it may free or reuse it.
    let answer = callout::call_at("IoCompletionRoutine", routine as usize, level, || {
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

/// Swaps an IRP's cancel routine, as IoSetCancelRoutine does; the old one.
///
/// A provider's routine is called by IoCancelIrp at DISPATCH_LEVEL without the
/// cancel spin lock; it has nothing to release.
pub fn set_cancel_routine(irp: *mut IRP, routine: Option<DRIVER_CANCEL>) -> Option<DRIVER_CANCEL> {
    let new = routine.map_or(std::ptr::null_mut(), |r| r as *mut std::ffi::c_void);
    // SAFETY: the field of a live IRP.
    let field = unsafe { &raw mut (*irp).CancelRoutine };
    // SAFETY: pointer-sized and aligned; only ever changed through this atomic
    // by the lab and by IoSetCancelRoutine.
    let slot = unsafe { AtomicPtr::from_ptr(field.cast()) };
    let old = slot.swap(new, Ordering::AcqRel);
    // SAFETY: null is None; anything else was stored from a DRIVER_CANCEL.
    unsafe { std::mem::transmute::<*mut std::ffi::c_void, Option<DRIVER_CANCEL>>(old) }
}

/// Whether a provider owns the IRP now, and which function made it so.
pub fn pending_in(irp: *mut IRP) -> Option<&'static str> {
    with(|irps| irps.get(&(irp as usize)).and_then(|record| record.pending))
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

/// The record of an IRP that must be live and idle.
fn require_idle(irp: *mut IRP, api: &str, rule: Rule) {
    match with(|irps| irps.get(&(irp as usize)).map(|record| record.pending)) {
        None => {
            violate!(
                Rule::IoAllocateFree,
                "{api}: {irp:?} is no live IRP of IoAllocateIrp"
            );
        }
        Some(Some(owner)) => violate!(rule, "{api}: IRP {irp:?} is pending in {owner}"),
        Some(None) => {}
    }
}

/// MSDN: IoAllocateIrp. IRQL <= DISPATCH_LEVEL.
#[unsafe(no_mangle)]
pub extern "system" fn IoAllocateIrp(stack_size: i8, _charge_quota: u8) -> *mut IRP {
    let api = "IoAllocateIrp";
    irql::require_max_rule(Rule::IrqlIoDispatch, api, irql::DISPATCH_LEVEL);
    if stack_size < 1 {
        violate!(Rule::LabIrpStack, "{api} with {stack_size} stack locations");
    }
    if fault::alloc_should_fail_named(api) {
        return std::ptr::null_mut();
    }
    let mut memory = vec![0u64; size_of_irp(stack_size) / 8].into_boxed_slice();
    let irp = memory.as_mut_ptr().cast::<IRP>();
    initialize(irp, stack_size);
    let record = Record {
        stack: stack_size,
        pending: None,
        caller: stack::caller_rva(),
        memory,
    };
    with(|irps| irps.insert(irp as usize, record));
    irp
}

/// MSDN: IoFreeIrp. IRQL <= DISPATCH_LEVEL.
#[unsafe(no_mangle)]
pub extern "system" fn IoFreeIrp(irp: *mut IRP) {
    let api = "IoFreeIrp";
    irql::require_max_rule(Rule::IrqlIoDispatch, api, irql::DISPATCH_LEVEL);
    require_idle(irp, api, Rule::IoFreePendingIrp);
    let Some(mut record) = with(|irps| irps.remove(&(irp as usize))) else {
        violate!(
            Rule::IoAllocateFree,
            "{api}: IRP {irp:?} freed by two threads"
        );
    };
    record.memory.fill(FREED);
    let mut dead = DEAD
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    dead.push_back(record);
    if dead.len() > QUARANTINE
        && let Some(oldest) = dead.pop_front()
    {
        check_dead(&oldest);
    }
}

fn check_dead(record: &Record) {
    if record.memory.iter().any(|word| *word != FREED) {
        violate!(
            Rule::IoAllocateFree,
            "IRP {:?} (by driver+0x{:x}) was written to after IoFreeIrp",
            record.memory.as_ptr(),
            record.caller
        );
    }
}

/// MSDN: IoReuseIrp. IRQL <= DISPATCH_LEVEL.
#[unsafe(no_mangle)]
pub extern "system" fn IoReuseIrp(irp: *mut IRP, status: i32) {
    let api = "IoReuseIrp";
    irql::require_max_rule(Rule::IrqlIoDispatch, api, irql::DISPATCH_LEVEL);
    require_idle(irp, api, Rule::IoReuseIrp);
    let Some(stack_size) = with(|irps| irps.get(&(irp as usize)).map(|r| r.stack)) else {
        violate!(
            Rule::IoAllocateFree,
            "{api}: IRP {irp:?} freed by another thread"
        );
    };
    initialize(irp, stack_size);
    // SAFETY: live and idle, checked above.
    let packet = unsafe { &mut *irp };
    packet.IoStatus.Status = status;
}

/// MSDN: IoCancelIrp. IRQL <= DISPATCH_LEVEL. TRUE when a cancel routine ran.
///
/// # Safety
/// `irp` points to a live IRP.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn IoCancelIrp(irp: *mut IRP) -> u8 {
    let api = "IoCancelIrp";
    irql::require_max_rule(Rule::IrqlIoDispatch, api, irql::DISPATCH_LEVEL);
    if !is_ours(irp) {
        violate!(
            Rule::IoAllocateFree,
            "{api}: {irp:?} is no live IRP of IoAllocateIrp"
        );
    }
    // SAFETY: live, as just seen.
    let flag = unsafe { &raw mut (*irp).Cancel };
    // SAFETY: a byte of the live IRP; its owner reads it at any time.
    unsafe { flag.write_volatile(1) };
    let Some(routine) = set_cancel_routine(irp, None) else {
        return 0;
    };
    let old = irql::set(irql::DISPATCH_LEVEL);
    // SAFETY: the routine its owner set for this IRP.
    unsafe { routine(std::ptr::null_mut(), irp) };
    irql::set(old);
    1
}

/// MSDN: IoCompleteRequest (its x64 function). IRQL <= DISPATCH_LEVEL. For IRPs
/// that came from user mode past the framework; everything else is the wrong
/// owner's completion.
///
/// # Safety
/// `irp` points to a live IRP.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn IofCompleteRequest(irp: *mut IRP, boost: i8) {
    let api = "IofCompleteRequest";
    irql::require_max_rule(Rule::IrqlIoDispatch, api, irql::DISPATCH_LEVEL);
    if is_ours(irp) {
        match pending_in(irp) {
            Some(owner) => {
                violate!(
                    Rule::DoubleCompletion,
                    "{api}: IRP {irp:?} is pending in {owner}"
                )
            }
            None => violate!(
                Rule::LabIrpSetup,
                "{api}: IRP {irp:?} was allocated by this driver and never handed down"
            ),
        }
    }
    if crate::kmdf::owns_irp(irp) {
        violate!(
            Rule::DoubleCompletion,
            "{api}: the framework completes IRP {irp:?}"
        );
    }
    // SAFETY: by contract.
    unsafe { arg(irp, api, "Irp") };
    // SAFETY: an IRP of Wine's, by contract.
    unsafe { wine::IofCompleteRequest(irp, boost) }
}

/// Checks the freed IRPs for late writes, and forgets them.
pub fn session_end() {
    let mut dead = DEAD
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    for record in dead.drain(..) {
        check_dead(&record);
    }
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
                    r.pending
                        .map_or(String::new(), |p| format!(", pending in {p}"))
                )
            })
            .collect()
    })
}
