//! Standard input, read by a thread of its own: a read of a terminal or a pipe
//! can't be given up, a wait for the thread can.

use std::io::{self, Read};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use crate::error::CtlError;

/// Bytes read at once.
const CHUNK: usize = 64 * 1024;
/// Chunks that wait to be taken; then the reader waits.
const WAITING: usize = 2;

/// What came next.
#[derive(Debug)]
pub(crate) enum Fed {
    /// These bytes, at least one.
    Bytes(Vec<u8>),
    /// The time is over.
    Nothing,
    /// The end of the input.
    End,
}

/// An input that is being read.
pub(crate) struct Feed {
    chunks: Mutex<Receiver<io::Result<Vec<u8>>>>,
    /// A person types, who has to be told apart from a file: its end may never
    /// come.
    pub(crate) terminal: bool,
}

impl Feed {
    /// Starts to read `input`.
    pub(crate) fn start(
        mut input: impl Read + Send + 'static,
        terminal: bool,
    ) -> Result<Feed, CtlError> {
        let (give, take) = sync_channel(WAITING);
        std::thread::Builder::new()
            .name("input".to_owned())
            .spawn(move || {
                loop {
                    let mut chunk = vec![0; CHUNK];
                    let read = match input.read(&mut chunk) {
                        Ok(0) => return,
                        Ok(n) => {
                            chunk.truncate(n);
                            Ok(chunk)
                        }
                        Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                        Err(e) => Err(e),
                    };
                    let failed = read.is_err();
                    if give.send(read).is_err() || failed {
                        return;
                    }
                }
            })
            .map_err(CtlError::Thread)?;
        Ok(Feed {
            chunks: Mutex::new(take),
            terminal,
        })
    }

    /// Waits for what comes next, at most for `timeout`.
    pub(crate) fn next(&self, timeout: Duration) -> io::Result<Fed> {
        let chunks = self
            .chunks
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        match chunks.recv_timeout(timeout) {
            Ok(Ok(chunk)) => Ok(Fed::Bytes(chunk)),
            Ok(Err(e)) => Err(e),
            Err(RecvTimeoutError::Timeout) => Ok(Fed::Nothing),
            Err(RecvTimeoutError::Disconnected) => Ok(Fed::End),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_comes_whole_and_then_ends() {
        let all: Vec<u8> = (0..300_000_u32).map(|n| n as u8).collect();
        let feed = Feed::start(io::Cursor::new(all.clone()), false).expect("starts");
        let mut got = Vec::new();
        loop {
            match feed.next(Duration::from_secs(10)).expect("no error") {
                Fed::Bytes(bytes) => got.extend(bytes),
                Fed::Nothing => panic!("nothing came"),
                Fed::End => break,
            }
        }
        assert!(got == all);
        assert!(matches!(feed.next(Duration::ZERO), Ok(Fed::End)));
    }
}
