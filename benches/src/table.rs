//! The summary: what criterion measured, read back, and the ratios.

use std::collections::HashMap;
use std::fmt::Write;
use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use crate::frames::Frames;

/// The text of the summary as it grows.
pub(crate) struct Table {
    results: PathBuf,
    /// Nanoseconds for one of what criterion would take too long for.
    by_hand: HashMap<String, f64>,
    text: String,
}

impl Table {
    /// `results`: criterion's folder.
    pub(crate) fn new(results: PathBuf) -> Self {
        Table {
            results,
            by_hand: HashMap::new(),
            text: String::new(),
        }
    }

    /// What was measured on.
    pub(crate) fn describe(&mut self, frames: &Frames) {
        let flows = frames.five_tuples().len();
        let bytes: usize = frames.iter().map(|frame| frame.bytes.len()).sum();
        self.line(&format!(
            "\n{} frames, {} bytes each on average, of {flows} TCP and UDP flows",
            frames.len(),
            bytes / frames.len(),
        ));
    }

    /// Notes what was measured without criterion: the median of a few times that
    /// `of` things took.
    pub(crate) fn note(&mut self, group: &str, name: &str, times: &mut [Duration], of: usize) {
        times.sort_unstable();
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        #[allow(clippy::cast_precision_loss, reason = "a count of flows")]
        let each = median.as_secs_f64() * 1e9 / of as f64;
        println!(
            "{group}/{name}: {each:.1} ns each, the median of {}",
            times.len()
        );
        self.by_hand.insert(format!("{group}/{name}"), each);
    }

    /// A heading.
    pub(crate) fn heading(&mut self, text: &str) {
        self.line(&format!("\n{text}"));
    }

    /// A row: what it is, nanoseconds for one, and a remark.
    pub(crate) fn row(&mut self, what: &str, nanoseconds: Option<f64>, remark: &str) {
        let time = nanoseconds.map_or("not measured".into(), |ns| format!("{ns:.1} ns"));
        self.line(format!("  {what:<44} {time:>14}  {remark}").trim_end());
    }

    fn line(&mut self, line: &str) {
        writeln!(self.text, "{line}").expect("memory");
    }

    /// Nanoseconds that one of the `of` things in an iteration took, in the
    /// middle of all samples. `None` if it was not measured.
    pub(crate) fn each(&self, group: &str, name: &str, of: usize) -> Option<f64> {
        if let Some(each) = self.by_hand.get(&format!("{group}/{name}")) {
            return Some(*each);
        }
        let path = self.results.join(group).join(name);
        let file = File::open(path.join("new/estimates.json")).ok()?;
        let estimates: serde_json::Value = serde_json::from_reader(file).ok()?;
        let whole = estimates["median"]["point_estimate"].as_f64()?;
        #[allow(clippy::cast_precision_loss, reason = "a count of frames")]
        let of = of as f64;
        Some(whole / of)
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

/// How often `b` goes into `a`, in words; nothing if either is missing.
pub(crate) fn ratio(a: Option<f64>, b: Option<f64>, what: &str) -> String {
    match (a, b) {
        (Some(a), Some(b)) => format!("{:.2} {what}", a / b),
        _ => String::new(),
    }
}

/// Whether a target was reached, beside its name.
pub(crate) fn target(reached: Option<bool>, text: &str) -> String {
    match reached {
        Some(true) => format!("reached: {text}"),
        Some(false) => format!("MISSED: {text}"),
        None => String::new(),
    }
}
