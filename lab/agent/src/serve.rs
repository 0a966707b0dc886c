//! The agent's line protocol.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::CallError;
use crate::{poke, programs, scm};

#[derive(Deserialize)]
#[serde(tag = "cmd", rename_all = "snake_case")]
enum Request {
    Ping,
    Create { service: String, path: String },
    Start { service: String },
    Stop { service: String },
    Query { service: String },
    Delete { service: String },
    Poke { device: String },
    EndPrograms,
    Exit,
}

/// Listens on a free loopback port, writes its number to `port_file` and
/// serves until told to exit.
pub(crate) fn serve(port_file: &Path) -> std::io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let port = listener.local_addr()?.port();
    // Written whole and then renamed: a reader never sees half a number.
    let temporary = port_file.with_extension("tmp");
    std::fs::write(&temporary, port.to_string())?;
    std::fs::rename(&temporary, port_file)?;
    for stream in listener.incoming() {
        let stream = stream?;
        std::thread::spawn(move || {
            // A client that goes away in the middle is no fault of the agent.
            let _gone = client(&stream);
        });
    }
    Ok(())
}

fn client(stream: &TcpStream) -> std::io::Result<()> {
    let mut out = stream;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        let reply = match serde_json::from_str::<Request>(&line) {
            Ok(Request::Exit) => {
                writeln!(out, "{}", json!({"ok": null}))?;
                std::process::exit(0);
            }
            Ok(request) => match handle(&request) {
                Ok(value) => json!({"ok": value}),
                Err(e) => json!({"error": e.to_string(), "code": e.code}),
            },
            Err(e) => json!({"error": format!("bad request: {e}")}),
        };
        writeln!(out, "{reply}")?;
    }
    Ok(())
}

fn handle(request: &Request) -> Result<Value, CallError> {
    match request {
        Request::Ping => return Ok(json!({"pid": std::process::id()})),
        Request::Create { service, path } => scm::create(service, path)?,
        Request::Start { service } => scm::start(service)?,
        Request::Stop { service } => scm::stop(service)?,
        Request::Query { service } => {
            let state = scm::query(service)?;
            return Ok(json!({"state": state.name, "exit_code": state.exit_code}));
        }
        Request::Delete { service } => scm::delete(service)?,
        Request::Poke { device } => poke::poke(device)?,
        Request::EndPrograms => return Ok(json!({"ended": programs::end_all()?})),
        // Answered by the caller, which then ends the process.
        Request::Exit => {}
    }
    Ok(Value::Null)
}
