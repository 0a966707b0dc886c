//! A buffer of a UDP service, in every state it can get into.

use std::collections::{HashSet, VecDeque};

use super::udp::{Datagram, DatagramAction, DatagramEvent, Failure, Fate};

/// A buffer of a UDP service as the provider sees it.
#[derive(Clone, Copy, Debug)]
struct Slot {
    machine: Datagram,
    pending: Option<DatagramAction>,
    paused: bool,
    started: bool,
    stopped: bool,
    retired: bool,
}

impl Slot {
    fn events(&self) -> Vec<DatagramEvent> {
        if self.retired {
            return Vec::new();
        }
        if !self.started {
            return vec![DatagramEvent::Start];
        }
        let mut events = vec![DatagramEvent::Resume];
        if !self.stopped {
            events.push(DatagramEvent::Stop);
        }
        match self.pending {
            Some(DatagramAction::Receive) => events.extend([
                DatagramEvent::Received {
                    length: 5,
                    fate: Fate::Send,
                },
                DatagramEvent::Received {
                    length: 5,
                    fate: Fate::Drop,
                },
                DatagramEvent::Received {
                    length: 5,
                    fate: Fate::Discard,
                },
                DatagramEvent::Failed(Failure::Once),
                DatagramEvent::Failed(Failure::Final),
            ]),
            Some(_) => events.extend([
                DatagramEvent::Sent(5),
                DatagramEvent::Failed(Failure::Once),
                DatagramEvent::Failed(Failure::Final),
            ]),
            None => {}
        }
        events
    }

    fn after(mut self, event: DatagramEvent) -> Self {
        let was_sending = self.machine.is_sending();
        match event {
            DatagramEvent::Start => self.started = true,
            DatagramEvent::Stop => self.stopped = true,
            DatagramEvent::Resume => self.paused &= self.pending.is_some(),
            _ => {
                let ended = self.pending.take().expect("something was pending");
                let send = matches!(ended, DatagramAction::Send { .. });
                assert_eq!(send, was_sending);
            }
        }
        let (action, _) = self.machine.on(event);
        match action {
            DatagramAction::Wait => {}
            DatagramAction::Receive | DatagramAction::Send { .. } => {
                assert!(self.pending.is_none(), "two operations at once: {self:?}");
                assert!(!self.stopped, "a call on a closed socket: {self:?}");
                self.pending = Some(action);
            }
            DatagramAction::Pause => {
                assert!(!self.stopped);
                self.paused = true;
            }
            DatagramAction::Retire => {
                assert!(self.pending.is_none() && !self.retired);
                self.retired = true;
            }
        }
        assert!(
            self.retired || self.pending.is_some() || self.paused,
            "nothing will ever happen to this buffer again: {self:?}"
        );
        self
    }
}

#[test]
fn every_state_of_a_datagram_buffer_keeps_the_rules_and_can_end() {
    let first = Slot {
        machine: Datagram::new(),
        pending: None,
        paused: false,
        started: false,
        stopped: false,
        retired: false,
    };
    let mut seen = HashSet::from([format!("{first:?}")]);
    let mut queue = VecDeque::from([first]);
    let mut has_paused = false;
    while let Some(slot) = queue.pop_front() {
        has_paused |= slot.paused;
        for event in slot.events() {
            let next = slot.after(event);
            if seen.insert(format!("{next:?}")) {
                queue.push_back(next);
            }
        }
        // The service stops; the socket is closed, so what is pending fails.
        let mut end = slot;
        for _ in 0..4 {
            if end.retired {
                break;
            }
            let event = if !end.started {
                DatagramEvent::Start
            } else if !end.stopped {
                DatagramEvent::Stop
            } else {
                DatagramEvent::Failed(Failure::Final)
            };
            end = end.after(event);
        }
        assert!(end.retired, "can't be stopped: {slot:?}");
    }
    assert!(has_paused, "failures in a row make a pause");
}

#[test]
fn a_datagram_is_answered_or_counted_as_dropped() {
    let mut slot = Datagram::new();
    assert_eq!(slot.on(DatagramEvent::Start).0, DatagramAction::Receive);
    let (action, tally) = slot.on(DatagramEvent::Received {
        length: 0,
        fate: Fate::Send,
    });
    assert_eq!(action, DatagramAction::Send { length: 0 });
    assert!(tally.datagram && !tally.dropped);
    assert_eq!(slot.on(DatagramEvent::Sent(0)).0, DatagramAction::Receive);
    let (action, tally) = slot.on(DatagramEvent::Received {
        length: 9,
        fate: Fate::Drop,
    });
    assert_eq!(action, DatagramAction::Receive);
    assert!(tally.datagram && tally.dropped && tally.received == 9);
    let (action, tally) = slot.on(DatagramEvent::Received {
        length: 9,
        fate: Fate::Discard,
    });
    assert_eq!(action, DatagramAction::Receive);
    assert!(tally.datagram && !tally.dropped && tally.received == 9);
}
