//! Where two answers differ.

use std::collections::BTreeMap;
use std::fmt;

use weir_engine::flow::{TAGS, TcpTags};

use super::{Answer, Stream};

/// Of one tag over a capture's TCP frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Frames that have it by both.
    pub both: u64,
    /// Frames that have it by the engine only.
    pub only_us: u64,
    /// Frames that have it by `tshark` only.
    pub only_tshark: u64,
}

/// Where the engine and `tshark` differ, over one capture or several.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// TCP frames, by `tshark`.
    pub tcp: u64,
    /// TCP frames, by the engine.
    pub tcp_by_us: u64,
    /// Each tag, in the order of their bits.
    pub tags: [Tally; TAGS],
    /// Frames that differ in any tag: capture, number, tags by the engine, tags by `tshark`.
    pub frames: Vec<(String, u32, TcpTags, TcpTags)>,
    /// Connections, by `tshark`.
    pub streams: u64,
    /// Connections that only one of them has, or that have other counts or
    /// another initial round trip: capture, who has it, the connection.
    pub odd_streams: Vec<(String, &'static str, Stream)>,
}

impl Comparison {
    /// Adds a capture.
    pub fn add(&mut self, capture: &str, us: &Answer, tshark: &Answer) {
        self.tcp += tshark.tcp;
        self.tcp_by_us += us.tcp;
        let none = TcpTags::empty();
        let numbers = us.tags.keys().chain(tshark.tags.keys());
        let numbers: std::collections::BTreeSet<_> = numbers.collect();
        for number in numbers {
            let ours = *us.tags.get(number).unwrap_or(&none);
            let theirs = *tshark.tags.get(number).unwrap_or(&none);
            for (tally, tag) in self.tags.iter_mut().zip(TcpTags::all().iter()) {
                match (ours.contains(tag), theirs.contains(tag)) {
                    (true, true) => tally.both += 1,
                    (true, false) => tally.only_us += 1,
                    (false, true) => tally.only_tshark += 1,
                    (false, false) => {}
                }
            }
            if ours != theirs {
                let at = capture.to_owned();
                self.frames.push((at, *number, ours, theirs));
            }
        }
        self.add_streams(capture, us, tshark);
    }

    fn add_streams(&mut self, capture: &str, us: &Answer, tshark: &Answer) {
        self.streams += tshark.streams.len() as u64;
        // Those of the same ends, in the order they began, are matched one by one.
        let mut ours: BTreeMap<_, Vec<Stream>> = BTreeMap::new();
        for stream in &us.streams {
            ours.entry(stream.ends).or_default().push(*stream);
        }
        for theirs in &tshark.streams {
            let same = ours.entry(theirs.ends).or_default();
            let found = same.iter().position(|s| alike(s, theirs));
            if let Some(at) = found {
                same.remove(at);
            } else {
                let odd = (capture.to_owned(), "tshark", *theirs);
                self.odd_streams.push(odd);
            }
        }
        for left in ours.into_values().flatten() {
            self.odd_streams.push((capture.to_owned(), "weir", left));
        }
    }

    /// The smallest part of the TCP frames on which both agree, of all tags.
    #[must_use]
    pub fn least_agreement(&self) -> f64 {
        let differ = self.tags.iter().map(|t| t.only_us + t.only_tshark).max();
        self.part(differ.unwrap_or(0))
    }

    #[allow(clippy::cast_precision_loss)] // counts of frames in a file
    fn part(&self, differ: u64) -> f64 {
        1.0 - differ as f64 / self.tcp.max(1) as f64
    }
}

/// The same frames in the same directions, and the same initial round trip: to
/// a microsecond and one part in 1,000, which is what the engine keeps of it.
fn alike(a: &Stream, b: &Stream) -> bool {
    let apart = a.initial_rtt_ns.abs_diff(b.initial_rtt_ns);
    a.packets == b.packets
        && a.bytes == b.bytes
        && (a.initial_rtt_ns == 0) == (b.initial_rtt_ns == 0)
        && apart <= 1_000 + b.initial_rtt_ns / 1_000
}

impl fmt::Display for Comparison {
    /// A table by tag, and the first frames and connections that differ.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<24} {:>8} {:>8} {:>11} {:>9}",
            "tag", "both", "only us", "only tshark", "agree"
        )?;
        for (tag, tally) in TcpTags::all().iter().zip(&self.tags) {
            let name = tag.names().collect::<String>();
            let Tally {
                both,
                only_us,
                only_tshark,
            } = *tally;
            let agree = self.part(only_us + only_tshark) * 100.0;
            writeln!(
                f,
                "{name:<24} {both:>8} {only_us:>8} {only_tshark:>11} {agree:>8.3}%"
            )?;
        }
        writeln!(
            f,
            "{} TCP frames ({} by the engine), {} differ in some tag",
            self.tcp,
            self.tcp_by_us,
            self.frames.len()
        )?;
        for (capture, number, ours, theirs) in self.frames.iter().take(20) {
            let names = |tags: &TcpTags| tags.names().collect::<Vec<_>>().join("+");
            writeln!(
                f,
                "  {capture} {number}: us [{}] tshark [{}]",
                names(ours),
                names(theirs)
            )?;
        }
        writeln!(
            f,
            "{} connections, {} without their like",
            self.streams,
            self.odd_streams.len()
        )?;
        for (capture, whose, stream) in self.odd_streams.iter().take(20) {
            writeln!(f, "  {capture}: {whose} has {stream:?}")?;
        }
        Ok(())
    }
}
