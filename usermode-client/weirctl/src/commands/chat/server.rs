//! The server: a task a member, on the library's tasks.

use std::future::Future;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::executor::{ThreadPool, block_on};
use futures::future::{Either, select};
use futures::io::AsyncWriteExt as _;
use futures::task::SpawnExt as _;
use futures::{FutureExt as _, StreamExt as _, pin_mut};
use futures_timer::Delay;
use serde::Serialize;
use weir_abi::SocketFlags;
use weir_client::aio::{TcpListener, TcpStream};
use weir_client::net::OpenOptions;
use weir_client::{Device, Error};

use super::hub::{Hub, Key, Queue, Seat};
use super::line::{Lines, Sent};
use super::rate::{Allowance, Rate};
use super::{MAX_LINE, ServeArgs, name};
use crate::error::CtlError;
use crate::output::{Output, View};
use crate::wire::again::Again;

/// How long somebody has to say its name.
const HELLO: Duration = Duration::from_secs(30);
/// Connections beside those of members, at most: of who hasn't said its name yet,
/// or is told why it can't come in. One more is reset.
const STRANGERS: usize = 1024;
/// How long somebody has to read what was last said to it.
const GOODBYE: Duration = Duration::from_secs(3);
/// Connections that are waited for at once.
const ACCEPTS: usize = 4;
/// Bytes that are written at once.
const BATCH: usize = 16 * 1024;
/// How often it is looked whether to stop.
const TICK: Duration = Duration::from_millis(100);
/// How often somebody is told that it speaks too fast.
const TELL_AGAIN: Duration = Duration::from_secs(5);

#[derive(Serialize)]
struct Listening {
    listening: String,
    port: u16,
}

impl View for Listening {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "chat on {}", self.listening)
    }
}

/// `chat serve`, until `stop` is set.
pub(crate) fn serve(
    device: &Device,
    args: &ServeArgs,
    stop: &AtomicBool,
    out: &mut Output<'_>,
) -> Result<(), CtlError> {
    let options = OpenOptions {
        // Who is silently gone is found out; lines are short and wanted soon.
        flags: SocketFlags::KEEP_ALIVE | SocketFlags::NO_DELAY,
        backlog: 1024,
        ..OpenOptions::default()
    };
    let listener = block_on(TcpListener::bind_with(device, args.at, &options))?;
    let at = listener.local_addr();
    let pool = ThreadPool::new().map_err(CtlError::Thread)?;
    let hub = Arc::new(Hub::new(args.members as usize, args.queue as usize));
    let listener = Arc::new(listener);
    let mut acceptors: Vec<_> = (0..ACCEPTS)
        .map(|_| {
            let door = Door {
                listener: Arc::clone(&listener),
                hub: Arc::clone(&hub),
                pool: pool.clone(),
                most: args.members as usize + STRANGERS,
                rate: Rate {
                    lines: args.rate,
                    bytes: args.byte_rate,
                },
            };
            pool.spawn_with_handle(door.accept())
        })
        .collect::<Result<_, _>>()
        .map_err(|_| CtlError::Chat("no task can be started; try again".to_owned()))?;
    drop(listener);
    out.show(&Listening {
        listening: at.to_string(),
        port: at.port(),
    })?;
    let mut result = Ok(());
    while !stop.load(Ordering::Relaxed) && result.is_ok() {
        std::thread::sleep(TICK);
        // One that has ended is not asked again: this loop has, too.
        let ended = acceptors
            .iter_mut()
            .find_map(futures::FutureExt::now_or_never);
        result = ended.unwrap_or(Ok(()));
    }
    // Dropping these ends them, and the listener with the last.
    drop(acceptors);
    let counts = hub.counts();
    hub.stop();
    let until = Instant::now() + GOODBYE;
    while Arc::strong_count(&hub) > 1 && Instant::now() < until {
        std::thread::sleep(TICK);
    }
    tracing::info!(?counts, "stopped");
    Ok(result?)
}

/// What lets connections in.
struct Door {
    listener: Arc<TcpListener>,
    hub: Arc<Hub>,
    pool: ThreadPool,
    /// Connections at most.
    most: usize,
    rate: Rate,
}

impl Door {
    /// Lets in who comes, until that is no longer possible.
    async fn accept(self) -> Result<(), Error> {
        let mut again = Again::default();
        loop {
            let stream = match self.listener.accept().await {
                Ok(stream) => stream,
                Err(error) => {
                    let Some(wait) = again.after(&error) else {
                        return Err(error);
                    };
                    tracing::warn!(%error, again_in = ?wait, "nobody can come in");
                    Delay::new(wait).await;
                    continue;
                }
            };
            again.well();
            // Each session has the hub; so do the few that accept.
            if Arc::strong_count(&self.hub) > self.most {
                let (peer, most) = (stream.peer_addr(), self.most);
                tracing::warn!(?peer, most, "too many connections: reset");
                let _ = stream.abort();
                continue;
            }
            let member = session(stream, Arc::clone(&self.hub), self.rate);
            if self.pool.spawn(member).is_err() {
                return Ok(());
            }
        }
    }
}

