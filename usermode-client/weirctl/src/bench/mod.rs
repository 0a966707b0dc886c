//! `weirctl bench`: echo servers measured side by side.

pub(crate) mod args;
mod plot;
mod server;
mod view;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use weir_io_models::load::{self, Moment, Plan};
use weir_io_models::usage::{self, Named, Usage};

use crate::error::CtlError;
use crate::output::Output;
use args::{BenchCommand, EchoArgs, Target};
use server::{Server, Weirctl};
use view::{Bench, Run};

/// Connections from which on memory divided by them says something: with fewer,
/// what a process takes once weighs more.
const MANY: usize = 100;

/// Measures what was asked.
pub(crate) fn run(command: &BenchCommand, out: &mut Output<'_>) -> Result<(), CtlError> {
    match command {
        BenchCommand::Echo(args) => echo(args, &*crate::commands::ctrl_c()?, out),
    }
}

/// Measures all that was asked, and shows what there is when something fails or
/// it is to stop.
fn echo(args: &EchoArgs, stop: &AtomicBool, out: &mut Output<'_>) -> Result<(), CtlError> {
    raise_open_files(args);
    let targets = args.targets();
    if args.to.is_some() && (!targets.contains(&Target::Relay) || args.connect.is_some()) {
        return Err(CtlError::NoRelay);
    }
    if args.connect.is_some() && targets.len() > 1 {
        return Err(CtlError::OneName);
    }
    let others = others(args);
    let mut runs = Vec::new();
    let measured = measure_all(args, &targets, &others, stop, &mut runs);
    if !runs.is_empty() {
        let bench = Bench::new(args, others, runs);
        out.show(&bench)?;
        if let Some(path) = &args.svg {
            plot::draw(&bench, path)?;
        }
        if let Some(path) = &args.markdown {
            bench.write_markdown(path)?;
        }
    }
    measured
}

/// The processes whose costs are shown beside the server's own.
fn others(args: &EchoArgs) -> Vec<Named> {
    if args.pid.is_empty() {
        // On another system than Windows a server under Wine may have some.
        let any = args.connect.is_none() && (cfg!(windows) || args.weirctl.is_some());
        return if any { usage::of_drivers() } else { Vec::new() };
    }
    let named = |process: &u32| {
        let system = cfg!(windows) && *process == usage::SYSTEM_ID;
        let name = if system { usage::SYSTEM } else { "--pid" };
        Named {
            process: *process,
            name: name.to_owned(),
        }
    };
    args.pid.iter().map(named).collect()
}

fn measure_all(
    args: &EchoArgs,
    targets: &[Target],
    others: &[Named],
    stop: &AtomicBool,
    runs: &mut Vec<Run>,
) -> Result<(), CtlError> {
    let weirctl = Weirctl::new(args.weirctl.as_deref())?;
    let mut targets: Vec<_> = targets.iter().copied().map(Some).collect();
    if args.connect.is_some() {
        // One that runs: what it is called is all there is to it.
        if targets.is_empty() {
            targets.push(None);
        }
    }
    // One round after the other: what disturbs a while disturbs all alike.
    for round in 1..=args.rounds {
        for &target in &targets {
            let name = target.map_or("connect", Target::as_str);
            for &connections in &args.connections {
                let said = format_args!("{name}: {connections} connections, round {round}");
                crate::output::tell(&said);
                if stop.load(Ordering::Relaxed) {
                    return Err(load::Error::Stopped.into());
                }
                // A new server each time: none has another's memory.
                let mut server = match (args.connect, target) {
                    (None, Some(target)) => Some(Server::start(target, args.to, &weirctl)?),
                    _ => None,
                };
                let run = measure(name, connections, args, others, stop, server.as_mut());
                // An error of the measurement says more than one of ending.
                let stopped = server.map_or(Ok(()), Server::stop);
                runs.push(run?);
                stopped?;
            }
        }
    }
    Ok(())
}

/// What server and other processes had cost at a moment.
#[derive(Clone, Copy, Default)]
struct Costs {
    server: Option<Cost>,
    others: Option<Cost>,
}

#[derive(Clone, Copy)]
struct Cost {
    cpu: Duration,
    /// None where it can't be told.
    memory: Option<u64>,
}

impl Costs {
    fn now(server: Option<&mut Server>, others: &[Named]) -> Result<Costs, CtlError> {
        let server = match server {
            Some(server) => server.cost()?.map(|c| Cost {
                cpu: c.cpu,
                memory: Some(c.memory),
            }),
            None => None,
        };
        let mut sum: Option<Cost> = None;
        for other in others {
            let pid = other.process;
            let usage = Usage::of(pid).map_err(|source| CtlError::Process { pid, source })?;
            let memory = other.has_drivers_memory().then_some(usage.memory);
            sum = Some(match sum {
                Some(sum) => Cost {
                    cpu: sum.cpu + usage.cpu,
                    memory: sum.memory.zip(memory).map(|(sum, one)| sum + one),
                },
                None => Cost {
                    cpu: usage.cpu,
                    memory,
                },
            });
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
    others: &[Named],
    stop: &AtomicBool,
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
    let empty = Costs::now(server.as_deref_mut(), others)?;
    let mut at_moments = Vec::new();
    let report = plan.run(stop, |_moment: Moment| {
        at_moments.push(Costs::now(server.as_deref_mut(), others));
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
                .map(|(began, ended)| ended.cpu.saturating_sub(began.cpu)),
            // Only now has each connection used what it has.
            memory: cost(&empty)
                .zip(cost(&ended))
                .filter(|_| connections >= MANY)
                .and_then(|(empty, ended)| Some(ended.memory?.saturating_sub(empty.memory?))),
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
