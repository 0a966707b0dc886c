//! A connection of a TCP service, in every state it can get into: echo, discard
//! and relay, against a model of what a provider allows and of what is owed to
//! whom.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::tcp::{
    Action, BULK, CLIENT, End, Event, Failure, Gate, HELD, Kind, Look, OPTIONS, PIPES, SIDES,
    SLOTS, Session, TARGET,
};

/// What the provider has been asked for at a pipe's other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Out {
    Connect,
    Prepare,
    Send(u32),
    Shut,
    Abort,
}

/// What a pipe owes to its sink, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Owed {
    /// A slot, from where, and what is left of it.
    Slot(u32, u32, u32),
    /// What is left of something retained.
    Held(u32),
}

/// What the events of a source may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Events {
    /// Not enabled.
    Off,
    /// They may come.
    On,
    /// One has been refused: none comes before a receive has been made and has
    /// ended.
    Paused,
    /// As before, and that receive is pending.
    Resuming,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct PipeModel {
    receiving: Option<u32>,
    draining: bool,
    out: Option<Out>,
    /// What is being passed on of something retained.
    passing: Option<u32>,
    /// What came, in order.
    owed: VecDeque<Owed>,
    /// What is retained and not released, in order: what is left of each to send.
    held: VecDeque<u32>,
    /// Those of them that the step hasn't been told of.
    untold: usize,
    gate: Gate<()>,
    /// The step has been signalled that an event has come.
    signal: bool,
    events: Events,
    disconnected: bool,
    /// How often data may still come.
    left: usize,
    /// The source has shut its side down.
    ended: bool,
    shut: bool,
    /// Options that have been set.
    prepared: usize,
}

impl PipeModel {
    fn comes(&mut self) {
        if self.left < usize::MAX {
            self.left -= 1;
        }
    }
}

/// What there is to be explored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Scope {
    kind: Kind,
    capacity: u32,
    /// Most that events offer beyond what is retained already.
    held: usize,
    /// Bytes of what they offer.
    bytes: u32,
    /// Bytes that are much.
    bulk: u32,
    /// The target's events can be enabled.
    listens: bool,
    /// The target says nothing.
    silent: bool,
    failures: &'static [Failure],
    /// Setting options ends at once.
    quick: bool,
    /// The service may be stopped.
    stops: bool,
    /// How often data come to each pipe, at most.
    comes: usize,
    /// The provider may say that more was moved than it was given, or nothing.
    lies: bool,
}

impl Scope {
    const fn new(kind: Kind, capacity: u32) -> Self {
        Self {
            kind,
            capacity,
            held: 4,
            bytes: 2,
            bulk: 1,
            listens: true,
            silent: false,
            failures: &[Failure::Reset, Failure::TimedOut, Failure::Other],
            quick: false,
            stops: true,
            comes: usize::MAX,
            lies: true,
        }
    }
}

/// What may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Input {
    Told(Event),
    /// The receive event of a pipe's source comes.
    Data {
        pipe: usize,
        hasty: bool,
    },
    /// Its disconnect event does.
    Disconnect(usize, Look),
    /// The step has the signal that one has come.
    Heard(usize),
}

/// A connection as the provider and the peers see it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Model {
    session: Session,
    scope: Scope,
    pipes: [PipeModel; PIPES],
    open: [bool; SIDES],
    closing: [bool; SIDES],
    started: bool,
    stopped: bool,
    connected: bool,
    freed: bool,
}

impl Model {
    fn new(scope: Scope) -> Self {
        let pipe = |n: usize| PipeModel {
            receiving: None,
            draining: false,
            out: None,
            passing: None,
            owed: VecDeque::new(),
            held: VecDeque::new(),
            untold: 0,
            gate: Gate::new(scope.bulk),
            signal: false,
            // Those of what a listener accepts are on from the first moment.
            events: match n {
                0 if scope.kind.hears() => Events::On,
                _ => Events::Off,
            },
            disconnected: false,
            left: scope.comes,
            ended: false,
            shut: false,
            prepared: 0,
        };
        Self {
            session: Session::new(scope.kind, scope.capacity, scope.bulk),
            scope,
            pipes: [pipe(0), pipe(1)],
            open: [true, false],
            closing: [false; SIDES],
            started: false,
            stopped: false,
            connected: false,
            freed: false,
        }
    }

