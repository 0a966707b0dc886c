//! `weirctl serve`.

use std::io::{self, BufRead as _, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use clap::Args;
use serde::Serialize;
use weir_io_models::usage::Usage;
use weir_io_models::{Counters, Counts, Model, Options, Server, Stop};

use crate::error::CtlError;
use crate::output::{Output, View};

#[derive(Args, Clone, Debug)]
pub(crate) struct ServeArgs {
    /// How it waits for its sockets: select, async-select, event-select,
    /// overlapped-event, overlapped-routine or iocp
    #[arg(long)]
    pub(crate) model: Model,
    /// Where to listen, as 127.0.0.1:7 or [::1]:7; port 0 lets the system choose
    #[arg(long, value_name = "ADDR:PORT", value_parser = crate::cli::address)]
    pub(crate) listen: SocketAddr,
    /// Bytes of a connection's buffer, at most 16 MiB
    #[arg(long, value_name = "BYTES", default_value_t = Options::default().buffer)]
    pub(crate) buffer: usize,
    /// Connections a thread of async-select (at most 1900), event-select or
    /// overlapped-event (at most 63) gets before another is begun
    #[arg(long, value_name = "N")]
    pub(crate) per_thread: Option<usize>,
    /// Threads of iocp; one a core without it
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<usize>,
    /// Have iocp take a packet for each operation, also for those that are done
    /// at once
    #[arg(long)]
    pub(crate) every_packet: bool,
    /// Answer lines on standard input: stats, stop; and stop when it ends
    #[arg(long)]
    pub(crate) control: bool,
}

#[derive(Serialize)]
struct Listening {
    model: &'static str,
    address: String,
    port: u16,
    pid: u32,
}

impl View for Listening {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{} echo listens on {}", self.model, self.address)
    }
}

/// What it has done, and what it cost.
#[derive(Serialize)]
struct Served {
    connections: u64,
    accepted: u64,
    finished: u64,
    reset: u64,
    failed: u64,
    accept_errors: u64,
    bytes_in: u64,
    bytes_out: u64,
    threads: u64,
    /// Null where the model doesn't grow by steps.
    room: Option<u64>,
    cpu_us: Option<u64>,
    memory_bytes: Option<u64>,
}

impl Served {
    fn now(counts: &Counts) -> Served {
        let usage = Usage::own().ok();
        let micros = |u: Usage| u64::try_from(u.cpu.as_micros()).unwrap_or(u64::MAX);
        Served {
            connections: counts.connections,
            accepted: counts.accepted,
            finished: counts.finished,
            reset: counts.reset,
            failed: counts.failed,
            accept_errors: counts.accept_errors,
            bytes_in: counts.bytes_in,
            bytes_out: counts.bytes_out,
            threads: counts.threads,
            room: Some(counts.room).filter(|room| *room != 0),
            cpu_us: usage.map(micros),
            memory_bytes: usage.map(|u| u.memory),
        }
    }
}

impl View for Served {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        write!(
            out,
            "{} connections served ({} ended by the peer, {} reset, {} failed), \
             {} bytes in, {} bytes out, {} threads",
            self.accepted,
            self.finished,
            self.reset,
            self.failed,
            self.bytes_in,
            self.bytes_out,
            self.threads,
        )?;
        if let Some(room) = self.room {
            write!(out, ", room for {room}")?;
        }
        writeln!(out)
    }
}

/// Serves until Ctrl-C, or until told to stop.
pub(crate) fn run(args: &ServeArgs, out: &mut Output<'_>) -> Result<(), CtlError> {
    let options = Options {
        buffer: args.buffer,
        per_thread: args.per_thread,
        workers: args.workers,
        every_packet: args.every_packet,
    };
    let server = Server::bind(args.model, args.listen, options)?;
    let (address, counters) = (server.address(), server.counters());
    let stop = server.stop_handle();
    let on_signal = stop.clone();
    ctrlc::set_handler(move || {
        if on_signal.is_asked() {
            std::process::exit(crate::error::INTERRUPTED.into());
        }
        on_signal.stop();
    })?;
    out.show(&Listening {
        model: args.model.as_str(),
        address: address.to_string(),
        port: address.port(),
        pid: std::process::id(),
    })?;
    let last = Arc::clone(&counters);
    if args.control {
        // The server waits in its model's own way: it gets a thread, and the
        // lines are read here.
        let serving = thread::spawn(move || server.run());
        control(&counters, &stop, out)?;
        serving
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    } else {
        server.run()?;
    }
    out.show(&Served::now(&last.now()))?;
    Ok(())
}

/// Does what the lines on standard input say, until one says stop or there are
/// no more.
fn control(counters: &Counters, stop: &Stop, out: &mut Output<'_>) -> Result<(), CtlError> {
    for line in io::stdin().lock().lines() {
        // Read as long as it can be; then the server stops, as at its end.
        let Ok(line) = line else { break };
        match line.trim() {
            "stats" => out.show(&Served::now(&counters.now()))?,
            "stop" => break,
            other => eprintln!("weirctl: the lines are stats and stop, not {other:?}"),
        }
    }
    stop.stop();
    Ok(())
}

#[cfg(all(test, not(windows)))]
mod tests {
    use super::*;

    #[test]
    fn elsewhere_it_says_whose_the_models_are() {
        for model in Model::ALL {
            let args = ServeArgs {
                model,
                listen: SocketAddr::from(([127, 0, 0, 1], 0)),
                buffer: 1,
                per_thread: None,
                workers: None,
                every_packet: false,
                control: false,
            };
            let error =
                run(&args, &mut Output::new(false, Box::new(Vec::new()))).expect_err("not Windows");
            assert_eq!(error.exit_code(), 3);
            let said = error.to_string();
            assert!(
                said.contains("Windows' own") && said.contains(model.as_str()),
                "{said}"
            );
        }
    }
}
