//! What a provider allows, and what is owed to whom: how the [`Model`] changes with
//! what happens and with what the session does then, and what may never be.

use super::model::{Events, Input, Model, Out, Owed, PipeModel};
use super::tcp::{Action, End, Event, Failure, Kind, OPTIONS, SIDES, SLOTS, TARGET};

impl Model {
    pub(crate) fn received(&mut self, n: usize, result: Result<u32, Failure>) {
        let (capacity, kind) = (self.scope.capacity, self.scope.kind);
        let pipe = &mut self.pipes[n];
        if pipe.events == Events::Resuming {
            pipe.events = Events::On;
        }
        if pipe.draining {
            pipe.draining = false;
            pipe.ended = result.is_ok();
            return;
        }
        let slot = pipe.receiving.take().expect("a receive was pending");
        match result {
            Ok(0) => pipe.ended = true,
            Ok(length) if length <= capacity && kind != Kind::Discard => {
                pipe.owed.push_back(Owed::Slot(slot, 0, length));
                pipe.comes();
            }
            _ => {}
        }
    }

    pub(crate) fn passed(&mut self, n: usize, result: Result<u32, Failure>) {
        let pipe = &mut self.pipes[n];
        pipe.passing.take().expect("something was being passed");
        let Some(Owed::Held(left)) = pipe.owed.front_mut() else {
            unreachable!("what was passed is owed first");
        };
        let Ok(length) = result else { return };
        *left = left.saturating_sub(length);
        let left = *left;
        if left == 0 {
            pipe.owed.pop_front();
        }
        *pipe.held.front_mut().expect("it is retained") = left;
    }

    pub(crate) fn put_out(&mut self, n: usize, result: Result<u32, Failure>) {
        let out = self.pipes[n].out.take().expect("something was pending");
        let pipe = &mut self.pipes[n];
        match (out, result) {
            (Out::Connect, Ok(_)) => {
                self.connected = true;
                self.open[TARGET] = true;
            }
            (Out::Prepare, _) => pipe.prepared += 1,
            (Out::Send(_), Ok(length)) => {
                let first = pipe.owed.pop_front().expect("something was owed");
                let Owed::Slot(slot, offset, left) = first else {
                    unreachable!("what was sent is a slot's");
                };
                if length < left {
                    let rest = Owed::Slot(slot, offset + length, left - length);
                    pipe.owed.push_front(rest);
                }
            }
            (Out::Shut, Ok(_)) => pipe.shut = true,
            _ => {}
        }
    }

    pub(crate) fn usable(&self, side: usize) {
        assert!(self.open[side], "a call on no socket: {self:?}");
        assert!(!self.closing[side], "a call on a closing socket: {self:?}");
    }

    /// A receive of some kind is made.
    pub(crate) fn asks(&mut self, n: usize) {
        self.usable(self.scope.kind.source(n));
        let pipe = &mut self.pipes[n];
        assert!(pipe.receiving.is_none() && !pipe.draining && !pipe.ended);
        if self.scope.kind == Kind::Relay {
            assert!(!pipe.gate.admits(1, false), "events may overtake it");
            assert_eq!(pipe.untold, 0, "what was retained came before it");
        }
        if pipe.events == Events::Paused {
            pipe.events = Events::Resuming;
        }
    }

