//! Copies input to a stream and the stream to output, each to its own end.

use std::io::{self, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::duplex::{Duplex, is_late};
use super::feed::{Fed, Feed};
use crate::error::CtlError;

/// How long a thread waits before it looks whether the other has ended.
const TICK: Duration = Duration::from_millis(100);
/// How long a peer that has ended its own side may take nothing.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes received at once.
const ROOM: usize = 64 * 1024;

/// When copying ends.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ends {
    /// When nothing has moved either way for so long.
    pub(crate) idle: Option<Duration>,
    /// With the peer's end, when what there is of the input by then is sent.
    pub(crate) with_peer: bool,
    /// It is no failure that a peer which has ended doesn't take the rest.
    pub(crate) forgiving: bool,
}

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Copied {
    /// Bytes sent.
    pub(crate) sent: u64,
    /// Bytes received.
    pub(crate) received: u64,
    /// It ended because nothing moved, or because it was to stop.
    pub(crate) cut: bool,
}

struct Shared {
    start: Instant,
    /// Milliseconds after `start` at which something was sent last.
    last_sent: AtomicU64,
    sent: AtomicU64,
    /// The peer has ended, so the sender is not to wait for more input.
    hurry: AtomicBool,
    /// It is over: the sender is to end at once.
    done: AtomicBool,
    failure: Mutex<Option<io::Error>>,
}

impl Shared {
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn hurries(&self) -> bool {
        self.hurry.load(Ordering::Relaxed)
    }

    /// Whether to go on sending. A peer that has ended its own side and takes
    /// nothing is not waited for without an end.
    fn go_on(&self) -> bool {
        let stuck = || {
            let since = self
                .now()
                .saturating_sub(self.last_sent.load(Ordering::Relaxed));
            self.hurries() && Duration::from_millis(since) > PATIENCE
        };
        !self.done.load(Ordering::Relaxed) && !stuck()
    }
}

/// Copies until both directions have ended, as `ends` says, or until `stop` is set.
///
/// # Errors
/// What the stream or the output failed with; also when the peer has ended, as
/// what was read of the input is lost then, unless `ends` says that this is no
/// failure. A failure to read the input ends
/// the sending like its end does, and is told.
pub(crate) fn pump(
    stream: &dyn Duplex,
    feed: &Feed,
    out: &mut dyn Write,
    ends: Ends,
    stop: &AtomicBool,
) -> Result<Copied, CtlError> {
    let shared = Shared {
        start: Instant::now(),
        last_sent: AtomicU64::new(0),
        sent: AtomicU64::new(0),
        hurry: AtomicBool::new(false),
        done: AtomicBool::new(false),
        failure: Mutex::new(None),
    };
    let result = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let result = send(stream, feed, &shared);
            if let Err(error) = result {
                *shared
                    .failure
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
            }
        });
        let result = receive(stream, out, ends, stop, &shared);
        match &result {
            Ok(copied) if !copied.cut => {
                let hurry = ends.with_peer || feed.terminal;
                // From here on its patience counts.
                shared.last_sent.store(shared.now(), Ordering::Relaxed);
                shared.hurry.store(hurry, Ordering::Relaxed);
            }
            _ => shared.done.store(true, Ordering::Relaxed),
        }
        // It can't have panicked: that would have ended the process.
        let _ = sender.join();
        result
    });
    let failure = shared
        .failure
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut copied = result?;
    copied.sent = shared.sent.load(Ordering::Relaxed);
    match failure {
        Some(_) if ends.forgiving || copied.cut => {}
        Some(error) => return Err(CtlError::stream(error)),
        None => {}
    }
    Ok(copied)
}

fn send(stream: &dyn Duplex, feed: &Feed, shared: &Shared) -> io::Result<()> {
    let go_on = || shared.go_on();
    while go_on() {
        match feed.next(TICK) {
            Ok(Fed::Nothing) if shared.hurries() => return Ok(()),
            Ok(Fed::Nothing) => {}
            Ok(Fed::Bytes(bytes)) => {
                stream.send(&bytes, &go_on)?;
                shared.last_sent.store(shared.now(), Ordering::Relaxed);
                let len = bytes.len() as u64;
                shared.sent.fetch_add(len, Ordering::Relaxed);
            }
            Ok(Fed::End) => return stream.finish(&go_on),
            Err(error) => {
                tracing::warn!(%error, "the input can't be read any further");
                return stream.finish(&go_on);
            }
        }
    }
    Ok(())
}

fn receive(
    stream: &dyn Duplex,
    out: &mut dyn Write,
    ends: Ends,
    stop: &AtomicBool,
    shared: &Shared,
) -> Result<Copied, CtlError> {
    let mut copied = Copied::default();
    let mut buf = vec![0; ROOM];
    let mut last_received = shared.now();
    loop {
        // Either direction counts.
        let last = last_received.max(shared.last_sent.load(Ordering::Relaxed));
        let since = Duration::from_millis(shared.now().saturating_sub(last));
        let left = ends.idle.map(|idle| idle.saturating_sub(since));
        if left == Some(Duration::ZERO) || stop.load(Ordering::Relaxed) {
            copied.cut = true;
            return Ok(copied);
        }
        let wait = left.map_or(TICK, |left| left.min(TICK));
        stream.tcp().set_read_timeout(Some(wait));
        match stream.receive(&mut buf) {
            Ok(0) => return Ok(copied),
            Ok(n) => {
                out.write_all(buf.get(..n).unwrap_or_default())?;
                out.flush()?;
                copied.received += n as u64;
                last_received = shared.now();
            }
            Err(e) if is_late(&e) => {}
            Err(e) => return Err(CtlError::stream(e)),
        }
    }
}
