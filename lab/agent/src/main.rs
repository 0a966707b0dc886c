//! `labagent.exe`: the one ordinary program that lives in a lab for as long as
//! the lab is up.
//!
//! Wine ends its service processes, and with them every driver, when the last
//! ordinary process of a prefix is gone. The agent is that process. It also
//! works the service manager for the harness, so that starting and stopping a
//! driver costs a message, not a new process.
//!
//! Protocol: one JSON object a line over TCP on 127.0.0.1, answered by one
//! JSON object a line. The port stands in the file named by the first
//! argument. Requests: `{"cmd":"create","service":S,"path":P}`, `start`,
//! `stop`, `query`, `delete` (each with `service`), `{"cmd":"poke","device":D}`,
//! `end_programs`, `ping`, `exit`.
//! Answers: `{"ok":VALUE}` or `{"error":TEXT,"code":WIN32}`.

#[cfg(windows)]
mod error;
#[cfg(windows)]
mod poke;
#[cfg(windows)]
mod programs;
#[cfg(windows)]
mod scm;
#[cfg(windows)]
mod serve;

#[cfg(windows)]
fn main() -> std::process::ExitCode {
    let Some(port_file) = std::env::args_os().nth(1) else {
        eprintln!("usage: labagent PORT_FILE");
        return std::process::ExitCode::from(2);
    };
    match serve::serve(std::path::Path::new(&port_file)) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("labagent: {e}");
            std::process::ExitCode::FAILURE
        }
    }
}

#[cfg(not(windows))]
fn main() -> std::process::ExitCode {
    eprintln!("labagent is a Windows program; build it for x86_64-pc-windows-gnu");
    std::process::ExitCode::from(2)
}
