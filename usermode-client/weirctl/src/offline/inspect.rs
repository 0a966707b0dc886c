//! `weirctl inspect`: each frame takes the engine's one way, as in the driver.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{self, BufWriter, IsTerminal as _, Write};

use weir_engine::Meta;
use weir_engine::flow::{Config, Slot, Table};
use weir_engine::path::{Inspected, inspect as way};
use weir_engine::rule::View as FrameView;
use weir_engine::rule::hits::Hits;
use weir_engine::wire::checksum::{Checksums, verify};
use weir_engine::wire::dissect;
use zerocopy::FromZeros as _;

use super::direction::Guess;
use super::files::{Adapters, Files, Frame};
use super::packets::Line;
use super::progress::Progress;
use super::rules::{self, Set};
use super::summary::Summary;
use super::top::{Flows, Top};
use super::totals::Totals;
use crate::cli::InspectArgs;
use crate::error::CtlError;
use crate::output::Output;
use crate::views::AlarmView;

/// Alarms that are shown; of more the number is.
const MOST_ALARMS: usize = 1000;

/// Rules, and what they did.
pub(super) struct Rules {
    pub(super) set: Set,
    pub(super) hits: Vec<Hits>,
    pub(super) default: Hits,
}

impl Rules {
    fn new(set: Set) -> Self {
        let hits = vec![Hits::default(); set.program().rule_count() as usize];
        Rules {
            set,
            hits,
            default: Hits::default(),
        }
    }
}

/// What a run over files has to hand, and what it adds up.
pub(super) struct Run {
    pub(super) table: Flows,
    pub(super) top: Top,
    pub(super) totals: Totals,
    pub(super) rules: Option<Rules>,
    pub(super) alarms: Vec<AlarmView>,
    guess: Guess,
    /// The rules that took effect on the last frame, in order.
    fired: Vec<u32>,
}

impl Run {
    fn new(args: &InspectArgs) -> Result<Self, CtlError> {
        let rules = args.rules.as_deref().map(rules::load).transpose()?;
        let slots = args.flows as usize;
        Ok(Run {
            table: table(slots)?,
            top: Top::new(args.top as usize, slots),
            totals: Totals::new(),
            rules: rules.map(Rules::new),
            alarms: Vec::new(),
            guess: Guess::new(args),
            fired: Vec::new(),
        })
    }

    /// Takes a frame its way. Beside what became of it: what is known of it, and
    /// its checksums.
    fn frame<'a>(
        &mut self,
        frame: &Frame<'a>,
        adapters: &Adapters,
    ) -> (Inspected<'a>, Meta, Checksums) {
        let mut meta = frame.meta;
        if meta.direction.is_none() {
            meta.direction = match &self.guess {
                Guess::Unknown => None,
                guess => guess.of(&dissect(frame.bytes, meta.frame_len)),
            };
        }
        let len = meta.frame_len;
        self.totals.see(meta.direction, len, meta.time_100ns);
        self.top.before(meta.time_100ns, &self.table);
        self.fired.clear();
        let (table, fired) = (&mut self.table, &mut self.fired);
        let inspected = way(
            &FrameView::contiguous(frame.bytes, len),
            &meta,
            self.rules.as_ref().map(|rules| &rules.set),
            |headers, meta| table.track(headers, meta),
            |rule| fired.push(rule),
        );
        if let Some(tracked) = inspected.tracked {
            self.top.touch(tracked.slot);
        }
        if let Some(rules) = &mut self.rules {
            for hit in self.fired.iter().filter_map(|i| usize::try_from(*i).ok()) {
                if let Some(hits) = rules.hits.get_mut(hit) {
                    hits.add(len);
                }
            }
            if inspected.decision.rule.is_none() {
                rules.default.add(len);
            }
        }
        let checks = verify(&inspected.frame, frame.bytes);
        self.totals.enter(
            meta.direction,
            len,
            &inspected.frame,
            checks,
            &inspected.decision,
        );
        while let Some(alarm) = self.table.take_alarm() {
            if self.alarms.len() < MOST_ALARMS {
                let adapter = adapters.name(alarm.adapter);
                self.alarms.push(AlarmView::new(&alarm, adapter));
            }
        }
        (inspected, meta, checks)
    }
}

/// An empty table of so many flows.
fn table(slots: usize) -> Result<Flows, CtlError> {
    // Nobody is to know in which place of the table a flow comes.
    let seed = RandomState::new().build_hasher().finish();
    let config = Config {
        seed,
        ..Config::default()
    };
    let words = Flows::index_len(slots);
    Ok(Table::new(
        filled(slots, Slot::new_zeroed())?,
        filled(words, 0)?,
        config,
    )?)
}

fn filled<T: Clone>(count: usize, item: T) -> Result<Vec<T>, CtlError> {
    let mut items = Vec::new();
    items
        .try_reserve_exact(count)
        .map_err(|_| CtlError::Memory("the flow table: ask for fewer with --flows"))?;
    items.resize(count, item);
    Ok(items)
}

/// Reads the files, and shows what was found.
pub(super) fn inspect(args: &InspectArgs, out: &mut Output<'_>) -> Result<(), CtlError> {
    let mut run = Run::new(args)?;
    let beside = args.packets && io::stdout().is_terminal();
    let mut progress = Progress::new(&args.files, beside);
    if args.packets {
        return packets(args, &mut run, &mut progress, out);
    }
    let files = Files::read(&args.files, &mut progress, |frame, adapters| {
        run.frame(frame, adapters);
        Ok(())
    })?;
    if files.any() {
        out.show(&Summary::new(args, &files, run))?;
    }
    files.result()
}

/// Shows each frame, in place of the sums.
fn packets(
    args: &InspectArgs,
    run: &mut Run,
    progress: &mut Progress,
    out: &mut Output<'_>,
) -> Result<(), CtlError> {
    let json = out.is_json();
    let several = args.files.len() > 1;
    let names: Vec<String> = args.files.iter().map(|f| f.display().to_string()).collect();
    let mut writer = BufWriter::with_capacity(1 << 16, out.lines());
    let read = Files::read(&args.files, progress, |frame, adapters| {
        let (inspected, meta, checks) = run.frame(frame, adapters);
        let line = Line {
            frame,
            file: several.then(|| names[frame.file].as_str()),
            headers: &inspected.frame,
            tracked: inspected.tracked,
            decision: inspected.decision,
            direction: meta.direction,
            checks,
            program: run.rules.as_ref().map(|rules| rules.set.program()),
            hits: &run.fired,
        };
        match json {
            true => line.json(&mut writer)?,
            false => line.text(&mut writer)?,
        }
        Ok(())
    });
    writer.flush()?;
    drop(writer);
    let files = read?;
    if files.any() {
        out.lines_shown();
    }
    files.tell_skipped();
    files.result()
}
