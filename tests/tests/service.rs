//! The parts of the driver's services that know nothing of the kernel, on any
//! host: the table of services, their health, the list of connections, and every
//! reachable state of the two echo machines against a model of a socket.

use std::collections::{HashMap, HashSet, VecDeque};

#[path = "../../driver/src/service/health.rs"]
mod health;
#[path = "../../driver/src/service/echo/list.rs"]
mod list;
#[path = "../../driver/src/service/echo/state.rs"]
mod state;
#[path = "../../driver/src/service/table.rs"]
mod table;

use health::Health;
use list::{Linked, Links, List};
use state::{
    Datagram, DatagramAction, DatagramEvent, Failure, Stream, StreamAction, StreamEvent, Tally,
};
use table::{NoPlace, Table};
use weir_abi::{ServiceKind, ServiceSpec, Transport, status};

/// Small, so that every split of a send is tried.
const CAPACITY: u32 = 3;

/// A connection as the provider sees it.
#[derive(Clone, Copy, Debug)]
struct Model {
    machine: Stream,
    transfer: Option<StreamAction>,
    close_pending: bool,
    closed: bool,
    started: bool,
    stopped: bool,
    freed: bool,
    /// Received and not yet sent.
    owed: u32,
}

impl Model {
    fn new() -> Self {
        Self {
            machine: Stream::new(CAPACITY),
            transfer: None,
            close_pending: false,
            closed: false,
            started: false,
            stopped: false,
            freed: false,
            owed: 0,
        }
    }

    /// What the provider or the service may do next.
    fn events(&self) -> Vec<StreamEvent> {
        let mut events = Vec::new();
        if self.freed {
            return events;
        }
        if !self.started {
            // The pump gives START in the first step; STOP may come with it,
            // and is then given after it.
            return vec![StreamEvent::Start];
        }
        if !self.stopped {
            events.push(StreamEvent::Stop);
        }
        if let Some(action) = self.transfer {
            events.push(StreamEvent::Ended(Err(Failure::Final)));
            if !self.close_pending {
                let most = match action {
                    StreamAction::Receive => CAPACITY,
                    StreamAction::Send { length, .. } => length,
                    _ => 0,
                };
                events.extend((0..=most).map(|n| StreamEvent::Ended(Ok(n))));
                // A provider that lies about lengths must not do harm either.
                events.push(StreamEvent::Ended(Ok(most + 1)));
                events.push(StreamEvent::Ended(Ok(u32::MAX)));
            }
        }
        if self.close_pending {
            events.push(StreamEvent::Closed);
        }
        events
    }

    fn after(mut self, event: StreamEvent) -> Self {
        match event {
            StreamEvent::Start => self.started = true,
            StreamEvent::Stop => self.stopped = true,
            StreamEvent::Ended(_) => {
                assert!(self.transfer.take().is_some());
            }
            StreamEvent::Closed => {
                self.close_pending = false;
                self.closed = true;
            }
        }
        let (action, tally) = self.machine.on(event);
        self.owed += tally.received;
        self.owed = self
            .owed
            .checked_sub(tally.sent)
            .unwrap_or_else(|| panic!("sent more than was received: {self:?} on {event:?}"));
        match action {
            StreamAction::Wait => {}
            StreamAction::Receive | StreamAction::Send { .. } | StreamAction::Disconnect => {
                assert!(self.transfer.is_none(), "two transfers at once: {self:?}");
                assert!(
                    !self.close_pending && !self.closed,
                    "a call on a closing socket: {self:?}"
                );
                match action {
                    StreamAction::Receive | StreamAction::Disconnect => {
                        assert_eq!(self.owed, 0, "received before all was sent back");
                    }
                    StreamAction::Send { offset, length } => {
                        assert_eq!(length, self.owed);
                        assert!(length > 0 && offset + length <= CAPACITY);
                    }
                    _ => {}
                }
                self.transfer = Some(action);
            }
            StreamAction::Close => {
                assert!(!self.close_pending && !self.closed, "closed twice");
                self.close_pending = true;
            }
            StreamAction::Free => {
                assert!(self.transfer.is_none() && self.closed && !self.freed);
                self.freed = true;
            }
        }
        assert!(
            self.freed || self.transfer.is_some() || self.close_pending,
            "nothing will ever happen to this connection again: {self:?}"
        );
        self
    }
}

