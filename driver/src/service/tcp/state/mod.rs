//! What a TCP service does with a connection: one state machine for echo,
//! discard and relay, without sockets, kernel types or time, so that it runs in
//! tests on any host.
//!
//! # Pipes
//! Data moves through pipes: from one socket into another, or the same one (echo),
//! or nowhere (discard). A relay has two, one for each direction.
//!
//! An echo's data move through two slots of memory. While one slot is being sent
//! the other is received into; when both are full nothing is received. So a peer
//! that doesn't read stops the one that sends, by the transport's own window, and
//! nothing piles up here: the slots are all the memory there is.
//!
//! A discard's are taken in the event that brings them, and are never seen here.
//! What is, is the end of the peer.
//!
//! A relay's are retained by the event and sent from where they are, then given
//! back: those that come in bulk, at most [`HELD`] indications, and no more bytes than
//! `gate.rs` says. What the event refuses because of that, or because it is little, or
//! because the transport wants its memory back soon, is received into slots, as an
//! echo's, until a receive has got much at once; then the events go on. While a receive
//! is pending, or will be, they keep nothing ([`Gate`]): so all stays in order. They
//! are not enabled before there was bulk: beside receives they cost something.
//!
//! # How a source ends
//! An event that says that the peer has shut its side down, or has reset the
//! connection, says no more than that there is something to look for. A receive
//! looks: it ends with no bytes, or with the reason. So what the events are late
//! with, or never say, is found out all the same when the next receive is made;
//! and after events are enabled a receive is made before they are relied on, for that
//! data came, or ended, may have happened before.
//!
//! # Ends
//! When a pipe's source has shut its side down and all of it has been passed on,
//! the sink's side is shut down too, and the other pipe goes on until its own
//! end. When every pipe has ended the sockets are closed, which resets nothing
//! then. Anything that goes wrong ends the whole connection: both sockets are
//! closed as they are, so that the other peer sees a reset and not an end.
//!
//! A socket isn't closed while anything that came from it is retained, and nothing
//! is given back while it is being sent. Two peers that don't read would keep a
//! relay from ending by that; so whatever sends retained data is reset, by which
//! its sends end, and only closed after that.
//!
//! # Use
//! Each event goes to [`Session::on`]; then [`Session::next`] is asked until it
//! has no more to do. What it asks for has been noted as under way.

mod gate;
mod pipe;

pub(crate) use gate::{BULK, Gate, HELD};
use pipe::{Out, Pipe};

/// What the service does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// What comes in goes out again (RFC 862).
    Echo,
    /// What comes in is thrown away (RFC 863).
    Discard,
    /// What comes in goes to the target, and the other way round.
    Relay,
}

/// Pipes of a connection, at most: 0 starts at the client, 1 at the target.
pub(crate) const PIPES: usize = 2;
/// Sockets of a connection, at most.
pub(crate) const SIDES: usize = 2;
/// The socket of the client.
pub(crate) const CLIENT: usize = 0;
/// The socket of a relay's target.
pub(crate) const TARGET: usize = 1;
/// Options of a sink that are set before anything is sent to it.
pub(crate) const OPTIONS: usize = 2;
/// Slots of a pipe that has any.
pub(crate) const SLOTS: usize = 2;

impl Kind {
    /// Pipes it has.
    pub(crate) const fn pipes(self) -> usize {
        match self {
            Self::Echo | Self::Discard => 1,
            Self::Relay => PIPES,
        }
    }

    /// Sockets it has.
    pub(crate) const fn sides(self) -> usize {
        self.pipes()
    }

    /// Whether data come by events from the first moment on.
    pub(crate) const fn hears(self) -> bool {
        matches!(self, Self::Discard)
    }

    /// Whether they may.
    pub(crate) const fn may_hear(self) -> bool {
        !matches!(self, Self::Echo)
    }

    /// Slots of each of its pipes.
    pub(crate) const fn slots(self) -> usize {
        match self {
            Self::Echo | Self::Relay => SLOTS,
            Self::Discard => 0,
        }
    }

    /// Where a pipe's data comes from.
    pub(crate) const fn source(self, pipe: usize) -> usize {
        pipe
    }

