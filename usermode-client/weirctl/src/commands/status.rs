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
    services: u32,
    connections: u32,
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
        writeln!(out, "sockets      {}", yes(self.wsk_ready))?;
        writeln!(out, "adapters     {}", self.adapters)?;
        writeln!(out, "captures     {}", self.readers)?;
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
        services: status.services,
        connections: status.connections,
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