#[test]
fn every_state_of_a_connection_keeps_the_rules_and_can_end() {
    let first = Model::new();
    let mut seen = HashMap::from([(format!("{first:?}"), first)]);
    let mut queue = VecDeque::from([first]);
    while let Some(model) = queue.pop_front() {
        for event in model.events() {
            let next = model.after(event);
            if seen.insert(format!("{next:?}"), next).is_none() {
                queue.push_back(next);
            }
        }
    }
    assert!(seen.len() > 30, "only {} states", seen.len());
    // From everywhere, stopping and letting everything end frees it.
    for model in seen.into_values() {
        let mut model = model;
        for _ in 0..6 {
            if model.freed {
                break;
            }
            let event = if !model.started {
                StreamEvent::Start
            } else if !model.stopped {
                StreamEvent::Stop
            } else if model.transfer.is_some() {
                StreamEvent::Ended(Err(Failure::Final))
            } else {
                StreamEvent::Closed
            };
            model = model.after(event);
        }
        assert!(model.freed, "can't be stopped: {model:?}");
    }
}

#[test]
fn a_connection_echoes_all_of_a_receive_in_as_many_sends_as_it_takes() {
    let mut machine = Stream::new(100);
    let mut on = |event| machine.on(event);
    assert_eq!(on(StreamEvent::Start).0, StreamAction::Receive);
    let (action, tally) = on(StreamEvent::Ended(Ok(100)));
    let whole = StreamAction::Send {
        offset: 0,
        length: 100,
    };
    assert_eq!((action, tally.received), (whole, 100));
    let (action, tally) = on(StreamEvent::Ended(Ok(60)));
    let rest = StreamAction::Send {
        offset: 60,
        length: 40,
    };
    assert_eq!((action, tally.sent), (rest, 60));
    let (action, tally) = on(StreamEvent::Ended(Ok(40)));
    assert_eq!((action, tally.sent), (StreamAction::Receive, 40));
    // The peer's FIN: ours follows, then the socket is closed, then freed.
    assert_eq!(on(StreamEvent::Ended(Ok(0))).0, StreamAction::Disconnect);
    let (action, tally) = on(StreamEvent::Ended(Ok(0)));
    assert_eq!((action, tally), (StreamAction::Close, Tally::default()));
    assert_eq!(on(StreamEvent::Closed).0, StreamAction::Free);
}

#[test]
fn a_reset_is_counted_and_a_stop_is_not() {
    let mut reset = Stream::new(8);
    reset.on(StreamEvent::Start);
    let (action, tally) = reset.on(StreamEvent::Ended(Err(Failure::Final)));
    assert_eq!((action, tally.failed), (StreamAction::Close, true));

    let mut stopped = Stream::new(8);
    stopped.on(StreamEvent::Start);
    assert_eq!(stopped.on(StreamEvent::Stop).0, StreamAction::Close);
    // In either order of the two completions.
    let mut other = stopped;
    assert_eq!(stopped.on(StreamEvent::Closed).0, StreamAction::Wait);
    let (action, tally) = stopped.on(StreamEvent::Ended(Err(Failure::Final)));
    assert_eq!((action, tally.failed), (StreamAction::Free, false));
    let (action, tally) = other.on(StreamEvent::Ended(Err(Failure::Final)));
    assert_eq!((action, tally.failed), (StreamAction::Wait, false));
    assert_eq!(other.on(StreamEvent::Closed).0, StreamAction::Free);
}

