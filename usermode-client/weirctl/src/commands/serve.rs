//! `weirctl serve`.

use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender};
use std::thread;

use clap::Args;
use serde::Serialize;
use weir_io_models::usage::Usage;
use weir_io_models::{Counts, Model, Options, Server, Stop};

use crate::error::CtlError;
use crate::output::{self, Output, View};

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
        let lines = BufReader::new(io::stdin());
        control(lines, move || server.run(), || counters.now(), &stop, out)?;
    } else {
        server.run()?;
    }
    out.show(&Served::now(&last.now()))?;
    Ok(())
}

/// What may happen while there are both a server and lines for it.
enum News {
    Line(String),
    /// No more lines, or no more server.
    End,
}

/// Tells of its thread's end, of a panic too.
struct Ends(SyncSender<News>);

impl Drop for Ends {
    fn drop(&mut self) {
        // Nobody may listen any more: then the end is known.
        let _known = self.0.send(News::End);
    }
}

/// Serves, and does what the lines say, until one says stop, there are no more,
/// or the server has ended.
fn control(
    lines: impl BufRead + Send + 'static,
    serve: impl FnOnce() -> Result<(), weir_io_models::Error> + Send + 'static,
    counts: impl Fn() -> Counts,
    stop: &Stop,
    out: &mut Output<'_>,
) -> Result<(), CtlError> {
    // The server waits in its model's own way, and a line can't be waited for with
    // anything else: each has a thread.
    let (tell, news) = mpsc::sync_channel(1);
    let ends = Ends(tell.clone());
    let serving = thread::Builder::new()
        .spawn(move || {
            let _ends = ends;
            serve()
        })
        .map_err(CtlError::Thread)?;
    let ends = Ends(tell);
    // Never joined: it may wait for a line that doesn't come.
    let reading = thread::Builder::new().spawn(move || {
        // Read as long as it can be; then the server stops, as at its end.
        for line in lines.lines().map_while(Result::ok) {
            if ends.0.send(News::Line(line)).is_err() {
                break;
            }
        }
    });
    let told = match reading {
        Ok(_reading) => answer(&news, counts, out),
        Err(error) => Err(CtlError::Thread(error)),
    };
    stop.stop();
    // The server's thread must not wait for someone to hear of its end.
    drop(news);
    let served = serving
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    // A server that failed is why nobody reads its answers, more often than not.
    served.map_err(CtlError::from).and(told)
}

/// Does what lines say until the end of something.
fn answer(
    news: &mpsc::Receiver<News>,
    counts: impl Fn() -> Counts,
    out: &mut Output<'_>,
) -> Result<(), CtlError> {
    while let Ok(News::Line(line)) = news.recv() {
        match line.trim() {
            "stats" => out.show(&Served::now(&counts()))?,
            "stop" => break,
            other => output::tell(&format_args!("the lines are stats and stop, not {other:?}")),
        }
    }
    Ok(())
}

#[cfg(all(test, not(windows)))]
mod tests {
    use super::*;
    use std::io::Read;
    use std::time::{Duration, Instant};

    /// Standard input on which nobody says anything.
    struct Silent;

    impl Read for Silent {
        fn read(&mut self, _into: &mut [u8]) -> io::Result<usize> {
            loop {
                thread::park();
            }
        }
    }

    /// Serves until it is told to stop.
    fn until(stop: &Stop) -> impl FnOnce() -> Result<(), weir_io_models::Error> + Send + 'static {
        let stop = stop.clone();
        move || {
            let start = Instant::now();
            while !stop.is_asked() {
                assert!(start.elapsed() < Duration::from_secs(60), "not stopped");
                thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        }
    }

    fn controlled(
        lines: impl BufRead + Send + 'static,
        serve: impl FnOnce() -> Result<(), weir_io_models::Error> + Send + 'static,
        stop: &Stop,
    ) -> (String, Result<(), CtlError>) {
        let mut printed = Vec::new();
        let ended = {
            let mut out = Output::new(true, Box::new(&mut printed));
            control(lines, serve, Counts::default, stop, &mut out)
        };
        (String::from_utf8(printed).expect("UTF-8"), ended)
    }

    #[test]
    fn lines_are_answered_until_one_says_stop_or_there_are_no_more() {
        for (lines, answers) in [("stats\n what?\nstats\n", 2), ("stop\nstats\n", 0)] {
            let stop = Stop::default();
            let (printed, ended) = controlled(lines.as_bytes(), until(&stop), &stop);
            ended.expect("serves");
            assert!(stop.is_asked());
            assert_eq!(printed.lines().count(), answers, "{lines:?}: {printed}");
        }
    }

    /// What the server ends with is told, also while no line comes.
    #[test]
    fn a_server_that_ends_ends_it() {
        let silent = || BufReader::new(Silent);
        let (_, ended) = controlled(silent(), || Ok(()), &Stop::default());
        ended.expect("ended in order");
        let fails = || Err(weir_io_models::Error::NotWindows { model: Model::Iocp });
        let (_, ended) = controlled(silent(), fails, &Stop::default());
        assert!(matches!(ended, Err(CtlError::Model(_))), "{ended:?}");
        let panics = std::panic::catch_unwind(|| {
            controlled(silent(), || panic!("a bug"), &Stop::default()).1
        });
        panics.expect_err("passed on");
        // By Ctrl-C, for which nobody says stop here.
        let stop = Stop::default();
        let signal = stop.clone();
        thread::spawn(move || signal.stop());
        let (_, ended) = controlled(silent(), until(&stop), &stop);
        ended.expect("stopped");
    }

    /// Whoever reads the answers has gone: the server ends, and the reason is told.
    #[test]
    fn nobody_who_reads_ends_it() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let stop = Stop::default();
        let mut out = Output::new(true, Box::new(Closed));
        let lines = "stats\nstats\nstats\n".as_bytes();
        let ended = control(lines, until(&stop), Counts::default, &stop, &mut out);
        assert!(ended.expect_err("closed").is_of_output());
        assert!(stop.is_asked());
    }

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
