//! `weirctl service`.

use std::io::{self, Write};

use serde::Serialize;
use weir_abi::{ServiceFlags, ServiceSpec};
use weir_client::{Device, NtStatus};

use crate::cli::ServiceCommand;
use crate::error::CtlError;
use crate::output::{Output, View, columns};

#[derive(Serialize)]
struct Started {
    id: u32,
    kind: &'static str,
    transport: &'static str,
    address: String,
    port: u16,
    /// Where a relay goes to.
    to: Option<String>,
    /// Rules may refuse a peer before its handshake is answered.
    conditional: bool,
}

impl View for Started {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        write!(
            out,
            "service {} started: {} on {} {}",
            self.id, self.kind, self.transport, self.address
        )?;
        if let Some(to) = &self.to {
            write!(out, " to {to}")?;
        }
        if self.conditional {
            write!(out, ", conditional")?;
        }
        writeln!(out)
    }
}

#[derive(Serialize)]
struct Stopped {
    id: u32,
    stopped: bool,
}

impl View for Stopped {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "service {} stopped", self.id)
    }
}

#[derive(Serialize)]
struct Services {
    services: Vec<Service>,
}

#[derive(Serialize)]
struct Service {
    id: u32,
    kind: &'static str,
    transport: &'static str,
    address: String,
    connections: u32,
    accepted: u64,
    bytes_in: u64,
    bytes_out: u64,
    errors: u64,
    dropped: u64,
    /// Where a relay goes to.
    to: Option<String>,
    /// Rules may refuse a peer before its handshake is answered.
    conditional: bool,
    ended: Ended,
    state: &'static str,
    /// The NTSTATUS it failed with.
    status: Option<String>,
}

/// How connections ended.
#[derive(Serialize)]
struct Ended {
    finished: u64,
    target_refused: u64,
    reset_by_client: u64,
    reset_by_target: u64,
    timed_out: u64,
    failed: u64,
}

impl From<weir_client::Ended> for Ended {
    fn from(ended: weir_client::Ended) -> Ended {
        Ended {
            finished: ended.finished,
            target_refused: ended.target_refused,
            reset_by_client: ended.reset_by_client,
            reset_by_target: ended.reset_by_target,
            timed_out: ended.timed_out,
            failed: ended.failed,
        }
    }
}

impl Ended {
    /// What there was of it, for people.
    fn text(&self) -> String {
        let all = [
            (self.finished, "finished"),
            (self.target_refused, "refused by target"),
            (self.reset_by_client, "reset by client"),
            (self.reset_by_target, "reset by target"),
            (self.timed_out, "timed out"),
            (self.failed, "failed"),
        ];
        let some: Vec<String> = all
            .iter()
            .filter(|(n, _)| *n > 0)
            .map(|(n, what)| format!("{n} {what}"))
            .collect();
        if some.is_empty() {
            return "-".to_owned();
        }
        some.join(", ")
    }
}

impl Service {
    fn condition(&self) -> String {
        match &self.status {
            None => self.state.to_owned(),
            Some(status) => format!("{}: {status}", self.state),
        }
    }
}

/// The name of a status, or its code where the contract has no name for it.
fn name(status: NtStatus) -> String {
    status
        .name()
        .map_or_else(|| format!("{:#010x}", status.0), str::to_owned)
}

impl View for Services {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.services.is_empty() {
            return writeln!(out, "no services");
        }
        let rows: Vec<Vec<String>> = self
            .services
            .iter()
            .map(|s| {
                vec![
                    s.id.to_string(),
                    s.kind.to_owned(),
                    if s.conditional {
                        format!("{}, conditional", s.transport)
                    } else {
                        s.transport.to_owned()
                    },
                    match &s.to {
                        None => s.address.clone(),
                        Some(to) => format!("{} to {to}", s.address),
                    },
                    s.condition(),
                    s.connections.to_string(),
                    s.accepted.to_string(),
                    s.bytes_in.to_string(),
                    s.bytes_out.to_string(),
                    s.errors.to_string(),
                    s.dropped.to_string(),
                    s.ended.text(),
                ]
            })
            .collect();
        let header = [
            "id",
            "kind",
            "transport",
            "address",
            "state",
            "connections",
            "accepted",
            "bytes in",
            "bytes out",
            "errors",
            "dropped",
            "ended",
        ];
        columns(out, &header, &[1, 2, 3, 4, 11], &rows)
    }
}

/// Starts, lists and stops services.
pub(crate) fn run(
    device: &Device,
    command: &ServiceCommand,
    out: &mut Output<'_>,
) -> Result<(), CtlError> {
    match command {
        ServiceCommand::Start {
            kind,
            listen,
            to,
            conditional,
        } => {
            let Some((transport, address)) = listen.target() else {
                unreachable!("clap asks for one of --tcp and --udp");
            };
            let mut flags = ServiceFlags::empty();
            flags.set(ServiceFlags::CONDITIONAL_ACCEPT, *conditional);
            let spec = ServiceSpec {
                kind: (*kind).into(),
                transport,
                address,
                target: *to,
                flags,
            };
            let started = device.start_service(&spec)?;
            out.show(&Started {
                id: started.id,
                kind: spec.kind.as_str(),
                transport: transport.as_str(),
                address: started.address.to_string(),
                port: started.address.port(),
                to: to.map(|to| to.to_string()),
                conditional: *conditional,
            })?;
        }
        ServiceCommand::List => {
            let services = device
                .services()?
                .into_iter()
                .map(|s| Service {
                    id: s.id,
                    kind: s.kind.as_str(),
                    transport: s.transport.as_str(),
                    address: s.address.to_string(),
                    connections: s.connections,
                    accepted: s.accepted,
                    bytes_in: s.bytes_in,
                    bytes_out: s.bytes_out,
                    errors: s.errors,
                    dropped: s.dropped,
                    to: s.target.map(|to| to.to_string()),
                    conditional: s.flags.contains(ServiceFlags::CONDITIONAL_ACCEPT),
                    ended: s.ended.into(),
                    state: s.state().as_str(),
                    status: s.failure.map(name),
                })
                .collect();
            out.show(&Services { services })?;
        }
        ServiceCommand::Stop { id } => {
            device.stop_service(*id)?;
            out.show(&Stopped {
                id: *id,
                stopped: true,
            })?;
        }
    }
    Ok(())
}
