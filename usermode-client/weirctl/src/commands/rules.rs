//! `weirctl rules load|show|stats|clear`: the rules in force in the driver.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use weir_abi::RuleHits;
use weir_client::{Device, LoadedRules};
use weir_engine::rule::Program;
use weir_engine::rule::hits::Hits;

use crate::error::CtlError;
use crate::offline;
use crate::output::{Output, View};
use crate::views::{DefaultView, RulesView, Timestamp};

#[derive(Serialize)]
struct Loaded {
    generation: u64,
    rules: u32,
    tuples: u32,
    instructions: u32,
    memory_bytes: u64,
    default: &'static str,
}

impl From<LoadedRules> for Loaded {
    fn from(loaded: LoadedRules) -> Self {
        Loaded {
            generation: loaded.generation,
            rules: loaded.rules,
            tuples: loaded.tuples,
            instructions: loaded.insns,
            memory_bytes: loaded.memory,
            default: loaded.default_action.as_str(),
        }
    }
}

impl View for Loaded {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "{} rules in force (generation {}), default {}: {} tuples, {} instructions, {} bytes of kernel memory",
            self.rules,
            self.generation,
            self.default,
            self.tuples,
            self.instructions,
            self.memory_bytes
        )
    }
}

#[derive(Serialize)]
struct Cleared {
    generation: u64,
    cleared: bool,
}

impl View for Cleared {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "no rules in force: every frame passes")
    }
}

/// Puts the rules of a file in force.
pub(crate) fn load(device: &Device, path: &Path, out: &mut Output<'_>) -> Result<(), CtlError> {
    let program = offline::rule_file(path)?.compile();
    let loaded = device.load_rules(&program)?;
    out.show(&Loaded::from(loaded))?;
    Ok(())
}

/// Takes the rules away.
pub(crate) fn clear(device: &Device, out: &mut Output<'_>) -> Result<(), CtlError> {
    let cleared = device.clear_rules()?;
    out.show(&Cleared {
        generation: cleared.generation,
        cleared: true,
    })?;
    Ok(())
}

/// The rules in force, as rule files have them.
#[derive(Serialize)]
struct Shown {
    generation: u64,
    /// When they were loaded; null if no rules are in force.
    loaded: Option<Timestamp>,
    rules: Vec<Rule>,
    default: &'static str,
}

#[derive(Serialize)]
struct Rule {
    name: String,
    action: &'static str,
    direction: &'static str,
    expression: String,
    line: u32,
}

impl View for Shown {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        for rule in &self.rules {
            let line = format!(
                "rule {} {} {} {}",
                rule.name, rule.action, rule.direction, rule.expression
            );
            writeln!(out, "{}", line.trim_end())?;
        }
        writeln!(out, "default {}", self.default)
    }
}

/// Shows the rules in force.
pub(crate) fn show(device: &Device, out: &mut Output<'_>) -> Result<(), CtlError> {
    let in_force = device.rules()?;
    let view = rules_view(&in_force.program, &[], Hits::default())?;
    out.show(&Shown {
        generation: in_force.generation,
        loaded: in_force.loaded.map(Timestamp::from),
        rules: view
            .rules
            .into_iter()
            .map(|rule| Rule {
                name: rule.name,
                action: rule.action,
                direction: rule.direction,
                expression: rule.expression,
                line: rule.line,
            })
            .collect(),
        default: view.default.action,
    })?;
    Ok(())
}

/// The rules in force and what they did.
#[derive(Serialize)]
pub(crate) struct Stats {
    generation: u64,
    loaded: Option<Timestamp>,
    memory_bytes: u64,
    /// Frames that were decided on, and their bytes.
    seen: Seen,
    #[serde(flatten)]
    rules: RulesView,
    /// Whether each of these frames is in exactly one deciding rule's count, or
    /// the default's. While frames pass, some may be counted in one only.
    balanced: bool,
}

#[derive(Serialize)]
struct Seen {
    frames: u64,
    bytes: u64,
}

impl Stats {
    /// Asks for them; none if there are no rules.
    pub(crate) fn read(device: &Device) -> Result<Option<Stats>, CtlError> {
        let in_force = device.rules()?;
        if in_force.program.is_empty() {
            return Ok(None);
        }
        Self::of(device, &in_force.program, in_force.generation).map(Some)
    }

    fn of(device: &Device, program: &[u8], generation: u64) -> Result<Stats, CtlError> {
        let counters = device.rule_stats()?;
        if counters.generation != generation {
            return Err(CtlError::RulesChanged);
        }
        let hits: Vec<Hits> = counters.rules.iter().map(hits).collect();
        let rules = rules_view(program, &hits, self::hits(&counters.default))?;
        Ok(Stats {
            generation,
            loaded: counters.loaded.map(Timestamp::from),
            memory_bytes: counters.memory,
            balanced: rules.decided() == counters.seen.frames,
            seen: Seen {
                frames: counters.seen.frames,
                bytes: counters.seen.bytes,
            },
            rules,
        })
    }

    /// Whether the balance over the rules is closed.
    pub(crate) const fn is_balanced(&self) -> bool {
        self.balanced
    }
}

impl View for Stats {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        self.rules.table(out)?;
        writeln!(
            out,
            "{} frames seen since generation {} was loaded{}: {}",
            self.seen.frames,
            self.generation,
            self.loaded.map_or(String::new(), |at| format!(" at {at}")),
            super::stats::verdict(self.balanced)
        )
    }
}

/// No rules: nothing to count.
#[derive(Serialize)]
struct NoRules {
    generation: u64,
    rules: [(); 0],
}

impl View for NoRules {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "no rules in force: every frame passes")
    }
}

/// Shows what the rules in force did.
pub(crate) fn stats(device: &Device, out: &mut Output<'_>) -> Result<(), CtlError> {
    match Stats::read(device)? {
        Some(stats) => out.show(&stats)?,
        None => out.show(&NoRules {
            generation: device.rules()?.generation,
            rules: [],
        })?,
    }
    Ok(())
}

fn hits(from: &RuleHits) -> Hits {
    Hits {
        frames: from.frames,
        bytes: from.bytes,
    }
}

/// The rules of a program that the driver gave back; of an empty one, none.
fn rules_view(program: &[u8], hits: &[Hits], default: Hits) -> Result<RulesView, CtlError> {
    if program.is_empty() {
        return Ok(RulesView {
            rules: Vec::new(),
            default: DefaultView {
                action: "pass",
                frames: default.frames,
                bytes: default.bytes,
            },
        });
    }
    let program = Program::verify(program).map_err(|source| CtlError::Program {
        file: "the driver's rules".to_owned(),
        source,
    })?;
    Ok(RulesView::new(&program, hits, default))
}
