//! `weirctl divert`: takes the frames of `divert` rules and gives them back,
//! or doesn't.

use std::io::{self, Write};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use weir_abi::{Direction, DivertOptions, ReaderStats};
use weir_client::{Batch, Device, Divert, FrameLen, Outgoing, ReadAhead};

use super::{ctrl_c, find_adapter};
use crate::cli::{DivertArgs, DivertTo};
use crate::error::CtlError;
use crate::output::{Output, View};

/// How long a wait for frames lasts before Ctrl-C and the time are looked at.
const POLL: Duration = Duration::from_millis(200);

/// What became of the frames.
#[derive(Serialize)]
pub(crate) struct Diverted {
    /// Frames taken.
    frames: u64,
    bytes: u64,
    reader: Balance,
}

/// `seen = delivered + queued + lost`, `delivered = returned + outstanding + unreturned`.
#[derive(Serialize)]
struct Balance {
    seen: u64,
    delivered: u64,
    queued: u64,
    lost: u64,
    returned: u64,
    outstanding: u64,
    unreturned: u64,
    balanced: bool,
}

impl From<&ReaderStats> for Balance {
    fn from(stats: &ReaderStats) -> Self {
        Balance {
            seen: stats.seen,
            delivered: stats.delivered,
            queued: stats.queued,
            lost: stats.lost(),
            returned: stats.returned,
            outstanding: stats.outstanding,
            unreturned: stats.unreturned,
            balanced: stats.is_divert_balanced(),
        }
    }
}

impl View for Diverted {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let reader = &self.reader;
        writeln!(
            out,
            "{} frames diverted, {} bytes: {} given back, {} kept, {} lost: {}",
            self.frames,
            self.bytes,
            reader.returned,
            reader.outstanding + reader.unreturned,
            reader.lost,
            super::stats::verdict(reader.balanced)
        )
    }
}

/// Diverts until the limit, the end of the time, or Ctrl-C.
pub(crate) fn divert(
    device: &Device,
    args: &DivertArgs,
    out: &mut Output<'_>,
) -> Result<(), CtlError> {
    let stop = ctrl_c()?;
    let diverted = run(device, args, &stop)?;
    out.show(&diverted)?;
    Ok(())
}

/// As [`divert`], without the process around it.
pub(crate) fn run(
    device: &Device,
    args: &DivertArgs,
    stop: &AtomicBool,
) -> Result<Diverted, CtlError> {
    let adapter = match &args.interface {
        Some(asked) => NonZeroU32::new(find_adapter(&device.adapters()?, asked)?.id),
        None => None,
    };
    let options = DivertOptions {
        adapter,
        backlog: args.backlog,
        flush_ms: args.flush_ms,
    };
    let mut reader = device.open_divert(&options, ReadAhead::default())?;
    let mut session = Session {
        to: args.to,
        frames: 0,
        bytes: 0,
    };
    let mut outgoing = Outgoing::new();
    let end = args.duration.and_then(|d| Instant::now().checked_add(d));
    let limit = args.count.unwrap_or(u64::MAX);
    while session.frames < limit && !stop.load(Ordering::Relaxed) {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            break;
        }
        let Some(batch) = reader.next(left.map_or(POLL, |left| left.min(POLL)))? else {
            continue;
        };
        session.take(&batch, &mut outgoing)?;
        write(&mut reader, &mut outgoing)?;
        reader.recycle(batch);
    }
    let stats = reader.finish(|batch, outgoing| session.take(batch, outgoing))?;
    Ok(Diverted {
        frames: session.frames,
        bytes: session.bytes,
        reader: (&stats).into(),
    })
}

fn write(reader: &mut Divert, outgoing: &mut Outgoing) -> Result<(), CtlError> {
    reader.write(outgoing)?;
    Ok(())
}

struct Session {
    to: DivertTo,
    frames: u64,
    bytes: u64,
}

impl Session {
    /// Decides where the frames of a read go.
    fn take(&mut self, batch: &Batch, outgoing: &mut Outgoing) -> Result<(), CtlError> {
        for frame in batch.frames() {
            self.frames += 1;
            self.bytes += frame.bytes.len() as u64;
            self.turn(&frame, outgoing).map_err(CtlError::FrameLen)?;
        }
        Ok(())
    }

    fn turn(
        &self,
        frame: &weir_client::Frame<'_>,
        outgoing: &mut Outgoing,
    ) -> Result<(), FrameLen> {
        match self.to {
            DivertTo::Onward => outgoing.give_back(frame),
            DivertTo::Back => {
                let back = match frame.record.direction() {
                    Some(Direction::In) | None => Direction::Out,
                    Some(Direction::Out) => Direction::In,
                };
                outgoing.give_back_changed(frame, back, frame.bytes)
            }
            DivertTo::Nowhere => Ok(()),
        }
    }
}
