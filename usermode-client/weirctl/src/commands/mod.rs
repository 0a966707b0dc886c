//! One file a subject.

mod adapters;
pub(crate) mod capture;
pub(crate) mod chat;
mod debug;
pub(crate) mod divert;
mod flows;
pub(crate) mod inject;
mod rules;
pub(crate) mod serve;
mod service;
mod sockets;
pub(crate) mod stats;
mod status;
pub(crate) mod tcp;
pub(crate) mod udp;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use weir_client::{Adapter, Device};

use crate::cli::{Command, RulesCommand};
use crate::error::CtlError;
use crate::offline;
use crate::output::Output;

/// Does what was asked; opens the device unless files are enough.
pub(crate) fn run(command: &Command, out: &mut Output<'_>) -> Result<(), CtlError> {
    match command {
        Command::Version => status::version(&Device::open_any_version()?, out),
        Command::Debug(debug) => debug::run(&Device::open_any_version()?, debug, out),
        Command::Inspect(args) => offline::inspect(args, out),
        Command::Match(args) => offline::matching(args, out),
        Command::Rules(RulesCommand::Check { file }) => offline::check(file, out),
        Command::Rules(RulesCommand::Explain { file }) => offline::explain(file, out),
        Command::Serve(args) => serve::run(args, out),
        Command::Bench(command) => crate::bench::run(command, out),
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
        Command::Tcp(command) => tcp::run(device, command, out),
        Command::Udp(command) => udp::run(device, command, out),
        Command::Sockets => sockets::sockets(device, out),
        Command::Chat(command) => chat::run(device, command, out),
        Command::Version => status::version(device, out),
        Command::Debug(debug) => debug::run(device, debug, out),
        Command::Inspect(args) => offline::inspect(args, out),
        Command::Match(args) => offline::matching(args, out),
        Command::Rules(RulesCommand::Check { file }) => offline::check(file, out),
        Command::Rules(RulesCommand::Explain { file }) => offline::explain(file, out),
        Command::Serve(args) => serve::run(args, out),
        Command::Bench(command) => crate::bench::run(command, out),
        Command::Rules(RulesCommand::Load { file }) => rules::load(device, file, out),
        Command::Rules(RulesCommand::Show) => rules::show(device, out),
        Command::Rules(RulesCommand::Stats) => rules::stats(device, out),
        Command::Rules(RulesCommand::Clear) => rules::clear(device, out),
        Command::Flows(args) => flows::flows(device, args, out),
        Command::Divert(args) => divert::divert(device, args, out),
        Command::Inject(args) => inject::inject(device, args, out),
    }
}

/// What Ctrl-C sets, from now on. Pressed again, it ends the process.
pub(crate) fn ctrl_c() -> Result<Arc<AtomicBool>, CtlError> {
    // A process has one handler, whoever asks how often.
    static STOP: Mutex<Option<Arc<AtomicBool>>> = Mutex::new(None);
    let mut known = STOP.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(stop) = &*known {
        return Ok(Arc::clone(stop));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if asked.swap(true, Ordering::Relaxed) {
            std::process::exit(crate::error::INTERRUPTED.into());
        }
    })?;
    *known = Some(Arc::clone(&stop));
    Ok(stop)
}

/// How a command that is waiting for something else first comes to what Ctrl-C
/// sets: until then, Ctrl-C ends the process.
pub(crate) type Stop<'a> = &'a dyn Fn() -> Result<Arc<AtomicBool>, CtlError>;

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