    pub(crate) fn does(&mut self, action: Action, input: Input) {
        assert!(!self.freed, "it was freed");
        let kind = self.scope.kind;
        match action {
            Action::Connect => {
                assert!(kind == Kind::Relay && !self.connected);
                assert_eq!(self.pipes[0].out.replace(Out::Connect), None);
            }
            Action::CancelConnect => {
                assert_eq!(self.pipes[0].out, Some(Out::Connect));
                assert!(self.session.end().is_some());
            }
            Action::Prepare { pipe, option } => {
                self.usable(kind.sink(pipe));
                assert_eq!(self.pipes[pipe].prepared, option);
                assert_eq!(self.pipes[pipe].out.replace(Out::Prepare), None);
            }
            Action::Listen { pipe } => {
                self.usable(kind.source(pipe));
                assert!(self.connected && self.pipes[pipe].events == Events::Off);
                if self.scope.listens {
                    self.pipes[pipe].events = Events::On;
                }
                self.session.on(Event::Listening(pipe, self.scope.listens));
            }
            Action::Hear { pipe } => {
                self.usable(kind.source(pipe));
                let it = &mut self.pipes[pipe];
                assert!(it.receiving.is_none() && !it.draining && !it.ended);
                if it.gate.open() {
                    assert_eq!(it.events, Events::On, "none will come");
                } else {
                    self.heard(pipe);
                }
            }
            Action::Mute { pipe } => {
                assert!(self.session.end().is_some());
                self.pipes[pipe].gate.shut();
                self.heard(pipe);
            }
            Action::Drain { pipe } => {
                self.asks(pipe);
                let gone = self.pipes[pipe].disconnected;
                assert!(gone, "data may be lost: {self:?}");
                self.pipes[pipe].draining = true;
            }
            Action::Receive { pipe, slot } => {
                self.asks(pipe);
                assert!((slot as usize) < SLOTS);
                assert!(
                    kind != Kind::Relay || self.open[TARGET],
                    "data taken for a target that isn't there: {self:?}"
                );
                let mut owed = self.pipes[pipe].owed.iter();
                assert!(
                    owed.all(|owed| !matches!(owed, Owed::Slot(other, ..) if *other == slot)),
                    "received over what is owed: {self:?}"
                );
                self.pipes[pipe].receiving = Some(slot);
            }
            Action::Send {
                pipe,
                slot,
                offset,
                length,
            } => {
                self.usable(kind.sink(pipe));
                assert_ne!(kind, Kind::Discard);
                let it = &mut self.pipes[pipe];
                let first = it.owed.front().copied();
                assert_eq!(first, Some(Owed::Slot(slot, offset, length)), "{input:?}");
                assert!(length > 0 && offset + length <= self.scope.capacity);
                assert_eq!(it.passing, None);
                assert_eq!(it.out.replace(Out::Send(length)), None);
            }
            Action::Pass { pipe } => {
                self.usable(kind.sink(pipe));
                let it = &mut self.pipes[pipe];
                let Some(Owed::Held(left)) = it.owed.front().copied() else {
                    panic!("nothing retained is owed next: {self:?}");
                };
                assert_eq!((it.out, it.held.front()), (None, Some(&left)));
                assert_eq!(it.passing.replace(left), None);
            }
            Action::Release { pipe } => {
                self.usable(kind.source(pipe));
                let it = &mut self.pipes[pipe];
                let left = it.held.pop_front().expect("something is retained");
                assert_eq!(it.passing, None, "released while it is being sent");
                assert!(left == 0 || self.session.end().is_some(), "data are lost");
                it.gate.released(self.scope.bytes);
            }
            Action::Abort { pipe } => {
                self.usable(kind.sink(pipe));
                assert!(self.session.end().is_some() && self.pipes[pipe].passing.is_some());
                assert_eq!(self.pipes[pipe].out.replace(Out::Abort), None);
            }
            Action::Shut { pipe } => {
                self.usable(kind.sink(pipe));
                let it = &mut self.pipes[pipe];
                assert!(it.ended && it.owed.is_empty() && !it.shut && it.prepared == OPTIONS);
                assert!(it.held.is_empty() && it.passing.is_none());
                assert_eq!(it.out.replace(Out::Shut), None);
            }
            Action::Close { side } => self.closes(side),
            Action::Free => {
                for pipe in &self.pipes {
                    assert!(pipe.receiving.is_none() && !pipe.draining);
                    assert!(pipe.out.is_none() && pipe.passing.is_none());
                }
                assert_eq!(self.open, [false; SIDES], "a socket is left open");
                self.freed = true;
            }
        }
    }

    pub(crate) fn closes(&mut self, side: usize) {
        assert!(self.open[side] && !self.closing[side], "closed twice");
        self.closing[side] = true;
        let end = self.session.end().expect("it has an end");
        if end == End::Finished {
            let mut pipes = self.pipes.iter().take(self.scope.kind.pipes());
            assert!(pipes.all(|pipe| pipe.shut), "finished, and wasn't");
        }
        let from = &self.pipes[side];
        assert!(from.held.is_empty(), "closed with data retained: {self:?}");
        assert!(!from.gate.admits(1, false), "some may still be: {self:?}");
    }

    /// Something will happen to the connection, and to each source that isn't held
    /// up by its sink.
    pub(crate) fn check_goes_on(&self, input: Input) {
        let busy = |pipe: &PipeModel| {
            let asked = pipe.receiving.is_some() || pipe.draining;
            asked || pipe.out.is_some() || pipe.passing.is_some() || pipe.signal
        };
        // After the end was told of, no event comes.
        let hears = |pipe: &PipeModel| pipe.events == Events::On && !pipe.disconnected;
        let goes_on = self.pipes.iter().any(|pipe| busy(pipe) || hears(pipe));
        assert!(
            self.freed || goes_on || self.closing.contains(&true),
            "nothing will ever happen to this connection again: {self:?} after {input:?}"
        );
        let flows = self.started && self.session.end().is_none();
        let all_open = (0..self.scope.kind.sides()).all(|side| self.open[side]);
        if !flows || !all_open {
            return;
        }
        for pipe in self.pipes.iter().take(self.scope.kind.pipes()) {
            assert!(
                pipe.ended || busy(pipe) || hears(pipe),
                "nobody listens to a source: {self:?} after {input:?}"
            );
        }
    }

    /// Who isn't woken for the end of a pending operation has another to wait
    /// for, after which it isn't too late.
    pub(crate) fn check_wanted(&self) {
        let wanted = self.session.wanted();
        for (n, pipe) in self.pipes.iter().enumerate() {
            if pipe.out.is_some() && !wanted.out[n] && !self.freed {
                let connecting = self.pipes[0].out == Some(Out::Connect);
                let hears = pipe.events == Events::On || pipe.signal;
                assert!(
                    pipe.receiving.is_some() || pipe.draining || hears || connecting,
                    "it would sleep for ever: {self:?}"
                );
                assert!(matches!(pipe.out, Some(Out::Send(_) | Out::Prepare)));
                assert_eq!(self.session.end(), None);
                let told = pipe.owed.len() - pipe.untold;
                assert!(
                    told <= usize::from(matches!(pipe.out, Some(Out::Send(_)))),
                    "data wait for an end nobody is woken for: {self:?}"
                );
            }
        }
    }
}
