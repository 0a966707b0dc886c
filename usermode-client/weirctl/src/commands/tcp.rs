//! `weirctl tcp`: standard input to a kernel socket, the socket to standard
//! output, as netcat does it.

use std::io::{self, IsTerminal as _, Read};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use weir_abi::SocketFlags;
use weir_client::net::{OpenOptions, TcpListener, TcpStream, wait_ended};
use weir_client::{Device, Doing, Error};

use super::Stop;
use crate::error::CtlError;
use crate::output::Output;
use crate::wire::again::Again;
use crate::wire::deadline::Deadline;
use crate::wire::duplex::{Duplex, Plain, is_late};
use crate::wire::feed::Feed;
use crate::wire::place::PlaceArgs;
use crate::wire::pump::{Ends, pump};
use crate::wire::tls::{self, ClientArgs, HANDSHAKE, ServerArgs};

/// How long a listener waits before it looks whether to stop.
const TICK: Duration = Duration::from_millis(200);
/// How long connections get to end after the command has.
const LAST: Duration = Duration::from_secs(5);
/// Peers that shake hands, or wait for their turn after that, at once.
const SHAKING: usize = 64;

#[derive(Debug, Subcommand)]
pub(crate) enum TcpCommand {
    /// Connect: standard input goes to the peer, what comes goes to standard output
    ///
    /// At the end of standard input the sending direction is ended (half close)
    /// and what still comes is shown; it ends when both sides have ended. At a
    /// terminal, it ends with the peer. Of a name with several addresses, the first
    /// that can be connected to is taken. -v says on standard error who is connected.
    /// Ctrl-C ends the connection in order; a second one ends the command at once.
    Connect(ConnectArgs),
    /// Listen for one connection, or with -k for one after the other
    ///
    /// A connection ends with its peer; the end of standard input ends the sending
    /// direction (half close). Where it listens is said on standard error, and with
    /// -v who is connected. Ctrl-C ends the connection in order, and the command; a
    /// second one ends it at once. What can't be delivered to a peer is an error; with
    /// -k it is told, and so is a connection that can't be taken, and it goes on.
    Listen(ListenArgs),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ConnectArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Give up when it takes so long to look the name up, connect and shake hands,
    /// all together: its addresses share that time. Connected, end when nothing has
    /// moved in either direction for so long
    #[arg(short, long, value_name = "SECONDS", value_parser = some_seconds)]
    wait: Option<Duration>,
    /// Connect from this address; port 0 lets the driver choose
    #[arg(short, long, value_name = "ADDR:PORT", value_parser = crate::cli::address)]
    source: Option<SocketAddr>,
    /// As netcat's: end the sending direction at the end of standard input. That is
    /// done without it, too
    #[arg(short = 'N')]
    half_close: bool,
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
    /// End a connection when nothing has moved in either direction for so long, or
    /// when its handshake takes so long (without it, 30 seconds). Without -k, give
    /// up when nobody connects for so long
    #[arg(short, long, value_name = "SECONDS", value_parser = some_seconds)]
    wait: Option<Duration>,
    /// As netcat's: end the sending direction at the end of standard input. That is
    /// done without it, too
    #[arg(short = 'N')]
    half_close: bool,
    /// Let rules in force refuse a peer before its handshake is answered
    ///
    /// Windows' protection against floods of SYNs is off for this listener then,
    /// and so is its backlog.
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
        TcpCommand::Connect(args) => connect(device, args, input, terminal, &super::ctrl_c, out),
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

/// Connects, to the first address that answers. Each gets its share of the time
/// that is left, so that one that never answers leaves some for the others.
pub(crate) fn reach(
    device: &Device,
    addresses: &[SocketAddr],
    options: &OpenOptions,
    time: Deadline,
) -> Result<TcpStream, CtlError> {
    let mut last = None;
    for (tried, to) in addresses.iter().enumerate() {
        let share = time.share(addresses.len() - tried);
        match TcpStream::connect_with(device, *to, options, share) {
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

/// `tcp connect`, with an input of the caller's. `stop` makes Ctrl-C set something:
/// asked when there is a connection, which is to be ended in order.
pub(crate) fn connect(
    device: &Device,
    args: &ConnectArgs,
    input: impl Read + Send + 'static,
    terminal: bool,
    stop: Stop<'_>,
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
    let time = Deadline::after(args.wait);
    let addresses = place.addresses(device, args.source, time.left())?;
    let stream = reach(device, &addresses, &options, time)?;
    let peer = stream.peer_addr()?;
    tracing::info!(%peer, local = %stream.local_addr(), "connected");
    // From here on there is something to end in order.
    let stop = stop()?;
    let feed = Feed::start(input, terminal)?;
    let ends = Ends {
        idle: args.wait,
        ..Ends::default()
    };
    let copy = |stream: &dyn Duplex, out: &mut dyn io::Write| {
        let copied = pump(stream, &feed, out, ends, &stop)?;
        if copied.cut {
            // The peer is told, and gets what is on its way.
            let _ = stream.finish(&|| false);
        }
        Ok::<_, CtlError>(copied)
    };
    out.lines_shown();
    let copied = match tls {
        None => copy(&Plain(stream), out.lines())?,
        Some(client) => {
            let time = match args.wait {
                Some(_) => time,
                None => Deadline::after(Some(HANDSHAKE)),
            };
            let stops = || stop.load(Ordering::Relaxed);
            let Some(stream) = client.connect(stream, time, &stops)? else {
                return Ok(());
            };
            copy(&stream, out.lines())?
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
    let session = Session {
        feed: &feed,
        wait: args.wait,
        stop,
    };
    match (&tls, args.keep) {
        (Some(server), true) => session.shake_and_serve(&listener, server, out),
        (None, true) => {
            let stops = || session.stops();
            while let Some((stream, peer)) = next(&listener, &stops)? {
                told(peer, session.serve(stream, None, out))?;
            }
            Ok(())
        }
        (tls, false) => {
            let accepted = session.accept(&listener, args.wait)?;
            // Who comes later is refused, not left to wait.
            drop(listener);
            match accepted {
                Some((stream, _)) => session.serve(stream, tls.as_ref(), out),
                None => Ok(()),
            }
        }
    }
}

/// With `-k`, what one connection ended with is told, and the next may do better;
/// but a closed output is closed for all.
fn told(peer: SocketAddr, served: Result<(), CtlError>) -> Result<(), CtlError> {
    match served {
        Err(error) if !error.is_of_output() => {
            crate::output::tell(&format_args!("{peer}: {error}"));
            Ok(())
        }
        other => other,
    }
}

/// The next connection of those with `-k`, `None` when it is to stop. One that can't
/// be taken is told, and the next waited for.
fn next(
    listener: &TcpListener,
    stops: &dyn Fn() -> bool,
) -> Result<Option<(TcpStream, SocketAddr)>, CtlError> {
    let mut again = Again::default();
    while !stops() {
        match listener.accept_within(Some(TICK)) {
            Ok(None) => {}
            Ok(Some((stream, peer))) => {
                tracing::info!(%peer, "connected");
                return Ok(Some((stream, peer)));
            }
            Err(error) => {
                let Some(wait) = again.after(&error) else {
                    return Err(error.into());
                };
                let seconds = wait.as_secs_f64();
                crate::output::tell(&format_args!("{error}; again in {seconds:.1} s"));
                let time = Deadline::after(Some(wait));
                while !stops() && !time.is_over() {
                    thread::sleep(time.left().map_or(TICK, |left| left.min(TICK)));
                }
            }
        }
    }
    Ok(None)
}

/// What connections are served with.
struct Session<'a> {
    feed: &'a Feed,
    wait: Option<Duration>,
    stop: &'a AtomicBool,
}

type Shaken = (SocketAddr, Result<Option<tls::Tls>, CtlError>);

impl Session<'_> {
    fn stops(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The next connection; `None` when it is to stop. It is an error if there is
    /// none within `wait`.
    fn accept(
        &self,
        listener: &TcpListener,
        wait: Option<Duration>,
    ) -> Result<Option<(TcpStream, SocketAddr)>, CtlError> {
        let time = Deadline::after(wait);
        while !self.stops() {
            let left = time.left().map_or(TICK, |left| left.min(TICK));
            if let Some((stream, peer)) = listener.accept_within(Some(left))? {
                tracing::info!(%peer, "connected");
                return Ok(Some((stream, peer)));
            }
            if time.is_over() {
                return Err(Error::TimedOut {
                    doing: Doing::Accepting,
                    after: time.given,
                }
                .into());
            }
        }
        Ok(None)
    }

    /// Shakes hands; `None` when it is to stop.
    fn shake(
        &self,
        stream: TcpStream,
        server: &tls::Server,
        stops: &dyn Fn() -> bool,
    ) -> Result<Option<tls::Tls>, CtlError> {
        let time = Deadline::after(Some(self.wait.unwrap_or(HANDSHAKE)));
        server.accept(stream, time, stops)
    }

    fn serve(
        &self,
        stream: TcpStream,
        tls: Option<&tls::Server>,
        out: &mut Output<'_>,
    ) -> Result<(), CtlError> {
        match tls {
            None => self.copy(&Plain(stream), out),
            Some(server) => match self.shake(stream, server, &|| self.stops())? {
                Some(stream) => self.copy(&stream, out),
                None => Ok(()),
            },
        }
    }

    fn copy(&self, stream: &dyn Duplex, out: &mut Output<'_>) -> Result<(), CtlError> {
        let ends = Ends {
            idle: self.wait,
            with_peer: true,
            ..Ends::default()
        };
        let copied = pump(stream, self.feed, out.lines(), ends, self.stop)?;
        // The peer is told, where the input has not done that.
        match stream.finish(&|| false) {
            // What waits to be taken is waited for after the command's end.
            Err(error) if copied.sent > 0 && !copied.cut && !is_late(&error) => {
                return Err(CtlError::stream(error));
            }
            _ => {}
        }
        tracing::info!(?copied, "ended");
        Ok(())
    }

    /// Serves one connection after the other, but lets many shake hands meanwhile:
    /// one that takes its time for that keeps nobody waiting.
    fn shake_and_serve(
        &self,
        listener: &TcpListener,
        server: &tls::Server,
        out: &mut Output<'_>,
    ) -> Result<(), CtlError> {
        let (over, shaking) = (&AtomicBool::new(false), &AtomicUsize::new(0));
        thread::scope(|scope| {
            // Without room: who has shaken hands waits in its own thread.
            let (give, take) = sync_channel::<Shaken>(0);
            let door = scope.spawn(move || -> Result<(), CtlError> {
                let stops = move || over.load(Ordering::Relaxed) || self.stops();
                while !stops() {
                    if shaking.load(Ordering::Relaxed) >= SHAKING {
                        thread::sleep(TICK);
                        continue;
                    }
                    let Some((stream, peer)) = next(listener, &stops)? else {
                        break;
                    };
                    shaking.fetch_add(1, Ordering::Relaxed);
                    let give = give.clone();
                    let shake = move || {
                        // Nobody takes it when it is over.
                        let _ = give.send((peer, self.shake(stream, server, &stops)));
                        shaking.fetch_sub(1, Ordering::Relaxed);
                    };
                    thread::Builder::new()
                        .name("handshake".to_owned())
                        .spawn_scoped(scope, shake)
                        .map_err(CtlError::Thread)?;
                }
                Ok(())
            });
            let result = loop {
                match take.recv_timeout(TICK) {
                    Ok((peer, shaken)) => {
                        let served = match shaken {
                            Ok(Some(stream)) => self.copy(&stream, out),
                            // Told to stop, it gives up on all of them.
                            Ok(None) => break Ok(()),
                            Err(error) => Err(error),
                        };
                        if let Err(error) = told(peer, served) {
                            break Err(error);
                        }
                    }
                    Err(RecvTimeoutError::Timeout) if !self.stops() && !door.is_finished() => {}
                    Err(_) => break Ok(()),
                }
            };
            over.store(true, Ordering::Relaxed);
            drop(take);
            // It can't have panicked: that would have ended the process.
            result.and(door.join().unwrap_or(Ok(())))
        })
    }
}
