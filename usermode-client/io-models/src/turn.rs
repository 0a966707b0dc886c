//! A connection of the models that tell what was read or written: overlapped
//! I/O with events, with routines, and with a port.

use std::ops::Range;

/// Where a connection is in its turns of receiving and sending back. It has one
/// operation in flight at a time, so a client that doesn't read holds one buffer
/// and no more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Turn {
    sent: usize,
    held: usize,
}

/// What to start next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Receive into the buffer.
    Receive,
    /// Send these bytes of the buffer.
    Send(Range<usize>),
    /// Nothing: the peer has shut its side down and has everything back.
    Finished,
}

impl Turn {
    /// An operation was completed with so many bytes: what comes next. A receive
    /// is what was in flight unless there was something to send.
    pub(crate) fn completed(&mut self, bytes: usize) -> Next {
        if self.held == 0 {
            if bytes == 0 {
                return Next::Finished;
            }
            self.held = bytes;
        } else {
            // A send on a stream socket completes when all is sent; should one
            // complete before, the rest follows.
            self.sent += bytes;
        }
        if self.sent < self.held {
            return Next::Send(self.sent..self.held);
        }
        *self = Turn::default();
        Next::Receive
    }

    /// Whether what is in flight is a send.
    pub(crate) fn sending(self) -> bool {
        self.held != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_received_is_sent_before_the_next_receive() {
        let mut turn = Turn::default();
        assert_eq!(turn.completed(10), Next::Send(0..10));
        assert!(turn.sending());
        assert_eq!(turn.completed(4), Next::Send(4..10));
        assert_eq!(turn.completed(6), Next::Receive);
        assert!(!turn.sending());
        assert_eq!(turn.completed(0), Next::Finished);
    }
}
