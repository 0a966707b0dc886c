//! The grammar of `weirctl bench`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Subcommand};
use weir_io_models::{Model, load};

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Echo servers side by side: messages, latency, processor time, memory
    Echo(EchoArgs),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct EchoArgs {
    /// Models as `serve` has them, iocp-packets (iocp with --every-packet), kernel
    /// (the driver's echo service), relay (the driver's relay to that), models (all
    /// six), or all (those, kernel and relay); several with commas
    #[arg(
        long,
        value_name = "MODEL|kernel|relay|models|all",
        value_delimiter = ',',
        required_unless_present = "connect"
    )]
    pub(crate) against: Vec<Against>,
    /// An echo that runs already, in place of starting one; called as --against says
    #[arg(long, value_name = "ADDR:PORT", value_parser = crate::cli::address)]
    pub(crate) connect: Option<SocketAddr>,
    /// Where relay goes to, in place of an echo of the driver's
    #[arg(long, value_name = "ADDR:PORT", value_parser = crate::cli::address)]
    pub(crate) to: Option<SocketAddr>,
    /// Connections held at once; several runs with commas, as 1,100,1000
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "100",
          value_parser = connections)]
    pub(crate) connections: Vec<usize>,
    /// Bytes of a message
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = size)]
    pub(crate) size: usize,
    /// Seconds each run lasts
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = some_time)]
    pub(crate) duration: Duration,
    /// Seconds before the messages count
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = crate::cli::seconds)]
    pub(crate) warm_up: Duration,
    /// Threads of the client
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: u16,
    /// Do it all so often, and show of each the run between the others
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(1..=99))]
    pub(crate) rounds: u16,
    /// A process whose processor time and memory count as the server's too; those
    /// where drivers run without it, as far as they are found
    #[arg(long, value_name = "PID")]
    pub(crate) pid: Vec<u32>,
    /// The program that serves, as 'wine weirctl.exe', where it isn't this one
    #[arg(long, value_name = "COMMAND")]
    pub(crate) weirctl: Option<String>,
    /// Draw the results
    #[arg(long, value_name = "FILE.svg")]
    pub(crate) svg: Option<PathBuf>,
    /// Write the results as a table in Markdown
    #[arg(long, value_name = "FILE.md")]
    pub(crate) markdown: Option<PathBuf>,
}

impl EchoArgs {
    /// What to measure, in order, each once.
    pub(crate) fn targets(&self) -> Vec<Target> {
        let models = || Model::ALL.into_iter().map(Target::Model);
        let asked = self.against.iter().flat_map(|against| match against {
            Against::One(target) => vec![*target],
            Against::Models => models().collect(),
            Against::All => models().chain([Target::Kernel, Target::Relay]).collect(),
        });
        let mut targets = Vec::new();
        for target in asked {
            if !targets.contains(&target) {
                targets.push(target);
            }
        }
        targets
    }
}

/// An echo to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// One in user mode.
    Model(Model),
    /// The completion port that has a packet for each operation.
    IocpPackets,
    /// The driver's service.
    Kernel,
    /// The driver's relay, to an echo.
    Relay,
}

impl Target {
    /// Its name.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Target::Model(model) => model.as_str(),
            Target::IocpPackets => "iocp-packets",
            Target::Kernel => "kernel",
            Target::Relay => "relay",
        }
    }

    /// Whether it is the driver's, whose costs are no process's own.
    pub(crate) fn is_drivers(self) -> bool {
        matches!(self, Target::Kernel | Target::Relay)
    }
}

/// A word of `--against`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Against {
    One(Target),
    Models,
    All,
}

impl FromStr for Against {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "all" => Ok(Against::All),
            "models" => Ok(Against::Models),
            "iocp-packets" => Ok(Against::One(Target::IocpPackets)),
            "kernel" => Ok(Against::One(Target::Kernel)),
            "relay" => Ok(Against::One(Target::Relay)),
            name => match name.parse() {
                Ok(model) => Ok(Against::One(Target::Model(model))),
                Err(e) => Err(format!("{e}, iocp-packets, kernel, relay, models, all")),
            },
        }
    }
}

fn bounded(text: &str, range: &std::ops::RangeInclusive<usize>) -> Result<usize, String> {
    let number: usize = text.parse().map_err(|_| "not a number".to_owned())?;
    if range.contains(&number) {
        return Ok(number);
    }
    Err(format!("it is to be {} to {}", range.start(), range.end()))
}

fn connections(text: &str) -> Result<usize, String> {
    bounded(text, &load::CONNECTIONS)
}

fn size(text: &str) -> Result<usize, String> {
    bounded(text, &load::SIZE)
}

fn some_time(text: &str) -> Result<Duration, String> {
    let time = crate::cli::seconds(text)?;
    if time < Duration::from_millis(10) {
        return Err("it is to be at least 0.01".to_owned());
    }
    Ok(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn parse(line: &str) -> Result<EchoArgs, clap::Error> {
        let words = ["weirctl", "bench", "echo"].into_iter();
        let cli = crate::cli::Cli::try_parse_from(words.chain(line.split_whitespace()))?;
        match cli.command {
            crate::cli::Command::Bench(BenchCommand::Echo(args)) => Ok(args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn all_is_every_model_and_the_kernels_once() {
        let args = parse("--against kernel,all,iocp --connections 1,100").expect("parses");
        let names: Vec<_> = args.targets().into_iter().map(Target::as_str).collect();
        assert_eq!(names.len(), 8);
        assert_eq!((names[0], names[1]), ("kernel", "select"));
        assert_eq!((names[6], names[7]), ("iocp", "relay"));
        assert_eq!(args.connections, [1, 100]);
        for name in names {
            let args = parse(&format!("--against {name}")).expect("parses");
            assert_eq!(args.targets().len(), 1, "{name}");
        }
        let args = parse("--against iocp-packets").expect("parses");
        assert_eq!(args.targets(), [Target::IocpPackets]);
        let args = parse("--connect 127.0.0.1:7").expect("parses");
        assert_eq!(args.targets(), []);
    }

    #[test]
    fn wrong_lines_say_what_would_be_right() {
        for (line, said) in [
            ("", "--against"),
            (
                "--against epoll",
                "overlapped-routine, iocp, iocp-packets, kernel, relay, models, all",
            ),
            ("--against all --connections 0", "1 to 60000"),
            ("--against all --size 16777217", "1 to 16777216"),
            ("--against all --duration 0", "at least 0.01"),
            ("--against all --rounds 0", "1..=99"),
            ("--against relay --to localhost:7", "as 127.0.0.1:7"),
            ("--connect localhost:7", "as 127.0.0.1:7"),
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains(said), "{line}: {error}");
        }
    }
}