/// A buffer of a UDP echo as the provider sees it.
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
                    answer: true,
                },
                DatagramEvent::Received {
                    length: 5,
                    answer: false,
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
        answer: true,
    });
    assert_eq!(action, DatagramAction::Send { length: 0 });
    assert!(tally.datagram && !tally.dropped);
    assert_eq!(slot.on(DatagramEvent::Sent(0)).0, DatagramAction::Receive);
    let (action, tally) = slot.on(DatagramEvent::Received {
        length: 9,
        answer: false,
    });
    assert_eq!(action, DatagramAction::Receive);
    assert!(tally.datagram && tally.dropped && tally.received == 9);
}

fn spec(transport: Transport, address: &str) -> ServiceSpec {
    ServiceSpec {
        kind: ServiceKind::Echo,
        transport,
        address: address.parse().expect("an address"),
        target: None,
    }
}

#[test]
fn a_service_is_there_once_and_its_id_never_again() {
    let mut table = Table::<&str>::new();
    let tcp = spec(Transport::Tcp, "127.0.0.1:7");
    let id = table.reserve(tcp).expect("a place");
    assert_eq!(id, 1);
    // While it starts, while it runs, while it stops.
    assert_eq!(table.reserve(tcp), Err(NoPlace::Exists));
    assert!(table.take(id).is_none(), "it doesn't run yet");
    assert_eq!(table.run(id, tcp.address, "tcp"), Ok(()));
    assert_eq!(table.reserve(tcp), Err(NoPlace::Exists));
    assert_eq!(table.take(id), Some("tcp"));
    assert_eq!(table.take(id), None, "stopped by one caller only");
    assert_eq!(table.reserve(tcp), Err(NoPlace::Exists));
    table.release(id);
    assert_eq!(table.reserve(tcp), Ok(2));
    // The same address over another transport, or another address, is another.
    assert_eq!(table.reserve(spec(Transport::Udp, "127.0.0.1:7")), Ok(3));
    assert_eq!(table.reserve(spec(Transport::Tcp, "[::1]:7")), Ok(4));
}

#[test]
fn port_0_is_as_many_services_as_are_asked_for_until_they_have_ports() {
    let mut table = Table::<u8>::new();
    let any = spec(Transport::Udp, "0.0.0.0:0");
    let first = table.reserve(any).expect("a place");
    let second = table.reserve(any).expect("a place");
    let bound = spec(Transport::Udp, "0.0.0.0:4000");
    assert_eq!(table.run(first, bound.address, 1), Ok(()));
    assert_eq!(table.reserve(bound), Err(NoPlace::Exists));
    assert_eq!(table.after(0), Some((first, &bound, &1)));
    assert_eq!(table.after(first), None, "the second doesn't run yet");
    table.release(second);
}

#[test]
fn a_full_table_refuses_and_lists_by_id() {
    let mut table = Table::<u32>::new();
    for n in 0..64 {
        let each = spec(Transport::Tcp, &format!("127.0.0.1:{}", 1000 + n));
        let id = table.reserve(each).expect("a place");
        assert_eq!(table.run(id, each.address, id), Ok(()));
    }
    let more = spec(Transport::Tcp, "127.0.0.1:9");
    assert_eq!(table.reserve(more), Err(NoPlace::Full));
    assert_eq!(table.take(10), Some(10));
    table.release(10);
    let id = table.reserve(more).expect("the place that is free again");
    assert_eq!(id, 65, "ids of services that couldn't start aren't used up");
    assert_eq!(table.run(id, more.address, id), Ok(()));
    let mut ids = Vec::new();
    while let Some((id, ..)) = table.after(ids.last().copied().unwrap_or(0)) {
        ids.push(id);
    }
    assert_eq!(ids.len(), 64);
    assert!(ids.is_sorted() && !ids.contains(&10));
}

