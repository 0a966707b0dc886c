//! What is said of files when all of their frames have been inspected.

use std::io::{self, Write};

use serde::Serialize;
use serde::ser::Serializer;
use weir_engine::flow::{Stats, TcpTags};

use super::files::{FileSummary, Files};
use super::inspect::Run;
use super::totals::{Amount, BalanceView, Checks};
use crate::cli::InspectArgs;
use crate::commands::stats::verdict;
use crate::output::{View, columns};
use crate::views::{
    AlarmView, FlowView, RulesView, TagMap, Timestamp, bytes, flow_table, seconds_between,
};

/// The whole result.
#[derive(Serialize)]
pub(super) struct Summary {
    files: Vec<FileSummary>,
    /// Frames that were inspected, and their bytes on the wire.
    frames: u64,
    bytes: u64,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    duration_seconds: f64,
    protocols: Layers,
    /// Frames whose headers are not all sound.
    faults: Faults,
    checksums: Checksums,
    flows: FlowsView,
    tcp: Tcp,
    alarms: Alarms,
    rules: Option<Rules>,
    balance: Balances,
}

/// Each layer's amount by its name, in the order of the layers.
struct Layers(Vec<(&'static str, Amount)>);

impl Serialize for Layers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, amount)| (name, amount)))
    }
}

#[derive(Serialize)]
struct Faults {
    truncated: u64,
    malformed: u64,
}

#[derive(Serialize)]
struct Checksums {
    network: Checks,
    transport: Checks,
}

#[derive(Serialize)]
struct FlowsView {
    created: u64,
    /// In the table at the end.
    active: u32,
    half_open: u32,
    peak: u32,
    expired: u64,
    evicted: u64,
    evicted_half_open: u64,
    /// Frames for which no flow could be kept.
    untracked: u64,
    capacity: u32,
    /// The largest by bytes.
    top: Vec<FlowView>,
}

/// How well TCP did, all flows together.
#[derive(Serialize)]
struct Tcp {
    segments: u64,
    /// Retransmissions that are neither fast nor spurious.
    retransmissions_by_timeout: u64,
    retransmissions_fast: u64,
    retransmissions_spurious: u64,
    /// Segments with each tag.
    tags: TagMap,
}

impl Tcp {
    fn new(stats: &Stats) -> Self {
        // A segment that was sent again has the one tag, and may have one of the others.
        let all = stats.tags.of(TcpTags::RETRANSMISSION);
        let fast = stats.tags.of(TcpTags::FAST_RETRANSMISSION);
        let spurious = stats.tags.of(TcpTags::SPURIOUS_RETRANSMISSION);
        Tcp {
            segments: stats.segments,
            retransmissions_by_timeout: all.saturating_sub(fast.saturating_add(spurious)),
            retransmissions_fast: fast,
            retransmissions_spurious: spurious,
            tags: TagMap(
                stats
                    .tags
                    .iter()
                    .flat_map(|(tag, count)| tag.names().map(move |name| (name, count)))
                    .collect(),
            ),
        }
    }
}

#[derive(Serialize)]
struct Alarms {
    given: u64,
    /// Given faster than they could be taken.
    lost: u64,
    /// The first of them.
    list: Vec<AlarmView>,
}

#[derive(Serialize)]
struct Rules {
    file: String,
    #[serde(flatten)]
    rules: RulesView,
    /// Whether rules and default decided on each frame once.
    balanced: bool,
}

#[derive(Serialize)]
struct Balances {
    #[serde(flatten)]
    all: BalanceView,
    r#in: BalanceView,
    out: BalanceView,
    /// Frames of which it isn't known which way they went.
    unknown: BalanceView,
    /// Frames of other link types; they are in no balance.
    skipped: u64,
}

