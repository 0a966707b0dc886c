//! Objects in general: attributes, contexts, references, deletion.

use std::ffi::{c_char, c_void};

use super::abi::{Attributes, ContextType, Globals, Handle, consts};
use super::world::{Context, Data, Kind, Object, Template, context_type, enter, lock};
use super::{cancel, loader::Table, timer};
use crate::core::{Rule, callout, fault, irql};
use crate::nt::types::status;
use crate::nt::{arg, mdl};

/// Pattern of a destroyed context.
const FREED: u128 = 0xDFDF_DFDF_DFDF_DFDF_DFDF_DFDF_DFDF_DFDF;

/// Puts this file's functions into the table.
pub fn register(table: &mut Table) {
    table.set(
        "WdfObjectGetTypedContextWorker",
        WdfObjectGetTypedContextWorker as *const c_void,
    );
    table.set(
        "WdfObjectAllocateContext",
        WdfObjectAllocateContext as *const c_void,
    );
    table.set(
        "WdfObjectReferenceActual",
        WdfObjectReferenceActual as *const c_void,
    );
    table.set(
        "WdfObjectDereferenceActual",
        WdfObjectDereferenceActual as *const c_void,
    );
    table.set("WdfObjectCreate", WdfObjectCreate as *const c_void);
    table.set("WdfObjectDelete", WdfObjectDelete as *const c_void);
}

/// Which attributes a creating function takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ParentRule {
    /// None may be given.
    None,
    /// One may be given.
    Optional,
    /// One must be given.
    Required,
}

/// Reads and checks attributes; null ones are the default.
///
/// # Safety
/// `attributes` is null or points to a WDF_OBJECT_ATTRIBUTES.
pub unsafe fn template(attributes: *const Attributes, rule: ParentRule, api: &str) -> Template {
    let mut out = Template {
        cleanup: None,
        destroy: None,
        kind: 0,
        size: 0,
        execution_level: consts::EXECUTION_INHERIT,
        parent: 0,
    };
    if !attributes.is_null() {
        // SAFETY: not null, so attributes by contract.
        let a = unsafe { arg(attributes.cast_mut(), api, "Attributes") };
        check(a, api);
        out.cleanup = a.cleanup;
        out.destroy = a.destroy;
        out.execution_level = a.execution_level;
        out.parent = a.parent;
        if !a.context_type.is_null() {
            let (kind, size) = context_type(a.context_type, api);
            if a.context_size != 0 && a.context_size < size {
                violate!(
                    Rule::LabWdfContext,
                    "{api}: ContextSizeOverride {} is below the type's {size}",
                    a.context_size
                );
            }
            out.kind = kind;
            out.size = size.max(a.context_size);
        }
    }
    match (rule, out.parent) {
        (ParentRule::None, p) if p != 0 => {
            violate!(
                Rule::ParentObjectCheck,
                "{api}: ParentObject is not allowed here"
            )
        }
        (ParentRule::Required, 0) => {
            violate!(Rule::ParentObjectCheck, "{api}: ParentObject is required")
        }
        _ => out,
    }
}

fn check(a: &Attributes, api: &str) {
    if a.size as usize != size_of::<Attributes>() {
        violate!(
            Rule::LabWdfStructSize,
            "{api}: WDF_OBJECT_ATTRIBUTES.Size is {}, should be {}",
            a.size,
            size_of::<Attributes>()
        );
    }
    if !(consts::EXECUTION_INHERIT..=consts::EXECUTION_DISPATCH).contains(&a.execution_level) {
        violate!(
            Rule::LabBadParameter,
            "{api}: ExecutionLevel {}",
            a.execution_level
        );
    }
    if !matches!(
        a.synchronization,
        consts::SCOPE_INHERIT | consts::SCOPE_NONE
    ) {
        violate!(
            Rule::LabUnimplemented,
            "{api}: SynchronizationScope {} (the lab has none and inherit)",
            a.synchronization
        );
    }
}

/// A `Size` field must be the structure's size.
pub fn check_size<T>(size: usize, api: &str, name: &str) {
    if size != size_of::<T>() {
        violate!(
            Rule::LabWdfStructSize,
            "{api}: {name}.Size is {size}, should be {}",
            size_of::<T>()
        );
    }
}

/// Gives an object the context and callbacks of a template.
pub fn apply(object: &mut Object, template: &Template) {
    match template.execution_level {
        consts::EXECUTION_PASSIVE => object.passive = true,
        consts::EXECUTION_DISPATCH => object.passive = false,
        _ => {}
    }
    if template.kind != 0 || template.cleanup.is_some() || template.destroy.is_some() {
        object.contexts.push(Context {
            kind: template.kind,
            memory: vec![0u128; template.size.div_ceil(16)].into_boxed_slice(),
            cleanup: template.cleanup,
            destroy: template.destroy,
        });
    }
}

