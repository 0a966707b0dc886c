//! What a TCP service does with a connection: one state machine for echo,
//! discard and relay, without sockets, kernel types or time, so that it runs in
//! tests on any host.
//!
//! # Pipes
//! Data moves through pipes: from one socket, through two slots of memory, into
//! another socket, or the same one (echo), or nowhere (discard). A relay has two,
//! one for each direction. While one slot is being sent the other is received
//! into; when both are full nothing is received. So a peer that doesn't read
//! stops the one that sends, by the transport's own window, and nothing piles up
//! here: the slots are all the memory there is.
//!
//! # Ends
//! When a pipe's source has shut its side down and all of it has been passed on,
//! the sink's side is shut down too, and the other pipe goes on until its own
//! end. When every pipe has ended the sockets are closed, which resets nothing
//! then. Anything that goes wrong ends the whole connection: both sockets are
//! closed as they are, so that the other peer sees a reset and not an end.
//!
//! # Use
//! Each event goes to [`Session::on`]; then [`Session::next`] is asked until it
//! has no more to do. What it asks for has been noted as under way.

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
/// Slots of a pipe.
pub(crate) const SLOTS: u32 = 2;

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
    /// The receive of this pipe has ended.
    In(usize, Result<u32, Failure>),
    /// Whatever was asked for last of the pipe's other end has ended: connect,
    /// prepare, send, or shut; for a send, with how many bytes.
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
    /// Set the options of the pipe's sink; ends with an `Out`.
    Prepare { pipe: usize },
    /// Receive into a whole slot of the pipe; ends with an `In`.
    Receive { pipe: usize, slot: u32 },
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
    /// `Out` of each pipe. `In`, `Closed` and the rest are always wanted.
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
enum Slot {
    Empty,
    Filling,
    /// To be sent, or being sent: what is left of it.
    Full {
        offset: u32,
        end: u32,
    },
}

/// What the operation of a pipe's other end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Out {
    /// None; nothing was done yet.
    New,
    Connecting,
    /// The socket is there, its options aren't set yet.
    Connected,
    Preparing,
    Idle,
    Sending,
    Shutting,
    /// Shut down: no more.
    Done,
}

