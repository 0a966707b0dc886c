//! What a buffer of a UDP service does next: its state machine, without sockets,
//! kernel types or time, so that it runs in tests on any host.
//!
//! It keeps the one rule that bounds the memory: nothing is received before what
//! was received last has been sent, or is dropped. Meanwhile the transport keeps
//! what comes in the socket's own buffer, or drops it, as UDP may.

/// An operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The next one may succeed.
    Once,
    /// The socket doesn't work any more, or no call may be made on it.
    Final,
}

/// What to add to the counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Bytes received.
    pub(crate) received: u32,
    /// Bytes sent.
    pub(crate) sent: u32,
    /// A datagram came in.
    pub(crate) datagram: bool,
    /// It is not sent, though it should be.
    pub(crate) dropped: bool,
    /// An operation failed.
    pub(crate) failed: bool,
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

/// What becomes of a datagram that has come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is sent: back, or on.
    Send,
    /// It has done its duty (RFC 863).
    Discard,
    /// It should be sent, and can't or mustn't.
    Drop,
}

/// What happened to a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DatagramEvent {
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
        /// What is to become of it.
        fate: Fate,
    },
    /// The send has ended.
    Sent(u32),
    /// The receive or the send has failed.
    Failed(Failure),
}

/// What to do with a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DatagramAction {
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

/// One buffer, with one datagram at a time in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Datagram {
    phase: DatagramPhase,
    failures: u32,
    stopping: bool,
}

impl Datagram {
    /// A buffer before the service runs.
    pub(crate) const fn new() -> Self {
        Self {
            phase: DatagramPhase::Idle,
            failures: 0,
            stopping: false,
        }
    }

    /// Whether the operation that is pending is a send.
    pub(crate) fn is_sending(&self) -> bool {
        self.phase == DatagramPhase::Sending
    }

    /// The next state, and what to do and count because of `event`.
    pub(crate) fn on(&mut self, event: DatagramEvent) -> (DatagramAction, Tally) {
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
            DatagramEvent::Received { length, fate } => {
                let tally = Tally {
                    received: length,
                    datagram: true,
                    dropped: fate == Fate::Drop,
                    ..Tally::NONE
                };
                self.failures = 0;
                if fate == Fate::Send && !self.stopping {
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
