//! A connection of a TCP service, in every state it can get into: echo, discard
//! and relay, against a model of what a provider allows and of what is owed to
//! whom.

use std::collections::{HashMap, HashSet, VecDeque};

use super::tcp::{Action, CLIENT, End, Event, Failure, Kind, PIPES, SIDES, SLOTS, Session, TARGET};

/// What the provider has been asked for at a pipe's other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Out {
    Connect,
    Prepare,
    Send(u32),
    Shut,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct PipeModel {
    receiving: Option<u32>,
    out: Option<Out>,
    /// Slots that were received into, in order, with what is left of each.
    owed: VecDeque<(u32, u32, u32)>,
    /// The source has shut its side down.
    ended: bool,
    shut: bool,
    prepared: bool,
}

/// A connection as the provider and the peers see it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Model {
    session: Session,
    kind: Kind,
    capacity: u32,
    pipes: [PipeModel; PIPES],
    open: [bool; SIDES],
    closing: [bool; SIDES],
    started: bool,
    stopped: bool,
    connected: bool,
    freed: bool,
}

impl Model {
    fn new(kind: Kind, capacity: u32) -> Self {
        Self {
            session: Session::new(kind, capacity),
            kind,
            capacity,
            pipes: Default::default(),
            open: [true, false],
            closing: [false; SIDES],
            started: false,
            stopped: false,
            connected: false,
            freed: false,
        }
    }

    fn events(&self) -> Vec<Event> {
        if self.freed {
            return Vec::new();
        }
        if !self.started {
            // The pump gives START in the first step; STOP may come with it,
            // and is then given after it.
            return vec![Event::Start];
        }
        let mut events = Vec::new();
        if !self.stopped {
            events.push(Event::Stop);
        }
        for (n, pipe) in self.pipes.iter().enumerate() {
            if pipe.receiving.is_some() {
                for failure in [Failure::Reset, Failure::TimedOut, Failure::Other] {
                    events.push(Event::In(n, Err(failure)));
                }
                // A provider that lies about lengths must do no harm either.
                events.extend((0..=self.capacity + 1).map(|len| Event::In(n, Ok(len))));
                events.push(Event::In(n, Ok(u32::MAX)));
            }
            if let Some(out) = pipe.out {
                for failure in [Failure::Reset, Failure::TimedOut, Failure::Other] {
                    events.push(Event::Out(n, Err(failure)));
                }
                match out {
                    Out::Send(length) => {
                        events.extend((0..=length + 1).map(|len| Event::Out(n, Ok(len))));
                        events.push(Event::Out(n, Ok(u32::MAX)));
                    }
                    _ => events.push(Event::Out(n, Ok(0))),
                }
            }
        }
        for side in 0..SIDES {
            if self.closing[side] {
                events.push(Event::Closed(side));
            }
        }
        events
    }

    fn after(&self, event: Event) -> Self {
        let mut next = self.clone();
        match event {
            Event::Start => next.started = true,
            Event::Stop => next.stopped = true,
            Event::In(n, result) => next.received(n, result),
            Event::Out(n, result) => next.put_out(n, result),
            Event::Closed(side) => {
                next.closing[side] = false;
                next.open[side] = false;
            }
        }
        next.session.on(event);
        let mut steps = 0;
        while let Some(action) = next.session.next() {
            next.does(action, event);
            steps += 1;
            assert!(steps < 12, "it never ends: {next:?}");
        }
        let pending = next
            .pipes
            .iter()
            .any(|pipe| pipe.receiving.is_some() || pipe.out.is_some());
        assert!(
            next.freed || pending || next.closing.contains(&true),
            "nothing will ever happen to this connection again: {next:?} after {event:?}"
        );
        next.check_wanted();
        next
    }

    fn received(&mut self, n: usize, result: Result<u32, Failure>) {
        let pipe = &mut self.pipes[n];
        let slot = pipe.receiving.take().expect("a receive was pending");
        match result {
            Ok(0) => pipe.ended = true,
            Ok(length) if length <= self.capacity && self.kind != Kind::Discard => {
                pipe.owed.push_back((slot, 0, length));
            }
            _ => {}
        }
    }

