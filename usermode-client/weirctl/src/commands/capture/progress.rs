//! The line that tells a person that frames arrive.

use std::io::{IsTerminal as _, Write as _, stderr};
use std::time::{Duration, Instant};

/// How often the line changes.
const EVERY: Duration = Duration::from_millis(500);

/// A line on standard error that is overwritten; none unless that is a terminal.
pub(super) struct Progress {
    last: Option<Instant>,
    on: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        Progress {
            last: None,
            on: stderr().is_terminal(),
        }
    }

    /// Shows the numbers, if it is time to. What can't be shown is not missed.
    pub(super) fn show(&mut self, frames: u64, bytes: u64, lost: u64) {
        if !self.on || self.last.is_some_and(|last| last.elapsed() < EVERY) {
            return;
        }
        self.last = Some(Instant::now());
        let _ = write!(stderr(), "\r{}", line(frames, bytes, lost));
        let _ = stderr().flush();
    }

    /// Takes the line away.
    pub(super) fn clear(&self) {
        if self.last.is_some() {
            let _ = write!(stderr(), "\r{:60}\r", "");
            let _ = stderr().flush();
        }
    }
}

fn line(frames: u64, bytes: u64, lost: u64) -> String {
    let size = match bytes {
        0..=9_999 => format!("{bytes} B"),
        10_000..=9_999_999 => format!("{} kB", bytes / 1000),
        _ => format!("{} MB", bytes / 1_000_000),
    };
    format!("{frames} frames, {size}, {lost} lost (Ctrl-C ends)  ")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_line_is_short() {
        let line = super::line(12_345_678, 98_765_432_100, 12);
        assert_eq!(
            line.trim_end(),
            "12345678 frames, 98765 MB, 12 lost (Ctrl-C ends)"
        );
        assert!(line.len() <= 60);
    }
}
