//! Framework timers and work items.

use std::ffi::c_void;
use std::time::Duration;

use super::abi::{Attributes, Globals, Handle, TimerConfig, WorkItemConfig};
use super::loader::Table;
use super::object::{ParentRule, check_size, create};
use super::world::{Data, Kind, Timer, WorkItem, changed, enter, lock, wait_for};
use crate::core::{Rule, callout, irql};
use crate::nt::types::{KDPC, KTIMER};
use crate::nt::{arg, dpc, workitem};

/// Puts this file's functions into the table.
pub fn register(table: &mut Table) {
    let functions: [(&str, *const c_void); 8] = [
        ("WdfTimerCreate", WdfTimerCreate as _),
        ("WdfTimerStart", WdfTimerStart as _),
        ("WdfTimerStop", WdfTimerStop as _),
        ("WdfTimerGetParentObject", WdfTimerGetParentObject as _),
        ("WdfWorkItemCreate", WdfWorkItemCreate as _),
        ("WdfWorkItemEnqueue", WdfWorkItemEnqueue as _),
        ("WdfWorkItemFlush", WdfWorkItemFlush as _),
        (
            "WdfWorkItemGetParentObject",
            WdfWorkItemGetParentObject as _,
        ),
    ];
    for (name, function) in functions {
        table.set(name, function);
    }
}

unsafe extern "system" fn WdfTimerCreate(
    globals: *mut Globals,
    config: *const TimerConfig,
    attributes: *const Attributes,
    out: *mut Handle,
) -> i32 {
    let api = "WdfTimerCreate";
    drop(enter(globals, api));
    irql::require_max_rule(Rule::IrqlKmdf, api, irql::DISPATCH_LEVEL);
    // SAFETY: by the function's contract.
    let config = unsafe { arg(config.cast_mut(), api, "Config") };
    check_size::<TimerConfig>(config.size as usize, api, "WDF_TIMER_CONFIG");
    let Some(func) = config.func else {
        violate!(Rule::LabBadParameter, "{api}: no EvtTimerFunc");
    };
    let period = config.period;
    let data = || {
        // SAFETY: zeros are a valid KTIMER and KDPC before initialisation.
        let kernel: Box<(KTIMER, KDPC)> = Box::new(unsafe { std::mem::zeroed() });
        Data::Timer(Timer {
            kernel,
            func,
            period,
            running: 0,
        })
    };
    // SAFETY: by the function's contract.
    let result = unsafe {
        create(
            api,
            attributes,
            ParentRule::Required,
            Kind::Timer,
            data,
            out,
        )
    };
    if result < 0 {
        return result;
    }
    // SAFETY: written by `create`.
    let handle = unsafe { out.read() };
    let (timer, dpc) = kernel(handle, api);
    // SAFETY: memory of the object, not in use yet.
    unsafe { dpc::KeInitializeTimer(timer) };
    // SAFETY: memory of the object, not in use yet.
    unsafe { dpc::KeInitializeDpc(dpc, Some(due), handle as *mut c_void) };
    result
}

fn kernel(handle: Handle, api: &str) -> (*mut KTIMER, *mut KDPC) {
    let mut world = lock();
    let timer = world.timer(handle, api);
    (&raw mut timer.kernel.0, &raw mut timer.kernel.1)
}

/// The kernel timer's DPC: EvtTimerFunc here, or on a worker when passive.
unsafe extern "system" fn due(_: *mut KDPC, context: *mut c_void, _: *mut c_void, _: *mut c_void) {
    let handle = context as Handle;
    let passive = {
        let mut world = lock();
        let Some(object) = world.objects.get_mut(&handle) else {
            return;
        };
        let passive = object.passive;
        if let Data::Timer(timer) = &mut object.data {
            timer.running += 1;
        }
        passive
    };
    if passive {
        workitem::submit(move || fire(handle, irql::PASSIVE_LEVEL));
    } else {
        fire(handle, irql::DISPATCH_LEVEL);
    }
}

fn fire(handle: Handle, level: u8) {
    let func = lock().timer(handle, "EvtTimerFunc").func;
    callout::call_at("EvtTimerFunc", func as usize, level, || {
        // SAFETY: the driver's callback; deletion waits for it.
        unsafe { func(handle) }
    });
    if let Some(Data::Timer(timer)) = lock().objects.get_mut(&handle).map(|o| &mut o.data) {
        timer.running -= 1;
    }
    changed();
}

unsafe extern "system" fn WdfTimerStart(globals: *mut Globals, handle: Handle, due: i64) -> u8 {
    let api = "WdfTimerStart";
    irql::require_max_rule(Rule::IrqlKmdf, api, irql::DISPATCH_LEVEL);
    let period = {
        let mut world = enter(globals, api);
        if world.object(handle, Kind::Timer, api).deleted {
            violate!(
                Rule::LabWdfTimer,
                "{api}: timer {handle:#x} is being deleted"
            );
        }
        world.timer(handle, api).period
    };
    let (timer, dpc) = kernel(handle, api);
    // SAFETY: initialised by WdfTimerCreate, alive with the object.
    unsafe { dpc::KeSetTimerEx(timer, due, i32::try_from(period).unwrap_or(i32::MAX), dpc) }
}