    fn put_out(&mut self, n: usize, result: Result<u32, Failure>) {
        let out = self.pipes[n].out.take().expect("something was pending");
        let pipe = &mut self.pipes[n];
        match (out, result) {
            (Out::Connect, Ok(_)) => {
                self.connected = true;
                self.open[TARGET] = true;
            }
            (Out::Prepare, _) => pipe.prepared = true,
            (Out::Send(_), Ok(length)) => {
                let (slot, offset, left) = pipe.owed.pop_front().expect("something was owed");
                if length < left {
                    pipe.owed.push_front((slot, offset + length, left - length));
                }
            }
            (Out::Shut, Ok(_)) => pipe.shut = true,
            _ => {}
        }
    }

    fn usable(&self, side: usize) {
        assert!(self.open[side], "a call on no socket: {self:?}");
        assert!(!self.closing[side], "a call on a closing socket: {self:?}");
    }

    fn does(&mut self, action: Action, event: Event) {
        assert!(!self.freed, "it was freed");
        match action {
            Action::Connect => {
                assert!(self.kind == Kind::Relay && !self.connected);
                assert_eq!(self.pipes[0].out.replace(Out::Connect), None);
            }
            Action::CancelConnect => {
                assert_eq!(self.pipes[0].out, Some(Out::Connect));
                assert!(self.session.end().is_some());
            }
            Action::Prepare { pipe } => {
                self.usable(self.kind.sink(pipe));
                assert!(!self.pipes[pipe].prepared);
                assert_eq!(self.pipes[pipe].out.replace(Out::Prepare), None);
            }
            Action::Receive { pipe, slot } => {
                self.usable(self.kind.source(pipe));
                assert!(slot < SLOTS && !self.pipes[pipe].ended);
                assert!(
                    self.kind != Kind::Relay || self.open[TARGET],
                    "data taken for a target that isn't there: {self:?}"
                );
                let owed = self.pipes[pipe].owed.iter();
                assert!(
                    owed.clone().all(|(other, ..)| *other != slot),
                    "received over what is owed: {self:?}"
                );
                assert_eq!(self.pipes[pipe].receiving.replace(slot), None);
            }
            Action::Send {
                pipe,
                slot,
                offset,
                length,
            } => {
                self.usable(self.kind.sink(pipe));
                assert_ne!(self.kind, Kind::Discard);
                let first = self.pipes[pipe].owed.front().copied();
                assert_eq!(first, Some((slot, offset, length)), "{event:?}");
                assert!(length > 0 && offset + length <= self.capacity);
                assert_eq!(self.pipes[pipe].out.replace(Out::Send(length)), None);
            }
            Action::Shut { pipe } => {
                self.usable(self.kind.sink(pipe));
                let it = &mut self.pipes[pipe];
                assert!(it.ended && it.owed.is_empty() && !it.shut && it.prepared);
                assert_eq!(it.out.replace(Out::Shut), None);
            }
            Action::Close { side } => {
                assert!(self.open[side] && !self.closing[side], "closed twice");
                self.closing[side] = true;
                let end = self.session.end().expect("it has an end");
                if end == End::Finished {
                    let mut pipes = self.pipes.iter().take(self.kind.pipes());
                    assert!(pipes.all(|pipe| pipe.shut), "finished, and wasn't");
                }
            }
            Action::Free => {
                let mut pipes = self.pipes.iter();
                assert!(pipes.all(|pipe| pipe.receiving.is_none() && pipe.out.is_none()));
                assert_eq!(self.open, [false; SIDES], "a socket is left open");
                self.freed = true;
            }
        }
    }

    /// Who isn't woken for the end of a pending operation has another to wait
    /// for, after which it isn't too late.
    fn check_wanted(&self) {
        let wanted = self.session.wanted();
        for (n, pipe) in self.pipes.iter().enumerate() {
            if pipe.out.is_some() && !wanted.out[n] && !self.freed {
                let connecting = self.pipes[0].out == Some(Out::Connect);
                assert!(
                    pipe.receiving.is_some() || connecting,
                    "it would sleep for ever: {self:?}"
                );
                assert!(matches!(pipe.out, Some(Out::Send(_) | Out::Prepare)));
                assert_eq!(self.session.end(), None);
                assert!(
                    pipe.owed.len() <= usize::from(matches!(pipe.out, Some(Out::Send(_)))),
                    "data wait for an end nobody is woken for: {self:?}"
                );
            }
        }
    }
}

