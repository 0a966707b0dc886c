//! `weirctl bench`: echo servers measured side by side.

pub(crate) mod args;
mod plot;
mod server;
mod view;

use std::time::Duration;

use weir_io_models::load::{Moment, Plan};
use weir_io_models::usage::Usage;

use crate::error::CtlError;
use crate::output::Output;
use args::{BenchCommand, EchoArgs};
use server::{Server, Weirctl};
use view::{Bench, Run};

/// Connections from which on memory divided by them says something: with fewer,
/// what a process takes once weighs more.
const MANY: usize = 100;

/// Measures what was asked.
pub(crate) fn run(command: &BenchCommand, out: &mut Output<'_>) -> Result<(), CtlError> {
    match command {
        BenchCommand::Echo(args) => echo(args, out),
    }
}

fn echo(args: &EchoArgs, out: &mut Output<'_>) -> Result<(), CtlError> {
    raise_open_files(args);
    let mut runs = Vec::new();
    let mut targets: Vec<_> = args.targets().into_iter().map(Some).collect();
    if args.connect.is_some() {
        // One that runs: what it is called is all there is to it.
        targets.truncate(1);
        if targets.is_empty() {
            targets.push(None);
        }
    }
    let weirctl = Weirctl::new(args.weirctl.as_deref())?;
    for target in targets {
        let name = target.map_or("connect", args::Target::as_str);
        for &connections in &args.connections {
            eprintln!("{name}: {connections} connections of {} bytes", args.size);
            // A new server each time: none has another's memory.
            let mut server = match (args.connect, target) {
                (None, Some(target)) => Some(Server::start(target, &weirctl)?),
                _ => None,
            };
            let run = measure(name, connections, args, server.as_mut());
            if let Some(server) = server {
                // An error of the measurement says more than one of ending.
                let stopped = server.stop();
                runs.push(run?);
                stopped?;
            } else {
                runs.push(run?);
            }
        }
    }
    let bench = Bench::new(args, runs);
    out.show(&bench)?;
    if let Some(path) = &args.svg {
        plot::draw(&bench, path)?;
    }
    Ok(())
}

/// What server and other processes had cost at a moment.
#[derive(Clone, Copy, Default)]
struct Costs {
    server: Option<(Duration, u64)>,
    others: Option<(Duration, u64)>,
}

impl Costs {
    fn now(server: Option<&mut Server>, others: &[u32]) -> Result<Costs, CtlError> {
        let server = match server {
            Some(server) => server.cost()?.map(|c| (c.cpu, c.memory)),
            None => None,
        };
        let mut sum = None;
        for &pid in others {
            let usage = Usage::of(pid).map_err(|source| CtlError::Process { pid, source })?;
            let (cpu, memory) = sum.unwrap_or((Duration::ZERO, 0));
            sum = Some((cpu + usage.cpu, memory + usage.memory));
        }
        Ok(Costs {
            server,
            others: sum,
        })
    }
}

fn measure(
    name: &'static str,
    connections: usize,
    args: &EchoArgs,
    mut server: Option<&mut Server>,
) -> Result<Run, CtlError> {
    let address = server.as_ref().map(|s| s.address()).or(args.connect);
    let Some(address) = address else {
        unreachable!("clap asks for one of --against and --connect");
    };
    let plan = Plan {
        address,
        connections,
        size: args.size,
        warm_up: args.warm_up,
        duration: args.duration,
        threads: args.threads.into(),
    };
    let empty = Costs::now(server.as_deref_mut(), &args.pid)?;
    let mut at_moments = Vec::new();
    let report = plan.run(|_moment: Moment| {
        at_moments.push(Costs::now(server.as_deref_mut(), &args.pid));
    })?;
    let mut costs = at_moments.into_iter();
    // `run` has called at each of the three, or failed.
    let mut next = || costs.next().unwrap_or(Ok(Costs::default()));
    let (_connected, began, ended) = (next()?, next()?, next()?);
    Ok(Run::new(name, &plan, &report, |of| {
        let cost = |costs: &Costs| match of {
            view::Whose::Server => costs.server,
            view::Whose::Others => costs.others,
        };
        view::Spent {
            cpu: cost(&began)
                .zip(cost(&ended))
                .map(|(began, ended)| ended.0.saturating_sub(began.0)),
            // Only now has each connection used what it has.
            memory: cost(&empty)
                .zip(cost(&ended))
                .filter(|_| connections >= MANY)
                .map(|(empty, ended)| ended.1.saturating_sub(empty.1)),
        }
    }))
}

/// A connection is an open file, and shells allow 1024 unless asked. What can't
/// be raised is told when a connection fails.
fn raise_open_files(args: &EchoArgs) {
    #[cfg(unix)]
    {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        let most = args.connections.iter().max().copied().unwrap_or(0) as u64 + 100;
        if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
            && soft < most
            && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, most.min(hard), hard)
        {
            tracing::warn!(%error, "the limit of open files stays {soft}");
        }
    }
    #[cfg(not(unix))]
    let _no_such_limit = args;
}
