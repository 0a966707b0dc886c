//! `weirctl udp`: datagrams from standard input, and to standard output.

use std::collections::VecDeque;
use std::io::{self, BufRead as _, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde::Serialize;
use weir_abi::{DatagramFlags, SocketFlags, limits};
use weir_client::net::{OpenOptions, Received, UdpSocket};
use weir_client::{Device, Error, ErrorKind};

use crate::error::CtlError;
use crate::output::{Output, View};
use crate::wire::place::PlaceArgs;

/// How long a receive waits before it looks whether to stop.
const TICK: Duration = Duration::from_millis(200);

#[derive(Debug, Subcommand)]
pub(crate) enum UdpCommand {
    /// Send standard input: a datagram a line, or of --chunk bytes
    ///
    /// Of a name with several addresses, all go to the first that the first datagram
    /// can be sent to; -4 and -6 choose the version of IP. UDP doesn't say whether
    /// anybody is there.
    Send(SendArgs),
    /// Show the datagrams that come, until Ctrl-C
    Listen(ListenArgs),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Multicast {
    /// The interface of multicasts, by the name of an adapter or by index
    #[arg(short, long, value_name = "INTERFACE")]
    interface: Option<String>,
}

impl Multicast {
    /// The index of the interface; 0 without one.
    fn index(&self, device: &Device) -> Result<u32, CtlError> {
        let Some(asked) = &self.interface else {
            return Ok(0);
        };
        if let Ok(index) = asked.parse() {
            return Ok(index);
        }
        Ok(super::find_adapter(&device.adapters()?, asked)?.if_index)
    }
}

#[derive(Args, Clone, Debug)]
pub(crate) struct SendArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Send this one datagram in place of standard input
    #[arg(short, long, value_name = "TEXT", conflicts_with = "chunk")]
    data: Option<String>,
    /// Cut standard input into datagrams of so many bytes, not lines
    #[arg(short, long, value_name = "BYTES",
          value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::MAX_DATAGRAM)))]
    chunk: Option<u32>,
    /// Send from this address; port 0 lets the driver choose
    #[arg(short, long, value_name = "ADDR:PORT", value_parser = crate::cli::address)]
    source: Option<SocketAddr>,
    /// Allow a broadcast address
    #[arg(short, long)]
    broadcast: bool,
    /// Hops: of multicasts to a group, else of unicasts
    #[arg(long, value_name = "HOPS", value_parser = clap::value_parser!(u32).range(0..=255))]
    ttl: Option<u32>,
    /// After the last, show what comes back until nothing has come for so long
    #[arg(short, long, value_name = "SECONDS", value_parser = super::tcp::some_seconds)]
    wait: Option<Duration>,
    #[command(flatten)]
    multicast: Multicast,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ListenArgs {
    /// Where to listen, as 0.0.0.0:7 or [::]:7; port 0 lets the driver choose
    #[arg(value_name = "ADDR:PORT", value_parser = crate::cli::address)]
    at: SocketAddr,
    /// Join a multicast group, as 239.1.2.3 or ff02::1234; may be given again
    #[arg(short, long, value_name = "GROUP")]
    join: Vec<IpAddr>,
    /// Whether multicasts of this machine itself are wanted
    #[arg(long = "loop", value_name = "BOOL", requires = "join")]
    loops: Option<bool>,
    /// Allow other sockets on the same port, as others in a group need
    #[arg(long)]
    reuse: bool,
    /// Allow answers to broadcast addresses
    #[arg(short, long)]
    broadcast: bool,
    /// Send each datagram back
    #[arg(long)]
    echo: bool,
    /// End after so many datagrams
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End when nothing has come for so long
    #[arg(short, long, value_name = "SECONDS", value_parser = super::tcp::some_seconds)]
    wait: Option<Duration>,
    #[command(flatten)]
    multicast: Multicast,
}

/// Runs a `udp` command.
pub(crate) fn run(
    device: &Device,
    command: &UdpCommand,
    out: &mut Output<'_>,
) -> Result<(), CtlError> {
    match command {
        UdpCommand::Send(args) => send(device, args, io::stdin(), out),
        UdpCommand::Listen(args) => listen(device, args, &*super::ctrl_c()?, out),
    }
}

const fn any(like: SocketAddr) -> SocketAddr {
    match like {
        SocketAddr::V4(_) => SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        SocketAddr::V6(_) => SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0),
    }
}

/// What was sent.
#[derive(Serialize)]
struct Sent {
    to: String,
    datagrams: u64,
    bytes: u64,
}

