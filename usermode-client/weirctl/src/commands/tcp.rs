//! `weirctl tcp`: standard input to a kernel socket, the socket to standard
//! output, as netcat does it.

use std::io::{self, IsTerminal as _, Read};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use weir_abi::SocketFlags;
use weir_client::net::{OpenOptions, TcpListener, TcpStream, wait_ended};
use weir_client::{Device, Doing, Error};

use crate::error::CtlError;
use crate::output::Output;
use crate::wire::duplex::{Duplex, Plain};
use crate::wire::feed::Feed;
use crate::wire::place::PlaceArgs;
use crate::wire::pump::{Ends, pump};
use crate::wire::tls::{self, ClientArgs, ServerArgs};

/// How long a listener waits before it looks whether to stop.
const TICK: Duration = Duration::from_millis(200);
/// How long connections get to end after the command has.
const LAST: Duration = Duration::from_secs(5);

#[derive(Debug, Subcommand)]
pub(crate) enum TcpCommand {
    /// Connect: standard input goes to the peer, what comes goes to standard output
    ///
    /// At the end of standard input the sending direction is ended (half close)
    /// and what still comes is shown; it ends when both sides have ended. At a
    /// terminal, it ends with the peer.
    Connect(ConnectArgs),
    /// Listen for one connection, or with -k for one after the other
    ///
    /// A connection ends with its peer. Ctrl-C ends the command.
    Listen(ListenArgs),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ConnectArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Give up when connecting takes so long, or nothing moves for so long after that
    #[arg(short, long, value_name = "SECONDS", value_parser = some_seconds)]
    wait: Option<Duration>,
    /// Connect from this address; port 0 lets the driver choose
    #[arg(short, long, value_name = "ADDR:PORT", value_parser = crate::cli::address)]
    source: Option<SocketAddr>,
    #[command(flatten)]
    tls: ClientArgs,
}

/// How a listener's connections come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AcceptBy {
    /// The driver takes each as it arrives, and holds it until it is served
    Event,
    /// Each is asked for with a request of its own; others wait in the transport
    Irp,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ListenArgs {
    /// Where to listen, as 127.0.0.1:7 or [::1]:7; port 0 lets the driver choose
    #[arg(value_name = "ADDR:PORT", value_parser = crate::cli::address)]
    at: SocketAddr,
    /// Go on listening when a connection has ended
    #[arg(short, long)]
    keep: bool,
    /// End a connection when nothing moves for so long
    #[arg(short, long, value_name = "SECONDS", value_parser = some_seconds)]
    wait: Option<Duration>,
    /// Let rules in force refuse a peer before its handshake is answered
    #[arg(long)]
    conditional: bool,
    /// How connections come: taken by the driver as they arrive, or asked for
    #[arg(long, value_enum, value_name = "HOW", default_value_t = AcceptBy::Event)]
    accept_by: AcceptBy,
    /// On an IPv6 address, take IPv4 too
    #[arg(long)]
    dual: bool,
    #[command(flatten)]
    tls: ServerArgs,
}

/// A time that is more than none.
pub(crate) fn some_seconds(text: &str) -> Result<Duration, String> {
    let time = crate::cli::seconds(text)?;
    if time.is_zero() {
        return Err("at least a little time is needed".to_owned());
    }
    Ok(time)
}

/// Runs a `tcp` command.
pub(crate) fn run(
    device: &Device,
    command: &TcpCommand,
    out: &mut Output<'_>,
) -> Result<(), CtlError> {
    let input = io::stdin();
    let terminal = input.is_terminal();
    let result = match command {
        TcpCommand::Connect(args) => connect(device, args, input, terminal, out),
        TcpCommand::Listen(args) => {
            let stop = super::ctrl_c()?;
            listen(device, args, input, terminal, &stop, out)
        }
    };
    // What was written is on its way yet, and the process's end would cut it off.
    if !wait_ended(LAST) {
        tracing::warn!("a peer has not ended its connection: it is reset");
    }
    result
}

fn ends(wait: Option<Duration>, with_peer: bool) -> Ends {
    Ends {
        idle: wait,
        with_peer,
    }
}

/// Connects, to the first address that answers.
pub(crate) fn reach(
    device: &Device,
    addresses: &[SocketAddr],
    options: &OpenOptions,
    wait: Option<Duration>,
) -> Result<TcpStream, CtlError> {
    let mut last = None;
    for to in addresses {
        match TcpStream::connect_with(device, *to, options, wait) {
            Ok(stream) => return Ok(stream),
            Err(error) => {
                tracing::info!(%error, "not there");
                last = Some(error);
            }
        }
    }
    Err(last
        .unwrap_or(Error::NoAddress {
            name: String::new(),
        })
        .into())
}

