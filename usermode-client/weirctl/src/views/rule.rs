//! What rules did, as objects and as a table.

use std::io::{self, Write};

use serde::Serialize;
use weir_engine::rule::format::{DIRECTION_IN, DIRECTION_OUT};
use weir_engine::rule::hits::Hits;
use weir_engine::rule::{Program, Rule};

use crate::output::columns;

/// One rule and what it did.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RuleView {
    pub(crate) name: String,
    pub(crate) action: &'static str,
    pub(crate) direction: &'static str,
    /// As it was written.
    pub(crate) expression: String,
    /// Line of its file, from 1.
    pub(crate) line: u32,
    /// Frames it took effect on, and their bytes.
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
}

/// What the default did.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct DefaultView {
    pub(crate) action: &'static str,
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
}

/// All rules of a program, in order, and the default.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RulesView {
    pub(crate) rules: Vec<RuleView>,
    pub(crate) default: DefaultView,
}

/// `in`, `out`, `any`: the words of rule files.
fn direction_name(directions: u32) -> &'static str {
    match directions {
        DIRECTION_IN => "in",
        DIRECTION_OUT => "out",
        _ => "any",
    }
}

impl RuleView {
    pub(crate) fn new(rule: &Rule<'_>, hits: Hits) -> Self {
        RuleView {
            name: rule.name().to_owned(),
            action: rule.action().name(),
            direction: direction_name(rule.directions()),
            expression: rule.expression().to_owned(),
            line: rule.line(),
            frames: hits.frames,
            bytes: hits.bytes,
        }
    }
}

impl RulesView {
    /// `hits` has an entry for each rule, in their order.
    pub(crate) fn new(program: &Program<'_>, hits: &[Hits], default: Hits) -> Self {
        let hits = hits
            .iter()
            .copied()
            .chain(std::iter::repeat(Hits::default()));
        RulesView {
            rules: program
                .rules()
                .zip(hits)
                .map(|(rule, hits)| RuleView::new(&rule, hits))
                .collect(),
            default: DefaultView {
                action: program.default_action().name(),
                frames: default.frames,
                bytes: default.bytes,
            },
        }
    }

    /// Frames that rules or the default decided on: each frame seen, once.
    pub(crate) fn decided(&self) -> u64 {
        self.rules
            .iter()
            .filter(|r| matches!(r.action, "pass" | "drop" | "divert"))
            .map(|r| r.frames)
            .fold(self.default.frames, u64::saturating_add)
    }

    /// Writes a table of the rules, the default last.
    pub(crate) fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut rows: Vec<Vec<String>> = self
            .rules
            .iter()
            .map(|r| {
                vec![
                    r.name.clone(),
                    r.action.to_owned(),
                    r.direction.to_owned(),
                    r.frames.to_string(),
                    r.bytes.to_string(),
                    r.expression.clone(),
                ]
            })
            .collect();
        let default = &self.default;
        rows.push(vec![
            "default".to_owned(),
            default.action.to_owned(),
            String::new(),
            default.frames.to_string(),
            default.bytes.to_string(),
            String::new(),
        ]);
        let header = ["rule", "action", "where", "frames", "bytes", "expression"];
        columns(out, &header, &[0, 1, 2, 5], &rows)
    }
}
