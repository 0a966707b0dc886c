//! One direction of a connection: from a source, through what was received and
//! what was retained, to a sink.

use super::{Action, Failure, HELD, Kind, Look, OPTIONS, SLOTS};

/// What waits to be sent, at most.
const QUEUE: usize = HELD.saturating_add(SLOTS);

/// Something to be sent, or what is left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Item {
    /// A part of a slot.
    Slot { slot: u32, offset: u32, end: u32 },
    /// Bytes of data that are retained.
    Held { left: u32 },
}

/// What the operation of a pipe's other end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Out {
    /// None; nothing was done yet.
    New,
    Connecting,
    /// The socket is there, and this option of it isn't set yet.
    Connected(usize),
    Preparing(usize),
    Idle,
    Sending,
    /// Sending what is retained.
    Passing,
    Shutting,
    /// Shut down: no more.
    Done,
}

impl Out {
    fn is_pending(self) -> bool {
        matches!(
            self,
            Self::Connecting | Self::Preparing(_) | Self::Sending | Self::Passing | Self::Shutting
        )
    }
}

/// How data come from a pipe's source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// They don't, before the next receive.
    Still,
    /// By a receive into this slot.
    Receiving(u32),
    /// By events.
    Hearing,
    /// No more do: a receive will say why.
    Draining,
    /// The source has shut its side down.
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pipe {
    queue: [Option<Item>; QUEUE],
    /// Slots that are being received into, or have something to be sent.
    busy: [bool; SLOTS],
    /// The slot to receive into next.
    fill: u32,
    pub(super) source: Source,
    /// Data may come by events, too.
    pub(super) events: bool,
    /// That was asked for.
    listened: bool,
    /// They come in bulk.
    bulk: bool,
    look: Look,
    pub(super) out: Out,
    /// Retained and not released.
    pub(super) held: u32,
    /// The first of them has been sent.
    spent: bool,
    /// Nothing is retained any more.
    pub(super) muted: bool,
    abort_asked: bool,
    /// The sink is being reset, so that what is being sent ends.
    pub(super) aborting: bool,
}

impl Pipe {
    pub(super) const fn new(kind: Kind) -> Self {
        let (source, events) = match kind {
            Kind::Echo | Kind::Relay => (Source::Still, false),
            Kind::Discard => (Source::Hearing, true),
        };
        Self {
            queue: [None; QUEUE],
            busy: [false; SLOTS],
            fill: 0,
            source,
            events,
            listened: false,
            bulk: false,
            // The first data are got by a receive.
            look: if matches!(kind, Kind::Discard) {
                Look::Not
            } else {
                Look::More
            },
            out: Out::New,
            held: 0,
            spent: false,
            muted: false,
            abort_asked: false,
            aborting: false,
        }
    }

    fn push(&mut self, item: Item) {
        // There is a place for each slot and each indication that can be held.
        if let Some(place) = self.queue.iter_mut().find(|place| place.is_none()) {
            *place = Some(item);
        }
    }

    fn pop(&mut self) {
        self.queue.rotate_left(1);
        if let Some(last) = self.queue.last_mut() {
            *last = None;
        }
    }

    /// What is being sent, or is next.
    fn head(&self) -> Option<Item> {
        self.queue.first().copied().flatten()
    }

    fn set_head(&mut self, item: Item) {
        if let Some(first) = self.queue.first_mut() {
            *first = Some(item);
        }
    }

    fn set_busy(&mut self, slot: u32, busy: bool) {
        for (number, place) in (0..).zip(&mut self.busy) {
            if number == slot {
                *place = busy;
            }
        }
    }

    fn is_free(&self, slot: u32) -> bool {
        (0..).zip(self.busy).any(|(n, busy)| n == slot && !busy)
    }

    pub(super) fn is_pending(&self) -> bool {
        let receiving = matches!(self.source, Source::Receiving(_) | Source::Draining);
        receiving || self.out.is_pending() || self.aborting
    }

    pub(super) fn has_ended(&self) -> bool {
        self.source == Source::Ended
    }

    /// Whether something can only go on when the pending `Out` has ended.
    pub(super) fn waits_for_out(&self) -> bool {
        match self.out {
            Out::Connecting | Out::Shutting => true,
            Out::Preparing(option) if option.saturating_add(1) < OPTIONS => true,
            Out::Preparing(_) => self.head().is_some() || self.has_ended(),
            // Something else is to be sent, or nothing can be received before.
            Out::Sending => {
                let next = self.queue.get(1).copied().flatten();
                next.is_some() || matches!(self.source, Source::Still | Source::Ended)
            }
            _ => self.aborting,
        }
    }

    /// Something was retained.
    pub(super) fn hold(&mut self, bytes: u32) {
        self.held = self.held.saturating_add(1);
        self.push(Item::Held { left: bytes });
    }

    /// The events have refused something, or said that the peer is gone.
    pub(super) fn look(&mut self, look: Look) {
        self.look = self.look.max(look);
    }

