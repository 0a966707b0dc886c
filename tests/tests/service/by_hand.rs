//! A connection of a TCP service driven by hand, where the order matters.

use std::collections::HashMap;

use super::tcp::{Action, BULK, CLIENT, End, Event, Failure, Gate, Kind, Look, Session, TARGET};

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
        Action::Receive { pipe: 1, slot: 0 },
    ];
    assert_eq!(connected, expected);
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
    hand.tell(Event::Out(0, Ok(0)));
    for _ in 0..2 {
        hand.tell(Event::Out(0, Ok(0)));
    }
    // What is little is received, and more asked for at once.
    let one = hand.tell(Event::In(0, Ok(2)));
    assert!(one.contains(&receive(1)), "{one:?}");
    hand.tell(Event::Out(0, Ok(2)));
    // What is much has the events enabled; one more receive, and more comes by them.
    let listen = hand.tell(Event::In(0, Ok(8)));
    assert!(listen.contains(&Action::Listen { pipe: 0 }), "{listen:?}");
    assert!(listen.contains(&receive(0)), "{listen:?}");
    hand.tell(Event::Listening(0, true));
    hand.tell(Event::Out(0, Ok(8)));
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
    assert_eq!(hand.tell(Event::Look(0, look)), [receive(1)]);
    assert_eq!(hand.tell(Event::Out(0, Ok(3))), [pass]);
    // Of the first list a part, and then the rest.
    assert_eq!(hand.tell(Event::Passed(0, Ok(2))), [pass]);
    assert_eq!(hand.tell(Event::Passed(0, Ok(3))), [release, pass]);
    gate.released(5);
    let on = [Action::Hear { pipe: 0 }];
    assert_eq!(hand.tell(Event::In(0, Ok(8))), on, "behind what is held");
    let last = hand.tell(Event::Passed(0, Ok(6)));
    let (slot, offset, length) = (1, 0, 8);
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
    hand.tell(Event::Out(0, Ok(0)));
    for pipe in [0, 1] {
        for _ in 0..2 {
            hand.tell(Event::Out(pipe, Ok(0)));
        }
        for _ in 0..2 {
            hand.tell(Event::In(pipe, Ok(3)));
            hand.tell(Event::Listening(pipe, true));
            hand.tell(Event::Out(pipe, Ok(3)));
        }
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
