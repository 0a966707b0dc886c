//! How results are shown: text for people, one JSON object for programs.

use std::fmt;
use std::io::{self, Write};

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::error::CtlError;

/// A result that can be shown. Its fields' names are what `--json` prints, and
/// stay as they are.
pub(crate) trait View: Serialize {
    /// Shows it to a person.
    fn text(&self, out: &mut dyn Write) -> io::Result<()>;
}

/// Where results go.
pub(crate) struct Output<'a> {
    json: bool,
    /// Whether a result was shown: then an error doesn't add a second object.
    shown: bool,
    out: Box<dyn Write + 'a>,
}

impl<'a> Output<'a> {
    pub(crate) fn new(json: bool, out: Box<dyn Write + 'a>) -> Self {
        Output {
            json,
            shown: false,
            out,
        }
    }

    /// The same way of showing, to standard error.
    pub(crate) fn on_stderr(&self) -> Output<'static> {
        Output::new(self.json, Box::new(io::stderr().lock()))
    }

    /// Whether programs read along.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Where a command writes that shows one line after the other, in place of
    /// one result.
    pub(crate) fn lines(&mut self) -> &mut dyn Write {
        &mut self.out
    }

    /// These lines were the result.
    pub(crate) fn lines_shown(&mut self) {
        self.shown = true;
    }

    /// Shows a result.
    pub(crate) fn show<V: View>(&mut self, view: &V) -> io::Result<()> {
        self.shown = true;
        if self.json {
            self.object(view)
        } else {
            view.text(&mut self.out)?;
            self.out.flush()
        }
    }

    /// Shows an error as an object, if no result was shown; to people it was
    /// told on standard error.
    pub(crate) fn error(&mut self, error: &CtlError) -> io::Result<()> {
        if !self.json || self.shown {
            return Ok(());
        }
        let status = error.status();
        self.object(&serde_json::json!({ "error": {
            "message": error.to_string(),
            "exit_code": error.exit_code(),
            "status": status.and_then(weir_client::NtStatus::name),
            "ntstatus": status.map(|s| format!("{:#010x}", s.0)),
            "win32": error.win32(),
        }}))
    }

    fn object(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, value)?;
        writeln!(self.out)?;
        self.out.flush()
    }
}

/// Text for a console, which on Windows takes nothing but UTF-8: other bytes are
/// shown as U+FFFD. A character that is cut waits for its rest.
pub(crate) struct Lossy<W: Write> {
    out: W,
    cut: Vec<u8>,
}

impl<W: Write> Lossy<W> {
    pub(crate) const fn new(out: W) -> Self {
        Lossy {
            out,
            cut: Vec::new(),
        }
    }
}

impl<W: Write> Write for Lossy<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut all = std::mem::take(&mut self.cut);
        all.extend_from_slice(bytes);
        let mut chunks = all.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            self.out.write_all(chunk.valid().as_bytes())?;
            let last = chunks.peek().is_none();
            match std::str::from_utf8(chunk.invalid()) {
                Ok(_) => {}
                // More bytes may make it a character.
                Err(error) if last && error.error_len().is_none() => {
                    self.cut = chunk.invalid().to_vec();
                }
                Err(_) => write!(self.out, "{}", char::REPLACEMENT_CHARACTER)?,
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl<W: Write> Drop for Lossy<W> {
    fn drop(&mut self) {
        if !self.cut.is_empty() {
            // Nobody is left to be told of a failure.
            let _ = write!(self.out, "{}", char::REPLACEMENT_CHARACTER);
        }
    }
}

/// Says something on standard error. That nobody listens there is no failure.
pub(crate) fn tell(what: &dyn fmt::Display) {
    let _unheard = writeln!(io::stderr(), "weirctl: {what}");
}

/// Writes rows in aligned columns under a header; columns named in `left` are
/// aligned to the left, numbers to the right.
pub(crate) fn columns(
    out: &mut dyn Write,
    header: &[&str],
    left: &[usize],
    rows: &[Vec<String>],
) -> io::Result<()> {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    for row in rows {
        table.add_row(row);
    }
    for (i, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        column.set_cell_alignment(if left.contains(&i) {
            CellAlignment::Left
        } else {
            CellAlignment::Right
        });
    }
    for line in table.lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes UTF-8 alone, as a console.
    #[derive(Default)]
    struct Console(String);

    impl Write for &mut Console {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let text = std::str::from_utf8(bytes).map_err(|_| io::ErrorKind::InvalidData)?;
            self.0.push_str(text);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_console_gets_text_whatever_comes() {
        let all = b"a\xffb \xe4\xb8\xad\xf0\x9f\x98\x80 \xe4\xb8x\xc3(\x80";
        // Cut anywhere, and every byte alone.
        for step in 1..=all.len() {
            let mut console = Console::default();
            let mut lossy = Lossy::new(&mut console);
            for part in all.chunks(step) {
                lossy.write_all(part).expect("text");
                lossy.flush().expect("nothing to do");
            }
            drop(lossy);
            assert_eq!(console.0, String::from_utf8_lossy(all), "{step}");
        }
        let mut console = Console::default();
        let mut lossy = Lossy::new(&mut console);
        lossy.write_all(b"cut: \xf0\x9f").expect("text");
        drop(lossy);
        assert_eq!(console.0, "cut: \u{fffd}");
    }

    #[test]
    fn columns_are_aligned() {
        let mut out = Vec::new();
        let row = |a: &str, b: &str| vec![a.to_owned(), b.to_owned()];
        let rows = [row("lab0", "5"), row("Ethernet 中", "12345")];
        columns(&mut out, &["name", "frames"], &[0], &rows).expect("writes");
        let text = String::from_utf8(out).expect("UTF-8");
        assert_eq!(
            text,
            "name         frames\n\
             lab0              5\n\
             Ethernet 中   12345\n"
        );
    }
}
