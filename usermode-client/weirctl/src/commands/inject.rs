//! `weirctl inject`: the frames of a capture file, sent or handed to the host.

use std::io::{self, Write};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use weir_client::{Device, Outgoing};
use weir_engine::wire::dissect;

use super::{ctrl_c, find_adapter};
use crate::cli::{DirectionArg, InjectArgs};
use crate::error::CtlError;
use crate::file::{self, ETHERNET, Reader, Source};
use crate::output::{Output, View};

/// Frames of one write.
const BURST: usize = 64;

#[derive(Serialize)]
pub(crate) struct Injected {
    adapter: String,
    direction: &'static str,
    /// Frames the driver took.
    frames: u64,
    bytes: u64,
    /// Frames of other link types, cut short, or of a length no frame has, or
    /// none that this adapter sends.
    skipped: u64,
}

impl View for Injected {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        write!(
            out,
            "{} frames injected on {} ({}), {} bytes",
            self.frames, self.adapter, self.direction, self.bytes
        )?;
        if self.skipped > 0 {
            write!(
                out,
                "; {} skipped (not Ethernet, cut short, too short, or too long for the adapter)",
                self.skipped
            )?;
        }
        writeln!(out)
    }
}

/// Injects until the end of the file, the limit, or Ctrl-C.
pub(crate) fn inject(
    device: &Device,
    args: &InjectArgs,
    out: &mut Output<'_>,
) -> Result<(), CtlError> {
    let stop = ctrl_c()?;
    let injected = run(device, args, &stop)?;
    out.show(&injected)?;
    Ok(())
}

/// As [`inject`], without the process around it.
pub(crate) fn run(
    device: &Device,
    args: &InjectArgs,
    stop: &AtomicBool,
) -> Result<Injected, CtlError> {
    let adapter = find_adapter(&device.adapters()?, &args.interface)?;
    let path = args.file.display().to_string();
    let failed = |source| CtlError::File {
        what: "reading",
        path: path.clone(),
        source,
    };
    let source = Source::open(&args.file).map_err(failed)?;
    let damaged = |damage: file::Damage| CtlError::Capture {
        path: path.clone(),
        damage,
    };
    let mut reader = Reader::new(source.stream, source.packed).map_err(damaged)?;
    let mut injector = device.open_inject(NonZeroU32::new(adapter.id))?;
    let direction = args.direction.into();
    let mut injected = Injected {
        adapter: adapter.name.clone(),
        direction: args.direction.name(),
        frames: 0,
        bytes: 0,
        skipped: 0,
    };
    let mut pace = args.rate.map(Pace::new);
    let mut outgoing = Outgoing::new();
    let limit = args.count.unwrap_or(u64::MAX);
    loop {
        let queued = injected.frames + outgoing.len() as u64;
        let record = if queued < limit && !stop.load(Ordering::Relaxed) {
            reader.next().map_err(damaged)?
        } else {
            None
        };
        let last = record.is_none();
        if let Some(record) = record {
            let whole = record.bytes.len() == record.frame_len as usize;
            let fits = record.link_type() == ETHERNET
                && whole
                && (args.direction == DirectionArg::In || is_sent(record.bytes, adapter.mtu))
                && outgoing.inject(adapter.id, direction, record.bytes).is_ok();
            if fits {
                injected.bytes += record.bytes.len() as u64;
            } else {
                injected.skipped += 1;
            }
        }
        let burst = if pace.is_some() { 1 } else { BURST };
        if outgoing.len() >= burst || last {
            if let Some(pace) = &mut pace {
                pace.wait();
            }
            injected.frames += injector.write(&mut outgoing)? as u64;
        }
        if last {
            return Ok(injected);
        }
    }
}

/// Whether an adapter sends so long a frame; the driver refuses it otherwise, and
/// all that is written with it. What an adapter of no known size does is left to it.
fn is_sent(frame: &[u8], mtu: u32) -> bool {
    /// Of Ethernet (IEEE 802.3, clause 3.1.1) and of each 802.1Q tag.
    const HEADER: usize = 14;
    const TAG: usize = 4;
    let headers = dissect(frame, u32::try_from(frame.len()).unwrap_or(u32::MAX));
    let tags = headers.link.map_or(0, |link| link.tags.len());
    let longest = (mtu as usize).saturating_add(HEADER + TAG * tags);
    mtu == 0 || frame.len() <= longest
}

/// One frame after the other, so many a second.
struct Pace {
    next: Instant,
    step: Duration,
}

impl Pace {
    fn new(per_second: u32) -> Pace {
        Pace {
            next: Instant::now(),
            step: Duration::from_secs(1) / per_second.max(1),
        }
    }

    fn wait(&mut self) {
        std::thread::sleep(self.next.saturating_duration_since(Instant::now()));
        self.next += self.step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_do_not_count_as_packet() {
        let plain = |len| vec![0; len];
        let mut tagged = vec![0; 1518];
        tagged[12..14].copy_from_slice(&[0x81, 0x00]);
        for (frame, mtu, sent) in [
            (plain(1514), 1500, true),
            (plain(1515), 1500, false),
            (tagged, 1500, true),
            (plain(9000), 0, true),
        ] {
            assert_eq!(is_sent(&frame, mtu), sent, "{} of {mtu}", frame.len());
        }
    }
}