impl Out {
    fn is_pending(self) -> bool {
        matches!(
            self,
            Self::Connecting | Self::Preparing | Self::Sending | Self::Shutting
        )
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Pipe {
    slots: [Slot; SLOTS as usize],
    /// The slot to receive into next.
    fill: usize,
    /// The slot to send next.
    drain: usize,
    receiving: bool,
    /// The source has shut its side down.
    ended: bool,
    out: Out,
}

impl Pipe {
    const NEW: Self = Self {
        slots: [Slot::Empty; SLOTS as usize],
        fill: 0,
        drain: 0,
        receiving: false,
        ended: false,
        out: Out::New,
    };

    fn slot(&self, index: usize) -> Slot {
        self.slots.get(index).copied().unwrap_or(Slot::Empty)
    }

    fn set(&mut self, index: usize, slot: Slot) {
        if let Some(place) = self.slots.get_mut(index) {
            *place = slot;
        }
    }

    fn is_pending(&self) -> bool {
        self.receiving || self.out.is_pending()
    }

    /// What is being sent, or is next.
    fn head(&self) -> Option<(u32, u32)> {
        match self.slot(self.drain) {
            Slot::Full { offset, end } => Some((offset, end)),
            _ => None,
        }
    }

    /// Whether something can only go on when the pending `Out` has ended.
    fn waits_for_out(&self) -> bool {
        match self.out {
            Out::Connecting | Out::Shutting => true,
            Out::Preparing => self.head().is_some() || self.ended,
            // The other slot is full, or nothing is being received into it.
            Out::Sending => !self.receiving,
            _ => false,
        }
    }
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
    started: bool,
    over: Option<End>,
    cancel_asked: bool,
    freed: bool,
    pipes: [Pipe; PIPES],
    sides: [Side; SIDES],
}

fn other(slot: usize) -> usize {
    1usize.saturating_sub(slot)
}

fn number(slot: usize) -> u32 {
    u32::from(slot != 0)
}

impl Session {
    /// An accepted connection whose slots have `capacity` bytes each.
    pub(crate) const fn new(kind: Kind, capacity: u32) -> Self {
        Self {
            kind,
            capacity,
            started: false,
            over: None,
            cancel_asked: false,
            freed: false,
            pipes: [Pipe::NEW; PIPES],
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
        let ended = source.is_some_and(|pipe| pipe.ended);
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
        let (kind, capacity) = (self.kind, self.capacity);
        let Some(pipe) = self.pipes.get_mut(index) else {
            return;
        };
        pipe.receiving = false;
        let slot = pipe.fill;
        pipe.set(slot, Slot::Empty);
        match result {
            Ok(0) => pipe.ended = true,
            Ok(length) if length <= capacity => {
                if kind != Kind::Discard {
                    pipe.set(
                        slot,
                        Slot::Full {
                            offset: 0,
                            end: length,
                        },
                    );
                    pipe.fill = other(slot);
                }
            }
            Ok(_) => self.fail(kind.source(index), Failure::Other),
            Err(failure) => self.fail(kind.source(index), failure),
        }
    }

    fn put_out(&mut self, index: usize, result: Result<u32, Failure>) {
        let sink = self.kind.sink(index);
        let Some(pipe) = self.pipes.get_mut(index) else {
            return;
        };
        let was = core::mem::replace(&mut pipe.out, Out::Idle);
        match (was, result) {
            (Out::Connecting, Ok(_)) => {
                pipe.out = Out::Connected;
                self.set_side(sink, Side::Open);
            }
            (Out::Connecting, Err(_)) => self.finish(End::TargetRefused),
            // A connection without its options is one all the same.
            (Out::Preparing, _) => {}
            (Out::Sending, Ok(length)) => {
                let drain = pipe.drain;
                let left = pipe
                    .head()
                    .and_then(|(offset, end)| Some((offset.checked_add(length)?, end)));
                match left {
                    Some((sent, end)) if sent == end => {
                        pipe.set(drain, Slot::Empty);
                        pipe.drain = other(drain);
                    }
                    Some((sent, end)) if sent < end && length > 0 => {
                        pipe.set(drain, Slot::Full { offset: sent, end });
                    }
                    // No progress, or more than was asked for.
                    _ => self.fail(sink, Failure::Other),
                }
            }
            (Out::Shutting, Ok(_)) => pipe.out = Out::Done,
            (_, Err(failure)) => self.fail(sink, failure),
            (_, Ok(_)) => self.fail(sink, Failure::Other),
        }
    }

    fn next_of_pipe(&mut self, index: usize) -> Option<Action> {
        let kind = self.kind;
        let source_is_open = self.sides.get(kind.source(index)) == Some(&Side::Open);
        let all_open = self.all_open();
        let pipe = self.pipes.get_mut(index)?;
        match pipe.out {
            Out::New if kind.sink(index) == TARGET => {
                pipe.out = Out::Connecting;
                return Some(Action::Connect);
            }
            Out::New | Out::Connected => {
                pipe.out = Out::Preparing;
                return Some(Action::Prepare { pipe: index });
            }
            Out::Idle => {
                if let Some((offset, end)) = pipe.head() {
                    pipe.out = Out::Sending;
                    return Some(Action::Send {
                        pipe: index,
                        slot: number(pipe.drain),
                        offset,
                        length: end.saturating_sub(offset),
                    });
                }
                if pipe.ended {
                    pipe.out = Out::Shutting;
                    return Some(Action::Shut { pipe: index });
                }
            }
            _ => {}
        }
        let free = pipe.slot(pipe.fill) == Slot::Empty;
        if all_open && source_is_open && !pipe.receiving && !pipe.ended && free {
            pipe.receiving = true;
            pipe.set(pipe.fill, Slot::Filling);
            return Some(Action::Receive {
                pipe: index,
                slot: number(pipe.fill),
            });
        }
        None
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
        let open = self.sides.iter().position(|side| *side == Side::Open);
        if let Some(side) = open {
            self.set_side(side, Side::Closing);
            return Some(Action::Close { side });
        }
        let closing = self.sides.contains(&Side::Closing);
        if closing || self.pipes.iter().any(Pipe::is_pending) {
            return None;
        }
        self.freed = true;
        Some(Action::Free)
    }
}
