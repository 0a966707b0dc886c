//! `weirctl match`: the frames that an expression matches.

use std::io::{self, BufWriter, Write};

use serde::Serialize;
use weir_engine::rule::{View as FrameView, bpf};
use zerocopy::Unalign;

use super::files::Files;
use super::progress::Progress;
use crate::cli::MatchArgs;
use crate::error::CtlError;
use crate::output::{Output, View};

/// The result in numbers.
#[derive(Serialize)]
struct Matched<'a> {
    expression: &'a str,
    /// Frames that were tried and that matched, in all files.
    frames: u64,
    matched: u64,
    files: Vec<MatchedFile>,
}

#[derive(Serialize)]
struct MatchedFile {
    file: String,
    frames: u64,
    /// Frames of link types that are not looked into.
    skipped: u64,
    matched: u64,
    /// Their numbers in the file, from 1; not with `--count`.
    #[serde(skip_serializing_if = "Option::is_none")]
    numbers: Option<Vec<u64>>,
    error: Option<String>,
}

impl View for Matched<'_> {
    /// To people the count alone: numbers are shown as they are found.
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.matched)
    }
}

/// What matched in one file.
#[derive(Default)]
struct Found {
    count: u64,
    numbers: Vec<u64>,
}

/// Reads the files, and shows which frames match.
pub(super) fn matching(args: &MatchArgs, out: &mut Output<'_>) -> Result<(), CtlError> {
    let expression = weir_rules::compile_expression(&args.expression)
        .map_err(|e| CtlError::Expression(e.into()))?;
    let code: Vec<_> = expression
        .code()
        .iter()
        .copied()
        .map(Unalign::new)
        .collect();
    let several = args.files.len() > 1;
    let lines = !args.count && !out.is_json();
    let mut progress = Progress::new(
        &args.files,
        lines && io::IsTerminal::is_terminal(&io::stdout()),
    );
    let mut found: Vec<Found> = args.files.iter().map(|_| Found::default()).collect();
    let mut lost = None;
    let files = {
        let mut writer = lines.then(|| BufWriter::with_capacity(1 << 16, out.lines()));
        let read = Files::read(&args.files, &mut progress, |frame, _| {
            let view = FrameView::contiguous(frame.bytes, frame.meta.frame_len);
            if bpf::run(&code, &view) == 0 {
                return Ok(());
            }
            let found = &mut found[frame.file];
            found.count += 1;
            match &mut writer {
                Some(writer) if several => {
                    let file = args.files[frame.file].display();
                    writeln!(writer, "{file}:{}", frame.number)?;
                }
                Some(writer) => writeln!(writer, "{}", frame.number)?,
                None if !args.count => found.numbers.push(frame.number),
                None => {}
            }
            Ok(())
        });
        if let Some(mut writer) = writer {
            lost = writer.flush().err();
        }
        read?
    };
    if let Some(error) = lost {
        return Err(error.into());
    }
    if !lines && files.any() {
        let result = Matched {
            expression: &args.expression,
            frames: files.summaries.iter().map(|s| s.frames).sum(),
            matched: found.iter().map(|f| f.count).sum(),
            files: files
                .summaries
                .iter()
                .zip(found)
                .map(|(summary, found)| MatchedFile {
                    file: summary.file.clone(),
                    frames: summary.frames,
                    skipped: summary.skipped_frames(),
                    matched: found.count,
                    numbers: (!args.count).then_some(found.numbers),
                    error: summary.error.clone(),
                })
                .collect(),
        };
        out.show(&result)?;
    }
    files.tell_skipped();
    files.result()
}