/// `tcp connect`, with an input of the caller's.
pub(crate) fn connect(
    device: &Device,
    args: &ConnectArgs,
    input: impl Read + Send + 'static,
    terminal: bool,
    out: &mut Output<'_>,
) -> Result<(), CtlError> {
    let place = args.place.place()?;
    // Before anybody is spoken to: without trust there is nothing to say.
    let tls = args.tls.client(&place.host)?;
    let options = OpenOptions {
        local: args.source,
        flags: SocketFlags::NO_DELAY,
        ..OpenOptions::default()
    };
    let stream = reach(device, &place.addresses(device)?, &options, args.wait)?;
    let peer = stream.peer_addr()?;
    tracing::info!(%peer, local = %stream.local_addr(), "connected");
    let feed = Feed::start(input, terminal)?;
    let ends = ends(args.wait, false);
    out.lines_shown();
    let copied = match tls {
        None => pump(&Plain(stream), &feed, out.lines(), ends)?,
        Some(client) => {
            let stream = client.connect(stream, args.wait)?;
            pump(&stream, &feed, out.lines(), ends)?
        }
    };
    tracing::info!(?copied, "ended");
    Ok(())
}

#[derive(Serialize)]
struct Listening {
    listening: String,
    port: u16,
    /// SHA-256 of the certificate, with TLS.
    pin: Option<String>,
}

impl crate::output::View for Listening {
    fn text(&self, out: &mut dyn io::Write) -> io::Result<()> {
        writeln!(out, "listening on {}", self.listening)?;
        if let Some(pin) = &self.pin {
            writeln!(out, "certificate pin {pin}")?;
        }
        Ok(())
    }
}

/// `tcp listen`, with an input of the caller's.
pub(crate) fn listen(
    device: &Device,
    args: &ListenArgs,
    input: impl Read + Send + 'static,
    terminal: bool,
    stop: &AtomicBool,
    out: &mut Output<'_>,
) -> Result<(), CtlError> {
    let tls = args.tls.server(args.at)?;
    let mut options = OpenOptions {
        flags: SocketFlags::NO_DELAY,
        ..OpenOptions::default()
    };
    options
        .flags
        .set(SocketFlags::CONDITIONAL_ACCEPT, args.conditional);
    options.flags.set(SocketFlags::DUAL_STACK, args.dual);
    let by_request = args.accept_by == AcceptBy::Irp;
    options
        .flags
        .set(SocketFlags::ACCEPT_BY_REQUEST, by_request);
    let listener = TcpListener::bind_with(device, args.at, &options)?;
    let at = listener.local_addr();
    // To standard error: standard output is the peer's.
    out.on_stderr().show(&Listening {
        listening: at.to_string(),
        port: at.port(),
        pin: tls.as_ref().map(|tls| tls.pin.to_string()),
    })?;
    out.lines_shown();
    let feed = Feed::start(input, terminal)?;
    let first = args.wait.filter(|_| !args.keep);
    let mut until = first.and_then(|wait| Instant::now().checked_add(wait));
    while !stop.load(Ordering::Relaxed) {
        if until.is_some_and(|until| Instant::now() >= until) {
            return Err(Error::TimedOut {
                doing: Doing::Accepting,
                after: args.wait.unwrap_or_default(),
            }
            .into());
        }
        let Some((stream, peer)) = listener.accept_within(Some(TICK))? else {
            continue;
        };
        tracing::info!(%peer, "connected");
        let served = serve(stream, tls.as_ref(), &feed, args.wait, out);
        match served {
            // The next may do better; but a closed output is closed for all.
            Err(error) if args.keep && !error.is_of_output() => {
                crate::output::tell(&format_args!("{peer}: {error}"));
            }
            Err(error) => return Err(error),
            Ok(()) => {}
        }
        if !args.keep {
            return Ok(());
        }
        until = None;
    }
    Ok(())
}

fn serve(
    stream: TcpStream,
    tls: Option<&tls::Server>,
    feed: &Feed,
    wait: Option<Duration>,
    out: &mut Output<'_>,
) -> Result<(), CtlError> {
    let ends = ends(wait, true);
    let stream: Box<dyn Duplex> = match tls {
        None => Box::new(Plain(stream)),
        Some(server) => Box::new(server.accept(stream, wait)?),
    };
    let copied = pump(&*stream, feed, out.lines(), ends)?;
    // The peer is told, where the input has not done that.
    let _ = stream.finish(&|| false);
    tracing::info!(?copied, "ended");
    Ok(())
}