#[test]
fn a_service_fails_with_the_last_of_its_parts_and_only_once() {
    let health = Health::new(3);
    assert!(!health.part_failed(status::CANCELLED));
    assert!(!health.part_failed(status::CANCELLED));
    assert_eq!(health.failure(), None, "one part still works");
    assert!(health.part_failed(status::FILE_FORCED_CLOSED));
    assert_eq!(health.failure(), Some(status::FILE_FORCED_CLOSED));
    // A listener that says so again changes nothing.
    assert!(!health.part_failed(status::CANCELLED));
    assert_eq!(health.failure(), Some(status::FILE_FORCED_CLOSED));
    // It has failed even if what it failed with is no error.
    for odd in [status::SUCCESS, status::PENDING, status::BUFFER_OVERFLOW] {
        let health = Health::new(1);
        assert!(health.part_failed(odd));
        assert_eq!(health.failure(), Some(status::UNSUCCESSFUL));
    }
}

struct Item {
    links: Links<Item>,
}

impl Linked for Item {
    fn links(&self) -> &Links<Self> {
        &self.links
    }
}

/// A list of boxes, freed as soon as they are taken out.
struct Items {
    list: List<Item>,
    live: Vec<*mut Item>,
}

impl Items {
    fn new(count: usize) -> Self {
        let mut items = Self {
            list: List::new(),
            live: Vec::new(),
        };
        for _ in 0..count {
            items.add();
        }
        items
    }

    fn add(&mut self) {
        let links = Links::new();
        let item = Box::into_raw(Box::new(Item { links }));
        // SAFETY: in no list, and freed by `free` only, which takes it out.
        unsafe { self.list.link(item) };
        self.live.push(item);
    }

    fn free(&mut self, item: *mut Item) {
        self.live.retain(|other| *other != item);
        // SAFETY: put in by `add`, and taken out once: it was in `live`.
        unsafe { self.list.unlink(item) };
        // SAFETY: from Box::into_raw in `add`; nobody refers to it any more.
        drop(unsafe { Box::from_raw(item) });
    }
}

impl Drop for Items {
    fn drop(&mut self) {
        while let Some(item) = self.live.first() {
            self.free(*item);
        }
    }
}

#[test]
fn a_walk_meets_each_that_stays_once_whatever_goes_in_between() {
    const COUNT: usize = 6;
    // After how many steps; which of them go then, each subset of them.
    for steps in 0..=COUNT {
        for gone in 0_u32..1 << COUNT {
            for backwards in [false, true] {
                let mut items = Items::new(COUNT);
                let all = items.live.clone();
                items.list.walk();
                let mut met: Vec<*const Item> = Vec::new();
                for _ in 0..steps {
                    met.extend(items.list.step());
                }
                let mut leaving: Vec<*mut Item> = (0..COUNT)
                    .filter(|n| gone & (1 << n) != 0)
                    .map(|n| all[n])
                    .collect();
                if backwards {
                    leaving.reverse();
                }
                for item in &leaving {
                    items.free(*item);
                }
                while let Some(item) = items.list.step() {
                    assert!(items.live.contains(&item.cast_mut()), "it is gone");
                    met.push(item);
                }
                let once: HashSet<*const Item> = met.iter().copied().collect();
                assert_eq!(once.len(), met.len(), "one was met twice");
                assert!(
                    items
                        .live
                        .iter()
                        .all(|item| once.contains(&item.cast_const())),
                    "one was lost: {steps} steps, {gone:#b} gone"
                );
                assert_eq!(items.list.step(), None, "it ends");
            }
        }
    }
}

#[test]
fn a_walk_does_not_meet_what_comes_after_its_start() {
    let mut items = Items::new(2);
    items.list.walk();
    assert!(items.list.step().is_some());
    items.add();
    assert!(items.list.step().is_some());
    assert_eq!(items.list.step(), None);
    items.list.walk();
    for _ in 0..3 {
        assert!(items.list.step().is_some(), "a new walk meets all");
    }
    assert_eq!(items.list.step(), None);
}