    /// Which socket a pipe sends to and shuts down in the end; a discard does
    /// only the latter.
    pub(crate) const fn sink(self, pipe: usize) -> usize {
        match (self, pipe) {
            (Self::Relay, 0) => TARGET,
            _ => CLIENT,
        }
    }
}

/// Why an operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Failure {
    /// The peer has reset the connection.
    Reset,
    /// The peer doesn't answer any more.
    TimedOut,
    /// Anything else; the call may not even have been made.
    Other,
}

/// What events have said that a receive is to look for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Look {
    /// Nothing.
    #[default]
    Not,
    /// Data that were refused.
    More,
    /// The end, behind what has not been received yet.
    End,
    /// Why the connection is gone.
    Gone,
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum End {
    /// Both sides have sent all they had.
    Finished,
    /// The target refused, or couldn't be reached.
    TargetRefused,
    /// The client reset it.
    ResetByClient,
    /// The target reset it.
    ResetByTarget,
    /// One of them didn't answer any more.
    TimedOut,
    /// Anything else that went wrong.
    Failed,
    /// The service stops.
    Stopped,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    /// The connection was accepted.
    Start,
    /// It is to go, now.
    Stop,
    /// The receive of this pipe has ended, whatever it was for.
    In(usize, Result<u32, Failure>),
    /// Whether the events of this pipe's source are enabled.
    Listening(usize, bool),
    /// An event has retained so many bytes; they come after all that was told of
    /// this pipe before.
    Held(usize, u32),
    /// Nothing more is retained: there is something to look for.
    Look(usize, Look),
    /// Sending what is retained has ended: so many bytes of it.
    Passed(usize, Result<u32, Failure>),
    /// Whatever was asked for last of the pipe's other end has ended: connect,
    /// prepare, send, shut or abort; for a send, with how many bytes.
    Out(usize, Result<u32, Failure>),
    /// Closing this socket has ended.
    Closed(usize),
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// Connect to the target; ends with an `Out` of pipe 0.
    Connect,
    /// Ask for the connect to end; it ends all the same.
    CancelConnect,
    /// Set one of the [`OPTIONS`] of the pipe's sink; ends with an `Out`.
    Prepare { pipe: usize, option: usize },
    /// Receive into a whole slot of the pipe; ends with an `In`.
    Receive { pipe: usize, slot: u32 },
    /// Enable the events of the pipe's source; `Listening` says whether they are,
    /// at once.
    Listen { pipe: usize },
    /// Let the events retain what comes. They come again when a receive has ended
    /// that was made after the last of them was refused. If one has been refused
    /// since then, a `Look` says so, at once.
    Hear { pipe: usize },
    /// Receive what no memory is needed for: how the source has ended; ends with
    /// an `In`.
    Drain { pipe: usize },
    /// Send what is first of what is retained, or a part of it; ends with a
    /// `Passed`.
    Pass { pipe: usize },
    /// Give back what is first of what is retained.
    Release { pipe: usize },
    /// Let the events retain nothing from now on. What they have retained is told
    /// by `Held`, at once.
    Mute { pipe: usize },
    /// Reset the pipe's sink so that what is being passed ends; ends with an
    /// `Out`.
    Abort { pipe: usize },
    /// Send a part of a slot; ends with an `Out`.
    Send {
        pipe: usize,
        slot: u32,
        offset: u32,
        length: u32,
    },
    /// Shut our side of the pipe's sink down; ends with an `Out`.
    Shut { pipe: usize },
    /// Close a socket, whatever is pending on it; ends with a `Closed`.
    Close { side: usize },
    /// Nothing is pending and every socket is closed: free it.
    Free,
}

/// Which events there is something to do for: others can wait until one of
/// these comes, and are then given with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Wanted {
    /// `Out` of each pipe. All the rest is always wanted.
    pub(crate) out: [bool; PIPES],
}

/// How a socket of a connection looks from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum View {
    /// There is none, not yet or not any more.
    #[default]
    Absent,
    Connecting,
    Connected,
    /// The peer has shut its side down.
    PeerClosed,
    /// We have.
    ShutDown,
    Closing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Side {
    Absent,
    Open,
    Closing,
    Closed,
}

