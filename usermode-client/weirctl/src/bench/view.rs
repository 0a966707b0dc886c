//! What a measurement gave, as a table and as JSON.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use weir_io_models::Model;
use weir_io_models::load::{Plan, Report};
use weir_io_models::usage::Named;

use super::args::{EchoArgs, Target};
use crate::error::CtlError;
use crate::output::{View, columns};

/// Whose processor time and memory.
#[derive(Clone, Copy)]
pub(crate) enum Whose {
    /// The server's own.
    Server,
    /// The processes' that count as the server's.
    Others,
}

/// What was spent.
pub(crate) struct Spent {
    /// While messages counted.
    pub(crate) cpu: Option<Duration>,
    /// On the connections, in bytes.
    pub(crate) memory: Option<u64>,
}

/// All runs.
#[derive(Serialize)]
pub(crate) struct Bench {
    size: usize,
    duration_seconds: f64,
    threads: u16,
    rounds: u16,
    /// The processes whose costs are shown as those of others.
    others: Vec<Other>,
    /// Whether their memory says something of the driver's.
    #[serde(skip)]
    others_memory: bool,
    /// What is to be known about the numbers.
    notes: Vec<String>,
    /// Of each server and number of connections one: of several rounds the run in
    /// the middle by messages a second.
    pub(crate) runs: Vec<Run>,
}

#[derive(Serialize)]
struct Other {
    pid: u32,
    name: String,
}

/// One server at one number of connections.
#[derive(Serialize)]
pub(crate) struct Run {
    pub(crate) against: &'static str,
    pub(crate) connections: usize,
    connecting_seconds: f64,
    messages: u64,
    pub(crate) messages_per_second: f64,
    /// Of the slowest round, and of the fastest.
    slowest_per_second: f64,
    fastest_per_second: f64,
    bytes_per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    max_us: f64,
    /// Messages of the connection that was answered the least, and the most.
    fewest: u64,
    most: u64,
    /// Null of a server that wasn't started here, and of the driver.
    server_cpu_us_per_message: Option<f64>,
    /// Of the other processes; null without any.
    others_cpu_us_per_message: Option<f64>,
    server_bytes_per_connection: Option<u64>,
    others_bytes_per_connection: Option<u64>,
}

impl Run {
    pub(crate) fn new(
        against: &'static str,
        plan: &Plan,
        report: &Report,
        spent: impl Fn(Whose) -> Spent,
    ) -> Run {
        let seconds = report.elapsed.as_secs_f64();
        let rate = if seconds > 0.0 {
            report.messages as f64 / seconds
        } else {
            0.0
        };
        let at = |quantile| report.latency.value_at_quantile(quantile) as f64 / 1000.0;
        let (server, others) = (spent(Whose::Server), spent(Whose::Others));
        let each = |cpu: Option<Duration>| {
            let messages = Some(report.messages).filter(|m| *m != 0)?;
            Some(cpu?.as_secs_f64() * 1e6 / messages as f64)
        };
        let per_connection =
            |memory: Option<u64>| memory.map(|bytes| bytes / plan.connections.max(1) as u64);
        Run {
            against,
            connections: plan.connections,
            connecting_seconds: report.connecting.as_secs_f64(),
            messages: report.messages,
            messages_per_second: rate,
            slowest_per_second: rate,
            fastest_per_second: rate,
            bytes_per_second: rate * plan.size as f64,
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: report.latency.max() as f64 / 1000.0,
            fewest: report.fewest,
            most: report.most,
            server_cpu_us_per_message: each(server.cpu),
            others_cpu_us_per_message: each(others.cpu),
            server_bytes_per_connection: per_connection(server.memory),
            others_bytes_per_connection: per_connection(others.memory),
        }
    }

    /// Processor time a message costs, of all that is known.
    pub(crate) fn cpu_us(&self) -> Option<f64> {
        sum(
            self.server_cpu_us_per_message,
            self.others_cpu_us_per_message,
        )
    }