impl Summary {
    pub(super) fn new(args: &InspectArgs, files: &Files, run: Run) -> Self {
        let stats = run.table.stats();
        let all = run.totals.all();
        let top = run.top.finish(&run.table);
        let rules = run.rules.map(|rules| {
            let view = RulesView::new(&rules.set.program(), &rules.hits, rules.default);
            Rules {
                file: args
                    .rules
                    .as_ref()
                    .map_or_else(String::new, |f| f.display().to_string()),
                balanced: view.decided() == all.balance.seen,
                rules: view,
            }
        });
        let [received, sent, unknown] = &run.totals.counters;
        Summary {
            files: files.summaries.clone(),
            frames: all.balance.seen,
            bytes: all.balance.seen_bytes,
            first: run.totals.first.map(Timestamp),
            last: run.totals.last.map(Timestamp),
            duration_seconds: seconds_between(
                run.totals.first.unwrap_or(0),
                run.totals.last.unwrap_or(0),
            ),
            protocols: Layers(run.totals.layers().map(|(l, a)| (l.name(), a)).collect()),
            faults: Faults {
                truncated: all.protocols.truncated,
                malformed: all.protocols.malformed,
            },
            checksums: Checksums {
                network: run.totals.network,
                transport: run.totals.transport,
            },
            flows: FlowsView {
                created: stats.created,
                active: stats.active,
                half_open: stats.half_open,
                peak: stats.peak,
                expired: stats.expired,
                evicted: stats.evicted(),
                evicted_half_open: stats.evicted_half_open,
                untracked: stats.untracked,
                capacity: args.flows,
                top: top
                    .iter()
                    .map(|flow| FlowView::new(flow, files.adapters.name(flow.adapter)))
                    .collect(),
            },
            tcp: Tcp::new(&stats),
            alarms: Alarms {
                given: stats.alarms,
                lost: stats.alarms_lost,
                list: run.alarms,
            },
            rules,
            balance: Balances {
                all: BalanceView {
                    balanced: run.totals.is_closed(),
                    ..(&all.balance).into()
                },
                r#in: (&received.balance).into(),
                out: (&sent.balance).into(),
                unknown: (&unknown.balance).into(),
                skipped: files
                    .summaries
                    .iter()
                    .map(FileSummary::skipped_frames)
                    .sum(),
            },
        }
    }

    fn files(&self, out: &mut dyn Write) -> io::Result<()> {
        let rows: Vec<Vec<String>> = self
            .files
            .iter()
            .map(|f| {
                let gzip = if f.gzip { ", gzip" } else { "" };
                let seconds = f.first.zip(f.last).map(|(a, b)| seconds_between(a.0, b.0));
                vec![
                    f.file.clone(),
                    f.format
                        .map_or("-".to_owned(), |format| format!("{format}{gzip}")),
                    f.frames.to_string(),
                    bytes(f.bytes),
                    f.first.map_or_else(|| "-".to_owned(), |t| t.to_string()),
                    seconds.map_or_else(String::new, |s| format!("{s:.6}")),
                ]
            })
            .collect();
        let header = [
            "file",
            "format",
            "frames",
            "bytes",
            "first frame",
            "seconds",
        ];
        columns(out, &header, &[0, 1, 4], &rows)?;
        for f in &self.files {
            for s in &f.skipped {
                writeln!(
                    out,
                    "{}: {} frames of {} skipped: only Ethernet is looked into",
                    f.file, s.frames, s.name
                )?;
            }
            if f.snapped > 0 {
                writeln!(
                    out,
                    "{}: {} frames are cut short by a snap length",
                    f.file, f.snapped
                )?;
            }
            if f.untimed > 0 {
                writeln!(
                    out,
                    "{}: {} frames have no time and count as of the one before",
                    f.file, f.untimed
                )?;
            }
            if let Some(error) = &f.error {
                writeln!(out, "{}: {error}", f.file)?;
            }
        }
        Ok(())
    }

    fn protocols(&self, out: &mut dyn Write) -> io::Result<()> {
        let rows: Vec<Vec<String>> = self
            .protocols
            .0
            .iter()
            .map(|(name, a)| {
                vec![
                    (*name).to_owned(),
                    a.frames.to_string(),
                    a.bytes.to_string(),
                ]
            })
            .collect();
        columns(out, &["protocol", "frames", "bytes"], &[0], &rows)?;
        let Faults {
            truncated,
            malformed,
        } = self.faults;
        if truncated + malformed > 0 {
            writeln!(
                out,
                "{truncated} frames are truncated, {malformed} malformed"
            )?;
        }
        let bad = |what, c: &Checks| match c.bad {
            0 => None,
            bad => Some(format!(
                "{bad} of {} {what} checksums are wrong",
                c.good + bad
            )),
        };
        let network = bad("IPv4 header", &self.checksums.network);
        let transport = bad("TCP, UDP and ICMP", &self.checksums.transport);
        if network.is_some() || transport.is_some() {
            for line in [network, transport].into_iter().flatten() {
                writeln!(out, "{line}")?;
            }
            writeln!(
                out,
                "(of frames that a host captured of its own, before its adapter wrote them, that is usual)"
            )?;
        }
        Ok(())
    }

