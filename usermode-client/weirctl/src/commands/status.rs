//! `weirctl status` and `weirctl version`.

use std::io::{self, Write};
use std::time::SystemTime;

use serde::Serialize;
use weir_abi::{ABI_VERSION, StatusFlags};
use weir_client::{Device, Error};

use crate::error::CtlError;
use crate::output::{Output, View};

#[derive(Serialize)]
struct Status {
    driver: String,
    uptime_seconds: f64,
    /// Seconds since 1970-01-01 UTC.
    started_unix: u64,
    ndis: Option<String>,
    filter_registered: bool,
    wsk_ready: bool,
    stopping: bool,
    adapters: u32,
    handles: u32,
    readers: u32,
    diverters: u32,
    writers: u32,
    backlog_memory_bytes: u64,
    rules: u32,
    rules_generation: u64,
    rules_memory_bytes: u64,
    default_action: String,
    flows: u64,
    flow_memory_bytes: u64,
    alarms: u64,
    services: u32,
    connections: u32,
    sockets: u32,
}

impl View for Status {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let up = self.uptime_seconds as u64;
        let (hours, minutes, seconds) = (up / 3600, up / 60 % 60, up % 60);
        let yes = |b| if b { "ready" } else { "NOT READY" };
        writeln!(out, "driver       {}", self.driver)?;
        writeln!(out, "uptime       {hours}:{minutes:02}:{seconds:02}")?;
        writeln!(
            out,
            "filter       {}{}",
            yes(self.filter_registered),
            self.ndis
                .as_deref()
                .map_or(String::new(), |v| format!(", NDIS {v}"))
        )?;
        writeln!(
            out,
            "sockets      {}, {} open by programs",
            yes(self.wsk_ready),
            self.sockets
        )?;
        writeln!(out, "adapters     {}", self.adapters)?;
        writeln!(out, "captures     {}", self.readers)?;
        if self.diverters > 0 || self.writers > 0 {
            writeln!(out, "diverters    {}", self.diverters)?;
            writeln!(out, "injectors    {}", self.writers)?;
        }
        if self.rules > 0 {
            writeln!(
                out,
                "rules        {} (generation {}), default {}",
                self.rules, self.rules_generation, self.default_action
            )?;
        } else {
            writeln!(out, "rules        none, default {}", self.default_action)?;
        }
        writeln!(out, "flows        {}", self.flows)?;
        writeln!(out, "alarms       {}", self.alarms)?;
        writeln!(
            out,
            "services     {} with {} connections",
            self.services, self.connections
        )?;
        writeln!(out, "handles      {}", self.handles)?;
        if self.stopping {
            writeln!(out, "the driver is unloading")?;
        }
        Ok(())
    }
}

/// How the driver is.
pub(crate) fn status(device: &Device, out: &mut Output<'_>) -> Result<(), CtlError> {
    let status = device.status()?;
    let started = status.started.duration_since(SystemTime::UNIX_EPOCH);
    out.show(&Status {
        driver: device.version().to_string(),
        uptime_seconds: status.uptime.as_secs_f64(),
        started_unix: started.unwrap_or_default().as_secs(),
        ndis: status.ndis.map(|(major, minor)| format!("{major}.{minor}")),
        filter_registered: status.flags.contains(StatusFlags::FILTER_REGISTERED),
        wsk_ready: status.flags.contains(StatusFlags::WSK_READY),
        stopping: status.flags.contains(StatusFlags::STOPPING),
        adapters: status.adapters,
        handles: status.handles,
        readers: status.readers,
        diverters: status.diverters,
        writers: status.writers,
        backlog_memory_bytes: status.backlog_memory,
        rules: status.rules,
        rules_generation: status.rules_generation,
        rules_memory_bytes: status.rules_memory,
        default_action: status
            .default_action
            .map_or_else(|n| format!("unknown ({n})"), |a| a.as_str().to_owned()),
        flows: status.flows,
        flow_memory_bytes: status.flow_memory,
        alarms: status.alarms,
        services: status.services,
        connections: status.connections,
        sockets: status.sockets,
    })?;
    Ok(())
}

#[derive(Serialize)]
struct Version {
    weirctl: &'static str,
    contract: u32,
    driver: String,
    driver_contract: u32,
    compatible: bool,
}

impl View for Version {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "weirctl  {}, contract {}", self.weirctl, self.contract)?;
        writeln!(
            out,
            "driver   {}, contract {}",
            self.driver, self.driver_contract
        )
    }
}

/// Releases and contract versions of both sides.
pub(crate) fn version(device: &Device, out: &mut Output<'_>) -> Result<(), CtlError> {
    let driver = device.version();
    let compatible = driver.abi == ABI_VERSION;
    out.show(&Version {
        weirctl: env!("CARGO_PKG_VERSION"),
        contract: ABI_VERSION,
        driver: driver.to_string(),
        driver_contract: driver.abi,
        compatible,
    })?;
    if compatible {
        Ok(())
    } else {
        Err(Error::Version { driver }.into())
    }
}
