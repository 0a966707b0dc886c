//! `weirctl capture`: frames to a pcapng file.

mod account;
mod progress;
pub(crate) mod summary;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use weir_abi::{AdapterStats, CaptureOptions, CaptureSource, Direction, ReaderStats};
use weir_client::{Adapter, Batch, Capture, Device, Error, NtStatus, ReadAhead, filetime};

use super::{ctrl_c, find_adapter};
use crate::cli::CaptureArgs;
use crate::error::CtlError;
use crate::output::{Output, tell};
use crate::pcapng::{InterfaceStatistics, Writer};
use account::Account;
use progress::Progress;
use summary::{EndedBy, Interface, Summary};

/// How long a wait for frames lasts before Ctrl-C and the time are looked at.
const POLL: Duration = Duration::from_millis(200);

/// Frames written of one adapter, and what it had counted at the start.
struct Source {
    adapter: Adapter,
    at_start: Option<AdapterStats>,
    written: u64,
}

/// A capture on its way to a file.
struct Session<'a> {
    device: &'a Device,
    writer: Writer<Box<dyn Write>>,
    sources: BTreeMap<u32, Source>,
    /// The one adapter, if only one is captured: then every loss is its own.
    only: Option<u32>,
    limit: u64,
    written: u64,
    bytes: u64,
    lost: u64,
    next_sequence: u64,
    started: u64,
}

/// Captures until the limit, the end of the time, or Ctrl-C.
pub(crate) fn capture(
    device: &Device,
    args: &CaptureArgs,
    out: &mut Output<'_>,
) -> Result<(), CtlError> {
    let stop = ctrl_c()?;
    if args.write == Path::new("-") {
        let file = BufWriter::new(io::stdout().lock());
        let summary = record(device, args, &stop, |_| Ok(Box::new(file)))?;
        summary.show(&mut out.on_stderr())
    } else {
        let summary = record(device, args, &stop, |path| {
            let file = File::create(path).map_err(|source| CtlError::File {
                what: "creating",
                path: path.display().to_string(),
                source,
            })?;
            Ok(Box::new(BufWriter::with_capacity(1 << 20, file)))
        })?;
        summary.show(out)
    }
}

/// As [`capture`], without the process around it: `stop` is Ctrl-C, `create`
/// makes the file.
pub(crate) fn record(
    device: &Device,
    args: &CaptureArgs,
    stop: &AtomicBool,
    create: impl FnOnce(&Path) -> Result<Box<dyn Write>, CtlError>,
) -> Result<Summary, CtlError> {
    let all = device.adapters()?;
    let chosen = match &args.interface {
        Some(asked) => vec![find_adapter(&all, asked)?],
        None if all.is_empty() => return Err(CtlError::NoAdapters),
        None => all,
    };
    let adapter = match (&args.interface, chosen.first()) {
        (Some(_), Some(adapter)) => NonZeroU32::new(adapter.id),
        _ => None,
    };
    // Counted before the capture opens, so that no frame of it is missing.
    let sources = chosen
        .into_iter()
        .map(|adapter| {
            let at_start = Some(device.adapter_stats(adapter.id)?);
            let source = Source {
                adapter,
                at_start,
                written: 0,
            };
            Ok((source.adapter.id, source))
        })
        .collect::<Result<BTreeMap<_, _>, CtlError>>()?;
    let options = CaptureOptions {
        adapter,
        snaplen: args.snaplen,
        backlog: args.backlog,
        flush_ms: args.flush_ms,
        directions: args.direction.into(),
        source: if args.logged {
            CaptureSource::Logged
        } else {
            CaptureSource::All
        },
    };
    let started = filetime::now();
    let capture = device.open_capture(&options, ReadAhead::default())?;
    // Only now: a capture that is refused leaves no empty file behind.
    let mut writer = Writer::new(create(&args.write)?, capture.snaplen())?;
    for source in sources.values() {
        writer.interface(&source.adapter)?;
    }
    let session = Session {
        device,
        writer,
        only: adapter.map(NonZeroU32::get),
        sources,
        limit: args.count.unwrap_or(u64::MAX),
        written: 0,
        bytes: 0,
        lost: 0,
        next_sequence: 0,
        started,
    };
    session.run(capture, args, stop)
}

