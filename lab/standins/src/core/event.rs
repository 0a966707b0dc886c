//! The event log (`C:\lab\events.jsonl`, one JSON object a line) and the end
//! of a run.

use std::fs::OpenOptions;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, TerminateProcess};

use super::{Rule, callout, irql, session, stack};

/// Folder the lab and its harness share.
pub const FOLDER: &str = "C:\\lab";
/// Exit code of the process after a violation.
pub const EXIT_CODE: u32 = 0xDEAD;

static WRITER: Mutex<()> = Mutex::new(());
static ENDING: AtomicBool = AtomicBool::new(false);

fn write_line(value: &Value) {
    let line = format!("{value}\n");
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(format!("{FOLDER}\\events.jsonl"));
    // A lab without its folder still runs; the harness sees the missing file.
    if let Ok(mut file) = file {
        let _ = file.write_all(line.as_bytes());
    }
}

/// Appends one event.
pub fn event_log(value: Value) {
    let _guard = WRITER.lock();
    write_line(&value);
}

/// A rule was broken: writes what, by whom and how it came there, and ends
/// the process, as a bug check ends the machine.
pub fn violation(rule: Rule, detail: std::fmt::Arguments<'_>) -> ! {
    violation_at(rule, 0, detail)
}

/// [`violation`] at a known address (of an exception); 0 = the caller is
/// looked for on the stack.
pub fn violation_at(rule: Rule, address: usize, detail: std::fmt::Arguments<'_>) -> ! {
    if ENDING.swap(true, Ordering::SeqCst) {
        // Another thread is writing its violation; this process is over.
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    }
    let trace = stack::trace();
    let caller = if session::in_image(address) {
        Some(address)
    } else {
        stack::driver_frame()
    };
    let caller = caller.map_or_else(|| "?".to_owned(), stack::describe);
    let value = json!({
        "event": "violation",
        "rule": rule.name(),
        "meaning": rule.meaning(),
        "driver": session::name(),
        "caller": caller,
        "detail": detail.to_string(),
        "irql": irql::current(),
        "inside": callout::names(),
        "stack": trace,
    });
    // The writer's lock may be held by this very thread or by one that will
    // never run again: wait for it, but not for ever.
    let start = Instant::now();
    let mut guard = WRITER.try_lock();
    while guard.is_err() && start.elapsed() < Duration::from_millis(200) {
        std::thread::sleep(Duration::from_millis(1));
        guard = WRITER.try_lock();
    }
    write_line(&value);
    eprintln!("lab: {value}");
    terminate()
}

static AT_END: Mutex<Vec<fn()>> = Mutex::new(Vec::new());

/// Adds what is to be undone outside of the process when a violation ends it.
/// It runs on the violating thread, which may hold any lock: it may only try
/// locks, never wait for one.
pub fn at_end(undo: fn()) {
    if let Ok(mut all) = AT_END.lock()
        && !all.iter().any(|f| std::ptr::fn_addr_eq(*f, undo))
    {
        all.push(undo);
    }
}

/// Ends the process at once, with [`EXIT_CODE`].
pub fn terminate() -> ! {
    if let Ok(all) = AT_END.try_lock() {
        for undo in all.iter() {
            undo();
        }
    }
    // SAFETY: takes no argument.
    let me = unsafe { GetCurrentProcess() };
    // SAFETY: a handle to this process; nothing runs after this call.
    unsafe { TerminateProcess(me, EXIT_CODE) };
    std::process::abort()
}
