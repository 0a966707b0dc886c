//! What an echo does next: the two state machines, without sockets, kernel
//! types or time, so that they run in tests on any host.
//!
//! Both keep the one rule that bounds their memory: nothing is received before
//! what was received last has been sent. A peer that doesn't read its answers
//! stops the receives, so the transport's window (TCP) or its socket buffer
//! (UDP) pushes back, and nothing piles up here.

/// An operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The next one may succeed.
    Once,
    /// The socket doesn't work any more, or no call may be made on it.
    Final,
}

/// What to add to the counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Bytes received.
    pub(super) received: u32,
    /// Bytes sent.
    pub(super) sent: u32,
    /// A datagram came in.
    pub(super) datagram: bool,
    /// It is not answered.
    pub(super) dropped: bool,
    /// An operation failed.
    pub(super) failed: bool,
}

impl Tally {
    const NONE: Self = Self {
        received: 0,
        sent: 0,
        datagram: false,
        dropped: false,
        failed: false,
    };
    const FAILED: Self = Self {
        failed: true,
        ..Self::NONE
    };
}

/// What happened to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamEvent {
    /// It was accepted.
    Start,
    /// It is to go, now.
    Stop,
    /// The operation asked for last (other than closing) has ended.
    Ended(Result<u32, Failure>),
    /// Closing has ended.
    Closed,
}

/// What to do with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamAction {
    /// Nothing until the next event.
    Wait,
    /// Receive into the whole buffer.
    Receive,
    /// Send `length` bytes of the buffer from `offset`.
    Send {
        /// First byte.
        offset: u32,
        /// How many.
        length: u32,
    },
    /// Shut our side down.
    Disconnect,
    /// Close the socket, whatever is pending on it.
    Close,
    /// No operation is pending and the socket is closed: free it.
    Free,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StreamPhase {
    New,
    Receiving,
    Sending { offset: u32, end: u32 },
    Disconnecting,
    Closing,
    Closed,
}

/// One connection of a TCP echo.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stream {
    phase: StreamPhase,
    /// Length of its buffer.
    capacity: u32,
    /// An operation other than closing has been asked for and hasn't ended.
    pending: bool,
}

impl Stream {
    /// An accepted connection with a buffer of `capacity` bytes.
    pub(super) const fn new(capacity: u32) -> Self {
        Self {
            phase: StreamPhase::New,
            capacity,
            pending: false,
        }
    }

    /// The next state, and what to do and count because of `event`.
    pub(super) fn on(&mut self, event: StreamEvent) -> (StreamAction, Tally) {
        match event {
            StreamEvent::Start => match self.phase {
                StreamPhase::New => (self.receive(), Tally::NONE),
                _ => (StreamAction::Wait, Tally::NONE),
            },
            StreamEvent::Stop => (self.close(), Tally::NONE),
            StreamEvent::Ended(result) => {
                self.pending = false;
                self.ended(result)
            }
            StreamEvent::Closed => {
                self.phase = StreamPhase::Closed;
                (self.free(), Tally::NONE)
            }
        }
    }

    fn ended(&mut self, result: Result<u32, Failure>) -> (StreamAction, Tally) {
        match (self.phase, result) {
            // Cancelled by closing, as it should be.
            (StreamPhase::Closing | StreamPhase::Closed, _) => (self.free(), Tally::NONE),
            // The peer has shut its side down, and has all its bytes back.
            (StreamPhase::Receiving, Ok(0)) => {
                self.phase = StreamPhase::Disconnecting;
                self.pending = true;
                (StreamAction::Disconnect, Tally::NONE)
            }
            (StreamPhase::Receiving, Ok(length)) if length <= self.capacity => {
                let tally = Tally {
                    received: length,
                    ..Tally::NONE
                };
                (self.send(0, length), tally)
            }
            (StreamPhase::Sending { offset, end }, Ok(length)) => {
                let tally = Tally {
                    sent: length,
                    ..Tally::NONE
                };
                match offset.checked_add(length) {
                    Some(sent) if sent == end => (self.receive(), tally),
                    Some(sent) if sent < end && length > 0 => (self.send(sent, end), tally),
                    // No progress, or more than was asked for.
                    _ => (self.close(), Tally::FAILED),
                }
            }
            // Both sides are shut down: closing resets nothing.
            (StreamPhase::Disconnecting, Ok(_)) => (self.close(), Tally::NONE),
            (_, _) => (self.close(), Tally::FAILED),
        }
    }

    fn receive(&mut self) -> StreamAction {
        self.phase = StreamPhase::Receiving;
        self.pending = true;
        StreamAction::Receive
    }