    /// Bytes a connection costs, of all that is known.
    pub(crate) fn bytes_per_connection(&self) -> Option<f64> {
        let float = |bytes: Option<u64>| bytes.map(|b| b as f64);
        sum(
            float(self.server_bytes_per_connection),
            float(self.others_bytes_per_connection),
        )
    }
}

fn sum(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a + b),
        (a, b) => a.or(b),
    }
}

/// Of the runs of all rounds the one in the middle of each server and number of
/// connections, in the order they came first.
fn middle(mut runs: Vec<Run>) -> Vec<Run> {
    let mut groups: Vec<Vec<Run>> = Vec::new();
    for run in runs.drain(..) {
        let same = |group: &&mut Vec<Run>| {
            let first = group.first();
            first.is_some_and(|f| f.against == run.against && f.connections == run.connections)
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push(run),
            None => groups.push(vec![run]),
        }
    }
    let middle = |mut group: Vec<Run>| {
        group.sort_by(|a, b| a.messages_per_second.total_cmp(&b.messages_per_second));
        let rate = |run: Option<&Run>| run.map_or(0.0, |run| run.messages_per_second);
        let (slowest, fastest) = (rate(group.first()), rate(group.last()));
        // What a process that is there all the time has taken it mostly keeps, so
        // a later round shows less.
        let most = |bytes: fn(&Run) -> Option<u64>| group.iter().filter_map(bytes).max();
        let server = most(|run| run.server_bytes_per_connection);
        let others = most(|run| run.others_bytes_per_connection);
        Run {
            slowest_per_second: slowest,
            fastest_per_second: fastest,
            server_bytes_per_connection: server,
            others_bytes_per_connection: others,
            ..group.swap_remove(group.len() / 2)
        }
    };
    groups.into_iter().map(middle).collect()
}

impl Bench {
    pub(crate) fn new(args: &EchoArgs, others: Vec<Named>, runs: Vec<Run>) -> Bench {
        let mut bench = Bench {
            size: args.size,
            duration_seconds: args.duration.as_secs_f64(),
            threads: args.threads,
            rounds: args.rounds,
            others_memory: others.iter().all(Named::has_drivers_memory),
            others: others
                .into_iter()
                .map(|Named { process: pid, name }| Other { pid, name })
                .collect(),
            notes: Vec::new(),
            runs: middle(runs),
        };
        bench.notes = bench.to_know(args);
        bench
    }

    /// What is to be known about the numbers.
    fn to_know(&self, args: &EchoArgs) -> Vec<String> {
        let rounds = match self.rounds {
            1 => "one round".to_owned(),
            more => format!("of {more} rounds the middle one, with the slowest and the fastest"),
        };
        let mut notes = vec![
            format!(
                "messages of {} bytes, {} s a run, {rounds}",
                self.size, self.duration_seconds
            ),
            "a closed loop: each connection sends its next message when the last has come back, so \
             what would have been sent while a server stalls is in no latency"
                .to_owned(),
        ];
        let drivers = args.targets().iter().any(|target| target.is_drivers());
        if drivers && args.connect.is_none() && self.others.is_empty() {
            notes.push(
                "processor time and memory of kernel and relay are the driver's, in no process \
                 found here: name the one where it runs with --pid"
                    .to_owned(),
            );
        }
        if !self.others.is_empty() {
            let of = |other: &Other| format!("{} {}", other.name, other.pid);
            let all: Vec<String> = self.others.iter().map(of).collect();
            notes.push(format!("others: {}", all.join(", ")));
        }
        if !self.others_memory {
            notes.push(
                "the driver's memory is non-paged pool, which is no process's: it isn't known"
                    .to_owned(),
            );
        }
        if self
            .runs
            .iter()
            .any(|run| run.against == Target::Relay.as_str())
        {
            notes.push(match args.to {
                Some(to) => format!("relay: to {to}, whose own costs are not counted"),
                None => "relay: to the driver's echo, so a message goes through the driver three \
                         times, and the costs are of both"
                    .to_owned(),
            });
        }
        let drivers = [Target::Kernel, Target::Relay].map(Target::as_str);
        notes.extend(drivers.iter().filter_map(|name| self.beside_iocp(name)));
        notes
    }

