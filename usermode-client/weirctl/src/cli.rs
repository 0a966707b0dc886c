//! The command line's grammar.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::builder::RangedI64ValueParser;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use weir_abi::{Direction, Directions, ServiceKind, Transport, limits};

/// Exit codes, shown with the help. README.md has the same list.
const EXIT_CODES: &str = "\
Exit codes:
  0  done (also what Ctrl-C ended, and a connection where nothing moved for -w)
  1  the operation failed; of a damaged capture file, what is whole is shown
  2  the command line is wrong, the expression of match too
  3  the driver is not running, or this is not Windows
  4  access denied: run as administrator
  5  driver and weirctl speak different versions of the contract
  130  a second Ctrl-C ended the command at once: a capture before its file was whole,
       a connection with a reset";

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
    /// Frames, flows, TCP health and verdicts of capture files
    Inspect(InspectArgs),
    /// Numbers of the frames in capture files that match an expression
    Match(MatchArgs),
    /// Rules: files of them, and those in force in the driver
    #[command(subcommand)]
    Rules(RulesCommand),
    /// The flows in the driver's tables, with the processes that own them, and its alarms
    Flows(FlowsArgs),
    /// Take the frames of divert rules, and give them back
    Divert(DivertArgs),
    /// Send the frames of a capture file, or hand them to the host
    Inject(InjectArgs),
    /// TCP over a kernel socket: standard input to the peer, the peer to standard output
    #[command(subcommand)]
    Tcp(crate::commands::tcp::TcpCommand),
    /// UDP over a kernel socket
    #[command(subcommand)]
    Udp(crate::commands::udp::UdpCommand),
    /// The kernel sockets of the driver, of programs and of services
    Sockets,
    /// A chat over kernel sockets: rooms, names, a server and a client
    #[command(subcommand)]
    Chat(crate::commands::chat::ChatCommand),
    /// Network services inside the kernel
    #[command(subcommand)]
    Service(ServiceCommand),
    /// An echo server in user mode, in one of Windows' I/O models
    Serve(crate::commands::serve::ServeArgs),
    /// Measure echo servers: the models of `serve`, and the driver's
    #[command(subcommand)]
    Bench(crate::bench::args::BenchCommand),
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
    /// Only frames that a log rule matched
    #[arg(long)]
    pub(crate) logged: bool,
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

pub(crate) fn seconds(text: &str) -> Result<std::time::Duration, String> {
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

#[derive(Args, Clone, Debug)]
pub(crate) struct InspectArgs {
    /// pcap or pcapng files, gzip too; - for standard input
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Decide on each frame by the rules in this file
    #[arg(long, value_name = "RULES")]
    pub(crate) rules: Option<PathBuf>,
    /// Which way frames went of which the file doesn't say, seen from the host
    #[arg(long, value_enum, conflicts_with = "host")]
    pub(crate) direction: Option<DirectionArg>,
    /// An address of the host: what it sent went out, what others sent to it came in
    #[arg(long, value_name = "IP|MAC")]
    pub(crate) host: Vec<HostArg>,
    /// One line a frame in place of the summary
    #[arg(long)]
    pub(crate) packets: bool,
    /// Flows kept at the same time, of 144 bytes each
    #[arg(long, value_name = "N", default_value_t = 262_144,
          value_parser = within(1..=16_777_214))]
    pub(crate) flows: u32,
    /// How many of the largest flows to show
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = within(0..=10_000))]
    pub(crate) top: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DirectionArg {
    /// Received
    In,
    /// Sent
    Out,
}

impl DirectionArg {
    /// Its word.
    pub(crate) fn name(self) -> &'static str {
        Direction::from(self).as_str()
    }
}

impl From<DirectionArg> for Direction {
    fn from(direction: DirectionArg) -> Direction {
        match direction {
            DirectionArg::In => Direction::In,
            DirectionArg::Out => Direction::Out,
        }
    }
}

/// An address of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostArg {
    Ip(IpAddr),
    Mac([u8; 6]),
}

impl std::str::FromStr for HostArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse() {
            return Ok(HostArg::Ip(address));
        }
        let digits: Vec<&str> = text.split([':', '-']).collect();
        let mut mac = [0; 6];
        if digits.len() != mac.len() {
            return Err("neither an IP address nor a MAC address");
        }
        for (byte, digits) in mac.iter_mut().zip(digits) {
            // from_str_radix takes a sign.
            let hex = digits.len() <= 2 && digits.bytes().all(|b| b.is_ascii_hexdigit());
            *byte = u8::from_str_radix(digits, 16)
                .ok()
                .filter(|_| hex)
                .ok_or("not a MAC address, as 02:00:00:00:00:01")?;
        }
        Ok(HostArg::Mac(mac))
    }
}

