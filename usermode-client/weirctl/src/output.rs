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
