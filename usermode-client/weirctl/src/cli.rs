//! The command line's grammar.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::RangedI64ValueParser;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use weir_abi::{Directions, ServiceKind, Transport, limits};

/// Exit codes, shown with the help. README.md has the same list.
const EXIT_CODES: &str = "\
Exit codes:
  0  done (a capture ended by Ctrl-C too)
  1  the operation failed
  2  the command line is wrong
  3  the driver is not running, or this is not Windows
  4  access denied: run as administrator
  5  driver and weirctl speak different versions of the contract
  130  a second Ctrl-C ended a capture before its file was whole";

/// Watch and steer the Weir network driver.
#[derive(Debug, Parser)]
#[command(name = "weirctl", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// Print one JSON object in place of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Log to standard error what is done (twice: each read, too)
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// How the driver is: uptime, adapters, captures, services
    Status,
    /// The balance and the protocol counters of each adapter
    Stats {
        /// Only this adapter, by name or id
        #[arg(short, long, value_name = "ADAPTER")]
        interface: Option<String>,
    },
    /// The adapters the driver filters
    Adapters,
    /// Write frames to a pcapng file until Ctrl-C
    Capture(CaptureArgs),
    /// Network services inside the kernel
    #[command(subcommand)]
    Service(ServiceCommand),
    /// Releases and contract versions of weirctl and the driver
    Version,
    /// Requests as raw bytes, for diagnosis
    #[command(subcommand, hide = true)]
    Debug(DebugCommand),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct CaptureArgs {
    /// Only this adapter, by name or id; all of them without it
    #[arg(short, long, value_name = "ADAPTER")]
    pub(crate) interface: Option<String>,
    /// Bytes of each frame to keep, 1 to 262144; 0 keeps whole frames
    #[arg(short, long, value_name = "BYTES", default_value_t = 0, value_parser = snaplen())]
    pub(crate) snaplen: u32,
    /// End after so many frames
    #[arg(short, long, value_name = "FRAMES", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// End after so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) duration: Option<std::time::Duration>,
    /// Frames of this direction, seen from the host
    #[arg(long, value_enum, default_value = "both")]
    pub(crate) direction: CaptureDirection,
    /// Milliseconds a frame may wait for more before it is delivered, 0 to 60000
    #[arg(long, value_name = "MS", default_value_t = 100, value_parser = flush_ms())]
    pub(crate) flush_ms: u32,
    /// Bytes the driver keeps for frames this program has no read for, 64 KiB to 64 MiB
    #[arg(long, value_name = "BYTES", default_value_t = 4 * 1024 * 1024,
          value_parser = backlog())]
    pub(crate) backlog: u32,
    /// The file to write; - for standard output, the summary then goes to standard error
    #[arg(short, long, value_name = "FILE.pcapng")]
    pub(crate) write: PathBuf,
}

/// The driver checks these again; here a mistake is one of the command line.
fn within(range: std::ops::RangeInclusive<u32>) -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(i64::from(*range.start())..=i64::from(*range.end()))
}

fn snaplen() -> RangedI64ValueParser<u32> {
    within(0..=limits::MAX_SNAPLEN)
}

fn flush_ms() -> RangedI64ValueParser<u32> {
    within(0..=limits::MAX_FLUSH_MS)
}

fn backlog() -> RangedI64ValueParser<u32> {
    within(limits::MIN_BACKLOG..=limits::MAX_BACKLOG)
}

fn seconds(text: &str) -> Result<std::time::Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "not a number of seconds".to_owned())?;
    std::time::Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CaptureDirection {
    /// Received
    In,
    /// Sent
    Out,
    /// Both
    Both,
}