/// One connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Session {
    kind: Kind,
    /// Bytes of a slot.
    capacity: u32,
    /// Bytes of one receive after which the events go on.
    bulk: u32,
    started: bool,
    over: Option<End>,
    cancel_asked: bool,
    freed: bool,
    pipes: [Pipe; PIPES],
    sides: [Side; SIDES],
}

impl Session {
    /// An accepted connection whose slots have `capacity` bytes each, and whose data
    /// come by events, if they do, after a receive of at least `bulk`.
    pub(crate) const fn new(kind: Kind, capacity: u32, bulk: u32) -> Self {
        Self {
            kind,
            capacity,
            bulk,
            started: false,
            over: None,
            cancel_asked: false,
            freed: false,
            pipes: [Pipe::new(kind); PIPES],
            sides: [Side::Open, Side::Absent],
        }
    }

    /// Why it ended, once it has.
    pub(crate) fn end(&self) -> Option<End> {
        self.over
    }

    /// How the socket of `side` is, for those who look on.
    pub(crate) fn view(&self, side: usize) -> View {
        let is = self.sides.get(side).copied().unwrap_or(Side::Absent);
        let source = self.pipes.get(self.kind.source(side));
        let sends = |pipe: &usize| self.kind.sink(*pipe) == side;
        let sink = (0..self.kind.pipes()).find(sends);
        let sink = sink.and_then(|pipe| self.pipes.get(pipe));
        let ended = source.is_some_and(Pipe::has_ended);
        let shut = sink.is_some_and(|pipe| pipe.out == Out::Done);
        match (is, ended, shut) {
            (Side::Absent, ..) if self.is_connecting() => View::Connecting,
            (Side::Absent | Side::Closed, ..) => View::Absent,
            (Side::Closing, ..) | (_, true, true) => View::Closing,
            (_, true, false) => View::PeerClosed,
            (_, false, true) => View::ShutDown,
            (_, false, false) => View::Connected,
        }
    }

    /// Whether the operation of pipe 0's other end is to connect.
    pub(crate) fn is_connecting(&self) -> bool {
        self.pipes.iter().any(|pipe| pipe.out == Out::Connecting)
    }

    /// Takes note of `event`; then [`Session::next`] is to be asked.
    pub(crate) fn on(&mut self, event: Event) {
        match event {
            Event::Start => self.started = true,
            Event::Stop => self.finish(End::Stopped),
            Event::In(pipe, result) => self.received(pipe, result),
            Event::Out(pipe, result) => self.put_out(pipe, result),
            Event::Listening(pipe, enabled) => {
                if let Some(pipe) = self.pipes.get_mut(pipe) {
                    pipe.events = enabled;
                }
            }
            Event::Held(pipe, bytes) => {
                if let Some(pipe) = self.pipes.get_mut(pipe) {
                    pipe.hold(bytes);
                }
            }
            Event::Look(pipe, look) => {
                if let Some(pipe) = self.pipes.get_mut(pipe) {
                    pipe.look(look);
                }
            }
            Event::Passed(pipe, result) => self.passed(pipe, result),
            Event::Closed(side) => self.set_side(side, Side::Closed),
        }
    }

    /// The next thing to do, noted as under way; none until the next event.
    pub(crate) fn next(&mut self) -> Option<Action> {
        if self.freed {
            return None;
        }
        if self.over.is_some() {
            return self.next_of_the_end();
        }
        if !self.started {
            return None;
        }
        for pipe in 0..self.kind.pipes() {
            if let Some(action) = self.next_of_pipe(pipe) {
                return Some(action);
            }
        }
        let pipes = self.pipes.iter().take(self.kind.pipes());
        let mut pipes = pipes.filter(|pipe| pipe.out != Out::Done);
        if pipes.next().is_none() {
            self.finish(End::Finished);
            return self.next_of_the_end();
        }
        None
    }

    /// Which events there would be something to do for.
    pub(crate) fn wanted(&self) -> Wanted {
        let mut wanted = Wanted::default();
        for (out, pipe) in wanted.out.iter_mut().zip(&self.pipes) {
            *out = self.over.is_some() || pipe.waits_for_out();
        }
        wanted
    }