    fn inputs(&self) -> Vec<Input> {
        let mut inputs: Vec<Input> = self.events().into_iter().map(Input::Told).collect();
        if self.freed {
            return inputs;
        }
        for (n, pipe) in self.pipes.iter().enumerate() {
            if pipe.signal && self.started {
                inputs.push(Input::Heard(n));
            }
            let side = self.scope.kind.source(n);
            let silent = n == 1 && self.scope.silent;
            let comes = self.open[side] && !self.closing[side] && !pipe.disconnected;
            if !comes || silent || pipe.events == Events::Off {
                continue;
            }
            inputs.push(Input::Disconnect(n, Look::More));
            inputs.push(Input::Disconnect(n, Look::Gone));
            // It may come beside a receive, too.
            let more = pipe.left > 0 && pipe.held.len() <= self.scope.held;
            if pipe.events == Events::On && more {
                inputs.push(Input::Data {
                    pipe: n,
                    hasty: false,
                });
                inputs.push(Input::Data {
                    pipe: n,
                    hasty: true,
                });
            }
        }
        inputs
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
        if !self.stopped && self.scope.stops {
            events.push(Event::Stop);
        }
        for (n, pipe) in self.pipes.iter().enumerate() {
            let silent = n == 1 && self.scope.silent;
            // When it ends by a reset or a stop, what it has pending fails.
            let fails = match silent && self.session.end().is_none() {
                true => &[],
                false => self.scope.failures,
            };
            let fails = fails.iter();
            if pipe.receiving.is_some() {
                events.extend(fails.clone().map(|failure| Event::In(n, Err(*failure))));
                if silent || pipe.left == 0 {
                    events.push(Event::In(n, Ok(0)));
                } else {
                    // A provider that lies about lengths must do no harm either.
                    let most = self.scope.capacity + u32::from(self.scope.lies);
                    events.extend((0..=most).map(|len| Event::In(n, Ok(len))));
                    if self.scope.lies {
                        events.push(Event::In(n, Ok(u32::MAX)));
                    }
                }
            }
            if pipe.draining {
                events.extend(fails.clone().map(|failure| Event::In(n, Err(*failure))));
                events.push(Event::In(n, Ok(0)));
            }
            if let Some(left) = pipe.passing {
                events.extend(fails.clone().map(|failure| Event::Passed(n, Err(*failure))));
                let lengths = self.lengths(left);
                events.extend(lengths.map(|len| Event::Passed(n, Ok(len))));
            }
            if let Some(out) = pipe.out {
                events.extend(fails.clone().map(|failure| Event::Out(n, Err(*failure))));
                match out {
                    Out::Send(length) => {
                        let lengths = self.lengths(length);
                        events.extend(lengths.map(|len| Event::Out(n, Ok(len))));
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

    /// What a send of so many bytes may say it has sent.
    fn lengths(&self, all: u32) -> impl Iterator<Item = u32> {
        let (first, last) = match self.scope.lies {
            true => (0, all + 1),
            false => (1, all),
        };
        (first..=last).chain(self.scope.lies.then_some(u32::MAX))
    }

    fn after(&self, input: Input) -> Self {
        let mut next = self.clone();
        match input {
            Input::Data { pipe, hasty } => {
                next.data(pipe, hasty);
                return next;
            }
            Input::Disconnect(n, look) => {
                let pipe = &mut next.pipes[n];
                pipe.disconnected = true;
                pipe.signal |= pipe.gate.close(look);
                return next;
            }
            Input::Heard(n) => {
                next.pipes[n].signal = false;
                next.heard(n);
            }
            Input::Told(event) => {
                match event {
                    Event::Start => next.started = true,
                    Event::Stop => next.stopped = true,
                    Event::In(n, result) => next.received(n, result),
                    Event::Out(n, result) => next.put_out(n, result),
                    Event::Passed(n, result) => next.passed(n, result),
                    Event::Closed(side) => {
                        next.closing[side] = false;
                        next.open[side] = false;
                    }
                    Event::Listening(..) | Event::Held(..) | Event::Look(..) => {
                        unreachable!("told by the model itself")
                    }
                }
                next.session.on(event);
            }
        }
        let mut steps = 0;
        loop {
            while let Some(action) = next.session.next() {
                next.does(action, input);
                steps += 1;
                assert!(steps < 24, "it never ends: {next:?}");
            }
            let Some(event) = next.at_once() else { break };
            next.put_out(event, Ok(0));
            next.session.on(Event::Out(event, Ok(0)));
        }
        next.check_goes_on(input);
        next.check_wanted();
        next
    }

    /// A pipe whose pending operation ends at once.
    fn at_once(&self) -> Option<usize> {
        let quick = |n: &usize| match self.pipes[*n].out {
            Some(Out::Prepare) => self.scope.quick,
            Some(Out::Shut) => self.scope.silent && *n == 1,
            _ => false,
        };
        (0..PIPES).find(quick)
    }

    /// What a receive event does, as the driver's does.
    fn data(&mut self, n: usize, hasty: bool) {
        let bytes = self.scope.bytes;
        let pipe = &mut self.pipes[n];
        if self.scope.kind == Kind::Discard {
            return;
        }
        if pipe.gate.admits(bytes, hasty) {
            assert!(!hasty, "retained what should not be");
            assert_eq!(pipe.receiving, None, "out of order");
            pipe.gate.keep((), bytes);
            pipe.owed.push_back(Owed::Held(bytes));
            pipe.held.push_back(bytes);
            pipe.untold += 1;
            pipe.signal = true;
            pipe.comes();
        } else {
            pipe.signal |= pipe.gate.close(Look::More);
            pipe.events = Events::Paused;
        }
    }

    /// What the driver's step does with what events have left.
    fn heard(&mut self, n: usize) {
        let pipe = &mut self.pipes[n];
        let (new, look) = pipe.gate.take();
        for (_, bytes) in new.into_iter().flatten() {
            pipe.untold -= 1;
            self.session.on(Event::Held(n, bytes));
        }
        assert_eq!(self.pipes[n].untold, 0);
        if look != Look::Not {
            self.session.on(Event::Look(n, look));
        }
    }

    fn received(&mut self, n: usize, result: Result<u32, Failure>) {
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

    fn passed(&mut self, n: usize, result: Result<u32, Failure>) {
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

    fn put_out(&mut self, n: usize, result: Result<u32, Failure>) {
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

    fn usable(&self, side: usize) {
        assert!(self.open[side], "a call on no socket: {self:?}");
        assert!(!self.closing[side], "a call on a closing socket: {self:?}");
    }

    /// A receive of some kind is made.
    fn asks(&mut self, n: usize) {
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

    fn does(&mut self, action: Action, input: Input) {
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

    fn closes(&mut self, side: usize) {
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
    fn check_goes_on(&self, input: Input) {
        let busy = |pipe: &PipeModel| {
            let asked = pipe.receiving.is_some() || pipe.draining;
            asked || pipe.out.is_some() || pipe.passing.is_some() || pipe.signal
        };
        let hears = |pipe: &PipeModel| pipe.events == Events::On;
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
    fn check_wanted(&self) {
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

/// Every state that can be reached, one after the other; how many there are, and
/// the ends of those that have been freed.
fn explore(first: Model, mut each: impl FnMut(&Model)) -> (usize, HashSet<End>) {
    let hash = |model: &Model| {
        let mut hasher = DefaultHasher::new();
        model.hash(&mut hasher);
        hasher.finish()
    };
    // There are many, so only what tells them apart is kept of those that are done.
    let mut seen = HashSet::from([hash(&first)]);
    let mut ends = HashSet::new();
    let mut queue = VecDeque::from([first]);
    while let Some(model) = queue.pop_front() {
        for input in model.inputs() {
            let next = model.after(input);
            if seen.insert(hash(&next)) {
                queue.push_back(next);
            }
        }
        can_be_stopped(&model);
        each(&model);
        if model.freed {
            ends.extend(model.session.end());
        }
    }
    (seen.len(), ends)
}

/// From here, stopping and letting everything end frees it.
fn can_be_stopped(model: &Model) {
    let mut end = model.clone();
    end.scope.stops = true;
    for _ in 0..20 {
        if end.freed {
            break;
        }
        let inputs = end.inputs();
        let wanted = |input: &&Input| match input {
            Input::Told(Event::Start | Event::Stop | Event::Closed(_)) => true,
            Input::Told(
                Event::In(_, result) | Event::Out(_, result) | Event::Passed(_, result),
            ) => *result == Err(Failure::Other),
            _ => false,
        };
        let stop_first = inputs
            .iter()
            .find(|input| **input == Input::Told(Event::Stop));
        let input = stop_first.or_else(|| inputs.iter().find(wanted));
        end = end.after(*input.expect("something to come"));
    }
    assert!(end.freed, "can't be stopped: {model:?}");
}

#[test]
fn every_state_of_an_echo_keeps_the_rules_and_can_end() {
    let (states, ends) = explore(Model::new(Scope::new(Kind::Echo, 3)), |_| {});
    assert!(states > 200, "only {states} states");
    let all = [
        End::Finished,
        End::ResetByClient,
        End::TimedOut,
        End::Failed,
        End::Stopped,
    ];
    assert_eq!(ends, HashSet::from(all));
}

#[test]
fn every_state_of_a_discard_keeps_the_rules_and_can_end() {
    let nothing = |pipe: &PipeModel| pipe.owed.is_empty() && pipe.held.is_empty();
    let (_, ends) = explore(Model::new(Scope::new(Kind::Discard, 0)), |model| {
        assert!(model.pipes.iter().all(nothing));
    });
    for end in [End::Finished, End::ResetByClient, End::TimedOut] {
        assert!(ends.contains(&end), "{end:?}");
    }
}

/// From here on all that may happen in both directions at once, of which each
/// gets something more as often as its scope says.
fn explore_both(first: Model) -> [usize; PIPES] {
    let mut most = [0; PIPES];
    let (states, _) = explore(first, |model| {
        for (most, pipe) in most.iter_mut().zip(&model.pipes) {
            *most = pipe.held.len().max(*most);
        }
    });
    assert!(states > 2000, "only {states} states");
    most
}

#[test]
fn every_state_of_a_relay_of_both_directions_keeps_the_rules_and_can_end() {
    let scope = Scope {
        held: 0,
        bytes: 1,
        quick: true,
        stops: false,
        lies: false,
        comes: 2,
        failures: &[Failure::Other],
        ..Scope::new(Kind::Relay, 1)
    };
    // The target's events can't be enabled: it is received from.
    let deaf = Model::new(Scope {
        listens: false,
        ..scope
    });
    assert_eq!(explore_both(deaf), [1, 0]);
    // They can, and both directions have come to where data come by events.
    let began = [
        Event::Start,
        Event::Out(0, Ok(0)),
        Event::In(0, Ok(1)),
        Event::In(1, Ok(1)),
        Event::Out(0, Ok(1)),
        Event::Out(1, Ok(1)),
    ];
    let first = Model::new(scope);
    let hearing = began
        .into_iter()
        .fold(first, |model, event| model.after(Input::Told(event)));
    assert_eq!(explore_both(hearing), [1, 1]);
}

#[test]
fn every_state_of_a_relay_of_one_direction_keeps_the_rules_and_can_end() {
    let mut most = 0;
    let scope = Scope {
        silent: true,
        quick: true,
        stops: false,
        bytes: 2,
        bulk: 2,
        lies: false,
        failures: &[Failure::Other],
        ..Scope::new(Kind::Relay, 2)
    };
    let (states, ends) = explore(Model::new(scope), |model| {
        most = model.pipes[0].held.len().max(most);
    });
    assert!(states > 2000, "only {states} states");
    assert_eq!(most, HELD, "more is refused");
    for end in [End::Finished, End::TargetRefused, End::ResetByClient] {
        assert!(ends.contains(&end), "{end:?}");
    }
}

/// Drives a session by hand, and says what it asks for.
struct Hand(Session);

fn prepare(pipe: usize, option: usize) -> Action {
    Action::Prepare { pipe, option }
}

impl Hand {
    fn tell(&mut self, event: Event) -> Vec<Action> {
        self.0.on(event);
        std::iter::from_fn(|| self.0.next()).collect()
    }
}

#[test]
fn an_echo_receives_while_it_sends() {
    let mut hand = Hand(Session::new(Kind::Echo, 100, 1));
    let receive = |slot| Action::Receive { pipe: 0, slot };
    let send = |slot, offset, length| Action::Send {
        pipe: 0,
        slot,
        offset,
        length,
    };
    let began = hand.tell(Event::Start);
    assert_eq!(began, [prepare(0, 0), receive(0)]);
    assert_eq!(hand.tell(Event::Out(0, Ok(0))), [prepare(0, 1)]);
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
    let mut hand = Hand(Session::new(Kind::Relay, 8, 3));
    let began = hand.tell(Event::Start);
    assert_eq!(began, [Action::Connect, prepare(1, 0)]);
    assert_eq!(hand.tell(Event::Out(1, Ok(0))), [prepare(1, 1)]);
    hand.tell(Event::Out(1, Ok(0)));
    let connected = hand.tell(Event::Out(0, Ok(0)));
    let expected = [
        prepare(0, 0),
        Action::Receive { pipe: 0, slot: 0 },
        Action::Listen { pipe: 1 },
        Action::Receive { pipe: 1, slot: 0 },
    ];
    assert_eq!(connected, expected);
    assert_eq!(hand.tell(Event::Listening(1, false)), []);
    assert_eq!(hand.tell(Event::Out(0, Ok(0))), [prepare(0, 1)]);
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
    let expected = [
        Action::Mute { pipe: 0 },
        Action::Mute { pipe: 1 },
        Action::Close { side: CLIENT },
        Action::Close { side: TARGET },
    ];
    assert_eq!(closes, expected);
    assert_eq!(hand.tell(Event::Closed(TARGET)), []);
    assert_eq!(hand.tell(Event::Closed(CLIENT)), [Action::Free]);
    assert_eq!(hand.0.end(), Some(End::Finished));
}

#[test]
fn what_a_relay_retains_is_passed_on_given_back_and_never_overtaken() {
    let mut hand = Hand(Session::new(Kind::Relay, 8, 3));
    let (pass, release) = (Action::Pass { pipe: 0 }, Action::Release { pipe: 0 });
    let receive = |slot| Action::Receive { pipe: 0, slot };
    let mut gate = Gate::new(3);
    assert!(!gate.admits(5, false), "it is closed at first");
    let mut real = Gate::<()>::new(BULK);
    assert!(real.open() && real.admits(BULK, false) && !real.admits(BULK - 1, false));
    hand.tell(Event::Start);
    hand.tell(Event::Listening(1, true));
    hand.tell(Event::Out(0, Ok(0)));
    for _ in 0..2 {
        hand.tell(Event::Out(0, Ok(0)));
    }
    // What is little is received, and more asked for at once.
    let one = hand.tell(Event::In(0, Ok(2)));
    assert!(one.contains(&receive(1)), "{one:?}");
    hand.tell(Event::Out(0, Ok(2)));
    // What is much, too, and more comes by event.
    let all = hand.tell(Event::In(0, Ok(3)));
    assert!(all.contains(&Action::Hear { pipe: 0 }), "{all:?}");
    assert!(gate.open());
    for (bytes, data) in [(5, 'a'), (6, 'b')] {
        assert!(gate.admits(bytes, false) && !gate.admits(bytes, true));
        gate.keep(data, bytes);
    }
    assert!(!gate.admits(70_000, false), "more than may be held");
    assert!(gate.close(Look::More) && !gate.close(Look::More));
    assert!(
        !gate.admits(1, false),
        "that would overtake what was refused"
    );
    let (new, look) = gate.take();
    assert_eq!(new[..3], [Some(('a', 5)), Some(('b', 6)), None]);
    assert_eq!((look, gate.open()), (Look::More, true));
    // While the slot is being sent, both wait, and the refused is asked for.
    hand.tell(Event::Held(0, 5));
    hand.tell(Event::Held(0, 6));
    assert_eq!(hand.tell(Event::Look(0, look)), [receive(0)]);
    assert_eq!(hand.tell(Event::Out(0, Ok(3))), [pass]);
    // Of the first list a part, and then the rest.
    assert_eq!(hand.tell(Event::Passed(0, Ok(2))), [pass]);
    assert_eq!(hand.tell(Event::Passed(0, Ok(3))), [release, pass]);
    gate.released(5);
    let on = [Action::Hear { pipe: 0 }];
    assert_eq!(hand.tell(Event::In(0, Ok(8))), on, "behind what is held");
    let last = hand.tell(Event::Passed(0, Ok(6)));
    let (slot, offset, length) = (0, 0, 8);
    let send = Action::Send {
        pipe: 0,
        slot,
        offset,
        length,
    };
    assert_eq!(last, [release, send]);
}

#[test]
fn two_peers_that_do_not_read_do_not_keep_a_relay_from_ending() {
    let mut hand = Hand(Session::new(Kind::Relay, 8, 3));
    hand.tell(Event::Start);
    for event in [Event::Out(0, Ok(0)), Event::Listening(1, true)] {
        hand.tell(event);
    }
    for pipe in [0, 1] {
        for _ in 0..2 {
            hand.tell(Event::Out(pipe, Ok(0)));
        }
        hand.tell(Event::In(pipe, Ok(3)));
        hand.tell(Event::Out(pipe, Ok(3)));
        hand.tell(Event::Held(pipe, 4));
    }
    let ends = hand.tell(Event::Stop);
    let expected = [
        Action::Mute { pipe: 0 },
        Action::Abort { pipe: 0 },
        Action::Mute { pipe: 1 },
        Action::Abort { pipe: 1 },
    ];
    assert_eq!(ends, expected, "nothing is closed that data came from");
    assert_eq!(hand.tell(Event::Out(0, Ok(0))), []);
    assert_eq!(hand.tell(Event::Out(1, Ok(0))), []);
    let given_back = hand.tell(Event::Passed(0, Err(Failure::Other)));
    let release = |pipe| Action::Release { pipe };
    assert_eq!(given_back, [release(0), Action::Close { side: CLIENT }]);
    let given_back = hand.tell(Event::Passed(1, Err(Failure::Other)));
    assert_eq!(given_back, [release(1), Action::Close { side: TARGET }]);
    hand.tell(Event::Closed(CLIENT));
    assert_eq!(hand.tell(Event::Closed(TARGET)), [Action::Free]);
    assert_eq!(hand.0.end(), Some(End::Stopped));
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
        let mut hand = Hand(Session::new(Kind::Relay, 8, 3));
        hand.tell(Event::Start);
        let actions = hand.tell(event);
        let closes_client = actions.contains(&Action::Close { side: CLIENT });
        assert!(closes_client, "{name}: {actions:?}");
        ends.insert(name, hand.0.end());
    }
    assert_eq!(ends["refused"], Some(End::TargetRefused));
    assert_eq!(ends["unreachable"], Some(End::TargetRefused));
    assert_eq!(ends["stopped"], Some(End::Stopped));
    let cases = [
        (0, Failure::Reset, End::ResetByClient),
        (1, Failure::Reset, End::ResetByTarget),
        (0, Failure::TimedOut, End::TimedOut),
        (1, Failure::Other, End::Failed),
    ];
    for (pipe, failure, end) in cases {
        let mut hand = Hand(Session::new(Kind::Relay, 8, 3));
        hand.tell(Event::Start);
        hand.tell(Event::Out(0, Ok(0)));
        hand.tell(Event::In(pipe, Err(failure)));
        assert_eq!(hand.0.end(), Some(end));
    }
    // A target that comes after the stop is closed as well.
    let mut hand = Hand(Session::new(Kind::Relay, 8, 3));
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