fn explore(kind: Kind, capacity: u32) -> HashSet<Model> {
    let first = Model::new(kind, capacity);
    let mut seen = HashSet::from([first.clone()]);
    let mut queue = VecDeque::from([first]);
    while let Some(model) = queue.pop_front() {
        for event in model.events() {
            let next = model.after(event);
            if seen.insert(next.clone()) {
                queue.push_back(next);
            }
        }
    }
    seen
}

fn ends_of(models: &HashSet<Model>) -> HashSet<End> {
    let freed = models.iter().filter(|model| model.freed);
    freed.filter_map(|model| model.session.end()).collect()
}

/// From everywhere, stopping and letting everything end frees it.
fn can_be_stopped(models: &HashSet<Model>) {
    for model in models {
        let mut end = model.clone();
        for _ in 0..12 {
            if end.freed {
                break;
            }
            let events = end.events();
            let wanted = |event: &&Event| match event {
                Event::Start | Event::Stop | Event::Closed(_) => true,
                Event::In(_, result) | Event::Out(_, result) => *result == Err(Failure::Other),
            };
            let stop_first = events.iter().find(|event| **event == Event::Stop);
            let event = stop_first.or_else(|| events.iter().find(wanted));
            end = end.after(*event.expect("something to come"));
        }
        assert!(end.freed, "can't be stopped: {model:?}");
    }
}

#[test]
fn every_state_of_an_echo_keeps_the_rules_and_can_end() {
    let seen = explore(Kind::Echo, 3);
    assert!(seen.len() > 200, "only {} states", seen.len());
    can_be_stopped(&seen);
    let ends = [
        End::Finished,
        End::ResetByClient,
        End::TimedOut,
        End::Failed,
        End::Stopped,
    ];
    assert_eq!(ends_of(&seen), HashSet::from(ends));
}

#[test]
fn every_state_of_a_discard_keeps_the_rules_and_can_end() {
    let seen = explore(Kind::Discard, 3);
    can_be_stopped(&seen);
    assert!(seen.iter().all(|model| model.pipes[0].owed.is_empty()));
    assert!(ends_of(&seen).contains(&End::Finished));
}

#[test]
fn every_state_of_a_relay_keeps_the_rules_and_can_end() {
    let seen = explore(Kind::Relay, 1);
    assert!(seen.len() > 2000, "only {} states", seen.len());
    can_be_stopped(&seen);
    let ends = [
        End::Finished,
        End::TargetRefused,
        End::ResetByClient,
        End::ResetByTarget,
        End::TimedOut,
        End::Failed,
        End::Stopped,
    ];
    assert_eq!(ends_of(&seen), HashSet::from(ends));
}

/// Drives a session by hand, and says what it asks for.
struct Hand(Session);

impl Hand {
    fn tell(&mut self, event: Event) -> Vec<Action> {
        self.0.on(event);
        std::iter::from_fn(|| self.0.next()).collect()
    }
}

#[test]
fn an_echo_receives_while_it_sends() {
    let mut hand = Hand(Session::new(Kind::Echo, 100));
    let receive = |slot| Action::Receive { pipe: 0, slot };
    let send = |slot, offset, length| Action::Send {
        pipe: 0,
        slot,
        offset,
        length,
    };
    let began = hand.tell(Event::Start);
    assert_eq!(began, [Action::Prepare { pipe: 0 }, receive(0)]);
    assert_eq!(hand.tell(Event::Out(0, Ok(0))), []);
    let both = hand.tell(Event::In(0, Ok(100)));
    assert_eq!(both, [send(0, 0, 100), receive(1)]);
    assert!(!hand.0.wanted().out[0], "the end of the send can wait");
    // The next data are there before the send has ended: now it is waited for.
    assert_eq!(hand.tell(Event::In(0, Ok(7))), []);
    assert!(hand.0.wanted().out[0]);
    assert_eq!(hand.tell(Event::Out(0, Ok(60))), [send(0, 60, 40)]);
    let on = hand.tell(Event::Out(0, Ok(40)));
    assert_eq!(on, [send(1, 0, 7), receive(0)]);
    // The peer's FIN overtakes nothing.
    assert_eq!(hand.tell(Event::In(0, Ok(0))), []);
    assert!(hand.0.wanted().out[0]);
    assert_eq!(hand.tell(Event::Out(0, Ok(7))), [Action::Shut { pipe: 0 }]);
    assert_eq!(
        hand.tell(Event::Out(0, Ok(0))),
        [Action::Close { side: CLIENT }]
    );
    assert_eq!(hand.tell(Event::Closed(CLIENT)), [Action::Free]);
    assert_eq!(hand.0.end(), Some(End::Finished));
}