/// Ends an object: its children first, then its own EvtCleanupCallback; when
/// nothing refers to it any more, EvtDestroyCallback and the end of its memory.
pub fn delete(handle: Handle, why: &'static str) {
    let children = {
        let mut world = lock();
        let Some(object) = world.objects.get_mut(&handle) else {
            return;
        };
        if std::mem::replace(&mut object.deleted, true) {
            return;
        }
        object.children.clone()
    };
    quiesce(handle);
    for child in children.into_iter().rev() {
        delete(child, why);
    }
    let callbacks: Vec<_> = {
        let mut world = lock();
        let Some(object) = world.objects.get_mut(&handle) else {
            return;
        };
        object
            .contexts
            .iter_mut()
            .filter_map(|c| c.cleanup.take())
            .collect()
    };
    for cleanup in callbacks {
        callout::call_at(
            "EvtCleanupCallback",
            cleanup as usize,
            irql::current(),
            || {
                // SAFETY: the driver's callback, with a handle that is still alive.
                unsafe { cleanup(handle) }
            },
        );
    }
    collect(handle, why);
}

/// Stops what would still call the driver with this object.
fn quiesce(handle: Handle) {
    let kind = lock().objects.get(&handle).map(|o| o.kind);
    match kind {
        Some(Kind::Timer) => timer::quiesce_timer(handle),
        Some(Kind::WorkItem) => timer::quiesce_work_item(handle),
        Some(Kind::Queue) => cancel::quiesce(handle),
        _ => {}
    }
}

/// Destroys a deleted object that nothing refers to.
fn collect(handle: Handle, why: &'static str) {
    let destroy: Vec<_> = {
        let mut world = lock();
        let Some(object) = world.objects.get_mut(&handle) else {
            return;
        };
        if !object.deleted || object.references > 0 {
            return;
        }
        object
            .contexts
            .iter_mut()
            .filter_map(|c| c.destroy.take())
            .collect()
    };
    for callback in destroy {
        callout::call_at(
            "EvtDestroyCallback",
            callback as usize,
            irql::current(),
            || {
                // SAFETY: the driver's callback; the contexts are still there.
                unsafe { callback(handle) }
            },
        );
    }
    let removed = lock().remove(handle, why);
    if let Some(object) = removed {
        release(object);
    }
}

fn release(mut object: Object) {
    for context in &mut object.contexts {
        context.memory.fill(FREED);
    }
    match object.data {
        Data::Memory {
            buffer,
            owned: true,
            ..
        } => crate::core::pool::free(buffer.cast(), None),
        Data::Request(request) => {
            for m in request.mdls {
                mdl::free(m, "the framework", "WdfRequestComplete");
            }
        }
        _ => {}
    }
    // A stale pointer into a context must find the pattern, not other memory.
    std::mem::forget(object.contexts);
}

unsafe extern "system" fn WdfObjectGetTypedContextWorker(
    globals: *mut Globals,
    handle: Handle,
    info: *const ContextType,
) -> *mut c_void {
    let api = "WdfObjectGetTypedContextWorker";
    drop(enter(globals, api));
    let (kind, _) = context_type(info, api);
    let mut world = lock();
    let object = world.any(handle, api);
    let found = object
        .contexts
        .iter_mut()
        .find(|c| c.kind == kind && kind != 0);
    found.map_or(std::ptr::null_mut(), |c| c.memory.as_mut_ptr().cast())
}

unsafe extern "system" fn WdfObjectAllocateContext(
    globals: *mut Globals,
    handle: Handle,
    attributes: *const Attributes,
    out: *mut *mut c_void,
) -> i32 {
    let api = "WdfObjectAllocateContext";
    drop(enter(globals, api));
    irql::require_max_rule(Rule::IrqlKmdf, api, irql::DISPATCH_LEVEL);
    // SAFETY: by the function's contract.
    let template = unsafe { template(attributes, ParentRule::None, api) };
    if template.kind == 0 {
        violate!(
            Rule::LabWdfContext,
            "{api}: the attributes name no context type"
        );
    }
    if fault::alloc_should_fail_named(api) {
        return status::INSUFFICIENT_RESOURCES;
    }
    let mut world = lock();
    let object = world.any(handle, api);
    if let Some(old) = object.contexts.iter_mut().find(|c| c.kind == template.kind) {
        let memory = old.memory.as_mut_ptr().cast();
        drop(world);
        // SAFETY: the driver's variable, or null.
        unsafe { store(out, memory) };
        return status::OBJECT_NAME_EXISTS;
    }
    apply(object, &template);
    let memory = object
        .contexts
        .last_mut()
        .map(|c| c.memory.as_mut_ptr().cast());
    drop(world);
    // SAFETY: the driver's variable, or null.
    unsafe { store(out, memory.unwrap_or(std::ptr::null_mut())) };
    status::SUCCESS
}

