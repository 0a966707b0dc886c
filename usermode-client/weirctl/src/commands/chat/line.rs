//! Lines of a member, from whatever pieces they come in.

use futures::io::{AsyncRead, AsyncReadExt as _};

use super::MAX_LINE;

/// Bytes of a line too long that are thrown away before it is given up.
const MOST: usize = 256 * 1024;

/// What a member sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// A line, without its end.
    Line(String),
    /// A line longer than may be: it was thrown away.
    TooLong,
    /// Bytes that are no text.
    NotText,
    /// Far more bytes than a line has, and no end to it.
    NoEnd,
    /// The end.
    End,
}

/// Splits what comes into lines. Keeps no more than a line and a read.
pub(super) struct Lines<R> {
    from: R,
    buffer: Vec<u8>,
    at: usize,
    line: Vec<u8>,
    too_long: bool,
    /// Bytes thrown away of the line that is too long.
    thrown_away: usize,
    ended: bool,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) const fn new(from: R) -> Self {
        Lines {
            from,
            buffer: Vec::new(),
            at: 0,
            line: Vec::new(),
            too_long: false,
            thrown_away: 0,
            ended: false,
        }
    }

    /// The next line. May be dropped while it waits: nothing is lost.
    pub(super) async fn next(&mut self) -> std::io::Result<Sent> {
        loop {
            let rest = self.buffer.get(self.at..).unwrap_or_default();
            if let Some(len) = rest.iter().position(|b| *b == b'\n') {
                self.take(len);
                self.at += 1;
                return Ok(self.finish());
            }
            self.take(rest.len());
            if self.thrown_away > MOST {
                return Ok(Sent::NoEnd);
            }
            if self.ended {
                let nothing = self.line.is_empty() && !self.too_long;
                return Ok(if nothing { Sent::End } else { self.finish() });
            }
            let mut buffer = std::mem::take(&mut self.buffer);
            buffer.resize(2048, 0);
            self.at = 0;
            let n = self.from.read(&mut buffer).await?;
            buffer.truncate(n);
            self.buffer = buffer;
            self.ended = n == 0;
        }
    }

    /// Adds `len` bytes to the line, as long as it may be.
    fn take(&mut self, len: usize) {
        let part = self.buffer.get(self.at..self.at + len).unwrap_or_default();
        // One more, for a carriage return.
        if self.line.len() + part.len() > MAX_LINE + 1 {
            self.too_long = true;
            self.line.clear();
        }
        if self.too_long {
            self.thrown_away += len;
        } else {
            self.line.extend_from_slice(part);
        }
        self.at += len;
    }

    fn finish(&mut self) -> Sent {
        let mut line = std::mem::take(&mut self.line);
        self.thrown_away = 0;
        if std::mem::take(&mut self.too_long) {
            return Sent::TooLong;
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        if line.len() > MAX_LINE {
            return Sent::TooLong;
        }
        match String::from_utf8(line) {
            Ok(text) => Sent::Line(text),
            Err(_) => Sent::NotText,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use futures::io::Cursor;

    use super::*;

    fn lines(bytes: &[u8]) -> Vec<Sent> {
        let mut lines = Lines::new(Cursor::new(bytes.to_vec()));
        let mut all = Vec::new();
        loop {
            match block_on(lines.next()).expect("no error") {
                Sent::End => return all,
                sent => all.push(sent),
            }
        }
    }

    fn line(text: &str) -> Sent {
        Sent::Line(text.to_owned())
    }

    #[test]
    fn lines_end_with_or_without_a_carriage_return() {
        assert_eq!(
            lines(b"a\r\n\nb\nc"),
            [line("a"), line(""), line("b"), line("c")]
        );
        assert_eq!(lines(b""), []);
        assert_eq!(lines(b"\xff\nx\n"), [Sent::NotText, line("x")]);
    }

    #[test]
    fn a_line_too_long_is_thrown_away_and_the_next_is_good() {
        let most = "x".repeat(MAX_LINE);
        for over in [1, 2, 1000, 100_000] {
            let text = format!("{most}\r\n{most}{}\nnext\n", "y".repeat(over));
            assert_eq!(
                lines(text.as_bytes()),
                [line(&most), Sent::TooLong, line("next")]
            );
        }
        let long = "z".repeat(5000);
        assert_eq!(lines(long.as_bytes()), [Sent::TooLong]);
        let mut endless = Lines::new(futures::io::repeat(b'z'));
        assert_eq!(block_on(endless.next()).expect("no error"), Sent::NoEnd);
    }
}