    fn set_side(&mut self, side: usize, state: Side) {
        if let Some(place) = self.sides.get_mut(side) {
            *place = state;
        }
    }

    fn finish(&mut self, end: End) {
        if self.over.is_none() {
            self.over = Some(end);
        }
    }

    fn fail(&mut self, side: usize, failure: Failure) {
        self.finish(match (failure, side) {
            (Failure::Reset, CLIENT) => End::ResetByClient,
            (Failure::Reset, _) => End::ResetByTarget,
            (Failure::TimedOut, _) => End::TimedOut,
            (Failure::Other, _) => End::Failed,
        });
    }

    fn received(&mut self, index: usize, result: Result<u32, Failure>) {
        let (capacity, bulk) = (self.capacity, self.bulk);
        let Some(pipe) = self.pipes.get_mut(index) else {
            return;
        };
        if let Err(failure) = pipe.received(result, capacity, bulk) {
            self.fail(self.kind.source(index), failure);
        }
    }

    fn passed(&mut self, index: usize, result: Result<u32, Failure>) {
        let Some(pipe) = self.pipes.get_mut(index) else {
            return;
        };
        pipe.out = Out::Idle;
        if let Err(failure) = result.and_then(|length| pipe.sent(length)) {
            self.fail(self.kind.sink(index), failure);
        }
    }

    fn put_out(&mut self, index: usize, result: Result<u32, Failure>) {
        let sink = self.kind.sink(index);
        let Some(pipe) = self.pipes.get_mut(index) else {
            return;
        };
        if core::mem::take(&mut pipe.aborting) {
            return;
        }
        let was = core::mem::replace(&mut pipe.out, Out::Idle);
        match (was, result) {
            (Out::Connecting, Ok(_)) => {
                pipe.out = Out::Connected(0);
                self.set_side(sink, Side::Open);
            }
            (Out::Connecting, Err(_)) => self.finish(End::TargetRefused),
            // A connection without its options is one all the same.
            (Out::Preparing(option), _) => {
                let next = option.saturating_add(1);
                if next < OPTIONS {
                    pipe.out = Out::Connected(next);
                }
            }
            (Out::Sending, Ok(length)) => {
                if let Err(failure) = pipe.sent(length) {
                    self.fail(sink, failure);
                }
            }
            (Out::Shutting, Ok(_)) => pipe.out = Out::Done,
            (_, Err(failure)) => self.fail(sink, failure),
            (_, Ok(_)) => self.fail(sink, Failure::Other),
        }
    }

    fn next_of_pipe(&mut self, index: usize) -> Option<Action> {
        let kind = self.kind;
        let all_open = self.all_open();
        let pipe = self.pipes.get_mut(index)?;
        let at_sink = pipe.next_of_sink(index, kind.sink(index) == TARGET);
        if at_sink.is_some() || !all_open {
            return at_sink;
        }
        pipe.next_of_source(kind, index)
    }

    /// Whether data can flow: a relay takes none before its target is there.
    fn all_open(&self) -> bool {
        let mut sides = self.sides.iter().take(self.kind.sides());
        sides.all(|side| *side == Side::Open)
    }

    fn next_of_the_end(&mut self) -> Option<Action> {
        if self.is_connecting() && !self.cancel_asked {
            self.cancel_asked = true;
            return Some(Action::CancelConnect);
        }
        if self.kind == Kind::Relay {
            for (index, pipe) in self.pipes.iter_mut().enumerate() {
                let action = pipe.next_of_the_end(index);
                if action.is_some() {
                    return action;
                }
            }
        }
        let closable = |(side, state): (usize, &Side)| {
            let from = self.pipes.get(side);
            *state == Side::Open && from.is_none_or(|pipe| pipe.held == 0)
        };
        let open = self.sides.iter().enumerate().position(closable);
        if let Some(side) = open {
            self.set_side(side, Side::Closing);
            return Some(Action::Close { side });
        }
        let waits = |side: &Side| matches!(side, Side::Open | Side::Closing);
        if self.sides.iter().any(waits) || self.pipes.iter().any(Pipe::is_pending) {
            return None;
        }
        self.freed = true;
        Some(Action::Free)
    }
}