impl View for Sent {
    fn text(&self, _: &mut dyn io::Write) -> io::Result<()> {
        // Standard output is for answers.
        Ok(())
    }
}

/// Datagrams on their way to one of the addresses of a name.
struct Sending<'a> {
    device: &'a Device,
    args: &'a SendArgs,
    /// Those that have not been tried.
    addresses: VecDeque<SocketAddr>,
    /// With the first datagram: where they go to, and from what.
    socket: Option<(UdpSocket, SocketAddr)>,
    sent: Sent,
}

impl Sending<'_> {
    /// Sends a datagram; the first decides on the address.
    fn send(&mut self, bytes: &[u8]) -> Result<(), CtlError> {
        if let Some((socket, to)) = &self.socket {
            socket.send_to(bytes, *to)?;
        } else {
            self.send_first(bytes)?;
        }
        self.sent.bytes += bytes.len() as u64;
        self.sent.datagrams += 1;
        Ok(())
    }

    fn send_first(&mut self, bytes: &[u8]) -> Result<(), CtlError> {
        loop {
            let Some(to) = self.addresses.pop_front() else {
                let name = String::new();
                return Err(Error::NoAddress { name }.into());
            };
            let sent = self.open(to).and_then(|socket| {
                socket.send_to(bytes, to)?;
                Ok(socket)
            });
            match sent {
                Ok(socket) => {
                    tracing::info!(%to, from = %socket.local_addr(), "sending");
                    self.sent.to = to.to_string();
                    self.socket = Some((socket, to));
                    return Ok(());
                }
                Err(error) if self.addresses.is_empty() => return Err(error),
                Err(error) => tracing::info!(%error, "not there"),
            }
        }
    }

    /// A socket to send to this address.
    fn open(&self, to: SocketAddr) -> Result<UdpSocket, CtlError> {
        let args = self.args;
        let mut options = OpenOptions::default();
        options.flags.set(SocketFlags::BROADCAST, args.broadcast);
        let from = args.source.unwrap_or(any(to));
        let socket = UdpSocket::bind_with(self.device, from, &options)?;
        if to.ip().is_multicast() {
            let index = args.multicast.index(self.device)?;
            if index != 0 {
                socket.set_multicast_interface(index)?;
            }
            if let Some(hops) = args.ttl {
                socket.set_multicast_ttl(hops)?;
            }
        } else {
            if args.multicast.interface.is_some() {
                crate::output::tell(&format_args!(
                    "{to} is no multicast group, so -i changes nothing: the routes choose"
                ));
            }
            if let Some(hops) = args.ttl {
                socket.socket().set(weir_abi::SocketSetting::Ttl(hops))?;
            }
        }
        Ok(socket)
    }
}

/// `udp send`, with an input of the caller's.
pub(crate) fn send(
    device: &Device,
    args: &SendArgs,
    input: impl Read,
    out: &mut Output<'_>,
) -> Result<(), CtlError> {
    let place = args.place.place()?;
    let addresses = place.addresses(device, args.source, None)?;
    send_to_any(device, args, addresses, input, out)
}

/// Sends to the first of these addresses that takes it.
pub(crate) fn send_to_any(
    device: &Device,
    args: &SendArgs,
    addresses: Vec<SocketAddr>,
    input: impl Read,
    out: &mut Output<'_>,
) -> Result<(), CtlError> {
    let mut sending = Sending {
        device,
        args,
        sent: Sent {
            to: addresses
                .first()
                .map(ToString::to_string)
                .unwrap_or_default(),
            datagrams: 0,
            bytes: 0,
        },
        addresses: addresses.into(),
        socket: None,
    };
    match (&args.data, args.chunk) {
        (Some(text), _) => sending.send(text.as_bytes())?,
        (None, chunk) => each(input, chunk, &mut |bytes| sending.send(bytes))?,
    }
    let Sending { socket, sent, .. } = sending;
    tracing::info!(datagrams = sent.datagrams, bytes = sent.bytes, "sent");
    let Some(wait) = args.wait else {
        if out.is_json() {
            out.show(&sent)?;
        }
        return Ok(());
    };
    let Some((socket, _)) = socket else {
        // Nothing was sent, so nothing is answered.
        return Ok(());
    };
    let never = AtomicBool::new(false);
    show(&socket, None, Some(wait), false, &never, out)
}

