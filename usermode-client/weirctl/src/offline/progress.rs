//! The bar that tells a person how much of the files is read.

use std::io::{IsTerminal as _, stderr};
use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::file::Position;

/// Files shorter than this are read before anybody looks.
const WORTH_IT: u64 = 16 * 1024 * 1024;

/// How many frames are read between two looks at the position.
const EVERY: u32 = 4096;

/// A bar on standard error over all files; none unless that is a terminal.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    /// Bytes of the files before the one being read.
    before: u64,
    frames: u32,
}

impl Progress {
    /// `quiet`: standard output is shown beside it all the time.
    pub(super) fn new(files: &[PathBuf], quiet: bool) -> Self {
        let total: u64 = files
            .iter()
            .filter_map(|f| std::fs::metadata(f).ok())
            .map(|m| m.len())
            .sum();
        let endless = files.iter().any(|f| f.as_os_str() == "-");
        let wanted = !quiet && stderr().is_terminal() && (endless || total >= WORTH_IT);
        Progress {
            bar: wanted.then(|| bar((!endless).then_some(total))),
            before: 0,
            frames: 0,
        }
    }

    /// A frame has been read.
    pub(super) fn frame(&mut self, position: &Position) {
        let Some(bar) = &self.bar else { return };
        self.frames += 1;
        if self.frames >= EVERY {
            self.frames = 0;
            bar.set_position(self.before + position.get());
        }
    }

    /// A file has been read.
    pub(super) fn file(&mut self, position: &Position) {
        self.before += position.get();
    }

    /// Takes the bar away.
    pub(super) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(total: Option<u64>) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => (
            ProgressBar::new(total),
            "{wide_bar} {bytes} of {total_bytes}  {bytes_per_sec}  {eta} left",
        ),
        None => (
            ProgressBar::no_length(),
            "{spinner} {bytes}  {bytes_per_sec}",
        ),
    };
    bar.set_draw_target(ProgressDrawTarget::stderr());
    // A template that is wrong leaves the plain bar.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}
