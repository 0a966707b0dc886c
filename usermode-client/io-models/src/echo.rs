//! A connection of the models that tell when a socket may be read or written:
//! select, WSAAsyncSelect, WSAEventSelect.

use std::io::{ErrorKind, Read, Write};

use crate::counters::{Counters, End};

/// Reads in one turn. If there is more, that is told again; a second read would
/// mostly find nothing, and a client that never pauses has to let the others in.
const ROUNDS: usize = 1;

/// Reads in the first turn, of what came before anything was told.
const FIRST_ROUNDS: usize = 8;

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wants {
    /// That there is something to read.
    Read,
    /// That there is room to write: until then it doesn't read, so what it holds
    /// for a client that doesn't read can't grow.
    Write,
    /// Nothing: it is over.
    End(End),
}

/// What was read and can't be written yet. Empty, without memory of its own, in
/// all connections whose client reads.
#[derive(Debug, Default)]
pub(crate) struct Echo {
    held: Vec<u8>,
    sent: usize,
    closing: Option<End>,
}

impl Echo {
    /// The peer is known to have closed, in this way: nothing will announce what
    /// it sent before that, so it has to be read to its end.
    pub(crate) fn closing(&mut self, end: End) {
        self.closing = Some(end);
    }

    /// Whether [`Echo::closing`] was called.
    #[cfg(windows)]
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// Whether there is something that can't be written yet.
    #[cfg(windows)]
    pub(crate) fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// Moves what can be moved through a non-blocking stream, by way of
    /// `scratch`. The last thing it does before it wants to read is a read, or to
    /// send back what that gave: that read is what makes WSAAsyncSelect and
    /// WSAEventSelect announce data again, at once if there is more (MSDN
    /// "WSAEventSelect function", re-enabling functions).
    pub(crate) fn turn(
        &mut self,
        stream: &mut (impl Read + Write),
        scratch: &mut [u8],
        counters: &Counters,
    ) -> Wants {
        self.rounds(stream, scratch, counters, ROUNDS)
    }

    /// The first turn of a socket that was just begun to be watched. What came
    /// before, its end included, may have been announced to nobody.
    pub(crate) fn first_turn(
        &mut self,
        stream: &mut (impl Read + Write),
        scratch: &mut [u8],
        counters: &Counters,
    ) -> Wants {
        self.rounds(stream, scratch, counters, FIRST_ROUNDS)
    }

    /// Writes what is held; `Read` if nothing is held any more.
    pub(crate) fn flush(&mut self, stream: &mut impl Write, counters: &Counters) -> Wants {
        if self.held.is_empty() {
            return Wants::Read;
        }
        match write(stream, self.held.get(self.sent..).unwrap_or(&[]), counters) {
            Ok(Wrote::All) => {
                *self = Echo {
                    closing: self.closing,
                    ..Echo::default()
                };
                Wants::Read
            }
            Ok(Wrote::Part(bytes)) => {
                self.sent += bytes;
                Wants::Write
            }
            Err(end) => Wants::End(end),
        }
    }

    fn rounds(
        &mut self,
        stream: &mut (impl Read + Write),
        scratch: &mut [u8],
        counters: &Counters,
        most: usize,
    ) -> Wants {
        let mut rounds = 0;
        loop {
            match self.flush(stream, counters) {
                Wants::Read => {}
                other => return other,
            }
            if rounds == most && self.closing.is_none() {
                return Wants::Read;
            }
            rounds += 1;
            let bytes = match stream.read(scratch) {
                Ok(0) => return Wants::End(self.closing.unwrap_or(End::Finished)),
                Ok(bytes) => bytes,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Wants::Read,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Wants::End(End::from(&e)),
            };
            counters.received(bytes);
            let read = scratch.get(..bytes).unwrap_or(&[]);
            match write(stream, read, counters) {
                Ok(Wrote::All) => {}
                Ok(Wrote::Part(sent)) => {
                    self.held = read.get(sent..).unwrap_or(&[]).to_vec();
                    self.sent = 0;
                    return Wants::Write;
                }
                Err(end) => return Wants::End(end),
            }
        }
    }
}

enum Wrote {
    All,
    Part(usize),
}

fn write(stream: &mut impl Write, bytes: &[u8], counters: &Counters) -> Result<Wrote, End> {
    let mut sent = 0;
    while let Some(left) = bytes.get(sent..).filter(|left| !left.is_empty()) {
        match stream.write(left) {
            Ok(0) => return Err(End::Failed),
            Ok(count) => {
                counters.sent(count);
                sent += count;
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(Wrote::Part(sent)),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(End::from(&e)),
        }
    }
    Ok(Wrote::All)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::io;

    /// A peer that has sent `input` and takes `room` bytes.
    #[derive(Default)]
    struct Peer {
        input: VecDeque<u8>,
        shut: bool,
        room: usize,
        got: Vec<u8>,
        reads: usize,
    }

    impl Read for Peer {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.reads += 1;
            if self.input.is_empty() && !self.shut {
                return Err(ErrorKind::WouldBlock.into());
            }
            self.input.read(buffer)
        }
    }

    impl Write for Peer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room);
            if count == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            self.room -= count;
            self.got.extend(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn turn(echo: &mut Echo, peer: &mut Peer) -> Wants {
        echo.turn(peer, &mut [0; 8], &Counters::default())
    }

    #[test]
    fn a_client_that_never_reads_is_not_read_from() {
        let mut peer = Peer {
            input: (0..100).collect(),
            room: 3,
            ..Peer::default()
        };
        let mut echo = Echo::default();
        for _ in 0..10 {
            assert_eq!(turn(&mut echo, &mut peer), Wants::Write);
        }
        assert_eq!((peer.reads, peer.got.len(), echo.held.len()), (1, 3, 5));
        peer.room = usize::MAX;
        peer.shut = true;
        while turn(&mut echo, &mut peer) == Wants::Read {}
        assert_eq!(peer.got, (0..100).collect::<Vec<u8>>());
    }

    #[test]
    fn one_that_never_pauses_lets_the_others_in() {
        let mut peer = Peer {
            input: vec![7; 1000].into(),
            room: usize::MAX,
            ..Peer::default()
        };
        assert_eq!(turn(&mut Echo::default(), &mut peer), Wants::Read);
        assert_eq!(peer.reads, ROUNDS);
        assert_eq!(peer.got.len(), ROUNDS * 8);
        let mut peer = Peer {
            input: vec![7; 5 * 8].into(),
            shut: true,
            room: usize::MAX,
            ..Peer::default()
        };
        let mut echo = Echo::default();
        let first = echo.first_turn(&mut peer, &mut [0; 8], &Counters::default());
        assert_eq!(first, Wants::End(End::Finished));
    }

    #[test]
    fn what_was_sent_before_the_close_comes_back_in_one_turn() {
        let mut peer = Peer {
            input: vec![7; 1000].into(),
            shut: true,
            room: usize::MAX,
            ..Peer::default()
        };
        let mut echo = Echo::default();
        echo.closing(End::Finished);
        assert_eq!(turn(&mut echo, &mut peer), Wants::End(End::Finished));
        assert_eq!(peer.got.len(), 1000);
    }
}