#[test]
fn a_relay_carries_each_half_close_through_and_goes_on_with_the_other_half() {
    let mut hand = Hand(Session::new(Kind::Relay, 8));
    let began = hand.tell(Event::Start);
    assert_eq!(began, [Action::Connect, Action::Prepare { pipe: 1 }]);
    hand.tell(Event::Out(1, Ok(0)));
    let connected = hand.tell(Event::Out(0, Ok(0)));
    let all: HashSet<Action> = connected.into_iter().collect();
    let expected = [
        Action::Prepare { pipe: 0 },
        Action::Receive { pipe: 0, slot: 0 },
        Action::Receive { pipe: 1, slot: 0 },
    ];
    assert_eq!(all, HashSet::from(expected));
    hand.tell(Event::Out(0, Ok(0)));
    // The client has sent all it will.
    assert_eq!(hand.tell(Event::In(0, Ok(0))), [Action::Shut { pipe: 0 }]);
    assert_eq!(hand.tell(Event::Out(0, Ok(0))), []);
    // The target still answers.
    let answer = hand.tell(Event::In(1, Ok(5)));
    assert!(answer.contains(&Action::Send {
        pipe: 1,
        slot: 0,
        offset: 0,
        length: 5
    }));
    hand.tell(Event::Out(1, Ok(5)));
    assert_eq!(hand.tell(Event::In(1, Ok(0))), [Action::Shut { pipe: 1 }]);
    let closes = hand.tell(Event::Out(1, Ok(0)));
    assert_eq!(closes.len(), 2, "{closes:?}");
    assert_eq!(hand.tell(Event::Closed(TARGET)), []);
    assert_eq!(hand.tell(Event::Closed(CLIENT)), [Action::Free]);
    assert_eq!(hand.0.end(), Some(End::Finished));
}

#[test]
fn a_connection_says_why_it_ended() {
    let mut ends = HashMap::new();
    let cases = [
        ("refused", Event::Out(0, Err(Failure::Reset))),
        ("unreachable", Event::Out(0, Err(Failure::TimedOut))),
        ("stopped", Event::Stop),
    ];
    for (name, event) in cases {
        let mut hand = Hand(Session::new(Kind::Relay, 8));
        hand.tell(Event::Start);
        let actions = hand.tell(event);
        let closes_client = actions.contains(&Action::Close { side: CLIENT });
        assert!(closes_client, "{name}: {actions:?}");
        ends.insert(name, hand.0.end());
    }
    assert_eq!(ends["refused"], Some(End::TargetRefused));
    assert_eq!(ends["unreachable"], Some(End::TargetRefused));
    assert_eq!(ends["stopped"], Some(End::Stopped));
    // A target that comes after the stop is closed as well.
    let mut hand = Hand(Session::new(Kind::Relay, 8));
    hand.tell(Event::Start);
    let stop = hand.tell(Event::Stop);
    assert!(stop.contains(&Action::CancelConnect));
    hand.tell(Event::Out(1, Err(Failure::Other)));
    hand.tell(Event::Closed(CLIENT));
    assert_eq!(
        hand.tell(Event::Out(0, Ok(0))),
        [Action::Close { side: TARGET }]
    );
    assert_eq!(hand.tell(Event::Closed(TARGET)), [Action::Free]);
}