#[derive(Args, Clone, Debug)]
pub(crate) struct MatchArgs {
    /// As of pcap-filter, such as 'tcp port 443 and not net 10.0.0.0/8'
    pub(crate) expression: String,
    /// pcap or pcapng files, gzip too; - for standard input
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// How many frames match, not which
    #[arg(long)]
    pub(crate) count: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RulesCommand {
    /// Whether a rule file is right, and if not, all that is wrong with it
    Check {
        /// The rule file; - for standard input
        file: PathBuf,
    },
    /// The program a rule file becomes, what is looked up by hash, what never matches
    Explain {
        /// The rule file; - for standard input
        file: PathBuf,
    },
    /// Put the rules of a file in force, in place of those before
    Load {
        /// The rule file; - for standard input
        file: PathBuf,
    },
    /// The rules in force, as a rule file has them
    Show,
    /// What the rules in force did: frames and bytes of each
    Stats,
    /// Take the rules away: every frame passes
    Clear,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct FlowsArgs {
    /// Only this adapter, by name or id
    #[arg(short, long, value_name = "ADAPTER")]
    pub(crate) interface: Option<String>,
    /// Which flows come first
    #[arg(long, value_enum, default_value = "bytes")]
    pub(crate) sort: FlowOrder,
    /// Show so many flows at most
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub(crate) limit: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FlowOrder {
    /// Most bytes
    Bytes,
    /// Most frames
    Packets,
    /// Seen last
    Recent,
    /// Adapter and number
    Id,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct DivertArgs {
    /// Only of this adapter, by name or id
    #[arg(short, long, value_name = "ADAPTER")]
    pub(crate) interface: Option<String>,
    /// Where the frames go
    #[arg(long, value_enum, default_value = "onward")]
    pub(crate) to: DivertTo,
    /// End after so many frames, or a few more
    #[arg(short, long, value_name = "FRAMES", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// End after so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) duration: Option<std::time::Duration>,
    /// Milliseconds a frame may wait for more before it is delivered, 0 to 60000
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = flush_ms())]
    pub(crate) flush_ms: u32,
    /// Bytes the driver keeps for frames this program has no read for, 64 KiB to 64 MiB
    #[arg(long, value_name = "BYTES", default_value_t = 4 * 1024 * 1024,
          value_parser = backlog())]
    pub(crate) backlog: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DivertTo {
    /// The way they were going
    Onward,
    /// The other way
    Back,
    /// Nowhere: they are dropped
    Nowhere,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct InjectArgs {
    /// The adapter, by name or id
    #[arg(short, long, value_name = "ADAPTER")]
    pub(crate) interface: String,
    /// Out to the network, or in to the host as if they had come from there
    #[arg(long, value_enum)]
    pub(crate) direction: DirectionArg,
    /// End after so many frames
    #[arg(short, long, value_name = "FRAMES", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Frames a second; as fast as they are taken without it
    #[arg(long, value_name = "N", value_parser = within(1..=1_000_000))]
    pub(crate) rate: Option<u32>,
    /// pcap or pcapng, gzip too; - for standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
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
        /// Where a relay connects or sends to
        #[arg(long, value_name = "ADDR:PORT", value_parser = address,
              required_if_eq("kind", "relay"))]
        to: Option<SocketAddr>,
        /// Over TCP, let rules in force refuse a peer before its handshake is answered
        ///
        /// Windows' protection against floods of SYNs is off for this service then.
        /// Without it every peer that reaches the host is let in; rules on an adapter
        /// keep one out either way.
        #[arg(long, conflicts_with = "udp")]
        conditional: bool,
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
    /// Drops what it receives
    Discard,
    /// Passes it on to another address, and what comes back from there (--to)
    Relay,
}

impl From<KindArg> for ServiceKind {
    fn from(kind: KindArg) -> ServiceKind {
        match kind {
            KindArg::Echo => ServiceKind::Echo,
            KindArg::Discard => ServiceKind::Discard,
            KindArg::Relay => ServiceKind::Relay,
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

/// An address as it is: only the HOST of a command that connects is looked up, as a
/// name may have several.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
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
    fn hosts_are_addresses_of_either_kind() {
        let cli = parse(&["inspect", "f", "--host", "::1", "--host", "02-00:0:0:0:aB"]);
        let Command::Inspect(args) = cli.expect("parses").command else {
            panic!("not inspect");
        };
        let mac = HostArg::Mac([2, 0, 0, 0, 0, 0xab]);
        assert_eq!(args.host, [HostArg::Ip("::1".parse().expect("IP")), mac]);
        assert_eq!((args.flows, args.top, args.packets), (262_144, 10, false));
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
    fn only_a_tcp_service_is_conditional() {
        let start = |line: &str| parse(&line.split_whitespace().collect::<Vec<_>>());
        for (line, want) in [
            ("service start echo --tcp [::1]:7", false),
            ("service start echo --tcp [::1]:7 --conditional", true),
        ] {
            let cli = start(line).expect("parses");
            let Command::Service(ServiceCommand::Start { conditional, .. }) = cli.command else {
                panic!("{:?}", cli.command);
            };
            assert_eq!(conditional, want, "{line}");
        }
        assert!(start("service start echo --udp [::1]:7 --conditional").is_err());
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
            "service start drop --tcp 1.2.3.4:5",
            "service start relay --tcp 1.2.3.4:5",
            "tcp connect",
            "tcp connect 127.0.0.1 0",
            "tcp connect 127.0.0.1 7 --pin 00",
            "tcp connect 127.0.0.1 7 --tls --pin 00",
            "tcp connect 127.0.0.1 7 -w 0",
            "tcp listen host:7",
            "tcp listen 127.0.0.1:0 --tls --cert f",
            "udp send 127.0.0.1 7 --chunk 65528",
            "udp send 127.0.0.1 7 --ttl 256",
            "udp listen 127.0.0.1:0 --join x",
            "chat serve",
            "chat join 127.0.0.1:7",
            "chat join 127.0.0.1:7 --name a/b",
            "debug ioctl --code xyz",
            "inspect",
            "inspect f --flows 0",
            "inspect f --direction in --host 1.2.3.4",
            "inspect f --host 1.2.3",
            "inspect f --host 2:0:0:0:0",
            "inspect f --host 2:0:0:0:0:+1",
            "match tcp",
            "rules check",
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