/// Calls `one` with each datagram of the input.
fn each(
    input: impl Read,
    chunk: Option<u32>,
    one: &mut dyn FnMut(&[u8]) -> Result<(), CtlError>,
) -> Result<(), CtlError> {
    let most = u64::from(chunk.unwrap_or(limits::MAX_DATAGRAM));
    let mut input = io::BufReader::new(input);
    loop {
        let mut bytes = Vec::new();
        let mut part = input.by_ref().take(most);
        let read = match chunk {
            Some(_) => part.read_to_end(&mut bytes),
            None => part.read_until(b'\n', &mut bytes),
        };
        let read = read.map_err(CtlError::Input)?;
        if read == 0 {
            return Ok(());
        }
        one(&bytes)?;
    }
}

#[derive(Serialize)]
struct Listening {
    listening: String,
    port: u16,
    groups: Vec<IpAddr>,
}

impl View for Listening {
    fn text(&self, out: &mut dyn io::Write) -> io::Result<()> {
        writeln!(out, "listening on {}", self.listening)?;
        for group in &self.groups {
            writeln!(out, "joined {group}")?;
        }
        Ok(())
    }
}

/// `udp listen`.
pub(crate) fn listen(
    device: &Device,
    args: &ListenArgs,
    stop: &AtomicBool,
    out: &mut Output<'_>,
) -> Result<(), CtlError> {
    let mut options = OpenOptions::default();
    options.flags.set(SocketFlags::REUSE_ADDRESS, args.reuse);
    options.flags.set(SocketFlags::BROADCAST, args.broadcast);
    let socket = UdpSocket::bind_with(device, args.at, &options)?;
    let index = args.multicast.index(device)?;
    if let Some(on) = args.loops {
        socket.set_multicast_loop(on)?;
    }
    for group in &args.join {
        socket.join(*group, index)?;
    }
    let at = socket.local_addr();
    out.on_stderr().show(&Listening {
        listening: at.to_string(),
        port: at.port(),
        groups: args.join.clone(),
    })?;
    show(&socket, args.count, args.wait, args.echo, stop, out)
}

/// A datagram, as a line of JSON. What is no text is shown in hex.
#[derive(Serialize)]
struct Datagram<'a> {
    from: SocketAddr,
    len: usize,
    truncated: bool,
    multicast: bool,
    broadcast: bool,
    text: Option<&'a str>,
    hex: Option<String>,
}

impl<'a> Datagram<'a> {
    fn new(got: &Received, bytes: &'a [u8]) -> Datagram<'a> {
        let text = std::str::from_utf8(bytes).ok();
        let hex = || bytes.iter().map(|b| format!("{b:02x}")).collect();
        Datagram {
            from: got.from,
            len: got.len,
            truncated: got.flags.contains(DatagramFlags::TRUNCATED),
            multicast: got.flags.contains(DatagramFlags::MULTICAST),
            broadcast: got.flags.contains(DatagramFlags::BROADCAST),
            text,
            hex: text.is_none().then(hex),
        }
    }
}

fn show(
    socket: &UdpSocket,
    count: Option<u64>,
    wait: Option<Duration>,
    echo: bool,
    stop: &AtomicBool,
    out: &mut Output<'_>,
) -> Result<(), CtlError> {
    out.lines_shown();
    let json = out.is_json();
    let mut buf = vec![0; 65_536];
    let (mut seen, mut last) = (0_u64, Instant::now());
    while !stop.load(Ordering::Relaxed) && count.is_none_or(|count| seen < count) {
        let left = wait.map(|wait| wait.saturating_sub(last.elapsed()));
        if left == Some(Duration::ZERO) {
            break;
        }
        socket.set_read_timeout(Some(left.map_or(TICK, |left| left.min(TICK))));
        let got = match socket.recv_from(&mut buf) {
            Ok(got) => got,
            Err(Error::TimedOut { .. }) => continue,
            // Somebody's port is closed: that is no end for the others.
            Err(error) if error.kind() == ErrorKind::Reset => {
                tracing::warn!(%error, "a datagram came back");
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        seen += 1;
        last = Instant::now();
        let bytes = buf.get(..got.len).unwrap_or_default();
        tracing::info!(from = %got.from, len = got.len, flags = ?got.flags, "datagram");
        let to = out.lines();
        if json {
            serde_json::to_writer(&mut *to, &Datagram::new(&got, bytes))
                .map_err(io::Error::from)?;
            writeln!(to)?;
        } else {
            to.write_all(bytes)?;
        }
        to.flush()?;
        // An address that can't be answered is the sender's choice: that is no
        // end for the others.
        if echo && let Err(error) = socket.send_to(bytes, got.from) {
            tracing::warn!(%error, "not sent back");
        }
    }
    Ok(())
}