    /// How a server of the driver's is beside the completion port.
    fn beside_iocp(&self, name: &str) -> Option<String> {
        let iocp = Target::Model(Model::Iocp).as_str();
        let runs = self.runs.iter().filter(|run| run.against == name);
        let beside: Vec<String> = runs
            .filter_map(|run| {
                let same =
                    |other: &&Run| other.against == iocp && other.connections == run.connections;
                let port = self.runs.iter().find(same)?;
                let messages = run.messages_per_second / port.messages_per_second;
                let cpu = run.cpu_us().zip(port.cpu_us());
                let cpu = cpu.map_or(String::new(), |(run, port)| {
                    format!(", {:.2} of the processor time each", run / port)
                });
                let connections = thousands(run.connections as f64);
                Some(format!(
                    "{messages:.1} times the messages at {connections}{cpu}"
                ))
            })
            .collect();
        (!beside.is_empty()).then(|| format!("{name} beside {iocp}: {}", beside.join("; ")))
    }

    /// Bytes of a message.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Writes the table in Markdown.
    ///
    /// # Errors
    /// [`CtlError::File`]: the file can't be written.
    pub(crate) fn write_markdown(&self, path: &Path) -> Result<(), CtlError> {
        std::fs::write(path, self.markdown()).map_err(|source| CtlError::File {
            what: "writing",
            path: path.display().to_string(),
            source,
        })
    }

    /// The table in Markdown, and the notes.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::from(
            "| echo | connections | messages/s | p50 ms | p99 ms | p99.9 ms | messages of a \
             connection | CPU µs/message, server | others | KiB a connection |\n\
             |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
        );
        let ms = |us: f64| match us / 1000.0 {
            ms if ms < 10.0 => format!("{ms:.2}"),
            ms => thousands(ms),
        };
        for run in &self.runs {
            let cells = [
                run.against.to_owned(),
                thousands(run.connections as f64),
                run.rates(),
                ms(run.p50_us),
                ms(run.p99_us),
                ms(run.p999_us),
                format!("{} to {}", run.fewest, run.most),
                known(run.server_cpu_us_per_message),
                known(run.others_cpu_us_per_message),
                known(run.bytes_per_connection().map(|bytes| bytes / 1024.0)),
            ];
            text += &format!("| {} |\n", cells.join(" | "));
        }
        for note in &self.notes {
            text += &format!("\n- {note}");
        }
        text + "\n"
    }
}

impl Run {
    /// Messages a second; of several rounds with the slowest and the fastest.
    fn rates(&self) -> String {
        let rate = thousands(self.messages_per_second);
        if self.slowest_per_second == self.fastest_per_second {
            return rate;
        }
        let slowest = thousands(self.slowest_per_second);
        format!(
            "{rate} ({slowest} to {})",
            thousands(self.fastest_per_second)
        )
    }
}

fn known(number: Option<f64>) -> String {
    number.map_or("-".to_owned(), |n| format!("{n:.1}"))
}

/// A whole number with commas.
fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl View for Bench {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let rows: Vec<Vec<String>> = self
            .runs
            .iter()
            .map(|run| {
                vec![
                    run.against.to_owned(),
                    run.connections.to_string(),
                    run.rates(),
                    format!("{:.2}", run.bytes_per_second / 1e6),
                    format!("{:.0}", run.p50_us),
                    format!("{:.0}", run.p99_us),
                    format!("{:.0}", run.p999_us),
                    format!("{}..{}", run.fewest, run.most),
                    known(run.server_cpu_us_per_message),
                    known(run.others_cpu_us_per_message),
                    known(run.bytes_per_connection().map(|bytes| bytes / 1024.0)),
                ]
            })
            .collect();
        let header = [
            "echo",
            "connections",
            "messages/s",
            "MB/s",
            "p50 us",
            "p99 us",
            "p99.9 us",
            "msgs/conn",
            "server us/msg",
            "others us/msg",
            "KiB/conn",
        ];
        columns(out, &header, &[0], &rows)?;
        for note in &self.notes {
            writeln!(out, "note: {note}")?;
        }
        Ok(())
    }
}
