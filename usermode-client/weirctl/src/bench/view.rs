//! What a measurement gave, as a table and as JSON.

use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;
use weir_io_models::load::{Plan, Report};

use super::args::EchoArgs;
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
    pub(crate) runs: Vec<Run>,
}

/// One server at one number of connections.
#[derive(Serialize)]
pub(crate) struct Run {
    pub(crate) against: &'static str,
    pub(crate) connections: usize,
    connecting_seconds: f64,
    messages: u64,
    pub(crate) messages_per_second: f64,
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
    /// Of the processes named by --pid; null without.
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

impl Bench {
    pub(crate) fn new(args: &EchoArgs, runs: Vec<Run>) -> Bench {
        Bench {
            size: args.size,
            duration_seconds: args.duration.as_secs_f64(),
            threads: args.threads,
            runs,
        }
    }

    /// Bytes of a message.
    pub(crate) fn size(&self) -> usize {
        self.size
    }
}

impl View for Bench {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let known = |number: Option<f64>| number.map_or("-".to_owned(), |n| format!("{n:.1}"));
        let rows: Vec<Vec<String>> = self
            .runs
            .iter()
            .map(|run| {
                vec![
                    run.against.to_owned(),
                    run.connections.to_string(),
                    format!("{:.0}", run.messages_per_second),
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
        columns(out, &header, &[0], &rows)
    }
}