impl Session<'_> {
    fn run(
        mut self,
        mut capture: Capture,
        args: &CaptureArgs,
        stop: &AtomicBool,
    ) -> Result<Summary, CtlError> {
        let mut progress = Progress::new();
        let end = args.duration.and_then(|d| Instant::now().checked_add(d));
        let (ended_by, failure) = loop {
            if self.written >= self.limit {
                break (EndedBy::Count, None);
            }
            if stop.load(Ordering::Relaxed) {
                break (EndedBy::Interrupt, None);
            }
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                break (EndedBy::Duration, None);
            }
            match capture.next(left.map_or(POLL, |left| left.min(POLL))) {
                Ok(Some(batch)) => {
                    self.batch(&batch)?;
                    capture.recycle(batch);
                }
                Ok(None) => self.writer.flush()?,
                Err(error) => break (EndedBy::Failure, Some(error)),
            }
            progress.show(self.written, self.bytes, self.lost);
        };
        // Whatever ended it, what was delivered is kept and accounted for.
        let reader = match ended_by {
            EndedBy::Count => {
                let stats = capture.stats();
                drop(capture);
                stats.map_err(CtlError::from)
            }
            EndedBy::Failure => capture.stats().map_err(CtlError::from),
            _ => capture.finish(|batch| self.batch(&batch)),
        };
        progress.clear();
        let summary = self.end(ended_by, reader.as_ref().ok(), &args.write)?;
        match failure {
            Some(error) => {
                tell(&summary.line());
                Err(driver_ended(error))
            }
            None => reader.map(|_| summary),
        }
    }

    /// Writes the frames of a read, up to the limit.
    fn batch(&mut self, batch: &Batch) -> Result<(), CtlError> {
        for frame in batch.frames() {
            let record = &frame.record;
            let gap = record.sequence.saturating_sub(self.next_sequence);
            self.next_sequence = record.sequence.saturating_add(1);
            self.lost += gap;
            if self.written >= self.limit {
                continue;
            }
            if !self.writer.knows(record.adapter) {
                self.newcomer(record.adapter)?;
            }
            // Of several adapters it isn't known whose frames were lost.
            let gap = if self.only.is_some() { gap } else { 0 };
            self.writer.frame(&frame, gap)?;
            self.written += 1;
            self.bytes += u64::from(record.captured_len);
            if let Some(source) = self.sources.get_mut(&record.adapter) {
                source.written += 1;
            }
        }
        Ok(())
    }

    /// Describes an adapter that was attached after the start.
    fn newcomer(&mut self, id: u32) -> Result<(), CtlError> {
        let listed = self.device.adapters()?.into_iter().find(|a| a.id == id);
        // One that is gone again already has left frames but no description.
        let adapter = listed.unwrap_or_else(|| Adapter {
            id,
            if_index: 0,
            name: format!("adapter {id}"),
            mac: Vec::new(),
            mtu: 0,
            media: Ok(weir_abi::Media::Ethernet),
            state: Err(0),
            link_speed: None,
        });
        self.writer.interface(&adapter)?;
        let source = Source {
            adapter,
            at_start: None,
            written: 0,
        };
        self.sources.insert(id, source);
        Ok(())
    }

    /// Writes the statistics and closes the file.
    fn end(
        mut self,
        ended_by: EndedBy,
        reader: Option<&ReaderStats>,
        path: &Path,
    ) -> Result<Summary, CtlError> {
        let ended = filetime::now();
        let lost = reader.map_or(self.lost, |r| r.lost());
        let mut interfaces = Vec::new();
        for (id, source) in &self.sources {
            // An adapter that is gone took its counters with it.
            let now = self.device.adapter_stats(*id).ok();
            let since = |count: fn(&AdapterStats) -> u64| {
                let before = source.at_start.as_ref().map_or(0, count);
                now.as_ref().map(|now| count(now).saturating_sub(before))
            };
            let mut stats = InterfaceStatistics {
                start: self.started,
                end: ended,
                received: since(|s| both(|d| s.balance(d).seen)),
                dropped: since(|s| both(|d| s.balance(d).lost())),
                delivered: source.written,
                ..InterfaceStatistics::default()
            };
            if let (Some(reader), true) = (reader, self.only.is_some()) {
                stats.accepted = Some(reader.seen);
                stats.lost = Some(lost);
            } else if lost == 0 && ended_by != EndedBy::Count {
                stats.accepted = Some(source.written);
                stats.lost = Some(0);
            }
            let account = Account {
                before: source.at_start.as_ref(),
                now: now.as_ref(),
                reader,
                only: self.only.is_some(),
            };
            stats.comment = Some(account.to_string());
            self.writer.statistics(*id, &stats)?;
            interfaces.push(Interface::new(*id, &source.adapter.name, &stats));
        }
        self.writer.flush().map_err(|source| {
            if path == Path::new("-") {
                return CtlError::Output(source);
            }
            CtlError::File {
                what: "writing",
                path: path.display().to_string(),
                source,
            }
        })?;
        Ok(Summary {
            file: path.display().to_string(),
            ended_by,
            frames: self.written,
            bytes: self.bytes,
            lost,
            reader: reader.map(Into::into),
            interfaces,
        })
    }
}

fn both(count: impl Fn(Direction) -> u64) -> u64 {
    count(Direction::In).saturating_add(count(Direction::Out))
}

/// A driver that unloads ends the reads nobody here cancelled, and starts no
/// others.
fn driver_ended(error: Error) -> CtlError {
    use weir_abi::status::{CANCELLED, DELETE_PENDING, DEVICE_NOT_READY, FILE_CLOSED};
    match error.status() {
        Some(NtStatus(CANCELLED | DELETE_PENDING | DEVICE_NOT_READY | FILE_CLOSED)) => {
            tracing::debug!(%error, "the driver ended the capture");
            CtlError::DriverEnded
        }
        _ => error.into(),
    }
}
