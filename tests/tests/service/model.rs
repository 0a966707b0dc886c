//! A connection as the provider and the peers see it, and what may happen to it
//! next.

use std::collections::VecDeque;

use super::tcp::{Event, Failure, Gate, Kind, Look, PIPES, SIDES, Session};

/// What the provider has been asked for at a pipe's other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Out {
    Connect,
    Prepare,
    Send(u32),
    Shut,
    Abort,
}

/// What a pipe owes to its sink, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Owed {
    /// A slot, from where, and what is left of it.
    Slot(u32, u32, u32),
    /// What is left of something retained.
    Held(u32),
}

/// What the events of a source may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Events {
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
pub(crate) struct PipeModel {
    pub(crate) receiving: Option<u32>,
    pub(crate) draining: bool,
    pub(crate) out: Option<Out>,
    /// What is being passed on of something retained.
    pub(crate) passing: Option<u32>,
    /// What came, in order.
    pub(crate) owed: VecDeque<Owed>,
    /// What is retained and not released, in order: what is left of each to send.
    pub(crate) held: VecDeque<u32>,
    /// Those of them that the step hasn't been told of.
    pub(crate) untold: usize,
    pub(crate) gate: Gate<()>,
    /// The step has been signalled that an event has come.
    pub(crate) signal: bool,
    pub(crate) events: Events,
    pub(crate) disconnected: bool,
    /// How often data may still come.
    pub(crate) left: usize,
    /// The source has shut its side down.
    pub(crate) ended: bool,
    pub(crate) shut: bool,
    /// Options that have been set.
    pub(crate) prepared: usize,
}

impl PipeModel {
    pub(crate) fn comes(&mut self) {
        if self.left < usize::MAX {
            self.left -= 1;
        }
    }
}

/// What there is to be explored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Scope {
    pub(crate) kind: Kind,
    pub(crate) capacity: u32,
    /// Most that events offer beyond what is retained already.
    pub(crate) held: usize,
    /// Bytes of what they offer.
    pub(crate) bytes: u32,
    /// Bytes that are much.
    pub(crate) bulk: u32,
    /// Events can be enabled.
    pub(crate) listens: bool,
    /// The target says nothing.
    pub(crate) silent: bool,
    pub(crate) failures: &'static [Failure],
    /// Setting options ends at once.
    pub(crate) quick: bool,
    /// The service may be stopped.
    pub(crate) stops: bool,
    /// How often data come to each pipe, at most.
    pub(crate) comes: usize,
    /// The provider may say that more was moved than it was given, or nothing.
    pub(crate) lies: bool,
}

impl Scope {
    pub(crate) const fn new(kind: Kind, capacity: u32) -> Self {
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
pub(crate) enum Input {
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
pub(crate) struct Model {
    pub(crate) session: Session,
    pub(crate) scope: Scope,
    pub(crate) pipes: [PipeModel; PIPES],
    pub(crate) open: [bool; SIDES],
    pub(crate) closing: [bool; SIDES],
    pub(crate) started: bool,
    pub(crate) stopped: bool,
    pub(crate) connected: bool,
    pub(crate) freed: bool,
}

impl Model {
    pub(crate) fn new(scope: Scope) -> Self {
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

    pub(crate) fn inputs(&self) -> Vec<Input> {
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
            inputs.push(Input::Disconnect(n, Look::End));
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

    pub(crate) fn events(&self) -> Vec<Event> {
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
    pub(crate) fn lengths(&self, all: u32) -> impl Iterator<Item = u32> {
        let (first, last) = match self.scope.lies {
            true => (0, all + 1),
            false => (1, all),
        };
        (first..=last).chain(self.scope.lies.then_some(u32::MAX))
    }

    pub(crate) fn after(&self, input: Input) -> Self {
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
    pub(crate) fn at_once(&self) -> Option<usize> {
        let quick = |n: &usize| match self.pipes[*n].out {
            Some(Out::Prepare) => self.scope.quick,
            Some(Out::Shut) => self.scope.silent && *n == 1,
            _ => false,
        };
        (0..PIPES).find(quick)
    }

    /// What a receive event does, as the driver's does.
    pub(crate) fn data(&mut self, n: usize, hasty: bool) {
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
    pub(crate) fn heard(&mut self, n: usize) {
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
}
