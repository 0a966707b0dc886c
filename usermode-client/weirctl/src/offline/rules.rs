//! Rule files: read, compiled, shown.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use serde::Serialize;
use weir_engine::rule::{Program, RuleSet};
use weir_rules::{Errors, Explanation, RuleFile};

use crate::error::CtlError;
use crate::output::{Output, View};

/// Bytes of a rule file, at most. The largest program has 4 MiB of names and
/// expressions in it.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// The rules of a program, ready to decide.
pub(super) type Set = RuleSet<Vec<u8>, Vec<u32>>;

/// A rule file's text; `-` is standard input.
fn text(path: &Path) -> Result<String, CtlError> {
    let failed = |source| CtlError::File {
        what: "reading rules from",
        path: path.display().to_string(),
        source,
    };
    let file: Box<dyn Read> = match path.as_os_str() == "-" {
        true => Box::new(io::stdin().lock()),
        false => Box::new(File::open(path).map_err(failed)?),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(failed(io::Error::other("more than 64 MiB are no rules")));
    }
    String::from_utf8(bytes).map_err(|e| {
        let line = 1 + e.as_bytes()[..e.utf8_error().valid_up_to()]
            .iter()
            .filter(|b| **b == b'\n')
            .count();
        failed(io::Error::other(format!("line {line} is not UTF-8")))
    })
}

/// Reads a rule file, which is right.
pub(crate) fn rule_file(path: &Path) -> Result<RuleFile, CtlError> {
    let file = path.display().to_string();
    RuleFile::parse(&text(path)?, &file).map_err(|errors| CtlError::Rules { file, errors })
}

/// Reads and compiles a rule file, to decide by it.
pub(super) fn load(path: &Path) -> Result<Set, CtlError> {
    build(path, rule_file(path)?.compile())
}

fn build(path: &Path, bytes: Vec<u8>) -> Result<Set, CtlError> {
    let refused = |source| CtlError::Program {
        file: path.display().to_string(),
        source,
    };
    let words = Set::index_len(&Program::verify(&bytes).map_err(refused)?);
    let mut index = Vec::new();
    index
        .try_reserve_exact(words)
        .map_err(|_| CtlError::Memory("the rules' index"))?;
    index.resize(words, 0);
    Set::build(bytes, index).map_err(refused)
}

/// What `rules check` says of a file that is right.
#[derive(Serialize)]
struct Checked {
    file: String,
    valid: bool,
    rules: u32,
    /// Rules that are looked up by hash.
    by_hash: u32,
    /// Rules whose code runs for each frame that gets that far.
    linear: u32,
    default: &'static str,
    instructions: u32,
    tuples: u32,
    program_bytes: u32,
}

impl View for Checked {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let s = if self.rules == 1 { "" } else { "s" };
        writeln!(
            out,
            "{}: {} rule{s}, {} by hash, {} linear, default {}",
            self.file, self.rules, self.by_hash, self.linear, self.default
        )?;
        writeln!(
            out,
            "program: {} bytes, {} instructions, {} tuples",
            self.program_bytes, self.instructions, self.tuples
        )
    }
}

/// What `rules check --json` says of a file that is wrong.
#[derive(Serialize)]
struct Wrong<'a> {
    file: String,
    valid: bool,
    errors: Vec<WrongAt<'a>>,
}

#[derive(Serialize)]
struct WrongAt<'a> {
    line: u32,
    /// In characters, from 1; so is the width.
    column: u32,
    width: u32,
    message: &'a str,
    expected: &'a [String],
    /// Bytes of the file.
    span: [usize; 2],
}

impl<'a> Wrong<'a> {
    fn new(path: &Path, errors: &'a Errors) -> Self {
        let at = |e: &'a weir_rules::Error| WrongAt {
            line: e.line,
            column: e.column,
            width: e.width,
            message: &e.message,
            expected: &e.expected,
            span: [e.span.start, e.span.end],
        };
        Wrong {
            file: path.display().to_string(),
            valid: false,
            errors: errors.0.iter().map(at).collect(),
        }
    }
}

impl View for Wrong<'_> {
    /// To people the errors are told as errors.
    fn text(&self, _out: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

/// `weirctl rules check`.
pub(crate) fn check(path: &Path, out: &mut Output<'_>) -> Result<(), CtlError> {
    let rules = match rule_file(path) {
        Ok(rules) => rules,
        Err(error) => {
            if let CtlError::Rules { errors, .. } = &error {
                out.show(&Wrong::new(path, errors))?;
            }
            return Err(error);
        }
    };
    let set = build(path, rules.compile())?;
    let program = set.program();
    let linear = program.rules().filter(|r| r.is_linear()).count() as u32;
    out.show(&Checked {
        file: path.display().to_string(),
        valid: true,
        rules: program.rule_count(),
        by_hash: program.rule_count() - linear,
        linear,
        default: program.default_action().name(),
        instructions: program.insn_count(),
        tuples: program.tuple_count(),
        program_bytes: program.size(),
    })?;
    Ok(())
}

#[derive(Serialize)]
struct Explained {
    file: String,
    #[serde(flatten)]
    explanation: Explanation,
}

impl View for Explained {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let text = self.explanation.to_string();
        writeln!(out, "{}", text.trim_end_matches('\n'))
    }
}

/// `weirctl rules explain`.
pub(crate) fn explain(path: &Path, out: &mut Output<'_>) -> Result<(), CtlError> {
    let program = rule_file(path)?.compile();
    let explanation = weir_rules::explain(&program).map_err(|source| CtlError::Explain {
        file: path.display().to_string(),
        source,
    })?;
    out.show(&Explained {
        file: path.display().to_string(),
        explanation,
    })?;
    Ok(())
}
