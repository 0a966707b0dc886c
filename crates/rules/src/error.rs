//! What is wrong with a text, and where.

use std::fmt;
use std::ops::Range;

/// One thing that is wrong with an expression or a rule file.
///
/// Its `Display` is plain text of several lines, without a newline at the end:
/// the message, the place, the line with the text underlined, and what was
/// expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What is wrong and, where that is known, what to do.
    pub message: String,
    /// Bytes of the whole text that it is about. Empty at the end of the text.
    pub span: Range<usize>,
    /// Line, from 1.
    pub line: u32,
    /// Column of the first character, from 1, in characters.
    pub column: u32,
    /// What could stand there instead; may be empty.
    pub expected: Vec<String>,
    /// Name of the text: a file's, or empty.
    pub source_name: Box<str>,
    /// The line it stands in, without its end.
    pub source_line: String,
    /// Characters to underline, from `column`: at least 1.
    pub width: u32,
}

impl Error {
    /// An error about a part of `text`.
    pub(crate) fn new(
        text: &str,
        source_name: &str,
        span: Range<usize>,
        message: impl Into<String>,
        expected: Vec<String>,
    ) -> Self {
        let start = floor_char(text, span.start);
        let end = floor_char(text, span.end).max(start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let count = |part: &str| u32::try_from(part.chars().count()).unwrap_or(u32::MAX);
        let lines = text[..line_start].bytes().filter(|b| *b == b'\n').count();
        Self {
            message: message.into(),
            span: start..end,
            line: u32::try_from(lines + 1).unwrap_or(u32::MAX),
            column: count(&text[line_start..start]).saturating_add(1),
            expected,
            source_name: source_name.into(),
            source_line: text[line_start..line_end].trim_end_matches('\r').to_owned(),
            width: count(&text[start..end.min(line_end)]).max(1),
        }
    }

    /// The same error, about a line of a longer text: the line's number, where it
    /// starts, and how the text is called.
    pub(crate) fn in_line(self, line: u32, line_start: usize, source_name: &str) -> Self {
        Self {
            line,
            span: self.span.start + line_start..self.span.end + line_start,
            source_name: source_name.into(),
            ..self
        }
    }
}

/// The last character boundary at or before a byte.
fn floor_char(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        writeln!(f, "error: {}", self.message)?;
        let name = if self.source_name.is_empty() {
            "expression"
        } else {
            &self.source_name
        };
        writeln!(f, "{margin}--> {name}:{}:{}", self.line, self.column)?;
        writeln!(f, "{margin} |")?;
        // A tab is underlined by a tab, so that the columns stay beneath each other.
        let before = usize::try_from(self.column.saturating_sub(1)).unwrap_or(0);
        let shown: String = self.source_line.chars().map(printable).collect();
        let pad: String = shown
            .chars()
            .take(before)
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        let width = usize::try_from(self.width).unwrap_or(1);
        writeln!(f, "{number} | {shown}")?;
        write!(f, "{margin} | {pad}{}", "^".repeat(width))?;
        if !self.expected.is_empty() {
            write!(f, "\n{margin} = expected {}", one_of(&self.expected))?;
        }
        Ok(())
    }
}

/// Control characters would move a terminal's cursor.
fn printable(c: char) -> char {
    if c.is_control() && c != '\t' {
        '\u{fffd}'
    } else {
        c
    }
}

/// Words to be written as they are stand in backquotes, or `and` and `or` would
/// read as the sentence's own; what has a space in it describes something.
fn one_of(items: &[String]) -> String {
    let quoted = |item: &String| {
        if item.contains(' ') {
            item.clone()
        } else {
            format!("`{item}`")
        }
    };
    let items: Vec<String> = items.iter().map(quoted).collect();
    match items.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

impl std::error::Error for Error {}

/// Everything that is wrong with a text, in its order; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors(pub Vec<Error>);

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}
