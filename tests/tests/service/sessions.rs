//! A connection of a TCP service, in every state it can get into: echo, discard
//! and relay, against a model of what a provider allows and of what is owed to
//! whom.

use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::model::{Input, Model, PipeModel, Scope};
use super::tcp::{End, Event, Failure, HELD, Kind, PIPES};

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
        comes: 3,
        failures: &[Failure::Other],
        ..Scope::new(Kind::Relay, 1)
    };
    // Events can't be enabled: all is received.
    let deaf = Model::new(Scope {
        listens: false,
        comes: 2,
        ..scope
    });
    assert_eq!(explore_both(deaf), [0, 0]);
    // They can, and both directions have come to where data come by events.
    let began = [
        Event::Start,
        Event::Out(0, Ok(0)),
        Event::In(0, Ok(1)),
        Event::In(1, Ok(1)),
        Event::Out(0, Ok(1)),
        Event::Out(1, Ok(1)),
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
