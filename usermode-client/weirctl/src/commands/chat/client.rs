//! The client: what is typed goes to the room, what is said is shown.

use std::io::{self, Cursor, Read, Write};
use std::time::Duration;

use weir_abi::SocketFlags;
use weir_client::Device;
use weir_client::net::{OpenOptions, wait_ended};

use super::JoinArgs;
use crate::commands::Stop;
use crate::commands::tcp::reach;
use crate::error::CtlError;
use crate::output::Output;
use crate::wire::deadline::Deadline;
use crate::wire::duplex::Plain;
use crate::wire::feed::Feed;
use crate::wire::pump::{Ends, pump};

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(30);

/// Shows lines, without what would move the terminal's cursor, and keeps the
/// first complaint that came before this client was in.
struct Screen<'a> {
    out: &'a mut dyn Write,
    line: Vec<u8>,
    lines: u64,
    refusal: Option<String>,
}

impl Screen<'_> {
    fn show(&mut self) -> io::Result<()> {
        let line = std::mem::take(&mut self.line);
        let text: String = String::from_utf8_lossy(&line)
            .chars()
            .filter(|c| !c.is_control() || *c == '\t')
            .collect();
        if self.lines == 0
            && let Some(why) = text.strip_prefix("! ")
        {
            self.refusal = Some(why.to_owned());
        }
        self.lines += 1;
        writeln!(self.out, "{text}")
    }
}

/// Bytes of a line of the server's: the longest list of names is a long one.
const MOST: usize = 1024 * 1024;

impl Write for Screen<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for byte in bytes {
            if *byte == b'\n' || self.line.len() >= MOST {
                self.show()?;
            }
            if *byte != b'\n' {
                self.line.push(*byte);
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// `chat join`, with an input of the caller's.
pub(crate) fn join(
    device: &Device,
    args: &JoinArgs,
    input: impl Read + Send + 'static,
    terminal: bool,
    stop: Stop<'_>,
    out: &mut Output<'_>,
) -> Result<(), CtlError> {
    let time = Deadline::after(Some(CONNECT));
    let place = args.place.place()?;
    let addresses = place.addresses(device, None, time.left())?;
    let options = OpenOptions {
        flags: SocketFlags::NO_DELAY | SocketFlags::KEEP_ALIVE,
        ..OpenOptions::default()
    };
    let stream = reach(device, &addresses, &options, time)?;
    // From here on there is something to end in order.
    let stop = stop()?;
    let hello = format!("join {} {}\n", args.name, args.room);
    let feed = Feed::start(Cursor::new(hello).chain(input), terminal)?;
    let mut screen = Screen {
        out: out.lines(),
        line: Vec::new(),
        lines: 0,
        refusal: None,
    };
    let ends = Ends {
        with_peer: true,
        // Who leaves a room doesn't wait for what others say, nor the room.
        forgiving: true,
        ..Ends::default()
    };
    let result = pump(&Plain(stream), &feed, &mut screen, ends, &stop);
    let refusal = screen.refusal.take();
    out.lines_shown();
    wait_ended(Duration::from_secs(1));
    match (refusal, result) {
        (Some(why), _) => Err(CtlError::Chat(format!("not let in: {why}"))),
        (None, result) => result.map(drop),
    }
}
