//! `weirctl sockets`.

use std::collections::HashMap;
use std::io::{self, Write};

use serde::Serialize;
use weir_client::net::SocketEntry;
use weir_client::{Device, filetime, owners};

use crate::error::CtlError;
use crate::output::{Output, View, columns};

#[derive(Serialize)]
struct Sockets {
    sockets: Vec<Socket>,
}

#[derive(Serialize)]
struct Socket {
    id: u64,
    kind: &'static str,
    state: &'static str,
    local: String,
    remote: Option<String>,
    bytes_in: u64,
    bytes_out: u64,
    reads: u64,
    writes: u64,
    queued: u64,
    refused: u64,
    pending_reads: u32,
    pending_writes: u32,
    /// The process whose handle it is.
    owner: Option<u32>,
    process: Option<String>,
    /// The service it belongs to.
    service: Option<u32>,
    age_seconds: f64,
    /// What it failed with.
    status: Option<String>,
}

impl Socket {
    fn new(entry: &SocketEntry, process: Option<String>, now: u64) -> Socket {
        let age = now.saturating_sub(entry.opened_100ns);
        Socket {
            id: entry.id,
            kind: entry.kind.as_str(),
            state: entry.state.as_str(),
            local: entry.local.to_string(),
            remote: entry.remote.map(|r| r.to_string()),
            bytes_in: entry.bytes_in,
            bytes_out: entry.bytes_out,
            reads: entry.reads,
            writes: entry.writes,
            queued: entry.queued,
            refused: entry.refused,
            pending_reads: entry.pending_reads,
            pending_writes: entry.pending_writes,
            owner: entry.owner,
            process,
            service: entry.service,
            age_seconds: filetime::ticks(age).as_secs_f64(),
            status: entry.failure.map(|status| status.to_string()),
        }
    }

    /// Whose it is, for people.
    fn whose(&self) -> String {
        match (self.service, self.owner, &self.process) {
            (Some(id), _, _) => format!("service {id}"),
            (None, Some(pid), Some(name)) => format!("{name} ({pid})"),
            (None, Some(pid), None) => format!("process {pid}"),
            (None, None, _) => "-".to_owned(),
        }
    }
}

impl View for Sockets {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.sockets.is_empty() {
            return writeln!(out, "no sockets");
        }
        let rows: Vec<Vec<String>> = self
            .sockets
            .iter()
            .map(|s| {
                vec![
                    s.id.to_string(),
                    s.kind.to_owned(),
                    s.local.clone(),
                    s.remote.clone().unwrap_or_else(|| "*".to_owned()),
                    match &s.status {
                        None => s.state.to_owned(),
                        Some(status) => format!("{}: {status}", s.state),
                    },
                    s.bytes_in.to_string(),
                    s.bytes_out.to_string(),
                    s.queued.to_string(),
                    s.whose(),
                ]
            })
            .collect();
        let header = [
            "id",
            "kind",
            "local",
            "remote",
            "state",
            "bytes in",
            "bytes out",
            "queued",
            "owner",
        ];
        columns(out, &header, &[1, 2, 3, 4, 8], &rows)
    }
}

/// Lists every kernel socket of the driver.
pub(crate) fn sockets(device: &Device, out: &mut Output<'_>) -> Result<(), CtlError> {
    let now = filetime::now();
    let mut names: HashMap<u32, Option<String>> = HashMap::new();
    let sockets = device
        .sockets()?
        .iter()
        .map(|entry| {
            let process = entry.owner.and_then(|pid| {
                names
                    .entry(pid)
                    .or_insert_with(|| owners::process_name(pid))
                    .clone()
            });
            Socket::new(entry, process, now)
        })
        .collect();
    out.show(&Sockets { sockets })?;
    Ok(())
}