/// What somebody does, from coming to going.
async fn session(stream: TcpStream, hub: Arc<Hub>, rate: Rate) {
    let peer = stream.peer_addr();
    let mut lines = Lines::new(stream.clone());
    let who = select(
        within(HELLO, hello(&mut lines, &hub)).boxed(),
        hub.stopping.clone(),
    );
    let said = match who.await {
        Either::Left((said, _)) => said,
        Either::Right(_) => Some(Err("the server stops".to_owned())),
    };
    let seat = match said {
        Some(Ok(seat)) => seat,
        Some(Err(refusal)) => {
            tracing::info!(?peer, refusal, "not let in");
            goodbye(&stream, &refusal).await;
            return;
        }
        None => {
            goodbye(&stream, "say `join NAME ROOM` sooner").await;
            return;
        }
    };
    let key = seat.key();
    tracing::info!(?peer, name = key.name, "joined");
    let Seat {
        lines: to_write,
        mut out,
        ..
    } = seat;
    let reading = async {
        let why = listen(&mut lines, &hub, &key, rate).await;
        hub.leave(&key, why);
        Delay::new(GOODBYE).await;
    };
    // Ends when the member has left and all is written to it, or a little after
    // it has left.
    let both = select(write(&stream, to_write).boxed(), reading.boxed());
    let thrown_out = {
        let out = async { (&mut out).await.is_err() };
        pin_mut!(out);
        match select(both, out).await {
            Either::Left(_) => false,
            Either::Right((true, _)) => true,
            // The server stops: what waits is written.
            Either::Right((false, both)) => {
                within(GOODBYE, both).await;
                false
            }
        }
    };
    hub.leave(&key, "connection lost");
    if thrown_out {
        // It may hear why, if it reads at all; the rest it has lost anyway.
        let told = async { (&stream).write_all(b"! you read too slowly\n").await };
        let _ = within(TICK, told).await;
        let _ = stream.abort();
        return;
    }
    let _ = within(GOODBYE, async { (&stream).close().await }).await;
}

/// Waits for something, but not for ever.
async fn within<T>(time: Duration, what: impl Future<Output = T>) -> Option<T> {
    pin_mut!(what);
    match select(what, Delay::new(time)).await {
        Either::Left((done, _)) => Some(done),
        Either::Right(_) => None,
    }
}

async fn goodbye(stream: &TcpStream, why: &str) {
    let told = async {
        let mut to = stream;
        to.write_all(format!("! {why}\n").as_bytes()).await?;
        to.close().await
    };
    if !matches!(within(GOODBYE, told).await, Some(Ok(()))) {
        let _ = stream.abort();
    }
}

/// The first line: who it is, and where to.
async fn hello(lines: &mut Lines<TcpStream>, hub: &Hub) -> Result<Seat, String> {
    let sent = lines.next().await.map_err(|e| e.to_string())?;
    let Sent::Line(line) = sent else {
        return Err("say `join NAME ROOM` first".to_owned());
    };
    let mut words = line.split_whitespace();
    let (Some("join"), Some(who), room, None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err("say `join NAME ROOM` first; names have no spaces".to_owned());
    };
    let who = name(who)?;
    let room = name(room.unwrap_or("lobby"))?;
    hub.enter(&who, &room).map_err(|e| e.to_string())
}

/// Does what a member asks; why it left.
async fn listen(lines: &mut Lines<TcpStream>, hub: &Hub, key: &Key, rate: Rate) -> &'static str {
    let mut allowance = Allowance::new(rate, Instant::now());
    let mut told: Option<Instant> = None;
    loop {
        let sent = match lines.next().await {
            Ok(sent) => sent,
            Err(error) => {
                tracing::debug!(%error, "lost");
                return "connection lost";
            }
        };
        let len = match &sent {
            Sent::Line(line) => line.len(),
            _ => MAX_LINE,
        };
        // A line too many waits, and with it what comes after: in the end the
        // member's own connection stands still, and nobody else's.
        if let Some(wait) = allowance.take(len, Instant::now()) {
            if told.is_none_or(|at| at.elapsed() >= TELL_AGAIN) {
                told = Some(Instant::now());
                let Rate { lines, bytes } = rate;
                hub.answer(
                    key,
                    format_args!(
                        "! you speak too fast, so what you say waits: slow down to {lines} lines \
                         and {bytes} bytes a second"
                    ),
                );
            }
            Delay::new(wait).await;
        }
        match sent {
            Sent::End => return "left",
            Sent::NoEnd => return "a line of its has no end",
            Sent::TooLong => hub.answer(
                key,
                format_args!(
                    "! that line has more than {MAX_LINE} bytes and was not said; make it shorter"
                ),
            ),
            Sent::NotText => hub.answer(key, "! that line is no UTF-8 text and was not said"),
            Sent::Line(line) => {
                if !line_of(hub, key, &line) {
                    return "left";
                }
            }
        }
    }
}

/// Does what a line says; false if that is to leave.
fn line_of(hub: &Hub, key: &Key, line: &str) -> bool {
    let Some(command) = line.strip_prefix('/') else {
        if !line.trim().is_empty() {
            hub.say(key, line);
        }
        return true;
    };
    if command.starts_with('/') {
        hub.say(key, command);
        return true;
    }
    let mut words = command.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some("quit"), None, _) => return false,
        (Some("who"), None, _) => hub.who(key),
        (Some("room"), Some(room), None) => match name(room) {
            Ok(room) => hub.go(key, &room),
            Err(why) => hub.answer(key, format_args!("! {why}")),
        },
        _ => hub.answer(
            key,
            "! there is /room NAME, /who and /quit; // says a line that starts with /",
        ),
    }
    true
}

/// Writes what is said to a member, until that ends.
async fn write(stream: &TcpStream, mut lines: Queue) {
    let mut to = stream;
    let mut batch: Vec<u8> = Vec::new();
    while let Some(line) = lines.next().await {
        batch.extend_from_slice(line.as_bytes());
        while batch.len() < BATCH
            && let Some(Some(line)) = lines.next().now_or_never()
        {
            batch.extend_from_slice(line.as_bytes());
        }
        if let Err(error) = to.write_all(&batch).await {
            let error = Error::from_io(error);
            tracing::debug!(?error, "a member is gone");
            return;
        }
        batch.clear();
    }
}
