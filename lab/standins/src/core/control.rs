//! The control channel: a TCP listener on 127.0.0.1 whose port stands in
//! `C:\lab\control.port`. One JSON object a line in, `{"cmd": "...", ...}`;
//! one a line out, `{"ok": value}` or `{"error": "text"}`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Mutex, Once};

use serde_json::{Value, json};

use super::event::FOLDER;
use super::{config, event_log, fault, pool, session};

/// A command: takes the whole request object.
pub type Handler = fn(&Value) -> Result<Value, String>;

static HANDLERS: Mutex<BTreeMap<&'static str, Handler>> = Mutex::new(BTreeMap::new());
static START: Once = Once::new();

/// Adds (or replaces) a command.
pub fn register(cmd: &'static str, handler: Handler) {
    if let Ok(mut handlers) = HANDLERS.lock() {
        handlers.insert(cmd, handler);
    }
}

/// Starts the listener, once in the life of the process.
pub fn start() {
    START.call_once(|| {
        register("ping", |_| Ok(json!("pong")));
        register("status", |_| Ok(status()));
        register("alloc_count", |_| Ok(json!(fault::alloc_count())));
        register("faults", set_faults);
        register("reset", |_| {
            fault::set(None, Vec::new());
            Ok(Value::Null)
        });
        if let Err(error) = listen() {
            event_log(json!({ "event": "control", "error": error.to_string() }));
        }
    });
}

fn status() -> Value {
    json!({
        "driver": session::active().then(session::name),
        "adapters": config::get().adapters.iter().map(|a| a.name.clone()).collect::<Vec<_>>(),
        "pool": pool::by_tag(),
        "allocs": fault::alloc_count(),
        "pid": std::process::id(),
    })
}

/// `{"cmd":"faults","alloc":N|null,"points":[{"point","nth","status"}]}`.
/// `alloc` counts from the session's start; with `"relative":true` from now.
fn set_faults(request: &Value) -> Result<Value, String> {
    let mut faults: config::Faults =
        serde_json::from_value(request.clone()).map_err(|e| e.to_string())?;
    if request.get("relative").and_then(Value::as_bool) == Some(true) {
        faults.alloc = faults.alloc.map(|n| n.saturating_add(fault::alloc_count()));
    }
    fault::set(faults.alloc, faults.points);
    Ok(Value::Null)
}

fn listen() -> std::io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let port = listener.local_addr()?.port();
    std::fs::write(format!("{FOLDER}\\control.port"), port.to_string())?;
    std::thread::Builder::new()
        .name("lab-control".to_owned())
        .spawn(move || {
            for stream in listener.incoming().flatten() {
                let spawned = std::thread::Builder::new()
                    .name("lab-control-client".to_owned())
                    .spawn(move || serve(stream));
                if let Err(error) = spawned {
                    event_log(json!({ "event": "control", "error": error.to_string() }));
                }
            }
        })?;
    Ok(())
}

fn serve(stream: TcpStream) {
    let Ok(mut out) = stream.try_clone() else {
        return;
    };
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { return };
        let answer = match answer(&line) {
            Ok(value) => json!({ "ok": value }),
            Err(error) => json!({ "error": error }),
        };
        if writeln!(out, "{answer}").is_err() {
            return;
        }
    }
}

fn answer(line: &str) -> Result<Value, String> {
    let request: Value = serde_json::from_str(line).map_err(|e| e.to_string())?;
    let cmd = request
        .get("cmd")
        .and_then(Value::as_str)
        .ok_or("no \"cmd\"")?;
    let handler = HANDLERS
        .lock()
        .map_err(|e| e.to_string())?
        .get(cmd)
        .copied()
        .ok_or_else(|| format!("unknown command {cmd:?}"))?;
    handler(&request)
}