/// Writes an optional output.
///
/// # Safety
/// `out` is null or writable.
pub unsafe fn store<T>(out: *mut T, value: T) {
    if !out.is_null() {
        // SAFETY: not null, so writable by contract.
        unsafe { out.write(value) }
    }
}

unsafe extern "system" fn WdfObjectReferenceActual(
    globals: *mut Globals,
    handle: Handle,
    _tag: *mut c_void,
    _line: i32,
    _file: *const c_char,
) {
    let mut world = enter(globals, "WdfObjectReference");
    world.any(handle, "WdfObjectReference").references += 1;
}

unsafe extern "system" fn WdfObjectDereferenceActual(
    globals: *mut Globals,
    handle: Handle,
    _tag: *mut c_void,
    _line: i32,
    _file: *const c_char,
) {
    let api = "WdfObjectDereference";
    {
        let mut world = enter(globals, api);
        let object = world.any(handle, api);
        let Some(left) = object.references.checked_sub(1) else {
            violate!(
                Rule::ObjectReference,
                "{api}: {handle:#x} has no reference left to give up"
            );
        };
        object.references = left;
    }
    collect(handle, "dereferenced for the last time");
}

unsafe extern "system" fn WdfObjectCreate(
    globals: *mut Globals,
    attributes: *const Attributes,
    out: *mut Handle,
) -> i32 {
    let api = "WdfObjectCreate";
    drop(enter(globals, api));
    irql::require_max_rule(Rule::IrqlKmdf, api, irql::DISPATCH_LEVEL);
    // SAFETY: by the function's contract.
    unsafe {
        create(
            api,
            attributes,
            ParentRule::Optional,
            Kind::Generic,
            || Data::Generic,
            out,
        )
    }
}

/// Makes an object with attributes; without a parent it is the driver's child.
///
/// # Safety
/// `attributes` is null or attributes, `out` writable.
pub unsafe fn create(
    api: &str,
    attributes: *const Attributes,
    rule: ParentRule,
    kind: Kind,
    data: impl FnOnce() -> Data,
    out: *mut Handle,
) -> i32 {
    // SAFETY: by contract.
    let template = unsafe { template(attributes, rule, api) };
    // SAFETY: by contract.
    let out = unsafe { arg(out, api, "handle") };
    *out = 0;
    if fault::alloc_should_fail_named(api) {
        return status::INSUFFICIENT_RESOURCES;
    }
    let mut world = lock();
    let parent = if template.parent == 0 {
        world.driver
    } else {
        template.parent
    };
    if world.any(parent, api).deleted {
        violate!(
            Rule::ParentObjectCheck,
            "{api}: the parent {parent:#x} is being deleted"
        );
    }
    let handle = world.insert(kind, parent, data());
    apply(world.any(handle, api), &template);
    *out = handle;
    status::SUCCESS
}

unsafe extern "system" fn WdfObjectDelete(globals: *mut Globals, handle: Handle) {
    let api = "WdfObjectDelete";
    irql::require_max_rule(Rule::IrqlKmdf, api, irql::DISPATCH_LEVEL);
    let kind = {
        let mut world = enter(globals, api);
        let object = world.any(handle, api);
        if object.deleted {
            violate!(
                Rule::InvalidHandle,
                "{api}: {:?} {handle:#x} is deleted already",
                object.kind
            );
        }
        if let Data::Queue(queue) = &object.data
            && queue.config.default_queue != 0
        {
            violate!(
                Rule::ReqDelete,
                "{api}: a default queue is the framework's to delete"
            );
        }
        object.kind
    };
    match kind {
        Kind::Request | Kind::File | Kind::Driver => {
            violate!(
                Rule::ReqDelete,
                "{api}: a {kind:?} is the framework's to delete"
            )
        }
        Kind::Device | Kind::Queue | Kind::Timer | Kind::WorkItem => {
            irql::require_exact_rule(Rule::IrqlKmdf, api, irql::PASSIVE_LEVEL);
        }
        _ => {}
    }
    if kind == Kind::Device {
        super::device::delete(handle);
    } else {
        delete(handle, "deleted");
    }
}
