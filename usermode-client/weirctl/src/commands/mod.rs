//! One file a subject.

mod adapters;
pub(crate) mod capture;
mod debug;
mod service;
pub(crate) mod stats;
mod status;

use weir_client::{Adapter, Device};

use crate::cli::Command;
use crate::error::CtlError;
use crate::output::Output;

/// Opens the device and does what was asked.
pub(crate) fn run(command: &Command, out: &mut Output<'_>) -> Result<(), CtlError> {
    match command {
        Command::Version => status::version(&Device::open_any_version()?, out),
        Command::Debug(debug) => debug::run(&Device::open_any_version()?, debug, out),
        command => on_device(command, &Device::open()?, out),
    }
}

/// Does what was asked on a device that speaks this version.
pub(crate) fn on_device(
    command: &Command,
    device: &Device,
    out: &mut Output<'_>,
) -> Result<(), CtlError> {
    match command {
        Command::Status => status::status(device, out),
        Command::Stats { interface } => stats::stats(device, interface.as_deref(), out),
        Command::Adapters => adapters::adapters(device, out),
        Command::Capture(args) => capture::capture(device, args, out),
        Command::Service(service) => service::run(device, service, out),
        Command::Version => status::version(device, out),
        Command::Debug(debug) => debug::run(device, debug, out),
    }
}

/// The adapter called `asked`, or else with the id `asked`.
fn find_adapter(adapters: &[Adapter], asked: &str) -> Result<Adapter, CtlError> {
    let by_name = adapters.iter().find(|a| a.name.eq_ignore_ascii_case(asked));
    let by_id = || {
        let id: u32 = asked.parse().ok()?;
        adapters.iter().find(|a| a.id == id)
    };
    by_name.or_else(by_id).cloned().ok_or_else(|| {
        let known: Vec<String> = adapters
            .iter()
            .map(|a| format!("{} ({})", a.name, a.id))
            .collect();
        if known.is_empty() {
            return CtlError::NoAdapters;
        }
        CtlError::NoAdapter {
            asked: asked.to_owned(),
            known: known.join(", "),
        }
    })
}