    fn flows(&self, out: &mut dyn Write) -> io::Result<()> {
        let f = &self.flows;
        writeln!(
            out,
            "flows: {} begun, {} in the table at the end ({} half open), {} forgotten after their time",
            f.created, f.active, f.half_open, f.expired
        )?;
        if f.evicted > 0 {
            writeln!(
                out,
                "the table of {} flows was full: {} were given up for others ({} half open); \
                 ask for more with --flows",
                f.capacity, f.evicted, f.evicted_half_open
            )?;
        }
        if f.untracked > 0 {
            writeln!(
                out,
                "{} frames are in no flow: too many interfaces",
                f.untracked
            )?;
        }
        if !f.top.is_empty() {
            writeln!(out, "\nlargest flows")?;
            flow_table(out, &f.top)?;
        }
        Ok(())
    }

    fn tcp(&self, out: &mut dyn Write) -> io::Result<()> {
        let tcp = &self.tcp;
        writeln!(
            out,
            "\nTCP: {} segments, retransmitted {} by time-out, {} fast, {} spuriously",
            tcp.segments,
            tcp.retransmissions_by_timeout,
            tcp.retransmissions_fast,
            tcp.retransmissions_spurious
        )?;
        let rows: Vec<Vec<String>> = tcp
            .tags
            .0
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| vec![name.replace('_', " "), count.to_string()])
            .collect();
        if rows.is_empty() {
            return Ok(());
        }
        columns(out, &["TCP health", "segments"], &[0], &rows)
    }

    fn alarms(&self, out: &mut dyn Write) -> io::Result<()> {
        let alarms = &self.alarms;
        match alarms.given {
            0 => return writeln!(out, "\nno alarms"),
            1 => writeln!(out, "\n1 alarm")?,
            n => writeln!(out, "\n{n} alarms")?,
        }
        for alarm in &alarms.list {
            writeln!(out, "{alarm}")?;
        }
        let more = alarms.given.saturating_sub(alarms.list.len() as u64);
        if more > 0 {
            writeln!(out, "and {more} more")?;
        }
        Ok(())
    }

    fn balance(&self, out: &mut dyn Write) -> io::Result<()> {
        let header = [
            "",
            "seen",
            "=",
            "passed",
            "+",
            "dropped",
            "+",
            "diverted",
            "+",
            "lost",
            "",
            "bytes seen",
        ];
        let b = &self.balance;
        let rows: Vec<Vec<String>> = [("in", &b.r#in), ("out", &b.out), ("unknown", &b.unknown)]
            .into_iter()
            .filter(|(_, b)| b.seen > 0)
            .chain([("all", &b.all)])
            .map(|(name, b)| {
                let mut row = vec![name.to_owned()];
                let terms = [b.seen, b.passed, b.dropped, b.diverted, b.lost];
                for (term, sign) in terms.into_iter().zip(["=", "+", "+", "+", ""]) {
                    row.push(term.to_string());
                    if !sign.is_empty() {
                        row.push(sign.to_owned());
                    }
                }
                row.push(verdict(b.balanced).to_owned());
                row.push(b.seen_bytes.to_string());
                row
            })
            .collect();
        columns(out, &header, &[0, 10], &rows)?;
        if b.unknown.seen > 0 && self.rules.is_some() {
            writeln!(
                out,
                "where a frame went in or out isn't known, rules for both were tried \
                 (--direction and --host tell)"
            )?;
        }
        Ok(())
    }
}

impl View for Summary {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        self.files(out)?;
        writeln!(out)?;
        if self.frames == 0 {
            return writeln!(out, "no frames");
        }
        self.protocols(out)?;
        writeln!(out)?;
        self.flows(out)?;
        self.tcp(out)?;
        self.alarms(out)?;
        if let Some(rules) = &self.rules {
            writeln!(out, "\nrules of {}", rules.file)?;
            rules.rules.table(out)?;
            if !rules.balanced {
                writeln!(out, "{}", verdict(false))?;
            }
        }
        writeln!(out)?;
        self.balance(out)
    }
}