    /// The pending receive has ended; an error is one of the source.
    pub(super) fn received(
        &mut self,
        result: Result<u32, Failure>,
        capacity: u32,
        bulk: u32,
    ) -> Result<(), Failure> {
        let was = core::mem::replace(&mut self.source, Source::Still);
        if let Source::Receiving(slot) = was {
            self.set_busy(slot, false);
        }
        match (was, result?) {
            (Source::Receiving(_), 0) => self.source = Source::Ended,
            (Source::Receiving(slot), end) if end <= capacity => {
                self.set_busy(slot, true);
                self.bulk = end >= bulk;
                self.fill = 1u32.saturating_sub(slot);
                let offset = 0;
                self.push(Item::Slot { slot, offset, end });
            }
            (Source::Draining, _) if self.look != Look::Gone => self.source = Source::Ended,
            (Source::Draining, _) => return Err(Failure::Reset),
            _ => return Err(Failure::Other),
        }
        Ok(())
    }

    /// Of the head, so many bytes have been sent; an error is one of the sink.
    pub(super) fn sent(&mut self, length: u32) -> Result<(), Failure> {
        let left = match self.head() {
            Some(Item::Slot { slot, offset, end }) => {
                let offset = offset.saturating_add(length);
                let item = Item::Slot { slot, offset, end };
                end.checked_sub(offset).map(|left| (left, item))
            }
            Some(Item::Held { left }) => {
                let left = left.checked_sub(length);
                left.map(|left| (left, Item::Held { left }))
            }
            None => None,
        };
        match left {
            // No progress, or more than was asked for.
            None => return Err(Failure::Other),
            _ if length == 0 => return Err(Failure::Other),
            Some((0, item)) => {
                self.pop();
                match item {
                    Item::Slot { slot, .. } => self.set_busy(slot, false),
                    Item::Held { .. } => self.spent = true,
                }
            }
            Some((_, item)) => self.set_head(item),
        }
        Ok(())
    }

    /// The next thing to do at the sink, and to give back.
    pub(super) fn next_of_sink(&mut self, pipe: usize, to_target: bool) -> Option<Action> {
        if self.spent {
            self.spent = false;
            return self.next_release(pipe);
        }
        match self.out {
            Out::New if to_target => {
                self.out = Out::Connecting;
                Some(Action::Connect)
            }
            Out::New => self.next_prepare(pipe, 0),
            Out::Connected(option) => self.next_prepare(pipe, option),
            Out::Idle => match self.head() {
                Some(Item::Slot { slot, offset, end }) => {
                    self.out = Out::Sending;
                    Some(Action::Send {
                        pipe,
                        slot,
                        offset,
                        length: end.saturating_sub(offset),
                    })
                }
                Some(Item::Held { .. }) => {
                    self.out = Out::Passing;
                    Some(Action::Pass { pipe })
                }
                None if self.has_ended() => {
                    self.out = Out::Shutting;
                    Some(Action::Shut { pipe })
                }
                None => None,
            },
            _ => None,
        }
    }

    fn next_prepare(&mut self, pipe: usize, option: usize) -> Option<Action> {
        self.out = Out::Preparing(option);
        Some(Action::Prepare { pipe, option })
    }

    /// The next thing to do at the source, from which data may be taken.
    pub(super) fn next_of_source(&mut self, kind: Kind, pipe: usize) -> Option<Action> {
        match (self.source, self.look) {
            (Source::Still, _) if kind == Kind::Relay && self.bulk && !self.listened => {
                self.listened = true;
                // What came before they are enabled is got by a receive.
                self.look = self.look.max(Look::More);
                return Some(Action::Listen { pipe });
            }
            (Source::Still | Source::Hearing, Look::Gone) => {
                self.source = Source::Draining;
                return Some(Action::Drain { pipe });
            }
            (Source::Hearing, Look::More | Look::End) if kind == Kind::Discard => {
                self.source = Source::Draining;
                return Some(Action::Drain { pipe });
            }
            (Source::Hearing, Look::More | Look::End) | (Source::Still, _) => {
                self.source = Source::Still;
            }
            _ => return None,
        }
        let room = usize::try_from(self.held).is_ok_and(|held| held < HELD);
        if self.events && self.bulk && self.look == Look::Not && room {
            self.source = Source::Hearing;
            return Some(Action::Hear { pipe });
        }
        let slot = self.fill;
        if !self.is_free(slot) {
            return None;
        }
        // One receive may get what was refused, and the end is still behind it: it
        // isn't told of again, so from there on only receives can find it.
        if self.look == Look::More {
            self.look = Look::Not;
        }
        self.set_busy(slot, true);
        self.source = Source::Receiving(slot);
        Some(Action::Receive { pipe, slot })
    }

    /// Gives one back, when the connection ends or it has been sent.
    fn next_release(&mut self, pipe: usize) -> Option<Action> {
        self.held = self.held.checked_sub(1)?;
        Some(Action::Release { pipe })
    }

    /// The next thing to do so that nothing is retained any more.
    pub(super) fn next_of_the_end(&mut self, pipe: usize) -> Option<Action> {
        if !self.muted {
            self.muted = true;
            return Some(Action::Mute { pipe });
        }
        if self.out == Out::Passing {
            if self.abort_asked {
                return None;
            }
            self.abort_asked = true;
            self.aborting = true;
            return Some(Action::Abort { pipe });
        }
        self.spent = false;
        self.next_release(pipe)
    }
}