impl From<CaptureDirection> for Directions {
    fn from(direction: CaptureDirection) -> Directions {
        match direction {
            CaptureDirection::In => Directions::IN,
            CaptureDirection::Out => Directions::OUT,
            CaptureDirection::Both => Directions::all(),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// Start a service on an address and port
    Start {
        /// What it does
        #[arg(value_enum)]
        kind: KindArg,
        #[command(flatten)]
        listen: ListenArgs,
    },
    /// The services that run
    List,
    /// Stop a service and end its connections
    Stop {
        /// Its id, as `service list` shows it
        id: u32,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KindArg {
    /// Sends back what it receives
    Echo,
}

impl From<KindArg> for ServiceKind {
    fn from(kind: KindArg) -> ServiceKind {
        match kind {
            KindArg::Echo => ServiceKind::Echo,
        }
    }
}

#[derive(Args, Clone, Copy, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct ListenArgs {
    /// Listen for TCP connections, as 127.0.0.1:7 or [::1]:7; port 0 lets the driver choose
    #[arg(long, value_name = "ADDR:PORT", value_parser = address)]
    tcp: Option<SocketAddr>,
    /// Receive UDP datagrams
    #[arg(long, value_name = "ADDR:PORT", value_parser = address)]
    udp: Option<SocketAddr>,
}

impl ListenArgs {
    /// Transport and address; clap lets exactly one through.
    pub(crate) fn target(self) -> Option<(Transport, SocketAddr)> {
        self.tcp
            .map(|addr| (Transport::Tcp, addr))
            .or(self.udp.map(|addr| (Transport::Udp, addr)))
    }
}

/// The kernel has no resolver, so a name is no address.
fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "not an IP address and a port, as 127.0.0.1:7 or [::1]:7 (names are not looked up)"
            .to_owned()
    })
}

#[derive(Debug, Subcommand)]
pub(crate) enum DebugCommand {
    /// Send an IOCTL with these bytes and show the NTSTATUS
    Ioctl {
        /// The control code, in hex
        #[arg(long, value_parser = hex_u32)]
        code: u32,
        /// The request, in hex
        #[arg(long = "in", default_value = "", hide_default_value = true)]
        input: String,
        /// Bytes of room for the reply
        #[arg(long, default_value_t = 0)]
        out_len: usize,
        /// Give the handle the capture role first
        #[arg(long)]
        capture: bool,
    },
    /// Read from a handle and show the NTSTATUS
    Read {
        /// Bytes to read
        #[arg(long)]
        len: usize,
        /// Give the handle the capture role first
        #[arg(long)]
        capture: bool,
        /// Cancel the read after so many milliseconds
        #[arg(long, default_value_t = 1000)]
        timeout_ms: u64,
    },
}

fn hex_u32(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    u32::from_str_radix(digits, 16).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from([&["weirctl"], args].concat())
    }

    #[test]
    fn the_grammar_is_sound() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn capture_has_its_options() {
        let line = "capture -i lab0 -s 128 -c 5 --duration 1.5 --direction in -w f.pcapng --json";
        let cli = parse(&line.split(' ').collect::<Vec<_>>()).expect("parses");
        assert!(cli.json);
        let Command::Capture(args) = cli.command else {
            panic!("{:?}", cli.command);
        };
        assert_eq!(args.interface.as_deref(), Some("lab0"));
        assert_eq!((args.snaplen, args.count), (128, Some(5)));
        assert_eq!(args.duration, Some(std::time::Duration::from_millis(1500)));
        assert_eq!(Directions::from(args.direction), Directions::IN);
    }

    #[test]
    fn a_service_listens_in_exactly_one_way() {
        let start = |rest: &[&str]| parse(&[&["service", "start", "echo"], rest].concat());
        let cli = start(&["--udp", "[::1]:7"]).expect("parses");
        let Command::Service(ServiceCommand::Start { listen, .. }) = cli.command else {
            panic!("{:?}", cli.command);
        };
        let address = "[::1]:7".parse().expect("an address");
        assert_eq!(listen.target(), Some((Transport::Udp, address)));
        assert!(start(&[]).is_err());
        assert!(start(&["--tcp", "1.2.3.4:5", "--udp", "1.2.3.4:5"]).is_err());
        for bad in [
            "localhost",
            "localhost:7",
            "1.2.3.4",
            "::1:7",
            "1.2.3.4:65536",
        ] {
            let error = start(&["--tcp", bad]).expect_err(bad);
            assert!(
                error.to_string().contains("as 127.0.0.1:7 or [::1]:7"),
                "{error}"
            );
        }
    }

    #[test]
    fn wrong_lines_end_with_2() {
        for line in [
            "",
            "capture",
            "capture -w f -c 0",
            "capture -w f --duration -1",
            "capture -w f -s 262145",
            "capture -w f --backlog 65535",
            "capture -w f --flush-ms 60001",
            "service stop x",
            "stats extra",
            "service start discard --tcp 1.2.3.4:5",
            "debug ioctl --code xyz",
        ] {
            let args: Vec<&str> = line.split_whitespace().collect();
            let error = parse(&args).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn help_names_the_exit_codes_and_hides_debug() {
        let help = parse(&["--help"]).expect_err("help").to_string();
        assert!(
            help.contains("Exit codes:") && help.contains("5  driver and weirctl"),
            "{help}"
        );
        assert!(!help.contains("debug"), "{help}");
    }
}