    fn send(&mut self, offset: u32, end: u32) -> StreamAction {
        self.phase = StreamPhase::Sending { offset, end };
        self.pending = true;
        StreamAction::Send {
            offset,
            length: end.saturating_sub(offset),
        }
    }

    fn close(&mut self) -> StreamAction {
        if matches!(self.phase, StreamPhase::Closing | StreamPhase::Closed) {
            return StreamAction::Wait;
        }
        self.phase = StreamPhase::Closing;
        StreamAction::Close
    }

    fn free(&self) -> StreamAction {
        if self.phase == StreamPhase::Closed && !self.pending {
            StreamAction::Free
        } else {
            StreamAction::Wait
        }
    }
}

/// What happened to one of the buffers of a UDP echo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DatagramEvent {
    /// The service runs.
    Start,
    /// The service stops; the socket is closed.
    Stop,
    /// The pause after too many failures is over.
    Resume,
    /// The receive has ended with a datagram of `length` bytes.
    Received {
        /// Its length.
        length: u32,
        /// Whether it is to be answered.
        answer: bool,
    },
    /// The send has ended.
    Sent(u32),
    /// The receive or the send has failed.
    Failed(Failure),
}

/// What to do with one of the buffers of a UDP echo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DatagramAction {
    /// Nothing until the next event.
    Wait,
    /// Receive one datagram.
    Receive,
    /// Send this many bytes back.
    Send {
        /// How many; 0 is a datagram too.
        length: u32,
    },
    /// Pause, then resume.
    Pause,
    /// Nothing is pending and nothing will be: give it up.
    Retire,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DatagramPhase {
    Idle,
    Receiving,
    Sending,
    Paused,
    Retired,
}

/// Failures without a success between them after which a pause is made. A
/// transport that fails at once would otherwise be asked again and again
/// without end; one that reports that earlier answers didn't arrive (ICMP) fails
/// no more often than answers were sent.
const FAILURES_IN_A_ROW: u32 = 16;

/// One buffer of a UDP echo, with one datagram at a time in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Datagram {
    phase: DatagramPhase,
    failures: u32,
    stopping: bool,
}

impl Datagram {
    /// A buffer before the service runs.
    pub(super) const fn new() -> Self {
        Self {
            phase: DatagramPhase::Idle,
            failures: 0,
            stopping: false,
        }
    }

    /// Whether the operation that is pending is a send.
    pub(super) fn is_sending(&self) -> bool {
        self.phase == DatagramPhase::Sending
    }

    /// The next state, and what to do and count because of `event`.
    pub(super) fn on(&mut self, event: DatagramEvent) -> (DatagramAction, Tally) {
        match event {
            DatagramEvent::Start | DatagramEvent::Resume => match self.phase {
                DatagramPhase::Idle | DatagramPhase::Paused => (self.receive(), Tally::NONE),
                _ => (DatagramAction::Wait, Tally::NONE),
            },
            DatagramEvent::Stop => {
                self.stopping = true;
                match self.phase {
                    DatagramPhase::Idle | DatagramPhase::Paused => (self.retire(), Tally::NONE),
                    _ => (DatagramAction::Wait, Tally::NONE),
                }
            }
            DatagramEvent::Received { length, answer } => {
                let tally = Tally {
                    received: length,
                    datagram: true,
                    dropped: !answer,
                    ..Tally::NONE
                };
                self.failures = 0;
                if answer && !self.stopping {
                    self.phase = DatagramPhase::Sending;
                    (DatagramAction::Send { length }, tally)
                } else {
                    (self.receive(), tally)
                }
            }
            DatagramEvent::Sent(length) => {
                let tally = Tally {
                    sent: length,
                    ..Tally::NONE
                };
                self.failures = 0;
                (self.receive(), tally)
            }
            DatagramEvent::Failed(failure) => {
                let tally = if self.stopping {
                    Tally::NONE
                } else {
                    Tally::FAILED
                };
                (self.failed(failure), tally)
            }
        }
    }

    fn failed(&mut self, failure: Failure) -> DatagramAction {
        self.failures = self.failures.saturating_add(1);
        if failure == Failure::Final || self.stopping {
            self.retire()
        } else if self.failures >= FAILURES_IN_A_ROW {
            self.failures = 0;
            self.phase = DatagramPhase::Paused;
            DatagramAction::Pause
        } else {
            self.receive()
        }
    }

    fn receive(&mut self) -> DatagramAction {
        if self.stopping {
            return self.retire();
        }
        self.phase = DatagramPhase::Receiving;
        DatagramAction::Receive
    }

    fn retire(&mut self) -> DatagramAction {
        self.phase = DatagramPhase::Retired;
        DatagramAction::Retire
    }
}