unsafe extern "system" fn WdfTimerStop(globals: *mut Globals, handle: Handle, wait: u8) -> u8 {
    let api = "WdfTimerStop";
    let max = if wait == 0 {
        irql::DISPATCH_LEVEL
    } else {
        irql::PASSIVE_LEVEL
    };
    irql::require_max_rule(Rule::IrqlKmdf, api, max);
    drop(enter(globals, api));
    if wait != 0 && callout::names().contains(&"EvtTimerFunc") {
        violate!(
            Rule::LabWdfTimer,
            "{api} with Wait inside EvtTimerFunc would wait for itself"
        );
    }
    let (timer, _) = kernel(handle, api);
    // SAFETY: initialised by WdfTimerCreate, alive with the object.
    let was_set = unsafe { dpc::KeCancelTimer(timer) };
    if wait != 0 {
        settle(handle);
    }
    was_set
}

/// Waits for callbacks that are queued or running.
fn settle(handle: Handle) {
    dpc::KeFlushQueuedDpcs();
    let mut world = lock();
    loop {
        let running = match world.objects.get(&handle).map(|o| &o.data) {
            Some(Data::Timer(timer)) => timer.running > 0,
            Some(Data::WorkItem(item)) => item.queued || item.running > 0,
            _ => false,
        };
        if !running {
            return;
        }
        world = wait_for(world, Duration::from_millis(50));
    }
}

/// Before a timer object goes: stopped, and its callback over.
pub fn quiesce_timer(handle: Handle) {
    irql::require_exact_rule(Rule::IrqlKmdf, "deletion of a timer", irql::PASSIVE_LEVEL);
    let (timer, _) = kernel(handle, "deletion of a timer");
    // SAFETY: initialised by WdfTimerCreate, alive with the object.
    unsafe { dpc::KeCancelTimer(timer) };
    if !callout::names().contains(&"EvtTimerFunc") {
        settle(handle);
    }
}

unsafe extern "system" fn WdfTimerGetParentObject(globals: *mut Globals, handle: Handle) -> Handle {
    let api = "WdfTimerGetParentObject";
    enter(globals, api).object(handle, Kind::Timer, api).parent
}

unsafe extern "system" fn WdfWorkItemCreate(
    globals: *mut Globals,
    config: *const WorkItemConfig,
    attributes: *const Attributes,
    out: *mut Handle,
) -> i32 {
    let api = "WdfWorkItemCreate";
    drop(enter(globals, api));
    irql::require_max_rule(Rule::IrqlKmdf, api, irql::DISPATCH_LEVEL);
    // SAFETY: by the function's contract.
    let config = unsafe { arg(config.cast_mut(), api, "Config") };
    check_size::<WorkItemConfig>(config.size as usize, api, "WDF_WORKITEM_CONFIG");
    let Some(func) = config.func else {
        violate!(Rule::LabBadParameter, "{api}: no EvtWorkItemFunc");
    };
    let data = || {
        Data::WorkItem(WorkItem {
            func,
            queued: false,
            running: 0,
        })
    };
    // SAFETY: by the function's contract.
    unsafe {
        create(
            api,
            attributes,
            ParentRule::Required,
            Kind::WorkItem,
            data,
            out,
        )
    }
}

unsafe extern "system" fn WdfWorkItemEnqueue(globals: *mut Globals, handle: Handle) {
    let api = "WdfWorkItemEnqueue";
    irql::require_max_rule(Rule::IrqlKmdf, api, irql::DISPATCH_LEVEL);
    {
        let mut world = enter(globals, api);
        if world.object(handle, Kind::WorkItem, api).deleted {
            violate!(
                Rule::InvalidHandle,
                "{api}: work item {handle:#x} is being deleted"
            );
        }
        let item = world.work_item(handle, api);
        // Queued already: one run serves both calls.
        if std::mem::replace(&mut item.queued, true) {
            return;
        }
    }
    workitem::submit(move || {
        let func = {
            let mut world = lock();
            let item = world.work_item(handle, "EvtWorkItem");
            item.queued = false;
            item.running += 1;
            item.func
        };
        callout::call_at("EvtWorkItem", func as usize, irql::PASSIVE_LEVEL, || {
            // SAFETY: the driver's callback; deletion waits for it.
            unsafe { func(handle) }
        });
        if let Some(Data::WorkItem(item)) = lock().objects.get_mut(&handle).map(|o| &mut o.data) {
            item.running -= 1;
        }
        changed();
    });
}

unsafe extern "system" fn WdfWorkItemFlush(globals: *mut Globals, handle: Handle) {
    let api = "WdfWorkItemFlush";
    irql::require_exact_rule(Rule::IrqlKmdf, api, irql::PASSIVE_LEVEL);
    enter(globals, api).work_item(handle, api);
    settle(handle);
}

/// Before a work item object goes: its callback is over.
pub fn quiesce_work_item(handle: Handle) {
    if !callout::names().contains(&"EvtWorkItem") {
        settle(handle);
    }
}

unsafe extern "system" fn WdfWorkItemGetParentObject(
    globals: *mut Globals,
    handle: Handle,
) -> Handle {
    let api = "WdfWorkItemGetParentObject";
    enter(globals, api)
        .object(handle, Kind::WorkItem, api)
        .parent
}
